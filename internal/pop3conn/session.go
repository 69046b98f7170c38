package pop3conn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"mailhaul/internal/mail"
)

// Patience for what makes a server work through the whole maildrop.
const (
	patienceListing = 5 * time.Minute
	patienceUpdate  = 5 * time.Minute // QUIT, when messages are to be deleted
)

// mostMessages bounds what a server may count: numbers beyond are a mistake or
// an attack.
const mostMessages = 1 << 28

// A Survey is told what is in the maildrop, in this order and each in full:
// Begin once, Size once for every number from 1 to count, ID likewise unless
// the server knows no unique-ids. The listings come in any order of numbers;
// that each number is there exactly once is for Size and ID to check. An error
// of theirs ends the session.
type Survey struct {
	Begin func(count, bytes int64) error
	Size  func(number int, size int64) error
	ID    func(number int, id []byte) error
}

// Survey reads STAT, LIST and UIDL. It reports whether the server knows
// unique-ids.
func (c *Conn) Survey(ctx context.Context, v Survey) (uidl bool, err error) {
	if err := c.ready(); err != nil {
		return false, c.folder("list", err)
	}
	stop := c.nc.Follow(ctx)
	defer stop()
	uidl, err = c.survey(v)
	var s *Status
	if err != nil && !errors.As(err, &s) {
		err = c.fail(err)
	}
	return uidl, c.folder("list", err)
}

func (c *Conn) survey(v Survey) (uidl bool, err error) {
	ask := func(verb string) error { return nil }
	if c.Pipelining() {
		err = c.send("STAT\r\nLIST\r\nUIDL")
	} else {
		ask = c.send
	}
	if err == nil {
		err = ask("STAT")
	}
	if err != nil {
		return false, err
	}
	count, err := c.stat(v)
	if err != nil {
		return false, err
	}
	if err := ask("LIST"); err != nil {
		return false, err
	}
	if _, err := c.answer(patienceListing); err != nil {
		return false, fmt.Errorf("LIST: %w", c.lost(err))
	}
	err = c.numbered(count, "LIST", func(n int, rest []byte) error {
		size, ok := number(string(rest))
		if !ok {
			return fmt.Errorf("%w: LIST gives message %d the size %.40q", ErrSyntax, n, rest)
		}
		return v.Size(n, size)
	})
	if err != nil {
		return false, err
	}
	if err := ask("UIDL"); err != nil {
		return false, err
	}
	s, err := c.answer(patienceListing)
	var no *Status
	switch {
	case errors.As(err, &no) && !s.Temporary() && !c.Has("UIDL"):
		return false, nil // RFC 1939, section 7: UIDL is optional
	case err != nil:
		return false, fmt.Errorf("UIDL: %w", err)
	}
	return true, c.numbered(count, "UIDL", v.ID)
}

// lost makes a refusal in the middle of several commands the end of the
// session: their answers are not worth reading.
func (c *Conn) lost(err error) error {
	if c.gate.due > 0 {
		return c.fail(err)
	}
	return err
}

func (c *Conn) stat(v Survey) (count int64, err error) {
	s, err := c.answer(patienceListing)
	if err != nil {
		return 0, fmt.Errorf("STAT: %w", c.lost(err))
	}
	words := strings.Fields(s.Text)
	if len(words) < 2 {
		return 0, fmt.Errorf("%w: STAT says %.60q", ErrSyntax, s.Text)
	}
	count, ok := number(words[0])
	size, okToo := number(words[1])
	if !ok || !okToo || count > mostMessages {
		return 0, fmt.Errorf("%w: STAT says %.60q", ErrSyntax, s.Text)
	}
	return count, v.Begin(count, size)
}

// numbered reads a listing of exactly count lines that begin with a number.
func (c *Conn) numbered(count int64, verb string, f func(n int, rest []byte) error) error {
	got := int64(0)
	err := c.lines(count, func(line []byte) error {
		n, rest := digits(bytes.TrimLeft(line, " "))
		switch {
		case n == 0 || len(rest) > 0 && rest[0] != ' ' && rest[0] != '\t':
			return fmt.Errorf("%w: a line of %s: %.60q", ErrSyntax, verb, line)
		case int64(n) > count:
			return fmt.Errorf("%w: %s names message %d of %d", ErrCounts, verb, n, count)
		case len(rest) > 0:
			rest = rest[1:]
		}
		got++
		return f(n, rest)
	})
	if err == nil && got != count {
		err = fmt.Errorf("%w: %s names %d messages, STAT counts %d", ErrCounts, verb, got, count)
	}
	return err
}

