// Package maildir stores mail in Maildirs: one file a message, in the
// directories cur and new of its folder.
//
// With layout=nested, the default, the folder Work/Projects is the directory
// Work/Projects with cur, new and tmp in it. With layout=maildir++, which
// Dovecot and Courier read, it is .Work.Projects, and INBOX is the archive's
// directory itself.
//
// What must stay true:
//
//   - A file in cur or new is whole and on the disk: it is written in tmp,
//     synced, and only then linked to its name.
//   - Nothing is overwritten, ever. The name comes from the message, so
//     putting twice is putting once.
//   - A message is known by the unique part of its name, wherever it is and
//     whatever flags other programs have given it.
//   - The file holds the text form, but a last line that came without an end
//     has none here either.
package maildir

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"

	"mailhaul/internal/durable"
	"mailhaul/internal/foldername"
	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/sink"
)

// Scheme describes this sink to a registry.
func Scheme() *sink.Scheme {
	return &sink.Scheme{
		Names: []string{"maildir"},
		Form:  "maildir:PATH",
		Help:  "Maildirs in the directory PATH, one a folder",
		Options: []location.Option{
			{Name: "layout", Default: "nested", Help: "nested: Work/Projects; maildir++: .Work.Projects, as Dovecot has it"},
		},
		Open: func(_ context.Context, l location.Location, env location.Env) (sink.Sink, error) {
			o := Options{Log: env.Log}
			switch v := l.Option.Get("layout"); v {
			case "nested", "":
			case "maildir++", "maildir  ": // a "+" in a query may come as a blank
				o.Dotted = true
			default:
				return nil, location.Wrong("write layout=nested or layout=maildir++", "%s: layout=%s", l, v)
			}
			if fi, err := os.Stat(l.Path); err == nil && !fi.IsDir() {
				return nil, location.Wrong("", "%s is a file", l.Path)
			}
			return New(l.Path, o), nil
		},
	}
}

// Options have useful zero values.
type Options struct {
	Dotted bool         // layout=maildir++
	Log    *slog.Logger // nil: slog's default
}

// A Sink is an archive of Maildirs. It expects that this process holds the
// archive's own lock.
type Sink struct {
	dir string
	opt Options

	mu     sync.Mutex
	root   *durable.Dir // nil until somebody needs it
	stores map[string]*store
}

var (
	_ sink.Local  = (*Sink)(nil)
	_ sink.Lister = (*Sink)(nil)
)

// New makes a sink of a directory, which is made when the first folder is.
func New(dir string, opt Options) *Sink {
	if opt.Log == nil {
		opt.Log = slog.Default()
	}
	return &Sink{dir: dir, opt: opt, stores: map[string]*store{}}
}

// Home implements sink.Local. In a Maildir++ tree a dot means a folder.
func (s *Sink) Home() (dir, state string) {
	if s.opt.Dotted {
		return s.dir, "mailhaul.state"
	}
	return s.dir, ".mailhaul"
}

// Open implements sink.Sink.
func (s *Sink) Open(ctx context.Context, p mail.Path, create bool) (sink.Folder, error) {
	st, err := s.acquire(p, create)
	if err != nil {
		return nil, durable.Fail("open", mail.ScopeFolder, err)
	}
	f := &folder{sink: s, store: st}
	if err := st.check(create); err != nil {
		f.Close()
		return nil, durable.Fail("open", mail.ScopeFolder, err)
	}
	return f, ctx.Err()
}

// name is the directory of a folder within the archive.
func (s *Sink) name(p mail.Path) (string, error) {
	if s.opt.Dotted {
		return foldername.Dotted(p)
	}
	parts, err := foldername.Parts(p)
	return path.Join(parts...), err
}

// open opens the archive's directory once.
func (s *Sink) open(create bool) (*durable.Dir, error) {
	if s.root != nil {
		return s.root, nil
	}
	open := durable.OpenDir
	if create {
		open = durable.MakeDir
	}
	root, err := open(s.dir)
	if err == nil {
		s.root = root
	}
	return root, err
}

// acquire gives the store of a folder, which is shared by all who have it
// open, until release.
func (s *Sink) acquire(p mail.Path, create bool) (*store, error) {
	name, err := s.name(p)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.stores[name]; st != nil {
		st.refs++
		return st, nil
	}
	root, err := s.open(create)
	if err != nil {
		return nil, durable.Fail("open", mail.ScopeRun, err)
	}
	if create {
		if err := s.make(name); err != nil {
			return nil, err
		}
	}
	dir, err := root.Sub(name)
	if err != nil {
		return nil, err
	}
	st := &store{name: name, dir: dir, refs: 1}
	s.stores[name] = st
	return st, nil
}

func (s *Sink) make(name string) error {
	if err := s.root.Mkdir(name); err != nil {
		return err
	}
	if !s.opt.Dotted || name == "." {
		return nil
	}
	// Courier's mark of a Maildir that is part of another one.
	mark := path.Join(name, "maildirfolder")
	if _, err := s.root.Stat(mark); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	w, err := s.root.Create(mark)
	if err != nil {
		return err
	}
	return w.Close()
}

func (s *Sink) release(st *store) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.refs--; st.refs == 0 {
		st.dir.Close()
		delete(s.stores, st.name)
	}
}

// Folders implements sink.Lister. A name that was cut because it is too long
// cannot be turned back and is passed over.
func (s *Sink) Folders(ctx context.Context) ([]mail.Path, error) {
	s.mu.Lock()
	root, err := s.open(false)
	s.mu.Unlock()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, durable.Fail("list", mail.ScopeRun, err)
	}
	var all []mail.Path
	if s.opt.Dotted {
		all, err = dotted(root)
	} else {
		all, err = nested(ctx, root, nil)
	}
	if err != nil {
		return nil, durable.Fail("list", mail.ScopeRun, err)
	}
	slices.Sort(all)
	return all, nil
}

func nested(ctx context.Context, root *durable.Dir, parts []string) (all []mail.Path, err error) {
	es, err := root.Names(path.Join(append([]string{"."}, parts...)...))
	if err != nil {
		return nil, err
	}
	for _, e := range es {
		switch name := e.Name(); {
		case !e.IsDir() || name[0] == '.' || name == "new" || name == "tmp" || len(parts) == foldername.Deepest:
		case name == "cur":
			if p, ok := foldername.Path(parts); ok && len(parts) > 0 {
				all = append(all, p)
			}
		default:
			below, err := nested(ctx, root, append(slices.Clip(parts), name))
			if err != nil {
				return nil, err
			}
			all = append(all, below...)
		}
	}
	return all, ctx.Err()
}

func dotted(root *durable.Dir) (all []mail.Path, err error) {
	es, err := root.Names(".")
	if err != nil {
		return nil, err
	}
	for _, e := range es {
		name := e.Name()
		if name == "cur" {
			name = "."
		}
		p, ok := foldername.FromDotted(name)
		if !ok || !e.IsDir() {
			continue
		}
		if fi, err := root.Stat(filepath.Join(name, "cur")); err == nil && fi.IsDir() {
			all = append(all, p)
		}
	}
	return all, nil
}

// Close implements sink.Sink.
func (s *Sink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.root == nil {
		return nil
	}
	err := s.root.Close()
	s.root = nil
	return err
}
