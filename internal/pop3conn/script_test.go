package pop3conn

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
)

// A peer is the server's end of a connection, played by a test.
type peer struct {
	net.Conn
	br *bufio.Reader
}

// newPeer hears what the client says even while it speaks itself, as a socket
// does with its buffers and net.Pipe does not.
func newPeer(nc net.Conn) *peer {
	heard := make(chan []byte, 10_000)
	go func() {
		defer close(heard)
		for {
			b := make([]byte, 4096)
			n, err := nc.Read(b)
			if err != nil {
				return
			}
			heard <- b[:n]
		}
	}()
	return &peer{nc, bufio.NewReader(&chunks{from: heard})}
}

type chunks struct {
	from chan []byte
	left []byte
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.left) == 0 {
		var ok bool
		if c.left, ok = <-c.from; !ok {
			return 0, io.EOF
		}
	}
	n := copy(p, c.left)
	c.left = c.left[n:]
	return n, nil
}

// say sends lines, each closed by CRLF.
func (p *peer) say(lines ...string) {
	for _, l := range lines {
		io.WriteString(p, l+"\r\n")
	}
}

// hear reads one line; "" when the client has left.
func (p *peer) hear() string {
	l, err := p.br.ReadString('\n')
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(l, "\r\n")
}

// expect reads lines and fails unless they are those.
func (p *peer) expect(t *testing.T, lines ...string) {
	t.Helper()
	for _, want := range lines {
		if got := p.hear(); got != want {
			t.Errorf("the client says %q, not %q", got, want)
		}
	}
}

// rest answers +OK to whatever comes, until the client leaves.
func (p *peer) rest() {
	for p.hear() != "" {
		p.say("+OK")
	}
}

// admit greets and lets the client in with USER and PASS; caps are those told
// before and after.
func (p *peer) admit(t *testing.T, caps ...string) {
	t.Helper()
	p.say("+OK ready")
	capa := func() {
		p.expect(t, "CAPA")
		p.say("+OK")
		p.say(caps...)
		p.say(".")
	}
	capa()
	p.expect(t, "USER ann")
	p.say("+OK")
	p.expect(t, "PASS secret")
	p.say("+OK")
	capa()
}

// plainOptions are those of a client of a pipe.
func plainOptions(nc net.Conn) Options {
	return Options{
		Addr: "mail.example.org:110", Security: None, User: "ann", Password: "secret",
		Dial: func(context.Context, string) (net.Conn, error) { return nc, nil },
	}
}

// meet connects a client to a scripted server, within a bubble where time
// costs nothing and every goroutine must end.
func meet(t *testing.T, server func(t *testing.T, p *peer), client func(t *testing.T, nc net.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			p := newPeer(theirs)
			server(t, p)
			p.Close()
		}()
		client(t, ours)
		ours.Close()
		<-done
	})
}

// talk is meet with a session that stands. The server may say good-bye or not.
func talk(t *testing.T, caps []string, server func(t *testing.T, p *peer), client func(t *testing.T, c *Conn)) {
	t.Helper()
	meet(t, func(t *testing.T, p *peer) {
		p.admit(t, caps...)
		server(t, p)
	}, func(t *testing.T, nc net.Conn) {
		c, err := Dial(t.Context(), plainOptions(nc))
		if err != nil {
			t.Errorf("dial: %v", err)
			nc.Close()
			return
		}
		defer c.Close()
		client(t, c)
	})
}
