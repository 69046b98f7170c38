package testmail

import (
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// Model is an IMAP server of our own, with one account, for tests. It does
// what RFC 3501 and the extensions in Caps say, until a Fault, a Bend or a Cut
// tells it to do otherwise; it notes every command, and tests may change the
// account under a client's feet. Fields are set before Start; methods may be
// called at any time from any goroutine, by faults too.
//
//	m := &testmail.Model{}
//	m.Deliver("INBOX", testmail.Corpus()...)
//	m.Start(t)
//	m.Bend(testmail.Once(testmail.ForUID(7, testmail.Short(10))))
type Model struct {
	User, Password string      // "ann" and "secret" where empty
	Caps           []string    // DefaultCaps where nil
	Delim          string      // "/" where empty
	Flat           bool        // no hierarchy: the delimiter is NIL
	TLS            *tls.Config // STARTTLS is offered, and login refused before it
	Cleartext      bool        // login is allowed without it
	Preauth        bool        // no login
	Greeting       string      // what stands behind "* "; usually OK and capabilities
	Welcome        string      // what stands behind the OK to a login, such as "[ALERT] read this"
	Most           int         // connections at a time; 0: any number
	Full           string      // what the next one hears: "* BYE ..." at once, or "NO ..." at login
	Window         int         // bytes of one write, with Pause before each; 0: all
	Pause          time.Duration

	mu        sync.Mutex
	boxes     []*box
	modseq    uint64
	ids       int
	faults    []Fault
	bends     []Bend
	cut       *Cut
	commands  []Command
	bodies    int
	bodyBytes int64
	sent      int64
	conns     map[net.Conn]bool
	opened    int
	closed    bool
	listeners []net.Listener
	serves    sync.WaitGroup
}

// DefaultCaps is what a modern server offers.
var DefaultCaps = []string{
	"IMAP4rev1", "AUTH=PLAIN", "SASL-IR", "LITERAL+", "ENABLE", "ID", "NAMESPACE", "UNSELECT",
	"UIDPLUS", "ESEARCH", "SPECIAL-USE", "LIST-EXTENDED", "LIST-STATUS", "STATUS=SIZE", "CONDSTORE",
}

// PlainCaps is what a server of the last century offers.
var PlainCaps = []string{"IMAP4rev1"}

// Start listens on loopback and gives host and port. The server ends with the
// test; Start may be called again for another port.
func (m *Model) Start(tb TB) string {
	tb.Helper()
	return m.start(tb, nil)
}

// StartTLS is Start for imaps://, with the certificate of TLS.
func (m *Model) StartTLS(tb TB) string {
	tb.Helper()
	return m.start(tb, m.TLS)
}

func (m *Model) start(tb TB, config *tls.Config) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("listen: %v", err)
	}
	m.mu.Lock()
	m.listeners = append(m.listeners, l)
	m.mu.Unlock()
	m.serves.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			m.serves.Go(func() { m.serve(conn, config) })
		}
	})
	tb.Cleanup(m.Close)
	return l.Addr().String()
}

// Serve talks to one client until it leaves. Start does so for each; tests
// with virtual time give it one end of a net.Pipe.
func (m *Model) Serve(conn net.Conn) { m.serve(conn, nil) }

// Close ends all connections and waits for them.
func (m *Model) Close() {
	m.mu.Lock()
	m.closed = true
	for _, l := range m.listeners {
		l.Close()
	}
	for c := range m.conns {
		c.Close()
	}
	m.mu.Unlock()
	m.serves.Wait()
}

// Drop ends all connections as a restart of the server does; new ones are
// welcome.
func (m *Model) Drop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := range m.conns {
		c.Close()
	}
}

// Connections is how many there are now.
func (m *Model) Connections() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.conns)
}

// Opened is how many connections there have been.
func (m *Model) Opened() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.opened
}

