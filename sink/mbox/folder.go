package mbox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"sync"

	"mailhaul/internal/durable"
	"mailhaul/internal/mail"
	"mailhaul/internal/mboxrd"
	"mailhaul/sink"
)

// A folder is one mailbox file.
type folder struct {
	sink *Sink
	root *durable.Dir
	name string // of the file, within root

	mu sync.Mutex // Read may be called while a batch is written
	r  *os.File

	w       *durable.File // while locked
	pattern bool          // that of the dot-lock is there
	tail    tail
	gap     string // what the file's last record lacks
	put     *mboxrd.Writer
	results []sink.Result
	failed  error
	aside   int64 // torn bytes that Recover has moved
}

var (
	_ sink.Folder   = (*folder)(nil)
	_ sink.Reader   = (*folder)(nil)
	_ sink.Looker   = (*folder)(nil)
	_ sink.Scanner  = (*folder)(nil)
	_ sink.Salvager = (*folder)(nil)
	_ sink.Local    = (*Sink)(nil)
	_ sink.Lister   = (*Sink)(nil)
)

// make makes the file, empty, so that a folder without mail is there too. Others wait
// for the directories that they share with it: what is there need not be synced yet.
func (f *folder) make() error {
	f.sink.making.Lock()
	defer f.sink.making.Unlock()
	if err := f.root.Mkdir(path.Dir(f.name)); err != nil {
		return err
	}
	w, err := f.root.Append(f.name)
	if err != nil {
		return err
	}
	defer w.Close()
	if !w.Fresh {
		return nil
	}
	return f.root.Sync(path.Dir(f.name))
}

// reader gives the file for reading. Other programs may replace it by another
// one of the same name.
func (f *folder) reader() (*os.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	named, err := f.root.Stat(f.name)
	if err != nil {
		return nil, err
	}
	if !named.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: is not a plain file", f.root.Path(f.name))
	}
	if f.r != nil {
		if fi, err := f.r.Stat(); err == nil && os.SameFile(fi, named) {
			return f.r, nil
		}
		f.r.Close()
	}
	f.r, err = f.root.Read(f.name)
	return f.r, err
}

// State implements sink.Folder.
func (f *folder) State(context.Context) (sink.State, error) {
	r, err := f.reader()
	if err != nil {
		return "", durable.Fail("state", mail.ScopeFolder, err)
	}
	fi, err := r.Stat()
	if err != nil {
		return "", durable.Fail("state", mail.ScopeFolder, err)
	}
	var end [64]byte
	size := fi.Size()
	n, err := r.ReadAt(end[:min(size, int64(len(end)))], size-min(size, int64(len(end))))
	if err != nil && err != io.EOF {
		return "", durable.Fail("state", mail.ScopeFolder, err)
	}
	sum := sha256.Sum256(end[:n])
	return sink.State(fmt.Sprintf("%d %d %d %s", durable.Inode(fi), size, fi.ModTime().UnixNano(), hex.EncodeToString(sum[:8]))), nil
}

// Mark implements sink.Folder: the mark is the file's length and, so that Recover can
// tell whether it still means the same spot, a hash of the bytes before it.
func (f *folder) Mark(ctx context.Context) (sink.Mark, error) {
	size, err := f.lock(ctx)
	if err != nil {
		return "", durable.Fail("mark", mail.ScopeFolder, err)
	}
	if f.gap, err = gap(f.w, size); err != nil {
		f.unlock()
		return "", durable.Fail("mark", mail.ScopeFolder, err)
	}
	hash, err := before(f.w, size)
	if err != nil {
		f.unlock()
		return "", durable.Fail("mark", mail.ScopeFolder, err)
	}
	f.sink.takeBack(&f.tail)
	f.tail = tail{f: f.w, at: size, buf: f.sink.lend()}
	f.put = mboxrd.NewWriter(&f.tail)
	f.results, f.failed = nil, nil
	return sink.Mark(strconv.FormatInt(size, 10) + " " + hash), nil
}

