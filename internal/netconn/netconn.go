// Package netconn is a network connection that waits with patience but not for
// ever: no call has a deadline in all, so that a large message may come over a
// slow line for hours, yet every single wait for the next byte ends. It counts
// what passes, and it ends with the context that it follows.
//
// The deadlines of net.Conn are taken over by the limits of this package:
// libraries above may set what they like, it has no effect.
package netconn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// Limits say how long one wait may last. A zero field has its default.
type Limits struct {
	Dial  time.Duration // until connected, and again until TLS stands: 30 s
	First time.Duration // for the first byte after Await: 120 s
	Idle  time.Duration // for any further byte: 60 s
	Write time.Duration // until the other side has taken what is written: 60 s
}

func (l Limits) orDefaults() Limits {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&l.Dial, 30*time.Second)
	set(&l.First, 120*time.Second)
	set(&l.Idle, 60*time.Second)
	set(&l.Write, 60*time.Second)
	return l
}

// A Conn is a net.Conn with limits. One goroutine reads and one writes.
type Conn struct {
	Limits Limits

	// Rate, when set, is told of every n bytes read and may wait.
	Rate func(n int)

	socket net.Conn // what is closed to cut the line at once
	top    net.Conn // what is read and written: socket, or TLS over it

	first         atomic.Int64 // patience for the next byte, when not the usual
	read, written atomic.Int64
	waited        atomic.Int64          // nanoseconds in Read
	cause         atomic.Pointer[error] // why we closed it
}

// Wrap makes a Conn of a connection that stands.
func Wrap(nc net.Conn, limits Limits) *Conn {
	return &Conn{Limits: limits.orDefaults(), socket: nc, top: nc}
}

// Dial connects to addr ("host:port").
func Dial(ctx context.Context, addr string, limits Limits) (*Conn, error) {
	limits = limits.orDefaults()
	d := net.Dialer{Timeout: limits.Dial, KeepAlive: 30 * time.Second}
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, explainDial(ctx, addr, err)
	}
	return Wrap(nc, limits), nil
}

// Await gives the next byte d instead of the usual time: a server may think
// about a command for longer than it may pause within an answer. With zero it
// is Limits.First.
func (c *Conn) Await(d time.Duration) {
	if d == 0 {
		d = c.Limits.First
	}
	c.first.Store(int64(d))
}

func (c *Conn) Read(p []byte) (int, error) {
	d := c.Limits.Idle
	if f := c.first.Load(); f != 0 {
		d = time.Duration(f)
	}
	// An error here shows in the Read that follows.
	start := time.Now()
	c.top.SetReadDeadline(start.Add(d))
	n, err := c.top.Read(p)
	c.waited.Add(int64(time.Since(start)))
	if n > 0 {
		c.first.Store(0)
		c.read.Add(int64(n))
		if c.Rate != nil {
			c.Rate(n)
		}
	}
	if err != nil {
		err = c.explain(err, fmt.Sprintf("the server sent nothing for %v", d))
	}
	return n, err
}

func (c *Conn) Write(p []byte) (int, error) {
	c.top.SetWriteDeadline(time.Now().Add(c.Limits.Write))
	n, err := c.top.Write(p)
	c.written.Add(int64(n))
	if err != nil {
		err = c.explain(err, fmt.Sprintf("the server took nothing for %v", c.Limits.Write))
	}
	return n, err
}

// Counts are the bytes read and written so far, above TLS. Any goroutine may
// ask.
func (c *Conn) Counts() (read, written int64) { return c.read.Load(), c.written.Load() }

// Secure reports whether TLS stands.
func (c *Conn) Secure() bool { return c.top != c.socket }

// Follow ends the connection as soon as ctx ends; calls that wait then return
// the context's error. The returned function ends following.
func (c *Conn) Follow(ctx context.Context) (stop func()) {
	end := context.AfterFunc(ctx, func() { c.Cut(context.Cause(ctx)) })
	if ctx.Err() != nil {
		c.Cut(context.Cause(ctx)) // at once, not when the goroutine gets its turn
	}
	return func() {
		if !end() {
			// The goroutine has its turn soon: whoever gets the connection next
			// must not be the one that it hits.
			c.Cut(context.Cause(ctx))
		}
	}
}

// Gone reports whether the connection was closed on this side.
func (c *Conn) Gone() bool { return c.cause.Load() != nil }

// Cut closes the line without a farewell; whoever waits gets cause.
func (c *Conn) Cut(cause error) {
	c.cause.CompareAndSwap(nil, &cause)
	// Not top: TLS says good-bye first, and that may wait for the other side.
	c.socket.Close()
}

// Close closes the connection, with TLS's farewell.
func (c *Conn) Close() error {
	gone := net.ErrClosed
	if !c.cause.CompareAndSwap(nil, &gone) {
		return c.socket.Close()
	}
	return c.top.Close()
}

func (c *Conn) explain(err error, stalled string) error {
	if cause := c.cause.Load(); cause != nil {
		return *cause
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &stall{stalled}
	}
	return err
}

// A stall is a timeout that says who was waited for.
type stall struct{ text string }

func (s *stall) Error() string   { return s.text }
func (s *stall) Timeout() bool   { return true }
func (s *stall) Temporary() bool { return true }
func (s *stall) Is(t error) bool { return t == os.ErrDeadlineExceeded }

// LocalAddr and RemoteAddr are those of the socket.
func (c *Conn) LocalAddr() net.Addr  { return c.socket.LocalAddr() }
func (c *Conn) RemoteAddr() net.Addr { return c.socket.RemoteAddr() }

// SetDeadline and its like do nothing: Limits rule.
func (c *Conn) SetDeadline(time.Time) error      { return nil }
func (c *Conn) SetReadDeadline(time.Time) error  { return nil }
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }

// StartTLS puts TLS over the connection and checks the server's certificate
// against config.ServerName. What was read before is not looked at again: the
// caller must have read exactly up to the switch.
func (c *Conn) StartTLS(ctx context.Context, config *tls.Config) error {
	if c.Secure() {
		return errors.New("TLS stands already")
	}
	stop := c.Follow(ctx)
	defer stop()
	config = config.Clone()
	config.InsecureSkipVerify = false
	config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	t := tls.Client(c.socket, config)
	c.socket.SetDeadline(time.Now().Add(c.Limits.Dial))
	if err := t.Handshake(); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		err = explainTLS(config.ServerName, c.explain(err, fmt.Sprintf("no answer for %v", c.Limits.Dial)))
		c.Cut(err)
		return err
	}
	c.socket.SetDeadline(time.Time{})
	c.top = t
	return nil
}
