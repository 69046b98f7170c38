package testmail

import (
	"encoding/base64"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"mailhaul/internal/mail"
)

// Generate yields n ordinary mails as people get them: short ones mostly, some
// with attachments, sizes log-normal from half a kilobyte to some megabytes
// with a median of about five kilobytes. They arrived over the years since
// Epoch, in order. Message i of a seed is the same whatever n is; equal seeds
// give equal mails and others different ones. Making one costs little more
// than copying it.
func Generate(seed uint64, n int) iter.Seq[Message] {
	return func(yield func(Message) bool) {
		when := Epoch
		for i := range n {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			when = when.Add(time.Duration(r.IntN(3*3600)+1) * time.Second)
			m := ordinary(r, seed, i, when)
			if !yield(m) {
				return
			}
		}
	}
}

func ordinary(r *rand.Rand, seed uint64, i int, when time.Time) Message {
	from, to := people[r.IntN(len(people))], people[r.IntN(len(people))]
	subject := subjects[r.IntN(len(subjects))]
	size := int(math.Exp(r.NormFloat64()*1.6 + math.Log(4500)))
	size = min(size, 4<<20)

	b := make([]byte, 0, size+2048)
	b = fmt.Appendf(b, "Return-Path: <%s>\r\nReceived: from mail.example.org by mx.example.net with ESMTPS id %x;\r\n\t%s\r\n", from.address, r.Uint64(), when.Format(time.RFC1123Z))
	b = fmt.Appendf(b, "From: %s <%s>\r\nTo: %s <%s>\r\nSubject: %s\r\nDate: %s\r\n", from.name, from.address, to.name, to.address, subject, when.Format(time.RFC1123Z))
	b = fmt.Appendf(b, "Message-ID: <%x.%d.%x@example.org>\r\nMIME-Version: 1.0\r\n", seed, i, r.Uint32())
	if size < 8000 {
		b = append(b, "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"...)
		b = prose(b, r, size)
	} else {
		b = withAttachment(b, r, size)
	}
	m := Letter(fmt.Sprintf("ordinary %d", i), b)
	m.Date = when
	m.Flags = usualFlags(r)
	return m
}

func withAttachment(b []byte, r *rand.Rand, size int) []byte {
	name := attachments[r.IntN(len(attachments))]
	b = append(b, "Content-Type: multipart/mixed; boundary=\"=_part\"\r\n\r\n--=_part\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"...)
	b = prose(b, r, 300+r.IntN(1200))
	b = fmt.Appendf(b, "\r\n--=_part\r\nContent-Type: application/octet-stream\r\nContent-Disposition: attachment; filename=%q\r\nContent-Transfer-Encoding: base64\r\n\r\n", name)
	noise := block()
	// A first line of its own makes attachments differ where the block, cut at
	// the same line, would make them equal.
	b = fmt.Appendf(b, "%016X\r\n", r.Uint64())
	for left := size; left > 0; {
		from := r.IntN(len(noise)/base64Line) * base64Line
		piece := noise[from:min(len(noise), from+(left+base64Line)/base64Line*base64Line)]
		b = append(b, piece...)
		left -= len(piece)
	}
	return append(b, "--=_part--\r\n"...)
}

// prose appends about size bytes of paragraphs.
func prose(b []byte, r *rand.Rand, size int) []byte {
	for end := len(b) + size; len(b) < end; {
		line := sentences[r.IntN(len(sentences))]
		b = append(b, line...)
		b = append(b, "\r\n"...)
		if r.IntN(6) == 0 {
			b = append(b, "\r\n"...)
		}
	}
	return b
}

const base64Line = 78 // 76 letters and CRLF

// block is a quarter of a megabyte of base64 in lines, made once: attachments
// are cut from it.
var block = sync.OnceValue(func() []byte {
	r := rand.NewChaCha8([32]byte{'m', 'a', 'i', 'l'})
	raw := make([]byte, 57)
	var b strings.Builder
	for b.Len() < 256<<10 {
		r.Read(raw)
		b.WriteString(base64.StdEncoding.EncodeToString(raw))
		b.WriteString("\r\n")
	}
	return []byte(b.String())
})

func usualFlags(r *rand.Rand) mail.Flags {
	var f []string
	if r.IntN(5) > 0 {
		f = append(f, `\Seen`)
	}
	if r.IntN(4) == 0 {
		f = append(f, `\Answered`)
	}
	if r.IntN(15) == 0 {
		f = append(f, `\Flagged`)
	}
	if r.IntN(20) == 0 {
		f = append(f, "$Forwarded")
	}
	return mail.NewFlags(f...)
}

var people = []struct{ name, address string }{
	{"Ann Example", "ann@example.org"},
	{"Bob Builder", "bob@example.net"},
	{"=?utf-8?Q?J=C3=B6rg_M=C3=BCller?=", "joerg@example.de"},
	{"=?utf-8?B?5bGx55Sw5aSq6YOO?=", "taro@example.jp"},
	{"\"O'Neil, Pat\"", "pat@example.com"},
	{"Build Robot", "noreply@ci.example.org"},
	{"The Gophers", "list@lists.example.org"},
}

var subjects = []string{
	"Lunch on Friday?",
	"Re: Lunch on Friday?",
	"Invoice 2021-0314",
	"Minutes of the meeting",
	"Fwd: Photos from the lake",
	"[list] New release",
	"Build failed: main",
	"=?utf-8?Q?Gr=C3=B6=C3=9Fe_und_Ma=C3=9Fe?=",
	"=?utf-8?B?5Lya6K2w44Gu44GK55+l44KJ44Gb?=",
	"=?utf-8?B?8J+OiQ==?= It's a party",
	"Your order has been sent",
	"(no subject)",
}

var attachments = []string{"report.pdf", "photo.jpg", "minutes.odt", "backup.zip", "voice.ogg"}

var sentences = []string{
	"Hello,",
	"thank you for your message of last week; I have read it with pleasure.",
	"From here on we should go by train, it is faster and we can talk.",
	">From what I hear the old place has closed.",
	"Die Größe stimmt, aber die Maße passen noch nicht.",
	"会議は金曜日の午後三時からです。",
	"> On Sunday you wrote:",
	"> > and before that somebody else",
	"Please find the numbers attached. They are better than expected.",
	".. and so on, as always.",
	"See you on Friday 🎉",
	"-- ",
	"Kind regards",
}
