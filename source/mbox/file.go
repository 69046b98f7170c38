package mbox

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"

	"mailhaul/internal/mail"
	"mailhaul/source"
	"mailhaul/source/local"
)

// A file is a mailbox.
type file struct {
	path mail.Path
	name string // below the root
	at   string
	root string // "": the file is what the user named, and may be a link

	mu    sync.Mutex
	known *rules // of the state mark
	mark  string
}

func (f *file) packed() bool { return f.suffix(".gz") || f.suffix(".zst") }

func (f *file) suffix(s string) bool { return cutSuffix(f.name, s) != f.name }

func (f *file) stat() (fs.FileInfo, error) {
	if f.root == "" {
		return os.Stat(f.at)
	}
	return os.Lstat(f.at)
}

// raw opens the file as it lies there.
func (f *file) raw() (*os.File, fs.FileInfo, error) {
	if f.root == "" {
		in, err := os.Open(f.at)
		if err != nil {
			return nil, nil, err
		}
		fi, err := in.Stat()
		if err != nil {
			in.Close()
		}
		return in, fi, err
	}
	root, err := os.OpenRoot(f.root)
	if err != nil {
		return nil, nil, err
	}
	defer root.Close()
	return local.Open(root, filepath.FromSlash(f.name))
}

// open opens the file for reading in order, unpacked.
func (f *file) open() (io.ReadCloser, error) {
	in, _, err := f.raw()
	if err != nil {
		return nil, err
	}
	r, err := f.unpack(in)
	if err != nil {
		in.Close()
		return nil, err
	}
	return r, nil
}

// mostWindow is what a compressed file may make us remember: that of zstd
// --long.
const mostWindow = 128 << 20

func (f *file) unpack(in *os.File) (io.ReadCloser, error) {
	switch {
	case f.suffix(".gz"):
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", mail.Clean(f.name), err)
		}
		return unpacked{z, f.name, func() { in.Close() }}, nil
	case f.suffix(".zst"):
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(mostWindow))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", mail.Clean(f.name), err)
		}
		return unpacked{z, f.name, func() { z.Close(); in.Close() }}, nil
	}
	return in, nil
}

type unpacked struct {
	io.Reader
	name  string
	close func()
}

func (u unpacked) Read(p []byte) (int, error) {
	n, err := u.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%s: %w", mail.Clean(u.name), err)
	}
	return n, err
}

func (u unpacked) Close() error {
	u.close()
	return nil
}

// state tells this state of the file, read in this way, from any other.
func (f *file) state(fi fs.FileInfo, opt options) source.Cursor {
	return source.Cursor(fmt.Sprintf("1 %s %t %t %s", opt.dialect, opt.strict, opt.trust, local.Mark(fi)))
}

// A kind is what a file seems to be.
type kind int

const (
	other kind = iota
	empty
	aMailbox
	letter // one message without a separator
)

// sniff looks at the beginning of a file.
func (f *file) sniff() (kind, error) {
	in, err := f.open()
	if err == io.EOF || strings.HasSuffix(fmt.Sprint(err), ": EOF") {
		return empty, nil // compressed, and nothing in it
	}
	if err != nil {
		return other, err
	}
	defer in.Close()
	b := make([]byte, 4096)
	n, err := io.ReadFull(in, b)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return other, err
	}
	b = bytes.TrimLeft(b[:n], "\r\n")
	switch {
	case len(b) == 0:
		return empty, nil
	case bytes.HasPrefix(b, from):
		return aMailbox, nil
	case headerLike(b):
		return letter, nil
	}
	return other, nil
}
