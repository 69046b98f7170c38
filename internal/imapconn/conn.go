// Package imapconn is one authenticated IMAP connection that reads a mailbox
// and cannot change it, unless it was opened for bringing mail: then it makes
// folders, appends, copies and sets flags, and takes nothing away all the same.
//
// The connection has two users, one after the other, never both at once.
// go-imap does what it does safely: greeting, authentication, capabilities,
// ID, NOOP and LOGOUT. Listing and fetching are done by our own code with a
// streaming parser, because go-imap gives up the connection for one odd folder
// name, keeps whole lists in memory, and can lose a message without an error
// when a server sends items in an unusual order.
//
// They share the socket through a gate. It is open for go-imap from the moment
// it writes a command until the tagged answer to its last command has been
// handed over; then its reader waits in Read without touching the socket, and
// whoever calls a method of Conn reads for himself: no goroutine in between,
// no copy. While the gate is open go-imap sees one response at a time, and only
// what it asked for (see library.go).
//
// What must stay true: one goroutine uses a Conn; every command passes the
// guard, which knows the few verbs that are allowed; an answer that cannot be
// understood ends the connection, for a reader that has lost its place in the
// stream would take one message for another.
package imapconn

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"

	"mailhaul/internal/mail"
	"mailhaul/internal/netconn"
)

// Security is how a connection is protected.
type Security int

const (
	Implicit Security = iota // TLS from the first byte
	StartTLS                 // TLS before anything else is said, or no connection
	None                     // no TLS: the caller has made sure that it may be
)

// Options say where to connect and as whom. Addr, User and Password are
// required; the zero value of all else is the sensible choice.
type Options struct {
	Addr     string // "host:port"
	Host     string // for the certificate; Addr's where empty
	Security Security
	Roots    *x509.CertPool // nil: those of the system
	User     string
	Password string

	// Mechanisms are tried in this order, the first one that the server
	// offers is used; without any it is PLAIN, else the LOGIN command.
	Mechanisms []Mechanism

	Compress Compress // of what is said, where the server offers it

	Write bool // commands that bring mail are allowed

	Name, Version string // told to the server by ID (RFC 2971)

	Limits   netconn.Limits
	Greeting time.Duration // how long to wait for the greeting: 60 s

	// Dial connects; nil means TCP. For tests.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
}

// A Conn is an authenticated connection, for one goroutine.
type Conn struct {
	nc   *netconn.Conn
	wire *wire
	scan scan

	compress   Compress
	compressed bool
	measured   mark // where the measuring of the line began

	guard   guard
	client  *imapclient.Client
	library library

	host    string // that was asked for, in lower case
	caps    map[string]bool
	preauth bool
	resync  bool // QRESYNC is on
	lag     time.Duration
	alerts  []string        // RFC 3501, section 7.1: must be shown
	seen    map[string]bool // alerts noted already

	tags  int
	open  int      // own commands without their answer
	early []tagged // answers that came while a go-ahead was waited for
	box   Box      // the folder that is open; Validity 0: none
	epoch error    // set once UIDVALIDITY has changed under box

	mu    sync.Mutex // of what both users may write
	bye   *Status    // the server's farewell, if it has said one
	fault error      // why the connection is useless

	flags   map[string]mail.Flags // sets seen, so that each exists once
	closing sync.Once
}

