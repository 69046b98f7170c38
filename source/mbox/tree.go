package mbox

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"mailhaul/internal/mail"
	"mailhaul/source"
	"mailhaul/source/local"
)

// An account is the source.
type account struct {
	local.Store
	path string
	dir  bool
	opt  options

	mu    sync.Mutex
	files map[mail.Path]*file
}

const deepest = 64

// plainName gives the folder's name that a file or directory stands for.
func plainName(name string) string {
	for _, packed := range []string{".gz", ".zst"} {
		name = cutSuffix(name, packed)
	}
	return cutSuffix(cutSuffix(name, ".mbox"), ".mbx")
}

// cutSuffix cuts a suffix in any case, unless nothing would be left.
func cutSuffix(name, suffix string) string {
	if n := len(name) - len(suffix); n > 0 && strings.EqualFold(name[n:], suffix) {
		return name[:n]
	}
	return name
}

// single is the one file there is.
func (a *account) single() *file {
	name := filepath.Base(a.path)
	plain := plainName(name)
	path := local.Path([]string{plain})
	if strings.EqualFold(plain, "inbox") || plain == "mbox" {
		path = mail.Inbox
	}
	return &file{path: path, name: name, at: a.path}
}

// Folders lists the files that are mailboxes.
func (a *account) Folders(ctx context.Context) ([]source.Folder, error) {
	if err := a.Enter(ctx); err != nil {
		return nil, err
	}
	files, err := a.find(ctx)
	if err != nil {
		return nil, err
	}
	var all []source.Folder
	for _, f := range files {
		folder := source.Folder{Path: f.path, Raw: f.name, Role: local.Role(f.path), Messages: -1, Bytes: -1}
		fi, err := f.stat()
		if err == nil {
			folder.State = f.state(fi, a.opt)
			if !f.packed() {
				folder.Bytes = fi.Size()
			}
		}
		all = append(all, folder)
	}
	return all, nil
}

// find looks for mailboxes. Those that were known stay the same.
func (a *account) find(ctx context.Context) ([]*file, error) {
	var found []*file
	if !a.dir {
		found = []*file{a.single()}
	} else {
		w := walk{ctx: ctx, a: a, taken: map[mail.Path]bool{}}
		root, err := os.OpenRoot(a.path)
		if err == nil {
			err = w.dir(root, ".", nil)
			root.Close()
		}
		if err != nil {
			return nil, local.Fail("list folders", mail.ScopeAccount, err)
		}
		w.tell()
		found = w.found
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.files == nil {
		a.files = map[mail.Path]*file{}
	}
	for i, f := range found {
		if old := a.files[f.path]; old != nil && old.name == f.name {
			found[i] = old
		}
		a.files[f.path] = found[i]
	}
	return found, nil
}

// A walk goes through a tree.
type walk struct {
	ctx   context.Context
	a     *account
	found []*file
	taken map[mail.Path]bool

	passed []string // files that are no mailboxes
	links  int
}

func (w *walk) tell() {
	if n := len(w.passed); n > 0 {
		w.a.Note("files that are no mailboxes: %d (such as %s)", n, mail.Clean(w.passed[0]))
	}
	if w.links > 0 {
		w.a.Note("links were not followed: %d", w.links)
	}
}

func (w *walk) dir(root *os.Root, dir string, parts []string) error {
	if err := local.Ended("list folders", w.ctx); err != nil {
		return err
	}
	if len(parts) > deepest {
		w.a.Note("%s: too deep; what lies below was left out", mail.Clean(dir))
		return nil
	}
	f, err := root.Open(dir)
	if err != nil {
		return err
	}
	es, err := f.ReadDir(-1)
	f.Close()
	if err != nil {
		return err
	}
	slices.SortFunc(es, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	for _, e := range es {
		name, at := e.Name(), path.Join(dir, e.Name())
		switch {
		case strings.HasPrefix(name, "."):
		case e.Type()&fs.ModeSymlink != 0:
			w.links++
		case e.IsDir() && local.Archive(filepath.Join(w.a.path, filepath.FromSlash(at))):
			w.a.Note("%s: an archive of mailhaul was left out", mail.Clean(at))
		case e.IsDir():
			below := append(slices.Clip(parts), cutSuffix(name, ".sbd"))
			if bare := cutSuffix(name, ".mbox"); bare != name {
				// Apple Mail exports X.mbox/mbox.
				if fi, err := root.Lstat(path.Join(at, "mbox")); err == nil && fi.Mode().IsRegular() {
					w.add(path.Join(at, "mbox"), append(slices.Clip(parts), bare))
					continue
				}
			}
			if err := w.dir(root, at, below); err != nil {
				return err
			}
		case e.Type().IsRegular():
			w.file(es, at, name, parts)
		}
	}
	return nil
}

// file takes a file for a mailbox because of its name, or else of what it
// begins with: Thunderbird's have no extension.
func (w *walk) file(es []fs.DirEntry, at, name string, parts []string) {
	plain := plainName(name)
	bare := cutSuffix(cutSuffix(name, ".gz"), ".zst")
	if cutSuffix(name, ".msf") != name {
		return
	}
	f := &file{name: at, at: filepath.Join(w.a.path, filepath.FromSlash(at)), root: w.a.path}
	kind, err := f.sniff()
	switch {
	case err != nil: // told when the folder is opened
	case plain != bare && kind != other:
	case kind == aMailbox:
	case kind == empty && hasIndex(es, name):
	default:
		w.passed = append(w.passed, at)
		return
	}
	w.add(at, append(slices.Clip(parts), plain))
}

// hasIndex reports whether Thunderbird's index lies beside a file.
func hasIndex(es []fs.DirEntry, name string) bool {
	_, found := slices.BinarySearchFunc(es, name+".msf", func(e fs.DirEntry, s string) int { return cmp.Compare(e.Name(), s) })
	return found
}

// add takes a file as a folder. Where two would get one name, the second keeps
// its own.
func (w *walk) add(at string, parts []string) {
	p := local.Path(parts)
	if strings.EqualFold(parts[0], "inbox") { // Thunderbird has Inbox and Inbox.sbd
		p = local.Path(append([]string{"INBOX"}, parts[1:]...))
	}
	for n := 0; w.taken[p]; n++ {
		last := path.Base(at)
		if n > 0 {
			last += strings.Repeat("_", n)
		}
		p = mail.Join(append(slices.Clone(parts[:len(parts)-1]), last)...)
	}
	w.taken[p] = true
	w.found = append(w.found, &file{path: p, name: at, at: filepath.Join(w.a.path, filepath.FromSlash(at)), root: w.a.path})
}

// Open opens a folder.
func (a *account) Open(ctx context.Context, p mail.Path) (source.Mailbox, error) {
	if err := a.Enter(ctx); err != nil {
		return nil, err
	}
	a.mu.Lock()
	f := a.files[p]
	a.mu.Unlock()
	if f == nil {
		if _, err := a.find(ctx); err != nil {
			return nil, err
		}
		a.mu.Lock()
		f = a.files[p]
		a.mu.Unlock()
	}
	if f == nil {
		return nil, local.Missing(p)
	}
	if _, err := f.stat(); errors.Is(err, fs.ErrNotExist) {
		return nil, local.Missing(p)
	}
	return &mailbox{a: a, file: f, now: time.Now}, nil
}
