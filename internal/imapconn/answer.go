package imapconn

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailhaul/internal/mail"
)

// A response is one untagged response of which the first words have been
// read. The rest is in scan, and must be taken from there to its end.
type response struct {
	num  uint64 // of "* 3 EXISTS"
	word string // upper case; empty where all is said already
	*scan
}

// untagged begins to read a line that starts with a star. What concerns every
// user of the connection is noted at once.
func (c *Conn) untagged(line []byte) (response, error) {
	r := response{scan: &c.scan}
	c.scan.reset(c.wire, line[1:])
	if !c.scan.take(' ') {
		return r, c.scan.wrong("no blank behind the star")
	}
	c.scan.spaces()
	if s, ok := parseStatus(c.scan.b); ok {
		c.scan.b = nil
		c.heard(&s)
		return r, nil
	}
	if n, rest := digits(c.scan.b); len(rest) < len(c.scan.b) && len(rest) > 0 && rest[0] == ' ' {
		r.num, c.scan.b = n, rest
		c.scan.spaces()
	}
	w := c.scan.word()
	if string(w) == "FETCH" { // the one that comes a million times
		r.word = "FETCH"
	} else {
		r.word = fold(w)
	}
	c.scan.spaces()
	switch r.word {
	case "CAPABILITY":
		c.setCaps(string(c.scan.b))
	case "EXISTS":
		c.box.Exists = r.num
	}
	return r, nil
}

// drop reads r to its end without looking.
func (c *Conn) drop(r response) error {
	for {
		_, n, ok := announced(r.b)
		if !ok {
			r.b = nil
			return nil
		}
		if n > mostLiteral {
			return fmt.Errorf("%w: a literal of %d bytes that nobody asked for", errLimit, n)
		}
		if _, err := io.CopyN(io.Discard, c.wire.br, n); err != nil {
			return cut(err)
		}
		if err := r.count(n); err != nil {
			return err
		}
		if err := r.next(); err != nil {
			return err
		}
	}
}

// heard notes what a status response means for the connection and the folder
// that is open (RFC 3501, section 7.1).
func (c *Conn) heard(s *Status) {
	if s.Type == "BYE" {
		c.mu.Lock()
		c.bye = s
		c.mu.Unlock()
	}
	n, isNumber := s.number()
	switch s.Code {
	case "ALERT":
		if text := mail.Clean(s.Text); text != "" && !c.seen[text] && len(c.seen) < mostAlerts {
			c.seen[text] = true
			c.alerts = append(c.alerts, text)
		}
	case "CAPABILITY":
		c.setCaps(s.Arg)
	case "UIDVALIDITY":
		if isNumber && n <= maxUID {
			c.box.renumbered(uint32(n), &c.epoch)
		}
	case "UIDNEXT":
		if isNumber && n <= maxUID && c.box.opening {
			c.box.Next = uint32(n)
		}
	case "HIGHESTMODSEQ":
		if isNumber && c.box.opening {
			c.box.ModSeq = n
		}
	case "NOMODSEQ":
		if c.box.opening {
			c.box.ModSeq = 0
		}
	case "PERMANENTFLAGS":
		if c.box.opening {
			c.box.Lasting = strings.Join(strings.Fields(strings.Trim(s.Arg, "() ")), " ")
		}
	case "MAILBOXID":
		if c.box.opening {
			c.box.ID = strings.Trim(s.Arg, "() ")
		}
	}
}

const mostAlerts = 100

func (c *Conn) setCaps(list string) {
	c.caps = map[string]bool{}
	for _, name := range strings.Fields(list) {
		c.caps[strings.ToUpper(name)] = true
	}
}

// send writes one command under a tag of ours. A part that is followed by
// another one ends in "{n}": before the next is sent the server must ask for
// it.
func (c *Conn) send(parts ...string) (tag string, err error) {
	if err := c.broken(); err != nil {
		return "", err
	}
	if !c.library.idle() {
		return "", errors.New("imapconn: two users at once")
	}
	c.tags++
	tag = c.tag()
	start := tag + " "
	for i, p := range parts {
		if i > 0 {
			if refused, err := c.goAhead(tag); err != nil || refused != nil {
				if err == nil {
					err = refused
				}
				return "", err
			}
		}
		if _, err := io.WriteString(&c.guard, start+p+"\r\n"); err != nil {
			if errors.Is(err, ErrVerb) {
				return "", err // nothing was sent
			}
			return "", c.fail(err)
		}
		start = ""
	}
	c.open++
	return tag, nil
}

