package mbox

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"mailhaul/internal/durable"
	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/sink"
)

var ctx = context.Background()

const line = "From ann@example.org Sat Mar  7 08:05:01 2026\n"

func message(text string) *sink.Message {
	return &sink.Message{
		Want: sink.Want{Name: fmt.Sprintf("%x", sha256.Sum256([]byte(text)))[:16], Digest: sha256.Sum256([]byte(text)),
			Text: int64(len(text)), Date: time.Date(2026, 3, 7, 8, 5, 1, 0, time.UTC), Sender: "ann@example.org"},
		Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil },
	}
}

func wants(ms ...*sink.Message) (ws []sink.Want) {
	for _, m := range ms {
		ws = append(ws, m.Want)
	}
	return ws
}

// inbox opens INBOX of a new archive that holds file.
func inbox(t *testing.T, file string, opt Options) (*folder, string) {
	t.Helper()
	dir := t.TempDir()
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if file != "" {
		if err := os.WriteFile(filepath.Join(dir, "INBOX.mbox"), []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := New(dir, opt)
	t.Cleanup(func() { s.Close() })
	f, err := s.Open(ctx, mail.Inbox, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f.(*folder), filepath.Join(dir, "INBOX.mbox")
}

func content(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// aside is what was set aside, all of it.
func aside(t *testing.T, name string) string {
	t.Helper()
	names, _ := filepath.Glob(name + ".torn-*")
	slices.Sort(names)
	var all string
	for _, n := range names {
		all += content(t, n)
	}
	return all
}

func put(t *testing.T, f sink.Folder, ms ...*sink.Message) []sink.Result {
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

// TestTornEverywhere cuts a batch off at every byte, and fills what is missing
// with nothing, with zeroes, or with zeroes and the last message.
func TestTornEverywhere(t *testing.T) {
	before := line + "before\n\n"
	ms := []*sink.Message{message("A: b\n\nFrom c\n"), message(""), message("d\n\n\n"), message("D: e\n\nf\n\ng\n")}
	for _, status := range []bool{false, true} {
		f, name := inbox(t, before, Options{Status: status})
		rs := put(t, f, ms...)
		whole := content(t, name)
		var ends []int // of records
		last := 0
		for _, r := range rs {
			o, l, _ := strings.Cut(string(r.Place), "+")
			a, _ := strconv.Atoi(o)
			b, _ := strconv.Atoi(l)
			ends = append(ends, a+b)
			last = a
		}
		for cut := len(before); cut <= len(whole); cut++ {
			zeros := bytes.Repeat([]byte{0}, len(whole)-cut)
			lastWhole := slices.Clone(zeros)
			copy(lastWhole[max(0, last-cut):], whole[max(last, cut):])
			for kind, rest := range []string{"", string(zeros), string(lastWhole)} {
				if err := os.WriteFile(name, []byte(whole[:cut]+rest), 0o600); err != nil {
					t.Fatal(err)
				}
				old := aside(t, name)
				if old != "" {
					t.Fatalf("left aside: %q", old)
				}
				places, err := f.Recover(ctx, sink.Mark(strconv.Itoa(len(before))), wants(ms...))
				if err != nil {
					t.Fatal(err)
				}
				good := len(before)
				for i, end := range ends {
					want := sink.Place("")
					if end <= cut {
						want, good = rs[i].Place, end
					}
					if kind == 2 && cut >= last {
						want, good = rs[i].Place, len(whole)
					}
					if places[i] != want {
						t.Fatalf("cut at %d, kind %d: message %d is at %q, want %q", cut, kind, i, places[i], want)
					}
				}
				if got := content(t, name); got != whole[:good] {
					t.Fatalf("cut at %d, kind %d: left %q, want %q", cut, kind, got, whole[:good])
				}
				if got := aside(t, name); got != (whole[:cut] + rest)[good:] {
					t.Fatalf("cut at %d, kind %d: set aside %q", cut, kind, got)
				}
				again, err := f.Recover(ctx, sink.Mark(strconv.Itoa(len(before))), wants(ms...))
				if err != nil || !slices.Equal(again, places) {
					t.Fatalf("a second Recover found %q, %v, want %q", again, err, places)
				}
				torn, _ := filepath.Glob(name + ".torn-*")
				for _, n := range torn {
					os.Remove(n)
				}
			}
		}
	}
}

func TestRecover(t *testing.T) {
	a, b, c := message("a\n"), message("b\n"), message("c\nc\n")
	rec := func(text string) string { return line + text + "\n" }
	for _, x := range []struct {
		name, behind string
		want         []*sink.Message
		found        string // y or n for each
		left, aside  string
	}{
		{"nothing", "", []*sink.Message{a}, "n", "", ""},
		{"whole", rec("a\n"), []*sink.Message{a}, "y", rec("a\n"), ""},
		{"twins, one there", rec("a\n"), []*sink.Message{a, a}, "yn", rec("a\n"), ""},
		{"somebody else's before ours", rec("x\n") + rec("a\n"), []*sink.Message{a}, "y", rec("x\n") + rec("a\n"), ""},
		{"somebody else's behind ours", rec("a\n") + rec("x\n"), []*sink.Message{a}, "y", rec("a\n") + rec("x\n"), ""},
		{"somebody else's, too long for ours", rec("longer\n"), []*sink.Message{a}, "n", rec("longer\n"), ""},
		{"may be a torn one of ours", rec("c\n"), []*sink.Message{c}, "n", "", rec("c\n")},
		{"torn between", rec("a\n") + line + "b", []*sink.Message{a, b}, "yn", rec("a\n"), line + "b"},
		{"no empty line", rec("a\n") + line + "b\n", []*sink.Message{a, b}, "yn", rec("a\n"), line + "b\n"},
		{"torn, then somebody else's", line + "c\n\n" + rec("longer\n"), []*sink.Message{c}, "n", line + "c\n\n" + rec("longer\n"), ""},
		{"no separator", "abc", []*sink.Message{a}, "n", "", "abc"},
		{"nothing wanted", line + "x", nil, "", line + "x", ""},
		{"line ends that were lacking", "\n" + rec("a\n"), []*sink.Message{a}, "y", "\n" + rec("a\n"), ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			before := rec("before\n")
			f, name := inbox(t, before+x.behind, Options{})
			for range 2 {
				places, err := f.Recover(ctx, sink.Mark(strconv.Itoa(len(before))), wants(x.want...))
				if err != nil {
					t.Fatal(err)
				}
				found := ""
				for i, p := range places {
					if p == "" {
						found += "n"
						continue
					}
					found += "y"
					r, err := f.Read(ctx, p)
					if err != nil {
						t.Fatal(err)
					}
					text, _ := io.ReadAll(r)
					if sha256.Sum256(text) != x.want[i].Digest {
						t.Errorf("at %s is %q", p, text)
					}
				}
				if got := content(t, name); found != x.found || got != before+x.left || aside(t, name) != x.aside {
					t.Fatalf("found %s, left %q, set aside %q", found, got, aside(t, name))
				}
			}
		})
	}
}

// TestRecoverWhole: an empty mark means the whole folder, most of which was
// never this batch's.
func TestRecoverWhole(t *testing.T) {
	file := line + "a\n\n" + line + "b\n\n"
	f, name := inbox(t, file, Options{})
	places, err := f.Recover(ctx, "", wants(message("longer than b\n"), message("a\n")))
	if err != nil || places[0] != "" || places[1] != "0+49" {
		t.Fatal(places, err)
	}
	if content(t, name) != file || aside(t, name) != "" {
		t.Errorf("left %q", content(t, name))
	}
}

// TestNoMark: a mark that is none of ours is an error that names the file.
func TestNoMark(t *testing.T) {
	f, name := inbox(t, line+"a\n\n", Options{})
	for _, mark := range []sink.Mark{"-1", "x"} {
		_, err := f.Recover(ctx, mark, nil)
		if mail.ScopeOf(err, 0) != mail.ScopeFolder || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", mark, err)
		}
	}
}

// TestRewrittenBeforeRecover: between a death and the next run another program has
// deleted messages before the mark, which then lies within a message or behind the
// end of the file. What has arrived is found, and nobody's mail is cut.
func TestRewrittenBeforeRecover(t *testing.T) {
	was := []string{line + "first\n\n", line + "second\nof two lines\n\n", line + "third\nof\nthree\n\n"}
	d, e := message("fourth, which has arrived\n"), message("fifth, too\n")
	for gone := range len(was) + 1 {
		for _, torn := range []string{"", line + "sixth, which ha"} {
			f, name := inbox(t, strings.Join(was, ""), Options{})
			mark, err := f.Mark(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range []*sink.Message{d, e} {
				if err := f.Put(ctx, m); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := f.Sync(ctx); err != nil {
				t.Fatal(err)
			}
			whole := strings.TrimPrefix(content(t, name), strings.Join(was[:gone], ""))
			if err := os.WriteFile(name, []byte(whole+torn), 0o600); err != nil {
				t.Fatal(err)
			}
			places, err := f.Recover(ctx, mark, wants(d, e, message("sixth, which has not\n")))
			if err != nil || places[0] == "" || places[1] == "" || places[2] != "" {
				t.Errorf("%d gone, %q: found %q, %v", gone, torn, places, err)
			}
			if content(t, name) != whole || aside(t, name) != torn {
				t.Errorf("%d gone, %q: left %q, and aside %q", gone, torn, content(t, name), aside(t, name))
			}
			f.Close()
		}
	}
}

// TestNoRoomAside: with no room to set torn bytes aside they stay where they
// are, and the error says so.
func TestNoRoomAside(t *testing.T) {
	file := line + "a\n\n" + line + "torn"
	f, name := inbox(t, file, Options{})
	durable.Step = func(op, name string) error {
		if op == "write" && strings.Contains(name, ".torn-") {
			return syscall.ENOSPC
		}
		return nil
	}
	defer func() { durable.Step = nil }()
	for range 2 {
		_, err := f.Recover(ctx, "49", wants(message("torn apart\n")))
		if mail.ScopeOf(err, 0) != mail.ScopeRun || !strings.Contains(err.Error(), "until there is room") || !strings.Contains(err.Error(), " left)") {
			t.Fatal(err)
		}
		if content(t, name) != file || aside(t, name) != "" {
			t.Fatalf("left %q, aside %q", content(t, name), aside(t, name))
		}
	}
	durable.Step = nil
	if _, err := f.Recover(ctx, "49", wants(message("torn apart\n"))); err != nil || content(t, name) != line+"a\n\n" {
		t.Fatalf("%v, left %q", err, content(t, name))
	}
}

// TestGap: another program has left the last message without its empty line.
func TestGap(t *testing.T) {
	for _, end := range []string{"", "\n", "\n\n"} {
		f, name := inbox(t, line+"a"+end, Options{})
		m := message("b\n")
		rs := put(t, f, m)
		if got := content(t, name); got != line+"a\n\n"+line+"b\n\n" {
			t.Errorf("%q: became %q", end, got)
		}
		if rs[0].Place != "49+49" {
			t.Errorf("%q: at %s", end, rs[0].Place)
		}
		if got, err := f.Recover(ctx, sink.Mark(strconv.Itoa(47+len(end))), wants(m)); err != nil || got[0] != rs[0].Place {
			t.Errorf("%q: recovered %q, %v", end, got, err)
		}
	}
}

// TestForeignLock is row E11.
func TestForeignLock(t *testing.T) {
	f, name := inbox(t, "", Options{Wait: 250 * time.Millisecond})
	for _, text := range []string{"", "123", "1:elsewhere\nmailhaul /another/archive\n"} {
		if err := os.WriteFile(name+".lock", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := f.Mark(ctx)
		if mail.ScopeOf(err, 0) != mail.ScopeFolder || !mail.Temporary(err) || !strings.Contains(err.Error(), name+".lock") {
			t.Fatalf("%q: %v", text, err)
		}
		if content(t, name+".lock") != text {
			t.Fatalf("%q was broken", text)
		}
	}
	go func() {
		time.Sleep(50 * time.Millisecond)
		os.Remove(name + ".lock")
	}()
	if _, err := f.Mark(ctx); err != nil {
		t.Fatal(err)
	}
	if got := content(t, name+".lock"); !strings.HasPrefix(got, strconv.Itoa(os.Getpid())+":") || !strings.Contains(got, filepath.Dir(name)) {
		t.Errorf("lock says %q", got)
	}
	f.Close()
	if _, err := os.Stat(name + ".lock"); err == nil {
		t.Error("the lock is left")
	}
}

// TestStaleLock: a lock of ours that a process left which died, perhaps on
// another machine, does not keep us waiting.
func TestStaleLock(t *testing.T) {
	f, name := inbox(t, "", Options{Wait: time.Millisecond})
	if err := os.WriteFile(name+".lock", []byte("1:elsewhere\nmailhaul "+filepath.Dir(name)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	put(t, f, message("a\n"))
}

// TestLocked: fcntl, against another open file.
func TestLocked(t *testing.T) {
	f, name := inbox(t, "", Options{Wait: 150 * time.Millisecond})
	other, err := durable.Append(name)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := other.TryLock(); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if _, err := f.Mark(ctx); !mail.Temporary(err) {
		t.Errorf("marked a locked file: %v", err)
	}
	other.Close()
	put(t, f, message("a\n"))
}

// TestRewritten: other mail programs add fields and change line ends; such a
// message is found by Other.
func TestRewritten(t *testing.T) {
	m := message("Subject: x\nX-Long: a\n b\n\nStatus: of this\n\n")
	for _, file := range []string{
		line + "Subject: x\nX-Long: a\n b\nStatus: RO\nX-UID: 7\nX-Keywords: a\n b\nContent-Length: 17\n\nStatus: of this\n\n\n",
		line + "status: RO\nSubject: x\nX-IMAPbase: 1 2\nX-Long: a\n b\n\nStatus: of this\n\n\n",
		line + "Subject: x\r\nX-Long: a\r\n b\r\n\r\nStatus: of this\r\n\r\n\n",
	} {
		f, _ := inbox(t, file, Options{})
		n := 0
		for found, err := range f.Scan(ctx, true) {
			if n++; err != nil || found.Other != m.Digest {
				t.Errorf("%q: %+v, %v", file, found, err)
			}
		}
		if n != 1 {
			t.Errorf("%d messages", n)
		}
	}
}

// TestReplaced: another program has put a new file in the place of ours.
func TestReplaced(t *testing.T) {
	f, name := inbox(t, line+"a\n\n", Options{})
	old, err := f.State(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name+".new", []byte(line+"b\n\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
	if now, err := f.State(ctx); err != nil || now == old {
		t.Errorf("state %q, %v", now, err)
	}
	rs := put(t, f, message("c\n"))
	if got := content(t, name); got != line+"b\n\n"+line+"c\n\n" || rs[0].Place != "49+49" {
		t.Errorf("%v, %q", rs, got)
	}
}

// TestReplacedMeanwhile: what a scan has told is about a file that is not ours any
// more.
func TestReplacedMeanwhile(t *testing.T) {
	f, name := inbox(t, line+"a\n\n"+line+"b\n\n", Options{})
	n := 0
	var last error
	for _, err := range f.Scan(ctx, false) {
		if last = err; err != nil {
			break
		}
		if n++; n == 1 {
			if err := os.WriteFile(name+".new", []byte(line+"a\n\n"+line+"b\n\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(name+".new", name); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n != 2 || last == nil || !strings.Contains(last.Error(), "INBOX.mbox: another program has put a new file in its place") {
		t.Errorf("%d messages, %v", n, last)
	}
}

func TestStatus(t *testing.T) {
	f, name := inbox(t, "", Options{Status: true})
	m := message("Subject: x\n\n")
	m.Flags = mail.NewFlags(`\Seen`, `\Flagged`, "Work")
	put(t, f, m)
	if got := content(t, name); got != line+"Status: RO\nX-Status: F\nX-Keywords: Work \nSubject: x\n\n\n" {
		t.Errorf("stored %q", got)
	}
	for found, err := range f.Scan(ctx, true) {
		if err != nil || found.Digest != m.Digest || !found.Flags.Equal(m.Flags) || found.Size != m.Text {
			t.Errorf("%+v, %v", found, err)
		}
	}
}

func TestScheme(t *testing.T) {
	var r sink.Registry
	r.Register(Scheme())
	dir := t.TempDir()
	for raw, good := range map[string]bool{
		"mbox:" + dir: true, "mbox:" + dir + "?status=yes": true, "mbox:" + dir + "/new": true,
		"mbox:" + dir + "?status=maybe": false, "mbox:" + dir + "?layout=x": false,
	} {
		s, err := r.Open(ctx, raw, location.Env{})
		if err == nil {
			s.Close()
		}
		if (err == nil) != good {
			t.Errorf("%s: %v", raw, err)
		}
	}
}
