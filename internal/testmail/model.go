package testmail

import (
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
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
	Keeper         Keeper // how it takes what is brought
	Strict         bool   // APPEND with a flag that does not last is BAD
	Numbers        uint32 // added to every UIDVALIDITY, so that two servers differ
	Prefix         string // of the personal namespace, such as "INBOX."

	host   // its lock guards what follows
	boxes  []*box
	modseq uint64
	ids    int
	bends  []Bend

	subscribed []string
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
	addr, err := m.listen(func(conn net.Conn) { m.serve(conn, config) })
	if err != nil {
		tb.Fatalf("listen: %v", err)
	}
	tb.Cleanup(m.Close)
	return addr
}

// Serve talks to one client until it leaves. Start does so for each; tests
// with virtual time give it one end of a net.Pipe.
func (m *Model) Serve(conn net.Conn) { m.serve(conn, nil) }

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
	return known(m.User, m.Password, user, password)
}

// known compares a login with the one that is right, ann and secret where that
// is empty.
func known(rightUser, rightPassword, user, password string) bool {
	if rightUser == "" {
		rightUser = "ann"
	}
	if rightPassword == "" {
		rightPassword = "secret"
	}
	return user == rightUser && password == rightPassword
}

// harmless are the verbs that change nothing on a server.
var harmless = []string{
	"CAPABILITY", "NOOP", "LOGOUT", "STARTTLS", "AUTHENTICATE", "LOGIN", "ID", "ENABLE", "COMPRESS",
	"NAMESPACE", "LIST", "STATUS", "EXAMINE", "UNSELECT", "FETCH", "UID FETCH", "SEARCH", "UID SEARCH", "IDLE", "GETQUOTAROOT",
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
