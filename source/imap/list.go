package imap

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strconv"

	"mailhaul/internal/imapconn"
	"mailhaul/internal/mail"
	"mailhaul/source"
)

// mostWindow is how many messages are listed by one command and held in
// memory. A listing of changes names more, for few of them will answer.
const (
	mostWindow  = 4000
	mostChanges = 100_000
)

// List asks for the messages in windows of UIDs, never by position: positions
// move when somebody deletes. Where the server counts changes (RFC 7162) and
// nothing has gone backwards since the cursor, only what has changed is asked
// for.
//
// Where it does not, all are listed. Of those that were there before only flags
// are asked for, and the size, which gives away a server that has dealt a number
// twice.
func (m *mailbox) List(ctx context.Context, since source.Cursor) iter.Seq2[source.Entry, error] {
	return m.list(ctx, since, false)
}

// ListNew implements source.Newer.
func (m *mailbox) ListNew(ctx context.Context, since source.Cursor) iter.Seq2[source.Entry, error] {
	return m.list(ctx, since, true)
}

func (m *mailbox) list(ctx context.Context, since source.Cursor, onlyNew bool) iter.Seq2[source.Entry, error] {
	return func(yield func(source.Entry, error) bool) {
		m.listing = source.Listing{}
		if m.c == nil {
			yield(source.Entry{}, in(m.path, wrap("list", mail.ScopeFolder, imapconn.ErrClosed)))
			return
		}
		l := lister{m: m, ctx: ctx, yield: yield, first: 1}
		now := numbers{uint64(m.box.Validity), uint64(m.box.Next), m.box.Exists, m.box.ModSeq}
		err := l.check(since, now, onlyNew)
		m.listing.Partial = l.partial
		if err == nil && m.box.Exists > 0 {
			err = l.run()
		}
		var gone []source.Span
		if err == nil && l.partial {
			gone, err = l.gone(now)
		}
		switch {
		case errors.Is(err, errStopped):
		case err != nil:
			yield(source.Entry{}, in(m.path, err))
		default:
			if !l.partial {
				m.compare(now.messages, l.count)
			}
			// The numbers are those of EXAMINE: what arrived meanwhile is
			// behind them, and the next run will see it.
			m.listing = source.Listing{Cursor: now.cursor(), Messages: int64(now.messages), Partial: l.partial, Gone: gone}
			if !l.partial {
				m.listing.Messages = l.count
			}
		}
	}
}

var errStopped = errors.New("the consumer has had enough")

// compare notes a folder that holds more than it shows.
func (m *mailbox) compare(exists uint64, listed int64) {
	if int64(exists) > listed {
		m.a.mu.Lock()
		m.a.note("%s: the server counts %d messages and lists %d", mail.Clean(string(m.path)), exists, listed)
		m.a.mu.Unlock()
	}
}

// A lister is one run of List.
type lister struct {
	m       *mailbox
	ctx     context.Context
	yield   func(source.Entry, error) bool
	then    numbers // those of the cursor; zero without one
	since   uint64  // HIGHESTMODSEQ of the cursor, when only changes are listed
	first   uint64  // the UID to begin with
	partial bool
	count   int64
	came    uint64 // of count: behind the cursor's UIDNEXT
	found   []listed
}

type listed struct {
	uid   uint32
	entry source.Entry
	full  bool // all that was asked for, not flags that came by themselves
}

// check looks whether the folder has gone on from the cursor, or back.
func (l *lister) check(since source.Cursor, now numbers, onlyNew bool) error {
	then, ok := parseCursor(since)
	if !ok || then.validity != now.validity {
		return nil
	}
	back := now.next != 0 && now.next < then.next || now.modseq != 0 && now.modseq < then.modseq
	if back {
		return &mail.Error{Op: "list", Scope: mail.ScopeFolder, Err: source.ErrRewound}
	}
	switch l.then = then; {
	case then.modseq > 0 && now.modseq > 0:
		l.since, l.partial = then.modseq, true
	case onlyNew && then.next > 0:
		l.first, l.partial = then.next, true
	}
	return nil
}

// gone says what has been expunged since the cursor, where that can be had for
// less than a listing: the numbers tell whether there is anything to ask for.
// Where it cannot, the core counts, too, and asks for all.
func (l *lister) gone(now numbers) ([]source.Span, error) {
	switch {
	case l.then.next == 0 || now.messages >= l.then.messages+l.came:
		return nil, nil
	case now.messages == 0:
		return []source.Span{{First: 1, Last: math.MaxUint32}}, nil
	case l.since > 0 && l.m.c.Resyncs() && !l.m.a.unreliable.Load():
		return l.vanished()
	}
	return l.lacking(now)
}

