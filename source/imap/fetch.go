package imap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"

	"mailhaul/internal/imapconn"
	"mailhaul/internal/mail"
	"mailhaul/source"
)

// mostOpen is how many commands are under way at once: the server works on the
// next ones while we read.
const mostOpen = 4

// Fetch sends a command for each group and reads the answers as they come.
// What a group's answer lacks is left out, be it that the server did not send
// it or sent a refusal for all: the core asks again for each message alone,
// and then the refusal is told.
func (m *mailbox) Fetch(ctx context.Context, next func(wait bool) []source.Entry) iter.Seq2[*source.Message, error] {
	return func(yield func(*source.Message, error) bool) {
		if m.c == nil {
			yield(nil, in(m.path, wrap("fetch", mail.ScopeFolder, imapconn.ErrClosed)))
			return
		}
		f := fetcher{m: m, ctx: ctx, b: m.c.Bodies(ctx), next: next, yield: yield,
			wanted: map[uint32]source.Entry{}, groups: map[string][]uint32{}}
		defer f.b.End()
		if err := f.run(); err != nil && !errors.Is(err, errStopped) {
			yield(nil, in(m.path, err))
		}
	}
}

type fetcher struct {
	m      *mailbox
	ctx    context.Context
	b      *imapconn.Bodies
	next   func(bool) []source.Entry
	yield  func(*source.Message, error) bool
	wanted map[uint32]source.Entry // asked for and not yet come
	queue  []group                 // pieces of a group too long for one command
	groups map[string][]uint32     // by the tag of the command
}

// A group is what one command asks for.
type group struct {
	set  string
	uids []uint32
}

func (f *fetcher) run() error {
	for {
		if err := f.fill(); err != nil {
			return err
		}
		if len(f.groups) == 0 {
			return nil
		}
		body, done, err := f.b.Next()
		switch {
		case err != nil:
			return err
		case done != nil:
			err = f.done(done)
		default:
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
	if f.m.c.Slow() {
		if len(f.groups) > 0 {
			return nil // what is under way comes first
		}
		if err := f.m.c.Hasten(f.ctx); err != nil {
			return err
		}
	}
	for len(f.groups) < mostOpen {
		if len(f.queue) == 0 {
			entries := f.next(len(f.groups) == 0)
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
		tag, err := f.b.Ask(g.set)
		if err != nil {
			return err
		}
		f.groups[tag] = g.uids
	}
	return nil
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
func (f *fetcher) done(d *imapconn.Done) error {
	uids, ok := f.groups[d.Tag]
	delete(f.groups, d.Tag)
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
