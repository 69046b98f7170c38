package imap

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailhaul/internal/mail"
	"mailhaul/internal/testmail"
	"mailhaul/sink"
)

// letter makes a message at rest of the bytes that were received.
func letter(raw string, flags ...string) *sink.Message {
	text := textOf([]byte(raw))
	m := &sink.Message{
		Want: sink.Want{
			Name: fmt.Sprintf("%x", sha256.Sum256([]byte(raw)))[:16], Digest: sha256.Sum256(text), Text: int64(len(text)),
			Lines: int64(bytes.Count(text, []byte{'\n'})), Date: testmail.Epoch, Flags: mail.NewFlags(flags...),
		},
		Ends: mail.Ends{Kind: mail.EndsCRLF},
		Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil },
	}
	h := mail.Describe(text)
	m.Head, m.MessageID, m.Sender = h.Head, h.MessageID, h.Sender
	return m
}

// letters are n messages, two of them equal, one without a Message-ID.
func letters(n int) (all []*sink.Message) {
	for i := range n {
		id := fmt.Sprintf("Message-ID: <%d@example.org>\r\n", i)
		switch i {
		case 1:
			id = ""
		case 3:
			id = "Message-ID: <2@example.org>\r\n"
		}
		body := i
		if i == 3 {
			body = 2
		}
		m := letter(fmt.Sprintf("%sSubject: %d\r\n\r\n%s", id, body, strings.Repeat(fmt.Sprintf("line of %d\r\n", body), 1+body)), `\Seen`, "Work")
		m.Name += fmt.Sprint(i)
		all = append(all, m)
	}
	return all
}

// bring stores messages as the pipeline does: a batch that fails is recovered,
// and what is missing is put again.
func bring(ctx context.Context, s *Sink, path mail.Path, ms []*sink.Message) (places []sink.Place, err error) {
	places = make([]sink.Place, len(ms))
	for tries := 0; tries < 6; tries++ {
		if err = once(ctx, s, path, ms, places); err == nil || !mail.Temporary(err) {
			return places, err
		}
	}
	return places, err
}

func once(ctx context.Context, s *Sink, path mail.Path, ms []*sink.Message, places []sink.Place) error {
	f, err := s.Open(ctx, path, true)
	if err != nil {
		return err
	}
	defer f.Close()
	var left []*sink.Message
	var at []int
	var want []sink.Want
	for i, m := range ms {
		if places[i] == "" {
			left, at, want = append(left, m), append(at, i), append(want, m.Want)
		}
	}
	mark, err := f.Mark(ctx)
	if err != nil {
		return err
	}
	var results []sink.Result
	for _, m := range left {
		if err = f.Put(ctx, m); err != nil {
			break
		}
	}
	if err == nil {
		results, err = f.Sync(ctx)
	}
	if err == nil {
		for i, r := range results {
			places[at[i]] = r.Place
			if r.Err != nil && err == nil {
				err = r.Err
			}
		}
		return err
	}
	// The pipeline's intention is durable: whatever fails now, the next run
	// looks again behind the same mark.
	for range 6 {
		found, rerr := f.Recover(ctx, mark, want)
		if rerr == nil {
			for i, p := range found {
				places[at[i]] = p
			}
			return err
		}
		if !mail.Temporary(rerr) {
			return errors.Join(err, rerr)
		}
	}
	return fmt.Errorf("recover again and again after %w", err)
}

// exactly wants a folder to hold these messages, each once, with their flags.
func exactly(t *testing.T, m *testmail.Model, raw string, ms []*sink.Message) {
	t.Helper()
	left := map[mail.Digest]int{}
	for _, x := range ms {
		left[x.Digest]++
	}
	for _, got := range m.Mails(raw) {
		sum := mail.Digest(sha256.Sum256(textOf(got.Raw())))
		if left[sum]--; left[sum] < 0 {
			t.Errorf("once too often: %.60q", got.Raw())
		}
		if got.Flags.Key() != `Work \Seen` || !got.Date.Equal(testmail.Epoch) {
			t.Errorf("flags %s, date %v", got.Flags.Key(), got.Date)
		}
	}
	for d, n := range left {
		if n > 0 {
			t.Errorf("%d of %v are missing", n, d)
		}
	}
}

