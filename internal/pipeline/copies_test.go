package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mailhaul/internal/catalog"
	"mailhaul/internal/mail"
	"mailhaul/internal/spool"
	"mailhaul/internal/testmail"
	"mailhaul/source/imap"
)

// A move brings an account to another one, each time as a run of its own.
type move struct {
	t        *testing.T
	from, to *testmail.Model
	addr     string
	dest     string
	dir      string
	options  Options
}

func newMove(t *testing.T, from, to *testmail.Model) *move {
	m := &move{t: t, from: from, to: to, addr: from.Start(t), dest: to.Start(t), dir: filepath.Join(t.TempDir(), "catalog")}
	m.options = Options{Dedup: DedupArchive, Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }}
	return m
}

func (m *move) run() (Report, error) {
	m.t.Helper()
	m.from.Reset()
	m.to.Reset()
	s := toServer(m.dest)
	defer s.Close()
	c, err := catalog.Open(m.t.Context(), catalog.Home{Dir: m.dir, State: ".mailhaul", Format: "imap"}, true, "test")
	if err != nil {
		m.t.Fatal(err)
	}
	defer c.Close()
	if err := c.Admit(m.t.Context(), "imap:ann", true); err != nil {
		m.t.Fatal(err)
	}
	src := imap.OverConn("ann", "secret", 2, func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", m.addr)
	})
	defer src.Close()
	p := &Pipeline{Source: src, Sink: s, Catalog: c, Account: "imap:ann", Options: m.options, Spool: spool.New(filepath.Join(m.dir, ".mailhaul"), spool.Budget)}
	return p.Run(m.t.Context())
}

func (m *move) must() Report {
	m.t.Helper()
	r, err := m.run()
	if err != nil || len(r.Failed)+len(r.InDoubt) > 0 {
		m.t.Fatalf("%v, %+v", err, r)
	}
	for _, n := range r.Notes {
		if strings.Contains(n, "does not add up") {
			m.t.Error(n)
		}
	}
	return r
}

// same wants both accounts to hold the same, with flags and dates, but for what is
// in less.
func (m *move) same(less map[string]int) {
	m.t.Helper()
	key := func(x testmail.Message) string {
		return fmt.Sprintf("%x %s %v", textDigest(x.Raw()), x.Flags.Key(), x.Date.Unix())
	}
	for _, name := range m.from.Names() {
		want := map[string]int{}
		for _, x := range m.from.Mails(name) {
			want[key(x)]++
		}
		for _, x := range m.to.Mails(name) {
			want[key(x)]--
		}
		missing := 0
		for k, n := range want {
			if n < 0 {
				m.t.Errorf("%s: %d too many of %s", name, -n, k)
			}
			missing += max(n, 0)
		}
		if missing != less[name] {
			m.t.Errorf("%s: %d are missing, not %d", name, missing, less[name])
		}
	}
}

// downloads are how many bodies must come from a source that gives each of n
// contents an identity and lists all of the given ones: some are audited.
func downloads(t *testing.T, contents int, shown map[string]int) int {
	t.Helper()
	if len(shown) != contents {
		t.Fatalf("%d identities of %d contents", len(shown), contents)
	}
	n := contents
	for global, times := range shown {
		if audited(global) {
			n += times - 1
		}
	}
	return n
}

// named is a letter, most of them with a Message-ID.
func named(i int) string {
	if i%5 == 4 {
		return letter(i)
	}
	return fmt.Sprintf("Message-ID: <%d@example.org>\r\n", i) + letter(i)
}

// objects fills an account whose server tells what is the same (RFC 8474): n
// contents, most of them in several folders. It tells how often each is shown.
func objects(m *testmail.Model, n int, told bool) map[string]int {
	if told {
		m.Caps = append(slices.Clone(testmail.DefaultCaps), "OBJECTID")
	}
	shown := map[string]int{}
	for i := range n {
		m.Deliver("INBOX", testmail.Letter("x", []byte(named(i)), `\Seen`))
		id := fmt.Sprintf("E:M%d", i+1)
		shown[id]++
		for j, name := range []string{"Work", "Archive", "Lists"} {
			m.Folder(name)
			if i%(j+2) == 0 {
				m.Copy("INBOX", uint32(i+1), name)
				shown[id]++
			}
		}
	}
	return shown
}

