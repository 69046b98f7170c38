package imapconn

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
	return strings.TrimRight(l, "\r\n")
}

// command reads a command and gives its tag and the rest.
func (p *peer) command() (tag, rest string) {
	tag, rest, _ = strings.Cut(p.hear(), " ")
	return tag, rest
}

// rest answers OK to whatever comes, until the client leaves.
func (p *peer) rest() {
	for {
		tag, verb := p.command()
		if tag == "" {
			return
		}
		if verb == "LOGOUT" {
			p.say("* BYE see you")
		}
		p.say(tag + " OK done")
	}
}

const ready = "* PREAUTH [CAPABILITY IMAP4rev1 LITERAL+] ready"

// talk connects a Conn to a scripted server, within a bubble where time costs
// nothing and every goroutine must end.
func talk(t *testing.T, o Options, server func(p *peer), client func(t *testing.T, c *Conn, err error)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			defer far.Close()
			server(newPeer(far))
		}()
		if o.Addr == "" {
			o.Addr, o.Security = "test:143", None
		}
		o.Dial = func(context.Context, string) (net.Conn, error) { return near, nil }
		c, err := Dial(t.Context(), o)
		defer func() {
			if c != nil {
				c.Close()
			}
			near.Close()
			<-gone
		}()
		client(t, c, err)
	})
}

// served is talk with a server that has let us in.
func served(t *testing.T, server func(p *peer), client func(t *testing.T, c *Conn)) {
	t.Helper()
	talk(t, Options{}, func(p *peer) {
		p.say(ready)
		server(p)
	}, func(t *testing.T, c *Conn, err error) {
		if err != nil {
			t.Fatal(err)
		}
		client(t, c)
	})
}
