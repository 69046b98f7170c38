package archive_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mailhaul/internal/archive"
	"mailhaul/internal/catalog"
	"mailhaul/internal/mail"
	"mailhaul/internal/pipeline"
	"mailhaul/internal/spool"
	"mailhaul/internal/testmail"
	"mailhaul/internal/utf7"
	"mailhaul/sink"
	"mailhaul/sink/maildir"
	"mailhaul/sink/mbox"
	"mailhaul/source"
	"mailhaul/source/imap"
	"mailhaul/source/sourcetest"
)

// A keeper backs accounts up into one archive and opens that as a source.
type keeper struct {
	tb     sourcetest.TB
	dir    string
	format string
	dedup  pipeline.Dedup
}

func newKeeper(tb sourcetest.TB, format string) *keeper {
	tb.Helper()
	dir, err := os.MkdirTemp("", "archive")
	if err != nil {
		tb.Fatalf("%v", err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	k := &keeper{tb: tb, dir: filepath.Join(dir, "a"), format: format}
	if format == "maildir" {
		k.dedup = pipeline.DedupArchive
	}
	return k
}

var quiet = slog.New(slog.DiscardHandler)

func (k *keeper) sink() sink.Sink {
	if k.format == "mbox" {
		return mbox.New(k.dir, mbox.Options{Log: quiet})
	}
	return maildir.New(k.dir, maildir.Options{Log: quiet})
}

func (k *keeper) catalog(create bool) *catalog.Catalog {
	k.tb.Helper()
	c, err := catalog.Open(k.tb.Context(), catalog.Home{Dir: k.dir, State: ".mailhaul", Format: k.format}, create, "test")
	if err != nil {
		k.tb.Fatalf("catalog: %v", err)
	}
	return c
}

// backup brings an account over, once.
func (k *keeper) backup(account string, m *testmail.Model) pipeline.Report {
	k.tb.Helper()
	addr := m.Start(k.tb)
	src := imap.OverConn("ann", "secret", 2, func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	})
	defer src.Close()
	return k.bring(account, src)
}

func (k *keeper) bring(account string, src source.Source) pipeline.Report {
	k.tb.Helper()
	s, c := k.sink(), k.catalog(true)
	defer s.Close()
	defer c.Close()
	if err := c.Admit(k.tb.Context(), account, true); err != nil {
		k.tb.Fatalf("admit: %v", err)
	}
	p := &pipeline.Pipeline{Source: src, Sink: s, Catalog: c, Account: account,
		Spool:   spool.New(filepath.Join(k.dir, ".mailhaul"), spool.Budget),
		Options: pipeline.Options{Dedup: k.dedup, Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }}}
	report, err := p.Run(k.tb.Context())
	if err != nil {
		k.tb.Fatalf("backup: %v", err)
	}
	return report
}

func (k *keeper) open(o archive.Options) source.Source {
	k.tb.Helper()
	src := archive.Open(k.catalog(false), k.sink(), o)
	k.tb.Cleanup(func() { src.Close() })
	return src
}

// raw is the server's name of a folder.
func raw(p mail.Path) string {
	parts := p.Parts()
	for i := range parts {
		parts[i] = utf7.Encode(parts[i])
	}
	return strings.Join(parts, "/")
}

func TestContract(t *testing.T) {
	for _, format := range []string{"mbox", "maildir"} {
		t.Run(format, func(t *testing.T) {
			sourcetest.Run(t, func(tb sourcetest.TB, folders []sourcetest.Folder) sourcetest.Store {
				m := &testmail.Model{Cleartext: true}
				for _, f := range folders {
					m.Folder(raw(f.Path))
					m.Deliver(raw(f.Path), f.Messages...)
				}
				k := newKeeper(tb, format)
				k.backup("imap:ann@x", m)
				return sourcetest.Store{Source: k.open(archive.Options{})}
			})
		})
	}
}

// A letter is all that a message is, but for its ID.
type letter struct{ Raw, Flags, Date string }

func (l letter) compare(o letter) int { return strings.Compare(fmt.Sprint(l), fmt.Sprint(o)) }

func sorted(all []letter) []letter {
	slices.SortFunc(all, letter.compare)
	return all
}

func letterOf(m testmail.Message) letter {
	return letter{string(m.Raw()), m.Flags.Key(), m.Date.UTC().Format(time.RFC3339)}
}

// read is everything in a source: what cannot be fetched has the error for its
// bytes.
func read(tb sourcetest.TB, src source.Source) map[mail.Path][]letter {
	tb.Helper()
	folders, err := src.Folders(tb.Context())
	if err != nil {
		tb.Fatalf("folders: %v", err)
	}
	all := map[mail.Path][]letter{}
	for _, f := range folders {
		all[f.Path] = sorted(readFolder(tb, src, f))
	}
	return all
}

