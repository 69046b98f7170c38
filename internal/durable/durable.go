// Package durable is the one home of writing that must last: files that are
// replaced or appended to, directories, links, locks, and the fsync behind
// each of them. Nobody else in this program creates, renames, links, cuts or
// removes a file that holds mail.
//
// What must stay true:
//
//   - What a function has returned without error for, under its promise to
//     sync, survives a power cut: the bytes of a file after its Sync, a name
//     after the Sync of its directory. Nothing else is promised.
//   - A failed fsync is final. The kernel may have dropped the pages and call
//     them clean, so that a second fsync succeeds and proves nothing: a File
//     repeats its first failure for ever.
//   - Everything happens below a Dir, which is an os.Root: a symbolic link, or
//     a folder name with dots, cannot lead out of the archive.
//   - Files are 0600 and directories 0700, whatever the umask.
//   - Every error names the path.
package durable

import (
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
)

const (
	fileMode fs.FileMode = 0o600
	dirMode  fs.FileMode = 0o700
)

// Step is nil in the shipped program. Tests set it, before anything is open,
// to count what changes the disk: it is called before each such system call
// with what will be done (create, write, fsync, truncate, settime, link,
// rename, unlink, mkdir, syncdir) and to which name. It may end the process,
// and an error it returns stands for the failure of the call, which then is
// not made. While it is set each write is made in two halves, so that death
// can fall between them. It is called from several goroutines.
var Step func(op, name string) error

func step(op, name string) error {
	if Step == nil {
		return nil
	}
	if err := Step(op, name); err != nil {
		return &fs.PathError{Op: op, Path: name, Err: err}
	}
	return nil
}

// Log takes the one-time notes, such as that a file system cannot sync a
// directory. It is slog's default unless main sets another before anything is
// open.
var Log = slog.Default

var unsynced sync.Once

// noted reports whether err means that this file system has no such fsync,
// which some network file systems have not, and says so once. Nothing else may
// ever be ignored: EIO least of all.
func noted(err error, name string) bool {
	if !unsupported(err) {
		return false
	}
	unsynced.Do(func() {
		Log().Warn(fmt.Sprintf("%s: this file system cannot sync a directory: a power cut may lose new files", name))
	})
	return true
}