// enter counts conn in and gives its number, and whether it is one too many.
func (m *Model) enter(conn net.Conn) (number int, full bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		conn.Close()
	}
	if m.conns == nil {
		m.conns = map[net.Conn]bool{}
	}
	m.conns[conn] = true
	m.opened++
	return m.opened, m.Most > 0 && len(m.conns) > m.Most
}

func (m *Model) leave(conn net.Conn) {
	conn.Close()
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.conns, conn)
}

func (m *Model) caps() []string {
	if m.Caps == nil {
		return DefaultCaps
	}
	return m.Caps
}

func (m *Model) has(name string) bool {
	if name == "CONDSTORE" && m.has("QRESYNC") {
		return true // RFC 7162, section 3.2.3
	}
	return slices.ContainsFunc(m.caps(), func(c string) bool { return strings.EqualFold(c, name) })
}

// delim is the delimiter as it stands in an answer.
func (m *Model) delim() string {
	switch {
	case m.Flat:
		return "NIL"
	case m.Delim == "":
		return `"/"`
	}
	return quote(m.Delim)
}

func (m *Model) knows(user, password string) bool {
	u, p := m.User, m.Password
	if u == "" {
		u = "ann"
	}
	if p == "" {
		p = "secret"
	}
	return user == u && password == p
}

// A Command is one that a client sent.
type Command struct {
	Conn   int    // the how many-th connection, from 1
	Number int    // the how many-th command in all since the last Reset, from 1
	Tag    string // as the client chose it
	Verb   string // in capitals, with UID where it stands before
	Args   string // as sent; empty for LOGIN and AUTHENTICATE
}

func (c Command) String() string { return strings.TrimSpace(c.Verb + " " + c.Args) }

// Commands are those since the last Reset.
func (m *Model) Commands() []Command {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.commands)
}

// Count is how many commands of a verb came since the last Reset.
func (m *Model) Count(verb string) int {
	n := 0
	for _, c := range m.Commands() {
		if c.Verb == verb {
			n++
		}
	}
	return n
}

// Bodies is how many bodies were sent since the last Reset, whole or not.
func (m *Model) Bodies() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bodies
}

// BodyBytes is how many bytes of bodies were sent since the last Reset.
func (m *Model) BodyBytes() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bodyBytes
}

// Sent is how many bytes went to clients since the last Reset: the length of
// the transcript that a Cut may fall into.
func (m *Model) Sent() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sent
}

// Reset forgets commands and counts; faults stay.
func (m *Model) Reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.commands, m.bodies, m.bodyBytes, m.sent = nil, 0, 0, 0
}

func (m *Model) note(c *Command) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c.Number = len(m.commands) + 1
	m.commands = append(m.commands, *c)
}

// harmless are the verbs that change nothing on a server.
var harmless = []string{
	"CAPABILITY", "NOOP", "LOGOUT", "STARTTLS", "AUTHENTICATE", "LOGIN", "ID", "ENABLE", "COMPRESS",
	"NAMESPACE", "LIST", "STATUS", "EXAMINE", "UNSELECT", "FETCH", "UID FETCH", "SEARCH", "UID SEARCH", "IDLE",
}

// Untouched fails the test unless every command since the last Reset was one
// that changes nothing: no SELECT, no STORE, no body without PEEK.
func (m *Model) Untouched(tb TB) {
	tb.Helper()
	for _, c := range m.Commands() {
		if problem := c.changes(); problem != "" {
			tb.Fatalf("connection %d sent %s: %s", c.Conn, c, problem)
		}
	}
}

func (c Command) changes() string {
	if !slices.Contains(harmless, c.Verb) {
		return "this verb may change the account"
	}
	if !strings.HasSuffix(c.Verb, "FETCH") {
		return ""
	}
	// RFC 3501, section 6.4.5: these set \Seen.
	for item := range strings.FieldsFuncSeq(strings.ToUpper(c.Args), func(r rune) bool { return strings.ContainsRune(" ()", r) }) {
		if strings.HasPrefix(item, "BODY[") || item == "RFC822" || item == "RFC822.TEXT" {
			return fmt.Sprintf("%s makes messages seen", item)
		}
	}
	return ""
}
