package testmail

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mailhaul/internal/mail"
)

// keywords are Dovecot's: a file in each folder gives them numbers, and the
// names of messages bear number 0 as "a", number 1 as "b" and so on.
type keywords struct{ names []string }

func (d *Maildrop) keywords(dir string) *keywords {
	k := &keywords{}
	text, err := os.ReadFile(filepath.Join(dir, "dovecot-keywords"))
	if err != nil {
		return k // no keyword has been used here
	}
	for line := range strings.Lines(string(text)) {
		if _, name, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			k.names = append(k.names, name)
		}
	}
	return k
}

// letters is the part of a file's name that tells the flags, in order.
func (k *keywords) letters(flags mail.Flags) string {
	var b []byte
	for _, f := range flags {
		switch f {
		case mail.Draft:
			b = append(b, 'D')
		case mail.Flagged:
			b = append(b, 'F')
		case mail.Answered:
			b = append(b, 'R')
		case mail.Seen:
			b = append(b, 'S')
		case mail.Deleted:
			b = append(b, 'T')
		default:
			b = append(b, k.letter(string(f)))
		}
	}
	slices.Sort(b)
	return string(b)
}

func (k *keywords) letter(name string) byte {
	i := slices.Index(k.names, name)
	if i < 0 {
		i = len(k.names)
		k.names = append(k.names, name)
	}
	return byte('a' + i)
}

func (k *keywords) file() []byte {
	var b bytes.Buffer
	for i, name := range k.names {
		fmt.Fprintf(&b, "%d %s\n", i, name)
	}
	return b.Bytes()
}
