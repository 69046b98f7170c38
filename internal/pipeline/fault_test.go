package pipeline

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"mailhaul/internal/catalog"
	"mailhaul/internal/mail"
	"mailhaul/internal/spool"
	"mailhaul/sink"
	"mailhaul/source"
)

// A breaker lets the nth call of one operation fail, once: without its effect,
// or after it. Several goroutines may ask it.
type breaker struct {
	op      string
	nth     int64
	applied bool
	seen    atomic.Int64
	struck  atomic.Bool
}

var errBroken = errors.New("the answer is lost")

func (b *breaker) call(op string, applied bool) error {
	if op != b.op || applied != b.applied {
		return nil
	}
	if b.seen.Add(1) != b.nth {
		return nil
	}
	b.struck.Store(true)
	return &mail.Error{Op: op, Scope: mail.ScopeRun, Err: errBroken}
}

func (b *breaker) around(op string, f func() error) error {
	if err := b.call(op, false); err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	return b.call(op, true)
}

type brokenSource struct {
	source.Source
	b *breaker
}

func (s brokenSource) Folders(ctx context.Context) (list []source.Folder, err error) {
	return list, s.b.around("folders", func() error { list, err = s.Source.Folders(ctx); return err })
}

func (s brokenSource) Open(ctx context.Context, path mail.Path) (m source.Mailbox, err error) {
	err = s.b.around("select", func() error { m, err = s.Source.Open(ctx, path); return err })
	if err != nil {
		return nil, err
	}
	return brokenMailbox{m, s.b}, nil
}

type brokenMailbox struct {
	source.Mailbox
	b *breaker
}

func (m brokenMailbox) List(ctx context.Context, since source.Cursor) iter.Seq2[source.Entry, error] {
	return func(yield func(source.Entry, error) bool) {
		err := m.b.call("list", false)
		if err == nil {
			for e, err := range m.Mailbox.List(ctx, since) {
				if !yield(e, err) {
					return
				}
			}
			err = m.b.call("list", true)
		}
		if err != nil {
			yield(source.Entry{}, err)
		}
	}
}

func (m brokenMailbox) Fetch(ctx context.Context, next func(bool) []source.Entry) iter.Seq2[*source.Message, error] {
	return func(yield func(*source.Message, error) bool) {
		for x, err := range m.Mailbox.Fetch(ctx, next) {
			if ferr := m.b.call("fetch", false); ferr != nil {
				yield(nil, ferr)
				return
			}
			if !yield(x, err) {
				return
			}
			if ferr := m.b.call("fetch", true); ferr != nil {
				yield(nil, ferr)
				return
			}
		}
	}
}

type brokenSink struct {
	sink.Sink
	b *breaker
}

func (s brokenSink) Open(ctx context.Context, path mail.Path, create bool) (sink.Folder, error) {
	if err := s.b.call("open", false); err != nil {
		return nil, err
	}
	f, err := s.Sink.Open(ctx, path, create)
	if err != nil {
		return nil, err
	}
	if err := s.b.call("open", true); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return brokenFolder{f, f.(sink.Reader), f.(sink.Scanner), s.b}, nil
}

type brokenFolder struct {
	sink.Folder
	sink.Reader
	sink.Scanner
	b *breaker
}

func (f brokenFolder) State(ctx context.Context) (x sink.State, err error) {
	return x, f.b.around("state", func() error { x, err = f.Folder.State(ctx); return err })
}

func (f brokenFolder) Mark(ctx context.Context) (x sink.Mark, err error) {
	return x, f.b.around("mark", func() error { x, err = f.Folder.Mark(ctx); return err })
}

func (f brokenFolder) Put(ctx context.Context, m *sink.Message) error {
	return f.b.around("put", func() error { return f.Folder.Put(ctx, m) })
}

func (f brokenFolder) Sync(ctx context.Context) (x []sink.Result, err error) {
	err = f.b.around("sync", func() error { x, err = f.Folder.Sync(ctx); return err })
	if err != nil {
		return nil, err
	}
	return x, nil
}

