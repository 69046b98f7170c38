package mboxrd

import (
	"bytes"
	"strings"
	"time"
)

// mostSeparator is how long a separator line may be.
const mostSeparator = 1024

// Other programs write a zone before or behind the year, leave the seconds
// out, or write the date as in a header.
var separatorDates = []string{
	"Mon Jan 2 15:04:05 2006",
	"Mon Jan 2 15:04:05 MST 2006",
	"Mon Jan 2 15:04:05 -0700 2006",
	"Mon Jan 2 15:04:05 2006 -0700",
	"Mon Jan 2 15:04:05 2006 MST",
	"Mon Jan 2 15:04 2006",
	"Mon Jan 2 15:04 MST 2006",
	"Mon, 2 Jan 2006 15:04:05 -0700",
	"Mon, 2 Jan 2006 15:04:05 MST",
}

// parseSeparator takes a line apart, without its end. A line without a date is
// no separator: people write "From here on ..." behind an empty line. Nor is
// one with a zero byte, as a power cut may leave it.
func parseSeparator(line []byte) (sender string, date time.Time, ok bool) {
	if !bytes.HasPrefix(line, from) || bytes.IndexByte(line, 0) >= 0 {
		return "", date, false
	}
	line = bytes.TrimSuffix(line[len(from):], []byte("\r"))
	// Ours, and nearly all others.
	if n := len(line) - len(time.ANSIC); n > 0 && line[n-1] == ' ' {
		if date, err := time.Parse(time.ANSIC, string(line[n:])); err == nil {
			return string(bytes.TrimRight(line[:n], " ")), date, true
		}
	}
	words := strings.Fields(string(line))
	for i, w := range words {
		if len(w) < 3 || len(w) > 4 || len(words)-i < 5 || !weekday(w) {
			continue
		}
		text := strings.Join(words[i:], " ")
		text, _, _ = strings.Cut(text, " remote from ")
		for _, layout := range separatorDates {
			if date, err := time.Parse(layout, text); err == nil {
				return strings.Join(words[:i], " "), date.UTC(), true
			}
		}
	}
	return "", date, false
}

func weekday(w string) bool {
	switch strings.TrimSuffix(w, ",") {
	case "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun":
		return true
	}
	return false
}

// Separator takes a separator line apart, without its end, for readers of
// other dialects. It reports false for a line without a date in one of the
// forms that mail programs write.
func Separator(line []byte) (sender string, date time.Time, ok bool) { return parseSeparator(line) }