// TestCopiesOnce brings each content once, by one download and one upload, and
// completes every folder by copies.
func TestCopiesOnce(t *testing.T) {
	for _, readers := range []int{1, 4} {
		from, to := &testmail.Model{Cleartext: true}, &testmail.Model{Cleartext: true}
		shown := objects(from, 60, true)
		m := newMove(t, from, to)
		m.options.Readers = readers
		r := m.must()
		all := 60 + 30 + 20 + 15
		if r.Total.Stored != 60 || r.Total.Duplicate != int64(all-60) || to.Count("APPEND") != 60 || to.Count("UID STORE") != 0 {
			t.Errorf("%d readers: %+v after %d uploads", readers, r.Total, to.Count("APPEND"))
		}
		if want := downloads(t, 60, shown); from.Bodies() != want {
			t.Errorf("%d readers: %d downloads, not %d", readers, from.Bodies(), want)
		}
		for path, n := range map[mail.Path]int64{"INBOX": 60, "Work": 30, "Archive": 20, "Lists": 15} {
			if h := r.There[path]; h == nil || h.Before != 0 || h.Added != n || h.After != n {
				t.Errorf("%d readers: %s: %+v", readers, path, h)
			}
		}
		m.same(nil)
		if to.Bodies() != 0 {
			t.Errorf("%d readers: %d downloads from the destination", readers, to.Bodies())
		}
		r = m.must()
		if r.Total.Known != int64(all) || to.Count("APPEND")+to.Count("UID COPY") != 0 {
			t.Errorf("%d readers: again: %+v", readers, r.Total)
		}
		from.Untouched(t)
	}
}

// TestCopiesOfLabels is a source whose folders are labels.
func TestCopiesOfLabels(t *testing.T) {
	from, to := &testmail.Model{Cleartext: true}, &testmail.Model{Cleartext: true}
	from.Gmail()
	for i := range 30 {
		raw := testmail.Letter("x", []byte(named(i)))
		from.Deliver("INBOX", raw)
		for _, label := range []string{"Work", "Größe"}[:i%3] {
			from.Folder(label)
			from.Deliver(label, raw)
		}
	}
	m := newMove(t, from, to)
	r := m.must()
	more := 0
	for i := range 30 {
		if audited(fmt.Sprintf("G:%d", 1700000000000000001+i)) {
			more += 1 + i%3
		}
	}
	if r.Total.Stored != 30 || r.Total.Duplicate != 60 || to.Count("APPEND") != 30 || from.Bodies() != 30+more {
		t.Errorf("%+v after %d uploads and %d downloads (%d more)", r.Total, to.Count("APPEND"), from.Bodies(), more)
	}
	m.same(nil)
}

// TestCopiesByDigest is a source that does not tell what is the same: all is
// downloaded, and each content is uploaded once.
func TestCopiesByDigest(t *testing.T) {
	from, to := &testmail.Model{Cleartext: true}, &testmail.Model{Cleartext: true}
	objects(from, 20, false)
	m := newMove(t, from, to)
	m.options.Readers = 1
	r := m.must()
	if r.Total.Stored != 20 || r.Total.Duplicate != 22 || to.Count("APPEND") != 20 || from.Bodies() != 42 {
		t.Errorf("%+v after %d uploads, %d downloads", r.Total, to.Count("APPEND"), from.Bodies())
	}
	m.same(nil)
}

// TestCopiesInScope: who wants it otherwise gets it otherwise, and so does who has
// another destination.
func TestCopiesInScope(t *testing.T) {
	for _, c := range []struct {
		dedup   Dedup
		caps    []string
		appends int
		copies  bool
	}{
		{DedupArchive, testmail.DefaultCaps, 20, true},
		{DedupOff, testmail.DefaultCaps, 42, false},
		{DedupFolder, testmail.DefaultCaps, 42, false},
		{DedupOff, testmail.PlainCaps, 42, false},
	} {
		from, to := &testmail.Model{Cleartext: true}, &testmail.Model{Cleartext: true, Caps: c.caps}
		objects(from, 20, true)
		m := newMove(t, from, to)
		m.options.Dedup = c.dedup
		m.must()
		if to.Count("APPEND") != c.appends || (to.Count("UID COPY") > 0) != c.copies || to.Bodies() != 0 && len(c.caps) > 1 {
			t.Errorf("%+v: %d uploads, %d copies, %d downloads there", c, to.Count("APPEND"), to.Count("UID COPY"), to.Bodies())
		}
		m.same(nil)
	}
}

