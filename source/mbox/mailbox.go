package mbox

import (
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"time"

	"mailhaul/internal/mail"
	"mailhaul/source"
	"mailhaul/source/local"
)

// A mailbox is one file, open for one goroutine.
type mailbox struct {
	a    *account
	file *file
	now  func() time.Time

	listing  source.Listing
	mark     string // the state that places are good for
	places   map[source.ID]place
	rules    rules
	complete bool // places are those of the whole file

	in *os.File  // for Fetch
	s  *scanner  // over in
	z  io.Closer // the stream of a packed file, which s reads
}

// A place is where a message lies in the file.
type place struct {
	text, end int64
	size      int64 // without quoting
}

// Epoch is the same for ever: an ID is made of the message.
func (m *mailbox) Epoch() string { return "digest" }

func (m *mailbox) Listing() source.Listing { return m.listing }

// List reads the file once, or twice where its dialect must be found out
// first.
func (m *mailbox) List(ctx context.Context, _ source.Cursor) iter.Seq2[source.Entry, error] {
	return func(yield func(source.Entry, error) bool) {
		m.listing = source.Listing{}
		err := m.scan(ctx, func(e source.Entry) bool { return yield(e, nil) })
		if err != nil && err != errStopped {
			yield(source.Entry{}, m.fail("list", err))
		}
	}
}

var errStopped = fmt.Errorf("the consumer has had enough")

func (m *mailbox) fail(op string, err error) error {
	return local.Fail(op+" "+mail.Clean(m.file.name), mail.ScopeFolder, err)
}

func (m *mailbox) scan(ctx context.Context, yield func(source.Entry) bool) error {
	m.drop()
	began := m.now()
	fi, err := m.file.stat()
	if err != nil {
		return err
	}
	mark := local.Mark(fi)
	if m.rules, err = m.file.rules(ctx, m.a.opt, mark, &m.a.Store); err != nil {
		return err
	}
	in, err := m.file.open()
	if err != nil {
		return err
	}
	defer in.Close()
	m.mark, m.places, m.complete = mark, map[source.ID]place{}, false
	s := newScanner(in, m.rules)
	d := newDigest()
	seen := map[[16]byte]int32{} // half a digest tells messages apart just as well
	count, stray := int64(0), false
	for {
		if err := local.Ended("list", ctx); err != nil {
			return err
		}
		msg, err := s.next(halted{ctx, d})
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		size := d.size
		sum := d.sum()
		half := [16]byte(sum[:])
		seen[half]++
		e := m.entry(&msg, size)
		e.ID = idOf(sum, int(seen[half]))
		m.places[e.ID] = place{msg.text, msg.end, size}
		count++
		stray = stray || msg.stray
		if !yield(e) {
			return errStopped
		}
	}
	if err := m.same(); err != nil {
		return err
	}
	m.complete = true
	if stray {
		m.a.Note("%s: what stands before the first line \"From \" is read as a message", mail.Clean(m.file.name))
	}
	s.tell(m.file.name, m.rules.strict, &m.a.Store)
	m.listing = source.Listing{Messages: count}
	if local.Settled(fi.ModTime(), began) {
		m.listing.Cursor = m.file.state(fi, m.a.opt)
	}
	return nil
}

// halted writes until a context ends.
type halted struct {
	ctx context.Context
	w   io.Writer
}

func (h halted) Write(p []byte) (int, error) {
	if err := local.Ended("list", h.ctx); err != nil {
		return 0, err
	}
	return h.w.Write(p)
}

// entry is what the file says about a message.
func (m *mailbox) entry(msg *message, size int64) source.Entry {
	e := source.Entry{Size: size, Date: msg.date}
	var flags []string
	if takeout(msg) && msg.fields[gmailLabels] != "" {
		e.Labels, flags = gmail(msg.fields[gmailLabels])
	}
	if m.a.opt.trust {
		flags = append(flags, statusFlags(msg)...)
	}
	e.Flags = mail.NewFlags(flags...)
	return e
}

// same fails when the file is not what it was when its places were noted.
func (m *mailbox) same() error {
	fi, err := m.file.stat()
	if err != nil {
		return err
	}
	if local.Mark(fi) != m.mark {
		return local.ErrChanged
	}
	return nil
}

