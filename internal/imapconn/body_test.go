package imapconn

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"mailhaul/internal/mail"
)

// fetched is what one command for bodies brought.
func fetched(c *Conn, t *testing.T, read func(io.Reader) ([]byte, error)) (got []string, done *Done, err error) {
	b := c.Bodies(t.Context())
	defer b.End()
	if _, err := b.Ask("1:*"); err != nil {
		return nil, nil, err
	}
	for {
		body, done, err := b.Next()
		switch {
		case err != nil:
			return got, nil, err
		case done != nil:
			return got, done, nil
		}
		text, err := read(body)
		if err != nil {
			return got, nil, err
		}
		if body.None {
			text = []byte("NIL")
		} else if int64(len(text)) != body.Size {
			t.Errorf("%d bytes of %d", len(text), body.Size)
		}
		got = append(got, fmt.Sprintf("%d:%s", body.UID, text))
	}
}

func byCopy(r io.Reader) ([]byte, error) {
	var b bytes.Buffer
	_, err := io.Copy(&b, r)
	return b.Bytes(), err
}

var bodies = []struct {
	name, say, want string
	bad             bool // the connection must end
}{
	{name: "uid first", say: "* 1 FETCH (UID 7 BODY[] {5}\r\nhello)\r\n", want: "7:hello"},
	{name: "uid last", say: "* 1 FETCH (BODY[] {5}\r\nhello UID 7)\r\n", want: "7:hello"},
	{name: "uid between others", say: "* 1 FETCH (FLAGS (\\Seen) UID 7 MODSEQ (12) BODY[] {5}\r\nhello FLAGS ())\r\n", want: "7:hello"},
	{name: "literal8", say: "* 1 FETCH (UID 7 BODY[] ~{5}\r\nhe\x00lo)\r\n", want: "7:he\x00lo"},
	{name: "non-synchronising", say: "* 1 FETCH (UID 7 BODY[] {5+}\r\nhello)\r\n", want: "7:hello"},
	{name: "quoted", say: "* 1 FETCH (UID 7 BODY[] \"he\\\"lo\")\r\n", want: "7:he\"lo"},
	{name: "nil", say: "* 1 FETCH (UID 7 BODY[] NIL)\r\n", want: "7:NIL"},
	{name: "small letters", say: "* 1 fetch (uid 7 body[] nil)\r\n", want: "7:NIL"},
	{name: "empty literal", say: "* 1 FETCH (UID 7 BODY[] {0}\r\n)\r\n", want: "7:"},
	{name: "empty string", say: "* 1 FETCH (UID 7 BODY[] \"\")\r\n", want: "7:"},
	{name: "origin", say: "* 1 FETCH (UID 7 BODY[]<0> {2}\r\nhi)\r\n", want: "7:hi"},
	{name: "no body", say: "* 1 FETCH (UID 7)\r\n", want: ""},
	{name: "no uid at all", say: "* 1 FETCH (BODY[] {5}\r\nhello)\r\n", want: ""},
	{name: "flags before", say: "* 1 FETCH (UID 7 FLAGS (\\Seen))\r\n* 1 FETCH (UID 7 BODY[] {2}\r\nhi)\r\n", want: "7:hi"},
	{name: "flags after", say: "* 1 FETCH (UID 7 BODY[] {2}\r\nhi)\r\n* 1 FETCH (UID 7 FLAGS (\\Seen))\r\n", want: "7:hi"},
	{name: "twice", say: "* 1 FETCH (UID 7 BODY[] {2}\r\nhi)\r\n* 1 FETCH (UID 7 BODY[] {2}\r\nho)\r\n", want: "7:hi 7:ho"},
	{name: "lone line feeds", say: "* 1 FETCH (UID 7 BODY[] {2}\nhi)\n", want: "7:hi"},
	{name: "blanks before brackets", say: "* 1 FETCH ( UID 7  BODY[] {2}\r\nhi )\r\n", want: "7:hi"},
	{name: "unknown items", say: "* 1 FETCH (X-ODD (a (\"b)\" {3}\r\n))) NIL) c]d) EMAILID (M1) UID 7 BODY[] {2}\r\nhi X-Y {1}\r\n( X-Z NIL THREADID (T1))\r\n", want: "7:hi"},
	{name: "header sections", say: "* 1 FETCH (BODY[HEADER.FIELDS (DATE \"FROM\")] {3}\r\nx)y UID 7 BODY[] {2}\r\nhi)\r\n", want: "7:hi"},
	{name: "odd flags", say: "* 1 FETCH (FLAGS (a]b \"c d\" \\* $x[1] +IMNews) UID 7 BODY[] {2}\r\nhi)\r\n", want: "7:hi"},
	{name: "no date", say: "* 1 FETCH (INTERNALDATE \"00-Jan-0000 99:00:00 GMT\" UID 7 BODY[] {2}\r\nhi)\r\n", want: "7:hi"},
	{name: "negative size", say: "* 1 FETCH (RFC822.SIZE -1 UID 7 BODY[] {2}\r\nhi)\r\n", want: "7:hi"},
	{name: "envelope of rubbish", say: "* 1 FETCH (ENVELOPE (\"x\" ((NIL NIL)) {2}\r\n\"( NIL) UID 7 BODY[] {2}\r\nhi)\r\n", want: "7:hi"},
	{name: "others between", say: "* OK [INPROGRESS (\"A\" 1 2)] on it\r\n* 3 EXISTS\r\n* VANISHED 1:4\r\n* XLIST () {4}\r\n* 1 \r\n* SEARCH\r\n\r\n+ what\r\n* 1 FETCH (UID 7 BODY[] {2}\r\nhi)\r\n* 2 EXPUNGE\r\n* X-MORE ((((\r\n", want: "7:hi"},
	{name: "looks like the end", say: "* 1 FETCH (UID 7 BODY[] {13}\r\n)\r\nM1 OK no\r\n)\r\n", want: "7:)\r\nM1 OK no\r\n"},
	{name: "announced text", say: "* NO [ALERT] {5}\r\n* 1 FETCH (UID 7 BODY[] {2}\r\nhi)\r\n", want: "7:hi"},

	{name: "one byte too many announced", say: "* 1 FETCH (UID 7 BODY[] {6}\r\nhello)\r\n", bad: true},
	{name: "one byte too few announced", say: "* 1 FETCH (UID 7 BODY[] {4}\r\nhello)\r\n", bad: true},
	{name: "many too few", say: "* 1 FETCH (UID 7 BODY[] {5}\r\n" + strings.Repeat("hello\r\n", 200) + ")\r\n", bad: true},
	{name: "uid last, too few", say: "* 1 FETCH (BODY[] {4}\r\nhello UID 7)\r\n", bad: true},
	{name: "no bracket", say: "* 1 FETCH (UID 7 BODY[] {5}\r\nhello\r\n", bad: true},
	{name: "behind the bracket", say: "* 1 FETCH (UID 7 BODY[] {5}\r\nhello) more\r\n", bad: true},
	{name: "uid zero", say: "* 1 FETCH (UID 0 BODY[] {5}\r\nhello)\r\n", bad: true},
	{name: "uid too large", say: "* 1 FETCH (UID 4294967296 BODY[] {5}\r\nhello)\r\n", bad: true},
	{name: "far too few, then an item as it seems", say: "* 1 FETCH (UID 7 BODY[] {23}\r\n)\r\n* 2 FETCH (UID 8 BODY[] {2}\r\nhi)\r\n", bad: true},
	{name: "far too few, then a list", say: "* 1 FETCH (UID 7 BODY[] {6}\r\n)\r\n* 2 FETCH (UID 8 BODY[] {2}\r\nhi)\r\n", bad: true},
	{name: "unknown behind", say: "* 1 FETCH (UID 7 BODY[] {5}\r\nhello world NIL)\r\n", bad: true},
	{name: "two uids", say: "* 1 FETCH (UID 7 BODY[] {5}\r\nhello UID 8)\r\n", bad: true},
	{name: "two bodies", say: "* 1 FETCH (UID 7 BODY[] {2}\r\nhi BODY[] {2}\r\nho)\r\n", bad: true},
	{name: "size beyond 63 bits", say: "* 1 FETCH (UID 7 BODY[] {9223372036854775808}\r\nhello)\r\n", bad: true},
	{name: "size beyond 64 bits", say: "* 1 FETCH (UID 7 BODY[] {99999999999999999999}\r\nhello)\r\n", bad: true},
	{name: "size of letters", say: "* 1 FETCH (UID 7 BODY[] {x}\r\nhello)\r\n", bad: true},
	{name: "another's answer", say: "M99 OK done\r\n", want: "", bad: false},
	{name: "rubbish", say: "hello\r\n", bad: true},
	{name: "deep", say: "* 1 FETCH (X " + strings.Repeat("(", 100_000) + "\r\n", bad: true},
	{name: "endless line", say: "* 1 FETCH (X " + strings.Repeat("x", mostLine) + "\r\n", bad: true},
	{name: "huge item", say: "* 1 FETCH (X {1048577}\r\n", bad: true},
	{name: "many large items", say: "* 1 FETCH (" + strings.Repeat("X {1000000}\r\n"+strings.Repeat("x", 1000000)+" ", 18) + "\r\n", bad: true},
}