// TestCopiesFollowTheirOwn: a copy begins with the flags of its location, by an
// upload where they are others, and follows those later.
func TestCopiesFollowTheirOwn(t *testing.T) {
	from, to := &testmail.Model{Cleartext: true}, &testmail.Model{Cleartext: true}
	objects(from, 4, true)
	from.SetFlags("Work", 2, `\Flagged`)
	m := newMove(t, from, to)
	r := m.must()
	if to.Count("APPEND") != 5 || r.Total.Stored != 5 {
		t.Errorf("%d uploads, %+v", to.Count("APPEND"), r.Total)
	}
	m.same(nil)
	for i, name := range []string{"INBOX", "Work", "Archive"} {
		from.SetFlags(name, 1, `\Seen`, fmt.Sprint("Only", i))
	}
	r = m.must()
	if r.Total.Flagged != 3 || to.Count("APPEND")+to.Count("UID COPY") != 0 {
		t.Errorf("%+v", r.Total)
	}
	m.same(nil)
	// A further copy has the flags that it has now, by whichever has them.
	from.Copy("Archive", 1, "Late")
	from.Copy("INBOX", 1, "Late")
	r = m.must()
	if r.Total.Spared != 2 || to.Count("APPEND") != 0 {
		t.Errorf("%+v, %d uploads", r.Total, to.Count("APPEND"))
	}
	m.same(nil)
}

// TestCopiesRefused is what the destination does not copy, for whatever reason:
// everything arrives all the same, each downloaded once, and nothing is there twice.
func TestCopiesRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		keeper testmail.Keeper
		fault  testmail.Fault
		told   bool
		dates  bool // differ there
	}{
		{"refused", testmail.Keeper{}, testmail.Refuse("UID COPY", "NO [CANNOT] no", 0), true, false},
		{"unknown", testmail.Keeper{}, testmail.Refuse("UID COPY", "BAD no", 0), true, false},
		{"not done", testmail.Keeper{}, testmail.Refuse("UID COPY", "OK done", 0), true, false},
		{"refused, not told", testmail.Keeper{}, testmail.Refuse("UID COPY", "NO [CANNOT] no", 0), false, false},
		{"dates of its own", testmail.Keeper{Redate: func(d time.Time) time.Time { return d.Add(time.Hour) }}, nil, true, true},
		{"dates of its own, not told", testmail.Keeper{Redate: func(d time.Time) time.Time { return d.Add(time.Hour) }}, nil, false, true},
	} {
		for _, readers := range []int{1, 4} {
			from, to := &testmail.Model{Cleartext: true}, &testmail.Model{Cleartext: true, Keeper: c.keeper}
			objects(from, 40, c.told)
			if c.fault != nil {
				to.Fault(c.fault)
			}
			m := newMove(t, from, to)
			m.options.Readers = readers
			m.options.Batch.Messages = 8
			r := m.must()
			if n := to.Count("APPEND"); n != 84 || r.Total.Stored+r.Total.Duplicate != 84 {
				t.Errorf("%s, %d readers: %d uploads, %+v", c.name, readers, n, r.Total)
			}
			looks := 0 // each of them in vain
			for _, x := range to.Commands() {
				if x.Verb == "UID FETCH" && strings.Contains(x.Args, "(UID FLAGS INTERNALDATE RFC822.SIZE)") {
					looks++
				}
			}
			if readers == 1 && looks > 3 {
				t.Errorf("%s: %d looks at what cannot be copied", c.name, looks)
			}
			if c.told && from.Bodies() != 84 {
				t.Errorf("%s, %d readers: %d downloads", c.name, readers, from.Bodies())
			}
			if !c.dates {
				m.same(nil)
			}
			for name, n := range map[string]int{"INBOX": 40, "Work": 20, "Archive": 14, "Lists": 10} {
				if got := len(to.Mails(name)); got != n {
					t.Errorf("%s, %d readers: %s holds %d, not %d", c.name, readers, name, got, n)
				}
			}
			if r := m.must(); to.Count("APPEND") != 0 || r.Total.Known != 84 {
				t.Errorf("%s, %d readers: again: %+v", c.name, readers, r.Total)
			}
		}
	}
}