// Fetch reads messages where List has found them.
func (m *mailbox) Fetch(ctx context.Context, next func(wait bool) []source.Entry) iter.Seq2[*source.Message, error] {
	inOrder := func(wait bool) []source.Entry {
		group := next(wait)
		if m.file.packed() {
			slices.SortFunc(group, func(a, b source.Entry) int {
				return int(min(max(m.places[a.ID].text-m.places[b.ID].text, -1), 1))
			})
		}
		return group
	}
	return local.Fetch(ctx, inOrder, func(e source.Entry) (io.ReadCloser, error) {
		body, err := m.body(ctx, e)
		if err != nil {
			return nil, m.fail("fetch", err)
		}
		if body == nil {
			return nil, nil
		}
		return body, nil
	})
}

func (m *mailbox) body(ctx context.Context, e source.Entry) (*body, error) {
	at, ok := m.places[e.ID]
	if !ok && !m.complete {
		if err := m.scan(ctx, func(source.Entry) bool { return true }); err != nil {
			return nil, err
		}
		at, ok = m.places[e.ID]
	}
	if !ok {
		return nil, nil
	}
	if err := m.same(); err != nil {
		return nil, err
	}
	if err := m.seek(ctx, at.text); err != nil {
		return nil, err
	}
	return &body{m: m, id: e.ID, left: at.size, end: at.end, d: newDigest()}, nil
}

// seek makes the scanner stand at an offset.
func (m *mailbox) seek(ctx context.Context, at int64) error {
	if !m.file.packed() {
		if m.in == nil {
			in, _, err := m.file.raw()
			if err != nil {
				return err
			}
			m.in, m.s = in, newScanner(nil, m.rules)
		}
		m.s.reset(io.NewSectionReader(m.in, at, 1<<62-at), at)
		return nil
	}
	if m.s == nil || m.s.at > at {
		m.drop()
		z, err := m.file.open()
		if err != nil {
			return err
		}
		m.z, m.s = z, newScanner(z, m.rules)
	}
	for m.s.at < at {
		if err := local.Ended("fetch", ctx); err != nil {
			return err
		}
		n, err := m.s.r.Discard(int(min(at-m.s.at, bufferSize)))
		if m.s.at += int64(n); err != nil {
			return err
		}
	}
	m.s.inner, m.s.run = false, 0
	return nil
}

// drop lets the file go.
func (m *mailbox) drop() {
	if m.in != nil {
		m.in.Close() // it was only read
	}
	if m.z != nil {
		m.z.Close()
	}
	m.in, m.z, m.s = nil, nil, nil
}

// A body is one message. It ends in an error unless it is the one that was
// listed.
type body struct {
	m    *mailbox
	id   source.ID
	end  int64
	left int64
	rest []byte // of a piece
	d    *digest
	err  error // the end
}

func (b *body) Read(p []byte) (int, error) {
	for len(b.rest) == 0 {
		if b.err != nil {
			return 0, b.err
		}
		piece, err := b.m.s.piece(b.end)
		if err == io.EOF {
			b.err = b.close()
			continue
		}
		if err != nil {
			b.err = b.m.fail("fetch", err)
			continue
		}
		b.d.Write(piece)
		b.left -= int64(len(piece))
		b.rest = piece
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// close compares what was read with what was listed.
func (b *body) close() error {
	sum := b.d.sum()
	want := idOf(sum, 1)
	if b.left != 0 || len(b.id) < len(want) || b.id[:len(want)] != want {
		return b.m.fail("fetch", local.ErrChanged)
	}
	return io.EOF
}

func (b *body) Close() error { return nil }

// Present tells which messages the file has now.
func (m *mailbox) Present(ctx context.Context, ids []source.ID) (map[source.ID]bool, error) {
	there := map[source.ID]bool{}
	if len(ids) == 0 {
		return there, nil
	}
	if !m.complete || m.same() != nil {
		if err := m.scan(ctx, func(source.Entry) bool { return true }); err != nil {
			return nil, m.fail("look", err)
		}
	}
	for _, id := range ids {
		_, there[id] = m.places[id]
	}
	return there, nil
}

func (m *mailbox) Close() error {
	m.drop()
	return nil
}
