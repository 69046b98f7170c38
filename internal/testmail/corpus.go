package testmail

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	"mailhaul/internal/mail"
)

// Corpus is every message that has ever hurt a mail program and fits into
// memory. Names are unique; each message arrived a minute after the one before.
func Corpus() []Message {
	var all []Message
	for _, part := range [][]Message{
		ends(), separators(), dots(), lines(), octets(), identities(),
		shapes(), hostile(), structure(),
	} {
		all = append(all, part...)
	}
	for i := range all {
		all[i].Date = Epoch.Add(time.Duration(i) * time.Minute)
		all[i].Flags = flagsInTurn(i)
	}
	return all
}

// Large is a message whose one line is size bytes long. It is made while it is
// read, so size may be more than memory holds.
func Large(size int64) Message {
	head := header("large") + "\r\n"
	const tail = "\r\n"
	return Message{
		Name: fmt.Sprintf("line of %d bytes", size),
		Date: Epoch,
		Size: int64(len(head)) + size + int64(len(tail)),
		Open: func() io.Reader {
			return io.MultiReader(strings.NewReader(head), io.LimitReader(letters{}, size), strings.NewReader(tail))
		},
	}
}

// letters reads as "xxxx" without end.
type letters struct{}

func (letters) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// header is an ordinary one for a message about subject.
func header(subject string) string {
	return "From: Ann <ann@example.org>\r\n" +
		"To: Bob <bob@example.net>\r\n" +
		"Subject: " + subject + "\r\n" +
		"Date: Sun, 14 Mar 2021 15:09:26 +0100\r\n" +
		"Message-ID: <" + strings.ReplaceAll(subject, " ", ".") + "@example.org>\r\n"
}

// about is a message with an ordinary header.
func about(name, body string) Message {
	return Letter(name, []byte(header(name)+"\r\n"+body))
}

// exactly is a message that is nothing but raw.
func exactly(name, raw string) Message { return Letter(name, []byte(raw)) }

// lf turns every CRLF into LF.
func lf(s string) string { return strings.ReplaceAll(s, "\r\n", "\n") }

func ends() []Message {
	return []Message{
		about("ends crlf", "one\r\ntwo\r\n"),
		exactly("ends lf", lf(header("ends lf")+"\r\none\r\ntwo\r\n")),
		exactly("ends mixed", header("ends mixed")+"\none\ntwo\r\nthree\n"),
		exactly("ends lf in header only", lf(header("ends lf in header only"))+"\r\none\r\n"),
		exactly("ends lf in body only", header("ends lf in body only")+"\r\none\ntwo\n"),
		about("ends lone cr", "one\rtwo\rthree\r\n"),
		exactly("ends only cr", "Subject: only cr\r\rbody\r"),
		about("ends cr cr lf", "one\r\r\ntwo\r\r\n"),
		about("ends cr cr cr lf", "one\r\r\r\n\r\r\n"),
		about("ends lf cr", "one\n\rtwo\n\r"),
		about("ends cr at the end", "one\r\ntwo\r"),
		about("ends open", "one\r\ntwo"),
		exactly("ends open lf", lf(header("ends open lf")+"\r\none\r\ntwo")),
		about("ends of many runs", strings.Repeat("a\nb\r\n", 2000)),
		exactly("ends of too many runs", header("ends of too many runs")+"\r\n"+strings.Repeat("a\nb\r\n", mail.MostRuns)),
		about("blank lines behind", "one\r\n\r\n\r\n\r\n"),
		about("blank lines behind and open", "one\r\n\r\n\r\n "),
		about("blank lines only", "\r\n\r\n\r\n"),
		about("blank lines lf behind", "one\r\n\n\n"),
		about("blank lines with blanks", "one\r\n \r\n\t\r\n"),
	}
}

