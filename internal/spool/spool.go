// Package spool turns one-shot bodies into bodies at rest: small ones in
// memory, large ones and those of unknown size in unnamed files on the
// archive's own file system (the temporary directory may be memory).
//
// It is the only converter between what a server claims and what is so: the
// body goes through once and comes out in its text form, with its digest, its
// true sizes and the line ends that it had. And it is the only place where a
// slow sink slows a source down: room is reserved before a body is asked for,
// so that nobody waits in the middle of one.
package spool

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"

	"mailhaul/internal/durable"
	"mailhaul/internal/mail"
	"mailhaul/sink"
)

// Large is the size from which on a body goes to a file. Larger bodies need
// no credit.
const Large = 1 << 20

// Budget is the usual number of bytes for bodies in memory, for the whole
// process.
const Budget = 16 << 20

// overhead is what a message costs besides its body until it is committed:
// its names, flags, digests, and its line in the intention.
const overhead = 3 << 10

// A Spool has one budget of bytes.
type Spool struct {
	dir  string
	Full func() // called when a Reserve must wait: open batches of all folders are to be closed

	mu   sync.Mutex
	free int64
	room chan struct{} // closed and renewed when room is given back

	bodies arena
	pieces [][]byte // idle
}

// New makes a spool whose files lie in dir.
func New(dir string, budget int64) *Spool {
	s := &Spool{dir: dir, free: max(budget, Large+overhead), room: make(chan struct{})}
	s.bodies.most = int((s.free + segmentSize - 1) / segmentSize)
	return s
}

// A body is read and folded in pieces. Folding may add two bytes, for a CR that
// was held back and for the end of the last line.
const piece = 1<<16 - 2

// most is how long the text form of n bytes on the wire may be: never longer, but
// for the end of an open last line.
func most(n int64) int64 { return n + 1 }

// A Credit pays for one body.
type Credit struct {
	s    *Spool
	most int64 // bytes in memory; 0: it goes to a file
	left int64
}

// Reserve waits until there is room for a body of n bytes. It is called
// before the body is asked for. Bodies of Large and more, and those of
// unknown size (negative), never wait.
func (s *Spool) Reserve(ctx context.Context, n int64) (*Credit, error) {
	for {
		s.mu.Lock()
		c := s.take(n)
		room := s.room
		s.mu.Unlock()
		if c != nil {
			return c, nil
		}
		if s.Full != nil {
			s.Full()
		}
		select {
		case <-room:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// TryReserve is Reserve without waiting; nil means no room.
func (s *Spool) TryReserve(n int64) *Credit {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.take(n)
}

func (s *Spool) take(n int64) *Credit {
	if n < 0 || n >= Large {
		return &Credit{s: s}
	}
	cost := int64(granulesFor(most(n)))*granule + overhead
	if cost > s.free {
		return nil
	}
	s.free -= cost
	return &Credit{s: s, most: most(n), left: cost}
}

func (s *Spool) give(n int64) {
	if n == 0 {
		return
	}
	s.mu.Lock()
	s.free += n
	close(s.room)
	s.room = make(chan struct{})
	s.mu.Unlock()
}

// Release gives back what was not used. It may be called twice, and after
// Take.
func (c *Credit) Release() {
	c.s.give(c.left)
	c.left = 0
}

// A Body is a message at rest. It stays, and keeps its share of the budget,
// until Free. Digest and Ends together determine the bytes received.
type Body struct {
	sink.Want
	Ends  mail.Ends
	Raw   int64 // bytes received
	Plain bool  // see sink.Message

	s    *Spool
	cost int64
	room buffer
	mem  []byte // in room
	file *os.File
}

// Take reads r to its end and never waits for room: a body that is larger
// than announced goes to a file. The error of r comes back as it is; one of
// the spool's own file has the scope of a run.
func (c *Credit) Take(r io.Reader) (*Body, error) {
	t := taker{s: c.s, sum: sha256.New()}
	b := &Body{s: c.s, cost: c.left}
	if c.most > 0 {
		c.s.mu.Lock()
		t.room = c.s.bodies.get(c.most)
		c.s.mu.Unlock()
		t.mem = t.room.bytes
		c.left = 0
	}
	t.body = b
	t.out = c.s.piece()
	scratch := c.s.piece()
	_, err := io.CopyBuffer(&t, r, scratch[:piece])
	if err == nil {
		err = t.close()
	}
	c.s.recycle(t.out, scratch)
	b.room, b.mem, b.file = t.room, t.mem, t.file
	if err != nil {
		b.Free()
		return nil, err
	}
	return b, nil
}

// piece gives memory for a piece. There are two for each reader.
func (s *Spool) piece() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.pieces)
	if n == 0 {
		return make([]byte, 0, piece+2)
	}
	p := s.pieces[n-1]
	s.pieces = s.pieces[:n-1]
	return p[:0]
}

func (s *Spool) recycle(pieces ...[]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pieces = append(s.pieces, pieces...)
}

func (s *Spool) putBack(b buffer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bodies.put(b)
}

// Open reads the text form. Several readers may be open at once.
func (b *Body) Open() (io.ReadCloser, error) {
	if b.file != nil {
		return io.NopCloser(io.NewSectionReader(b.file, 0, b.Text)), nil
	}
	return io.NopCloser(bytes.NewReader(b.mem)), nil
}

// Free ends the body. It may be called twice.
func (b *Body) Free() {
	if b.mem != nil {
		b.s.putBack(b.room)
		b.mem = nil
	}
	if b.file != nil {
		b.file.Close()
		dispose(b.file)
		b.file = nil
	}
	b.s.give(b.cost)
	b.cost = 0
}

// A taker folds what is written to it and keeps the text in mem, or in file
// once that is open.
type taker struct {
	s    *Spool
	body *Body
	fold mail.Folder
	sum  hash.Hash
	room buffer
	mem  []byte
	file *os.File
	kept bool // too mixed: stored as received
	last byte // of what was kept
	out  []byte
	text int64
	line int64
}

func (t *taker) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		k := min(len(p), piece)
		if _, err := t.write(p[:k]); err != nil {
			return n - len(p), err
		}
		p = p[k:]
	}
	return n, nil
}

