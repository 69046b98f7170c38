package imap

import (
	"fmt"

	"mailhaul/internal/imapconn"
	"mailhaul/source"
)

// A state is what a cursor holds: the numbers by which a folder that has not
// changed can be told (RFC 7162, section 3.1.2).
type state struct {
	validity, next, messages, modseq uint64
}

func (s state) cursor() source.Cursor {
	return source.Cursor(fmt.Sprintf("v=%d n=%d m=%d h=%d", s.validity, s.next, s.messages, s.modseq))
}

func parseCursor(c source.Cursor) (s state, ok bool) {
	n, err := fmt.Sscanf(string(c), "v=%d n=%d m=%d h=%d", &s.validity, &s.next, &s.messages, &s.modseq)
	return s, err == nil && n == 4
}

// unchanged is the cursor of a folder as STATUS tells it; empty where a change
// of flags would not show in it.
func unchanged(c *imapconn.Counts) source.Cursor {
	if c == nil || c.ModSeq <= 0 || c.Validity <= 0 || c.Next <= 0 || c.Messages < 0 {
		return ""
	}
	return state{uint64(c.Validity), uint64(c.Next), uint64(c.Messages), uint64(c.ModSeq)}.cursor()
}