// TestBodies are rows A1 to A5, A14 and A16, and traps T1 to T3, T11, T12, T16
// and T17.
func TestBodies(t *testing.T) {
	for _, b := range bodies {
		for how, read := range map[string]func(io.Reader) ([]byte, error){
			"copied": byCopy, "read": io.ReadAll,
			"byte by byte": func(r io.Reader) ([]byte, error) { return io.ReadAll(iotest.OneByteReader(r)) },
		} {
			t.Run(b.name+"/"+how, func(t *testing.T) {
				served(t, func(p *peer) {
					tag, _ := p.command()
					io.WriteString(p, b.say)
					p.say(tag + " OK done")
					p.rest()
				}, func(t *testing.T, c *Conn) {
					got, done, err := fetched(c, t, read)
					if b.bad {
						if err == nil {
							t.Fatalf("got %q without an error", got)
						}
						if !c.Broken() || !mail.Temporary(err) || mail.ScopeOf(err, 0) != mail.ScopeFolder {
							t.Errorf("wrong kind of error: %v", err)
						}
						return
					}
					if b.name == "another's answer" {
						return
					}
					if err != nil || done.Status.Type != "OK" {
						t.Fatal(err)
					}
					if s := strings.Join(got, " "); s != b.want {
						t.Errorf("got %q, want %q", s, b.want)
					}
				})
			})
		}
	}
}

