package compare

import (
	"context"
	"errors"
	"sync"

	"mailhaul/internal/mail"
	"mailhaul/source"
)

// folder compares one group. What it finds is told only once all of it is
// known: a folder that is tried again is begun anew.
func (c *Comparison) folder(ctx context.Context, g *group, f *Folder) error {
	s := newSets()
	w := &work{c: c, goal: g.to, sets: s,
		from: &side{c: c, src: c.From, from: true, sets: s, shown: f.From[0]},
		to:   &side{c: c, src: c.To, sets: s, shown: f.From[0]},
	}
	if err := w.load(ctx, g); err != nil {
		return err
	}
	w.match = match{from: &w.from.table, to: &w.to.table}
	w.identical()
	w.related()
	if err := w.settle(ctx); err != nil {
		return err
	}
	w.tell(ctx)
	f.Counts = w.counts
	return nil
}

// work is the comparison of one group under way.
type work struct {
	c        *Comparison
	from, to *side
	goal     mail.Path // the folder of To, there or not
	sets     *sets
	match
	counts Counts
}

// load looks at both sides at once: they are different servers.
func (w *work) load(ctx context.Context, g *group) error {
	var fromErr, toErr error
	var both sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	both.Go(func() {
		for _, l := range g.lines {
			if fromErr = w.from.load(ctx, l.From.Path); fromErr != nil {
				cancel()
				return
			}
		}
	})
	both.Go(func() {
		if g.lines[0].Exists {
			if toErr = w.to.load(ctx, g.to); toErr != nil {
				cancel()
			}
		}
	})
	both.Wait()
	// The one that failed first has ended the other.
	if fromErr != nil && (toErr == nil || !isCancel(fromErr)) || isCancel(fromErr) && isCancel(toErr) {
		return &SideError{From: true, Err: fromErr}
	}
	if toErr != nil {
		return &SideError{Err: toErr}
	}
	w.counts.From = int64(len(w.from.table.rows) + len(w.from.table.failed))
	w.counts.To = int64(len(w.to.table.rows) + len(w.to.table.failed))
	return nil
}

// A SideError is what went wrong on one side.
type SideError struct {
	From bool // or To
	Err  error
}

func (e *SideError) Error() string {
	if e.From {
		return "FROM: " + e.Err.Error()
	}
	return "TO: " + e.Err.Error()
}

func (e *SideError) Unwrap() error { return e.Err }

// settle reads what only reading can decide.
func (w *work) settle(ctx context.Context) error {
	pairs := w.doubtful()
	if len(pairs) == 0 {
		return nil
	}
	var from, to []int
	for _, p := range pairs {
		from, to = append(from, p.from), append(to, p.to)
	}
	if err := w.from.fill(ctx, from); err != nil {
		return &SideError{From: true, Err: err}
	}
	if err := w.to.fill(ctx, to); err != nil {
		return &SideError{Err: err}
	}
	for _, p := range pairs {
		if a, b := &w.from.table.rows[p.from], &w.to.table.rows[p.to]; read(a) && a.digest == b.digest {
			w.same = append(w.same, p)
		} else {
			w.changed = append(w.changed, p)
		}
	}
	return nil
}

// fill reads messages whose digest is not known. One that cannot be read stays
// without.
func (s *side) fill(ctx context.Context, rows []int) error {
	at := map[key]int{}
	wanted := map[uint32][]source.Entry{}
	for _, i := range rows {
		if r := &s.table.rows[i]; unread(r) {
			at[key{r.box, r.id}] = i
			wanted[r.box] = append(wanted[r.box], r.entry())
		}
	}
	return s.each(ctx, wanted, func(n uint32, box source.Mailbox, entries []source.Entry) error {
		for m, err := range summaries(ctx, box, entries) {
			switch i, ok := at[key{n, m.id}]; {
			case err != nil && mail.ScopeOf(err, mail.ScopeFolder) == mail.ScopeMessage:
			case err != nil:
				return err
			case ok:
				s.table.rows[i].digest = short(m.Digest)
			}
		}
		return nil
	})
}

func isCancel(err error) bool { return errors.Is(err, context.Canceled) }
