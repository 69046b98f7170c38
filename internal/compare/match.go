package compare

import (
	"bytes"
	"cmp"
	"slices"
)

// A pair is a row of From and one of To, by number.
type pair struct{ from, to int }

// A match is the pairing of two tables.
type match struct {
	from, to *table
	same     []pair
	changed  []pair
}

// An order compares rows; those that it finds equal may be paired.
type order func(a, b *row) int

func byDigest(a, b *row) int { return bytes.Compare(a.digest[:], b.digest[:]) }
func byHead(a, b *row) int   { return bytes.Compare(a.head[:], b.head[:]) }
func bySize(a, b *row) int   { return cmp.Compare(a.size, b.size) }
func byAlike(a, b *row) int  { return cmp.Compare(a.alike, b.alike) }
func byDate(a, b *row) int   { return cmp.Compare(a.date, b.date) }
func byFlags(a, b *row) int  { return cmp.Compare(a.flags, b.flags) }
func byMID(a, b *row) int    { return cmp.Compare(a.mid, b.mid) }

// all orders by one after the other.
func all(orders ...order) order {
	return func(a, b *row) int {
		for _, o := range orders {
			if c := o(a, b); c != 0 {
				return c
			}
		}
		return 0
	}
}

func read(r *row) bool    { return r.digest != sum{} }
func unread(r *row) bool  { return r.digest == sum{} }
func whole(*row) bool     { return true }
func withMID(r *row) bool { return r.mid != 0 }
func noMID(r *row) bool   { return r.mid == 0 }

// identical pairs what is the same. Where there are copies, those with the same
// date and flags belong together.
func (m *match) identical() {
	for _, step := range []struct {
		what     order
		from, to func(*row) bool
	}{
		{byDigest, read, read},
		{all(byHead, bySize), unread, whole},
		{all(byHead, bySize), read, unread},
		// A file of lines that end in LF is the same as a message on a server.
		{all(byHead, byAlike), unread, whole},
		{all(byHead, byAlike), read, unread},
	} {
		for _, o := range []order{all(step.what, byDate, byFlags), all(step.what, byDate), all(step.what, byFlags), step.what} {
			m.same = append(m.same, m.join(step.from, step.to, o)...)
		}
	}
}

// related pairs what is most likely one message that was changed: the same
// Message-ID, or, where there is none, the same header, and about the same size
// (RELIABILITY 4.4).
func (m *match) related() {
	m.changed = append(m.changed, m.near(withMID, byMID)...)
	m.changed = append(m.changed, m.near(noMID, byHead)...)
}

// open are the numbers of rows that are not paired, in some order.
func open(t *table, which func(*row) bool, o order) []int {
	var all []int
	for i := range t.rows {
		if r := &t.rows[i]; !r.paired && which(r) {
			all = append(all, i)
		}
	}
	slices.SortStableFunc(all, func(i, j int) int { return o(&t.rows[i], &t.rows[j]) })
	return all
}

// join pairs rows that an order finds equal.
func (m *match) join(from, to func(*row) bool, o order) (pairs []pair) {
	a := open(m.from, from, o)
	if len(a) == 0 {
		return nil
	}
	b := open(m.to, to, o)
	for len(a) > 0 && len(b) > 0 {
		switch c := o(&m.from.rows[a[0]], &m.to.rows[b[0]]); {
		case c < 0:
			a = a[1:]
		case c > 0:
			b = b[1:]
		default:
			pairs = append(pairs, m.pair(a[0], b[0]))
			a, b = a[1:], b[1:]
		}
	}
	return pairs
}

// near is join for rows whose sizes differ by little.
func (m *match) near(which func(*row) bool, o order) (pairs []pair) {
	sized := all(o, byAlike)
	a, b := open(m.from, which, sized), open(m.to, which, sized)
	for len(a) > 0 && len(b) > 0 {
		x, y := &m.from.rows[a[0]], &m.to.rows[b[0]]
		switch c := o(x, y); {
		case c == 0 && alike(x.alike, y.alike):
			pairs = append(pairs, m.pair(a[0], b[0]))
			a, b = a[1:], b[1:]
		case c < 0 || c == 0 && x.alike < y.alike:
			a = a[1:]
		default:
			b = b[1:]
		}
	}
	return pairs
}

// alike reports whether sizes may be those of one message with a header changed
// on its way.
func alike(a, b int64) bool {
	d := max(a-b, b-a)
	return d <= 4096 || d <= max(a, b)/20
}

func (m *match) pair(from, to int) pair {
	m.from.rows[from].paired, m.to.rows[to].paired = true, true
	return pair{from, to}
}

// doubtful takes those out of the changed pairs that only reading can decide:
// the same header, or the same size, and not both were read.
func (m *match) doubtful() (pairs []pair) {
	m.changed = slices.DeleteFunc(m.changed, func(p pair) bool {
		a, b := &m.from.rows[p.from], &m.to.rows[p.to]
		if read(a) && read(b) || a.head != b.head && a.size != b.size && a.alike != b.alike {
			return false
		}
		pairs = append(pairs, p)
		return true
	})
	return pairs
}
