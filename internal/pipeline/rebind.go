package pipeline

import (
	"bytes"
	"cmp"
	"context"
	crand "crypto/rand"
	"hash/maphash"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"mailhaul/internal/catalog"
	"mailhaul/internal/mail"
	"mailhaul/source"
)

// A server that has numbered a folder anew, or was set back, makes all of it
// unknown: every message is downloaded and compared by content. Where the user
// asks for it (Options.Rebind, RELIABILITY 4.3) messages are recognised by what
// the server says of them instead. What must stay true:
//
//   - A message is bound to a stored one only where its size, its date of arrival
//     and the SHA-256 of its header are those of exactly one stored message that
//     an earlier numbering of the same folder had, and of no other message of the
//     listing. Where a stored copy cannot be read, nothing of its size and date is.
//   - Nothing is bound unless that holds for 95 of 100 messages of the folder.
//   - Nothing is bound before 20 and one in a hundred of those to be bound were
//     downloaded and found equal. They are drawn by chance once the server has said
//     all that it has to say, so that it cannot know which will be looked into.
//   - One that is not equal ends it, for as long as the numbering lasts: later
//     runs draw no second lot, and what an interrupted one had bound is downloaded.
//   - All else is downloaded as ever, and digests decide.
//
// The header of a stored message is read from its stored copy: the catalog of an
// archive does not keep its digest, and so archives of any age will do. What was
// brought to a server is not read back: the catalog has the digests of what it has
// brought (Hints). Both sides are the text form, in which every line ends in LF. Of
// a copy that was kept as received it may differ; such a message is downloaded.
//
// To know all before anything is bound, the folder is listed once for this and
// then once more, as ever. In between are held: 8 bytes for each location of the
// earlier numberings, 40 for each listed message that has the size and date of
// one, and 4 for the lot. A million messages take 52 MB; no entry, no header and no
// body stays in memory. What is held survives a broken connection.
type rebinding struct {
	epoch string // of the catalog
	done  bool
	binds bool // done: messages are bound
	seed  maphash.Seed
	old   []uint64 // sizes and dates of the earlier numberings, sorted
	rows  []row    // by num, once matched
	upto  int64    // the last number that was looked at

	listed  int64               // of messages that an archive may hold
	known   int64               // of listed
	vague   map[uint64]struct{} // sizes and dates of known ones whose header cannot be read
	matched bool
	bound   int64   // of rows
	held    int64   // of known: an earlier numbering had them
	lot     []int32 // rows to be bound, in the order of chance
	drawn   int     // of lot
	goal    int     // how many are to be proven
	proven  map[int64]struct{}
	lacking int       // drawn, and did not come
	wrong   source.ID // one that is not what it seemed to be
}

// A row is a listed message.
type row struct {
	num     int64
	when    uint64   // hash of size and date
	head    [16]byte // of the digest of the header
	message int64    // stored; 0: none
}

// What stands for a message where none is to be bound.
const (
	unsure = -1 - iota
	again  // the listed message is known: an interrupted run has brought it
)

// enough reports whether 95 in a hundred are recognised.
func (b *rebinding) enough() bool {
	return b.bound > 0 && 100*(b.bound+b.held) >= 95*b.listed
}

func (b *rebinding) when(size int64, date time.Time) uint64 {
	return maphash.Comparable(b.seed, [2]int64{size, date.Unix()})
}

func byKind(a, b row) int {
	return cmp.Or(cmp.Compare(a.when, b.when), bytes.Compare(a.head[:], b.head[:]))
}

// reading says what becomes of a folder that was numbered anew.
func (r *run) reading() string {
	if r.Options.Rebind {
		return "its messages are recognised by size, date and header where that is sure (--rebind), and else read again and compared"
	}
	return "its messages are read again and compared"
}

