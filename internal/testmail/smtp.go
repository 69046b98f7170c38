package testmail

import (
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
)

// SMTP is an SMTP server of our own, or an LMTP server, that keeps what it is
// given, for tests. It does what RFC 5321, 2033, 1870, 2920, 3030, 3207, 4954
// and 6531 say, until a Fault or a Cut tells it to do otherwise; it notes every
// command and every message, byte for byte, and what a client should not have
// done. Fields are set before Start; methods may be called at any time from any
// goroutine, by faults too.
//
// Faults are asked at moments that are no commands, too, under verbs of their
// own: GREETING; "." when a message has come whole and is not accepted yet; and
// ACCEPTED when it is and the client does not know. By LMTP these two are asked
// for each recipient, which is in Args.
//
//	s := &testmail.SMTP{}
//	addr := s.Start(t)
//	s.Fault(testmail.Refuse("RCPT", "550 nobody here", 1))
//	s.Fault(testmail.Hangup("ACCEPTED", 1)) // a lost reply
type SMTP struct {
	User, Password string // "ann" and "secret" where empty
	LMTP           bool
	Keywords       []string    // what EHLO tells, but for STARTTLS and AUTH; DefaultSMTPKeywords where nil
	TLS            *tls.Config // STARTTLS is offered, and AUTH only after it
	Cleartext      bool        // AUTH is offered without it
	Auth           string      // mechanisms, "PLAIN LOGIN"; MAIL is refused before; empty: no login
	Greeting       string      // the first line; one without 220 is the last one too
	Old            bool        // it knows HELO only

	host // its lock guards what follows
	mail []Delivery
	sins []string
}

// DefaultSMTPKeywords is what a modern server offers, but for binary mail.
var DefaultSMTPKeywords = []string{"PIPELINING", "SIZE 50000000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "CHUNKING"}

// A Delivery is a message that was accepted.
type Delivery struct {
	Conn       int
	From       string
	Parameters []string // of MAIL
	To         []string // of LMTP: those for whom it was accepted
	Raw        []byte   // without the dots that were stuffed
	Chunked    bool     // by BDAT
}

// Start listens on loopback and gives host and port. The server ends with the
// test; Start may be called again for another port.
func (s *SMTP) Start(tb TB) string {
	tb.Helper()
	return s.start(tb, s.Serve)
}

// StartTLS is Start for smtps://, with the certificate of TLS.
func (s *SMTP) StartTLS(tb TB) string {
	tb.Helper()
	return s.start(tb, func(conn net.Conn) { s.serve(conn, s.TLS) })
}

func (s *SMTP) start(tb TB, serve func(net.Conn)) string {
	tb.Helper()
	addr, err := s.listen(serve)
	if err != nil {
		tb.Fatalf("listen: %v", err)
	}
	tb.Cleanup(s.Close)
	return addr
}

// Serve talks to one client until it leaves. Start does so for each.
func (s *SMTP) Serve(conn net.Conn) { s.serve(conn, nil) }

// Heal takes all faults and cuts away.
func (s *SMTP) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults, s.cut = nil, nil
}

// Accepted is what was accepted, in its order.
func (s *SMTP) Accepted() []Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mail)
}

// Empty forgets what was accepted.
func (s *SMTP) Empty() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mail = nil
}

// Sins are what clients have done that they should not: a line that is too
// long or not ended by CRLF, octets that were not announced, a command too
// early.
func (s *SMTP) Sins() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.sins)
}

func (s *SMTP) sin(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sins = append(s.sins, fmt.Sprintf(format, args...))
}

func (s *SMTP) accept(d Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mail = append(s.mail, d)
}

func (s *SMTP) keywords() []string {
	if s.Keywords == nil {
		return DefaultSMTPKeywords
	}
	return s.Keywords
}

// limit is the largest message that is taken; 0: any.
func (s *SMTP) limit() int64 {
	for _, k := range s.keywords() {
		if n, ok := strings.CutPrefix(k, "SIZE "); ok {
			limit, _ := strconv.ParseInt(n, 10, 64)
			return limit
		}
	}
	return 0
}
