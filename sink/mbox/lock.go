package mbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"mailhaul/internal/durable"
	"mailhaul/internal/mail"
)

// lock opens the file for writing under the locks that other mail programs
// take, fcntl before the dot-lock as Debian's policy has it, and tells how
// long it is. Nothing is done when it is locked already.
func (f *folder) lock(ctx context.Context) (int64, error) {
	for end := time.Now().Add(f.sink.opt.Wait); f.w == nil; {
		holder, err := f.tryLock()
		switch {
		case err != nil:
			return 0, err
		case holder == "":
			continue
		case time.Now().After(end):
			return 0, &mail.Error{Op: "lock", Scope: mail.ScopeFolder, Temporary: true,
				Err: fmt.Errorf("%s: in use by %s for %v", f.root.Path(f.name), holder, f.sink.opt.Wait)}
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	fi, err := f.w.Stat()
	if err != nil {
		f.unlock()
		return 0, err
	}
	return fi.Size(), nil
}

// tryLock sets f.w, or tells who holds a lock.
func (f *folder) tryLock() (holder string, err error) {
	w, err := f.root.Append(f.name)
	if err != nil {
		return "", err
	}
	locked := false
	defer func() {
		if !locked {
			w.Close()
		}
	}()
	if w.Fresh {
		if err := f.root.Sync(path.Dir(f.name)); err != nil {
			return "", err
		}
	}
	if ok, err := w.TryLock(); err != nil || !ok {
		return "another program", err
	}
	if holder, err := f.dotLock(); err != nil || holder != "" {
		return holder, err
	}
	// While we waited the file may have been replaced by another one.
	named, err := f.root.Stat(f.name)
	if err == nil {
		var fi fs.FileInfo
		if fi, err = w.Stat(); err == nil && !os.SameFile(named, fi) {
			err = fs.ErrNotExist
		}
	}
	if err != nil {
		f.root.Remove(f.dot())
		if errors.Is(err, fs.ErrNotExist) {
			return "a program that replaces it", nil
		}
		return "", err
	}
	f.w, locked = w, true
	return "", nil
}

func (f *folder) unlock() {
	if f.w == nil {
		return
	}
	// The dot-lock goes first, as it came last. One that stays is taken away
	// by the next run.
	if err := f.root.Remove(f.dot()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.sink.opt.Log.Warn("the lock stays", "err", err)
	}
	f.w.Unlock()
	f.w.Close()
	f.w = nil
	f.sink.takeBack(&f.tail)
}

// dropPattern takes the pattern away.
func (f *folder) dropPattern() {
	if !f.pattern {
		return
	}
	f.pattern = false
	if err := f.root.Remove(f.dotTmp()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.sink.opt.Log.Warn("the lock's pattern stays", "err", err)
	}
}

func (f *folder) dot() string { return f.name + ".lock" }

// dotTmp is the name of the dot-lock's pattern.
func (f *folder) dotTmp() string {
	dir, base := path.Split(f.dot())
	return dir + ".mailhaul-" + base
}

// dotLock makes FOLDER.mbox.lock. Another program's is never broken. One of
// ours for this archive is stale, since this process holds the archive's own
// lock: whoever made it has died.
func (f *folder) dotLock() (holder string, err error) {
	for range 3 {
		err := f.linkDot()
		if errors.Is(err, fs.ErrNotExist) {
			continue // swept away by somebody who opened the folder for reading
		}
		if !errors.Is(err, fs.ErrExist) {
			return "", err
		}
		text, err := f.read(f.dot())
		if errors.Is(err, fs.ErrNotExist) {
			continue // just given back
		}
		if err != nil {
			return "", err
		}
		by, of, _ := strings.Cut(strings.TrimSuffix(text, "\n"), "\n")
		switch {
		case of == f.ours():
			if err := f.root.Remove(f.dot()); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return "", err
			}
		case strings.HasPrefix(of, "mailhaul "):
			return fmt.Sprintf("%s, process %s (remove %s if it has died)", mail.Clean(of), mail.Clean(by), f.root.Path(f.dot())), nil
		default:
			return fmt.Sprintf("another program (see %s)", f.root.Path(f.dot())), nil
		}
	}
	return "another program", nil
}

// sweep takes away a dot-lock that a run which died has left, so that it does
// not keep other mail programs out until we write here again. Since a folder
// may also be opened for reading beside another run, that run must have been
// on this machine and be gone.
//
// A power cut may also leave a lock in the making, of which not all has been
// written. Whoever should be making it just now will make another.
func (f *folder) sweep() {
	for _, name := range []string{f.dot(), f.dotTmp()} {
		text, err := f.read(name)
		if err != nil {
			continue
		}
		torn := name == f.dotTmp() && (strings.Count(text, "\n") < 2 || strings.Contains(text, "\x00"))
		if !torn && !f.stale(text) {
			continue
		}
		if err := f.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.sink.opt.Log.Warn("the lock stays", "err", err)
		}
	}
}

// stale reports whether a lock is that of a run on this machine which has died.
func (f *folder) stale(text string) bool {
	by, of, _ := strings.Cut(strings.TrimSuffix(text, "\n"), "\n")
	pid, host, _ := strings.Cut(by, ":")
	here, _ := os.Hostname()
	n, err := strconv.Atoi(pid)
	return err == nil && of == f.ours() && host == here && (n == os.Getpid() || !durable.Alive(n))
}

// ours is the second line of our dot-locks.
func (f *folder) ours() string { return "mailhaul " + mail.Clean(f.sink.dir) }

// linkDot makes the lock by a second name for its pattern, so that it is never
// there without telling whose it is.
func (f *folder) linkDot() error {
	tmp := f.dotTmp()
	err := f.makePattern()
	if err == nil {
		err = f.root.Link(tmp, f.dot())
	}
	if durable.CannotLink(err) {
		if _, serr := f.root.Stat(f.dot()); serr == nil {
			return fs.ErrExist
		}
		f.pattern = false
		return f.root.Rename(tmp, f.dot())
	}
	if errors.Is(err, fs.ErrNotExist) {
		f.pattern = false
	}
	return err
}

// makePattern makes the lock under another name, where it stays until the folder is
// closed. The first line is as Dovecot writes it.
func (f *folder) makePattern() error {
	tmp := f.dotTmp()
	if f.pattern { // programs break locks that are old
		return f.root.SetTime(tmp, time.Now())
	}
	w, err := f.root.Create(tmp)
	if errors.Is(err, fs.ErrExist) { // of a process that has died
		if err = f.root.Remove(tmp); err == nil {
			w, err = f.root.Create(tmp)
		}
	}
	if err != nil {
		if errors.Is(err, fs.ErrExist) {
			return errors.New(f.root.Path(tmp) + " cannot be removed")
		}
		return err
	}
	host, _ := os.Hostname()
	_, err = fmt.Fprintf(w, "%d:%s\n%s\n", os.Getpid(), host, f.ours())
	if err == nil {
		// After a power cut the lock may be there again. It must tell then that
		// it is ours, or nobody would dare to take it away.
		err = w.Sync()
	}
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	f.pattern = err == nil
	if err != nil {
		f.root.Remove(tmp)
	}
	return err
}

func (f *folder) read(name string) (string, error) {
	r, err := f.root.Read(name)
	if err != nil {
		return "", err
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, 4096))
	return string(text), err
}
