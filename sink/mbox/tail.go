package mbox

import (
	"sync"

	"mailhaul/internal/durable"
)

// A tail is the end of a file that grows, the last of it in memory.
type tail struct {
	f   *durable.File
	at  int64 // length of the file
	buf []byte
	err error // the first that writing gave; it stays
}

const tailSize = 256 << 10

var tailBuffers = sync.Pool{New: func() any { b := make([]byte, 0, tailSize); return &b }}

func (t *tail) begin(f *durable.File, size int64) {
	buf := t.buf
	if buf == nil {
		buf = *tailBuffers.Get().(*[]byte)
	}
	*t = tail{f: f, at: size, buf: buf[:0]}
}

// release gives the memory back between batches.
func (t *tail) release() {
	if t.buf != nil {
		buf := t.buf[:0]
		tailBuffers.Put(&buf)
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
