package pop3

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"mailhaul/internal/mail"
	"mailhaul/internal/pop3conn"
	"mailhaul/internal/testmail"
	"mailhaul/source"
)

// bin is a server with letters, a source over it that has listed them, and
// their IDs.
func bin(t *testing.T, p *testmail.POP3, n int) (*account, []source.ID) {
	t.Helper()
	p.Cleartext = true
	p.Deliver(letters(n)...)
	a := plainSource("ann", "secret", p.Start(t)).(*account)
	t.Cleanup(func() { a.Close() })
	box := inbox(t, a)
	var ids []source.ID
	for _, e := range list(t, box, "") {
		ids = append(ids, e.ID)
	}
	box.Close()
	p.Reset()
	return a, ids
}

// TestRemove deletes what it is asked to and nothing else, in sessions of a
// bounded size.
func TestRemove(t *testing.T) {
	for _, caps := range [][]string{testmail.DefaultPOP3Caps, testmail.PlainPOP3Caps} {
		p := &testmail.POP3{Caps: caps}
		a, ids := bin(t, p, 140)
		all := p.Left()
		// Numbers are others than those that were listed.
		p.Shuffle(3)
		gone, err := a.Remove(t.Context(), mail.Inbox, ids[10:130])
		if err != nil || !slices.Equal(gone, ids[10:130]) {
			t.Fatalf("%d gone, %v", len(gone), err)
		}
		if left := bodies(p.Left()); !slices.Equal(left, bodies(slices.Concat(all[:10], all[130:]))) {
			t.Errorf("%d are left", len(left))
		}
		if n := p.Count("QUIT"); n != 3 || p.Count("DELE") != 120 || p.Count("RETR") != 0 {
			t.Errorf("%d sessions, %d DELE, %d RETR", n, p.Count("DELE"), p.Count("RETR"))
		}
		// They are gone: told so again, without a command that deletes.
		p.Reset()
		if gone, err = a.Remove(t.Context(), mail.Inbox, ids[9:11]); err != nil || !slices.Equal(slices.Sorted(slices.Values(gone)), ids[9:11]) || p.Count("DELE") != 1 {
			t.Errorf("again: %v, %v", gone, err)
		}
	}
}

// TestRemoveInOneSession where the next login would have to wait.
func TestRemoveInOneSession(t *testing.T) {
	p := &testmail.POP3{Caps: append(slices.Clone(testmail.DefaultPOP3Caps), "LOGIN-DELAY 60")}
	a, ids := bin(t, p, 140)
	if gone, err := a.Remove(t.Context(), mail.Inbox, ids); err != nil || len(gone) != 140 || p.Count("QUIT") != 1 {
		t.Errorf("%d gone, %v, %d sessions", len(gone), err, p.Count("QUIT"))
	}
}

// TestRemoveOnlyWhatWasSeen leaves messages that are not certainly those that
// were backed up.
func TestRemoveOnlyWhatWasSeen(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(p *testmail.POP3)
		kept int // positions 0 to kept-1 stay, 9 too where it was done there
	}{
		{"another size", func(p *testmail.POP3) { p.Replace(0, letter(949)) }, 1},
		{"became twins", func(p *testmail.POP3) { p.SetID(1, p.IDs()[0]) }, 2},
		{"empty", func(p *testmail.POP3) { p.SetID(0, "") }, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &testmail.POP3{}
			a, ids := bin(t, p, 10)
			c.do(p)
			gone, err := a.Remove(t.Context(), mail.Inbox, ids)
			if err != nil {
				t.Fatal(err)
			}
			if n := len(p.Left()); n != c.kept {
				t.Errorf("%d are left", n)
			}
			for _, m := range p.Left() {
				for _, g := range gone {
					if i := slices.Index(ids, g); i >= 0 && c.name == "another size" && m.Name == letter(i).Name {
						t.Errorf("%s is there and said to be gone", m.Name)
					}
				}
			}
			if c.name != "empty" && !strings.Contains(strings.Join(a.Notes(), "\n"), "not deleted") {
				t.Errorf("notes: %q", a.Notes())
			}
		})
	}
}

