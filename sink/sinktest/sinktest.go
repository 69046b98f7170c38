// Package sinktest is the suite that every sink must pass: the contract of
// package sink, with nasty messages, bodies that break off, death at every
// step and a fault at every step.
//
// A sink's own test is a few lines:
//
//	func TestContract(t *testing.T) {
//		sinktest.Run(t, func(t *testing.T, dir string) sink.Sink {
//			return mbox.New(dir, mbox.Options{})
//		})
//	}
package sinktest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"mailhaul/internal/durable"
	"mailhaul/internal/mail"
	"mailhaul/sink"
)

// An Opener opens the sink whose mail lies in dir, as often as it is asked.
type Opener func(t *testing.T, dir string) sink.Sink

// Run runs the suite. It runs the test binary again, as processes that die:
// nothing that cannot be done twice may come before it in the test.
func Run(t *testing.T, open Opener) {
	if os.Getenv(envDeath) != "" {
		die(t, open)
		return
	}
	for _, c := range []struct {
		name string
		test func(t *testing.T, open Opener)
	}{
		{"folders", testFolders},
		{"folders at once", testAtOnce},
		{"messages", testMessages},
		{"bad bodies", testBadBodies},
		{"cancel", testCancel},
		{"recover", testRecover},
		{"abandon", testAbandon},
		{"twins", testTwins},
		{"state", testState},
		{"places", testPlaces},
		{"found", testFound},
		{"flags", testFlags},
		{"links", testLinks},
		{"copies", testCopies},
		{"remove", testRemove},
		{"modes", testModes},
		{"death", testDeath},
		{"death twice", testPairs},
		{"faults", testFaults},
		{"power", testPower},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open) })
	}
}

var ctx = context.Background()

const inbox = mail.Inbox

// testAtOnce opens a folder while the directory that it shares with another one is
// being made: it is not open before that directory will survive a power cut.
func testAtOnce(t *testing.T, open Opener) {
	s := open(t, t.TempDir())
	defer s.Close()
	if _, ok := s.(sink.Local); !ok {
		t.Skip("it has no directories")
	}
	openFolder(t, s, inbox)
	var once sync.Once
	var parent atomic.Value // of the first directory that is made
	var started, synced atomic.Bool
	second := make(chan error, 1)
	durable.Step = func(op, name string) error {
		switch op {
		case "mkdir":
			once.Do(func() { parent.Store(filepath.Dir(name)) })
		case "syncdir":
			if name != parent.Load() || !started.CompareAndSwap(false, true) {
				break
			}
			go func() {
				f, err := s.Open(ctx, "Work/Other", true)
				if err == nil && !synced.Load() {
					err = errors.New("it is open before its parent is safe")
				}
				if err == nil {
					err = f.Close()
				}
				second <- err
			}()
			time.Sleep(20 * time.Millisecond) // whoever does not wait is through by then
		}
		return nil
	}
	durable.Made = func(e durable.Effect) {
		if e.Op == "syncdir" && e.Name == parent.Load() {
			synced.Store(true)
		}
	}
	defer func() { durable.Step, durable.Made = nil, nil }()
	openFolder(t, s, "Work/Projects")
	if err := <-second; err != nil {
		t.Error(err)
	}
}

// folder opens a folder of a sink of its own.
func folder(t *testing.T, open Opener) (sink.Sink, sink.Folder) {
	t.Helper()
	s := open(t, t.TempDir())
	t.Cleanup(func() { s.Close() })
	return s, openFolder(t, s, inbox)
}

