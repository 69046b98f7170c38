package pop3conn

import (
	"context"
	"errors"
	"net"
	"time"
)

// gate is the net.Conn that go-pop3 believes in, and its Dialer.
type gate struct {
	c    *Conn
	out  []byte // what is left of the line that it reads
	due  int    // answers still to come
	last Status // the last one
}

var errIdle = errors.New("pop3conn: nothing was asked")

// Dial gives go-pop3 the session. Its greeting is ours: the server's came long
// ago.
func (g *gate) Dial(string, string) (net.Conn, error) {
	g.out = []byte("+OK\r\n")
	return g, nil
}

// Read hands over one status line, written anew so that go-pop3 cannot stumble
// over it. It reads nothing unless an answer is due, so a stray read never
// waits and never takes what belongs to a message.
func (g *gate) Read(p []byte) (int, error) {
	if len(g.out) == 0 {
		if g.due == 0 {
			return 0, errIdle
		}
		s, err := g.c.status()
		if err != nil {
			return 0, err
		}
		g.due--
		g.last = s
		g.out = []byte("-ERR refused\r\n")
		if s.OK {
			g.out = []byte("+OK\r\n")
		}
	}
	n := copy(p, g.out)
	g.out = g.out[n:]
	return n, nil
}

func (g *gate) Write(p []byte) (int, error) {
	before := g.c.guard.told
	n, err := g.c.guard.Write(p)
	g.due += g.c.guard.told - before
	return n, err
}

// Close is go-pop3's part of QUIT. The session closes itself.
func (g *gate) Close() error { return nil }

func (g *gate) LocalAddr() net.Addr              { return g.c.nc.LocalAddr() }
func (g *gate) RemoteAddr() net.Addr             { return g.c.nc.RemoteAddr() }
func (g *gate) SetDeadline(time.Time) error      { return nil }
func (g *gate) SetReadDeadline(time.Time) error  { return nil }
func (g *gate) SetWriteDeadline(time.Time) error { return nil }

// send has go-pop3 send commands, without reading an answer.
func (c *Conn) send(commands string) error {
	if c.fault != nil {
		return c.fault
	}
	err := c.lib.Send(commands)
	if errors.Is(err, ErrVerb) {
		return err // nothing of it was sent
	}
	if err != nil {
		return c.fail(err)
	}
	return nil
}

// answer has go-pop3 read the next status. A refusal is a *Status.
func (c *Conn) answer(patience time.Duration) (Status, error) {
	if c.fault != nil {
		return Status{}, c.fault
	}
	c.await(patience)
	due := c.gate.due
	c.gate.last = Status{OK: true}
	_, err := c.lib.ReadOne()
	return c.judge(due, err)
}

// judge tells a refusal from a connection that is lost, which go-pop3 does not.
func (c *Conn) judge(due int, err error) (Status, error) {
	s := c.gate.last
	switch {
	case err == nil:
		return s, nil
	case errors.Is(err, ErrVerb):
		return s, err
	case c.gate.due < due && !s.OK:
		return s, &s
	}
	return s, c.fail(err)
}

// command runs one command of go-pop3, from its sending to its answer.
func (c *Conn) command(ctx context.Context, op string, patience time.Duration, f func() error) (Status, error) {
	if err := c.ready(); err != nil {
		return Status{}, c.folder(op, err)
	}
	stop := c.nc.Follow(ctx)
	defer stop()
	c.nc.Await(patience)
	c.gate.last = Status{OK: true}
	s, err := c.judge(1, f())
	return s, c.folder(op, err)
}

// ready is nil when a command may be sent whose answer is the next to come.
func (c *Conn) ready() error {
	switch {
	case c.fault != nil:
		return c.fault
	case c.gate.due > 0 || c.body.c != nil && !c.body.end:
		return errBetween
	}
	return nil
}

var errBetween = errors.New("pop3conn: a command in the middle of others")
