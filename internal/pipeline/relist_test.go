package pipeline

import (
	"strings"
	"testing"
	"time"

	"mailhaul/internal/mail"
	"mailhaul/source"
)

// clocked gives an archive a clock, which is moved by what comes back.
func clocked(a *archive) (later func(time.Duration)) {
	now := time.Unix(1_700_000_000, 0)
	a.options.Now = func() time.Time { return now }
	return func(d time.Duration) { now = now.Add(d) }
}

// flags are those that the archive knows of, by message of the folder.
func (a *archive) flags(path mail.Path) map[source.ID]string {
	a.t.Helper()
	c := a.catalog()
	defer c.Close()
	all := map[source.ID]string{}
	origins, err := c.Origins(a.t.Context(), true)
	if err != nil {
		a.t.Fatal(err)
	}
	for _, o := range origins {
		for x, err := range c.Copies(a.t.Context(), o, true) {
			if err != nil {
				a.t.Fatal(err)
			}
			if o.Path == path {
				all[x.Entry.ID] = x.Entry.Flags.Key()
			}
		}
	}
	return all
}

// TestFlagsAsOften: where nobody tells which flags have changed they are
// compared as often as was asked for, and new mail comes in any case.
func TestFlagsAsOften(t *testing.T) {
	for _, c := range []struct {
		policy      Flags
		name        string
		soon, later bool // whether a changed flag is seen after an hour, and after a day
	}{{FlagsAlways, "always", true, true}, {FlagsDaily, "daily", false, true}, {FlagsNever, "never", false, false}} {
		t.Run(c.name, func(t *testing.T) {
			each(t, func(t *testing.T, a *archive) {
				wait := clocked(a)
				a.options.Flags = c.policy
				s := &fake{}
				f := s.folder("INBOX")
				f.noState = true
				delivered := 0
				deliver := func(i int) { f.add(letter(i)); delivered++ }
				for i := range 10 {
					deliver(i)
				}
				a.must(s)
				check := func(when string, opens int, seen bool) {
					t.Helper()
					before := s.opens
					r := a.must(s)
					if n := a.stored(); n != delivered {
						t.Errorf("%s: %d messages are stored, want %d", when, n, delivered)
					}
					if n := s.opens - before; n != opens {
						t.Errorf("%s: opened %d times, want %d", when, n, opens)
					}
					if got := r.Total.Flagged == 1; got != seen {
						t.Errorf("%s: %d changed flags, want %v", when, r.Total.Flagged, seen)
					}
					if r.Total.Listed != int64(len(f.messages)) {
						t.Errorf("%s: %d listed of %d", when, r.Total.Listed, len(f.messages))
					}
				}
				often := 0
				if c.policy == FlagsAlways {
					often = 1
				}
				check("at once", often, false)
				wait(time.Hour)
				f.reflag(3, `\\Seen`)
				check("after an hour", often, c.soon)
				deliver(20)
				check("new mail", 1, false)
				f.expunge(1)
				deliver(21)
				check("mail gone", 1, !c.soon) // the numbers do not fit: all are listed
				wait(21 * time.Hour)
				f.reflag(4, `\\Flagged`)
				opens := 1
				if !c.later {
					opens = 0
				}
				check("after a day", opens, c.later)
				wait(31 * 24 * time.Hour)
				check("after a month", 1, !c.later)
			})
		})
	}
}

// TestBriefListing: a message that no brief entry may be made of is listed
// once more, with size and date.
func TestBriefListing(t *testing.T) {
	each(t, func(t *testing.T, a *archive) {
		s := &fake{}
		f := s.folder("INBOX")
		f.noState = true
		for i := range 5 {
			f.add(letter(i))
		}
		f.messages[2].omit = 100
		r, err := a.run(t.Context(), s)
		if err != nil || r.Total.Failed != 1 {
			t.Fatal(err, r.Total)
		}
		f.messages[2].omit = 0
		a.must(s)
		a.holds(s.texts())
		c := a.catalog()
		defer c.Close()
		origins, err := c.Origins(t.Context(), true)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for x, err := range c.Copies(t.Context(), origins[0], true) {
			if n++; err != nil || x.Entry.Date.IsZero() || x.Entry.Size < 0 {
				t.Errorf("%+v, %v", x.Entry, err)
			}
		}
		if n != 5 {
			t.Errorf("%d messages", n)
		}
	})
}

