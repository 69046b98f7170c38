package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// A Dir is a directory below which everything is done. Its methods may be
// called from several goroutines. Names are relative to it and cannot leave it.
type Dir struct {
	root *os.Root
	name string
}

// OpenDir opens a directory that exists.
func OpenDir(name string) (*Dir, error) {
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	return &Dir{root, name}, nil
}

// MakeDir opens a directory and makes it, and those above it, if need be.
func MakeDir(name string) (*Dir, error) {
	if err := Mkdir(name); err != nil {
		return nil, err
	}
	return OpenDir(name)
}

// Mkdir makes a directory and those above it, each durably. One that is there
// already is left as it is.
func Mkdir(name string) error {
	if fi, err := os.Stat(name); err == nil {
		if !fi.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: name, Err: errors.New("a file is in the way")}
		}
		return nil
	}
	parent := filepath.Dir(name)
	if parent != name {
		if err := Mkdir(parent); err != nil {
			return err
		}
	}
	d, err := OpenDir(parent)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Mkdir(filepath.Base(name))
}

// Name is the path the directory was opened under.
func (d *Dir) Name() string { return d.name }

// Path is the path of a name in d, for messages.
func (d *Dir) Path(name string) string { return filepath.Join(d.name, name) }

func (d *Dir) Close() error { return d.root.Close() }

// Sub opens a directory within d.
func (d *Dir) Sub(name string) (*Dir, error) {
	root, err := d.root.OpenRoot(name)
	if err != nil {
		return nil, d.named(err)
	}
	return &Dir{root, d.Path(name)}, nil
}

// Mkdir makes a directory in d and those between, each durably.
func (d *Dir) Mkdir(name string) error {
	fi, err := d.root.Stat(name)
	switch {
	case err == nil && fi.IsDir():
		return nil
	case err == nil:
		return &fs.PathError{Op: "mkdir", Path: d.Path(name), Err: errors.New("a file is in the way")}
	case !errors.Is(err, fs.ErrNotExist):
		return d.named(err)
	}
	parent := filepath.Dir(name)
	if parent != "." {
		if err := d.Mkdir(parent); err != nil {
			return err
		}
	}
	if err := step("mkdir", d.Path(name)); err != nil {
		return err
	}
	if err := made(Effect{Op: "mkdir", Name: d.Path(name)}, d.root.Mkdir(name, dirMode)); err != nil && !errors.Is(err, fs.ErrExist) {
		return d.named(err)
	}
	// A umask that takes the owner's own rights would lock us out. File
	// systems without modes refuse this, and have nothing to set.
	d.root.Chmod(name, dirMode)
	return d.Sync(parent)
}

// Sync makes the names in a directory of d last; "." is d itself.
func (d *Dir) Sync(name string) error {
	if err := step("syncdir", d.Path(name)); err != nil {
		return err
	}
	f, err := d.root.Open(name)
	if err != nil {
		return d.named(err)
	}
	defer f.Close()
	if err := made(Effect{Op: "syncdir", Name: d.Path(name)}, syncDir(f)); err != nil && !noted(err, d.Path(name)) {
		return &fs.PathError{Op: "sync", Path: d.Path(name), Err: cause(err)}
	}
	return nil
}

// Link gives a file a second name. It never overwrites: a name that is taken
// is fs.ErrExist.
func (d *Dir) Link(from, to string) error {
	if err := step("link", d.Path(to)); err != nil {
		return err
	}
	return d.named(made(Effect{Op: "link", Name: d.Path(to), From: d.Path(from)}, d.root.Link(from, to)))
}

// Rename gives a file another name and replaces what had that name.
func (d *Dir) Rename(from, to string) error {
	if err := step("rename", d.Path(to)); err != nil {
		return err
	}
	return d.named(made(Effect{Op: "rename", Name: d.Path(to), From: d.Path(from)}, d.root.Rename(from, to)))
}

// Remove takes a name away.
func (d *Dir) Remove(name string) error {
	if err := step("unlink", d.Path(name)); err != nil {
		return err
	}
	return d.named(made(Effect{Op: "unlink", Name: d.Path(name)}, d.root.Remove(name)))
}

// SetTime sets when a file was last changed.
func (d *Dir) SetTime(name string, t time.Time) error {
	if err := step("settime", d.Path(name)); err != nil {
		return err
	}
	return d.named(made(Effect{Op: "settime", Name: d.Path(name), Time: t}, d.root.Chtimes(name, t, t)))
}

// Stat describes a name and does not follow a link.
func (d *Dir) Stat(name string) (fs.FileInfo, error) {
	fi, err := d.root.Lstat(name)
	return fi, d.named(err)
}

// Read opens a file, or a directory, for reading.
func (d *Dir) Read(name string) (*os.File, error) {
	f, err := d.root.Open(name)
	return f, d.named(err)
}

