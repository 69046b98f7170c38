package pop3conn

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// Commands that a session may send, before and after the login (RFC 1939,
// RFC 2449, RFC 5034). None of those after it changes anything but DELE, which
// needs a session that was opened to remove.
var (
	verbsBefore = map[string]bool{"CAPA": true, "STLS": true, "AUTH": true, "USER": true, "PASS": true, "APOP": true}
	verbsAfter  = map[string]bool{"CAPA": true, "STAT": true, "LIST": true, "UIDL": true, "RETR": true, "TOP": true,
		"NOOP": true, "RSET": true, "QUIT": true, "DELE": true}
)

// A guard passes on whole lines, and only those that are commands on the list.
type guard struct {
	w      io.Writer
	remove bool
	in     bool // logged in
	sasl   bool // lines are answers to challenges
	held   []byte
	told   int // commands passed
}

// mostHeld is more than any command needs.
const mostHeld = 64 << 10

func (g *guard) Write(p []byte) (int, error) {
	g.held = append(g.held, p...)
	end := bytes.LastIndexByte(g.held, '\n') + 1
	if len(g.held)-end > mostHeld {
		return 0, fmt.Errorf("%w: a line without end", ErrVerb)
	}
	n := 0
	for line := range bytes.Lines(g.held[:end]) {
		if err := g.check(line); err != nil {
			g.held = nil
			return 0, err
		}
		n++
	}
	if end > 0 {
		if _, err := g.w.Write(g.held[:end]); err != nil {
			return 0, err
		}
		g.told += n
		g.held = append(g.held[:0], g.held[end:]...)
	}
	return len(p), nil
}

func (g *guard) check(line []byte) error {
	line, ok := bytes.CutSuffix(line, []byte("\r\n"))
	if !ok || bytes.ContainsAny(line, "\x00\r\n") {
		return fmt.Errorf("%w: a line break or a NUL byte in an argument", ErrVerb)
	}
	if g.sasl {
		return saslLine(line)
	}
	word, _, _ := strings.Cut(string(line), " ")
	list := verbsBefore
	if g.in {
		list = verbsAfter
	}
	if !list[word] || word == "DELE" && !g.remove {
		return fmt.Errorf("%w: %.10q", ErrVerb, word)
	}
	return nil
}

// saslLine lets base64, "=" and the cancelling "*" pass.
func saslLine(line []byte) error {
	for _, c := range line {
		ok := c|32 >= 'a' && c|32 <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("+/=*", c) >= 0
		if !ok {
			return fmt.Errorf("%w: an answer to a challenge that is not base64", ErrVerb)
		}
	}
	return nil
}

// argument refuses what would end the line that it is put on.
func argument(s string) error {
	if strings.ContainsAny(s, "\x00\r\n") {
		return fmt.Errorf("%w: a user name or password with a line break or a NUL byte", errWays)
	}
	return nil
}
