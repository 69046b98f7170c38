package maildir

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mailhaul/internal/durable"
	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/internal/maildirname"
	"mailhaul/sink"
)

var (
	ctx  = context.Background()
	date = time.Date(2026, 3, 7, 8, 5, 1, 0, time.UTC)
)

func message(name, text, flags string) *sink.Message {
	return &sink.Message{
		Want: sink.Want{Name: name, Digest: sha256.Sum256([]byte(text)), Text: int64(len(text)),
			Lines: int64(strings.Count(text, "\n")), Date: date, Flags: mail.ParseFlags(flags)},
		Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil },
	}
}

func inbox(t *testing.T, opt Options) (*folder, string) {
	t.Helper()
	opt.Log = slog.New(slog.DiscardHandler)
	dir := t.TempDir()
	s := New(dir, opt)
	t.Cleanup(func() { s.Close() })
	f, err := s.Open(ctx, mail.Inbox, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f.(*folder), f.(*folder).store.dir.Name()
}

func put(t *testing.T, f *folder, ms ...*sink.Message) []sink.Result {
	t.Helper()
	if _, err := f.Mark(ctx); err != nil {
		t.Fatal(err)
	}
	for _, m := range ms {
		if err := f.Put(ctx, m); err != nil {
			t.Fatal(err)
		}
	}
	rs, err := f.Sync(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

// files lists a Maildir, with ":" in names on every system.
func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	for _, sub := range []string{"cur", "new", "tmp"} {
		es, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		for _, e := range es {
			names = append(names, sub+"/"+onDisk(e.Name()))
		}
	}
	return names
}

func onDisk(name string) string {
	if runtime.GOOS == "windows" {
		return strings.NewReplacer(";", ":", ":", ";").Replace(name)
	}
	return name
}

func wantFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	if got := files(t, dir); !slices.Equal(got, want) {
		t.Errorf("there are %q, want %q", got, want)
	}
}

func TestNames(t *testing.T) {
	f, dir := inbox(t, Options{})
	open := message("open", "a\nb\n", `\Seen`)
	open.Ends.Open = true
	put(t, f, message("plain", "a\nb\n", ""), open, message("keys", "", `\Answered \Deleted $Forwarded Work $Junk`))
	wantFiles(t, dir, "cur/keys,S=0,W=0:2,PRTab", "cur/open,S=3,W=4:2,S", "new/plain,S=4,W=6")
	if text, _ := os.ReadFile(filepath.Join(dir, keywordsFile)); string(text) != "0 $Junk\n1 Work\n" {
		t.Errorf("keywords are %q", text)
	}
	name := filepath.Join(dir, onDisk("cur/open,S=3,W=4:2,S"))
	if text, _ := os.ReadFile(name); string(text) != "a\nb" {
		t.Errorf("open file is %q", text)
	}
	if fi, err := os.Stat(name); err != nil || !fi.ModTime().Equal(date) {
		t.Error(fi.ModTime(), err)
	}
}

// TestTwice: putting twice is putting once, whatever became of the name.
func TestTwice(t *testing.T) {
	f, dir := inbox(t, Options{})
	m := message("m", "text\n", "")
	put(t, f, m)
	move(t, dir, "new/m,S=5,W=6", "cur/m,S=5,W=6:2,FS")
	for range 2 {
		// An index that knows, then one that must look.
		if rs := put(t, f, m, message("n", "x\n", "")); rs[0].Err != nil || rs[0].Place != "m" {
			t.Fatal(rs)
		}
		wantFiles(t, dir, "cur/m,S=5,W=6:2,FS", "new/n,S=2,W=3")
		f.store.forget()
	}
	if rs := put(t, f, message("two", "a\n", ""), message("two", "a\n", "")); rs[0] != rs[1] || rs[0].Place != "two" {
		t.Error(rs)
	}
}

// TestDamagedIsInTheWay: a file of the name that is none of the message, of
// whatever size, is kept elsewhere and does not pass for it.
func TestDamagedIsInTheWay(t *testing.T) {
	for _, damaged := range []string{"tExt\n", "more text\n", ""} {
		f, dir := inbox(t, Options{})
		m := message("m", "text\n", "")
		put(t, f, m)
		if err := os.WriteFile(filepath.Join(dir, onDisk("new/m,S=5,W=6")), []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if rs := put(t, f, m); rs[0].Err != nil || rs[0].Place != "m" {
			t.Fatal(rs)
		}
		wantFiles(t, dir, "new/m,S=5,W=6")
		if text, err := os.ReadFile(filepath.Join(dir, onDisk("new/m,S=5,W=6"))); err != nil || string(text) != "text\n" {
			t.Errorf("%q: stored is %q, %v", damaged, text, err)
		}
		home, state := f.sink.Home()
		if text, err := os.ReadFile(filepath.Join(home, state, "torn", onDisk("m,S=5,W=6"))); err != nil || string(text) != damaged {
			t.Errorf("set aside is %q, %v; want %q", text, err, damaged)
		}
	}
}

// TestClear: a damaged message leaves the folder, and its bytes stay.
func TestClear(t *testing.T) {
	f, dir := inbox(t, Options{})
	put(t, f, message("m", "text\n", ""), message("n", "x\n", ""))
	to, err := f.Clear(t.Context(), "m")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(to); err != nil || string(text) != "text\n" {
		t.Errorf("%s is %q, %v", to, text, err)
	}
	wantFiles(t, dir, "new/n,S=2,W=3")
	if _, err := f.Clear(t.Context(), "m"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("cleared again: %v", err)
	}
	if err := f.Look(t.Context(), "n", 2); err != nil {
		t.Error(err)
	}
	if err := f.Look(t.Context(), "n", 4); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of another size: %v", err)
	}
	if err := f.Look(t.Context(), "m", 5); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

func move(t *testing.T, dir, from, to string) {
	t.Helper()
	if err := os.Rename(filepath.Join(dir, onDisk(from)), filepath.Join(dir, onDisk(to))); err != nil {
		t.Fatal(err)
	}
}

// TestRenamed: other programs rename while we have the folder open.
func TestRenamed(t *testing.T) {
	f, dir := inbox(t, Options{})
	put(t, f, message("m", "text\n", ""))
	names := []string{"new/m,S=5,W=6", "cur/m,S=5,W=6:2,", "cur/m,S=5,W=6:2,S", "cur/m:2,RS"}
	for i := 1; i < len(names); i++ {
		move(t, dir, names[i-1], names[i])
		r, err := f.Read(ctx, "m")
		if err != nil {
			t.Fatal(err)
		}
		if text, _ := io.ReadAll(r); string(text) != "text\n" {
			t.Errorf("read %q", text)
		}
		r.Close()
	}
	if err := f.SetFlags(ctx, []sink.Place{"m", "gone"}, []mail.Flags{mail.NewFlags(`\Flagged`), nil}); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, dir, "cur/m:2,F")
	move(t, dir, "cur/m:2,F", "cur/m:2,FXz")
	if err := f.SetFlags(ctx, []sink.Place{"m"}, []mail.Flags{nil}); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, dir, "cur/m:2,Xz")
}

