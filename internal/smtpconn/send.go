package smtpconn

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// An Envelope says what one transaction is about.
type Envelope struct {
	From  string // empty: nobody, "<>"
	To    []string
	Size  int64 // of the message on the wire; exact with Chunk
	Eight bool  // it holds octets beyond 127: BODY=8BITMIME
	UTF8  bool  // it holds addresses that are not ASCII: SMTPUTF8
	Chunk bool  // it goes by BDAT, as BODY=BINARYMIME (RFC 3030)
}

// A Refusal is a reply that says no before the message was sent.
type Refusal struct {
	Verb string // "MAIL", "RCPT", "DATA"
	To   string // of RCPT
	*Reply
}

func (r *Refusal) Error() string {
	if r.To != "" {
		return r.To + ": " + r.Reply.Error()
	}
	return r.Reply.Error()
}

func (r *Refusal) Unwrap() error { return r.Reply }

// errBody marks that the message could not be given to the server.
type errBody struct{ error }

func (e errBody) Unwrap() error { return e.error }

// OfBody reports whether err is that of the body, not of the connection.
func OfBody(err error) bool {
	var b errBody
	return errors.As(err, &b)
}

// Send gives one message to the server. body writes it, in lines that end in
// CRLF unless it goes in chunks. The replies are the server's verdicts, good or
// not: one, or by LMTP one for each of To.
//
// An error with ErrUnanswered means that the message may have been accepted;
// the replies are then those that came. After any other error it was not: a
// *Refusal leaves the connection usable unless it is Broken.
func (c *Conn) Send(ctx context.Context, e *Envelope, body func(io.Writer) error) ([]*Reply, error) {
	if c.fault != nil {
		return nil, c.fault
	}
	for _, a := range append([]string{e.From}, e.To...) {
		if err := Check(a); err != nil {
			return nil, errBody{err}
		}
	}
	stop := c.nc.Follow(ctx)
	defer func() { stop() }()
	c.sent++
	if err := c.open(e); err != nil {
		return nil, c.reset(err)
	}
	end, err := c.content(e, body)
	if err != nil {
		return nil, c.reset(err)
	}
	if err := ctx.Err(); err != nil {
		return nil, c.fail(context.Cause(ctx))
	}
	// An interrupt does not make a message doubtful that a moment more of
	// patience would settle.
	stop()
	grace, cancel := linger(ctx)
	unfollow := c.nc.Follow(grace)
	stop = func() { unfollow(); cancel() } // in this order: the end of grace cuts the line
	if err := c.write(end); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnanswered, err)
	}
	return c.verdicts(e)
}

// grace is how long a reply is waited for after an interrupt.
const grace = 30 * time.Second

// linger is a context that ends some time after ctx does.
func linger(ctx context.Context) (context.Context, func()) {
	long, cancel := context.WithCancel(context.WithoutCancel(ctx))
	unwatch := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	return long, func() { unwatch(); cancel() }
}

// open sends sender and recipients. Unless all recipients are taken, the
// message is sent to none.
func (c *Conn) open(e *Envelope) error {
	lines := []string{"MAIL FROM:<" + e.From + ">" + c.parameters(e)}
	for _, to := range e.To {
		lines = append(lines, "RCPT TO:<"+to+">")
	}
	// RFC 2920: both may be sent before the replies.
	group := 1
	if c.Has("PIPELINING") {
		group = 100
	}
	var no error
	for at := 0; at < len(lines) && no == nil; {
		now := lines[at:min(at+group, len(lines))]
		if err := c.write(strings.Join(now, "\r\n") + "\r\n"); err != nil {
			return err
		}
		for range now {
			r, err := c.reply(patience)
			switch {
			case err != nil && no != nil:
				return no
			case err != nil:
				return err
			case r.Good() || no != nil:
			case r.Code/100 == 3:
				return c.fail(fmt.Errorf("%w: %v", ErrSyntax, r))
			case at == 0:
				no = &Refusal{Verb: "MAIL", Reply: r}
			default:
				no = &Refusal{Verb: "RCPT", To: e.To[at-1], Reply: r}
			}
			at++
		}
	}
	return no
}

// parameters announces what the message is, as far as that is needed.
func (c *Conn) parameters(e *Envelope) string {
	p := ""
	if c.Has("SIZE") {
		p += fmt.Sprintf(" SIZE=%d", e.Size)
	}
	switch {
	case e.Chunk:
		p += " BODY=BINARYMIME"
	case e.Eight && c.Has("8BITMIME"):
		p += " BODY=8BITMIME"
	}
	if e.UTF8 {
		p += " SMTPUTF8"
	}
	return p
}

