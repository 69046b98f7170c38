package testmail

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// visit is one connection to a POP3 server.
type visit struct {
	p      *POP3
	number int
	wire   *wire
	r      *bufio.Reader
	w      *outbox
	secure bool

	user      string // named by USER
	in        bool   // logged in
	view      []*post
	deleted   map[*post]bool
	retrieved map[*post]bool
	over      chan struct{} // closed when the maildrop is free again
}

func (p *POP3) serve(conn net.Conn, config *tls.Config) {
	number, _ := p.enter(conn)
	defer p.leave(conn)
	w := &wire{Conn: conn, h: &p.host, pace: pace{p.Window, p.Pause}, number: number}
	v := &visit{p: p, number: number, wire: w, over: make(chan struct{}),
		deleted: map[*post]bool{}, retrieved: map[*post]bool{}}
	defer p.free(v)
	v.speak(w)
	if config != nil {
		v.upgrade(config)
	}
	v.converse()
	if v.w.Flush() != nil && !w.broken {
		return // the client has left
	}
	if w.how != Stall {
		p.free(v) // before the client sees the end, or it might come back too soon
	}
	w.finish(w.how)
}

// speak makes conn the one that is read and written. What was read ahead of
// the old one is forgotten, as STLS wants (RFC 2595, section 4).
func (v *visit) speak(conn net.Conn) {
	v.r, v.w = bufio.NewReader(conn), &outbox{conn: conn}
}

func (v *visit) upgrade(config *tls.Config) {
	v.speak(tls.Server(v.wire, config))
	v.secure = true
}

// converse greets and does commands until somebody ends it.
func (v *visit) converse() {
	if !v.greet() {
		return
	}
	for {
		// Answers to commands that came together go together.
		if (v.r.Buffered() == 0 || v.w.Len() > 32<<10) && v.w.Flush() != nil {
			return
		}
		line, err := v.line()
		if err != nil || !v.command(line) {
			return
		}
	}
}

// line waits for one from the client, but no longer than Idle.
func (v *visit) line() (string, error) {
	if v.p.Idle > 0 {
		v.wire.SetReadDeadline(time.Now().Add(v.p.Idle))
	}
	line, err := v.r.ReadString('\n')
	return strings.TrimRight(line, "\r\n"), err
}

func (v *visit) greet() bool {
	greeting := v.p.Greeting
	switch {
	case greeting != "":
	case v.p.Preauth:
		greeting = v.admit("")
	default:
		greeting = strings.TrimSpace("+OK ready " + v.p.APOP)
	}
	fmt.Fprintf(v.w, "%s\r\n", greeting)
	return strings.HasPrefix(greeting, "+OK")
}

// command does one line; false ends the connection.
func (v *visit) command(line string) bool {
	verb, args, _ := strings.Cut(line, " ")
	c := Command{Conn: v.number, Verb: strings.ToUpper(verb), Secure: v.secure}
	c.Args = withoutSecrets(c.Verb, args)
	v.p.note(&c)
	a := &Response{Command: c}
	if r := v.p.fault(c); r != nil {
		v.w.WriteString(r.Before)
		a.Status = r.Status
		a.End = r.Stall || r.Reset || r.End
		switch {
		case r.Stall:
			a.How = Stall
		case r.Reset:
			a.How = RST
		}
	}
	switch {
	case a.Status != "" || a.End: // the fault's
	case v.r.Buffered() > 0 && !named(v.caps(), "PIPELINING"):
		v.r.Discard(v.r.Buffered())
		a.Status = "-ERR too fast: PIPELINING is not offered here"
	default:
		v.do(a, args)
	}
	if a.Status == hangup && !a.End {
		return false
	}
	v.p.twist(a)
	if v.send(a) != nil {
		return false
	}
	switch {
	case a.End:
		v.wire.how = a.How
		return false
	case c.Verb == "QUIT":
		return false
	case c.Verb == "STLS" && strings.HasPrefix(a.Status, "+OK") && !v.secure:
		if v.w.Flush() != nil {
			return false
		}
		v.upgrade(v.p.TLS)
	}
	return true
}

// withoutSecrets is what may stand in a log of a command's arguments.
func withoutSecrets(verb, args string) string {
	switch verb {
	case "PASS":
		return ""
	case "APOP", "AUTH":
		args, _, _ = strings.Cut(args, " ")
	}
	return args
}

// send sends an answer.
func (v *visit) send(a *Response) error {
	if a.Status != "" {
		v.w.WriteString(a.Status)
		v.w.WriteString("\r\n")
	}
	for _, line := range a.Lines {
		v.w.WriteString(line)
		v.w.WriteString("\r\n")
	}
	if a.Message != nil {
		s := &stuffer{w: spill{v.w}, how: a.Stuffing}
		n, err := io.Copy(s, a.Message)
		if a.Verb == "RETR" {
			v.p.sentBody(n)
		}
		if err != nil {
			return err
		}
		if err := s.Close(); err != nil {
			return err
		}
	}
	if a.Rest != nil {
		if _, err := v.w.Stream(a.Rest); err != nil {
			return err
		}
	}
	v.w.WriteString(a.Dot)
	return nil
}

// dot ends answers of more than one line (RFC 1939, section 3).
const dot = ".\r\n"
