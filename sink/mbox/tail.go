package mbox

import "mailhaul/internal/durable"

// A tail is the end of a file that grows, the last of it in memory.
type tail struct {
	f   *durable.File
	at  int64 // length of the file
	buf []byte
	err error // the first that writing gave; it stays
}

const tailSize = 256 << 10

// lend gives memory for a tail. There is as much as batches are open at once.
func (s *Sink) lend() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.idle)
	if n == 0 {
		return make([]byte, 0, tailSize)
	}
	b := s.idle[n-1]
	s.idle = s.idle[:n-1]
	return b[:0]
}

// takeBack takes the memory of a tail back between batches.
func (s *Sink) takeBack(t *tail) {
	if t.buf != nil {
		s.mu.Lock()
		s.idle = append(s.idle, t.buf)
		s.mu.Unlock()
	}
	*t = tail{}
}

// end is the offset of the next byte.
func (t *tail) end() int64 { return t.at + int64(len(t.buf)) }

func (t *tail) Write(p []byte) (int, error) {
	if len(t.buf)+len(p) <= cap(t.buf) {
		t.buf = append(t.buf, p...)
		return len(p), t.err
	}
	if t.flush(); t.err != nil {
		return 0, t.err
	}
	t.f.Start() // the disk has something to do before the batch's Sync waits for it
	if len(p) < cap(t.buf) {
		t.buf = append(t.buf, p...)
		return len(p), nil
	}
	var n int
	n, t.err = t.f.Write(p)
	t.at += int64(n)
	return n, t.err
}

func (t *tail) flush() error {
	if t.err == nil && len(t.buf) > 0 {
		var n int
		n, t.err = t.f.Write(t.buf)
		t.at += int64(n)
		t.buf = t.buf[:0]
	}
	return t.err
}

// cut takes back what was written behind an offset.
func (t *tail) cut(end int64) {
	if end >= t.at {
		t.buf = t.buf[:end-t.at]
		return
	}
	t.buf = t.buf[:0]
	if t.err = t.f.Truncate(end); t.err == nil {
		t.at = end
	}
}
