package pop3conn

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/knadh/go-pop3"

	"mailhaul/internal/mail"
	"mailhaul/internal/netconn"
)

// A Mechanism is a way to authenticate (RFC 4422, RFC 5034). Client makes the
// exchange anew for each connection: tokens expire.
type Mechanism struct {
	Name   string // "PLAIN", "XOAUTH2"
	Client func() (sasl.Client, error)
}

// enter greets, protects, logs in and hands the session to go-pop3.
func (c *Conn) enter(ctx context.Context, o *Options) error {
	if err := c.greet(o.Greeting); err != nil {
		return c.account("connect", err)
	}
	if o.Security == STLS {
		if err := c.startTLS(ctx, o); err != nil {
			return c.account("connect", err)
		}
	}
	if err := c.learn(); err != nil {
		return c.account("connect", err)
	}
	if err := c.login(o); err != nil {
		return c.account("log in", err)
	}
	c.guard.in = true
	// What the server can do may depend on who asks (RFC 2449, section 5).
	if err := c.learn(); err != nil {
		return c.account("log in", err)
	}
	lib, err := pop3.New(pop3.Opt{Dialer: &c.gate}).NewConn()
	if err != nil {
		return c.account("log in", err)
	}
	c.lib = lib
	return nil
}

// account is an error that ends the session before it has begun.
func (c *Conn) account(op string, err error) error {
	e := account(op, err)
	var s *Status
	if errors.As(err, &s) {
		e.After = c.after(s)
	} else if !errors.Is(err, ErrSecurity) && !errors.Is(err, errWays) && !errors.Is(err, ErrVerb) {
		e.Err = c.fail(err)
	}
	return e
}

func (c *Conn) greet(patience time.Duration) error {
	if patience == 0 {
		patience = 60 * time.Second
	}
	c.nc.Await(patience)
	line, err := c.line()
	if err != nil {
		return fmt.Errorf("no greeting: %w", err)
	}
	s, ok := parseStatus(string(line))
	switch {
	case !ok:
		return fmt.Errorf("%w: this does not greet like a POP3 server: %.60q", ErrSyntax, line)
	case !s.OK:
		return refused(&s)
	}
	c.greeting = s.Text
	return nil
}

// refused is a refusal that has nothing to do with a password.
func refused(s *Status) error {
	if s.Temporary() || s.Code == "SYS/PERM" {
		return s
	}
	return &passing{s}
}

// passing is a refusal without a code at a moment when a server that is
// healthy refuses nobody.
type passing struct{ s *Status }

func (p *passing) Error() string { return p.s.Error() }

// say writes one line and reads the status that answers it.
func (c *Conn) say(line string) (Status, error) {
	if _, err := io.WriteString(&c.guard, line+"\r\n"); err != nil {
		return Status{}, err
	}
	c.await(0)
	return c.status()
}

// learn asks for the capabilities. Those known before are forgotten. A server
// that does not know the command has none to tell.
func (c *Conn) learn() error {
	c.caps = nil
	s, err := c.say("CAPA")
	if err != nil || !s.OK {
		return err
	}
	c.caps = map[string]string{}
	return c.lines(mostCapabilities, func(line []byte) error {
		name, args, _ := strings.Cut(string(line), " ")
		c.caps[strings.ToUpper(name)] = strings.TrimSpace(args)
		return nil
	})
}

// mostCapabilities is far more than there are.
const mostCapabilities = 500

func (c *Conn) login(o *Options) error {
	if err := argument(o.User + o.Password); err != nil {
		return err
	}
	if o.APOP {
		return c.apop(o)
	}
	mechanisms := o.Mechanisms
	if mechanisms == nil {
		mechanisms = []Mechanism{
			{sasl.Plain, func() (sasl.Client, error) { return sasl.NewPlainClient("", o.User, o.Password), nil }},
			{sasl.Login, func() (sasl.Client, error) { return sasl.NewLoginClient(o.User, o.Password), nil }},
		}
	}
	offered := strings.Fields(strings.ToUpper(c.caps["SASL"]))
	for _, m := range mechanisms {
		if !slices.Contains(offered, m.Name) {
			continue
		}
		// One that is refused before anything secret was said costs nothing.
		if done, err := c.authenticate(&m); done || err != nil {
			return err
		}
	}
	if o.Mechanisms != nil {
		return fmt.Errorf("%w: the server offers none of those that were asked for (it offers: %s)", errWays, mail.Clean(strings.Join(offered, " ")))
	}
	return c.userPass(o)
}