func (f brokenFolder) Recover(ctx context.Context, mark sink.Mark, want []sink.Want) (x []sink.Place, err error) {
	err = f.b.around("recover", func() error { x, err = f.Folder.Recover(ctx, mark, want); return err })
	if err != nil {
		return nil, err
	}
	return x, nil
}

// TestEveryOperationFailsBothWays lets the first, the second and a later call of
// each operation fail without its effect, and after it. The run says so; what was
// committed stays, the next run brings the rest, and one more does nothing.
func TestEveryOperationFailsBothWays(t *testing.T) {
	faults := 0
	for _, op := range []string{"folders", "select", "list", "fetch", "open", "state", "mark", "begin", "put", "sync", "recover", "commit"} {
		for _, applied := range []bool{false, true} {
			for nth := range 3 {
				if raced && nth > 0 {
					break
				}
				each(t, func(t *testing.T, a *archive) {
					if b := breakOnce(t, a, op, applied, nth+1); b.struck.Load() {
						faults++
					} else if nth == 0 {
						t.Errorf("%s was never called", op)
					}
				})
			}
		}
	}
	t.Logf("%d faults", faults)
}

func breakOnce(t *testing.T, a *archive, op string, applied bool, nth int) *breaker {
	a.options.Batch.Messages = 3
	s := &fake{}
	for i := range 8 {
		s.folder("INBOX").add(letter(i))
		s.folder("Work").add(letter(100 + i))
	}
	b := &breaker{op: op, nth: int64(nth), applied: applied}
	if op == "recover" { // which follows only what has failed
		if err := interrupted(a, s); err != nil {
			t.Fatal(err)
		}
	}
	run := func() (Report, error) {
		to := brokenSink{a.sink(), b}
		defer to.Close()
		c := a.catalog()
		defer c.Close()
		catalog.Fault = b.call
		defer func() { catalog.Fault = nil }()
		o := a.options
		o.Readers = 1
		o.Dedup = DedupFolder
		return (&Pipeline{Source: brokenSource{s, b}, Sink: to, Catalog: c, Account: a.account, Options: o,
			Spool: spool.New(filepath.Join(a.dir, ".mailhaul"), a.spool)}).Run(t.Context())
	}
	r, err := run()
	what := fmt.Sprintf("%s %d (applied %v)", op, nth, applied)
	if b.struck.Load() != (err != nil) || err != nil && (!errors.Is(err, errBroken) || !strings.Contains(err.Error(), op)) {
		t.Errorf("%s: the run ended in %v", what, err)
	}
	for path, k := range r.Folders {
		if k.Listed != k.Settled() {
			t.Errorf("%s: %s: %+v", what, path, *k)
		}
	}
	if r := a.must(s); r.Missing != 0 || len(r.Lost) != 0 {
		t.Errorf("%s: what was committed is missing: %+v", what, r)
	}
	a.holds(s.texts())
	if n := a.stored(); n != 16 {
		t.Errorf("%s: %d messages lie there, want 16", what, n)
	}
	s.bodies = 0
	if a.must(s); s.bodies != 0 {
		t.Errorf("%s: a third run fetched %d bodies", what, s.bodies)
	}
	return b
}

// interrupted is a run that leaves an intention behind: neither its batch nor
// what follows is settled.
func interrupted(a *archive, s *fake) error {
	b := &breaker{op: "commit", nth: 1}
	to := a.sink()
	defer to.Close()
	c := a.catalog()
	defer c.Close()
	catalog.Fault = b.call
	defer func() { catalog.Fault = nil }()
	_, err := (&Pipeline{Source: s, Sink: to, Catalog: c, Account: a.account, Options: a.options,
		Spool: spool.New(filepath.Join(a.dir, ".mailhaul"), a.spool)}).Run(a.t.Context())
	if err == nil {
		return errors.New("the commit did not fail")
	}
	return nil
}
