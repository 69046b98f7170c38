package pop3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailhaul/internal/mail"
	"mailhaul/internal/testmail"
	"mailhaul/source"
)

// letters are n small messages that differ, of differing sizes.
func letters(n int) []testmail.Message {
	var all []testmail.Message
	for i := range n {
		all = append(all, letter(i))
	}
	return all
}

func letter(i int) testmail.Message {
	return testmail.Letter(fmt.Sprint("letter ", i), fmt.Appendf(nil, "Subject: %d\r\n\r\n.%s\r\n", i, strings.Repeat("x", i%50)))
}

// drop is a server with letters, and a source over it. At the end nothing may
// have been deleted.
func drop(t *testing.T, p *testmail.POP3, n int) *account {
	p.Cleartext = true
	p.Deliver(letters(n)...)
	a := plainSource("ann", "secret", p.Start(t)).(*account)
	t.Cleanup(func() {
		a.Close()
		p.Untouched(t)
	})
	return a
}

func inbox(t *testing.T, src source.Source) *mailbox {
	t.Helper()
	box, err := src.Open(t.Context(), mail.Inbox)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { box.Close() })
	return box.(*mailbox)
}

func list(t *testing.T, box source.Mailbox, since source.Cursor) []source.Entry {
	t.Helper()
	var all []source.Entry
	for e, err := range box.List(t.Context(), since) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// groups hands out entries, n at a time.
func groups(entries []source.Entry, n int) func(bool) []source.Entry {
	return func(bool) []source.Entry {
		g := entries[:min(n, len(entries))]
		entries = entries[len(g):]
		return slices.Clone(g)
	}
}

// fetch asks for entries and gives what came and what was wrong.
func fetch(t *testing.T, box source.Mailbox, entries []source.Entry, group int) (got map[source.ID]string, wrong map[source.ID]error, err error) {
	t.Helper()
	got, wrong = map[source.ID]string{}, map[source.ID]error{}
	for m, err := range box.Fetch(t.Context(), groups(entries, group)) {
		switch {
		case err != nil && mail.ScopeOf(err, 0) == mail.ScopeMessage:
			wrong[m.ID] = err
		case err != nil:
			return got, wrong, err
		default:
			text, err := io.ReadAll(m.Body)
			if err != nil {
				continue // the loop ends with the reason
			}
			if _, twice := got[m.ID]; twice {
				t.Errorf("%s comes twice", m.ID)
			}
			got[m.ID] = string(text)
		}
	}
	return got, wrong, nil
}

// bodies are those of messages, sorted.
func bodies(messages []testmail.Message) []string {
	var all []string
	for _, m := range messages {
		all = append(all, string(m.Raw()))
	}
	slices.Sort(all)
	return all
}

// whole checks that every message came, and no other.
func whole(t *testing.T, got map[source.ID]string, messages []testmail.Message) {
	t.Helper()
	if have := slices.Sorted(maps.Values(got)); !slices.Equal(have, bodies(messages)) {
		t.Errorf("%d messages came, %d were to:\n%.300q", len(have), len(messages), have)
	}
}

func noted(t *testing.T, src source.Source, text string) {
	t.Helper()
	notes := src.(source.Noter).Notes()
	if text == "" && len(notes) > 0 || text != "" && !strings.Contains(strings.Join(notes, "\n"), text) {
		t.Errorf("notes: %q, want %q", notes, text)
	}
}

func verbs(p *testmail.POP3) string {
	var all []string
	for _, c := range p.Commands() {
		if n := len(all); n == 0 || all[n-1] != c.Verb {
			all = append(all, c.Verb)
		}
	}
	return strings.Join(all, " ")
}

// TestNothingNew: a run that finds what was there is one login and one look.
func TestNothingNew(t *testing.T) {
	p := &testmail.POP3{}
	a := drop(t, p, 100)
	box := inbox(t, a)
	entries := list(t, box, "")
	got, _, err := fetch(t, box, entries, 7)
	if err != nil {
		t.Fatal(err)
	}
	whole(t, got, p.Left())
	at := box.Listing().Cursor
	box.Close()
	a.Close()

	p.Reset()
	again := plainSource("ann", "secret", p.Start(t))
	folders, err := again.Folders(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if f := folders[0]; f.State != at || f.Messages != 100 || f.Path != mail.Inbox || f.Role != "inbox" {
		t.Errorf("folder %+v, cursor was %s", f, at)
	}
	again.Close()
	if v := verbs(p); v != "CAPA AUTH CAPA STAT LIST UIDL QUIT" || p.Opened() != 2 {
		t.Errorf("said in %d connections: %s", p.Opened(), v)
	}
	p.Deliver(letter(1000))
	third := plainSource("ann", "secret", p.Start(t))
	if folders, err = third.Folders(t.Context()); err != nil || folders[0].State == at {
		t.Errorf("a new message does not show: %v %v", folders, err)
	}
	third.Close()
	noted(t, a, "")
}

// TestSessionIsKept: what Folders has listed serves Open.
func TestSessionIsKept(t *testing.T) {
	p := &testmail.POP3{}
	a := drop(t, p, 10)
	if _, err := a.Folders(t.Context()); err != nil {
		t.Fatal(err)
	}
	box := inbox(t, a)
	if n := len(list(t, box, "")); n != 10 || p.Opened() != 1 || p.Count("UIDL") != 1 {
		t.Errorf("%d messages, %d connections", n, p.Opened())
	}
	box.Close()
	// One that died meanwhile is replaced.
	if _, err := a.Folders(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.Drop()
	a.mu.Lock()
	a.kept.used = a.kept.used.Add(-2 * noopEvery)
	a.mu.Unlock()
	box = inbox(t, a)
	if n := len(list(t, box, "")); n != 10 || p.Opened() != 3 {
		t.Errorf("%d messages, %d connections", n, p.Opened())
	}
}

// TestSubSessions fetches over many sessions, with other numbers in each.
func TestSubSessions(t *testing.T) {
	for _, most := range []int{1, 7, 50, 99, 100, 1000} {
		p := &testmail.POP3{}
		a := drop(t, p, 100)
		a.most = most
		seed := uint64(0)
		p.Fault(func(c testmail.Command) *testmail.Reply {
			if c.Verb == "QUIT" {
				seed++
				p.Shuffle(seed)
			}
			return nil
		})
		box := inbox(t, a)
		got, wrong, err := fetch(t, box, list(t, box, ""), 13)
		if err != nil || len(wrong) > 0 {
			t.Fatalf("%v %v", err, wrong)
		}
		whole(t, got, p.Left())
		if want := (99 + most) / most; p.Opened() != want {
			t.Errorf("%d a session: %d sessions", most, p.Opened())
		}
	}
}

// TestNumbersMove: messages vanish and come between two sessions; each that is
// still there comes as itself, the others are left out.
func TestNumbersMove(t *testing.T) {
	p := &testmail.POP3{}
	a := drop(t, p, 60)
	a.most = 20
	all := p.Left()
	once := true
	p.Fault(func(c testmail.Command) *testmail.Reply {
		if c.Verb == "QUIT" && once {
			once = false
			p.Remove(0, 1, 30, 59)
			p.Deliver(letter(500), letter(501))
			p.Shuffle(9)
		}
		return nil
	})
	box := inbox(t, a)
	entries := list(t, box, "")
	got, wrong, err := fetch(t, box, entries, 5)
	if err != nil || len(wrong) > 0 {
		t.Fatalf("%v %v", err, wrong)
	}
	for i, e := range entries {
		text, came := got[e.ID]
		if gone := i == 30 || i == 59; came == gone || came && text != string(all[i].Raw()) {
			t.Errorf("message %d: came %v: %q", i, came, text)
		}
	}
	there, err := box.Present(t.Context(), []source.ID{entries[0].ID, entries[2].ID, entries[30].ID})
	if err != nil || len(there) != 1 || !there[entries[2].ID] {
		t.Errorf("present: %v %v", there, err)
	}
}

// TestTwins gives several messages one unique-id (row B4).
func TestTwins(t *testing.T) {
	for _, c := range []struct {
		name string
		caps []string
		note string
		last bool // IDs outlast the session
	}{
		{"told apart", testmail.DefaultPOP3Caps, "told apart", true},
		{"one after the other", testmail.PlainPOP3Caps, "told apart", true},
		{"without TOP", []string{"UIDL", "USER", "PIPELINING"}, "fetched in every run", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &testmail.POP3{Caps: c.caps}
			a := drop(t, p, 10)
			p.Deliver(letter(3)) // a copy, octet for octet
			for _, i := range []int{3, 4, 7, 10} {
				p.SetID(i, "same")
			}
			box := inbox(t, a)
			entries := list(t, box, "")
			seen := map[source.ID]bool{}
			for _, e := range entries {
				if seen[e.ID] {
					t.Errorf("%s is there twice", e.ID)
				}
				seen[e.ID] = true
			}
			got, _, err := fetch(t, box, entries, 3)
			if err != nil {
				t.Fatal(err)
			}
			whole(t, got, p.Left())
			noted(t, a, c.note)
			if last := box.Listing().Cursor != ""; last != c.last {
				t.Errorf("cursor %q", box.Listing().Cursor)
			}
			box.Close()

			// Another run knows them again, whatever the order, or knows none.
			p.Shuffle(1)
			next := plainSource("ann", "secret", p.Start(t))
			defer next.Close()
			box = inbox(t, next)
			known := 0
			for _, e := range list(t, box, "") {
				if seen[e.ID] {
					known++
				}
			}
			if want := map[bool]int{true: 11, false: 7}[c.last]; known != want {
				t.Errorf("%d are known again, not %d", known, want)
			}
			// A message that takes the place of a twin is not taken for it.
			i := slices.Index(p.IDs(), "same")
			p.Replace(i, letter(100+3))
			box.Close()
			box = inbox(t, next)
			known = 0
			for _, e := range list(t, box, "") {
				if seen[e.ID] {
					known++
				}
			}
			if want := map[bool]int{true: 10, false: 7}[c.last]; known != want {
				t.Errorf("after one was replaced %d are known again, not %d", known, want)
			}
		})
	}
}

// TestOddIDs: unique-ids of any bytes (row B7).
func TestOddIDs(t *testing.T) {
	odd := []string{"a b", " lead", "trail ", "sla/sh", "..", "8\xffbit", "nul\x00", "%41", "A", "ünï", strings.Repeat("x", 4000), "\t", "%"}
	p := &testmail.POP3{}
	a := drop(t, p, len(odd))
	for i, id := range odd {
		p.SetID(i, id)
	}
	box := inbox(t, a)
	entries := list(t, box, "")
	for i, e := range entries {
		uid, ok := uidOf(e.ID)
		if !ok || uid != odd[i] {
			t.Errorf("%q became %q", odd[i], e.ID)
		}
		if strings.ContainsFunc(string(e.ID), func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("%q is no plain text", e.ID)
		}
	}
	got, _, err := fetch(t, box, entries, 3)
	if err != nil {
		t.Fatal(err)
	}
	whole(t, got, p.Left())
	if there, err := box.Present(t.Context(), []source.ID{entries[5].ID, entries[8].ID}); err != nil || len(there) != 2 {
		t.Errorf("present: %v %v", there, err)
	}
}

// TestEmptyIDs: an empty one is none.
func TestEmptyIDs(t *testing.T) {
	p := &testmail.POP3{}
	a := drop(t, p, 10)
	p.SetID(4, "")
	box := inbox(t, a)
	entries := list(t, box, "")
	got, _, err := fetch(t, box, entries, 3)
	if err != nil {
		t.Fatal(err)
	}
	whole(t, got, p.Left())
	noted(t, a, "empty unique-id: 1")
	if c := box.Listing().Cursor; c != "" {
		t.Errorf("cursor %q", c)
	}
	box.Close()
	next := plainSource("ann", "secret", p.Start(t))
	defer next.Close()
	for i, e := range list(t, inbox(t, next), "") {
		if same := e.ID == entries[i].ID; same == (i == 4) {
			t.Errorf("message %d: %s, %s", i, entries[i].ID, e.ID)
		}
	}
}

// TestNoUIDL: nothing survives the run, and nothing is taken for another
// (row B8).
func TestNoUIDL(t *testing.T) {
	p := &testmail.POP3{Caps: []string{"TOP", "USER", "PIPELINING"}}
	a := drop(t, p, 30)
	a.most = 10
	box := inbox(t, a)
	entries := list(t, box, "")
	got, _, err := fetch(t, box, entries, 4)
	if err != nil {
		t.Fatal(err)
	}
	whole(t, got, p.Left())
	noted(t, a, "no unique-ids")
	if p.Opened() != 3 || box.Listing().Cursor != "" {
		t.Errorf("%d sessions, cursor %q", p.Opened(), box.Listing().Cursor)
	}
	box.Close()
	// The same listing in the same run: the same messages.
	box = inbox(t, a)
	if again := list(t, box, ""); !slices.EqualFunc(again, entries, func(a, b source.Entry) bool { return a.ID == b.ID }) {
		t.Error("the same listing has other IDs")
	}
	// Another listing: none of them.
	p.Remove(3)
	box.Close()
	box = inbox(t, a)
	if _, _, err := fetch(t, box, entries, 4); !mail.Temporary(err) || mail.ScopeOf(err, 0) != mail.ScopeFolder || !errors.Is(err, errOther) {
		t.Errorf("numbers of another listing: %v", err)
	}
	if _, err := box.Present(t.Context(), []source.ID{entries[0].ID}); !errors.Is(err, errOther) {
		t.Errorf("present: %v", err)
	}
	if again := list(t, box, ""); again[0].ID == entries[0].ID {
		t.Error("another listing has the same IDs")
	}
	box.Close()
	if _, err := a.Remove(t.Context(), mail.Inbox, []source.ID{entries[0].ID}); err == nil || mail.Temporary(err) {
		t.Errorf("remove: %v", err)
	}
}

// TestRenamed notes that all unique-ids are new (row B6).
func TestRenamed(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(*testmail.POP3)
		note string
	}{
		{"renamed", (*testmail.POP3).Renumber, "all 20 messages new unique-ids"},
		{"nothing", func(*testmail.POP3) {}, ""},
		{"more", func(p *testmail.POP3) { p.Deliver(letters(100)...) }, ""},
		{"less", func(p *testmail.POP3) {
			p.Remove(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17)
			p.Renumber()
		}, ""},
		{"replaced one", func(p *testmail.POP3) { p.SetID(3, "other") }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &testmail.POP3{}
			a := drop(t, p, 20)
			box := inbox(t, a)
			list(t, box, "")
			at := box.Listing().Cursor
			box.Close()
			c.do(p)
			list(t, inbox(t, a), at)
			noted(t, a, c.note)
		})
	}
}