// userPass logs in as RFC 1939, section 7, has it. The password is not said to
// a server that wants no user name.
func (c *Conn) userPass(o *Options) error {
	s, err := c.say("USER " + o.User)
	if err != nil {
		return err
	}
	if !s.OK && c.caps != nil && !c.Has("USER") && !s.Temporary() {
		if o.Security == None {
			return netconn.Advise(fmt.Errorf("%w: the server takes no password without TLS: %w", errWays, &s), "use pop3s://, or leave tls=none out")
		}
		return netconn.Advise(fmt.Errorf("%w: the server takes no password: %w", errWays, &s), "does this account need OAuth?")
	}
	if s.OK {
		s, err = c.say("PASS " + o.Password)
	}
	if err == nil && !s.OK {
		err = denial(&s)
	}
	return err
}

// denial tells a wrong password from a server that has other troubles.
func denial(s *Status) error {
	switch {
	case s.denied():
		return fmt.Errorf("%w: %w", mail.ErrLogin, s)
	case s.Code == "IN-USE":
		return netconn.Advise(s, "another program has the mailbox open: POP3 lets in one at a time")
	}
	return s
}

// apop answers the time stamp of the greeting. One that is not as RFC 822 has
// it is refused: made up with care it would help to guess the password.
func (c *Conn) apop(o *Options) error {
	from := strings.IndexByte(c.greeting, '<')
	to := strings.IndexByte(c.greeting, '>')
	if from < 0 || to < from {
		return netconn.Advise(fmt.Errorf("%w: the server does not offer APOP", errWays), "leave auth=apop out")
	}
	stamp := c.greeting[from : to+1]
	for i := range len(stamp) {
		if stamp[i] <= ' ' || stamp[i] > '~' {
			return fmt.Errorf("%w: APOP with a time stamp that no server makes", ErrSecurity)
		}
	}
	if strings.Count(stamp, "@") != 1 {
		return fmt.Errorf("%w: APOP with a time stamp that no server makes", ErrSecurity)
	}
	sum := md5.Sum([]byte(stamp + o.Password))
	s, err := c.say("APOP " + o.User + " " + hex.EncodeToString(sum[:]))
	if err == nil && !s.OK {
		err = denial(&s)
	}
	return err
}

// mostChallenges is more than any exchange takes.
const mostChallenges = 10

// authenticate does one exchange. The first answer is never sent with the
// command: RFC 1734 did not allow it, and Exchange still does not take tokens
// so. It reports false when the server refused the mechanism before it was
// told anything.
func (c *Conn) authenticate(m *Mechanism) (done bool, err error) {
	client, err := m.Client()
	if err != nil {
		return false, err
	}
	_, initial, err := client.Start()
	if err != nil {
		return false, err
	}
	defer func() { c.guard.sasl = false }()
	line := "AUTH " + m.Name
	for n := 0; n < mostChallenges; n++ {
		if _, err := io.WriteString(&c.guard, line+"\r\n"); err != nil {
			return false, err
		}
		c.guard.sasl = true
		challenge, s, err := c.challenge()
		switch {
		case err != nil:
			return false, err
		case s.OK && n == 0:
			return false, fmt.Errorf("%w: the server let us in before we said who we are", ErrSecurity)
		case s.OK:
			return true, nil
		case challenge == nil && n == 0 && s.denied() && s.Code == "":
			return false, nil
		case challenge == nil:
			return false, denial(&s)
		}
		answer := initial
		if n > 0 || initial == nil {
			if m.Name == sasl.Login {
				challenge = []byte("Password:") // servers word it as they like
			}
			if answer, err = client.Next(challenge); err != nil {
				// The server explains a failure in a challenge (RFC 7628,
				// section 3.2.3); its refusal comes behind our answer.
				answer = nil
			}
		}
		line = base64.StdEncoding.EncodeToString(answer)
		if err != nil {
			line = "*"
		}
	}
	return false, fmt.Errorf("%w: a login without end", errLimit)
}

// challenge reads a challenge or, where challenge is nil, the status that ends
// the exchange.
func (c *Conn) challenge() (challenge []byte, s Status, err error) {
	c.await(0)
	line, err := c.line()
	if err != nil {
		return nil, s, err
	}
	if text, ok := bytes.CutPrefix(line, []byte("+")); ok && (len(text) == 0 || text[0] == ' ') {
		// A challenge that is no base64 is taken as it is: old servers greet.
		text = bytes.TrimSpace(text)
		challenge = make([]byte, base64.StdEncoding.DecodedLen(len(text)))
		n, err := base64.StdEncoding.Decode(challenge, text)
		if err != nil {
			return append([]byte{}, text...), s, nil
		}
		return challenge[:n], s, nil
	}
	s, ok := parseStatus(string(line))
	if !ok {
		return nil, s, fmt.Errorf("%w: %.60q instead of a challenge", ErrSyntax, line)
	}
	return nil, s, nil
}
