// Package pop3 reads mail from a POP3 server and leaves it there. Nothing is
// deleted unless the core asks for it, message by message, after each was
// committed and read back; the session that reads cannot even send DELE.
//
// A maildrop is one folder, INBOX, and only one session at a time may have it.
// Messages have numbers that die with the session, and unique-ids (UIDL) that
// are to live as long as the message. So every session begins with STAT, LIST
// and UIDL, and a number is never kept beyond it (listing.go). Servers break
// the promise of unique-ids in all the ways there are; what an ID is made of,
// and when there can be none, is in id.go.
package pop3

import (
	"context"
	"net"
	"strconv"
	"strings"

	"mailhaul/internal/location"
	"mailhaul/internal/pop3conn"
	"mailhaul/source"
)

// Schemes are the two ways to name a POP3 server.
func Schemes() []*source.Scheme {
	all := []location.Option{
		{Name: "ca_file", Help: "file with the certificate authority of a server of your own (PEM)"},
		{Name: "auth", Default: "auto", Help: "auto, or apop: a digest of the password and of the server's greeting"},
		{Name: "max_messages", Default: "0", Help: "how many messages to fetch in one session before a new one is begun; 0: all"},
		{Name: "gmail_delete", Default: "no", Help: "yes: delete at Gmail, where the settings of the account decide what that means"},
	}
	return []*source.Scheme{
		{
			Names:   []string{"pop3s"},
			Form:    "pop3s://USER@HOST[:PORT]",
			Help:    "POP3 with TLS, port 995. Mail is kept on the server.",
			Options: all,
			Open:    Open,
		},
		{
			Names: []string{"pop3"},
			Form:  "pop3://USER@HOST[:PORT]",
			Help:  "POP3 with STLS, port 110. Mail is kept on the server.",
			Options: append(all[:len(all):len(all)], location.Option{Name: "tls", Default: "starttls",
				Help: "starttls, or none: only for servers on this machine, unless --allow-cleartext is given"}),
			Open: Open,
		},
	}
}

// Open checks the location and asks for the password. The first connection is
// made when it is needed.
func Open(ctx context.Context, l location.Location, env location.Env) (source.Source, error) {
	o, err := options(l, env)
	if err != nil {
		return nil, err
	}
	if env.Secret != nil {
		if o.Password, err = env.Secret(ctx, l); err != nil {
			return nil, err
		}
	}
	return newAccount(o), nil
}

// settings are those of a connection and what the location says besides.
type settings struct {
	pop3conn.Options
	most        int  // messages to fetch in one session; 0: all
	gmailDelete bool // the user knows what it means
}

func options(l location.Location, env location.Env) (o settings, err error) {
	switch {
	case l.User == "":
		return o, location.Wrong("write "+l.Scheme+"://USER@"+l.Host, "%s: no user name", l)
	case strings.Trim(l.Path, "/") != "":
		return o, location.Wrong("leave /"+l.Path+" out; IMAP reads the other folders", "%s: POP3 knows no folders, only the inbox", l)
	}
	o.Options = pop3conn.Options{User: l.User, Host: l.Hostname(), Addr: l.HostPort("995")}
	if l.Scheme == "pop3" {
		o.Addr, o.Security = l.HostPort("110"), pop3conn.STLS
		none, err := l.Cleartext(env, "pop3s")
		if err != nil {
			return o, err
		}
		if none {
			o.Security = pop3conn.None
		}
	}
	switch auth := l.Option.Get("auth"); auth {
	case "", "auto":
	case "apop":
		o.APOP = true
	default:
		return o, location.Wrong("auth is auto or apop", "%s: auth=%s", l, auth)
	}
	if v := l.Option.Get("max_messages"); v != "" {
		if o.most, err = strconv.Atoi(v); err != nil || o.most < 0 {
			return o, location.Wrong("max_messages is a number; 0 is all", "%s: max_messages=%s", l, v)
		}
	}
	switch v := l.Option.Get("gmail_delete"); v {
	case "", "no":
	case "yes":
		o.gmailDelete = true
	default:
		return o, location.Wrong("gmail_delete is yes or no", "%s: gmail_delete=%s", l, v)
	}
	o.Roots, err = l.Authority()
	return o, err
}

// OverConn gives a source that reaches its server by dial instead of the
// network, without TLS. For tests and the demo.
func OverConn(user, password string, dial func(ctx context.Context) (net.Conn, error)) source.Source {
	return newAccount(overConn(user, password, dial))
}

func overConn(user, password string, dial func(ctx context.Context) (net.Conn, error)) settings {
	return settings{Options: pop3conn.Options{
		Addr: "test:110", Security: pop3conn.None, User: user, Password: password,
		Dial: func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx) },
	}}
}
