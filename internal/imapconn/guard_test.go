package imapconn

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// TestGuard is row A22: what is not on the list does not get onto the line.
func TestGuard(t *testing.T) {
	for _, c := range []struct {
		command string
		passes  bool
	}{
		{"CAPABILITY", true}, {"noop", true}, {"EXAMINE {6+}\r\nDELETE", true}, {"LIST \"\" \"*\" RETURN (SPECIAL-USE)", true},
		{"UID FETCH 1:* (UID BODY.PEEK[])", true}, {"UID FETCH 1 (UID BODY.PEEK[HEADER] RFC822.SIZE RFC822.HEADER)", true},
		{"uid search all", true}, {"LOGIN \"RFC822\" {4+}\r\nBOX[ \"x\"", true}, {"ENABLE CONDSTORE", true}, {"UNSELECT", true},
		{"SELECT INBOX", false}, {"STORE 1 +FLAGS (\\Deleted)", false}, {"UID STORE 1 FLAGS ()", false}, {"EXPUNGE", false},
		{"UID EXPUNGE 1", false}, {"CLOSE", false}, {"DELETE x", false}, {"RENAME a b", false}, {"CREATE a", false},
		{"APPEND a {1}", false}, {"COPY 1 a", false}, {"UID COPY 1 a", false}, {"UID MOVE 1 a", false}, {"UID", false}, {"", false}, {"SUBSCRIBE a", false},
		{"FETCH 1 (BODY.PEEK[])", false}, {"SETACL a b c", false}, {"XFOO", false}, {"SETQUOTA x", false}, {"UNAUTHENTICATE", false},
		{"UID FETCH 1 (BODY[])", false}, {"UID FETCH 1 BODY[TEXT]", false}, {"UID FETCH 1 (UID body[])", false},
		{"UID FETCH 1 RFC822", false}, {"UID FETCH 1 (RFC822.TEXT)", false}, {"UID FETCH 1 (BINARY[1])", false},
		{"NOOP\r\nM2 DELETE x", false}, {"EXAMINE {1+}\r\na\r\nM2 EXPUNGE", false},
		{"UID FETCH 1 ({1+}\r\nx BODY[])", false},
	} {
		for _, piece := range []int{1, 7, 1000} {
			var sent bytes.Buffer
			g := guard{w: &sent, begun: func(string, string) {}}
			var err error
			for rest := []byte("M1 " + c.command + "\r\n"); len(rest) > 0 && err == nil; {
				n := min(piece, len(rest))
				_, err = g.Write(rest[:n])
				rest = rest[n:]
			}
			if (err == nil) != c.passes || err != nil && !errors.Is(err, ErrVerb) {
				t.Errorf("%q: %v", c.command, err)
			}
			if !c.passes && (strings.Contains(sent.String(), "EXPUNGE") || strings.Contains(sent.String(), "DELETE") || strings.Contains(sent.String(), "BODY[")) {
				t.Errorf("%q: sent %q", c.command, sent.String())
			}
			if c.passes && sent.Len() != len(c.command)+5 {
				t.Errorf("%q: sent %q", c.command, sent.String())
			}
		}
	}
}

// TestGuardChallenges lets nothing but base64 pass while a login goes on.
func TestGuardChallenges(t *testing.T) {
	var sent bytes.Buffer
	g := guard{w: &sent, begun: func(string, string) {}}
	for _, line := range []string{"M1 AUTHENTICATE PLAIN", "aGFsbG8=", "=", "*", ""} {
		if _, err := g.Write([]byte(line + "\r\n")); err != nil {
			t.Errorf("%q: %v", line, err)
		}
	}
	if _, err := g.Write([]byte("M2 EXPUNGE\r\n")); !errors.Is(err, ErrVerb) {
		t.Error(err)
	}
}

// TestTwoUsers: a library command while ours is open, and the reverse, is a
// mistake that must show.
func TestTwoUsers(t *testing.T) {
	served(t, func(p *peer) { p.rest() }, func(t *testing.T, c *Conn) {
		b := c.Bodies(t.Context())
		defer b.End()
		if _, err := b.Ask("1"); err != nil {
			t.Fatal(err)
		}
		if err := c.Noop(t.Context()); err == nil {
			t.Error("two users")
		}
		if _, done, err := b.Next(); done == nil || err != nil {
			t.Error(err)
		}
		if err := c.Noop(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := c.send("DELETE INBOX"); !errors.Is(err, ErrVerb) || c.Broken() {
			t.Error(err)
		}
	})
}
