package archive

import (
	"cmp"
	"context"
	"errors"
	"hash/maphash"
	"io/fs"
	"iter"
	"slices"
	"time"

	"mailhaul/internal/mail"
	"mailhaul/sink"
	"mailhaul/source"
)

// unknownEnds are those of a stray: mail has them.
var unknownEnds = mail.Ends{Kind: mail.EndsCRLF}

// A stray is a message of which the catalog knows the content only, and what
// the mail itself tells of it: thirty-two bytes, so that a million fit.
type stray struct {
	place   uint64 // hashed
	message int64
	date    int64 // 0: unknown, as an mbox says it
	flags   int32 // of those seen so far; 0: none
}

// strays lists them in the order of storing. One that is not there any more is
// listed too: it fails when it is fetched.
func (m *mailbox) strays(ctx context.Context) iter.Seq2[source.Entry, error] {
	return func(yield func(source.Entry, error) bool) {
		all, flags, err := m.gather(ctx)
		for i := 0; i < len(all) && err == nil; i++ {
			x := &all[i]
			e := source.Entry{Flags: flags[x.flags]}
			if x.date != 0 {
				e.Date = time.Unix(x.date, 0).UTC()
			}
			s, serr := m.a.cat.Message(ctx, x.message)
			n, nerr := m.a.cat.Ordinal(ctx, s)
			e.ID, e.Size = strayID(s.Digest, n), unknownEnds.Size(s.Text, s.Lines)
			if err = errors.Join(serr, nerr); err == nil && !yield(e, nil) {
				return
			}
		}
		if err != nil {
			yield(source.Entry{}, err)
		}
	}
}

// gather looks for the strays of the folder, and for their dates and flags.
func (m *mailbox) gather(ctx context.Context) (all []stray, flags []mail.Flags, err error) {
	seed := maphash.MakeSeed()
	for s, err := range m.a.cat.StraysIn(ctx, m.f.strays) {
		if err != nil {
			return nil, nil, err
		}
		all = append(all, stray{place: maphash.String(seed, string(s.Place)), message: s.Message})
	}
	byPlace := func(a, b stray) int { return cmp.Compare(a.place, b.place) }
	slices.SortFunc(all, byPlace)
	flags = []mail.Flags{nil}
	known := map[string]int32{"": 0}
	for found, err := range m.scan(ctx) {
		if err != nil {
			return nil, nil, err
		}
		i, ok := slices.BinarySearchFunc(all, stray{place: maphash.String(seed, string(found.Place))}, byPlace)
		if !ok {
			continue
		}
		key := found.Flags.Key()
		n, ok := known[key]
		if !ok {
			n = int32(len(flags))
			known[key], flags = n, append(flags, found.Flags)
		}
		all[i].date, all[i].flags = found.Date.Unix(), n
	}
	slices.SortFunc(all, func(a, b stray) int { return cmp.Compare(a.message, b.message) })
	return all, flags, nil
}

// scan looks at the folder of the archive. One that is gone is empty.
func (m *mailbox) scan(ctx context.Context) iter.Seq2[sink.Found, error] {
	return func(yield func(sink.Found, error) bool) {
		s, err := m.a.acquire(ctx, m.f.strays)
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		if err != nil {
			yield(sink.Found{}, err)
			return
		}
		defer m.a.release(m.f.strays, s)
		scanner, ok := s.Folder.(sink.Scanner)
		if !ok {
			return
		}
		for found, err := range scanner.Scan(ctx, false) {
			if !yield(found, err) || err != nil {
				return
			}
		}
	}
}