// digits reads a number at the start of b; 0 where there is none, or none of
// any use.
func digits(b []byte) (n int, rest []byte) {
	i := 0
	for ; i < len(b) && b[i]-'0' <= 9; i++ {
		if n = n*10 + int(b[i]-'0'); n > mostMessages {
			return 0, b
		}
	}
	return n, b[i:]
}

// UniqueIDs gives the unique-id of each number, now.
func (c *Conn) UniqueIDs(ctx context.Context, numbers []int) (ids []string, err error) {
	err = c.each(ctx, "UIDL ", numbers, func(n int, s Status, err error) error {
		if err != nil {
			return err
		}
		got, rest := digits([]byte(s.Text))
		if got != n || len(rest) == 0 || rest[0] != ' ' && rest[0] != '\t' {
			return c.fail(fmt.Errorf("%w: asked for the unique-id of message %d it says %.60q", ErrSyntax, n, s.Text))
		}
		ids = append(ids, string(rest[1:]))
		return nil
	})
	return ids, c.folder("remove", err)
}

// Delete marks messages to be deleted by Quit. It gives for each what the
// server said against it, or nil.
func (c *Conn) Delete(ctx context.Context, numbers []int) (refused []error, err error) {
	err = c.each(ctx, "DELE ", numbers, func(n int, s Status, err error) error {
		var no *Status
		if err != nil && !errors.As(err, &no) {
			return err
		}
		refused = append(refused, err)
		return nil
	})
	return refused, c.folder("remove", err)
}

// each sends a command for each number, all at once where the server takes
// them so, and gives the answers to f. An error of f that is a refusal leaves
// the session usable only when no answer is to come.
func (c *Conn) each(ctx context.Context, verb string, numbers []int, f func(n int, s Status, err error) error) error {
	if err := c.ready(); err != nil {
		return err
	}
	stop := c.nc.Follow(ctx)
	defer stop()
	group := 1
	if c.Pipelining() {
		group = 50
	}
	for len(numbers) > 0 {
		now := numbers[:min(group, len(numbers))]
		numbers = numbers[len(now):]
		var lines []string
		for _, n := range now {
			lines = append(lines, verb+strconv.Itoa(n))
		}
		if err := c.send(strings.Join(lines, "\r\n")); err != nil {
			return err
		}
		for _, n := range now {
			s, err := c.answer(0)
			if err := f(n, s, err); err != nil {
				return c.lost(err)
			}
		}
	}
	return nil
}

// Noop asks for nothing, so that the server does not take us for gone.
func (c *Conn) Noop(ctx context.Context) error {
	_, err := c.command(ctx, "noop", 0, func() error { return c.lib.Noop() })
	return err
}

// Reset takes back every Delete.
func (c *Conn) Reset(ctx context.Context) error {
	_, err := c.command(ctx, "reset", 0, func() error { return c.lib.Rset() })
	return err
}

// Quit ends the session as RFC 1939, section 6, has it, and closes. Only when
// it returns nil what was marked has been deleted; after a refusal some of it
// may have been.
func (c *Conn) Quit(ctx context.Context) error {
	defer c.Close()
	patience := time.Duration(0)
	if c.guard.remove {
		patience = patienceUpdate
	}
	_, err := c.command(ctx, "quit", patience, func() error { return c.lib.Quit() })
	return err
}

// Leave says good-bye, waiting at most for patience, and closes. It is for
// sessions that have nothing to lose: in one that removes, and in the middle
// of answers, it closes at once.
func (c *Conn) Leave(patience time.Duration) {
	if c.lib != nil && c.ready() == nil && !c.guard.remove {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		c.Quit(ctx) // its answer is of no interest: all that mattered has been read
		cancel()
	}
	c.Close()
}

// message gives an error of one message.
func (c *Conn) message(err error) error {
	return &mail.Error{Op: "fetch", Scope: mail.ScopeMessage, Err: err}
}
