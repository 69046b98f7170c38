package mboxrd

import (
	"bytes"
	"crypto/sha256"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	gombox "github.com/emersion/go-mbox"

	"mailhaul/internal/mail"
)

var day = time.Date(2026, 3, 7, 9, 5, 1, 0, time.FixedZone("", 3600))

// record writes one record in pieces of n bytes.
func record(t testing.TB, text string, n int, status bool, flags mail.Flags) []byte {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b)
	write(t, w, text, n, status, false, flags)
	var plain bytes.Buffer
	write(t, NewWriter(&plain), text, n, status, !separates.MatchString(text), flags)
	if !bytes.Equal(plain.Bytes(), b.Bytes()) {
		t.Errorf("%q is written as %q when it is known to need no quoting", text, plain.Bytes())
	}
	return b.Bytes()
}

var separates = regexp.MustCompile(`(?m)^>*From `)

func write(t testing.TB, w *Writer, text string, n int, status, plain bool, flags mail.Flags) {
	t.Helper()
	if err := w.Begin("ann@example.org", day); err != nil {
		t.Fatal(err)
	}
	if status {
		if err := w.Status(flags); err != nil {
			t.Fatal(err)
		}
	}
	w.Plain(plain)
	for len(text) > 0 {
		k := min(n, len(text))
		if m, err := w.Write([]byte(text[:k])); m != k || err != nil {
			t.Fatal(m, err)
		}
		text = text[k:]
	}
	if err := w.End(); err != nil {
		t.Fatal(err)
	}
}

const line = "From ann@example.org Sat Mar  7 08:05:01 2026\n"

func TestRecord(t *testing.T) {
	for _, c := range []struct{ name, text, quoted string }{
		{"empty", "", ""},
		{"one line end", "\n", "\n"},
		{"plain", "A: b\n\nc\n", "A: b\n\nc\n"},
		{"blank lines at the end", "c\n\n\n", "c\n\n\n"},
		{"from", "From a\n", ">From a\n"},
		{"quoted from", ">From a\n>>From b\n", ">>From a\n>>>From b\n"},
		{"nearly from", "Fromage\n>Fro\nFrom\n>>\n From a\n", "Fromage\n>Fro\nFrom\n>>\n From a\n"},
		{"nothing behind", "From \n>From \n", ">From \n>>From \n"},
		{"cr", "From a\r\n\r\n", ">From a\r\n\r\n"},
		{"nul", "\x00\n", "\x00\n"},
		{"almost status", "Status: R\nX-Status: \nSubject: x\n", "Status: R\nX-Status: \nSubject: x\n"},
		{"status cut short", "Status: R\nX-Stat\n", "Status: R\nX-Stat\n"},
		{"status", "Status: R\nX-Status: \nX-Keywords: \n", "Status: O\nX-Status: \nX-Keywords: \nStatus: R\nX-Status: \nX-Keywords: \n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for n := 1; n <= 12; n++ {
				got := record(t, c.text, n, false, nil)
				if want := line + c.quoted + "\n"; string(got) != want {
					t.Fatalf("pieces of %d: got %q, want %q", n, got, want)
				}
				rec, err := At(bytes.NewReader(got), 0, int64(len(got)))
				if err != nil || !rec.Whole || !rec.Date.Equal(day) || rec.Sender != "ann@example.org" {
					t.Fatalf("%+v, %v", rec, err)
				}
				for _, slow := range []func(io.Reader) io.Reader{iotest.OneByteReader, iotest.HalfReader, iotest.DataErrReader} {
					text := rec.Text().(*unquoter)
					text.r = slow(text.r)
					back, err := io.ReadAll(text)
					if err != nil || string(back) != c.text {
						t.Fatalf("read %q, %v", back, err)
					}
				}
			}
		})
	}
}

