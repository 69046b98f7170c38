package imapconn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// Bodies fetches messages whole. Several commands may be on their way at once;
// the answers come one after the other and are read by the caller straight from
// the connection.
type Bodies struct {
	c    *Conn
	stop func()
	it   Item
	body Body // the one that Next gave last
	file *os.File
}

// A Body is one message as the server sends it. Its Read ends in io.EOF only
// when the announced bytes have come and the response was closed as it must
// be: before that nobody can tell a message from the half of one.
type Body struct {
	UID  uint32
	Size int64 // as announced by the literal: the truth
	None bool  // the server says NIL instead of a body

	of   *Bodies
	left int64     // of the literal on the wire
	kept io.Reader // a body that came before its UID, or within quotes
	end  bool      // the response has been closed
	err  error
}

// A Done is the end of one command: Tag is what Ask gave.
type Done struct {
	Tag    string
	Status Status
}

// Bodies begins to fetch. Until End is called nothing else may use the
// connection.
func (c *Conn) Bodies(ctx context.Context) *Bodies {
	return &Bodies{c: c, stop: c.nc.Follow(ctx)}
}

// Ask sends a command for the bodies of set, without reading an answer.
func (b *Bodies) Ask(set string) (tag string, err error) {
	tag, err = b.c.send("UID FETCH " + set + " (UID BODY.PEEK[])")
	return tag, b.c.folder("fetch", err)
}

// Open is how many commands have no answer yet.
func (b *Bodies) Open() int { return b.c.open }

// End must be called at last. Answers that are still to come end the
// connection: reading them to their end could take longer than a new one.
func (b *Bodies) End() {
	b.forget()
	if b.c.open > 0 || b.body.of != nil && !b.body.end {
		b.c.fail(errors.New("left in the middle of a fetch"))
	}
	b.stop()
}

// Next gives the next body, or the end of a command. What is left of the body
// before is read and dropped. Responses without a body are passed over: a
// server may tell flags at any time.
func (b *Bodies) Next() (*Body, *Done, error) {
	body, done, err := b.next()
	if err == nil {
		err = b.c.epoch
	}
	if err != nil {
		return nil, nil, b.c.folder("fetch", err)
	}
	return body, done, nil
}

func (b *Bodies) next() (*Body, *Done, error) {
	if err := b.drain(); err != nil {
		return nil, nil, err
	}
	for b.c.open > 0 {
		r, tag, done, err := b.c.next()
		switch {
		case err != nil:
			return nil, nil, err
		case done != nil:
			return nil, &Done{tag, *done}, nil
		case r.word != "FETCH":
			if err := b.c.drop(r); err != nil {
				return nil, nil, b.c.fail(err)
			}
			continue
		}
		found, err := b.take()
		switch {
		case err != nil:
			return nil, nil, b.c.fail(err)
		case found:
			return &b.body, nil, nil
		}
	}
	return nil, nil, errors.New("no command is open")
}

// drain reads what the consumer left.
func (b *Bodies) drain() error {
	if b.body.of != nil && !b.body.end && b.body.err == nil {
		if _, err := b.body.WriteTo(io.Discard); err != nil {
			return err
		}
	}
	b.forget()
	return b.body.err
}

func (b *Bodies) forget() {
	if b.file != nil {
		b.file.Close()
		b.file = nil
	}
}

// take reads a FETCH response up to its body, and reports whether it has one.
func (b *Bodies) take() (bool, error) {
	b.it.reset()
	b.body = Body{}
	if err := b.c.openItems(); err != nil {
		return false, err
	}
	n, more, err := b.c.items(&b.it, false)
	switch {
	case err != nil:
		return false, err
	case more && b.it.UID != 0:
		b.body = Body{of: b, UID: b.it.UID, Size: n, left: n}
		return true, nil
	case more:
		return b.takeNameless(n)
	case b.it.UID == 0 || b.it.body == noBody:
		return false, nil
	}
	b.body = Body{of: b, UID: b.it.UID, Size: int64(len(b.it.text)), None: b.it.body == nilBody,
		kept: bytes.NewReader(b.it.text), end: true}
	return true, nil
}