// tag is that of the last command of ours.
func (c *Conn) tag() string { return "M" + strconv.Itoa(c.tags) }

// A tagged is the answer to a command of ours.
type tagged struct {
	tag    string
	status Status
}

// goAhead waits for the server's "+". Any answer instead is a refusal.
func (c *Conn) goAhead(tag string) (refused, err error) {
	for {
		line, err := c.wire.first()
		if err != nil {
			return nil, c.fail(err)
		}
		if len(line) > 0 && line[0] == '+' {
			return nil, nil
		}
		if word, rest, ok := bytes.Cut(line, []byte(" ")); ok && len(word) > 1 && word[0] == 'M' {
			s, ok := parseStatus(rest)
			switch {
			case !ok:
			case string(word) == tag:
				c.heard(&s)
				c.guard.inside, c.guard.literal = false, 0
				return &s, nil
			case c.open > 0: // to an earlier one, which is under way still
				c.heard(&s)
				c.open--
				c.early = append(c.early, tagged{string(word), s})
				continue
			}
		}
		if len(line) > 0 && line[0] == '*' {
			r, err := c.untagged(line)
			if err == nil {
				err = c.drop(r)
			}
			if err == nil {
				continue
			}
			return nil, c.fail(err)
		}
		return nil, c.fail(fmt.Errorf("%w: %.60q", errSyntax, line))
	}
}

// next reads up to the next thing that may interest a command: an untagged
// response (done nil), or the answer to a command of ours.
func (c *Conn) next() (r response, tag string, done *Status, err error) {
	if len(c.early) > 0 {
		t := c.early[0]
		c.early = c.early[1:]
		return r, t.tag, &t.status, nil
	}
	for {
		line, err := c.wire.first()
		if err != nil {
			return r, "", nil, c.fail(err)
		}
		switch {
		case len(line) == 0 || line[0] == '+':
			continue // asked for by nobody; hurts nobody
		case line[0] == '*':
			r, err = c.untagged(line)
			if err != nil {
				return r, "", nil, c.fail(err)
			}
			if r.word == "" {
				continue
			}
			return r, "", nil, nil
		}
		word, rest, _ := bytes.Cut(line, []byte(" "))
		s, ok := parseStatus(rest)
		if !ok {
			return r, "", nil, c.fail(fmt.Errorf("%w: %.60q", errSyntax, line))
		}
		c.heard(&s)
		if len(word) > 1 && word[0] == 'M' {
			c.open--
			return r, string(word), &s, nil
		}
	}
}

// run sends a command and gives each untagged response to f, which returns
// false for those that are not its own.
func (c *Conn) run(f func(r response) (bool, error), parts ...string) (*Status, error) {
	begun := time.Now()
	tag, err := c.send(parts...)
	if err != nil {
		return nil, err
	}
	for {
		r, got, done, err := c.next()
		switch {
		case err != nil:
			return nil, err
		case done != nil && got == tag:
			if took := time.Since(begun); c.lag == 0 || took < c.lag {
				c.lag = took
			}
			if done.Type != "OK" {
				return done, done
			}
			return done, nil
		case done != nil:
			return nil, c.fail(fmt.Errorf("%w: an answer to %s", errSyntax, got))
		}
		if err := c.offer(r, f); err != nil {
			return nil, err
		}
	}
}

func (c *Conn) offer(r response, f func(r response) (bool, error)) error {
	taken, err := f(r)
	if err == nil && !taken {
		err = c.drop(r)
	}
	if err != nil {
		return c.fail(err)
	}
	return nil
}

// astring writes a name as a quoted string or, where it holds anything but
// printable ASCII, as a literal (RFC 3501, section 4.3): the parts for send.
func (c *Conn) astring(before, s, after string) []string {
	if plain(s) {
		s = strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), `"`, `\"`)
		return []string{before + `"` + s + `"` + after}
	}
	n := strconv.Itoa(len(s))
	if c.Has("LITERAL+") || c.Has("LITERAL-") && len(s) <= 4096 {
		return []string{before + "{" + n + "+}\r\n" + s + after}
	}
	return []string{before + "{" + n + "}", s + after}
}

func plain(s string) bool {
	return !slices.ContainsFunc([]byte(s), func(b byte) bool { return b < ' ' || b > '~' })
}
