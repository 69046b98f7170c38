// Package utf7 reads and writes modified UTF-7 (RFC 3501, section 5.1.3), which
// IMAP servers and the files of several mail programs use for folder names:
// printable ASCII stands for itself, "&" is "&-", all else is base64 of UTF-16
// between "&" and "-".
//
// What must stay true: what decodes is the one way to write it, so that
// encoding gives the same bytes again.
package utf7

import (
	"encoding/base64"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

var alphabet = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").WithPadding(base64.NoPadding)

// Encode writes a name as servers expect it. Invalid UTF-8 becomes U+FFFD.
func Encode(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		n := strings.IndexFunc(s, shifts)
		if n < 0 {
			n = len(s)
		}
		b.WriteString(strings.ReplaceAll(s[:n], "&", "&-"))
		s = s[n:]
		n = strings.IndexFunc(s, func(r rune) bool { return !shifts(r) })
		if n < 0 {
			n = len(s)
		}
		if n > 0 {
			b.WriteByte('&')
			b.WriteString(alphabet.EncodeToString(utf16Bytes(s[:n])))
			b.WriteByte('-')
			s = s[n:]
		}
	}
	return b.String()
}

func shifts(r rune) bool { return r < ' ' || r > '~' }

func utf16Bytes(s string) []byte {
	b := make([]byte, 0, 2*len(s))
	for _, u := range utf16.Encode([]rune(s)) {
		b = append(b, byte(u>>8), byte(u))
	}
	return b
}

// Decode reads a name that is written exactly as the standard demands, so
// that encoding the result gives the same bytes again. Of any other name it
// says false: it must be kept byte by byte.
func Decode(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c < ' ' || c > '~':
			return "", false
		case c != '&':
			b.WriteByte(c)
			continue
		}
		end := strings.IndexByte(s[i:], '-')
		if end < 0 {
			return "", false
		}
		if end == 1 {
			b.WriteByte('&')
		} else if !decodeShift(&b, s[i+1:i+end]) {
			return "", false
		}
		i += end
	}
	// Superfluous shifts, stray bits, ASCII in base64: all that has another
	// spelling shows here.
	out := b.String()
	return out, Encode(out) == s
}

func decodeShift(b *strings.Builder, s string) bool {
	raw, err := alphabet.DecodeString(s)
	if err != nil || len(raw)%2 != 0 {
		return false
	}
	units := make([]uint16, len(raw)/2)
	for i := range units {
		units[i] = uint16(raw[2*i])<<8 | uint16(raw[2*i+1])
	}
	for _, r := range utf16.Decode(units) {
		if r == utf8.RuneError { // a lone surrogate: no text
			return false
		}
		b.WriteRune(r)
	}
	return true
}
