package maildir

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailhaul/internal/mail"
	"mailhaul/internal/maildirname"
	"mailhaul/source"
	"mailhaul/source/local"
)

// A mailbox is one Maildir, open for one goroutine.
type mailbox struct {
	a    *account
	root *os.Root
	dir  string
	now  func() time.Time

	listing source.Listing
	files   map[source.ID]string // below root; nil before the first look
	looked  string               // the times of the directories then
	looks   int                  // for what was missing
}

// Epoch is the same for ever: unique parts are not given twice.
func (m *mailbox) Epoch() string { return "maildir" }

func (m *mailbox) Listing() source.Listing { return m.listing }

// state describes what a listing depends on: the directories, whose times
// change with every name in them, and the names of keywords. It is empty while
// a change might not show.
func state(root *os.Root, dir string, now time.Time) (source.Cursor, error) {
	text := "1"
	for _, sub := range []string{"new", "cur", "dovecot-keywords"} {
		fi, err := root.Lstat(path.Join(dir, sub))
		if errors.Is(err, fs.ErrNotExist) {
			text += " -"
			continue
		}
		if err != nil {
			return "", err
		}
		if !local.Settled(fi.ModTime(), now) {
			return "", nil
		}
		text += " " + local.Mark(fi)
	}
	return source.Cursor(text), nil
}

// List reads the names, then looks at file after file.
func (m *mailbox) List(ctx context.Context, _ source.Cursor) iter.Seq2[source.Entry, error] {
	return func(yield func(source.Entry, error) bool) {
		m.listing = source.Listing{}
		err := m.list(ctx, yield)
		if err != nil && err != errStopped {
			yield(source.Entry{}, m.fail("list", err))
		}
	}
}

var errStopped = errors.New("the consumer has had enough")

func (m *mailbox) fail(op string, err error) error {
	return local.Fail(op+" "+mail.Clean(m.dir), mail.ScopeFolder, err)
}

func (m *mailbox) list(ctx context.Context, yield func(source.Entry, error) bool) error {
	before, err := state(m.root, m.dir, m.now())
	if err != nil {
		return err
	}
	names, err := m.look(ctx)
	if err != nil {
		return err
	}
	keywords, err := m.keywords()
	if err != nil {
		return err
	}
	count, odd := int64(0), 0
	for _, n := range names {
		if err := local.Ended("list", ctx); err != nil {
			return err
		}
		at, fi, err := m.find(ctx, n.id)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue // gone since
		case err != nil:
			return err
		case !fi.Mode().IsRegular():
			odd++
			continue
		}
		count++
		e := source.Entry{ID: n.id, Size: fi.Size(), Date: fi.ModTime(), Flags: parse(path.Base(at)).Flags(keywords)}
		if !yield(e, nil) {
			return errStopped
		}
	}
	if odd > 0 {
		m.a.Note("%s: %d that are links or no files were left out", mail.Clean(m.dir), odd)
	}
	m.listing = source.Listing{Messages: count}
	if after, err := state(m.root, m.dir, m.now()); err == nil && after == before {
		m.listing.Cursor = after
	}
	return nil
}

// A name is a file.
type name struct {
	unique string
	file   string // below root
	id     source.ID
}

// look reads the names of all messages, once more when a program changes them
// meanwhile: a file that is renamed just then can be missed. New comes before
// cur, for messages move that way; one seen in both is found where it is.
func (m *mailbox) look(ctx context.Context) ([]name, error) {
	var all []name
	for try := range 3 {
		before, err := m.times()
		if err != nil {
			return nil, err
		}
		all = all[:0]
		for _, sub := range []string{"new", "cur"} {
			if all, err = m.names(ctx, sub, all); err != nil {
				return nil, err
			}
		}
		after, err := m.times()
		if err != nil {
			return nil, err
		}
		if m.looked = after; before == after || try == 2 {
			break
		}
	}
	slices.SortFunc(all, func(a, b name) int {
		return cmp.Or(cmp.Compare(a.unique, b.unique), cmp.Compare(a.file, b.file))
	})
	files := make(map[source.ID]string, len(all))
	for i := range all {
		n := &all[i]
		if n.id = source.ID(n.unique); n.id == "" {
			n.id = source.ID("/" + path.Base(n.file))
		}
		for k := 2; files[n.id] != ""; k++ {
			n.id = source.ID(n.unique + "/" + strconv.Itoa(k)) // no name has a slash
		}
		files[n.id] = n.file
	}
	m.files = files
	return all, nil
}

