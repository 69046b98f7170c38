package imapconn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"mailhaul/internal/mail"
)

// A Pool is the connections to one account. Its methods may be called from
// several goroutines.
//
// A token is the right to use one connection; there are as many as the location
// allows. When the server allows fewer, the token of the connection that it
// refused is thrown away, so that the pool fits the server from then on.
type Pool struct {
	options Options
	tokens  chan struct{}
	closed  chan struct{}

	mu      sync.Mutex
	idle    []*Conn
	using   int      // tokens in use
	waiting int      // who wants one
	refused error    // the password: never tried again (row J5)
	alerts  []string // of the server, each once
	less    string   // about connections; only the last word counts
}

// NewPool makes a pool of so many connections at most. The first one is made
// when it is needed.
func NewPool(o Options, most int) *Pool {
	p := &Pool{options: o, tokens: make(chan struct{}, most), closed: make(chan struct{})}
	for range most {
		p.tokens <- struct{}{}
	}
	return p
}

// Borrow gives a connection, waiting for one to be returned while all are in
// use. An idle one may have died meanwhile: fresh tells which kind it is.
func (p *Pool) Borrow(ctx context.Context) (c *Conn, fresh bool, err error) {
	for {
		if err := p.wait(ctx); err != nil {
			return nil, false, err
		}
		c, fresh, again, err := p.get(ctx)
		if !again {
			return c, fresh, err
		}
	}
}

// wait takes a token.
func (p *Pool) wait(ctx context.Context) error {
	p.want(1)
	defer p.want(-1)
	if p.isClosed() {
		return closedPool(ErrClosed)
	}
	select {
	case <-p.tokens:
		return nil
	case <-ctx.Done():
		return closedPool(context.Cause(ctx))
	case <-p.closed:
		return closedPool(ErrClosed)
	}
}

func (p *Pool) want(n int) {
	p.mu.Lock()
	p.waiting += n
	p.mu.Unlock()
}

// Wanted reports whether somebody waits for a connection.
func (p *Pool) Wanted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waiting > 0
}

// Spare gives a connection that nobody else has a use for; nil: there is none.
// It waits for no other, but makes a new one where the location allows it.
func (p *Pool) Spare(ctx context.Context) (c *Conn, fresh bool, err error) {
	if p.isClosed() || p.Wanted() {
		return nil, false, nil
	}
	select {
	case <-p.tokens:
	default:
		return nil, false, nil
	}
	c, fresh, again, err := p.get(ctx)
	if again {
		return nil, false, nil
	}
	return c, fresh, err
}

// get gives the connection that a token is for. Again is true where the server
// allows fewer, and the token is gone.
func (p *Pool) get(ctx context.Context) (c *Conn, fresh, again bool, err error) {
	p.mu.Lock()
	err = p.refused
	if n := len(p.idle); n > 0 {
		c, p.idle = p.idle[n-1], p.idle[:n-1]
	}
	p.using++
	p.mu.Unlock()
	if c != nil {
		return c, false, false, nil
	}
	if err == nil {
		if c, err = Dial(ctx, p.options); err == nil {
			return c, true, false, nil
		}
	}
	return nil, false, p.shrink(ctx, err), err
}

// ErrClosed is why nothing comes from a pool that was closed.
var ErrClosed = errors.New("it is closed")

func closedPool(err error) error {
	return &mail.Error{Op: "connect", Scope: mail.ScopeAccount, Temporary: true, Err: err}
}

// shrink gives up the token for a connection that failed with err. When the
// server only wants fewer connections, and there is another one, the token is
// gone for good and the answer is true: wait for another.
func (p *Pool) shrink(ctx context.Context, err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.using--
	if errors.Is(err, mail.ErrLogin) {
		p.refused = err
	}
	if have := p.using + len(p.idle); errors.Is(err, ErrBusy) && ctx.Err() == nil && have > 0 {
		connections := "one connection"
		if have > 1 {
			connections = fmt.Sprintf("%d connections", have)
		}
		p.less = fmt.Sprintf("the server allows no more than %s at once: %v", connections, err)
		return true
	}
	p.tokens <- struct{}{}
	return false
}

// GiveBack returns a connection, or drops it when it is of no further use.
func (p *Pool) GiveBack(c *Conn) {
	alerts := c.Alerts()
	p.mu.Lock()
	for _, text := range alerts {
		if !slices.Contains(p.alerts, text) {
			p.alerts = append(p.alerts, text)
		}
	}
	keep := !c.Broken() && !p.isClosed()
	if keep {
		p.idle = append(p.idle, c)
	}
	p.using--
	p.mu.Unlock()
	if !keep {
		c.Logout(patience)
	}
	p.tokens <- struct{}{}
}

// patience is how long a farewell may take.
const patience = 2 * time.Second

func (p *Pool) isClosed() bool {
	select {
	case <-p.closed:
		return true
	default:
		return false
	}
}

// Use runs f with a connection. One that had been idle and turns out dead is
// replaced.
func (p *Pool) Use(ctx context.Context, f func(c *Conn) error) error {
	for {
		c, fresh, err := p.Borrow(ctx)
		if err != nil {
			return err
		}
		err = f(c)
		dead := c.Broken()
		p.GiveBack(c)
		if err == nil || fresh || !dead || ctx.Err() != nil {
			return err
		}
	}
}

// Notes are what the user should know at the end.
func (p *Pool) Notes() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for _, text := range p.alerts {
		all = append(all, "the server says: "+text)
	}
	if p.less != "" {
		all = append(all, p.less)
	}
	return all
}

// Close ends all connections that are idle, and those in use when they come
// back.
func (p *Pool) Close() error {
	p.mu.Lock()
	if p.isClosed() {
		p.mu.Unlock()
		return nil
	}
	close(p.closed)
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	var all sync.WaitGroup
	for _, c := range idle {
		all.Go(func() { c.Logout(patience) })
	}
	all.Wait()
	return nil
}
