package sinktest

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"mailhaul/internal/mail"
	"mailhaul/internal/spool"
	"mailhaul/internal/testmail"
	"mailhaul/sink"
)

var epoch = time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)

// letter makes a message of the bytes that were received.
func letter(name, raw string, flags string) *sink.Message {
	var fold mail.Folder
	text, _, err := fold.Append(nil, []byte(raw))
	ends := mail.Ends{Kind: mail.EndsKept}
	if err != nil {
		text = []byte(raw)
		if text[len(text)-1] != '\n' {
			text = append(text, '\n')
			ends.Open = true
		}
	} else {
		text, ends = fold.Close(text)
	}
	m := &sink.Message{
		Want: sink.Want{
			Name:   name,
			Digest: digest(text),
			Text:   int64(len(text)),
			Lines:  int64(bytes.Count(text, []byte("\n"))),
			Date:   epoch.Add(time.Duration(len(raw)) * time.Minute),
			Sender: "ann@example.org",
			Flags:  mail.ParseFlags(flags),
		},
		Ends: ends,
		Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil },
	}
	spool.Describe(&m.Want, text)
	return m
}

// few makes n ordinary messages.
func few(t *testing.T, name string, n int) []*sink.Message {
	ms := make([]*sink.Message, n)
	for i := range ms {
		ms[i] = letter(fmt.Sprintf("%s-%d", strings.ReplaceAll(name, " ", "."), i),
			fmt.Sprintf("Subject: %s\r\n\r\n%s\r\nFrom here on %d\r\n", name, strings.Repeat("line\r\n", i), i), "")
	}
	return ms
}

// messages is everything nasty: what could be mistaken for framing, what has
// odd ends, and testmail's collection.
func messages(t *testing.T) []*sink.Message {
	long := strings.Repeat("0123456789abcdef", 1<<16)
	var all []*sink.Message
	for i, raw := range []string{
		"", "\n", "\r\n", "\r", "x", "\x00", "\r\n\r\n\r\n", "\n\n\n",
		"From \r\n", "From x Sat Jan  3 01:05:34 1996\r\n\r\nFrom y Sat Jan  3 01:05:34 1996\r\n",
		"a\r\n\r\nFrom x Sat Jan  3 01:05:34 1996\r\n\r\nb\r\n", ">From \r\n>>From \r\n", ">>>", "From", "Fro\r\n>",
		"a\r\r\nb\rc\n\r\n", "a\nb\r\nc", ".\r\n..\r\n", long, long + "\r\n", "\r\n" + long + "\r\nFrom " + long,
		strings.Repeat("\r\n", 70_000), strings.Repeat(">", 300_000) + "From x\r\n", strings.Repeat("From x\r\n", 40_000),
		strings.Repeat("x\n\r\n", mail.MostRuns),
		"Status: RO\r\nX-Status: A\r\nX-Keywords: b\r\n\r\nc\r\n", "Status: \r\nX-Status: \r\nX-Keywords: \r\n", "Status: RO\r\n", "Status: ",
	} {
		flags := []string{"", `\Seen`, `\Answered \Seen Work`, "$Junk", `\Draft \Flagged \Deleted $Forwarded`}[i%5]
		all = append(all, letter(fmt.Sprintf("n%d", i), raw, flags))
	}
	for i, m := range testmail.Corpus() {
		if m.Size <= 4<<20 {
			c := letter(fmt.Sprintf("c%d", i), string(m.Raw()), m.Flags.Key())
			c.Date = m.Date
			all = append(all, c)
		}
	}
	for i, m := range all {
		switch i % 7 {
		case 1:
			m.Sender = ""
		case 2:
			m.Sender = "two words\nFrom x"
		case 3: // a body from a file, in pieces
			read := m.Open
			m.Open = func() (io.ReadCloser, error) {
				r, err := read()
				return struct{ io.ReadCloser }{r}, err
			}
		}
	}
	return all
}
