package pop3

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"mailhaul/internal/pop3conn"
	"mailhaul/source"
)

// A listing is what one session says that there is. Message n is at n-1. It is
// compact, for a maildrop may hold a million messages: beside the unique-ids'
// own bytes it takes 16 bytes each.
type listing struct {
	bytes int64   // in all, as STAT says
	sizes []int64 // -1: not told yet
	ids   packed
	uidl  bool     // the server knows unique-ids
	order []uint32 // positions by unique-id
	odd   []uint32 // positions whose unique-id is empty or not theirs alone
	state source.Cursor
	run   string               // what IDs without identity hold for
	twins map[uint32]source.ID // of odd, those that could be told apart
	known map[source.ID]uint32 // the other way
}

// survey reads the listings of a session.
func survey(ctx context.Context, c *pop3conn.Conn, run string) (*listing, error) {
	l := &listing{}
	uidl, err := c.Survey(ctx, pop3conn.Survey{
		Begin: func(count, bytes int64) error {
			l.bytes = bytes
			// A count is a claim: what it costs before it is proven is bounded.
			l.sizes = make([]int64, 0, min(count, mostGap))
			return nil
		},
		Size: func(n int, size int64) error {
			return place(&l.sizes, n, size)
		},
		ID: l.ids.put,
	})
	if err != nil {
		return nil, err
	}
	l.uidl = uidl
	l.settle(run)
	return l, nil
}

// place puts the size of message n where it belongs.
func place(sizes *[]int64, n int, size int64) error {
	if n > len(*sizes)+mostGap {
		return gap("LIST", n)
	}
	for len(*sizes) < n {
		*sizes = append(*sizes, -1)
	}
	if (*sizes)[n-1] >= 0 {
		return twice("LIST", n)
	}
	(*sizes)[n-1] = size
	return nil
}

// mostGap is how far a listing may run ahead of its order. No server is known
// that leaves it, but none must.
const mostGap = 1 << 20

func gap(verb string, n int) error {
	return fmt.Errorf("%w: %s names message %d long before those in front of it", pop3conn.ErrCounts, verb, n)
}

func twice(verb string, n int) error {
	return fmt.Errorf("%w: %s names message %d twice", pop3conn.ErrCounts, verb, n)
}

// settle sorts the listing and sums it up.
func (l *listing) settle(run string) {
	if l.uidl {
		l.order = make([]uint32, len(l.sizes))
		for i := range l.order {
			l.order[i] = uint32(i)
		}
		slices.SortFunc(l.order, func(a, b uint32) int {
			return cmp.Or(bytes.Compare(l.uid(a), l.uid(b)), cmp.Compare(a, b))
		})
		for i, at := range l.order {
			uid := l.uid(at)
			same := func(j int) bool {
				return j >= 0 && j < len(l.order) && bytes.Equal(uid, l.uid(l.order[j]))
			}
			if len(uid) == 0 || same(i-1) || same(i+1) {
				l.odd = append(l.odd, at)
			}
		}
		slices.Sort(l.odd)
	}
	h := sha256.New()
	var buf []byte
	for i, size := range l.sizes {
		buf = binary.AppendVarint(buf[:0], size)
		if l.uidl {
			buf = binary.AppendUvarint(buf, uint64(len(l.uid(uint32(i)))))
			buf = append(buf, l.uid(uint32(i))...)
		}
		h.Write(buf)
	}
	sum := h.Sum(nil)
	l.run = fmt.Sprintf("%s-%x", run, sum[:6])
	l.state = source.Cursor(fmt.Sprintf("%d %x%s", len(l.sizes), sum, l.sample()))
}

func (l *listing) uid(at uint32) []byte { return l.ids.get(int(at)) }

// lasting reports whether every message can be known again in the next run.
func (l *listing) lasting() bool {
	return l.uidl && len(l.twins) == len(l.odd)
}

// id is the ID of the message at a position. identify has been called.
func (l *listing) id(at uint32) source.ID {
	if l.uidl {
		if _, odd := slices.BinarySearch(l.odd, at); !odd {
			return idAlone(l.uid(at))
		}
		if id, ok := l.twins[at]; ok {
			return id
		}
	}
	return idOnce(l.run, int(at)+1)
}