// TestRemoveTwins never happens, even if it is asked for.
func TestRemoveTwins(t *testing.T) {
	p := &testmail.POP3{}
	p.NewID = func(n int, _ testmail.Message) string { return "same" }
	a, ids := bin(t, p, 5)
	gone, err := a.Remove(t.Context(), mail.Inbox, append(ids, "once:x:1", "uidl:same"))
	if len(gone) > 0 || err != nil || len(p.Left()) != 5 || p.Count("DELE") > 0 {
		t.Errorf("%v gone, %v", gone, err)
	}
}

// TestRemoveNumbersMove: a number that names another message a moment later
// ends it all before anything is marked.
func TestRemoveNumbersMove(t *testing.T) {
	p := &testmail.POP3{}
	a, ids := bin(t, p, 5)
	p.Twist(testmail.On("UIDL", testmail.OnNumber(3, testmail.Say("+OK 3 another"))))
	gone, err := a.Remove(t.Context(), mail.Inbox, ids)
	if len(gone) > 0 || err == nil || p.Count("DELE") > 0 || p.Count("QUIT") > 0 || len(p.Left()) != 5 {
		t.Errorf("%v gone, %v, %d left", gone, err, len(p.Left()))
	}
}

// TestRemoveUnconfirmed: what the server has not confirmed is not gone; the
// next look tells (row B9).
func TestRemoveUnconfirmed(t *testing.T) {
	for _, c := range []struct {
		name  string
		do    func(p *testmail.POP3)
		later bool
		left  int
	}{
		{"cut before QUIT", func(p *testmail.POP3) { p.Fault(testmail.Hangup("QUIT", 1)) }, true, 10},
		{"cut after QUIT", func(p *testmail.POP3) { p.Twist(testmail.AtFirst(1, testmail.On("QUIT", testmail.Lost(testmail.FIN)))) }, true, 4},
		{"some not removed", func(p *testmail.POP3) { p.Pin(0, 1) }, false, 6},
		{"cut at DELE", func(p *testmail.POP3) { p.Fault(testmail.Hangup("DELE", 1)) }, true, 10},
		{"cut at UIDL", func(p *testmail.POP3) {
			p.Twist(testmail.AtFirst(1, testmail.On("UIDL", testmail.OnNumber(3, testmail.Lost(testmail.FIN)))))
		}, true, 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &testmail.POP3{}
			a, ids := bin(t, p, 10)
			c.do(p)
			gone, err := a.Remove(t.Context(), mail.Inbox, ids[:6])
			if len(gone) > 0 || err == nil || mail.Temporary(err) != c.later || len(p.Left()) != c.left {
				t.Errorf("%v gone, %v, %d left", gone, err, len(p.Left()))
			}
			// Whatever happened: afterwards six are gone and said to be.
			p.Heal()
			if c.name == "some not removed" {
				if gone, _ = a.Remove(t.Context(), mail.Inbox, ids[:6]); !slices.Equal(gone, ids[2:6]) {
					t.Errorf("again: %v", gone)
				}
				return
			}
			if gone, err = a.Remove(t.Context(), mail.Inbox, ids[:6]); err != nil || !slices.Equal(gone, ids[:6]) || len(p.Left()) != 4 {
				t.Errorf("again: %v, %v, %d left", gone, err, len(p.Left()))
			}
		})
	}
}

// TestRemoveRefused: a message that the server does not want to delete stays,
// and is not said to be gone.
func TestRemoveRefused(t *testing.T) {
	p := &testmail.POP3{}
	a, ids := bin(t, p, 10)
	p.Fault(func(c testmail.Command) *testmail.Reply {
		if c.Verb == "DELE" && c.Args == "4" {
			return &testmail.Reply{Status: "-ERR read only"}
		}
		return nil
	})
	gone, err := a.Remove(t.Context(), mail.Inbox, ids)
	if err != nil || len(gone) != 9 || slices.Contains(gone, ids[3]) || len(p.Left()) != 1 {
		t.Errorf("%v, %v, %d left", gone, err, len(p.Left()))
	}
	noted(t, a, "read only")
}

