package imap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"mailhaul/internal/imapconn"
	"mailhaul/internal/mail"
	"mailhaul/sink"
)

// A folder is one folder of the account. It holds a connection from the first
// Put of a batch to its Sync.
type folder struct {
	s    *Sink
	path mail.Path
	raw  string
	now  counts // as last seen, with what we have stored since
	held bool   // there were messages before us
	role string // what it is for

	gmail bool  // messages are here once in the account (gmail.go)
	shown shown // likewise

	lasting *lasting // which flags last here; nil: not asked yet
	present *index   // what others have put here (match.go)

	c        *imapconn.Conn
	a        *imapconn.Appends
	from     counts           // when the batch began
	items    []*item          // of the batch, in the order of Put
	group    []*item          // to be sent in one command
	weight   int64            // octets in group
	sent     map[string]group // by the tag of the command
	doubt    bool             // something was sent that has no answer, perhaps by a run that died
	half     bool             // nothing more can be said on the connection
	broken   bool             // a message has broken the line, and the rest waits for Sync
	counting bool             // the server has told the folder's numbers behind our messages
	trouble  error            // why nothing more is sent in this batch, though the line is well
	known    bool             // doubt is known: a batch was begun here
}

// An item is a message on its way.
type item struct {
	m     *sink.Message
	ends  mail.Ends
	size  int64
	flags mail.Flags
	place sink.Place
	done  bool // the server has said OK
	err   error

	link    *link // it lies at the server already; nil: it is to be sent
	present bool  // it was here before
	brought bool  // it was to be copied, and is sent
}

// A group is what one command brings.
type group []*item

const (
	mostGroup  = 256     // messages of one command, where it may bring several
	groupBytes = 8 << 20 // and octets
	mostOpen   = 100     // commands without an answer
)

// State implements sink.Folder: UIDVALIDITY, UIDNEXT and the number of
// messages.
func (f *folder) State(ctx context.Context) (sink.State, error) {
	if f.now.validity == 0 {
		if err := f.ask(ctx); err != nil {
			return "", err
		}
	}
	return sink.State(fmt.Sprintf("%d:%d:%d", f.now.validity, f.now.next, f.now.messages)), nil
}

// Count implements sink.Counter. At Gmail a message shows in folders that it was
// not put into.
func (f *folder) Count() int64 {
	if f.gmail || f.now.validity == 0 {
		return -1
	}
	return f.now.messages
}

// ask finds out the folder's numbers.
func (f *folder) ask(ctx context.Context) error {
	err := f.s.pool.Use(ctx, func(c *imapconn.Conn) error {
		err := c.Status(ctx, []string{f.raw}, items(c), func(_ int, n imapconn.Counts) { f.learn(known(n)) })
		if err != nil || f.now.validity != 0 {
			return err
		}
		box, err := c.Examine(ctx, f.raw)
		if err == nil {
			f.learn(counts{validity: box.Validity, next: max(box.Next, 1), messages: int64(box.Exists)})
			err = c.Unselect(ctx)
		}
		return err
	})
	return fail("look", f.path, runWide(err))
}

// learn takes over new numbers, for whoever opens the folder next, too.
func (f *folder) learn(n counts) {
	if n.validity == 0 {
		return
	}
	f.now = n
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	if st := f.s.tree.folders[f.path]; st != nil {
		st.counts = n
	}
}

// Mark implements sink.Folder. What is known of UIDNEXT may be old: it only
// ever grows.
func (f *folder) Mark(ctx context.Context) (sink.Mark, error) {
	if f.now.validity == 0 {
		if err := f.ask(ctx); err != nil {
			return "", err
		}
	}
	f.from, f.items, f.group, f.weight, f.known, f.broken, f.trouble = f.now, nil, nil, 0, true, false, nil
	f.counting, f.half = false, false
	f.sent = map[string]group{}
	return sink.Mark(fmt.Sprintf("%d:%d", f.now.validity, f.now.next)), nil
}

