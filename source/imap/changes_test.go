package imap

import (
	"bufio"
	"context"
	"fmt"
	"iter"
	"net"
	"slices"
	"strings"
	"testing"

	"mailhaul/internal/imapconn"
	"mailhaul/internal/mail"
	"mailhaul/internal/testmail"
	"mailhaul/source"
)

// listNew lists by source.Newer and gives the IDs.
func listNew(t *testing.T, box source.Mailbox, since source.Cursor) (ids []source.ID) {
	t.Helper()
	for e, err := range box.(source.Newer).ListNew(t.Context(), since) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Brief {
			t.Errorf("%s is brief", e.ID)
		}
		ids = append(ids, e.ID)
	}
	return ids
}

// TestVanished: where the server keeps account of what was expunged, that is
// asked for, but only when the numbers say that something was (RFC 7162).
func TestVanished(t *testing.T) {
	for _, host := range []string{"", "imap.mail.me.com"} {
		m := &testmail.Model{Caps: append(slices.Clone(testmail.DefaultCaps), "QRESYNC"), Cleartext: true}
		m.Deliver("INBOX", letters(40)...)
		addr := m.Start(t)
		src := plainSource(addr, 1)
		if host != "" {
			src = newAccount(imapconn.Options{Addr: host + ":143", Security: imapconn.None, User: "ann", Password: "secret",
				Dial: func(ctx context.Context, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, "tcp", addr)
				}}, 1, "")
		}
		box := inbox(t, src)
		list(t, box, "")
		cursor := box.Listing().Cursor
		box.Close()

		m.Deliver("INBOX", letters(3)...)
		box = inbox(t, src)
		if n := len(list(t, box, cursor)); n != 3 || box.Listing().Gone != nil {
			t.Errorf("%d entries, %+v", n, box.Listing())
		}
		cursor = box.Listing().Cursor
		box.Close()
		if m.Count("ENABLE") != 0 {
			t.Error("QRESYNC was turned on though nothing had gone")
		}

		m.Expunge("INBOX", 2, 3, 4, 9, 41)
		m.Deliver("INBOX", letters(5)...)
		for again := range 2 { // on the same connection, too
			box = inbox(t, src)
			n := len(list(t, box, cursor))
			l := box.Listing()
			gone := fmt.Sprint(l.Gone)
			want := "[{2 4} {9 9} {41 41}]"
			if host != "" {
				want = "[]" // a server that gets it wrong is not asked
			}
			if n != 5 || !l.Partial || l.Messages != 43 || gone != want {
				t.Errorf("%d: %d entries, %+v", again, n, l)
			}
			// The mailbox is as good as before.
			if got, _, err := fetch(t, box, list(t, box, ""), 10); err != nil || len(got) != 43 {
				t.Error(len(got), err)
			}
			box.Close()
		}
		want := 1
		if host != "" {
			want = 0
		}
		if m.Count("ENABLE") != want {
			t.Errorf("%d ENABLE", m.Count("ENABLE"))
		}
		m.Untouched(t)
		src.Close()
	}
}

// TestVanishedWrong: an answer that cannot be understood is told, and the next
// try asks no more.
func TestVanishedWrong(t *testing.T) {
	for _, said := range []string{"* VANISHED (EARLIER) 3:x\r\n", "* VANISHED (EARLIER)\r\n", "* VANISHED (EARLIER) 0\r\n", "* VANISHED (EARLIER) 5000000000\r\n"} {
		m := &testmail.Model{Caps: append(without("ESEARCH"), "QRESYNC"), Cleartext: true}
		m.Deliver("INBOX", letters(9)...)
		src := plainSource(m.Start(t), 1)
		box := inbox(t, src)
		list(t, box, "")
		cursor := box.Listing().Cursor
		box.Close()
		m.Expunge("INBOX", 2)
		m.Fault(testmail.Remark("UID FETCH", said, 0)) // of no interest to the listing of changes
		box = inbox(t, src)
		failed := false
		for _, err := range box.List(t.Context(), cursor) {
			if failed = err != nil; failed && !strings.Contains(err.Error(), "VANISHED") {
				t.Error(err)
			}
		}
		box.Close()
		if !failed {
			t.Errorf("%q was understood", said)
		}
		box = inbox(t, src)
		if n := len(list(t, box, cursor)); n != 0 || box.Listing().Messages != 8 || box.Listing().Gone != nil {
			t.Errorf("%d entries, %+v", n, box.Listing())
		}
		box.Close()
		src.Close()
	}
}

// without is what a modern server offers, but for some.
func without(caps ...string) []string {
	return slices.DeleteFunc(slices.Clone(testmail.DefaultCaps), func(c string) bool { return slices.Contains(caps, c) })
}

