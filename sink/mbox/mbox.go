// Package mbox stores mail in mailbox files of the mboxrd form: one file a
// folder, readable by nearly every mail program.
//
// The archive is a directory. INBOX is INBOX.mbox in it; the children of a
// folder lie in a directory of its name: Work.mbox, Work/Projects.mbox. Names
// are made by package foldername.
//
// What must stay true:
//
//   - A file only grows at its end. The one exception is Recover, which cuts
//     off what is torn after it has been copied beside the file.
//   - A file is written only under the locks that other mail programs take:
//     fcntl first, then FOLDER.mbox.lock.
//   - Behind a mark lie whole records, then perhaps a torn one: the whole ones
//     are found again by digest, so a batch that died is taken up where it
//     ended.
package mbox

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"mailhaul/internal/durable"
	"mailhaul/internal/foldername"
	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/sink"
)

const (
	extension = ".mbox"
	stateDir  = ".mailhaul"
)

// Scheme describes this sink to a registry.
func Scheme() *sink.Scheme {
	return &sink.Scheme{
		Names: []string{"mbox"},
		Form:  "mbox:PATH",
		Help:  "mailbox files in the directory PATH, one a folder",
		Options: []location.Option{
			{Name: "status", Default: "no", Help: "yes: store flags as Status lines for other mail programs"},
		},
		Open: func(_ context.Context, l location.Location, env location.Env) (sink.Sink, error) {
			o := Options{Log: env.Log}
			switch v := l.Option.Get("status"); v {
			case "yes":
				o.Status = true
			case "no", "":
			default:
				return nil, location.Wrong("write status=yes or status=no", "%s: status=%s", l, v)
			}
			if fi, err := os.Stat(l.Path); err == nil && !fi.IsDir() {
				return nil, location.Wrong("an archive is a directory: mbox:"+filepath.Dir(l.Path), "%s is a file", l.Path)
			}
			return New(l.Path, o), nil
		},
	}
}

// Options have useful zero values.
type Options struct {
	Status bool          // write flags as Status, X-Status and X-Keywords lines
	Wait   time.Duration // for a file that another program has locked; 0: 30 s
	Log    *slog.Logger  // nil: slog's default
}

// A Sink is an archive of mailbox files. It expects that this process holds
// the archive's own lock.
type Sink struct {
	dir string
	opt Options

	making sync.Mutex // held while a folder is made

	mu   sync.Mutex
	root *durable.Dir // nil until somebody needs it
	idle [][]byte     // memory for tails
}

// New makes a sink of a directory, which is made when the first folder is.
func New(dir string, opt Options) *Sink {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs // the dot-lock names it
	}
	if opt.Wait == 0 {
		opt.Wait = 30 * time.Second
	}
	if opt.Log == nil {
		opt.Log = slog.Default()
	}
	return &Sink{dir: dir, opt: opt}
}

// Home implements sink.Local.
func (s *Sink) Home() (dir, state string) { return s.dir, stateDir }

// Open implements sink.Sink.
func (s *Sink) Open(ctx context.Context, p mail.Path, create bool) (sink.Folder, error) {
	parts, err := foldername.Parts(p)
	if err != nil {
		return nil, &mail.Error{Op: "open", Scope: mail.ScopeFolder, Err: err}
	}
	root, err := s.open(create)
	if err != nil {
		return nil, durable.Fail("open", mail.ScopeRun, err)
	}
	f := &folder{sink: s, root: root, name: path.Join(parts...) + extension}
	if create {
		if err := f.make(); err != nil {
			return nil, durable.Fail("open", mail.ScopeFolder, err)
		}
	}
	if _, err := f.reader(); err != nil {
		return nil, durable.Fail("open", mail.ScopeFolder, err)
	}
	f.sweep()
	return f, ctx.Err()
}

// open opens the archive's directory once.
func (s *Sink) open(create bool) (*durable.Dir, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
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

// Folders implements sink.Lister. A name that was cut because it is too long
// cannot be turned back and is passed over.
func (s *Sink) Folders(ctx context.Context) ([]mail.Path, error) {
	root, err := s.open(false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, durable.Fail("list", mail.ScopeRun, err)
	}
	var all []mail.Path
	var walk func(dir []string) error
	walk = func(dir []string) error {
		es, err := root.Names(path.Join(append([]string{"."}, dir...)...))
		if err != nil {
			return err
		}
		for _, e := range es {
			name := e.Name()
			switch base, ok := strings.CutSuffix(name, extension); {
			case ok && e.Type().IsRegular():
				if p, ok := foldername.Path(append(slices.Clip(dir), base)); ok {
					all = append(all, p)
				}
			case e.IsDir() && name[0] != '.' && len(dir) < foldername.Deepest:
				if err := walk(append(slices.Clip(dir), name)); err != nil {
					return err
				}
			}
		}
		return ctx.Err()
	}
	if err := walk(nil); err != nil {
		return nil, durable.Fail("list", mail.ScopeRun, err)
	}
	slices.Sort(all)
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