// TestCopiesApart: what differs in its flags waits for nobody, and is downloaded no
// more than once.
func TestCopiesApart(t *testing.T) {
	from, to := &testmail.Model{Cleartext: true}, &testmail.Model{Cleartext: true}
	for i := range 60 {
		for j, name := range []string{"INBOX", "Work", "Archive", "Lists"} {
			from.Deliver(name, testmail.Letter("x", []byte(named(i)), []string{`\Seen`, `\Flagged`, "Work", "Lists"}[j]))
		}
	}
	m := newMove(t, from, to)
	m.options.Readers = 4
	if r := m.must(); r.Total.Stored != 240 || from.Bodies() != 240 {
		t.Errorf("%+v, %d downloads", r.Total, from.Bodies())
	}
	m.same(nil)
}

// TestCopiesOfOne has one message in many folders at once, and a destination that
// copies none of it.
func TestCopiesOfOne(t *testing.T) {
	for _, told := range []bool{true, false} {
		from, to := &testmail.Model{Cleartext: true}, &testmail.Model{Cleartext: true}
		if told {
			from.Caps = append(slices.Clone(testmail.DefaultCaps), "OBJECTID")
		}
		to.Keep(func(k *testmail.Keeper) { k.Redate = func(d time.Time) time.Time { return d.Add(time.Hour) } })
		from.Deliver("INBOX", testmail.Letter("x", []byte(named(1))))
		for i := range 11 {
			from.Copy("INBOX", 1, fmt.Sprint("Folder ", i))
		}
		m := newMove(t, from, to)
		m.options.Readers = 12
		if r := m.must(); r.Total.Stored != 12 || from.Bodies() > 23 {
			t.Errorf("%+v, %d downloads", r.Total, from.Bodies())
		}
	}
}

// movedInbox is a move that has brought an INBOX of six messages.
func movedInbox(t *testing.T, from, to *testmail.Model) *move {
	t.Helper()
	from.Caps = append(slices.Clone(testmail.DefaultCaps), "OBJECTID")
	for i := range 6 {
		from.Deliver("INBOX", testmail.Letter("x", []byte(named(i)), `\Seen`))
	}
	m := newMove(t, from, to)
	m.must()
	return m
}

// TestCopiesOfWhatIsGone: what its owner takes away at the destination, before a
// run or under one, is not missed anywhere else, and does not come back there.
func TestCopiesOfWhatIsGone(t *testing.T) {
	for _, c := range []struct {
		name string
		when string // the verb that it happens before; empty: before the run
		do   func(to *testmail.Model)
		less map[string]int
	}{
		{"expunged", "", func(to *testmail.Model) { to.Expunge("INBOX", 1, 2) }, map[string]int{"INBOX": 2}},
		{"expunged before the look", "UID FETCH", func(to *testmail.Model) { to.Expunge("INBOX", 1, 2) }, map[string]int{"INBOX": 2}},
		{"expunged before the copy", "UID COPY", func(to *testmail.Model) { to.Expunge("INBOX", 1, 2) }, map[string]int{"INBOX": 2}},
		{"renumbered", "", func(to *testmail.Model) { to.Renumber("INBOX") }, nil},
		{"renumbered under way", "UID FETCH", func(to *testmail.Model) { to.Renumber("INBOX") }, nil},
		{"the folder is deleted", "", func(to *testmail.Model) { to.DeleteFolder("INBOX") }, map[string]int{"INBOX": 6}},
	} {
		from, to := &testmail.Model{Cleartext: true}, &testmail.Model{Cleartext: true}
		m := movedInbox(t, from, to)
		for i := range 6 {
			from.Copy("INBOX", uint32(i+1), "Work")
		}
		if c.when == "" {
			c.do(to)
		} else {
			done := false
			to.Fault(func(x testmail.Command) *testmail.Reply {
				if x.Verb == c.when && !done {
					done = true
					c.do(to)
				}
				return nil
			})
		}
		for range 3 {
			m.must()
			m.same(c.less)
		}
		if t.Failed() {
			t.Fatalf("%s", c.name)
		}
	}
}

// TestCopiesOfWhatHasChanged: a message that has been given other flags at the
// destination is not copied with these.
func TestCopiesOfWhatHasChanged(t *testing.T) {
	from, to := &testmail.Model{Cleartext: true}, &testmail.Model{Cleartext: true}
	objects(from, 1, true)
	m := newMove(t, from, to)
	m.must()
	to.SetFlags("Archive", 1, `\Answered`)
	to.SetFlags("Lists", 1, `\Answered`)
	to.SetFlags("Work", 1, `\Answered`)
	to.SetFlags("INBOX", 1, `\Answered`)
	from.Copy("INBOX", 1, "Late")
	if r := m.must(); r.Total.Stored != 1 || to.Count("APPEND") != 1 || from.Bodies() != 1 {
		t.Errorf("%+v, %d uploads", r.Total, to.Count("APPEND"))
	}
	if got := to.Mails("Late"); len(got) != 1 || got[0].Flags.Key() != `\Seen` {
		t.Errorf("%+v", got)
	}
}

