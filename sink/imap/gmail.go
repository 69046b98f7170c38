package imap

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"

	"mailhaul/internal/imapconn"
	"mailhaul/internal/mail"
	"mailhaul/sink"
)

// A label is a folder of Gmail's (X-GM-EXT-1). There a message is stored once
// in the account, and a folder shows those that have its label. So a message
// that lies in one folder is shown in another by a label, which costs no upload;
// and a message that is brought a second time is swallowed, with OK for an
// answer.
//
// Giving a label twice is giving it once: what became of a batch that was cut
// off is seen by a look behind the mark, as with any other, and what is not seen
// there is labelled again.
//
// Trash and junk are no labels: a message that comes there goes from everywhere
// else. They are folders like those of any server, so nothing is ever thrown
// away by a link.
type label struct{ *folder }

// labelled reports whether the folder shows messages by a label.
func (f *folder) labelled() bool { return f.gmail && !bin(f.role) }

// bin reports whether what lies in a folder lies nowhere else.
func bin(role string) bool { return role == "trash" || role == "junk" }

// A link is where a message lies that is to be shown in another folder.
type link struct {
	from mail.Path
	at   sink.Place
	id   uint64 // X-GM-MSGID; 0: it is not there, or could not be labelled
	why  error  // it was not copied (copy.go)
}

// Link implements sink.Linker. The label is given in Sync, one command for all
// messages of a folder that need it.
func (l label) Link(ctx context.Context, m *sink.Message, from mail.Path, at sink.Place) error {
	if err := context.Cause(ctx); err != nil {
		return fail("label", l.path, err)
	}
	l.items = append(l.items, &item{m: m, link: &link{from: from, at: at}, err: l.trouble})
	return nil
}

// name is the label as Gmail writes it; "" for the folder of all mail, which
// shows every message by itself.
func (f *folder) name() (label string, system bool) {
	switch {
	case f.path == mail.Inbox:
		return `\Inbox`, true
	case f.role == "sent":
		return `\Sent`, true
	case f.role == "drafts":
		return `\Draft`, true
	case f.role == "flagged":
		return `\Starred`, true
	case f.role == "important":
		return `\Important`, true
	case f.role == "all":
		return "", true
	}
	return f.raw, false
}

// labels shows the batch's links here. What cannot be shown by a label is brought
// like any other message: Gmail will not keep it twice.
func (f *folder) labels(ctx context.Context) error {
	order, from := f.links()
	var given []*item
	for _, path := range order {
		if err := f.give(ctx, path, from[path]); err != nil {
			f.doubt = true
			return err
		}
		for _, it := range from[path] {
			if it.link.id != 0 {
				given = append(given, it)
			}
		}
	}
	if err := f.shows(ctx, given); err != nil {
		f.doubt = true
		return err
	}
	for _, path := range order {
		for _, it := range from[path] {
			if it.done {
				continue
			}
			if it.err = f.trouble; it.err != nil {
				continue
			}
			if err := f.instead(ctx, it); err != nil {
				return err
			}
		}
	}
	return nil
}

// links are the batch's links by the folders that they lead to.
func (f *folder) links() (order []mail.Path, from map[mail.Path][]*item) {
	from = map[mail.Path][]*item{}
	for _, it := range f.items {
		if it.link == nil || it.err != nil {
			continue
		}
		if from[it.link.from] == nil {
			order = append(order, it.link.from)
		}
		from[it.link.from] = append(from[it.link.from], it)
	}
	return order, from
}

// give gives messages of a folder the label of this one, and learns which they
// are. Those that are not there keep no id.
func (f *folder) give(ctx context.Context, path mail.Path, items []*item) error {
	f.s.mu.Lock()
	st := f.s.tree.folders[path]
	f.s.mu.Unlock()
	if st == nil || st.noSelect || bin(st.role) {
		return nil
	}
	name, system := f.name()
	err := f.s.pool.Use(ctx, func(c *imapconn.Conn) error {
		open := c.Select
		if name == "" || path == f.path {
			open = c.Examine
		}
		box, err := open(ctx, st.raw)
		if imapconn.NoSuchFolder(err) {
			return nil
		}
		if err != nil {
			return err
		}
		at := map[uint32][]*item{}
		var uids []uint32
		for _, it := range items {
			it.link.id = 0
			if validity, uid, ok := numbers(string(it.link.at)); ok && validity == box.Validity {
				at[uid] = append(at[uid], it)
				uids = append(uids, uid)
			}
		}
		slices.Sort(uids)
		uids = slices.Compact(uids)
		var there []uint32
		err = fetch(ctx, c, uids, "UID X-GM-MSGID", func(i *imapconn.Item) error {
			if i.GmailID != 0 {
				there = append(there, i.UID)
			}
			for _, it := range at[i.UID] {
				it.link.id = max(it.link.id, i.GmailID)
			}
			return nil
		})
		if err != nil {
			return err
		}
		slices.Sort(there)
		there = slices.Compact(there)
		for len(there) > 0 && name != "" && path != f.path {
			var set string
			set, there = imapconn.Set(there)
			if err := c.Label(ctx, set, name, system); err != nil {
				return f.unlabelled(err, items)
			}
		}
		return c.Unselect(ctx)
	})
	return fail("label", f.path, runWide(err))
}

