package powerloss

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mailhaul/internal/durable"
)

// A Fate is what becomes of that which was not synced.
type Fate int

const (
	Nothing   Fate = iota // of it is there
	All                   // of it is there, as after kill -9
	Zeroes                // are where bytes should be; names and lengths are there
	DataOnly              // is there: no name that was not synced
	NamesOnly             // are there: no byte that was not synced
	Some                  // of it is there, by chance, sector by sector and name by name
	Fates     = int(iota)
)

func (f Fate) String() string {
	return [...]string{"nothing", "all", "zeroes", "data only", "names only", "some"}[f]
}

// Restore makes the directory what it may be after power failed at p. The
// same seed gives the same.
func (p Point) Restore(f Fate, seed uint64) error {
	w, err := replay(p.disk.root, p.disk.base, p.disk.log[:p.done])
	if err != nil {
		return err
	}
	dice := &dice{f, rand.New(rand.NewPCG(seed, uint64(p.done)))}
	for _, c := range w.changes {
		there := c.synced || dice.name()
		if c.from != nil && (c.gone || there && (c.from == c.dir || dice.name())) {
			delete(c.from.names, c.old)
		}
		switch {
		case there && c.to == nil:
			delete(c.dir.names, c.name)
		case there:
			c.dir.names[c.name] = c.to
		}
	}
	if err := clean(p.disk.root); err != nil {
		return err
	}
	if err := w.top.write(p.disk.root, dice, map[*node]string{}); err != nil {
		return err
	}
	for _, pattern := range p.disk.keep {
		names, err := filepath.Glob(filepath.Join(p.disk.root, pattern))
		for _, name := range names {
			err = errors.Join(err, os.Remove(name)) // as it was when the record began
		}
		if err != nil {
			return err
		}
	}
	for name, text := range p.kept {
		if err := os.MkdirAll(filepath.Dir(name), dirMode); err != nil {
			return err
		}
		if err := os.WriteFile(name, text, fileMode); err != nil {
			return err
		}
	}
	return nil
}

func (p Point) String() string {
	rel, _ := filepath.Rel(p.disk.root, p.Name)
	return fmt.Sprintf("step %d (%s %s)", slices.IndexFunc(p.disk.points, func(q Point) bool { return q.done == p.done && q.Op == p.Op && q.Name == p.Name })+1, p.Op, strings.TrimSpace(rel))
}

func clean(dir string) error {
	list, err := os.ReadDir(dir)
	for _, e := range list {
		if err == nil {
			err = os.RemoveAll(filepath.Join(dir, e.Name()))
		}
	}
	return err
}

// write puts a node on the disk under a name; a file that has one already is
// linked.
func (n *node) write(name string, d *dice, done map[*node]string) error {
	if !n.dir {
		if other := done[n]; other != "" {
			return os.Link(other, name)
		}
		done[n] = name
		data, at := d.data(n)
		if err := os.WriteFile(name, data, fileMode); err != nil || at.IsZero() {
			return err
		}
		return os.Chtimes(name, at, at)
	}
	if err := os.MkdirAll(name, dirMode); err != nil {
		return err
	}
	names := make([]string, 0, len(n.names))
	for sub := range n.names {
		names = append(names, sub)
	}
	slices.Sort(names) // so that a seed always means the same
	for _, sub := range names {
		if err := n.names[sub].write(filepath.Join(name, sub), d, done); err != nil {
			return err
		}
	}
	return nil
}

// dice decide.
type dice struct {
	fate Fate
	r    *rand.Rand
}

func (d *dice) name() bool {
	switch d.fate {
	case Nothing, DataOnly:
		return false
	case Some:
		return d.r.IntN(2) == 0
	}
	return true
}

const sector = 512

func (d *dice) data(n *node) ([]byte, time.Time) {
	fate := d.fate
	if fate == Some && d.r.IntN(4) > 0 {
		// Not every file has the same fate.
		fate = []Fate{Nothing, All, Zeroes, Some}[d.r.IntN(4)]
	}
	all := func(durable.Effect) bool { return true }
	switch fate {
	case Nothing, NamesOnly:
		return n.data, n.time
	case All, DataOnly:
		return n.after(all)
	}
	data, at := n.after(all)
	if fate == Some && d.r.IntN(2) == 0 {
		at = n.time
	}
	safe := len(n.data) // below it the old bytes are found where the new ones are not
	for _, e := range n.late {
		if e.Op == "truncate" {
			safe = min(safe, int(e.Size))
		}
	}
	for i := 0; i < len(data); {
		end := min(len(data), (i/sector+1)*sector)
		if i < safe {
			end = min(end, safe)
		}
		if fate == Zeroes || d.r.IntN(2) == 0 {
			if i < safe {
				copy(data[i:end], n.data[i:end])
			} else {
				clear(data[i:end])
			}
		}
		i = end
	}
	if fate == Some && len(data) > safe && d.r.IntN(2) == 0 {
		data = data[:safe+d.r.IntN(len(data)-safe)] // its length was written later
	}
	return data, at
}
