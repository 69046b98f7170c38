package compare

import (
	"context"
	"fmt"
	"iter"

	"mailhaul/internal/mail"
	"mailhaul/source"
)

// window is how many messages are looked at in one go.
const window = 1000

// A side is a source and what is looked at in it for one group.
type side struct {
	c     *Comparison
	src   source.Source
	shown mail.Path // the folder that progress is told of
	from  bool
	sets  *sets
	table table
}

// load lists a folder and finds out what each message is.
func (s *side) load(ctx context.Context, path mail.Path) error {
	box, err := s.src.Open(ctx, path)
	if err != nil {
		return err
	}
	defer box.Close()
	s.table.boxes = append(s.table.boxes, path)
	s.table.epochs = append(s.table.epochs, box.Epoch())
	var batch []source.Entry
	for e, err := range box.List(ctx, "") {
		if err != nil {
			return err
		}
		if batch = append(batch, e); len(batch) == window {
			if err := s.take(ctx, box, batch); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	return s.take(ctx, box, batch)
}

// take makes rows of entries. What is gone meanwhile was never there.
func (s *side) take(ctx context.Context, box source.Mailbox, batch []source.Entry) error {
	left := make(map[source.ID]source.Entry, len(batch))
	bytes := int64(0)
	for _, e := range batch {
		left[e.ID] = e
		bytes += max(e.Size, 0)
	}
	if d, ok := box.(source.Describer); ok && !s.c.Full {
		for d, err := range d.Describe(ctx, batch) {
			if err != nil {
				return err
			}
			e, asked := left[d.ID]
			if !asked {
				continue
			}
			delete(left, d.ID)
			s.add(e, row{head: short(d.Head), digest: digest(d.Digest), mid: hashOf(d.MessageID), size: d.Size, alike: d.Size})
		}
	}
	// Everything else is read; first together, then what did not come alone,
	// for a server refuses many because of one.
	if err := s.read(ctx, box, remaining(batch, left), left); err != nil {
		return err
	}
	for _, e := range remaining(batch, left) {
		if err := s.read(ctx, box, []source.Entry{e}, left); err != nil {
			return err
		}
	}
	if err := s.lost(ctx, box, remaining(batch, left)); err != nil {
		return err
	}
	if len(batch) > 0 {
		s.c.Progress(s.shown, int64(len(batch)), bytes)
	}
	return nil
}

// remaining are the entries of a batch that are left, in their order.
func remaining(batch []source.Entry, left map[source.ID]source.Entry) []source.Entry {
	var rest []source.Entry
	for _, e := range batch {
		if _, ok := left[e.ID]; ok {
			rest = append(rest, e)
		}
	}
	return rest
}

// digest shortens one; that of no message stays zero.
func digest(d mail.Digest) sum {
	if d == (mail.Digest{}) {
		return sum{}
	}
	return short(d)
}

func (s *side) add(e source.Entry, r row) {
	r.id, r.box = e.ID, uint32(len(s.table.boxes)-1)
	r.date = undated
	if !e.Date.IsZero() {
		r.date = e.Date.Unix()
	}
	r.flags = s.sets.number(e.Flags)
	s.table.rows = append(s.table.rows, r)
}

// read makes rows of messages by reading them.
func (s *side) read(ctx context.Context, box source.Mailbox, entries []source.Entry, left map[source.ID]source.Entry) error {
	for m, err := range summaries(ctx, box, entries) {
		e, asked := left[m.id]
		switch {
		case err != nil && mail.ScopeOf(err, mail.ScopeFolder) == mail.ScopeMessage:
			delete(left, m.id)
			s.unreadable(m.id, mail.Clean(err.Error()))
		case err != nil:
			return err
		case asked:
			delete(left, m.id)
			r := row{head: short(m.Head), digest: short(m.Digest), mid: hashOf(m.MessageID), size: m.Size, alike: m.Text + m.Lines}
			s.add(e, r)
			if m.MessageID != "" {
				if s.table.texts == nil {
					s.table.texts = map[key]string{}
				}
				s.table.texts[key{uint32(len(s.table.boxes) - 1), e.ID}] = m.MessageID
			}
		}
	}
	return nil
}

// lost tells of messages that were listed and cannot be had, if they are there
// still.
func (s *side) lost(ctx context.Context, box source.Mailbox, entries []source.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	var ids []source.ID
	for _, e := range entries {
		ids = append(ids, e.ID)
	}
	there, err := box.Present(ctx, ids)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if there[id] {
			s.unreadable(id, "it is listed, and cannot be had")
		}
	}
	return nil
}

func (s *side) unreadable(id source.ID, why string) {
	f := Finding{What: Unreadable, Detail: why}
	path := s.table.boxes[len(s.table.boxes)-1]
	if s.from {
		f.From, f.FromID = path, id
	} else {
		f.To, f.ToID = path, id
	}
	s.table.failed = append(s.table.failed, f)
}

// A summary is what a message was found to be.
type summary struct {
	id source.ID
	mail.Summary
}

// summaries reads messages. An error of one message comes with its id.
func summaries(ctx context.Context, box source.Mailbox, entries []source.Entry) iter.Seq2[summary, error] {
	return func(yield func(summary, error) bool) {
		if len(entries) == 0 {
			return
		}
		left := entries
		next := func(bool) []source.Entry {
			now := left
			left = nil
			return now
		}
		var cut error
		for m, err := range box.Fetch(ctx, next) {
			if err != nil {
				id := source.ID("")
				if m != nil {
					id = m.ID
				}
				if !yield(summary{id: id}, err) || mail.ScopeOf(err, mail.ScopeFolder) != mail.ScopeMessage {
					return
				}
				continue
			}
			sum, err := mail.Summarize(m.Body)
			if err != nil {
				if mail.ScopeOf(err, mail.ScopeFolder) == mail.ScopeMessage {
					if !yield(summary{id: m.ID}, err) {
						return
					}
					continue
				}
				cut = err // the loop ends with the reason
				continue
			}
			if !yield(summary{m.ID, sum}, nil) {
				return
			}
		}
		if cut != nil {
			yield(summary{}, cut)
		}
	}
}

// again opens a folder of the table for those of its messages that are asked
// for once more.
func (s *side) again(ctx context.Context, box uint32) (source.Mailbox, error) {
	path := s.table.boxes[box]
	b, err := s.src.Open(ctx, path)
	if err != nil {
		return nil, err
	}
	if b.Epoch() != s.table.epochs[box] {
		b.Close()
		return nil, &mail.Error{Op: "compare", Scope: mail.ScopeFolder, Temporary: true,
			Err: fmt.Errorf("%s: %w", mail.Clean(string(path)), source.ErrEpoch)}
	}
	return b, nil
}

// each goes through some messages of the table, by folders, with the folder
// open.
func (s *side) each(ctx context.Context, wanted map[uint32][]source.Entry, do func(n uint32, box source.Mailbox, entries []source.Entry) error) error {
	for i := range s.table.boxes {
		n := uint32(i)
		if len(wanted[n]) == 0 {
			continue
		}
		box, err := s.again(ctx, n)
		if err != nil {
			return err
		}
		err = do(n, box, wanted[n])
		box.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
