package pop3

import (
	"fmt"
	"strings"

	"mailhaul/source"
)

// An ID begins with what it stands on:
//
//	uidl:U            a unique-id that one message of the listing has
//	twin:U:S:H:N      one that several have: with the size, a digest of the
//	                  header, and a count among those that agree in all three
//	once:R:N          no identity at all: number N of this listing, in this run
//
// U is written with all but printable ASCII escaped, so that an ID is the same
// wherever it is stored. No ID is a number, even where unique-ids are: they
// come in no order, and the core takes numbers for a numbering.
//
// Twins (RELIABILITY B4). RFC 1939, section 7, lets identical copies share a
// unique-id; servers have been seen to give one to messages that differ. An ID
// must not let one of these pass for the other, and yet not be new in each run,
// or the copies would come over the line for ever. So we ask for the header of
// each (TOP): the same unique-id, size and header digest is more than is asked
// of a message whose unique-id is its own, and a twin that differs anywhere
// there is another entry. A message that becomes a twin, or ceases to be one,
// has a new ID and is fetched again; its content decides that it is stored. No
// twin is ever deleted.
//
// Where there is no unique-id (B7, B8), or no TOP to tell twins by, nothing
// survives the session. Such IDs hold while the listing is the same, octet for
// octet, within one run of the program, so that a broken connection does not
// begin all over; the next run fetches the messages again, and again their
// content decides.

const (
	alone   = "uidl:"
	twin    = "twin:"
	nothing = "once:"
)

func idAlone(uid []byte) source.ID {
	return source.ID(appendEscaped(append(make([]byte, 0, len(alone)+len(uid)), alone...), uid))
}

func idTwin(uid []byte, size int64, head [8]byte, n int) source.ID {
	return source.ID(fmt.Sprintf("%s%s:%d:%x:%d", twin, appendEscaped(nil, uid), size, head, n))
}

func idOnce(run string, number int) source.ID {
	return source.ID(fmt.Sprintf("%s%s:%d", nothing, run, number))
}

// uidOf gives the unique-id of a message that has one of its own.
func uidOf(id source.ID) (uid string, ok bool) {
	s, ok := strings.CutPrefix(string(id), alone)
	return unescape(s), ok
}

const hex = "0123456789ABCDEF"

func appendEscaped(dst, s []byte) []byte {
	for _, c := range s {
		if c > ' ' && c < 0x7f && c != '%' {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', hex[c>>4], hex[c&15])
		}
	}
	return dst
}

func unescape(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			hi, lo := strings.IndexByte(hex, s[i+1]), strings.IndexByte(hex, s[i+2])
			if hi >= 0 && lo >= 0 {
				b = append(b, byte(hi<<4|lo))
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}
