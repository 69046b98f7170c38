package durable

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"mailhaul/internal/mail"
)

// Full reports whether err means that there is no room left: ENOSPC or EDQUOT.
func Full(err error) bool { return full(err) }

// Trouble says in words what err means for everything that would be written
// to the place where it happened: no room, no right, no working disk. It is ""
// for errors that concern one name only.
func Trouble(err error) string {
	switch {
	case err == nil:
		return ""
	case full(err):
		if n, ok := free(err); ok {
			return fmt.Sprintf("no room (%s left)", bytesOf(n))
		}
		return "no room"
	case readOnly(err):
		return "the file system is read-only"
	case errors.Is(err, fs.ErrPermission):
		return "no permission to write"
	case broken(err):
		return "the disk does not work"
	case tooMany(err):
		return "too many open files"
	}
	return ""
}

// Free is the room left for this user on the file system of a path.
func Free(name string) (int64, error) { return freeBytes(name) }

func free(err error) (int64, bool) {
	var e *fs.PathError
	if !errors.As(err, &e) {
		return 0, false
	}
	n, ferr := freeBytes(filepath.Dir(e.Path))
	return n, ferr == nil
}

func bytesOf(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 10<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}

// Fail says how far err reaches: as told, or to the whole run where nothing
// more could be written to this place. An error that says so itself, and the
// end of a context, stay as they are.
func Fail(op string, scope mail.Scope, err error) error {
	var known *mail.Error
	if err == nil || errors.As(err, &known) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if why := Trouble(err); why != "" {
		return &mail.Error{Op: op, Scope: mail.ScopeRun, Err: fmt.Errorf("%s: %w", why, err)}
	}
	return &mail.Error{Op: op, Scope: scope, Err: err}
}
