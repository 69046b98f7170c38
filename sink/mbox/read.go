package mbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"strconv"
	"strings"

	"mailhaul/internal/durable"
	"mailhaul/internal/mail"
	"mailhaul/internal/mboxrd"
	"mailhaul/sink"
)

// Read implements sink.Reader.
func (f *folder) Read(ctx context.Context, at sink.Place) (io.ReadCloser, error) {
	rec, err := f.at(at)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(rec.Text()), ctx.Err()
}

// open reads a record that was just found. One without its empty line is none of ours.
func (f *folder) open(rec mboxrd.Record) (io.ReadCloser, error) {
	if !rec.Whole {
		return nil, f.gone(place(rec.Offset, rec.Length), mboxrd.ErrNone)
	}
	return io.NopCloser(rec.Text()), nil
}

// Look implements sink.Looker: there is a separator at the start of the place,
// an empty line at its end, and room for the text between.
func (f *folder) Look(ctx context.Context, at sink.Place, text int64) error {
	rec, err := f.at(at)
	if err != nil {
		return err
	}
	if rec.Length <= text {
		return &mail.Error{Op: "look", Scope: mail.ScopeMessage, Err: fmt.Errorf("its place takes %d bytes, stored were %d", rec.Length, text)}
	}
	return ctx.Err()
}

// at finds the record at a place.
func (f *folder) at(at sink.Place) (rec mboxrd.Record, err error) {
	r, err := f.reader()
	if err != nil {
		return rec, durable.Fail("read", mail.ScopeFolder, err)
	}
	o, l, _ := strings.Cut(string(at), "+")
	offset, err := strconv.ParseInt(o, 10, 64)
	length, err2 := strconv.ParseInt(l, 10, 64)
	if err != nil || err2 != nil || offset < 0 || length <= 0 {
		return rec, f.gone(at, errors.New("place is none of ours"))
	}
	rec, err = mboxrd.At(r, offset, length)
	if err == nil && !rec.Whole {
		err = mboxrd.ErrNone
	}
	if errors.Is(err, mboxrd.ErrNone) {
		return rec, f.gone(at, err)
	}
	return rec, durable.Fail("read", mail.ScopeMessage, err)
}

// gone is the error for a place where no message is.
func (f *folder) gone(at sink.Place, err error) error {
	return &mail.Error{Op: "read", Scope: mail.ScopeMessage,
		Err: fmt.Errorf("%s at %s: %w: %w", f.root.Path(f.name), string(at), err, fs.ErrNotExist)}
}

// Scan implements sink.Scanner. Other is the digest without what other mail
// programs add to a message when they rewrite the file, and with CRLF folded.
func (f *folder) Scan(ctx context.Context, full bool) iter.Seq2[sink.Found, error] {
	return func(yield func(sink.Found, error) bool) {
		r, err := f.reader()
		if err == nil {
			var fi fs.FileInfo
			if fi, err = r.Stat(); err == nil {
				err = f.scan(ctx, r, fi.Size(), full, yield)
			}
		}
		if err == nil {
			var now *os.File
			if now, err = f.reader(); err == nil && now != r {
				err = fmt.Errorf("%s: %w", f.root.Path(f.name), errReplaced)
			}
		}
		if err != nil && err != errStop {
			yield(sink.Found{}, durable.Fail("scan", mail.ScopeFolder, err))
		}
	}
}

var (
	errStop     = errors.New("nobody wants more")
	errReplaced = errors.New("another program has put a new file in its place while it was read; try again")
)

func (f *folder) scan(ctx context.Context, r io.ReaderAt, size int64, full bool, yield func(sink.Found, error) bool) error {
	read := newDigester()
	for rec, err := range mboxrd.Walk(r, 0, size) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if rec.Stray {
			f.sink.opt.Log.Warn("no message", "mailbox", f.root.Path(f.name), "bytes", rec.Length)
			continue
		}
		found := sink.Found{Place: place(rec.Offset, rec.Length), Size: rec.Length, Date: rec.Date, Flags: rec.Flags, Open: func() (io.ReadCloser, error) { return f.open(rec) }}
		if full {
			text, err := read.record(rec)
			if err != nil {
				return err
			}
			found.Digest, found.Size, found.Lines = text.sum, text.size, text.lines
			if found.Other, err = read.bare(rec); err != nil {
				return err
			}
			if found.Other == found.Digest {
				found.Other = mail.Digest{}
			}
		}
		if !yield(found, nil) {
			return errStop
		}
	}
	return nil
}