func separators() []Message {
	return []Message{
		about("from in body", "one\r\n\r\nFrom ann@example.org Sun Mar 14 15:09:26 2021\r\nSubject: not a message\r\n\r\nFrom here on\r\n"),
		about("from quoted once", ">From here on\r\n\r\n>From there\r\n"),
		about("from quoted often", ">>From\r\n>>From here\r\n>>>>>>>>From here\r\n"+strings.Repeat(">", 70000)+"From deep\r\n"),
		about("from nearly", "From\r\nfrom here\r\n From here\r\nFrom: here\r\n>from here\r\n> From here\r\n>Fromage\r\n"),
		about("from as the last open line", "one\r\n\r\nFrom here"),
		about("from in every line", strings.Repeat("From x\r\n", 1000)),
		about("from behind lone cr", "one\rFrom here\r\n"),
		about("from behind lf", "one\n\nFrom ann@example.org Sun Mar 14 15:09:26 2021\nFrom \n"),
		exactly("from begins the message", "From ann@example.org Sun Mar 14 15:09:26 2021\r\n"+header("from begins the message")+"\r\nbody\r\n"),
		exactly("from quoted begins the message", ">From ann@example.org Sun Mar 14 15:09:26 2021\r\n"+header("x")+"\r\nbody\r\n"),
		exactly("from in header", header("from in header")+"From nobody Sun Mar 14 15:09:26 2021\r\n>From nobody\r\n\r\nbody\r\n"),
		exactly("from alone", "From "),
		exactly("from folded", "Subject: x\r\n\tFrom here\r\nFrom there\r\n\r\n"),
	}
}

func dots() []Message {
	return []Message{
		about("dots", ".\r\n..\r\n...\r\n.a\r\n. \r\n\r\n.\r\n"),
		about("dot alone lf", "one\n.\ntwo\r\n"),
		about("dot at the open end", "one\r\n."),
		exactly("dot begins the message", ".\r\n"),
		about("dots like commands", ".\r\nQUIT\r\nMAIL FROM:<x>\r\na1 LOGOUT\r\n* BYE\r\n)\r\na1 OK done\r\n{10}\r\n"),
	}
}

func lines() []Message {
	var all []Message
	for _, n := range []int{0, 1, 998, 4095, 4096, 4097, 65536} {
		all = append(all, about(fmt.Sprintf("line of %d", n), strings.Repeat("x", n)+"\r\nlast\r\n"))
	}
	return append(all,
		about("line of 4096 and a dot", strings.Repeat("x", 4096)+".\r\nrest\r\n"),
		about("line of 4096 and from", strings.Repeat("x", 4096)+"From here\r\n"),
		about("line of 65535 and cr", strings.Repeat("x", 65535-len(header("")))+"\r\n\r\n"),
		exactly("header line of 65536", "Subject: "+strings.Repeat("x", 65536)+"\r\n\r\nbody\r\n"),
		about("line of quotes", strings.Repeat(">", 100000)+"\r\n"),
	)
}

func octets() []Message {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	return []Message{
		about("octets nul", "a\x00b\x00\r\n\x00\r\n"),
		exactly("octets nul in header", "Subject: a\x00b\r\nX-\x00: y\r\n\r\nbody\r\n"),
		exactly("octets nul only", "\x00"),
		about("octets all", string(every)+"\r\n"),
		about("octets all backwards", string(backwards(every))),
		about("octets latin1", "Gr\xfc\xdfe aus M\xfcnchen\r\n"),
		exactly("octets latin1 in header", "Subject: Gr\xfc\xdfe\r\nFrom: J\xf6rg <j@example.org>\r\n\r\nbody\r\n"),
		about("octets utf-8", "Größe, 日本語, Ελληνικά, 🎉\r\n"),
		exactly("octets utf-8 in header", "Subject: Größe 日本語 🎉\r\nFrom: Jörg <jörg@example.org>\r\n\r\nbody\r\n"),
		about("octets broken utf-8", "\xff\xfe\xc3\x28\xed\xa0\x80\xf4\x90\x80\x80\r\n"),
		about("octets utf-16", "\xff\xfeF\x00r\x00o\x00m\x00 \x00\n\x00"),
		exactly("octets byte order mark", "\xef\xbb\xbfSubject: x\r\n\r\nbody\r\n"),
		about("octets ctrl-z", "one\r\n\x1a\r\ntwo\x1a"),
		about("octets vertical", "one\vtwo\fthree\u0085four\u2028five\r\n"),
		about("octets unicode line ends", "one\u2028From here\u2029From there\r\n"),
	}
}