func openFolder(t *testing.T, s sink.Sink, p mail.Path) sink.Folder {
	t.Helper()
	f, err := s.Open(ctx, p, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// store puts messages in one batch and wants every one of them stored.
func store(t *testing.T, f sink.Folder, ms []*sink.Message) (sink.Mark, []sink.Place) {
	t.Helper()
	mark, err := f.Mark(ctx)
	if err != nil {
		t.Fatal(err)
	}
	before := int64(-1)
	if c, ok := f.(sink.Counter); ok {
		before = c.Count()
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
	if len(rs) != len(ms) {
		t.Fatalf("%d results for %d messages", len(rs), len(ms))
	}
	places := make([]sink.Place, len(rs))
	for i, r := range rs {
		if r.Err != nil || r.Place == "" {
			t.Fatalf("%s: %q, %v", ms[i].Name, r.Place, r.Err)
		}
		places[i] = r.Place
	}
	if c, ok := f.(sink.Counter); ok && before >= 0 && c.Count() != before+int64(len(ms)) {
		t.Errorf("it counts %d messages, and %d after %d more", before, c.Count(), len(ms))
	}
	return mark, places
}

func wants(ms []*sink.Message) []sink.Want {
	ws := make([]sink.Want, len(ms))
	for i, m := range ms {
		ws[i] = m.Want
	}
	return ws
}

// read reads a stored message, and wants its text to be that of m.
func read(t *testing.T, f sink.Folder, m *sink.Message, at sink.Place) {
	t.Helper()
	r, err := f.(sink.Reader).Read(ctx, at)
	if err != nil {
		t.Fatalf("%s: %v", m.Name, err)
	}
	defer r.Close()
	got, err := io.ReadAll(iotest.HalfReader(r))
	if err != nil {
		t.Fatalf("%s: %v", m.Name, err)
	}
	if want := textOf(t, m); !bytes.Equal(got, want) {
		t.Fatalf("%s: read %.200q, want %.200q", m.Name, got, want)
	}
}

func textOf(t *testing.T, m *sink.Message) []byte {
	t.Helper()
	r, err := m.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// scan wants the folder to hold exactly ms, at these places where they are
// known.
func scan(t *testing.T, f sink.Folder, ms []*sink.Message, places []sink.Place) {
	t.Helper()
	sc, ok := f.(sink.Scanner)
	if !ok {
		return
	}
	for _, full := range []bool{true, false} {
		left := map[mail.Digest]int{}
		at := map[sink.Place]*sink.Message{}
		for i, m := range ms {
			left[m.Digest]++
			if places != nil {
				at[places[i]] = m
			}
		}
		n := 0
		for found, err := range sc.Scan(ctx, full) {
			if err != nil {
				t.Fatal(err)
			}
			n++
			m := at[found.Place]
			if places != nil && m == nil {
				t.Fatalf("scan found something at %q", found.Place)
			}
			if !full {
				continue
			}
			if left[found.Digest]--; left[found.Digest] < 0 {
				t.Fatalf("scan found %s once too often at %q", found.Digest, found.Place)
			}
			if m != nil && (found.Digest != m.Digest || found.Size != m.Text || found.Lines != m.Lines || !found.Date.Equal(m.Date)) {
				t.Fatalf("%s: found %+v", m.Name, found)
			}
		}
		if n != len(ms) {
			t.Fatalf("scan found %d messages, want %d", n, len(ms))
		}
	}
}

// keepsOnce reports whether a sink keeps each content once, however often it is
// put, because its folders are labels (Gmail). Equal messages share a place
// there, and what comes first tells the date.
func keepsOnce(t *testing.T, s sink.Sink) bool {
	t.Helper()
	p, ok := s.(sink.Planned)
	if !ok {
		return false
	}
	l, err := p.Layout(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return l.Gmail
}

func testFolders(t *testing.T, open Opener) {
	s := open(t, t.TempDir())
	defer s.Close()
	paths := []mail.Path{"INBOX", "INBOX/a", "Work", "Work/Projects", "Deep/er/still",
		mail.Join("a/b", ".."), mail.Join("cur"), mail.Join("Entwürfe", "a.b"), mail.Join("x\r\n\x1b[2J\xff"), mail.Join(strings.Repeat("ü", 99))}
	_, remote := s.(sink.Remote)
	for _, p := range paths {
		if remote && p == inbox {
			continue // an account has one from the start
		}
		if f, err := s.Open(ctx, p, false); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q opened as %v, %v though it is missing", p, f, err)
		}
	}
	for _, p := range paths {
		f, err := s.Open(ctx, p, true)
		if err != nil {
			t.Errorf("%q: %v", p, err)
			continue
		}
		f.Close()
		if f, err = s.Open(ctx, p, false); err != nil {
			t.Errorf("%q: %v", p, err)
			continue
		}
		scan(t, f, nil, nil)
		f.Close()
	}
	l, ok := s.(sink.Lister)
	if !ok {
		return
	}
	got, err := l.Folders(ctx)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(paths)
	slices.Sort(got)
	if remote {
		got = slices.DeleteFunc(got, func(p mail.Path) bool { return p == "Deep" || p == "Deep/er" }) // parents are folders there
	}
	if !slices.Equal(got, paths) {
		t.Errorf("listed %q, want %q", got, paths)
	}
}

func testMessages(t *testing.T, open Opener) {
	dir := t.TempDir()
	s := open(t, dir)
	f := openFolder(t, s, inbox)
	ms := messages(t)
	if _, remote := s.(sink.Remote); remote {
		// No protocol can bring a message without content.
		ms = slices.DeleteFunc(ms, func(m *sink.Message) bool { return m.Text == 0 })
	}
	if keepsOnce(t, s) {
		seen := map[mail.Digest]bool{}
		ms = slices.DeleteFunc(ms, func(m *sink.Message) bool {
			again := seen[m.Digest]
			seen[m.Digest] = true
			return again
		})
	}
	_, places := store(t, f, ms)
	scan(t, f, ms, places)
	// Once more through another sink, as another run would.
	f.Close()
	s.Close()
	s = open(t, dir)
	t.Cleanup(func() { s.Close() })
	f = openFolder(t, s, inbox)
	for i := range ms {
		read(t, f, ms[i], places[i])
	}
	for i := range slices.Backward(ms) {
		read(t, f, ms[i], places[i])
	}
	more := few(t, "more", 3)
	_, morePlaces := store(t, f, more)
	scan(t, f, append(ms, more...), append(places, morePlaces...))
}

func testBadBodies(t *testing.T, open Opener) {
	errBody := errors.New("body broke off")
	bad := map[string]func(text []byte) (io.ReadCloser, error){
		"does not open": func([]byte) (io.ReadCloser, error) { return nil, errBody },
		"breaks off": func(text []byte) (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader(text[:len(text)/2]), iotest.ErrReader(errBody))), nil
		},
		"is short": func(text []byte) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(text[:len(text)/2])), nil
		},
		"is long": func(text []byte) (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader(text), strings.NewReader("more\n"))), nil
		},
	}
	for name, openBody := range bad {
		for _, size := range []int{10, 1 << 20} {
			t.Run(name, func(t *testing.T) {
				_, f := folder(t, open)
				good := few(t, "good", 2)
				m := letter("bad", strings.Repeat("x\r\n", size/3), "")
				text := textOf(t, m)
				m.Open = func() (io.ReadCloser, error) { return openBody(text) }
				if _, err := f.Mark(ctx); err != nil {
					t.Fatal(err)
				}
				for _, m := range []*sink.Message{good[0], m, good[1]} {
					if err := f.Put(ctx, m); err != nil {
						t.Fatal(err)
					}
				}
				rs, err := f.Sync(ctx)
				if err != nil || len(rs) != 3 {
					t.Fatal(rs, err)
				}
				if rs[0].Err != nil || rs[2].Err != nil || rs[1].Err == nil || mail.ScopeOf(rs[1].Err, 0) != mail.ScopeMessage {
					t.Fatalf("results are %v", rs)
				}
				scan(t, f, good, []sink.Place{rs[0].Place, rs[2].Place})
				read(t, f, good[1], rs[2].Place)
			})
		}
	}
}