// mostKept is how much of a body is kept in memory until its UID is known.
const mostKept = 1 << 20

// takeNameless reads a body that comes before its UID, which the grammar
// allows (RFC 3501, section 7.4.2). It is put aside until the response ends.
func (b *Bodies) takeNameless(n int64) (bool, error) {
	var kept io.Reader
	if n <= mostKept {
		data := make([]byte, n)
		if _, err := io.ReadFull(b.c.wire.br, data); err != nil {
			return false, cut(err)
		}
		kept = bytes.NewReader(data)
	} else {
		f, err := unlinked()
		if err != nil {
			return false, fmt.Errorf("no room to put a message aside: %w", err)
		}
		b.file = f
		if _, err := io.CopyN(f, b.c.wire.br, n); err != nil {
			return false, cut(err)
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return false, err
		}
		kept = f
	}
	if err := b.closeResponse(); err != nil {
		return false, err
	}
	if b.it.UID == 0 {
		b.forget()
		return false, nil // nobody can tell whose body this was
	}
	b.body = Body{of: b, UID: b.it.UID, Size: n, kept: kept, end: true}
	return true, nil
}

// unlinked makes a file that is gone once it is closed, whatever happens.
func unlinked() (*os.File, error) {
	f, err := os.CreateTemp("", "mailhaul-*")
	if err != nil {
		return nil, err
	}
	// Where a file in use cannot be removed it stays until the system cleans
	// up: an error here is not worth losing a message for.
	os.Remove(f.Name())
	return f, nil
}

// closeResponse reads the items behind a body up to the bracket that ends the
// response. A second body is a server that has lost its way.
func (b *Bodies) closeResponse() error {
	before := b.it.UID
	if err := b.c.scan.next(); err != nil {
		return err
	}
	_, more, err := b.c.items(&b.it, true)
	switch {
	case err != nil:
		return err
	case more:
		return fmt.Errorf("%w: two bodies in one response", errSyntax)
	case before != 0 && b.it.UID != before:
		return fmt.Errorf("%w: two UIDs in one response", errSyntax)
	}
	return nil
}

func (m *Body) Read(p []byte) (int, error) {
	if m.err != nil {
		return 0, m.err
	}
	if m.kept != nil {
		return m.kept.Read(p)
	}
	if m.left == 0 {
		if err := m.finish(); err != nil {
			return 0, err
		}
		return 0, io.EOF
	}
	if int64(len(p)) > m.left {
		p = p[:m.left]
	}
	n, err := m.of.c.wire.br.Read(p)
	m.left -= int64(n)
	if err != nil {
		err = m.broken(err)
	}
	return n, err
}

// WriteTo writes the rest of the body straight from the connection's buffer.
func (m *Body) WriteTo(w io.Writer) (total int64, err error) {
	if m.err != nil {
		return 0, m.err
	}
	if m.kept != nil {
		return io.Copy(w, m.kept)
	}
	br := m.of.c.wire.br
	for m.left > 0 {
		if br.Buffered() == 0 {
			if _, err := br.Peek(1); err != nil {
				return total, m.broken(err)
			}
		}
		p, _ := br.Peek(int(min(int64(br.Buffered()), m.left)))
		n, err := w.Write(p)
		br.Discard(n)
		m.left -= int64(n)
		total += int64(n)
		if err != nil {
			return total, err
		}
		if n < len(p) {
			return total, io.ErrShortWrite
		}
	}
	return total, m.finish()
}

// finish closes the response behind the last byte.
func (m *Body) finish() error {
	if m.end {
		return nil
	}
	if err := m.of.closeResponse(); err != nil {
		return m.broken(err)
	}
	m.end = true
	return nil
}

// broken ends the connection in the middle of a body.
func (m *Body) broken(err error) error {
	m.err = m.of.c.folder("fetch", m.of.c.fail(cut(err)))
	return m.err
}