func readFolder(tb sourcetest.TB, src source.Source, f source.Folder) (all []letter) {
	tb.Helper()
	box, err := src.Open(tb.Context(), f.Path)
	if err != nil {
		tb.Fatalf("open: %v", err)
	}
	defer box.Close()
	var entries []source.Entry
	for e, err := range box.List(tb.Context(), "") {
		if err != nil {
			tb.Fatalf("list: %v", err)
		}
		entries = append(entries, e)
	}
	if f.Messages != int64(len(entries)) {
		tb.Errorf("%s is said to have %d messages, it has %d", f.Path, f.Messages, len(entries))
	}
	wait := entries
	for m, err := range box.Fetch(tb.Context(), func(bool) []source.Entry { g := wait; wait = nil; return g }) {
		l := letter{Flags: m.Flags.Key(), Date: m.Date.UTC().Format(time.RFC3339)}
		if err == nil {
			var b []byte
			b, err = io.ReadAll(m.Body)
			if l.Raw = string(b); err == nil && m.Size != int64(len(b)) {
				tb.Errorf("%s: message %s claims %d bytes and has %d", f.Path, m.ID, m.Size, len(b))
			}
		}
		if err != nil {
			if mail.ScopeOf(err, mail.ScopeRun) != mail.ScopeMessage {
				tb.Fatalf("fetch: %v", err)
			}
			l.Raw = "error: " + err.Error()
		}
		all = append(all, l)
	}
	if len(all) != len(entries) {
		tb.Errorf("%s: %d of %d messages came", f.Path, len(all), len(entries))
	}
	return all
}

func TestWhatTheServerHadComesBack(t *testing.T) {
	corpus := testmail.Corpus()
	for _, c := range []struct {
		format string
		dedup  pipeline.Dedup
	}{{"mbox", pipeline.DedupFolder}, {"mbox", pipeline.DedupArchive}, {"mbox", pipeline.DedupOff}, {"maildir", pipeline.DedupArchive}, {"maildir", pipeline.DedupFolder}} {
		t.Run(fmt.Sprint(c.format, c.dedup), func(t *testing.T) {
			m := &testmail.Model{Cleartext: true}
			want := map[mail.Path][]letter{"Empty": nil}
			m.Folder("Empty")
			m.Folder("Gesendet", `\Sent`)
			deliver := func(p mail.Path, messages ...testmail.Message) {
				m.Deliver(raw(p), messages...)
				for _, msg := range messages {
					want[p] = append(want[p], letterOf(msg))
				}
			}
			deliver("INBOX", corpus...)
			deliver("INBOX", corpus[3], corpus[3]) // as often as the server has it
			deliver("Gesendet", corpus[:20]...)
			deliver(mail.Join("Größe & Maße", "50%"), corpus[10:30]...)
			for p := range want {
				sorted(want[p])
			}
			k := newKeeper(t, c.format)
			k.dedup = c.dedup
			k.backup("imap:ann@x", m)
			src := k.open(archive.Options{})
			if diff := cmp.Diff(want, read(t, src)); diff != "" {
				t.Errorf("-server +archive:\n%.3000s", diff)
			}
			folders, _ := src.Folders(t.Context())
			for _, f := range folders {
				if f.Raw != raw(f.Path) {
					t.Errorf("%s: raw name is %q, not %q", f.Path, f.Raw, raw(f.Path))
				}
				if want := map[mail.Path]string{"Gesendet": "sent", "INBOX": "inbox"}[f.Path]; f.Role != want {
					t.Errorf("%s: role is %q, not %q", f.Path, f.Role, want)
				}
			}
		})
	}
}

func simple(i int, flags ...string) testmail.Message {
	return testmail.Letter(fmt.Sprint("letter ", i), fmt.Appendf(nil, "Subject: %d\r\nMessage-ID: <%d@x>\r\n\r\nbody %d\r\n", i, i, i), flags...)
}

// subjects are what is in each folder, by the number in the subject.
func subjects(all map[mail.Path][]letter) map[mail.Path]string {
	short := map[mail.Path]string{}
	for p, ls := range all {
		var s []string
		for _, l := range ls {
			line, _, _ := strings.Cut(l.Raw, "\r\n")
			s = append(s, strings.TrimPrefix(line, "Subject: "))
		}
		short[p] = strings.Join(s, " ")
	}
	return short
}

