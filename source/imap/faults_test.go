package imap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailhaul/internal/imapconn"
	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/internal/testmail"
	"mailhaul/source"
)

// letters are n small messages that differ.
func letters(n int) []testmail.Message {
	var all []testmail.Message
	for i := range n {
		all = append(all, testmail.Letter(fmt.Sprint("letter ", i), fmt.Appendf(nil, "Subject: %d\r\n\r\n%s\r\n", i, strings.Repeat("x", i%50))))
	}
	return all
}

// model is a server with letters in INBOX, and a source over it.
func model(t *testing.T, m *testmail.Model, n int) source.Source {
	m.Cleartext = true
	m.Deliver("INBOX", letters(n)...)
	src := plainSource(m.Start(t), 4)
	t.Cleanup(func() {
		src.Close()
		m.Untouched(t)
	})
	return src
}

func inbox(t *testing.T, src source.Source) source.Mailbox {
	t.Helper()
	box, err := src.Open(t.Context(), mail.Inbox)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { box.Close() })
	return box
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

// fetch asks for entries in groups and gives what came and what was wrong.
func fetch(t *testing.T, box source.Mailbox, entries []source.Entry, group int) (got map[source.ID]string, wrong map[source.ID]error, err error) {
	got, wrong = map[source.ID]string{}, map[source.ID]error{}
	for m, err := range box.Fetch(t.Context(), inGroups(entries, group)) {
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

// right checks that all that came is as it was delivered; UIDs begin at 1.
func right(t *testing.T, got map[source.ID]string, letters []testmail.Message) {
	t.Helper()
	for id, text := range got {
		uid, _ := uidOf(id)
		if int(uid) > len(letters) || text != string(letters[uid-1].Raw()) {
			t.Errorf("message %s is %q", id, text)
		}
	}
}

// TestBent fetches 60 messages while the answer about number 7 is bent.
func TestBent(t *testing.T) {
	for _, c := range []struct {
		name    string
		bend    testmail.Bend
		came    int    // with groups
		alone   bool   // number 7 comes when asked for alone
		wrong   string // what is said about number 7 alone
		ends    bool   // the connection is dropped
		fetched bool   // number 7 is whole at the first try
	}{
		{"uid last", testmail.UIDLast, 60, true, "", false, true},
		{"shuffled", testmail.Shuffle(3), 60, true, "", false, true},
		{"flags before", testmail.FlagsBefore, 60, true, "", false, true},
		{"flags after", testmail.FlagsAfter, 60, true, "", false, true},
		{"left out", testmail.WithBody(testmail.Omit), 59, false, "", false, false},
		{"refused", testmail.WithBody(testmail.Fail("NO [SERVERBUG] cannot read it")), 59, false, "cannot read it", false, false},
		{"bad", testmail.WithBody(testmail.Fail("BAD what")), 59, false, "what", false, false},
		{"nil", testmail.Nil, 59, false, "no content", false, false},
		{"empty", testmail.Empty, 59, false, "no content", false, false},
		{"placeholder", testmail.WithBody(testmail.Placeholder), 59, false, "notice", false, false},
		{"one byte short", testmail.Short(1), 0, false, "", true, false},
		{"one byte long", testmail.Long(1), 0, false, "", true, false},
		{"thousand short", testmail.Short(1000), 0, false, "", true, false},
		{"thousand long", testmail.Long(1000), 0, false, "", true, false},
		{"uid zero", testmail.Value("UID", "0"), 0, false, "", true, false},
		{"another uid", testmail.WithBody(testmail.Value("UID", "4000000000")), 59, false, "", false, false},
		{"odd date", testmail.Value("INTERNALDATE", `"00-Jan-0000 00:00:00 GMT"`), 60, true, "", false, true},
		{"odd items", testmail.Value("X-ODD", `("a" (b {3}`+"\r\n(((\r\n"[:5]+` NIL) "\"")`), 60, true, "", false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &testmail.Model{}
			src := model(t, m, 60)
			if c.name == "placeholder" {
				// What is hidden is larger than the notice.
				m.Replace("INBOX", 7, testmail.Letter("big", bytes.Repeat([]byte("0123456789abcde\n"), 1000)))
			}
			box := inbox(t, src)
			m.Bend(testmail.ForUID(7, testmail.WithBody(c.bend)))
			if c.name == "odd date" {
				m.Heal()
				m.Bend(testmail.ForUID(7, c.bend))
			}
			all := list(t, box, "")
			if len(all) != 60 {
				t.Fatalf("%d entries", len(all))
			}
			if c.name == "odd date" && (!all[6].Date.IsZero() || all[5].Date.IsZero()) {
				t.Errorf("dates %v, %v", all[6].Date, all[5].Date)
			}
			got, wrong, err := fetch(t, box, all, 20)
			right(t, got, letters(60))
			if c.ends {
				if err == nil || !mail.Temporary(err) || mail.ScopeOf(err, 0) != mail.ScopeFolder {
					t.Fatalf("%v", err)
				}
				if _, whole := got["7"]; whole {
					t.Error("number 7 was taken for whole")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, whole := got["7"]; whole != c.fetched {
				t.Errorf("number 7 came: %v", whole)
			}
			if strings.HasPrefix(c.wrong, "no") && wrong["7"] == nil {
				t.Error("nothing is said about number 7")
			}
			// What did not come is asked for alone.
			for _, e := range all {
				if _, ok := got[e.ID]; ok || wrong[e.ID] != nil {
					continue
				}
				one, bad, err := fetch(t, box, []source.Entry{e}, 1)
				if err != nil {
					t.Fatal(err)
				}
				right(t, one, letters(60))
				for id, text := range one {
					got[id] = text
				}
				for id, e := range bad {
					wrong[id] = e
				}
			}
			if len(got) != c.came {
				t.Errorf("%d messages", len(got))
			}
			if c.wrong == "" != (wrong["7"] == nil) || c.wrong != "" && !strings.Contains(wrong["7"].Error(), c.wrong) {
				t.Errorf("number 7: %v", wrong["7"])
			}
			if _, ok := got["7"]; ok != c.alone {
				t.Errorf("number 7 came in the end: %v", ok)
			}
		})
	}
}

// TestSizes is row A6: a wrong claim is noted, and the message kept.
func TestSizes(t *testing.T) {
	m := &testmail.Model{}
	src := model(t, m, 10)
	m.Bend(testmail.ForUID(3, testmail.Lie(100)), testmail.ForUID(4, testmail.Lie(-5)))
	box := inbox(t, src)
	got, _, err := fetch(t, box, list(t, box, ""), 10)
	if err != nil || len(got) != 10 {
		t.Fatal(len(got), err)
	}
	right(t, got, letters(10))
	if n := src.(source.Noter).Notes(); len(n) != 1 || !strings.Contains(n[0], ": 2 ") {
		t.Errorf("notes %q", n)
	}
}

// TestCutEverywhere is row A1 seen from above: whatever comes whole is right.
func TestCutEverywhere(t *testing.T) {
	whole := &testmail.Model{}
	src := model(t, whole, 5)
	run(t, src)
	total := whole.Sent()
	step := int64(1)
	if testing.Short() {
		step = 13
	}
	m := &testmail.Model{Cleartext: true}
	m.Deliver("INBOX", letters(5)...)
	addr := m.Start(t)
	for at := int64(0); at < total; at += step {
		m.Heal()
		m.Reset()
		m.Cut(testmail.Cut{After: at})
		src := plainSource(addr, 1)
		got, err := run(t, src)
		right(t, got, letters(5))
		if err == nil && len(got) != 5 {
			t.Errorf("cut at %d: %d messages and no error", at, len(got))
		}
		if err != nil && !mail.Temporary(err) {
			t.Errorf("cut at %d: %v", at, err)
		}
		src.Close()
	}
}

func run(t *testing.T, src source.Source) (map[source.ID]string, error) {
	if _, err := src.Folders(t.Context()); err != nil {
		return nil, err
	}
	box, err := src.Open(t.Context(), mail.Inbox)
	if err != nil {
		return nil, err
	}
	defer box.Close()
	var all []source.Entry
	for e, err := range box.List(t.Context(), "") {
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	got, _, err := fetch(t, box, all, 2)
	return got, err
}

// TestWindows lists folders larger than a window, with gaps and without, where
// the server says in one line which UIDs there are, where it does not, and where
// that is not so.
func TestWindows(t *testing.T) {
	far := map[int]uint32{100: 1_000_000, 200: 3_000_000_000}
	for _, c := range []struct {
		name   string
		n      int
		jumps  map[int]uint32 // before which message UIDNEXT is set to what
		search testmail.Fault
		caps   []string
		fetch  int // commands
	}{
		{"dense", 2*mostWindow + 500, nil, nil, nil, 3},
		{"one window", mostWindow, nil, nil, nil, 1},
		{"sparse and small", 50, map[int]uint32{10: 4_000_000_000, 20: 4_294_967_200}, nil, nil, 1},
		{"sparse and large", 12_000, far, nil, nil, 3},
		{"without search", 12_000, far, nil, testmail.PlainCaps, 4},
		{"refused", 12_000, far, testmail.Refuse("UID SEARCH", "BAD what?", 0), nil, 4},
		{"cut short", 12_000, far, found(`* ESEARCH (TAG "@") UID COUNT 1000 ALL 1:100,1000000:1000099,3000000000:3000000799`), nil, 4},
		{"positions", 12_000, far, found(`* ESEARCH (TAG "@") UID COUNT 12000 ALL 1:12000`), nil, 4},
		{"others", 12_000, far, found(`* ESEARCH (TAG "@") UID COUNT 12000 ALL 7:3000,500000:500999,1000090,3000000799,3000000900:3000008903`), nil, 3},
		{"sparse, on the edge", 12_000, map[int]uint32{4000: 1_000_000, 8000: 3_000_000_000}, nil, nil, 3},
		{"only far away", 12_000, map[int]uint32{0: 3_000_000_000}, nil, nil, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &testmail.Model{Cleartext: true, Caps: c.caps}
			if c.search != nil {
				m.Fault(c.search)
			}
			letter := testmail.Letter("x", []byte("Subject: x\r\n\r\nx\r\n"))
			var want []uint32
			from := 0
			for at := 0; at <= c.n; at++ {
				next, jump := c.jumps[at]
				if !jump && at < c.n {
					continue
				}
				want = append(want, m.Deliver("INBOX", slices.Repeat([]testmail.Message{letter}, at-from)...)...)
				from = at
				if jump {
					m.NextUID("INBOX", next)
				}
			}
			src := plainSource(m.Start(t), 1)
			defer src.Close()
			box := inbox(t, src)
			all := list(t, box, "")
			if len(all) != c.n {
				t.Fatalf("%d entries", len(all))
			}
			for i, e := range all {
				if e.ID != idOf(want[i]) {
					t.Fatalf("entry %d is %s, want %d", i, e.ID, want[i])
				}
			}
			if l := box.Listing(); l.Partial || l.Messages != int64(c.n) {
				t.Errorf("%+v", l)
			}
			if n := m.Count("UID FETCH"); n != c.fetch {
				t.Errorf("%d commands to fetch, want %d", n, c.fetch)
			}
			present, err := box.Present(t.Context(), []source.ID{all[3].ID, "4294967295", all[len(all)-1].ID})
			if err != nil || len(present) != 2 {
				t.Error(present, err)
			}
		})
	}
}

// TestChanges lists what has changed since a cursor, and row A10: nothing is
// believed of a server that has gone back.
func TestChanges(t *testing.T) {
	m := &testmail.Model{}
	src := model(t, m, 20)
	box := inbox(t, src)
	list(t, box, "")
	cursor := box.Listing().Cursor
	folders, err := src.Folders(t.Context())
	if err != nil || folders[0].State != cursor || folders[0].Messages != 20 {
		t.Fatalf("%+v, %v; the listing's cursor is %q", folders, err, cursor)
	}
	box.Close()
	old := m.Snapshot()
	m.SetFlags("INBOX", 5, `\Seen`)
	m.Deliver("INBOX", letters(2)...)
	m.Expunge("INBOX", 9)

	box = inbox(t, src)
	var ids []source.ID
	for e, err := range box.List(t.Context(), cursor) {
		if err != nil || !box.Listing().Partial {
			t.Fatal(err, box.Listing())
		}
		ids = append(ids, e.ID)
	}
	if fmt.Sprint(ids) != "[5 21 22]" || !box.Listing().Partial || box.Listing().Messages != 21 {
		t.Errorf("%v, %+v", ids, box.Listing())
	}
	newer := box.Listing().Cursor
	box.Close()

	m.Rewind(old)
	box = inbox(t, src)
	for _, err := range box.List(t.Context(), newer) {
		if !errors.Is(err, source.ErrRewound) || mail.ScopeOf(err, 0) != mail.ScopeFolder {
			t.Errorf("%v", err)
		}
	}
	box.Close()

	m.Renumber("INBOX")
	box = inbox(t, src)
	if n := len(list(t, box, newer)); n != 20 || box.Listing().Partial {
		t.Errorf("%d entries after a new numbering", n)
	}
}

// TestEpoch is row A9.
func TestEpoch(t *testing.T) {
	m := &testmail.Model{}
	src := model(t, m, 20)
	box := inbox(t, src)
	all := list(t, box, "")
	m.Fault(testmail.Remark("UID FETCH", "* OK [UIDVALIDITY 12345] renumbered\r\n", 1))
	_, _, err := fetch(t, box, all, 5)
	if !errors.Is(err, source.ErrEpoch) || mail.ScopeOf(err, 0) != mail.ScopeFolder || !strings.Contains(err.Error(), "INBOX") {
		t.Error(err)
	}
}

// TestPool is rows A18 and A19: who allows fewer connections is served with
// fewer, and it is said.
func TestPool(t *testing.T) {
	for _, full := range []string{
		"* BYE [UNAVAILABLE] Maximum number of connections from user+IP exceeded",
		"NO [ALERT] Too many simultaneous connections. (Failure)",
		"NO [LIMIT] no more",
	} {
		t.Run(full, func(t *testing.T) {
			m := &testmail.Model{Most: 2, Full: full}
			src := model(t, m, 3)
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					box, err := src.Open(t.Context(), mail.Inbox)
					if err != nil {
						t.Error(err)
						return
					}
					defer box.Close()
					for _, err := range box.List(t.Context(), "") {
						if err != nil {
							t.Error(err)
						}
					}
				})
			}
			all.Wait()
			if n := src.(source.Noter).Notes(); len(n) != 1 && !strings.Contains(strings.Join(n, " "), "allows no more than") {
				t.Errorf("notes %q", n)
			}
		})
	}
}

