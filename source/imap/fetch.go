package imap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"time"

	"mailhaul/internal/imapconn"
	"mailhaul/internal/mail"
	"mailhaul/source"
)

// How many commands are under way at once: the server works on the next ones
// while we read. The further away it is, the more fit on the line, which is not
// to fall silent: at 40 ms ten groups of 512 KiB are 125 MB/s.
const (
	leastOpen = 4
	mostOpen  = 10
	lagOpen   = 6 * time.Millisecond // of a round trip, for one more
)

// largeFolder is how many bytes of a folder are read before connections that
// nobody else uses are taken to help.
const largeFolder = 16 << 20

// Fetch sends a command for each group and reads the answers as they come.
// What a group's answer lacks is left out, be it that the server did not send
// it or sent a refusal for all: the core asks again for each message alone,
// and then the refusal is told.
//
// A large folder is read over several connections, once there are some to
// spare. Bodies are read from them in the order in which they were asked for,
// so messages come as from one; while one connection is read the others fill.
func (m *mailbox) Fetch(ctx context.Context, next func(wait bool) []source.Entry) iter.Seq2[*source.Message, error] {
	return func(yield func(*source.Message, error) bool) {
		if m.c == nil {
			yield(nil, in(m.path, wrap("fetch", mail.ScopeFolder, imapconn.ErrClosed)))
			return
		}
		f := fetcher{m: m, ctx: ctx, next: next, yield: yield, wanted: map[uint32]source.Entry{}}
		f.lines = []*line{newLine(ctx, m.c)}
		defer f.end()
		if err := f.run(); err != nil && !errors.Is(err, errStopped) {
			yield(nil, in(m.path, err))
		}
	}
}

type fetcher struct {
	m      *mailbox
	ctx    context.Context
	next   func(bool) []source.Entry
	yield  func(*source.Message, error) bool
	wanted map[uint32]source.Entry // asked for and not yet come
	queue  []group                 // pieces of a group too long for one command

	lines  []*line // the first one is the mailbox's own
	asked  []ask   // without an answer, in their order
	read   int64   // bytes of bodies
	helper chan helper
	cancel func() // of the look for a helper
}

// A line is a connection on which the folder is open.
type line struct {
	c      *imapconn.Conn
	b      *imapconn.Bodies
	groups map[string][]uint32 // without an answer, by the tag of the command
}

func newLine(ctx context.Context, c *imapconn.Conn) *line {
	return &line{c: c, b: c.Bodies(ctx), groups: map[string][]uint32{}}
}

// open is how many commands may be under way on l.
func (l *line) open() int { return min(leastOpen+int(l.c.Lag()/lagOpen), mostOpen) }

// A group is what one command asks for.
type group struct {
	set  string
	uids []uint32
}

// An ask is a command under way.
type ask struct {
	l   *line
	tag string
}

// A helper is a further connection, or why there is none.
type helper struct {
	c   *imapconn.Conn
	box imapconn.Box
	err error
}

func (f *fetcher) run() error {
	for {
		if err := f.fill(); err != nil {
			return err
		}
		if len(f.asked) == 0 {
			return nil
		}
		l := f.asked[0].l
		body, done, err := l.b.Next()
		switch {
		case err != nil:
			return err
		case done != nil:
			err = f.done(l, done)
		default:
			f.read += body.Size
			err = f.body(body)
		}
		if err != nil {
			return err
		}
	}
}

// fill sends commands while there is something to ask for. It waits for work
// only when nothing is under way.
func (f *fetcher) fill() error {
	if err := f.help(); err != nil {
		return err
	}
	for {
		l, err := f.idlest()
		if err != nil || l == nil {
			return err
		}
		if len(f.queue) == 0 {
			entries := f.next(len(f.asked) == 0)
			if len(entries) == 0 {
				return nil
			}
			if err := f.enqueue(entries); err != nil {
				return err
			}
			continue
		}
		g := f.queue[0]
		f.queue = f.queue[1:]
		tag, err := l.b.Ask(g.set)
		if err != nil {
			return err
		}
		l.groups[tag] = g.uids
		f.asked = append(f.asked, ask{l, tag})
	}
}

// idlest is the line that has most room for a command; nil: none has any. One
// that is slow finishes what is under way, and is compressed then.
func (f *fetcher) idlest() (best *line, err error) {
	for i, l := range f.lines {
		if i > 0 && f.m.a.Wanted() {
			break // others need it more
		}
		if l.c.Slow() {
			if len(l.groups) > 0 {
				continue
			}
			if err := l.c.Hasten(f.ctx); err != nil {
				return nil, err
			}
		}
		if len(l.groups) < l.open() && (best == nil || len(l.groups) < len(best.groups)) {
			best = l
		}
	}
	return best, nil
}

// help gives back connections that others wait for, and takes one to help with
// a large folder where one is to spare.
func (f *fetcher) help() error {
	wanted := f.m.a.Wanted()
	if wanted {
		for i := len(f.lines) - 1; i > 0; i-- {
			if l := f.lines[i]; len(l.groups) == 0 {
				f.leave(l)
				f.lines = append(f.lines[:i:i], f.lines[i+1:]...)
			}
		}
	}
	switch {
	case f.helper != nil:
		select {
		case h := <-f.helper:
			f.cancel()
			f.helper, f.read = nil, 0 // the next one has to wait as long
			if wanted && h.c != nil {
				f.m.a.GiveBack(h.c)
				return nil
			}
			return f.join(h)
		default:
		}
	case f.read >= largeFolder && !wanted:
		f.ask()
	}
	return nil
}

