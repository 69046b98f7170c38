package imapconn

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"mailhaul/internal/netconn"
)

// mostBefore is how many lines a server may say before TLS.
const mostBefore = 100

// startTLS brings a plain connection to the point where TLS begins (RFC 3501,
// section 6.2.1). It is strict, for everything here can be forged by whoever
// sits on the line: a greeting that lets us in is refused, no answer but OK is
// taken, and bytes that came behind it end the connection: they would be read
// as if they had come protected.
func startTLS(ctx context.Context, nc *netconn.Conn, greeting time.Duration) error {
	stop := nc.Follow(ctx)
	defer stop()
	if greeting == 0 {
		greeting = 60 * time.Second
	}
	br := bufio.NewReader(nc)
	nc.Await(greeting)
	line, err := plainLine(br)
	if err != nil {
		return fmt.Errorf("no greeting: %w", busy(err))
	}
	s, ok := parseStatus(bytes.TrimPrefix(line, []byte("* ")))
	switch {
	case !ok || !bytes.HasPrefix(line, []byte("* ")):
		return fmt.Errorf("%w: this does not greet like an IMAP server: %.60q", errSyntax, line)
	case s.Type == "BYE":
		return busy(&s)
	case s.Type != "OK":
		return fmt.Errorf("%w: the server greets with %s, so that TLS cannot follow", ErrSecurity, s.Type)
	}
	nc.Await(0)
	const tag = "S1"
	g := guard{w: nc, begun: func(string, string) {}}
	if _, err := io.WriteString(&g, tag+" STARTTLS\r\n"); err != nil {
		return err
	}
	for range mostBefore {
		if line, err = plainLine(br); err != nil {
			return err
		}
		if !strings.HasPrefix(string(line), tag+" ") {
			continue // forged or not, it counts for nothing
		}
		s, ok := parseStatus(line[len(tag)+1:])
		switch {
		case !ok || s.Type != "OK":
			return netconn.Advise(fmt.Errorf("%w: the server does not offer STARTTLS (%w)", ErrSecurity, &s), "try imaps://")
		case br.Buffered() > 0:
			return fmt.Errorf("%w: there are bytes on the line that do not belong there: somebody may be listening", ErrSecurity)
		}
		return nil
	}
	return fmt.Errorf("%w: no answer to STARTTLS within %d lines", errLimit, mostBefore)
}

func plainLine(br *bufio.Reader) ([]byte, error) {
	b, err := br.ReadSlice('\n')
	switch {
	case err == bufio.ErrBufferFull:
		return nil, fmt.Errorf("%w: a line of more than %d bytes", errLimit, len(b))
	case err != nil:
		return nil, cut(err)
	}
	return bytes.TrimRight(b, "\r\n"), nil
}
