package pop3

import (
	"context"
	"errors"
	"iter"
	"time"

	"mailhaul/internal/mail"
	"mailhaul/source"
)

// A mailbox is the maildrop, open in one session after the other.
type mailbox struct {
	a   *account
	s   *session // nil: closed, or lost
	end bool     // Close was called
	sum source.Listing
}

// Epoch is a constant: unique-ids know no numbering.
func (m *mailbox) Epoch() string { return "pop3" }

func (m *mailbox) Listing() source.Listing { return m.sum }

// List yields what the session has listed when it began.
func (m *mailbox) List(ctx context.Context, since source.Cursor) iter.Seq2[source.Entry, error] {
	return func(yield func(source.Entry, error) bool) {
		m.sum = source.Listing{}
		err := m.live(ctx)
		if err == nil {
			err = m.s.identify(ctx, m.s.Conn)
		}
		if err != nil {
			yield(source.Entry{}, m.in(err))
			return
		}
		l := m.s.listing
		m.a.look(m.s, since)
		for at := range l.sizes {
			if at%1000 == 0 && ctx.Err() != nil {
				yield(source.Entry{}, wrap("list", mail.ScopeFolder, context.Cause(ctx)))
				return
			}
			if !yield(source.Entry{ID: l.id(uint32(at)), Size: l.sizes[at]}, nil) {
				return
			}
		}
		m.sum = source.Listing{Cursor: l.cursor(), Messages: int64(len(l.sizes)), Hides: m.a.gmail(m.s)}
	}
}

// live makes sure that there is a session.
func (m *mailbox) live(ctx context.Context) (err error) {
	switch {
	case m.end:
		return wrap("list", mail.ScopeFolder, errClosed)
	case ctx.Err() != nil:
		return wrap("list", mail.ScopeFolder, context.Cause(ctx))
	case m.s != nil:
		return nil
	}
	m.s, err = m.a.dial(ctx, false)
	return err
}

// renew ends the session and begins another, in which messages have other
// numbers.
func (m *mailbox) renew(ctx context.Context) error {
	if m.s != nil {
		m.s.leave(m.a)
		m.s = nil
	}
	if err := m.live(ctx); err != nil {
		return err
	}
	return m.s.identify(ctx, m.s.Conn)
}

// Present looks at the maildrop anew: a session sees it as it was when the
// session began.
func (m *mailbox) Present(ctx context.Context, ids []source.ID) (map[source.ID]bool, error) {
	if err := m.renew(ctx); err != nil {
		return nil, m.in(err)
	}
	there := make(map[source.ID]bool, len(ids))
	for _, id := range ids {
		_, ok, err := m.s.find(id)
		if err != nil {
			return nil, wrap("look up", mail.ScopeFolder, err)
		}
		if ok {
			there[id] = true
		}
	}
	return there, nil
}

// Close ends the session. What was fetched stays on the server.
func (m *mailbox) Close() error {
	if m.end {
		return nil
	}
	m.end = true
	if m.s != nil {
		m.s.leave(m.a)
		m.s = nil
	}
	m.a.release()
	return nil
}

var _ source.Pager = (*mailbox)(nil)

// More implements source.Pager: everything that was fetched is committed.
// At Gmail it ends the session as the protocol has it, whereupon the server
// shows the next messages, and reports whether there may be any. Before the
// commit that would be too early: an account may be set to delete what was
// fetched.
func (m *mailbox) More(ctx context.Context) bool {
	if m.s == nil || m.s.fetched == 0 || !m.a.gmail(m.s) || m.s.Broken() {
		return false
	}
	err := m.s.Quit(ctx)
	m.s = nil
	return err == nil
}

// in names the folder in an error, and keeps what it says about scope and time.
func (m *mailbox) in(err error) error {
	if errors.Is(err, errOther) {
		return wrap("fetch", mail.ScopeFolder, err)
	}
	return err
}

// noopEvery is how long a session may be silent. Servers end one after ten
// minutes (RFC 1939, section 3), some earlier.
const noopEvery = time.Minute

// rest calls f, which may take its time, and keeps the session alive meanwhile.
// No command is under way.
func (s *session) rest(ctx context.Context, f func()) error {
	done := make(chan struct{})
	failed := make(chan error, 1)
	go func() {
		t := time.NewTicker(noopEvery)
		defer t.Stop()
		for {
			select {
			case <-done:
				failed <- nil
				return
			case <-t.C:
				if err := s.Noop(ctx); err != nil {
					failed <- err
					return
				}
			}
		}
	}()
	f()
	close(done)
	return <-failed
}
