package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"iter"

	"mailhaul/internal/catalog"
	"mailhaul/internal/mail"
	"mailhaul/sink"
	"mailhaul/source"
	"mailhaul/source/local"
)

// Fetch implements source.Mailbox.
func (m *mailbox) Fetch(ctx context.Context, next func(wait bool) []source.Entry) iter.Seq2[*source.Message, error] {
	return local.Fetch(ctx, next, func(e source.Entry) (io.ReadCloser, error) {
		x, ok, err := m.find(ctx, e.ID)
		if err != nil {
			return nil, local.Fail("fetch", mail.ScopeFolder, err)
		}
		if !ok {
			return nil, nil
		}
		return m.body(ctx, x)
	})
}

// errLost is told of a message that the archive has had.
var errLost = errors.New("it is not in the archive any more")

// body opens a message as it came from its server. One that is lost may be
// stored elsewhere as well.
func (m *mailbox) body(ctx context.Context, x catalog.Copy) (io.ReadCloser, error) {
	text, err := m.stored(ctx, &x)
	if err != nil {
		return nil, err
	}
	b := &body{at: x.At, text: text, sum: sha256.New()}
	b.raw = x.Ends.Restore(&b.out)
	return b, nil
}

// stored opens the text of a copy, and makes At say where it was found.
func (m *mailbox) stored(ctx context.Context, x *catalog.Copy) (io.ReadCloser, error) {
	lost := error(errLost)
	if !x.Lost {
		text, err := m.text(ctx, x.At)
		if err == nil {
			return text, nil
		}
		if ended := local.Ended("fetch", ctx); ended != nil {
			return nil, ended
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, m.fail(x.At, err)
		}
		lost = err
	}
	others, err := m.a.cat.Find(ctx, x.At.Digest)
	if err != nil {
		return nil, local.Fail("fetch", mail.ScopeFolder, err)
	}
	for _, o := range others {
		if o.Message == x.At.Message {
			continue
		}
		if text, err := m.text(ctx, o); err == nil {
			x.At = o
			return text, nil
		}
	}
	return nil, m.fail(x.At, lost)
}

// fail is an error of one message, with the place where it lies. What the disk
// or the whole archive suffers from reaches further.
func (m *mailbox) fail(at catalog.Stored, err error) error {
	if s := mail.ScopeOf(err, mail.ScopeMessage); s > mail.ScopeMessage && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return &mail.Error{Op: "fetch", Scope: mail.ScopeMessage, Err: &Damaged{Folder: at.Folder, Place: at.Place, Err: err}}
}

// A Damaged message is not in the archive as it was stored.
type Damaged struct {
	Folder mail.Path // of the archive
	Place  sink.Place
	Err    error
}

func (d *Damaged) Error() string {
	return fmt.Sprintf("%s at %s: %v (mailhaul verify names all that is missing or damaged)", mail.Clean(string(d.Folder)), mail.Clean(string(d.Place)), d.Err)
}

func (d *Damaged) Unwrap() error { return d.Err }

// A body rebuilds a message from its text, piece by piece. It ends in an error
// unless the text is what was stored.
type body struct {
	at   catalog.Stored
	text io.ReadCloser
	sum  hash.Hash
	size int64
	out  bytes.Buffer // rebuilt and not yet read
	raw  io.WriteCloser
	buf  [32 << 10]byte
	end  error
}

func (b *body) Read(p []byte) (int, error) {
	for b.out.Len() == 0 {
		if b.end != nil {
			return 0, b.end
		}
		b.end = b.fill()
	}
	return b.out.Read(p)
}

func (b *body) fill() error {
	n, err := b.text.Read(b.buf[:])
	b.sum.Write(b.buf[:n])
	if b.size += int64(n); b.size > b.at.Text {
		return b.damaged(fmt.Errorf("it has more than the %d bytes that were stored", b.at.Text))
	}
	if _, werr := b.raw.Write(b.buf[:n]); werr != nil {
		return b.damaged(werr)
	}
	if err == nil {
		return nil
	}
	if err != io.EOF {
		return b.damaged(err)
	}
	// Only now is it known that what was given out is whole.
	var got mail.Digest
	if b.sum.Sum(got[:0]); got != b.at.Digest {
		return b.damaged(fmt.Errorf("%d bytes with digest %v, stored were %d with %v", b.size, got, b.at.Text, b.at.Digest))
	}
	if err := b.raw.Close(); err != nil {
		return b.damaged(err)
	}
	return io.EOF
}

func (b *body) damaged(err error) error {
	return &mail.Error{Op: "fetch", Scope: mail.ScopeMessage, Err: &Damaged{Folder: b.at.Folder, Place: b.at.Place, Err: err}}
}

func (b *body) Close() error { return b.text.Close() }

// Describe implements source.Describer. What is lost or cannot be read is left
// out; digests are those that were taken when the message was stored.
func (m *mailbox) Describe(ctx context.Context, entries []source.Entry) iter.Seq2[source.Description, error] {
	return func(yield func(source.Description, error) bool) {
		for _, e := range entries {
			err := local.Ended("describe", ctx)
			var d source.Description
			var ok bool
			if err == nil {
				d, ok, err = m.describe(ctx, e.ID)
			}
			if err != nil {
				yield(source.Description{}, err)
				return
			}
			if ok && !yield(d, nil) {
				return
			}
		}
	}
}

func (m *mailbox) describe(ctx context.Context, id source.ID) (d source.Description, ok bool, err error) {
	x, ok, err := m.find(ctx, id)
	if err != nil {
		return d, false, local.Fail("describe", mail.ScopeFolder, err)
	}
	if !ok {
		return d, false, nil
	}
	text, err := m.stored(ctx, &x)
	if mail.ScopeOf(err, mail.ScopeFolder) == mail.ScopeMessage {
		return d, false, nil
	}
	if err != nil {
		return d, false, err
	}
	defer text.Close()
	head, err := mail.ReadHeader(text)
	if err != nil {
		return d, false, nil // Fetch tells what is wrong with it
	}
	h := mail.Describe(head)
	return source.Description{ID: id, Size: x.Ends.Size(x.At.Text, x.At.Lines), MessageID: h.MessageID, Head: h.Head, Digest: x.At.Digest}, true, nil
}
