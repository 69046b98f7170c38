package compare

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync"

	"mailhaul/internal/mail"
	"mailhaul/source"
)

// A row is what is known of one message. There may be a million: what can be
// short is short, and texts are asked for again where they are to be shown.
type row struct {
	head, digest sum // digest is zero when the bytes are not at hand
	id           source.ID
	mid          uint64 // of the Message-ID; 0 when there is none
	size         int64  // as stored there
	alike        int64  // with CRLF at every line, where the message was read; else size
	date         int64  // seconds; undated when unknown
	flags        uint32 // a set of the group
	box          uint32 // which folder of the side
	paired       bool
}

// A sum is half of a SHA-256: enough not to meet by chance or on purpose.
type sum [16]byte

func short(d mail.Digest) sum { return sum(d[:16]) }

const undated = -1 << 63

// A table is one side of a group.
type table struct {
	boxes  []mail.Path
	epochs []string
	rows   []row
	texts  map[key]string // Message-IDs of messages that were read
	failed []Finding
}

// A key finds a message of a side.
type key struct {
	box uint32
	id  source.ID
}

// entry is what a mailbox needs to find a message again.
func (r *row) entry() source.Entry { return source.Entry{ID: r.id, Size: r.size} }

// sets are the sets of flags that occur in a group, on both sides.
type sets struct {
	mu    sync.Mutex
	all   []mail.Flags
	byKey map[string]uint32
}

func newSets() *sets { return &sets{byKey: map[string]uint32{}} }

// number is that of a set. Flags are the same in any case (RFC 3501, section 9,
// note 1); the spelling is that of the first.
func (s *sets) number(f mail.Flags) uint32 {
	key := strings.ToLower(f.Key())
	s.mu.Lock()
	defer s.mu.Unlock()
	if n, ok := s.byKey[key]; ok {
		return n
	}
	n := uint32(len(s.all))
	s.all = append(s.all, f)
	s.byKey[key] = n
	return n
}

// seed makes hashes of Message-IDs: nobody outside can make two meet.
var seed = maphash.MakeSeed()

func hashOf(messageID string) uint64 {
	if messageID == "" {
		return 0
	}
	return maphash.String(seed, messageID) | 1
}

// minus is what a has and b has not.
func minus(a, b mail.Flags) (only mail.Flags) {
	for _, f := range a {
		if !slices.ContainsFunc(b, func(g mail.Flag) bool { return strings.EqualFold(string(f), string(g)) }) {
			only = append(only, f)
		}
	}
	return only
}
