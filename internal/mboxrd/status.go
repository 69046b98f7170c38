package mboxrd

import (
	"bytes"
	"strings"

	"mailhaul/internal/mail"
)

// MostStatus is how long a status block may be, in bytes. Keywords that do not fit are
// left out of it; the catalog has them.
const MostStatus = 4096

var statusFields = [...]string{"Status: ", "X-Status: ", "X-Keywords: "}

// The letters are those of Dovecot's and Mutt's mbox.
var statusLetters = [...]struct {
	field  int
	letter byte
	flag   mail.Flag
}{
	{0, 'R', mail.Seen},
	{1, 'A', mail.Answered},
	{1, 'F', mail.Flagged},
	{1, 'T', mail.Draft},
	{1, 'D', mail.Deleted},
}

// appendStatus appends a status block.
func appendStatus(dst []byte, flags mail.Flags) []byte {
	for field := range 2 {
		dst = append(dst, statusFields[field]...)
		for _, l := range statusLetters {
			if l.field == field && flags.Has(l.flag) {
				dst = append(dst, l.letter)
			}
		}
		if field == 0 {
			dst = append(dst, 'O') // old: somebody has listed it already
		}
		dst = append(dst, '\n')
	}
	dst = append(dst, statusFields[2]...)
	for i, left := 0, MostStatus-256; i < len(flags); i++ {
		word := string(flags[i])
		left -= len(word) + 1
		if !strings.HasPrefix(word, `\`) && strings.IndexFunc(word, unfit) < 0 && left > 0 {
			dst = append(dst, word...)
			dst = append(dst, ' ')
		}
	}
	return append(dst, '\n')
}

func unfit(r rune) bool { return r <= ' ' || r == 0x7f }

// statusBlock tells how long the status block is that b begins with, or 0.
// More says that b ends before that is decided.
func statusBlock(b []byte) (n int, more bool) {
	whole := len(b)
	b = b[:min(whole, MostStatus)]
	for i, field := range statusFields {
		k := min(len(field), len(b)-n)
		if string(b[n:n+k]) != field[:k] {
			return 0, false
		}
		line := b[n+k:]
		end := bytes.IndexByte(line, '\n')
		word := line
		if end >= 0 {
			word = line[:end]
		}
		if i < 2 && bytes.IndexFunc(word, notLetter) >= 0 {
			return 0, false
		}
		if end < 0 {
			return 0, len(b) < MostStatus
		}
		n += k + end + 1
	}
	return n, false
}

func notLetter(r rune) bool { return r < 'A' || r > 'Z' }

// parseStatus reads the flags of a status block.
func parseStatus(block []byte) mail.Flags {
	var names []string
	for i, line := range strings.Split(strings.TrimSuffix(string(block), "\n"), "\n") {
		_, value, _ := strings.Cut(line, ": ")
		if i == 2 {
			names = append(names, strings.Fields(value)...)
		}
		for _, l := range statusLetters {
			if l.field == i && strings.IndexByte(value, l.letter) >= 0 {
				names = append(names, string(l.flag))
			}
		}
	}
	return mail.NewFlags(names...)
}
