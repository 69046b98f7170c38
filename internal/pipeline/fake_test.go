package pipeline

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"strconv"
	"sync"
	"time"

	"mailhaul/internal/mail"
	"mailhaul/source"
)

// fake is a server in memory that counts changes like CONDSTORE.
type fake struct {
	mu      sync.Mutex
	folders []*fakeFolder
	bodies  int // fetched
	heads   int // times that headers were asked for
	lists   int
	gaps    []string // folders that cannot be listed
	opens   int
	pop     bool // IDs are texts, there are no dates, flags, cursors
	removes [][]source.ID
	refuse  func(ids []source.ID) ([]source.ID, error)           // what Remove does instead
	listing func(id source.ID)                                   // called for each entry of a listing; nil: nothing is
	fault   func(what string, f *fakeFolder, id source.ID) error // before each body; nil: none
}

type fakeFolder struct {
	path     mail.Path
	validity int
	next     int
	modseq   int
	messages []*fakeMessage
	gone     []source.Span // told with a listing of changes
	noState  bool          // no CONDSTORE
}

type fakeMessage struct {
	uid    int
	modseq int
	raw    string
	flags  mail.Flags
	date   time.Time
	global string
	omit   int // not delivered so many times
	size   int64
}

func (s *fake) folder(path mail.Path) *fakeFolder {
	for _, f := range s.folders {
		if f.path == path {
			return f
		}
	}
	f := &fakeFolder{path: path, validity: 1, next: 1, modseq: 1}
	s.folders = append(s.folders, f)
	return f
}

func (f *fakeFolder) add(raw string, flags ...string) *fakeMessage {
	f.modseq++
	m := &fakeMessage{uid: f.next, modseq: f.modseq, raw: raw, flags: mail.NewFlags(flags...), date: time.Unix(1e9, 0)}
	f.next++
	f.messages = append(f.messages, m)
	return m
}

func (f *fakeFolder) reflag(i int, flags ...string) {
	f.modseq++
	f.messages[i].modseq = f.modseq
	f.messages[i].flags = mail.NewFlags(flags...)
}

func (f *fakeFolder) expunge(i int) {
	f.modseq++
	f.messages = append(f.messages[:i:i], f.messages[i+1:]...)
}

func (f *fakeFolder) cursor() source.Cursor {
	if f.noState {
		return source.Cursor(fmt.Sprintf("%d/%d/0/%d", f.validity, f.next, len(f.messages)))
	}
	return source.Cursor(fmt.Sprintf("%d/%d/%d/%d", f.validity, f.next, f.modseq, len(f.messages)))
}

func (s *fake) Folders(ctx context.Context) ([]source.Folder, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []source.Folder
	for _, f := range s.folders {
		x := source.Folder{Path: f.path, Raw: string(f.path), Messages: int64(len(f.messages)), Bytes: -1, State: f.cursor(), Mute: f.noState}
		if s.pop {
			x.State = ""
		}
		all = append(all, x)
	}
	return all, ctx.Err()
}

func (s *fake) Open(ctx context.Context, path mail.Path) (source.Mailbox, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opens++
	for _, f := range s.folders {
		if f.path == path {
			return &fakeMailbox{s: s, f: f}, nil
		}
	}
	return nil, &mail.Error{Op: "open", Scope: mail.ScopeFolder, Err: fmt.Errorf("no folder %s", path)}
}

func (s *fake) Close() error { return nil }

func (s *fake) Gaps() []string { return s.gaps }

// popFake can remove.
type popFake struct{ *fake }

func (s popFake) Remove(ctx context.Context, path mail.Path, ids []source.ID) ([]source.ID, error) {
	s.removes = append(s.removes, ids)
	var err error
	if s.refuse != nil {
		ids, err = s.refuse(ids)
	}
	f := s.folder(path)
	var gone []source.ID
	for _, id := range ids {
		for i, m := range f.messages {
			if s.id(m) == id {
				f.expunge(i)
				gone = append(gone, id)
				break
			}
		}
	}
	return gone, err
}

func (s *fake) id(m *fakeMessage) source.ID {
	if s.pop {
		return source.ID(fmt.Sprintf("u%dx", m.uid))
	}
	return source.ID(strconv.Itoa(m.uid))
}

type fakeMailbox struct {
	s       *fake
	f       *fakeFolder
	listing source.Listing
}

