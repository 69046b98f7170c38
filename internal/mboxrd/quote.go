package mboxrd

import (
	"bytes"
	"io"
)

var (
	from  = []byte("From ")
	marks = []byte(">From ")
)

// A quoter writes text with one ">" more in front of each ">*From " at the
// start of a line. Among several ">" it does not matter which is the new one,
// so it goes right before the "F": however many there are, at most four bytes
// wait for what follows.
type quoter struct {
	w       io.Writer
	start   bool // the line has had nothing but ">" so far
	match   int  // bytes of from seen behind them
	carried int  // of these, bytes that came in earlier pieces and are not written
}

func (q *quoter) reset() { q.start, q.match, q.carried = true, 0, 0 }

func (q *quoter) write(p []byte) error {
	done := 0 // p[:done] is written
	for i := 0; i < len(p); {
		if !q.start {
			k := bytes.IndexByte(p[i:], '\n')
			if k < 0 {
				break
			}
			i += k + 1
			q.start = true
			continue
		}
		c := p[i]
		switch {
		case c == from[q.match]:
			i++
			if q.match++; q.match < len(from) {
				continue
			}
			if _, err := q.w.Write(p[done:max(i-len(from), 0)]); err != nil {
				return err
			}
			if _, err := q.w.Write(marks); err != nil {
				return err
			}
			done = i
			q.start, q.match, q.carried = false, 0, 0
		case c == '>' && q.match == 0:
			i++
		default:
			if err := q.flush(); err != nil {
				return err
			}
			q.start = false // c itself may end the line: it is looked at again
		}
	}
	// What may become "From " waits; the bytes of earlier pieces do already.
	here := q.match - q.carried
	q.carried = q.match
	if done == len(p)-here {
		return nil
	}
	_, err := q.w.Write(p[done : len(p)-here])
	return err
}

// flush writes what was carried: it did not become "From ".
func (q *quoter) flush() error {
	n := q.carried
	q.match, q.carried = 0, 0
	if n == 0 {
		return nil
	}
	_, err := q.w.Write(from[:n])
	return err
}

// An unquoter reads quoted text and undoes the quoting. A last line without an
// end, as other programs may leave it, gets one.
type unquoter struct {
	r     io.Reader
	inner bool    // inside of a line: what comes next is not its start
	carry [6]byte // undecided: a ">" and what may become "From "
	held  int     // bytes of it
	open  bool    // the last byte given out was no LF
	eof   bool
	few   []byte // for callers who want a few bytes only
	small [64]byte
}

func (u *unquoter) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(p) > len(u.carry) && len(u.few) == 0 {
		return u.read(p)
	}
	if len(u.few) == 0 {
		n, err := u.read(u.small[:])
		if u.few = u.small[:n]; n == 0 {
			return 0, err
		}
	}
	n := copy(p, u.few)
	u.few = u.few[n:]
	return n, nil
}

func (u *unquoter) read(p []byte) (int, error) {
	for !u.eof {
		h := copy(p, u.carry[:u.held])
		n, err := u.r.Read(p[h:])
		if err != nil && err != io.EOF {
			return 0, err
		}
		u.eof = err == io.EOF
		if n = u.filter(p[:h+n]); n > 0 {
			u.open = p[n-1] != '\n'
			return n, nil
		}
	}
	if u.open {
		u.open = false
		p[0] = '\n'
		return 1, nil
	}
	return 0, io.EOF
}

// filter takes the quoting out of p, in place, and returns how long the result
// is. An undecided end is carried over to the next piece, if there is one.
func (u *unquoter) filter(p []byte) int {
	u.held = 0
	out, done := 0, 0 // p[:done] has become p[:out]
	i := 0
	for i < len(p) {
		if u.inner {
			k := bytes.IndexByte(p[i:], '\n')
			if k < 0 {
				break
			}
			i += k + 1
			u.inner = false
			continue
		}
		if p[i] != '>' {
			u.inner = true // p[i] itself may end the line: it is looked at again
			continue
		}
		rest := p[i+1:]
		switch {
		case len(rest) > 0 && rest[0] == '>':
			i++
		case bytes.HasPrefix(rest, from):
			out += move(p, out, done, i)
			done = i + 1
			i = done + len(from)
			u.inner = true
		case !u.eof && len(rest) < len(from) && bytes.HasPrefix(from, rest):
			u.held = copy(u.carry[:], p[i:])
			return out + move(p, out, done, i)
		default:
			i++
			u.inner = true
		}
	}
	return out + move(p, out, done, len(p))
}

// move moves p[a:b] to p[to:] and returns its length.
func move(p []byte, to, a, b int) int {
	if to == a {
		return b - a
	}
	return copy(p[to:], p[a:b])
}