// TestCutEverywhere breaks the connection at every byte of the exchange, once
// in what the client says and once in what the server says. In the end each
// message is there exactly once (RELIABILITY, row D1).
func TestCutEverywhere(t *testing.T) {
	for _, c := range []struct {
		name string
		caps []string
	}{
		{"several a command", append(slices.Clone(testmail.DefaultCaps), "MULTIAPPEND")},
		{"one a command", testmail.DefaultCaps},
		{"without UIDPLUS, literals that wait", without(testmail.DefaultCaps, "UIDPLUS", "LITERAL+")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ms := letters(4)
			run := func(cut testmail.Cut) (said, heard int64) {
				m := &testmail.Model{Caps: c.caps}
				addr := m.Start(t)
				defer m.Close()
				m.Deliver("Work", testmail.Letter("before", []byte("Subject: before\r\n\r\nhere before\r\n"), `\Seen`, "Work"))
				if cut.After > 0 || cut.Heard > 0 {
					m.Cut(cut)
				}
				s := over(addr, 2)
				defer s.Close()
				places, err := bring(t.Context(), s, "Work", ms)
				if err != nil {
					t.Errorf("%+v: %v", cut, err)
				}
				if slices.Contains(places, "") {
					t.Errorf("%+v: places %q", cut, places)
				}
				exactly(t, m, "Work", append(slices.Clone(ms), letter("Subject: before\r\n\r\nhere before\r\n")))
				return m.Sent(), m.Heard()
			}
			cutEverywhere(t, run)
		})
	}
}

// cutEverywhere breaks the connection of a run at every byte that a whole one says,
// and hears; in a short test at some.
func cutEverywhere(t *testing.T, run func(testmail.Cut) (said, heard int64)) {
	t.Helper()
	said, heard := run(testmail.Cut{})
	stride := int64(1)
	if testing.Short() {
		stride = 17
	}
	n := 0
	for at := int64(1); at < said && !t.Failed(); at += stride {
		run(testmail.Cut{After: at})
		n++
	}
	for at := int64(1); at < heard && !t.Failed(); at += stride {
		run(testmail.Cut{Heard: at})
		n++
	}
	t.Logf("%d cuts", n)
}

// TestReplyLost stores what was sent, and the answer never comes.
func TestReplyLost(t *testing.T) {
	for _, caps := range [][]string{testmail.DefaultCaps, append(slices.Clone(testmail.DefaultCaps), "MULTIAPPEND"), testmail.PlainCaps} {
		m := &testmail.Model{Caps: caps}
		s := over(m.Start(t), 1)
		m.Fault(testmail.Lose("APPEND", 2))
		ms := letters(6)
		if places, err := bring(t.Context(), s, mail.Inbox, ms); err != nil || slices.Contains(places, "") {
			t.Errorf("%q, %v", places, err)
		}
		exactly(t, m, "INBOX", ms)
		s.Close()
	}
}

// TestStoredLate is a server that stores what it has got only after our first
// look; we look again.
func TestStoredLate(t *testing.T) {
	m := &testmail.Model{}
	ms := letters(1)
	raw := "Message-ID: <0@example.org>\r\nSubject: 0\r\n\r\nline of 0\r\n"
	s := over(m.Start(t), 1)
	defer s.Close()
	looks := 0
	s.opt.Sleep = func(ctx context.Context, d time.Duration) error {
		if looks++; looks == 1 && d >= 5*time.Second {
			m.Deliver("INBOX", testmail.Letter("late", []byte(raw), `\Seen`, "Work"))
		}
		return nil
	}
	m.Fault(testmail.Hangup("APPEND", 1))
	if places, err := bring(t.Context(), s, mail.Inbox, ms); err != nil || places[0] == "" {
		t.Fatalf("%q, %v", places, err)
	}
	exactly(t, m, "INBOX", ms)
	if looks != 1 {
		t.Errorf("looked again %d times", looks)
	}
}

