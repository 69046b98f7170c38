package pipeline

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"mailhaul/internal/catalog"
	"mailhaul/internal/durable"
	"mailhaul/internal/mail"
	"mailhaul/internal/powerloss"
	"mailhaul/internal/testmail"
	"mailhaul/sink"
)

// TestRandomPrograms runs programs made by chance of what can happen to an
// account and its archive, and checks after each step that
//
//   - what was on the server when a run began that ended well is in the archive,
//   - nothing has disappeared from the archive but what the program itself
//     deleted there,
//   - no content lies in a folder more often than the server ever had it there
//     at a time.
//
// A program is its number. One that fails prints its steps.
func TestRandomPrograms(t *testing.T) {
	quiet(t)
	programs := 200
	if testing.Short() || raced {
		programs = 20
	}
	runs := 0
	for n := range programs {
		l := layouts[n%len(layouts)]
		p := &program{server: &testmail.Model{Cleartext: true}, r: rand.New(rand.NewPCG(uint64(n), 7)),
			kept: map[copyOf]bool{}, most: map[copyOf]int{}, allowed: map[copyOf]int{}, edited: map[copyOf]bool{}}
		p.powered = newPowered(t, l.format, l.layout, p.server.Start(t))
		for _, name := range programFolders {
			p.server.Folder(name)
		}
		err := p.play()
		p.server.Close()
		os.RemoveAll(p.base)
		runs += p.runs
		if err != nil {
			t.Fatalf("program %d (%s):\n\t%s\n%v", n, l.name, strings.Join(p.said, "\n\t"), err)
		}
	}
	t.Logf("%d programs, %d runs", programs, runs)
}

var programFolders = []string{"INBOX", "Work", "Work/Old"}

// A copyOf is a content in a folder.
type copyOf struct {
	folder mail.Path
	digest mail.Digest
}

func (c copyOf) String() string {
	for i := range programLetters {
		if textDigest([]byte(letter(i))) == c.digest {
			return fmt.Sprintf("%d in %s", i, c.folder)
		}
	}
	return fmt.Sprintf("something (%v) in %s", c.digest, c.folder)
}

// programLetters is how many contents there are: few, so that there are twins.
const programLetters = 15

type program struct {
	*powered
	server *testmail.Model
	r      *rand.Rand
	said   []string
	runs   int
	older  *testmail.Snapshot

	kept    map[copyOf]bool // was seen in the archive, and not deleted there since
	most    map[copyOf]int  // on the server at a time
	allowed map[copyOf]int  // more, after an event that explains it
	edited  map[copyOf]bool // made by a mail program
}

func (p *program) say(format string, args ...any) {
	p.said = append(p.said, fmt.Sprintf(format, args...))
}

func (p *program) play() error {
	steps := []struct {
		weight int
		do     func() error
	}{
		{6, p.deliver}, {2, p.expunge}, {2, p.move}, {2, p.flag}, {1, p.renumber}, {1, p.keepServer}, {1, p.restoreServer},
		{4, p.run}, {4, p.crash}, {2, p.full}, {1, p.twoAtOnce}, {2, p.edit},
	}
	var deck []func() error
	for _, s := range steps {
		for range s.weight {
			deck = append(deck, s.do)
		}
	}
	for range 12 {
		p.onServer()
		if err := deck[p.r.IntN(len(deck))](); err != nil {
			return err
		}
		if err := p.check(nil); err != nil {
			return err
		}
	}
	for range 2 {
		if err := p.run(); err != nil {
			return err
		}
	}
	p.server.Reset()
	if err := p.run(); err != nil {
		return err
	}
	if n := p.server.Bodies(); n > 0 {
		return fmt.Errorf("a run with nothing to do fetched %d bodies", n)
	}
	return nil
}

// onServer counts what the server has.
func (p *program) onServer() map[copyOf]int {
	now := map[copyOf]int{}
	for _, name := range programFolders {
		for _, m := range p.server.Mails(name) {
			now[copyOf{mail.Path(name), textDigest(m.Raw())}]++
		}
	}
	for c, n := range now {
		p.most[c] = max(p.most[c], n)
	}
	return now
}

