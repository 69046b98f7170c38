package mboxrd

import (
	"bytes"
	"errors"
	"io"
	"iter"

	"time"

	"mailhaul/internal/mail"
)

// A Record is one message in a mailbox file.
type Record struct {
	Offset, Length int64 // from its separator to its empty line, both included

	Sender string
	Date   time.Time
	Flags  mail.Flags // of its status block
	Status bool       // it has one

	// Whole says that it ends in an empty line, as every record does that was
	// written to its end.
	Whole bool

	// Stray says that this is no message at all, but bytes before the first
	// separator.
	Stray bool

	r        io.ReaderAt
	from, to int64 // of the text, quoted
}

// ErrNone says that there is no such record: the file was changed.
var ErrNone = errors.New("no message begins there")

// Text reads the text form of the message.
func (r Record) Text() io.Reader {
	return &unquoter{r: io.NewSectionReader(r.r, r.from, r.to-r.from)}
}

// Cut gives the record that ends behind so many bytes of text, as if the
// separator of another one followed there. It reports false when no empty line
// does. So a whole message is told from what a process that died, or a power
// cut, has left behind it.
func (r Record) Cut(text int64) (Record, bool, error) {
	var quoted count
	q := quoter{w: &quoted, start: true}
	n, err := io.Copy(writer(q.write), io.LimitReader(r.Text(), text))
	if err == nil {
		err = q.flush()
	}
	if err != nil || n < text {
		return r, false, err
	}
	r.to = r.from + int64(quoted)
	r.Length = r.to + 1 - r.Offset
	var end [1]byte
	if _, err := r.r.ReadAt(end[:], r.to); err != nil && err != io.EOF {
		return r, false, err
	}
	r.Whole = end[0] == '\n'
	return r, r.Whole, nil
}

// A count counts what is written to it.
type count int64

func (c *count) Write(p []byte) (int, error) {
	*c += count(len(p))
	return len(p), nil
}

type writer func(p []byte) error

func (w writer) Write(p []byte) (int, error) { return len(p), w(p) }

// Raw reads the record as it lies in the file.
func (r Record) Raw() io.Reader { return io.NewSectionReader(r.r, r.Offset, r.Length) }

// At gives the record at a place that is known. It is ErrNone when there is no
// separator at the start or no line end at the end.
func At(r io.ReaderAt, offset, length int64) (Record, error) {
	rec := Record{Offset: offset, Length: length, r: r}
	var buf [mostSeparator]byte
	line, err := rec.separator(r, buf[:])
	switch {
	case err != nil:
		return Record{}, err
	case line == 0 || int64(line) > length:
		return Record{}, ErrNone
	}
	return rec, rec.body(r, line)
}

// separator reads the line that the record begins with and tells how long it
// is, or 0 when it is no separator.
func (r *Record) separator(file io.ReaderAt, buf []byte) (int, error) {
	n, err := file.ReadAt(buf, r.Offset)
	if err != nil && err != io.EOF {
		return 0, err
	}
	end := bytes.IndexByte(buf[:n], '\n')
	if end < 0 {
		return 0, nil
	}
	var ok bool
	if r.Sender, r.Date, ok = parseSeparator(buf[:end]); !ok {
		return 0, nil
	}
	return end + 1, nil
}

// body finds where the text lies behind a separator of that length.
func (r *Record) body(file io.ReaderAt, line int) error {
	r.from, r.to = r.Offset+int64(line), r.Offset+r.Length
	var end [2]byte
	if _, err := file.ReadAt(end[:], r.to-2); err != nil && err != io.EOF {
		return err
	}
	if r.Whole = string(end[:]) == "\n\n" && r.to > r.from; r.Whole {
		r.to--
	}
	// Most texts are told by their first bytes.
	for _, look := range []int64{int64(len(statusFields[0])), MostStatus} {
		head := make([]byte, min(look, r.to-r.from))
		n, err := file.ReadAt(head, r.from)
		if err != nil && err != io.EOF {
			return err
		}
		block, more := statusBlock(head[:n])
		if block > 0 {
			r.Status, r.Flags = true, parseStatus(head[:block])
			r.from += int64(block)
		}
		if !more {
			break
		}
	}
	return nil
}

