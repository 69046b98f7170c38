package maildir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"sync"
	"sync/atomic"

	"mailhaul/internal/durable"
	"mailhaul/internal/mail"
	"mailhaul/internal/maildirname"
	"mailhaul/sink"
)

// A folder is one Maildir, open for writing.
type folder struct {
	sink  *Sink
	store *store

	marked  bool
	batch   []pending
	unset   int // batch[:unset] is synced
	results []sink.Result
	touched [2]bool // cur, new: names in it are not synced
	failed  error

	words    maildirname.Keywords
	hasWords bool // words were read
	newWords bool // and are not written

	peers map[mail.Path]*store // for Link
	aside int64                // bytes of torn files that Recover has moved
}

var (
	_ sink.Folder   = (*folder)(nil)
	_ sink.Reader   = (*folder)(nil)
	_ sink.Scanner  = (*folder)(nil)
	_ sink.Flagger  = (*folder)(nil)
	_ sink.Linker   = (*folder)(nil)
	_ sink.Remover  = (*folder)(nil)
	_ sink.Salvager = (*folder)(nil)
	_ sink.Looker   = (*folder)(nil)
	_ sink.Clearer  = (*folder)(nil)
)

// A pending message is in tmp.
type pending struct {
	file   *durable.File // nil once synced
	tmp    string
	name   maildirname.Name
	size   int64
	result int
}

const (
	// ours is how files of ours in tmp begin.
	ours = "mailhaul."
	// mostOpen files wait for their fsync at a time.
	mostOpen = 128
	// syncers call fsync at the same time, so that one commit of the file
	// system's journal serves many.
	syncers = 16
)

// State implements sink.Folder.
func (f *folder) State(context.Context) (sink.State, error) {
	state := ""
	for _, p := range parts {
		fi, err := f.store.dir.Stat(p.name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			state += " -"
		case err != nil:
			return "", durable.Fail("state", mail.ScopeFolder, err)
		default:
			state += fmt.Sprintf(" %d", fi.ModTime().UnixNano())
		}
	}
	return sink.State(state[1:]), nil
}

// Mark implements sink.Folder. Names are their own marks.
func (f *folder) Mark(ctx context.Context) (sink.Mark, error) {
	f.drop()
	if err := f.store.check(true); err != nil {
		return "", durable.Fail("mark", mail.ScopeFolder, err)
	}
	f.marked = true
	return "-", ctx.Err()
}

// drop forgets the batch.
func (f *folder) drop() {
	for i := range f.batch {
		if w := f.batch[i].file; w != nil {
			w.Close()
		}
	}
	clear(f.batch)
	f.batch, f.unset, f.results = f.batch[:0], 0, nil
	f.marked, f.failed, f.hasWords, f.newWords = false, nil, false, false
	f.touched = [2]bool{}
}

var errNoMark = errors.New("no batch is open")

// ready says why a Put or Link cannot be.
func (f *folder) ready(ctx context.Context) error {
	switch {
	case f.failed != nil:
		return f.failed
	case !f.marked:
		return durable.Fail("put", mail.ScopeRun, errNoMark)
	}
	return ctx.Err()
}

// Put implements sink.Folder: it writes the file in tmp. A body that cannot be
// read costs its own message only.
func (f *folder) Put(ctx context.Context, m *sink.Message) error {
	if err := f.ready(ctx); err != nil {
		return err
	}
	if there, err := f.there(m); err != nil || there {
		return f.give(err)
	}
	name, err := f.nameOf(m)
	if err != nil {
		return f.give(err)
	}
	body, err := m.Open()
	if err != nil {
		f.refuse(err)
		return nil
	}
	defer body.Close()
	p := pending{tmp: "tmp/" + ours + strconv.Itoa(len(f.batch)) + "." + m.Name, name: name, result: len(f.results)}
	p.size, _ = sizes(m.Text, m.Lines, m.Ends.Open)
	if p.file, err = f.create(p.tmp); err != nil {
		return f.give(err)
	}
	w := fileWriter{f: p.file, open: m.Ends.Open}
	if bad := w.copy(body, m.Text); bad != nil && w.err == nil {
		p.file.Close()
		if err := f.store.dir.Remove(p.tmp); err != nil {
			return f.give(err)
		}
		f.refuse(bad)
		return nil
	}
	f.batch = append(f.batch, p)
	f.results = append(f.results, sink.Result{Place: sink.Place(m.Name)})
	if w.err != nil {
		return f.give(w.err)
	}
	if !m.Date.IsZero() {
		if err := p.file.SetTime(m.Date); err != nil {
			return f.give(err)
		}
	}
	p.file.Start()
	if len(f.batch)-f.unset >= mostOpen {
		return f.give(f.settle())
	}
	return nil
}

