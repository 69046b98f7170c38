package imapconn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
)

// mostRanges is more than any folder has gaps.
const mostRanges = 1 << 20

// icloud are the ends of the host names of iCloud.
var icloud = []string{"mail.me.com", "icloud.com"}

// Resyncs reports whether Vanished may be asked for. iCloud offers QRESYNC and
// gets it wrong: it sends VANISHED that cannot be read, or that names messages
// which are there (RELIABILITY, PEERS: Mailspring-Sync #91).
func (c *Conn) Resyncs() bool {
	return c.Has("QRESYNC") && c.Has("UNSELECT") && !c.icloud()
}

func (c *Conn) icloud() bool {
	for _, name := range icloud {
		if c.host == name || strings.HasSuffix(c.host, "."+name) {
			return true
		}
	}
	return false
}

// Vanished asks which messages were expunged from the open folder since it had
// that HIGHESTMODSEQ (RFC 7162, section 3.2.6). The ranges may name UIDs that
// never were. QRESYNC must be enabled while no folder is open (RFC 5161, section
// 3.1), so the folder, of that name, is left and opened again.
func (c *Conn) Vanished(ctx context.Context, name string, since uint64) ([]Range, error) {
	before := c.box.Validity
	if !c.resync {
		if err := c.Unselect(ctx); err != nil {
			return nil, err
		}
		if err := c.enableResync(ctx); err != nil {
			return nil, err
		}
	}
	box, err := c.Examine(ctx, name)
	switch {
	case err != nil:
		return nil, err
	case box.Validity != before:
		return nil, c.folder("list", ErrEpoch)
	}
	stop := c.nc.Follow(ctx)
	defer stop()
	var gone []Range
	_, err = c.run(func(r response) (bool, error) {
		if r.word != "VANISHED" {
			return false, nil
		}
		line, err := r.whole()
		if err == nil {
			gone, err = vanished(gone, string(line))
		}
		return true, err
	}, fmt.Sprintf("UID FETCH 1:* (UID) (CHANGEDSINCE %d VANISHED)", since))
	return gone, c.folder("list", err)
}

// enableResync turns QRESYNC on, for the rest of the connection.
func (c *Conn) enableResync(ctx context.Context) error {
	stop := c.nc.Follow(ctx)
	defer stop()
	enabled := false
	_, err := c.run(func(r response) (bool, error) {
		if r.word != "ENABLED" {
			return false, nil
		}
		line, err := r.whole()
		for _, w := range strings.Fields(strings.ToUpper(string(line))) {
			enabled = enabled || w == "QRESYNC"
		}
		return true, err
	}, "ENABLE QRESYNC")
	if err == nil && !enabled {
		err = errors.New("the server offers QRESYNC and does not turn it on")
	}
	c.resync = err == nil
	return c.folder("list", err)
}

// vanished reads "(EARLIER) 41,43:116" and adds it to all. What comes without
// EARLIER is of this moment, and belongs to the set as well.
func vanished(all []Range, line string) ([]Range, error) {
	line = strings.TrimSpace(line)
	if rest, ok := cutFold(line, "(EARLIER)"); ok {
		line = strings.TrimSpace(rest)
	}
	for part := range strings.SplitSeq(line, ",") {
		r, ok := rangeOf([]byte(part))
		if !ok {
			return nil, fmt.Errorf("%w: VANISHED %.60q", errSyntax, line)
		}
		if len(all) == mostRanges {
			return nil, fmt.Errorf("%w: more than %d ranges of expunged messages", errLimit, mostRanges)
		}
		all = append(all, r)
	}
	return all, nil
}

// cutFold cuts a prefix off, whatever its case.
func cutFold(s, prefix string) (rest string, ok bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

// hostOf is the name of an address "host:port", in lower case.
func hostOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