// TestRemoveCutEverywhere: at every byte of the session, what is said to be
// gone is gone, and what is not asked for is there.
func TestRemoveCutEverywhere(t *testing.T) {
	length := int64(1)
	for at := int64(0); at < length; at++ {
		p := &testmail.POP3{}
		a, ids := bin(t, p, 6)
		if at == 0 {
			if gone, err := a.Remove(t.Context(), mail.Inbox, ids[:3]); len(gone) != 3 || err != nil {
				t.Fatal(gone, err)
			}
			length = p.Sent()
			continue
		}
		p.Cut(testmail.Cut{After: at})
		gone, err := a.Remove(t.Context(), mail.Inbox, ids[:3])
		left := len(p.Left())
		switch {
		case err == nil && (len(gone) != 3 || left != 3):
			t.Errorf("cut at %d: no error, %d gone, %d left", at, len(gone), left)
		case err != nil && (len(gone) > 0 || !mail.Temporary(err) || left != 3 && left != 6):
			t.Errorf("cut at %d: %v, %d gone, %d left", at, err, len(gone), left)
		}
		a.Close()
		p.Close()
	}
}

// TestRemoveWithoutLook: nothing is deleted that this run has not listed.
func TestRemoveWithoutLook(t *testing.T) {
	p := &testmail.POP3{}
	_, ids := bin(t, p, 3)
	fresh := plainSource("ann", "secret", p.Start(t)).(*account)
	defer fresh.Close()
	if gone, err := fresh.Remove(t.Context(), mail.Inbox, ids); len(gone) > 0 || err == nil || len(p.Left()) != 3 {
		t.Errorf("%v %v", gone, err)
	}
	if _, err := fresh.Remove(t.Context(), mail.Join("Work"), ids); err == nil || mail.Temporary(err) {
		t.Errorf("another folder: %v", err)
	}
	// Folders is a look.
	if _, err := fresh.Folders(t.Context()); err != nil {
		t.Fatal(err)
	}
	if gone, err := fresh.Remove(t.Context(), mail.Inbox, ids[:1]); len(gone) != 1 || err != nil || len(p.Left()) != 2 {
		t.Errorf("%v %v", gone, err)
	}
}

// TestRemoveNoUIDL says why.
func TestRemoveNoUIDL(t *testing.T) {
	p := &testmail.POP3{Caps: []string{"USER"}}
	a, ids := bin(t, p, 3)
	if _, err := a.Remove(t.Context(), mail.Inbox, ids); !errors.Is(err, pop3conn.ErrNoUIDL) || len(p.Left()) != 3 {
		t.Errorf("%v", err)
	}
}

// TestRemoveDovecot is the same against a real server.
func TestRemoveDovecot(t *testing.T) {
	d := testmail.DovecotDaemonPOP3(t)
	all := letters(120)
	d.Deliver("INBOX", all...)
	src := plainSource(d.User, d.Password, d.POP3)
	defer src.Close()
	box := inbox(t, src)
	var ids []source.ID
	for _, e := range list(t, box, "") {
		ids = append(ids, e.ID)
	}
	box.Close()
	gone, err := src.(source.Remover).Remove(t.Context(), mail.Inbox, ids[5:110])
	if err != nil || !slices.Equal(gone, ids[5:110]) {
		t.Fatalf("%d gone, %v", len(gone), err)
	}
	left := bodies(d.Left("INBOX"))
	if !slices.Equal(left, bodies(slices.Concat(all[:5], all[110:]))) {
		t.Errorf("%d are left", len(left))
	}
}