// errOther: an ID without identity, of another listing than this.
var errOther = errors.New("the mailbox has changed between two sessions, and the server gives its messages no unique-ids")

// find gives the position of a message. identify has been called.
func (l *listing) find(id source.ID) (at uint32, ok bool, err error) {
	if uid, is := uidOf(id); is {
		at, ok = l.search(uid)
		if ok {
			_, odd := slices.BinarySearch(l.odd, at)
			ok = !odd
		}
		return at, ok, nil
	}
	if at, ok := l.known[id]; ok {
		return at, true, nil
	}
	if rest, is := strings.CutPrefix(string(id), nothing); is {
		run, number, _ := strings.Cut(rest, ":")
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 || n > len(l.sizes) || run != l.run {
			return 0, false, errOther
		}
		return uint32(n - 1), true, nil
	}
	return 0, false, nil
}

// search gives a position that has the unique-id.
func (l *listing) search(uid string) (at uint32, ok bool) {
	i, ok := slices.BinarySearchFunc(l.order, []byte(uid), func(at uint32, uid []byte) int {
		return bytes.Compare(l.uid(at), uid)
	})
	if ok {
		at = l.order[i]
	}
	return at, ok
}

// has reports whether any message has the unique-id.
func (l *listing) has(uid string) bool {
	_, ok := l.search(uid)
	return ok
}

// window is how many small questions may be under way.
func window(c *pop3conn.Conn) int {
	if c.Pipelining() {
		return 32
	}
	return 1
}

// identify looks at the headers of messages that share a unique-id, once in
// a session. Without TOP they have no identity.
func (l *listing) identify(ctx context.Context, c *pop3conn.Conn) error {
	if l.twins != nil || len(l.odd) == 0 {
		return nil
	}
	l.twins, l.known = map[uint32]source.ID{}, map[source.ID]uint32{}
	var ask []int
	for _, at := range l.odd {
		if len(l.uid(at)) > 0 {
			ask = append(ask, int(at)+1)
		}
	}
	b := c.Bodies(ctx)
	defer b.End()
	window := window(c)
	counts := map[source.ID]int{}
	for len(ask) > 0 || b.Open() > 0 {
		if n := min(window-b.Open(), len(ask)); n > 0 {
			if err := b.AskTop(ask[:n]...); err != nil {
				return err
			}
			ask = ask[n:]
		}
		a, err := b.Next()
		if err != nil {
			return err
		}
		if a.Err != nil {
			ask = nil // no TOP, or not for this one: the rest is not worth asking
			continue
		}
		h := sha256.New()
		if _, err := io.Copy(h, a.Body); err != nil {
			return err
		}
		at := uint32(a.Number - 1)
		head := [8]byte(h.Sum(nil)[:8])
		first := idTwin(l.uid(at), l.sizes[at], head, 1)
		counts[first]++
		id := idTwin(l.uid(at), l.sizes[at], head, counts[first])
		l.twins[at], l.known[id] = id, at
	}
	return nil
}

// packed holds many short strings in few large pieces.
type packed struct {
	blocks [][]byte
	at     []uint32 // block and offset; missing: not told
}

const (
	blockSize = 1 << 16
	missing   = ^uint32(0)
)

// put stores the string of message n.
func (p *packed) put(n int, s []byte) error {
	if n > len(p.at)+mostGap {
		return gap("UIDL", n)
	}
	for len(p.at) < n {
		p.at = append(p.at, missing)
	}
	if p.at[n-1] != missing {
		return twice("UIDL", n)
	}
	last := len(p.blocks) - 1
	if last < 0 || len(p.blocks[last])+len(s)+2 > blockSize {
		if last+1 >= 1<<16-1 {
			return errors.New("the unique-ids take more than four gigabytes")
		}
		p.blocks = append(p.blocks, make([]byte, 0, blockSize))
		last++
	}
	b := p.blocks[last]
	p.at[n-1] = uint32(last)<<16 | uint32(len(b))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(s)))
	p.blocks[last] = append(b, s...)
	return nil
}

func (p *packed) get(i int) []byte {
	b := p.blocks[p.at[i]>>16][p.at[i]&0xffff:]
	n := int(binary.LittleEndian.Uint16(b))
	return b[2 : 2+n : 2+n]
}