func backwards(b []byte) []byte {
	r := bytes.Clone(b)
	for i, c := range b {
		r[len(b)-1-i] = c
	}
	return r
}

// identities are messages that are easily taken for one another.
func identities() []Message {
	const twin = "From: a@example.org\r\nMessage-ID: <twin@example.org>\r\nSubject: twin\r\n\r\n"
	const received = "Received: from %s by mx.example.org; Sun, 14 Mar 2021 15:09:26 +0100\r\n"
	return []Message{
		exactly("identity twin first", twin+"body one\r\n"),
		exactly("identity twin with another body", twin+"body two\r\n"),
		exactly("identity equal first", twin+"equal\r\n"),
		exactly("identity equal second", twin+"equal\r\n"),
		exactly("identity equal but for ends", lf(twin+"equal\r\n")),
		exactly("identity equal but open", twin+"equal"),
		exactly("identity received one", fmt.Sprintf(received, "one.example.org")+twin+"body\r\n"),
		exactly("identity received two", fmt.Sprintf(received, "two.example.org")+twin+"body\r\n"),
		exactly("identity no message-id", "From: a@example.org\r\nSubject: none\r\n\r\nbody\r\n"),
		exactly("identity empty message-id", "Message-ID: \r\nSubject: empty\r\n\r\nbody\r\n"),
		exactly("identity message-id twice", "Message-ID: <one@example.org>\r\nMessage-ID: <two@example.org>\r\n\r\nbody\r\n"),
		exactly("identity message-id folded", "Message-ID:\r\n <folded@example.org>\r\n\r\nbody\r\n"),
		exactly("identity message-id long", "Message-ID: <"+strings.Repeat("x", 5000)+"@example.org>\r\n\r\nbody\r\n"),
		exactly("identity message-id of blanks", "Message-ID: < a b @ c >\r\nmessage-id: \"\r\n\r\nbody\r\n"),
	}
}

// shapes are messages that lack parts.
func shapes() []Message {
	return []Message{
		exactly("shape empty", ""),
		exactly("shape one letter", "x"),
		exactly("shape crlf", "\r\n"),
		exactly("shape lf", "\n"),
		exactly("shape cr", "\r"),
		exactly("shape blank", " "),
		exactly("shape header only", header("header only")),
		exactly("shape header only and open", strings.TrimSuffix(header("open"), "\r\n")),
		exactly("shape header and blank line", header("blank line")+"\r\n"),
		exactly("shape body only", "\r\nbody\r\n"),
		exactly("shape no header", "just a text without any colon\r\nand another line\r\n"),
		exactly("shape bad header", "no colon here\r\n: no name\r\nbad name: x\r\nSubject : blank\r\n\tfolded: x\r\n\r\nbody\r\n"),
		exactly("shape header begins folded", " folded\r\nSubject: x\r\n\r\nbody\r\n"),
		exactly("shape header lost its blank line", "Subject: x\r\nThis is the body already\r\n"),
		exactly("shape blank line of blanks", "Subject: x\r\n \t\r\nbody?\r\n"),
		exactly("shape bad dates", "Date: Thu, 99 Foo 99999 99:99:99 +9999\r\nDate: \r\nReceived: x; never\r\n\r\nbody\r\n"),
		exactly("shape bad addresses", "From: <>\r\nFrom: \"\r\nTo: undisclosed-recipients:;\r\nReturn-Path: <evil\tFrom x>\r\n\r\nbody\r\n"),
	}
}

