package spool

import "math/bits"

// An arena lends buffers for bodies out of a few large pieces of memory that it
// keeps. To the collector these are a few objects without pointers, so that a
// body costs it nothing, comes without being zeroed, and stays where it is
// while others come and go. Not safe for concurrent use.
type arena struct {
	segments []*segment
	most     int // segments
}

const (
	granule     = 1 << 10
	granules    = 2 << 10 // of a segment: what is kept in memory fits in any empty one
	segmentSize = granule * granules
)

// A segment is searched from where the last buffer ended: bodies are given back
// about in the order in which they came.
type segment struct {
	bytes []byte
	used  [granules / 64]uint64 // a bit for each granule
	next  int                   // granule
}

// granulesFor is how many granules n bytes take.
func granulesFor(n int64) int { return int((max(n, 1) + granule - 1) / granule) }

// A buffer is empty memory, and where it comes from.
type buffer struct {
	bytes []byte
	home  *segment // nil: its own
	from  int
}

// get gives a buffer for n bytes, which may be at most a segment. Where there is
// no room it is one of its own.
func (a *arena) get(n int64) buffer {
	k := granulesFor(n)
	for _, s := range a.segments {
		if b, ok := s.get(k); ok {
			return b
		}
	}
	if len(a.segments) == a.most {
		return buffer{bytes: make([]byte, 0, k*granule)}
	}
	s := &segment{bytes: make([]byte, segmentSize)}
	a.segments = append(a.segments, s)
	b, _ := s.get(k)
	return b
}

// put takes a buffer of get back.
func (a *arena) put(b buffer) {
	if b.home != nil {
		b.home.mark(b.from, cap(b.bytes)/granule, false)
	}
}

func (s *segment) get(k int) (buffer, bool) {
	from, ok := s.find(s.next, granules, k)
	if !ok {
		from, ok = s.find(0, min(s.next+k-1, granules), k)
	}
	if !ok {
		return buffer{}, false
	}
	s.mark(from, k, true)
	s.next = from + k
	return buffer{s.bytes[from*granule : from*granule : s.next*granule], s, from}, true
}

// find looks for k free granules in a row.
func (s *segment) find(from, to, k int) (int, bool) {
	for from+k <= to {
		end := s.run(from, min(from+k, to))
		if end == from+k {
			return from, true
		}
		from = s.free(end, to)
	}
	return 0, false
}

// run is the first used granule from there on, at most to.
func (s *segment) run(from, to int) int {
	for i := from; i < to; {
		if w := s.used[i/64] >> (i % 64); w != 0 {
			return min(i+bits.TrailingZeros64(w), to)
		}
		i = (i/64 + 1) * 64
	}
	return to
}

// free is the first free granule from there on, at most to.
func (s *segment) free(from, to int) int {
	for i := from; i < to; {
		if w := ^s.used[i/64] >> (i % 64); w != 0 {
			return min(i+bits.TrailingZeros64(w), to)
		}
		i = (i/64 + 1) * 64
	}
	return to
}

func (s *segment) mark(from, k int, used bool) {
	for i := from; i < from+k; {
		n := min(64-i%64, from+k-i)
		mask := (^uint64(0) >> (64 - n)) << (i % 64)
		if used {
			s.used[i/64] |= mask
		} else {
			s.used[i/64] &^= mask
		}
		i += n
	}
}
