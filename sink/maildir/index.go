package maildir

import "hash/maphash"

// An index leads from the unique part of a name to the rest of it. It holds a
// hash of the one and the bytes of the other: about 60 bytes a message. Whoever
// uses an answer looks at the file, so two unique parts with one hash cannot
// be taken for each other.
type index struct {
	at    map[uint64]uint32 // hash to an entry in names
	names []byte            // entries: directory, length, bytes
	waste int               // bytes of entries that nothing leads to
}

var seed = maphash.MakeSeed()

const (
	inCur = 'c'
	inNew = 'n'
)

func (x *index) get(unique string) (dir byte, rest string, ok bool) {
	at, ok := x.at[maphash.String(seed, unique)]
	if !ok {
		return 0, "", false
	}
	e := x.names[at:]
	return e[0], string(e[2 : 2+int(e[1])]), true
}

func (x *index) put(unique string, dir byte, rest string) {
	if len(rest) > 255 {
		return // no file system has such names
	}
	h := maphash.String(seed, unique)
	if at, ok := x.at[h]; ok {
		x.waste += 2 + int(x.names[at+1])
	}
	if x.waste > 1<<20 && x.waste > len(x.names)/2 {
		x.pack()
	}
	x.at[h] = uint32(len(x.names))
	x.names = append(x.names, dir, byte(len(rest)))
	x.names = append(x.names, rest...)
}

func (x *index) drop(unique string) {
	h := maphash.String(seed, unique)
	if at, ok := x.at[h]; ok {
		x.waste += 2 + int(x.names[at+1])
		delete(x.at, h)
	}
}

// pack leaves out the entries that nothing leads to.
func (x *index) pack() {
	names := make([]byte, 0, len(x.names)-x.waste)
	for h, at := range x.at {
		e := x.names[at:]
		x.at[h] = uint32(len(names))
		names = append(names, e[:2+int(e[1])]...)
	}
	x.names, x.waste = names, 0
}
