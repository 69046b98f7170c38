package pop3

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"mailhaul/internal/mail"
	"mailhaul/internal/pop3conn"
	"mailhaul/source"
)

// An account is the source. Its token is the right to have the one session
// that the server allows.
type account struct {
	settings
	run    string // this run of the program, for IDs that do not outlive it
	token  chan struct{}
	closed chan struct{}

	mu      sync.Mutex
	kept    *session                   // that of Folders, for Open; whoever has the token may take it
	refused error                      // the password: never tried again (row J5)
	listed  *listing                   // the last one that the core has seen
	proofs  map[source.ID]source.Proof // what the core expects of those to be deleted
	notes
}

// A session is one login, with the numbers that hold during it.
type session struct {
	*pop3conn.Conn
	*listing
	born    time.Time
	used    time.Time // when it was last spoken to
	fetched int       // messages
}

func newAccount(s settings) *account {
	var b [6]byte
	rand.Read(b[:]) // it does not fail
	a := &account{settings: s, run: fmt.Sprintf("%x", b), token: make(chan struct{}, 1), closed: make(chan struct{})}
	a.token <- struct{}{}
	return a
}

var errClosed = errors.New("it is closed")

// take waits for the right to a session.
func (a *account) take(ctx context.Context) error {
	if a.isClosed() {
		return wrap("connect", mail.ScopeAccount, errClosed)
	}
	select {
	case <-a.token:
	case <-ctx.Done():
		return wrap("connect", mail.ScopeAccount, context.Cause(ctx))
	case <-a.closed:
		return wrap("connect", mail.ScopeAccount, errClosed)
	}
	if a.isClosed() {
		a.release()
		return wrap("connect", mail.ScopeAccount, errClosed)
	}
	return nil
}

func (a *account) release() { a.token <- struct{}{} }

func (a *account) isClosed() bool {
	select {
	case <-a.closed:
		return true
	default:
		return false
	}
}

// dial logs in and lists. The caller has the token.
func (a *account) dial(ctx context.Context, remove bool) (*session, error) {
	a.mu.Lock()
	refused := a.refused
	a.mu.Unlock()
	if refused != nil {
		return nil, refused
	}
	o := a.Options
	o.Remove = remove
	c, err := pop3conn.Dial(ctx, o)
	if err != nil {
		if errors.Is(err, mail.ErrLogin) {
			a.mu.Lock()
			a.refused = err
			a.mu.Unlock()
		}
		return nil, err
	}
	s := &session{Conn: c, born: time.Now()}
	if s.listing, err = survey(ctx, c, a.run); err != nil {
		s.leave(a)
		return nil, err
	}
	s.used = time.Now()
	a.learn(s)
	return s, nil
}

// patience is how long a farewell may take.
const patience = 2 * time.Second

// leave ends a session that reads. After QUIT a server that keeps nothing may
// delete what was fetched (RFC 2449, section 6.7), and Gmail hides it or does
// what the account's settings say: then the line is just closed, which deletes
// nothing (RFC 1939, section 6).
func (s *session) leave(a *account) {
	if s.fetched > 0 && (s.forgetful() || a.gmail(s)) {
		s.Close()
		return
	}
	s.Leave(patience)
}

// forgetful reports whether the server keeps nothing that was fetched.
func (s *session) forgetful() bool {
	expire, _ := s.Capability("EXPIRE")
	return expire == "0" || strings.HasPrefix(expire, "0 ")
}

// gmail reports whether the server is Gmail's, whose maildrop shows about 250
// messages at a time and drops from it what was fetched.
func (a *account) gmail(s *session) bool {
	switch strings.ToLower(strings.TrimSuffix(a.Host, ".")) {
	case "pop.gmail.com", "pop.googlemail.com":
		return true
	}
	return strings.HasPrefix(s.Greeting(), "Gpop ready")
}

// resume gives the session that Folders has left, if it still lives, or a new
// one. The caller has the token.
func (a *account) resume(ctx context.Context) (*session, error) {
	a.mu.Lock()
	s := a.kept
	a.kept = nil
	a.mu.Unlock()
	if s != nil {
		if time.Since(s.used) < noopEvery || s.Noop(ctx) == nil {
			return s, nil
		}
		s.leave(a)
	}
	return a.dial(ctx, false)
}

// dismiss ends the session that Folders has left.
func (a *account) dismiss() {
	a.mu.Lock()
	s := a.kept
	a.kept = nil
	a.mu.Unlock()
	if s != nil {
		s.leave(a)
	}
}

// Folders lists the one folder there is. The session stays for Open, so that a
// run with nothing new is one login and one look.
func (a *account) Folders(ctx context.Context) ([]source.Folder, error) {
	if err := a.take(ctx); err != nil {
		return nil, err
	}
	defer a.release()
	a.dismiss()
	s, err := a.dial(ctx, false)
	if err != nil {
		return nil, wide(err)
	}
	if err := s.identify(ctx, s.Conn); err != nil {
		s.leave(a)
		return nil, wide(err)
	}
	f := source.Folder{Path: mail.Inbox, Raw: "INBOX", Role: "inbox", Messages: int64(len(s.sizes)), Bytes: s.bytes, State: s.cursor()}
	a.mu.Lock()
	a.listed = s.listing
	a.kept = s
	closed := a.isClosed()
	a.mu.Unlock()
	if closed {
		a.dismiss()
	}
	return []source.Folder{f}, nil
}

// cursor is empty where there are messages that the next run cannot know.
func (l *listing) cursor() source.Cursor {
	if !l.lasting() {
		return ""
	}
	return l.state
}

// Open takes the maildrop, waiting while another mailbox has it.
func (a *account) Open(ctx context.Context, path mail.Path) (source.Mailbox, error) {
	if path != mail.Inbox {
		return nil, &mail.Error{Op: "open", Scope: mail.ScopeFolder, Err: errors.New(mail.Clean(string(path)) + ": POP3 knows no folders, only INBOX")}
	}
	if err := a.take(ctx); err != nil {
		return nil, err
	}
	s, err := a.resume(ctx)
	if err != nil {
		a.release()
		return nil, err
	}
	return &mailbox{a: a, s: s}, nil
}

// Close ends the session that waits. One that a mailbox has goes with it.
func (a *account) Close() error {
	a.mu.Lock()
	if !a.isClosed() {
		close(a.closed)
	}
	a.mu.Unlock()
	a.dismiss()
	return nil
}

func wrap(op string, scope mail.Scope, err error) error {
	return &mail.Error{Op: op, Scope: scope, Temporary: true, Err: err}
}

// wide makes an error that kept the account from being listed one of the
// account.
func wide(err error) error {
	var e *mail.Error
	if errors.As(err, &e) && e.Scope < mail.ScopeAccount {
		return &mail.Error{Op: e.Op, Scope: mail.ScopeAccount, Temporary: e.Temporary, After: e.After, Err: e.Err}
	}
	return err
}