// Names lists a directory of d, in no order.
func (d *Dir) Names(name string) ([]fs.DirEntry, error) {
	f, err := d.Read(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	es, err := f.ReadDir(-1)
	return es, d.named(err)
}

// Create makes a file that must not be there yet, for writing.
func (d *Dir) Create(name string) (*File, error) {
	return d.file("create", name, os.O_CREATE|os.O_EXCL|os.O_RDWR)
}

// Append opens a file for reading and for writing at its end, and makes it
// when it is not there: see File.Fresh. A link in its place is refused.
func (d *Dir) Append(name string) (*File, error) {
	f, err := d.open(name, os.O_RDWR|os.O_APPEND)
	if errors.Is(err, fs.ErrNotExist) {
		// O_EXCL: not through a dangling link.
		f, err = d.file("create", name, os.O_CREATE|os.O_EXCL|os.O_RDWR|os.O_APPEND)
		if err == nil {
			f.Fresh = true
		}
		return f, err
	}
	if err != nil {
		return nil, err
	}
	// os.Root resolves links within the root whatever the flags, so what was
	// opened is compared with the name itself.
	link, err := d.Stat(name)
	if err == nil {
		var fi fs.FileInfo
		if fi, err = f.Stat(); err == nil && !os.SameFile(link, fi) {
			err = &fs.PathError{Op: "open", Path: d.Path(name), Err: errors.New("is a link")}
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (d *Dir) file(op, name string, flag int) (*File, error) {
	if err := step(op, d.Path(name)); err != nil {
		return nil, err
	}
	f, err := d.open(name, flag)
	made(Effect{Op: op, Name: d.Path(name)}, err)
	if err == nil {
		f.f.Chmod(fileMode) // against an odd umask; a file system without modes has nothing to set
	}
	return f, err
}

func (d *Dir) open(name string, flag int) (*File, error) {
	f, err := d.root.OpenFile(name, flag, fileMode)
	if err != nil {
		return nil, d.named(err)
	}
	return &File{f: f, name: d.Path(name)}, nil
}

// Replace gives a file new content in one step: after a death at any moment
// its name leads to the old content or to the new.
func (d *Dir) Replace(name string, write func(io.Writer) error) error {
	tmp := filepath.Join(filepath.Dir(name), ".mailhaul-"+filepath.Base(name)+".tmp")
	f, err := d.Create(tmp)
	if errors.Is(err, fs.ErrExist) {
		// Left behind by a process that died here: whoever replaces holds the
		// archive's lock.
		if err = d.Remove(tmp); err == nil {
			f, err = d.Create(tmp)
		}
	}
	if err != nil {
		return err
	}
	if err = write(f); err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	// The content must be down before the name leads to it, and the name
	// before anybody relies on it.
	if err == nil {
		err = d.Rename(tmp, name)
	}
	if err != nil {
		d.Remove(tmp) // the next Replace does it otherwise
		return err
	}
	return d.Sync(filepath.Dir(name))
}

// Replace is Dir.Replace for a file given by its path.
func Replace(name string, write func(io.Writer) error) error {
	d, err := OpenDir(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Replace(filepath.Base(name), write)
}

// Append is Dir.Append for a file given by its path.
func Append(name string) (*File, error) {
	d, err := OpenDir(filepath.Dir(name))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Append(filepath.Base(name))
}

// SyncDir is Dir.Sync for a directory given by its path.
func SyncDir(name string) error {
	d, err := OpenDir(name)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync(".")
}

// SetAside copies the bytes of f from one offset to another into a new file
// of d, durably, so that they may be cut off. When it fails nothing is left of
// the copy.
func (d *Dir) SetAside(f *File, from, to int64, name string) error {
	w, err := d.Create(name)
	if err != nil {
		return err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{w}, io.NewSectionReader(f, from, to-from), make([]byte, min(to-from+1, 1<<18)))
	if err == nil && n != to-from {
		err = fmt.Errorf("%s: %w", f.name, io.ErrUnexpectedEOF)
	}
	if err == nil {
		err = w.Sync()
	}
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		d.Remove(name)
		return err
	}
	return d.Sync(filepath.Dir(name))
}

// named puts the whole path into errors of os.Root, which know names below it
// only.
func (d *Dir) named(err error) error {
	switch e := err.(type) {
	case *fs.PathError:
		return &fs.PathError{Op: plainOp(e.Op), Path: d.Path(e.Path), Err: e.Err}
	case *os.LinkError:
		return &fs.PathError{Op: plainOp(e.Op), Path: d.Path(e.New), Err: e.Err}
	}
	return err
}

// plainOp is the name of a system call without its "at".
func plainOp(op string) string {
	if n := len(op) - 2; n > 0 && op[n:] == "at" && op != "stat" && op != "lstat" {
		return op[:n]
	}
	return op
}

func cause(err error) error {
	var e *fs.PathError
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}
