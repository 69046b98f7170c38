// Package maildirname parses and prints the names of files in a Maildir:
//
//	UNIQUE,S=1234,W=1260:2,FS
//
// UNIQUE is what a message is known by. The fields behind it never change; S
// is the size of the file and W the size it has with CRLF, as Dovecot wants
// them. What comes behind ":2," are flags, one letter each, in the order of
// ASCII; any mail program may change them at any time, and so a file is found
// by its unique part whatever else its name says.
//
// Windows does not allow ":" in a file name; there it is ";".
package maildirname

import (
	"slices"
	"strconv"
	"strings"

	"mailhaul/internal/mail"
)

// A Name is the name of a file, taken apart.
type Name struct {
	Unique string
	Fields string // ",S=1234,W=1260", or what another program put there
	Info   string // letters; only meaningful with Has
	Has    bool   // there is a ":2,"
}

// New makes the name of a message that we store.
func New(unique string, size, crlf int64) Name {
	return Name{Unique: unique, Fields: ",S=" + strconv.FormatInt(size, 10) + ",W=" + strconv.FormatInt(crlf, 10)}
}

// Parse takes a file name apart. There is none that it cannot.
func Parse(file string) Name {
	base, info, has := strings.Cut(file, separator+"2,")
	if !has {
		// Anything else behind the separator is experimental (":1,") and
		// kept as it is.
		base = file
	}
	n := Name{Unique: base, Info: info, Has: has}
	if i := strings.IndexAny(base, ","+separator); i >= 0 {
		n.Unique, n.Fields = base[:i], base[i:]
	}
	return n
}

// Unique is the unique part of a file name.
func Unique(file string) string {
	if i := strings.IndexAny(file, ","+separator); i >= 0 {
		return file[:i]
	}
	return file
}

// String is the file's name.
func (n Name) String() string {
	if !n.Has {
		return n.Unique + n.Fields
	}
	return n.Unique + n.Fields + separator + "2," + n.Info
}

// Dir is where the file belongs: "new" until some program has taken note of it
// and given it its ":2,", then "cur".
func (n Name) Dir() string {
	if n.Has {
		return "cur"
	}
	return "new"
}

// letters of flags, in the order of ASCII.
var letters = []struct {
	letter byte
	flag   mail.Flag
}{
	{'D', mail.Draft},
	{'F', mail.Flagged},
	{'P', mail.Forwarded},
	{'R', mail.Answered},
	{'S', mail.Seen},
	{'T', mail.Deleted},
}

// Keywords are the names that the letters a to z stand for in one folder, as
// in Dovecot's file dovecot-keywords. An empty name is a letter that stands
// for nothing yet.
type Keywords []string

// MostKeywords is how many letters there are.
const MostKeywords = 26

// Add gives the keywords among flags their letters and reports whether there
// are new ones. Keywords that find no letter left are passed over.
func (k *Keywords) Add(flags mail.Flags) bool {
	added := false
	for _, f := range flags {
		if _, system := systemLetter(f); system || !word(string(f)) || slices.Contains(*k, string(f)) {
			continue
		}
		if i := slices.Index(*k, ""); i >= 0 {
			(*k)[i] = string(f)
		} else if len(*k) < MostKeywords {
			*k = append(*k, string(f))
		} else {
			continue
		}
		added = true
	}
	return added
}

// word reports whether a keyword can stand in the file: anything that begins
// with a backslash is a system flag, known or not.
func word(s string) bool {
	return s != "" && s[0] != '\\' && strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }) < 0
}

func systemLetter(f mail.Flag) (byte, bool) {
	for _, l := range letters {
		if l.flag == f {
			return l.letter, true
		}
	}
	return 0, false
}

// With gives n the flags. Letters that stand for no flag we know are kept. A
// name that needs no letter and has no ":2," stays without.
func (n Name) With(flags mail.Flags, k Keywords) Name {
	set := []byte{}
	for _, c := range []byte(n.Info) {
		if _, known := flagOf(c, k); !known {
			set = append(set, c)
		}
	}
	for _, f := range flags {
		if c, ok := systemLetter(f); ok {
			set = append(set, c)
		} else if i := slices.Index(k, string(f)); i >= 0 && i < MostKeywords {
			set = append(set, 'a'+byte(i))
		}
	}
	slices.Sort(set)
	n.Info = string(slices.Compact(set))
	n.Has = n.Has || n.Info != ""
	return n
}

// Flags are the flags that the name shows.
func (n Name) Flags(k Keywords) mail.Flags {
	var names []string
	for _, c := range []byte(n.Info) {
		if f, ok := flagOf(c, k); ok {
			names = append(names, string(f))
		}
	}
	return mail.NewFlags(names...)
}

func flagOf(c byte, k Keywords) (mail.Flag, bool) {
	for _, l := range letters {
		if l.letter == c {
			return l.flag, true
		}
	}
	if i := int(c) - 'a'; i >= 0 && i < len(k) && i < MostKeywords && k[i] != "" {
		return mail.Flag(k[i]), true
	}
	return "", false
}

// ParseKeywords reads a file dovecot-keywords: lines of a number and a name.
// Lines it does not understand are passed over.
func ParseKeywords(file string) Keywords {
	var k Keywords
	for line := range strings.Lines(file) {
		number, name, ok := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		i, err := strconv.Atoi(number)
		if !ok || err != nil || i < 0 || i >= MostKeywords || name == "" {
			continue
		}
		for len(k) <= i {
			k = append(k, "")
		}
		k[i] = name
	}
	return k
}

// String is the file.
func (k Keywords) String() string {
	var b strings.Builder
	for i, name := range k {
		if name != "" {
			b.WriteString(strconv.Itoa(i) + " " + name + "\n")
		}
	}
	return b.String()
}