// before is a hash of what lies before an offset: enough to hold the line ends, the
// separator and the Message-ID of most last messages.
func before(r io.ReaderAt, offset int64) (string, error) {
	buf := make([]byte, min(offset, 1<<10))
	if n, err := r.ReadAt(buf, offset-int64(len(buf))); n < len(buf) {
		return "", err
	}
	sum := sha256.Sum256(buf)
	return hex.EncodeToString(sum[:8]), nil
}

// gap tells which line ends the last record lacks, as another program may have
// left it.
func gap(r io.ReaderAt, size int64) (string, error) {
	if size == 0 {
		return "", nil
	}
	var end [2]byte
	if _, err := r.ReadAt(end[max(0, 2-size):], max(0, size-2)); err != nil {
		return "", err
	}
	switch {
	case end[1] != '\n':
		return "\n\n", nil
	case end[0] != '\n':
		return "\n", nil
	}
	return "", nil
}

var errNoMark = errors.New("no batch is open")

// Put implements sink.Folder. A body that cannot be read costs its own message
// only: what was written of it is taken back.
func (f *folder) Put(ctx context.Context, m *sink.Message) error {
	switch {
	case f.failed != nil:
		return f.failed
	case f.w == nil:
		return durable.Fail("put", mail.ScopeRun, errNoMark)
	case ctx.Err() != nil:
		return ctx.Err()
	}
	if _, err := io.WriteString(&f.tail, f.gap); err != nil {
		return f.give(err)
	}
	f.gap = ""
	start := f.tail.end()
	bad := f.copy(m)
	if f.tail.err == nil && bad != nil {
		f.tail.cut(start)
	}
	if f.tail.err != nil {
		return f.give(f.tail.err)
	}
	r := sink.Result{Place: place(start, f.tail.end()-start)}
	if bad != nil {
		r = sink.Result{Err: &mail.Error{Op: "put", Scope: mail.ScopeMessage, Err: bad}}
	}
	f.results = append(f.results, r)
	return nil
}

// copy writes one record.
func (f *folder) copy(m *sink.Message) error {
	body, err := m.Open()
	if err != nil {
		return err
	}
	defer body.Close()
	if err := f.put.Begin(m.Sender, m.Date); err != nil {
		return err
	}
	if f.sink.opt.Status {
		if err := f.put.Status(m.Flags); err != nil {
			return err
		}
	}
	f.put.Plain(m.Plain)
	n, err := io.Copy(f.put, body)
	if err == nil && n != m.Text {
		err = fmt.Errorf("body has %d bytes, %d were counted", n, m.Text)
	}
	if err != nil {
		return err
	}
	return f.put.End()
}

// give ends the batch: Recover must follow.
func (f *folder) give(err error) error {
	f.failed = durable.Fail("put", mail.ScopeRun, err)
	return f.failed
}

// Sync implements sink.Folder.
func (f *folder) Sync(ctx context.Context) ([]sink.Result, error) {
	if f.w == nil {
		return nil, durable.Fail("sync", mail.ScopeRun, errNoMark)
	}
	defer f.unlock()
	if f.failed != nil {
		return nil, f.failed
	}
	if len(f.results) > 0 {
		if err := f.tail.flush(); err != nil {
			return nil, f.give(err)
		}
		if err := f.w.Sync(); err != nil {
			return nil, f.give(err)
		}
	}
	return f.results, nil
}

// Close implements sink.Folder.
func (f *folder) Close() error {
	f.unlock()
	f.dropPattern()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.r == nil {
		return nil
	}
	err := f.r.Close()
	f.r = nil
	return err
}

// place names a record.
func place(offset, length int64) sink.Place {
	b := strconv.AppendInt(nil, offset, 10)
	b = append(b, '+')
	return sink.Place(strconv.AppendInt(b, length, 10))
}