// vanished asks a server that keeps account of what was expunged.
func (l *lister) vanished() ([]source.Span, error) {
	m := l.m
	raw, err := m.a.rawName(l.ctx, m.path)
	if err != nil {
		return nil, err
	}
	ranges, err := m.c.Vanished(l.ctx, raw, l.since)
	if err != nil {
		if l.ctx.Err() == nil {
			m.a.unreliable.Store(true) // the next try does without
		}
		return nil, err
	}
	spans := make([]source.Span, len(ranges))
	for i, r := range ranges {
		spans[i] = source.Span{First: uint64(r.First), Last: uint64(r.Last)}
	}
	return spans, nil
}

// lacking asks which messages are left of those before the cursor: what has gone
// is among the numbers between them.
func (l *lister) lacking(now numbers) ([]source.Span, error) {
	if now.messages < l.came {
		return nil, nil
	}
	there, ok, err := l.search(l.then.next, now.messages-l.came)
	if err != nil || !ok {
		return nil, err
	}
	var spans []source.Span
	from := uint64(1)
	for _, r := range there {
		if first := uint64(r.First); first > from {
			spans = append(spans, source.Span{First: from, Last: first - 1})
		}
		from = uint64(r.Last) + 1
	}
	if from < l.then.next {
		spans = append(spans, source.Span{First: from, Last: l.then.next - 1})
	}
	return spans, nil
}

// search asks for the UIDs below next, where there must be count messages. A
// server whose answer does not prove itself is not asked again.
func (l *lister) search(next, count uint64) (there []imapconn.Range, ok bool, err error) {
	m := l.m
	if !m.c.Searches() || m.a.unproven.Load() || next < 2 || next-1 > math.MaxUint32 {
		return nil, false, nil
	}
	there, ok, err = m.c.Search(l.ctx, uint32(next-1), count)
	if !ok && l.ctx.Err() == nil {
		m.a.unproven.Store(true)
	}
	return there, ok, err
}

func (l *lister) run() error {
	next, err := l.next()
	if err != nil {
		return err
	}
	exists := l.m.box.Exists
	window := uint64(l.m.window)
	if l.partial {
		window = max(window, mostChanges)
		if l.m.c.MessageLimit() > 0 {
			window = uint64(l.m.window)
		}
	}
	switch {
	case exists <= window:
		// However far apart the UIDs lie: so many can answer at most.
		return l.list(l.first, next-1)
	case next > 10*exists+mostWindow && l.first == 1:
		return l.sparse(next)
	}
	for from := l.first; from < next; from += window {
		if err := l.list(from, min(from+window, next)-1); err != nil {
			return err
		}
	}
	return nil
}

// next is UIDNEXT. Where the server does not tell it (RFC 3501, section 7.1,
// lets it), the last message has the highest UID.
func (l *lister) next() (uint64, error) {
	if n := l.m.box.Next; n != 0 {
		return uint64(n), nil
	}
	last := uint64(0)
	_, err := l.m.c.Fetch(l.ctx, "*", "UID", "", func(it *imapconn.Item) error {
		last = max(last, uint64(it.UID))
		return nil
	})
	if last == 0 {
		last = math.MaxUint32 - 1
	}
	return last + 1, err
}

// sparse lists a folder whose UIDs have large gaps: first only the UIDs. Windows
// are cut by these, and leave nothing out between them: a message that was not
// told of is listed all the same.
func (l *lister) sparse(next uint64) error {
	spans, err := l.spans(next)
	if err != nil {
		return err
	}
	from, room := uint64(1), uint64(l.m.window)
	for _, s := range spans {
		for first := max(uint64(s.First), from); first <= uint64(s.Last); {
			if room == 0 {
				if err := l.list(from, first-1); err != nil {
					return err
				}
				from, room = first, uint64(l.m.window)
			}
			n := min(room, uint64(s.Last)-first+1)
			first, room = first+n, room-n
		}
	}
	return l.list(from, next-1)
}

// spans are the runs of UIDs of a folder. A search names them in one line.
// Servers have been seen to cut it short or to answer with positions, so where
// its answer does not prove itself it is a FETCH. Positions begin at 1 and have
// no gaps.
func (l *lister) spans(next uint64) ([]imapconn.Range, error) {
	spans, ok, err := l.search(next, l.m.box.Exists)
	if err != nil || ok && (len(spans) > 1 || spans[0].First > 1) {
		return spans, err
	}
	spans = nil
	_, err = l.m.c.Fetch(l.ctx, "1:"+strconv.FormatUint(next-1, 10), "UID", "", func(it *imapconn.Item) error {
		if n := len(spans); n > 0 && uint64(spans[n-1].Last)+1 == uint64(it.UID) {
			spans[n-1].Last++
			return nil
		}
		spans = append(spans, imapconn.Range{First: it.UID, Last: it.UID})
		return nil
	})
	slices.SortFunc(spans, func(a, b imapconn.Range) int { return cmp.Compare(a.First, b.First) })
	return spans, err
}