func (t *taker) write(p []byte) (int, error) {
	n := len(p)
	t.body.Raw += int64(n)
	if t.kept {
		return n, t.keep(p)
	}
	at, inPlace := len(t.mem), t.fits(len(p)+1) // a CR may have been held back
	dst := t.out[:0]
	if inPlace {
		dst = t.mem[at:]
	}
	text, took, err := t.fold.Append(dst, p)
	if inPlace {
		t.count(text)
		t.mem = t.mem[:at+len(text)]
	} else if werr := t.add(text); werr != nil {
		return 0, werr
	}
	if err != nil { // mail.ErrTooMixed
		if err := t.unfold(); err != nil {
			return 0, err
		}
		return n, t.keep(p[took:])
	}
	return n, nil
}

func (t *taker) keep(p []byte) error {
	if len(p) > 0 {
		t.last = p[len(p)-1]
	}
	return t.add(p)
}

// add appends text to what is at rest.
func (t *taker) add(text []byte) error {
	if len(text) == 0 {
		return nil
	}
	t.count(text)
	if t.fits(len(text)) {
		t.mem = append(t.mem, text...)
		return nil
	}
	if t.file == nil {
		if err := t.spill(); err != nil {
			return err
		}
	}
	_, err := t.file.Write(text)
	return trouble(err)
}

// fits reports whether n bytes more have room in memory.
func (t *taker) fits(n int) bool { return t.mem != nil && len(t.mem)+n <= cap(t.mem) }

func (t *taker) count(text []byte) {
	t.sum.Write(text)
	t.text += int64(len(text))
	t.line += int64(bytes.Count(text, []byte{'\n'}))
}

func (t *taker) spill() (err error) {
	if t.file, err = unnamed(t.s.dir); err != nil {
		return trouble(err)
	}
	if t.mem != nil {
		_, err = t.file.Write(t.mem)
		t.s.putBack(t.room)
		t.mem = nil
	}
	return trouble(err)
}

// unfold turns the text so far back into what was received, and starts over
// with that.
func (t *taker) unfold() error {
	old := Body{s: t.s, room: t.room, mem: t.mem, file: t.file, Want: sink.Want{Text: t.text}}
	defer old.Free()
	t.kept, t.mem, t.file = true, nil, nil
	t.sum.Reset()
	t.text, t.line = 0, 0
	r, err := old.Open()
	if err != nil {
		return err
	}
	w := t.fold.Ends().Restore(keeper{t})
	if _, err := io.Copy(w, r); err != nil {
		return err
	}
	return w.Close()
}

type keeper struct{ t *taker }

func (k keeper) Write(p []byte) (int, error) { return len(p), k.t.keep(p) }

// close settles the last line and takes the facts.
func (t *taker) close() error {
	b := t.body
	if t.kept {
		b.Ends = mail.Ends{Kind: mail.EndsKept, Open: t.text > 0 && t.last != '\n'}
		if b.Ends.Open {
			if err := t.add([]byte{'\n'}); err != nil {
				return err
			}
		}
	} else {
		var text []byte
		text, b.Ends = t.fold.Close(t.out[:0])
		b.Plain = t.fold.Plain()
		if err := t.add(text); err != nil {
			return err
		}
	}
	b.Text, b.Lines = t.text, t.line
	t.sum.Sum(b.Digest[:0])
	return t.header()
}

func (t *taker) header() error {
	head := t.mem
	if t.file != nil {
		var err error
		if head, err = mail.ReadHeader(io.NewSectionReader(t.file, 0, t.text)); err != nil {
			return trouble(err)
		}
	}
	Describe(&t.body.Want, head)
	return nil
}

// Describe takes the hints of w from the text form's beginning.
func Describe(w *sink.Want, text []byte) {
	h := mail.Describe(text)
	w.Head, w.MessageID, w.Sender = h.Head, h.MessageID, h.Sender
}

func trouble(err error) error {
	if err == nil {
		return nil
	}
	return durable.Fail("spool", mail.ScopeRun, fmt.Errorf("a large message cannot be set down on the way: %w", err))
}
