package imapconn

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
)

// A Range is a run of UIDs, both ends included.
type Range struct{ First, Last uint32 }

// rangeOf reads "41" or "43:116", the larger one where it will (RFC 3501,
// section 9, seq-range). What servers say has no "*" in it.
func rangeOf(b []byte) (r Range, ok bool) {
	a, b, isRange := bytes.Cut(b, []byte(":"))
	first, rest := digits(a)
	last, rest2 := first, []byte(nil)
	if isRange {
		last, rest2 = digits(b)
	}
	if len(a) == 0 || isRange && len(b) == 0 || len(rest)+len(rest2) > 0 || min(first, last) == 0 || max(first, last) > maxUID {
		return Range{}, false
	}
	return Range{uint32(min(first, last)), uint32(max(first, last))}, true
}

// mostSet is how long a set may be: RFC 2683, section 3.2.1.5, promises that
// servers take commands of 8000 octets.
const mostSet = 7000

// Set writes UIDs as a set with ranges, "1:5,9". What would make the command
// too long is left as rest. The UIDs should be ascending.
func Set(uids []uint32) (set string, rest []uint32) {
	var b []byte
	for len(uids) > 0 && len(b) < mostSet {
		n := 1
		for n < len(uids) && uids[n] == uids[n-1]+1 {
			n++
		}
		if len(b) > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(uids[0]), 10)
		if n > 1 {
			b = append(b, ':')
			b = strconv.AppendUint(b, uint64(uids[n-1]), 10)
		}
		uids = uids[n:]
	}
	return string(b), uids
}

// From is the set of all UIDs from a first one on.
func From(first uint32) string { return strconv.FormatUint(uint64(first), 10) + ":*" }

// parseSet reads a set of UIDs in the order in which it names them (RFC 4315,
// section 4, uid-set); nil where it is none, or beyond all measure. The server
// may write a range from either end, and both are the same: it stands for its
// numbers in ascending order.
func parseSet(set string) (uids []uint32) {
	for part := range strings.SplitSeq(set, ",") {
		r, ok := rangeOf([]byte(part))
		if !ok || uint64(r.Last-r.First)+uint64(len(uids)) >= mostUIDs {
			return nil
		}
		uids = slices.Grow(uids, int(r.Last-r.First)+1)
		for u := uint64(r.First); u <= uint64(r.Last); u++ {
			uids = append(uids, uint32(u))
		}
	}
	return uids
}
