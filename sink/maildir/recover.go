package maildir

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"mailhaul/internal/durable"
	"mailhaul/internal/mail"
	"mailhaul/sink"
)

// Recover implements sink.Folder. Each wanted message is looked for by its
// name, whatever its flags, and read: it counts when its digest is right. A
// file of its name that is torn, as a power cut may leave it, is moved to the
// directory torn beside the catalog. What is left of ours in tmp never
// counted, and is removed.
func (f *folder) Recover(ctx context.Context, _ sink.Mark, want []sink.Want) ([]sink.Place, error) {
	f.drop()
	f.store.forget()
	if err := f.store.check(true); err != nil {
		return nil, durable.Fail("recover", mail.ScopeFolder, err)
	}
	places := make([]sink.Place, len(want))
	read := newDigester()
	for i, w := range want {
		err := ctx.Err()
		if err == nil {
			places[i], err = f.recover(read, w)
		}
		if err != nil {
			return nil, durable.Fail("recover", mail.ScopeFolder, err)
		}
	}
	// The process that gave the names may have died before it synced them.
	f.touched = [2]bool{true, true}
	if err := f.syncNames(); err != nil {
		return nil, durable.Fail("recover", mail.ScopeRun, err)
	}
	if err := f.sweep(); err != nil {
		return nil, durable.Fail("recover", mail.ScopeRun, err)
	}
	return places, nil
}

// recover looks for one message.
func (f *folder) recover(read *digester, w sink.Want) (sink.Place, error) {
	file, fi, err := f.store.find(w.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if fi.Size() == w.Text || fi.Size() == w.Text-1 {
		body, _, err := f.store.open(w.Name)
		if err != nil {
			return "", err
		}
		found, err := read.text(body)
		body.Close()
		if err != nil {
			return "", err
		}
		if found.sum == w.Digest {
			return sink.Place(w.Name), nil
		}
	}
	if _, err := f.setAside(file); err != nil {
		return "", err
	}
	f.aside += fi.Size()
	return "", nil
}

// SetAside implements sink.Salvager.
func (f *folder) SetAside() int64 { return f.aside }

// Clear implements sink.Clearer.
func (f *folder) Clear(ctx context.Context, at sink.Place) (to string, err error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	file, _, err := f.store.find(string(at))
	if err == nil {
		to, err = f.setAside(file)
	}
	return to, durable.Fail("set aside", mail.ScopeMessage, err)
}

// setAside moves a file out of the folder, but not out of the archive.
func (f *folder) setAside(file string) (where string, err error) {
	_, state := f.sink.Home()
	torn := path.Join(state, "torn")
	root := f.sink.root
	if err := root.Mkdir(torn); err != nil {
		return "", err
	}
	to := path.Join(torn, path.Base(file))
	for n := 2; ; n++ {
		_, err := root.Stat(to)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return "", err
		}
		to = path.Join(torn, path.Base(file)+"-"+strconv.Itoa(n))
	}
	if err := root.Rename(path.Join(f.store.name, file), to); err != nil {
		return "", err
	}
	if err := root.Sync(torn); err != nil {
		return "", err
	}
	f.store.forget()
	f.sink.opt.Log.Warn("damaged file set aside", "file", f.store.dir.Path(file), "in", root.Path(to))
	return root.Path(to), nil
}

// sweep removes what is ours in tmp.
func (f *folder) sweep() error {
	var left []string
	err := f.store.each("tmp", func(_ *durable.Dir, name string) error {
		if strings.HasPrefix(name, ours) {
			left = append(left, name)
		}
		return nil
	})
	for _, name := range left {
		if err == nil {
			err = f.store.dir.Remove("tmp/" + name)
		}
	}
	if err != nil || len(left) == 0 {
		return err
	}
	return f.syncTmp()
}