// TestTorn: a file of a wanted name that is not what it should be is moved
// out of the folder, and the message can be put again.
func TestTorn(t *testing.T) {
	for _, dotted := range []bool{false, true} {
		f, dir := inbox(t, Options{Dotted: dotted})
		var ms []*sink.Message
		var want []sink.Want
		for _, n := range []string{"a", "b", "c", "d"} {
			m := message(n, "text of "+n+"\n", "")
			ms, want = append(ms, m), append(want, m.Want)
		}
		put(t, f, ms...)
		write(t, dir, "new/b,S=10,W=11", "")
		write(t, dir, "new/c,S=10,W=11", strings.Repeat("\x00", 10))
		write(t, dir, "new/d,S=10,W=11", "text of d") // was open: as good
		write(t, dir, "tmp/mailhaul.0.x", "left")
		write(t, dir, "tmp/of-others", "left")
		for range 2 {
			places, err := f.Recover(ctx, "-", want)
			if err != nil || !slices.Equal(places, []sink.Place{"a", "", "", "d"}) {
				t.Fatal(places, err)
			}
			wantFiles(t, dir, "new/a,S=10,W=11", "new/d,S=10,W=11", "tmp/of-others")
		}
		home, state := f.sink.Home()
		torn, err := os.ReadDir(filepath.Join(home, state, "torn"))
		if err != nil || len(torn) != 2 {
			t.Errorf("set aside %v, %v", torn, err)
		}
		if rs := put(t, f, ms[1:3]...); rs[0].Place != "b" || rs[1].Place != "c" {
			t.Error(rs)
		}
		if all, err := f.sink.Folders(ctx); err != nil || len(all) != 1 {
			t.Errorf("folders are %q, %v", all, err)
		}
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, onDisk(name)), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestLinked: one file, two names; a copy where the dates differ or the file
// system will not link.
func TestLinked(t *testing.T) {
	f, dir := inbox(t, Options{})
	m := message("m", "text\n", "")
	put(t, f, m)
	link := func(name string, change func(m *sink.Message)) fs.FileInfo {
		t.Helper()
		c := *m
		c.Name = name
		change(&c)
		if _, err := f.Mark(ctx); err != nil {
			t.Fatal(err)
		}
		if err := f.Link(ctx, &c, mail.Inbox, "m"); err != nil {
			t.Fatal(err)
		}
		if rs, err := f.Sync(ctx); err != nil || rs[0].Place != sink.Place(name) {
			t.Fatal(rs, err)
		}
		_, fi, err := f.store.find(name)
		if err != nil {
			t.Fatal(err)
		}
		return fi
	}
	first, _ := os.Stat(filepath.Join(dir, "new/m,S=5,W=6"))
	if !os.SameFile(first, link("same", func(*sink.Message) {})) {
		t.Error("copied what could be linked")
	}
	if os.SameFile(first, link("older", func(m *sink.Message) { m.Date = date.AddDate(-1, 0, 0) })) {
		t.Error("linked to a file of another date")
	}
	if fi := link("open", func(m *sink.Message) { m.Ends.Open = true }); os.SameFile(first, fi) || fi.Size() != 4 {
		t.Error("linked to a file with another end")
	}
	durable.Step = func(op, name string) error {
		if op == "link" {
			return syscall.EMLINK
		}
		return nil
	}
	defer func() { durable.Step = nil }()
	if os.SameFile(first, link("many", func(*sink.Message) {})) {
		t.Error("linked in spite of EMLINK")
	}
}

// TestNoLinks: on a file system without hard links a rename has to do.
func TestNoLinks(t *testing.T) {
	f, dir := inbox(t, Options{})
	durable.Step = func(op, name string) error {
		if op == "link" {
			return syscall.EPERM
		}
		return nil
	}
	defer func() { durable.Step = nil }()
	write(t, dir, "new/b,S=2,W=3", "x")
	f.store.forget()
	rs := put(t, f, message("a", "a\n", ""))
	if rs[0].Err != nil {
		t.Fatal(rs)
	}
	wantFiles(t, dir, "new/a,S=2,W=3", "new/b,S=2,W=3")
}

// TestEachSynced counts: every file is synced before it gets its name, and its
// directory afterwards.
func TestEachSynced(t *testing.T) {
	f, _ := inbox(t, Options{})
	var synced, linked atomic.Int64
	durable.Step = func(op, name string) error {
		switch op {
		case "fsync":
			synced.Add(1)
		case "link":
			if linked.Add(1); synced.Load() < 3*mostOpen {
				t.Errorf("%s is linked after %d fsyncs", name, synced.Load())
			}
		case "syncdir":
			if linked.Load() != 3*mostOpen {
				t.Errorf("%s is synced after %d links", name, linked.Load())
			}
		}
		return nil
	}
	defer func() { durable.Step = nil }()
	var ms []*sink.Message
	for i := range 3 * mostOpen {
		ms = append(ms, message(fmt.Sprint(i), "x\n", ""))
	}
	put(t, f, ms...)
	if synced.Load() != 3*mostOpen {
		t.Errorf("%d fsyncs", synced.Load())
	}
}

// TestSymlinks is row J9.
func TestSymlinks(t *testing.T) {
	for _, sub := range []string{"cur", "new", "tmp"} {
		f, dir := inbox(t, Options{})
		f.Close()
		os.Remove(filepath.Join(dir, sub))
		if err := os.Symlink(t.TempDir(), filepath.Join(dir, sub)); err != nil {
			t.Skip(err)
		}
		for _, create := range []bool{false, true} {
			if _, err := f.sink.Open(ctx, mail.Inbox, create); err == nil || !strings.Contains(err.Error(), sub) {
				t.Errorf("%s is a link: %v", sub, err)
			}
		}
	}
}

// TestEmptyDirectories: copies of an archive may lack them.
func TestEmptyDirectories(t *testing.T) {
	f, dir := inbox(t, Options{})
	put(t, f, message("m", "x\n", `\Seen`))
	f.Close()
	os.Remove(filepath.Join(dir, "new"))
	os.Remove(filepath.Join(dir, "tmp"))
	g, err := f.sink.Open(ctx, mail.Inbox, false)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	for _, err := range g.(*folder).Scan(ctx, true) {
		if err != nil {
			t.Fatal(err)
		}
	}
	put(t, g.(*folder), message("n", "x\n", ""))
	wantFiles(t, dir, "cur/m,S=2,W=3:2,S", "new/n,S=2,W=3")
}

// TestForeign: mail of other programs, with CRLF, is found by either digest.
func TestForeign(t *testing.T) {
	f, dir := inbox(t, Options{})
	write(t, dir, "cur/1234.M5P6.host:2,FS", "a\r\nb\r\nc")
	write(t, dir, "new/.hidden", "x")
	n := 0
	for found, err := range f.Scan(ctx, true) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		if found.Digest != sha256.Sum256([]byte("a\r\nb\r\nc\n")) || found.Other != sha256.Sum256([]byte("a\nb\nc\n")) ||
			found.Place != "1234.M5P6.host" || found.Flags.Key() != `\Flagged \Seen` {
			t.Errorf("found %+v", found)
		}
	}
	if n != 1 {
		t.Errorf("%d messages", n)
	}
}