func TestStatus(t *testing.T) {
	flags := mail.NewFlags(`\Seen`, `\Flagged`, `\Draft`, "Work", "$Junk")
	got := record(t, "A: b\n\nFrom c\n", 3, true, flags)
	want := line + "Status: RO\nX-Status: FT\nX-Keywords: $Junk Work \nA: b\n\n>From c\n\n"
	if string(got) != want {
		t.Fatalf("got %q", got)
	}
	rec, err := At(bytes.NewReader(got), 0, int64(len(got)))
	if err != nil || !rec.Status || !rec.Flags.Equal(flags) {
		t.Fatalf("%+v, %v", rec, err)
	}
	if text, _ := io.ReadAll(rec.Text()); string(text) != "A: b\n\nFrom c\n" {
		t.Fatalf("read %q", text)
	}
}

func TestSender(t *testing.T) {
	for _, c := range [][2]string{
		{"", "MAILER-DAEMON"},
		{"a b\nFrom x", "a-b-From-x"},
		{"Jörg\u2028@\x00example.org", "Jörg-@-example.org"},
	} {
		if got := Sender(c[0]); got != c[1] {
			t.Errorf("%q became %q, want %q", c[0], got, c[1])
		}
	}
	for _, d := range []time.Time{{}, time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC)} {
		var b bytes.Buffer
		w := NewWriter(&b)
		w.Begin("x", d)
		w.End()
		if got := b.String(); got != "From x Thu Jan  1 00:00:00 1970\n\n" {
			t.Errorf("got %q", got)
		}
	}
}

func TestSeparator(t *testing.T) {
	for _, c := range []struct {
		line, sender, date string
	}{
		{"From a@b Sat Mar  7 08:05:01 2026", "a@b", "2026-03-07T08:05:01Z"},
		{"From - Sat Mar 07 08:05:01 2026\r", "-", "2026-03-07T08:05:01Z"},
		{"From a@b  Sat Mar  7 08:05:01 2026", "a@b", "2026-03-07T08:05:01Z"},
		{"From a@b Sat Mar 7 08:05:01 2026 +0100", "a@b", "2026-03-07T07:05:01Z"},
		{"From a@b Sat Mar 7 08:05 2026", "a@b", "2026-03-07T08:05:00Z"},
		{"From 12@xxx Sat Mar 7 08:05:01 +0000 2026", "12@xxx", "2026-03-07T08:05:01Z"},
		{"From a b Sat, 7 Mar 2026 08:05:01 +0100", "a b", "2026-03-07T07:05:01Z"},
		{"From a Sat Mar  7 08:05:01 2026 remote from host", "a", "2026-03-07T08:05:01Z"},
		{"From here on we go", "", ""},
		{"From ", "", ""},
		{"From: a Sat Mar  7 08:05:01 2026", "", ""},
		{"From Sat to Mon we met in a town", "", ""},
	} {
		sender, date, ok := parseSeparator([]byte(c.line))
		if ok != (c.date != "") || sender != c.sender || ok && date.Format(time.RFC3339) != c.date {
			t.Errorf("%q: got %q, %s, %v", c.line, sender, date, ok)
		}
	}
}