func testCancel(t *testing.T, open Opener) {
	_, f := folder(t, open)
	ms := few(t, "m", 3)
	mark, err := f.Mark(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Put(ctx, ms[0]); err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if err := f.Put(gone, ms[1]); !errors.Is(err, context.Canceled) {
		t.Fatalf("Put under a cancelled context: %v", err)
	}
	if _, err := f.Recover(gone, mark, wants(ms)); !errors.Is(err, context.Canceled) {
		t.Fatalf("Recover under a cancelled context: %v", err)
	}
	finish(t, f, mark, ms)
}

// finish recovers a batch, stores what is missing, and wants each message
// exactly once.
func finish(t *testing.T, f sink.Folder, mark sink.Mark, ms []*sink.Message) {
	t.Helper()
	places, err := f.Recover(ctx, mark, wants(ms))
	if err != nil {
		t.Fatal(err)
	}
	var missing []*sink.Message
	var at []int
	for i, p := range places {
		if p == "" {
			missing = append(missing, ms[i])
			at = append(at, i)
		}
	}
	_, more := store(t, f, missing)
	for i, p := range more {
		places[at[i]] = p
	}
	scan(t, f, ms, places)
	for i := range ms {
		read(t, f, ms[i], places[i])
	}
}

func testRecover(t *testing.T, open Opener) {
	_, f := folder(t, open)
	before := few(t, "before", 2)
	store(t, f, before)
	ms := few(t, "m", 4)
	mark, places := store(t, f, ms)
	for range 3 {
		got, err := f.Recover(ctx, mark, wants(ms))
		if err != nil || !slices.Equal(got, places) {
			t.Fatalf("recovered %q, %v, want %q", got, err, places)
		}
	}
	all := append(slices.Clone(before), ms...)
	got, err := f.Recover(ctx, "", wants(append(all, few(t, "never put", 1)...)))
	if err != nil || !slices.Equal(got[2:], append(slices.Clone(places), "")) || got[0] == "" {
		t.Fatalf("recovered %q, %v from the whole folder", got, err)
	}
	scan(t, f, all, nil)
	if got, err := f.Recover(ctx, mark, nil); err != nil || len(got) != 0 {
		t.Fatal(got, err)
	}
	scan(t, f, all, nil)
}

// testAbandon leaves a batch unfinished in each way there is.
func testAbandon(t *testing.T, open Opener) {
	for n := range 4 {
		s, f := folder(t, open)
		before := few(t, "before", 1)
		store(t, f, before)
		ms := few(t, "m", 3)
		mark, err := f.Mark(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range ms[:n] {
			if err := f.Put(ctx, m); err != nil {
				t.Fatal(err)
			}
		}
		if n%2 == 1 {
			f.Close()
			f = openFolder(t, s, inbox)
		}
		places, err := f.Recover(ctx, mark, wants(ms))
		if err != nil {
			t.Fatal(err)
		}
		for i := n; i < len(ms); i++ {
			if places[i] != "" {
				t.Fatalf("%s was never put and is at %q", ms[i].Name, places[i])
			}
		}
		for i, p := range places {
			if p == "" {
				store(t, f, ms[i:i+1])
			}
		}
		scan(t, f, append(before, ms...), nil)
	}
}

// testTwins has equal messages under different names: each has a place of its
// own, also after Recover.
func testTwins(t *testing.T, open Opener) {
	s, f := folder(t, open)
	a := letter("twin-1", "Subject: twins\r\n\r\nFrom one\r\n", "")
	b := letter("twin-2", "Subject: twins\r\n\r\nFrom one\r\n", "")
	ms := []*sink.Message{a, few(t, "x", 1)[0], b}
	mark, places := store(t, f, ms)
	if keepsOnce(t, s) {
		if places[0] != places[2] {
			t.Fatalf("one message has the places %q", places)
		}
		scan(t, f, ms[:2], places[:2])
		return
	}
	if places[0] == places[2] {
		t.Fatalf("twins share the place %q", places[0])
	}
	got, err := f.Recover(ctx, mark, wants(ms))
	if err != nil || !slices.Equal(got, places) {
		t.Fatalf("recovered %q, %v, want %q", got, err, places)
	}
	scan(t, f, ms, places)
}

func testState(t *testing.T, open Opener) {
	s, f := folder(t, open)
	empty := stateOf(t, f)
	store(t, f, few(t, "m", 2))
	full := stateOf(t, f)
	if empty == full {
		t.Error("the state does not tell that there is mail")
	}
	scan(t, f, few(t, "m", 2), nil)
	f.Close()
	f = openFolder(t, s, inbox)
	if got := stateOf(t, f); got != full {
		t.Errorf("nothing happened, and the state went from %q to %q", full, got)
	}
}

func stateOf(t *testing.T, f sink.Folder) sink.State {
	t.Helper()
	state, err := f.State(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// testPlaces asks for messages at places where none is.
func testPlaces(t *testing.T, open Opener) {
	_, f := folder(t, open)
	r, ok := f.(sink.Reader)
	if !ok {
		t.Skip("no Reader")
	}
	store(t, f, few(t, "m", 2))
	for _, p := range []sink.Place{"", "x", "../../INBOX", "0+1", "1+10", "-5+20", "99999+10", "0+99999999", "18446744073709551615+1"} {
		if body, err := r.Read(ctx, p); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("read %v, %v at %q", body, err, p)
		}
	}
}

// testFound reads what a scan has found, when the scan is over.
func testFound(t *testing.T, open Opener) {
	s, f := folder(t, open)
	if _, ok := s.(sink.Local); !ok {
		t.Skip("no Local")
	}
	ms := few(t, "m", 20)
	_, places := store(t, f, ms)
	at := map[sink.Place]*sink.Message{}
	for i, m := range ms {
		at[places[i]] = m
	}
	bodies := map[sink.Place]io.ReadCloser{}
	for found, err := range f.(sink.Scanner).Scan(ctx, false) {
		if err != nil {
			t.Fatal(err)
		}
		if bodies[found.Place], err = found.Open(); err != nil {
			t.Fatal(err)
		}
	}
	for place, m := range at {
		r := bodies[place]
		if r == nil {
			t.Fatalf("%s was not found", m.Name)
		}
		got, err := io.ReadAll(iotest.HalfReader(r))
		if err != nil || !bytes.Equal(got, textOf(t, m)) {
			t.Errorf("%s: read %.200q, %v", m.Name, got, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

func testFlags(t *testing.T, open Opener) {
	_, f := folder(t, open)
	fl, ok := f.(sink.Flagger)
	if !ok {
		t.Skip("no Flagger")
	}
	ms := few(t, "m", 3)
	ms[1].Flags = mail.NewFlags(`\Seen`, "Work")
	_, places := store(t, f, ms)
	want := func(sets ...string) {
		t.Helper()
		at := map[sink.Place]string{}
		for found, err := range f.(sink.Scanner).Scan(ctx, true) {
			if err != nil {
				t.Fatal(err)
			}
			at[found.Place] = found.Flags.Key()
		}
		for i, s := range sets {
			if at[places[i]] != s {
				t.Errorf("message %d has flags %q, want %q", i, at[places[i]], s)
			}
		}
	}
	want("", `Work \Seen`, "")
	sets := []mail.Flags{mail.NewFlags(`\Flagged`, "$Forwarded", "Home"), nil, nil}
	for range 2 {
		if err := fl.SetFlags(ctx, append(places, "gone"), append(sets, mail.NewFlags(`\Seen`))); err != nil {
			t.Fatal(err)
		}
		want(`$Forwarded Home \Flagged`, "", "")
	}
	for i := range ms {
		read(t, f, ms[i], places[i])
	}
	if got, err := f.Recover(ctx, "", wants(ms)); err != nil || !slices.Equal(got, places) {
		t.Errorf("recovered %q, %v, want %q", got, err, places)
	}
}

func testLinks(t *testing.T, open Opener) {
	s, f := folder(t, open)
	if _, ok := f.(sink.Linker); !ok {
		t.Skip("no Linker")
	}
	if keepsOnce(t, s) {
		testLabels(t, s, f)
		return
	}
	ms := few(t, "m", 3)
	ms[2] = letter("open", "Subject: x\r\n\r\nno end", `\Seen`)
	_, places := store(t, f, ms)
	to := openFolder(t, s, "All")
	copies := make([]*sink.Message, len(ms)+2)
	for i, m := range ms {
		c := *m
		c.Name = "copy-" + c.Name
		c.Flags = mail.NewFlags(`\Answered`)
		copies[i] = &c
	}
	older := *copies[0]
	older.Name, older.Date = "older", older.Date.AddDate(-1, 0, 0)
	copies[len(ms)] = &older
	missing := *copies[1]
	missing.Name = "missing"
	copies[len(ms)+1] = &missing
	mark, err := to.Mark(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range copies {
		at := sink.Place("gone")
		if i <= len(ms) {
			at = places[i%len(ms)]
		}
		if err := to.(sink.Linker).Link(ctx, c, inbox, at); err != nil {
			t.Fatal(err)
		}
	}
	rs, err := to.Sync(ctx)
	if err != nil || len(rs) != len(copies) {
		t.Fatal(rs, err)
	}
	var at []sink.Place
	for i, r := range rs {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		at = append(at, r.Place)
		read(t, to, copies[i], r.Place)
	}
	scan(t, to, copies, at)
	if got, err := to.Recover(ctx, mark, wants(copies)); err != nil || !slices.Equal(got, at) {
		t.Fatalf("recovered %q, %v, want %q", got, err, at)
	}
	// Within the same folder, where it makes a second message.
	twin := *ms[0]
	twin.Name = "twin"
	if _, err := f.Mark(ctx); err != nil {
		t.Fatal(err)
	}
	if err := f.(sink.Linker).Link(ctx, &twin, inbox, places[0]); err != nil {
		t.Fatal(err)
	}
	if rs, err := f.Sync(ctx); err != nil || rs[0].Err != nil || rs[0].Place == places[0] {
		t.Fatal(rs, err)
	}
	scan(t, f, append(ms, &twin), nil)
}

// testLabels is testLinks for a sink that keeps each content once: a link that is
// made again, and one to what is not there, end in the same place.
func testLabels(t *testing.T, s sink.Sink, f sink.Folder) {
	ms := few(t, "m", 3)
	_, places := store(t, f, ms)
	to := openFolder(t, s, "All")
	mark, err := to.Mark(ctx)
	if err != nil {
		t.Fatal(err)
	}
	link := func(to sink.Folder, at ...sink.Place) []sink.Place {
		t.Helper()
		for i, p := range at {
			if err := to.(sink.Linker).Link(ctx, ms[i], inbox, p); err != nil {
				t.Fatal(err)
			}
		}
		rs, err := to.Sync(ctx)
		if err != nil || len(rs) != len(at) {
			t.Fatal(rs, err)
		}
		var got []sink.Place
		for i, r := range rs {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
			got = append(got, r.Place)
			read(t, to, ms[i], r.Place)
		}
		return got
	}
	at := link(to, places[0], places[1], "gone")
	scan(t, to, ms, at)
	if got, err := to.Recover(ctx, mark, wants(ms)); err != nil || !slices.Equal(got, at) {
		t.Fatalf("recovered %q, %v, want %q", got, err, at)
	}
	if _, err := to.Mark(ctx); err != nil {
		t.Fatal(err)
	}
	if again := link(to, places...); !slices.Equal(again, at) {
		t.Fatalf("linked again to %q, want %q", again, at)
	}
	if _, err := f.Mark(ctx); err != nil {
		t.Fatal(err)
	}
	if same := link(f, places...); !slices.Equal(same, places) {
		t.Fatalf("linked within the folder to %q, want %q", same, places)
	}
	scan(t, to, ms, at)
	scan(t, f, ms, places)
}

// testCopies has copies of what is there as it is wanted, beside messages that are
// put, and brings what is not, or tells that it is to be brought.
func testCopies(t *testing.T, open Opener) {
	s, f := folder(t, open)
	if _, ok := f.(sink.Copier); !ok {
		t.Skip("no Copier")
	}
	ms := few(t, "m", 3)
	ms[1].Flags = mail.NewFlags(`\Seen`, "Work")
	ms[2] = letter("open", "Subject: x\r\n\r\nno end", `\Seen`)
	_, places := store(t, f, ms)
	to := openFolder(t, s, "All")
	copyOf := func(i int, name string, change func(m *sink.Message)) *sink.Message {
		m := *ms[i]
		m.Name = name
		change(&m)
		return &m
	}
	none := func(m *sink.Message) { m.Open = nil }
	flagged := func(m *sink.Message) { m.Flags = mail.NewFlags(`\Answered`) }
	older := func(m *sink.Message) { m.Date = m.Date.AddDate(-1, 0, 0) }
	cases := []struct {
		m       *sink.Message
		at      sink.Place
		brought bool
		err     error
	}{
		{copyOf(0, "alike", none), places[0], false, nil},
		{copyOf(1, "with flags", none), places[1], false, nil},
		{copyOf(2, "open", none), places[2], false, nil},
		{copyOf(2, "again", none), places[2], false, nil},
		{copyOf(0, "other flags", flagged), places[0], true, nil},
		{copyOf(1, "older", older), places[1], true, nil},
		{copyOf(2, "not there", func(*sink.Message) {}), "gone", true, nil},
		{few(t, "other size", 3)[2], places[0], true, nil},
		{copyOf(0, "nothing of other flags", func(m *sink.Message) { flagged(m); none(m) }), places[0], false, sink.ErrNotCopied},
		{copyOf(0, "nothing older", func(m *sink.Message) { older(m); none(m) }), places[0], false, sink.ErrNotCopied},
		{copyOf(0, "nothing not there", none), "gone", false, fs.ErrNotExist},
	}
	mark, err := to.Mark(ctx)
	if err != nil {
		t.Fatal(err)
	}
	put := few(t, "put", 2)
	if err := to.Put(ctx, put[0]); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		if err := to.(sink.Copier).Copy(ctx, c.m, inbox, c.at); err != nil {
			t.Fatal(err)
		}
	}
	if err := to.Put(ctx, put[1]); err != nil {
		t.Fatal(err)
	}
	rs, err := to.Sync(ctx)
	if err != nil || len(rs) != len(cases)+2 {
		t.Fatal(rs, err)
	}
	all, at := put, []sink.Place{rs[0].Place, rs[len(rs)-1].Place}
	for i, c := range cases {
		r := rs[i+1]
		if !errors.Is(r.Err, c.err) || (r.Err == nil) != (c.err == nil) || r.Brought != c.brought || r.Err != nil && mail.ScopeOf(r.Err, 0) != mail.ScopeMessage {
			t.Errorf("%s: %+v", c.m.Name, r)
		}
		if r.Err == nil {
			all, at = append(all, c.m), append(at, r.Place)
		}
	}
	want := map[sink.Place]*sink.Message{}
	for i, m := range all {
		want[at[i]] = m
	}
	scan(t, to, all, at)
	for found, err := range to.(sink.Scanner).Scan(ctx, false) {
		if err != nil {
			t.Fatal(err)
		}
		if m := want[found.Place]; m == nil || !found.Flags.Equal(m.Flags) || !found.Date.Equal(m.Date) {
			t.Errorf("found %+v, want %+v", found, m)
		}
	}
	got, err := to.Recover(ctx, mark, wants(all))
	slices.Sort(got)
	slices.Sort(at)
	if err != nil || !slices.Equal(got, at) {
		t.Fatalf("recovered %q, %v, want %q", got, err, at)
	}
	// Within the same folder, where it makes a second message.
	twin := copyOf(0, "twin", none)
	if _, err := f.Mark(ctx); err != nil {
		t.Fatal(err)
	}
	if err := f.(sink.Copier).Copy(ctx, twin, inbox, places[0]); err != nil {
		t.Fatal(err)
	}
	if rs, err := f.Sync(ctx); err != nil || rs[0].Err != nil || rs[0].Place == places[0] || rs[0].Brought {
		t.Fatal(rs, err)
	}
	scan(t, f, append(ms, twin), nil)
}

func testRemove(t *testing.T, open Opener) {
	_, f := folder(t, open)
	r, ok := f.(sink.Remover)
	if !ok {
		t.Skip("no Remover")
	}
	ms := few(t, "m", 3)
	_, places := store(t, f, ms)
	for range 2 {
		if err := r.Remove(ctx, places[:2]); err != nil {
			t.Fatal(err)
		}
		scan(t, f, ms[2:], places[2:])
	}
}

func digest(text []byte) mail.Digest { return sha256.Sum256(text) }