// content sends the message but for its end, and gives that.
func (c *Conn) content(e *Envelope, body func(io.Writer) error) (end string, err error) {
	if e.Chunk {
		return c.chunk(e.Size, body)
	}
	r, err := c.say("DATA")
	switch {
	case err != nil:
		return "", err
	case r.Code/100 != 3 && !r.Good():
		return "", &Refusal{Verb: "DATA", Reply: r}
	case r.Code != 354:
		return "", c.fail(fmt.Errorf("%w: %v to DATA", ErrSyntax, r))
	}
	c.bw.Reset(c.nc)
	d := &dots{w: c.bw, begins: true}
	if err := c.pour(d, body); err != nil {
		return "", err
	}
	if !d.begins || d.cr {
		return "", c.fail(errBody{errors.New("smtpconn: the last line is open")})
	}
	return ".\r\n", nil
}

// pour writes the body. Whatever goes wrong, the line is cut.
func (c *Conn) pour(w io.Writer, body func(io.Writer) error) error {
	t := &taker{w: w}
	err := body(t)
	if t.err == nil && err == nil {
		t.err = c.bw.Flush()
	}
	var own errBody
	switch {
	case errors.As(t.err, &own):
		return c.fail(t.err)
	case t.err != nil:
		return c.fail(c.excuse(t.err))
	case err != nil:
		return c.fail(errBody{err})
	}
	return nil
}

// taker remembers what went wrong with writing, whatever the body makes of it.
type taker struct {
	w   io.Writer
	err error
}

func (t *taker) Write(p []byte) (int, error) {
	if t.err != nil {
		return 0, t.err
	}
	n, err := t.w.Write(p)
	t.err = err
	return n, err
}

// excuse looks whether a server that takes no more has said why.
func (c *Conn) excuse(err error) error {
	c.nc.Await(time.Second)
	line, lerr := c.line()
	if code, _, ok := parseCode(line); lerr == nil && ok && code >= 400 {
		return &Refusal{Verb: "DATA", Reply: &Reply{Code: code, Lines: []string{line[min(4, len(line)):]}}}
	}
	return err
}

// chunk sends the message as one chunk, but for its last octet.
func (c *Conn) chunk(size int64, body func(io.Writer) error) (end string, err error) {
	head := fmt.Sprintf("BDAT %d LAST\r\n", size)
	c.bw.Reset(c.nc)
	m := &measured{w: c.bw, left: size}
	if size > 0 {
		c.bw.WriteString(head) // its error shows at Flush
		head = ""
	}
	if err := c.pour(m, body); err != nil {
		return "", err
	}
	if m.left != 0 {
		return "", c.fail(errBody{fmt.Errorf("the message has %d octets fewer than it had", m.left)})
	}
	return head + string(m.last), nil
}

// verdicts reads what becomes of a message that was sent whole.
func (c *Conn) verdicts(e *Envelope) (all []*Reply, err error) {
	n := 1
	if c.lmtp {
		n = len(e.To) // RFC 2033, section 4.2
	}
	for range n {
		r, err := c.reply(patienceFinal)
		if err == nil && r.Code/100 == 3 {
			err = c.fail(fmt.Errorf("%w: %v", ErrSyntax, r))
		}
		if err != nil {
			return all, fmt.Errorf("%w: %w", ErrUnanswered, err)
		}
		all = append(all, r)
	}
	if slices.ContainsFunc(all, func(r *Reply) bool { return r.Code == 421 }) {
		c.fail(errGone)
	}
	return all, nil
}

var errGone = errors.New("the server ends the connection")

// reset makes the connection ready for another transaction after a refusal.
func (c *Conn) reset(err error) error {
	var no *Refusal
	if !errors.As(err, &no) || c.fault != nil {
		return err
	}
	if no.Code == 421 {
		c.fail(errGone)
		return err
	}
	if r, rerr := c.say("RSET"); rerr == nil && !r.Good() {
		c.fail(r)
	}
	return err
}

// dots doubles the dot that begins a line (RFC 5321, section 4.5.2). It lets
// no line through that does not end in CRLF: another server might see the end
// of the message in the middle of it.
type dots struct {
	w      *bufio.Writer
	begins bool // a line begins here
	cr     bool // a CR came last
}

var errBare = errBody{errors.New("smtpconn: a CR or LF that stands alone")}

func (d *dots) Write(p []byte) (int, error) {
	for i, b := range p {
		if d.cr != (b == '\n') {
			return i, errBare
		}
		if d.begins && b == '.' {
			d.w.WriteByte('.') // its error shows at the next write
		}
		if err := d.w.WriteByte(b); err != nil {
			return i, err
		}
		d.begins, d.cr = b == '\n', b == '\r'
	}
	return len(p), nil
}

// measured lets exactly so many octets pass and keeps the last one back.
type measured struct {
	w    io.Writer
	left int64
	last []byte
}

func (m *measured) Write(p []byte) (int, error) {
	n := len(p)
	if int64(n) > m.left {
		return 0, errBody{errors.New("the message has more octets than it had")}
	}
	m.left -= int64(n)
	if m.left == 0 && n > 0 {
		m.last = []byte{p[n-1]}
		p = p[:n-1]
	}
	if k, err := m.w.Write(p); err != nil {
		return k, err
	}
	return n, nil
}
