package pop3

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"mailhaul/source"
)

// A cursor is the number of messages, a digest of all unique-ids and sizes in
// their order, and a sample of the unique-ids: those with the lowest hashes. If
// none of the sample is left where the maildrop is as full as before, the server
// has given all messages new ones (RELIABILITY B6).

const mostSample = 8

func (l *listing) sample() string {
	if !l.uidl {
		return ""
	}
	var low []uint64
	for i := range l.sizes {
		h := hash(l.uid(uint32(i)))
		at, same := slices.BinarySearch(low, h)
		if same || at == mostSample {
			continue
		}
		low = slices.Insert(low, at, h)
		low = low[:min(len(low), mostSample)]
	}
	var b strings.Builder
	for _, h := range low {
		fmt.Fprintf(&b, " %x", h)
	}
	return b.String()
}

func hash(uid []byte) uint64 {
	h := fnv.New64a()
	h.Write(uid)
	return h.Sum64()
}

// renamed reports whether all unique-ids have changed since a listing, and of
// how many messages.
func (l *listing) renamed(since source.Cursor) bool {
	words := strings.Fields(string(since))
	const few = 3 // as many as this may well have been replaced by others
	if len(words) < 2+few || !l.uidl {
		return false
	}
	then := 0
	if _, err := fmt.Sscanf(words[0], "%d", &then); err != nil || len(l.sizes) < then/2 || len(l.sizes) < few {
		return false
	}
	sample := map[uint64]bool{}
	for _, w := range words[2:] {
		var h uint64
		if _, err := fmt.Sscanf(w, "%x", &h); err != nil {
			return false
		}
		sample[h] = true
	}
	for i := range l.sizes {
		if sample[hash(l.uid(uint32(i)))] {
			return false
		}
	}
	return true
}
