package testmail

import (
	"crypto/tls"
	"net"
	"slices"
	"strings"
	"time"
)

// POP3 is a POP3 server of our own, with one maildrop, for tests and for the
// demo. It does what RFC 1939, 2449, 2595 and 5034 say, until a Fault, a Twist
// or a Cut tells it to do otherwise; it notes every command, and tests may
// change the maildrop under a client's feet. Fields are set before Start;
// methods may be called at any time from any goroutine, by faults too.
//
//	p := &testmail.POP3{}
//	p.Deliver(testmail.Corpus()...)
//	addr := p.Start(t)
//	p.Fault(testmail.Hangup("QUIT", 1))                        // without effect
//	p.Twist(testmail.On("QUIT", testmail.Lost(testmail.FIN)))  // after its effect
//
// One session at a time has the maildrop, and sees it as it was at login.
// Messages marked with DELE go when QUIT comes, before it is answered, and not
// when the session ends in another way.
type POP3 struct {
	User, Password string      // "ann" and "secret" where empty
	Caps           []string    // DefaultPOP3Caps where nil; empty: a server older than CAPA
	CapsClear      []string    // what CAPA tells before TLS; nil: Caps as far as they are allowed, and STLS
	CapsIn         []string    // what CAPA tells after login; nil: Caps
	TLS            *tls.Config // STLS is offered, and login refused before it
	Cleartext      bool        // login is allowed without it
	Preauth        bool        // no login
	Greeting       string      // the first line; one without +OK is the last one too
	APOP           string      // the time stamp of the greeting, such as <1@example.org>; empty: no APOP
	SASL           map[string]Mechanism
	NewID          func(n int, m Message) string // the unique-id of the n-th message ever delivered, from 1

	// Update is called at QUIT with what is about to be deleted, while it is
	// there for the last moment.
	Update func(gone []Message)

	Gmail    int           // as Gmail: list so many a session, and after QUIT never again what was retrieved
	Delay    time.Duration // between two logins; who comes sooner is refused
	Idle     time.Duration // after so much silence the session is over, and deletes nothing; 0: never
	Patience time.Duration // how long a login waits for the session before it to end; 5s where 0, negative: not at all
	Window   int           // bytes of one write, with Pause before each; 0: all
	Pause    time.Duration

	host            // its lock guards what follows
	posts   []*post // what is on the server
	count   int     // ever delivered
	twists  []Twist
	holder  *visit // who has the maildrop
	entered time.Time
	addr    string
	addrTLS string
}

// DefaultPOP3Caps is what a modern server offers.
var DefaultPOP3Caps = []string{
	"TOP", "UIDL", "USER", "SASL PLAIN LOGIN", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "IMPLEMENTATION Model",
}

// PlainPOP3Caps is what a server of the last century offers, if it is asked.
var PlainPOP3Caps = []string{"TOP", "UIDL", "USER"}

// NewPOP3 starts a well-behaved server with an empty maildrop that needs no
// test. Close ends it.
func NewPOP3(o MemoryOptions) (*POP3, error) {
	p := &POP3{User: o.User, Password: o.Password, TLS: o.TLS}
	var err error
	if p.addr, err = p.listen(p.Serve); err != nil {
		return nil, err
	}
	if o.TLS != nil {
		if p.addrTLS, err = p.listen(p.serveTLS); err != nil {
			p.Close()
			return nil, err
		}
	}
	return p, nil
}

// Addr is host and port for pop3://, of a server from NewPOP3.
func (p *POP3) Addr() string { return p.addr }

// AddrTLS is host and port for pop3s://, of a server from NewPOP3 with TLS.
func (p *POP3) AddrTLS() string { return p.addrTLS }

// Start listens on loopback and gives host and port. The server ends with the
// test; Start may be called again for another port.
func (p *POP3) Start(tb TB) string {
	tb.Helper()
	return p.start(tb, p.Serve)
}

// StartTLS is Start for pop3s://, with the certificate of TLS.
func (p *POP3) StartTLS(tb TB) string {
	tb.Helper()
	return p.start(tb, p.serveTLS)
}

func (p *POP3) start(tb TB, serve func(net.Conn)) string {
	tb.Helper()
	addr, err := p.listen(serve)
	if err != nil {
		tb.Fatalf("listen: %v", err)
	}
	tb.Cleanup(p.Close)
	return addr
}

// Serve talks to one client until it leaves. Start does so for each; tests
// with virtual time give it one end of a net.Pipe.
func (p *POP3) Serve(conn net.Conn) { p.serve(conn, nil) }

func (p *POP3) serveTLS(conn net.Conn) { p.serve(conn, p.TLS) }

// caps are all that the server can do.
func (p *POP3) caps() []string {
	if p.Caps == nil {
		return DefaultPOP3Caps
	}
	return p.Caps
}

// has tells whether the server can do what name stands for. One that is older
// than CAPA can do it without saying so.
func (p *POP3) has(name string) bool {
	return len(p.caps()) == 0 || named(p.caps(), name)
}

// named looks for a capability, whatever its arguments are.
func named(caps []string, name string) bool {
	return slices.ContainsFunc(caps, func(c string) bool {
		first, _, _ := strings.Cut(c, " ")
		return strings.EqualFold(first, name)
	})
}

func (p *POP3) knows(user, password string) bool {
	return known(p.User, p.Password, strings.TrimPrefix(user, recent), password)
}

// recent before a user's name makes Gmail show again what it has hidden.
const recent = "recent:"

// Untouched fails the test unless every command since the last Reset was one
// that deletes nothing: no DELE, and no QUIT that made the server delete.
func (p *POP3) Untouched(tb TB) {
	tb.Helper()
	retrieved := map[int]bool{}
	for _, c := range p.Commands() {
		switch {
		case c.Verb == "DELE":
			tb.Fatalf("connection %d sent %s", c.Conn, c)
		case c.Verb == "RETR":
			retrieved[c.Conn] = true
		case c.Verb == "QUIT" && retrieved[c.Conn] && p.expires():
			tb.Fatalf("connection %d sent QUIT: at EXPIRE 0 that deletes what was retrieved", c.Conn)
		}
	}
}

// expires tells whether QUIT deletes what was retrieved (RFC 2449, section
// 6.7).
func (p *POP3) expires() bool {
	zero := func(c string) bool { return strings.EqualFold(c, "EXPIRE 0") }
	return slices.ContainsFunc(p.caps(), zero) || slices.ContainsFunc(p.CapsIn, zero)
}
