package durable

import (
	"io"
	"io/fs"
	"os"
	"time"
)

// A File is open for writing. Only ReadAt and Stat may be called while another
// goroutine writes.
type File struct {
	// Fresh says that Append has just made the file: its directory wants a
	// Sync too.
	Fresh bool

	f      *os.File
	name   string
	failed error // of the first fsync that failed
}

// Name is the whole path.
func (f *File) Name() string { return f.name }

// Write writes all of p, or tells why not.
func (f *File) Write(p []byte) (int, error) {
	if err := step("write", f.name); err != nil {
		return 0, err
	}
	if Step == nil || len(p) < 2 {
		return f.write(p)
	}
	n, err := f.write(p[:len(p)/2])
	if err == nil {
		err = step("write", f.name)
	}
	if err != nil {
		return n, err
	}
	m, err := f.write(p[n:])
	return n + m, err
}

func (f *File) write(p []byte) (int, error) {
	n, err := f.f.Write(p)
	if Made != nil && n > 0 {
		Made(Effect{Op: "write", Name: f.name, At: -1, Bytes: p[:n]})
	}
	return n, err
}

// ReadAt reads as io.ReaderAt has it.
func (f *File) ReadAt(p []byte, at int64) (int, error) { return f.f.ReadAt(p, at) }

// Stat describes the file that is open, which may have lost its name.
func (f *File) Stat() (fs.FileInfo, error) { return f.f.Stat() }

// Start asks the system to begin writing the file out, and waits for nothing.
// It promises nothing: it lets one journal commit serve the Sync of many files, and
// the disk work while more is written.
func (f *File) Start() { start(f.f) }

// Sync makes what was written last. After a failure every further Sync gives
// the same error: the pages that could not be written may count as clean by
// now, and a second fsync would succeed for nothing.
func (f *File) Sync() error {
	if f.failed != nil {
		return f.failed
	}
	if f.failed = step("fsync", f.name); f.failed != nil {
		return f.failed
	}
	if err := made(Effect{Op: "fsync", Name: f.name}, f.f.Sync()); err != nil {
		f.failed = &fs.PathError{Op: "sync", Path: f.name, Err: cause(err)}
	}
	return f.failed
}

// Truncate cuts the file off behind size bytes.
func (f *File) Truncate(size int64) error {
	if err := step("truncate", f.name); err != nil {
		return err
	}
	if err := made(Effect{Op: "truncate", Name: f.name, Size: size}, truncate(f.f, f.name, size)); err != nil {
		return &fs.PathError{Op: "truncate", Path: f.name, Err: cause(err)}
	}
	return nil
}

// SetTime sets when the file was last changed, to the time t.
func (f *File) SetTime(t time.Time) error {
	if err := step("settime", f.name); err != nil {
		return err
	}
	if err := made(Effect{Op: "settime", Name: f.name, Time: t}, setTime(f.f, f.name, t)); err != nil {
		return &fs.PathError{Op: "settime", Path: f.name, Err: cause(err)}
	}
	return nil
}

// Rewrite writes the bytes from one offset to another over themselves, so that
// a Sync that follows writes them out again. After an fsync that failed in
// another process this is the only way to know that they are on the disk: they
// may read well from memory and count as clean.
func (f *File) Rewrite(from, to int64) error {
	w, done, err := overwriter(f.f, f.name)
	if err != nil {
		return &fs.PathError{Op: "write", Path: f.name, Err: cause(err)}
	}
	defer done()
	buf := make([]byte, min(to-from, 1<<20))
	for from < to {
		p := buf[:min(to-from, int64(len(buf)))]
		if n, err := f.ReadAt(p, from); n < len(p) {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return &fs.PathError{Op: "read", Path: f.name, Err: cause(err)}
		}
		if err := step("write", f.name); err != nil {
			return err
		}
		if err := made(Effect{Op: "write", Name: f.name, At: from, Bytes: p}, w(p, from)); err != nil {
			return &fs.PathError{Op: "write", Path: f.name, Err: cause(err)}
		}
		from += int64(len(p))
	}
	return nil
}

func (f *File) Close() error { return f.f.Close() }
