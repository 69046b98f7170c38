package imap

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"mailhaul/internal/imapconn"
	"mailhaul/internal/mail"
	"mailhaul/sink"
)

// A copier is a folder of a server that tells what has become of a copy
// (UIDPLUS). There a message that lies in one folder comes to another by the
// server's own UID COPY, which costs no upload.
//
// A copy has the flags and the date of what is copied, so that this is looked at
// first: a message that has others by now, or would be stored with others, is
// sent. Flags are never put right afterwards, for whatever died in between would
// leave them wrong.
//
// To copy twice is to store twice, as with APPEND, and so it is done in the same
// way: nothing is copied again before a look behind the mark has shown that it is
// not there.
type copier struct{ *folder }

// Copy implements sink.Copier. Copies are made in Sync, by one command for all
// messages of a folder.
func (c copier) Copy(ctx context.Context, m *sink.Message, from mail.Path, at sink.Place) error {
	if err := context.Cause(ctx); err != nil {
		return fail("copy", c.path, err)
	}
	it := &item{m: m, link: &link{from: from, at: at}, ends: wireEnds(m.Ends), err: c.trouble}
	it.size = it.ends.Size(m.Text, m.Lines)
	c.items = append(c.items, it)
	return nil
}

// toCopy reports whether copies are still to be made.
func (f *folder) toCopy() bool {
	return slices.ContainsFunc(f.items, func(it *item) bool { return it.link != nil && it.err == nil && !it.done })
}

// copies makes the batch's copies. It holds no connection when it begins, and one
// at a time.
func (f *folder) copies(ctx context.Context) error {
	order, from := f.links()
	if len(order) == 0 {
		return nil
	}
	for _, path := range order {
		if err := f.copyFrom(ctx, path, from[path]); err != nil {
			return err
		}
	}
	f.counting = false // what was counted before is too little
	for _, path := range order {
		for _, it := range from[path] {
			if err := f.otherwise(ctx, it); err != nil {
				return err
			}
		}
	}
	return f.finish(ctx)
}

// otherwise is what becomes of a message that was not copied.
func (f *folder) otherwise(ctx context.Context, it *item) error {
	if it.done || it.err != nil {
		return nil
	}
	if it.err = f.trouble; it.err != nil {
		return nil
	}
	if it.m.Open == nil {
		it.err = &mail.Error{Op: "copy", Scope: mail.ScopeMessage, Err: it.link.why}
		return nil
	}
	it.link, it.brought = nil, true
	if err := f.begin(ctx); err != nil {
		return err
	}
	if f.prepare(it); it.err != nil || f.broken {
		return nil
	}
	err := f.add(it)
	if err == errBody {
		f.broken, err = true, nil
	}
	return err
}

// copyFrom copies messages of one folder. Those that were not copied keep the
// reason. The first copy of a run is made alone, and looked at: that it has the
// flags and the date of what was copied is only a SHOULD (RFC 3501, section 6.4.7).
func (f *folder) copyFrom(ctx context.Context, path mail.Path, items []*item) error {
	f.s.mu.Lock()
	st := f.s.tree.folders[path]
	f.s.mu.Unlock()
	if st == nil || st.noSelect {
		notCopied(items, fs.ErrNotExist)
		return nil
	}
	for len(items) > 0 && f.trouble == nil {
		trust := f.s.trust()
		if trust == broken {
			notCopied(items, sink.ErrNotCopied)
			return nil
		}
		if err := f.borrow(ctx, st.raw, items, trust == untried); err != nil {
			return err
		}
		if trust == faithful {
			return nil
		}
		i := slices.IndexFunc(items, func(it *item) bool { return it.done })
		if i < 0 {
			return nil // there is none of which a copy is wanted, or the server makes none
		}
		if err := f.judge(ctx, items[i]); err != nil {
			return err
		}
		items = slices.Delete(slices.Clone(items), i, i+1)
	}
	return nil
}