// ask looks for a further connection, while reading goes on.
func (f *fetcher) ask() {
	ctx, cancel := context.WithCancel(f.ctx)
	f.helper, f.cancel = make(chan helper, 1), cancel
	go func(answer chan<- helper) {
		raw, err := f.m.a.rawName(ctx, f.m.path)
		if err != nil {
			answer <- helper{err: err}
			return
		}
		c, box, err := f.m.a.examine(ctx, raw, f.m.a.Spare)
		answer <- helper{c, box, err}
	}(f.helper)
}

// join takes a further connection into use. That there is none is no error:
// the folder is read all the same.
func (f *fetcher) join(h helper) error {
	switch {
	case h.err != nil || h.c == nil:
		return nil
	case h.box.Validity != f.m.box.Validity:
		f.m.a.GiveBack(h.c)
		return wrap("fetch", mail.ScopeFolder, source.ErrEpoch)
	}
	f.lines = append(f.lines, newLine(f.ctx, h.c))
	return nil
}

// leave gives the connection of l back.
func (f *fetcher) leave(l *line) {
	l.b.End()
	f.m.a.GiveBack(l.c)
}

// end ends all lines; the first one stays the mailbox's.
func (f *fetcher) end() {
	if f.helper != nil {
		f.cancel()
		if h := <-f.helper; h.c != nil {
			f.m.a.GiveBack(h.c)
		}
	}
	for _, l := range f.lines[1:] {
		f.leave(l)
	}
	f.lines[0].b.End()
}

func (f *fetcher) enqueue(entries []source.Entry) error {
	uids := make([]uint32, 0, len(entries))
	for _, e := range entries {
		uid, err := uidOf(e.ID)
		if err != nil {
			return wrap("fetch", mail.ScopeFolder, err)
		}
		if _, twice := f.wanted[uid]; !twice {
			uids = append(uids, uid)
			f.wanted[uid] = e
		}
	}
	slices.Sort(uids)
	for len(uids) > 0 {
		set, rest := imapconn.Set(uids)
		f.queue = append(f.queue, group{set, uids[:len(uids)-len(rest)]})
		uids = rest
	}
	return nil
}

// done closes a group. A refusal of several messages says nothing about any of
// them; a server that has had enough for now says so of all.
func (f *fetcher) done(l *line, d *imapconn.Done) error {
	uids, ok := l.groups[d.Tag]
	delete(l.groups, d.Tag)
	f.asked = slices.DeleteFunc(f.asked, func(a ask) bool { return a == ask{l, d.Tag} })
	if !ok {
		return wrap("fetch", mail.ScopeFolder, fmt.Errorf("an answer to no question of ours"))
	}
	if d.Status.Type != "OK" && d.Status.Busy() {
		return &mail.Error{Op: "fetch", Scope: mail.ScopeFolder, Temporary: true, After: d.Status.Wait(), Err: &d.Status}
	}
	for _, uid := range uids {
		e, missing := f.wanted[uid]
		delete(f.wanted, uid)
		if missing && len(uids) == 1 && d.Status.Type != "OK" {
			return f.refuse(e, &d.Status)
		}
	}
	return nil
}

// refuse tells that one message cannot be had.
func (f *fetcher) refuse(e source.Entry, why error) error {
	err := &mail.Error{Op: "fetch", Scope: mail.ScopeMessage, Err: fmt.Errorf("message %s: %w", e.ID, why)}
	if !f.yield(&source.Message{Entry: e}, in(f.m.path, err)) {
		return errStopped
	}
	return nil
}

func (f *fetcher) body(b *imapconn.Body) error {
	e, ok := f.wanted[b.UID]
	if !ok {
		return nil // nobody asked, or it comes a second time
	}
	delete(f.wanted, b.UID)
	if b.None || b.Size == 0 && e.Size != 0 {
		return f.refuse(e, errNoBody)
	}
	if e.Size >= 0 && e.Size != b.Size {
		f.m.a.wrong.Add(1)
	}
	body := io.Reader(b)
	if b.Size != e.Size && b.Size < mostPlaceholder {
		text, err := io.ReadAll(b)
		if err != nil {
			return err
		}
		if isPlaceholder(text) {
			return f.refuse(e, errPlaceholder)
		}
		body = bytes.NewReader(text)
	}
	if !f.yield(&source.Message{Entry: e, Body: body}, nil) {
		return errStopped
	}
	return nil
}

var (
	errNoBody      = errors.New("the server gives no content for it")
	errPlaceholder = errors.New("the server cannot convert it and gives a notice instead")

	// Exchange answers so for items that it cannot turn into a message (row A5).
	placeholder = []byte("Retrieval using the IMAP4 protocol failed for the following message")
)

// isPlaceholder looks for Exchange's notice where Exchange puts it: a message of
// its own that says so in the subject. Mail that quotes it is none.
func isPlaceholder(text []byte) bool {
	head, _, _ := bytes.Cut(text, []byte("\r\n\r\n"))
	subject := false
	for line := range bytes.Lines(head) {
		if len(line) > 8 && bytes.EqualFold(line[:8], []byte("Subject:")) {
			subject = bytes.Contains(line, placeholder)
		}
	}
	return subject && bytes.Contains(bytes.ToLower(head), []byte("microsoft exchange"))
}

// mostPlaceholder is more than such a notice takes.
const mostPlaceholder = 4 << 10
