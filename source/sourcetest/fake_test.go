package sourcetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strconv"
	"sync"

	"mailhaul/internal/mail"
	"mailhaul/internal/testmail"
	"mailhaul/source"
)

// fake is the simplest source that keeps the contract, and a way to break it
// in one place.
type fake struct {
	sin     string // what it does wrong; nothing when empty
	mu      sync.Mutex
	closed  bool
	folders map[mail.Path]*fakeFolder
	one     chan struct{} // held by an open mailbox, when only one may be open
}

type fakeFolder struct {
	next int
	ids  []int
	mail map[int]testmail.Message

	pinned int // the id of one that stays; 0: none does
}

func (f *fakeFolder) add(m testmail.Message) {
	f.next++
	f.ids = append(f.ids, f.next)
	f.mail[f.next] = m
}

func (f *fakeFolder) drop(id int) {
	delete(f.mail, id)
	f.ids = slices.DeleteFunc(slices.Clone(f.ids), func(i int) bool { return i == id })
}

// lost are messages that no fake takes.
func lost(raw []byte) bool { return bytes.HasPrefix(raw, []byte(".")) }

// opener makes stores of fakes that commit sin.
func opener(sin string, alone bool) Open {
	return func(tb TB, folders []Folder) Store {
		s := &fake{sin: sin, folders: map[mail.Path]*fakeFolder{}}
		if alone {
			s.one = make(chan struct{}, 1)
		}
		for _, want := range folders {
			f := &fakeFolder{mail: map[int]testmail.Message{}}
			s.folders[want.Path] = f
			for _, m := range want.Messages {
				if !lost(m.Raw()) {
					f.add(m)
				}
			}
		}
		return Store{
			Source: s,
			Alone:  alone,
			Deliver: func(path mail.Path, messages ...testmail.Message) {
				s.mu.Lock()
				defer s.mu.Unlock()
				for _, m := range messages {
					s.folders[path].add(m)
				}
			},
			Remove: func(path mail.Path, i int) {
				s.mu.Lock()
				defer s.mu.Unlock()
				f := s.folders[path]
				f.drop(f.ids[i])
			},
			Left: func(path mail.Path) []testmail.Message {
				s.mu.Lock()
				defer s.mu.Unlock()
				return slices.Collect(maps.Values(s.folders[path].mail))
			},
			Pin: func(path mail.Path, i int) {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.folders[path].pinned = s.folders[path].ids[i]
			},
			Loses: lost,
			Rough: sin == "guesses sizes",
		}
	}
}

func (s *fake) Folders(context.Context) ([]source.Folder, error) {
	var all []source.Folder
	for path, f := range s.folders {
		n := int64(len(f.ids))
		if s.sin == "counts wrong" {
			n++
		}
		if s.sin == "hides a folder" && path == "Work" {
			continue
		}
		all = append(all, source.Folder{Path: path, Raw: string(path), Messages: n, Bytes: -1})
	}
	return all, nil
}

