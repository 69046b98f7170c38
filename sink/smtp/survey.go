package smtp

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"mailhaul/internal/mail"
	"mailhaul/internal/smtpconn"
	"mailhaul/sink"
)

// A survey is what a message needs of a server (RELIABILITY, row C5).
type survey struct {
	size     int64  // on the wire
	eight    bool   // there are octets beyond 127
	utf8     bool   // an address in the header is not ASCII (RFC 6531)
	binary   string // why it cannot go by DATA, in words; empty: it can
	received int    // Received lines: how often it was passed on
	ends     mail.Ends
}

// mostLine is the longest line that SMTP takes, without its end (RFC 5321,
// section 4.5.3.1.6).
const mostLine = 998

// mostReceived is when a message goes in circles (RFC 5321, section 6.3).
const mostReceived = 50

// look reads a message once, and makes sure that it is the one that is meant.
func look(m *sink.Message) (*survey, error) {
	s := &survey{}
	body, err := m.Open()
	if err != nil {
		return nil, err
	}
	defer body.Close()
	sum := sha256.New()
	var head []byte
	var nul, cr bool
	line, longest := 0, 0
	buf := make([]byte, 32<<10)
	for {
		n, err := body.Read(buf)
		p := buf[:n]
		sum.Write(p)
		if len(head) < mail.MostHeader {
			head = append(head, p[:min(n, mail.MostHeader-len(head))]...)
		}
		for _, b := range p {
			line++
			switch {
			case b == '\n':
				longest, line = max(longest, line-1), 0
			case b == 0:
				nul = true
			case b == '\r':
				cr = true
			case b >= 0x80:
				s.eight = true
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	if mail.Digest(sum.Sum(nil)) != m.Digest {
		return nil, errOther
	}
	longest = max(longest, line)
	switch {
	case nul:
		s.binary = "it holds NUL octets"
	case cr:
		s.binary = "it holds a CR that ends no line"
	case m.Ends.Kind == mail.EndsMixed || m.Ends.Kind == mail.EndsKept:
		s.binary = "some of its lines end in LF alone"
	case longest > mostLine:
		s.binary = fmt.Sprintf("it has a line of %d octets, and %d are allowed", longest, mostLine)
	}
	s.header(mail.Header(head))
	return s, s.measure(m)
}

var errOther = errors.New("the copy to be sent is not what was read")

// measure settles the line ends and counts what they make of the message.
// Lines that lay in a file, ending in LF, end in CRLF on the wire: that is the
// canonical form of the same message.
func (s *survey) measure(m *sink.Message) error {
	s.ends = m.Ends
	if s.ends.Kind == mail.EndsLF {
		s.ends.Kind = mail.EndsCRLF
	}
	if s.binary == "" {
		s.ends = mail.Ends{Kind: mail.EndsCRLF}
		s.size = m.Text + m.Lines
		return nil
	}
	var c counter
	err := s.write(&c, m)
	s.size = int64(c)
	return err
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// write writes the message as it goes over the wire. It fails when it is not
// the one that was looked at.
func (s *survey) write(w io.Writer, m *sink.Message) error {
	body, err := m.Open()
	if err != nil {
		return err
	}
	defer body.Close()
	sum := sha256.New()
	out := s.ends.Restore(w)
	if _, err := io.Copy(out, &summed{body, sum}); err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	if mail.Digest(sum.Sum(nil)) != m.Digest {
		return errOther
	}
	return nil
}

// summed takes the digest of what is read.
type summed struct {
	r   io.Reader
	sum hash.Hash
}

func (s *summed) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.sum.Write(p[:n])
	return n, err
}

// header looks for addresses that are not ASCII and counts Received lines.
func (s *survey) header(head []byte) {
	address := false // within a field that holds addresses
	for line := range bytes.SplitSeq(head, []byte("\n")) {
		if len(line) > 0 && line[0] != ' ' && line[0] != '\t' {
			name, _, _ := bytes.Cut(line, []byte(":"))
			name = bytes.ToLower(bytes.TrimSpace(name))
			if bytes.Equal(name, []byte("received")) {
				s.received++
			}
			address = addressed[string(name)]
		}
		s.utf8 = s.utf8 || address && foreign(line)
	}
}

// addressed are the fields that hold addresses.
var addressed = map[string]bool{
	"from": true, "sender": true, "reply-to": true, "to": true, "cc": true, "bcc": true, "return-path": true,
	"resent-from": true, "resent-sender": true, "resent-to": true, "resent-cc": true, "resent-bcc": true,
}

// foreign reports whether an address in line is not ASCII. A name beside it
// may be: servers pass on what they would not send.
func foreign(line []byte) bool {
	if smtpconn.ASCII(string(line)) {
		return false
	}
	for word := range bytes.FieldsFuncSeq(line, func(r rune) bool { return bytes.ContainsRune([]byte(" \t<>(),;:\""), r) }) {
		if bytes.IndexByte(word, '@') >= 0 && !smtpconn.ASCII(string(word)) {
			return true
		}
	}
	return false
}

// envelope is how the message can go over c, or why it cannot.
func (s *survey) envelope(c *smtpconn.Conn, from string, to []string) (*smtpconn.Envelope, error) {
	e := &smtpconn.Envelope{From: from, To: to, Size: s.size, Eight: s.eight, UTF8: s.utf8, Chunk: s.binary != ""}
	for _, a := range append([]string{from}, to...) {
		if !smtpconn.ASCII(a) {
			e.UTF8 = true
		}
	}
	switch limit := c.Size(); {
	case s.received > mostReceived:
		return nil, fmt.Errorf("it was passed on %d times already (Received), which looks like a loop; it is left out", s.received)
	case limit > 0 && s.size > limit:
		return nil, fmt.Errorf("it has %d octets, and the server takes %d; deliver it to a server that takes more", s.size, limit)
	case e.Chunk && !(c.Has("CHUNKING") && c.Has("BINARYMIME")):
		return nil, fmt.Errorf("%s, which this server cannot take unchanged (it offers no BINARYMIME with CHUNKING); deliver it to one that can, or copy it by another way", s.binary)
	case s.eight && !e.Chunk && !c.Has("8BITMIME"):
		return nil, errors.New("it holds 8-bit text, which this server cannot take unchanged (it offers no 8BITMIME); deliver it to one that can")
	case e.UTF8 && !c.Has("SMTPUTF8"):
		return nil, errors.New("an address in it is not ASCII, which this server cannot take (it offers no SMTPUTF8); deliver it to one that can")
	}
	return e, nil
}