// TestRefusals is appendix C of RELIABILITY.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		status string
		scope  mail.Scope
		later  bool // temporary
		stored int  // of five, where one was refused
	}{
		{"NO [TOOBIG] too large", mail.ScopeMessage, false, 4},
		{"NO [LIMIT] a limit", mail.ScopeMessage, false, 4},
		{"NO [CANNOT] never", mail.ScopeMessage, false, 4},
		{"NO [PARSE] bad header", mail.ScopeMessage, false, 4},
		{"NO Message contains invalid header", mail.ScopeMessage, false, 4},
		{"NO Message contains NUL characters", mail.ScopeMessage, false, 4},
		{"NO [UNKNOWN-CTE] what is this", mail.ScopeMessage, false, 4},
		{"BAD no", mail.ScopeMessage, false, 4},
		{"NO [NOPERM] not yours", mail.ScopeFolder, false, -1},
		{"NO [OVERQUOTA] full", mail.ScopeRun, false, -1},
		{"NO [UNAVAILABLE] later", mail.ScopeFolder, true, -1},
		{"NO [INUSE] later", mail.ScopeFolder, true, -1},
		{"NO [SERVERBUG] oops", mail.ScopeFolder, true, -1},
		{"NO [THROTTLED] slowly", mail.ScopeFolder, true, -1},
		{"NO Suggested Backoff Time: 3000 milliseconds, throttled", mail.ScopeFolder, true, -1},
	} {
		for _, caps := range [][]string{testmail.DefaultCaps, append(slices.Clone(testmail.DefaultCaps), "MULTIAPPEND")} {
			m := &testmail.Model{Caps: caps}
			m.Keeper.Refuse = func(raw []byte) string {
				if bytes.Contains(raw, []byte("Subject: 4")) {
					return c.status
				}
				return ""
			}
			s := over(m.Start(t), 1)
			ms := letters(5)
			places := make([]sink.Place, len(ms))
			err := once(t.Context(), s, mail.Inbox, ms, places)
			if err == nil || mail.ScopeOf(err, 0) != c.scope || mail.Temporary(err) != c.later {
				t.Errorf("%s: %v (scope %d)", c.status, err, mail.ScopeOf(err, 0))
			}
			if text := strings.Trim(c.status[3:], " "); err != nil && !strings.Contains(err.Error(), text) {
				t.Errorf("%s: the server's words are not in %v", c.status, err)
			}
			if strings.Contains(c.status, "Backoff") {
				var e *mail.Error
				if !errors.As(err, &e) || e.After != 3*time.Second {
					t.Errorf("%s: %+v", c.status, e)
				}
			}
			if got := len(m.Mails("INBOX")); c.stored >= 0 && (got != c.stored || places[0] == "" || places[4] != "") {
				t.Errorf("%s: %d stored, places %q", c.status, got, places)
			}
			// What was refused for now comes later, and nothing twice.
			if c.later || c.scope == mail.ScopeRun {
				m.Keep(func(k *testmail.Keeper) { k.Refuse = nil })
				for i := range 3 {
					if err := once(t.Context(), s, mail.Inbox, ms, places); err != nil {
						t.Errorf("%s: try %d: %v", c.status, i, err)
					}
				}
				exactly(t, m, "INBOX", ms)
			}
			s.Close()
			m.Close()
		}
	}
}

// TestFull is a quota that is reached in the middle.
func TestFull(t *testing.T) {
	m := &testmail.Model{Caps: append(slices.Clone(testmail.DefaultCaps), "QUOTA")}
	m.Keeper.Room = 4096
	s := over(m.Start(t), 1)
	defer s.Close()
	l, err := s.Layout(t.Context())
	if err != nil || l.Free != 4096 {
		t.Fatalf("%+v, %v", l, err)
	}
	big := letter("Message-ID: <big@example.org>\r\n\r\n" + strings.Repeat("x\r\n", 1300))
	ms := append(letters(3), big)
	places := make([]sink.Place, len(ms))
	err = once(t.Context(), s, mail.Inbox, ms, places)
	if !errors.Is(err, sink.ErrFull) || mail.ScopeOf(err, 0) != mail.ScopeRun || !strings.Contains(err.Error(), "OVERQUOTA") {
		t.Errorf("%v", err)
	}
	if n := len(m.Mails("INBOX")); n != 3 {
		t.Errorf("%d messages are there", n)
	}
}

func TestAppendLimit(t *testing.T) {
	for _, each := range []bool{false, true} {
		m := &testmail.Model{Keeper: testmail.Keeper{Limit: 500}}
		if each {
			m.Caps = append(slices.Clone(testmail.DefaultCaps), "APPENDLIMIT")
		}
		s := over(m.Start(t), 1)
		ms := append(letters(2), letter("Subject: big\r\n\r\n"+strings.Repeat("x\r\n", 300)))
		places := make([]sink.Place, len(ms))
		err := once(t.Context(), s, mail.Inbox, ms, places)
		if mail.ScopeOf(err, 0) != mail.ScopeMessage || !strings.Contains(fmt.Sprint(err), "no more than 500") {
			t.Errorf("each %v: %v", each, err)
		}
		if len(m.Mails("INBOX")) != 2 {
			t.Errorf("each %v: %d stored", each, len(m.Mails("INBOX")))
		}
		s.Close()
	}
}