// TestUnreadBody leaves bodies alone: the next one must be right all the same.
func TestUnreadBody(t *testing.T) {
	served(t, func(p *peer) {
		tag, _ := p.command()
		for i := 1; i <= 3; i++ {
			p.say(fmt.Sprintf("* %d FETCH (UID %d BODY[] {6}", i, i), fmt.Sprintf("body%d\n)", i))
		}
		p.say(tag + " OK done")
		p.rest()
	}, func(t *testing.T, c *Conn) {
		n := 0
		got, _, err := fetched(c, t, func(r io.Reader) ([]byte, error) {
			if n++; n == 2 {
				return io.ReadAll(r)
			}
			return make([]byte, 6), nil
		})
		if err != nil || len(got) != 3 || got[1] != "2:body2\n" {
			t.Errorf("%q, %v", got, err)
		}
		if err := c.Noop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestLargeNameless puts a body aside on disk that is too large for memory.
func TestLargeNameless(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	want := bytes.Repeat([]byte("0123456789abcde\n"), 1<<17)
	served(t, func(p *peer) {
		tag, _ := p.command()
		fmt.Fprintf(p, "* 1 FETCH (BODY[] {%d}\r\n%s UID 9)\r\n", len(want), want)
		p.say(tag + " OK done")
		p.rest()
	}, func(t *testing.T, c *Conn) {
		b := c.Bodies(t.Context())
		defer b.End()
		b.Ask("9")
		body, _, err := b.Next()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(body)
		if err != nil || body.UID != 9 || !bytes.Equal(got, want) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if left, _ := os.ReadDir(os.Getenv("TMPDIR")); len(left) > 0 {
			t.Errorf("%v is left behind", left)
		}
		if _, done, err := b.Next(); done == nil || err != nil {
			t.Error(err)
		}
	})
}

// TestCut is row A1: the connection ends at every byte of a transcript, and no
// message but a whole one ever ends well.
func TestCut(t *testing.T) {
	whole := map[uint32]string{3: "one\r\n", 4: "two)\r\n* 9 FETCH (UID 4)\r\n", 5: "three", 6: ""}
	transcript := ready + "\r\n" +
		"* 1 FETCH (UID 3 BODY[] {5}\r\n" + whole[3] + ")\r\n" +
		"* 9 FETCH (UID 3 FLAGS (\\Seen))\r\n" +
		fmt.Sprintf("* 2 FETCH (BODY[] {%d}\r\n", len(whole[4])) + whole[4] + " UID 4)\r\n" +
		"* OK hold on\r\n" +
		"* 3 FETCH (UID 5 BODY[] {5}\r\nthree FLAGS (\\Seen))\r\n" +
		"* 4 FETCH (UID 6 BODY[] \"\")\r\n" +
		"M1 OK done\r\n"
	for at := range len(transcript) {
		talk(t, Options{}, func(p *peer) {
			io.WriteString(p, transcript[:at])
		}, func(t *testing.T, c *Conn, err error) {
			if at < len(ready)+2 {
				if err == nil {
					t.Fatalf("cut at %d: let in", at)
				}
				return
			}
			if err != nil {
				t.Fatalf("cut at %d: %v", at, err)
			}
			got, _, err := fetched(c, t, byCopy)
			if err == nil {
				t.Errorf("cut at %d: no error", at)
			}
			if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("cut at %d: %v", at, err)
			}
			for i, g := range got {
				uid := uint32(i + 3)
				if want := fmt.Sprintf("%d:%s", uid, whole[uid]); g != want {
					t.Errorf("cut at %d: got %q, want %q", at, g, want)
				}
			}
		})
	}
}

// TestPipelined has several commands open at once; the server mixes answers.
func TestPipelined(t *testing.T) {
	served(t, func(p *peer) {
		var tags []string
		for range 3 {
			tag, _ := p.command()
			tags = append(tags, tag)
		}
		p.say("* 1 FETCH (UID 1 BODY[] {1}", "a)", "* 2 FETCH (UID 2 BODY[] {1}", "b)",
			tags[0]+" OK", tags[1]+" NO [SERVERBUG] sorry", "* 3 FETCH (UID 3 BODY[] {1}", "c)", tags[2]+" OK done")
		p.rest()
	}, func(t *testing.T, c *Conn) {
		b := c.Bodies(t.Context())
		defer b.End()
		for i := range 3 {
			b.Ask(fmt.Sprint(i + 1))
		}
		var got []string
		for b.Open() > 0 {
			body, done, err := b.Next()
			switch {
			case err != nil:
				t.Fatal(err)
			case done != nil:
				got = append(got, done.Tag+done.Status.Type)
			default:
				text, _ := io.ReadAll(body)
				got = append(got, string(text))
			}
		}
		if s := strings.Join(got, " "); s != "a b M1OK M2NO c M3OK" {
			t.Error(s)
		}
	})
}

// TestEndInTheMiddle: who leaves while answers are to come loses the
// connection, not the next user's place in the stream.
func TestEndInTheMiddle(t *testing.T) {
	served(t, func(p *peer) {
		p.command()
		p.say("* 1 FETCH (UID 1 BODY[] {1000}", "a")
		p.rest()
	}, func(t *testing.T, c *Conn) {
		b := c.Bodies(t.Context())
		b.Ask("1")
		if _, _, err := b.Next(); err != nil {
			t.Fatal(err)
		}
		b.End()
		if !c.Broken() {
			t.Error("the connection is used on")
		}
	})
}

// BenchmarkBodies reads from a server that only writes prepared bytes.
func BenchmarkBodies(b *testing.B) {
	for _, size := range []int{1 << 10, 8 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			c := canned(b, size, b.N)
			defer c.Close()
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.ResetTimer()
			s := c.Bodies(b.Context())
			defer s.End()
			if _, err := s.Ask("1:*"); err != nil {
				b.Fatal(err)
			}
			n := 0
			for {
				body, done, err := s.Next()
				if err != nil {
					b.Fatal(err)
				}
				if done != nil {
					break
				}
				if _, err := io.Copy(io.Discard, body); err != nil {
					b.Fatal(err)
				}
				n++
			}
			if n != b.N {
				b.Fatalf("%d of %d", n, b.N)
			}
			runtime.KeepAlive(c)
		})
	}
}
