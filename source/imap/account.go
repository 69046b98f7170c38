package imap

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"mailhaul/internal/imapconn"
	"mailhaul/internal/mail"
)

// An account is the source: a pool of connections and what is known about the
// folders.
//
// A token is the right to use one connection; there are as many as the location
// allows. When the server allows fewer, the token of the connection that it
// refused is thrown away, so that the pool fits the server from then on.
type account struct {
	options imapconn.Options
	top     mail.Path
	tokens  chan struct{}
	closed  chan struct{}

	mu      sync.Mutex
	idle    []*imapconn.Conn
	using   int   // tokens in use
	refused error // the password: never tried again (row J5)
	folders map[mail.Path]folder
	notes
}

// A folder is where a path leads.
type folder struct {
	raw       string
	delimiter byte
}

func newAccount(o imapconn.Options, connections int, top mail.Path) *account {
	a := &account{options: o, top: top, tokens: make(chan struct{}, connections), closed: make(chan struct{})}
	for range connections {
		a.tokens <- struct{}{}
	}
	return a
}

// borrow gives a connection, waiting for one to be returned while all are in
// use. An idle one may have died meanwhile: fresh tells which kind it is.
func (a *account) borrow(ctx context.Context) (c *imapconn.Conn, fresh bool, err error) {
	for {
		if a.isClosed() {
			return nil, false, wrap("connect", mail.ScopeAccount, errClosed)
		}
		select {
		case <-a.tokens:
		case <-ctx.Done():
			return nil, false, wrap("connect", mail.ScopeAccount, context.Cause(ctx))
		case <-a.closed:
			return nil, false, wrap("connect", mail.ScopeAccount, errClosed)
		}
		a.mu.Lock()
		refused := a.refused
		if n := len(a.idle); n > 0 {
			c, a.idle = a.idle[n-1], a.idle[:n-1]
		}
		a.using++
		a.mu.Unlock()
		if c != nil {
			return c, false, nil
		}
		if err = refused; err == nil {
			if c, err = imapconn.Dial(ctx, a.options); err == nil {
				return c, true, nil
			}
		}
		if !a.shrink(ctx, err) {
			return nil, false, err
		}
	}
}

var errClosed = errors.New("it is closed")

// shrink gives up the token for a connection that failed with err. When the
// server only wants fewer connections, and there is another one, the token is gone for good and the answer is true: wait for another.
func (a *account) shrink(ctx context.Context, err error) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.using--
	if errors.Is(err, mail.ErrLogin) {
		a.refused = err
	}
	if have := a.using + len(a.idle); errors.Is(err, imapconn.ErrBusy) && ctx.Err() == nil && have > 0 {
		a.few(have, err)
		return true
	}
	a.tokens <- struct{}{}
	return false
}

// giveBack returns a connection, or drops it when it is of no further use.
func (a *account) giveBack(c *imapconn.Conn) {
	a.hear(c)
	a.mu.Lock()
	keep := !c.Broken() && !a.isClosed()
	if keep {
		a.idle = append(a.idle, c)
	}
	a.using--
	a.mu.Unlock()
	if !keep {
		c.Logout(patience)
	}
	a.tokens <- struct{}{}
}

// patience is how long a farewell may take.
const patience = 2 * time.Second

func (a *account) isClosed() bool {
	select {
	case <-a.closed:
		return true
	default:
		return false
	}
}

// use runs f with a connection. One that had been idle and turns out dead is
// replaced.
func (a *account) use(ctx context.Context, f func(c *imapconn.Conn) error) error {
	for {
		c, fresh, err := a.borrow(ctx)
		if err != nil {
			return err
		}
		err = f(c)
		dead := c.Broken()
		a.giveBack(c)
		if err == nil || fresh || !dead || ctx.Err() != nil {
			return err
		}
	}
}

func (a *account) Close() error {
	a.mu.Lock()
	if a.isClosed() {
		a.mu.Unlock()
		return nil
	}
	close(a.closed)
	idle := a.idle
	a.idle = nil
	a.mu.Unlock()
	var all sync.WaitGroup
	for _, c := range idle {
		all.Go(func() { c.Logout(patience) })
	}
	all.Wait()
	return nil
}

func wrap(op string, scope mail.Scope, err error) error {
	return &mail.Error{Op: op, Scope: scope, Temporary: true, Err: err}
}

// in names the folder in an error, and keeps what it says about scope and time.
func in(path mail.Path, err error) error {
	var e *mail.Error
	if err == nil || !errors.As(err, &e) {
		return err
	}
	return &mail.Error{Op: e.Op, Scope: e.Scope, Temporary: e.Temporary, After: e.After,
		Err: fmt.Errorf("%s: %w", mail.Clean(string(path)), translate(e.Err))}
}
