package catalog

import (
	"context"
	"database/sql"
	"strconv"
	"time"

	"mailhaul/source"
)

// A Receipt is a message of a source that is committed, and may therefore be
// removed there once its copy was read back.
type Receipt struct {
	ID source.ID
	At Stored
}

// Receipts lists the committed messages of b that the server was last seen to
// have, were committed at least age ago, and are not lost. The time of a
// commit is the end of its run, or where that died the beginning of the next:
// never earlier than it was. What the current run has committed is of age 0.
func (c *Catalog) Receipts(ctx context.Context, b *Box, age time.Duration, now time.Time) (all []Receipt, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err = c.each(`SELECT l.num, l.id, m.id, m.digest, m.text, m.lines, m.folder, m.place
		FROM location l JOIN message m ON m.id=l.message JOIN run r ON r.id=l.run
		WHERE l.epoch=? AND l.gone=0 AND m.lost=0 AND
			? <= ? - coalesce(r.ended, (SELECT min(n.started) FROM run n WHERE n.id>r.id), ?)
		ORDER BY l.num, l.id`, []any{b.epoch, int64(age / time.Second), now.Unix(), now.Unix()}, func(rows *sql.Rows) error {
		var r Receipt
		var num, folder int64
		var id string
		var digest []byte
		err := rows.Scan(&num, &id, &r.At.Message, &digest, &r.At.Text, &r.At.Lines, &folder, (*string)(&r.At.Place))
		copy(r.At.Digest[:], digest)
		r.ID, r.At.Folder = unkey(num, id), c.paths[folder]
		all = append(all, r)
		return err
	})
	return all, c.trouble("receipts", err)
}

// Removing notes, before a source is asked to, that messages are about to be
// removed there.
func (c *Catalog) Removing(ctx context.Context, b *Box, ids []source.ID, at time.Time) error {
	return c.markRemoved(b, ids, -at.Unix(), false)
}

// Removed notes that a source has confirmed it.
func (c *Catalog) Removed(ctx context.Context, b *Box, ids []source.ID, at time.Time) error {
	return c.markRemoved(b, ids, at.Unix(), true)
}

func (c *Catalog) markRemoved(b *Box, ids []source.ID, at int64, gone bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.change(func() error {
		for _, id := range ids {
			num, text := key(id)
			if err := c.do("UPDATE location SET removed=?, gone=? WHERE epoch=? AND num=? AND id=?", at, gone, b.epoch, num, text); err != nil {
				return err
			}
			if gone {
				c.tell(removedLine(b, id, at))
			}
		}
		return nil
	})
	return c.trouble("remove", err)
}

func removedLine(b *Box, id source.ID, at int64) Line {
	l := lineFor(b, string(id))
	l.Removed = time.Unix(at, 0).UTC().Format(time.RFC3339)
	return l
}

// Clock compares now with the times of earlier runs. Reason says why ages
// cannot be trusted, or is empty: the clock went back, or jumped by more than
// a year.
func (c *Catalog) Clock(ctx context.Context, now time.Time) (reason string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, err := c.meta("clock")
	if err != nil {
		return "", c.trouble("clock", err)
	}
	last, _ := strconv.ParseInt(s, 10, 64)
	const jump = 400 * 24 * time.Hour
	switch then := time.Unix(last, 0); {
	case last == 0:
	case now.Before(then):
		// The latest time seen stays: a clock that was ahead must be caught up
		// with before ages mean anything again.
		return "the clock has gone back since " + then.UTC().Format(time.RFC3339), nil
	case now.Sub(then) > jump:
		reason = "the last run was more than 400 days ago (" + then.UTC().Format(time.RFC3339) + "), or the clock is wrong"
	}
	return reason, c.trouble("clock", c.setMeta("clock", strconv.FormatInt(now.Unix(), 10)))
}
