package pipeline

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"mailhaul/internal/durable"
)

// A disk is a file system in memory that can be made smaller, larger, and
// read-only.
type disk struct {
	t    *testing.T
	name string
}

const plenty = 64 << 20

// newDisk mounts one, or skips the test where that is not allowed.
func newDisk(t *testing.T, options string) *disk {
	t.Helper()
	d := &disk{t, t.TempDir()}
	if err := syscall.Mount("none", d.name, "tmpfs", 0, options); err != nil {
		t.Skip("only root can mount a file system of its own: ", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(d.name, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d *disk) remount(flags uintptr, options string) {
	d.t.Helper()
	if err := syscall.Mount("none", d.name, "tmpfs", syscall.MS_REMOUNT|flags, options); err != nil {
		d.t.Fatal(err)
	}
}

// size makes the disk hold so many bytes.
func (d *disk) size(n int64) { d.remount(0, fmt.Sprint("size=", n)) }

// used is how much of it is taken.
func (d *disk) used() int64 {
	d.t.Helper()
	var s syscall.Statfs_t
	if err := syscall.Statfs(d.name, &s); err != nil {
		d.t.Fatal(err)
	}
	return int64(s.Blocks-s.Bfree) * s.Bsize
}

// empty takes everything away.
func (d *disk) empty() {
	d.t.Helper()
	list, err := os.ReadDir(d.name)
	for _, e := range list {
		err = errors.Join(err, os.RemoveAll(filepath.Join(d.name, e.Name())))
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// keep copies what is on the disk, and back puts it there again.
func (d *disk) keep() fs.FS {
	d.t.Helper()
	to := d.t.TempDir()
	if err := os.CopyFS(to, os.DirFS(d.name)); err != nil {
		d.t.Fatal(err)
	}
	return os.DirFS(to)
}

func (d *disk) back(from fs.FS) {
	d.t.Helper()
	d.empty()
	if err := os.CopyFS(d.name, from); err != nil {
		d.t.Fatal(err)
	}
}

// on puts the archive on a disk.
func (a *archive) on(d *disk, layout string) *archive {
	a.dir, a.layout = filepath.Join(d.name, "archive"), layout
	return a
}

// some is an account of a few pages: twins, nasty ends, one message of many
// pages.
func some() *fake {
	s := &fake{}
	for i := range 12 {
		s.folder("INBOX").add(letter(i)+strings.Repeat(fmt.Sprintf("line of %d\r\n", i), 40*i), `\Seen`, "Later")
	}
	for _, m := range doomed() {
		s.folder("Work").add(string(m.Raw()))
	}
	// Nobody knows how large this is, so it comes by way of a file.
	s.folder("Work").add(letter(3) + strings.Repeat("a large one\r\n", 1500)).size = -1
	return s
}

// more is what has come since.
func (s *fake) more() {
	for i := range 6 {
		s.folder("INBOX").add(letter(100+i) + strings.Repeat("more\r\n", 100*i))
		s.folder("Work/New").add(letter(200 + i))
	}
	s.folder("INBOX").reflag(1, `\Flagged`, "Other")
}

// TestFullDisk walks the size of a disk, with mail and catalog on it, from one that
// holds nothing to one that holds everything, page by page, for a first run and for
// a later one. Being full is real here: writes stop in their middle, SQLite's too.
func TestFullDisk(t *testing.T) {
	quiet(t)
	for _, l := range layouts {
		for _, later := range []bool{false, true} {
			name := l.name + "/" + map[bool]string{false: "first run", true: "later run"}[later]
			t.Run(name, func(t *testing.T) {
				d := newDisk(t, fmt.Sprint("size=", plenty))
				page := int64(os.Getpagesize())
				fresh := func() *archive {
					a := newArchive(t, l.format).on(d, l.layout)
					a.options.Batch = BatchLimit{Messages: 4}
					a.options.Readers = 1
					return a
				}
				a, s := fresh(), some()
				a.must(s)
				before, least := 0, page
				var kept fs.FS
				if later {
					before, least = int(a.last.Total.Stored), d.used()
					kept = d.keep()
					s.more()
					a.must(s)
				}
				stored := a.stored()
				sizes, fulls := 0, 0
				step := page
				switch {
				case raced:
					step *= 32
				case testing.Short():
					step *= 16
				case l.layout != "":
					step *= 3 // it writes the same files under other names
				}
				for size := least; ; size += step {
					d.size(plenty)
					d.empty()
					if later {
						d.back(kept)
						size = max(size, d.used())
					}
					d.size(size)
					a, what := fresh(), fmt.Sprintf("%d pages", size/page)
					r, err := a.backUp(s)
					sizes++
					if err == nil {
						d.size(plenty) // it holds this run, and not the next one's report
						a.steady(s, what, stored)
						break
					}
					fulls++
					a.isFull(err, d, what)
					// Still full: the next run says so too, and harms nothing.
					if _, err := a.backUp(s); err != nil {
						a.isFull(err, d, what+", again")
					}
					if l := a.litter(); len(l) > 0 {
						t.Errorf("%s: left behind: %v", what, l)
					}
					a.afterFailure(s, before, what, r, func() { d.size(plenty) })
					a.steady(s, what, stored)
					if t.Failed() {
						break
					}
				}
				t.Logf("%d sizes, full at %d of them", sizes, fulls)
				if fulls == 0 {
					t.Error("the disk was never full")
				}
			})
		}
	}
}

// backUp is run for a disk on which there may be no room for an archive.
func (a *archive) backUp(s *fake) (Report, error) {
	return (&powered{archive: a, wrap: unwrapped}).back(s)
}

// isFull checks what is said of a full disk: where, and how much room is left.
func (a *archive) isFull(err error, d *disk, what string) {
	a.t.Helper()
	if !durable.Full(err) || !strings.Contains(err.Error(), d.name) || !strings.Contains(err.Error(), " left)") {
		a.t.Errorf("%s: a full disk is not told well: %v", what, err)
	}
}