// TestRenamedMeanwhile: a file that gets other flags while the Maildir is looked at
// is read under its new name.
func TestRenamedMeanwhile(t *testing.T) {
	f, dir := inbox(t, Options{})
	put(t, f, message("m", "x\n", `\Seen`))
	wantFiles(t, dir, "cur/m,S=2,W=3:2,S")
	n := 0
	for found, err := range f.Scan(ctx, false) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		if err := os.Rename(filepath.Join(dir, "cur/m,S=2,W=3:2,S"), filepath.Join(dir, "cur/m,S=2,W=3:2,FS")); err != nil {
			t.Fatal(err)
		}
		body, err := found.Open()
		if err != nil {
			t.Fatal(err)
		}
		defer body.Close()
		if text, err := io.ReadAll(body); err != nil || string(text) != "x\n" {
			t.Errorf("read %q, %v", text, err)
		}
	}
	if n != 1 {
		t.Errorf("%d messages", n)
	}
}

// TestIndex: names of 100,000 messages stay within some megabytes, also when
// they change often.
func TestIndex(t *testing.T) {
	x := index{at: map[uint64]uint32{}}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	name := func(i int) maildirname.Name {
		return maildirname.New(fmt.Sprintf("0123456789abcdef%08x.1", i), 123456, 125678).With(mail.NewFlags(`\Seen`), nil)
	}
	for round := range 3 {
		for i := range 100_000 {
			n := name(i)
			x.put(n.Unique, inCur, n.String()[len(n.Unique):]+strings.Repeat("a", round))
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if used := int64(after.HeapAlloc) - int64(before.HeapAlloc); used > 12<<20 {
		t.Errorf("%d bytes", used)
	} else {
		t.Logf("%d bytes", used)
	}
	for i := range 100_000 {
		n := name(i)
		if dir, rest, ok := x.get(n.Unique); !ok || dir != inCur || n.Unique+rest != n.String()+"aa" {
			t.Fatal(i, rest, ok)
		}
	}
	x.drop(name(7).Unique)
	if _, _, ok := x.get(name(7).Unique); ok {
		t.Error("dropped and there")
	}
}

func TestScheme(t *testing.T) {
	var r sink.Registry
	r.Register(Scheme())
	for raw, good := range map[string]bool{"": true, "?layout=nested": true, "?layout=maildir++": true, "?layout=maildir%2B%2B": true, "?layout=flat": false} {
		dir := t.TempDir()
		s, err := r.Open(ctx, "maildir:"+dir+raw, location.Env{})
		if (err == nil) != good {
			t.Errorf("%s: %v", raw, err)
		}
		if err == nil {
			_, state := s.(sink.Local).Home()
			if dotted := strings.Contains(raw, "maildir"); dotted != (state == "mailhaul.state") {
				t.Errorf("%s: catalog in %s", raw, state)
			}
			s.Close()
		}
	}
}
