package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
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
