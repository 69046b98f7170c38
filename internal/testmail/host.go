package testmail

import (
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// host is what Model and POP3 have in common: connections, counts, the log of
// commands, and what is to go wrong.
type host struct {
	mu        sync.Mutex
	faults    []Fault
	cut       *Cut
	commands  []Command
	bodies    int
	bodyBytes int64
	sent      int64
	heard     int64
	conns     map[net.Conn]bool
	opened    int
	closed    bool
	listeners []net.Listener
	serves    sync.WaitGroup
}

// listen gives every client on a new port of loopback to serve.
func (h *host) listen(serve func(net.Conn)) (addr string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	h.mu.Lock()
	h.listeners = append(h.listeners, l)
	h.mu.Unlock()
	h.serves.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			h.serves.Go(func() { serve(conn) })
		}
	})
	return l.Addr().String(), nil
}

// Close ends all connections and waits for them.
func (h *host) Close() {
	h.mu.Lock()
	h.closed = true
	for _, l := range h.listeners {
		l.Close()
	}
	for c := range h.conns {
		c.Close()
	}
	h.mu.Unlock()
	h.serves.Wait()
}

// Drop ends all connections as a restart of the server does; new ones are
// welcome.
func (h *host) Drop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.conns {
		c.Close()
	}
}

// Connections is how many there are now.
func (h *host) Connections() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.conns)
}

// Opened is how many connections there have been.
func (h *host) Opened() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.opened
}

// enter counts conn in and gives its number, and how many there are with it.
func (h *host) enter(conn net.Conn) (number, now int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		conn.Close()
	}
	if h.conns == nil {
		h.conns = map[net.Conn]bool{}
	}
	h.conns[conn] = true
	h.opened++
	return h.opened, len(h.conns)
}

func (h *host) leave(conn net.Conn) {
	conn.Close()
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.conns, conn)
}

// A Command is one that a client sent.
type Command struct {
	Conn   int    // the how many-th connection, from 1
	Number int    // the how many-th command in all since the last Reset, from 1
	Tag    string // as the client chose it; POP3 has none
	Verb   string // in capitals, with UID where it stands before
	Args   string // as sent, but without what belongs to a password
	Secure bool   // over TLS
}

func (c Command) String() string { return strings.TrimSpace(c.Verb + " " + c.Args) }

// Commands are those since the last Reset.
func (h *host) Commands() []Command {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.commands)
}

// Count is how many commands of a verb came since the last Reset.
func (h *host) Count(verb string) int {
	n := 0
	for _, c := range h.Commands() {
		if c.Verb == verb {
			n++
		}
	}
	return n
}

// Bodies is how many bodies were sent since the last Reset, whole or not.
// Headers alone are none.
func (h *host) Bodies() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.bodies
}

// BodyBytes is how many bytes of bodies were sent since the last Reset.
func (h *host) BodyBytes() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.bodyBytes
}

func (h *host) sentBody(n int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bodies++
	h.bodyBytes += n
}

// Sent is how many bytes went to clients since the last Reset: the length of
// the transcript that a Cut may fall into.
func (h *host) Sent() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sent
}

// Heard is how many bytes came from clients since the last Reset.
func (h *host) Heard() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.heard
}

// heed counts n bytes that a client has sent, and tells how many of them the
// server still gets to see, and whether the connection breaks then.
func (h *host) heed(w *wire, n int) (int, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.heard
	h.heard += int64(n)
	c := h.cut
	if c == nil || c.Heard == 0 || h.heard < c.Heard {
		return n, false
	}
	h.heard = c.Heard
	w.how, h.cut = c.How, nil
	return int(c.Heard - before), true
}

// Reset forgets commands and counts; faults stay.
func (h *host) Reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.commands, h.bodies, h.bodyBytes, h.sent, h.heard = nil, 0, 0, 0, 0
}

func (h *host) note(c *Command) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.Number = len(h.commands) + 1
	h.commands = append(h.commands, *c)
}

// Fault adds faults.
func (h *host) Fault(f ...Fault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = append(h.faults, f...)
}

// fault asks the faults, without a lock: they may call the server.
func (h *host) fault(c Command) *Reply {
	h.mu.Lock()
	faults := slices.Clone(h.faults)
	h.mu.Unlock()
	for _, f := range faults {
		if r := f(c); r != nil {
			return r
		}
	}
	return nil
}

// Cut sets where the connection breaks.
func (h *host) Cut(c Cut) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.left = c.After
	h.cut = &c
}

// allow counts what is about to be sent and tells how much of it may be, and
// whether the connection breaks then.
func (h *host) allow(w *wire, p []byte) ([]byte, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.cut
	if c == nil || c.Heard > 0 || c.Conn > 0 && c.Conn != w.number {
		h.sent += int64(len(p))
		return p, false
	}
	if int64(len(p)) < c.left {
		c.left -= int64(len(p))
		h.sent += int64(len(p))
		return p, false
	}
	p = p[:c.left]
	h.sent += int64(len(p))
	w.how = c.How
	if h.cut = nil; c.Every {
		c.left = c.After
		h.cut = c
	}
	return p, true
}

// pace is how a slow server writes: at most window bytes at a time, if that is
// not 0, and a pause before each.
type pace struct {
	window int
	pause  time.Duration
}
