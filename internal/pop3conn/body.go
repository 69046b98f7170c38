package pop3conn

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strconv"
)

// Bodies fetches messages whole. Several commands may be on their way at once;
// the answers come in the order of asking and are read by the caller straight
// from the connection.
type Bodies struct {
	c    *Conn
	stop func()
}

// An Answer is what came for one message: its body, or why there is none.
type Answer struct {
	Number int
	Body   *Body
	Err    error // of message scope
}

// Bodies begins to fetch. Until End is called nothing else may use the
// connection.
func (c *Conn) Bodies(ctx context.Context) *Bodies {
	return &Bodies{c: c, stop: c.nc.Follow(ctx)}
}

// Pipelining reports whether commands may be sent before the answers to those
// before them have come (RFC 2449, section 6.6).
func (c *Conn) Pipelining() bool { return c.Has("PIPELINING") }

// Ask sends a RETR for each number, without reading an answer. More than one
// may be open only with Pipelining.
func (b *Bodies) Ask(numbers ...int) error { return b.ask("RETR ", "", numbers) }

// AskTop sends a TOP for each number: the header and no line of the body.
func (b *Bodies) AskTop(numbers ...int) error { return b.ask("TOP ", " 0", numbers) }

func (b *Bodies) ask(verb, rest string, numbers []int) error {
	if len(numbers) == 0 {
		return nil
	}
	var line []byte
	for i, n := range numbers {
		if i > 0 {
			line = append(line, "\r\n"...)
		}
		line = append(line, verb...)
		line = strconv.AppendInt(line, int64(n), 10)
		line = append(line, rest...)
	}
	if err := b.c.send(string(line)); err != nil {
		return b.c.folder("fetch", err)
	}
	b.c.asked = append(b.c.asked, numbers...)
	return nil
}

// Open is how many commands have no answer yet.
func (b *Bodies) Open() int { return len(b.c.asked) }

// End must be called at last. Answers that are still to come end the
// connection: reading them could take longer than a new one.
func (b *Bodies) End() {
	if c := b.c; c.ready() == errBetween {
		c.fail(errors.New("left in the middle of a fetch"))
	}
	b.stop()
}

// Next gives the next answer. What is left of the body before is read and
// dropped. A *Status in its error means that the server refused this message;
// any error of Next itself that the connection is lost.
func (b *Bodies) Next() (Answer, error) {
	c := b.c
	if len(c.asked) == 0 {
		return Answer{}, c.folder("fetch", errIdle)
	}
	if c.body.c != nil && !c.body.end {
		if _, err := c.body.WriteTo(io.Discard); err != nil {
			return Answer{}, err
		}
	}
	s, err := c.answer(0)
	var no *Status
	switch {
	case errors.As(err, &no):
		a := Answer{Number: c.asked[0], Err: &s}
		c.asked = c.asked[1:]
		return a, nil
	case err != nil:
		return Answer{}, c.folder("fetch", err)
	}
	c.body = Body{c: c, bol: true}
	a := Answer{Number: c.asked[0], Body: &c.body}
	c.asked = c.asked[1:]
	return a, nil
}

// Refusal makes what the server said about one message an error: of the
// maildrop where it says that it can do nothing at all just now.
func (c *Conn) Refusal(err error) error {
	var s *Status
	if errors.As(err, &s) && s.Temporary() {
		return c.folder("fetch", s)
	}
	return c.message(err)
}

// A Body is one message as it comes. It ends only at CRLF.CRLF, a dot is taken
// away only at the start of a line that follows a CRLF, and no other byte is
// changed (RFC 1939, section 3). Its Read ends in io.EOF when that end was
// seen, and in nothing else that could pass for it.
//
// Of two dots that begin a line the first is taken away. One dot before
// something else is what a server sends that stuffs no dots, or, as Dovecot,
// not the first of a message: it is left, for it was not put there on the way.
type Body struct {
	N int64 // bytes given so far

	c    *Conn
	bol  bool // the next byte begins a line
	cr   bool // the last byte was a CR
	held int  // bytes of the buffer that were given and not yet dropped
	end  bool
	err  error
}

var crlfDot = []byte("\r\n.")

// next gives the next piece, which lies in the buffer of the connection and
// is valid until the next call.
func (b *Body) next() ([]byte, error) {
	br := b.c.br
	if b.held > 0 {
		br.Discard(b.held) // it is buffered: no error
		b.held = 0
	}
	switch {
	case b.err != nil:
		return nil, b.err
	case b.end:
		return nil, io.EOF
	}
	if b.bol {
		b.bol = false
		p, err := br.Peek(1)
		if err == nil && p[0] == '.' {
			// Whatever the line is, at least CRLF follows.
			p, err = br.Peek(3)
			if err == nil && p[1] == '\r' && p[2] == '\n' {
				br.Discard(3)
				b.end = true
				return nil, io.EOF
			}
			if err == nil && p[1] == '.' {
				br.Discard(1)
			}
		}
		if err != nil {
			return nil, b.broken(err)
		}
	}
	if br.Buffered() == 0 {
		if _, err := br.Peek(1); err != nil {
			return nil, b.broken(err)
		}
	}
	p, _ := br.Peek(br.Buffered())
	switch i := bytes.Index(p, crlfDot); {
	case b.cr && p[0] == '\n': // a CRLF over the edge of the buffer
		p, b.bol = p[:1], true
	case i >= 0:
		p, b.bol = p[:i+2], true
	case bytes.HasSuffix(p, crlfDot[:2]):
		b.bol = true
	}
	b.cr = p[len(p)-1] == '\r'
	b.held = len(p)
	b.N += int64(len(p))
	return p, nil
}

func (b *Body) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	piece, err := b.next()
	if err != nil {
		return 0, err
	}
	n := copy(p, piece)
	if n < len(piece) {
		// The rest is given again: the state is that after n bytes.
		b.held, b.N = n, b.N-int64(len(piece)-n)
		b.bol, b.cr = false, piece[n-1] == '\r'
	}
	return n, nil
}

// WriteTo writes the rest of the body straight from the connection's buffer.
func (b *Body) WriteTo(w io.Writer) (total int64, err error) {
	for {
		p, err := b.next()
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		n, err := w.Write(p)
		total += int64(n)
		if err == nil && n < len(p) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return total, err
		}
	}
}

// Empty reports whether the body has no byte at all.
func (b *Body) Empty() (bool, error) {
	if b.N > 0 || b.end {
		return b.N == 0, nil
	}
	p, err := b.next()
	if err == io.EOF {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	b.N -= int64(len(p)) // it is given again
	b.held, b.bol, b.cr = 0, false, false
	return false, nil
}

// broken ends the connection in the middle of a body.
func (b *Body) broken(err error) error {
	b.err = b.c.folder("fetch", b.c.fail(cut(err)))
	return b.err
}
