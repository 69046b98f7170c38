package mail

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
)

// fold runs body through a Folder in pieces of n bytes.
func fold(t testing.TB, body []byte, n int) ([]byte, Ends) {
	t.Helper()
	var f Folder
	var text []byte
	for rest := body; len(rest) > 0; {
		piece := rest[:min(n, len(rest))]
		var took int
		var err error
		text, took, err = f.Append(text, piece)
		if err != nil {
			// as the spool does: rebuild, then keep
			var raw bytes.Buffer
			w := f.Ends().Restore(&raw)
			w.Write(text)
			w.Close()
			raw.Write(rest[took:])
			text = raw.Bytes()
			e := Ends{Kind: EndsKept}
			if len(text) > 0 && text[len(text)-1] != '\n' {
				text = append(text, '\n')
				e.Open = true
			}
			return text, e
		}
		rest = rest[len(piece):]
	}
	return f.Close(text)
}

func restore(t testing.TB, text []byte, e Ends, n int) []byte {
	t.Helper()
	back, err := ParseEnds(e.String())
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := back.Restore(&b)
	for len(text) > 0 {
		k := min(n, len(text))
		if _, err := w.Write(text[:k]); err != nil {
			t.Fatal(err)
		}
		text = text[k:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestText(t *testing.T) {
	for _, c := range []struct{ name, raw, text, ends string }{
		{"empty", "", "", "crlf"},
		{"one line", "a\r\n", "a\n", "crlf"},
		{"open", "a", "a\n", "crlf-open"},
		{"open behind crlf", "a\r\nb", "a\nb\n", "crlf-open"},
		{"only cr", "\r", "\r\n", "crlf-open"},
		{"two cr", "a\r\r\n", "a\r\n", "crlf"},
		{"lf", "a\nb\n", "a\nb\n", "lf"},
		{"lf open", "a\nb", "a\nb\n", "lf-open"},
		{"mixed", "a\r\nb\nc\r\n", "a\nb\nc\n", "mixed:1,1,1"},
		{"lf first", "a\nb\r\n", "a\nb\n", "mixed:0,1,1"},
		{"blank lines", "\r\n\r\n\r\n", "\n\n\n", "crlf"},
		{"nul", "\x00\r\n", "\x00\n", "crlf"},
		{"lone cr inside", "a\rb\r\n", "a\rb\n", "crlf"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for n := 1; n <= 4; n++ {
				text, e := fold(t, []byte(c.raw), n)
				if string(text) != c.text || e.String() != c.ends {
					t.Errorf("pieces of %d: got %q %s, want %q %s", n, text, e, c.text, c.ends)
				}
				if got := restore(t, text, e, n); string(got) != c.raw {
					t.Errorf("pieces of %d: restored %q, want %q", n, got, c.raw)
				}
				if got := e.Size(int64(len(text)), int64(bytes.Count(text, []byte("\n")))); got != int64(len(c.raw)) {
					t.Errorf("size is %d, want %d", got, len(c.raw))
				}
			}
		})
	}
}

// TestPlain folds texts in one piece, where it is certain, and in small ones,
// where it may be no more than suspected.
func TestPlain(t *testing.T) {
	for _, c := range []struct {
		raw   string
		plain bool
	}{
		{"", true},
		{"a\r\nFrom \r\n", false},
		{"From a", false},
		{"a\nFrom b", false},
		{">>>From b", false},
		{"a\r\n\r\n>From b\r\n", false},
		{"a From b\r\n", true},
		{"a\rFrom b\r\n", true},
		{"\rFrom b\r\n", true},
		{" From b\r\n", true},
		{"From: b\r\n", true},
		{"from b\r\n", true},
		{">>> > From b\r\nFROM a\r\nFrom\tb\r\nFro\r\n>\r\n", true},
	} {
		for n := 1; n <= max(1, len(c.raw)); n++ {
			var f Folder
			for rest := []byte(c.raw); len(rest) > 0; rest = rest[min(n, len(rest)):] {
				if _, _, err := f.Append(nil, rest[:min(n, len(rest))]); err != nil {
					t.Fatal(err)
				}
			}
			if f.Plain() && !c.plain || n == len(c.raw) && f.Plain() != c.plain {
				t.Errorf("%q in pieces of %d: plain is %v", c.raw, n, f.Plain())
			}
		}
	}
}

func TestTooMixed(t *testing.T) {
	raw := []byte("head\r\n" + strings.Repeat("x\ny\r\n", MostRuns) + "tail")
	text, e := fold(t, raw, 1000)
	if e.Kind != EndsKept || !e.Open {
		t.Fatalf("ends are %s", e)
	}
	if got := restore(t, text, e, 777); !bytes.Equal(got, raw) {
		t.Fatalf("%d bytes came back as %d others", len(raw), len(got))
	}
	if got := e.Size(int64(len(text)), int64(bytes.Count(text, []byte("\n")))); got != int64(len(raw)) {
		t.Fatalf("size is %d, want %d", got, len(raw))
	}
}

// TestSize compares Size with what Restore makes of any ends, those too that
// do not fit the text.
func TestSize(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		e := Ends{Kind: []string{EndsCRLF, EndsLF, EndsMixed, EndsKept}[rnd.IntN(4)], Open: rnd.IntN(2) == 0}
		if e.Kind == EndsMixed {
			for range rnd.IntN(6) {
				e.Runs = append(e.Runs, uint32(rnd.IntN(4)))
			}
		}
		var text []byte
		for range rnd.IntN(12) {
			text = append(append(text, "abcdef\r"[:rnd.IntN(8)]...), '\n')
		}
		var b bytes.Buffer
		w := e.Restore(&b)
		w.Write(text)
		w.Close()
		if got := e.Size(int64(len(text)), int64(bytes.Count(text, []byte("\n")))); got != int64(b.Len()) {
			t.Fatalf("size of %q with %s is %d, restored it has %d", text, e, got, b.Len())
		}
	}
}

func FuzzText(f *testing.F) {
	f.Add([]byte("a\r\nb\n\r\r\n"), uint8(3))
	f.Fuzz(func(t *testing.T, raw []byte, n uint8) {
		text, e := fold(t, raw, int(n)+1)
		if len(text) > 0 && text[len(text)-1] != '\n' {
			t.Fatalf("text form %q is open", text)
		}
		if got := restore(t, text, e, int(n)+1); !bytes.Equal(got, raw) {
			t.Fatalf("%q came back as %q by %s", raw, got, e)
		}
		if got := e.Size(int64(len(text)), int64(bytes.Count(text, []byte("\n")))); got != int64(len(raw)) {
			t.Fatalf("size of %q is said to be %d", raw, got)
		}
	})
}

func BenchmarkFold(b *testing.B) {
	raw := []byte(strings.Repeat("a line of the usual length in a mail that people write, more or less\r\n", 120))
	dst := make([]byte, 0, len(raw))
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		var f Folder
		dst, _, _ = f.Append(dst[:0], raw)
	}
}
