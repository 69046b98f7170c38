package smtpconn

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"

	"mailhaul/internal/mail"
)

// A Reply is what a server says to a command: a code and lines of text.
type Reply struct {
	Code  int
	Lines []string // as sent: pass them through mail.Clean before showing them
}

// String is the reply in one line, fit to be shown.
func (r *Reply) String() string {
	return mail.Clean(strings.TrimSpace(fmt.Sprintf("%d %s", r.Code, strings.Join(r.Lines, " "))))
}

func (r *Reply) Error() string { return r.String() }

// Good reports whether the command was done.
func (r *Reply) Good() bool { return r.Code/100 == 2 }

// Temporary reports whether the same command may succeed later.
func (r *Reply) Temporary() bool { return r.Code/100 == 4 }

// Bounds of a reply: RFC 5321, section 4.5.3.1.5, allows 512 octets a line.
const (
	mostLine  = 2000
	mostLines = 200
)

// How long a server may think (RFC 5321, section 4.5.3.2).
const (
	patience      = 5 * time.Minute
	patienceFinal = 10 * time.Minute // a reply that is given up makes a duplicate
)

// reply reads one reply. What is not a whole one is none.
func (c *Conn) reply(patience time.Duration) (*Reply, error) {
	if c.fault != nil {
		return nil, c.fault
	}
	if c.br.Buffered() == 0 {
		c.nc.Await(patience)
	}
	r := &Reply{}
	for n := 0; n < mostLines; n++ {
		line, err := c.line()
		if err != nil {
			return nil, c.fail(err)
		}
		code, more, ok := parseCode(line)
		if !ok || n > 0 && code != r.Code {
			return nil, c.fail(fmt.Errorf("%w: %.60q", ErrSyntax, line))
		}
		r.Code = code
		r.Lines = append(r.Lines, line[min(4, len(line)):])
		if !more {
			return r, nil
		}
	}
	return nil, c.fail(fmt.Errorf("%w: more than %d lines", errLimit, mostLines))
}

func (c *Conn) line() (string, error) {
	b, err := c.br.ReadSlice('\n')
	switch {
	case err == bufio.ErrBufferFull || len(b) > mostLine:
		return "", fmt.Errorf("%w: a line of more than %d octets", errLimit, mostLine)
	case err == io.EOF:
		return "", io.ErrUnexpectedEOF
	case err != nil:
		return "", err
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}

// parseCode reads the code that begins a line, and whether more lines follow.
func parseCode(line string) (code int, more, ok bool) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' {
		return 0, false, false
	}
	for _, d := range []byte(line[:3]) {
		if d < '0' || d > '9' {
			return 0, false, false
		}
		code = code*10 + int(d-'0')
	}
	if len(line) == 3 {
		return code, false, true
	}
	return code, line[3] == '-', line[3] == '-' || line[3] == ' '
}
