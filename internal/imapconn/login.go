package imapconn

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-sasl"

	"mailhaul/internal/mail"
)

// A Mechanism is a way to authenticate (RFC 4422). Client makes the exchange
// anew for each connection: tokens expire.
type Mechanism struct {
	Name   string // "PLAIN", "XOAUTH2"
	Client func() (sasl.Client, error)
}

// enter greets, logs in, learns the capabilities and says who we are.
func (c *Conn) enter(o *Options) error {
	if err := c.attended(c.client.WaitGreeting); err != nil {
		return account("connect", busy(err))
	}
	if o.Security == StartTLS && c.preauth {
		return account("connect", fmt.Errorf("%w: the server let us in before we said who we are", ErrSecurity))
	}
	if err := c.learn(); err != nil {
		return account("connect", busy(err))
	}
	if !c.preauth {
		if err := c.login(o); err != nil {
			return account("log in", refusal(err))
		}
		if err := c.learn(); err != nil {
			return account("log in", busy(err))
		}
	}
	if c.Has("ID") {
		// Some providers give nothing to programs that do not say their name.
		// What they answer is of no interest, nor whether they do.
		name := &imap.IDData{Name: o.Name, Version: o.Version}
		if name.Name == "" {
			name = nil
		}
		err := c.attended(func() error { _, err := c.client.ID(name).Wait(); return err })
		if cause := c.broken(); err != nil && cause != nil {
			return account("log in", busy(cause))
		}
	}
	if o.Compress == CompressYes {
		if err := c.deflate(); err != nil {
			return account("log in", busy(err))
		}
	}
	return nil
}

// learn asks for the capabilities where the server has not told them by
// itself.
func (c *Conn) learn() error {
	if c.caps != nil {
		return nil
	}
	err := c.attended(func() error { _, err := c.client.Capability().Wait(); return err })
	if err == nil && c.caps == nil {
		c.caps = map[string]bool{}
	}
	return err
}

func (c *Conn) login(o *Options) error {
	if strings.Contains(o.User+o.Password, "\x00") {
		return errors.New("user name or password with a NUL byte")
	}
	if o.Security == None && c.Has("LOGINDISABLED") && len(o.Mechanisms) == 0 {
		return fmt.Errorf("%w: the server takes no password without TLS: use imaps:// or leave tls=none out", ErrSecurity)
	}
	mechanisms := o.Mechanisms
	if mechanisms == nil {
		mechanisms = []Mechanism{{"PLAIN", func() (sasl.Client, error) {
			return sasl.NewPlainClient("", o.User, o.Password), nil
		}}}
	}
	for _, m := range mechanisms {
		if !c.Has("AUTH=" + m.Name) {
			continue
		}
		client, err := m.Client()
		if err != nil {
			return err
		}
		return c.attended(func() error { return c.client.Authenticate(client) })
	}
	switch {
	case o.Mechanisms != nil:
		return errors.New("the server offers none of the ways to log in that were asked for")
	case c.Has("LOGINDISABLED"):
		return errors.New("the server takes no password at all: does this account need OAuth?")
	}
	return c.attended(func() error { return c.client.Login(o.User, o.Password).Wait() })
}

// busy marks errors that mean: not so many connections, or not now.
func busy(err error) error {
	var s *Status
	if errors.As(err, &s) && s.temporary() ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) {
		return fmt.Errorf("%w: %w", ErrBusy, err)
	}
	return err
}

// refusal tells a wrong password from a server that has other troubles
// (RFC 5530, section 3). A plain NO is a wrong password: servers without codes
// say no more.
func refusal(err error) error {
	var s *Status
	switch {
	case !errors.As(err, &s) || s.Type == "BYE" || s.temporary():
		return busy(err)
	case s.Code == "PRIVACYREQUIRED":
		return fmt.Errorf("%w: %w: use imaps:// or leave tls=none out", ErrSecurity, err)
	case s.Type == "BAD":
		return fmt.Errorf("the server does not understand the login: %w", err)
	}
	return fmt.Errorf("%w: %w", mail.ErrLogin, err)
}