// borrow copies messages over a connection of the pool; with alone, no more than
// one of them.
func (f *folder) borrow(ctx context.Context, raw string, items []*item, alone bool) error {
	for {
		c, fresh, err := f.s.pool.Borrow(ctx)
		if err != nil {
			return f.failed(err)
		}
		x := copying{folder: f, c: c, alone: alone}
		err = x.from(ctx, raw, items)
		dead := c.Broken()
		f.s.pool.GiveBack(c)
		if err == nil {
			return f.unnamed(ctx, items)
		}
		// A connection that had been idle may have died before anything was said
		// that must not be said twice.
		if fresh || !dead || x.said || ctx.Err() != nil {
			f.doubt = f.doubt || x.said
			return f.failed(err)
		}
	}
}

func notCopied(items []*item, why error) {
	for _, it := range items {
		it.link.why = why
	}
}

// A copying is the copies out of one folder, over one connection.
type copying struct {
	*folder
	c     *imapconn.Conn
	alone bool // one copy, and no more
	said  bool // something was said that must not be said twice
}

// from opens the folder for reading, which is enough: COPY changes nothing there
// (RFC 3501, section 6.3.2).
func (x *copying) from(ctx context.Context, raw string, items []*item) error {
	if err := x.learnFlags(ctx, x.c); err != nil {
		return err
	}
	box, err := x.c.Examine(ctx, raw)
	if imapconn.NoSuchFolder(err) {
		notCopied(items, fs.ErrNotExist)
		return nil
	}
	if err != nil {
		return err
	}
	there, err := x.there(ctx, box, items)
	if err != nil {
		return err
	}
	if x.alone && len(there) > 1 {
		there = there[:1]
	}
	for len(there) > 0 && x.trouble == nil {
		// One command names a message once.
		by := map[uint32]*item{}
		var uids []uint32
		var again []*item
		for _, it := range there {
			_, uid, _ := numbers(string(it.link.at))
			if by[uid] != nil {
				again = append(again, it)
				continue
			}
			by[uid] = it
			uids = append(uids, uid)
		}
		if err := x.each(ctx, uids, by); err != nil {
			return err
		}
		there = again
	}
	return x.c.Unselect(ctx)
}

