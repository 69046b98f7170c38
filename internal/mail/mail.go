// Package mail is the vocabulary shared by sources, sinks and the pipeline:
// folder paths, flags, the digest that is a message's identity, the text form
// it is taken over, and errors that carry how far their damage reaches.
//
// It does no I/O of its own and imports only the standard library.
package mail

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// A Path names a folder: its parts joined by "/", outermost first. A "/" or
// "%" inside a part is percent-escaped, so the core never sees the separator
// of any particular store. The inbox is always "INBOX".
type Path string

// Inbox is the one folder that every account has (RFC 3501, section 5.1).
const Inbox Path = "INBOX"

// Join makes a path of parts in their plain form, escaping each.
func Join(parts ...string) Path {
	var b strings.Builder
	for i, p := range parts {
		if i > 0 {
			b.WriteByte('/')
		}
		EscapePart(&b, p)
	}
	return Path(b.String())
}

// EscapePart appends the escaped form of one plain part to b: "%" and "/"
// become %25 and %2F, all else stays.
func EscapePart(b *strings.Builder, part string) {
	for i := 0; i < len(part); i++ {
		switch c := part[i]; c {
		case '%', '/':
			fmt.Fprintf(b, "%%%02X", c)
		default:
			b.WriteByte(c)
		}
	}
}

// Parts returns the parts of p with all escapes undone. A malformed escape
// stands for itself.
func (p Path) Parts() []string {
	if p == "" {
		return nil
	}
	parts := strings.Split(string(p), "/")
	for i, s := range parts {
		parts[i] = Unescape(s)
	}
	return parts
}

// Plain spells p with the escapes that are needed and no others: of "%", "/",
// and of bytes that are not UTF-8. A source may write more of them, to say in
// which of several ways the name is kept there.
func (p Path) Plain() Path {
	var b strings.Builder
	for i, part := range p.Parts() {
		if i > 0 {
			b.WriteByte('/')
		}
		for len(part) > 0 {
			r, size := utf8.DecodeRuneInString(part)
			if r == utf8.RuneError && size == 1 {
				fmt.Fprintf(&b, "%%%02X", part[0])
			} else {
				EscapePart(&b, part[:size])
			}
			part = part[size:]
		}
	}
	return Path(b.String())
}

// Parent is the path of the folder around p, or "" at the top.
func (p Path) Parent() Path {
	i := strings.LastIndexByte(string(p), '/')
	if i < 0 {
		return ""
	}
	return p[:i]
}

// Within reports whether p is top or lies below it.
func (p Path) Within(top Path) bool {
	return p == top || strings.HasPrefix(string(p), string(top)+"/")
}

// Unescape undoes percent escapes; malformed ones stand for themselves.
func Unescape(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			hi, lo := unhex(s[i+1]), unhex(s[i+2])
			if hi >= 0 && lo >= 0 {
				b.WriteByte(byte(hi<<4 | lo))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

// A Flag is a system flag or a keyword under its IMAP name (RFC 3501,
// section 2.3.2).
type Flag string

const (
	Seen      Flag = `\Seen`
	Answered  Flag = `\Answered`
	Flagged   Flag = `\Flagged`
	Deleted   Flag = `\Deleted`
	Draft     Flag = `\Draft`
	Forwarded Flag = `$Forwarded`
)

// Flags is a set, kept sorted.
type Flags []Flag

// NewFlags makes a set: system flags get their usual spelling, `\Recent`
// (which belongs to a session, not to a message) is left out, repeats are
// dropped.
func NewFlags(names ...string) Flags {
	if len(names) == 0 {
		return nil
	}
	set := make(Flags, 0, len(names))
	for _, n := range names {
		f := canonical(n)
		if f == `\Recent` || f == "" {
			continue
		}
		set = append(set, f)
	}
	slices.Sort(set)
	return slices.Compact(set)
}

func canonical(name string) Flag {
	if !strings.HasPrefix(name, `\`) {
		return Flag(name)
	}
	for _, f := range []Flag{Seen, Answered, Flagged, Deleted, Draft, `\Recent`} {
		if strings.EqualFold(name, string(f)) {
			return f
		}
	}
	return Flag(name)
}

// Has reports whether f is in the set.
func (s Flags) Has(f Flag) bool {
	_, ok := slices.BinarySearch(s, f)
	return ok
}

// Equal reports whether two sets hold the same flags.
func (s Flags) Equal(t Flags) bool { return slices.Equal(s, t) }

// Key is the set as one string, for storing and comparing. It holds no
// character that a flag can hold twice: flags are joined by single spaces.
func (s Flags) Key() string {
	switch len(s) {
	case 0:
		return ""
	case 1:
		return string(s[0])
	}
	var b strings.Builder
	for i, f := range s {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(string(f))
	}
	return b.String()
}

// ParseFlags undoes Key.
func ParseFlags(key string) Flags {
	if key == "" {
		return nil
	}
	return NewFlags(strings.Split(key, " ")...)
}