// TestReused: a unique-id that names another message shows by its size, which
// the core compares (row B5).
func TestReused(t *testing.T) {
	p := &testmail.POP3{}
	a := drop(t, p, 5)
	box := inbox(t, a)
	before := list(t, box, "")
	at := box.Listing().Cursor
	box.Close()
	p.Replace(2, letter(949))
	box = inbox(t, a)
	after := list(t, box, "")
	if after[2].ID != before[2].ID || after[2].Size == before[2].Size || box.Listing().Cursor == at {
		t.Errorf("%v, before %v", after[2], before[2])
	}
}

// TestWrongCounts: a listing that is short is an error, not a short listing.
func TestWrongCounts(t *testing.T) {
	for _, c := range []struct {
		name  string
		twist testmail.Twist
	}{
		{"stat", testmail.On("STAT", testmail.Say("+OK 11 100"))},
		{"stat less", testmail.On("STAT", testmail.Say("+OK 9 100"))},
		{"list short", testmail.On("LIST", testmail.DropLine(4))},
		{"uidl short", testmail.On("UIDL", testmail.DropLine(4))},
		{"list twice", testmail.On("LIST", testmail.SetLine(4, "4 10"))},
		{"uidl twice", testmail.On("UIDL", testmail.SetLine(4, "4 same"))},
		{"uidl odd", testmail.On("UIDL", testmail.SetLine(4, "what"))},
		{"uidl far", testmail.On("UIDL", testmail.SetLine(4, "900000000 x"))},
		{"uidl endless", testmail.On("UIDL", testmail.Endless("1 x\r\n"))},
		{"uidl endless line", testmail.On("UIDL", testmail.Endless("x"))},
		{"list without end", testmail.On("LIST", func(r *testmail.Response) { r.Dot, r.End = "", true })},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &testmail.POP3{}
			a := drop(t, p, 10)
			p.Twist(testmail.AtFirst(2, c.twist))
			if _, err := a.Folders(t.Context()); err == nil || !mail.Temporary(err) || mail.ScopeOf(err, 0) != mail.ScopeAccount {
				t.Errorf("folders: %v", err)
			}
			if _, err := a.Open(t.Context(), mail.Inbox); err == nil || !mail.Temporary(err) || mail.ScopeOf(err, 0) != mail.ScopeFolder {
				t.Errorf("open: %v", err)
			}
			p.Heal()
			if n := len(list(t, inbox(t, a), "")); n != 10 {
				t.Errorf("afterwards %d", n)
			}
		})
	}
}

