// Package smtp delivers messages to a server by SMTP or LMTP, to recipients
// that the user names and to nobody else: no header is ever read for an
// address to send to.
//
// What is sent is the message as it was received: no header is added, no line
// changed, nothing encoded anew. A message that the server cannot take like
// that is refused here, with the reason (survey.go). Only this is the
// protocol's: lines end in CRLF, also those that lay in a file with LF, and by
// DATA the last line has an end.
//
// A delivery cannot be looked up afterwards. So what is certain is kept apart
// from what is not (verdict.go): a message counts as delivered when all
// recipients were accepted and the server has said so; when its reply did not
// come, the message is in doubt, and is not sent again unless that is asked
// for. An LMTP server answers for each recipient: those who have the message
// are noted, and it is sent again to the others only.
//
// There is one connection and one message on its way at a time, whatever the
// number of folders. Mark takes the turn, waits for the pace that was asked for
// and connects: before anything is intended, so that a server that cannot be
// reached leaves nothing in doubt.
package smtp

import (
	"context"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/internal/smtpconn"
	"mailhaul/sink"
)

// Schemes are the ways to name a server that takes mail.
func Schemes() []*sink.Scheme {
	options := []location.Option{
		{Name: "ca_file", Help: "file with the certificate authority of a server of your own (PEM)"},
		{Name: "rate", Help: "how many messages a minute at most; without it as fast as the server takes them"},
	}
	clear := append(options[:len(options):len(options)], location.Option{Name: "tls", Default: "starttls",
		Help: "starttls, or none: only for servers on this machine, unless --allow-cleartext is given"})
	return []*sink.Scheme{
		{
			Names:   []string{"smtp"},
			Form:    "smtp://[USER@]HOST[:PORT]",
			Help:    "A server that takes mail by SMTP with STARTTLS: port 587 with a user, else 25.\nTo whom: 'mailhaul help deliver'.",
			Options: clear,
			Open:    Open,
		},
		{
			Names:   []string{"smtps"},
			Form:    "smtps://[USER@]HOST[:PORT]",
			Help:    "A server that takes mail by SMTP with TLS, port 465.\nTo whom: 'mailhaul help deliver'.",
			Options: options,
			Open:    Open,
		},
		{
			Names:   []string{"lmtp"},
			Form:    "lmtp://[USER@]HOST[:PORT]",
			Help:    "A mail store that takes mail by LMTP with STARTTLS, port 24.\nTo whom: 'mailhaul help deliver'.",
			Options: clear,
			Open:    Open,
		},
	}
}

// Open checks the location and the recipients, and asks for the password where
// there is a user. The connection is made when it is needed.
func Open(ctx context.Context, l location.Location, env location.Env) (sink.Sink, error) {
	s, err := options(l, env)
	if err != nil {
		return nil, err
	}
	if l.User != "" && env.Secret != nil {
		if s.Password, err = env.Secret(ctx, l); err != nil {
			return nil, err
		}
	}
	return newAccount(s), nil
}

// settings are those of a connection, and what is sent over it to whom.
type settings struct {
	smtpconn.Options
	identity string
	from     string
	to       []string
	interval time.Duration // between two messages

	now   func() time.Time
	sleep func(context.Context, time.Duration) error
}

func options(l location.Location, env location.Env) (s settings, err error) {
	if strings.Trim(l.Path, "/") != "" {
		return s, location.Wrong("leave /"+l.Path+" out", "%s: a server that takes mail has no folders to choose from", l)
	}
	s.Options = smtpconn.Options{User: l.User, Host: l.Hostname(), LMTP: l.Scheme == "lmtp"}
	port := "25"
	switch {
	case l.Scheme == "smtps":
		port = "465"
	case l.Scheme == "lmtp":
		port = "24"
	case l.User != "":
		port = "587"
	}
	s.Addr = l.HostPort(port)
	if l.Scheme != "smtps" {
		s.Security = smtpconn.StartTLS
		secure := "smtps"
		if s.LMTP {
			secure = ""
		}
		none, err := l.Cleartext(env, secure)
		if err != nil {
			return s, err
		}
		if none {
			s.Security = smtpconn.None
		}
	}
	if v := l.Option.Get("rate"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 || n > 1e6 {
			return s, location.Wrong("rate is a number of messages a minute", "%s: rate=%s", l, v)
		}
		if n > 0 {
			s.interval = time.Minute / time.Duration(n)
		}
	}
	if s.Roots, err = l.Authority(); err != nil {
		return s, err
	}
	return s, s.address(l, env)
}

