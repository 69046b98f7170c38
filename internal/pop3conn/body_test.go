package pop3conn

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/knadh/go-pop3"

	"mailhaul/internal/mail"
	"mailhaul/internal/netconn"
)

// canned is a session whose server has said everything already; what the
// client says is counted by the guard and lost.
func canned(r io.Reader, size int) *Conn {
	c := &Conn{nc: netconn.Wrap(quiet{}, netconn.Limits{}), br: bufio.NewReaderSize(r, size)}
	c.gate.c = c
	c.guard.w, c.guard.in = io.Discard, true
	c.lib, _ = pop3.New(pop3.Opt{Dialer: &c.gate}).NewConn()
	return c
}

// quiet is a connection that is never read.
type quiet struct{ net.Conn }

func (quiet) Close() error { return nil }

// stuff is what a strict server sends of a message: dots are stuffed behind
// CRLF only, and an open last line is closed.
func stuff(raw []byte) []byte {
	kept := kept(raw)
	out := bytes.ReplaceAll(kept, []byte("\r\n."), []byte("\r\n.."))
	if len(out) > 0 && out[0] == '.' {
		out = append([]byte{'.'}, out...)
	}
	return append(out, ".\r\n"...)
}

// kept is what a client gets of raw.
func kept(raw []byte) []byte {
	if len(raw) == 0 || bytes.HasSuffix(raw, []byte("\r\n")) {
		return bytes.Clone(raw)
	}
	return append(bytes.Clone(raw), "\r\n"...)
}

// read takes one message in pieces of n bytes; with 0 all at once.
func read(b *Body, n int) ([]byte, error) {
	var all bytes.Buffer
	if n == 0 {
		_, err := b.WriteTo(&all)
		return all.Bytes(), err
	}
	_, err := io.CopyBuffer(struct{ io.Writer }{&all}, struct{ io.Reader }{b}, make([]byte, n))
	return all.Bytes(), err
}

// exact checks that messages come back as they were, and that the status lines
// between them are in step.
func exact(t *testing.T, wire io.Reader, buffer, piece int, messages ...[]byte) {
	t.Helper()
	c := canned(wire, buffer)
	b := c.Bodies(t.Context())
	numbers := make([]int, len(messages))
	for i := range numbers {
		numbers[i] = i + 1
	}
	if err := b.Ask(numbers...); err != nil {
		t.Fatal(err)
	}
	for i, want := range messages {
		a, err := b.Next()
		if err != nil || a.Err != nil || a.Number != i+1 {
			t.Fatalf("message %d: %v %v", i, err, a)
		}
		if empty, err := a.Body.Empty(); err != nil || empty != (len(want) == 0) {
			t.Fatalf("message %d is empty: %v, %v", i, empty, err)
		}
		got, err := read(a.Body, piece)
		if err != nil || !bytes.Equal(got, kept(want)) {
			t.Fatalf("message %d: %v\n got %.300q\nwant %.300q", i, err, got, kept(want))
		}
		if a.Body.N != int64(len(got)) {
			t.Errorf("message %d: %d bytes counted, %d came", i, a.Body.N, len(got))
		}
	}
	if s, err := c.status(); err != nil || !s.OK || s.Text != "in step" {
		t.Fatalf("out of step: %v %v", s, err)
	}
}

func wireOf(messages ...[]byte) []byte {
	var all []byte
	for i, m := range messages {
		all = append(all, fmt.Sprintf("+OK %d\r\n", i)...)
		all = append(all, stuff(m)...)
	}
	return append(all, "+OK in step\r\n"...)
}

var nasty = []string{
	"", "\r\n", ".", "..", ".\r\n", "..\r\n", ".\r\n.", "\n.\n", "\r\n.\n", "\n.\r\n", "\r.\r", "\r\r\n.\r\n", "a\r\n.\r\nb",
	"a\n.\nb", "a\n.\r\nb", "a\r\n.", "a\r\n..", "a\r", "a\r\r", "\r", "\n", "\x00.\x00", "+OK\r\n-ERR\r\n.\r\n", "\r\n.\r", "\r\n.\r\r\n",
	".a", ".\ra", "..a\r\n...b", "\r\n\r\n.\r\n\r\n",
}

func TestBodyNasty(t *testing.T) {
	var all [][]byte
	for _, s := range nasty {
		all = append(all, []byte(s))
	}
	wire := wireOf(all...)
	for _, piece := range []int{0, 1, 2, 3, 7, 4096} {
		for _, buffer := range []int{16, 17, 18, 19, 4096} {
			exact(t, bytes.NewReader(wire), buffer, piece, all...)
			exact(t, iotest.OneByteReader(bytes.NewReader(wire)), buffer, piece, all...)
		}
	}
}

// TestBodyBorders puts every nasty sequence at every place around the end of
// the buffer.
func TestBodyBorders(t *testing.T) {
	for _, border := range []int{4096, 128 << 10} {
		for _, s := range nasty {
			for at := border - 12; at <= border+3; at++ {
				m := append(bytes.Repeat([]byte{'x'}, at), s...)
				m = append(m, "tail"...)
				exact(t, bytes.NewReader(wireOf(m, []byte("next"))), border, 0, m, []byte("next"))
			}
		}
	}
}

// TestBodyRandom: whatever a message is made of.
func TestBodyRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	bits := []string{".", "\r\n", "\n", "\r", "..", "\r\n.", "x", "\x00", "\xff", "From ", strings.Repeat("y", 60), "\r\n.\r\n"}
	n := 20_000
	if testing.Short() {
		n = 1000
	}
	for i := range n {
		var m []byte
		for range r.IntN(60) {
			m = append(m, bits[r.IntN(len(bits))]...)
		}
		exact(t, bytes.NewReader(wireOf(m, m)), 16+r.IntN(100), r.IntN(40), m, m)
		if t.Failed() {
			t.Fatalf("run %d", i)
		}
	}
}