// Put implements sink.Folder. Messages are gathered for one command where the
// server takes several at once, and no answer is waited for.
func (f *folder) Put(ctx context.Context, m *sink.Message) error {
	if err := context.Cause(ctx); err != nil {
		return fail("append", f.path, err)
	}
	if err := f.begin(ctx); err != nil {
		return err
	}
	it := &item{m: m, ends: wireEnds(m.Ends)}
	it.size = it.ends.Size(m.Text, m.Lines)
	f.items = append(f.items, it)
	if it.err = f.trouble; it.err == nil {
		f.prepare(it)
	}
	if it.err != nil || f.broken {
		return nil
	}
	err := f.add(it)
	if err == errBody {
		f.broken = true // Sync goes on from here
		return nil
	}
	return err
}

// begin takes a connection, and learns once which flags last here.
func (f *folder) begin(ctx context.Context) error {
	if f.a != nil {
		return nil
	}
	c, _, err := f.s.pool.Borrow(ctx)
	if err != nil {
		return fail("append", f.path, runWide(err))
	}
	f.c = c
	if err := f.learnFlags(ctx, c); err != nil {
		f.leave()
		return f.failed(err)
	}
	f.a = c.Appends(ctx)
	return nil
}

// gone is the error for a folder that is not there any more. Its mark is worth
// nothing, so the batch is given up; the next try makes the folder anew.
func (f *folder) gone(why error) error {
	f.s.mu.Lock()
	delete(f.s.tree.folders, f.path)
	f.s.mu.Unlock()
	return &mail.Error{Op: "append", Scope: mail.ScopeFolder, Temporary: true,
		Err: fmt.Errorf("%s %w: %w", mail.Clean(string(f.path)), errGone, why)}
}

var errGone = errors.New("has gone from the destination")

// failed names the folder in an error of a batch, unless it is in there.
func (f *folder) failed(err error) error {
	if errors.Is(err, errGone) {
		return err
	}
	return fail("append", f.path, runWide(err))
}

// leave gives the connection back. One with something on its way is of no
// further use, and ends.
func (f *folder) leave() {
	if f.a != nil {
		f.doubt = f.doubt || len(f.sent) > 0
		f.a.End()
		f.a = nil
	}
	if f.c != nil {
		f.s.pool.GiveBack(f.c)
		f.c = nil
	}
}

// wireEnds are the line ends that a message is sent with: those it came with,
// but CRLF where it has none (RFC 3501, section 2.2, and RFC 5322, section 2.3:
// a message of local files has the line ends of the system).
func wireEnds(e mail.Ends) mail.Ends {
	if e.Kind == mail.EndsLF {
		e.Kind = mail.EndsCRLF
	}
	return e
}

// prepare refuses what the server will not take.
func (f *folder) prepare(it *item) {
	most := f.s.tree.most
	if f.now.limit > 0 {
		most = f.now.limit
	}
	switch {
	case it.size == 0:
		it.refuse(errors.New("it has no content, and IMAP cannot bring an empty message (RFC 3502)"))
	case most > 0 && it.size > most:
		it.refuse(fmt.Errorf("it has %d octets and the server takes no more than %d", it.size, most))
	}
	it.flags = f.lasting.of(it.m.Flags)
	f.lasting.miss(it.m.Flags)
}

func (it *item) refuse(why error) {
	it.err = &mail.Error{Op: "append", Scope: mail.ScopeMessage, Err: why}
}

// write writes the message as it goes over the wire.
func (it *item) write(w io.Writer) error {
	r, err := it.m.Open()
	if err != nil {
		return err
	}
	defer r.Close() // it was only read
	out := it.ends.Restore(w)
	if _, err := io.Copy(out, r); err != nil {
		return err
	}
	return out.Close()
}

