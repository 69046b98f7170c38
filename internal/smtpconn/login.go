package smtpconn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"mailhaul/internal/mail"
	"mailhaul/internal/netconn"
)

// enter greets, protects, introduces us and logs in.
func (c *Conn) enter(ctx context.Context, o *Options) error {
	r, err := c.reply(patience)
	switch {
	case errors.Is(err, ErrSyntax):
		return wide("connect", fmt.Errorf("this does not greet like a mail server: %w", err))
	case err != nil:
		return wide("connect", fmt.Errorf("no greeting: %w", err))
	case r.Code != 220:
		return wide("connect", r)
	}
	if o.Security == StartTLS {
		if err := c.startTLS(ctx, o); err != nil {
			return wide("connect", err)
		}
	}
	c.gate.out = []byte("220 ready\r\n") // the server's own came long ago
	c.lib = smtp.NewClient(&c.gate)
	if c.lmtp {
		c.lib = smtp.NewClientLMTP(&c.gate)
	}
	if err := c.lib.Hello(c.name); err != nil {
		return wide("connect", c.refusal(err))
	}
	c.learn(c.gate.last)
	if o.User != "" {
		if err := c.login(o); err != nil {
			return wide("log in", err)
		}
	}
	return nil
}

// startTLS brings TLS to a line that was greeted in clear text (RFC 3207). It
// is strict, for everything up to here can be forged by whoever sits on the
// line: no answer but 220 is taken, and octets that came behind it end the
// connection: they would be read as if they had come protected.
func (c *Conn) startTLS(ctx context.Context, o *Options) error {
	hello := "EHLO "
	if c.lmtp {
		hello = "LHLO "
	}
	if _, err := c.say(hello + c.name); err != nil {
		return err
	}
	r, err := c.say("STARTTLS")
	switch {
	case err != nil:
		return err
	case r.Code != 220:
		return netconn.Advise(fmt.Errorf("%w: the server does not offer STARTTLS (%v)", ErrSecurity, r), "try smtps://")
	case c.br.Buffered() > 0:
		return fmt.Errorf("%w: there are octets on the line that do not belong there: somebody may be listening", ErrSecurity)
	}
	if err := c.nc.StartTLS(ctx, o.tls()); err != nil {
		return err
	}
	c.br.Reset(c.nc)
	return nil
}

// say sends a line and reads the reply to it.
func (c *Conn) say(line string) (*Reply, error) {
	if err := c.write(line + "\r\n"); err != nil {
		return nil, err
	}
	return c.reply(patience)
}

func (c *Conn) write(text string) error {
	if c.fault != nil {
		return c.fault
	}
	if _, err := io.WriteString(c.nc, text); err != nil {
		return c.fail(err)
	}
	return nil
}

// learn keeps what EHLO told. A server that knows HELO only tells nothing.
func (c *Conn) learn(r *Reply) {
	c.ext = map[string]string{}
	if r == nil {
		return
	}
	for _, line := range r.Lines[1:] {
		keyword, args, _ := strings.Cut(strings.TrimSpace(line), " ")
		if old, ok := strings.CutPrefix(strings.ToUpper(keyword), "AUTH="); ok { // before RFC 2554
			keyword, args = "AUTH", old+" "+args
		}
		keyword = strings.ToUpper(keyword)
		if before, ok := c.ext[keyword]; ok {
			args = before + " " + args
		}
		c.ext[keyword] = args
	}
}

// refusal is go-smtp's error as ours: the server's reply, or why there is none.
func (c *Conn) refusal(err error) error {
	var s *smtp.SMTPError
	if !errors.As(err, &s) {
		if c.fault != nil {
			return c.fault
		}
		return err
	}
	r := &Reply{Code: s.Code, Lines: strings.Split(s.Message, "\n")}
	if e := s.EnhancedCode; e != (smtp.EnhancedCode{}) && e != smtp.NoEnhancedCode {
		r.Lines[0] = fmt.Sprintf("%d.%d.%d %s", e[0], e[1], e[2], r.Lines[0])
	}
	return r
}

// login authenticates (RFC 4954), by PLAIN, else LOGIN: the password goes over
// a protected line, so nothing is gained by more.
func (c *Conn) login(o *Options) error {
	offered := strings.Fields(strings.ToUpper(c.ext["AUTH"]))
	var client sasl.Client
	switch {
	case slices.Contains(offered, "PLAIN"):
		client = sasl.NewPlainClient("", o.User, o.Password)
	case slices.Contains(offered, "LOGIN"):
		client = &plainLogin{o.User, o.Password, 0}
	case !c.Has("AUTH"):
		return netconn.Advise(fmt.Errorf("%w: the server offers none here", errWays),
			"leave USER@ out if it takes mail without a login; else another port is meant: 587 or smtps://")
	default:
		return fmt.Errorf("%w: the server offers %s, and mailhaul knows PLAIN and LOGIN", errWays, mail.Clean(c.ext["AUTH"]))
	}
	err := c.refusal(c.lib.Auth(client))
	var r *Reply
	if errors.As(err, &r) && !r.Temporary() {
		return fmt.Errorf("%w: %w", mail.ErrLogin, err)
	}
	return err
}

// plainLogin is the mechanism LOGIN, which no RFC describes. Servers word their
// questions as they like, and not all take the name before they ask for it.
type plainLogin struct {
	user, password string
	asked          int
}

func (l *plainLogin) Start() (string, []byte, error) { return sasl.Login, nil, nil }

func (l *plainLogin) Next([]byte) ([]byte, error) {
	l.asked++
	switch l.asked {
	case 1:
		return []byte(l.user), nil
	case 2:
		return []byte(l.password), nil
	}
	return nil, errors.New("the server asks a third time")
}
