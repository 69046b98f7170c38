// Package imap brings mail to an IMAP server: it makes folders, appends
// messages with their flags and dates, and takes nothing away.
//
// What must stay true:
//
//   - The protocol has no way to append twice and store once. So nothing is
//     appended again before a look at the folder has shown that it is not there:
//     Recover looks at everything behind the mark, and, when it finds less than
//     was sent, waits a little and looks again, for servers have been seen to
//     store late.
//   - A message is sent with exactly as many bytes as were announced, or the
//     connection is closed in the middle of it.
//   - What the server's own answer does not tell, a look at the folder must: an
//     OK alone does not say that a message is stored.
//   - In a folder that others fill too, a message that is there already is
//     recognised (match.go) and not brought a second time.
//   - A copy that the server makes of a message (copy.go) is what would have been
//     appended, and is subject to all of this.
//   - At Gmail, where a message is stored once and folders are labels, what is
//     there gets a label instead of being sent again (gmail.go).
//
// A Place is "UIDVALIDITY:UID", a Mark "UIDVALIDITY:UIDNEXT". A mark may lie
// lower than need be: then more is looked at, nothing else.
package imap

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"mailhaul/internal/imapconn"
	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/sink"
)

// Schemes are the two ways to name an IMAP server.
func Schemes() []*sink.Scheme {
	return []*sink.Scheme{
		{
			Names:   []string{"imaps"},
			Form:    "imaps://USER@HOST[:PORT]/[FOLDER]",
			Help:    "IMAP with TLS, port 993. With FOLDER everything goes below that one.",
			Options: imapconn.LocationOptions("imaps"),
			Open:    Open,
		},
		{
			Names:   []string{"imap"},
			Form:    "imap://USER@HOST[:PORT]/[FOLDER]",
			Help:    "IMAP with STARTTLS, port 143. With FOLDER everything goes below that one.",
			Options: imapconn.LocationOptions("imap"),
			Open:    Open,
		},
	}
}

// Open checks the location and asks for the password. The first connection is
// made when it is needed. The location's folder is not for the sink: paths are
// those of the whole account.
func Open(ctx context.Context, l location.Location, env location.Env) (sink.Sink, error) {
	o, most, err := imapconn.Of(l, env)
	if err != nil {
		return nil, err
	}
	if env.Secret != nil {
		if o.Password, err = env.Secret(ctx, l); err != nil {
			return nil, err
		}
	}
	return New(o, most, Options{ReadOnly: env.DryRun, Identity: identity(l), Sleep: env.Sleep}), nil
}

// identity names the account, the same with and without TLS.
func identity(l location.Location) string {
	host := l.Hostname()
	if _, port, err := net.SplitHostPort(l.Host); err == nil && port != "143" && port != "993" {
		host = net.JoinHostPort(host, port)
	}
	return "imap:" + l.User + "@" + host
}

// Options have useful zero values.
type Options struct {
	ReadOnly bool   // no command that changes anything may be sent: to look and plan only
	Identity string // what the account is called in the catalog

	Sleep func(ctx context.Context, d time.Duration) error // before a second look; nil: a timer
}

// A Sink is one account.
type Sink struct {
	pool *imapconn.Pool
	opt  Options

	making sync.Mutex // who lists the account or makes a folder

	mu     sync.Mutex // never held while waiting for a connection: who has one may want it
	tree   *tree      // nil until somebody needs it
	copies trust      // in the copies that the server makes
	notes  []string
}

// New makes a sink of an account that is reached with o, over so many
// connections at most.
func New(o imapconn.Options, connections int, opt Options) *Sink {
	o.Write = !opt.ReadOnly
	if opt.Sleep == nil {
		opt.Sleep = sleep
	}
	return &Sink{pool: imapconn.NewPool(o, connections), opt: opt}
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

// Identity implements sink.Remote.
func (s *Sink) Identity() string { return s.opt.Identity }

// Notes implements source.Noter, which is for any side.
func (s *Sink) Notes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append(slices.Clone(s.notes), s.pool.Notes()...)
}

const mostNotes = 200

// note keeps a text for the end, once.
func (s *Sink) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.notes) < mostNotes && !slices.Contains(s.notes, text) {
		s.notes = append(s.notes, text)
	}
}

// Close implements sink.Sink.
func (s *Sink) Close() error { return s.pool.Close() }

// fail names the folder in an error, and keeps what it says about scope and
// time. What concerns the account concerns the run: there is nowhere else to
// write to.
func fail(op string, path mail.Path, err error) error {
	if err == nil {
		return nil
	}
	e := &mail.Error{Op: op, Scope: mail.ScopeFolder, Err: err}
	if known, ok := err.(*mail.Error); ok {
		*e = *known
	} else {
		e.Temporary = mail.Temporary(err)
	}
	e.Err = fmt.Errorf("%s: %w", mail.Clean(string(path)), e.Err)
	return e
}
