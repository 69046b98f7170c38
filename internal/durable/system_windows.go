package durable

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/windows"
)

const noFollow = 0

// syncDir does nothing: Windows has no such call, and NTFS writes names in its
// journal in order.
func syncDir(*os.File) error { return nil }

func start(*os.File) {}

func unsupported(error) bool { return false }

func full(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL) ||
		errors.Is(err, windows.ERROR_DISK_QUOTA_EXCEEDED)
}

func readOnly(err error) bool { return errors.Is(err, windows.ERROR_WRITE_PROTECT) }

func broken(err error) bool {
	return errors.Is(err, windows.ERROR_CRC) || errors.Is(err, windows.ERROR_IO_DEVICE) ||
		errors.Is(err, windows.ERROR_WRITE_FAULT) || errors.Is(err, windows.ERROR_READ_FAULT)
}

func tooMany(err error) bool { return errors.Is(err, windows.ERROR_TOO_MANY_OPEN_FILES) }

// CannotLink reports whether err means that there is no hard link to be had
// here: too many already, another volume, or a file system without them.
func CannotLink(err error) bool {
	return errors.Is(err, windows.ERROR_TOO_MANY_LINKS) || errors.Is(err, windows.ERROR_NOT_SAME_DEVICE) ||
		errors.Is(err, windows.ERROR_INVALID_FUNCTION) || errors.Is(err, windows.ERROR_NOT_SUPPORTED)
}

func freeBytes(name string) (int64, error) {
	p, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return 0, err
	}
	var n uint64
	if err := windows.GetDiskFreeSpaceEx(p, &n, nil, nil); err != nil {
		return 0, &fs.PathError{Op: "free", Path: name, Err: err}
	}
	return int64(n), nil
}

// Inode is 0: the number of a file is not in what Stat tells here.
func Inode(fs.FileInfo) uint64 { return 0 }

// truncate goes by the name: a handle for appending may not cut.
func truncate(_ *os.File, name string, size int64) error { return os.Truncate(name, size) }

func setTime(_ *os.File, name string, t time.Time) error { return os.Chtimes(name, t, t) }

// A locked range cannot be read by others, so the lock lies far behind what
// the file says.
func farRange() *windows.Overlapped { return &windows.Overlapped{OffsetHigh: 1 << 30} }

func tryLock(f *os.File) error {
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, farRange())
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return errHeld
	}
	return err
}

// unlock has nothing to do: the lock goes with the handle.
func unlock(*os.File) {}

// lockMailbox leaves it to the dot-lock: there is no custom for mailbox files
// here.
func lockMailbox(*os.File, bool) (bool, error) { return true, nil }

// overwriter gives a function that writes at an offset although f appends.
func overwriter(_ *os.File, name string) (write func(p []byte, at int64) error, done func(), err error) {
	w, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return nil, nil, err
	}
	write = func(p []byte, at int64) error {
		_, err := w.WriteAt(p, at)
		return err
	}
	return write, func() { w.Sync(); w.Close() }, nil
}

// Alive reports whether a process of this machine is there.
func Alive(pid int) bool {
	h, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, uint32(pid))
	if err != nil {
		return errors.Is(err, windows.ERROR_ACCESS_DENIED)
	}
	defer windows.CloseHandle(h)
	var code uint32
	const running = 259 // STILL_ACTIVE
	return windows.GetExitCodeProcess(h, &code) != nil || code == running
}
