package compare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"mailhaul/internal/mail"
	"mailhaul/source"
)

// A letter is a message of a fake.
type letter struct {
	raw   string
	date  time.Time
	flags mail.Flags
	bad   bool // cannot be read
}

// A fake is a source in memory.
type fake struct {
	kind string // "describes": without digests; "knows": with them; "reads": neither

	mu      sync.Mutex
	folders map[mail.Path][]letter
	fails   map[mail.Path][]error // what Open gives, once each
	read    int                   // bodies
	lies    map[string]int64      // claimed sizes, by raw
	vanish  map[mail.Path]int     // a message that goes once it is listed
}

func (f *fake) list() (all []source.Folder) {
	for path, letters := range f.folders {
		all = append(all, source.Folder{Path: path, Raw: string(path), Messages: int64(len(letters))})
	}
	slices.SortFunc(all, func(a, b source.Folder) int { return strings.Compare(string(a.Path), string(b.Path)) })
	return all
}

func (f *fake) Folders(context.Context) ([]source.Folder, error) { return f.list(), nil }

func (f *fake) Open(_ context.Context, path mail.Path) (source.Mailbox, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if errs := f.fails[path]; len(errs) > 0 {
		f.fails[path] = errs[1:]
		return nil, errs[0]
	}
	if _, ok := f.folders[path]; !ok {
		return nil, &mail.Error{Op: "open", Scope: mail.ScopeFolder, Err: fs.ErrNotExist}
	}
	b := &fakeBox{f: f, path: path}
	if f.kind == "reads" {
		return b, nil
	}
	return describing{b}, nil
}

func (f *fake) Close() error { return nil }

type fakeBox struct {
	f    *fake
	path mail.Path
}

func (b *fakeBox) Epoch() string           { return "1" }
func (b *fakeBox) Listing() source.Listing { return source.Listing{} }
func (b *fakeBox) Close() error            { return nil }

func (b *fakeBox) letters() []letter {
	b.f.mu.Lock()
	defer b.f.mu.Unlock()
	return slices.Clone(b.f.folders[b.path])
}

// get finds a message by its number, which counts from 1.
func (b *fakeBox) get(id source.ID) (letter, bool) {
	n, _ := strconv.Atoi(string(id))
	b.f.mu.Lock()
	defer b.f.mu.Unlock()
	all := b.f.folders[b.path]
	if n < 1 || n > len(all) || b.f.vanish[b.path] == n {
		return letter{}, false
	}
	return all[n-1], true
}

func (b *fakeBox) size(l letter) int64 {
	if n, ok := b.f.lies[l.raw]; ok {
		return n
	}
	return int64(len(l.raw))
}

func (b *fakeBox) List(context.Context, source.Cursor) iter.Seq2[source.Entry, error] {
	return func(yield func(source.Entry, error) bool) {
		for i, l := range b.letters() {
			if !yield(source.Entry{ID: source.ID(fmt.Sprint(i + 1)), Size: b.size(l), Date: l.date, Flags: l.flags}, nil) {
				return
			}
		}
	}
}

func (b *fakeBox) Fetch(_ context.Context, next func(bool) []source.Entry) iter.Seq2[*source.Message, error] {
	return func(yield func(*source.Message, error) bool) {
		for entries := next(true); len(entries) > 0; entries = next(true) {
			for _, e := range entries {
				l, ok := b.get(e.ID)
				if !ok {
					continue
				}
				b.f.mu.Lock()
				b.f.read++
				b.f.mu.Unlock()
				var err error
				if l.bad {
					err = &mail.Error{Op: "fetch", Scope: mail.ScopeMessage, Err: errors.New("the disk has a hole")}
				}
				if !yield(&source.Message{Entry: e, Body: strings.NewReader(l.raw)}, err) {
					return
				}
			}
		}
	}
}

func (b *fakeBox) Present(_ context.Context, ids []source.ID) (map[source.ID]bool, error) {
	there := map[source.ID]bool{}
	for _, id := range ids {
		if _, ok := b.get(id); ok {
			there[id] = true
		}
	}
	return there, nil
}

type describing struct{ *fakeBox }

func (b describing) Describe(_ context.Context, entries []source.Entry) iter.Seq2[source.Description, error] {
	return func(yield func(source.Description, error) bool) {
		for _, e := range entries {
			l, ok := b.get(e.ID)
			if !ok || l.bad {
				continue
			}
			s, _ := mail.Summarize(io.Reader(bytes.NewReader([]byte(l.raw))))
			d := source.Description{ID: e.ID, Size: b.size(l), MessageID: s.MessageID, Head: s.Head}
			if b.f.kind == "knows" {
				d.Digest = s.Digest
			}
			if !yield(d, nil) {
				return
			}
		}
	}
}
