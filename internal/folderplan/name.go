package folderplan

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode"
	"unicode/utf8"

	"mailhaul/internal/foldername"
	"mailhaul/internal/mail"
	"mailhaul/internal/utf7"
)

// How long the name of a folder may be on the wire: most servers keep folders
// as directories, whose names end at 255 bytes; Gmail's labels end at 225.
const (
	longest      = 255
	longestGmail = 225
)

// A cleaned path is one that the destination can hold, and what was changed.
type cleaned struct {
	path mail.Path
	why  string
}

// makeable is the path for a folder that wants to go to want: one that the
// destination can hold, and that is not another folder's.
func (p *plan) makeable(want mail.Path, why string, l *line) (mail.Path, string) {
	c := p.clean(want)
	if c.why != "" {
		why = c.why
	}
	if clash := p.clash(c.path, l); clash != "" {
		return p.apart(p.replace(want).path, l), clash
	}
	return c.path, why
}

// clash tells why a folder cannot go to path, or "".
func (p *plan) clash(path mail.Path, l *line) string {
	switch first := p.keys[foldername.Key(path)]; {
	case path == mail.Inbox && l.From.Path != mail.Inbox && !l.mapped:
		return "it would be the inbox"
	case p.claimed[path].own && !l.mapped:
		return "another folder goes there"
	case first == "" || first == path || p.exists[path]:
		return ""
	case p.exists[first]:
		return "the destination has a folder of that name but for case"
	}
	return "another folder goes to that name but for case"
}

// apart makes a path that no other folder has, by what is the source's own.
// The more digits the likelier it is free; that 64 of them are not takes a
// folder made to look so, and then they are counted on.
func (p *plan) apart(path mail.Path, l *line) mail.Path {
	parts := path.Parts()
	seed := l.From.Raw
	if seed == "" {
		seed = string(l.From.Path)
	}
	for {
		sum := sha256.Sum256([]byte(seed))
		digits := hex.EncodeToString(sum[:])
		for n := 8; n <= len(digits); n *= 2 {
			if to := mail.Join(p.short(parts, "~"+digits[:n])...); p.clash(to, l) == "" && !p.claimed[to].mapped {
				return to
			}
		}
		seed += string(l.From.Path) + "~"
	}
}

// clean makes a path that the destination can hold. What is there already is
// held.
func (p *plan) clean(want mail.Path) cleaned {
	if p.exists[want] {
		return cleaned{want, ""}
	}
	return p.replace(want)
}

// replace makes a path that the destination could make a folder of.
func (p *plan) replace(want mail.Path) cleaned {
	if p.to.Plain {
		return cleaned{want, ""}
	}
	parts := want.Parts()
	why := ""
	note := func(s string) {
		if why == "" {
			why = s
		}
	}
	for i, s := range parts {
		parts[i] = p.cleanPart(s, i == 0, note)
	}
	if p.to.Delimiter == 0 && len(parts) > 1 {
		parts = []string{strings.Join(parts, "-")}
		note("the destination has no folders within folders")
	}
	if p.length(parts) > p.longest() {
		sum := sha256.Sum256([]byte(want))
		parts = p.short(parts, "~"+hex.EncodeToString(sum[:4]))
		note("the name is too long")
	}
	to := mail.Join(parts...)
	if why == "" && to != want {
		// Bytes of a name that was not written as the standard says.
		why = "the name is written as the standard says"
	}
	return cleaned{to, why}
}

// cleanPart replaces what a part may not hold. Blanks at the ends are what
// some servers drop and others refuse; "%" and "*" are wildcards of LIST (RFC
// 3501, section 5.1); "#" begins a namespace (5.1.2), "~" what Dovecot takes for
// a home.
func (p *plan) cleanPart(s string, first bool, note func(string)) string {
	if !utf8.ValidString(s) {
		s = latin1(s)
		note("the name is not UTF-8")
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case unicode.IsControl(r):
			note("the name has a control character in it")
			r = '_'
		case r == '%' || r == '*' || r == '/' || r == rune(p.to.Delimiter) && r != 0:
			note("the name has a " + string(r) + " in it")
			r = '_'
		case first && i == 0 && (r == '#' || r == '~'):
			note("the name begins with " + string(r))
			r = '_'
		}
		b.WriteRune(r)
	}
	s = strings.TrimSpace(b.String())
	if s != b.String() {
		note("the name has blanks around it")
	}
	if s == "" || s == "." || s == ".." {
		note("a part of the name is empty or only dots")
		s += "_"
	}
	return s
}

// latin1 reads bytes that are no UTF-8 as what they most likely are.
func latin1(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			r = rune(s[0])
		}
		b.WriteRune(r)
		s = s[n:]
	}
	return b.String()
}

func (p *plan) longest() int {
	if p.to.Gmail {
		return longestGmail
	}
	return longest
}

// length is that of the name on the wire.
func (p *plan) length(parts []string) int {
	n := len(parts) - 1
	for _, s := range parts {
		n += len(utf7.Encode(s))
	}
	return n
}

// short puts tail at the end of the last part and makes the whole short enough:
// the last part is cut, and where the folders around it fill half of the room
// those deep down are left out.
func (p *plan) short(parts []string, tail string) []string {
	around, last := parts[:len(parts)-1], parts[len(parts)-1]
	for len(around) > 0 && p.length(append(around[:len(around):len(around)], last+tail)) > p.longest() &&
		p.length(around) > p.longest()/2 {
		around = around[:len(around)-1]
	}
	all := append(around[:len(around):len(around)], last+tail)
	for p.length(all) > p.longest() && last != "" {
		_, n := utf8.DecodeLastRuneInString(last)
		last = strings.TrimRightFunc(last[:len(last)-n], unicode.IsSpace)
		all[len(all)-1] = last + tail
	}
	return all
}