// inArchive counts what lies in the archive, and what does in the shape that a
// mail program has given it.
func (p *program) inArchive() (exact, bare map[copyOf]int, err error) {
	exact, bare = map[copyOf]int{}, map[copyOf]int{}
	if _, err := os.Stat(p.dir); err != nil {
		return exact, bare, nil
	}
	ctx := p.t.Context()
	s, err := p.openSink(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer s.Close()
	paths, err := s.(sink.Lister).Folders(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, path := range paths {
		f, err := s.Open(ctx, path, false)
		if err != nil {
			return nil, nil, err
		}
		for x, err := range f.(sink.Scanner).Scan(ctx, true) {
			if err != nil {
				f.Close()
				return nil, nil, err
			}
			exact[copyOf{path, x.Digest}]++
			bare[copyOf{path, x.Other}]++
		}
		f.Close()
	}
	return exact, bare, nil
}

// check looks at the archive. Want is what a run that ended well had to bring,
// and nil after anything else.
func (p *program) check(want map[copyOf]int) error {
	exact, bare, err := p.inArchive()
	if err != nil {
		return err
	}
	for c := range want {
		if exact[c] == 0 {
			return fmt.Errorf("%s was on the server and is not in the archive after a run that ended well", c)
		}
	}
	for c := range p.kept {
		if exact[c] == 0 && bare[c] == 0 {
			return fmt.Errorf("%s has disappeared from the archive", c)
		}
	}
	if want == nil {
		return nil // a batch may be open, and torn
	}
	for c, n := range exact {
		if p.edited[c] {
			continue
		}
		p.kept[c] = true
		most := p.most[c]
		if p.format == "mbox" {
			most = min(most, 1)
		}
		if n > most+p.allowed[c] {
			return fmt.Errorf("%s lies in the archive %d times, and was on the server %d times at most", c, n, p.most[c])
		}
	}
	return nil
}

// ---- what happens on the server

func (p *program) some() (folder string, uid uint32) {
	folder = programFolders[p.r.IntN(len(programFolders))]
	if uids := p.server.UIDs(folder); len(uids) > 0 {
		uid = uids[p.r.IntN(len(uids))]
	}
	return folder, uid
}

var programFlags = []string{`\Seen`, `\Answered`, `\Flagged`, "Work", "Later"}

func (p *program) flags() (flags []string) {
	for _, f := range programFlags {
		if p.r.IntN(3) == 0 {
			flags = append(flags, f)
		}
	}
	return flags
}

func (p *program) deliver() error {
	folder, _ := p.some()
	for range 1 + p.r.IntN(4) {
		i := p.r.IntN(programLetters)
		p.say("deliver %d to %s", i, folder)
		p.server.Deliver(folder, testmail.Letter(fmt.Sprint(i), []byte(letter(i)), p.flags()...))
	}
	return nil
}

func (p *program) expunge() error {
	if folder, uid := p.some(); uid != 0 {
		p.say("expunge %d in %s", uid, folder)
		p.server.Expunge(folder, uid)
	}
	return nil
}

func (p *program) move() error {
	folder, uid := p.some()
	if to, _ := p.some(); uid != 0 && to != folder {
		p.say("move %d from %s to %s", uid, folder, to)
		p.server.Move(folder, uid, to)
	}
	return nil
}

func (p *program) flag() error {
	if folder, uid := p.some(); uid != 0 {
		p.say("flag %d in %s", uid, folder)
		p.server.SetFlags(folder, uid, p.flags()...)
	}
	return nil
}

func (p *program) renumber() error {
	folder, _ := p.some()
	p.say("renumber %s", folder)
	p.server.Renumber(folder)
	return nil
}

func (p *program) keepServer() error {
	p.say("back up the server")
	p.older = p.server.Snapshot()
	return nil
}

func (p *program) restoreServer() error {
	if p.older != nil {
		p.say("restore the server")
		p.server.Rewind(p.older)
	}
	return nil
}

// ---- runs

func (p *program) run() error {
	p.say("run")
	p.runs++
	want := p.onServer()
	p.lenient = true // mail that the program has deleted in the archive is missed
	if _, err := p.back(p.imap()); err != nil {
		return err
	}
	return p.check(want)
}

// crash is a run in the middle of which power fails, or which is killed.
func (p *program) crash() error {
	p.runs++
	p.lenient = true
	points := p.record(p.imap())
	point, fate, seed := points[p.r.IntN(len(points))], powerloss.Fate(p.r.IntN(powerloss.Fates)), p.r.Uint64()
	p.say("power loss at %s, with %s of what was not synced (seed %d)", point, fate, seed)
	// What the run had stored by its end it has not, perhaps.
	return point.Restore(fate, seed)
}

// full is a run that finds the disk full for a while.
func (p *program) full() error {
	p.runs++
	p.lenient = true
	from := p.r.IntN(60)
	to := from + 1 + p.r.IntN(20)
	p.say("run with a disk that is full from step %d to %d", from, to)
	want := p.onServer()
	var count atomic.Int64
	durable.Step = func(op, name string) error {
		n := int(count.Add(1))
		if n > from && n <= to && (op == "create" || op == "write" || op == "fsync" || op == "mkdir" || op == "link") {
			return syscall.ENOSPC
		}
		return nil
	}
	_, err := p.back(p.imap())
	durable.Step = nil
	if err == nil {
		return p.check(want)
	}
	if !durable.Full(err) {
		return fmt.Errorf("a full disk gave %w", err)
	}
	if !strings.Contains(err.Error(), p.base) {
		return fmt.Errorf("a full disk is not said to be %s: %w", p.base, err)
	}
	return nil
}

func (p *program) twoAtOnce() error {
	p.say("run while another one is at work")
	c, err := catalog.Open(p.t.Context(), catalog.Home{Dir: p.dir, State: p.state(), Format: p.format, Layout: p.layout}, true, "another")
	if err != nil {
		return err
	}
	defer c.Close()
	var locked *durable.Locked
	if _, err := p.back(p.imap()); !errors.As(err, &locked) || locked.PID != os.Getpid() || locked.Command != "another" {
		return fmt.Errorf("a second run at once gave %v", err)
	}
	return nil
}

// ---- what a mail program does to the archive

func (p *program) edit() error {
	var files []string
	err := filepath.WalkDir(p.dir, func(name string, d fs.DirEntry, err error) error {
		parent := filepath.Base(filepath.Dir(name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case d.Name() == p.state():
			return fs.SkipDir
		case p.format == "mbox" && strings.HasSuffix(name, ".mbox"), p.format != "mbox" && (parent == "cur" || parent == "new"):
			files = append(files, name)
		}
		return nil
	})
	if err != nil || len(files) == 0 {
		return err
	}
	before, _, err := p.inArchive()
	if err != nil {
		return err
	}
	name := files[p.r.IntN(len(files))]
	if p.format == "mbox" {
		err = p.rewrite(name)
	} else {
		err = p.rename(name)
	}
	if err != nil {
		return err
	}
	after, bare, err := p.inArchive()
	for c := range after {
		if before[c] == 0 && p.most[c] == 0 {
			p.edited[c] = true
		}
	}
	for c := range before {
		if after[c] == 0 && bare[c] == 0 {
			delete(p.kept, c)
		}
		// What its owner has changed may be brought again, and what it was
		// may be there still.
		p.allowed[c] += before[c] - after[c]
	}
	return err
}

// rename does what Mutt does to a message in a Maildir: it is seen, or deleted.
func (p *program) rename(name string) error {
	if p.r.IntN(3) == 0 {
		p.say("delete a file of %s", filepath.Dir(name)[len(p.base):])
		return os.Remove(name)
	}
	unique, _, _ := strings.Cut(filepath.Base(name), ":2,")
	to := filepath.Join(filepath.Dir(filepath.Dir(name)), "cur", unique+":2,"+[]string{"S", "FS", "RS", ""}[p.r.IntN(4)])
	p.say("flag a file of %s", filepath.Dir(name)[len(p.base):])
	return os.Rename(name, to)
}

// rewrite does what Dovecot does to an mbox: every message gets a status, and
// one is deleted, so that all behind it move up.
func (p *program) rewrite(name string) error {
	text, err := os.ReadFile(name)
	if err != nil || len(text) == 0 {
		return err
	}
	var records [][]byte
	for {
		i := bytes.Index(text[1:], []byte("\n\nFrom "))
		if i < 0 {
			break
		}
		records, text = append(records, text[:i+3]), text[i+3:]
	}
	records = append(records, text)
	gone := -1
	if p.r.IntN(2) == 0 {
		gone = p.r.IntN(len(records))
	}
	status := p.r.IntN(2) == 0
	p.say("rewrite %s with status %v, without message %d", name[len(p.base):], status, gone)
	var out []byte
	for i, r := range records {
		if i == gone {
			continue
		}
		head, body, ok := bytes.Cut(r, []byte("\n\n"))
		if status && ok && !bytes.Contains(head, []byte("\nStatus: ")) {
			r = slices.Concat(head, []byte("\nStatus: RO\n\n"), body)
		}
		out = append(out, r...)
	}
	if err := os.WriteFile(name+".dovecot", out, 0o600); err != nil {
		return err
	}
	return os.Rename(name+".dovecot", name)
}
