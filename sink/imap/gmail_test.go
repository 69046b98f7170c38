package imap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"mailhaul/internal/mail"
	"mailhaul/internal/testmail"
	"mailhaul/sink"
)

func gmail(t *testing.T) (*testmail.Model, string) {
	m := &testmail.Model{}
	m.Gmail()
	return m, m.Start(t)
}

// a link is what a test wants to be shown elsewhere.
type wanted struct {
	m    *sink.Message
	from mail.Path
	at   sink.Place
}

// show links or copies messages as the pipeline does: a batch that fails is
// recovered, and what is missing is linked or copied again.
func show(ctx context.Context, s *Sink, path mail.Path, all []wanted) (places []sink.Place, err error) {
	places = make([]sink.Place, len(all))
	for range 6 {
		if err = showOnce(ctx, s, path, all, places); err == nil || !mail.Temporary(err) {
			break
		}
	}
	return places, err
}

func showOnce(ctx context.Context, s *Sink, path mail.Path, all []wanted, places []sink.Place) error {
	f, err := s.Open(ctx, path, true)
	if err != nil {
		return err
	}
	defer f.Close()
	mark, err := f.Mark(ctx)
	if err != nil {
		return err
	}
	var at []int
	var want []sink.Want
	for i, w := range all {
		if places[i] != "" {
			continue
		}
		at, want = append(at, i), append(want, w.m.Want)
		if l, ok := f.(sink.Linker); ok {
			err = l.Link(ctx, w.m, w.from, w.at)
		} else {
			err = f.(sink.Copier).Copy(ctx, w.m, w.from, w.at)
		}
		if err != nil {
			return err
		}
	}
	results, err := f.Sync(ctx)
	if err == nil {
		for i, r := range results {
			places[at[i]], err = r.Place, errors.Join(err, r.Err)
		}
		return err
	}
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

// only are the letters that are not equal to others.
func only(n int) []*sink.Message {
	return slices.DeleteFunc(letters(n), func(m *sink.Message) bool { return m.MessageID == "<2@example.org>" })
}

// TestLinkCutEverywhere breaks the connection at every byte while messages are
// labelled, on either side. In the end each has the label, and none is there
// twice.
func TestLinkCutEverywhere(t *testing.T) {
	t.Parallel()
	ms := only(5)
	run := func(cut testmail.Cut) (said, heard int64) {
		m, addr := gmail(t)
		defer m.Close()
		s := over(addr, 2)
		from, err := bring(t.Context(), s, mail.Inbox, ms)
		s.Close()
		if err != nil {
			t.Fatal(err)
		}
		m.Reset()
		said, heard = m.Sent(), m.Heard()
		if cut.After > 0 || cut.Heard > 0 {
			m.Cut(cut)
		}
		s = over(addr, 2)
		defer s.Close()
		var all []wanted
		for i, x := range ms {
			all = append(all, wanted{x, mail.Inbox, from[i]})
		}
		places, err := show(t.Context(), s, "Work/Größe", all)
		if err != nil || slices.Contains(places, "") {
			t.Errorf("%+v: %q, %v", cut, places, err)
		}
		for _, folder := range []string{"INBOX", "Work/Gr&APYA3w-e", "[Gmail]/All Mail"} {
			exactly(t, m, folder, ms)
		}
		if n := m.Count("APPEND"); n != 0 {
			t.Errorf("%+v: %d messages were sent", cut, n)
		}
		return m.Sent() - said, m.Heard() - heard
	}
	cutEverywhere(t, run)
}

// TestLabels links to each kind of folder, by as few commands as there are
// folders.
func TestLabels(t *testing.T) {
	m, addr := gmail(t)
	s := over(addr, 1)
	defer s.Close()
	ms := only(5)
	from, err := bring(t.Context(), s, mail.Inbox, ms)
	if err != nil {
		t.Fatal(err)
	}
	var all []wanted
	for i, x := range ms {
		all = append(all, wanted{x, mail.Inbox, from[i]})
	}
	folders := []mail.Path{"[Gmail]/Sent Mail", "[Gmail]/Drafts", "[Gmail]/Starred", "[Gmail]/Important", "[Gmail]/All Mail",
		mail.Inbox, `a "b\c`, "Größe/x"}
	for _, path := range folders {
		m.Reset()
		places, err := show(t.Context(), s, path, all)
		if err != nil || slices.Contains(places, "") {
			t.Errorf("%s: %q, %v", path, places, err)
		}
		stores := 1
		if path == mail.Inbox || strings.HasSuffix(string(path), "All Mail") {
			stores = 0
		}
		if m.Count("APPEND") != 0 || m.Count("UID STORE") != stores {
			t.Errorf("%s: %v", path, m.Commands())
		}
		// Once more, as after a run that died before it could note it.
		again, err := show(t.Context(), s, path, all)
		if err != nil || !slices.Equal(again, places) {
			t.Errorf("%s: linked again at %q, not %q, %v", path, again, places, err)
		}
	}
	if got := m.Labels("INBOX", 1); !slices.Equal(got, []string{`\Inbox`, `\Draft`, `\Important`, `\Sent`, `\Starred`, `a "b\c`, "Gr&APYA3w-e/x"}) {
		t.Errorf("labels %q", got)
	}
	exactly(t, m, "[Gmail]/All Mail", ms)
	for _, path := range []mail.Path{"[Gmail]/Trash", "[Gmail]/Spam"} {
		f, err := s.Open(t.Context(), path, false)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := f.(sink.Linker); ok {
			t.Errorf("%s can be linked to: that throws messages away", path)
		}
		if _, ok := f.(sink.Copier); ok {
			t.Errorf("%s can be copied to: that throws messages away", path)
		}
		f.Close()
	}
	// No other server has labels.
	plain := &testmail.Model{}
	p := over(plain.Start(t), 1)
	defer p.Close()
	f, err := p.Open(t.Context(), mail.Inbox, false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, ok := f.(sink.Linker); ok {
		t.Error("a folder of any server can be linked to")
	}
}

// TestLinkInstead is what cannot be linked: it is sent, and Gmail keeps it once.
func TestLinkInstead(t *testing.T) {
	for _, c := range []struct {
		name    string
		spoil   func(m *testmail.Model)
		appends int
	}{
		{"refused", func(m *testmail.Model) { m.Fault(testmail.Refuse("UID STORE", "NO [CANNOT] not this label", 0)) }, 2},
		{"ignored", func(m *testmail.Model) { m.Fault(testmail.Refuse("UID STORE", "OK Success", 0)) }, 2},
		{"gone", func(m *testmail.Model) { m.Expunge("INBOX", m.UIDs("INBOX")[0]) }, 1},
		{"renumbered", func(m *testmail.Model) { m.Renumber("INBOX") }, 2},
		{"folder gone", nil, 2},
	} {
		m, addr := gmail(t)
		s := over(addr, 1)
		ms := only(2)
		from, err := bring(t.Context(), s, mail.Inbox, ms)
		if err != nil {
			t.Fatal(err)
		}
		m.Reset()
		path := mail.Path("Nowhere")
		if c.spoil != nil {
			path = mail.Inbox
			c.spoil(m)
		}
		all := []wanted{{ms[0], path, from[0]}, {ms[1], path, from[1]}}
		places, err := show(t.Context(), s, "Work", all)
		if err != nil || slices.Contains(places, "") || m.Count("APPEND") != c.appends {
			t.Errorf("%s: %q, %v after %v", c.name, places, err, m.Commands())
		}
		exactly(t, m, "Work", ms)
		exactly(t, m, "[Gmail]/All Mail", ms)
		s.Close()
	}
}

// TestLinkUnreadable is a copy that is neither there nor to be read: only this
// message fails, and the error says what is wrong.
func TestLinkUnreadable(t *testing.T) {
	m, addr := gmail(t)
	s := over(addr, 1)
	defer s.Close()
	ms := only(2)
	from, err := bring(t.Context(), s, mail.Inbox, ms)
	if err != nil {
		t.Fatal(err)
	}
	inbox, err := s.Open(t.Context(), mail.Inbox, false)
	if err != nil {
		t.Fatal(err)
	}
	defer inbox.Close()
	gone := *ms[0]
	gone.Open = func() (io.ReadCloser, error) { return inbox.(sink.Reader).Read(t.Context(), from[0]) }
	m.Expunge("INBOX", m.UIDs("INBOX")[0])
	places := make([]sink.Place, 2)
	err = showOnce(t.Context(), s, "Work", []wanted{{&gone, mail.Inbox, from[0]}, {ms[1], mail.Inbox, from[1]}}, places)
	if mail.ScopeOf(err, 0) != mail.ScopeMessage || !errors.Is(err, fs.ErrNotExist) || places[0] != "" || places[1] == "" {
		t.Errorf("%q, %v", places, err)
	}
}

// TestSwallowedThere is an APPEND of what the folder holds: it is recognised,
// with the UID that the server tells, without one, and with one that nobody sees.
func TestSwallowedThere(t *testing.T) {
	for _, c := range []struct {
		name    string
		caps    []string
		swallow bool
	}{
		{"told", testmail.GmailCaps, false},
		{"not told", without(testmail.GmailCaps, "UIDPLUS"), false},
		{"told wrong", testmail.GmailCaps, true},
	} {
		m := &testmail.Model{}
		m.Gmail()
		m.Caps = c.caps
		s := over(m.Start(t), 1)
		ms := letters(5) // of which two are equal in all but their name
		twin := *ms[0]
		twin.Name = "twin"
		if _, err := bring(t.Context(), s, mail.Inbox, ms[:1]); err != nil {
			t.Fatal(err)
		}
		if c.swallow {
			m.Keep(func(k *testmail.Keeper) {
				k.Swallow = func(raw []byte) bool { return bytes.Contains(raw, []byte("Subject: 0")) }
			})
		}
		f, err := s.Open(t.Context(), mail.Inbox, false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Mark(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, x := range []*sink.Message{&twin, ms[1], ms[2], ms[2]} {
			if err := f.Put(t.Context(), x); err != nil {
				t.Fatal(err)
			}
		}
		rs, err := f.Sync(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		for i, want := range []bool{true, false, false, true} {
			if rs[i].Err != nil || rs[i].Place == "" || rs[i].Present != want {
				t.Errorf("%s: message %d: %+v", c.name, i, rs[i])
			}
		}
		if rs[2].Place != rs[3].Place {
			t.Errorf("%s: one message at %q and %q", c.name, rs[2].Place, rs[3].Place)
		}
		exactly(t, m, "INBOX", ms[:3])
		f.Close()
		s.Close()
	}
}

// TestSwallowedLost is an APPEND with OK to something that is then nowhere.
func TestSwallowedLost(t *testing.T) {
	m, addr := gmail(t)
	m.Keep(func(k *testmail.Keeper) {
		k.Swallow = func(raw []byte) bool { return bytes.Contains(raw, []byte("Subject: 2")) }
	})
	s := over(addr, 1)
	defer s.Close()
	places := make([]sink.Place, 3)
	err := once(t.Context(), s, mail.Inbox, letters(3), places)
	if mail.ScopeOf(err, 0) != mail.ScopeMessage || !strings.Contains(fmt.Sprint(err), "does not show it") || places[2] != "" || places[1] == "" {
		t.Errorf("%q, %v", places, err)
	}
}

// TestGmailLimit takes the limit that Gmail announces.
func TestGmailLimit(t *testing.T) {
	_, addr := gmail(t)
	s := over(addr, 1)
	defer s.Close()
	l, err := s.Layout(t.Context())
	if err != nil || l.Most != 35651584 || !l.Gmail {
		t.Fatalf("%+v, %v", l, err)
	}
	big := letter("Subject: big\r\n\r\n" + strings.Repeat("x\r\n", 12_000_000))
	err = once(t.Context(), s, mail.Inbox, []*sink.Message{big, letters(1)[0]}, make([]sink.Place, 2))
	if mail.ScopeOf(err, 0) != mail.ScopeMessage || !strings.Contains(fmt.Sprint(err), "no more than 35651584") {
		t.Errorf("%v", err)
	}
}