func TestWalk(t *testing.T) {
	for _, c := range []struct {
		name, file string
		want       []string // text, with "stray " or "open " before it
	}{
		{"empty", "", nil},
		{"one", line + "a\n\n", []string{"a\n"}},
		{"two", line + "a\n\n" + line + "b\n\n", []string{"a\n", "b\n"}},
		{"no text", line + "\n" + line + "\n", []string{"", ""}},
		{"open", line + "a\n\n" + line + "b\n", []string{"a\n", "open b\n"}},
		{"open line", line + "a", []string{"open a\n"}},
		{"only a separator", line, []string{"open "}},
		{"stray", "abc\n\n" + line + "b\n\n", []string{"stray abc\n\n", "b\n"}},
		{"only stray", "abc", []string{"stray abc\n"}},
		{"cut separator", line + "a\n\nFrom ann@exam", []string{"open a\n\nFrom ann@exam\n"}},
		{"line ends before", "\n\n" + line + "a\n\n", []string{"a\n"}},
		{"no date", line + "a\n\nFrom here on\n\n", []string{"a\n\nFrom here on\n"}},
		{"no empty line before", line + "a\n" + line + "b\n\n", []string{"a\n" + line + "b\n"}},
		{"zeros", line + "a\n\n\x00\x00\x00", []string{"open a\n\n\x00\x00\x00\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			end := int64(0)
			for rec, err := range Walk(strings.NewReader(c.file), 0, int64(len(c.file))) {
				if err != nil {
					t.Fatal(err)
				}
				text, err := io.ReadAll(rec.Text())
				if err != nil {
					t.Fatal(err)
				}
				kind := ""
				if rec.Stray {
					kind = "stray "
				} else if !rec.Whole {
					kind = "open "
				}
				got = append(got, kind+string(text))
				end = rec.Offset + rec.Length
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if end != int64(len(c.file)) {
				t.Errorf("ended at %d of %d", end, len(c.file))
			}
		})
	}
}

// TestWalkLarge puts the beginning of a record at every distance from the end of
// the walker's buffer. What is told of it is what At tells.
func TestWalkLarge(t *testing.T) {
	step := 1
	if testing.Short() {
		step = 7
	}
	for pad := 256<<10 - 300; pad < 256<<10+10; pad += step {
		first := string(record(t, strings.Repeat("x", pad)+"\n", 1<<20, false, nil))
		file := first + string(record(t, "b\n", 1<<20, true, mail.NewFlags(`\Seen`, "Work"))) + line + "c\n\n"
		var at []int64
		for rec, err := range Walk(strings.NewReader(file), 0, int64(len(file))) {
			if err != nil {
				t.Fatal(err)
			}
			at = append(at, rec.Offset)
			want, err := At(rec.r, rec.Offset, rec.Length)
			if err != nil || !reflect.DeepEqual(rec, want) {
				t.Fatalf("pad %d: walked to %+v, there is %+v, %v", pad, rec, want, err)
			}
		}
		if want := []int64{0, int64(len(first)), int64(len(file) - len(line) - 3)}; !slices.Equal(at, want) {
			t.Fatalf("pad %d: records at %d, want %d", pad, at, want)
		}
	}
}

func TestCut(t *testing.T) {
	for _, text := range []string{"", "a\n", ">From b\n\n", "From \nFrom \n"} {
		whole := string(record(t, text, 100, false, nil))
		for _, rest := range []string{"", "Fr", "From ann@exa", "\x00\x00\x00", "\n", "x\n\n"} {
			file := whole + rest
			for rec, err := range Walk(strings.NewReader(file), 0, int64(len(file))) {
				if err != nil {
					t.Fatal(err)
				}
				cut, ok, err := rec.Cut(int64(len(text)))
				if err != nil || !ok || cut.Length != int64(len(whole)) {
					t.Fatalf("%q: %+v, %v, %v", file, cut, ok, err)
				}
				if got, _ := io.ReadAll(cut.Text()); string(got) != text {
					t.Fatalf("%q: text is %q", file, got)
				}
				if _, ok, _ := rec.Cut(int64(len(file))); ok {
					t.Fatalf("%q: cut behind its end", file)
				}
				break
			}
		}
	}
}

func TestAt(t *testing.T) {
	file := line + "a\n\n" + line + "b\n\n"
	for _, c := range []struct{ at, n int64 }{{1, 10}, {0, 3}, {1000, 10}, {-1, 5}} {
		if _, err := At(strings.NewReader(file), c.at, c.n); err == nil {
			t.Errorf("a record at %d+%d", c.at, c.n)
		}
	}
}

// FuzzRecord is row H2: reading undoes writing, for every text form, in
// pieces of any size, with and without a status block, alone or among others.
func FuzzRecord(f *testing.F) {
	for _, s := range []string{"", "\n", "From \n", ">>From a\n>From", "a\n\nFrom b Sat Mar  7 08:05:01 2026\n", "Status: R\nX-Status: \nX-Keywords: \n", "Status: \n"} {
		f.Add(s, s+"x", uint8(3), false)
		f.Add(s, "Status: O\n"+s, uint8(100), true)
	}
	f.Fuzz(func(t *testing.T, a, b string, n uint8, status bool) {
		texts := []string{closed(a), closed(b), closed(a)}
		var file bytes.Buffer
		w := NewWriter(&file)
		for i, s := range texts {
			write(t, w, s, int(n)+1, status == (i == 0), false, mail.NewFlags(`\Seen`))
			record(t, s, int(n)+1, status == (i == 0), nil)
		}
		i := 0
		for rec, err := range Walk(bytes.NewReader(file.Bytes()), 0, int64(file.Len())) {
			if err != nil || rec.Stray || !rec.Whole || i == len(texts) {
				t.Fatalf("%+v, %v", rec, err)
			}
			text, err := io.ReadAll(iotest.OneByteReader(rec.Text()))
			if err != nil || string(text) != texts[i] {
				t.Fatalf("%q became %q, %v", texts[i], text, err)
			}
			again, err := At(bytes.NewReader(file.Bytes()), rec.Offset, rec.Length)
			if err != nil {
				t.Fatal(err)
			}
			if text, _ := io.ReadAll(again.Text()); string(text) != texts[i] {
				t.Fatalf("%q became %q", texts[i], text)
			}
			i++
		}
		if i != len(texts) {
			t.Fatalf("%d records in %q", i, file.Bytes())
		}
		if got := opinion(t, file.Bytes()); got != i {
			t.Fatalf("go-mbox counts %d messages in %q", got, file.Bytes())
		}
	})
}

// opinion is go-mbox's opinion.
func opinion(t *testing.T, file []byte) int {
	r := gombox.NewReader(bytes.NewReader(file))
	for n := 0; ; n++ {
		m, err := r.NextMessage()
		if err == io.EOF {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, m)
	}
}

func closed(s string) string {
	if s == "" || s[len(s)-1] == '\n' {
		return s
	}
	return s + "\n"
}

// FuzzWalk reads anything: the records are one behind the other and cover the
// file.
func FuzzWalk(f *testing.F) {
	f.Add([]byte(line+"a\n\n"+line), uint16(0))
	f.Fuzz(func(t *testing.T, file []byte, from uint16) {
		start := min(int64(from), int64(len(file)))
		end := start
		for rec, err := range Walk(bytes.NewReader(file), start, int64(len(file))) {
			if err != nil {
				t.Fatal(err)
			}
			if rec.Offset < end || rec.Offset > end && (end != start || rec.Offset > end+2) || rec.Length <= 0 {
				t.Fatalf("%+v behind %d in %q", rec, end, file)
			}
			end = rec.Offset + rec.Length
			if _, err := io.Copy(io.Discard, rec.Text()); err != nil {
				t.Fatal(err)
			}
		}
		if end != int64(len(file)) {
			t.Fatalf("ended at %d of %d", end, len(file))
		}
	})
}

// mail8k is like what people write: lines of all lengths, quotes, a "From ".
var mail8k = strings.Repeat("> quoted line of somebody else's\nan answer to it which is rather longer, as they are\n\nFrom here on\n"+
	strings.Repeat("a line of the usual length in a mail that people write\n", 12), 12)

func BenchmarkQuote(b *testing.B) {
	w := NewWriter(io.Discard)
	text := []byte(mail8k)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		w.Begin("ann@example.org", day)
		w.Write(text)
		w.End()
	}
}

func BenchmarkUnquote(b *testing.B) {
	file := record(b, mail8k, 1<<20, false, nil)
	r := bytes.NewReader(file)
	buf := make([]byte, 64<<10)
	b.SetBytes(int64(len(file)))
	b.ReportAllocs()
	for b.Loop() {
		rec, _ := At(r, 0, int64(len(file)))
		io.CopyBuffer(struct{ io.Writer }{io.Discard}, rec.Text(), buf)
	}
}

func BenchmarkWalk(b *testing.B) {
	file := bytes.Repeat(record(b, mail8k, 1<<20, false, nil), 1000)
	b.SetBytes(int64(len(file)))
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for range Walk(bytes.NewReader(file), 0, int64(len(file))) {
			n++
		}
		if n != 1000 {
			b.Fatal(n)
		}
	}
}

func BenchmarkSHA256(b *testing.B) {
	b.SetBytes(int64(len(mail8k)))
	for b.Loop() {
		sha256.Sum256([]byte(mail8k))
	}
}
