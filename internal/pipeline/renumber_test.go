package pipeline

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"mailhaul/internal/mail"
	"mailhaul/internal/testmail"
	"mailhaul/source"
)

// renumberBackwards gives all messages of a folder new numbers, in another order.
func (f *fakeFolder) renumberBackwards() {
	f.validity++
	f.next, f.modseq = 1, 1
	slices.Reverse(f.messages)
	for _, m := range f.messages {
		m.uid, m.modseq = f.next, f.modseq
		f.next++
		f.modseq++
	}
}

var errAway = errors.New("the line is cut")

// scopes are the ways to store equal messages, and how many of those of twice() lie
// in an archive then.
var scopes = []struct {
	dedup         Dedup
	mbox, maildir int
}{{DedupFolder, 13, 14}, {DedupArchive, 11, 14}, {DedupOff, 14, 14}}

// twice is an account with twins in a folder and across two.
func twice() *fake {
	s := &fake{}
	for i := range 8 {
		s.folder("INBOX").add(letter(i))
	}
	s.folder("INBOX").add(letter(2))
	for i := range 5 {
		s.folder("Work").add(letter(6 + i))
	}
	return s
}

// TestRenumberedInTheMiddle has the server renumber a folder while it is read, once,
// twice, or three times in one run, and the line cut each time. Once is no trouble.
// After the second time the folder is given up for this run, and that is said; what
// was committed stays, nothing is stored twice, other folders are complete, and the
// next run completes this one.
func TestRenumberedInTheMiddle(t *testing.T) {
	for i, sc := range scopes {
		if raced && i > 0 {
			break
		}
		for _, changes := range []int{1, 2, 3} {
			if changes == 3 && (testing.Short() || raced) {
				continue
			}
			for _, later := range []bool{false, true} {
				t.Run(fmt.Sprintf("scope %v, %d, later %v", sc.dedup, changes, later), func(t *testing.T) {
					each(t, func(t *testing.T, a *archive) {
						a.options.Dedup, a.options.Readers, a.options.Batch = sc.dedup, 1, BatchLimit{Messages: 2}
						s := twice()
						if later { // half of it is known before
							all := s.folder("INBOX").messages
							s.folder("INBOX").messages = all[:4:4]
							a.must(s)
							s.folder("INBOX").messages = all
							s.folder("INBOX").modseq += len(all)
						}
						n, left := 0, changes
						s.fault = func(what string, f *fakeFolder, id source.ID) error {
							if f.path != "INBOX" || left == 0 {
								return nil
							}
							if n++; n%3 != 0 {
								return nil
							}
							left--
							f.renumberBackwards()
							return &mail.Error{Op: "fetch", Scope: mail.ScopeFolder, Temporary: true, Err: errAway}
						}
						r, err := a.run(t.Context(), s)
						s.fault = nil
						if err != nil {
							t.Fatal(err)
						}
						said := strings.Join(r.Notes, "\n")
						if !strings.Contains(said, "INBOX: the server has renumbered the folder") {
							t.Errorf("notes are %q", said)
						}
						if changes == 1 {
							if len(r.Failed) != 0 {
								t.Errorf("failed: %v", r.Failed)
							}
							a.complete(s, sc.mbox, sc.maildir)
							return
						}
						if len(r.Failed) != 1 || r.Failed[0].Folder != "INBOX" || !strings.Contains(r.Failed[0].Reason, "renumbered the folder while it was read, and that not for the first time; run again later") {
							t.Errorf("failed: %v", r.Failed)
						}
						if c := r.Folders["INBOX"]; c.Unreached == 0 || c.Listed != 9 {
							t.Errorf("INBOX: %+v", *c)
						}
						if c := r.Folders["Work"]; c.Unreached != 0 || c.Listed != 5 {
							t.Errorf("Work: %+v", *c)
						}
						if r := a.must(s); len(r.Failed)+len(r.Lost)+int(r.Missing) != 0 {
							t.Errorf("the next run: %+v", r)
						}
						a.complete(s, sc.mbox, sc.maildir)
					})
				})
			}
		}
	}
}

// complete wants the archive to hold what the server has, so many messages lie there,
// and one more run to fetch nothing.
func (a *archive) complete(s *fake, mbox, maildir int) {
	a.t.Helper()
	live := map[mail.Path][]string{}
	for path, texts := range s.texts() {
		live[path] = texts
	}
	want := map[string]int{"mbox": mbox, "maildir": maildir}[a.format]
	if n := a.stored(); n != want {
		a.t.Errorf("%d messages lie there, want %d", n, want)
	}
	s.bodies = 0
	r := a.must(s)
	if s.bodies != 0 || r.Total.Known != r.Total.Listed {
		a.t.Errorf("one more run fetched %d bodies: %+v", s.bodies, r.Total)
	}
	got := map[mail.Digest]bool{}
	for d := range first(a.lies()) {
		got[d] = true
	}
	for path, texts := range live {
		for _, text := range texts {
			if !got[textDigest([]byte(text))] {
				a.t.Errorf("%s: %q is not in the archive", path, text)
			}
		}
	}
}