// TestRefused: one message that cannot be had does not keep the others.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name  string
		twist testmail.Twist
		says  string
	}{
		{"err", testmail.Say("-ERR cannot read it\x1b[31m"), `cannot read it\x1B[31m`},
		{"for good", testmail.Say("-ERR [SYS/PERM] broken"), "broken"},
		{"no content", testmail.Instead(nil), "no content"},
		{"dot at the beginning", func(r *testmail.Response) {
			r.Message, r.Rest, r.Dot = nil, strings.NewReader(".\r\nrest\r\n.\r\n"), ""
		}, "no content"},
	} {
		for _, caps := range [][]string{testmail.DefaultPOP3Caps, testmail.PlainPOP3Caps} {
			t.Run(c.name, func(t *testing.T) {
				p := &testmail.POP3{Caps: caps}
				a := drop(t, p, 30)
				p.Twist(testmail.On("RETR", testmail.OnNumber(7, c.twist)))
				box := inbox(t, a)
				entries := list(t, box, "")
				got, wrong, err := fetch(t, box, entries, 4)
				if err != nil || len(got) != 29 || len(wrong) != 1 {
					t.Fatalf("%d came, %v, %v", len(got), wrong, err)
				}
				err = wrong[entries[6].ID]
				if err == nil || mail.Temporary(err) || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(c.says)) {
					t.Errorf("%v", err)
				}
			})
		}
	}
}

