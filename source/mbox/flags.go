package mbox

import (
	"strconv"
	"strings"

	"mailhaul/internal/mail"
)

// What Thunderbird writes as X-Mozilla-Status (nsMsgMessageFlags).
const (
	mozillaRead      = 0x0001
	mozillaReplied   = 0x0002
	mozillaMarked    = 0x0004
	mozillaExpunged  = 0x0008
	mozillaForwarded = 0x1000
)

// statusFlags reads the flags that other mail programs keep in headers. A
// sender can write such headers too, so they are looked at on request only.
func statusFlags(m *message) []string {
	var names []string
	for _, l := range []struct {
		field  int
		letter string
		flag   mail.Flag
	}{
		{status, "R", mail.Seen},
		{xStatus, "A", mail.Answered},
		{xStatus, "F", mail.Flagged},
		{xStatus, "T", mail.Draft},
		{xStatus, "D", mail.Deleted},
	} {
		if strings.Contains(m.fields[l.field], l.letter) {
			names = append(names, string(l.flag))
		}
	}
	if bits, err := strconv.ParseUint(m.fields[mozillaStatus], 16, 32); err == nil {
		for _, b := range []struct {
			bit  uint64
			flag mail.Flag
		}{
			{mozillaRead, mail.Seen},
			{mozillaReplied, mail.Answered},
			{mozillaMarked, mail.Flagged},
			{mozillaExpunged, mail.Deleted},
			{mozillaForwarded, mail.Forwarded},
		} {
			if bits&b.bit != 0 {
				names = append(names, string(b.flag))
			}
		}
	}
	for _, i := range []int{xKeywords, mozillaKeys} {
		for _, word := range strings.Fields(m.fields[i]) {
			if word[0] != '\\' && strings.IndexFunc(word, func(r rune) bool { return r < '!' || r > '~' }) < 0 {
				names = append(names, word)
			}
		}
	}
	return names
}