// unlabelled does what a refusal of a label asks for: where nothing speaks
// against the folder itself, its messages are brought to it instead.
func (f *folder) unlabelled(err error, items []*item) error {
	var s *imapconn.Status
	if !errors.As(err, &s) {
		return err
	}
	if larger := f.larger(s); larger != nil {
		return larger
	}
	for _, it := range items {
		it.link.id = 0
	}
	return nil
}

// shown is which messages the folder shows, by X-GM-MSGID.
type shown struct {
	validity uint32
	next     uint32 // UIDs below were seen
	uid      map[uint64]uint32
}

// shows finds the places of messages that have got the label, and waits a little
// for one that is late.
func (f *folder) shows(ctx context.Context, given []*item) error {
	for again := true; len(given) > 0; again = false {
		err := f.look(ctx, func(c *imapconn.Conn, box imapconn.Box) error {
			if f.shown.validity != box.Validity {
				f.shown = shown{validity: box.Validity, next: 1, uid: map[uint64]uint32{}}
			}
			next := f.shown.next
			if box.Exists > 0 && (box.Next == 0 || next < box.Next) {
				_, err := c.Fetch(ctx, imapconn.From(next), "UID X-GM-MSGID", "", func(it *imapconn.Item) error {
					if it.GmailID != 0 {
						f.shown.uid[it.GmailID] = it.UID
						next = max(next, it.UID+1)
					}
					return nil
				})
				if err != nil {
					return err
				}
			}
			f.shown.next = next
			f.now = counts{validity: box.Validity, next: max(box.Next, next), messages: int64(box.Exists), bytes: f.now.bytes, limit: f.now.limit}
			return nil
		})
		if err != nil {
			return err
		}
		given = slices.DeleteFunc(given, func(it *item) bool {
			uid, ok := f.shown.uid[it.link.id]
			if ok {
				it.done, it.place = true, place(f.shown.validity, uid)
				it.present = f.before(it.place)
			}
			return ok
		})
		if !again || len(given) == 0 {
			break
		}
		if err := f.s.opt.Sleep(ctx, late); err != nil {
			return fail("label", f.path, err)
		}
	}
	return nil
}

// before reports whether a place was taken before the batch was begun.
func (f *folder) before(at sink.Place) bool {
	validity, uid, ok := numbers(string(at))
	return ok && validity == f.from.validity && uid < f.from.next
}

// instead brings a message that could not be linked. Its bytes may lie at the
// server itself, so that they are read before a connection is taken.
func (f *folder) instead(ctx context.Context, it *item) error {
	text, err := all(it.m)
	if err != nil {
		if mail.ScopeOf(err, mail.ScopeMessage) != mail.ScopeMessage {
			return err
		}
		it.refuse(fmt.Errorf("it could not be labelled, and its stored copy cannot be read: %w", err))
		return nil
	}
	m := *it.m
	m.Open = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }
	it.m, it.link = &m, nil
	it.ends = wireEnds(m.Ends)
	it.size = it.ends.Size(m.Text, m.Lines)
	if err := f.begin(ctx); err != nil {
		return err
	}
	f.prepare(it)
	if it.err != nil {
		f.leave()
		return nil
	}
	if err := f.add(it); err == errBody {
		f.broken = true
	} else if err != nil {
		return err
	}
	return f.finish(ctx)
}

// all reads a message, and makes sure that it is the one.
func all(m *sink.Message) ([]byte, error) {
	r, err := m.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close() // it was only read
	text, err := io.ReadAll(r)
	if err == nil && sha256.Sum256(text) != m.Digest {
		err = errors.New("it is not the message that was stored")
	}
	return text, err
}

// proveLabelled is prove for Gmail. The number of messages proves nothing
// there: others come to the folder by labels, and what is swallowed never comes.
// So each is looked for, first by the UID that the server has told, then by
// what it is, behind the mark and before it.
func (f *folder) proveLabelled(ctx context.Context) error {
	var stored, lost []*item
	for _, it := range f.items {
		switch {
		case it.done && it.place == "":
			lost = append(lost, it)
		case it.done && it.err == nil:
			stored = append(stored, it)
		}
	}
	if len(stored) > 0 {
		missing, err := f.unseen(ctx, stored)
		if err != nil {
			return err
		}
		lost = append(lost, missing...)
	}
	for _, from := range []counts{f.from, {}} {
		if len(lost) == 0 {
			break
		}
		wants := make([]sink.Want, len(lost))
		for i, it := range lost {
			wants[i] = it.m.Want
		}
		f.doubt = f.doubt || from == counts{}
		places, err := f.find(ctx, from, wants)
		if err != nil {
			return err
		}
		var rest []*item
		for i, it := range lost {
			if it.place = places[i]; it.place == "" {
				rest = append(rest, it)
			}
		}
		lost = rest
	}
	for _, it := range lost {
		it.refuse(errSwallowed)
	}
	taken := map[sink.Place]bool{}
	for _, it := range f.items {
		if it.done && it.place != "" {
			it.present = it.present || f.before(it.place) || taken[it.place]
			taken[it.place] = true
		}
	}
	return nil
}
