package imapconn

import (
	"errors"
	"fmt"
	"testing"
)

// TestCopyUID reads what RFC 4315, section 3, lets a server say: sets in any
// order, the n-th of one being the n-th of the other.
func TestCopyUID(t *testing.T) {
	for _, c := range []struct{ arg, want string }{
		{"38505 304,319:320 3956:3958", "{38505 [304 319 320] [3956 3957 3958]}"},
		{"1 5 7", "{1 [5] [7]}"},
		{" 1  9,2:3  30,10,20 ", "{1 [9 2 3] [30 10 20]}"},
		{"1 4:2 7:9", "{1 [2 3 4] [7 8 9]}"}, // RFC 4315, section 4: 4:2 means 2:4
		{"4294967295 4294967295 4294967295", "{4294967295 [4294967295] [4294967295]}"},
		{"1 1:2 7", "{0 [] []}"},
		{"1 1 7:8", "{0 [] []}"},
		{"1 1", "{0 [] []}"},
		{"1 1 2 3", "{0 [] []}"},
		{"0 1 2", "{0 [] []}"},
		{"x 1 2", "{0 [] []}"},
		{"1 0 2", "{0 [] []}"},
		{"1 1, 2", "{0 [] []}"},
		{"1 * 2", "{0 [] []}"},
		{"1 1:4294967296 2", "{0 [] []}"},
		{"1 1:4294967295 1:4294967295", "{0 [] []}"},
		{"", "{0 [] []}"},
	} {
		if got := fmt.Sprint(copyUID(c.arg)); got != c.want {
			t.Errorf("%q: %s, want %s", c.arg, got, c.want)
		}
	}
}

func TestCopy(t *testing.T) {
	for _, c := range []struct{ answer, want string }{
		{"OK [COPYUID 7 1:2 8:9] done", "{7 [1 2] [8 9]} <nil>"},
		{"OK [COPYUID 7 1:2 8] done", "{0 [] []} <nil>"},
		{"OK [APPENDUID 7 8] done", "{0 [] []} <nil>"},
		{"OK done", "{0 [] []} <nil>"},
		{"NO [TRYCREATE] no such folder", "{0 [] []} copy: [TRYCREATE] no such folder"},
	} {
		talk(t, Options{Write: true}, func(p *peer) {
			p.say(ready)
			tag, rest := p.command()
			if want := `UID COPY 1:2 "a \"b"`; rest != want {
				t.Errorf("heard %q, want %q", rest, want)
			}
			p.say("* 3 EXISTS", tag+" "+c.answer)
			p.rest()
		}, func(t *testing.T, conn *Conn, err error) {
			if err != nil {
				t.Fatal(err)
			}
			d, err := conn.Copy(t.Context(), "1:2", `a "b`)
			if got := fmt.Sprint(d, " ", err); got != c.want {
				t.Errorf("%s: %s, want %s", c.answer, got, c.want)
			}
		})
	}
}

// TestCopyNotAllowed: who only reads copies nothing.
func TestCopyNotAllowed(t *testing.T) {
	served(t, func(p *peer) { p.rest() }, func(t *testing.T, c *Conn) {
		if _, err := c.Copy(t.Context(), "1", "x"); !errors.Is(err, ErrVerb) {
			t.Error(err)
		}
	})
}
