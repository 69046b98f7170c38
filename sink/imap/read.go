package imap

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"

	"mailhaul/internal/imapconn"
	"mailhaul/internal/mail"
	"mailhaul/sink"
)

// body gives one message of the open folder to f; a message that is not there
// is fs.ErrNotExist.
func body(ctx context.Context, c *imapconn.Conn, uid uint32, f func(*imapconn.Body) error) error {
	b := c.Bodies(ctx)
	defer b.End()
	set, _ := imapconn.Set([]uint32{uid})
	if _, err := b.Ask(set); err != nil {
		return err
	}
	found := false
	for b.Open() > 0 {
		m, done, err := b.Next()
		switch {
		case err != nil:
			return err
		case done != nil && done.Status.Type != "OK":
			return &mail.Error{Op: "read", Scope: mail.ScopeMessage, Err: &done.Status}
		case done != nil:
		case m.UID == uid && !m.None && !found:
			found = true
			if err := f(m); err != nil {
				return err
			}
		}
	}
	if !found {
		return &mail.Error{Op: "read", Scope: mail.ScopeMessage, Err: fmt.Errorf("message %d: %w", uid, fs.ErrNotExist)}
	}
	return nil
}

// digest reads a message and takes the digest of its text form. What is too
// mixed to be folded has the digest of its bytes, as in the spool.
func digest(r io.Reader) (sum mail.Digest, err error) {
	raw, err := io.ReadAll(r)
	if err != nil {
		return sum, err
	}
	return sha256.Sum256(textOf(raw)), nil
}

func textOf(raw []byte) []byte {
	var fold mail.Folder
	text, _, err := fold.Append(make([]byte, 0, len(raw)), raw)
	if err == nil {
		text, _ = fold.Close(text)
		return text
	}
	if len(raw) > 0 && raw[len(raw)-1] != '\n' {
		raw = append(raw, '\n')
	}
	return raw
}

// Read implements sink.Reader.
func (f *folder) Read(ctx context.Context, at sink.Place) (io.ReadCloser, error) {
	validity, uid, ok := numbers(string(at))
	var text []byte
	err := f.look(ctx, func(c *imapconn.Conn, box imapconn.Box) error {
		if !ok || validity != box.Validity {
			return &mail.Error{Op: "read", Scope: mail.ScopeMessage, Err: fmt.Errorf("%q: %w", string(at), fs.ErrNotExist)}
		}
		return body(ctx, c, uid, func(b *imapconn.Body) error {
			raw, err := io.ReadAll(b)
			text = textOf(raw)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(text)), nil
}

// Scan implements sink.Scanner. With full every message is downloaded.
func (f *folder) Scan(ctx context.Context, full bool) iter.Seq2[sink.Found, error] {
	return func(yield func(sink.Found, error) bool) {
		var found []sink.Found
		err := f.look(ctx, func(c *imapconn.Conn, box imapconn.Box) error {
			uids, err := uidsFrom(ctx, c, box, 1)
			if err != nil {
				return err
			}
			err = fetch(ctx, c, slices.Clone(uids), "UID FLAGS INTERNALDATE RFC822.SIZE", func(it *imapconn.Item) error {
				if it.Size < 0 {
					return nil // news of flags
				}
				found = append(found, sink.Found{Place: place(box.Validity, it.UID), Size: it.Size, Date: it.Date, Flags: it.Flags})
				return nil
			})
			if err != nil || !full {
				return err
			}
			for i := range found {
				_, uid, _ := numbers(string(found[i].Place))
				err := body(ctx, c, uid, func(b *imapconn.Body) error {
					raw, err := io.ReadAll(b)
					text := textOf(raw)
					found[i].Digest, found[i].Size, found[i].Lines = sha256.Sum256(text), int64(len(text)), int64(bytes.Count(text, []byte{'\n'}))
					return err
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			yield(sink.Found{}, err)
			return
		}
		for _, x := range found {
			if !yield(x, nil) {
				return
			}
		}
	}
}