// times are those of the directories.
func (m *mailbox) times() (text string, err error) {
	for _, sub := range []string{"new", "cur"} {
		fi, err := m.root.Lstat(path.Join(m.dir, sub))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if err == nil {
			text += " " + local.Mark(fi)
		}
	}
	return text, nil
}

const window = 4000

func (m *mailbox) names(ctx context.Context, sub string, all []name) ([]name, error) {
	dir := path.Join(m.dir, sub)
	switch fi, err := m.root.Lstat(dir); {
	case errors.Is(err, fs.ErrNotExist):
		return all, nil
	case err != nil:
		return nil, err
	case !fi.IsDir():
		return nil, fmt.Errorf("%s: it is no directory", mail.Clean(dir))
	}
	f, err := m.root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for {
		if err := local.Ended("list", ctx); err != nil {
			return nil, err
		}
		es, err := f.ReadDir(window)
		for _, e := range es {
			if n := e.Name(); n[0] != '.' && !e.IsDir() {
				all = append(all, name{unique: parse(n).Unique, file: path.Join(dir, n)})
			}
		}
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

const mostLooks = 100

// find tells where a message is now. Another program may have given it other
// flags, and so another name; then all names are read again.
func (m *mailbox) find(ctx context.Context, id source.ID) (string, fs.FileInfo, error) {
	for try := 0; ; try++ {
		at, ok := m.files[id]
		if ok {
			fi, err := m.root.Lstat(at)
			if err == nil || !errors.Is(err, fs.ErrNotExist) {
				return at, fi, err
			}
		}
		if try == 1 {
			return "", nil, fs.ErrNotExist
		}
		// Clocks are coarse, so a look is worth more than what they say; but
		// not for each of a million that were deleted at once.
		if now, err := m.times(); err == nil && now == m.looked && m.looks > mostLooks {
			return "", nil, fs.ErrNotExist
		}
		m.looks++
		if _, err := m.look(ctx); err != nil {
			return "", nil, err
		}
	}
}

// parse takes a file name apart, also where it was made on a system that has
// ";" or "!" for the ":".
func parse(file string) maildirname.Name {
	for _, info := range []string{":2,", ";2,", "!2,"} {
		i := strings.LastIndex(file, info)
		if i < 0 {
			continue
		}
		n := maildirname.Parse(file[:i])
		n.Info, n.Has = file[i+len(info):], true
		return n
	}
	n := maildirname.Parse(file)
	n.Unique, _, _ = strings.Cut(n.Unique, ":")
	return n
}

// keywords reads what letters stand for in this folder.
func (m *mailbox) keywords() (maildirname.Keywords, error) {
	f, _, err := local.Open(m.root, path.Join(m.dir, "dovecot-keywords"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	const most = 64 << 10 // there are no more than 26
	b, err := io.ReadAll(io.LimitReader(f, most))
	return maildirname.ParseKeywords(string(b)), err
}

// Fetch reads file after file.
func (m *mailbox) Fetch(ctx context.Context, next func(wait bool) []source.Entry) iter.Seq2[*source.Message, error] {
	return local.Fetch(ctx, next, func(e source.Entry) (io.ReadCloser, error) {
		for try := 0; ; try++ {
			at, _, err := m.find(ctx, e.ID)
			if errors.Is(err, fs.ErrNotExist) {
				return nil, nil
			}
			if err != nil {
				return nil, m.fail("fetch", err)
			}
			f, fi, err := local.Open(m.root, at)
			if errors.Is(err, fs.ErrNotExist) && try < 3 {
				continue // renamed just now
			}
			if err == nil && e.Size >= 0 && fi.Size() != e.Size {
				f.Close()
				err = fmt.Errorf("%s: %w", mail.Clean(at), local.ErrChanged)
			}
			if err != nil {
				return nil, local.Fail("fetch", mail.ScopeMessage, err)
			}
			return local.Whole(f, at, fi.Size()), nil
		}
	})
}

// Present looks again.
func (m *mailbox) Present(ctx context.Context, ids []source.ID) (map[source.ID]bool, error) {
	there := map[source.ID]bool{}
	if len(ids) == 0 {
		return there, nil
	}
	if _, err := m.look(ctx); err != nil {
		return nil, m.fail("look", err)
	}
	for _, id := range ids {
		_, there[id] = m.files[id]
	}
	return there, nil
}

func (m *mailbox) Close() error { return m.root.Close() }