// list gets one window. Of what was there at the cursor less is asked for,
// where no counting of changes makes the listing short anyhow.
func (l *lister) list(from, to uint64) error {
	if l.partial || l.then.next <= from || l.then.next > to {
		return l.window(from, to)
	}
	if err := l.window(from, l.then.next-1); err != nil {
		return err
	}
	return l.window(l.then.next, to)
}

// window gets one window whole and then yields it, so that no command is open
// while the consumer works.
func (l *lister) window(from, to uint64) error {
	if from > to {
		return nil
	}
	brief := !l.partial && to < l.then.next
	l.found = l.found[:0]
	most := mostWindow + int(min(l.m.box.Exists, mostChanges))
	set := strconv.FormatUint(from, 10) + ":" + strconv.FormatUint(to, 10)
	modifier := ""
	if l.since > 0 {
		modifier = "CHANGEDSINCE " + strconv.FormatUint(l.since, 10)
	}
	done, err := l.m.c.Fetch(l.ctx, set, l.items(brief), modifier, func(it *imapconn.Item) error {
		// "n:*" names the last message even when its UID is smaller (RFC 3501,
		// section 6.4.8), and servers tell flags of others unasked.
		if uint64(it.UID) < from || uint64(it.UID) > to {
			return nil
		}
		if len(l.found) == most {
			return fmt.Errorf("the server lists more messages than there are")
		}
		l.found = append(l.found, listed{it.UID, entry(it), brief || it.Size >= 0 || !it.Date.IsZero()})
		return nil
	})
	if err != nil {
		return err
	}
	if done.Code == "MESSAGELIMIT" { // RFC 9738, section 3.1: not all of it came
		return l.smaller(from, to)
	}
	l.settle()
	for _, f := range l.found {
		l.count++
		f.entry.Brief = brief
		if l.then.next > 0 && uint64(f.uid) >= l.then.next {
			l.came++
		}
		if !l.yield(f.entry, nil) {
			return errStopped
		}
	}
	return nil
}

// smaller lists a window again in two halves.
func (l *lister) smaller(from, to uint64) error {
	if from == to {
		return wrap("list", mail.ScopeFolder, errors.New("the server answers only in part"))
	}
	l.m.window = max(1, l.m.window/2)
	half := from + (to-from)/2
	if err := l.window(from, half); err != nil {
		return err
	}
	return l.window(half+1, to)
}

// items are what an entry is made of, and what the server can tell besides.
func (l *lister) items(brief bool) string {
	s := "UID FLAGS INTERNALDATE RFC822.SIZE"
	if brief {
		s = "UID FLAGS RFC822.SIZE"
	}
	switch c := l.m.c; {
	case brief && c.Has("X-GM-EXT-1"):
		s += " X-GM-LABELS"
	case brief:
	case c.Has("X-GM-EXT-1"):
		s += " X-GM-MSGID X-GM-LABELS"
	case c.Has("OBJECTID"):
		s += " EMAILID" // RFC 8474
	}
	return s
}

// settle sorts a window and makes one entry of several responses for the same
// message: the last word on flags counts, the rest is from whoever told it.
func (l *lister) settle() {
	ascending := slices.IsSortedFunc(l.found, func(a, b listed) int {
		if a.uid < b.uid {
			return -1
		}
		return 1
	})
	if ascending {
		return
	}
	slices.SortStableFunc(l.found, func(a, b listed) int { return cmp.Compare(a.uid, b.uid) })
	kept := l.found[:0]
	for _, f := range l.found {
		if n := len(kept); n > 0 && kept[n-1].uid == f.uid {
			kept[n-1].merge(f)
			continue
		}
		kept = append(kept, f)
	}
	l.found = kept
}

func (f *listed) merge(later listed) {
	if later.full && !f.full {
		f.entry, later.entry = later.entry, f.entry
		f.full = true
		return
	}
	if later.entry.Flags != nil {
		f.entry.Flags = later.entry.Flags
	}
}

func entry(it *imapconn.Item) source.Entry {
	e := source.Entry{ID: idOf(it.UID), Size: it.Size, Date: it.Date, Flags: it.Flags, Labels: it.Labels}
	switch {
	case it.EmailID != "":
		e.Global = "E:" + it.EmailID
	case it.GmailID != 0:
		e.Global = "G:" + strconv.FormatUint(it.GmailID, 10)
	}
	return e
}