func (m *fakeMailbox) Epoch() string           { return strconv.Itoa(m.f.validity) }
func (m *fakeMailbox) Listing() source.Listing { return m.listing }
func (m *fakeMailbox) Close() error            { return nil }

func (m *fakeMailbox) List(ctx context.Context, since source.Cursor) iter.Seq2[source.Entry, error] {
	return m.list(ctx, since, false)
}

func (m *fakeMailbox) ListNew(ctx context.Context, since source.Cursor) iter.Seq2[source.Entry, error] {
	return m.list(ctx, since, true)
}

func (m *fakeMailbox) list(ctx context.Context, since source.Cursor, onlyNew bool) iter.Seq2[source.Entry, error] {
	return func(yield func(source.Entry, error) bool) {
		m.s.mu.Lock()
		m.s.lists++
		f := m.f
		var validity, next, modseq, count int
		fmt.Sscanf(string(since), "%d/%d/%d/%d", &validity, &next, &modseq, &count)
		same := validity == f.validity && !m.s.pop
		m.listing = source.Listing{Partial: same && (modseq > 0 && !f.noState || onlyNew && f.noState)}
		cursor, messages := f.cursor(), append([]*fakeMessage(nil), f.messages...)
		back := validity == f.validity && (f.next < next || !f.noState && f.modseq < modseq)
		m.s.mu.Unlock()
		if back {
			yield(source.Entry{}, &mail.Error{Op: "list", Scope: mail.ScopeFolder, Err: source.ErrRewound})
			return
		}
		for _, msg := range messages {
			if m.listing.Partial && (!f.noState && msg.modseq <= modseq || f.noState && msg.uid < next) {
				continue
			}
			if f := m.s.listing; f != nil {
				f(m.s.id(msg))
			}
			e := m.s.entry(msg)
			if same && f.noState && msg.uid < next {
				e = source.Entry{ID: e.ID, Size: -1, Flags: e.Flags, Brief: true}
			}
			if err := ctx.Err(); err != nil {
				yield(source.Entry{}, err)
				return
			}
			if !yield(e, nil) {
				return
			}
		}
		if m.listing.Partial {
			m.listing.Gone = f.gone
		}
		m.listing.Cursor, m.listing.Messages = cursor, int64(len(messages))
	}
}

func (s *fake) entry(msg *fakeMessage) source.Entry {
	size := int64(len(msg.raw))
	if msg.size != 0 {
		size = msg.size
	}
	if s.pop {
		return source.Entry{ID: s.id(msg), Size: size}
	}
	return source.Entry{ID: s.id(msg), Size: size, Date: msg.date, Flags: msg.flags, Global: msg.global}
}

func (m *fakeMailbox) find(id source.ID) *fakeMessage {
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	for _, msg := range m.f.messages {
		if m.s.id(msg) == id {
			return msg
		}
	}
	return nil
}

func (m *fakeMailbox) Fetch(ctx context.Context, next func(bool) []source.Entry) iter.Seq2[*source.Message, error] {
	return func(yield func(*source.Message, error) bool) {
		var open []source.Entry
		for {
			if more := next(len(open) == 0); len(more) > 0 {
				open = append(open, more...)
			}
			if len(open) == 0 {
				return
			}
			e := open[0]
			open = open[1:]
			if err := ctx.Err(); err != nil {
				yield(nil, err)
				return
			}
			msg := m.find(e.ID)
			if msg == nil {
				continue
			}
			if msg.omit > 0 {
				msg.omit--
				continue
			}
			out := &source.Message{Entry: e}
			if fault := m.s.fault; fault != nil {
				if err := fault("fetch", m.f, e.ID); err != nil {
					if mail.ScopeOf(err, 0) != mail.ScopeMessage {
						yield(nil, err)
						return
					}
					if !yield(out, err) {
						return
					}
					continue
				}
			}
			m.s.mu.Lock()
			m.s.bodies++
			m.s.mu.Unlock()
			out.Body = bytes.NewReader([]byte(msg.raw))
			if !yield(out, nil) {
				return
			}
			io.Copy(io.Discard, out.Body)
		}
	}
}

func (m *fakeMailbox) Present(ctx context.Context, ids []source.ID) (map[source.ID]bool, error) {
	there := map[source.ID]bool{}
	for _, id := range ids {
		there[id] = m.find(id) != nil
	}
	return there, nil
}
