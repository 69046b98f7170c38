package imapconn

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
)

// maxUID is the largest UID, and the largest UIDVALIDITY (RFC 3501, section
// 2.3.1.1).
const maxUID = math.MaxUint32

// A Box is what the server says of the folder that it opens.
type Box struct {
	Exists   uint64 // messages
	Validity uint32 // UIDVALIDITY, never 0
	Next     uint32 // UIDNEXT; 0 when the server does not tell
	ModSeq   uint64 // HIGHESTMODSEQ; 0 when it keeps none (RFC 7162)
	ID       string // MAILBOXID (RFC 8474)
	Lasting  string // PERMANENTFLAGS, with `\*` where new keywords may be made; empty: none, or not told

	opening bool
}

// renumbered takes a UIDVALIDITY. One that comes while the folder is open and
// is not the one it was opened with makes everything listed worthless.
func (b *Box) renumbered(v uint32, epoch *error) {
	switch {
	case b.opening:
		b.Validity = v
	case b.Validity != 0 && b.Validity != v:
		*epoch = ErrEpoch
	}
}

// Examine opens a folder for reading by the bytes of its name.
func (c *Conn) Examine(ctx context.Context, name string) (Box, error) {
	return c.enterBox(ctx, "EXAMINE ", name)
}

// Select opens a folder for changing flags in it, too.
func (c *Conn) Select(ctx context.Context, name string) (Box, error) {
	return c.enterBox(ctx, "SELECT ", name)
}

func (c *Conn) enterBox(ctx context.Context, verb, name string) (Box, error) {
	stop := c.nc.Follow(ctx)
	defer stop()
	c.box, c.epoch = Box{opening: true}, nil
	err := c.examine(verb, name)
	c.box.opening = false
	if err != nil {
		c.box = Box{}
		return Box{}, c.folder("open", err)
	}
	return c.box, nil
}

func (c *Conn) examine(verb, name string) error {
	after := ""
	if c.Has("CONDSTORE") || c.Has("QRESYNC") {
		after = " (CONDSTORE)" // RFC 7162, section 3.1.8
	}
	_, err := c.run(dropAll, c.astring(verb, name, after)...)
	var s *Status
	if after != "" && errors.As(err, &s) && s.Type == "BAD" {
		_, err = c.run(dropAll, c.astring(verb, name, "")...)
	}
	if err != nil {
		return err
	}
	if c.box.Validity == 0 {
		// Some servers tell only when asked another way.
		err := c.Status(context.Background(), []string{name}, "UIDVALIDITY", func(_ int, s Counts) {
			c.box.Validity = uint32(s.Validity)
		})
		if err != nil {
			return err
		}
	}
	if c.box.Validity == 0 {
		return fmt.Errorf("the server gives the folder no UIDVALIDITY: messages have no numbers that last")
	}
	return nil
}

func dropAll(response) (bool, error) { return false, nil }

// NoSuchFolder reports whether err means that the folder does not exist.
func NoSuchFolder(err error) bool {
	var s *Status
	if !errors.As(err, &s) || s.Type != "NO" {
		return false
	}
	text := strings.ToLower(s.Text)
	return s.Code == "NONEXISTENT" || strings.Contains(text, "doesn't exist") ||
		strings.Contains(text, "does not exist") || strings.Contains(text, "no such mailbox") ||
		strings.Contains(text, "unknown mailbox") || strings.Contains(text, "not found")
}
