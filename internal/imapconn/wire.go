package imapconn

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math"

	"mailhaul/internal/netconn"
)

// Limits of what is not a message. A hostile server could otherwise fill the
// memory with one line, or the stack with one bracket after the other.
const (
	mostLine    = 1 << 20
	mostLiteral = 1 << 20
	mostNested  = 64
	mostAnswer  = 16 << 20 // lines and small literals of one response together
)

// A wire reads lines and literals from the connection.
type wire struct {
	nc   *netconn.Conn
	br   *bufio.Reader
	long []byte // a line that did not fit into br
	most int    // what a line may have, where that is more than mostLine
}

func newWire(nc *netconn.Conn) *wire {
	return &wire{nc: nc, br: bufio.NewReaderSize(nc, 128<<10)}
}

// first reads the first line of a response. The server may take its time for
// it; within a response it may not.
func (w *wire) first() ([]byte, error) {
	if w.br.Buffered() == 0 {
		w.nc.Await(0)
	}
	b, err := w.line()
	if err == io.ErrUnexpectedEOF && len(b) == 0 {
		err = io.EOF
	}
	return b, err
}

// line reads one line and returns it without its end, valid until the next
// read. A line that the connection's end cuts short is an error, and comes
// with what there was of it.
func (w *wire) line() ([]byte, error) {
	b, err := w.br.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		b, err = w.longLine(b)
	}
	if err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return b, err
	}
	// A lone LF is taken for a line end, as other clients do.
	b = b[:len(b)-1]
	if n := len(b); n > 0 && b[n-1] == '\r' {
		b = b[:n-1]
	}
	return b, nil
}

func (w *wire) longLine(start []byte) ([]byte, error) {
	w.long = append(w.long[:0], start...)
	for {
		b, err := w.br.ReadSlice('\n')
		if most := max(mostLine, w.most); len(w.long)+len(b) > most {
			return nil, fmt.Errorf("%w: a line of more than %d bytes", errLimit, most)
		}
		w.long = append(w.long, b...)
		if err != bufio.ErrBufferFull {
			return w.long, err
		}
	}
}

// literal reads n bytes into memory.
func (w *wire) literal(n int64) ([]byte, error) {
	if n > mostLiteral {
		return nil, fmt.Errorf("%w: a literal of %d bytes that is no message", errLimit, n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(w.br, b); err != nil {
		return nil, cut(err)
	}
	return b, nil
}

// cut is err, where the end of the connection is no proper end.
func cut(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// announced looks for "{n}" at the end of a line (RFC 3501, section 4.3; with
// "+" RFC 7888, with "~" before it RFC 3516) and gives where it begins.
func announced(line []byte) (at int, n int64, ok bool) {
	if len(line) < 3 || line[len(line)-1] != '}' {
		return 0, 0, false
	}
	at = bytes.LastIndexByte(line, '{')
	if at < 0 {
		return 0, 0, false
	}
	n, ok = literalSize(line[at:])
	if ok && at > 0 && line[at-1] == '~' {
		at--
	}
	return at, n, ok
}

// literalSize reads "{n}" or "{n+}".
func literalSize(b []byte) (int64, bool) {
	b = bytes.TrimSuffix(b[1:len(b)-1], []byte("+"))
	n, rest := digits(b)
	return int64(n), len(b) > 0 && len(rest) == 0 && n <= math.MaxInt64
}

// digits reads a number at the start of b. One that does not fit is no number:
// rest is then all of b.
func digits(b []byte) (n uint64, rest []byte) {
	i := 0
	for ; i < len(b) && b[i]-'0' <= 9; i++ {
		if n > (math.MaxUint64-9)/10 {
			return 0, b
		}
		n = n*10 + uint64(b[i]-'0')
	}
	return n, b[i:]
}
