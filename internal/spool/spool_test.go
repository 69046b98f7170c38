package spool

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"mailhaul/internal/mail"
	"mailhaul/sink"
)

func take(t *testing.T, s *Spool, claimed int64, r io.Reader) *Body {
	t.Helper()
	c, err := s.Reserve(t.Context(), claimed)
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.Take(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var separates = regexp.MustCompile(`(?m)^>*From `)

// check reads b back, rebuilds what was received and compares.
func check(t *testing.T, b *Body, raw []byte) {
	t.Helper()
	r, err := b.Open()
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(text)) != b.Text || int64(bytes.Count(text, []byte("\n"))) != b.Lines || b.Raw != int64(len(raw)) {
		t.Errorf("sizes %d %d %d do not fit a text of %d from %d bytes", b.Text, b.Lines, b.Raw, len(text), len(raw))
	}
	if separates.Match(text) && b.Plain {
		t.Error("a line that must be quoted was not seen")
	}
	if sha256.Sum256(text) != b.Digest {
		t.Error("digest is not that of the text")
	}
	var back bytes.Buffer
	w := b.Ends.Restore(&back)
	w.Write(text)
	w.Close()
	if !bytes.Equal(back.Bytes(), raw) {
		t.Errorf("%d bytes came back as %d others (%s)", len(raw), back.Len(), b.Ends.Kind)
	}
	// Who only reads a message says the same of it.
	sum, err := mail.Summarize(iotest.OneByteReader(bytes.NewReader(raw)))
	if len(raw) > 1<<16 {
		sum, err = mail.Summarize(bytes.NewReader(raw))
	}
	if want := (mail.Summary{Hints: mail.Hints{Head: b.Head, MessageID: b.MessageID, Sender: b.Sender}, Digest: b.Digest, Size: b.Raw, Text: b.Text, Lines: b.Lines, Kept: b.Ends.Kind == mail.EndsKept}); err != nil || sum != want {
		t.Errorf("summarized as %+v, %v; want %+v", sum, err, want)
	}
}

func TestTake(t *testing.T) {
	long := strings.Repeat("line\r\n", 300_000)
	mixed := strings.Repeat("a\nb\r\n", mail.MostRuns)
	for _, c := range []struct {
		name    string
		raw     string
		claimed int64
		inFile  bool
	}{
		{"empty", "", 0, false},
		{"small", "Subject: x\r\n\r\nbody\r\n", 20, false},
		{"separators", "From a\r\n>From b\r\n", 20, false},
		{"open", "Subject: x\r\n\r\nbody", 18, false},
		{"exact class", strings.Repeat("x", 1023), 1023, false},
		{"exact class and its end", strings.Repeat("x", 1024), 1024, false},
		{"larger than claimed", strings.Repeat("x\r\n", 2000), 10, true},
		{"smaller than claimed", "x\r\n", 10_000, false},
		{"large", long, int64(len(long)), true},
		{"of unknown size", "x\r\n", -1, true},
		{"too mixed, in memory", mixed, int64(len(mixed)), true},
		{"too mixed, in a file", mixed + long, -1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := New(t.TempDir(), Budget)
			for _, r := range []io.Reader{strings.NewReader(c.raw), iotest.HalfReader(strings.NewReader(c.raw))} {
				b := take(t, s, c.claimed, r)
				check(t, b, []byte(c.raw))
				if (b.file != nil) != c.inFile {
					t.Errorf("in a file: %v", b.file != nil)
				}
				b.Free()
				b.Free()
			}
			if s.free != Budget {
				t.Errorf("%d of %d bytes are free in the end", s.free, Budget)
			}
		})
	}
}

func TestTakeKeepsNothingOfABrokenBody(t *testing.T) {
	s := New(t.TempDir(), Budget)
	c, _ := s.Reserve(t.Context(), 100)
	broken := errors.New("cut")
	if _, err := c.Take(io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Fatalf("error is %v", err)
	}
	if s.free != Budget {
		t.Errorf("%d of %d bytes are free", s.free, Budget)
	}
}

func TestReserveWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(t.TempDir(), Large)
		full := 0
		var held *Body
		s.Full = func() { full++; go held.Free() }
		held = take(t, s, Large-10, strings.NewReader("x"))
		if s.TryReserve(Large-10) != nil {
			t.Fatal("there was room for two")
		}
		if s.TryReserve(Large) == nil || s.TryReserve(-1) == nil {
			t.Fatal("a large body had to wait")
		}
		c, err := s.Reserve(t.Context(), Large-10)
		if err != nil || full == 0 {
			t.Fatalf("%v, %d calls of Full", err, full)
		}
		s.Full = nil
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Reserve(ctx, Large-10); !errors.Is(err, context.Canceled) {
			t.Fatalf("error is %v", err)
		}
		c.Release()
		c.Release()
		if s.free != Large+overhead {
			t.Errorf("%d bytes are free", s.free)
		}
	})
}

// TestFullDisk: who has no room is told how much there is.
func TestFullDisk(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("its error for a full disk is another one")
	}
	err := trouble(&fs.PathError{Op: "write", Path: filepath.Join(t.TempDir(), "spool-1"), Err: syscall.ENOSPC})
	if mail.ScopeOf(err, mail.ScopeMessage) != mail.ScopeRun || !strings.HasPrefix(err.Error(), "spool: no room (") || !strings.Contains(err.Error(), " left): ") {
		t.Errorf("error is %v", err)
	}
}

func TestDescribe(t *testing.T) {
	for _, c := range []struct{ name, text, id, sender string }{
		{"usual", "Return-Path: <a@b>\nMESSAGE-ID: <1@x>\nFrom: C <c@d>\n\nMessage-ID: <2@x>\n", "<1@x>", "a@b"},
		{"folded", "From: \"A <x>\" <a@b>\nMessage-Id:\n <1@x>\n\n", "<1@x>", "a@b"},
		{"bare address", "From: a@b\n\n", "", "a@b"},
		{"none", "no header\n", "", ""},
		{"empty header", "\nFrom: a@b\n", "", ""},
		{"bounce", "Return-Path: <>\nFrom: <d@e>\n\n", "", "d@e"},
	} {
		var w sink.Want
		Describe(&w, []byte(c.text))
		if w.MessageID != c.id || w.Sender != c.sender {
			t.Errorf("%s: %q %q, want %q %q", c.name, w.MessageID, w.Sender, c.id, c.sender)
		}
	}
}

func FuzzTake(f *testing.F) {
	f.Add([]byte("a\r\nb\n"), int64(3))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, raw []byte, claimed int64) {
		s := New(dir, Budget)
		b := take(t, s, claimed, bytes.NewReader(raw))
		check(t, b, raw)
		b.Free()
	})
}

func BenchmarkTake(b *testing.B) {
	raw := make([]byte, 8000)
	for i := range raw {
		raw[i] = 'a' + byte(rand.IntN(26))
		if i%70 == 69 {
			raw[i-1], raw[i] = '\r', '\n'
		}
	}
	s := New(b.TempDir(), Budget)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		c := s.TryReserve(int64(len(raw)))
		body, err := c.Take(bytes.NewReader(raw))
		if err != nil {
			b.Fatal(err)
		}
		body.Free()
	}
}
