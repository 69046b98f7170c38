package catalog

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mailhaul/internal/durable"
	"mailhaul/internal/mail"
	"mailhaul/sink"
	"mailhaul/source"
)

const ann = "imap:ann@example.org"

func home(t *testing.T) Home {
	return Home{Dir: filepath.Join(t.TempDir(), "a b?%c"), State: ".mailhaul", Format: "mbox"}
}

func open(t *testing.T, h Home) *Catalog {
	t.Helper()
	c, err := Open(t.Context(), h, true, "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Admit(t.Context(), ann, false); err != nil {
		t.Fatal(err)
	}
	if err := c.StartRun(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	return c
}

func box(t *testing.T, c *Catalog, path mail.Path, epoch string) *Box {
	t.Helper()
	b, err := c.Box(t.Context(), ann, source.Folder{Path: path, Raw: "raw\xff" + string(path)}, path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Enter(t.Context(), b, epoch); err != nil {
		t.Fatal(err)
	}
	return b
}

func entry(id int) source.Entry {
	return source.Entry{ID: source.ID(fmt.Sprint(id)), Size: int64(100 + id), Date: time.Unix(1e9+int64(id), 0),
		Flags: mail.NewFlags(`\Seen`), Global: fmt.Sprintf("E:%d", id)}
}

func record(b *Box, id int) Record {
	return Record{Box: b, Entry: entry(id), Ends: mail.Ends{Kind: mail.EndsCRLF},
		Want: sink.Want{Name: fmt.Sprint("n", id), Digest: sha256.Sum256([]byte{byte(id)}), Text: int64(id), Lines: 1}}
}

// store commits messages with these IDs in b.
func store(t *testing.T, c *Catalog, b *Box, ids ...int) {
	t.Helper()
	batch := &Batch{Folder: b.Sink, Mark: "0"}
	var done []Outcome
	for _, id := range ids {
		batch.Records = append(batch.Records, record(b, id))
		done = append(done, Outcome{Record: record(b, id), Folder: b.Sink, Place: sink.Place(fmt.Sprint("p", id))})
	}
	n, err := c.Begin(t.Context(), batch)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Commit(t.Context(), n, done, b.Sink, sink.State("after")); err != nil {
		t.Fatal(err)
	}
}

func TestIntentionOutlivesItsRun(t *testing.T) {
	h := home(t)
	c := open(t, h)
	b := box(t, c, "INBOX", "7")
	if _, err := c.Begin(t.Context(), &Batch{Folder: "INBOX", Mark: "12", Records: []Record{record(b, 1), record(b, 2)}}); err != nil {
		t.Fatal(err)
	}
	c.Close()
	c = open(t, h)
	ids, all, err := c.Unsettled(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatalf("%d intentions, %v", len(all), err)
	}
	got := all[0]
	if got.Mark != "12" || got.Folder != "INBOX" || len(got.Records) != 2 || got.Records[1].Entry.ID != "2" || got.Records[1].Box.Epoch != "7" {
		t.Fatalf("intention came back as %+v", got)
	}
	// One arrived, one did not, and is unknown again.
	done := []Outcome{{Record: got.Records[0], Folder: "INBOX", Place: "p1"}, {Record: got.Records[1]}}
	if _, err := c.Commit(t.Context(), ids[0], done, "INBOX", "s"); err != nil {
		t.Fatal(err)
	}
	known, _, err := c.Compare(t.Context(), box(t, c, "INBOX", "7"), []source.Entry{entry(1), entry(2)}, "", false)
	if err != nil || !known[0].Is || known[1].Is {
		t.Fatalf("known: %+v, %v", known, err)
	}
	if _, all, _ := c.Unsettled(t.Context()); len(all) != 0 {
		t.Fatal("the intention is still there")
	}
}

func TestCompare(t *testing.T) {
	c := open(t, home(t))
	b := box(t, c, "INBOX", "1")
	store(t, c, b, 1, 3, 5, 9)
	odd := entry(3)
	odd.Size++
	known, gone, err := c.Compare(t.Context(), b, []source.Entry{entry(2), odd, entry(5), entry(7)}, "", false)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{false, false, true, false} {
		if known[i].Is != want {
			t.Errorf("entry %d: known %v, want %v", i, known[i].Is, want)
		}
	}
	if !known[2].Fresh || known[2].At.Place != "p5" || known[2].At.Folder != "INBOX" {
		t.Errorf("known is %+v", known[2])
	}
	if diff := cmp.Diff(gone, []source.ID{"1"}); diff != "" {
		t.Error(diff)
	}
	beyond, err := c.Beyond(t.Context(), b, "7", nil)
	if diff := cmp.Diff(beyond, []source.ID{"9"}); diff != "" || err != nil {
		t.Error(diff, err)
	}
	// With gaps, or out of order, nothing can be said to be gone.
	for _, gaps := range []bool{true, false} {
		known, gone, err = c.Compare(t.Context(), b, []source.Entry{entry(9), entry(1)}, "", gaps)
		if err != nil || !known[0].Is || !known[1].Is || len(gone) != 0 {
			t.Errorf("%+v, %v, %v", known, gone, err)
		}
	}
	if removed, err := c.Gone(t.Context(), b, []source.ID{"1"}); err != nil || len(removed) > 0 {
		t.Fatal(removed, err)
	}
	if err := c.Finish(t.Context(), b, "cursor", time.Time{}); err != nil {
		t.Fatal(err)
	}
	if n, _ := c.Live(t.Context(), b); n != 3 {
		t.Errorf("%d are live", n)
	}
	if b2 := box(t, c, "INBOX", "1"); b2.Cursor != "cursor" {
		t.Errorf("cursor is %q", b2.Cursor)
	}
}

// TestWithin looks numbers up in spans of any order, many and few.
func TestWithin(t *testing.T) {
	c := open(t, home(t))
	b := box(t, c, "INBOX", "1")
	store(t, c, b, 1, 3, 5, 6, 7, 9, 4000, 4001)
	store(t, c, box(t, c, "Work", "1"), 2, 4)
	if _, err := c.Gone(t.Context(), b, []source.ID{"6"}); err != nil {
		t.Fatal(err)
	}
	var gaps []source.Span // all but the numbers that 3 divides, and twice those before 20
	for n := uint64(1); n < 9000; n += 3 {
		gaps = append(gaps, source.Span{First: n, Last: n + 1})
		if n < 20 {
			gaps = append(gaps, source.Span{First: n, Last: n})
		}
	}
	slices.Reverse(gaps)
	most := uint64(math.MaxUint64)
	for _, x := range []struct {
		name  string
		spans []source.Span
		want  []source.ID
	}{
		{"none", nil, nil},
		{"all", []source.Span{{First: 0, Last: most}}, []source.ID{"1", "3", "5", "7", "9", "4000", "4001"}},
		{"nothing there", []source.Span{{First: 10, Last: 3999}, {First: 2, Last: 2}, {First: 6, Last: 6}, {First: 4002, Last: most}}, nil},
		{"overlap", []source.Span{{First: 5, Last: 8}, {First: 3, Last: 5}, {First: 7, Last: 7}}, []source.ID{"3", "5", "7"}},
		{"backwards", []source.Span{{First: 9, Last: 1}, {First: most, Last: most}}, nil},
		{"gaps", gaps, []source.ID{"1", "5", "7", "4000", "4001"}},
	} {
		before := slices.Clone(x.spans)
		got, err := c.Within(t.Context(), b, x.spans)
		if diff := cmp.Diff(x.want, got); diff != "" || err != nil {
			t.Errorf("%s: %s, %v", x.name, diff, err)
		}
		if !slices.Equal(before, x.spans) {
			t.Errorf("%s: the caller's spans are not as they were", x.name)
		}
	}
}

func TestTextIDs(t *testing.T) {
	c := open(t, home(t))
	b := box(t, c, "INBOX", "pop")
	for _, id := range []source.ID{"abc", "007", "0", "-1", "9223372036854775808", "a\xff\x00b"} {
		r := record(b, 1)
		r.Entry.ID = id
		n, err := c.Begin(t.Context(), &Batch{Folder: "INBOX", Records: []Record{r}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Commit(t.Context(), n, []Outcome{{Record: r, Folder: "INBOX", Place: "p"}}, "INBOX", ""); err != nil {
			t.Fatal(err)
		}
		if known, _, err := c.Compare(t.Context(), b, []source.Entry{r.Entry}, "", false); err != nil || !known[0].Is {
			t.Errorf("%q is not known: %v", id, err)
		}
	}
	if n, _ := c.Live(t.Context(), b); n != 6 {
		t.Errorf("%d locations for six IDs", n)
	}
	gone, err := c.Beyond(t.Context(), b, "", map[source.ID]struct{}{"abc": {}, "007": {}, "0": {}, "-1": {}, "a\xff\x00b": {}})
	if diff := cmp.Diff(gone, []source.ID{"9223372036854775808"}); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

func TestEpochs(t *testing.T) {
	h := home(t)
	c := open(t, h)
	b := box(t, c, "INBOX", "1")
	store(t, c, b, 1)
	stored, _ := c.Find(t.Context(), sha256.Sum256([]byte{1}))
	held := func() bool { h, _ := c.Held(t.Context(), b, stored[0].Message); return h }
	if !held() {
		t.Fatal("a live location does not hold its message")
	}
	for _, step := range []struct{ epoch, name string }{{"2", "2"}, {"2", "2"}, {"1", "1#1"}, {"1", "1#1"}, {"2", "2#1"}} {
		if _, err := c.Enter(t.Context(), b, step.epoch); err != nil || b.Epoch != step.name {
			t.Fatalf("epoch %s is filed as %s, want %s (%v)", step.epoch, b.Epoch, step.name, err)
		}
		known, _, _ := c.Compare(t.Context(), b, []source.Entry{entry(1)}, "", false)
		if known[0].Is {
			t.Fatalf("known in epoch %s", b.Epoch)
		}
	}
	if held() {
		t.Error("history holds a message")
	}
	if err := c.Rewind(t.Context(), b); err != nil || b.Epoch != "2#2" || b.Cursor != "" {
		t.Fatalf("rewound to %q, %v", b.Epoch, err)
	}
}

func TestFailures(t *testing.T) {
	c := open(t, home(t))
	b := box(t, c, "INBOX", "1")
	c.Fail(t.Context(), b, entry(4), "first")
	c.Fail(t.Context(), b, entry(4), "second")
	all, err := c.Failures(t.Context(), b)
	if err != nil || len(all) != 1 || all[0].Tries != 2 || all[0].Reason != "second" || !all[0].Entry.Date.Equal(entry(4).Date) {
		t.Fatalf("%+v, %v", all, err)
	}
	store(t, c, b, 4)
	if all, _ = c.Failures(t.Context(), b); len(all) != 0 {
		t.Error("a stored message is still a failure")
	}
}

// doubt commits that nobody knows whether a message arrived.
func doubt(t *testing.T, c *Catalog, b *Box, id int) {
	t.Helper()
	r := record(b, id)
	n, err := c.Begin(t.Context(), &Batch{Folder: b.Sink, Records: []Record{r}})
	if err != nil {
		t.Fatal(err)
	}
	lost := fmt.Errorf("the line broke: %w", sink.ErrUnknown)
	if _, err := c.Commit(t.Context(), n, []Outcome{{Record: r, Folder: b.Sink, Err: lost, Note: "to x"}}, b.Sink, ""); err != nil {
		t.Fatal(err)
	}
}

// TestDoubt: a doubt outlives everything but the message's being stored.
func TestDoubt(t *testing.T) {
	h := home(t)
	c := open(t, h)
	b := box(t, c, "INBOX", "7")
	doubt(t, c, b, 4)
	c.Close()
	c = open(t, h)
	b = box(t, c, "INBOX", "7")
	check := func(reason string) {
		t.Helper()
		all, err := c.Failures(t.Context(), b)
		if err != nil || len(all) != 1 {
			t.Fatalf("%+v, %v", all, err)
		}
		f := all[0]
		if !f.Doubt || f.Digest != record(b, 4).Want.Digest || f.Note != "to x" || f.Reason != reason || f.Entry.ID != "4" {
			t.Errorf("%+v", f)
		}
		if d, err := c.Doubts(t.Context()); err != nil || len(d) != 1 || !d[f.Digest] {
			t.Errorf("%v, %v", d, err)
		}
	}
	check("the line broke: cannot tell whether the message arrived")
	c.Fail(t.Context(), b, entry(4), "not fetched")
	check("not fetched")
	store(t, c, b, 4)
	all, err := c.Failures(t.Context(), b)
	if d, derr := c.Doubts(t.Context()); len(all)+len(d) != 0 || err != nil || derr != nil {
		t.Errorf("still %+v, %v", all, d)
	}
}

func TestGlobal(t *testing.T) {
	c := open(t, home(t))
	b := box(t, c, "INBOX", "1")
	store(t, c, b, 4)
	twin, ok, err := c.FindGlobal(t.Context(), ann, "E:4", 104)
	if err != nil || !ok || twin.At.Place != "p4" || twin.Ends.Kind != mail.EndsCRLF {
		t.Fatalf("%+v %v %v", twin, ok, err)
	}
	for name, f := range map[string]func() (Twin, bool, error){
		"another size":    func() (Twin, bool, error) { return c.FindGlobal(t.Context(), ann, "E:4", 105) },
		"another account": func() (Twin, bool, error) { return c.FindGlobal(t.Context(), "imap:x@y", "E:4", 104) },
		"no identity":     func() (Twin, bool, error) { return c.FindGlobal(t.Context(), ann, "", 104) },
	} {
		if _, ok, err := f(); ok || err != nil {
			t.Errorf("%s: found %v, %v", name, ok, err)
		}
	}
}

// TestAlike finds copies by the flags and dates that they have, and remembers what
// a content is recognised by once it is told to.
func TestAlike(t *testing.T) {
	h := home(t)
	c := open(t, h)
	b := box(t, c, "INBOX", "1")
	store(t, c, b, 4)
	e := entry(4)
	d := record(b, 4).Want.Digest
	if _, ok, err := c.FindGlobalAlike(t.Context(), ann, &e); ok || err != nil {
		t.Errorf("found without hints: %v, %v", ok, err)
	}
	if _, _, known, err := c.Hints(t.Context(), d); known || err != nil {
		t.Errorf("hints %v, %v", known, err)
	}
	work := box(t, c, "Work", "1")
	r := record(work, 4)
	r.Entry.Flags, r.Entry.Date = mail.NewFlags("Work"), time.Unix(1e9, 0)
	r.Hints, r.Want.MessageID, r.Want.Head = true, "<4@example.org>", sha256.Sum256([]byte("head"))
	for range 2 {
		n, err := c.Begin(t.Context(), &Batch{Folder: "Work", Records: []Record{r}})
		if err != nil {
			t.Fatal(err)
		}
		_, batches, err := c.Unsettled(t.Context())
		if err != nil || len(batches) != 1 || !batches[0].Records[0].Hints {
			t.Fatalf("%+v, %v", batches, err)
		}
		if _, err := c.Commit(t.Context(), n, []Outcome{{Record: batches[0].Records[0], Folder: "Work", Place: "w4"}}, "Work", ""); err != nil {
			t.Fatal(err)
		}
	}
	c.Close()
	c = open(t, h)
	b = box(t, c, "INBOX", "1")
	if id, head, known, err := c.Hints(t.Context(), d); !known || err != nil || id != "<4@example.org>" || head != r.Want.Head {
		t.Errorf("hints %q, %v, %v, %v", id, head, known, err)
	}
	for _, x := range []struct {
		name  string
		entry source.Entry
		at    sink.Place
	}{
		{"the first", e, "p4"},
		{"the second", r.Entry, "w4"},
		{"other flags", source.Entry{Global: e.Global, Size: e.Size, Date: e.Date, Flags: mail.NewFlags("Work", "Home")}, ""},
		{"no date", source.Entry{Global: e.Global, Size: e.Size, Flags: e.Flags}, ""},
	} {
		all, err := c.Alike(t.Context(), d, &x.entry)
		if err != nil || (x.at == "") != (len(all) == 0) || x.at != "" && all[0].Place != x.at {
			t.Errorf("%s: %+v, %v", x.name, all, err)
		}
		twin, ok, err := c.FindGlobalAlike(t.Context(), ann, &x.entry)
		if err != nil || ok != (x.at != "") || twin.At.Place != x.at {
			t.Errorf("%s: %+v, %v, %v", x.name, twin, ok, err)
		}
	}
	if err := c.Reflag(t.Context(), b, []Change{{ID: "4", Flags: mail.NewFlags("Home")}}); err != nil {
		t.Fatal(err)
	}
	if all, err := c.Alike(t.Context(), d, &e); err != nil || len(all) != 0 {
		t.Errorf("%+v have flags of before, %v", all, err)
	}
}

func TestLostAndReconciled(t *testing.T) {
	c := open(t, home(t))
	b := box(t, c, "INBOX", "1")
	store(t, c, b, 1, 2)
	c.Finish(t.Context(), b, "cursor", time.Time{})
	stored, _ := c.Find(t.Context(), sha256.Sum256([]byte{1}))
	if err := c.Lose(t.Context(), []int64{stored[0].Message}); err != nil {
		t.Fatal(err)
	}
	if all, _ := c.Find(t.Context(), sha256.Sum256([]byte{1})); len(all) != 0 {
		t.Error("a lost message is found")
	}
	b = box(t, c, "INBOX", "1")
	known, _, _ := c.Compare(t.Context(), b, []source.Entry{entry(1), entry(2)}, "", false)
	if known[0].Is || !known[1].Is || b.Cursor != "" {
		t.Errorf("%+v, cursor %q", known, b.Cursor)
	}
	if lost, err := c.Reconcile(t.Context()); err != nil || len(lost) != 1 {
		t.Fatalf("%d lost, %v", len(lost), err)
	}
	store(t, c, b, 1)
	if lost, err := c.Reconcile(t.Context()); err != nil || len(lost) != 0 {
		t.Fatalf("%d lost, %v", len(lost), err)
	}
}

func TestManifestFollowsTheCatalog(t *testing.T) {
	h := home(t)
	c := open(t, h)
	b := box(t, c, "INBOX", "1")
	store(t, c, b, 1, 2)
	c.Reflag(t.Context(), b, []Change{{ID: "2", Flags: mail.NewFlags("Work", `\Draft`), Labels: []string{"a b"}}})
	c.Close()
	name := filepath.Join(h.Dir, manifestName)
	whole := func() map[string]Line {
		all := map[string]Line{}
		if err := ReadManifest(h.Dir, func(l Line) error {
			if l.Place == "" {
				old := all[l.ID]
				old.Flags, old.Labels = l.Flags, l.Labels
				l = old
			}
			all[l.ID] = l
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return all
	}
	first := whole()
	if l := first["2"]; len(first) != 2 || l.Place != "p2" || len(l.Flags) != 2 || l.Labels[0] != "a b" || l.Raw != "raw\xffINBOX" || l.Ends != "crlf" {
		t.Fatalf("manifest is %+v", first)
	}
	data, _ := os.ReadFile(name)
	for what, damage := range map[string]func(){
		"gone":     func() { os.Remove(name) },
		"torn":     func() { os.Truncate(name, int64(len(data)-5)) },
		"too long": func() { os.WriteFile(name, append(data, "{\"account\""...), 0o600) },
	} {
		damage()
		open(t, h).Close()
		if diff := cmp.Diff(whole(), first); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	if fi, err := os.Stat(name); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Run("a second run", func(t *testing.T) {
		h := home(t)
		open(t, h)
		var locked *durable.Locked
		if _, err := Open(t.Context(), h, false, "other"); !errors.As(err, &locked) || locked.PID != os.Getpid() || locked.Command != "test" {
			t.Fatalf("error is %v", err)
		}
	})
	t.Run("a missing archive", func(t *testing.T) {
		if _, err := Open(t.Context(), home(t), false, ""); !errors.Is(err, ErrNone) {
			t.Fatalf("error is %v", err)
		}
	})
	t.Run("a directory of others", func(t *testing.T) {
		h := home(t)
		os.MkdirAll(h.Dir, 0o700)
		os.WriteFile(filepath.Join(h.Dir, "thesis.tex"), nil, 0o600)
		if _, err := Open(t.Context(), h, true, ""); !errors.Is(err, ErrForeign) {
			t.Fatalf("error is %v", err)
		}
	})
	t.Run("another format", func(t *testing.T) {
		h := home(t)
		open(t, h).Close()
		h.Format = "maildir"
		if _, err := Open(t.Context(), h, true, ""); !errors.Is(err, ErrOtherFormat) {
			t.Fatalf("error is %v", err)
		}
	})
	t.Run("a newer schema", func(t *testing.T) {
		h := home(t)
		c := open(t, h)
		c.exec("PRAGMA user_version=99")
		c.Close()
		if _, err := Open(t.Context(), h, true, ""); err == nil || !strings.Contains(err.Error(), "newer") {
			t.Fatalf("error is %v", err)
		}
	})
	t.Run("nothing: an older schema is brought up to date", func(t *testing.T) {
		h := home(t)
		c := open(t, h)
		b := box(t, c, "INBOX", "7")
		store(t, c, b, 1)
		c.Fail(t.Context(), b, entry(2), "no")
		// What versions 3 to 6 have added.
		for _, added := range []string{"ALTER TABLE failure DROP COLUMN doubt", "ALTER TABLE failure DROP COLUMN digest",
			"ALTER TABLE failure DROP COLUMN note", "ALTER TABLE failure DROP COLUMN accepted",
			"ALTER TABLE epoch DROP COLUMN listed", "DROP TABLE hint"} {
			if err := c.exec(added); err != nil {
				t.Fatal(err)
			}
		}
		c.exec("PRAGMA user_version=2")
		c.Close()
		for range 2 { // and stays so
			c = open(t, h)
			b = box(t, c, "INBOX", "7")
			fails, err := c.Failures(t.Context(), b)
			if err != nil || len(fails) != 1 || fails[0].Doubt || fails[0].Reason != "no" || fails[0].Entry.ID != "2" {
				t.Fatalf("%+v, %v", fails, err)
			}
			if n, err := c.Live(t.Context(), b); n != 1 || err != nil {
				t.Fatal(n, err)
			}
			doubt(t, c, b, 3)
			if fails, err = c.Failures(t.Context(), b); err != nil || len(fails) != 2 || !fails[1].Doubt {
				t.Fatalf("%+v, %v", fails, err)
			}
			c.do("DELETE FROM failure WHERE id='3'")
			c.Close()
		}
	})
	t.Run("a damaged catalog", func(t *testing.T) {
		h := home(t)
		open(t, h).Close()
		os.WriteFile(h.file(), []byte("this is no database, it is a text of some length that says so"), 0o600)
		if _, err := Open(t.Context(), h, true, ""); !errors.Is(err, ErrDamaged) {
			t.Fatalf("error is %v", err)
		}
	})
	t.Run("a second account", func(t *testing.T) {
		c := open(t, home(t))
		if err := c.Admit(t.Context(), "imap:bob@example.org", false); !errors.Is(err, ErrOtherAccount) {
			t.Fatalf("error is %v", err)
		}
		if err := c.Admit(t.Context(), "imap:bob@example.org", true); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkBatch(b *testing.B) {
	c, err := Open(b.Context(), Home{Dir: b.TempDir(), State: ".mailhaul", Format: "mbox"}, true, "")
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	c.Admit(b.Context(), ann, false)
	c.StartRun(b.Context(), time.Now())
	box, _ := c.Box(b.Context(), ann, source.Folder{Path: "INBOX"}, "INBOX")
	c.Enter(b.Context(), box, "1")
	const size = 200
	at := 0
	for b.Loop() {
		batch := &Batch{Folder: "INBOX"}
		done := make([]Outcome, size)
		for i := range size {
			at++
			r := record(box, at)
			r.Want.Digest = sha256.Sum256([]byte(fmt.Sprint(at)))
			if _, err := c.Find(b.Context(), r.Want.Digest); err != nil {
				b.Fatal(err)
			}
			batch.Records = append(batch.Records, r)
			done[i] = Outcome{Record: r, Folder: "INBOX", Place: "1234567+1234"}
		}
		id, err := c.Begin(b.Context(), batch)
		if err == nil {
			_, err = c.Commit(b.Context(), id, done, "INBOX", "s")
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(at), "us/message")
}

// TestMigration opens an archive that version 1 has written.
func TestMigration(t *testing.T) {
	schema, err := os.ReadFile(filepath.Join("testdata", "version1.sql"))
	if err != nil {
		t.Fatal(err)
	}
	h := home(t)
	if err := durable.Mkdir(h.StateDir()); err != nil {
		t.Fatal(err)
	}
	c := newCatalog(nil, h)
	if err := c.connect(t.Context(), h.file(), "journal_mode=WAL"); err != nil {
		t.Fatal(err)
	}
	for _, script := range []string{
		string(schema), "PRAGMA user_version=1",
		`INSERT INTO meta VALUES('id', 'abc'), ('format', 'mbox'), ('layout', ''), ('manifest', '-1');
		INSERT INTO account VALUES(1, 'imap:ann@example.org');
		INSERT INTO folder VALUES(1, 1, 'Sent', 'Sent', 'Sent');
		INSERT INTO epoch VALUES(1, 1, '7', 1, 'cursor');
		INSERT INTO sinkfolder VALUES(1, 'Sent', 'state');
		INSERT INTO message VALUES(1, 16909060, x'0102030405060708091011121314151617181920212223242526272829303132', 10, 2, 1, 'p1', 5, 0);
		INSERT INTO location VALUES(1, 3, '', 1, 12, 1000000000, 'crlf', '\Seen', '', '', 1, 0, 0, 0);
		INSERT INTO run VALUES(1, 5, 6, NULL);`,
	} {
		if err := c.exec(script); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.closeFile(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // and once more, when there is nothing to do
		c = open(t, h)
		var version int
		if err := c.row("PRAGMA user_version", nil, &version); err != nil || version != len(migrations) || version < 2 {
			t.Fatalf("version %d, %v", version, err)
		}
		b, err := c.Box(t.Context(), ann, source.Folder{Path: "Sent", Raw: "Sent", Role: "sent"}, "Sent")
		if err != nil || b.Epoch != "7" || b.Cursor != "cursor" {
			t.Fatalf("%+v, %v", b, err)
		}
		known, _, err := c.Compare(t.Context(), b, []source.Entry{{ID: "3", Size: 12, Date: time.Unix(1e9, 0)}}, "", false)
		if err != nil || !known[0].Is || known[0].At.Place != "p1" {
			t.Fatalf("%+v, %v", known, err)
		}
		all, err := c.Origins(t.Context(), false)
		if err != nil || len(all) != 1 || all[0].Role != "sent" || all[0].Messages != 1 {
			t.Fatalf("%+v, %v", all, err)
		}
		c.Close()
	}
	role := ""
	if err := ReadManifest(h.Dir, func(l Line) error { role = l.Role; return nil }); err != nil || role != "sent" {
		t.Errorf("the manifest has role %q, %v", role, err)
	}
}

// TestMigrationFails leaves the archive as it was.
func TestMigrationFails(t *testing.T) {
	h := home(t)
	open(t, h).Close()
	old := migrations
	defer func() { migrations = old }()
	migrations = append(migrations[:len(migrations):len(migrations)], "CREATE TABLE later(id INTEGER)", "this is no SQL")
	if _, err := Open(t.Context(), h, false, ""); err == nil {
		t.Fatal("it was opened")
	}
	migrations = old
	c := open(t, h)
	if err := c.exec("SELECT * FROM later"); err == nil {
		t.Error("half a migration was kept")
	}
}

// TestEmptyCatalog: one without tables beside a manifest is damaged, for the
// manifest would be written anew from nothing.
func TestEmptyCatalog(t *testing.T) {
	h := home(t)
	c := open(t, h)
	store(t, c, box(t, c, "INBOX", "1"), 1, 2)
	c.Close()
	before, _ := os.ReadFile(filepath.Join(h.Dir, manifestName))
	if err := os.Truncate(h.file(), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), h, true, ""); !errors.Is(err, ErrDamaged) {
		t.Fatalf("error is %v", err)
	}
	if after, _ := os.ReadFile(filepath.Join(h.Dir, manifestName)); string(after) != string(before) || len(after) == 0 {
		t.Error("the manifest is another one")
	}
}

// TestManifestStaysDue: lines that were written after a move do not make the
// manifest pass for right.
func TestManifestStaysDue(t *testing.T) {
	h := home(t)
	c := open(t, h)
	b := box(t, c, "INBOX", "1")
	store(t, c, b, 1)
	stored, _ := c.Find(t.Context(), sha256.Sum256([]byte{1}))
	if err := c.Move(t.Context(), map[int64]sink.Place{stored[0].Message: "moved"}); err != nil {
		t.Fatal(err)
	}
	store(t, c, b, 2)
	c.Close()
	open(t, h).Close()
	places := map[string]string{}
	if err := ReadManifest(h.Dir, func(l Line) error { places[l.ID] = l.Place; return nil }); err != nil || places["1"] != "moved" || places["2"] != "p2" {
		t.Errorf("places are %v, %v", places, err)
	}
}

func TestTarget(t *testing.T) {
	for _, c := range []struct{ to, folder, path, want string }{
		{"", "Work", "Work", "Work"},
		{"", "work~0a1b2c3d", "work", "work~0a1b2c3d"},
		{"", "work~archive1", "work", "work"},
		{"", "INBOX", "Work", "Work"}, // an alias
		{"work~0a1b2c3d", "INBOX", "work", "work~0a1b2c3d"},
	} {
		if got := target(Line{To: c.to, Folder: c.folder, Path: c.path}); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}
