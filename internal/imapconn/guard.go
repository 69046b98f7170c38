package imapconn

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
)

// verbs are the commands that any connection may send. None of them changes
// anything on the server (RFC 3501, section 6; UNSELECT and its like leave out
// what CLOSE would expunge).
var verbs = map[string]bool{
	"CAPABILITY": true, "NOOP": true, "LOGOUT": true, "ID": true, "NAMESPACE": true, "ENABLE": true,
	"LOGIN": true, "AUTHENTICATE": true, "STARTTLS": true, "COMPRESS": true,
	"LIST": true, "STATUS": true, "EXAMINE": true, "UNSELECT": true,
	"UID FETCH": true, "UID SEARCH": true, "GETQUOTAROOT": true,
}

// writing are the commands that a connection with Options.Write may send
// besides. None of them takes a message or a folder away.
var writing = map[string]bool{
	"SELECT": true, "CREATE": true, "SUBSCRIBE": true, "APPEND": true, "UID STORE": true, "UID COPY": true,
}

// A guard passes on what is written, line by line, and refuses every command
// that is not on the list, whoever wrote it: our code or the library's.
type guard struct {
	w       io.Writer
	write   bool                   // those of writing may pass, too
	begun   func(tag, verb string) // told of each command before it is sent
	held    []byte                 // a line whose end has not been written yet
	verb    string                 // of the command that is being written
	literal int64                  // bytes of a literal still to pass
	inside  bool                   // the next line continues a command

	// The reader of the connection looks at these, too.
	sasl  atomic.Bool // lines are answers to challenges
	waits atomic.Bool // for the server's "+"
}

// mostHeld is more than any command needs.
const mostHeld = 1 << 20

func (g *guard) Write(p []byte) (int, error) {
	if len(g.held) == 0 && g.literal > 0 {
		// The inside of a literal needs no look and no copy.
		n := int(min(int64(len(p)), g.literal))
		done, err := g.w.Write(p[:n])
		g.literal -= int64(done)
		if err != nil || n == len(p) {
			return done, err
		}
		more, err := g.lines(p[n:])
		return n + more, err
	}
	return g.lines(p)
}

// lines passes on what is not the inside of a literal alone.
func (g *guard) lines(p []byte) (int, error) {
	g.held = append(g.held, p...)
	out := 0 // of held, fit to be sent
	for out < len(g.held) {
		rest := g.held[out:]
		if g.literal > 0 {
			n := min(int64(len(rest)), g.literal)
			g.literal -= n
			out += int(n)
			continue
		}
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			break
		}
		line := bytes.TrimSuffix(rest[:end], []byte("\r"))
		if err := g.check(line); err != nil {
			g.held = nil
			return 0, err
		}
		_, g.literal, g.inside = announced(line)
		// RFC 7888: "{n+}" waits for nobody.
		g.waits.Store(g.sasl.Load() || g.inside && !bytes.HasSuffix(line, []byte("+}")))
		out += end + 1
	}
	if len(g.held)-out > mostHeld {
		return 0, fmt.Errorf("%w: a line without end", ErrVerb)
	}
	if out > 0 {
		if _, err := g.w.Write(g.held[:out]); err != nil {
			return 0, err
		}
		g.held = append(g.held[:0], g.held[out:]...)
	}
	return len(p), nil
}

func (g *guard) check(line []byte) error {
	if g.sasl.Load() {
		return saslLine(line)
	}
	if g.inside {
		if g.verb == "UID FETCH" {
			return harmless(line)
		}
		return nil
	}
	tag, rest, _ := strings.Cut(string(line), " ")
	verb, args, _ := strings.Cut(rest, " ")
	verb = strings.ToUpper(verb)
	if verb == "UID" {
		sub, more, _ := strings.Cut(args, " ")
		verb, args = "UID "+strings.ToUpper(sub), more
	}
	if tag == "" || !verbs[verb] && !(g.write && writing[verb]) {
		return fmt.Errorf("%w: %.40q", ErrVerb, verb)
	}
	if verb == "UID FETCH" {
		if err := harmless([]byte(args)); err != nil {
			return err
		}
	}
	g.verb = verb
	g.sasl.Store(verb == "AUTHENTICATE")
	g.begun(tag, verb)
	return nil
}

// harmless refuses items that set \Seen (RFC 3501, section 6.4.5).
func harmless(args []byte) error {
	for _, w := range strings.FieldsFunc(strings.ToUpper(string(args)), func(r rune) bool {
		return r == ' ' || r == '(' || r == ')'
	}) {
		if strings.HasPrefix(w, "BODY[") || strings.HasPrefix(w, "BINARY[") || w == "RFC822" || w == "RFC822.TEXT" {
			return fmt.Errorf("%w: %s without PEEK", ErrVerb, w)
		}
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