// there reports whether the message was put before, under whatever flags, and
// notes the result if so. A file of its name with another content is damaged:
// it is set aside, or it would pass for the message.
func (f *folder) there(m *sink.Message) (bool, error) {
	if known, err := f.store.known(m.Name); err != nil || !known {
		return false, err
	}
	file, fi, err := f.store.find(m.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !fi.Mode().IsRegular() {
		f.refuse(fmt.Errorf("%s: something that is no file is in the way", f.store.dir.Path(file)))
		return true, nil
	}
	if f.holds(m) {
		f.results = append(f.results, sink.Result{Place: sink.Place(m.Name)})
		return true, nil
	}
	_, err = f.setAside(file)
	return false, err
}

// holds reports whether the file of a message can be read and is what it should
// be.
func (f *folder) holds(m *sink.Message) bool {
	body, _, err := f.store.open(m.Name)
	if err != nil {
		return false
	}
	defer body.Close()
	found, err := newDigester().text(body)
	return err == nil && found.sum == m.Digest
}

// refuse notes that one message was not stored.
func (f *folder) refuse(err error) {
	f.results = append(f.results, sink.Result{Err: &mail.Error{Op: "put", Scope: mail.ScopeMessage, Err: err}})
}

// give ends the batch, if there is an error: Recover must follow.
func (f *folder) give(err error) error {
	if err != nil {
		f.failed = durable.Fail("put", mail.ScopeRun, err)
	}
	return f.failed
}

// nameOf makes the name of a message's file. Keywords get their letters.
func (f *folder) nameOf(m *sink.Message) (maildirname.Name, error) {
	if len(m.Flags) > 0 {
		if err := f.learn(m.Flags); err != nil {
			return maildirname.Name{}, err
		}
	}
	return maildirname.New(sizesOf(m)).With(m.Flags, f.words), nil
}

func sizesOf(m *sink.Message) (unique string, size, crlf int64) {
	size, crlf = sizes(m.Text, m.Lines, m.Ends.Open)
	return m.Name, size, crlf
}

// learn gives the keywords among flags their letters.
func (f *folder) learn(flags mail.Flags) error {
	if !f.hasWords {
		var err error
		if f.words, err = f.store.keywords(); err != nil {
			return err
		}
		f.hasWords = true
	}
	if f.words.Add(flags) {
		f.newWords = true
	}
	return nil
}

// tell writes new keywords. It comes before the first name that uses them.
func (f *folder) tell() error {
	if !f.newWords {
		return nil
	}
	if err := f.store.setKeywords(f.words); err != nil {
		return err
	}
	f.newWords = false
	return nil
}

// create makes a file in tmp. One that is there is of a batch that died: we
// hold the archive's lock.
func (f *folder) create(tmp string) (*durable.File, error) {
	w, err := f.store.dir.Create(tmp)
	if errors.Is(err, fs.ErrExist) {
		if err = f.store.dir.Remove(tmp); err == nil {
			w, err = f.store.dir.Create(tmp)
		}
	}
	return w, err
}

// A fileWriter writes a text form, without its last line end if the line was
// open.
type fileWriter struct {
	f    *durable.File
	open bool
	held bool // an LF is held back
	err  error
}

var lineEnd = []byte{'\n'}

// copy writes the whole body, which must have that size.
func (w *fileWriter) copy(body io.Reader, size int64) error {
	n, err := io.Copy(w, body)
	if err == nil && n != size {
		err = fmt.Errorf("body has %d bytes, %d were counted", n, size)
	}
	return err
}

func (w *fileWriter) Write(p []byte) (int, error) {
	n := len(p)
	if n == 0 {
		return 0, nil
	}
	if w.held {
		w.held = false
		w.write(lineEnd)
	}
	if w.open && p[n-1] == '\n' {
		w.held = true
		p = p[:n-1]
	}
	w.write(p)
	return n, w.err
}

func (w *fileWriter) write(p []byte) {
	if w.err == nil && len(p) > 0 {
		_, w.err = w.f.Write(p)
	}
}

// settle syncs and closes the files that are open.
func (f *folder) settle() error {
	files := f.batch[f.unset:]
	errs := make([]error, min(syncers, len(files)))
	var next atomic.Int64
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			for {
				n := int(next.Add(1)) - 1
				if n >= len(files) {
					return
				}
				err := files[n].file.Sync()
				if cerr := files[n].file.Close(); err == nil {
					err = cerr
				}
				files[n].file = nil
				if errs[i] == nil {
					errs[i] = err
				}
			}
		})
	}
	wg.Wait()
	f.unset = len(f.batch)
	return errors.Join(errs...)
}