// rebind finds out, before a folder without a cursor is listed, which of its
// messages may be bound. It goes on where an earlier try of this run has ended.
func (t *try) rebind(ctx context.Context) error {
	d, ok := t.mbox.(source.Describer)
	if !ok || !t.Options.Rebind || t.box.Cursor != "" {
		return nil
	}
	if b := t.binding; b == nil || b.epoch != t.box.Epoch {
		b := &rebinding{epoch: t.box.Epoch, seed: maphash.MakeSeed(), vague: map[uint64]struct{}{}, proven: map[int64]struct{}{}}
		if err := t.former(ctx, b); err != nil {
			return err
		}
		t.binding = b
	}
	b := t.binding
	if b.done {
		return nil
	}
	if !b.matched {
		if err := t.survey(ctx, b, d); err != nil {
			return err
		}
		if err := t.match(ctx, b); err != nil {
			return err
		}
	}
	if b.enough() {
		if err := t.sample(ctx, b); err != nil {
			return err
		}
	}
	return t.decide(ctx, b)
}

// former learns what sizes and dates the earlier numberings had.
func (t *try) former(ctx context.Context, b *rebinding) error {
	for f, err := range t.Catalog.Former(ctx, t.box) {
		if err != nil {
			return err
		}
		if f.Size >= 0 && !f.Date.IsZero() {
			b.old = append(b.old, b.when(f.Size, f.Date))
		}
	}
	if len(b.old) == 0 { // it is new to us
		b.done = true
		return nil
	}
	slices.Sort(b.old)
	b.old = slices.Compact(b.old)
	liar, err := t.Catalog.Unbound(ctx, t.box)
	if err == nil && (liar || t.liar.Load()) {
		b.done = true
		t.note(t.Path, "%s: --rebind is not followed: the server was found to call different messages the same; they are downloaded", mail.Clean(string(t.Path)))
	}
	return err
}

// survey lists the folder and asks for the headers of what may be matched.
func (t *try) survey(ctx context.Context, b *rebinding, d source.Describer) error {
	from := b.upto
	piece := make([]source.Entry, 0, chunk)
	for e, err := range t.mbox.List(ctx, "") {
		if err != nil {
			return err
		}
		if n, ok := number(e.ID); ok && n <= from {
			continue // an earlier try has looked at it
		}
		if piece = append(piece, e); len(piece) < chunk {
			continue
		}
		if err := t.inspect(ctx, b, d, piece); err != nil {
			return err
		}
		piece = piece[:0]
	}
	return t.inspect(ctx, b, d, piece)
}

func number(id source.ID) (int64, bool) {
	n, err := strconv.ParseInt(string(id), 10, 64)
	return n, err == nil && catalog.IsNumber(id)
}

func idOf(n int64) source.ID { return source.ID(strconv.FormatInt(n, 10)) }

// inspect makes rows of listed messages. An error leaves b as it was.
func (t *try) inspect(ctx context.Context, b *rebinding, d source.Describer, piece []source.Entry) error {
	if len(piece) == 0 {
		return nil
	}
	known, _, err := t.Catalog.Compare(ctx, t.box, piece, idOf(b.upto), false)
	if err != nil {
		return err
	}
	upto, listed, seen, rows := b.upto, b.listed, b.known, b.rows
	var ask []source.Entry
	claimed := map[source.ID]source.Entry{}
	for i, e := range piece {
		if t.Options.MaxSize > 0 && e.Size > t.Options.MaxSize && !known[i].Is {
			continue
		}
		listed++
		n, ok := number(e.ID)
		if !ok || n <= upto {
			continue
		}
		upto = n
		if known[i].Is {
			seen++
		}
		if e.Size < 0 || e.Date.IsZero() {
			continue
		}
		when := b.when(e.Size, e.Date)
		if _, fits := slices.BinarySearch(b.old, when); !fits {
			continue
		}
		if !known[i].Is {
			ask, claimed[e.ID] = append(ask, e), e
			continue
		}
		head, ok := t.head(ctx, known[i].At)
		if !ok {
			b.vague[when] = struct{}{}
			continue
		}
		rows = append(rows, row{n, when, [16]byte(head[:]), again})
	}
	if len(ask) > 0 {
		for x, err := range d.Describe(ctx, ask) {
			if err != nil {
				return err
			}
			e, asked := claimed[x.ID]
			delete(claimed, x.ID)
			// With a digest it was read to its end, for want of a header that
			// ends: what is that odd is downloaded.
			if !asked || x.Size != e.Size || x.Digest != (mail.Digest{}) {
				continue
			}
			n, _ := number(e.ID)
			rows = append(rows, row{num: n, when: b.when(e.Size, e.Date), head: [16]byte(x.Head[:])})
		}
	}
	b.rows, b.listed, b.known, b.upto = rows, listed, seen, upto
	t.mu.Lock()
	t.progress = true
	t.mu.Unlock()
	return nil
}

