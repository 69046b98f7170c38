package pipeline

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailhaul/internal/catalog"
	"mailhaul/internal/mail"
	"mailhaul/source"
)

// maildrop is a POP3 account with n messages.
func maildrop(n int) popFake {
	s := popFake{&fake{pop: true}}
	for i := range n {
		s.folder("INBOX").add(letter(i))
	}
	return s
}

// clock lets a test say what time it is.
type clock struct{ now time.Time }

func (c *clock) days(n int) { c.now = c.now.Add(time.Duration(n) * 24 * time.Hour) }

func timed(a *archive) *clock {
	c := &clock{time.Unix(1_800_000_000, 0)}
	a.options.Now = func() time.Time { return c.now }
	return c
}

const day = 24 * time.Hour

func TestKeepIsTheDefault(t *testing.T) {
	each(t, func(t *testing.T, a *archive) {
		s := maildrop(5)
		for range 3 {
			if r := a.must(s); r.Total.Removed != 0 || len(s.removes) != 0 {
				t.Fatalf("removed %v", s.removes)
			}
		}
		if s.bodies != 5 {
			t.Errorf("%d bodies", s.bodies)
		}
	})
}

func TestRemoveAfterDays(t *testing.T) {
	each(t, func(t *testing.T, a *archive) {
		now := timed(a)
		a.options.Remove = Remove{Yes: true, After: 30 * day, Sure: true}
		s := maildrop(4)
		all := s.texts()
		a.must(s)
		now.days(20)
		s.folder("INBOX").add(letter(50))
		all["INBOX"] = append(all["INBOX"], letter(50))
		if r := a.must(s); r.Total.Removed != 0 {
			t.Fatalf("after 20 days: %+v", r.Total)
		}
		now.days(9)
		now.now = now.now.Add(23 * time.Hour)
		if r := a.must(s); r.Total.Removed != 0 {
			t.Fatalf("an hour early: %+v", r.Total)
		}
		now.days(1)
		if r := a.must(s); r.Total.Removed != 4 || len(s.folder("INBOX").messages) != 1 {
			t.Fatalf("after 30 days: %+v", r.Total)
		}
		now.days(20)
		if r := a.must(s); r.Total.Removed != 1 || len(s.folder("INBOX").messages) != 0 {
			t.Fatalf("after 50 days: %+v", r.Total)
		}
		if r := a.must(s); r.Total.Removed != 0 || r.Total.Listed != 0 {
			t.Fatalf("afterwards: %+v", r.Total)
		}
		a.holds(all)
		removed := 0
		catalog.ReadManifest(a.dir, func(l catalog.Line) error {
			if l.Removed != "" {
				removed++
			}
			return nil
		})
		if removed != 5 {
			t.Errorf("%d deletions are in the manifest", removed)
		}
		if s.bodies != 5 {
			t.Errorf("%d bodies", s.bodies)
		}
	})
}

func TestRemoveAtOnce(t *testing.T) {
	each(t, func(t *testing.T, a *archive) {
		a.options.Remove = Remove{Yes: true, Sure: true}
		s := maildrop(3)
		all := s.texts()
		if r := a.must(s); r.Total.Removed != 3 || r.Total.Stored != 3 {
			t.Fatalf("%+v", r.Total)
		}
		a.holds(all)
	})
}

func TestRemoveIsGuarded(t *testing.T) {
	for _, c := range []struct {
		name   string
		spoil  func(t *testing.T, a *archive, s popFake, now *clock)
		remove Remove
		err    string // in the run's error
		note   string // or in a note
	}{
		{"too many", nil, Remove{Yes: true}, "4 of 4 messages would be deleted", ""},
		{"more than asked for", nil, Remove{Yes: true, Most: 3}, "4 of 4 messages", ""},
		{"clock went back", func(t *testing.T, a *archive, s popFake, now *clock) {
			now.days(100)
			a.options.Remove = Remove{Yes: true, After: 200 * day, Sure: true}
			a.must(s)
			now.days(-10)
		}, Remove{Yes: true, After: 30 * day, Sure: true}, "", "clock has gone back"},
		{"clock jumped", func(t *testing.T, a *archive, s popFake, now *clock) {
			a.options.Remove = Remove{Yes: true, After: 900 * day, Sure: true}
			a.must(s)
			now.days(500)
		}, Remove{Yes: true, After: 30 * day, Sure: true}, "", "400 days"},
		{"copy damaged", func(t *testing.T, a *archive, s popFake, now *clock) {
			now.days(40)
			spoilCopies(t, a, func(text string) string { return strings.ReplaceAll(text, "body 2", "bodY 2") })
		}, Remove{Yes: true, After: 30 * day, Sure: true}, "not as it was stored", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			each(t, func(t *testing.T, a *archive) {
				now := timed(a)
				s := maildrop(4)
				a.must(s)
				if c.spoil != nil {
					c.spoil(t, a, s, now)
				}
				a.options.Remove = c.remove
				r, err := a.run(t.Context(), s)
				if r.Total.Removed != 0 || len(s.folder("INBOX").messages) != 4 || len(s.removes) != 0 {
					t.Errorf("removed %v", s.removes)
				}
				if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) || c.err == "" && err != nil {
					t.Errorf("error is %v", err)
				}
				if c.note != "" && !strings.Contains(strings.Join(r.Notes, "\n"), c.note) {
					t.Errorf("notes are %q", r.Notes)
				}
			})
		})
	}
}

