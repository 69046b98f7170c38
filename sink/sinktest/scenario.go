package sinktest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"mailhaul/internal/mail"
	"mailhaul/sink"
)

// A journal is what a catalog would remember: which messages have a place,
// and which batch was begun. It lies beside the archive and is written without
// steps: it is the sink that is tried here.
type journal struct {
	Place map[string]sink.Place // by name of the message
	Open  *intention
	Flags bool // were set

	file string
}

type intention struct {
	Batch int
	Mark  sink.Mark
	Names []string
}

func loadJournal(dir string) (*journal, error) {
	j := &journal{Place: map[string]sink.Place{}, file: filepath.Join(dir, "journal")}
	text, err := os.ReadFile(j.file)
	if errors.Is(err, os.ErrNotExist) {
		return j, nil
	}
	if err != nil {
		return nil, err
	}
	return j, json.Unmarshal(text, j)
}

func (j *journal) save() error {
	text, err := json.Marshal(j)
	if err != nil {
		return err
	}
	if err := os.WriteFile(j.file+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(j.file+".new", j.file)
}

// A batch of the scenario. Links have the name of the message they link to
// behind a "<" in their own.
type batch struct {
	path mail.Path
	ms   []*sink.Message
}

// scenario is a run: three batches in two folders, with twins, odd ends, an
// empty message, one larger than any buffer, links and flags.
var scenario = sync.OnceValue(func() []batch {
	twin := func(name string) *sink.Message {
		return letter(name, "Subject: twin\r\n\r\nFrom one\r\n\r\n\r\n", `\Seen`)
	}
	large := letter("large", strings.Repeat(strings.Repeat("x", 70)+"\r\n", 4000), "")
	linked := func(m *sink.Message) *sink.Message {
		c := *m
		c.Name, c.Flags = c.Name+"<linked", mail.NewFlags(`\Answered`)
		return &c
	}
	first := []*sink.Message{
		letter("a", "Subject: a\r\n\r\nFrom a\r\n>From b\r\n", "Work"),
		twin("twin-1"),
		letter("open", "Subject: open\r\n\r\nno end", ""),
	}
	return []batch{
		{"INBOX", first},
		{"INBOX", []*sink.Message{letter("empty", "", ""), twin("twin-2"), large, letter("end", "Subject: end\r\n\r\n\r\n\r\n", `\Flagged Home`)}},
		{"Work/Projects", []*sink.Message{letter("b", "Subject: b\r\n\r\nb\r\n", ""), linked(first[0]), linked(first[2])}},
	}
})

// stored is the message under a name that is fit for a file.
func stored(m *sink.Message) *sink.Message {
	c := *m
	c.Name = strings.ReplaceAll(c.Name, "<", ".")
	return &c
}

// play takes the scenario on from wherever it is, as a run of the program
// would.
func play(s sink.Sink, j *journal) error {
	for i, b := range scenario() {
		f, err := s.Open(ctx, b.path, true)
		if err != nil {
			return err
		}
		if j.Open != nil && j.Open.Batch == i {
			err = j.settle(f, b)
		}
		if err == nil {
			err = j.write(f, i, b)
		}
		if err == nil && i == 0 {
			err = j.flag(f)
		}
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// settle finds out what became of the batch that was begun.
func (j *journal) settle(f sink.Folder, b batch) error {
	var want []sink.Want
	for _, name := range j.Open.Names {
		for _, m := range b.ms {
			if m.Name == name {
				want = append(want, stored(m).Want)
			}
		}
	}
	places, err := f.Recover(ctx, j.Open.Mark, want)
	if err != nil {
		return err
	}
	return j.commit(places)
}

func (j *journal) commit(places []sink.Place) error {
	for i, p := range places {
		if p != "" {
			j.Place[j.Open.Names[i]] = p
		}
	}
	j.Open = nil
	return j.save()
}

// write stores what has no place yet.
func (j *journal) write(f sink.Folder, number int, b batch) error {
	var names []string
	var left []*sink.Message
	for _, m := range b.ms {
		if j.Place[m.Name] == "" {
			names = append(names, m.Name)
			left = append(left, m)
		}
	}
	if len(left) == 0 {
		return nil
	}
	mark, err := f.Mark(ctx)
	if err != nil {
		return err
	}
	j.Open = &intention{number, mark, names}
	if err := j.save(); err != nil {
		return err
	}
	for _, m := range left {
		source, _, isLink := strings.Cut(m.Name, "<")
		if l, ok := f.(sink.Linker); ok && isLink {
			err = l.Link(ctx, stored(m), inbox, j.Place[source])
		} else {
			err = f.Put(ctx, stored(m))
		}
		if err != nil {
			return err
		}
	}
	rs, err := f.Sync(ctx)
	if err != nil {
		return err
	}
	places := make([]sink.Place, len(rs))
	for i, r := range rs {
		if r.Err != nil {
			return fmt.Errorf("%s: %w", names[i], r.Err)
		}
		places[i] = r.Place
	}
	return j.commit(places)
}

var laterFlags = mail.NewFlags(`\Seen`, `\Answered`, "Later")

func (j *journal) flag(f sink.Folder) error {
	fl, ok := f.(sink.Flagger)
	if !ok || j.Flags {
		return nil
	}
	if err := fl.SetFlags(ctx, []sink.Place{j.Place["a"], j.Place["open"]}, []mail.Flags{laterFlags, laterFlags}); err != nil {
		return err
	}
	j.Flags = true
	return j.save()
}

// compare wants everything that the scenario stores to be there exactly once,
// exactly where the journal says, and nothing else.
func compare(t *testing.T, s sink.Sink, j *journal) {
	t.Helper()
	in := map[mail.Path][]*sink.Message{}
	for _, b := range scenario() {
		in[b.path] = append(in[b.path], b.ms...)
	}
	for path, ms := range in {
		f, err := s.Open(ctx, path, false)
		if err != nil {
			t.Fatal(err)
		}
		places := make([]sink.Place, len(ms))
		for i, m := range ms {
			places[i] = j.Place[m.Name]
			read(t, f, m, places[i])
		}
		scan(t, f, ms, places)
		f.Close()
	}
}
