package imap

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"slices"
	"strconv"

	"mailhaul/internal/imapconn"
	"mailhaul/internal/mail"
	"mailhaul/source"
)

const (
	// mostDescribed is how many headers one command asks for: the answers of
	// one are held while the consumer works.
	mostDescribed = 1000

	// mostHeader is how much of a header is asked for: less than the literal
	// that we let a server send. A message with a longer one is read whole.
	mostHeader = 1_000_000
)

// Describe implements source.Describer: sizes and headers come by the thousand,
// no body is read. Messages whose header the server does not give are left out,
// as those that are gone; Fetch tells which of both it is.
func (m *mailbox) Describe(ctx context.Context, entries []source.Entry) iter.Seq2[source.Description, error] {
	return func(yield func(source.Description, error) bool) {
		if m.c == nil {
			yield(source.Description{}, in(m.path, wrap("describe", mail.ScopeFolder, imapconn.ErrClosed)))
			return
		}
		d := describer{m: m, ctx: ctx, yield: yield}
		if err := d.run(entries); err != nil && !errors.Is(err, errStopped) {
			yield(source.Description{}, in(m.path, err))
		}
	}
}

type describer struct {
	m     *mailbox
	ctx   context.Context
	yield func(source.Description, error) bool
	sizes map[uint32]int64 // of what is asked for, as listed
	found []source.Description
	whole []source.Entry // what must be read whole
}

func (d *describer) run(entries []source.Entry) error {
	for part := range slices.Chunk(entries, min(d.m.window, mostDescribed)) {
		d.sizes, d.whole = map[uint32]int64{}, nil
		var uids []uint32
		for _, e := range part {
			uid, err := uidOf(e.ID)
			if err != nil {
				return wrap("describe", mail.ScopeFolder, err)
			}
			if _, twice := d.sizes[uid]; !twice {
				d.sizes[uid] = e.Size
				uids = append(uids, uid)
			}
		}
		slices.Sort(uids)
		if err := d.ask(uids); err != nil {
			return err
		}
		if err := d.read(); err != nil {
			return err
		}
	}
	return nil
}

// ask gets the headers of some messages and then tells of them. A refusal of
// several says nothing about any of them: they are asked for in halves, until
// it is known which one the server cannot read.
func (d *describer) ask(uids []uint32) error {
	for len(uids) > 0 {
		set, rest := imapconn.Set(uids)
		asked := uids[:len(uids)-len(rest)]
		uids = rest
		d.found = d.found[:0]
		items := "UID RFC822.SIZE BODY.PEEK[HEADER]<0." + strconv.Itoa(mostHeader) + ">"
		_, err := d.m.c.Fetch(d.ctx, set, items, "", d.take)
		for _, f := range d.found {
			if !d.yield(f, nil) {
				return errStopped
			}
		}
		var refused *imapconn.Status
		if err == nil {
			continue
		}
		if !errors.As(err, &refused) || d.m.c.Broken() || refused.Busy() {
			return err
		}
		if len(asked) == 1 {
			continue // Fetch will tell why
		}
		left := slices.DeleteFunc(slices.Clone(asked), func(uid uint32) bool { _, open := d.sizes[uid]; return !open })
		half := (len(left) + 1) / 2
		if err := d.ask(left[:half]); err != nil {
			return err
		}
		if err := d.ask(left[half:]); err != nil {
			return err
		}
	}
	return nil
}

// take takes one answer. Those that tell only flags were not asked for.
func (d *describer) take(it *imapconn.Item) error {
	size, wanted := d.sizes[it.UID]
	if !wanted || !it.HasHead {
		return nil
	}
	delete(d.sizes, it.UID)
	if it.Size >= 0 {
		size = it.Size
	}
	var fold mail.Folder
	text, _, err := fold.Append(nil, it.Head)
	// Servers that read a header in a way of their own end it early, or give
	// none: without the line that ends it nobody knows that it is all.
	ended := bytes.HasPrefix(text, []byte("\n")) || bytes.Contains(text, []byte("\n\n"))
	if err != nil || !ended && size != int64(len(it.Head)) {
		d.whole = append(d.whole, source.Entry{ID: idOf(it.UID), Size: size})
		return nil
	}
	text, _ = fold.Close(text)
	h := mail.Describe(text)
	d.found = append(d.found, source.Description{ID: idOf(it.UID), Size: size, MessageID: h.MessageID, Head: h.Head})
	return nil
}

// read describes what no header is enough for by all of it.
func (d *describer) read() error {
	if len(d.whole) == 0 {
		return nil
	}
	left := d.whole
	next := func(bool) []source.Entry {
		now := left
		left = nil
		return now
	}
	var cut error
	for msg, err := range d.m.Fetch(d.ctx, next) {
		if mail.ScopeOf(err, mail.ScopeFolder) == mail.ScopeMessage && err != nil {
			continue // Fetch will tell again
		}
		if err != nil {
			return err
		}
		s, err := mail.Summarize(msg.Body)
		if err != nil {
			cut = err // the loop ends with the reason
			continue
		}
		if !d.yield(source.Description{ID: msg.ID, Size: s.Size, MessageID: s.MessageID, Head: s.Head, Digest: s.Digest}, nil) {
			return errStopped
		}
	}
	return cut
}