// TestLacking: where the server keeps no account of what was expunged but says
// in a line what is there, the rest has gone.
func TestLacking(t *testing.T) {
	for _, c := range []struct {
		name string
		caps []string
	}{
		{"gmail", testmail.GmailCaps},
		{"modern", testmail.DefaultCaps},
		{"changes are not counted", without("CONDSTORE")},
		{"revision 2", append(without("ESEARCH"), "IMAP4rev2")},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &testmail.Model{Caps: c.caps, Cleartext: true}
			m.Deliver("INBOX", letters(40)...)
			src := plainSource(m.Start(t), 1)
			defer src.Close()
			box := inbox(t, src)
			list(t, box, "")
			cursor := box.Listing().Cursor
			box.Close()
			dead := map[uint32]bool{}
			for i, step := range []struct {
				come int
				gone iter.Seq[uint32]
				left int64
				told string // "": nothing was asked
			}{
				{3, uids(), 43, ""},
				{5, uids(2, 4, 9, 9, 41, 41), 43, "[{2 4} {9 9} {41 41}]"},
				{0, uids(48, 48), 42, "[{2 4} {9 9} {41 41} {48 48}]"},
				{0, uids(1, 1, 10, 10), 40, "[{1 4} {9 10} {41 41} {48 48}]"},
				{2, uids(1, 48), 2, "[{1 48}]"},
				{0, uids(49, 50), 0, "[{1 4294967295}]"},
			} {
				m.Deliver("INBOX", letters(step.come)...)
				for uid := range step.gone {
					if !dead[uid] {
						m.Expunge("INBOX", uid)
					}
					dead[uid] = true
				}
				m.Reset()
				box = inbox(t, src)
				if ids := listNew(t, box, cursor); len(ids) != step.come {
					t.Errorf("step %d: %v", i, ids)
				}
				l := box.Listing()
				gone, asked := "", 0
				if l.Gone != nil {
					gone = fmt.Sprint(l.Gone)
				}
				if step.told != "" && step.left > 0 {
					asked = 1
				}
				if gone != step.told || !l.Partial || l.Messages != step.left || m.Count("UID SEARCH") != asked {
					t.Errorf("step %d: %+v, asked %d times", i, l, m.Count("UID SEARCH"))
				}
				cursor = l.Cursor
				box.Close()
				m.Untouched(t)
			}
		})
	}
}

// uids are those of ranges, from and to in turn.
func uids(ends ...uint32) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for i := 0; i < len(ends); i += 2 {
			for uid := ends[i]; uid <= ends[i+1]; uid++ {
				if !yield(uid) {
					return
				}
			}
		}
	}
}

// found answers every search with a line in which @ is the tag of the command,
// and with nothing else.
func found(line string) testmail.Fault {
	return func(c testmail.Command) *testmail.Reply {
		if c.Verb != "UID SEARCH" {
			return nil
		}
		return &testmail.Reply{Before: strings.ReplaceAll(line, "@", c.Tag) + "\r\n", Status: "OK done"}
	}
}

// TestLackingWrong: what a search finds and does not prove is not believed, nor
// is the server asked again; the listing goes on as if it had not been. Of 9
// messages number 2 has gone, and number 10 has come.
func TestLackingWrong(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault testmail.Fault
	}{
		{"cut short", found(`* ESEARCH (TAG "@") UID COUNT 5 ALL 1,3:6`)},
		{"cut short, and counted before", found(`* ESEARCH (TAG "@") UID COUNT 8 ALL 1,3:6`)},
		{"nothing", found(`* ESEARCH (TAG "@") UID COUNT 0`)},
		{"the new one too", found(`* ESEARCH (TAG "@") UID COUNT 9 ALL 1,3:10`)},
		{"the new one instead", found(`* ESEARCH (TAG "@") UID COUNT 8 ALL 1,3:8,10`)},
		{"positions", found(`* ESEARCH (TAG "@") COUNT 8 ALL 1:8`)},
		{"plain", found("* SEARCH 1 3 4 5 6 7 8 9")},
		{"no answer", found("* OK")},
		{"not understood", testmail.Refuse("UID SEARCH", "BAD what is RETURN?", 0)},
		{"refused", testmail.Refuse("UID SEARCH", "NO not now", 0)},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &testmail.Model{Cleartext: true}
			src, cursor := lost(t, m)
			defer src.Close()
			m.Deliver("INBOX", letters(1)...)
			m.Fault(c.fault)
			m.Reset()
			for range 2 {
				box := inbox(t, src)
				if n := len(list(t, box, cursor)); n != 1 || box.Listing().Messages != 9 || !box.Listing().Partial || box.Listing().Gone != nil {
					t.Errorf("%d entries, %+v", n, box.Listing())
				}
				if n := len(list(t, box, "")); n != 9 || box.Listing().Partial {
					t.Errorf("%d entries, %+v", n, box.Listing())
				}
				box.Close()
			}
			if m.Count("UID SEARCH") != 1 || m.Count("LOGIN")+m.Count("AUTHENTICATE") > 1 {
				t.Errorf("sent %v", m.Commands())
			}
		})
	}
}

// lost makes an INBOX of nine messages, lists it, and takes the second away. The
// cursor is that of the listing.
func lost(t *testing.T, m *testmail.Model) (source.Source, source.Cursor) {
	t.Helper()
	m.Deliver("INBOX", letters(9)...)
	src := plainSource(m.Start(t), 1)
	box := inbox(t, src)
	defer box.Close()
	list(t, box, "")
	m.Expunge("INBOX", 2)
	return src, box.Listing().Cursor
}

