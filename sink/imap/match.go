package imap

import (
	"context"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"mailhaul/internal/imapconn"
	"mailhaul/internal/mail"
	"mailhaul/sink"
)

// An index is what is needed of a folder's messages to recognise them
// (RELIABILITY, 4.4): 32 bytes each.
type index struct {
	validity uint32
	all      []entry
	byID     map[uint64][]int32
	kept     map[uint32]*imapconn.Item // flags and dates by UID; nil: not asked for
}

type entry struct {
	uid  uint32
	size int64
	id   uint64 // hash of the Message-ID; 0: it has none
	used bool   // found for a message already
}

// late is how long a server may take to store what it has got before the line
// broke.
const late = 5 * time.Second

// find looks behind from for messages that were sent, perhaps.
func (f *folder) find(ctx context.Context, from counts, want []sink.Want) ([]sink.Place, error) {
	for again := f.doubt; ; again = false {
		places, err := f.findOnce(ctx, from, want)
		if err != nil || !again || !slices.Contains(places, "") {
			return places, err
		}
		if err := f.s.opt.Sleep(ctx, late); err != nil {
			return nil, fail("recover", f.path, err)
		}
	}
}

func (f *folder) findOnce(ctx context.Context, from counts, want []sink.Want) (places []sink.Place, err error) {
	err = f.look(ctx, func(c *imapconn.Conn, box imapconn.Box) error {
		first := from.next
		if from.validity != box.Validity {
			first = 1
		}
		uids, err := uidsFrom(ctx, c, box, max(first, 1))
		if err != nil {
			return err
		}
		x, err := load(ctx, c, box.Validity, uids, true)
		if err != nil {
			return err
		}
		f.claimed(x)
		m := matching{f: f, c: c, x: x}
		places, err = m.match(ctx, want)
		return err
	})
	return places, err
}

// claimed leaves out what others of the batch are known to have become. At Gmail
// equal messages are one.
func (f *folder) claimed(x *index) {
	if f.gmail {
		return
	}
	at := map[sink.Place]bool{}
	for _, it := range f.items {
		if it.place != "" {
			at[it.place] = true
		}
	}
	for i := range x.all {
		x.all[i].used = len(at) > 0 && at[place(x.validity, x.all[i].uid)]
	}
}

// Match implements sink.Matcher.
func (f *folder) Match(ctx context.Context, want []sink.Want, ours func(sink.Place) bool) (places []sink.Place, err error) {
	if !f.held || f.present != nil && len(f.present.all) == 0 {
		return make([]sink.Place, len(want)), nil
	}
	err = f.look(ctx, func(c *imapconn.Conn, box imapconn.Box) error {
		if f.present == nil || f.present.validity != box.Validity {
			uids, err := uidsFrom(ctx, c, box, 1)
			if err != nil {
				return err
			}
			strangers := slices.DeleteFunc(uids, func(uid uint32) bool { return ours(place(box.Validity, uid)) })
			if f.present, err = load(ctx, c, box.Validity, strangers, false); err != nil {
				return err
			}
		}
		m := matching{f: f, c: c, x: f.present}
		places, err = m.match(ctx, want)
		return err
	})
	return places, err
}

// Stale implements sink.Matcher.
func (f *folder) Stale(ctx context.Context, at sink.Place) (bool, error) {
	if f.now.validity == 0 {
		if err := f.ask(ctx); err != nil {
			return false, err
		}
	}
	validity, _, ok := numbers(string(at))
	return ok && validity != f.now.validity, nil
}

// look opens the folder for reading on some connection.
func (f *folder) look(ctx context.Context, do func(c *imapconn.Conn, box imapconn.Box) error) error {
	err := f.s.pool.Use(ctx, func(c *imapconn.Conn) error {
		box, err := c.Examine(ctx, f.raw)
		if err != nil {
			return err
		}
		if err := do(c, box); err != nil {
			return err
		}
		return c.Unselect(ctx)
	})
	return fail("look", f.path, runWide(err))
}