// spoilCopies changes stored mail as bit rot does: without a trace in times.
func spoilCopies(t *testing.T, a *archive, change func(string) string) {
	t.Helper()
	changed := 0
	filepath.WalkDir(a.dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.Contains(name, "mailhaul.manifest") || strings.Contains(name, "catalog") {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if now := change(string(data)); now != string(data) {
			fi, _ := os.Stat(name)
			f, err := os.OpenFile(name, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			f.WriteString(now)
			f.Close()
			os.Chtimes(name, fi.ModTime(), fi.ModTime())
			changed++
		}
		return nil
	})
	if changed == 0 {
		t.Fatal("nothing was spoilt")
	}
}

// TestUnconfirmedRemovalStaysPending is row B9: what the server did not
// confirm is asked for again, and never downloaded again.
func TestUnconfirmedRemovalStaysPending(t *testing.T) {
	each(t, func(t *testing.T, a *archive) {
		a.options.Remove = Remove{Yes: true, Sure: true}
		s := maildrop(4)
		broken := true
		s.refuse = func(ids []source.ID) ([]source.ID, error) {
			if broken {
				return ids[:1], &mail.Error{Op: "quit", Scope: mail.ScopeFolder, Temporary: true, Err: errors.New("some deleted messages not removed")}
			}
			return ids, nil
		}
		r, err := a.run(t.Context(), s)
		if !mail.Temporary(err) || r.Total.Removed != 1 {
			t.Fatalf("%v, %+v", err, r.Total)
		}
		broken = false
		if r := a.must(s); r.Total.Removed != 3 || s.bodies != 4 {
			t.Errorf("%d bodies, %+v", s.bodies, r.Total)
		}
	})
}

func TestMaxSizeFilters(t *testing.T) {
	each(t, func(t *testing.T, a *archive) {
		s := account()
		s.folder("INBOX").add(letter(99) + strings.Repeat("x", 1000) + "\r\n")
		a.options.MaxSize = 500
		a.options.Remove = Remove{}
		for range 2 {
			if r := a.must(s); r.Total.Filtered != 1 || r.Total.Listed != 14 {
				t.Errorf("%+v", r.Total)
			}
		}
		a.options.MaxSize = 0
		s.bodies = 0
		if r := a.must(s); s.bodies != 1 || r.Total.Stored != 1 {
			t.Errorf("%d bodies, %+v", s.bodies, r.Total)
		}
		a.holds(s.texts())
	})
}

// TestOneArchiveTwoProtocols reads the same account by both protocols: each
// message lies in the archive once, whichever comes first, and keeps the flags
// that only one of them knows.
func TestOneArchiveTwoProtocols(t *testing.T) {
	for _, first := range []string{"imap", "pop3"} {
		t.Run(first, func(t *testing.T) {
			each(t, func(t *testing.T, a *archive) {
				imap := &fake{}
				pop := maildrop(0)
				for i := range 6 {
					imap.folder("INBOX").add(letter(i), `\Flagged`)
					pop.folder("INBOX").add(letter(i))
				}
				run := func(name string) Report {
					a.account = name + ":ann"
					if name == "imap" {
						return a.must(imap)
					}
					return a.must(pop)
				}
				run(first)
				second := map[string]string{"imap": "pop3", "pop3": "imap"}[first]
				if r := run(second); r.Total.Duplicate != 6 || r.Total.Stored != 0 {
					t.Errorf("%+v", r.Total)
				}
				if n := a.stored(); n != 6 {
					t.Errorf("%d messages lie there, want 6", n)
				}
				run(first)
				if a.format == "maildir" {
					flagged, _ := filepath.Glob(filepath.Join(a.dir, "INBOX", "cur", "*:2,F"))
					if len(flagged) != 6 {
						t.Errorf("%d of 6 carry their flag", len(flagged))
					}
				}
			})
		})
	}
}

// TestRenumberedMaildrop is row B6: all unique-ids are new, and no message is
// stored, or shown, twice.
func TestRenumberedMaildrop(t *testing.T) {
	each(t, func(t *testing.T, a *archive) {
		s := maildrop(6)
		s.folder("INBOX").add(letter(2)) // a twin
		a.must(s)
		before := a.stored()
		for range 2 {
			for _, m := range s.folder("INBOX").messages {
				m.uid += 1000
			}
			if r := a.must(s); r.Total.Duplicate != 7 || r.Total.Stored != 0 {
				t.Errorf("%+v", r.Total)
			}
			if n := a.stored(); n != before {
				t.Errorf("%d messages lie there, before %d", n, before)
			}
		}
	})
}

func TestTextIDsThatVanish(t *testing.T) {
	each(t, func(t *testing.T, a *archive) {
		s := maildrop(5)
		a.must(s)
		s.folder("INBOX").expunge(1)
		s.folder("INBOX").add(letter(9))
		r := a.must(s)
		if r.Total.Known != 4 || r.Total.Stored != 1 || s.bodies != 6 {
			t.Errorf("%d bodies, %+v", s.bodies, r.Total)
		}
		c := a.catalog()
		defer c.Close()
		b, err := c.Box(t.Context(), a.account, source.Folder{Path: "INBOX"}, "INBOX")
		if err != nil {
			t.Fatal(err)
		}
		if n, err := c.Live(t.Context(), b); n != 5 || err != nil {
			t.Errorf("%d are live, %v", n, err)
		}
	})
}
