package mbox

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailhaul/internal/durable"
	"mailhaul/internal/mail"
	"mailhaul/internal/mboxrd"
	"mailhaul/sink"
)

// Recover implements sink.Folder. Behind the mark it finds, in order:
//
//   - records whose digest is that of a wanted message: ours. They are matched
//     one to one, also when two have the same digest.
//   - other records that end in an empty line: mail that another program has
//     delivered. They stay.
//   - something torn at the end: see torn. It is copied into
//     FOLDER.mbox.torn-DATE and cut off. A whole record with torn bytes behind
//     it, too few to make a separator or zeroes, is told from them.
//
// Where the mark does not mean the spot any more that it did, since another program
// has rewritten the file, the whole of it is looked at, and only what cannot be
// anybody's mail counts as torn: to cut at the mark would cut a message in two.
//
// What stays is written once more over itself before the sync: it may be in
// memory only, and look clean, if an fsync failed when it was written.
func (f *folder) Recover(ctx context.Context, mark sink.Mark, want []sink.Want) ([]sink.Place, error) {
	defer f.unlock()
	size, err := f.lock(ctx)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, durable.Fail("recover", mail.ScopeFolder, err)
	}
	from, marked, err := f.start(mark, size)
	if err != nil {
		return nil, durable.Fail("recover", mail.ScopeFolder, err)
	}
	places, end, err := f.match(ctx, from, size, marked, want)
	if err != nil {
		return nil, durable.Fail("recover", mail.ScopeFolder, err)
	}
	if end < size {
		if err := f.setAside(end, size); err != nil {
			return nil, durable.Fail("recover", mail.ScopeRun, err)
		}
	}
	if marked {
		if err := f.w.Rewrite(from, end); err != nil {
			return nil, durable.Fail("recover", mail.ScopeRun, err)
		}
	}
	if from < size {
		if err := f.w.Sync(); err != nil {
			return nil, durable.Fail("recover", mail.ScopeRun, err)
		}
	}
	return places, nil
}

// start is the offset of a mark, or that of the whole folder where there is none to
// go by.
func (f *folder) start(mark sink.Mark, size int64) (from int64, marked bool, err error) {
	if mark == "" {
		return 0, false, nil
	}
	offset, hash, _ := strings.Cut(string(mark), " ") // older ones had no hash
	from, err = strconv.ParseInt(offset, 10, 64)
	if err != nil || from < 0 {
		return 0, false, fmt.Errorf("%s: mark %q is none of ours", f.root.Path(f.name), string(mark))
	}
	if from <= size {
		now, err := before(f.w, from)
		if err != nil || hash == "" || now == hash {
			return from, true, err
		}
	}
	f.sink.opt.Log.Warn("changed by another program since a run died", "mailbox", f.root.Path(f.name))
	return 0, false, nil
}

// A matcher finds wanted messages among records.
type matcher struct {
	want   []sink.Want
	open   map[mail.Digest][]int // wanted and not found yet
	places []sink.Place
	marked bool
	read   *digester

	end    int64 // start of the torn bytes, -1 while there are none
	behind []int // messages found behind them
}

// match finds the wanted messages between two offsets and tells where what may
// stay ends.
func (f *folder) match(ctx context.Context, from, size int64, marked bool, want []sink.Want) ([]sink.Place, int64, error) {
	m := matcher{want: want, open: make(map[mail.Digest][]int, len(want)), places: make([]sink.Place, len(want)),
		marked: marked, read: newDigester(), end: -1}
	for i, w := range want {
		m.open[w.Digest] = append(m.open[w.Digest], i)
	}
	for rec, err := range mboxrd.Walk(f.w, from, size) {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = m.look(rec, rec.Offset+rec.Length == size)
		}
		if err != nil {
			return nil, 0, err
		}
	}
	if m.end < 0 {
		return m.places, size, nil
	}
	// What lies behind torn bytes goes with them and is written again.
	for _, i := range m.behind {
		m.places[i] = ""
	}
	return m.places, m.end, nil
}

func (m *matcher) look(rec mboxrd.Record, last bool) error {
	seen, err := m.read.record(rec)
	if err != nil {
		return err
	}
	if rec.Whole && !rec.Stray && m.found(seen.sum, rec) {
		return nil
	}
	if !rec.Stray {
		whole, ok, err := m.within(rec)
		if err != nil {
			return err
		}
		if ok {
			rec.Offset, rec.Stray = rec.Offset+whole.Length, true
		}
	}
	missing := m.missing(seen) || len(m.open) > 0 && (rec.Stray || seen.zeros && m.marked)
	if torn(rec, last, seen.zeros, missing, m.marked) {
		if m.end < 0 {
			m.end = rec.Offset
		}
		return nil
	}
	// Somebody else's mail. Whatever seemed torn before it is enclosed by mail
	// now, and stays.
	m.end, m.behind = -1, nil
	return nil
}

