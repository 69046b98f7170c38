package maildir

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"time"

	"mailhaul/internal/durable"
	"mailhaul/internal/mail"
	"mailhaul/sink"
)

// mostPeers is how many other folders are kept at hand for linking.
const mostPeers = 16

// Link implements sink.Linker by a hard link, which has a name and flags of
// its own, but the date of the file. Where the dates differ, or a hard link
// cannot be had, the message is stored again. What is linked to has been
// synced when it was stored; only the new name has to be.
func (f *folder) Link(ctx context.Context, m *sink.Message, from mail.Path, at sink.Place) error {
	if err := f.ready(ctx); err != nil {
		return err
	}
	if there, err := f.there(m); err != nil || there {
		return f.give(err)
	}
	source, ok, err := f.source(m, from, at)
	if err != nil {
		return f.give(err)
	}
	if !ok {
		return f.Put(ctx, m)
	}
	name, err := f.nameOf(m)
	if err == nil {
		err = f.tell()
	}
	if err != nil {
		return f.give(err)
	}
	to := path.Join(f.store.name, name.Dir(), name.String())
	switch err := f.sink.root.Link(source, to); {
	case durable.CannotLink(err) || errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist):
		return f.Put(ctx, m) // which knows what to do with a name that is taken
	case err != nil:
		return f.give(err)
	}
	f.touch(name)
	f.results = append(f.results, sink.Result{Place: sink.Place(m.Name)})
	return nil
}

// source finds the file to link to, and reports whether it will do: it must be
// as long as this message's file has to be, and as old.
func (f *folder) source(m *sink.Message, from mail.Path, at sink.Place) (name string, ok bool, err error) {
	st, err := f.peer(from)
	if err != nil {
		return "", false, ignoreMissing(err)
	}
	file, fi, err := st.find(string(at))
	if err != nil {
		return "", false, ignoreMissing(err)
	}
	size, _ := sizes(m.Text, m.Lines, m.Ends.Open)
	same := m.Date.IsZero() || fi.ModTime().Truncate(time.Second).Equal(m.Date.Truncate(time.Second))
	return path.Join(st.name, file), same && fi.Size() == size && fi.Mode().IsRegular(), nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// peer gives the store of another folder, or of this one.
func (f *folder) peer(p mail.Path) (*store, error) {
	if st := f.peers[p]; st != nil {
		return st, nil
	}
	if len(f.peers) >= mostPeers {
		for q, st := range f.peers {
			f.sink.release(st)
			delete(f.peers, q)
		}
	}
	st, err := f.sink.acquire(p, false)
	if err != nil {
		return nil, err
	}
	if f.peers == nil {
		f.peers = map[mail.Path]*store{}
	}
	f.peers[p] = st
	return st, nil
}
