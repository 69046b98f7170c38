package pop3conn

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"time"
)

// mostLine is the longest line of a status or a listing: RFC 2449, section 4,
// allows 512 bytes, but unique-ids have been seen that are longer.
const mostLine = 4 << 10

// line reads one line of a status or a listing and returns it without its
// end, valid until the next read. A line that ends in LF alone comes from a
// server whose messages have no safe end either: only CRLF.CRLF ends one.
func (c *Conn) line() ([]byte, error) {
	b, err := c.br.ReadSlice('\n')
	switch {
	case err == bufio.ErrBufferFull || len(b) > mostLine:
		return nil, fmt.Errorf("%w: a line of more than %d bytes", errLimit, mostLine)
	case err != nil:
		return nil, cut(err)
	}
	b, ok := bytes.CutSuffix(b, []byte("\r\n"))
	if !ok {
		return nil, fmt.Errorf("%w: a line ends in LF alone, where CRLF belongs: %.60q", ErrSyntax, b)
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

// await gives the server more time for its next answer than it usually has.
// Zero is the usual.
func (c *Conn) await(d time.Duration) {
	if c.br.Buffered() == 0 {
		c.nc.Await(d)
	}
}

// status reads a status line.
func (c *Conn) status() (Status, error) {
	line, err := c.line()
	if err != nil {
		return Status{}, err
	}
	s, ok := parseStatus(string(line))
	if !ok {
		return s, fmt.Errorf("%w: %.60q instead of +OK or -ERR", ErrSyntax, line)
	}
	return s, nil
}

// lines reads the lines of a listing up to its end and gives each to f, valid
// until f returns.
func (c *Conn) lines(most int64, f func(line []byte) error) error {
	for n := int64(0); ; n++ {
		line, err := c.line()
		if err != nil {
			return err
		}
		if len(line) > 0 && line[0] == '.' {
			if line = line[1:]; len(line) == 0 {
				return nil
			}
		}
		if n == most {
			return fmt.Errorf("%w: more than %d lines where so many belong", ErrCounts, most)
		}
		if err := f(line); err != nil {
			return err
		}
	}
}
