package spool

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestArena: buffers do not overlap, are as large as was asked, and what was
// given back is given again.
func TestArena(t *testing.T) {
	a := arena{most: 3}
	type lent struct {
		buffer
		fill byte
	}
	var all []lent
	random := rand.New(rand.NewPCG(1, 2))
	own, held := 0, 0
	drop := func(i int) {
		l := all[i]
		if full := l.bytes[:cap(l.bytes)]; bytes.Count(full, []byte{l.fill}) != len(full) {
			t.Fatalf("a buffer of %d bytes was written to by another", len(full))
		}
		a.put(l.buffer)
		held -= cap(l.bytes)
		all[i] = all[len(all)-1]
		all = all[:len(all)-1]
	}
	for i := range 50_000 {
		if len(all) > 0 && (random.IntN(3) == 0 || held > 4<<20) {
			drop(random.IntN(len(all)))
			continue
		}
		n := int64(random.IntN(8 << 10))
		if random.IntN(50) == 0 {
			n = int64(random.IntN(Large))
		}
		b := a.get(most(n))
		if len(b.bytes) != 0 || int64(cap(b.bytes)) < most(n) || int64(cap(b.bytes)) >= most(n)+granule {
			t.Fatalf("a buffer for %d bytes has %d, and room for %d", n, len(b.bytes), cap(b.bytes))
		}
		if b.home == nil {
			own++
		}
		held += cap(b.bytes)
		l := lent{b, byte(i)}
		full := b.bytes[:cap(b.bytes)]
		for j := range full {
			full[j] = l.fill
		}
		all = append(all, l)
	}
	if len(a.segments) != a.most {
		t.Errorf("%d segments, want %d", len(a.segments), a.most)
	}
	if own > 500 {
		t.Errorf("%d buffers had no room in segments of %d bytes, with less than %d lent", own, a.most*segmentSize, 5<<20)
	}
	for len(all) > 0 {
		drop(0)
	}
	for _, s := range a.segments {
		if s.used != [granules / 64]uint64{} {
			t.Error("something is not given back")
		}
	}
	for range a.most {
		if b := a.get(segmentSize); b.home == nil {
			t.Error("an empty segment did not serve")
		}
	}
	if b := a.get(1); b.home != nil || cap(b.bytes) != granule {
		t.Errorf("where all is lent a buffer came from somewhere, of %d bytes", cap(b.bytes))
	}
}
