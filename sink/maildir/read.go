package maildir

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"iter"
	"os"

	"mailhaul/internal/durable"
	"mailhaul/internal/mail"
	"mailhaul/internal/maildirname"
	"mailhaul/sink"
)

// Read implements sink.Reader.
func (f *folder) Read(ctx context.Context, at sink.Place) (io.ReadCloser, error) {
	body, _, err := f.store.open(string(at))
	if err != nil {
		return nil, durable.Fail("read", mail.ScopeMessage, err)
	}
	return &text{f: body}, ctx.Err()
}

// Look implements sink.Looker. The file of a message whose last line came
// without an end is a byte shorter than its text form.
func (f *folder) Look(ctx context.Context, at sink.Place, text int64) error {
	_, fi, err := f.store.find(string(at))
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%s: %w", f.store.dir.Path(string(at)), errNoMail)
	}
	if err == nil && fi.Size() != text && fi.Size() != text-1 {
		err = fmt.Errorf("its file has %d bytes, stored were %d", fi.Size(), text)
	}
	if err != nil {
		return durable.Fail("look", mail.ScopeMessage, err)
	}
	return ctx.Err()
}

// A text reads a file as a text form: a last line without an end gets one.
type text struct {
	f    *os.File
	open bool // the last byte given out was no LF
	done bool
}

func (t *text) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if !t.done {
		n, err := t.f.Read(p)
		if n > 0 {
			t.open = p[n-1] != '\n'
		}
		if err != io.EOF {
			return n, err
		}
		t.done = true
		if n > 0 {
			return n, nil
		}
	}
	if t.open {
		t.open = false
		p[0] = '\n'
		return 1, nil
	}
	return 0, io.EOF
}

func (t *text) Close() error { return t.f.Close() }

// A digester takes digests of files, one after the other.
type digester struct {
	sum    hash.Hash
	buf    []byte
	folded []byte
}

func newDigester() *digester { return &digester{sum: sha256.New(), buf: make([]byte, 128<<10)} }

// A file as it was read.
type seen struct {
	sum   mail.Digest
	size  int64 // of the text form
	lines int64
	crlf  bool // it has lines that end in CRLF
}

// text reads a file as what we have stored.
func (d *digester) text(f *os.File) (s seen, err error) {
	d.sum.Reset()
	r := text{f: f}
	cr := false // the last piece ended in a CR
	for {
		n, err := r.Read(d.buf)
		p := d.buf[:n]
		d.sum.Write(p)
		s.size += int64(n)
		s.lines += int64(bytes.Count(p, lineEnd))
		s.crlf = s.crlf || n > 0 && cr && p[0] == '\n' || bytes.Contains(p, []byte("\r\n"))
		if n > 0 {
			cr = p[n-1] == '\r'
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return s, err
		}
	}
	d.sum.Sum(s.sum[:0])
	return s, nil
}

// foreign reads a file as mail that another program has stored with CRLF. The
// digest is zero when its line ends are too mixed to be folded.
func (d *digester) foreign(f *os.File) (sum mail.Digest, err error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return sum, err
	}
	d.sum.Reset()
	var fold mail.Folder
	for {
		n, err := f.Read(d.buf)
		var mixed error
		if d.folded, _, mixed = fold.Append(d.folded[:0], d.buf[:n]); mixed != nil {
			return sum, nil
		}
		d.sum.Write(d.folded)
		if err == io.EOF {
			break
		}
		if err != nil {
			return sum, err
		}
	}
	d.folded, _ = fold.Close(d.folded[:0])
	d.sum.Write(d.folded)
	d.sum.Sum(sum[:0])
	return sum, nil
}

// Scan implements sink.Scanner.
func (f *folder) Scan(ctx context.Context, full bool) iter.Seq2[sink.Found, error] {
	return func(yield func(sink.Found, error) bool) {
		words, err := f.store.keywords()
		read := newDigester()
		for _, p := range parts {
			if err != nil {
				break
			}
			err = f.store.each(p.name, func(part *durable.Dir, name string) error {
				if err := ctx.Err(); err != nil {
					return err
				}
				found, err := f.look(part, name, words, full, read)
				if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNoMail) {
					return nil // gone while we looked, or none of a Maildir's files
				}
				if err == nil && !yield(found, nil) {
					return errStop
				}
				return err
			})
		}
		if err != nil && err != errStop {
			yield(sink.Found{}, durable.Fail("scan", mail.ScopeFolder, err))
		}
	}
}

var (
	errStop   = errors.New("nobody wants more")
	errNoMail = errors.New("is not a plain file")
)

// look tells of one file of a part of the Maildir. One that another program
// renames meanwhile is found under its new name.
func (f *folder) look(part *durable.Dir, file string, words maildirname.Keywords, full bool, read *digester) (found sink.Found, err error) {
	fi, err := part.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		if file, fi, err = f.store.find(maildirname.Unique(file)); err == nil {
			part, file = nil, file[len("cur/"):]
		}
	}
	if err != nil {
		return found, err
	}
	if !fi.Mode().IsRegular() {
		return found, errNoMail
	}
	name := maildirname.Parse(file)
	open := func() (*os.File, error) {
		if part != nil {
			if body, err := part.Read(file); !errors.Is(err, fs.ErrNotExist) {
				return body, err
			}
		}
		body, _, err := f.store.open(name.Unique)
		return body, err
	}
	found = sink.Found{Place: sink.Place(name.Unique), Size: fi.Size(), Date: fi.ModTime(), Flags: name.Flags(words)}
	found.Open = func() (io.ReadCloser, error) {
		body, err := open()
		if err != nil {
			return nil, durable.Fail("read", mail.ScopeMessage, err)
		}
		return &text{f: body}, nil
	}
	if !full {
		return found, nil
	}
	body, err := open()
	if err != nil {
		return found, err
	}
	defer body.Close()
	s, err := read.text(body)
	if err != nil {
		return found, err
	}
	found.Digest, found.Size, found.Lines = s.sum, s.size, s.lines
	if s.crlf {
		if found.Other, err = read.foreign(body); found.Other == found.Digest {
			found.Other = mail.Digest{}
		}
	}
	return found, err
}
