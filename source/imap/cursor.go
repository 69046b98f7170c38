package imap

import (
	"fmt"

	"mailhaul/internal/imapconn"
	"mailhaul/source"
)

// Numbers are what a cursor holds: those by which a folder that has not
// changed can be told (RFC 7162, section 3.1.2).
type numbers struct {
	validity, next, messages, modseq uint64
}

func (s numbers) cursor() source.Cursor {
	return source.Cursor(fmt.Sprintf("v=%d n=%d m=%d h=%d", s.validity, s.next, s.messages, s.modseq))
}

func parseCursor(c source.Cursor) (s numbers, ok bool) {
	n, err := fmt.Sscanf(string(c), "v=%d n=%d m=%d h=%d", &s.validity, &s.next, &s.messages, &s.modseq)
	return s, err == nil && n == 4
}

// stateOf is the cursor of a folder as STATUS tells it. It is mute where a
// change of flags would not show in it.
func stateOf(c *imapconn.Counts) (state source.Cursor, mute bool) {
	if c == nil || c.Validity <= 0 || c.Next <= 0 || c.Messages < 0 {
		return "", false
	}
	return numbers{uint64(c.Validity), uint64(c.Next), uint64(c.Messages), uint64(max(c.ModSeq, 0))}.cursor(), c.ModSeq <= 0
}
