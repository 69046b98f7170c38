package smtpconn

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"time"
)

// gate is the net.Conn that go-smtp believes in.
type gate struct {
	c    *Conn
	out  []byte // what is left of the reply that it reads
	due  int    // replies still to come
	last *Reply // the last one
}

var errIdle = errors.New("smtpconn: nothing was asked")

// Read hands over one reply, written anew. It reads nothing unless a reply is
// due.
func (g *gate) Read(p []byte) (int, error) {
	if len(g.out) == 0 {
		if g.due == 0 {
			return 0, errIdle
		}
		r, err := g.c.reply(patience)
		if err != nil {
			return 0, err
		}
		g.due--
		g.last = r
		for i, l := range r.Lines {
			sep := '-'
			if i == len(r.Lines)-1 {
				sep = ' '
			}
			g.out = fmt.Appendf(g.out, "%d%c%s\r\n", r.Code, sep, l)
		}
	}
	n := copy(p, g.out)
	g.out = g.out[n:]
	return n, nil
}

// Write passes one command on. A "*" that is to end an exchange which the
// server has ended already is kept back.
func (g *gate) Write(p []byte) (int, error) {
	if g.c.fault != nil {
		return 0, g.c.fault
	}
	if string(p) == "*\r\n" && g.last != nil && g.last.Code/100 != 3 {
		g.out = []byte("501 over\r\n")
		return len(p), nil
	}
	if bytes.Count(p, []byte("\n")) != 1 || !bytes.HasSuffix(p, []byte("\r\n")) {
		return 0, g.c.fail(errors.New("smtpconn: not one command"))
	}
	if _, err := g.c.nc.Write(p); err != nil {
		return 0, g.c.fail(err)
	}
	g.due++
	return len(p), nil
}

// Close is go-smtp's part of QUIT. The session closes itself.
func (g *gate) Close() error { return nil }

func (g *gate) LocalAddr() net.Addr              { return g.c.nc.LocalAddr() }
func (g *gate) RemoteAddr() net.Addr             { return g.c.nc.RemoteAddr() }
func (g *gate) SetDeadline(time.Time) error      { return nil }
func (g *gate) SetReadDeadline(time.Time) error  { return nil }
func (g *gate) SetWriteDeadline(time.Time) error { return nil }
