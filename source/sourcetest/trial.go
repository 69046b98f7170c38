package sourcetest

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"

	"mailhaul/internal/mail"
	"mailhaul/internal/testmail"
	"mailhaul/source"
)

// A trial is one check under way.
type trial struct {
	TB
	Store
	want []Folder
}

// patience is how long anything may take that should be prompt. It is long,
// for busy machines: what hangs does so for ever.
var patience = 20 * time.Second

// without is what is wanted but for the messages that are lost.
func (tr *trial) without(lost func(raw []byte) bool) []Folder {
	var all []Folder
	for _, f := range tr.want {
		f.Messages = slices.DeleteFunc(slices.Clone(f.Messages), func(m testmail.Message) bool { return lost(m.Raw()) })
		all = append(all, f)
	}
	return all
}

// within runs f and fails the test when it takes too long. f may not call
// Fatalf.
func (tr *trial) within(what string, f func()) {
	tr.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		tr.Fatalf("%s hangs", what)
	}
}

func (tr *trial) shut(c io.Closer) {
	tr.Helper()
	tr.within("Close", func() {
		if err := c.Close(); err != nil {
			tr.Errorf("close: %v", err)
		}
	})
}

// open opens a folder that is there.
func (tr *trial) open(path mail.Path) source.Mailbox {
	tr.Helper()
	box, err := tr.Source.Open(tr.Context(), path)
	if err != nil {
		tr.Fatalf("open %s: %v", path, err)
	}
	return box
}

// list is a whole listing.
func (tr *trial) list(box source.Mailbox, since source.Cursor) []source.Entry {
	tr.Helper()
	var all []source.Entry
	for e, err := range box.List(tr.Context(), since) {
		if err != nil {
			tr.Fatalf("list: %v", err)
		}
		all = append(all, e)
	}
	return all
}

// A letter is what is to be the same of a message, in a form that can be
// compared and printed.
type letter string

func (tr *trial) letter(size int64, sum [32]byte, date time.Time, flags mail.Flags) letter {
	s := fmt.Sprintf("%d bytes %x", size, sum[:6])
	if !tr.Bare {
		s += fmt.Sprintf(" of %s (%s)", date.UTC().Format(time.DateTime), flags.Key())
	}
	return letter(s)
}

// wanted are the letters of messages, with a name for each.
func (tr *trial) wanted(messages []testmail.Message) map[letter][]string {
	all := map[letter][]string{}
	for _, m := range messages {
		raw := m.Raw()
		if tr.Kept != nil {
			raw = tr.Kept(raw)
		}
		l := tr.letter(int64(len(raw)), sha256.Sum256(raw), m.Date, m.Flags)
		all[l] = append(all[l], m.Name)
	}
	return all
}

// same compares what came with what was to come: each once, in any order.
func (tr *trial) same(got []letter, messages []testmail.Message) {
	tr.Helper()
	want := tr.wanted(messages)
	for _, l := range got {
		names := want[l]
		if len(names) == 0 {
			tr.Errorf("nobody sent %s", l)
			continue
		}
		if want[l] = names[1:]; len(names) == 1 {
			delete(want, l)
		}
	}
	for l, names := range want {
		tr.Errorf("%s did not come: %s", strings.Join(names, ", "), l)
	}
}

// read reads a body to its end and makes a letter of it.
func (tr *trial) read(m *source.Message) letter {
	tr.Helper()
	h := sha256.New()
	n, err := io.Copy(h, m.Body)
	if err != nil {
		tr.Errorf("body of %s after %d bytes: %v", m.ID, n, err)
	}
	if m.Size >= 0 && m.Size != n && !tr.Rough {
		tr.Errorf("body of %s has %d bytes, the entry claims %d", m.ID, n, m.Size)
	}
	return tr.letter(n, [32]byte(h.Sum(nil)), m.Date, m.Flags)
}

// fetch gets the bodies of entries.
func (tr *trial) fetch(box source.Mailbox, entries []source.Entry) []letter {
	tr.Helper()
	var got []letter
	for m, err := range box.Fetch(tr.Context(), inGroups(entries, 7)) {
		if err != nil {
			tr.Fatalf("fetch: %v", err)
		}
		got = append(got, tr.read(m))
	}
	return got
}

// inGroups hands out entries, n at a time.
func inGroups(entries []source.Entry, n int) func(bool) []source.Entry {
	return func(bool) []source.Entry {
		g := entries[:min(n, len(entries))]
		entries = entries[len(g):]
		if len(g) == 0 {
			return nil
		}
		return slices.Clone(g)
	}
}

// ids are those of entries, in order of the listing.
func ids(entries []source.Entry) []source.ID {
	var all []source.ID
	for _, e := range entries {
		all = append(all, e.ID)
	}
	return all
}

// cancelled is a context that ends at once.
func (tr *trial) cancelled() context.Context {
	ctx, cancel := context.WithCancel(tr.Context())
	cancel()
	return ctx
}

// alone fails unless all goroutines that came since before are gone.
func (tr *trial) alone(before int) {
	tr.Helper()
	// Nothing tells when a goroutine has ended; one that is about to needs a
	// moment, so we look again.
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for end := time.Now().Add(patience); ; <-look.C {
		if strangers() <= before {
			return
		}
		if time.Now().After(end) {
			tr.Errorf("goroutines are left behind:\n%s", strings.Join(stacks(), "\n\n"))
			return
		}
	}
}

// strangers is how many goroutines there are that belong neither to the test
// nor to its servers.
func strangers() int { return len(stacks()) }

func stacks() []string {
	buf := make([]byte, 4<<20)
	buf = buf[:runtime.Stack(buf, true)]
	return slices.DeleteFunc(strings.Split(string(buf), "\n\n"), func(s string) bool {
		for _, known := range []string{
			"testing.", "mailhaul/internal/testmail", "imapserver.", "os/exec.", "os/signal.", "sourcetest.stacks",
		} {
			if strings.Contains(s, known) {
				return true
			}
		}
		return false
	})
}
