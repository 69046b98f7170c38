// Package archive reads our own archives as a source: the catalog tells what
// was where, with which flags, dates and line ends; the sink gives the text
// back.
//
// What must stay true:
//
//   - The archive is only read.
//   - A body is, byte for byte, what its server once sent, or it ends in an
//     error: the digest of the stored text is taken as it streams by, and
//     compared before the body ends.
//   - A folder shows each message as often as its server had it, and nothing
//     that the archive once held is left out without a word: what is lost is
//     listed, and fails when it is fetched.
//
// A folder is what the server was last seen to have in it, and what it has had
// before: messages that have gone since, and those of an older numbering. Of
// these the ones whose content the server still has anywhere in the account
// are left out, for they were moved or renumbered, and would come twice.
//
// Accounts that share an archive share the folder tree. Where a later account
// has a folder of the same path as an earlier one, its folder lies below one
// that is named after the account: "imap:bob@example.org/INBOX".
//
// Messages of which nothing is known but their content, as after a repair
// without a manifest, are in the folder whose mail lies there, or in one of the
// archive's own name, with such date and flags as the mail itself tells and
// with CRLF at the end of every line.
package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"mailhaul/internal/catalog"
	"mailhaul/internal/mail"
	"mailhaul/sink"
	"mailhaul/source"
	"mailhaul/source/local"
)

// Options have useful zero values.
type Options struct {
	Live bool // leave out what the server was last seen not to have
}

// Account is the name of an archive, as a source, in the catalog of its
// destination. It goes with the archive wherever that is moved to.
func Account(ctx context.Context, c *catalog.Catalog) (string, error) {
	id, err := c.ID(ctx)
	return "archive:" + id, err
}

// Open makes a source of an archive. Its Close closes the sink and then the
// catalog, which gives the archive's lock back.
func Open(cat *catalog.Catalog, s sink.Sink, o Options) source.Source {
	return &archive{cat: cat, sink: s, opt: o, open: map[mail.Path]*shared{}}
}

type archive struct {
	local.Store
	cat  *catalog.Catalog
	sink sink.Sink
	opt  Options

	mu      sync.Mutex
	folders map[mail.Path]*folder // nil: not listed yet
	order   []mail.Path
	age     string
	open    map[mail.Path]*shared
	closed  bool
}

// A folder is an origin, or a folder of the archive of which no origin is
// known, or both.
type folder struct {
	source.Folder
	origin *catalog.Origin // nil: there is none
	strays mail.Path       // the folder of the archive whose strays are shown here; empty: none
}

// A shared folder of the sink is open for all who read from it.
type shared struct {
	sink.Folder
	users int
}

// Folders implements source.Source.
func (a *archive) Folders(ctx context.Context) ([]source.Folder, error) {
	if err := a.Enter(ctx); err != nil {
		return nil, err
	}
	if err := a.list(ctx); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []source.Folder
	for _, p := range a.order {
		all = append(all, a.folders[p].Folder)
	}
	return all, nil
}

// list finds out what there is, once: whoever could change it is locked out.
func (a *archive) list(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.folders != nil {
		return nil
	}
	age, err := a.cat.Age(ctx)
	if err != nil {
		return err
	}
	if a.opt.Live {
		age += " live"
	}
	a.age = age
	origins, err := a.cat.Origins(ctx, a.opt.Live)
	if err != nil {
		return err
	}
	strays, err := a.cat.Strays(ctx)
	if err != nil {
		return err
	}
	a.folders = map[mail.Path]*folder{}
	shown := map[mail.Path]*folder{} // by the folder of the archive
	for i := range origins {
		o := &origins[i]
		path := o.Path
		if a.folders[path] != nil {
			path = mail.Join(o.Account) + "/" + path
		}
		f := a.add(path, o.Raw)
		f.Role, f.Messages, f.Bytes, f.origin = o.Role, o.Messages, o.Bytes, o
		if shown[o.Sink] == nil {
			shown[o.Sink] = f
		}
	}
	left := int64(0)
	for _, s := range strays {
		f := shown[s.Path]
		if a.opt.Live {
			left += s.Messages
			continue
		}
		if f == nil {
			if f = a.folders[s.Path]; f == nil {
				f = a.add(s.Path, string(s.Path))
			}
		}
		if s.Messages > 0 && f.strays == "" {
			f.strays = s.Path
			f.Messages += s.Messages
			f.Bytes += s.Bytes
		}
	}
	if left > 0 {
		a.Note("messages that no account is known to have are left out, for only live ones are wanted: %d", left)
	}
	return nil
}

func (a *archive) add(path mail.Path, raw string) *folder {
	f := &folder{Folder: source.Folder{Path: path, Raw: raw, State: source.Cursor(a.age)}}
	a.folders[path] = f
	a.order = append(a.order, path)
	slices.SortFunc(a.order, func(x, y mail.Path) int { return strings.Compare(string(x), string(y)) })
	return f
}

// Open implements source.Source.
func (a *archive) Open(ctx context.Context, path mail.Path) (source.Mailbox, error) {
	if err := a.Enter(ctx); err != nil {
		return nil, err
	}
	if err := a.list(ctx); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	f := a.folders[path]
	if f == nil {
		return nil, local.Missing(path)
	}
	return &mailbox{a: a, f: f}, nil
}

// Close implements source.Source. Folders that are still being read are closed
// with it.
func (a *archive) Close() error {
	a.Store.Close()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	a.closed = true
	var errs []error
	for path, s := range a.open {
		errs = append(errs, s.Close())
		delete(a.open, path)
	}
	return errors.Join(append(errs, a.sink.Close(), a.cat.Close())...)
}

var errClosed = errors.New("the archive is closed")

// acquire opens a folder of the sink, or joins those who have it open.
func (a *archive) acquire(ctx context.Context, path mail.Path) (*shared, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil, &mail.Error{Op: "open", Scope: mail.ScopeAccount, Err: errClosed}
	}
	s := a.open[path]
	if s == nil {
		f, err := a.sink.Open(ctx, path, false)
		if err != nil {
			return nil, err
		}
		if _, ok := f.(sink.Reader); !ok {
			f.Close()
			return nil, &mail.Error{Op: "open", Scope: mail.ScopeAccount, Err: fmt.Errorf("this kind of archive cannot be read back")}
		}
		s = &shared{Folder: f}
		a.open[path] = s
	}
	s.users++
	return s, nil
}

func (a *archive) release(path mail.Path, s *shared) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s.users--; s.users > 0 || a.open[path] != s {
		return
	}
	delete(a.open, path)
	s.Close() // it was only read
}
