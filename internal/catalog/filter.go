package catalog

import (
	"sync/atomic"

	"mailhaul/internal/mail"
)

// A filter says of a content whether it may be in an archive that was empty when
// it was opened. Nearly all that a first run asks for is not, and asking SQLite
// costs as much as filing it. It is asked while others commit.
//
// There is a bit for each value of the first bits of a digest: with a million
// messages, one answer in five is a wrong "maybe", and none is a wrong no.
type filter [1 << filterBits / 64]atomic.Uint64

const filterBits = 22

func (f *filter) add(d mail.Digest) {
	word, bit := f.spot(d)
	word.Or(bit)
}

func (f *filter) has(d mail.Digest) bool {
	word, bit := f.spot(d)
	return word.Load()&bit != 0
}

func (f *filter) spot(d mail.Digest) (word *atomic.Uint64, bit uint64) {
	n := prefix(d) >> (32 - filterBits)
	return &f[n/64], 1 << (n % 64)
}
