// Package pop3conn is one authenticated POP3 session that reads a maildrop and
// cannot change it, unless it was opened to remove.
//
// We dial, protect the line (TLS, or STLS), learn the capabilities and log in.
// Then go-pop3 is given the connection, with a greeting of ours, and carries
// the commands whose answer is one line. It sees the server through a gate
// that hands over one status line at a time, understood and written anew, and
// never a byte of what follows it. Listings and messages are read here, from
// our own buffer: go-pop3 would take a lone dot within a message for its end,
// change line ends, and end a listing at the first odd line without an error.
//
// What must stay true: one goroutine uses a Conn; every command passes the
// guard, which knows the few verbs that are allowed and lets no line break into
// an argument; an answer that cannot be understood ends the connection, for a
// reader that has lost its place in the stream would take one message for
// another.
package pop3conn

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/knadh/go-pop3"

	"mailhaul/internal/mail"
	"mailhaul/internal/netconn"
)

// Security is how a connection is protected.
type Security int

const (
	Implicit Security = iota // TLS from the first byte
	STLS                     // TLS before anything else is said, or no connection
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
	// offers is used; without any it is PLAIN, LOGIN, else USER and PASS.
	Mechanisms []Mechanism

	// APOP logs in with a digest of the server's greeting (RFC 1939, section
	// 7) and in no other way.
	APOP bool

	// Remove lets DELE pass. Without it nothing can be deleted.
	Remove bool

	Limits   netconn.Limits
	Greeting time.Duration // how long to wait for the greeting: 60 s

	// Dial connects; nil means TCP. For tests.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
}

// A Conn is a session, for one goroutine.
type Conn struct {
	nc    *netconn.Conn
	br    *bufio.Reader
	guard guard
	gate  gate
	lib   *pop3.Conn

	greeting string
	caps     map[string]string // by name in upper case; nil: the server tells none
	asked    []int             // messages that RETR or TOP has asked for, unanswered
	body     Body              // the one that is being read
	fault    error             // why the connection is useless
	closing  sync.Once
}

// Dial connects, protects the connection, logs in and learns what the server
// can do. Its errors are of account scope; a refused password wraps
// mail.ErrLogin.
func Dial(ctx context.Context, o Options) (*Conn, error) {
	nc, err := connect(ctx, &o)
	if err != nil {
		return nil, account("connect", err)
	}
	c := newConn(nc, &o)
	stop := nc.Follow(ctx)
	defer stop()
	if err := c.enter(ctx, &o); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func newConn(nc *netconn.Conn, o *Options) *Conn {
	c := &Conn{nc: nc, br: bufio.NewReaderSize(nc, 128<<10)}
	c.gate.c = c
	c.guard.w, c.guard.remove = nc, o.Remove
	return c
}

// connect gives a connection, with TLS where that begins at once.
func connect(ctx context.Context, o *Options) (nc *netconn.Conn, err error) {
	if o.Host == "" {
		if o.Host, _, err = net.SplitHostPort(o.Addr); err != nil {
			return nil, err
		}
	}
	if o.Dial != nil {
		raw, err := o.Dial(ctx, o.Addr)
		if err != nil {
			return nil, err
		}
		nc = netconn.Wrap(raw, o.Limits)
	} else if nc, err = netconn.Dial(ctx, o.Addr, o.Limits); err != nil {
		return nil, err
	}
	if o.Security == Implicit {
		config := o.tls()
		config.NextProtos = []string{"pop3"}
		if err := nc.StartTLS(ctx, config); err != nil {
			return nil, err
		}
	}
	return nc, nil
}

func (o *Options) tls() *tls.Config { return &tls.Config{ServerName: o.Host, RootCAs: o.Roots} }

// Capability gives the arguments of a capability, such as "EXPIRE", and
// whether the server has announced it (RFC 2449).
func (c *Conn) Capability(name string) (args string, ok bool) {
	args, ok = c.caps[name]
	return args, ok
}

// Has reports whether the server has announced a capability.
func (c *Conn) Has(name string) bool {
	_, ok := c.caps[name]
	return ok
}

// Greeting is what the server said first, behind its "+OK". It was said
// before TLS where that came by STLS, so nothing may depend on it.
func (c *Conn) Greeting() string { return c.greeting }

// Counts are the bytes read and written. Any goroutine may ask.
func (c *Conn) Counts() (read, written int64) { return c.nc.Counts() }

// Broken reports whether the connection is of no further use.
func (c *Conn) Broken() bool { return c.fault != nil }

// Close closes the connection without QUIT: what was marked to be deleted
// stays (RFC 1939, section 6).
func (c *Conn) Close() error {
	c.closing.Do(func() {
		c.fail(net.ErrClosed)
		c.nc.Close() // its error is that the line is closed
	})
	return nil
}

// fail makes the connection useless for the reason err and gives that reason.
func (c *Conn) fail(err error) error {
	if c.fault != nil {
		return c.fault
	}
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = fmt.Errorf("the server has closed the connection: %w", io.ErrUnexpectedEOF)
	}
	c.fault = err
	c.nc.Cut(err)
	return err
}

// folder gives an error of the maildrop's scope; nil stays nil. A connection
// that is lost is temporary, a refusal only where the server says so.
func (c *Conn) folder(op string, err error) error {
	if err == nil {
		return nil
	}
	e := &mail.Error{Op: op, Scope: mail.ScopeFolder, Temporary: true, Err: err}
	var s *Status
	switch {
	case errors.As(err, &s):
		e.Temporary = s.Temporary()
		e.After = c.after(s)
	case errors.Is(err, ErrVerb):
		e.Scope, e.Temporary = mail.ScopeAccount, false
	}
	return e
}

// account gives an error of an account's scope.
func account(op string, err error) *mail.Error {
	hard := errors.Is(err, netconn.ErrCertificate) || errors.Is(err, ErrSecurity) ||
		errors.Is(err, mail.ErrLogin) || errors.Is(err, ErrVerb) || errors.Is(err, errWays)
	var s *Status
	if errors.As(err, &s) {
		hard = hard || !s.Temporary()
	}
	return &mail.Error{Op: op, Scope: mail.ScopeAccount, Temporary: !hard, Err: err}
}