// Dial connects, protects the connection, logs in and learns what the server
// can do. Its errors are of account scope; a refused password wraps
// mail.ErrLogin, a server that takes no more connections ErrBusy.
func Dial(ctx context.Context, o Options) (*Conn, error) {
	nc, greeted, err := connect(ctx, &o)
	if err != nil {
		return nil, account("connect", err)
	}
	c := newConn(nc, greeted, o.Write, o.Greeting)
	c.compress, c.host = o.Compress, hostOf(o.Addr)
	stop := nc.Follow(ctx)
	defer stop()
	if err := c.enter(&o); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func newConn(nc *netconn.Conn, greeted, write bool, greeting time.Duration) *Conn {
	c := &Conn{nc: nc, wire: newWire(nc), seen: map[string]bool{}, flags: map[string]mail.Flags{}}
	if greeting == 0 {
		greeting = 60 * time.Second
	}
	c.library.init(c, greeted, greeting)
	c.guard.w, c.guard.write = nc, write
	c.guard.begun = c.library.begun
	c.client = imapclient.New(&c.library, nil)
	return c
}

// connect gives a connection that is protected as asked for. It has been
// greeted when STARTTLS was needed: everything that was said before TLS is
// forgotten (RFC 3501, section 6.2.1).
func connect(ctx context.Context, o *Options) (nc *netconn.Conn, greeted bool, err error) {
	host, _, err := net.SplitHostPort(o.Addr)
	if err != nil {
		return nil, false, err
	}
	if o.Host != "" {
		host = o.Host
	}
	if o.Dial != nil {
		raw, err := o.Dial(ctx, o.Addr)
		if err != nil {
			return nil, false, err
		}
		nc = netconn.Wrap(raw, o.Limits)
	} else if nc, err = netconn.Dial(ctx, o.Addr, o.Limits); err != nil {
		return nil, false, err
	}
	config := &tls.Config{ServerName: host, RootCAs: o.Roots}
	switch o.Security {
	case Implicit:
		config.NextProtos = []string{"imap"}
		err = nc.StartTLS(ctx, config)
	case StartTLS:
		if err = startTLS(ctx, nc, o.Greeting); err == nil {
			greeted = true
			err = nc.StartTLS(ctx, config)
		}
	}
	if err != nil {
		nc.Cut(err)
		return nil, false, err
	}
	return nc, greeted, nil
}

// Has reports whether the server has announced a capability, such as
// "CONDSTORE".
func (c *Conn) Has(capability string) bool { return c.caps[capability] }

// Lag is the shortest time in which a command of ours was answered: about that
// of a round trip. 0: none was.
func (c *Conn) Lag() time.Duration { return c.lag }

// MessageLimit is the most messages that one command may name (RFC 9738), or
// 0.
func (c *Conn) MessageLimit() int {
	for name := range c.caps {
		if v, ok := strings.CutPrefix(name, "MESSAGELIMIT="); ok {
			n, _ := strconv.Atoi(v)
			return n
		}
	}
	return 0
}

// Alerts gives what the server wants the user to know, and forgets it.
func (c *Conn) Alerts() []string {
	a := c.alerts
	c.alerts = nil
	return a
}

// Counts are the bytes read and written. Any goroutine may ask.
func (c *Conn) Counts() (read, written int64) { return c.nc.Counts() }

// Broken reports whether the connection is of no further use.
func (c *Conn) Broken() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fault != nil || c.bye != nil || c.nc.Gone()
}

// broken is why the connection is useless, or nil.
func (c *Conn) broken() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fault
}

// Noop asks for nothing, to see whether the server is still there.
func (c *Conn) Noop(ctx context.Context) error {
	return c.folder("noop", c.withLibrary(ctx, func() error { return c.client.Noop().Wait() }))
}

// Logout says good-bye, waiting at most for patience, and closes. A command
// that is still open makes it close at once.
func (c *Conn) Logout(patience time.Duration) {
	if !c.Broken() && c.open == 0 {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		// The answer is of no interest: all that mattered has been read.
		c.withLibrary(ctx, func() error { return c.client.Logout().Wait() })
		cancel()
	}
	c.Close()
}

// Close closes the connection at once. No goroutine is left behind.
func (c *Conn) Close() error {
	c.closing.Do(func() {
		c.fail(net.ErrClosed)
		c.library.close()
		c.client.Close() // its error is that the line is closed
	})
	return nil
}

// fail makes the connection useless for the reason err and gives that reason,
// with the server's farewell where there was one.
func (c *Conn) fail(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fault != nil {
		return c.fault
	}
	switch {
	case c.bye != nil:
		err = fmt.Errorf("the server has ended the connection: %w", c.bye)
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		err = fmt.Errorf("the server has closed the connection: %w", io.ErrUnexpectedEOF)
	}
	c.fault = err
	c.nc.Cut(err)
	return err
}

// folder gives an error of a folder's scope; nil stays nil.
func (c *Conn) folder(op string, err error) error {
	if err == nil {
		return nil
	}
	e := &mail.Error{Op: op, Scope: mail.ScopeFolder, Temporary: true, Err: err}
	var s *Status
	if errors.As(err, &s) {
		e.After = s.Wait()
		// A farewell is no answer: the line is gone, the folder is not.
		e.Temporary = c.broken() != nil || s.temporary()
	}
	if errors.Is(err, ErrVerb) {
		e.Scope, e.Temporary = mail.ScopeAccount, false
	}
	return e
}

// account gives an error of an account's scope.
func account(op string, err error) error {
	hard := errors.Is(err, netconn.ErrCertificate) || errors.Is(err, ErrSecurity) ||
		errors.Is(err, mail.ErrLogin) || errors.Is(err, ErrVerb)
	e := &mail.Error{Op: op, Scope: mail.ScopeAccount, Temporary: !hard, Err: err}
	var s *Status
	if errors.As(err, &s) {
		e.After = s.Wait()
	}
	return e
}
