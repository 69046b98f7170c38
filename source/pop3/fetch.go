package pop3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"mailhaul/internal/mail"
	"mailhaul/internal/pop3conn"
	"mailhaul/source"
)

// How much is asked for before the answers have come, where the server takes
// commands so (RFC 2449, section 6.6), and how long a session lasts.
const (
	mostOpen  = 64
	mostBytes = 1 << 20
	mostTime  = 8 * time.Minute
)

// Fetch asks for each message by the number that it has in this session, in
// the order of next. A session does not last for ever: then a new one begins,
// with new numbers.
func (m *mailbox) Fetch(ctx context.Context, next func(wait bool) []source.Entry) iter.Seq2[*source.Message, error] {
	return func(yield func(*source.Message, error) bool) {
		f := fetcher{m: m, ctx: ctx, next: next, yield: yield}
		err := m.live(ctx)
		if err == nil {
			err = m.s.identify(ctx, m.s.Conn)
		}
		if err == nil {
			err = f.run()
			f.leave()
		}
		if err != nil && !errors.Is(err, errStopped) {
			yield(nil, m.in(err))
		}
	}
}

var errStopped = errors.New("the consumer has had enough")

type fetcher struct {
	m     *mailbox
	ctx   context.Context
	next  func(bool) []source.Entry
	yield func(*source.Message, error) bool
	b     *pop3conn.Bodies // while there is a session
	queue []source.Entry   // wanted and not yet asked for
	open  []source.Entry   // asked for, in this order
	bytes int64            // of open, as claimed
	ask   []int
	empty bool // the last answer had no content where some was claimed
}

func (f *fetcher) run() error {
	for {
		if err := f.fill(); err != nil {
			return err
		}
		if len(f.open) == 0 {
			return nil
		}
		a, err := f.b.Next()
		if err != nil && f.empty && errors.Is(err, pop3conn.ErrSyntax) {
			f.again()
			continue
		}
		if err != nil {
			return err
		}
		e := f.open[0]
		f.open = f.open[1:]
		f.bytes -= max(e.Size, 0)
		if err := f.take(e, &a); err != nil {
			return err
		}
	}
}

// again takes back what was asked for, to ask for it in another session. A
// server that does not stuff a dot at the beginning of a message ends it there
// and sends the rest of it where a status belongs: one such message must not
// keep those behind it from coming.
func (f *fetcher) again() {
	f.queue = append(f.open, f.queue...)
	f.open, f.bytes, f.empty = nil, 0, false
	f.leave()
}

// leave gives the session back to the mailbox.
func (f *fetcher) leave() {
	if f.b != nil {
		f.b.End()
		f.b = nil
	}
	if s := f.m.s; s != nil {
		s.used = time.Now()
		if s.Broken() {
			s.leave(f.m.a)
			f.m.s = nil
		}
	}
}

// fill asks for messages while there is room. It waits for work only when
// nothing is under way.
func (f *fetcher) fill() error {
	// Half the room at once: one write for many commands.
	if f.pipelined() && len(f.open) > mostOpen/2 {
		return nil
	}
	for {
		for f.room() && len(f.queue) > 0 {
			if f.m.s == nil || f.due() {
				if len(f.open) > 0 {
					return f.send()
				}
				f.leave()
				if err := f.m.renew(f.ctx); err != nil {
					return err
				}
			}
			e := f.queue[0]
			at, ok, err := f.m.s.find(e.ID)
			if err != nil {
				return err
			}
			f.queue = f.queue[1:]
			if !ok {
				continue // it is gone: left out
			}
			f.ask = append(f.ask, int(at)+1)
			f.open = append(f.open, e)
			f.bytes += max(e.Size, 0)
			f.m.s.fetched++
		}
		if !f.room() {
			return f.send()
		}
		if err := f.send(); err != nil {
			return err
		}
		if err := f.more(); err != nil || len(f.queue) == 0 {
			return err
		}
	}
}

