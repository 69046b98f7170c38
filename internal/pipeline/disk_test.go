package pipeline

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"mailhaul/internal/catalog"
	"mailhaul/internal/durable"
	"mailhaul/internal/mail"
	"mailhaul/sink"
)

// TestDiskFails lets the disk fail at every step of a run, once or from then on,
// in each way there is. A write fails at its beginning and in its middle. The run
// says so with the path; what was committed stays, and the next run brings the rest.
func TestDiskFails(t *testing.T) {
	quiet(t)
	faults := []syscall.Errno{syscall.EDQUOT, syscall.EIO, syscall.EROFS, syscall.EACCES, syscall.ENOSPC, syscall.EFBIG}
	stride := 7
	if testing.Short() || raced {
		stride, faults = 47, faults[:3]
	}
	for _, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			points := 0
			for i, fault := range faults {
				for once := range 2 {
					for n := 1 + (i+once)%stride; ; n += stride {
						struck := diskFails(t, l.format, l.layout, fault, n, once == 1)
						if t.Failed() {
							t.Fatalf("%v at step %d, once: %v", fault, n, once == 1)
						}
						if !struck {
							break
						}
						points++
					}
				}
			}
			t.Logf("%d failures", points)
			if points < 4 {
				t.Error("hardly anything failed")
			}
		})
	}
}

// diskFails reports whether the run came to the nth step.
func diskFails(t *testing.T, format, layout string, fault error, n int, once bool) bool {
	base, err := os.MkdirTemp("/dev/shm", "disk")
	if err != nil {
		base = t.TempDir()
	}
	defer os.RemoveAll(base)
	a := newArchive(t, format)
	a.dir, a.layout = filepath.Join(base, "archive"), layout
	a.options.Batch, a.options.Readers = BatchLimit{Messages: 4}, 1
	s := &fake{}
	for i := range 6 {
		s.folder("INBOX").add(letter(i), `\Seen`)
	}
	before := int(a.must(s).Total.Stored)
	for i := range 4 {
		s.folder("INBOX").add(letter(10 + i%3))
		s.folder("Work").add(letter(20 + i))
	}
	s.folder("INBOX").reflag(1, `\Flagged`, "Other")

	var count atomic.Int64
	what := ""
	durable.Step = func(op, name string) error {
		k := int(count.Add(1))
		if k == n {
			what = op + " " + name[len(base):]
		}
		if k == n || k > n && !once {
			return fault
		}
		return nil
	}
	p := &powered{archive: a, wrap: unwrapped}
	r, err := p.back(s)
	durable.Step = nil
	if int(count.Load()) < n {
		if err != nil {
			t.Error(err)
		}
		return false
	}
	if len(r.Failed) > 0 {
		for _, f := range r.Failed {
			if !errors.Is(f.Err, fault) || !strings.Contains(f.Err.Error(), base) {
				t.Errorf("%s: %v became %v", what, fault, f.Err)
			}
		}
	} else if err != nil {
		if !errors.Is(err, fault) || !strings.Contains(err.Error(), base) {
			t.Errorf("%s: %v became %v", what, fault, err)
		}
		if durable.Full(fault) && !strings.Contains(err.Error(), " left)") {
			t.Errorf("%s: it is not said how much room is left: %v", what, err)
		}
		if mail.ScopeOf(err, mail.ScopeRun) != mail.ScopeRun {
			t.Errorf("%s: %v reaches as far as %v", what, err, mail.ScopeOf(err, mail.ScopeRun))
		}
	}
	// Where taking away fails, too, the next run does it.
	if l := a.litter(); len(l) > 0 && once && !strings.HasPrefix(what, "unlink") {
		t.Errorf("%s: left behind: %v", what, l)
	}
	a.afterFailure(s, before, fmt.Sprint(what, ": ", fault), r, func() {})
	if l := a.litter(); len(l) > 0 {
		t.Errorf("%s: the next run leaves behind: %v", what, l)
	}
	want := map[string]int{"mbox": 13, "maildir": 14}[format]
	a.steady(s, what, want)
	return true
}

// unwrapped is the sink as it is.
func unwrapped(s sink.Sink) sink.Sink { return s }

// standing reads every message that the catalog says is stored, and tells how
// many there are.
func (a *archive) standing() (n int, err error) {
	ctx := a.t.Context()
	c, err := catalog.Open(ctx, catalog.Home{Dir: a.dir, State: a.state(), Format: a.format, Layout: a.layout}, false, "look")
	if err != nil {
		return 0, err
	}
	defer c.Close()
	s, err := a.openSink(ctx)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	folders, err := c.States(ctx)
	if err != nil {
		return 0, err
	}
	for _, known := range folders {
		f, err := s.Open(ctx, known.Path, false)
		if err != nil {
			return n, err
		}
		got := map[sink.Place]mail.Digest{}
		for x, err := range f.(sink.Scanner).Scan(ctx, true) {
			if err != nil {
				return n, errors.Join(err, f.Close())
			}
			got[x.Place] = x.Digest
		}
		f.Close()
		for m, err := range c.Messages(ctx, known.Path) {
			if err != nil {
				return n, err
			}
			if got[m.Place] != m.Digest {
				return n, fmt.Errorf("%s: what the catalog says lies at %s does not", known.Path, m.Place)
			}
			n++
		}
	}
	return n, nil
}

// litter is what a run has left behind that is neither mail nor catalog.
func (a *archive) litter() []string {
	var all []string
	filepath.WalkDir(a.dir, func(name string, d fs.DirEntry, err error) error {
		base, parent := filepath.Base(name), filepath.Base(filepath.Dir(name))
		switch {
		case err != nil:
			return nil
		case parent == a.state() && !d.IsDir():
			if base == "lock" || strings.HasPrefix(base, "catalog.db") {
				return nil
			}
		case strings.HasPrefix(base, ".mailhaul-"), strings.HasSuffix(base, ".lock"), parent == "tmp":
		default:
			return nil
		}
		all = append(all, name)
		return nil
	})
	return all
}

// afterFailure checks an archive whose run could not write: what was there before,
// and what the run says it has stored, is there and whole, and once that is mended the next run ends as if nothing had happened.
func (a *archive) afterFailure(s *fake, before int, what string, run Report, mend func()) {
	a.t.Helper()
	mend()
	n, err := a.standing()
	if errors.Is(err, catalog.ErrNone) && before == 0 {
		err = nil // it never came to a catalog
	}
	if err != nil {
		a.t.Fatalf("%s: %v", what, err)
	}
	if want := before + int(run.Total.Stored); n < want {
		a.t.Errorf("%s: %d messages stand in the catalog, want %d that were there and %d that the run has told", what, n, before, run.Total.Stored)
	}
	if r := a.must(s); r.Missing != 0 || len(r.Lost)+len(r.Failed) != 0 {
		a.t.Errorf("%s: the next run misses mail: %+v", what, r)
	}
	a.holds(s.texts())
}

// steady wants one more run to change nothing.
func (a *archive) steady(s *fake, what string, stored int) {
	a.t.Helper()
	if n := a.stored(); n != stored {
		a.t.Errorf("%s: %d messages lie there, want %d", what, n, stored)
	}
	p := &powered{archive: a}
	before, err := p.files()
	if err != nil {
		a.t.Errorf("%s: %v", what, err)
	}
	s.bodies = 0
	a.must(s)
	after, err := p.files()
	if s.bodies != 0 || err != nil || before != after {
		a.t.Errorf("%s: a third run fetched %d bodies, and made of\n%sthis:\n%s%v", what, s.bodies, before, after, err)
	}
}
