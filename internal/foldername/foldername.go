// Package foldername turns the path of a folder into a file name and back.
//
// What must stay true, whatever names a server sends (RELIABILITY, rows G1 to
// G5 and G8):
//
//   - The result stays inside: no part is empty, ".", "..", or holds a
//     separator of any system.
//   - Two folders never get one name, and a name leads back to its folder: a
//     byte that may not stand for itself is written %XX.
//   - No part looks like something else that lies there: cur, new and tmp, our
//     own mailhaul.*, a mailbox file, its lock, its torn tail, Dovecot's files,
//     a device of Windows.
//   - Letters of any script stay readable.
//
// A part too long for a file name is cut and ends in "~" and 16 hexadecimal
// digits of the SHA-256 of its plain form. Such a name is told apart from all
// others but cannot be turned back by itself: Path reports that, and whoever
// needs the folder's name finds it in the catalog or the manifest.
//
// On file systems that take "Work" and "work" for one name two folders can
// still meet. Key is equal for those that might; who plans folders keeps them
// apart.
package foldername

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"mailhaul/internal/mail"
)

const (
	// Deepest is how many parts a path may have. RFC 2683, section 3.4.7.4,
	// advises twenty.
	Deepest = 64

	// most is how long a part gets: 255 is the limit of most file systems,
	// and a suffix such as ".mbox.torn-20260102T150405Z-12" must fit behind.
	most = 200
	tail = 1 + 16 // "~" and the digits
)

// Parts gives the names of directories, outermost first, that stand for p.
func Parts(p mail.Path) ([]string, error) {
	plain := p.Parts()
	if err := fits(p, plain); err != nil {
		return nil, err
	}
	names := make([]string, len(plain))
	for i, s := range plain {
		names[i] = shorten(escape(s, false), s)
	}
	return names, nil
}

// Path undoes Parts. It reports false for names that Parts does not give, and
// for those it had to cut.
func Path(names []string) (mail.Path, bool) {
	plain := make([]string, len(names))
	for i, s := range names {
		plain[i] = unescape(s)
	}
	p := mail.Join(plain...)
	back, err := Parts(p)
	return p, err == nil && equal(back, names)
}

// Dotted gives the one name that stands for p in a Maildir++ tree: ".A.B".
// Dots inside of parts are escaped. INBOX is the tree itself: ".".
func Dotted(p mail.Path) (string, error) {
	if p == mail.Inbox {
		return ".", nil
	}
	plain := p.Parts()
	if err := fits(p, plain); err != nil {
		return "", err
	}
	var b strings.Builder
	for _, s := range plain {
		b.WriteByte('.')
		b.WriteString(escape(s, true))
	}
	return shorten(b.String(), string(p)), nil
}

// FromDotted undoes Dotted, as Path undoes Parts.
func FromDotted(name string) (mail.Path, bool) {
	if name == "." {
		return mail.Inbox, true
	}
	rest, ok := strings.CutPrefix(name, ".")
	if !ok {
		return "", false
	}
	plain := strings.Split(rest, ".")
	for i, s := range plain {
		plain[i] = unescape(s)
	}
	p := mail.Join(plain...)
	back, err := Dotted(p)
	return p, err == nil && back == name
}

// Key is equal for all paths that a file system without regard to case or to
// the composition of letters might take for one name.
func Key(p mail.Path) string {
	return norm.NFC.String(cases.Fold().String(norm.NFC.String(string(p))))
}

func fits(p mail.Path, plain []string) error {
	switch {
	case len(plain) == 0:
		return fmt.Errorf("folder without a name")
	case len(plain) > Deepest:
		return fmt.Errorf("folder %s: %d levels deep, %d are allowed", mail.Clean(string(p)), len(plain), Deepest)
	}
	return nil
}

func equal(a, b []string) bool {
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return len(a) == len(b)
}

// escape writes one part so that it can be a file name. An empty part becomes
// "%", which no other part does.
func escape(s string, dots bool) string {
	if s == "" {
		return "%"
	}
	first := firstMust(s)
	last := s[len(s)-1]
	var b strings.Builder
	for i := 0; i < len(s); {
		c := s[i]
		r, size := rune(c), 1
		if c >= utf8.RuneSelf {
			r, size = utf8.DecodeRuneInString(s[i:])
		}
		switch {
		case i == 0 && first,
			i == len(s)-1 && (last == '.' || last == ' '),
			c == '.' && (dots || suffix(s[i:])),
			c == '~' && cutMark(s[i:]),
			refused(r, size):
			for _, c := range []byte(s[i : i+size]) {
				fmt.Fprintf(&b, "%%%02X", c)
			}
		default:
			b.WriteString(s[i : i+size])
		}
		i += size
	}
	return b.String()
}

// refused tells what never stands for itself: what some system refuses or
// splits at, what steers a terminal, and what is not UTF-8.
func refused(r rune, size int) bool {
	if r == utf8.RuneError && size == 1 {
		return true
	}
	return strings.ContainsRune(`%/\:<>"|?*`, r) || unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

// firstMust reports whether the first byte of a part must be escaped because
// the part would be mistaken for something else.
func firstMust(s string) bool {
	if s[0] == '.' {
		return true
	}
	low := strings.ToLower(s)
	switch low {
	case "cur", "new", "tmp", "maildirfolder", "maildirsize", "subscriptions":
		return true
	}
	for _, own := range []string{"mailhaul.", "dovecot", "courierimap"} {
		if strings.HasPrefix(low, own) {
			return true
		}
	}
	return device(low)
}

// device reports whether Windows takes a name for a device, which it does with
// any extension and with blanks before it.
func device(low string) bool {
	low, _, _ = strings.Cut(low, ".")
	low = strings.TrimRight(low, " ")
	switch low {
	case "con", "prn", "aux", "nul", "conin$", "conout$":
		return true
	}
	for _, port := range []string{"com", "lpt"} {
		if n, ok := strings.CutPrefix(low, port); ok {
			switch n {
			case "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "¹", "²", "³":
				return true
			}
		}
	}
	return false
}

// suffix reports whether s, which begins with a dot, would make its part look
// like a mailbox file, a lock or a torn tail.
func suffix(s string) bool {
	s = strings.ToLower(s)
	return s == ".mbox" || s == ".lock" || strings.HasPrefix(s, ".mbox.") || strings.HasPrefix(s, ".torn-")
}

// cutMark reports whether s, which begins with "~", ends a part as a cut one
// ends.
func cutMark(s string) bool {
	if len(s) != tail {
		return false
	}
	for _, c := range []byte(s[1:]) {
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
			return false
		}
	}
	return true
}

// shorten cuts a name that is too long, between characters and between
// escapes, and marks it with what it was.
func shorten(name, plain string) string {
	if len(name) <= most {
		return name
	}
	sum := sha256.Sum256([]byte(plain))
	n := most - tail
	for !utf8.RuneStart(name[n]) {
		n--
	}
	for k := 1; k <= 2; k++ {
		if name[n-k] == '%' {
			n -= k
			break
		}
	}
	return name[:n] + "~" + hex.EncodeToString(sum[:8])
}

// unescape undoes escape. Paths have the same escapes.
func unescape(name string) string {
	if name == "%" {
		return ""
	}
	return mail.Unescape(name)
}
