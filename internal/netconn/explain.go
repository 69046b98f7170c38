package netconn

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// ErrCertificate marks errors that mean: this is not the server that was asked
// for, or nobody trusted says that it is. Trying again does not help.
var ErrCertificate = errors.New("the certificate is not acceptable")

// certificate is what is wrong and what to do about it.
type certificate struct {
	text, hint string
	cause      error
}

func (e *certificate) Error() string   { return e.text }
func (e *certificate) Hint() string    { return e.hint }
func (e *certificate) Unwrap() error   { return e.cause }
func (e *certificate) Is(t error) bool { return t == ErrCertificate }

// Advise adds to an error what to do about it, for whoever shows it.
func Advise(err error, hint string) error { return &advice{err, hint} }

type advice struct {
	error
	hint string
}

func (a *advice) Hint() string  { return a.hint }
func (a *advice) Unwrap() error { return a.error }

func explainDial(ctx context.Context, addr string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	host, port, _ := net.SplitHostPort(addr)
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return Advise(fmt.Errorf("no host is called %s: %w", host, err), "is the name right, and is this machine online?")
	case errors.As(err, &dns):
		return fmt.Errorf("the address of %s cannot be found just now: %w", host, err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return Advise(fmt.Errorf("nobody answers at %s, port %s: %w", host, port, err), "is the port right? if so, try again later")
	case errors.Is(err, os.ErrDeadlineExceeded), isTimeout(err):
		return fmt.Errorf("%s, port %s, does not answer: %w", host, port, err)
	}
	return err
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

func explainTLS(host string, err error) error {
	var (
		name    x509.HostnameError
		unknown x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
		record  tls.RecordHeaderError
		verify  *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &name):
		return &certificate{fmt.Sprintf("the certificate is not for %s", host), "write the host name that the provider names", err}
	case errors.As(err, &unknown):
		return &certificate{fmt.Sprintf("the certificate of %s is signed by nobody known here", host), "for a server of your own name its certificate authority: -o ca_file=FILE", err}
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		if time.Now().Before(invalid.Cert.NotBefore) {
			return &certificate{fmt.Sprintf("the certificate of %s is valid only from %s", host, day(invalid.Cert.NotBefore)), "is the clock of this machine right?", err}
		}
		return &certificate{fmt.Sprintf("the certificate of %s has expired on %s", host, day(invalid.Cert.NotAfter)), "tell the provider, or set the clock of this machine", err}
	case errors.As(err, &verify):
		return &certificate{fmt.Sprintf("the certificate of %s cannot be trusted: %v", host, verify.Err), "", err}
	case errors.As(err, &record):
		return &certificate{fmt.Sprintf("%s does not speak TLS on this port: %v", host, err), "is the port right? a server that begins without TLS is imap://, pop3:// or smtp://", err}
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return fmt.Errorf("%s has closed the line while TLS was set up: %w", host, err)
	}
	return fmt.Errorf("TLS with %s: %w", host, err)
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
