package archive

import (
	"context"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"

	"mailhaul/internal/catalog"
	"mailhaul/internal/mail"
	"mailhaul/sink"
	"mailhaul/source"
	"mailhaul/source/local"
)

// A mailbox is one folder, open for one goroutine.
type mailbox struct {
	a *archive
	f *folder

	listing source.Listing
	held    map[mail.Path]*shared // folders of the sink that are read from
}

var _ source.Describer = (*mailbox)(nil)

// mostHeld is how many folders of the sink a mailbox keeps at hand.
const mostHeld = 16

// Epoch is a constant of the archive: the server's own epochs are in the IDs.
func (m *mailbox) Epoch() string {
	id, _, _ := strings.Cut(m.a.age, " ")
	return id
}

func (m *mailbox) Listing() source.Listing { return m.listing }

// List implements source.Mailbox. Where nothing has changed behind the cursor,
// nothing is listed.
func (m *mailbox) List(ctx context.Context, since source.Cursor) iter.Seq2[source.Entry, error] {
	return func(yield func(source.Entry, error) bool) {
		m.listing = source.Listing{}
		if err := local.Ended("list", ctx); err != nil {
			yield(source.Entry{}, err)
			return
		}
		if since != "" && since == m.f.State {
			m.listing = source.Listing{Cursor: since, Messages: m.f.Messages, Partial: true}
			return
		}
		n := int64(0)
		for e, err := range m.all(ctx) {
			if err == nil {
				err = local.Ended("list", ctx)
			}
			if err != nil {
				yield(source.Entry{}, local.Fail("list", mail.ScopeFolder, err))
				return
			}
			if n++; !yield(e, nil) {
				return
			}
		}
		m.listing = source.Listing{Cursor: m.f.State, Messages: n}
	}
}

// all yields what is known of its origin, then what is not.
func (m *mailbox) all(ctx context.Context) iter.Seq2[source.Entry, error] {
	return func(yield func(source.Entry, error) bool) {
		if m.f.origin != nil {
			for x, err := range m.a.cat.Copies(ctx, *m.f.origin, m.a.opt.Live) {
				if !yield(entryOf(&x), err) || err != nil {
					return
				}
			}
		}
		if m.f.strays == "" {
			return
		}
		for e, err := range m.strays(ctx) {
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// entryOf is a copy under the name and the true size that it has here.
func entryOf(x *catalog.Copy) source.Entry {
	e := x.Entry
	e.ID = idOf(x.Epoch, x.Entry.ID)
	e.Size = x.Ends.Size(x.At.Text, x.At.Lines)
	return e
}

// idOf names a copy: the epoch, escaped, and behind a "/" the ID in it. The
// name of a stray begins with a "/", as no epoch is empty.
func idOf(epoch string, id source.ID) source.ID {
	var b strings.Builder
	mail.EscapePart(&b, epoch)
	return source.ID(b.String()) + "/" + id
}

func strayID(d mail.Digest, n int64) source.ID {
	return source.ID(fmt.Sprintf("/%s/%d", d, n))
}

// find looks a message up by its ID.
func (m *mailbox) find(ctx context.Context, id source.ID) (x catalog.Copy, ok bool, err error) {
	epoch, rest, ok := strings.Cut(string(id), "/")
	if !ok {
		return x, false, nil
	}
	if epoch != "" {
		if m.f.origin == nil {
			return x, false, nil
		}
		return m.a.cat.Copy(ctx, *m.f.origin, mail.Unescape(epoch), source.ID(rest), m.a.opt.Live)
	}
	hex, number, _ := strings.Cut(rest, "/")
	d, err := mail.ParseDigest(hex)
	n, err2 := strconv.ParseInt(number, 10, 64)
	if err != nil || err2 != nil || n < 1 || m.f.strays == "" {
		return x, false, nil
	}
	x.At, ok, err = m.a.cat.Stray(ctx, m.f.strays, d, n)
	x.Ends = unknownEnds
	return x, ok, err
}

// Present implements source.Mailbox. What is lost is present: it is fetched in
// vain, so that it is told.
func (m *mailbox) Present(ctx context.Context, ids []source.ID) (map[source.ID]bool, error) {
	there := map[source.ID]bool{}
	for _, id := range ids {
		_, ok, err := m.find(ctx, id)
		if err != nil {
			return nil, local.Fail("look", mail.ScopeFolder, err)
		}
		there[id] = ok
	}
	return there, nil
}

// text opens the stored text of a message.
func (m *mailbox) text(ctx context.Context, at catalog.Stored) (io.ReadCloser, error) {
	s := m.held[at.Folder]
	if s == nil {
		if len(m.held) >= mostHeld {
			m.release()
		}
		var err error
		if s, err = m.a.acquire(ctx, at.Folder); err != nil {
			return nil, err
		}
		if m.held == nil {
			m.held = map[mail.Path]*shared{}
		}
		m.held[at.Folder] = s
	}
	text, err := s.Folder.(sink.Reader).Read(ctx, at.Place)
	if err != nil && text != nil {
		text.Close()
	}
	return text, err
}

func (m *mailbox) release() {
	for path, s := range m.held {
		m.a.release(path, s)
	}
	m.held = nil
}

// Close implements source.Mailbox.
func (m *mailbox) Close() error {
	m.release()
	return nil
}
