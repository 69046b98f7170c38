package mail

import (
	"bytes"
	"crypto/sha256"
	"io"
	"strings"
)

// MostHeader is how much of a message is looked at for its header.
const MostHeader = 1 << 20

// Header is the header within the beginning of a text form: up to the first
// empty line, or all of it.
func Header(text []byte) []byte {
	text = text[:min(len(text), MostHeader)]
	if len(text) > 0 && text[0] == '\n' {
		return nil
	}
	if i := bytes.Index(text, []byte("\n\n")); i >= 0 {
		return text[:i+1]
	}
	return text
}

// ReadHeader reads as much of a text form as its header takes, and a little more
// perhaps: Header and Describe find its end.
func ReadHeader(text io.Reader) (head []byte, err error) {
	for len(head) < MostHeader {
		was := len(head)
		head = append(head, make([]byte, 4<<10)...)
		n, err := text.Read(head[was:])
		head = head[:was+n]
		if err == io.EOF || bytes.HasPrefix(head, []byte{'\n'}) || bytes.Contains(head[max(was-1, 0):], []byte("\n\n")) {
			return head, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return head, nil
}

// Hints are what a header tells of its message. They find candidates and fill
// the separator line of an mbox; they never decide.
type Hints struct {
	Head      Digest // of the header's text form
	MessageID string // as it stands there, without blanks around it; empty when there is none
	Sender    string // of the envelope, or else the author; empty when unknown
}

// Describe takes the hints from the beginning of a text form.
func Describe(text []byte) (h Hints) {
	head := Header(text)
	h.Head = sha256.Sum256(head)
	var from string
	for len(head) > 0 {
		line := head
		if i := bytes.IndexByte(head, '\n'); i >= 0 {
			line, head = head[:i], head[i+1:]
		} else {
			head = nil
		}
		switch {
		case h.MessageID == "" && field(line, "message-id:"):
			v := line[len("message-id:"):]
			if len(bytes.TrimSpace(v)) == 0 && len(head) > 0 && (head[0] == ' ' || head[0] == '\t') {
				v, _, _ = bytes.Cut(head, []byte{'\n'}) // folded before its value
			}
			h.MessageID = string(bytes.TrimSpace(v[:min(len(v), 998)]))
		case h.Sender == "" && field(line, "return-path:"):
			h.Sender = address(line[len("return-path:"):])
		case from == "" && field(line, "from:"):
			from = address(line[len("from:"):])
		}
	}
	if h.Sender == "" {
		h.Sender = from
	}
	return h
}

func field(line []byte, name string) bool {
	return len(line) >= len(name) && line[0]|0x20 == name[0] && strings.EqualFold(string(line[:len(name)]), name)
}

// address is what stands between < and >, or the only word.
func address(v []byte) string {
	s := string(v[:min(len(v), 998)])
	if i := strings.LastIndexByte(s, '<'); i >= 0 {
		s = s[i+1:]
		s, _, _ = strings.Cut(s, ">")
	}
	s = strings.TrimSpace(s)
	if strings.ContainsAny(s, " \t") {
		return ""
	}
	return s
}