// TestLater: a server that can do nothing just now is asked again later.
func TestLater(t *testing.T) {
	p := &testmail.POP3{}
	a := drop(t, p, 10)
	p.Twist(testmail.AtFirst(1, testmail.On("RETR", testmail.OnNumber(7, testmail.Say("-ERR [SYS/TEMP] disk")))))
	box := inbox(t, a)
	entries := list(t, box, "")
	got, wrong, err := fetch(t, box, entries, 4)
	if len(got) != 6 || len(wrong) > 0 || !mail.Temporary(err) || mail.ScopeOf(err, 0) != mail.ScopeFolder {
		t.Errorf("%d came, %v, %v", len(got), wrong, err)
	}
	if got, _, err = fetch(t, box, entries, 4); err != nil || len(got) != 10 {
		t.Errorf("%d came, %v", len(got), err)
	}
}

// TestExchange takes its notice for what it is.
func TestExchange(t *testing.T) {
	p := &testmail.POP3{Greeting: "+OK The Microsoft Exchange POP3 service is ready."}
	a := drop(t, p, 10)
	notice := "From: Microsoft Exchange Server\r\nSubject: Retrieval using the POP3 protocol failed for the following message: 7\r\n\r\nsorry\r\n"
	p.Deliver(testmail.Letter("quoted", []byte("Subject: odd\r\n\r\n> "+notice)), testmail.Letter("large", bytes.Repeat([]byte("0123456789abcd\r\n"), 1000)))
	p.Twist(testmail.On("RETR", testmail.OnNumber(7, testmail.Instead([]byte(notice)))))
	box := inbox(t, a)
	entries := list(t, box, "")
	got, wrong, err := fetch(t, box, entries, 4)
	if err != nil || len(got) != 11 || !errors.Is(wrong[entries[6].ID], errPlaceholder) {
		t.Fatalf("%d came, %v, %v", len(got), wrong, err)
	}
	left := p.Left()
	if got[entries[10].ID] != string(left[10].Raw()) || got[entries[11].ID] != string(left[11].Raw()) {
		t.Error("other mail is not what it was")
	}
}