// TestBodyLoose keeps what servers send that stuff no dots, as far as that can
// be told.
func TestBodyLoose(t *testing.T) {
	wire := "+OK\r\n.first\r\nx\r\n.second\r\n.\rthird\r\n..fourth\r\n.\r\n+OK in step\r\n"
	c := canned(strings.NewReader(wire), 4096)
	b := c.Bodies(t.Context())
	b.Ask(1)
	a, err := b.Next()
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(a.Body)
	if want := ".first\r\nx\r\n.second\r\n.\rthird\r\n.fourth\r\n"; string(got) != want || err != nil {
		t.Errorf("%q %v", got, err)
	}
}

// TestBodyCut ends the connection at every byte: never a body that looks
// whole, and never a plain EOF.
func TestBodyCut(t *testing.T) {
	for _, s := range append(nasty, "Subject: x\r\n\r\nbody\r\n") {
		wire := append([]byte("+OK\r\n"), stuff([]byte(s))...)
		for at := range len(wire) {
			for _, piece := range []int{0, 1, 5} {
				c := canned(bytes.NewReader(wire[:at]), 16)
				b := c.Bodies(t.Context())
				b.Ask(1)
				a, err := b.Next()
				if err == nil {
					_, err = read(a.Body, piece)
				}
				if !errors.Is(err, io.ErrUnexpectedEOF) || !mail.Temporary(err) || mail.ScopeOf(err, 0) != mail.ScopeFolder {
					t.Fatalf("%q cut at %d: %v", s, at, err)
				}
				if !c.Broken() {
					t.Fatalf("%q cut at %d: the session goes on", s, at)
				}
			}
		}
	}
}

// TestBodyRefused: one message that cannot be had is one message.
func TestBodyRefused(t *testing.T) {
	c := canned(strings.NewReader("-ERR gone\r\n+OK\r\nbody\r\n.\r\n-ERR [SYS/TEMP] later\r\n"), 4096)
	b := c.Bodies(t.Context())
	b.Ask(4, 5, 6)
	a, err := b.Next()
	if err != nil || a.Number != 4 || mail.ScopeOf(c.Refusal(a.Err), 0) != mail.ScopeMessage {
		t.Errorf("%v %v", a, err)
	}
	// What is not read is dropped.
	if a, err = b.Next(); err != nil || a.Number != 5 || a.Err != nil {
		t.Errorf("%v %v", a, err)
	}
	if a, err = b.Next(); err != nil || mail.ScopeOf(c.Refusal(a.Err), 0) != mail.ScopeFolder || !mail.Temporary(c.Refusal(a.Err)) {
		t.Errorf("%v %v", a, err)
	}
	if b.Open() != 0 {
		t.Error("still open")
	}
}

// TestConsumerFails leaves the rest to whoever cares.
func TestConsumerFails(t *testing.T) {
	full := errors.New("full")
	c := canned(bytes.NewReader(wireOf([]byte("text"))), 4096)
	b := c.Bodies(t.Context())
	b.Ask(1)
	a, err := b.Next()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Body.WriteTo(sink{0, full}); !errors.Is(err, full) {
		t.Errorf("%v", err)
	}
	c = canned(bytes.NewReader(wireOf([]byte("text"))), 4096)
	b = c.Bodies(t.Context())
	b.Ask(1)
	if a, err = b.Next(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Body.WriteTo(sink{1, nil}); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("%v", err)
	}
}

// A sink takes n bytes of each write.
type sink struct {
	n   int
	err error
}

func (s sink) Write([]byte) (int, error) { return s.n, s.err }

func BenchmarkStreamed(b *testing.B)  { benchmarkBodies(b, 1) }
func BenchmarkPipelined(b *testing.B) { benchmarkBodies(b, 64) }

// benchmarkBodies reads messages of 8 KB from memory: the cost of our side.
func benchmarkBodies(b *testing.B, open int) {
	m := []byte(strings.Repeat("a line of a message as there are so many of them.\r\n", 160))
	one := append([]byte("+OK 8000 octets\r\n"), stuff(m)...)
	r := &ring{data: one}
	c := canned(r, 128<<10)
	bodies := c.Bodies(b.Context())
	b.SetBytes(int64(len(m)))
	b.ReportAllocs()
	numbers := make([]int, open)
	for i := range numbers {
		numbers[i] = i + 1
	}
	for i := 0; b.Loop(); i++ {
		if i%open == 0 {
			if err := bodies.Ask(numbers...); err != nil {
				b.Fatal(err)
			}
		}
		a, err := bodies.Next()
		if err != nil {
			b.Fatal(err)
		}
		if _, err := a.Body.WriteTo(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLarge reads one message without end.
func BenchmarkLarge(b *testing.B) {
	line := []byte(strings.Repeat("x", 76) + "\r\n")
	r := io.MultiReader(strings.NewReader("+OK\r\n"), &ring{data: bytes.Repeat(line, 1000)})
	c := canned(r, 128<<10)
	bodies := c.Bodies(b.Context())
	bodies.Ask(1)
	a, err := bodies.Next()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		p, err := a.Body.next()
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(p)))
	}
}

// ring says the same for ever.
type ring struct {
	data []byte
	at   int
}

func (r *ring) Read(p []byte) (int, error) {
	n := copy(p, r.data[r.at:])
	r.at = (r.at + n) % len(r.data)
	return n, nil
}
