package imapconn

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"mailhaul/internal/mail"
)

// A Letter is a message to be appended.
type Letter struct {
	Flags mail.Flags
	Date  time.Time // INTERNALDATE; zero: the server takes the present
	Size  int64     // exactly what Write writes
	Write func(w io.Writer) error
}

// Appends brings messages to folders, several commands on their way at once.
// Nothing is read while one is sent, so that no more should be open than the
// server's answers find room for on the line: some hundred.
type Appends struct {
	c    *Conn
	stop func()
	out  *bufio.Writer
	half bool // a message has broken off: the rest of the connection is silence
}

// An Appended is the answer to one command. Where the server tells which UIDs
// it has dealt (RFC 4315, section 3), there is one for each message.
type Appended struct {
	Tag      string
	Status   Status
	Validity uint32
	UIDs     []uint32 // nil when it does not tell
}

// Appends begins to append. Until End is called nothing else may use the
// connection.
func (c *Conn) Appends(ctx context.Context) *Appends {
	return &Appends{c: c, stop: c.nc.Follow(ctx), out: bufio.NewWriterSize(&c.guard, 64<<10)}
}

// A BodyError tells of a message that could not be read to its end while it was
// sent: which one of the command's. The server has got only a part of it, and
// never gets the rest: nothing of the command is stored, and nothing more can be
// said on this connection. What was sent before has its answers still to come.
type BodyError struct {
	Letter int
	Err    error
}

func (e *BodyError) Error() string {
	return "the message could not be read to its end: " + e.Err.Error()
}

func (e *BodyError) Unwrap() error { return e.Err }

// Streams reports whether a literal of n bytes may be sent without waiting
// for the server (RFC 7888).
func (c *Conn) Streams(n int64) bool {
	return c.Has("LITERAL+") || c.Has("LITERAL-") && n <= 4096
}

// AppendLimit is how many octets one message may have, or 0 (RFC 7889); each is
// true where every folder has a limit of its own, told by STATUS.
func (c *Conn) AppendLimit() (most int64, each bool) {
	for name := range c.caps {
		if v, ok := strings.CutPrefix(name, "APPENDLIMIT="); ok {
			most, _ = strconv.ParseInt(v, 10, 64)
		}
	}
	return max(most, 0), c.Has("APPENDLIMIT")
}

// Send sends one command, with several messages where the server offers
// MULTIAPPEND (RFC 3502): then all of them are stored or none. What it wrote
// may stay in a buffer until Flush or Next. A refusal before the message was
// sent comes as the command's answer from Next.
func (a *Appends) Send(name string, letters ...Letter) (tag string, err error) {
	c := a.c
	if err := c.broken(); err != nil {
		return "", c.folder("append", err)
	}
	if !c.library.idle() {
		return "", errors.New("imapconn: two users at once")
	}
	c.tags++
	tag = "M" + strconv.Itoa(c.tags)
	if a.half {
		return "", c.folder("append", errors.New("a message has broken off on this connection"))
	}
	refused, err := a.send(tag, name, letters)
	var broke *BodyError
	switch {
	case errors.As(err, &broke):
		a.half = true
		return "", c.folder("append", err)
	case err != nil:
		return "", c.folder("append", c.fail(err))
	case refused != nil:
		c.early = append(c.early, tagged{tag, *refused})
	default:
		c.open++
	}
	return tag, nil
}

func (a *Appends) send(tag, name string, letters []Letter) (refused *Status, err error) {
	parts := a.c.astring(tag+" APPEND ", name, "")
	for i, p := range parts {
		a.out.WriteString(p)
		if i+1 < len(parts) {
			a.out.WriteString("\r\n")
			if refused, err := a.wait(tag); err != nil || refused != nil {
				return refused, err
			}
		}
	}
	for i, l := range letters {
		a.out.WriteByte(' ')
		if len(l.Flags) > 0 {
			a.out.WriteString("(" + l.Flags.Key() + ") ")
		}
		if !l.Date.IsZero() {
			a.out.WriteString(l.Date.Format(`"_2-Jan-2006 15:04:05 -0700" `))
		}
		streams := a.c.Streams(l.Size)
		a.out.WriteByte('{')
		a.out.WriteString(strconv.FormatInt(l.Size, 10))
		if streams {
			a.out.WriteByte('+')
		}
		a.out.WriteString("}\r\n")
		if !streams {
			if refused, err := a.wait(tag); err != nil || refused != nil {
				return refused, err
			}
		}
		if err := a.body(i, l); err != nil {
			return nil, err
		}
	}
	// bufio keeps the first error: this one is that of all writes above.
	_, err = a.out.WriteString("\r\n")
	return nil, err
}

