package eml

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"mailhaul/internal/mail"
	"mailhaul/source"
	"mailhaul/source/local"
)

// An account is the source.
type account struct {
	local.Store
	path   string
	single bool

	mu   sync.Mutex
	dirs map[mail.Path]string
}

const deepest = 64

// message reports whether a file is one, going by its name.
func message(name string) bool {
	return len(name) > len(".eml") && strings.EqualFold(name[len(name)-len(".eml"):], ".eml") && name[0] != '.'
}

// Folders lists the directories with messages in them, and INBOX.
func (a *account) Folders(ctx context.Context) ([]source.Folder, error) {
	if err := a.Enter(ctx); err != nil {
		return nil, err
	}
	w := &walk{ctx: ctx, a: a, dirs: map[mail.Path]string{}}
	if err := w.run(); err != nil {
		return nil, local.Fail("list folders", mail.ScopeAccount, err)
	}
	if w.links > 0 {
		a.Note("links were not followed: %d", w.links)
	}
	a.mu.Lock()
	a.dirs = w.dirs
	a.mu.Unlock()
	return w.found, nil
}

// A walk goes through a tree.
type walk struct {
	ctx   context.Context
	a     *account
	root  *os.Root
	found []source.Folder
	dirs  map[mail.Path]string
	links int
}

func (w *walk) run() (err error) {
	if w.a.single {
		w.add(nil, ".", 1)
		return nil
	}
	if w.root, err = os.OpenRoot(w.a.path); err != nil {
		return err
	}
	defer w.root.Close()
	return w.dir(".", nil)
}

func (w *walk) dir(dir string, parts []string) error {
	es, err := read(w.ctx, w.root, dir)
	if err != nil {
		return err
	}
	var dirs []string
	messages := int64(0)
	for _, e := range es {
		name := e.Name()
		at := path.Join(dir, name)
		switch {
		case e.Type()&fs.ModeSymlink != 0:
			w.links++
		case e.Type().IsRegular() && message(name):
			messages++
		case !e.IsDir() || name[0] == '.':
		case local.Archive(filepath.Join(w.a.path, filepath.FromSlash(at))):
			w.a.Note("%s: an archive of mailhaul was left out", mail.Clean(at))
		case len(parts) == deepest:
			w.a.Note("%s: too deep; it was left out", mail.Clean(at))
		default:
			dirs = append(dirs, name)
		}
	}
	if messages > 0 || len(parts) == 0 || len(dirs) == 0 {
		w.add(parts, dir, messages)
	}
	for _, name := range dirs {
		if err := w.dir(path.Join(dir, name), append(slices.Clip(parts), name)); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) add(parts []string, dir string, messages int64) {
	p := mail.Inbox
	if len(parts) > 0 {
		p = local.Path(parts)
	}
	for _, taken := w.dirs[p]; taken; _, taken = w.dirs[p] {
		p += "_" // a directory "INBOX" in one that is INBOX itself
	}
	w.dirs[p] = dir
	w.found = append(w.found, source.Folder{Path: p, Raw: dir, Role: local.Role(p), Messages: messages, Bytes: -1})
}

// read reads the entries of a directory, sorted.
func read(ctx context.Context, root *os.Root, dir string) ([]fs.DirEntry, error) {
	if err := local.Ended("list", ctx); err != nil {
		return nil, err
	}
	f, err := root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	es, err := f.ReadDir(-1)
	slices.SortFunc(es, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	return es, err
}

// Open opens a folder.
func (a *account) Open(ctx context.Context, p mail.Path) (source.Mailbox, error) {
	if err := a.Enter(ctx); err != nil {
		return nil, err
	}
	dir, ok := a.known(p)
	if !ok {
		if _, err := a.Folders(ctx); err != nil {
			return nil, err
		}
		if dir, ok = a.known(p); !ok {
			return nil, local.Missing(p)
		}
	}
	m := &mailbox{a: a, dir: dir}
	top := a.path
	if a.single {
		// The file itself may be a link: it is what the user has named.
		real, err := filepath.EvalSymlinks(a.path)
		if err != nil {
			return nil, local.Fail("open", mail.ScopeFolder, err)
		}
		top, m.only = filepath.Dir(real), filepath.Base(real)
	}
	var err error
	if m.root, err = os.OpenRoot(top); err != nil {
		return nil, local.Fail("open", mail.ScopeFolder, err)
	}
	return m, nil
}

func (a *account) known(p mail.Path) (string, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	dir, ok := a.dirs[p]
	return dir, ok
}

// A mailbox is one directory, open for one goroutine.
type mailbox struct {
	a       *account
	root    *os.Root
	dir     string
	only    string // the one file there is
	listing source.Listing
}

// Epoch is the same for ever.
func (m *mailbox) Epoch() string { return "eml" }

func (m *mailbox) Listing() source.Listing { return m.listing }

// List looks at file after file. There are no cursors: a file that is written
// anew does not change its directory.
func (m *mailbox) List(ctx context.Context, _ source.Cursor) iter.Seq2[source.Entry, error] {
	return func(yield func(source.Entry, error) bool) {
		m.listing = source.Listing{}
		names, err := m.names(ctx)
		count := int64(0)
		for _, name := range names {
			if err = local.Ended("list", ctx); err != nil {
				break
			}
			var fi fs.FileInfo
			if fi, err = m.root.Lstat(path.Join(m.dir, name)); errors.Is(err, fs.ErrNotExist) {
				err = nil
				continue // gone since
			}
			if err != nil {
				break
			}
			count++
			if !yield(source.Entry{ID: source.ID(name), Size: fi.Size(), Date: fi.ModTime()}, nil) {
				return
			}
		}
		if err != nil {
			yield(source.Entry{}, m.fail("list", err))
			return
		}
		m.listing = source.Listing{Messages: count}
	}
}

func (m *mailbox) fail(op string, err error) error {
	return local.Fail(op+" "+mail.Clean(m.dir), mail.ScopeFolder, err)
}

func (m *mailbox) names(ctx context.Context) (all []string, err error) {
	if m.only != "" {
		return []string{m.only}, nil
	}
	es, err := read(ctx, m.root, m.dir)
	for _, e := range es {
		if e.Type().IsRegular() && message(e.Name()) {
			all = append(all, e.Name())
		}
	}
	return all, err
}

// Fetch reads file after file.
func (m *mailbox) Fetch(ctx context.Context, next func(wait bool) []source.Entry) iter.Seq2[*source.Message, error] {
	return local.Fetch(ctx, next, func(e source.Entry) (io.ReadCloser, error) {
		at := path.Join(m.dir, string(e.ID))
		f, fi, err := local.Open(m.root, at)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err == nil && e.Size >= 0 && fi.Size() != e.Size {
			f.Close()
			err = fmt.Errorf("%s: %w", mail.Clean(at), local.ErrChanged)
		}
		if err != nil {
			return nil, local.Fail("fetch", mail.ScopeMessage, err)
		}
		return local.Whole(f, at, fi.Size()), nil
	})
}

// Present looks which files are there.
func (m *mailbox) Present(_ context.Context, ids []source.ID) (map[source.ID]bool, error) {
	there := map[source.ID]bool{}
	for _, id := range ids {
		fi, err := m.root.Lstat(path.Join(m.dir, string(id)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, m.fail("look", err)
		}
		there[id] = err == nil && fi.Mode().IsRegular()
	}
	return there, nil
}

func (m *mailbox) Close() error { return m.root.Close() }
