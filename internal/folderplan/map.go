package folderplan

import (
	"strings"

	"mailhaul/internal/location"
	"mailhaul/internal/mail"
)

// A Map is one --map FROM=TO. Both sides are written as 'mailhaul folders'
// shows the names.
//
// In FROM, "*" stands for any letters within one level, "**" for any at all,
// "?" for one letter. What they stood for fills those of TO in order: the
// stars the stars, the question marks the question marks. Where FROM has no
// star it means the folder and all below it; where it has one, exactly what it
// fits.
type Map struct{ from, to string }

const mapHint = `write --map "Old=New" or --map "Old/*=New/*", with names as 'mailhaul folders' shows them`

// ParseMap reads FROM=TO. The first "=" separates; one within FROM is written
// %3D.
func ParseMap(s string) (Map, error) {
	from, to, ok := strings.Cut(s, "=")
	from, to = strings.Trim(from, "/"), strings.Trim(to, "/")
	switch {
	case !ok:
		return Map{}, location.Wrong(mapHint, "--map %s: no = in it", mail.Clean(s))
	case from == "" || to == "":
		return Map{}, location.Wrong(mapHint, "--map %s: a folder on both sides of the =", mail.Clean(s))
	}
	m := Map{strings.ReplaceAll(strings.ReplaceAll(from, "%3D", "="), "%3d", "="), to}
	if stars(m.to) > stars(m.from) {
		return Map{}, location.Wrong(mapHint, "--map %s: there are more stars on the right than on the left", mail.Clean(s))
	}
	if n := strings.Count(m.from, "?"); n > 0 && strings.Count(m.to, "?") > n {
		return Map{}, location.Wrong(mapHint, "--map %s: there are more question marks on the right than on the left", mail.Clean(s))
	}
	return m, nil
}

// String is what ParseMap was given.
func (m Map) String() string { return strings.ReplaceAll(m.from, "=", "%3D") + "=" + m.to }

// stars counts those of a pattern; "**" is one.
func stars(pattern string) int {
	return strings.Count(strings.ReplaceAll(pattern, "**", "*"), "*")
}

// apply is where m sends a folder, if it fits.
func (m Map) apply(path mail.Path) (mail.Path, bool) {
	if stars(m.from) > 0 {
		return m.fit(string(path))
	}
	for at := path; at != ""; at = at.Parent() {
		if to, ok := m.fit(string(at)); ok {
			return to + path[len(at):], true
		}
	}
	return "", false
}

func (m Map) fit(name string) (mail.Path, bool) {
	if strings.EqualFold(m.from, string(mail.Inbox)) && name == string(mail.Inbox) {
		return inbox(m.to), true
	}
	var f filling
	if !f.match(m.from, name) {
		return "", false
	}
	var b strings.Builder
	for to := m.to; to != ""; {
		switch {
		case to[0] == '*' && len(f.stars) > 0:
			b.WriteString(f.stars[0])
			f.stars = f.stars[1:]
			to = strings.TrimPrefix(to[1:], "*")
		case to[0] == '?' && len(f.marks) > 0:
			b.WriteString(f.marks[0])
			f.marks = f.marks[1:]
			to = to[1:]
		default:
			b.WriteByte(to[0])
			to = to[1:]
		}
	}
	to := strings.Trim(b.String(), "/") // a star may have stood for nothing
	return inbox(to), to != ""
}

// inbox writes the inbox as paths do.
func inbox(to string) mail.Path {
	if strings.EqualFold(to, string(mail.Inbox)) {
		return mail.Inbox
	}
	return mail.Path(to)
}

// A filling is what the wildcards of a pattern stand for.
type filling struct{ stars, marks []string }

func (f *filling) match(pattern, name string) bool {
	for pattern != "" {
		switch {
		case pattern[0] == '*':
			rest, deep := strings.CutPrefix(pattern, "**")
			if !deep {
				rest = pattern[1:]
			}
			for i := 0; i <= len(name); i++ {
				try := filling{append(f.stars[:len(f.stars):len(f.stars)], name[:i]), f.marks[:len(f.marks):len(f.marks)]}
				if try.match(rest, name[i:]) {
					*f = try
					return true
				}
				if !deep && i < len(name) && name[i] == '/' {
					break
				}
			}
			return false
		case name == "":
			return false
		case pattern[0] == '?' && name[0] != '/':
			n := 1
			for n < len(name) && name[n]&0xc0 == 0x80 { // one letter of several bytes
				n++
			}
			f.marks = append(f.marks, name[:n])
			pattern, name = pattern[1:], name[n:]
		case pattern[0] == name[0]:
			pattern, name = pattern[1:], name[1:]
		default:
			return false
		}
	}
	return name == ""
}