// TestSizes notes claims that were wrong, once for all.
func TestSizes(t *testing.T) {
	p := &testmail.POP3{}
	a := drop(t, p, 10)
	p.SetSize(3, 1)
	p.SetSize(4, 100_000)
	p.SetSize(5, 0)
	box := inbox(t, a)
	got, _, err := fetch(t, box, list(t, box, ""), 4)
	if err != nil {
		t.Fatal(err)
	}
	whole(t, got, p.Left())
	noted(t, a, "claimed: 3")
}

// TestPassword is tried once.
func TestPassword(t *testing.T) {
	p := &testmail.POP3{Cleartext: true}
	a := plainSource("ann", "wrong", p.Start(t))
	defer a.Close()
	for range 3 {
		if _, err := a.Folders(t.Context()); !errors.Is(err, mail.ErrLogin) || mail.Temporary(err) {
			t.Errorf("folders: %v", err)
		}
		if _, err := a.Open(t.Context(), mail.Inbox); !errors.Is(err, mail.ErrLogin) {
			t.Errorf("open: %v", err)
		}
	}
	if p.Opened() != 1 {
		t.Errorf("tried %d times", p.Opened())
	}
}

// TestInUse is not the password's fault.
func TestInUse(t *testing.T) {
	for _, code := range []string{"[IN-USE] locked", "[SYS/TEMP] disk", "maildrop is locked"} {
		p := &testmail.POP3{Caps: testmail.PlainPOP3Caps}
		a := drop(t, p, 3)
		p.Fault(testmail.Refuse("PASS", "-ERR "+code, 1))
		_, err := a.Folders(t.Context())
		if errors.Is(err, mail.ErrLogin) || !mail.Temporary(err) || mail.ScopeOf(err, 0) != mail.ScopeAccount {
			t.Errorf("%s: %v", code, err)
		}
		if f, err := a.Folders(t.Context()); err != nil || f[0].Messages != 3 {
			t.Errorf("afterwards: %v %v", f, err)
		}
	}
}

