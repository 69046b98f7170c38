// Package powerloss is the disk of a machine whose power fails. It keeps a
// record of everything that package durable does below a directory, and can
// make that directory anew as it may be found afterwards: with the bytes of a
// file certain only up to its last fsync, and the names of a directory only up
// to the fsync of that directory. All else may be there, or not, or in parts,
// or be zeroes.
//
// What does not go through durable, such as the catalog's database, is kept
// beside the record as it is at each step: SQLite is trusted with its own.
package powerloss

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"mailhaul/internal/durable"
)

// A Disk is recording until Stop. Only one may at a time.
type Disk struct {
	root string
	keep []string // patterns below root of what is not recorded

	mu     sync.Mutex
	base   *node
	log    []durable.Effect
	points []Point
	held   []durable.Effect // syncs that are told later
	holds  bool

	// Ignore, where it is set before the first step, names syncs that the disk
	// only claims to have done.
	Ignore func(durable.Effect) bool
}

// A Point is the moment before a step, at which power may fail.
type Point struct {
	Op, Name string // of the step

	disk *Disk
	done int // length of the record
	kept map[string][]byte
}

// Record begins a record of what happens below root, an existing directory. All
// that is there counts as safe. Files that match one of the patterns in keep
// are taken as they are at each step.
func Record(t *testing.T, root string, keep ...string) *Disk {
	t.Helper()
	d := &Disk{root: root, keep: keep}
	var err error
	if d.base, err = read(root); err != nil {
		t.Fatal(err)
	}
	durable.Step, durable.Made = d.step, d.made
	t.Cleanup(func() { d.Stop() })
	return d
}

// Stop ends the record and gives the moments at which power may have failed.
func (d *Disk) Stop() []Point {
	if d.points == nil || durable.Made != nil {
		durable.Step, durable.Made = nil, nil
		d.step("end", d.root)
	}
	return d.points
}

// step holds up all others, so that what is kept fits the record: nothing is
// written or synced meanwhile.
func (d *Disk) step(op, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := Point{Op: op, Name: name, disk: d, done: len(d.log), kept: map[string][]byte{}}
	for _, pattern := range d.keep {
		names, err := filepath.Glob(filepath.Join(d.root, pattern))
		if err != nil {
			return err
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			if n := len(d.points); n > 0 && bytes.Equal(d.points[n-1].kept[name], text) {
				text = d.points[n-1].kept[name] // it is much the same all the time
			}
			p.kept[name] = text
		}
	}
	d.points = append(d.points, p)
	return nil
}

func (d *Disk) made(e durable.Effect) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e.Bytes = bytes.Clone(e.Bytes)
	if e.Op == "fsync" || e.Op == "syncdir" {
		if d.Ignore != nil && d.Ignore(e) {
			return
		}
		if d.holds {
			d.held = append(d.held, e)
			return
		}
	}
	d.log = append(d.log, e)
}

// Hold puts off what syncs from now on until Release, for tests of the test:
// whoever asked for them is told that they are done.
func (d *Disk) Hold() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.holds = true
}

// Release does what Hold put off.
func (d *Disk) Release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log = append(d.log, d.held...)
	d.held, d.holds = nil, false
}

// read makes a node of what is on the disk.
func read(name string) (*node, error) {
	fi, err := os.Lstat(name)
	if err != nil {
		return nil, err
	}
	n := &node{dir: fi.IsDir(), time: fi.ModTime()}
	if !n.dir {
		n.data, err = os.ReadFile(name)
		n.live = len(n.data)
		return n, err
	}
	n.names, n.now = map[string]*node{}, map[string]*node{}
	list, err := os.ReadDir(name)
	if err != nil {
		return nil, err
	}
	inodes := map[uint64]*node{}
	for _, e := range list {
		c, err := read(filepath.Join(name, e.Name()))
		if err != nil {
			return nil, err
		}
		if fi, err := e.Info(); err == nil && !c.dir && durable.Inode(fi) != 0 {
			if other := inodes[durable.Inode(fi)]; other != nil {
				c = other
			}
			inodes[durable.Inode(fi)] = c
		}
		n.names[e.Name()], n.now[e.Name()] = c, c
	}
	return n, nil
}

const (
	fileMode fs.FileMode = 0o600
	dirMode  fs.FileMode = 0o700
)

// Steps is how many there were until now.
func (d *Disk) Steps() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.points)
}
