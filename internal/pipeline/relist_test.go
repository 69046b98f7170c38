package pipeline

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"mailhaul/internal/mail"
	"mailhaul/internal/testmail"
	"mailhaul/source"
	"mailhaul/source/imap"
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

// TestSearchedWhatHasGone: a server that counts changes, keeps no account of what
// was expunged, and says in a line what is there (Gmail) spares the full listing.
// One that says it wrong, be it with as many messages as there are, does not; and
// nothing is lost by it. Of 200 messages 3 go, one of them comes back under a new
// number, and so does one that has a twin which stays.
func TestSearchedWhatHasGone(t *testing.T) {
	for _, c := range []struct {
		name string
		says string // instead; @ is the tag of the command
		full bool
	}{
		{"right", "", false},
		{"positions", `UID COUNT 197 ALL 1:197`, true},
		{"as many, but others", `UID COUNT 197 ALL 4:200`, true},
		{"as many, but one that has gone", `UID COUNT 197 ALL 1:19,21:99,101:149,151:199,20`, true},
		{"cut short", `UID COUNT 100 ALL 1:19,21:99,101,102`, true},
		{"nothing", `UID COUNT 0`, true},
		{"not understood", `ALL 1:*`, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			each(t, func(t *testing.T, a *archive) {
				m := &testmail.Model{Cleartext: true}
				var texts []string
				deliver := func(text string) {
					m.Deliver("INBOX", testmail.Letter("", []byte(text)))
					texts = append(texts, text)
				}
				for i := range 200 {
					deliver(letter(i))
				}
				addr := m.Start(t)
				run := func() Report {
					src := imap.OverConn("ann", "secret", 1, func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", addr) })
					defer src.Close()
					m.Reset()
					return a.must(src)
				}
				run()
				m.Expunge("INBOX", 20, 100, 150)
				deliver(letter(99)) // number 100, which has gone
				deliver(letter(2))  // number 3, which is there
				m.SetFlags("INBOX", 3, `\Seen`)
				if c.says != "" {
					m.Fault(func(o testmail.Command) *testmail.Reply {
						if o.Verb != "UID SEARCH" {
							return nil
						}
						return &testmail.Reply{Before: fmt.Sprintf("* ESEARCH (TAG %q) %s\r\n", o.Tag, c.says), Status: "OK done"}
					})
				}
				check := func(what string) {
					t.Helper()
					a.holds(map[mail.Path][]string{"INBOX": slices.Clone(texts)})
					live := a.flags("INBOX")
					for uid := 1; uid <= 202; uid++ {
						want := uid != 20 && uid != 100 && uid != 150
						if flags, ok := live[source.ID(strconv.Itoa(uid))]; ok != want || uid == 3 && flags != `\Seen` {
							t.Errorf("%s: message %d is there: %v, %q", what, uid, ok, flags)
						}
					}
				}
				r := run()
				full := 0
				for _, o := range m.Commands() {
					if o.Verb == "UID FETCH" && strings.Contains(o.Args, "RFC822.SIZE") && !strings.Contains(o.Args, "CHANGEDSINCE") {
						full++
					}
				}
				if (full > 0) != c.full || m.Count("UID SEARCH") != 1 || r.Total.Listed != 199 || r.Total.Known != 197 {
					t.Errorf("%d full listings, %+v, sent %v", full, r.Total, m.Commands())
				}
				check("after it")
				r = run()
				if r.Total.Listed != 199 || r.Total.Known != 199 || m.Count("UID FETCH") > 0 {
					t.Errorf("again: %+v", r.Total)
				}
				m.Heal()
				wait := clocked(a)
				wait(100 * 365 * 24 * time.Hour) // listed in full
				if r = run(); r.Total.Known != 199 || r.Total.Flagged > 0 || m.Count("UID FETCH") == 0 || m.Bodies() > 0 || len(r.Notes) > 0 {
					t.Errorf("in full: %+v, said %q", r.Total, r.Notes)
				}
				check("in full")
				m.Untouched(t)
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
