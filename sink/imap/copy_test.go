package imap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailhaul/internal/mail"
	"mailhaul/internal/testmail"
	"mailhaul/sink"
)

// copies are what a test wants of messages that lie in the inbox. With bytes they
// may be brought instead.
func copies(ms []*sink.Message, at []sink.Place, bytes bool) (all []wanted) {
	for i, m := range ms {
		c := *m
		c.Name += "-copy"
		if !bytes {
			c.Open = nil
		}
		all = append(all, wanted{&c, mail.Inbox, at[i]})
	}
	return all
}

// there brings messages to the inbox of a server.
func there(t *testing.T, addr string, ms []*sink.Message) []sink.Place {
	t.Helper()
	s := over(addr, 1)
	defer s.Close()
	at, err := bring(t.Context(), s, mail.Inbox, ms)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// TestCopyCutEverywhere breaks the connection at every byte while messages are
// copied, two equal ones among them, on either side. In the end each is there
// exactly once, and nothing was sent: but for the one that is, because it has
// other flags now.
func TestCopyCutEverywhere(t *testing.T) {
	for _, connections := range []int{1, 2} {
		t.Run(fmt.Sprint(connections, " connections"), func(t *testing.T) {
			t.Parallel()
			ms := letters(5)
			run := func(cut testmail.Cut) (said, heard int64) {
				m := &testmail.Model{}
				addr := m.Start(t)
				defer m.Close()
				at := there(t, addr, ms)
				m.Folder("Work/Gr&APYA3w-e")
				m.Deliver("Work/Gr&APYA3w-e", testmail.Letter("before", []byte("Subject: before\r\n\r\nhere before\r\n"), `\Seen`, "Work"))
				m.SetFlags("INBOX", 5, `\Answered`)
				m.Reset()
				if cut.After > 0 || cut.Heard > 0 {
					m.Cut(cut)
				}
				s := over(addr, connections)
				defer s.Close()
				all := append(copies(ms[:4], at, false), copies(ms[4:], at[4:], true)...)
				places, err := show(t.Context(), s, "Work/Größe", all)
				if err != nil || slices.Contains(places, "") {
					t.Errorf("%+v: %q, %v", cut, places, err)
				}
				exactly(t, m, "Work/Gr&APYA3w-e", append(slices.Clone(ms), letter("Subject: before\r\n\r\nhere before\r\n")))
				if m.Count("UID STORE") > 0 {
					t.Errorf("%+v: flags were changed afterwards", cut)
				}
				for _, c := range m.Commands() {
					if c.Verb == "APPEND" && !strings.Contains(c.Args, "Subject: 4") {
						t.Errorf("%+v: sent %.80q", cut, c.Args)
					}
				}
				return m.Sent(), m.Heard()
			}
			cutEverywhere(t, run)
		})
	}
}

// TestCutTwins breaks the connection at every byte while equal messages come that
// differ in nothing but their flags, some by copies and some by themselves. In the
// end each is there with its own.
func TestCutTwins(t *testing.T) {
	t.Parallel()
	const raw = "Message-ID: <twin@example.org>\r\nSubject: twin\r\n\r\ntwin\r\n"
	var ms []*sink.Message
	for i, flag := range []string{`\Seen`, `\Flagged`, `\Answered`, `\Draft`, "Work"} {
		m := letter(raw, flag)
		m.Name += fmt.Sprint(i)
		ms = append(ms, m)
	}
	run := func(cut testmail.Cut) (said, heard int64) {
		m := &testmail.Model{}
		addr := m.Start(t)
		defer m.Close()
		at := there(t, addr, []*sink.Message{ms[3], ms[1], ms[0]})
		m.Folder("Work")
		m.Reset()
		if cut.After > 0 || cut.Heard > 0 {
			m.Cut(cut)
		}
		s := over(addr, 1)
		defer s.Close()
		all := copies([]*sink.Message{ms[0], ms[1], ms[3]}, []sink.Place{at[2], at[1], at[0]}, false)
		for _, x := range []int{2, 4} {
			all = slices.Insert(all, x, wanted{ms[x], "Nowhere", "7:7"})
		}
		places, err := show(t.Context(), s, "Work", all)
		if err != nil {
			t.Errorf("%+v: %v", cut, err)
		}
		got := m.Mails("Work")
		for i, p := range places {
			_, uid, ok := numbers(string(p))
			if at := slices.Index(m.UIDs("Work"), uid); !ok || len(got) != len(ms) || at < 0 || !got[at].Flags.Equal(ms[i].Flags) {
				t.Errorf("%+v: of %d messages the one of %s is at %s", cut, len(got), ms[i].Flags.Key(), p)
			}
		}
		return m.Sent(), m.Heard()
	}
	cutEverywhere(t, run)
}

// TestCopyLate is a server that makes a copy only after our first look.
func TestCopyLate(t *testing.T) {
	m := &testmail.Model{}
	addr := m.Start(t)
	ms := letters(1)
	at := there(t, addr, ms)
	s := over(addr, 1)
	defer s.Close()
	looks := 0
	s.opt.Sleep = func(ctx context.Context, d time.Duration) error {
		if looks++; looks == 1 && d >= 5*time.Second {
			m.Copy("INBOX", 1, "Work")
		}
		return nil
	}
	m.Fault(testmail.Hangup("UID COPY", 1))
	if places, err := show(t.Context(), s, "Work", copies(ms, at, false)); err != nil || places[0] == "" {
		t.Fatalf("%q, %v", places, err)
	}
	exactly(t, m, "Work", ms)
	if looks != 1 {
		t.Errorf("looked again %d times", looks)
	}
}

// TestCopyReplyLost makes the copies, and the answer never comes; or neither.
func TestCopyReplyLost(t *testing.T) {
	for name, fault := range map[string]testmail.Fault{
		"done": testmail.Lose("UID COPY", 2), "not done": testmail.Hangup("UID COPY", 2),
		"goodbye": func(c testmail.Command) *testmail.Reply {
			if c.Verb != "UID COPY" || c.Conn > 3 {
				return nil
			}
			return &testmail.Reply{Before: "* BYE shutting down\r\n", Late: true, End: true}
		},
	} {
		m := &testmail.Model{}
		addr := m.Start(t)
		ms := letters(6)
		at := there(t, addr, ms)
		m.Reset()
		m.Fault(fault)
		s := over(addr, 2)
		if places, err := show(t.Context(), s, "Work", copies(ms, at, false)); err != nil || slices.Contains(places, "") {
			t.Errorf("%s: %q, %v", name, places, err)
		}
		exactly(t, m, "Work", ms)
		if m.Count("APPEND") > 0 {
			t.Errorf("%s: something was sent", name)
		}
		s.Close()
	}
}

// TestCopyUIDLies is what a server may say of the copies that it has made, and
// must not be believed.
func TestCopyUIDLies(t *testing.T) {
	for _, c := range []struct{ name, status string }{
		{"nothing", "OK done"},
		{"no numbers", "OK [COPYUID now and then] done"},
		{"another folder", "OK [COPYUID 99 2:4 3:5] done"},
		{"too few places", "OK [COPYUID %d 2:4 3:4] done"},
		{"what was there before", "OK [COPYUID %d 2:4 1:3] done"},
		{"one place twice", "OK [COPYUID %d 2:4 3,4,4] done"},
		{"one message twice", "OK [COPYUID %d 2,3,3 3:5] done"},
		{"of others", "OK [COPYUID %d 2:3,9 3:5] done"},
		{"not all", "OK [COPYUID %d 3:4 4:5] done"},
		{"not the twin", "OK [COPYUID %d 3 4] done"},
		{"backwards", "OK [COPYUID %d 4,3,2 5,4,3] done"}, // which is right
	} {
		m := &testmail.Model{}
		addr := m.Start(t)
		ms := letters(4) // the last two are equal
		at := there(t, addr, ms)
		m.Folder("Work")
		m.Deliver("Work", testmail.Letter("before", []byte("Subject: before\r\n\r\nhere before\r\n"), `\Seen`, "Work"))
		n := 0
		m.Fault(func(x testmail.Command) *testmail.Reply {
			if x.Verb != "UID COPY" {
				return nil
			}
			if n++; n == 1 {
				return nil // the first one alone, which is looked at
			}
			status := c.status
			if strings.Contains(status, "%d") {
				status = fmt.Sprintf(status, m.Validity("Work"))
			}
			return &testmail.Reply{Late: true, Status: status}
		})
		s := over(addr, 1)
		places := make([]sink.Place, len(ms))
		err := showOnce(t.Context(), s, "Work", copies(ms, at, false), places)
		exactly(t, m, "Work", append(slices.Clone(ms), letter("Subject: before\r\n\r\nhere before\r\n")))
		if err != nil || n != 2 {
			t.Errorf("%s: %v after %d commands", c.name, err, n)
		}
		for i, p := range places {
			if want := place(m.Validity("Work"), uint32(2+i)); p != want {
				t.Errorf("%s: message %d is at %s, not at %s", c.name, i, want, p)
			}
		}
		s.Close()
	}
}

// TestNotCopied is what cannot be copied: it is sent where its bytes are at hand,
// and else the outcome says so.
func TestNotCopied(t *testing.T) {
	const before = "Message-ID: <0@example.org>\r\nSubject: 0\r\n\r\nline of 0\r\n"
	for _, c := range []struct {
		name  string
		spoil func(m *testmail.Model)
		from  mail.Path
		err   error // of the first without bytes
		both  bool  // of the second, too
	}{
		{"other flags", func(m *testmail.Model) { m.SetFlags("INBOX", 1, `\Seen`) }, mail.Inbox, sink.ErrNotCopied, false},
		{"more flags", func(m *testmail.Model) { m.SetFlags("INBOX", 1, `\Seen`, "Work", "$Junk") }, mail.Inbox, sink.ErrNotCopied, false},
		{"another date", func(m *testmail.Model) { m.SetDate("INBOX", 1, testmail.Epoch.Add(time.Second)) }, mail.Inbox, sink.ErrNotCopied, false},
		{"another size", func(m *testmail.Model) {
			m.Replace("INBOX", 1, testmail.Letter("x", []byte("X: y\r\n"+before)))
		}, mail.Inbox, sink.ErrNotCopied, false},
		{"gone", func(m *testmail.Model) { m.Expunge("INBOX", 1) }, mail.Inbox, fs.ErrNotExist, false},
		{"renumbered", func(m *testmail.Model) { m.Renumber("INBOX") }, mail.Inbox, fs.ErrNotExist, true},
		{"no such folder", func(m *testmail.Model) {}, "Nowhere", fs.ErrNotExist, true},
		{"gone under way", func(m *testmail.Model) {
			m.Fault(func(c testmail.Command) *testmail.Reply {
				if c.Verb == "UID COPY" && slices.Contains(m.UIDs("INBOX"), 1) {
					m.Expunge("INBOX", 1)
				}
				return nil
			})
		}, mail.Inbox, sink.ErrNotCopied, false},
		{"refused", func(m *testmail.Model) { m.Fault(testmail.Refuse("UID COPY", "NO [CANNOT] not this one", 0)) }, mail.Inbox, sink.ErrNotCopied, true},
		{"limited", func(m *testmail.Model) { m.Fault(testmail.Refuse("UID COPY", "NO [LIMIT] too many", 0)) }, mail.Inbox, sink.ErrNotCopied, true},
		{"unknown", func(m *testmail.Model) { m.Fault(testmail.Refuse("UID COPY", "BAD what is that", 0)) }, mail.Inbox, sink.ErrNotCopied, true},
		{"not done", func(m *testmail.Model) { m.Fault(testmail.Refuse("UID COPY", "OK done", 0)) }, mail.Inbox, sink.ErrNotCopied, true},
	} {
		for _, bytes := range []bool{true, false} {
			m := &testmail.Model{}
			addr := m.Start(t)
			ms := letters(2)
			at := there(t, addr, ms)
			c.spoil(m)
			m.Reset()
			s := over(addr, 1)
			s.copies = faithful // or the first one would be tried alone
			all := copies(ms, at, bytes)
			all[0].from, all[1].from = c.from, c.from
			places := make([]sink.Place, 2)
			err := showOnce(t.Context(), s, "Work", all, places)
			sent := 1
			if c.both {
				sent = 2
			}
			switch {
			case bytes:
				if err != nil || places[0] == "" || places[1] == "" || m.Count("APPEND") != sent {
					t.Errorf("%s: %q, %v after %v", c.name, places, err, m.Commands())
				}
				exactly(t, m, "Work", ms)
			case !errors.Is(err, c.err) || mail.ScopeOf(err, 0) != mail.ScopeMessage || places[0] != "" || (places[1] == "") != c.both:
				t.Errorf("%s, without bytes: %q, %v after %v", c.name, places, err, m.Commands())
			case m.Count("APPEND") != 0:
				t.Errorf("%s, without bytes: something was sent", c.name)
			case !c.both:
				exactly(t, m, "Work", ms[1:])
			}
			s.Close()
			m.Close()
		}
	}
}

// TestCopyRefused is a refusal that concerns more than the messages, as with APPEND.
func TestCopyRefused(t *testing.T) {
	for _, c := range []struct {
		status string
		scope  mail.Scope
		later  bool
	}{
		{"NO [OVERQUOTA] full", mail.ScopeRun, false},
		{"NO [NOPERM] not yours", mail.ScopeFolder, false},
		{"NO [TRYCREATE] gone", mail.ScopeFolder, true},
		{"NO [UNAVAILABLE] later", mail.ScopeFolder, true},
		{"NO [SERVERBUG] oops", mail.ScopeFolder, true},
	} {
		m := &testmail.Model{}
		addr := m.Start(t)
		ms := letters(3)
		at := there(t, addr, ms)
		m.Reset()
		m.Fault(testmail.Refuse("UID COPY", c.status, 1))
		s := over(addr, 1)
		all := copies(ms, at, true)
		places := make([]sink.Place, len(ms))
		err := showOnce(t.Context(), s, "Work", all, places)
		if mail.ScopeOf(err, 0) != c.scope || mail.Temporary(err) != c.later || !strings.Contains(fmt.Sprint(err), c.status[3:]) {
			t.Errorf("%s: %v", c.status, err)
		}
		if m.Count("UID COPY")+m.Count("APPEND") != 1 {
			t.Errorf("%s: it goes on with %v", c.status, m.Commands())
		}
		// What was refused for now comes later.
		if again, err := show(t.Context(), s, "Work", all); err != nil || slices.Contains(again, "") {
			t.Errorf("%s: again: %q, %v", c.status, again, err)
		}
		exactly(t, m, "Work", ms)
		s.Close()
	}
}

// TestCopySwallowed is row D2 for copies: OK, and nothing is there.
func TestCopySwallowed(t *testing.T) {
	m := &testmail.Model{}
	addr := m.Start(t)
	ms := letters(5)
	at := there(t, addr, ms)
	m.Keep(func(k *testmail.Keeper) {
		k.Swallow = func(raw []byte) bool { return bytes.Contains(raw, []byte("Subject: 2")) }
	})
	s := over(addr, 1)
	defer s.Close()
	places := make([]sink.Place, len(ms))
	err := showOnce(t.Context(), s, "Work", copies(ms, at, false), places)
	if mail.ScopeOf(err, 0) != mail.ScopeMessage || !strings.Contains(fmt.Sprint(err), "does not show it") {
		t.Errorf("%v", err)
	}
	if places[2] != "" || places[3] != "" || places[0] == "" || places[4] == "" {
		t.Errorf("places %q", places)
	}
}

// TestCopyUnlike is a server whose copies have neither flags nor dates: it makes
// one, and no more.
func TestCopyUnlike(t *testing.T) {
	m := &testmail.Model{Keeper: testmail.Keeper{Forget: true}}
	addr := m.Start(t)
	ms := letters(5)
	at := there(t, addr, ms)
	m.Reset()
	s := over(addr, 1)
	defer s.Close()
	for _, folder := range []mail.Path{"Work", "More"} {
		if places, err := show(t.Context(), s, folder, copies(ms, at, true)); err != nil || slices.Contains(places, "") {
			t.Errorf("%s: %q, %v", folder, places, err)
		}
	}
	exactly(t, m, "More", ms)
	if m.Count("UID COPY") != 1 || len(m.Mails("Work")) != 5 {
		t.Errorf("%d commands", m.Count("UID COPY"))
	}
	if notes := strings.Join(s.Notes(), "\n"); !strings.Contains(notes, "Work: a copy that the server has made (message 1) has other flags") {
		t.Errorf("notes %q", notes)
	}
}

// TestCopyCommands makes as many copies as it can by one command, from each folder,
// and opens no folder for writing but to learn its flags.
func TestCopyCommands(t *testing.T) {
	for _, c := range []struct {
		limit  string
		copies int
	}{{"", 3}, {"MESSAGELIMIT=2", 4}} {
		m := &testmail.Model{Caps: append(slices.Clone(testmail.DefaultCaps), c.limit)}
		addr := m.Start(t)
		ms := letters(6)
		at := there(t, addr, ms)
		m.Folder("Second")
		m.Copy("INBOX", 1, "Second")
		s := over(addr, 1)
		all := append(copies(ms[1:5], at[1:], false), copies(ms[:1], at, false)...)
		all[4].from, all[4].at = "Second", place(m.Validity("Second"), 1)
		m.Reset()
		if places, err := show(t.Context(), s, "Work", all); err != nil || slices.Contains(places, "") {
			t.Errorf("%q, %v", places, err)
		}
		exactly(t, m, "Work", ms[:5])
		if m.Count("UID COPY") != c.copies || m.Count("APPEND") != 0 || m.Count("SELECT") != 1 {
			t.Errorf("%v", m.Commands())
		}
		s.Close()
	}
}

// TestCopyIdle replaces a connection that has died while nobody used it.
func TestCopyIdle(t *testing.T) {
	m := &testmail.Model{}
	addr := m.Start(t)
	ms := letters(2)
	at := there(t, addr, ms)
	s := over(addr, 1)
	defer s.Close()
	f, err := s.Open(t.Context(), "Work", true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Mark(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, w := range copies(ms, at, false) {
		if err := f.(sink.Copier).Copy(t.Context(), w.m, w.from, w.at); err != nil {
			t.Fatal(err)
		}
	}
	m.Drop()
	if rs, err := f.Sync(t.Context()); err != nil || rs[0].Err != nil || rs[1].Err != nil {
		t.Errorf("%+v, %v", rs, err)
	}
	f.Close()
	exactly(t, m, "Work", ms)
}

// TestCopyTogether has folders that copy from one another at once, over one
// connection: none waits for what another holds.
func TestCopyTogether(t *testing.T) {
	m := &testmail.Model{}
	addr := m.Start(t)
	ms := letters(5)
	at := there(t, addr, ms)
	s := over(addr, 1)
	defer s.Close()
	var all sync.WaitGroup
	for i := range 6 {
		all.Go(func() {
			path := mail.Path(fmt.Sprint("Folder ", i))
			for range 3 {
				want := append(copies(ms[:3], at, false), copies(ms[3:], at[3:], true)...)
				want[4].from = "Nowhere"
				if places, err := show(t.Context(), s, path, want); err != nil || slices.Contains(places, "") {
					t.Errorf("%s: %q, %v", path, places, err)
				}
			}
		})
	}
	all.Wait()
	for i := range 6 {
		if n := len(m.Mails(fmt.Sprint("Folder ", i))); n != 15 {
			t.Errorf("folder %d holds %d", i, n)
		}
	}
}

// TestCopyDryRun copies nothing, by whatever mistake.
func TestCopyDryRun(t *testing.T) {
	m := &testmail.Model{}
	addr := m.Start(t)
	ms := letters(2)
	at := there(t, addr, ms)
	m.Folder("Work")
	m.Reset()
	s := New(optionsFor(addr), 1, Options{ReadOnly: true})
	defer s.Close()
	if _, err := show(t.Context(), s, "Work", copies(ms, at, true)); err == nil || !strings.Contains(err.Error(), "not allowed") {
		t.Errorf("%v", err)
	}
	m.Untouched(t)
}

// TestCopyElsewhere copies at a server that is none of ours. It says that it keeps
// keywords only.
func TestCopyElsewhere(t *testing.T) {
	m, err := testmail.NewMemory(testmail.MemoryOptions{User: "ann", Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	ms := letters(6)
	at := there(t, m.Addr(), ms)
	s := over(m.Addr(), 2)
	defer s.Close()
	places, err := show(t.Context(), s, "Work", copies(ms, at, false))
	if err != nil {
		t.Fatal(err)
	}
	f, err := s.Open(t.Context(), "Work", false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	for x, err := range f.(sink.Scanner).Scan(t.Context(), true) {
		i := slices.Index(places, x.Place)
		if err != nil || i < 0 || x.Digest != ms[i].Digest || x.Flags.Key() != "Work" || !x.Date.Equal(ms[i].Date) {
			t.Errorf("%+v, %v", x, err)
		}
		n++
	}
	if n != len(ms) {
		t.Errorf("%d are there", n)
	}
}
