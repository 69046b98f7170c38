package imapconn

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"mailhaul/internal/mail"
	"mailhaul/internal/netconn"
)

// record is a connection that takes everything and says what is on it.
type record struct {
	net.Conn
	r io.Reader
}

func (r *record) Read(p []byte) (int, error)       { return r.r.Read(p) }
func (r *record) Write(p []byte) (int, error)      { return len(p), nil }
func (r *record) Close() error                     { return nil }
func (r *record) SetReadDeadline(time.Time) error  { return nil }
func (r *record) SetWriteDeadline(time.Time) error { return nil }

// raw is offline without go-imap, which needs no part in parsing.
func raw(said []byte) *Conn {
	nc := netconn.Wrap(&record{r: bytes.NewReader(said)}, netconn.Limits{})
	c := &Conn{nc: nc, wire: &wire{nc: nc, br: bufio.NewReaderSize(nc, 4096)}, seen: map[string]bool{}}
	c.flags = map[string]mail.Flags{}
	c.guard.w, c.guard.begun = nc, func(string, string) {}
	return c
}

// FuzzBodies: whatever a server says, a body that ends well is one that it
// said, whole, behind an announcement of its size.
func FuzzBodies(f *testing.F) {
	for _, b := range bodies {
		if len(b.say) < 4096 {
			f.Add([]byte(b.say + "M1 OK done\r\n"))
		}
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		c := raw(said)
		b := &Bodies{c: c, stop: func() {}}
		if _, err := b.Ask("1:*"); err != nil {
			t.Fatal(err)
		}
		for {
			body, _, err := b.Next()
			if err != nil {
				break
			}
			if body == nil {
				if b.Open() <= 0 {
					break
				}
				continue
			}
			text, err := io.ReadAll(body)
			if err != nil {
				break
			}
			if int64(len(text)) != body.Size || body.UID == 0 {
				t.Fatalf("UID %d: %d of %d bytes", body.UID, len(text), body.Size)
			}
			announced := fmt.Appendf(nil, "{%d", body.Size)
			if body.Size > 0 && !bytes.Contains(said, text) && !bytes.Contains(said, []byte(`\`)) {
				t.Fatalf("nobody said %q (%s)", text, announced)
			}
		}
		b.End()
	})
}

// FuzzResponses reads anything as answers to a listing of messages, of folders
// and to opening one.
func FuzzResponses(f *testing.F) {
	for _, s := range []string{
		"* LIST (\\Sent) \"/\" {3}\r\na/b (\"X\" (y))\r\n* STATUS a (MESSAGES 1)\r\nM1 OK\r\n",
		"* 3 EXISTS\r\n* OK [UIDVALIDITY 3]\r\n* OK [HIGHESTMODSEQ 4] \r\nM1 OK [READ-ONLY] x\r\n",
		"* 1 FETCH (UID 3 FLAGS (\\Seen \"a b\") INTERNALDATE \" 1-Jan-2026 00:00:00 +0000\" RFC822.SIZE 3 EMAILID (M1) MODSEQ (3) X-GM-LABELS (\"a\" {1}\r\nb))\r\nM1 OK\r\n",
		"* BYE [ALERT] x\r\n", "+ go\r\n* CAPABILITY MESSAGELIMIT=5\r\nM1 NO [LIMIT] x\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		c := raw(said)
		entries, _, _ := c.List(context.Background(), "MESSAGES")
		for _, e := range entries {
			if e.Name == "" || len(e.Name) > mostName {
				t.Errorf("name %q", e.Name)
			}
		}
		c = raw(said)
		if box, err := c.Examine(context.Background(), "x\xff"); err == nil && box.Validity == 0 {
			t.Error("UIDVALIDITY 0")
		}
		c = raw(said)
		c.Fetch(context.Background(), "1:*", "UID", "", func(it *Item) error {
			if it.UID == 0 || it.Size < -1 || it.Date.Year() > 9999 {
				t.Errorf("%+v", it)
			}
			return nil
		})
		c = raw(said)
		c.Status(context.Background(), []string{"a", "b\x00", "c"}, "MESSAGES", func(i int, n Counts) {
			if i < 0 || i > 2 || n.Messages < -1 {
				t.Errorf("%d %+v", i, n)
			}
		})
	})
}

// FuzzLibrary lets a server say anything while go-imap logs in.
func FuzzLibrary(f *testing.F) {
	f.Add([]byte("* OK hi\r\n* CAPABILITY IMAP4rev1\r\nT1 OK\r\nT2 OK [CAPABILITY a] in\r\n"))
	f.Add([]byte("* OK [CAPABILITY AUTH=PLAIN SASL-IR] hi\r\n+ \r\n+ x\r\nT1 NO [X ()] no\r\n"))
	f.Add([]byte("* PREAUTH [CAPABILITY ID] hi\r\n* ID (((\r\nT1 OK [ALERT] x\r\n"))
	f.Fuzz(func(t *testing.T, said []byte) {
		c := newConn(netconn.Wrap(&record{r: bytes.NewReader(said)}, netconn.Limits{}), false, false, 0)
		c.enter(&Options{User: "ann", Password: "ü"})
		c.Close()
	})
}

// TestSet writes sets and reads them again; UIDs at the very end included.
func TestSet(t *testing.T) {
	uids := []uint32{1, 2, 3, 5, 9, 10, math.MaxUint32 - 1, math.MaxUint32}
	if s, rest := Set(uids); s != "1:3,5,9:10,4294967294:4294967295" || len(rest) > 0 {
		t.Error(s, rest)
	}
	var many []uint32
	for i := range uint32(10_000) {
		many = append(many, i*2+1)
	}
	var back []uint32
	for left := many; len(left) > 0; {
		var s string
		s, left = Set(left)
		if len(s) > 8000 {
			t.Errorf("%d characters", len(s))
		}
		for _, p := range strings.Split(s, ",") {
			var n uint32
			fmt.Sscan(p, &n)
			back = append(back, n)
		}
	}
	if !slices.Equal(many, back) {
		t.Error("sets do not say what they should")
	}
}

func TestDate(t *testing.T) {
	for s, want := range map[string]string{
		"17-Jul-1996 02:44:25 -0700": "1996-07-17T09:44:25Z", " 1-Jan-1970 00:00:00 +0000": "1970-01-01T00:00:00Z",
		"1-Jan-1970 00:00:00 +0000": "1970-01-01T00:00:00Z", "31-dec-2106 23:59:60 +1400": "2106-12-31T10:00:00Z",
		"00-Jan-0000 00:00:00 +0000": "", "17-Jul-1996 02:44:25 GMT": "", "": "", "32-Jan-2000 00:00:00 +0000": "",
		"17-Xxx-1996 02:44:25 -0700": "", "17-Jul-96 02:44:25 -0700": "", "17-Jul-1996 02:44:25 0700 ": "", "x7-Jul-1996 02:44:25 -0700": "",
	} {
		got, ok := parseDate([]byte(s))
		if ok != (want != "") || ok && got.Format(time.RFC3339) != want {
			t.Errorf("%q: %v", s, got)
		}
	}
}