// TestHistory is what has changed at the server between backups.
func TestHistory(t *testing.T) {
	for _, format := range []string{"mbox", "maildir"} {
		t.Run(format, func(t *testing.T) {
			m := &testmail.Model{Cleartext: true}
			m.Deliver("INBOX", simple(1), simple(2), simple(3), simple(4), simple(4))
			m.Deliver("Work", simple(5), simple(6))
			k := newKeeper(t, format)
			k.backup("imap:ann@x", m)
			m.Copy("INBOX", 1, "Work") // moved
			m.Expunge("INBOX", 1)
			m.Expunge("INBOX", 2) // deleted
			m.Renumber("Work")    // all of it comes under other numbers
			k.backup("imap:ann@x", m)
			m.Expunge("Work", 1) // known by two numbers, and gone
			m.SetFlags("INBOX", 3, `\Flagged`)
			k.backup("imap:ann@x", m)

			src := k.open(archive.Options{})
			all := read(t, src)
			src.Close()
			if diff := cmp.Diff(map[mail.Path]string{"INBOX": "2 3 4 4", "Work": "1 5 6"}, subjects(all)); diff != "" {
				t.Error(diff)
			}
			if f := all["INBOX"][1].Flags; f != `\Flagged` {
				t.Errorf("flags are %q", f)
			}
			src = k.open(archive.Options{Live: true})
			if diff := cmp.Diff(map[mail.Path]string{"INBOX": "3 4 4", "Work": "1 6"}, subjects(read(t, src))); diff != "" {
				t.Error("only what is live: ", diff)
			}
		})
	}
}

// TestStrays: the server has given another message the number of an old one,
// which nothing leads to any more.
func TestStrays(t *testing.T) {
	for _, format := range []string{"mbox", "maildir"} {
		t.Run(format, func(t *testing.T) {
			old := simple(1, `\Seen`)
			old.Date = time.Date(2012, 3, 4, 5, 6, 7, 0, time.UTC)
			m := &testmail.Model{Cleartext: true, Caps: testmail.PlainCaps}
			m.Deliver("INBOX", old, simple(2))
			k := newKeeper(t, format)
			k.backup("imap:ann@x", m)
			other := simple(33)
			other.Date = old.Date
			m.Replace("INBOX", 1, other)
			k.backup("imap:ann@x", m)
			src := k.open(archive.Options{})
			all := read(t, src)
			if diff := cmp.Diff(map[mail.Path]string{"INBOX": "1 2 33"}, subjects(all)); diff != "" {
				t.Fatal(diff)
			}
			want := letterOf(old)
			if format == "mbox" {
				want.Flags = "" // it does not hold them
			}
			if diff := cmp.Diff(want, all["INBOX"][0]); diff != "" {
				t.Error(diff)
			}
			src.Close()
			src = k.open(archive.Options{Live: true})
			if diff := cmp.Diff(map[mail.Path]string{"INBOX": "2 33"}, subjects(read(t, src))); diff != "" {
				t.Fatal(diff)
			}
			if notes := src.(source.Noter).Notes(); len(notes) != 1 || !strings.HasSuffix(notes[0], ": 1") {
				t.Errorf("notes are %q", notes)
			}
		})
	}
}

func TestAccounts(t *testing.T) {
	k := newKeeper(t, "mbox")
	ann, bob := &testmail.Model{Cleartext: true}, &testmail.Model{Cleartext: true}
	ann.Deliver("INBOX", simple(1))
	ann.Deliver("Work", simple(2))
	bob.Deliver("INBOX", simple(1), simple(3))
	bob.Deliver("Play", simple(4))
	k.backup("imap:ann@x", ann)
	k.backup("imap:bob@x", bob)
	src := k.open(archive.Options{})
	want := map[mail.Path]string{"INBOX": "1", "Work": "2", "Play": "4", "imap:bob@x/INBOX": "1 3"}
	if diff := cmp.Diff(want, subjects(read(t, src))); diff != "" {
		t.Error(diff)
	}
}

// TestNothingNew: a second copy of an archive that no run has touched opens no
// folder; one that a run has touched brings what is new.
func TestNothingNew(t *testing.T) {
	m := &testmail.Model{Cleartext: true}
	m.Deliver("INBOX", simple(1), simple(2))
	k := newKeeper(t, "mbox")
	k.backup("imap:ann@x", m)
	to := newKeeper(t, "maildir")
	run := func() pipeline.Counts {
		src := k.open(archive.Options{})
		defer src.Close()
		return to.bring("archive:x", &counting{Source: src, t: t}).Total
	}
	if got := run(); got.Stored != 2 {
		t.Fatalf("first: %+v", got)
	}
	opened = 0
	if got := run(); got.Known != 2 || opened != 0 {
		t.Fatalf("second: %+v, %d folders opened", got, opened)
	}
	m.Deliver("INBOX", simple(3))
	k.backup("imap:ann@x", m)
	if got := run(); got.Known != 2 || got.Stored != 1 || opened != 1 {
		t.Fatalf("third: %+v, %d folders opened", got, opened)
	}
}

