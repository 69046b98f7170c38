package imapconn

import (
	"fmt"
	"strings"

	"mailhaul/internal/mail"
	"mailhaul/internal/utf7"
)

// PathOf makes a path of a server's name for a folder. No two names make the
// same path, and NameOf leads back.
//
// A part written in modified UTF-7 exactly as the standard demands is decoded
// (RFC 3501, section 5.1.3). Any other part, be it raw UTF-8, Latin-1 or with a
// stray "&", is kept byte by byte: "&", controls and all that is not ASCII
// stand there as %XX. A decoded part never holds such an escape, so the two
// kinds cannot meet.
func PathOf(raw string, delimiter byte) mail.Path {
	if strings.EqualFold(raw, "INBOX") {
		return mail.Inbox // RFC 3501, section 5.1: in any case
	}
	parts := []string{raw}
	if delimiter != 0 {
		parts = strings.Split(raw, string(rune(delimiter)))
		if delimiter >= 0x80 {
			parts = []string{raw}
		}
	}
	var b strings.Builder
	for i, p := range parts {
		if i > 0 {
			b.WriteByte('/')
		}
		if plain, ok := decode(p); ok {
			mail.EscapePart(&b, plain)
		} else {
			escapeBytes(&b, p)
		}
	}
	return mail.Path(b.String())
}

// decode reads a canonical part. One with control characters in it is not
// decoded: they would have to be escaped, as those of a byte-wise part are.
func decode(part string) (string, bool) {
	plain, ok := utf7.Decode(part)
	if !ok || strings.ContainsFunc(plain, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", false
	}
	return plain, true
}

func escapeBytes(b *strings.Builder, part string) {
	for i := 0; i < len(part); i++ {
		switch c := part[i]; {
		case c < ' ' || c > '~' || c == '&' || c == '%' || c == '/':
			fmt.Fprintf(b, "%%%02X", c)
		default:
			b.WriteByte(c)
		}
	}
}

// NameOf undoes PathOf.
func NameOf(path mail.Path, delimiter byte) string {
	parts := strings.Split(string(path), "/")
	for i, p := range parts {
		plain := mail.Unescape(p)
		if !Bytewise(p) {
			plain = utf7.Encode(plain)
		}
		parts[i] = plain
	}
	if delimiter == 0 || delimiter >= 0x80 {
		return strings.Join(parts, "/")
	}
	return strings.Join(parts, string(rune(delimiter)))
}

// Bytewise reports whether an escaped part stands for bytes: it has an escape
// that is neither %25 nor %2F.
func Bytewise(part string) bool {
	for i := strings.IndexByte(part, '%'); i >= 0 && i+3 <= len(part); {
		if e := part[i : i+3]; e != "%25" && e != "%2F" {
			return true
		}
		next := strings.IndexByte(part[i+3:], '%')
		if next < 0 {
			break
		}
		i += 3 + next
	}
	return false
}