// Sync implements sink.Folder: the files are synced first, then they get their
// names, and then the names are synced.
func (f *folder) Sync(ctx context.Context) ([]sink.Result, error) {
	if !f.marked {
		return nil, durable.Fail("sync", mail.ScopeRun, errNoMark)
	}
	err := f.failed
	if err == nil {
		err = f.finish()
	}
	results := f.results
	f.drop()
	if err != nil {
		f.store.forget()
		return nil, durable.Fail("sync", mail.ScopeRun, err)
	}
	return results, nil
}

func (f *folder) finish() error {
	if err := f.settle(); err != nil {
		return err
	}
	if err := f.tell(); err != nil {
		return err
	}
	for _, p := range f.batch {
		if err := f.publish(p); err != nil {
			return err
		}
	}
	if err := f.syncNames(); err != nil || len(f.batch) == 0 {
		return err
	}
	return f.syncTmp()
}

// publish gives a file in tmp its name.
func (f *folder) publish(p pending) error {
	to := p.name.Dir() + "/" + p.name.String()
	err := f.store.dir.Link(p.tmp, to)
	if durable.CannotLink(err) {
		// Nobody else writes such names, and we hold the archive's lock.
		if _, serr := f.store.dir.Stat(to); errors.Is(serr, fs.ErrNotExist) {
			f.touch(p.name)
			return f.store.dir.Rename(p.tmp, to)
		}
		err = fs.ErrExist
	}
	if errors.Is(err, fs.ErrExist) {
		fi, serr := f.store.dir.Stat(to)
		if err = serr; err == nil && fi.Size() != p.size {
			f.results[p.result] = sink.Result{Err: &mail.Error{Op: "put", Scope: mail.ScopeMessage,
				Err: fmt.Errorf("%s: is there with %d bytes instead of %d", f.store.dir.Path(to), fi.Size(), p.size)}}
			return f.store.dir.Remove(p.tmp)
		}
	}
	if err != nil {
		return err
	}
	f.touch(p.name)
	return f.store.dir.Remove(p.tmp)
}

// touch notes that a name is new.
func (f *folder) touch(n maildirname.Name) {
	f.store.note(n)
	if n.Has {
		f.touched[0] = true
	} else {
		f.touched[1] = true
	}
}

func (f *folder) syncNames() error {
	for i, p := range parts {
		if f.touched[i] {
			if err := f.store.dir.Sync(p.name); err != nil {
				return err
			}
			f.touched[i] = false
		}
	}
	return nil
}

// syncTmp makes it last that files of ours in tmp are gone. Recover looks there
// only while a batch is open, so that none may come back later.
func (f *folder) syncTmp() error { return f.store.dir.Sync("tmp") }

// Close implements sink.Folder.
func (f *folder) Close() error {
	if f.store == nil {
		return nil
	}
	f.drop()
	for _, p := range f.peers {
		f.sink.release(p)
	}
	f.sink.release(f.store)
	f.peers, f.store = nil, nil
	return nil
}
