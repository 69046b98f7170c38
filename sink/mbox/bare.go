package mbox

import (
	"bytes"
	"io"
	"strings"

	"mailhaul/internal/mail"
	"mailhaul/internal/mboxrd"
)

// These are added or changed by mail programs that keep their state in the
// mailbox file. RELIABILITY, row E10.
var added = []string{"status", "x-status", "x-uid", "x-keywords", "x-imap", "x-imapbase", "content-length"}

const longestAdded = len("content-length:")

// bare is the digest of a text without such fields, and with CRLF folded.
func (d *digester) bare(rec mboxrd.Record) (sum mail.Digest, err error) {
	d.sum.Reset()
	text := rec.Text()
	b := barer{w: d.sum, head: true, start: true}
	var fold mail.Folder
	var folded []byte
	for {
		n, err := text.Read(d.buf)
		var ferr error
		if folded, _, ferr = fold.Append(folded[:0], d.buf[:n]); ferr != nil {
			return mail.Digest{}, nil // line ends too mixed: it is compared as it is
		}
		b.Write(folded)
		if err == io.EOF {
			break
		}
		if err != nil {
			return sum, err
		}
	}
	folded, _ = fold.Close(folded[:0])
	b.Write(folded)
	b.flush()
	d.sum.Sum(sum[:0])
	return sum, nil
}

// A barer leaves such fields out of the header of what is written through it.
type barer struct {
	w     io.Writer
	head  bool   // in the header
	start bool   // at the start of a line of it
	drop  bool   // in a field that is left out
	name  []byte // the line so far, until it is known what it is
}

func (b *barer) Write(p []byte) {
	for len(p) > 0 && b.head {
		if b.start {
			p = b.begin(p)
			continue
		}
		line := p
		if i := bytes.IndexByte(p, '\n'); i >= 0 {
			line = p[:i+1]
			b.start = true
		}
		if !b.drop {
			b.w.Write(line)
		}
		p = p[len(line):]
	}
	b.w.Write(p)
}

// begin takes the first bytes of a line until they tell its field, and returns
// the rest.
func (b *barer) begin(p []byte) []byte {
	i := 0
	for i < len(p) && len(b.name) < longestAdded {
		c := p[i]
		i++
		b.name = append(b.name, c)
		if c == '\n' || c == ':' || c == ' ' || c == '\t' {
			break
		}
	}
	last := b.name[len(b.name)-1]
	if len(b.name) < longestAdded && last != '\n' && last != ':' && last != ' ' && last != '\t' {
		return p[i:]
	}
	switch c := b.name[0]; {
	case c == '\n':
		b.head = false
		b.drop = false
	case c == ' ' || c == '\t': // RFC 5322, section 2.2.3: it belongs to the line before
	default:
		b.drop = false
		low := strings.ToLower(string(b.name))
		for _, a := range added {
			b.drop = b.drop || low == a+":"
		}
	}
	b.start = last == '\n'
	if !b.drop {
		b.w.Write(b.name)
	}
	b.name = b.name[:0]
	return p[i:]
}

func (b *barer) flush() { b.w.Write(b.name) }
