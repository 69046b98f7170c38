package imapconn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"
)

// library is the net.Conn that go-imap believes in. Its Read is the gate.
//
// go-imap is handed only answers that it cannot stumble over: the greeting,
// lists of capabilities, requests to go on, and tagged answers, each written
// anew from what we have understood. Everything else is noted here and dropped:
// one response that it does not know, or that is not quite right, would make it
// close the connection; one that is deep enough would end the program.
type library struct {
	c        *Conn
	greeting time.Duration

	mu      sync.Mutex
	cond    sync.Cond
	pending map[string]string // its tags without answer, and their verbs
	due     bool              // the greeting is still to come
	owes    bool              // it owes the server the answer to a challenge
	closed  bool

	out  []byte // what is left of the response that it reads
	last Status // the last tagged answer
}

func (l *library) init(c *Conn, greeted bool, greeting time.Duration) {
	l.c, l.due, l.greeting = c, true, greeting
	l.pending = map[string]string{}
	l.cond.L = &l.mu
	if greeted {
		// The greeting came before TLS and is forgotten with all that was
		// said there. A list of capabilities keeps go-imap from asking for
		// them by itself, at a moment of its own choice.
		l.due = false
		l.out = []byte("* OK [CAPABILITY IMAP4rev1] protected\r\n")
	}
}

// begun opens the gate for the answer to a command. Our own tags begin with
// an M, go-imap's with a T.
func (l *library) begun(tag, verb string) {
	if strings.HasPrefix(tag, "M") {
		return
	}
	l.mu.Lock()
	l.pending[tag] = verb
	l.mu.Unlock()
	l.cond.Broadcast()
}

// idle reports whether go-imap waits for nothing.
func (l *library) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.due && len(l.pending) == 0
}

func (l *library) owe(yes bool) {
	l.mu.Lock()
	l.owes = yes
	l.mu.Unlock()
	l.cond.Broadcast()
}

func (l *library) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.cond.Broadcast()
}

func (l *library) Read(p []byte) (int, error) {
	for len(l.out) == 0 {
		l.mu.Lock()
		for !l.closed && l.c.broken() == nil && (l.owes || !l.due && len(l.pending) == 0) {
			l.cond.Wait()
		}
		closed := l.closed
		l.mu.Unlock()
		if closed {
			return 0, net.ErrClosed
		}
		// After an error go-imap tries once more before it gives up.
		if err := l.c.broken(); err != nil {
			return 0, err
		}
		if err := l.receive(); err != nil {
			return 0, l.c.fail(err)
		}
	}
	n := copy(p, l.out)
	l.out = l.out[n:]
	return n, nil
}

// receive reads one response and puts into out what go-imap shall see of it.
func (l *library) receive() error {
	if l.due {
		return l.greet()
	}
	line, err := l.c.wire.first()
	if err != nil {
		return err
	}
	switch {
	case len(line) == 0:
		return nil
	case line[0] == '+':
		if l.c.guard.waits.Load() {
			// go-imap misses what comes after a challenge and before its
			// answer, be it a refusal or the end, and waits for ever.
			sasl := l.c.guard.sasl.Load()
			l.c.guard.waits.Store(sasl)
			l.owe(sasl)
			l.out = append(bytes.Clone(line), "\r\n"...)
		}
		return nil
	case line[0] == '*':
		return l.untagged(line)
	}
	return l.tagged(line)
}

func (l *library) greet() error {
	l.c.nc.Await(l.greeting)
	line, err := l.c.wire.line()
	if err != nil {
		if err == io.ErrUnexpectedEOF {
			return fmt.Errorf("%w: it closed the connection without a greeting", ErrBusy)
		}
		return fmt.Errorf("no greeting: %w", err)
	}
	s, ok := parseStatus(bytes.TrimPrefix(line, []byte("* ")))
	if !ok || !bytes.HasPrefix(line, []byte("* ")) {
		return fmt.Errorf("%w: this does not greet like an IMAP server: %.60q", errSyntax, line)
	}
	l.c.heard(&s)
	l.mu.Lock()
	l.due = false
	l.mu.Unlock()
	switch s.Type {
	case "OK":
		l.out = fmt.Appendf(nil, "* OK [CAPABILITY %s] hello\r\n", l.capabilities())
	case "PREAUTH":
		l.c.preauth = true
		l.out = fmt.Appendf(nil, "* PREAUTH [CAPABILITY %s] hello\r\n", l.capabilities())
	case "BYE":
		return io.EOF // heard has kept the text
	default:
		return fmt.Errorf("%w: greeting %s", errSyntax, s.Type)
	}
	return nil
}

