//go:build unix

package durable

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const noFollow = unix.O_NOFOLLOW

func syncDir(f *os.File) error { return f.Sync() }

func unsupported(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EOPNOTSUPP)
}

func full(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

func readOnly(err error) bool { return errors.Is(err, unix.EROFS) }
func broken(err error) bool   { return errors.Is(err, unix.EIO) }

func tooMany(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE)
}

// CannotLink reports whether err means that there is no hard link to be had
// here: too many already, another file system, or one without them.
func CannotLink(err error) bool {
	for _, e := range []error{unix.EMLINK, unix.EXDEV, unix.EPERM, unix.ENOTSUP, unix.EOPNOTSUPP, unix.ENOSYS} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func freeBytes(name string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(name, &s); err != nil {
		return 0, &fs.PathError{Op: "statfs", Path: name, Err: err}
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}

// Inode is the number of a file that stays when its name changes.
func Inode(fi fs.FileInfo) uint64 {
	if s, ok := fi.Sys().(*syscall.Stat_t); ok {
		return uint64(s.Ino)
	}
	return 0
}

func truncate(f *os.File, _ string, size int64) error { return f.Truncate(size) }

func setTime(f *os.File, _ string, t time.Time) error {
	tv := unix.NsecToTimeval(t.UnixNano())
	return unix.Futimes(int(f.Fd()), []unix.Timeval{tv, tv})
}

func tryLock(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return errHeld
	}
	return err
}

// unlock gives the lock up for whoever has the open file: a process that is
// being started elsewhere in this one holds a copy until it runs its program.
func unlock(f *os.File) { unix.Flock(int(f.Fd()), unix.LOCK_UN) }

// lockMailbox locks the whole file as mail programs do. Where it can it uses a
// lock that belongs to the open file (see setLock): POSIX's own is lost when
// any descriptor of the same file is closed anywhere in the process.
func lockMailbox(f *os.File, on bool) (bool, error) {
	l := unix.Flock_t{Type: unix.F_UNLCK, Whence: io.SeekStart}
	if on {
		l.Type = unix.F_WRLCK
	}
	err := unix.FcntlFlock(f.Fd(), setLock, &l)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EACCES):
		return false, nil
	case errors.Is(err, unix.ENOLCK), unsupported(err):
		return true, nil // a file system without such locks: the dot-lock has to do
	}
	return false, &fs.PathError{Op: "lock", Path: f.Name(), Err: err}
}

// overwriter gives a function that writes at an offset although f appends.
// Linux appends with O_APPEND even where an offset is given (pwrite(2), BUGS),
// so the flag is taken off until done. A second descriptor would not do: see
// lockMailbox.
func overwriter(f *os.File, _ string) (write func(p []byte, at int64) error, done func(), err error) {
	fd := f.Fd()
	flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
	if err != nil {
		return nil, nil, err
	}
	if _, err := unix.FcntlInt(fd, unix.F_SETFL, flags&^unix.O_APPEND); err != nil {
		return nil, nil, err
	}
	write = func(p []byte, at int64) error {
		for len(p) > 0 {
			n, err := unix.Pwrite(int(fd), p, at)
			if err != nil && err != unix.EINTR {
				return err
			}
			if n > 0 {
				p, at = p[n:], at+int64(n)
			}
		}
		return nil
	}
	return write, func() { unix.FcntlInt(fd, unix.F_SETFL, flags) }, nil
}

// Alive reports whether a process of this machine is there.
func Alive(pid int) bool {
	err := unix.Kill(pid, 0)
	return err == nil || errors.Is(err, unix.EPERM)
}
