package imap

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"mailhaul/internal/imapconn"
	"mailhaul/internal/mail"
)

// An account is the source: its connections and what is known about the
// folders.
type account struct {
	*imapconn.Pool
	top mail.Path

	unreliable atomic.Bool // what the server says of expunged messages cannot be used
	unproven   atomic.Bool // nor what it finds in a search

	mu      sync.Mutex
	folders map[mail.Path]folder
	notes
}

// A folder is where a path leads.
type folder struct {
	raw       string
	delimiter byte
}

func newAccount(o imapconn.Options, connections int, top mail.Path) *account {
	return &account{Pool: imapconn.NewPool(o, connections), top: top}
}

func wrap(op string, scope mail.Scope, err error) error {
	return &mail.Error{Op: op, Scope: scope, Temporary: true, Err: err}
}

// in names the folder in an error, and keeps what it says about scope and time.
func in(path mail.Path, err error) error {
	var e *mail.Error
	if err == nil || !errors.As(err, &e) {
		return err
	}
	return &mail.Error{Op: e.Op, Scope: e.Scope, Temporary: e.Temporary, After: e.After,
		Err: fmt.Errorf("%s: %w", mail.Clean(string(path)), translate(e.Err))}
}