// TestToldWhatHasGone: a server that tells what was expunged spares the full
// listing; one that tells it wrong does not.
func TestToldWhatHasGone(t *testing.T) {
	for _, c := range []struct {
		name  string
		gone  []source.Span
		lists int
	}{
		{"right", []source.Span{{First: 2, Last: 2}, {First: 5, Last: 6}}, 1},
		{"more than there was", []source.Span{{First: 2, Last: 2}, {First: 5, Last: 6}, {First: 5, Last: 5}, {First: 11, Last: 400}}, 1},
		{"too little", []source.Span{{First: 2, Last: 2}}, 2},
		{"too much", []source.Span{{First: 1, Last: 6}}, 2},
		{"as many of others", []source.Span{{First: 3, Last: 4}, {First: 9, Last: 9}}, 2},
		{"as many, one of them listed", []source.Span{{First: 1, Last: 2}, {First: 5, Last: 5}}, 2},
		{"as many, the last ones", []source.Span{{First: 8, Last: 10}}, 2},
		{"nothing", nil, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			each(t, func(t *testing.T, a *archive) {
				s := &fake{}
				f := s.folder("INBOX")
				for i := range 10 {
					f.add(letter(i))
				}
				a.must(s)
				f.expunge(5)
				f.expunge(4)
				f.expunge(1)
				f.add(letter(30))
				f.reflag(0, `\\Seen`)
				f.gone = c.gone
				before := s.lists
				r := a.must(s)
				if n := s.lists - before; n != c.lists {
					t.Errorf("listed %d times, want %d", n, c.lists)
				}
				if r.Total.Listed != 8 || r.Total.Stored != 1 || r.Total.Flagged != 1 {
					t.Errorf("%+v", r.Total)
				}
				live := a.flags("INBOX")
				for _, m := range f.messages {
					if flags, ok := live[s.id(m)]; !ok || flags != m.flags.Key() {
						t.Errorf("live are %v", live)
					}
				}
				if len(live) != 8 {
					t.Errorf("live are %v", live)
				}
				f.gone = nil
				if r := a.must(s); r.Total.Known != 8 || r.Total.Listed != 8 {
					t.Errorf("%+v", r.Total)
				}
			})
		})
	}
}

// TestNumbersThatLie is row K7: a full listing from time to time finds what the
// server's numbers have hidden, and they are believed no more.
func TestNumbersThatLie(t *testing.T) {
	lies := map[string]func(f *fakeFolder){
		"flags": func(f *fakeFolder) { f.messages[1].flags = mail.NewFlags(`\\Seen`) },
		"swapped": func(f *fakeFolder) {
			f.messages[1].raw, f.messages[1].uid = letter(77), 4
			f.messages = append(f.messages[:3:3], f.messages[4:]...)
			f.messages = append(f.messages, &fakeMessage{uid: 9, modseq: 1, raw: letter(78), date: time.Unix(1e9, 0)})
		},
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, a *archive) {
				wait := clocked(a)
				s := &fake{}
				f := s.folder("INBOX")
				for i := range 10 {
					f.add(letter(i))
				}
				other := s.folder("Work")
				other.add(letter(50))
				if name == "swapped" {
					f.expunge(8) // room for the message that hides
				}
				a.must(s)
				lie(f)
				r := a.must(s)
				if len(r.Notes) != 0 {
					t.Errorf("noticed without a look: %q", r.Notes)
				}
				wait(31 * 24 * time.Hour)
				r = a.must(s)
				if said := strings.Join(r.Notes, "\\n"); !strings.Contains(said, "listed in full from now on") {
					t.Errorf("said %q", said)
				}
				for range 2 { // from now on every folder is opened
					before := s.opens
					if r = a.must(s); s.opens-before != 2 || len(r.Notes) != 0 {
						t.Errorf("opened %d folders; said %q", s.opens-before, r.Notes)
					}
				}
			})
		})
	}
}

// TestMonthlyListing: one that finds nothing says nothing, and is not done again
// before its time.
func TestMonthlyListing(t *testing.T) {
	each(t, func(t *testing.T, a *archive) {
		wait := clocked(a)
		s := account()
		a.must(s)
		for i, c := range []struct {
			after time.Duration
			opens int
		}{{time.Hour, 0}, {31 * 24 * time.Hour, len(s.folders)}, {time.Hour, 0}, {29 * 24 * time.Hour, 0}, {-40 * 24 * time.Hour, len(s.folders)}} {
			wait(c.after)
			before := s.opens
			r := a.must(s)
			if n := s.opens - before; n != c.opens || len(r.Notes) != 0 {
				t.Errorf("run %d: opened %d folders, want %d; said %q", i, n, c.opens, r.Notes)
			}
			a.holds(s.texts())
		}
	})
}
