package maildir

import (
	"cmp"
	"context"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"mailhaul/internal/foldername"
	"mailhaul/internal/mail"
	"mailhaul/source"
	"mailhaul/source/local"
)

// A layout is how folders lie in a tree.
type layout int

const (
	auto layout = iota
	nested
	dotted // Maildir++
)

// An account is the source.
type account struct {
	local.Store
	dir    string
	layout layout

	mu   sync.Mutex
	dirs map[mail.Path]string // of folders, below dir
}

// Folders lists the Maildirs.
func (a *account) Folders(ctx context.Context) ([]source.Folder, error) {
	if err := a.Enter(ctx); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(a.dir)
	if err != nil {
		return nil, local.Fail("list folders", mail.ScopeAccount, err)
	}
	defer root.Close()
	w, err := a.find(ctx, root)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	for i, f := range w.found {
		// A folder that cannot be looked at is told of when it is opened.
		w.found[i].State, _ = state(root, f.Raw, now)
	}
	return w.found, nil
}

func (a *account) find(ctx context.Context, root *os.Root) (*walk, error) {
	w := &walk{ctx: ctx, a: a, root: root, dirs: map[mail.Path]string{}}
	err := w.top()
	if err != nil {
		return nil, local.Fail("list folders", mail.ScopeAccount, err)
	}
	if w.links > 0 {
		a.Note("links to directories were not followed: %d", w.links)
	}
	if len(w.found) == 0 {
		a.Note("%s: there is no Maildir: no directory with cur and new in it", mail.Clean(a.dir))
	}
	a.mu.Lock()
	a.dirs = w.dirs
	a.mu.Unlock()
	return w, nil
}

// Open opens a folder.
func (a *account) Open(ctx context.Context, p mail.Path) (source.Mailbox, error) {
	if err := a.Enter(ctx); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(a.dir)
	if err != nil {
		return nil, local.Fail("open", mail.ScopeAccount, err)
	}
	a.mu.Lock()
	dir, ok := a.dirs[p]
	a.mu.Unlock()
	if !ok {
		w, err := a.find(ctx, root)
		if err != nil {
			root.Close()
			return nil, err
		}
		dir, ok = w.dirs[p]
	}
	if !ok || !isMaildir(root, dir) {
		root.Close()
		return nil, local.Missing(p)
	}
	return &mailbox{a: a, root: root, dir: dir, now: time.Now}, nil
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

const deepest = 64

// top reads the tree's own directory, which may be a Maildir: INBOX.
func (w *walk) top() error {
	es, err := w.read(".")
	if err != nil {
		return err
	}
	if isMaildir(w.root, ".") {
		w.add(mail.Inbox, ".")
	}
	layout := w.a.layout
	for _, e := range es {
		if name := e.Name(); layout == auto && name[0] == '.' && e.IsDir() && isMaildir(w.root, name) {
			layout = dotted
		}
	}
	if layout != dotted {
		return w.below(es, ".", nil)
	}
	aside := 0
	for _, e := range es {
		switch name := e.Name(); {
		case !e.IsDir() || inner(name):
		case name[0] == '.' && isMaildir(w.root, name):
			w.add(fromDotted(name), name)
		case name[0] != '.' && isMaildir(w.root, name):
			aside++
		}
	}
	if aside > 0 {
		w.a.Note("Maildirs beside those of the layout Maildir++ were left out: %d (layout=nested reads them)", aside)
	}
	return nil
}

// below reads the directories of a nested tree. A dot before a name below the
// top is how some programs (mbsync) mark a folder within a Maildir.
func (w *walk) below(es []fs.DirEntry, dir string, parts []string) error {
	for _, e := range es {
		name, at := e.Name(), path.Join(dir, e.Name())
		if e.Type()&fs.ModeSymlink != 0 {
			w.links++
		}
		if !e.IsDir() || inner(name) && (dir != "." || isMaildir(w.root, ".")) {
			continue
		}
		is := isMaildir(w.root, at)
		if name[0] == '.' && (len(parts) == 0 || !is) {
			continue
		}
		if local.Archive(filepath.Join(w.a.dir, filepath.FromSlash(at))) {
			w.a.Note("%s: an archive of mailhaul was left out", mail.Clean(at))
			continue
		}
		path := append(slices.Clip(parts), strings.TrimPrefix(name, "."))
		if is {
			w.add(local.Path(path), at)
		}
		if len(path) == deepest {
			w.a.Note("%s: too deep; what lies below was left out", mail.Clean(at))
			continue
		}
		es, err := w.read(at)
		if err != nil {
			return err
		}
		if err := w.below(es, at, path); err != nil {
			return err
		}
	}
	return nil
}

// inner tells the directories that every Maildir has.
func inner(name string) bool { return name == "cur" || name == "new" || name == "tmp" }

func (w *walk) read(dir string) ([]fs.DirEntry, error) {
	if err := local.Ended("list folders", w.ctx); err != nil {
		return nil, err
	}
	f, err := w.root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	es, err := f.ReadDir(-1)
	slices.SortFunc(es, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	return es, err
}

// add takes a directory as a folder. Where two would get one name, the second
// keeps that of its directory.
func (w *walk) add(p mail.Path, dir string) {
	if strings.EqualFold(string(p), "inbox") {
		p = mail.Inbox
	}
	if _, taken := w.dirs[p]; taken {
		p = mail.Join(strings.Split(dir, "/")...)
	}
	for w.dirs[p] != "" {
		p += "_"
	}
	w.dirs[p] = dir
	w.found = append(w.found, source.Folder{Path: p, Raw: dir, Role: local.Role(p), Messages: -1, Bytes: -1})
}

// fromDotted makes a path of a name in a Maildir++ tree.
func fromDotted(name string) mail.Path {
	if p, ok := foldername.FromDotted(name); ok {
		return local.Path(p.Parts())
	}
	return local.Path(strings.Split(name[1:], "."))
}

// isMaildir reports whether a directory has cur or new in it.
func isMaildir(root *os.Root, dir string) bool {
	for _, sub := range []string{"cur", "new"} {
		if fi, err := root.Lstat(path.Join(dir, sub)); err == nil && fi.IsDir() {
			return true
		}
	}
	return false
}
