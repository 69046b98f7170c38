// Package imap reads mail from an IMAP server and changes nothing there:
// folders are opened with EXAMINE, bodies are fetched with PEEK, and the
// connection below refuses every other kind of command.
//
// A folder's identity is its name's own bytes, which servers do not always
// write as the standard says; the Path made of them leads back to exactly these
// bytes (name.go). A message's ID is its UID, its epoch UIDVALIDITY. The server
// is believed in nothing that can be checked: what was asked for and what came
// are compared by UID, never by position, and what did not come is left out for
// the core to ask for again.
package imap

import (
	"context"
	"net"
	"strings"

	"mailhaul/internal/imapconn"
	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/source"
)

// Schemes are the two ways to name an IMAP server.
func Schemes() []*source.Scheme {
	return []*source.Scheme{
		{
			Names:   []string{"imaps"},
			Form:    "imaps://USER@HOST[:PORT]/[FOLDER]",
			Help:    "IMAP with TLS, port 993. With FOLDER only that one and those below it.",
			Options: imapconn.LocationOptions("imaps"),
			Open:    Open,
		},
		{
			Names:   []string{"imap"},
			Form:    "imap://USER@HOST[:PORT]/[FOLDER]",
			Help:    "IMAP with STARTTLS, port 143. With FOLDER only that one and those below it.",
			Options: imapconn.LocationOptions("imap"),
			Open:    Open,
		},
	}
}

// Open checks the location and asks for the password. The first connection is
// made when it is needed.
func Open(ctx context.Context, l location.Location, env location.Env) (source.Source, error) {
	o, most, err := imapconn.Of(l, env)
	if err != nil {
		return nil, err
	}
	if env.Secret != nil {
		if o.Password, err = env.Secret(ctx, l); err != nil {
			return nil, err
		}
	}
	return newAccount(o, most, top(l.Path)), nil
}

// top is the folder that a location's path names, in the form of our paths.
func top(path string) mail.Path {
	path = strings.Trim(path, "/")
	if path == "" {
		return ""
	}
	if strings.EqualFold(path, "INBOX") {
		return mail.Inbox
	}
	return mail.Join(strings.Split(path, "/")...)
}

// OverConn gives a source that reaches its server by dial instead of the
// network, without TLS. For tests and the demo.
func OverConn(user, password string, connections int, dial func(ctx context.Context) (net.Conn, error)) source.Source {
	return newAccount(imapconn.Options{
		Addr: "test:143", Security: imapconn.None, User: user, Password: password,
		Dial: func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx) },
	}, connections, "")
}