// TestCutEverywhere ends the connection at every byte of a session. What came
// whole is exact, what did not is an error, and the next session gives it all.
func TestCutEverywhere(t *testing.T) {
	for _, caps := range [][]string{testmail.DefaultPOP3Caps, testmail.PlainPOP3Caps} {
		p := &testmail.POP3{Caps: caps, Cleartext: true}
		p.Deliver(letters(5)...)
		want := map[string]bool{}
		for _, m := range p.Left() {
			want[string(m.Raw())] = true
		}
		addr := p.Start(t)
		// run is a whole session; it tells how many messages came.
		run := func() (int, error) {
			src := plainSource("ann", "secret", addr)
			defer src.Close()
			if _, err := src.Folders(t.Context()); err != nil {
				return 0, err
			}
			box, err := src.Open(t.Context(), mail.Inbox)
			if err != nil {
				return 0, err
			}
			defer box.Close()
			var entries []source.Entry
			for e, err := range box.List(t.Context(), "") {
				if err != nil {
					return 0, err
				}
				entries = append(entries, e)
			}
			got, wrong, err := fetch(t, box, entries, 2)
			for _, text := range got {
				if !want[text] {
					t.Errorf("nobody sent %q", text)
				}
			}
			if len(wrong) > 0 {
				t.Errorf("%v", wrong)
			}
			return len(got), err
		}
		p.Reset()
		if n, err := run(); n != 5 || err != nil {
			t.Fatal(n, err)
		}
		length := p.Sent()
		for at := range length {
			p.Cut(testmail.Cut{After: at})
			n, err := run()
			switch {
			case err == nil && n != 5:
				t.Errorf("cut at %d: %d messages and no error", at, n)
			case err != nil && (!mail.Temporary(err) || errors.Is(err, mail.ErrLogin)):
				t.Errorf("cut at %d: %v", at, err)
			}
			p.Heal()
		}
		p.Untouched(t)
	}
}

// TestTimes runs a slow consumer in virtual time: the server hears from us
// while we wait, and a session does not last longer than it may (row B12).
func TestTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &testmail.POP3{Cleartext: true, Idle: 2 * time.Minute}
		p.Deliver(letters(10)...)
		src := pipeSource(p)
		box, err := src.Open(t.Context(), mail.Inbox)
		if err != nil {
			t.Fatal(err)
		}
		entries := list(t, box, "")
		got := 0
		next := func(wait bool) []source.Entry {
			if wait && len(entries) > 0 {
				time.Sleep(5 * time.Minute) // of virtual time
			}
			if !wait || len(entries) == 0 {
				return nil
			}
			e := entries[:1]
			entries = entries[1:]
			return e
		}
		for m, err := range box.Fetch(t.Context(), next) {
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(m.Body); err != nil {
				t.Error(err)
			}
			got++
		}
		box.Close()
		src.Close()
		if got != 10 {
			t.Errorf("%d came", got)
		}
		// Five minutes for each message, eight for a session: every second
		// message finds its session too old.
		if n := p.Opened(); n != 6 {
			t.Errorf("%d sessions", n)
		}
		if n := p.Count("NOOP"); n < 35 {
			t.Errorf("%d times NOOP", n)
		}
		p.Close()
	})
}