// add puts an item into the group that is to be sent, or sends it.
func (f *folder) add(it *item) error {
	several := f.c.Has("MULTIAPPEND") && it.size <= groupBytes && f.c.Streams(it.size)
	if len(f.group) > 0 && (!several || f.weight+it.size > groupBytes || len(f.group) >= mostGroup) {
		if err := f.flush(); err != nil {
			return err
		}
	}
	f.group = append(f.group, it)
	f.weight += it.size
	if !several {
		return f.flush()
	}
	return nil
}

// flush sends the group.
func (f *folder) flush() error {
	g := f.group
	f.group, f.weight = nil, 0
	if len(g) == 0 {
		return nil
	}
	for f.a.Open() >= mostOpen {
		if err := f.answer(); err != nil {
			return err
		}
	}
	return f.send(g)
}

func (f *folder) send(g group) error {
	letters := make([]imapconn.Letter, len(g))
	for i, it := range g {
		letters[i] = imapconn.Letter{Flags: it.flags, Date: dateFor(it.m.Date), Size: it.size, Write: it.write}
	}
	if f.half {
		return nil // it is sent again on another connection
	}
	tag, err := f.a.Send(f.raw, letters...)
	var broke *imapconn.BodyError
	switch {
	case err == nil:
		f.sent[tag] = g
		return nil
	case !errors.As(err, &broke):
		f.doubt = true
		return fail("append", f.path, err)
	}
	g[broke.Letter].refuse(broke)
	// What was sent before is answered as ever: nothing is left in doubt.
	for f.half = true; len(f.sent) > 0; {
		if err := f.answer(); err != nil {
			return err
		}
	}
	return errBody
}

// errBody says that the line is broken because of one message only.
var errBody = errors.New("a message broke off")

// dateFor is a date that servers take (RELIABILITY, row D7); the catalog keeps
// the true one.
func dateFor(t time.Time) time.Time {
	switch {
	case t.IsZero():
		return t
	case t.Year() < 1970:
		return time.Unix(0, 0).UTC()
	case t.Year() > 9999:
		return time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
	}
	return t
}

// answer reads one answer and does what it takes.
func (f *folder) answer() error {
	done, n, err := f.a.Next()
	if err != nil {
		f.doubt = true
		return fail("append", f.path, err)
	}
	if n != nil {
		f.counted(known(*n))
	}
	g, ok := f.sent[done.Tag]
	delete(f.sent, done.Tag)
	if !ok {
		return nil // to STATUS
	}
	if done.Status.Type == "OK" {
		f.took(g, done)
		return nil
	}
	return f.refused(g, &done.Status)
}

// took notes that the server has said OK to a group.
func (f *folder) took(g group, done *imapconn.Appended) {
	told := len(done.UIDs) == len(g)
	for i, it := range g {
		it.done = true
		if told {
			it.place = place(done.Validity, done.UIDs[i])
			f.now.next = max(f.now.next, done.UIDs[i]+1)
		}
	}
	if told && done.Validity != f.now.validity {
		f.now.validity = done.Validity // the server has renumbered the folder
	}
}

func place(validity, uid uint32) sink.Place {
	return sink.Place(strconv.FormatUint(uint64(validity), 10) + ":" + strconv.FormatUint(uint64(uid), 10))
}

// numbers reads a place or a mark.
func numbers(s string) (validity, n uint32, ok bool) {
	a, b, _ := strings.Cut(s, ":")
	v, err := strconv.ParseUint(a, 10, 32)
	u, err2 := strconv.ParseUint(b, 10, 32)
	return uint32(v), uint32(u), err == nil && err2 == nil && v > 0 && u > 0
}

// Close implements sink.Folder.
func (f *folder) Close() error {
	f.leave()
	if lost := f.lasting.lost(); lost != "" {
		f.s.note("%s: the server keeps no such flags, they stay behind: %s", mail.Clean(string(f.path)), lost)
	}
	return nil
}