// TestCopiesAmongStrangers: in a folder that others have filled a message is
// recognised that would be copied there, though it was not even downloaded.
func TestCopiesAmongStrangers(t *testing.T) {
	from, to := &testmail.Model{Cleartext: true}, &testmail.Model{Cleartext: true}
	m := movedInbox(t, from, to)
	for i := range 6 {
		from.Copy("INBOX", uint32(i+1), "Work")
		if i%2 == 0 {
			to.Deliver("Work", testmail.Letter("x", []byte(named(i)), `\Seen`))
		}
	}
	r := m.must()
	m.same(nil)
	if r.Total.Present != 3 || r.Total.Spared != 6 || to.Count("APPEND") != 0 || from.Bodies() != 0 {
		t.Errorf("%+v, %d uploads, %d downloads", r.Total, to.Count("APPEND"), from.Bodies())
	}
}

// TestCopiesByChance moves accounts made by chance to servers on which something
// goes wrong, until it is done: then both hold the same, and nothing is left to do.
func TestCopiesByChance(t *testing.T) {
	programs := 150
	if testing.Short() {
		programs = 25
	}
	for seed := range programs {
		r := rand.New(rand.NewPCG(uint64(seed), 11))
		from, to := &testmail.Model{Cleartext: true}, &testmail.Model{Cleartext: true, Numbers: 5000}
		if r.IntN(3) > 0 {
			from.Caps = append(slices.Clone(testmail.DefaultCaps), "OBJECTID")
		}
		to.Caps = slices.Clone(testmail.DefaultCaps)
		if r.IntN(2) == 0 {
			to.Caps = append(to.Caps, "MULTIAPPEND")
		}
		names := []string{"INBOX", "Work", "Archive", "Work/Old"}
		flags := []string{`\Seen`, `\Flagged`, "Work"}
		grow := func(n int) {
			for range n {
				name := names[r.IntN(len(names))]
				uids := []uint32(nil)
				from.Folder(name)
				if uids = from.UIDs(name); len(uids) > 0 && r.IntN(3) > 0 {
					to := names[r.IntN(len(names))]
					uid := from.Copy(name, uids[r.IntN(len(uids))], to)
					if r.IntN(4) == 0 {
						from.SetFlags(to, uid, flags[:r.IntN(3)]...)
					}
					continue
				}
				from.Deliver(name, testmail.Letter("x", []byte(named(r.IntN(9))), flags[:r.IntN(2)]...))
			}
		}
		m := newMove(t, from, to)
		m.options.Readers = 1 + 3*r.IntN(2)
		m.options.Batch.Messages = 1 + r.IntN(9)
		for range 3 {
			grow(4 + r.IntN(12))
			verb := []string{"UID COPY", "UID FETCH", "APPEND", "EXAMINE", "STATUS"}[r.IntN(5)]
			switch r.IntN(6) {
			case 0:
				to.Fault(testmail.Lose(verb, 1+r.IntN(2)))
			case 1:
				to.Fault(testmail.Hangup(verb, 1+r.IntN(2)))
			case 2:
				to.Cut(testmail.Cut{After: int64(100 + r.IntN(6000))})
			case 3:
				to.Cut(testmail.Cut{Heard: int64(100 + r.IntN(4000))})
			case 4:
				to.Fault(testmail.Refuse("UID COPY", "NO [CANNOT] not this time", 1+r.IntN(2)))
			}
			var err error
			for range 5 {
				var report Report
				if report, err = m.run(); err == nil && len(report.Failed) == 0 {
					break
				}
				if err == nil {
					err = errors.New(report.Failed[0].Reason)
				}
			}
			if err != nil {
				t.Fatalf("program %d: %v", seed, err)
			}
			to.Heal()
			if m.must(); to.Count("APPEND")+to.Count("UID COPY") > 0 {
				t.Errorf("program %d: one more run brings something", seed)
			}
			if m.same(nil); t.Failed() {
				t.Fatalf("program %d", seed)
			}
		}
		from.Close()
		to.Close()
	}
}