func (s *fake) Open(ctx context.Context, path mail.Path) (source.Mailbox, error) {
	if s.one != nil {
		select {
		case s.one <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed && s.sin != "opens when closed" {
		return nil, errors.New("closed")
	}
	if s.sin == "leaks" {
		go func() { <-make(chan int) }()
	}
	f := s.folders[path]
	if f == nil {
		scope := mail.ScopeFolder
		if s.sin == "blames the account" {
			scope = mail.ScopeAccount
		}
		if s.one != nil {
			<-s.one
		}
		return nil, &mail.Error{Op: "open", Scope: scope, Err: errors.New("no such folder")}
	}
	return &fakeBox{s: s, f: f}, nil
}

func (s *fake) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed && s.sin == "closes once" {
		return errors.New("closed already")
	}
	s.closed = true
	return nil
}

func (s *fake) Remove(ctx context.Context, path mail.Path, ids []source.ID) (gone []source.ID, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed && s.sin != "removes when closed" {
		return nil, errors.New("closed")
	}
	if ctx.Err() != nil && s.sin != "removes nothing when cancelled" {
		return nil, ctx.Err()
	}
	f := s.folders[path]
	if f == nil && s.sin == "removes anywhere" {
		f = s.folders[mail.Inbox]
	}
	if f == nil {
		return nil, &mail.Error{Op: "remove", Scope: mail.ScopeFolder, Err: errors.New("no such folder")}
	}
	if len(ids) == 0 && s.sin == "takes nothing for everything" {
		f.ids, f.mail = nil, nil
	}
	for _, id := range ids {
		n, _ := strconv.Atoi(string(id))
		if _, ok := f.mail[n]; !ok {
			if s.sin == "fails for what is not there" {
				return gone, errors.New("not there")
			}
			continue
		}
		if s.remove(f, n, ctx.Err() != nil) && s.sin != "hides what it removed" {
			gone = append(gone, id)
		}
		if s.sin == "tells twice" {
			gone = append(gone, id)
		}
	}
	return gone, nil
}

// remove removes one message, and tells whether it is gone.
func (s *fake) remove(f *fakeFolder, id int, cancelled bool) bool {
	switch {
	case f.pinned == id:
		return s.sin == "believes that all is well"
	case s.sin == "removes nothing" || cancelled || s.sin == "spares the last" && len(f.ids) == 1:
		return true
	case s.sin == "removes more":
		f.drop(id + 1)
	case s.sin == "removes another":
		id++
	}
	f.drop(id)
	return true
}

type fakeBox struct {
	s      *fake
	f      *fakeFolder
	sum    source.Listing
	closed bool
}

func (b *fakeBox) Epoch() string {
	if b.s.sin == "has no epoch" {
		return ""
	}
	return "1"
}

func (b *fakeBox) Listing() source.Listing { return b.sum }

func (b *fakeBox) Close() error {
	if b.s.one != nil && !b.closed && b.s.sin != "keeps its place" {
		<-b.s.one
	}
	b.closed = true
	return nil
}

func (b *fakeBox) List(ctx context.Context, since source.Cursor) iter.Seq2[source.Entry, error] {
	return func(yield func(source.Entry, error) bool) {
		b.s.mu.Lock()
		ids, next := append([]int(nil), b.f.ids...), b.f.next
		b.s.mu.Unlock()
		from, _ := strconv.Atoi(string(since))
		for i, id := range ids {
			if ctx.Err() != nil {
				switch b.s.sin {
				case "ends quietly":
					return
				case "hangs":
					select {}
				}
				yield(source.Entry{}, fmt.Errorf("list: %w", ctx.Err()))
				return
			}
			if id <= from || b.s.sin == "misses the first" && i == 0 {
				continue
			}
			if b.s.sin == "misses what is new" && since != "" {
				continue
			}
			e := b.entry(id)
			if !yield(e, nil) {
				return
			}
			if b.s.sin == "lists twice" && i == 3 {
				yield(e, nil)
			}
		}
		b.sum = source.Listing{Cursor: source.Cursor(strconv.Itoa(next)), Messages: int64(len(ids)), Partial: from > 0}
		switch b.s.sin {
		case "sums up wrong":
			b.sum.Messages--
		case "hides that it is partial":
			b.sum.Partial = false
		}
	}
}

func (b *fakeBox) entry(id int) source.Entry {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	m := b.f.mail[id]
	e := source.Entry{ID: source.ID(strconv.Itoa(id)), Size: m.Size, Date: m.Date, Flags: m.Flags}
	switch b.s.sin {
	case "lies about size", "guesses sizes":
		e.Size++
	case "forgets flags":
		e.Flags = nil
	case "forgets dates":
		e.Date = testmail.Epoch
	case "gives other ids":
		e.ID += source.ID(fmt.Sprintf("-%p", b))
	}
	return e
}

func (b *fakeBox) Fetch(ctx context.Context, next func(bool) []source.Entry) iter.Seq2[*source.Message, error] {
	return func(yield func(*source.Message, error) bool) {
		var queue []source.Entry
		for {
			more := next(len(queue) == 0 || b.s.sin == "always waits")
			queue = append(queue, more...)
			if len(queue) == 0 || b.s.sin == "takes no room for the end" && len(more) == 0 {
				return
			}
			if ctx.Err() != nil {
				if b.s.sin != "ends quietly" {
					yield(nil, fmt.Errorf("fetch: %w", ctx.Err()))
				}
				return
			}
			e := queue[0]
			queue = queue[1:]
			if !b.give(e, yield) {
				return
			}
		}
	}
}

// give yields one message, if it is there.
func (b *fakeBox) give(e source.Entry, yield func(*source.Message, error) bool) bool {
	id, _ := strconv.Atoi(string(e.ID))
	b.s.mu.Lock()
	m, ok := b.f.mail[id]
	b.s.mu.Unlock()
	if !ok {
		if b.s.sin == "fails for one" {
			yield(nil, errors.New("gone"))
			return false
		}
		return true
	}
	body := m.Open()
	switch b.s.sin {
	case "removes what was read":
		b.s.mu.Lock()
		b.f.drop(id)
		b.s.mu.Unlock()
	case "drops a message":
		if id == 4 {
			return true
		}
	case "cuts a body":
		body = io.LimitReader(body, m.Size-1)
	case "changes line ends":
		body = bytes.NewReader(bytes.ReplaceAll(m.Raw(), []byte("\r\n"), []byte("\n")))
	case "adds a line end":
		body = io.MultiReader(body, bytes.NewReader([]byte("\r\n")))
	case "gives twice":
		if !yield(&source.Message{Entry: e, Body: m.Open()}, nil) {
			return false
		}
	case "fails at the end of a body":
		body = io.MultiReader(body, failing{})
	}
	return yield(&source.Message{Entry: e, Body: body}, nil)
}

func (b *fakeBox) Describe(ctx context.Context, entries []source.Entry) iter.Seq2[source.Description, error] {
	return func(yield func(source.Description, error) bool) {
		for i, e := range entries {
			if ctx.Err() != nil {
				if b.s.sin != "ends quietly" {
					yield(source.Description{}, fmt.Errorf("describe: %w", ctx.Err()))
				}
				return
			}
			id, _ := strconv.Atoi(string(e.ID))
			b.s.mu.Lock()
			m, ok := b.f.mail[id]
			b.s.mu.Unlock()
			if !ok && b.s.sin != "describes what is not there" || b.s.sin == "describes too few" && i == 3 {
				continue
			}
			var s mail.Summary
			if ok {
				s, _ = mail.Summarize(bytes.NewReader(m.Raw()))
			}
			d := source.Description{ID: e.ID, Size: s.Size, MessageID: s.MessageID, Head: s.Head, Digest: s.Digest}
			switch b.s.sin {
			case "describes a wrong size":
				d.Size++
			case "describes another header":
				d.Head[0]++
			case "describes no message-id":
				d.MessageID = ""
			case "describes another text":
				d.Digest = d.Head
			case "describes twice":
				yield(d, nil)
			}
			if !yield(d, nil) {
				return
			}
		}
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func (b *fakeBox) Present(_ context.Context, ids []source.ID) (map[source.ID]bool, error) {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	there := map[source.ID]bool{}
	for _, id := range ids {
		n, _ := strconv.Atoi(string(id))
		if _, ok := b.f.mail[n]; ok || b.s.sin == "finds everything" {
			there[id] = true
		}
	}
	return there, nil
}