func first[A, B any](a A, _ B) A { return a }

// TestRenumberedOverIMAP does it to a server that speaks IMAP: at a body the folder is
// numbered anew, and then the connection ends, or the server tells the new UIDVALIDITY
// by itself.
func TestRenumberedOverIMAP(t *testing.T) {
	quiet(t)
	for _, changes := range []int{1, 2} {
		for _, cut := range []bool{true, false} {
			t.Run(fmt.Sprintf("%d, cut %v", changes, cut), func(t *testing.T) {
				for _, l := range layouts {
					m := &testmail.Model{Cleartext: true}
					p := newPowered(t, l.format, l.layout, m.Start(t))
					for i := range 9 {
						m.Deliver("INBOX", testmail.Letter(fmt.Sprint(i), []byte(letter(i%8))))
					}
					m.Folder("Work")
					m.Deliver("Work", testmail.Letter("w", []byte(letter(20))))
					n, left, opened := 0, changes, 0
					m.Bend(testmail.WithBody(func(a *testmail.Answer) {
						// The second time must be another one for the client, too.
						opens := m.Count("EXAMINE")
						if n++; n < 4 || left == 0 || opens == opened {
							return
						}
						n, left, opened = 0, left-1, opens
						m.Renumber("INBOX")
						a.End = cut
						a.Before = fmt.Sprintf("* OK [UIDVALIDITY %d] numbered anew\r\n", m.Validity("INBOX"))
					}))
					r, err := p.back(p.imap())
					m.Heal()
					if left > 0 {
						t.Fatalf("%s: renumbered %d times only", l.name, changes-left)
					}
					twice := len(r.Failed) == 1 && strings.Contains(r.Failed[0].Reason, "renumbered the folder while it was read")
					if changes == 1 && err != nil || changes == 2 && !twice {
						t.Errorf("%s: the run ended in %v; failed: %v", l.name, err, r.Failed)
					}
					for range 2 {
						m.Reset()
						if _, err := p.back(p.imap()); err != nil {
							t.Fatalf("%s: the next run: %v", l.name, err)
						}
						want := map[string]int{"mbox": 9, "maildir": 10}[l.format]
						if whole, count := p.lies(); len(whole) != 9 || count != want {
							t.Errorf("%s: %d messages of %d contents lie in the archive, want %d of 9", l.name, count, len(whole), want)
						}
					}
					if n := m.Bodies(); n != 0 {
						t.Errorf("%s: one more run fetched %d bodies", l.name, n)
					}
					m.Close()
				}
			})
		}
	}
}

// TestWentBack has a server restored from a backup: UIDNEXT and HIGHESTMODSEQ are lower
// than they were, or one of them, and numbers are given to other messages than before.
func TestWentBack(t *testing.T) {
	for _, c := range []struct {
		name string
		back func(f *fakeFolder)
	}{
		{"both", func(f *fakeFolder) { f.messages, f.next, f.modseq = f.messages[:3:3], 4, 4 }},
		{"UIDNEXT, without CONDSTORE", func(f *fakeFolder) { f.messages, f.next, f.noState = f.messages[:3:3], 4, true }},
		{"both, and mail has come since", func(f *fakeFolder) {
			f.messages, f.next, f.modseq = f.messages[:3:3], 4, 4
			f.add(letter(50))
			f.add(letter(51))
		}},
		{"HIGHESTMODSEQ alone", func(f *fakeFolder) {
			f.modseq = 3
			f.messages[5].raw = letter(52)
		}},
	} {
		for _, sc := range scopes {
			if raced && sc.dedup != DedupArchive {
				continue
			}
			t.Run(fmt.Sprintf("%s, scope %v", c.name, sc.dedup), func(t *testing.T) {
				each(t, func(t *testing.T, a *archive) {
					a.options.Dedup = sc.dedup
					s := twice()
					a.must(s)
					before, stored := first(a.lies()), a.stored()
					f := s.folder("INBOX")
					c.back(f)
					fresh := 0
					for _, m := range f.messages {
						if before[textDigest([]byte(m.raw))] == 0 {
							fresh++
						}
					}
					r := a.must(s)
					if !strings.Contains(strings.Join(r.Notes, "\n"), "INBOX: the server has gone back to an older state") {
						t.Errorf("notes are %q", r.Notes)
					}
					a.complete(s, stored+fresh, stored+fresh)
					now, _ := a.lies()
					for d := range before {
						if now[d] == 0 {
							t.Errorf("%v has disappeared", d)
						}
					}
				})
			})
		}
	}
}
