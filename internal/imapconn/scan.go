package imapconn

import (
	"bytes"
	"fmt"
	"strings"
)

// A scan reads one response token by token. It holds the rest of the current
// line; where that ends in a literal, it takes the literal and the next line
// from the wire.
//
// It is strict where a mistake could shift what follows (brackets, literals,
// the end of the line) and lenient in all that is skipped.
type scan struct {
	w    *wire
	b    []byte // rest of the line
	size int64  // of all lines and small literals so far
}

func (s *scan) reset(w *wire, line []byte) { s.w, s.b, s.size = w, line, int64(len(line)) }

func (s *scan) wrong(what string) error {
	at := s.b
	if len(at) > 40 {
		at = at[:40]
	}
	return fmt.Errorf("%w: %s at %q", errSyntax, what, at)
}

// next loads the line behind a literal.
func (s *scan) next() error {
	b, err := s.w.line()
	if err != nil {
		return err
	}
	s.b = b
	return s.count(int64(len(b)))
}

func (s *scan) count(n int64) error {
	if s.size += n; s.size > mostAnswer {
		return fmt.Errorf("%w: a response of more than %d bytes", errLimit, mostAnswer)
	}
	return nil
}

func (s *scan) peek() byte {
	if len(s.b) == 0 {
		return 0
	}
	return s.b[0]
}

func (s *scan) take(c byte) bool {
	if len(s.b) > 0 && s.b[0] == c {
		s.b = s.b[1:]
		return true
	}
	return false
}

// spaces skips any number of blanks: some servers send two, or one before a
// bracket.
func (s *scan) spaces() {
	for len(s.b) > 0 && s.b[0] == ' ' {
		s.b = s.b[1:]
	}
}

// word reads up to a blank, a bracket or a quote. Atoms of real servers hold
// characters that the grammar forbids, "]" among them. The section of BODY[...]
// belongs to the word.
func (s *scan) word() []byte {
	for i, c := range s.b {
		switch c {
		case ' ', '(', ')', '"', '{':
			w := s.b[:i]
			s.b = s.b[i:]
			return w
		case '[':
			if bytes.EqualFold(s.b[:i], []byte("BODY")) || bytes.EqualFold(s.b[:i], []byte("BINARY")) {
				return s.section(i)
			}
		}
	}
	w := s.b
	s.b = nil
	return w
}

// section ends a word such as BODY[HEADER.FIELDS (DATE)]<0>.
func (s *scan) section(from int) []byte {
	end := bytes.IndexByte(s.b[from:], ']')
	if end < 0 {
		w := s.b
		s.b = nil
		return w
	}
	end += from + 1
	for end < len(s.b) && s.b[end] != ' ' && s.b[end] != ')' {
		end++
	}
	w := s.b[:end]
	s.b = s.b[end:]
	return w
}

func (s *scan) number() (uint64, error) {
	n, rest := digits(s.b)
	if len(rest) == len(s.b) {
		return 0, s.wrong("no number")
	}
	s.b = rest
	return n, nil
}

// announce reads the announcement of a literal, and leaves the literal to the
// caller, who calls next behind it.
func (s *scan) announce() (int64, error) {
	at, n, ok := announced(s.b)
	if !ok || at != 0 {
		return 0, s.wrong("no literal")
	}
	s.b = nil
	return n, nil
}

// literalAhead reports whether a literal begins here.
func (s *scan) literalAhead() bool {
	return s.peek() == '{' || s.peek() == '~' && len(s.b) > 1 && s.b[1] == '{'
}

// text reads a quoted string, a literal, NIL or an atom. The result is valid
// until the next read.
func (s *scan) text() (b []byte, isNil bool, err error) {
	switch {
	case s.peek() == '"':
		b, err = s.quoted()
		return b, false, err
	case s.literalAhead():
		n, err := s.announce()
		if err != nil {
			return nil, false, err
		}
		if b, err = s.w.literal(n); err != nil {
			return nil, false, err
		}
		if err = s.count(n); err != nil {
			return nil, false, err
		}
		return b, false, s.next()
	}
	if b = s.word(); len(b) == 0 {
		return nil, false, s.wrong("no string")
	}
	return b, isNIL(b), nil
}

func isNIL(b []byte) bool {
	return len(b) == 3 && b[0]|32 == 'n' && b[1]|32 == 'i' && b[2]|32 == 'l'
}

func (s *scan) quoted() ([]byte, error) {
	for i := 1; i < len(s.b); i++ {
		switch s.b[i] {
		case '"':
			q := s.b[1:i]
			s.b = s.b[i+1:]
			return q, nil
		case '\\':
			return s.quotedEscaped(i)
		}
	}
	return nil, s.wrong("no closing quote")
}

func (s *scan) quotedEscaped(from int) ([]byte, error) {
	q := append([]byte(nil), s.b[1:from]...)
	for i := from; i < len(s.b); i++ {
		switch c := s.b[i]; {
		case c == '"':
			s.b = s.b[i+1:]
			return q, nil
		case c == '\\' && i+1 < len(s.b):
			i++
			q = append(q, s.b[i])
		default:
			q = append(q, c)
		}
	}
	return nil, s.wrong("no closing quote")
}

// skip passes one value of any shape. It keeps count of brackets instead of
// calling itself: a server could nest them deeper than a stack.
func (s *scan) skip() error {
	depth := 0
	for {
		s.spaces()
		switch c := s.peek(); {
		case c == '(':
			s.b = s.b[1:]
			if depth++; depth > mostNested {
				return fmt.Errorf("%w: brackets nested deeper than %d", errLimit, mostNested)
			}
			continue
		case c == ')':
			if depth--; depth < 0 {
				return s.wrong("no value")
			}
			s.b = s.b[1:]
		case c == 0 && len(s.b) == 0:
			return s.wrong("unexpected end of line")
		default:
			if _, _, err := s.text(); err != nil {
				return err
			}
		}
		if depth == 0 {
			return nil
		}
	}
}

// list calls f for each value of a list, or for none where there is NIL.
func (s *scan) list(f func() error) error {
	if !s.take('(') {
		if w := s.word(); isNIL(w) {
			return nil
		}
		return s.wrong("no list")
	}
	for {
		s.spaces()
		if s.take(')') {
			return nil
		}
		if len(s.b) == 0 {
			return s.wrong("list without end")
		}
		before, size := len(s.b), s.size
		if err := f(); err != nil {
			return err
		}
		if len(s.b) == before && s.size == size {
			return s.wrong("no value")
		}
	}
}

// end checks that the line ends here.
func (s *scan) end() error {
	s.spaces()
	if len(s.b) > 0 {
		return s.wrong("something behind the end")
	}
	return nil
}

// fold is b in upper case as a string, for short words.
func fold(b []byte) string { return strings.ToUpper(string(b)) }