// address settles the envelope. Without a sender it is the user of the
// location, if that is an address, for servers often want no other; else the
// first recipient, to whom whatever cannot be delivered further on comes back.
func (s *settings) address(l location.Location, env location.Env) error {
	for _, to := range env.Recipients {
		if err := smtpconn.CheckAddress(to, s.LMTP); err != nil {
			return location.Wrong("write it as ann@example.org", "--to: %v", err)
		}
		if !slices.Contains(s.to, to) {
			s.to = append(s.to, to)
		}
	}
	if len(s.to) == 0 {
		return location.Wrong("mailhaul deliver FROM "+l.Scheme+"://"+l.Host+" --to ADDRESS", "%s: to whom? addresses in the mail itself are never used", l)
	}
	switch {
	case env.Sender == "<>":
	case env.Sender != "":
		s.from = env.Sender
	case smtpconn.CheckAddress(l.User, false) == nil:
		s.from = l.User
	default:
		s.from = s.to[0]
	}
	if s.from != "" {
		if err := smtpconn.CheckAddress(s.from, s.LMTP); err != nil {
			return location.Wrong("write it as ann@example.org; '<>' is nobody", "--sender: %v", err)
		}
	}
	s.identity = identity(l, s.Addr, s.to)
	return nil
}

// identity names the destination: the same mailbox at the same server, however
// that is reached. What was delivered by one port is not to be delivered again
// by another, so the port counts only where it is none of the usual ones.
func identity(l location.Location, addr string, to []string) string {
	host, port, _ := net.SplitHostPort(addr)
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if !slices.Contains([]string{"24", "25", "465", "587"}, port) {
		host = net.JoinHostPort(host, port)
	}
	var names []string
	for _, a := range to {
		if at := strings.LastIndexByte(a, '@'); at >= 0 {
			a = a[:at] + strings.ToLower(a[at:]) // what stands before it is the server's to compare
		}
		names = append(names, a)
	}
	slices.Sort(names)
	return strings.TrimSuffix(l.Scheme, "s") + ":" + host + " to " + strings.Join(slices.Compact(names), " ")
}

// An account is the sink.
type account struct {
	settings
	turn chan struct{} // who has it may use what follows

	conn     *smtpconn.Conn
	refused  error          // the login: never tried again
	last     time.Time      // when the last message was begun
	put      map[string]int // tries of messages that were put off
	putOff   int            // messages in a row that were given up so
	doubtful int            // messages in a row without a reply
}

func newAccount(s settings) *account {
	if s.now == nil {
		s.now = time.Now
	}
	if s.sleep == nil {
		s.sleep = sleep
	}
	a := &account{settings: s, turn: make(chan struct{}, 1), put: map[string]int{}}
	a.turn <- struct{}{}
	return a
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Identity tells server and recipients.
func (a *account) Identity() string { return a.identity }

// Open returns a folder. All of them lead to the same mailboxes.
func (a *account) Open(ctx context.Context, path mail.Path, create bool) (sink.Folder, error) {
	return &folder{a: a}, nil
}

// Close ends the connection.
func (a *account) Close() error {
	<-a.turn
	defer func() { a.turn <- struct{}{} }()
	if a.conn != nil {
		a.conn.Quit(patience)
		a.conn = nil
	}
	return nil
}

// patience is how long a farewell may take.
const patience = 2 * time.Second