func (l *library) untagged(line []byte) error {
	c := l.c
	r, err := c.untagged(line)
	if err != nil {
		return err
	}
	if r.word == "CAPABILITY" {
		l.out = fmt.Appendf(nil, "* CAPABILITY %s\r\n", l.capabilities())
	}
	return c.drop(r)
}

func (l *library) tagged(line []byte) error {
	tag, rest, _ := bytes.Cut(line, []byte(" "))
	s, ok := parseStatus(rest)
	l.mu.Lock()
	verb, ours := l.pending[string(tag)]
	l.mu.Unlock()
	switch {
	case !ours && ok:
		return nil // an answer to nobody
	case !ok:
		return fmt.Errorf("%w: %.60q", errSyntax, line)
	}
	l.c.heard(&s)
	if verb == "AUTHENTICATE" {
		l.c.guard.sasl.Store(false)
	}
	l.c.guard.waits.Store(false)
	t := string(tag)
	switch {
	case s.Type != "OK":
		l.out = []byte(t + " NO refused\r\n")
	case verb == "LOGIN" || verb == "AUTHENTICATE":
		if s.Code != "CAPABILITY" {
			l.c.caps = nil // those of before the login count no more
		}
		l.out = fmt.Appendf(nil, "%s OK [CAPABILITY %s] done\r\n", t, l.capabilities())
	default:
		l.out = []byte(t + " OK done\r\n")
	}
	l.last = s
	l.mu.Lock()
	delete(l.pending, t)
	l.mu.Unlock()
	return nil
}

// capabilities are those of the server that matter to go-imap. Not among them
// are IMAP4rev2 and UTF8=ACCEPT: their mere mention makes it write names in
// another encoding, though nothing was enabled (RFC 9051, appendix A).
func (l *library) capabilities() string {
	var b strings.Builder
	b.WriteString("IMAP4rev1")
	for name := range l.c.caps {
		switch name {
		case "SASL-IR", "LITERAL+", "LITERAL-", "ID", "LOGINDISABLED":
			b.WriteByte(' ')
			b.WriteString(name)
		}
	}
	return b.String()
}

func (l *library) Write(p []byte) (int, error) {
	if l.c.open > 0 {
		return 0, errors.New("imapconn: two users at once")
	}
	// What is written to a line that is closed must not seem to succeed: its
	// reader is gone, and nobody would tell go-imap that no answer will come.
	if err := l.c.broken(); err != nil {
		return 0, err
	}
	l.owe(false) // before the write: the next challenge may come within it
	return l.c.guard.Write(p)
}

// Close is go-imap giving up. Where that is not our doing it has met an answer
// at the wrong moment, such as a login that ends well in the middle of its
// password.
func (l *library) Close() error {
	l.c.fail(fmt.Errorf("%w: it came at the wrong moment", errSyntax))
	l.close()
	return nil
}

func (l *library) LocalAddr() net.Addr              { return l.c.nc.LocalAddr() }
func (l *library) RemoteAddr() net.Addr             { return l.c.nc.RemoteAddr() }
func (l *library) SetDeadline(time.Time) error      { return nil }
func (l *library) SetReadDeadline(time.Time) error  { return nil }
func (l *library) SetWriteDeadline(time.Time) error { return nil }

// withLibrary lets f run one command of go-imap and waits for its answer.
// What the server said, or why the connection broke, is the error.
func (c *Conn) withLibrary(ctx context.Context, f func() error) error {
	if err := c.broken(); err != nil {
		return err
	}
	if c.open > 0 {
		return errors.New("imapconn: two users at once")
	}
	stop := c.nc.Follow(ctx)
	defer stop()
	return c.attended(f)
}

// attended is withLibrary where the connection follows a context already.
func (c *Conn) attended(f func() error) error {
	c.library.last = Status{}
	err := f()
	var refused *imap.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		s := c.library.last
		return &s
	}
	return c.fail(err)
}