// hostile are messages whose header speaks to mail programs and terminals
// instead of readers.
func hostile() []Message {
	return []Message{
		exactly("hostile status", "Status: RO\r\nX-Status: AFT\r\nX-Keywords: evil\r\nX-UID: 1\r\nSubject: x\r\n\r\nbody\r\n"),
		exactly("hostile content-length", "Content-Length: 4\r\nSubject: x\r\n\r\nFrom me on\r\nthe rest is longer\r\n"),
		exactly("hostile content-length beyond", "Content-Length: 99999999999\r\nContent-Length: -1\r\n\r\nbody\r\n"),
		exactly("hostile imap base", "X-IMAP: 1234567890 0000000099\r\nX-IMAPbase: 1 2\r\nSubject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\r\n\r\nbody\r\n"),
		exactly("hostile mozilla status", "X-Mozilla-Status: 0009\r\nX-Mozilla-Status2: 00000000\r\nX-Gmail-Labels: \\Trash\r\n\r\nbody\r\n"),
		exactly("hostile terminal escapes", "Subject: \x1b]0;owned\x07\x1b[2J\x1b[31mred\x1b[0m\x9b2J\r\nFrom: \x1bc <a@example.org>\r\n\r\n\x1b[2J\r\n"),
		exactly("hostile bidi", "Subject: \u202egnp.exe\u202c \u2066x\u2069 \ufeff\r\n\r\nbody\r\n"),
		exactly("hostile encoded word", "Subject: =?utf-8?B?DQpGcm9tIGV2aWw=?= =?x?Q?=00=1B?= =?utf-8?B?!!?=\r\n\r\nbody\r\n"),
		exactly("hostile sender", "Return-Path: <x>\nFrom evil Sun Mar 14 15:09:26 2021\r\nSubject: x\r\n\r\nbody\r\n"),
		exactly("hostile control message", "Control: cmsg\r\nX-Evolution: 00000001-0010\r\nLines: 0\r\nBytes: 0\r\n\r\nbody\r\n"),
		exactly("hostile separator of babyl", "\x1f\x0c\n0, unseen,,\n*** EOOH ***\nSubject: x\n\n\x01\x01\x01\x01\n"),
	}
}

// structure are messages that are deep or broad.
func structure() []Message {
	var many strings.Builder
	for i := range 10000 {
		fmt.Fprintf(&many, "X-Header-%d: %d\r\n", i, i)
	}
	return []Message{
		exactly("structure 10000 headers", many.String()+"\r\nbody\r\n"),
		exactly("structure 10000 received", strings.Repeat("Received: from a by b; Sun, 14 Mar 2021 15:09:26 +0100\r\n", 10000)+"\r\nbody\r\n"),
		exactly("structure folded 10000 times", "Subject: x\r\n"+strings.Repeat(" x\r\n", 10000)+"\r\nbody\r\n"),
		exactly("structure nested 1000 times", nested(1000)),
		exactly("structure multipart without end", "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n--b\r\nContent-Type: text/plain\r\n"),
		exactly("structure multipart without boundary", "MIME-Version: 1.0\r\nContent-Type: multipart/mixed\r\n\r\n--\r\n\r\none\r\n"),
		exactly("structure message in message", header("outer")+"Content-Type: message/rfc822\r\n\r\n"+header("inner")+"\r\nFrom here\r\n"),
		exactly("structure bad encodings", "Content-Transfer-Encoding: x-uuencode\r\nContent-Type: text/plain; charset=\"nothing\r\n\r\n=\r\n=ZZ\r\n====\r\n"),
		exactly("structure binary", "Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"),
	}
}

// nested is a multipart in a multipart, n levels deep.
func nested(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	b.WriteString("\r\ninnermost\r\n")
	for i := n - 1; i >= 0; i-- {
		fmt.Fprintf(&b, "--b%d--\r\n", i)
	}
	return b.String()
}

// flagsInTurn gives message i some flags, so that every usual set occurs.
func flagsInTurn(i int) mail.Flags {
	sets := []mail.Flags{
		nil,
		mail.NewFlags(`\Seen`),
		mail.NewFlags(`\Seen`, `\Answered`),
		mail.NewFlags(`\Flagged`),
		mail.NewFlags(`\Draft`),
		mail.NewFlags(`\Seen`, `\Deleted`),
		mail.NewFlags("$Forwarded", `\Seen`),
		mail.NewFlags("Work", "later", "$Junk"),
	}
	return sets[i%len(sets)]
}