// TestStalledConsumer: while we wait the server may leave; then the loop ends
// with an error.
func TestStalledConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &testmail.POP3{Cleartext: true}
		p.Deliver(letters(3)...)
		src := pipeSource(p)
		box, err := src.Open(t.Context(), mail.Inbox)
		if err != nil {
			t.Fatal(err)
		}
		entries := list(t, box, "")
		next := func(bool) []source.Entry {
			p.Drop()
			time.Sleep(5 * time.Minute)
			return entries
		}
		for _, err := range box.Fetch(t.Context(), next) {
			if err == nil || !mail.Temporary(err) {
				t.Errorf("%v", err)
			}
		}
		box.Close()
		src.Close()
		p.Close()
	})
}

// pipeSource reaches a server without a network.
func pipeSource(p *testmail.POP3) source.Source {
	return OverConn("ann", "secret", func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go p.Serve(theirs)
		return ours, nil
	})
}

// TestKeepsNothing: a server that deletes what was fetched at QUIT hears none
// (row B3).
func TestKeepsNothing(t *testing.T) {
	p := &testmail.POP3{Caps: append(slices.Clone(testmail.DefaultPOP3Caps), "EXPIRE 0 USER")}
	a := drop(t, p, 20)
	a.most = 6
	box := inbox(t, a)
	got, _, err := fetch(t, box, list(t, box, ""), 4)
	if err != nil {
		t.Fatal(err)
	}
	box.Close()
	whole(t, got, p.Left())
	if len(p.Left()) != 20 || p.Count("QUIT") > 0 {
		t.Errorf("%d are left", len(p.Left()))
	}
	noted(t, a, "EXPIRE 0")
}

func TestExpires(t *testing.T) {
	for caps, note := range map[string]string{"EXPIRE 30": "after 30 days", "EXPIRE NEVER": "", "EXPIRE 7 USER": "after 7 days"} {
		p := &testmail.POP3{Caps: append(slices.Clone(testmail.DefaultPOP3Caps), caps)}
		a := drop(t, p, 2)
		if _, err := a.Folders(t.Context()); err != nil {
			t.Fatal(err)
		}
		noted(t, a, note)
	}
}

// TestGmail gets portion after portion, each only after the core has said that
// the last one is committed.
func TestGmail(t *testing.T) {
	p := &testmail.POP3{Cleartext: true, Gmail: 25, Greeting: "+OK Gpop ready for requests from nowhere",
		Caps: []string{"USER", "RESP-CODES", "EXPIRE 0", "TOP", "UIDL", "SASL PLAIN XOAUTH2"}}
	p.Deliver(letters(60)...)
	a := plainSource("ann", "secret", p.Start(t)).(*account)
	defer a.Close()
	all := map[source.ID]string{}
	portion := func(commit bool) (more bool) {
		box := inbox(t, a)
		defer box.Close()
		var fresh []source.Entry
		for _, e := range list(t, box, "") {
			if _, known := all[e.ID]; !known {
				fresh = append(fresh, e)
			}
		}
		got, _, err := fetch(t, box, fresh, 4)
		if err != nil {
			t.Fatal(err)
		}
		if !commit {
			return false
		}
		maps.Copy(all, got)
		return box.More(t.Context())
	}
	portion(false) // died before the commit
	n := 1
	for portion(true) {
		n++
	}
	whole(t, all, p.Left())
	if n != 4 {
		t.Errorf("%d portions", n)
	}
	noted(t, a, "imaps://")

	var ids []source.ID
	for id := range all {
		ids = append(ids, id)
	}
	if gone, err := a.Remove(t.Context(), mail.Inbox, ids[:3]); len(gone) > 0 || err == nil || mail.Temporary(err) {
		t.Errorf("removed %v, %v", gone, err)
	}
	a.gmailDelete = true
	if gone, err := a.Remove(t.Context(), mail.Inbox, ids[:3]); len(gone) > 0 || err != nil {
		t.Errorf("not listed, but gone: %v, %v", gone, err)
	}
}