func (a *Appends) wait(tag string) (refused *Status, err error) {
	if err := a.out.Flush(); err != nil {
		return nil, err
	}
	r, err := a.c.goAhead(tag)
	if s, ok := r.(*Status); ok && s != nil {
		return s, err
	}
	return nil, err
}

// body writes exactly as much as was announced, or breaks the connection off:
// a server must never take a part for the whole (RELIABILITY, row C1).
func (a *Appends) body(i int, l Letter) error {
	w := &measured{w: a.out, left: l.Size}
	err := l.Write(w)
	switch {
	case w.err != nil:
		return w.err
	case err == nil && w.left != 0:
		err = fmt.Errorf("%d bytes are missing", w.left)
	}
	if err != nil {
		return &BodyError{i, err}
	}
	return nil
}

// measured lets no more through than there is left.
type measured struct {
	w    io.Writer
	left int64
	err  error // of w
}

var errLong = errors.New("it is longer than it was")

func (m *measured) Write(p []byte) (int, error) {
	if int64(len(p)) > m.left {
		return 0, errLong
	}
	n, err := m.w.Write(p)
	m.left -= int64(n)
	if err != nil {
		m.err = err
	}
	return n, err
}

// Count asks, behind all that was sent, how many messages the folder has now,
// and which UID comes next. The answer is given to f during a later Next.
func (a *Appends) Count(name string, items string) (tag string, err error) {
	c := a.c
	if err := c.broken(); err != nil {
		return "", c.folder("append", err)
	}
	parts := c.astring("STATUS ", name, " ("+items+")")
	if len(parts) > 1 {
		return "", nil // it would have to be waited for: not worth it
	}
	c.tags++
	tag = "M" + strconv.Itoa(c.tags)
	if _, err := a.out.WriteString(tag + " " + parts[0] + "\r\n"); err != nil {
		return "", c.folder("append", c.fail(err))
	}
	c.open++
	return tag, nil
}

// Open is how many commands have no answer that was read.
func (a *Appends) Open() int { return a.c.open + len(a.c.early) }

// Flush sends what is in the buffer.
func (a *Appends) Flush() error {
	if err := a.c.broken(); err != nil {
		return a.c.folder("append", err)
	}
	if err := a.out.Flush(); err != nil {
		return a.c.folder("append", a.c.fail(err))
	}
	return nil
}

// Next gives the answer to the next command; counts is what a Count has told
// before that.
func (a *Appends) Next() (done *Appended, counts *Counts, err error) {
	if err := a.Flush(); err != nil {
		return nil, nil, err
	}
	for a.Open() > 0 {
		r, tag, status, err := a.c.next()
		switch {
		case err != nil:
			return nil, nil, a.c.folder("append", err)
		case status != nil:
			d := &Appended{Tag: tag, Status: *status}
			if status.Code == "APPENDUID" {
				d.Validity, d.UIDs = appendUID(status.Arg)
			}
			return d, counts, nil
		}
		err = a.c.offer(r, func(r response) (bool, error) {
			if r.word != "STATUS" {
				return false, nil
			}
			line, err := r.whole()
			if err != nil {
				return false, err
			}
			if _, c, ok := parseCounts(line); ok {
				counts = &c
			}
			return true, nil
		})
		if err != nil {
			return nil, nil, a.c.folder("append", err)
		}
	}
	return nil, nil, errors.New("no command is open")
}

// End must be called at last. Commands without an answer end the connection.
func (a *Appends) End() {
	if a.half || a.Open() > 0 || a.out.Buffered() > 0 {
		a.c.early = nil
		a.c.fail(errors.New("left in the middle of an append"))
	}
	a.stop()
}

// mostUIDs is more than one command of ours brings.
const mostUIDs = 100_000

// appendUID reads "38505 3955:3957,4000" (RFC 4315, section 3). What makes no
// sense is as good as not told.
func appendUID(arg string) (validity uint32, uids []uint32) {
	v, set, ok := strings.Cut(strings.TrimSpace(arg), " ")
	n, err := strconv.ParseUint(v, 10, 32)
	if !ok || err != nil || n == 0 {
		return 0, nil
	}
	if uids = parseSet(strings.TrimSpace(set)); uids == nil {
		return 0, nil
	}
	return uint32(n), uids
}
