package maildir

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"

	"mailhaul/internal/durable"
	"mailhaul/internal/mail"
	"mailhaul/internal/maildirname"
	"mailhaul/sink"
)

// SetFlags implements sink.Flagger by renaming. Letters that stand for no flag
// we know are kept.
func (f *folder) SetFlags(ctx context.Context, at []sink.Place, flags []mail.Flags) error {
	f.hasWords = f.hasWords && f.marked // Dovecot may have added some
	for _, set := range flags {
		if err := f.learn(set); err != nil {
			return durable.Fail("flag", mail.ScopeFolder, err)
		}
	}
	if err := f.tell(); err != nil {
		return durable.Fail("flag", mail.ScopeRun, err)
	}
	for i, p := range at {
		err := ctx.Err()
		if err == nil {
			err = f.setFlags(string(p), flags[i])
		}
		if err != nil {
			return durable.Fail("flag", mail.ScopeFolder, err)
		}
	}
	return durable.Fail("flag", mail.ScopeRun, f.syncNames())
}

func (f *folder) setFlags(unique string, flags mail.Flags) error {
	for try := 0; ; try++ {
		file, _, err := f.store.find(unique)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		dir, base := file[:3], file[4:]
		old := maildirname.Parse(base)
		if dir == "cur" {
			old.Has = true
		}
		name := old.With(flags, f.words)
		to := name.Dir() + "/" + name.String()
		if to == file {
			return nil
		}
		err = f.store.dir.Rename(file, to)
		if errors.Is(err, fs.ErrNotExist) && try < 3 {
			continue // renamed by another program just now
		}
		if err == nil {
			err = f.dropOld(file, to)
		}
		if err != nil {
			return err
		}
		// The old name must be gone as durably as the new one is there.
		f.touched[0] = f.touched[0] || dir == "cur"
		f.touched[1] = f.touched[1] || dir == "new"
		f.touch(name)
		return nil
	}
}

// dropOld takes away the old name where a power cut has left both: they lead to
// one file then, and rename(2) does nothing.
func (f *folder) dropOld(old, name string) error {
	if strings.EqualFold(old, name) {
		return nil // perhaps one name to this file system
	}
	was, err := f.store.dir.Stat(old)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	is, nerr := f.store.dir.Stat(name)
	if err = errors.Join(err, nerr); err != nil || !os.SameFile(was, is) {
		return err
	}
	return f.store.dir.Remove(old)
}

// Remove implements sink.Remover.
func (f *folder) Remove(ctx context.Context, at []sink.Place) error {
	for _, p := range at {
		file, _, err := f.store.find(string(p))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = f.store.dir.Remove(file)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return durable.Fail("remove", mail.ScopeFolder, err)
		}
		f.touched[0] = f.touched[0] || file[:3] == "cur"
		f.touched[1] = f.touched[1] || file[:3] == "new"
	}
	return durable.Fail("remove", mail.ScopeRun, f.syncNames())
}
