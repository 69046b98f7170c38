package mbox

import (
	"bufio"
	"bytes"
	"io"
	"strconv"
	"time"

	"mailhaul/internal/mboxrd"
)

// A quoting is what becomes of a ">" in front of "From " at the start of a
// line.
type quoting int

const (
	keep    quoting = iota // it is the message's own
	undoOne                // mboxo: that of ">From " was put there
	undoAll                // mboxrd: one of ">From ", ">>From " and so on was
)

// rules say how a file is to be read.
type rules struct {
	strict bool // a separator has a date in a form that is known
	quote  quoting
	fits   func(int64) bool // a message may end there; nil: Content-Length means nothing
}

// sights are what a scanner has come by.
type sights struct {
	marks    int64 // lines with ">" before "From "
	unquoted int64 // lines "From " within messages
	odd      int64 // separators without a date in a known form
	passed   int64 // what may have been a separator and was left in a message
	expunged int64 // messages that Thunderbird has marked as deleted
}

// A message is a record of the file: its separator, its text, its empty line.
type message struct {
	begin     int64 // of the separator
	text, end int64 // of the text, as it lies in the file
	next      int64 // behind the empty line
	stray     bool  // no separator: the file begins like that
	claim     int64 // where it ends going by Content-Length; 0: nowhere

	sender string
	date   time.Time
	fields [len(wanted)]string
}

// The header fields that say something about the message rather than in it.
const (
	contentLength = iota
	gmailLabels
	status
	xStatus
	xKeywords
	mozillaStatus
	mozillaKeys
)

var wanted = [...]string{"content-length:", "x-gmail-labels:", "status:", "x-status:", "x-keywords:", "x-mozilla-status:", "x-mozilla-keys:"}

const (
	bufferSize = 256 << 10
	mostLine   = 1024     // of a separator
	mostAhead  = 128      // of the line behind it
	mostHeader = 1 << 20  // in which fields are looked for
	mostField  = 64 << 10 // of one field
	mostMarks  = 4096     // ">" looked at together
)

var from = []byte("From ")

// A scanner takes a file apart, in order, holding no more of it than its
// buffer. Every byte is part of a separator, of a text, of the empty line that
// ends a record, or of empty lines at the start.
type scanner struct {
	rules
	sights
	r     *bufio.Reader
	at    int64 // of what r gives next
	err   error // of reading, but for the end
	began bool

	inner bool // the line has begun
	run   int  // ">" that it has begun with and that were given out
}

func newScanner(r io.Reader, rules rules) *scanner {
	return &scanner{rules: rules, r: bufio.NewReaderSize(r, bufferSize)}
}

// reset makes the scanner read text that lies at an offset.
func (s *scanner) reset(r io.Reader, at int64) {
	s.r.Reset(r)
	s.at, s.err, s.began, s.inner, s.run = at, nil, true, false, 0
}

// peek looks n bytes ahead; there are fewer only at the end.
func (s *scanner) peek(n int) []byte {
	b, err := s.r.Peek(n)
	if err != nil && err != io.EOF && s.err == nil {
		s.err = err
	}
	return b
}

func (s *scanner) skip(n int) {
	k, _ := s.r.Discard(n) // it was peeked at
	s.at += int64(k)
}

// blank tells how long the empty line is that lies ahead, or 0.
func (s *scanner) blank() int {
	switch b := s.peek(2); {
	case len(b) > 0 && b[0] == '\n':
		return 1
	case len(b) > 1 && b[0] == '\r' && b[1] == '\n':
		return 2
	}
	return 0
}

// A separator is what was made of a line that begins with "From ".
type separator struct {
	n      int // its length; 0: it is none
	odd    bool
	may    bool // it may have been meant as one
	sender string
	date   time.Time
}

