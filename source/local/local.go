// Package local is what sources that read files on this machine share: how
// they hand out bodies, what they refuse to read, and what they tell at the
// end.
//
// What must stay true: files are opened for reading only, a link within a tree
// is never followed, and a body that is not complete ends in an error.
package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/source"
)

// A Store is the part of a source that is the same in all of them.
type Store struct {
	closed atomic.Bool

	mu    sync.Mutex
	texts []string
}

// Enter fails for a store that is closed and for a context that has ended.
func (s *Store) Enter(ctx context.Context) error {
	if s.closed.Load() {
		return &mail.Error{Op: "open", Scope: mail.ScopeAccount, Err: errors.New("it is closed")}
	}
	return Ended("open", ctx)
}

// Close implements source.Source.
func (s *Store) Close() error {
	s.closed.Store(true)
	return nil
}

const mostNotes = 200

// Note keeps what the user should know at the end, each text once.
func (s *Store) Note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.texts) < mostNotes && !slices.Contains(s.texts, text) {
		s.texts = append(s.texts, text)
	}
}

// Notes implements source.Noter.
func (s *Store) Notes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.texts)
}

// Ended is nil until the context has ended.
func Ended(op string, ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return &mail.Error{Op: op, Scope: mail.ScopeFolder, Temporary: true, Err: context.Cause(ctx)}
}

// Missing is the error for a folder that is not there.
func Missing(path mail.Path) error {
	return &mail.Error{Op: "open", Scope: mail.ScopeFolder, Err: fmt.Errorf("%s: there is no such folder", mail.Clean(string(path)))}
}

// Fail is an error of a file, which may be readable later.
func Fail(op string, scope mail.Scope, err error) error {
	var known *mail.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	return &mail.Error{Op: op, Scope: scope, Temporary: true, Err: err}
}

// Fetch is source.Mailbox.Fetch for a store that can open one message after
// the other. Open gives nil for a message that is gone.
func Fetch(ctx context.Context, next func(wait bool) []source.Entry, open func(source.Entry) (io.ReadCloser, error)) iter.Seq2[*source.Message, error] {
	return func(yield func(*source.Message, error) bool) {
		for group := next(true); len(group) > 0; group = next(true) {
			for _, e := range group {
				if err := Ended("fetch", ctx); err != nil {
					yield(nil, err)
					return
				}
				body, err := open(e)
				switch {
				case err != nil && mail.ScopeOf(err, mail.ScopeFolder) == mail.ScopeMessage:
					if !yield(&source.Message{Entry: e}, err) {
						return
					}
				case err != nil:
					yield(nil, err)
					return
				case body != nil:
					ok := yield(&source.Message{Entry: e, Body: bounded{ctx, body}}, nil)
					body.Close() // it was only read
					if !ok {
						return
					}
				}
			}
		}
	}
}

// bounded ends with a context.
type bounded struct {
	ctx context.Context
	r   io.Reader
}

func (b bounded) Read(p []byte) (int, error) {
	if err := Ended("fetch", b.ctx); err != nil {
		return 0, err
	}
	return b.r.Read(p)
}

// ErrChanged says that a file is not what it was when it was listed.
var ErrChanged = errors.New("another program has changed it meanwhile")

// Whole reads a file that is one message of so many bytes. It ends in an error
// when the file has fewer or more.
func Whole(f io.ReadCloser, name string, size int64) io.ReadCloser {
	return &whole{ReadCloser: f, name: name, left: size}
}

type whole struct {
	io.ReadCloser
	name string
	left int64
}

func (w *whole) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	w.left -= int64(n)
	if w.left < 0 || err == io.EOF && w.left != 0 {
		err = fmt.Errorf("%s: %w", mail.Clean(w.name), ErrChanged)
	}
	if err != nil && err != io.EOF {
		err = Fail("fetch", mail.ScopeMessage, err)
	}
	return n, err
}

// Open opens a regular file below root. It does not follow a link at its end,
// nor wait for a pipe.
func Open(root *os.Root, name string) (*os.File, fs.FileInfo, error) {
	before, err := root.Lstat(name)
	if err != nil {
		return nil, nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s: it is no regular file", mail.Clean(name))
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, nil, err
	}
	after, err := f.Stat()
	if err == nil && !os.SameFile(before, after) {
		err = fmt.Errorf("%s: %w", mail.Clean(name), ErrChanged)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, after, nil
}

// ours are the names by which our own archives are known.
var ours = []string{".mailhaul", "mailhaul.state", "mailhaul.manifest"}

// Archive reports whether dir is an archive that this program wrote.
func Archive(dir string) bool {
	for _, name := range ours {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}

// catalogs are where the catalog of an archive of ours lies.
var catalogs = []string{".mailhaul/catalog.db", "mailhaul.state/catalog.db"}

// Refuse fails for a path that is not there and for our own archives, whose
// flags, dates and exact line ends only the catalog knows: they are not read as
// files.
func Refuse(l location.Location) (fs.FileInfo, error) {
	fi, err := os.Stat(l.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, location.Wrong("", "%s: there is no such file or directory", mail.Clean(l.Path))
	case err != nil:
		return nil, &mail.Error{Op: "open", Scope: mail.ScopeAccount, Err: err}
	case fi.IsDir() && Archive(l.Path):
		for _, name := range catalogs {
			if _, err := os.Lstat(filepath.Join(l.Path, filepath.FromSlash(name))); err == nil {
				return nil, location.Wrong("name its directory alone, without scheme and options: "+mail.Clean(l.Path),
					"%s is an archive of mailhaul", mail.Clean(l.Path))
			}
		}
		return nil, location.Wrong("mailhaul repair "+mail.Clean(l.Path), "%s is an archive of mailhaul whose catalog is missing", mail.Clean(l.Path))
	}
	return fi, nil
}

// racy is how coarse the clocks of file systems are, at worst.
const racy = 3 * time.Second

// Settled reports whether a file or directory that was changed at a time would
// show another time if it were changed once more from now on.
func Settled(changed, now time.Time) bool { return now.Sub(changed) > racy }

// Mark describes a file so that it will be told from any other state of it.
func Mark(fi fs.FileInfo) string {
	return fmt.Sprintf("%x-%x-%x", inode(fi), fi.Size(), fi.ModTime().UnixNano())
}
