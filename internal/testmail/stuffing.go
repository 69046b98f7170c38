package testmail

import (
	"bytes"
	"io"
)

// Stuffing is how a POP3 server hides dots that begin a line of a message.
type Stuffing int

const (
	AfterCRLF Stuffing = iota // as RFC 1939 says: lines end in CRLF
	AfterLF                   // also where a line ends in a bare LF
	ButFirst                  // not at the very beginning of a message; so does Dovecot 2.3
	Nowhere                   // not at all
)

// stuffer writes a message to a client. Close writes the CRLF that an open
// last line lacks, for the line with the final dot must be a line of its own.
type stuffer struct {
	w    io.Writer
	how  Stuffing
	end  tail
	some bool // something was written
}

func (s *stuffer) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if p[0] == '.' && s.begins() {
			if _, err := io.WriteString(s.w, "."); err != nil {
				return 0, err
			}
		}
		line := p
		if i := bytes.IndexByte(p, '\n'); i >= 0 {
			line = p[:i+1]
		}
		if _, err := s.w.Write(line); err != nil {
			return 0, err
		}
		s.end.Write(line)
		s.some = true
		p = p[len(line):]
	}
	return n, nil
}

// begins tells whether a line begins here.
func (s *stuffer) begins() bool {
	switch s.how {
	case Nowhere:
		return false
	case AfterLF:
		return !s.some || s.end[1] == '\n'
	case ButFirst:
		return s.some && s.end.crlf()
	}
	return !s.some || s.end.crlf()
}

func (s *stuffer) Close() error {
	if !s.some || s.end.crlf() {
		return nil
	}
	_, err := io.WriteString(s.w, "\r\n")
	return err
}

// tail remembers the last two bytes written to it.
type tail [2]byte

func (t *tail) Write(p []byte) (int, error) {
	switch n := len(p); n {
	case 0:
	case 1:
		t[0], t[1] = t[1], p[0]
	default:
		t[0], t[1] = p[n-2], p[n-1]
	}
	return len(p), nil
}

func (t tail) crlf() bool { return t == tail{'\r', '\n'} }
