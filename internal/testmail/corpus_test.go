package testmail

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"io"
	"slices"
	"testing"

	"mailhaul/internal/mail"
)

func TestCorpus(t *testing.T) {
	names := map[string]bool{}
	again := Corpus()
	for i, m := range Corpus() {
		if names[m.Name] {
			t.Errorf("%s: name used twice", m.Name)
		}
		names[m.Name] = true
		if !bytes.Equal(m.Raw(), again[i].Raw()) {
			t.Errorf("%s: other bytes the second time", m.Name)
		}
		if n, _ := io.Copy(io.Discard, m.Open()); n != m.Size {
			t.Errorf("%s: %d bytes, claims %d", m.Name, n, m.Size)
		}
	}
	t.Logf("%d messages", len(names))
}

func TestLarge(t *testing.T) {
	for _, size := range []int64{0, 1, 10_000_000} {
		m := Large(size)
		if n, _ := io.Copy(io.Discard, m.Open()); n != m.Size || n < size {
			t.Errorf("%s: %d bytes, claims %d", m.Name, n, m.Size)
		}
	}
}

func TestGenerate(t *testing.T) {
	seen := map[[32]byte]bool{}
	var first []Message
	var sum int64
	for m := range Generate(1, 500) {
		first = append(first, m)
		seen[sha256.Sum256(m.Raw())] = true
		sum += m.Size
	}
	if len(seen) != 500 {
		t.Errorf("%d different messages of 500", len(seen))
	}
	i := 0
	for m := range Generate(1, 100) {
		if !bytes.Equal(m.Raw(), first[i].Raw()) || !m.Date.Equal(first[i].Date) || !m.Flags.Equal(first[i].Flags) {
			t.Fatalf("message %d depends on n", i)
		}
		i++
	}
	if !slices.IsSortedFunc(first, func(a, b Message) int { return a.Date.Compare(b.Date) }) {
		t.Error("dates are out of order")
	}
	t.Logf("mean size %d", sum/500)
}

func TestEncodeName(t *testing.T) {
	for name, want := range map[string]string{
		"INBOX":        "INBOX",
		"Größe & Maße": "Gr&APYA3w-e &- Ma&AN8-e",
		"日本語":          "&ZeVnLIqe-",
		"🎉":            "&2DzfiQ-",
	} {
		if got := EncodeName(name); got != want {
			t.Errorf("%s became %s, want %s", name, got, want)
		}
	}
}

func TestPaths(t *testing.T) {
	seen := map[mail.Path]bool{}
	for _, p := range Paths() {
		if seen[p] || mail.Join(p.Parts()...) != p {
			t.Errorf("path %q is there twice or does not come back", p)
		}
		seen[p] = true
	}
}

func TestAuthority(t *testing.T) {
	a, err := NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		config *tls.Config
		good   bool
	}{{"good", a.Server(), true}, {"expired", a.Expired(), false}, {"wrong name", a.WrongName(), false}} {
		t.Run(c.name, func(t *testing.T) {
			l, err := tls.Listen("tcp", "127.0.0.1:0", c.config)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				if conn, err := l.Accept(); err == nil {
					conn.(*tls.Conn).Handshake()
					conn.Close()
				}
			}()
			conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: a.Pool()})
			if (err == nil) != c.good {
				t.Errorf("handshake: %v", err)
			}
			if err == nil {
				conn.Close()
			}
		})
	}
}

func BenchmarkGenerate(b *testing.B) {
	for b.Loop() {
		for m := range Generate(1, 1000) {
			b.SetBytes(m.Size * 1000)
		}
	}
}
