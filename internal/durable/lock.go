package durable

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A Lock is held by this process until Release, or until its death: the
// system keeps it, not the file, which therefore is never stale and never
// removed.
type Lock struct{ f *os.File }

// A Locked is the error of whoever comes second.
type Locked struct {
	Name    string // of the lock file
	PID     int    // 0 when it cannot be told
	Host    string
	Since   time.Time
	Command string
}

func (l *Locked) Error() string {
	s := filepath.Dir(l.Name) + ": locked"
	if l.PID == 0 {
		return s + " by another process"
	}
	s += fmt.Sprintf(" by process %d on %s", l.PID, l.Host)
	if !l.Since.IsZero() {
		s += " since " + l.Since.Format("2006-01-02 15:04:05")
	}
	if l.Command != "" {
		s += " (" + l.Command + ")"
	}
	return s
}

// errHeld is what tryLock returns when somebody else holds the lock.
var errHeld = errors.New("held by another process")

// LockFile takes the lock that a file stands for, and makes the file if need
// be; it does not wait. The file tells who holds it: command is what to call
// this process. When another process has it the error is a *Locked.
func LockFile(name, command string) (*Lock, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|noFollow, fileMode)
	if err != nil {
		return nil, err
	}
	f.Chmod(fileMode)
	if err := tryLock(f); err != nil {
		defer f.Close()
		if errors.Is(err, errHeld) {
			return nil, holder(f, name)
		}
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	host, _ := os.Hostname()
	text := fmt.Sprintf("%d\n%s\n%s\n%s\n", os.Getpid(), oneLine(host), time.Now().UTC().Format(time.RFC3339), oneLine(command))
	// What the file says helps the second comer's message only, so it need
	// not be durable, and a full disk does not matter.
	if f.Truncate(0) == nil {
		f.WriteAt([]byte(text), 0)
	}
	return &Lock{f}, nil
}

// Release gives the lock back.
func (l *Lock) Release() error {
	unlock(l.f)
	return l.f.Close()
}

func holder(f *os.File, name string) *Locked {
	l := &Locked{Name: name}
	text, err := io.ReadAll(io.LimitReader(f, 4096))
	lines := strings.Split(string(text), "\n")
	if err != nil || len(lines) < 4 {
		return l
	}
	l.PID, _ = strconv.Atoi(lines[0])
	l.Host = lines[1]
	l.Since, _ = time.Parse(time.RFC3339, lines[2])
	l.Command = lines[3]
	return l
}

func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

// TryLock takes the lock that mail programs put on a mailbox file (fcntl) and
// reports whether it got it. Closing the file gives it back.
func (f *File) TryLock() (bool, error) { return lockMailbox(f.f, true) }

// Unlock gives it back.
func (f *File) Unlock() { lockMailbox(f.f, false) }