// uidsFrom lists UIDs from a first one on.
func uidsFrom(ctx context.Context, c *imapconn.Conn, box imapconn.Box, first uint32) (uids []uint32, err error) {
	if box.Exists == 0 || box.Next != 0 && first >= box.Next {
		return nil, nil
	}
	_, err = c.Fetch(ctx, imapconn.From(first), "UID", "", func(it *imapconn.Item) error {
		// "n:*" names the last message even when its UID is smaller (RFC 3501,
		// section 6.4.8).
		if it.UID >= first {
			uids = append(uids, it.UID)
		}
		return nil
	})
	slices.Sort(uids)
	return slices.Compact(uids), err
}

// fetch asks for items of UIDs, by as many commands as it takes.
func fetch(ctx context.Context, c *imapconn.Conn, uids []uint32, items string, f func(*imapconn.Item) error) error {
	slices.Sort(uids)
	for part := range slices.Chunk(uids, 4000) {
		for len(part) > 0 {
			var set string
			set, part = imapconn.Set(part)
			if _, err := c.Fetch(ctx, set, items, "", f); err != nil {
				return err
			}
		}
	}
	return nil
}

// load makes an index of messages; with flags, of what may tell equal ones apart,
// too.
func load(ctx context.Context, c *imapconn.Conn, validity uint32, uids []uint32, flags bool) (*index, error) {
	x := &index{validity: validity, byID: map[uint64][]int32{}}
	at := map[uint32]int32{}
	items := "UID RFC822.SIZE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)]"
	if flags {
		x.kept = map[uint32]*imapconn.Item{}
		items += " FLAGS INTERNALDATE"
	}
	err := fetch(ctx, c, uids, items, func(it *imapconn.Item) error {
		if flags {
			if x.kept[it.UID] == nil {
				x.kept[it.UID] = &imapconn.Item{Size: -1}
			}
			merge(x.kept[it.UID], it)
		}
		i, seen := at[it.UID]
		if !seen {
			i = int32(len(x.all))
			at[it.UID] = i
			x.all = append(x.all, entry{uid: it.UID, size: -1})
		}
		e := &x.all[i]
		if it.Size >= 0 {
			e.size = it.Size
		}
		if it.HasHead {
			e.id = hashOf(normal(mail.Describe(textOf(it.Head)).MessageID))
		}
		return nil
	})
	for i := range x.all {
		x.byID[x.all[i].id] = append(x.byID[x.all[i].id], int32(i))
	}
	return x, err
}

// normal is a Message-ID without blanks, which servers have been seen to move.
func normal(id string) string { return strings.Join(strings.Fields(id), "") }

func hashOf(id string) uint64 {
	if id == "" {
		return 0
	}
	h := fnv.New64a()
	h.Write([]byte(id))
	return max(h.Sum64(), 1)
}

// A matching finds wanted messages among those of an index, one to one.
type matching struct {
	f     *folder
	c     *imapconn.Conn
	x     *index
	heads map[uint32]mail.Digest
	texts map[uint32]mail.Digest

	strict bool // flags and dates must be the wanted ones, too
}

// fits reports whether a message of a size may be the wanted one, byte for byte:
// its lines end in LF or CRLF, or some in either, and the last may be open.
func fits(w *sink.Want, size int64) bool { return size >= w.Text-1 && size <= w.Text+w.Lines }

// match gives each wanted message its place, or "": because it is not there,
// or because nobody can tell which it is. Of several equal ones the first is
// taken.
func (m *matching) match(ctx context.Context, want []sink.Want) ([]sink.Place, error) {
	places := make([]sink.Place, len(want))
	if len(m.x.all) == 0 {
		return places, nil
	}
	near := make([][]int32, len(want))
	var ask []uint32
	for i := range want {
		near[i] = m.near(&want[i])
		for _, at := range near[i] {
			ask = append(ask, m.x.all[at].uid)
		}
	}
	slices.Sort(ask)
	var err error
	if m.heads, err = heads(ctx, m.c, slices.Compact(ask)); err != nil {
		return nil, err
	}
	m.texts = map[uint32]mail.Digest{}
	// Of equal messages each first takes the one that has its flags: where only some
	// have arrived the others would be put with flags that are there already.
	for _, m.strict = range []bool{true, false} {
		for i := range want {
			if places[i] != "" || m.strict && m.x.kept == nil {
				continue
			}
			if places[i], err = m.one(ctx, &want[i], near[i]); err != nil {
				return nil, err
			}
		}
	}
	return places, nil
}