// TestLackingLost: a connection that does not live through the search is an error
// like any other, and the next try does without.
func TestLackingLost(t *testing.T) {
	m := &testmail.Model{Cleartext: true}
	src, cursor := lost(t, m)
	defer src.Close()
	m.Fault(testmail.Hangup("UID SEARCH", 0))
	box := inbox(t, src)
	var last error
	for _, err := range box.List(t.Context(), cursor) {
		last = err
	}
	box.Close()
	if last == nil || !mail.Temporary(last) || mail.ScopeOf(last, 0) != mail.ScopeFolder {
		t.Errorf("%v", last)
	}
	box = inbox(t, src)
	defer box.Close()
	if n := len(list(t, box, cursor)); n != 0 || box.Listing().Messages != 8 || box.Listing().Gone != nil {
		t.Errorf("%d entries, %+v", n, box.Listing())
	}
}

// TestUncounted: where the server does not count changes, what was there before
// is asked for its flags alone, or not at all.
func TestUncounted(t *testing.T) {
	m := &testmail.Model{Caps: testmail.PlainCaps, Cleartext: true}
	m.Deliver("INBOX", letters(20)...)
	src := plainSource(m.Start(t), 1)
	defer src.Close()
	box := inbox(t, src)
	for _, e := range list(t, box, "") {
		if e.Brief || e.Size < 0 || e.Date.IsZero() {
			t.Errorf("%+v", e)
		}
	}
	cursor := box.Listing().Cursor
	box.Close()
	folders, err := src.Folders(t.Context())
	if err != nil || folders[0].State != cursor || !folders[0].Mute {
		t.Fatalf("%+v, %v; the cursor is %q", folders, err, cursor)
	}

	m.SetFlags("INBOX", 5, `\Seen`)
	m.Expunge("INBOX", 9)
	m.Deliver("INBOX", letters(2)...)
	box = inbox(t, src)
	defer box.Close()
	if ids := listNew(t, box, cursor); fmt.Sprint(ids) != "[21 22]" || !box.Listing().Partial || box.Listing().Messages != 21 {
		t.Errorf("%v, %+v", ids, box.Listing())
	}
	all := list(t, box, cursor)
	if len(all) != 21 || box.Listing().Partial {
		t.Errorf("%d entries, %+v", len(all), box.Listing())
	}
	for i, e := range all {
		old := i < 19
		if e.Brief != old || e.Size < 0 || e.Date.IsZero() != old || e.Flags.Has(`\Seen`) != (e.ID == "5") {
			t.Errorf("%+v", e)
		}
	}
	got := m.Commands()
	if n := len(got); !strings.Contains(got[n-2].Args, "1:20 (UID FLAGS RFC822.SIZE)") || !strings.Contains(got[n-1].Args, "21:22 (UID FLAGS INTERNALDATE") {
		t.Errorf("%+v", got[n-2:])
	}
}

// say sends commands to a server that lets everybody in, each after the answer
// to the one before.
func say(t *testing.T, addr string, commands ...string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	lines := bufio.NewScanner(c)
	for i, command := range commands {
		tag := fmt.Sprintf("t%d ", i)
		if _, err := fmt.Fprintf(c, "%s%s\r\n", tag, command); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() && !strings.HasPrefix(lines.Text(), tag) {
		}
		if !strings.HasPrefix(lines.Text(), tag+"OK") {
			t.Fatalf("%s: %q", command, lines.Text())
		}
	}
}

// TestGoneDovecot is the same with a real server, asked in both ways: what it
// tells is what was expunged, and the mailbox can be used afterwards.
func TestGoneDovecot(t *testing.T) {
	for _, resync := range []bool{true, false} {
		d := testmail.Dovecot(t)
		d.Deliver("INBOX", letters(30)...)
		a := plainSource(d.Addr(), 1).(*account)
		defer a.Close()
		a.unreliable.Store(!resync)
		box := inbox(t, a)
		list(t, box, "")
		cursor := box.Listing().Cursor
		box.Close()
		if !strings.Contains(string(cursor), "h=") || strings.HasSuffix(string(cursor), "h=0") {
			t.Fatalf("cursor %q", cursor)
		}
		say(t, d.Addr(), "SELECT INBOX", `UID STORE 3:5,9 +FLAGS.SILENT (\Deleted)`, "EXPUNGE")
		d.Deliver("INBOX", letters(2)...)
		box = inbox(t, a)
		all := list(t, box, cursor)
		l := box.Listing()
		gone := map[uint64]bool{}
		for _, s := range l.Gone {
			for n := s.First; n <= s.Last; n++ {
				gone[n] = true
			}
		}
		if len(all) != 2 || !l.Partial || l.Messages != 28 || len(gone) != 4 || !gone[3] || !gone[4] || !gone[5] || !gone[9] {
			t.Errorf("%d entries, %+v", len(all), l)
		}
		if a.unproven.Load() {
			t.Error("it is not believed")
		}
		if got, _, err := fetch(t, box, list(t, box, ""), 10); err != nil || len(got) != 28 {
			t.Error(len(got), err)
		}
		box.Close()
	}
}