// Walk yields the records between two offsets of a file, the first of which is
// the start of the file or the end of a record.
func Walk(r io.ReaderAt, from, to int64) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		w := walker{r: r, at: from, to: to, buf: make([]byte, min(to-from+1, 256<<10))}
		rec, line, err := w.first()
		for err == nil && rec.Offset < to {
			var next Record
			var nextLine int
			if next, nextLine, err = w.next(rec.Offset + int64(line)); err != nil {
				break
			}
			rec.Length = next.Offset - rec.Offset
			if rec.Stray {
				rec.from, rec.to = rec.Offset, next.Offset
			} else if err = rec.body(&w, line); err != nil {
				break
			}
			if !yield(rec, nil) {
				return
			}
			rec, line = next, nextLine
		}
		if err != nil {
			yield(Record{}, err)
		}
	}
}

// A walker finds separators.
type walker struct {
	r      io.ReaderAt
	at, to int64 // buf[:n] lies at at
	n      int
	buf    []byte
	line   [mostSeparator]byte
}

// ReadAt reads from the buffer what lies there.
func (w *walker) ReadAt(p []byte, at int64) (int, error) {
	if at >= w.at && at+int64(len(p)) <= w.at+int64(w.n) {
		return copy(p, w.buf[at-w.at:w.n]), nil
	}
	return w.r.ReadAt(p, at)
}

// first finds what the range begins with: a separator, perhaps behind the line
// ends that an unfinished file lacked before we wrote to it, or stray bytes.
func (w *walker) first() (Record, int, error) {
	var lead [2]byte
	n, err := w.r.ReadAt(lead[:min(2, w.to-w.at)], w.at)
	if err != nil && err != io.EOF {
		return Record{}, 0, err
	}
	for skip := range n + 1 {
		if skip > 0 && lead[skip-1] != '\n' {
			break
		}
		rec := Record{Offset: w.at + int64(skip), r: w.r}
		if line, err := w.separator(&rec); err != nil || line > 0 {
			return rec, line, err
		}
	}
	return Record{Offset: w.at, r: w.r, Stray: true}, 0, nil
}

func (w *walker) separator(rec *Record) (int, error) {
	line, err := rec.separator(w, w.line[:])
	if rec.Offset+int64(line) > w.to {
		line = 0
	}
	return line, err
}

var boundary = []byte("\n\nFrom ")

// next finds the first separator behind an offset, which lies right behind
// another one, or the end.
func (w *walker) next(from int64) (Record, int, error) {
	// The separator's own line end can be the first of the two.
	at := max(from-1, 0)
	for {
		if at < w.at || at+int64(len(boundary)) > w.at+int64(w.n) {
			if done, err := w.fill(at); err != nil || done {
				return Record{Offset: w.to, r: w.r}, 0, err
			}
		}
		have := w.buf[at-w.at : w.n]
		k := bytes.Index(have, boundary)
		if k < 0 {
			at += int64(len(have) - len(boundary) + 1)
			continue
		}
		at += int64(k)
		rec := Record{Offset: at + 2, r: w.r}
		if line, err := w.separator(&rec); err != nil || line > 0 {
			return rec, line, err
		}
		at += 2
	}
}

// fill reads on from an offset and reports whether too little is left there
// for a separator.
func (w *walker) fill(at int64) (done bool, err error) {
	if at+int64(len(boundary)) > w.to {
		return true, nil
	}
	n, err := w.r.ReadAt(w.buf[:min(int64(len(w.buf)), w.to-at)], at)
	if err == io.EOF {
		err = nil
	}
	w.at, w.n = at, n
	return n < len(boundary), err
}
