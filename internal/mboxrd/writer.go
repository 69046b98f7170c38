package mboxrd

import (
	"io"
	"strings"
	"time"

	gombox "github.com/emersion/go-mbox"

	"mailhaul/internal/mail"
)

// A Writer writes records, one after the other: Begin, any number of Write,
// End. It makes many small writes; w should be buffered.
type Writer struct {
	frame frame
	mbox  *gombox.Writer
	quote quoter
	plain bool   // the text needs no quoting
	held  bool   // the text's last LF so far is held back
	empty bool   // the record has no text yet
	look  []byte // the beginning of the text while it may be a status block
	looks bool
}

// A frame lies between go-mbox's Writer and the file.
type frame struct {
	w     io.Writer
	short bool // drop the first byte of what comes
}

func (f *frame) Write(p []byte) (int, error) {
	n := len(p)
	if f.short && n > 0 {
		f.short = false
		p = p[1:]
	}
	if len(p) == 0 {
		return n, nil
	}
	if _, err := f.w.Write(p); err != nil {
		return 0, err
	}
	return n, nil
}

// NewWriter makes a Writer that writes to w.
func NewWriter(w io.Writer) *Writer {
	return &Writer{frame: frame{w: w}, quote: quoter{w: w}}
}

// Begin writes a separator line. The sender may be empty or anything else; a
// date that is zero, or that the form cannot hold, becomes the start of 1970.
func (w *Writer) Begin(sender string, date time.Time) error {
	if y := date.UTC().Year(); date.IsZero() || y < 1000 || y > 9999 {
		date = time.Unix(0, 0)
	}
	w.mbox = gombox.NewWriter(&w.frame)
	w.quote.reset()
	w.plain, w.held, w.empty = false, false, true
	w.look, w.looks = w.look[:0], true
	_, err := w.mbox.CreateMessage(Sender(sender), date)
	return err
}

// Status writes a status block for flags. It is called right after Begin or
// not at all.
func (w *Writer) Status(flags mail.Flags) error {
	w.looks = false // a block in front is there now
	return w.text(appendStatus(nil, flags))
}

// Plain tells, before the first Write, whether the text is known to have no line
// that begins with "From " behind any number of ">". Looking for them costs more
// than the rest of writing.
func (w *Writer) Plain(plain bool) { w.plain = plain }

// Write takes the text of the message in pieces of any size.
func (w *Writer) Write(p []byte) (int, error) {
	n := len(p)
	if w.looks && n > 0 {
		took, err := w.peek(p)
		if err != nil || took == n {
			return took, err
		}
		p = p[took:]
	}
	return n, w.text(p)
}

// peek holds the beginning of a text back for as long as it may be a status
// block, which needs another one in front. Nearly every text is let through by
// its first bytes. It tells how much of p it took.
func (w *Writer) peek(p []byte) (int, error) {
	if len(w.look) == 0 {
		if n, more := statusBlock(p); n == 0 && !more {
			w.looks = false
			return 0, nil
		}
	}
	took := min(len(p), MostStatus-len(w.look))
	w.look = append(w.look, p[:took]...)
	n, more := statusBlock(w.look)
	if more {
		return took, nil
	}
	w.looks = false
	if n > 0 {
		if err := w.text(appendStatus(nil, nil)); err != nil {
			return 0, err
		}
	}
	return took, w.text(w.look)
}

// text writes p but for a line end at its end.
func (w *Writer) text(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if w.held {
		if err := w.quoted(lineEnd); err != nil {
			return err
		}
	}
	w.empty = false
	if w.held = p[len(p)-1] == '\n'; w.held {
		p = p[:len(p)-1]
	}
	return w.quoted(p)
}

func (w *Writer) quoted(p []byte) error {
	if w.plain {
		_, err := w.frame.w.Write(p)
		return err
	}
	return w.quote.write(p)
}

var lineEnd = []byte{'\n'}

// End ends the record: go-mbox writes the line end held back and the empty
// line.
func (w *Writer) End() error {
	if w.looks {
		w.looks = false
		if err := w.text(w.look); err != nil {
			return err
		}
	}
	if err := w.quote.flush(); err != nil {
		return err
	}
	// A record without text is a separator and an empty line; go-mbox would
	// end it with a line too many.
	w.frame.short = w.empty
	return w.mbox.Close()
}

// Sender makes s fit for a separator line, where it is one word: control
// characters and blanks become "-".
func Sender(s string) string {
	if s == "" {
		return "MAILER-DAEMON"
	}
	const most = 256
	if len(s) > most {
		s = s[:most]
	}
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f || r >= 0x80 && r <= 0xa0 || r == 0x2028 || r == 0x2029 {
			return '-'
		}
		return r
	}, s)
}