// there looks at the messages, and gives those of which a copy is what is wanted.
func (x *copying) there(ctx context.Context, box imapconn.Box, items []*item) (all []*item, err error) {
	found := map[uint32]*imapconn.Item{}
	var uids []uint32
	for _, it := range items {
		it.link.why = fs.ErrNotExist
		if validity, uid, ok := numbers(string(it.link.at)); ok && validity == box.Validity {
			uids = append(uids, uid)
		}
	}
	slices.Sort(uids)
	err = fetch(ctx, x.c, slices.Compact(uids), "UID "+kept, func(i *imapconn.Item) error {
		if found[i.UID] == nil {
			found[i.UID] = &imapconn.Item{Size: -1}
		}
		merge(found[i.UID], i)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, it := range items {
		validity, uid, _ := numbers(string(it.link.at))
		i := found[uid]
		if validity != box.Validity || i == nil {
			continue
		}
		it.link.why = sink.ErrNotCopied
		it.flags = x.lasting.of(it.m.Flags)
		x.lasting.miss(it.m.Flags)
		if x.is(it, i) {
			all = append(all, it)
		}
	}
	return all, nil
}

// kept is what a copy has of the message that is copied.
const kept = "FLAGS INTERNALDATE RFC822.SIZE"

// merge adds what one more answer says of a message; news of its flags may come in
// between.
func merge(to, i *imapconn.Item) {
	if i.HasFlags {
		to.HasFlags, to.Flags = true, i.Flags
	}
	if i.Size >= 0 {
		to.Size = i.Size
	}
	if !i.Date.IsZero() {
		to.Date = i.Date
	}
}

// is reports whether a stored message is what the server would have made of it,
// had it been sent here.
func (f *folder) is(it *item, i *imapconn.Item) bool {
	return i.Size == it.size && i.HasFlags && sameFlags(f.lasting.of(i.Flags), it.flags) && sameDate(it.m.Date, i.Date)
}

// sameDate reports whether a message has the date that it was sent with, if there
// was any.
func sameDate(sent, has time.Time) bool {
	return sent.IsZero() || dateFor(sent).Unix() == has.Unix()
}

// sameFlags compares sets as servers do, which know a keyword in whatever letters
// they have seen it first (RFC 3501, section 2.3.2).
func sameFlags(a, b mail.Flags) bool {
	fold := func(set mail.Flags) []string {
		var all []string
		for _, f := range set {
			all = append(all, strings.ToLower(string(f)))
		}
		slices.Sort(all)
		return slices.Compact(all)
	}
	return slices.Equal(fold(a), fold(b))
}

// each copies messages by as many commands as it takes.
func (x *copying) each(ctx context.Context, uids []uint32, by map[uint32]*item) error {
	slices.Sort(uids)
	most := len(uids)
	if n := x.c.MessageLimit(); n > 0 {
		most = min(most, n)
	}
	for part := range slices.Chunk(uids, most) {
		for len(part) > 0 && x.trouble == nil {
			set, rest := imapconn.Set(part)
			var named []*item
			for _, uid := range part[:len(part)-len(rest)] {
				named = append(named, by[uid])
			}
			if err := x.set(ctx, set, named); err != nil {
				return err
			}
			part = rest
		}
	}
	return nil
}

// set is one command. All of its messages are copied or none (RFC 3501, section
// 6.4.7).
func (x *copying) set(ctx context.Context, set string, items []*item) error {
	x.said = true
	d, err := x.c.Copy(ctx, set, x.raw)
	var s *imapconn.Status
	switch {
	case err == nil:
		x.copied(items, d)
		return nil
	case !errors.As(err, &s) || x.c.Broken():
		return err
	}
	if x.trouble = x.larger(s); x.trouble == nil {
		notCopied(items, fmt.Errorf("%w: the server refuses it: %w", sink.ErrNotCopied, s))
	}
	return nil
}

// copied notes that the server has said OK, and where it says that the copies are.
// A place that was taken when the batch began, one that is named twice, and one of
// a message that nobody asked for prove that the answer is worth nothing.
func (f *folder) copied(items []*item, d imapconn.Copied) {
	by := map[uint32]*item{}
	for _, it := range items {
		_, uid, _ := numbers(string(it.link.at))
		by[uid] = it
		it.done = true
	}
	taken := map[uint32]bool{}
	for i, uid := range d.From {
		if by[uid] == nil || by[uid].place != "" || taken[d.To[i]] || d.To[i] < f.from.next || d.Validity != f.from.validity {
			for _, it := range items {
				it.place = ""
			}
			return
		}
		taken[d.To[i]] = true
		by[uid].place = place(d.Validity, d.To[i])
	}
	for uid := range taken {
		f.now.next = max(f.now.next, uid+1)
	}
}

// unnamed looks for copies of which the server has not told where they are. What
// is not there was not copied: it may have been taken away from under us, which the
// server passes over (RFC 3501, section 6.4.8).
func (f *folder) unnamed(ctx context.Context, items []*item) error {
	var all []*item
	var wants []sink.Want
	for _, it := range items {
		if it.done && it.place == "" {
			all, wants = append(all, it), append(wants, it.m.Want)
		}
	}
	if len(all) == 0 {
		return nil
	}
	f.doubt = true
	places, err := f.find(ctx, f.from, wants)
	if err != nil {
		return err
	}
	for i, it := range all {
		if it.place = places[i]; it.place == "" {
			it.done = false
		}
	}
	return nil
}

// trust says whether copies at this server are what they should be.
type trust int

const (
	untried trust = iota
	faithful
	broken
)

func (s *Sink) trust() trust {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.copies
}

// judge looks what the first copy of a run is like. At a server that loses flags
// or dates nothing more is copied.
func (f *folder) judge(ctx context.Context, it *item) error {
	_, uid, _ := numbers(string(it.place))
	is := imapconn.Item{Size: -1}
	err := f.look(ctx, func(c *imapconn.Conn, box imapconn.Box) error {
		return fetch(ctx, c, []uint32{uid}, "UID "+kept, func(i *imapconn.Item) error {
			if i.UID == uid {
				merge(&is, i)
			}
			return nil
		})
	})
	if err != nil || is.Size < 0 {
		return err // not seen: that is looked into as with any other (prove)
	}
	t := faithful
	if !f.is(it, &is) {
		t = broken
		f.s.note("%s: a copy that the server has made (message %d) has other flags or another date than what was copied: messages that lie in several folders are sent for each",
			mail.Clean(string(f.path)), uid)
	}
	f.s.mu.Lock()
	f.s.copies = t
	f.s.mu.Unlock()
	return nil
}