// found gives a wanted message of that digest its place.
func (m *matcher) found(d mail.Digest, rec mboxrd.Record) bool {
	is := m.open[d]
	if len(is) == 0 {
		return false
	}
	m.places[is[0]] = place(rec.Offset, rec.Length)
	if m.open[d] = is[1:]; len(is) == 1 {
		delete(m.open, d)
	}
	if m.end >= 0 {
		m.behind = append(m.behind, is[0])
	}
	return true
}

// missing reports whether a wanted message has not been found of which this
// may be the beginning, going by its size.
func (m *matcher) missing(s seen) bool {
	for _, is := range m.open {
		if s.size-s.added <= m.want[is[0]].Text {
			return true
		}
	}
	return false
}

// within finds a whole message at the beginning of a record that goes on.
func (m *matcher) within(rec mboxrd.Record) (mboxrd.Record, bool, error) {
	var sizes []int64
	for _, is := range m.open {
		if text := m.want[is[0]].Text; text <= rec.Length { // quoting adds, and takes nothing away
			sizes = append(sizes, text)
		}
	}
	slices.Sort(sizes)
	sums, err := m.read.prefixes(rec, slices.Compact(sizes))
	for i, sum := range sums {
		if err != nil || len(m.open[sum]) == 0 {
			continue
		}
		var cut mboxrd.Record
		var ok bool
		if cut, ok, err = rec.Cut(sizes[i]); ok && err == nil {
			return cut, m.found(sum, cut), nil
		}
	}
	return rec, false, err
}

// torn reports whether a record that is none of the wanted ones is a torn one.
// Missing says that it may be the beginning of a wanted message, or several with
// zeroes between; marked, that the batch wrote here and nobody else before.
//
// A beginning can end in an empty line by accident, so what is last and might
// be one is set aside even though it looks whole: nothing is lost, since the
// source still has the message and the bytes stay in the file beside. In the
// middle only a record with zero bytes, which a power cut leaves where pages
// did not reach the disk, counts as torn.
func torn(rec mboxrd.Record, last, zeros, missing, marked bool) bool {
	switch {
	case rec.Stray:
		return missing || last && marked
	case last && !rec.Whole:
		return missing || zeros
	case last:
		return missing && marked
	}
	return missing && marked && zeros
}

// setAside copies what is torn into a file of its own and then cuts it off: in
// this order, so that it is there at least once at any moment.
func (f *folder) setAside(from, to int64) error {
	name := f.name + ".torn-" + time.Now().UTC().Format("20060102T150405Z")
	err := f.root.SetAside(f.w, from, to, name)
	for n := 2; errors.Is(err, fs.ErrExist) && n < 100; n++ {
		err = f.root.SetAside(f.w, from, to, name+"-"+strconv.Itoa(n))
	}
	if durable.Full(err) {
		return fmt.Errorf("%d torn bytes stay at the end of %s until there is room to set them aside: %w", to-from, f.root.Path(f.name), err)
	}
	if err != nil {
		return err
	}
	f.aside += to - from
	f.sink.opt.Log.Warn("torn bytes set aside", "mailbox", f.root.Path(f.name), "bytes", to-from, "in", f.root.Path(name))
	return f.w.Truncate(from)
}

// SetAside implements sink.Salvager.
func (f *folder) SetAside() int64 { return f.aside }

var lineEnd = []byte{'\n'}

// A digester takes digests of records, one after the other.
type digester struct {
	sum hash.Hash
	buf []byte
}

func newDigester() *digester { return &digester{sha256.New(), make([]byte, 128<<10)} }

// A record as it was read.
type seen struct {
	sum   mail.Digest
	size  int64 // of the text
	lines int64
	zeros bool  // there is a zero byte
	added int64 // at most so many bytes may be a status block that is torn
}

func (d *digester) record(rec mboxrd.Record) (s seen, err error) {
	d.sum.Reset()
	text := rec.Text()
	for {
		n, err := text.Read(d.buf)
		if s.size == 0 && bytes.HasPrefix(d.buf[:n], []byte("Status")) {
			s.added = mboxrd.MostStatus
		}
		d.sum.Write(d.buf[:n])
		s.size += int64(n)
		s.lines += int64(bytes.Count(d.buf[:n], lineEnd))
		s.zeros = s.zeros || bytes.IndexByte(d.buf[:n], 0) >= 0
		if err == io.EOF {
			break
		}
		if err != nil {
			return s, err
		}
	}
	d.sum.Sum(s.sum[:0])
	return s, nil
}

// prefixes takes the digests of beginnings of a text, which have the given
// sizes in rising order. There are fewer when the text is shorter.
func (d *digester) prefixes(rec mboxrd.Record, sizes []int64) (sums []mail.Digest, err error) {
	d.sum.Reset()
	text := rec.Text()
	at := int64(0)
	for _, size := range sizes {
		n, err := io.CopyBuffer(struct{ io.Writer }{d.sum}, io.LimitReader(text, size-at), d.buf)
		if at += n; err != nil || at < size {
			return sums, err
		}
		sums = append(sums, mail.Digest(d.sum.Sum(nil)))
	}
	return sums, nil
}
