package powerloss

import (
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"time"

	"mailhaul/internal/durable"
)

// A node is a file or a directory, as it is after a sync, and what has been
// done to it since.
type node struct {
	dir  bool
	time time.Time // when it was changed, if somebody has said so

	data []byte           // of a file
	late []durable.Effect // write, truncate and settime since its fsync
	live int              // its length as the running system sees it

	names map[string]*node // of a directory
	now   map[string]*node // as the running system sees it
}

// A change is one of the names of a directory: given, taken away, or moved.
type change struct {
	dir    *node
	name   string
	to     *node // nil: taken away
	from   *node // of a rename: the directory in which it had oldName
	old    string
	synced bool // it will be found
	gone   bool // and the old name will not
}

// A world is all nodes, and the changes of names in their order.
type world struct {
	root    string
	top     *node
	changes []*change
}

// replay does what was recorded.
func replay(root string, base *node, log []durable.Effect) (*world, error) {
	w := &world{root: root, top: base.clone(map[*node]*node{})}
	for _, e := range log {
		if err := w.do(e); err != nil {
			return nil, fmt.Errorf("%s %s: %w", e.Op, e.Name, err)
		}
	}
	return w, nil
}

func (n *node) clone(done map[*node]*node) *node {
	if c := done[n]; c != nil {
		return c
	}
	c := *n
	done[n] = &c
	if n.dir {
		c.names, c.now = maps.Clone(n.names), map[string]*node{}
		for name, sub := range n.names {
			c.names[name] = sub.clone(done)
			c.now[name] = c.names[name]
		}
	}
	return &c
}

// find gives the directory of a path, and the last part of it.
func (w *world) find(path string) (*node, string, error) {
	rel, err := filepath.Rel(w.root, path)
	if err != nil || !filepath.IsLocal(rel) {
		return nil, "", fmt.Errorf("%s is not below %s", path, w.root)
	}
	n := w.top
	parts := strings.Split(rel, string(filepath.Separator))
	for _, p := range parts[:len(parts)-1] {
		if n = n.now[p]; n == nil {
			return nil, "", fmt.Errorf("there is no %s", p)
		}
	}
	return n, parts[len(parts)-1], nil
}

func (w *world) node(path string) (*node, error) {
	if path == w.root {
		return w.top, nil
	}
	dir, name, err := w.find(path)
	if err == nil && dir.now[name] == nil {
		err = fmt.Errorf("there is no %s", name)
	}
	if err != nil {
		return nil, err
	}
	return dir.now[name], nil
}

func (w *world) do(e durable.Effect) error {
	switch e.Op {
	case "write", "truncate", "settime", "fsync":
		n, err := w.node(e.Name)
		if err == nil {
			n.do(e)
		}
		return err
	case "syncdir":
		n, err := w.node(e.Name)
		if err == nil {
			w.syncDir(n)
		}
		return err
	}
	dir, name, err := w.find(e.Name)
	if err != nil {
		return err
	}
	c := &change{dir: dir, name: name}
	switch e.Op {
	case "create":
		c.to = &node{}
	case "mkdir":
		c.to = &node{dir: true, names: map[string]*node{}, now: map[string]*node{}}
	case "unlink":
	case "link", "rename":
		from, old, err := w.find(e.From)
		if err != nil {
			return err
		}
		if c.to = from.now[old]; c.to == nil {
			return fmt.Errorf("there is no %s", e.From)
		}
		if e.Op == "rename" {
			c.from, c.old = from, old
			delete(from.now, old)
		}
	default:
		return fmt.Errorf("unknown")
	}
	if dir.now[name] = c.to; c.to == nil {
		delete(dir.now, name)
	}
	w.changes = append(w.changes, c)
	return nil
}

func (w *world) syncDir(n *node) {
	for _, c := range w.changes {
		// A rename is one step: what had a name never has none. Between two
		// directories it may have both.
		c.synced = c.synced || c.dir == n || c.from == n
		c.gone = c.gone || c.from == n
	}
}

func (n *node) do(e durable.Effect) {
	switch e.Op {
	case "fsync":
		n.data, n.time = n.after(func(durable.Effect) bool { return true })
		n.late = nil
		return
	case "truncate":
		n.live = int(e.Size)
	case "write":
		if e.At < 0 {
			e.At = int64(n.live)
		}
		n.live = max(n.live, int(e.At)+len(e.Bytes))
	}
	n.late = append(n.late, e)
}

// after is the file with those of the late effects that are wanted. What they
// leave out in the middle is zeroes.
func (n *node) after(want func(durable.Effect) bool) ([]byte, time.Time) {
	data, at := append([]byte(nil), n.data...), n.time
	for _, e := range n.late {
		if !want(e) {
			continue
		}
		switch e.Op {
		case "settime":
			at = e.Time
		case "truncate":
			data = grow(data, int(e.Size))[:e.Size]
		case "write":
			data = grow(data, int(e.At)+len(e.Bytes))
			copy(data[e.At:], e.Bytes)
		}
	}
	return data, at
}

func grow(data []byte, size int) []byte {
	if size > len(data) {
		return append(data, make([]byte, size-len(data))...)
	}
	return data
}
