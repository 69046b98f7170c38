package maildir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"mailhaul/internal/durable"
	"mailhaul/internal/maildirname"
)

// A store is one Maildir, for all who have it open: the folder itself, and
// others that link to its messages.
type store struct {
	name string // within the archive
	dir  *durable.Dir
	refs int // under the sink's mutex

	mu     sync.Mutex
	index  index
	looked time.Time // when the index was made; zero: never
}

var parts = [...]struct {
	name string
	sign byte
}{{"cur", inCur}, {"new", inNew}}

// check looks whether this is a Maildir and, with create, makes it one. Copies
// of an archive may lack the directories that were empty.
func (s *store) check(create bool) error {
	missing := error(nil)
	there := false
	for _, name := range []string{"tmp", "new", "cur"} {
		fi, err := s.dir.Stat(name)
		switch {
		case errors.Is(err, fs.ErrNotExist) && create:
			err = s.dir.Mkdir(name)
		case errors.Is(err, fs.ErrNotExist):
			missing = err
			continue
		case err == nil && !fi.IsDir():
			err = fmt.Errorf("%s: is not a directory", s.dir.Path(name)) // a link is refused
		}
		if err != nil {
			return err
		}
		there = there || name != "tmp"
	}
	if !there {
		return missing
	}
	return nil
}

// find gives the file of a message by the unique part of its name. It looks at
// the directories again when they have changed since: other programs rename.
func (s *store) find(unique string) (file string, fi fs.FileInfo, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		fresh := s.looked.IsZero()
		if fresh {
			if err := s.look(); err != nil {
				return "", nil, err
			}
		}
		if dir, rest, ok := s.index.get(unique); ok {
			file = fileIn(dir, unique+rest)
			if fi, err = s.dir.Stat(file); !errors.Is(err, fs.ErrNotExist) {
				return file, fi, err
			}
		}
		if fresh || !s.stale() {
			return "", nil, &fs.PathError{Op: "open", Path: s.dir.Path("cur/" + unique), Err: fs.ErrNotExist}
		}
		s.looked = time.Time{}
	}
}

func fileIn(dir byte, name string) string {
	if dir == inCur {
		return "cur/" + name
	}
	return "new/" + name
}

// known reports whether the index, made now if need be, has a unique part. A
// message about to be stored is not expected to be there, so the directories
// are not looked at again.
func (s *store) known(unique string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.looked.IsZero() {
		if err := s.look(); err != nil {
			return false, err
		}
	}
	_, _, ok := s.index.get(unique)
	return ok, nil
}

// stale reports whether a directory has changed since the index was made. The
// clock of a file system may tick slowly.
func (s *store) stale() bool {
	for _, p := range parts {
		fi, err := s.dir.Stat(p.name)
		if err == nil && fi.ModTime().After(s.looked.Add(-time.Second)) {
			return true
		}
	}
	return false
}

// look makes the index.
func (s *store) look() error {
	s.looked = time.Now()
	s.index = index{at: map[uint64]uint32{}}
	for _, p := range parts {
		err := s.each(p.name, func(_ *durable.Dir, name string) error {
			unique := maildirname.Unique(name)
			s.index.put(unique, p.sign, name[len(unique):])
			return nil
		})
		if err != nil {
			s.looked = time.Time{}
			return err
		}
	}
	return nil
}

// each calls do for every file name in a part of the Maildir, some at a time. A
// part that is not there is empty.
func (s *store) each(name string, do func(part *durable.Dir, name string) error) error {
	part, err := s.dir.Sub(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer part.Close()
	d, err := part.Read(".")
	if err != nil {
		return err
	}
	defer d.Close()
	for {
		names, err := d.Readdirnames(1000)
		for _, name := range names {
			if name[0] == '.' {
				continue
			}
			if err := do(part, name); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// forget makes the next find look anew.
func (s *store) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looked = time.Time{}
}

// note puts a file into the index.
func (s *store) note(n maildirname.Name) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.looked.IsZero() {
		return
	}
	dir := byte(inNew)
	if n.Has {
		dir = inCur
	}
	s.index.put(n.Unique, dir, n.String()[len(n.Unique):])
}

const keywordsFile = "dovecot-keywords"

// keywords reads what the letters a to z stand for here.
func (s *store) keywords() (maildirname.Keywords, error) {
	f, err := s.dir.Read(keywordsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 64<<10))
	return maildirname.ParseKeywords(string(text)), err
}

func (s *store) setKeywords(k maildirname.Keywords) error {
	return s.dir.Replace(keywordsFile, func(w io.Writer) error {
		_, err := io.WriteString(w, k.String())
		return err
	})
}

// open opens the file of a message.
func (s *store) open(unique string) (*os.File, fs.FileInfo, error) {
	for try := 0; ; try++ {
		name, fi, err := s.find(unique)
		if err != nil {
			return nil, nil, err
		}
		if !fi.Mode().IsRegular() {
			return nil, nil, fmt.Errorf("%s: is not a plain file", s.dir.Path(name))
		}
		f, err := s.dir.Read(name)
		if errors.Is(err, fs.ErrNotExist) && try < 3 {
			continue // renamed just now
		}
		return f, fi, err
	}
}

// sizes of a message's file: as it is, and with CRLF.
func sizes(text, lines int64, open bool) (size, crlf int64) {
	if open && text > 0 {
		text, lines = text-1, lines-1
	}
	return text, text + lines
}
