package imapconn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
)

// An Entry is one line of LIST: the name's own bytes, whatever they are.
type Entry struct {
	Name      string
	Delimiter byte     // 0: the folder has no hierarchy
	Attrs     []string // lower case: `\noselect`, `\sent`
	Counts    *Counts  // from LIST-STATUS; nil when not told
}

// Has reports whether the entry has an attribute, given in lower case.
func (e *Entry) Has(attr string) bool {
	for _, a := range e.Attrs {
		if a == attr {
			return true
		}
	}
	return false
}

// Role names what the folder is for (RFC 6154, section 2; RFC 8457), "inbox"
// and "sent" among others, or is empty.
func (e *Entry) Role() string {
	if strings.EqualFold(e.Name, "INBOX") {
		return "inbox"
	}
	for _, r := range []string{"all", "archive", "drafts", "flagged", "important", "junk", "sent", "trash"} {
		if e.Has(`\` + r) {
			return r
		}
	}
	return ""
}

// Counts are the answer to STATUS. A field the server did not tell is -1.
type Counts struct{ Messages, Next, Validity, ModSeq, Size, Limit int64 }

// MostFolders is how many folders a server may list.
const MostFolders = 100_000

const mostName = 4 << 10 // bytes of one name

// List gives all folders, each name once. Lines that cannot be read are left
// out and counted as odd: one bad name must not hide the other folders. With
// LIST-STATUS (RFC 5819) items come along.
func (c *Conn) List(ctx context.Context, items string) (entries []Entry, odd int, err error) {
	stop := c.nc.Follow(ctx)
	defer stop()
	at := map[string]int{} // of a name in entries
	command := `LIST "" "*"`
	var returns []string
	if c.Has("LIST-EXTENDED") && c.Has("SPECIAL-USE") {
		returns = append(returns, "SPECIAL-USE") // RFC 6154, section 2
	}
	if c.Has("LIST-STATUS") && items != "" {
		returns = append(returns, "STATUS ("+items+")")
	}
	extended := command + " RETURN (" + strings.Join(returns, " ") + ")"
	take := func(r response) (bool, error) {
		switch r.word {
		case "LIST":
			line, err := r.whole()
			if err != nil {
				return false, err
			}
			e, ok := parseList(line)
			if !ok {
				odd++
				return true, nil
			}
			if _, twice := at[e.Name]; twice {
				return true, nil
			}
			if len(entries) == MostFolders {
				return false, fmt.Errorf("%w: more than %d folders", errLimit, MostFolders)
			}
			at[e.Name] = len(entries)
			entries = append(entries, e)
			return true, nil
		case "STATUS":
			line, err := r.whole()
			if err != nil {
				return false, err
			}
			name, counts, ok := parseCounts(line)
			if i, known := at[name]; ok && known {
				entries[i].Counts = &counts
			}
			return true, nil
		}
		return false, nil
	}
	if len(returns) > 0 {
		_, err = c.run(take, extended)
		var s *Status
		if !errors.As(err, &s) || s.Type != "BAD" {
			return entries, odd, c.folder("list folders", err)
		}
	}
	_, err = c.run(take, command)
	return entries, odd, c.folder("list folders", err)
}

// whole reads the rest of a response into one line, with each literal written
// as a quoted string.
func (r response) whole() ([]byte, error) {
	var all []byte
	for {
		at, n, ok := announced(r.b)
		if !ok {
			all = append(all, r.b...)
			r.b = nil
			return all, nil
		}
		all = append(all, r.b[:at]...)
		lit, err := r.w.literal(n)
		if err != nil {
			return nil, err
		}
		all = append(all, '"')
		for _, b := range lit {
			if b == '"' || b == '\\' {
				all = append(all, '\\')
			}
			all = append(all, b)
		}
		all = append(all, '"')
		if err := r.count(n); err != nil {
			return nil, err
		}
		if err := r.next(); err != nil {
			return nil, err
		}
	}
}

// parseList reads what follows "* LIST ".
func parseList(line []byte) (e Entry, ok bool) {
	s := scan{b: line}
	err := s.list(func() error {
		a, _, err := s.text()
		e.Attrs = append(e.Attrs, strings.ToLower(string(a)))
		return err
	})
	if err != nil {
		return e, false
	}
	s.spaces()
	delimiter, isNil, err := s.text()
	if err != nil || len(delimiter) > 1 && !isNil {
		return e, false
	}
	if !isNil && len(delimiter) == 1 {
		e.Delimiter = delimiter[0]
	}
	s.spaces()
	e.Name, ok = name(s.b)
	return e, ok
}

// name reads a folder's name at the end of a line. Names are where servers
// err: raw 8-bit, blanks without quotes, quotes within quotes. As the name is
// the last thing but for extensions in brackets, all of that can be read.
func name(b []byte) (string, bool) {
	b = bytes.TrimRight(b, " ")
	if i := extension(b); i > 0 {
		b = bytes.TrimRight(b[:i], " ")
	}
	if len(b) >= 2 && b[0] == '"' && b[len(b)-1] == '"' {
		b = unquote(b[1 : len(b)-1])
	}
	return string(b), len(b) > 0 && len(b) <= mostName
}

// extension finds " (" behind a name (RFC 5258, section 6).
func extension(b []byte) int {
	if len(b) == 0 || b[len(b)-1] != ')' {
		return 0
	}
	if b[0] != '"' {
		return bytes.Index(b, []byte(" (\""))
	}
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			if bytes.HasPrefix(bytes.TrimLeft(b[i+1:], " "), []byte("(")) {
				return i + 1
			}
		}
	}
	return 0
}

func unquote(b []byte) []byte {
	if bytes.IndexByte(b, '\\') < 0 {
		return b
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] == '\\' && i+1 < len(b) && (b[i+1] == '"' || b[i+1] == '\\') {
			i++
		}
		out = append(out, b[i])
	}
	return out
}

// parseCounts reads what follows "* STATUS ": a name and a list in brackets,
// the last on the line.
func parseCounts(line []byte) (box string, c Counts, ok bool) {
	c = Counts{-1, -1, -1, -1, -1, -1}
	line = bytes.TrimRight(line, " ")
	open := lastList(line)
	if open <= 0 {
		return "", c, false
	}
	s := scan{b: line[open:]}
	err := s.list(func() error {
		w := fold(s.word())
		s.spaces()
		if s.peek() < '0' || s.peek() > '9' {
			return s.skip()
		}
		n, err := s.number()
		if err != nil {
			return s.skip()
		}
		if v := int64(n); v >= 0 {
			c.set(w, v)
		}
		return nil
	})
	raw := bytes.TrimRight(line[:open], " ")
	if len(raw) >= 2 && raw[0] == '"' && raw[len(raw)-1] == '"' {
		raw = unquote(raw[1 : len(raw)-1])
	}
	return string(raw), c, err == nil
}

// lastList finds the bracket that the last one on the line closes.
func lastList(line []byte) int {
	depth := 0
	for i := len(line) - 1; i > 0; i-- {
		switch line[i] {
		case ')':
			depth++
		case '(':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

// Print tells a folder from others by its numbers: UIDVALIDITY, UIDNEXT and how
// many messages there are. It is empty where not all are told, or there is no message.
func (c *Counts) Print() string {
	if c == nil || c.Validity <= 0 || c.Next <= 0 || c.Messages <= 0 {
		return ""
	}
	return fmt.Sprintf("%d:%d:%d", c.Validity, c.Next, c.Messages)
}

func (c *Counts) set(item string, v int64) {
	switch item {
	case "MESSAGES":
		c.Messages = v
	case "UIDNEXT":
		c.Next = v
	case "UIDVALIDITY":
		c.Validity = v
	case "HIGHESTMODSEQ":
		c.ModSeq = v
	case "SIZE":
		c.Size = v
	case "APPENDLIMIT":
		c.Limit = v
	}
}

// inFlight is how many STATUS commands are sent ahead of their answers.
const inFlight = 32

// Status asks for items of many folders, by the bytes of their names, without
// opening them: go-imap could not, it writes names its own way. The function f
// gets those that the server tells; for others there is no error, only silence.
func (c *Conn) Status(ctx context.Context, names []string, items string, f func(i int, counts Counts)) error {
	stop := c.nc.Follow(ctx)
	defer stop()
	q := statusQueue{c: c, f: f}
	for i, name := range names {
		parts := c.astring("STATUS ", name, " ("+items+")")
		for len(q.tags) > 0 && (len(parts) > 1 || len(q.tags) >= inFlight) {
			if err := q.step(); err != nil {
				return c.folder("ask for counts", err)
			}
		}
		tag, err := c.send(parts...)
		var refused *Status
		if errors.As(err, &refused) && c.broken() == nil {
			continue
		}
		if err != nil {
			return c.folder("ask for counts", err)
		}
		q.tags, q.names, q.at = append(q.tags, tag), append(q.names, name), append(q.at, i)
	}
	for len(q.tags) > 0 {
		if err := q.step(); err != nil {
			return c.folder("ask for counts", err)
		}
	}
	return nil
}

// A statusQueue holds the STATUS commands that wait for their answers, oldest
// first.
type statusQueue struct {
	c     *Conn
	f     func(int, Counts)
	tags  []string
	names []string
	at    []int
}

func (q *statusQueue) step() error {
	r, tag, done, err := q.c.next()
	switch {
	case err != nil:
		return err
	case done != nil && tag != q.tags[0]:
		return q.c.fail(fmt.Errorf("%w: an answer to %s", errSyntax, tag))
	case done != nil:
		q.tags, q.names, q.at = q.tags[1:], q.names[1:], q.at[1:]
		return nil
	}
	return q.c.offer(r, func(r response) (bool, error) {
		if r.word != "STATUS" {
			return false, nil
		}
		line, err := r.whole()
		if err != nil {
			return false, err
		}
		if name, counts, ok := parseCounts(line); ok {
			q.f(q.at[q.whose(name)], counts)
		}
		return true, nil
	})
}

// whose finds the command that a name belongs to: servers answer in order, but
// may spell a name their own way.
func (q *statusQueue) whose(name string) int {
	for i, n := range q.names {
		if n == name {
			return i
		}
	}
	return 0
}