// look judges the line that begins so many bytes ahead. The line before it is
// the caller's business.
func (s *scanner) look(ahead int) (sep separator) {
	b := s.peek(ahead + len(from))
	if len(b) < ahead+len(from) || !bytes.HasPrefix(b[ahead:], from) {
		return sep
	}
	b = s.peek(ahead + mostLine + mostAhead)[ahead:]
	end := bytes.IndexByte(b[:min(len(b), mostLine)], '\n')
	if end < 0 {
		return sep
	}
	line := b[:end]
	known := false
	if sep.sender, sep.date, known = mboxrd.Separator(line); known {
		sep.n, sep.may = end+1, true
		return sep
	}
	if sep.may = headerLike(b[end+1:]); !sep.may || s.strict {
		return sep
	}
	// Some programs write no date, or one that nobody else writes.
	words := bytes.Fields(line[len(from):])
	if len(words) <= 1 || dateLike(words) {
		sep.n, sep.odd = end+1, true
		if len(words) > 0 {
			sep.sender = string(words[0])
		}
	}
	return sep
}

// headerLike reports whether a line begins like a field of a header.
func headerLike(line []byte) bool {
	colon := bytes.IndexByte(line, ':')
	return colon > 0 && bytes.IndexFunc(line[:colon], func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}

// dateLike reports whether there is a time and a year among words.
func dateLike(words [][]byte) bool {
	clock, year := false, false
	for _, w := range words {
		if hour, rest, ok := bytes.Cut(w, []byte(":")); ok && len(hour) <= 2 && len(rest) >= 2 && digits(hour) && digits(rest[:2]) {
			clock = true
		}
		if w = bytes.TrimRight(w, ","); len(w) == 4 && digits(w) && (w[0] == '1' || w[0] == '2') {
			year = true
		}
	}
	return clock && year
}

func digits(b []byte) bool {
	return len(b) > 0 && bytes.IndexFunc(b, func(r rune) bool { return r < '0' || r > '9' }) < 0
}

// next reads one message; what its text is without quoting goes to text. It is
// io.EOF when there is none left.
func (s *scanner) next(text io.Writer) (message, error) {
	for n := s.blank(); !s.began && n > 0; n = s.blank() {
		s.skip(n)
	}
	s.began = true
	m := message{begin: s.at}
	if len(s.peek(1)) == 0 {
		return m, s.end()
	}
	sep := s.look(0)
	m.sender, m.date, m.stray = sep.sender, sep.date, sep.n == 0
	if sep.odd {
		s.odd++
	}
	s.skip(sep.n)
	m.text, s.inner = s.at, false
	if err := s.body(&m, text); err != nil {
		return m, err
	}
	if v, err := strconv.ParseUint(m.fields[mozillaStatus], 16, 32); err == nil && v&mozillaExpunged != 0 {
		s.expunged++
	}
	return m, s.err
}

func (s *scanner) end() error {
	if s.err != nil {
		return s.err
	}
	return io.EOF
}

// body reads up to the next separator.
func (s *scanner) body(m *message, text io.Writer) error {
	header, field := true, -1
	for first := true; s.err == nil; first = false {
		if len(s.peek(1)) == 0 {
			m.end, m.next = s.at, s.at
			return s.err
		}
		if n := s.blank(); n > 0 {
			if header {
				header = false
				m.claim = claim(m.fields[contentLength], s.at+int64(n))
				if m.claim > 0 && s.fits != nil && s.fits(m.claim) {
					if err := s.lines(m.claim, text); err != nil {
						return err
					}
					if s.ended(m) {
						return nil
					}
					continue
				}
			}
			if s.follows(n) {
				m.end = s.at
				s.skip(n)
				m.next = s.at
				return nil
			}
		} else if b := s.peek(1); b[0] == 'F' && !first {
			s.notice()
		}
		if header {
			header = s.at-m.text < mostHeader
			field = s.field(field, m)
		} else {
			field = -1
		}
		if err := s.line(m, field, text); err != nil {
			return err
		}
	}
	return s.err
}

// claim is where a body that begins at an offset ends by its Content-Length.
func claim(value string, at int64) int64 {
	n, err := strconv.ParseInt(value, 10, 62)
	if err != nil || n < 0 {
		return 0
	}
	return at + n
}

// follows reports whether a separator or the end lies behind an empty line.
func (s *scanner) follows(n int) bool {
	if len(s.peek(n+1)) == n {
		return true
	}
	sep := s.look(n)
	return sep.n > 0
}

// ended reports whether a message that has come to the end of its
// Content-Length is followed by what follows a message.
func (s *scanner) ended(m *message) bool {
	m.end, m.next = s.at, s.at
	if len(s.peek(1)) == 0 || s.look(0).n > 0 {
		return true
	}
	n := s.blank()
	if n == 0 || !s.follows(n) {
		return false
	}
	s.skip(n)
	m.next = s.at
	return true
}

// notice counts a line "From " that is part of a message.
func (s *scanner) notice() {
	if b := s.peek(len(from)); !bytes.Equal(b, from) {
		return
	}
	s.unquoted++
	if s.look(0).may {
		s.passed++
	}
}

// field tells which of the wanted fields the next line of a header is of, or
// -1.
func (s *scanner) field(before int, m *message) int {
	const longest = len("x-mozilla-status:")
	b := s.peek(1)
	switch b[0] {
	case ' ', '\t':
		return before
	case 'C', 'c', 'S', 's', 'X', 'x':
	default:
		return -1
	}
	b = s.peek(longest)
	for i, name := range wanted {
		// The first one counts: programs that store mail put theirs on top.
		if len(b) >= len(name) && m.fields[i] == "" && bytes.EqualFold(b[:len(name)], []byte(name)) {
			return i
		}
	}
	return -1
}

// line reads one line.
func (s *scanner) line(m *message, field int, text io.Writer) error {
	var value []byte
	for done := false; !done; {
		p, err := s.piece(1 << 62)
		if err != nil {
			if err == io.EOF {
				break
			}
			return err
		}
		if field >= 0 && len(m.fields[field])+len(value) < mostField {
			value = append(value, p...)
		}
		done = p[len(p)-1] == '\n'
		if _, err := text.Write(p); err != nil {
			return err
		}
	}
	if field < 0 {
		return nil
	}
	if name := wanted[field]; len(value) >= len(name) && bytes.EqualFold(value[:len(name)], []byte(name)) {
		value = value[len(name):] // else it goes on from the line before
	}
	if v := string(bytes.TrimSpace(value)); m.fields[field] == "" {
		m.fields[field] = v
	} else {
		m.fields[field] += " " + v
	}
	return nil
}

// lines reads up to an offset.
func (s *scanner) lines(to int64, text io.Writer) error {
	for s.at < to {
		p, err := s.piece(to)
		if err == io.EOF {
			return nil
		}
		if err == nil {
			_, err = text.Write(p)
		}
		if err != nil {
			return err
		}
	}
	s.inner = false
	return nil
}

// piece gives the next bytes of a line, without quoting. They are good until
// the next call.
func (s *scanner) piece(to int64) ([]byte, error) {
	if !s.inner {
		if n := s.unmark(to); n > 0 {
			return s.take(n), nil
		}
	}
	if len(s.peek(1)) == 0 || s.at >= to {
		return nil, s.end()
	}
	p := s.peek(s.r.Buffered())
	p = p[:min(int64(len(p)), to-s.at)]
	if i := bytes.IndexByte(p, '\n'); i >= 0 {
		p = p[:i+1]
		s.inner = false
	}
	return s.take(len(p)), nil
}

// take gives bytes that were peeked at.
func (s *scanner) take(n int) []byte {
	p := s.peek(n)
	s.skip(n)
	return p
}

// unmark takes the quoting off a line that begins. So many ">" that more may
// follow are to be given out first, but for the last.
func (s *scanner) unmark(to int64) int {
	s.inner = true
	if b := s.peek(2); s.run == 0 && (len(b) < 2 || b[0] != '>' || b[1] != '>' && b[1] != 'F') {
		return 0
	}
	b := s.peek(mostMarks + 1 + len(from))
	b = b[:min(int64(len(b)), max(to-s.at, 0))]
	k := len(b) - len(bytes.TrimLeft(b, ">"))
	if k > mostMarks {
		s.inner = false
		s.run += mostMarks
		return mostMarks
	}
	all := s.run + k
	s.run = 0
	if k > 0 && bytes.HasPrefix(b[k:], from) {
		s.marks++
		if s.quote == undoAll || s.quote == undoOne && all == 1 {
			s.skip(1)
		}
	}
	return 0
}
