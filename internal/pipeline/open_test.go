package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"mailhaul/internal/mail"
	"mailhaul/sink"
)

// A gate is a Sink of folders that do nothing. open is asked before each is opened.
type gate struct {
	open func(path mail.Path, create bool) error
	live sync.Map // path: *atomic.Int32, how many are open
	bad  atomic.Bool
}

type gated struct {
	sink.Folder
	g    *gate
	path mail.Path
}

func (g *gate) count(path mail.Path, by int32) {
	n, _ := g.live.LoadOrStore(path, new(atomic.Int32))
	if n := n.(*atomic.Int32).Add(by); n < 0 || n > 1 {
		g.bad.Store(true)
	}
}

func (g *gate) Open(ctx context.Context, path mail.Path, create bool) (sink.Folder, error) {
	if g.open != nil {
		if err := g.open(path, create); err != nil {
			return nil, err
		}
	}
	g.count(path, 1)
	return gated{g: g, path: path}, nil
}

func (g *gate) Close() error { return nil }

func (f gated) Close() error {
	f.g.count(f.path, -1)
	return nil
}

// TestOpeningHoldsUpNobody: a folder that a server is slow to make costs the others
// nothing, and who has waited for one that could not be opened tries for himself.
func TestOpeningHoldsUpNobody(t *testing.T) {
	refused := errors.New("refused")
	asked, answer := make(chan bool), make(chan error)
	g := &gate{open: func(path mail.Path, create bool) error {
		if path == "slow" {
			asked <- create
			return <-answer
		}
		return nil
	}}
	r := &run{Pipeline: &Pipeline{Sink: g}, open: map[mail.Path]*openFolder{}}
	got := make(chan error, 2)
	open := func(create bool) {
		_, err := r.acquire(t.Context(), "slow", create)
		got <- err
	}
	go open(false)
	if create := <-asked; create {
		t.Error("asked to make it")
	}
	if _, err := r.acquire(t.Context(), "fast", true); err != nil {
		t.Fatal(err)
	}
	if err := r.release("fast"); err != nil {
		t.Fatal(err)
	}
	go open(true)
	answer <- refused
	if err := <-got; err != refused {
		t.Errorf("the first: %v", err)
	}
	if create := <-asked; !create {
		t.Error("the second was not asked to make it")
	}
	answer <- nil
	if err := <-got; err != nil {
		t.Errorf("the second: %v", err)
	}
	if err := r.release("slow"); err != nil || len(r.open) != 0 {
		t.Errorf("%v, %d folders are open", err, len(r.open))
	}
}

// TestOpenOnceAtATime: many use few folders, and each is open once.
func TestOpenOnceAtATime(t *testing.T) {
	g := &gate{}
	r := &run{Pipeline: &Pipeline{Sink: g}, open: map[mail.Path]*openFolder{}}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 500 {
				path := mail.Path(fmt.Sprint((i + n) % 3))
				o, err := r.acquire(t.Context(), path, true)
				if err != nil || o.Folder.(gated).path != path {
					t.Errorf("%v, %v", o, err)
					return
				}
				if err := r.release(path); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if g.bad.Load() || len(r.open) != 0 {
		t.Errorf("a folder was open twice: %v; %d are open", g.bad.Load(), len(r.open))
	}
}