// TestNoRoomAtAll: a server that takes not even one connection is an error, to
// be tried later.
func TestNoRoomAtAll(t *testing.T) {
	m := &testmail.Model{Greeting: "BYE [UNAVAILABLE] come back later"}
	src := model(t, m, 3)
	if _, err := src.Open(t.Context(), mail.Inbox); !mail.Temporary(err) || mail.ScopeOf(err, 0) != mail.ScopeAccount || !strings.Contains(err.Error(), "come back later") {
		t.Error(err)
	}
}

// TestOneLogin is row J5: a refused password is not tried again.
func TestOneLogin(t *testing.T) {
	m := &testmail.Model{Password: "other"}
	src := model(t, m, 3)
	for range 3 {
		if _, err := src.Open(t.Context(), mail.Inbox); !errors.Is(err, mail.ErrLogin) || mail.Temporary(err) {
			t.Error(err)
		}
	}
	if n := m.Count("LOGIN") + m.Count("AUTHENTICATE"); n != 1 {
		t.Errorf("%d logins", n)
	}
}

// TestStaleConnection: a connection that died while nobody used it is replaced.
func TestStaleConnection(t *testing.T) {
	m := &testmail.Model{}
	src := model(t, m, 3)
	inbox(t, src).Close()
	m.Drop()
	inbox(t, src).Close()
	m.Drop()
	if _, err := src.Folders(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestWaiting: Open waits for a connection, and stops waiting when told to.
func TestWaiting(t *testing.T) {
	m := &testmail.Model{Cleartext: true}
	src := plainSource(m.Start(t), 1)
	defer src.Close()
	box := inbox(t, src)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error)
	go func() {
		_, err := src.Open(ctx, mail.Inbox)
		result <- err
	}()
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	go func() {
		again, err := src.Open(t.Context(), mail.Inbox)
		if err == nil {
			again.Close()
		}
		result <- err
	}()
	box.Close()
	if err := <-result; err != nil {
		t.Error(err)
	}
}

// TestNotes tells what a user should know, once.
func TestNotes(t *testing.T) {
	m := &testmail.Model{Welcome: "[ALERT] your disk is nearly full\x1b[2J", Caps: append([]string{"X-GM-EXT-1"}, testmail.PlainCaps...)}
	m.Folder("Entw\xfcrfe")
	m.Folder("Tom & Jerry")
	m.Folder("Sent", `\Sent`)
	m.Folder("Gmail", `\Noselect`)
	src := model(t, m, 1000)
	for range 2 {
		folders, err := src.Folders(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var paths []string
		for _, f := range folders {
			paths = append(paths, string(f.Path)+":"+f.Role)
			box, err := src.Open(t.Context(), f.Path)
			if err != nil {
				t.Errorf("%s: %v", f.Path, err)
				continue
			}
			box.Close()
		}
		slices.Sort(paths)
		if s := strings.Join(paths, " "); s != "Entw%FCrfe: INBOX:inbox Sent:sent Tom %26 Jerry:" {
			t.Errorf("%s", s)
		}
	}
	notes := src.(source.Noter).Notes()
	for _, want := range []string{`disk is nearly full\x1b`, "exactly 1000", "Entw%FCrfe", "Tom %26 Jerry"} {
		n := 0
		for _, note := range notes {
			if strings.Contains(note, want) {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%q is noted %d times: %q", want, n, notes)
		}
	}
}

// TestGaps: a folder that cannot be listed is told in every run, and the others
// are there.
func TestGaps(t *testing.T) {
	m := &testmail.Model{}
	m.Folder(strings.Repeat("x", 5000))
	src := model(t, m, 3)
	folders, err := src.Folders(t.Context())
	if err != nil || len(folders) != 1 || folders[0].Path != "INBOX" {
		t.Fatal(folders, err)
	}
	if gaps := src.(source.Gapped).Gaps(); len(gaps) != 1 || !strings.Contains(gaps[0], "could not be understood: 1") {
		t.Errorf("gaps are %q", gaps)
	}
}

// TestTop: a folder in the location means that one and what is below.
// within is a source of one folder and those below it.
func within(addr, path string) source.Source {
	src := plainSource(addr, 1)
	src.(*account).top = top(path)
	return src
}

func TestTop(t *testing.T) {
	m := &testmail.Model{Cleartext: true, Delim: "."}
	for _, raw := range []string{"Work", "Work.Gr&APYA3w-e", "Workshop", "A/B.C"} {
		m.Folder(raw)
	}
	addr := m.Start(t)
	for path, want := range map[string]string{
		"Work": "Work Work/Größe", "Work/Größe/": "Work/Größe", "inbox": "INBOX", "": "A%2FB/C INBOX Work Work/Größe Workshop",
	} {
		src := within(addr, path)
		folders, err := src.Folders(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range folders {
			got = append(got, string(f.Path))
		}
		slices.Sort(got)
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%q: %s", path, s)
		}
		src.Close()
	}
	src := within(addr, "Wrok")
	defer src.Close()
	_, err := src.Folders(t.Context())
	if !errors.Is(err, location.ErrUsage) || !strings.Contains(location.Hint(err), "Work") || mail.Temporary(err) {
		t.Errorf("%v (%s)", err, location.Hint(err))
	}
}

// TestLocations checks what may stand in one.
func TestLocations(t *testing.T) {
	var reg source.Registry
	for _, s := range Schemes() {
		reg.Register(s)
	}
	secret := func(context.Context, location.Location) (string, error) { return "secret", nil }
	for _, c := range []struct {
		where, wrong string
		clear        bool
	}{
		{"imaps://ann@mail.example.org", "", false},
		{"imaps://ann@mail.example.org/Work?connections=9", "", false},
		{"imap://ann@mail.example.org", "", false},
		{"imap://ann@127.0.0.1?tls=none", "", false},
		{"imap://ann@localhost:143?tls=none", "", false},
		{"imap://ann@[::1]:143?tls=none", "", false},
		{"imap://ann@mail.example.org?tls=none", "without TLS", false},
		{"imap://ann@localhost.example.org?tls=none", "without TLS", false},
		{"imap://ann@mail.example.org?tls=none", "", true},
		{"imap://ann@mail.example.org?tls=maybe", "tls=maybe", false},
		{"imaps://ann@mail.example.org?tls=none", "unknown option", false},
		{"imaps://mail.example.org", "no user name", false},
		{"imaps://ann@mail.example.org?connections=0", "connections=0", false},
		{"imaps://ann@mail.example.org?connections=many", "connections=many", false},
		{"imaps://ann@mail.example.org?ca_file=/does/not/exist", "ca_file", false},
	} {
		src, err := reg.Open(t.Context(), c.where, location.Env{Secret: secret, AllowCleartext: c.clear})
		if c.wrong == "" {
			if err != nil {
				t.Errorf("%s: %v", c.where, err)
			} else {
				src.Close()
			}
			continue
		}
		if !errors.Is(err, location.ErrUsage) || !strings.Contains(err.Error(), c.wrong) || location.Hint(err) == "" {
			t.Errorf("%s: %v (%s)", c.where, err, location.Hint(err))
		}
	}
}

// TestMissing is a folder that is not there, and one that is gone.
func TestMissing(t *testing.T) {
	m := &testmail.Model{}
	src := model(t, m, 1)
	if _, err := src.Open(t.Context(), "Nowhere"); mail.Temporary(err) || mail.ScopeOf(err, 0) != mail.ScopeFolder || !strings.Contains(err.Error(), "Nowhere") {
		t.Error(err)
	}
	inbox(t, src) // the connection is still good
	if n := m.Opened(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestBusyFetch: a server that has had enough ends the folder, not each message.
func TestBusyFetch(t *testing.T) {
	m := &testmail.Model{}
	src := model(t, m, 30)
	box := inbox(t, src)
	all := list(t, box, "")
	m.Fault(testmail.Refuse("UID FETCH", "NO Request is throttled. Suggested Backoff Time: 20000 milliseconds", 0))
	_, wrong, err := fetch(t, box, all, 1)
	var e *mail.Error
	if !errors.As(err, &e) || !e.Temporary || e.Scope != mail.ScopeFolder || e.After != 20*time.Second || len(wrong) > 0 {
		t.Errorf("%v, %v", err, wrong)
	}
}

// TestOverTLS goes the whole way with certificates.
func TestOverTLS(t *testing.T) {
	ca, err := testmail.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		scheme string
		wrong  string
	}{{"implicit", "imaps", ""}, {"starttls", "imap", ""}, {"wrong name", "imaps", "not for"}, {"expired", "imaps", "expired"}, {"nobody's", "imaps", "nobody"}} {
		t.Run(c.name, func(t *testing.T) {
			config := ca.Server()
			switch c.name {
			case "wrong name":
				config = ca.WrongName()
			case "expired":
				config = ca.Expired()
			}
			m := &testmail.Model{TLS: config}
			m.Deliver("INBOX", letters(3)...)
			var addr string
			if c.scheme == "imaps" {
				addr = m.StartTLS(t)
			} else {
				addr = m.Start(t)
			}
			l, err := location.Parse(c.scheme+"://ann@"+addr, "")
			if err != nil {
				t.Fatal(err)
			}
			o, _, err := imapconn.Of(l, location.Env{})
			if err != nil {
				t.Fatal(err)
			}
			o.Password = "secret"
			if c.name != "nobody's" {
				o.Roots = ca.Pool()
			}
			src := newAccount(o, 2, "")
			defer src.Close()
			got, err := run(t, src)
			if c.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), c.wrong) || mail.Temporary(err) || mail.ScopeOf(err, 0) != mail.ScopeAccount {
					t.Error(err)
				}
				return
			}
			if err != nil || len(got) != 3 {
				t.Error(len(got), err)
			}
			if n := m.Count("STARTTLS"); (n > 0) != (c.scheme == "imap") {
				t.Errorf("STARTTLS %d times", n)
			}
		})
	}
}

// TestRefusedPort says which port nobody listens on.
func TestRefusedPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	where, _ := location.Parse("imap://ann@"+addr+"?tls=none", "")
	src, err := Open(t.Context(), where, location.Env{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	_, port, _ := net.SplitHostPort(addr)
	if _, err := src.Folders(t.Context()); err == nil || !strings.Contains(err.Error(), port) || !mail.Temporary(err) {
		t.Error(err)
	}
}