// more gets what is wanted next. While the core makes us wait, nothing is under
// way, and the server must not take us for gone.
func (f *fetcher) more() error {
	if len(f.open) > 0 {
		f.queue = f.next(false)
		return nil
	}
	if f.b != nil {
		f.b.End()
		f.b = nil
	}
	if f.m.s == nil {
		f.queue = f.next(true)
		return nil
	}
	return f.m.s.rest(f.ctx, func() { f.queue = f.next(true) })
}

func (f *fetcher) pipelined() bool { return f.m.s != nil && f.m.s.Pipelining() }

func (f *fetcher) room() bool {
	if len(f.open) == 0 {
		return true
	}
	return f.pipelined() && len(f.open) < mostOpen && f.bytes < mostBytes
}

// due reports whether the session has done its share. Where leaving costs
// more than staying, it stays: after a login delay, or where the messages that
// were fetched must not be let go by a QUIT.
func (f *fetcher) due() bool {
	s := f.m.s
	if most := f.m.a.most; most > 0 && s.fetched >= most {
		return true
	}
	return time.Since(s.born) > mostTime && s.LoginDelay() == 0 && !s.forgetful() && !f.m.a.gmail(s)
}

// send asks the server for what was put together.
func (f *fetcher) send() error {
	if len(f.ask) == 0 {
		return nil
	}
	if f.b == nil {
		f.b = f.m.s.Bodies(f.ctx)
	}
	err := f.b.Ask(f.ask...)
	f.ask = f.ask[:0]
	return err
}

// take hands over one answer.
func (f *fetcher) take(e source.Entry, a *pop3conn.Answer) error {
	err := a.Err
	if err == nil && e.Size > 0 {
		empty, broken := a.Body.Empty()
		if broken != nil {
			return broken
		}
		if empty {
			err = errNoBody
		}
	}
	f.empty = err == errNoBody
	body := io.Reader(a.Body)
	if err == nil && f.m.s.exchange() {
		if body, err = sift(a.Body); err != nil && err != errPlaceholder {
			return err
		}
	}
	if err != nil {
		err = f.m.s.Refusal(fmt.Errorf("message %s: %w", mail.Clean(string(e.ID)), err))
		if mail.ScopeOf(err, 0) != mail.ScopeMessage {
			return err
		}
		if !f.yield(&source.Message{Entry: e}, err) {
			return errStopped
		}
		return nil
	}
	if !f.yield(&source.Message{Entry: e, Body: body}, nil) {
		return errStopped
	}
	// Usually there is nothing left, and this only asks how it ended.
	if _, err := a.Body.WriteTo(io.Discard); err != nil {
		return err
	}
	// RFC 1939, section 3: a last line without an end gets one on the way.
	if n := a.Body.N; e.Size >= 0 && n != e.Size && n != e.Size+2 {
		f.m.a.wrong.Add(1)
	}
	return nil
}

var (
	errNoBody      = errors.New("the server gives no content for it")
	errPlaceholder = errors.New("the server cannot convert it and gives a notice instead")

	// Exchange answers so for items that it cannot turn into a message (row A5).
	placeholder = []byte("Retrieval using the POP3 protocol failed for the following message")
)

// exchange reports whether the server may give notices for messages.
func (s *session) exchange() bool { return strings.Contains(s.Greeting(), "Microsoft Exchange") }

// mostPlaceholder is more than such a notice takes.
const mostPlaceholder = 4 << 10

// sift looks for Exchange's notice where Exchange puts it: a small message of
// its own that says so in the subject. Mail that quotes it is none.
func sift(body io.Reader) (io.Reader, error) {
	text, err := io.ReadAll(io.LimitReader(body, mostPlaceholder))
	if err != nil {
		return nil, err
	}
	if len(text) == mostPlaceholder {
		return io.MultiReader(bytes.NewReader(text), body), nil
	}
	head, _, _ := bytes.Cut(text, []byte("\r\n\r\n"))
	subject := false
	for line := range bytes.Lines(head) {
		if len(line) > 8 && bytes.EqualFold(line[:8], []byte("Subject:")) {
			subject = bytes.Contains(line, placeholder)
		}
	}
	if subject && bytes.Contains(bytes.ToLower(head), []byte("microsoft exchange")) {
		return nil, errPlaceholder
	}
	return bytes.NewReader(text), nil
}