// asPut reports whether a message has the flags and the date that the wanted one
// was put with.
func (m *matching) asPut(w *sink.Want, uid uint32) bool {
	i := m.x.kept[uid]
	if i == nil || !i.HasFlags {
		return false
	}
	have, want := i.Flags, w.Flags
	if l := m.f.lasting; l != nil {
		have, want = l.of(have), l.of(want)
	}
	return sameFlags(have, want) && sameDate(w.Date, i.Date)
}

// near are the entries that may be the wanted message: of the same Message-ID,
// and of a size that a server's changes to a header may make.
func (m *matching) near(w *sink.Want) (all []int32) {
	id, size := hashOf(normal(w.MessageID)), w.Text+w.Lines
	slack := max(4096, size/20)
	for _, at := range m.x.byID[id] {
		// Without a name only an equal header counts, and that has its size.
		if e := &m.x.all[at]; e.size < 0 || fits(w, e.size) || id != 0 && e.size >= size-slack && e.size <= size+slack {
			all = append(all, at)
		}
	}
	return all
}

// one decides for one message.
func (m *matching) one(ctx context.Context, w *sink.Want, near []int32) (sink.Place, error) {
	var exact, changed []int32
	for _, at := range near {
		e := &m.x.all[at]
		switch head, ok := m.heads[e.uid]; {
		case e.used || !ok || m.strict && !m.asPut(w, e.uid):
		case head == w.Head && fits(w, e.size):
			exact = append(exact, at)
		case w.MessageID != "":
			changed = append(changed, at)
		case fits(w, e.size):
			exact = append(exact, at) // servers disagree on where an odd header ends: its text will tell
		}
	}
	switch {
	case len(exact) == 1 && w.MessageID != "":
		return m.take(exact[0]), nil
	case len(exact) > 0:
		return m.byText(ctx, w, exact)
	case len(changed) == 1:
		return m.take(changed[0]), nil
	case len(changed) > 1:
		return m.byText(ctx, w, changed)
	}
	return "", nil
}

func (m *matching) take(at int32) sink.Place {
	e := &m.x.all[at]
	e.used = true
	return place(m.x.validity, e.uid)
}

// byText decides among several by their whole content.
func (m *matching) byText(ctx context.Context, w *sink.Want, among []int32) (sink.Place, error) {
	for _, at := range among {
		sum, err := m.text(ctx, m.x.all[at].uid)
		if err != nil {
			return "", err
		}
		if sum == w.Digest {
			return m.take(at), nil
		}
	}
	if w.MessageID == "" || m.strict {
		return "", nil // without a name only an equal text counts
	}
	m.f.s.note("%s: of a message with the Message-ID %s there are %d that are not quite like it: it is brought all the same",
		mail.Clean(string(m.f.path)), mail.Clean(w.MessageID), len(among))
	return "", nil
}

// text is the digest of a message at the server.
func (m *matching) text(ctx context.Context, uid uint32) (mail.Digest, error) {
	if d, ok := m.texts[uid]; ok {
		return d, nil
	}
	var sum mail.Digest
	err := body(ctx, m.c, uid, func(b *imapconn.Body) error {
		var err error
		sum, err = digest(b)
		return err
	})
	m.texts[uid] = sum
	return sum, err
}

// heads are the digests of headers.
func heads(ctx context.Context, c *imapconn.Conn, uids []uint32) (map[uint32]mail.Digest, error) {
	all := map[uint32]mail.Digest{}
	err := fetch(ctx, c, uids, "UID BODY.PEEK[HEADER]<0.1000000>", func(it *imapconn.Item) error {
		if it.HasHead {
			all[it.UID] = mail.Describe(textOf(it.Head)).Head
		}
		return nil
	})
	return all, err
}