// match reads the headers of stored messages and finds the listed ones that
// have them.
func (t *try) match(ctx context.Context, b *rebinding) error {
	slices.SortFunc(b.rows, byKind)
	for i := range b.rows {
		if r := &b.rows[i]; r.message != again {
			r.message = 0 // an earlier try has got half way
		}
	}
	for f, err := range t.Catalog.Former(ctx, t.box) {
		if err != nil {
			return err
		}
		if f.Size < 0 || f.Date.IsZero() {
			continue
		}
		want := row{when: b.when(f.Size, f.Date)}
		alike := b.from(want, func(r row) bool { return r.when == want.when })
		if len(alike) == 0 {
			continue
		}
		head, ok := t.head(ctx, f.At)
		if _, vague := b.vague[want.when]; f.Lost || vague {
			ok = false
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if ok {
			want.head = [16]byte(head[:])
			alike = b.from(want, func(r row) bool { return byKind(r, want) == 0 })
		}
		for i := range alike {
			switch r := &alike[i]; {
			case r.message == again:
			case !ok || f.Held || len(alike) > 1:
				r.message = unsure
			case r.message == 0:
				r.message = f.At.Message
			case r.message != f.At.Message:
				r.message = unsure
			}
		}
	}
	held, err := t.Catalog.Regained(ctx, t.box)
	if err != nil {
		return err
	}
	slices.SortFunc(b.rows, func(x, y row) int { return cmp.Compare(x.num, y.num) })
	b.held, b.matched, b.old, b.vague = min(held, b.known), true, nil, nil
	for i, r := range b.rows {
		if r.message > 0 {
			b.bound++
			b.lot = append(b.lot, int32(i))
		}
	}
	return nil
}

// from are the rows from the first that is not before r, as long as they are
// like it.
func (b *rebinding) from(r row, like func(row) bool) []row {
	i, _ := slices.BinarySearchFunc(b.rows, r, byKind)
	j := i
	for j < len(b.rows) && like(b.rows[j]) {
		j++
	}
	return b.rows[i:j]
}

// head is the digest of a stored message's header.
func (t *try) head(ctx context.Context, at catalog.Stored) (d mail.Digest, ok bool) {
	if t.elsewhere() {
		_, d, ok, err := t.Catalog.Hints(ctx, at.Digest)
		return d, ok && err == nil
	}
	r, err := t.run.read(ctx, at)
	if err != nil {
		return d, false
	}
	defer r.Close()
	head, err := mail.ReadHeader(r)
	return mail.Describe(head).Head, err == nil
}

// sample downloads some of those to be bound and compares them. What does not
// come is not bound, and another is drawn for it.
func (t *try) sample(ctx context.Context, b *rebinding) error {
	if b.goal == 0 {
		random := t.Options.Random
		if random == nil {
			random = crand.Reader
		}
		var seed [32]byte
		if _, err := io.ReadFull(random, seed[:]); err != nil {
			return &mail.Error{Op: "draw a lot", Scope: mail.ScopeRun, Err: err}
		}
		rand.New(rand.NewChaCha8(seed)).Shuffle(len(b.lot), func(i, j int) { b.lot[i], b.lot[j] = b.lot[j], b.lot[i] })
		b.goal = min(len(b.lot), 20+(len(b.lot)+99)/100)
	}
	for b.wrong == "" && !b.evades() && len(b.proven) < b.goal && b.drawn < len(b.lot) {
		next := min(b.drawn+b.goal-len(b.proven), len(b.lot))
		drawn := slices.Sorted(slices.Values(b.lot[b.drawn:next]))
		if err := t.prove(ctx, b, drawn); err != nil {
			return err
		}
		b.drawn = next
		for _, i := range drawn {
			if _, ok := b.proven[b.rows[i].num]; !ok {
				b.rows[i].message = unsure
				b.lacking++
				b.bound--
			}
		}
	}
	return nil
}

// evades reports whether so many of those drawn have not come that the others
// prove little.
func (b *rebinding) evades() bool { return 20*b.lacking > max(b.goal, 20) }

// prove downloads the messages of some rows.
func (t *try) prove(ctx context.Context, b *rebinding, drawn []int32) error {
	at := map[source.ID]*row{}
	var rest []source.Entry
	for _, i := range drawn {
		r := &b.rows[i]
		if _, ok := b.proven[r.num]; !ok {
			at[idOf(r.num)] = r
			rest = append(rest, source.Entry{ID: idOf(r.num), Size: -1})
		}
	}
	next := func(bool) (some []source.Entry) {
		n := min(len(rest), group)
		some, rest = rest[:n], rest[n:]
		return some
	}
	for m, err := range t.mbox.Fetch(ctx, next) {
		var sum mail.Summary
		if err == nil {
			sum, err = mail.Summarize(t.meter(m.Body))
		}
		if err != nil {
			if mail.ScopeOf(err, mail.ScopeFolder) == mail.ScopeMessage {
				continue // it has not come
			}
			return err
		}
		r := at[m.ID]
		if r == nil {
			continue
		}
		s, err := t.Catalog.Message(ctx, r.message)
		if err != nil {
			return err
		}
		t.mu.Lock()
		t.progress = true
		t.mu.Unlock()
		b.proven[r.num] = struct{}{}
		if sum.Digest != s.Digest {
			b.wrong = m.ID // the others are read to their end: leaving early costs the connection
		}
	}
	return nil
}

// decide says what is done, and why.
func (t *try) decide(ctx context.Context, b *rebinding) error {
	name := mail.Clean(string(t.Path))
	switch {
	case b.wrong != "":
		if err := t.Catalog.Unbind(ctx, t.box); err != nil {
			return err
		}
		t.note(t.Path, "%s: message %s has the size, date and header of one brought before and other content: --rebind is not followed, and every message is downloaded and compared",
			name, mail.Clean(string(b.wrong)))
	case b.evades():
		t.note(t.Path, "%s: of %d messages that were to be looked into %d could not be had: --rebind is not followed, and every message is downloaded and compared",
			name, b.drawn, b.lacking)
	case b.bound == 0 && 100*b.held >= 95*b.listed: // an interrupted run has left nothing to bind
	case !b.enough():
		t.note(t.Path, "%s: %d of %d messages are recognised by size, date and header, fewer than 95 in a hundred: --rebind is not followed, and every message is downloaded and compared",
			name, b.bound+b.held, b.listed)
	default:
		b.binds = true
		t.note(t.Path, "%s: %d of %d messages are recognised by size, date and header (--rebind); %d of them, drawn by chance, were downloaded and are equal to those brought before; what was not recognised is downloaded",
			name, b.bound, b.listed-b.held, len(b.proven))
	}
	b.done, b.lot = true, nil
	if !b.binds {
		b.rows = nil
	}
	return nil
}

// rebound binds a listed message to the stored one that it was found to be, and
// reports whether it did.
func (t *try) rebound(ctx context.Context, e source.Entry) (bool, error) {
	b := t.binding
	if b == nil || !b.binds || b.epoch != t.box.Epoch {
		return false, nil
	}
	n, ok := number(e.ID)
	i, found := slices.BinarySearchFunc(b.rows, n, func(r row, n int64) int { return cmp.Compare(r.num, n) })
	if !ok || !found || b.rows[i].message <= 0 {
		return false, nil
	}
	twin, ok, err := t.Catalog.FormerTwin(ctx, t.box, b.rows[i].message, e)
	if err != nil || !ok {
		return false, err // listed with another size or date now
	}
	// Equal text of equal size on the wire has equal line ends, too.
	j := &job{f: t.folder, rec: catalog.Record{Box: t.box, Entry: e, Ends: twin.Ends}, twin: &twin}
	_, proven := b.proven[n]
	j.spared = !proven
	return true, t.w.put(order{job: j})
}