type counting struct {
	source.Source
	t *testing.T
}

var opened int

func (c *counting) Open(ctx context.Context, p mail.Path) (source.Mailbox, error) {
	opened++
	return c.Source.Open(ctx, p)
}

// TestDamage: whatever is wrong with a stored message costs that message only,
// is told, and is never taken for whole.
func TestDamage(t *testing.T) {
	files := func(k *keeper) (all []string) {
		filepath.WalkDir(k.dir, func(name string, d os.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() && !strings.Contains(name, ".mailhaul/") && !strings.HasSuffix(name, ".manifest") {
				all = append(all, name)
			}
			return nil
		})
		return all
	}
	edit := func(k *keeper, change func([]byte) []byte) {
		for _, name := range files(k) {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if changed := change(bytes.Clone(data)); changed == nil {
				os.Remove(name)
			} else if !bytes.Equal(changed, data) {
				os.WriteFile(name, changed, 0o600)
			}
		}
	}
	replace := func(from, to string) func([]byte) []byte {
		return func(b []byte) []byte { return bytes.Replace(b, []byte(from), []byte(to), 1) }
	}
	for _, c := range []struct {
		name, format string
		change       func([]byte) []byte
		fails        string // numbers of the letters
	}{
		{"a letter", "mbox", replace("body 2", "bodx 2"), "2"},
		{"a letter", "maildir", replace("body 2", "bodx 2"), "2"},
		{"longer", "maildir", replace("body 2", "body 22"), "2"},
		{"shorter", "maildir", replace("body 2\n", ""), "2"},
		{"empty", "maildir", func(b []byte) []byte {
			if bytes.Contains(b, []byte("body 2")) {
				return []byte{}
			}
			return b
		}, "2"},
		{"gone", "maildir", func(b []byte) []byte {
			if bytes.Contains(b, []byte("body 2")) {
				return nil
			}
			return b
		}, "2"},
		{"cut", "mbox", func(b []byte) []byte { return b[:len(b)-10] }, "3"},
		{"all gone", "mbox", func([]byte) []byte { return nil }, "1 2 3"},
		{"all gone", "maildir", func([]byte) []byte { return nil }, "1 2 3"},
	} {
		t.Run(c.format+" "+c.name, func(t *testing.T) {
			m := &testmail.Model{Cleartext: true}
			m.Deliver("INBOX", simple(1), simple(2), simple(3))
			k := newKeeper(t, c.format)
			k.backup("imap:ann@x", m)
			edit(k, c.change)
			failed := 0
			for _, l := range read(t, k.open(archive.Options{}))["INBOX"] {
				why, is := strings.CutPrefix(l.Raw, "error: ")
				if !is {
					if subject, _, _ := strings.Cut(strings.TrimPrefix(l.Raw, "Subject: "), "\r\n"); strings.Contains(c.fails, subject) {
						t.Errorf("%q passes for whole", l.Raw)
					}
					continue
				}
				failed++
				if !strings.Contains(why, "INBOX at ") || !strings.Contains(why, "mailhaul verify") {
					t.Errorf("it says: %s", why)
				}
			}
			if failed != len(strings.Fields(c.fails)) {
				t.Errorf("%d failed, not %s", failed, c.fails)
			}
		})
		t.Run(c.format+" "+c.name+" in a run", func(t *testing.T) {
			m := &testmail.Model{Cleartext: true}
			m.Deliver("INBOX", simple(1), simple(2), simple(3))
			k := newKeeper(t, c.format)
			k.backup("imap:ann@x", m)
			edit(k, c.change)
			src := k.open(archive.Options{})
			to := newKeeper(t, "mbox")
			r := to.bring("archive:x", src)
			if n := int64(len(strings.Fields(c.fails))); r.Total.Failed != n || r.Total.Stored != 3-n || len(r.Failed) != int(n) {
				t.Errorf("%d of %d failed, %d stored: %v", r.Total.Failed, n, r.Total.Stored, r.Failed)
			}
		})
	}
}

