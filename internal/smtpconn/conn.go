// Package smtpconn hands messages to an SMTP or LMTP server (RFC 5321, 2033),
// over one connection, and tells for each what is certain: it was accepted, it
// was not, or nobody knows.
//
// We dial, protect the line (TLS, or STARTTLS) and read the greeting. Then
// go-smtp is given the connection and introduces us, logs in and says good-bye.
// It sees the server through a gate that hands over one reply at a time, which
// was understood and bounded here. The transaction itself (MAIL, RCPT, DATA,
// BDAT, RSET) is written here, for go-smtp ends the message with a dot even when
// its text broke off, turns bare LF into CRLF, announces 8BITMIME always, knows
// no BDAT, and loses the reply of LMTP for a recipient that is named twice.
//
// What must stay true: the end of a message, be it the dot or the last octet of
// the last chunk, is sent only when all of it was read without an error and
// counted; otherwise the line is cut, and the server has to throw away what it
// has (RFC 5321, section 4.1.1.4). From the moment in which that end may be on
// its way until the reply, the message is in doubt. Nothing that came from
// elsewhere gets into a command but through Check.
package smtpconn

import (
	"bufio"
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

	"github.com/emersion/go-smtp"

	"mailhaul/internal/mail"
	"mailhaul/internal/netconn"
)

// Security is how a connection is protected.
type Security int

const (
	Implicit Security = iota // TLS from the first byte
	StartTLS                 // TLS before anything of value is said, or no connection
	None                     // no TLS: the caller has made sure that it may be
)

// Options say where to connect and as whom. Addr is required; the zero value
// of all else is the sensible choice.
type Options struct {
	Addr     string // "host:port"
	Host     string // for the certificate; Addr's where empty
	LMTP     bool
	Security Security
	Roots    *x509.CertPool // nil: those of the system
	User     string         // empty: nobody logs in
	Password string
	Limits   netconn.Limits

	// Dial connects; nil means TCP. For tests.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
}

// A Conn is a session, for one goroutine.
type Conn struct {
	nc      *netconn.Conn
	br      *bufio.Reader
	bw      *bufio.Writer
	lmtp    bool
	name    string // ours
	gate    gate
	lib     *smtp.Client
	ext     map[string]string // by keyword in upper case
	sent    int               // transactions that were begun
	fault   error             // why the connection is useless
	closing sync.Once
}

// Dial connects, protects the connection, introduces us and logs in. Its
// errors are of the run's scope; a refused password wraps mail.ErrLogin.
func Dial(ctx context.Context, o Options) (*Conn, error) {
	nc, err := connect(ctx, &o)
	if err != nil {
		return nil, wide("connect", err)
	}
	c := &Conn{nc: nc, br: bufio.NewReaderSize(nc, 8<<10), bw: bufio.NewWriterSize(nc, 64<<10), lmtp: o.LMTP, name: literal(nc.LocalAddr())}
	c.gate.c = c
	stop := nc.Follow(ctx)
	defer stop()
	if err := c.enter(ctx, &o); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// connect gives a connection, with TLS where that begins at once.
func connect(ctx context.Context, o *Options) (nc *netconn.Conn, err error) {
	if o.Host == "" {
		if o.Host, _, err = net.SplitHostPort(o.Addr); err != nil {
			return nil, err
		}
	}
	if o.Limits.Write == 0 {
		o.Limits.Write = 3 * time.Minute // RFC 5321, section 4.5.3.2.5
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
		if err := nc.StartTLS(ctx, o.tls()); err != nil {
			return nil, err
		}
	}
	return nc, nil
}

func (o *Options) tls() *tls.Config { return &tls.Config{ServerName: o.Host, RootCAs: o.Roots} }

// literal is our address as EHLO takes it (RFC 5321, section 4.1.3): it is
// true, which a host name of a machine at home seldom is.
func literal(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	switch {
	case !ok:
		return "localhost"
	case tcp.IP.To4() != nil:
		return "[" + tcp.IP.To4().String() + "]"
	}
	return "[IPv6:" + tcp.IP.String() + "]"
}

// Has reports whether the server offers an extension, and Size how large a
// message may be: 0 where it does not say.
func (c *Conn) Has(keyword string) bool {
	_, ok := c.ext[keyword]
	return ok
}

// Size is the largest message that the server takes, in octets; 0 where it does
// not say (RFC 1870).
func (c *Conn) Size() int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(c.ext["SIZE"]), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// Sent is how many transactions were begun on this connection.
func (c *Conn) Sent() int { return c.sent }

// Broken reports whether the connection is of no further use.
func (c *Conn) Broken() bool { return c.fault != nil }

// Quit says good-bye, waiting at most for patience, and closes.
func (c *Conn) Quit(patience time.Duration) {
	if c.fault == nil && c.lib != nil {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		stop := c.nc.Follow(ctx)
		c.lib.Quit() // its answer is of no interest: every message has had its own
		stop()
		cancel()
	}
	c.Close()
}

// Close closes the connection.
func (c *Conn) Close() error {
	c.closing.Do(func() {
		c.fail(net.ErrClosed)
		c.nc.Close() // its error is that the line is closed
	})
	return nil
}

// fail cuts the line for the reason err and gives that reason.
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

var (
	// ErrSecurity marks a server that does not give the protection asked for.
	ErrSecurity = errors.New("no protected connection")

	// ErrSyntax marks a reply that cannot be understood.
	ErrSyntax = errors.New("the server's reply cannot be understood")

	// ErrUnanswered marks a message that the server has got whole and said
	// nothing about.
	ErrUnanswered = errors.New("the message was sent whole and the reply did not come")

	errWays  = errors.New("no way to log in")
	errLimit = errors.New("the server's reply is beyond all measure")
)

// wide is an error of the run's scope. What a server refuses for good, and a
// certificate, stay as they are; all else may pass.
func wide(op string, err error) error {
	hard := errors.Is(err, netconn.ErrCertificate) || errors.Is(err, ErrSecurity) || errors.Is(err, errWays)
	var r *Reply
	if errors.As(err, &r) {
		hard = hard || !r.Temporary()
	}
	return &mail.Error{Op: op, Scope: mail.ScopeRun, Temporary: !hard, Err: err}
}
