package mail

import (
	"bytes"
	"crypto/sha256"
	"hash"
	"io"
)

// A Summary is what is known of a message once it was read to its end.
type Summary struct {
	Hints
	Digest Digest
	Size   int64 // bytes as they came
	Text   int64 // size of the text form
	Lines  int64 // lines of the text form: Text+Lines is the size with CRLF
	Kept   bool  // line ends change so often that the text form is what came
}

// Summarize reads a message as it comes from its store and tells of its text
// form what a stored copy would tell. Of the message only its header is kept.
func Summarize(r io.Reader) (Summary, error) {
	s := summing{text: newPart(), raw: newPart()}
	if _, err := io.Copy(&s, r); err != nil {
		return Summary{}, err
	}
	form := s.text
	if s.mixed {
		form = s.raw
		form.finish()
	} else {
		rest, _ := s.fold.Close(nil)
		form.add(rest)
	}
	sum := Summary{Hints: Describe(form.head), Size: s.size, Text: form.size, Lines: form.lines, Kept: s.mixed}
	form.sum.Sum(sum.Digest[:0])
	return sum, nil
}

// summing takes the digests of a message in both of the forms that it may turn
// out to have: as text, and as received, where line ends change too often.
type summing struct {
	fold      Folder
	text, raw part
	mixed     bool
	size      int64
	out       []byte
}

func (s *summing) Write(p []byte) (int, error) {
	s.size += int64(len(p))
	s.raw.add(p)
	if s.mixed {
		return len(p), nil
	}
	text, _, err := s.fold.Append(s.out[:0], p)
	s.out = text
	s.text.add(text)
	s.mixed = err != nil // ErrTooMixed
	return len(p), nil
}

// A part is one form of a message.
type part struct {
	sum         hash.Hash
	head        []byte
	size, lines int64
	last        byte
}

func newPart() part { return part{sum: sha256.New()} }

func (p *part) add(b []byte) {
	if len(b) == 0 {
		return
	}
	p.sum.Write(b)
	p.head = append(p.head, b[:min(len(b), MostHeader-len(p.head))]...)
	p.size += int64(len(b))
	p.lines += int64(bytes.Count(b, []byte{'\n'}))
	p.last = b[len(b)-1]
}

// finish closes the last line, as is done to what is kept as received.
func (p *part) finish() {
	if len(p.head) > 0 && p.last != '\n' {
		p.add([]byte{'\n'})
	}
}