// TestLost: what a run has found missing is told, unless its content is stored
// elsewhere too.
func TestLost(t *testing.T) {
	m := &testmail.Model{Cleartext: true}
	m.Deliver("INBOX", simple(1), simple(2))
	m.Deliver("Work", simple(1), simple(3))
	k := newKeeper(t, "mbox")
	k.backup("imap:ann@x", m)
	if err := os.Remove(filepath.Join(k.dir, "INBOX.mbox")); err != nil {
		t.Fatal(err)
	}
	c := k.catalog(false)
	var ids []int64
	for s, err := range c.Messages(t.Context(), "INBOX") {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, s.Message)
	}
	if err := c.Lose(t.Context(), ids); err != nil || len(ids) != 2 {
		t.Fatal(ids, err)
	}
	c.Close()
	all := read(t, k.open(archive.Options{}))
	inbox := all["INBOX"]
	if len(inbox) != 2 || inbox[0].Raw != string(simple(1).Raw()) || !strings.Contains(inbox[1].Raw, "not in the archive any more") {
		t.Errorf("INBOX: %+v", inbox)
	}
	if got := subjects(all)["Work"]; got != "1 3" {
		t.Errorf("Work: %s", got)
	}
}

func TestDescribe(t *testing.T) {
	corpus := testmail.Corpus()
	for _, format := range []string{"mbox", "maildir"} {
		t.Run(format, func(t *testing.T) {
			m := &testmail.Model{Cleartext: true}
			m.Deliver("INBOX", corpus...)
			k := newKeeper(t, format)
			k.backup("imap:ann@x", m)
			box, err := k.open(archive.Options{}).Open(t.Context(), "INBOX")
			if err != nil {
				t.Fatal(err)
			}
			defer box.Close()
			want := map[source.Description]int{}
			sp := spool.New(t.TempDir(), spool.Budget)
			for _, msg := range corpus {
				credit, err := sp.Reserve(t.Context(), -1)
				if err != nil {
					t.Fatal(err)
				}
				b, err := credit.Take(bytes.NewReader(msg.Raw()))
				if err != nil {
					t.Fatal(err)
				}
				want[source.Description{Size: b.Raw, MessageID: b.MessageID, Head: b.Head, Digest: b.Digest}]++
				b.Free()
			}
			entries := []source.Entry{{ID: "nobody"}, {ID: "/nobody"}, {ID: "1/1"}}
			for e, err := range box.List(t.Context(), "") {
				if err != nil {
					t.Fatal(err)
				}
				entries = append(entries, e)
			}
			ids := map[source.ID]bool{}
			for d, err := range box.(source.Describer).Describe(t.Context(), entries) {
				if err != nil {
					t.Fatal(err)
				}
				ids[d.ID] = true
				d.ID = ""
				want[d]--
			}
			if len(ids) != len(corpus) {
				t.Errorf("%d of %d are described", len(ids), len(corpus))
			}
			for d, n := range want {
				if n != 0 {
					t.Errorf("%d of %+v are missing", n, d)
				}
			}
		})
	}
}

// TestIDsStay: an entry keeps its name over further runs.
func TestIDsStay(t *testing.T) {
	m := &testmail.Model{Cleartext: true}
	m.Deliver("INBOX", simple(1), simple(2))
	k := newKeeper(t, "mbox")
	ids := func() map[source.ID]int64 {
		src := k.open(archive.Options{})
		defer src.Close()
		box, err := src.Open(t.Context(), "INBOX")
		if err != nil {
			t.Fatal(err)
		}
		defer box.Close()
		all := map[source.ID]int64{}
		for e, err := range box.List(t.Context(), "") {
			if err != nil {
				t.Fatal(err)
			}
			all[e.ID] = e.Size
		}
		return all
	}
	k.backup("imap:ann@x", m)
	before := ids()
	m.Deliver("INBOX", simple(3))
	m.Expunge("INBOX", 1)
	k.backup("imap:ann@x", m)
	after := ids()
	for id := range before {
		if after[id] != before[id] {
			t.Errorf("%s is not there any more: %v", id, slices.Sorted(maps.Keys(after)))
		}
	}
	if len(before) != 2 || len(after) != 3 {
		t.Errorf("%v, then %v", before, after)
	}
}

func TestClosed(t *testing.T) {
	m := &testmail.Model{Cleartext: true}
	m.Deliver("INBOX", simple(1))
	k := newKeeper(t, "mbox")
	k.backup("imap:ann@x", m)
	src := k.open(archive.Options{})
	if err := errors.Join(src.Close(), src.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := src.Folders(t.Context()); err == nil {
		t.Error("a closed archive lists folders")
	}
	k.catalog(false).Close() // the lock is free again
}