// TestSwallowed is row D2: OK, and nothing is there.
func TestSwallowed(t *testing.T) {
	for _, caps := range [][]string{testmail.DefaultCaps, append(slices.Clone(testmail.DefaultCaps), "MULTIAPPEND"), without(testmail.DefaultCaps, "UIDPLUS"), testmail.PlainCaps} {
		m := &testmail.Model{Caps: caps}
		m.Keep(func(k *testmail.Keeper) {
			k.Swallow = func(raw []byte) bool { return bytes.Contains(raw, []byte("Subject: 2")) }
		})
		s := over(m.Start(t), 1)
		ms := letters(5)
		places := make([]sink.Place, len(ms))
		err := once(t.Context(), s, mail.Inbox, ms, places)
		if mail.ScopeOf(err, 0) != mail.ScopeMessage || !strings.Contains(fmt.Sprint(err), "does not show it") {
			t.Errorf("%v", err)
		}
		if places[2] != "" || places[3] != "" || places[0] == "" || places[4] == "" {
			t.Errorf("places %q", places)
		}
		s.Close()
	}
}

// TestFlags is row D6: flags that do not last stay behind and are told, and
// never cost a message.
func TestFlags(t *testing.T) {
	for _, c := range []struct {
		name      string
		permanent []string
		strict    bool
		refuse    bool
		want      string
	}{
		{"all", nil, false, false, `$Forwarded Work \Flagged \Seen`},
		{"no keywords", []string{`\Seen`, `\Flagged`}, true, false, `\Flagged \Seen`},
		{"some keywords", []string{`\Seen`, "$forwarded"}, true, false, `$Forwarded \Seen`},
	} {
		m := &testmail.Model{Strict: c.strict, Keeper: testmail.Keeper{Permanent: c.permanent}}
		s := over(m.Start(t), 1)
		ms := []*sink.Message{letter("Subject: 1\r\n\r\nx\r\n", `\Seen`, `\Flagged`, "Work", "$Forwarded", "no atom", `\Recent`)}
		if _, err := bring(t.Context(), s, mail.Inbox, ms); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := m.Mails("INBOX")[0].Flags.Key(); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if notes := strings.Join(s.Notes(), "\n"); !strings.Contains(notes, "no atom") || c.permanent != nil && !strings.Contains(notes, "Work") {
			t.Errorf("%s: notes %q", c.name, notes)
		}
		s.Close()
	}
}

// TestSimpler is a server that tells nothing of its flags and answers BAD.
func TestSimpler(t *testing.T) {
	m := &testmail.Model{}
	m.Fault(func(c testmail.Command) *testmail.Reply {
		if c.Verb == "APPEND" && strings.Contains(c.Args, "Work") {
			return &testmail.Reply{Status: "BAD invalid flag"}
		}
		return nil
	})
	s := over(m.Start(t), 1)
	defer s.Close()
	if _, err := bring(t.Context(), s, mail.Inbox, letters(1)); err != nil {
		t.Fatal(err)
	}
	if got := m.Mails("INBOX"); len(got) != 1 || got[0].Flags.Key() != `\Seen` {
		t.Errorf("%+v", got)
	}
	if !strings.Contains(strings.Join(s.Notes(), "\n"), "Work") {
		t.Errorf("notes %q", s.Notes())
	}
}

// TestDates is row D7.
func TestDates(t *testing.T) {
	m := &testmail.Model{}
	s := over(m.Start(t), 1)
	defer s.Close()
	old, none := letter("Subject: 1\r\n\r\nx\r\n"), letter("Subject: 2\r\n\r\nx\r\n")
	old.Date, none.Date = time.Date(1888, 1, 2, 3, 4, 5, 0, time.UTC), time.Time{}
	before := time.Now().Add(-time.Minute)
	if _, err := bring(t.Context(), s, mail.Inbox, []*sink.Message{old, none}); err != nil {
		t.Fatal(err)
	}
	got := m.Mails("INBOX")
	if got[0].Date.Unix() != 0 || got[1].Date.Before(before) {
		t.Errorf("%v, %v", got[0].Date, got[1].Date)
	}
}

// TestFolderGone is a folder that is deleted in the middle of a run.
func TestFolderGone(t *testing.T) {
	m := &testmail.Model{}
	m.Folder("Work")
	s := over(m.Start(t), 1)
	defer s.Close()
	ms := letters(4)
	places := make([]sink.Place, len(ms))
	if err := once(t.Context(), s, "Work", ms[:2], places[:2]); err != nil {
		t.Fatal(err)
	}
	m.DeleteFolder("Work")
	rest, err := bring(t.Context(), s, "Work", ms[2:])
	if err != nil || slices.Contains(rest, "") {
		t.Fatalf("%q, %v", rest, err)
	}
	exactly(t, m, "Work", ms[2:])
}

