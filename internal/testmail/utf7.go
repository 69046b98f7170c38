package testmail

import (
	"encoding/base64"
	"strings"
	"unicode/utf16"

	"mailhaul/internal/mail"
)

// PlainName is a path in the form that Memory and Dovecot take: UTF-8 with "/"
// between the parts.
func PlainName(path mail.Path) string { return strings.Join(path.Parts(), "/") }

// RawName is a path in the form that Model takes: as it goes over the wire,
// with "/" between the parts.
func RawName(path mail.Path) string { return EncodeName(PlainName(path)) }

// EncodeName writes a folder name in modified UTF-7 (RFC 3501, section 5.1.3).
// It is written a second time here so that the program's own encoder is not
// tested against itself.
func EncodeName(name string) string {
	var b strings.Builder
	var wide []rune
	flush := func() {
		if len(wide) == 0 {
			return
		}
		var raw []byte
		for _, u := range utf16.Encode(wide) {
			raw = append(raw, byte(u>>8), byte(u))
		}
		b.WriteString("&" + strings.ReplaceAll(base64.RawStdEncoding.EncodeToString(raw), "/", ",") + "-")
		wide = wide[:0]
	}
	for _, r := range name {
		if r < 0x20 || r > 0x7e {
			wide = append(wide, r)
			continue
		}
		flush()
		if b.WriteRune(r); r == '&' {
			b.WriteByte('-')
		}
	}
	flush()
	return b.String()
}