// TestNames makes folders on servers with other ideas of a hierarchy.
func TestNames(t *testing.T) {
	for _, c := range []struct {
		m    *testmail.Model
		path mail.Path
		want string
	}{
		{&testmail.Model{}, "Work/Größe & Maße", "Work/Gr&APYA3w-e &- Ma&AN8-e"},
		{&testmail.Model{Delim: "."}, "Work/Projects", "Work.Projects"},
		{&testmail.Model{Delim: ".", Prefix: "INBOX."}, "INBOX/Work", "INBOX.Work"},
		{&testmail.Model{Delim: "\\"}, "Work/Projects", `Work\Projects`},
	} {
		s := over(c.m.Start(t), 1)
		if _, err := bring(t.Context(), s, c.path, letters(1)); err != nil {
			t.Errorf("%s: %v", c.path, err)
		} else if !slices.Contains(c.m.Names(), c.want) || !slices.Contains(c.m.Subscribed(), c.want) {
			t.Errorf("%s: made %q, subscribed to %q", c.path, c.m.Names(), c.m.Subscribed())
		}
		l, err := s.Layout(t.Context())
		if want := strings.TrimSuffix(c.m.Prefix, "."); err != nil || string(l.Prefix) != want {
			t.Errorf("prefix %q, %v", l.Prefix, err)
		}
		s.Close()
	}
}

// TestDryRun sends no command that changes anything, by whatever mistake.
func TestDryRun(t *testing.T) {
	m := &testmail.Model{}
	s := over(m.Start(t), 1)
	s.Close()
	s = New(optionsFor(m.Start(t)), 1, Options{ReadOnly: true})
	defer s.Close()
	if _, err := s.Layout(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := bring(t.Context(), s, "New", letters(1)); err == nil || !strings.Contains(err.Error(), "not allowed") {
		t.Errorf("%v", err)
	}
	if _, err := bring(t.Context(), s, mail.Inbox, letters(1)); err == nil || !strings.Contains(err.Error(), "not allowed") {
		t.Errorf("%v", err)
	}
	f, err := s.Open(t.Context(), mail.Inbox, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.(sink.Flagger).SetFlags(t.Context(), []sink.Place{"1:1"}, []mail.Flags{nil}); err == nil {
		t.Error("flags could be set")
	}
	m.Untouched(t)
	if len(m.Mails("INBOX")) != 0 || slices.Contains(m.Names(), "New") {
		t.Error("something was changed")
	}
}

// TestNumbersLater has a name that must be a literal, on a server whose literals
// wait: the numbers cannot be asked for behind the messages.
func TestNumbersLater(t *testing.T) {
	m := &testmail.Model{Caps: without(testmail.DefaultCaps, "LITERAL+")}
	addr := m.Start(t)
	const path = mail.Path("W%C3%A4rk") // a name in raw UTF-8 on the server
	m.Folder("Wärk")
	s := over(addr, 1)
	ms := letters(3)
	if places, err := bring(t.Context(), s, path, ms); err != nil || slices.Contains(places, "") {
		t.Fatalf("%q, %v", places, err)
	}
	exactly(t, m, "Wärk", ms)
	f, err := s.Open(t.Context(), path, false)
	if err != nil {
		t.Fatal(err)
	}
	state, err := f.State(t.Context())
	if want := sink.State(fmt.Sprintf("%d:4:3", m.Validity("Wärk"))); err != nil || state != want {
		t.Errorf("state %q, %v, want %q", state, err, want)
	}
	s.Close()
	if n := m.Count("EXAMINE"); n > 0 {
		t.Errorf("the folder was looked at %d times", n)
	}
}

// TestOneConnectionForAll: who makes a folder waits for the only connection, and
// whoever has it must not wait for him.
func TestOneConnectionForAll(t *testing.T) {
	m := &testmail.Model{}
	addr := m.Start(t)
	defer m.Close()
	s := over(addr, 1)
	defer s.Close()
	f, err := s.Open(t.Context(), "Work", true)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	asked, waits := make(chan struct{}), make(chan struct{})
	var once sync.Once
	m.Fault(func(c testmail.Command) *testmail.Reply {
		if c.Verb == "EXAMINE" || c.Verb == "STATUS" {
			once.Do(func() { close(asked); <-waits })
		}
		return nil
	})
	done := make(chan error, 2)
	go func() { done <- unwrapped(f).ask(t.Context()) }()
	<-asked
	go func() {
		_, err := s.Open(t.Context(), "New", true)
		done <- err
	}()
	time.Sleep(50 * time.Millisecond) // so that the second is likely to be waiting
	close(waits)
	for range 2 {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(time.Minute):
			t.Fatal("they wait for each other")
		}
	}
}

func unwrapped(f sink.Folder) *folder {
	if c, ok := f.(copier); ok {
		return c.folder
	}
	return f.(*folder)
}
