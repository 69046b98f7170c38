package catalog

import (
	"context"
	"database/sql"
	"errors"
	"iter"
	"strconv"
	"time"

	"mailhaul/internal/mail"
	"mailhaul/sink"
	"mailhaul/source"
)

// A Former is a location of an earlier epoch of a folder: what the server said
// of a message when it went by another number.
type Former struct {
	Size int64
	Date time.Time // zero when it was not known
	At   Stored
	Held bool // a location that the server has now stands on At
	Lost bool // At is not in the archive any more

	num int64
	id  string
}

// Former yields the locations of all earlier epochs of b, those too that the
// server has dropped since. The catalog is free for other calls meanwhile.
func (c *Catalog) Former(ctx context.Context, b *Box) iter.Seq2[Former, error] {
	return func(yield func(Former, error) bool) {
		epochs, err := c.earlier(b)
		for _, epoch := range epochs {
			const page = 1000
			var last Former
			for n := page; n == page; {
				var all []Former
				if err = ctx.Err(); err == nil {
					all, err = c.formerPage(b, epoch, last, page)
				}
				if err != nil {
					break
				}
				for _, f := range all {
					if !yield(f, nil) {
						return
					}
					last = f
				}
				n = len(all)
			}
		}
		if err != nil {
			yield(Former{}, err)
		}
	}
}

// earlier are the epochs of b but for the current one.
func (c *Catalog) earlier(b *Box) (epochs []int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err = c.each("SELECT id FROM epoch WHERE folder=? AND id<>? ORDER BY id", []any{b.folder, b.epoch}, func(r *sql.Rows) error {
		var id int64
		err := r.Scan(&id)
		epochs = append(epochs, id)
		return err
	})
	return epochs, c.trouble("compare", err)
}

func (c *Catalog) formerPage(b *Box, epoch int64, after Former, n int) (all []Former, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err = c.each(`SELECT l.num, l.id, l.size, l.date, m.id, m.digest, m.text, m.lines, m.folder, m.place, m.lost,
		EXISTS(SELECT 1 FROM location h WHERE h.message=m.id AND h.epoch=? AND h.gone=0)
		FROM location l JOIN message m ON m.id=l.message WHERE l.epoch=? AND (l.num, l.id)>(?,?) ORDER BY l.num, l.id LIMIT ?`,
		[]any{b.epoch, epoch, after.num, after.id, n}, func(r *sql.Rows) error {
			var f Former
			var date, folder int64
			var digest []byte
			err := r.Scan(&f.num, &f.id, &f.Size, &date, &f.At.Message, &digest, &f.At.Text, &f.At.Lines, &folder, (*string)(&f.At.Place), &f.Lost, &f.Held)
			copy(f.At.Digest[:], digest)
			f.Date, f.At.Folder = fromUnix(date), c.paths[folder]
			all = append(all, f)
			return err
		})
	return all, c.trouble("compare", err)
}

// FormerTwin finds the location of an earlier epoch of b that stands on a message
// and has the size and the date of e.
func (c *Catalog) FormerTwin(ctx context.Context, b *Box, message int64, e source.Entry) (t Twin, ok bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var folder int64
	var digest []byte
	var ends, place string
	err = c.row(`SELECT m.id, m.digest, m.text, m.lines, m.folder, m.place, l.ends FROM location l JOIN message m ON m.id=l.message
		JOIN epoch e ON e.id=l.epoch WHERE l.message=? AND l.size=? AND l.date=? AND e.folder=? AND e.id<>? AND m.lost=0 ORDER BY l.epoch DESC LIMIT 1`,
		[]any{message, e.Size, unix(e.Date), b.folder, b.epoch},
		&t.At.Message, &digest, &t.At.Text, &t.At.Lines, &folder, &place, &ends)
	if errors.Is(err, sql.ErrNoRows) {
		return t, false, nil
	}
	if err != nil {
		return t, false, c.trouble("find", err)
	}
	copy(t.At.Digest[:], digest)
	t.At.Folder, t.At.Place = c.paths[folder], sink.Place(place)
	t.Ends, err = mail.ParseEnds(ends)
	return t, err == nil, c.trouble("find", err)
}

// Regained counts the locations of b, that the server still has, whose messages
// an earlier epoch had too.
func (c *Catalog) Regained(ctx context.Context, b *Box) (n int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err = c.row(`SELECT count(*) FROM location l WHERE l.epoch=? AND l.gone=0 AND EXISTS(SELECT 1 FROM location o
		JOIN epoch e ON e.id=o.epoch WHERE o.message=l.message AND e.folder=? AND e.id<>?)`, []any{b.epoch, b.folder, b.epoch}, &n)
	return n, c.trouble("count", err)
}

// Unbind notes, for good, that in this epoch of b a message has the header, size
// and date of another one. What was taken in it without a download becomes
// unknown, to be downloaded.
func (c *Catalog) Unbind(ctx context.Context, b *Box) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	// First, so that a run that dies in here finds it.
	if err := c.setMeta(unbound(b), "yes"); err != nil {
		return c.trouble("unbind", err)
	}
	for num, id, more := int64(-1), "", true; more; {
		var err error
		if num, id, more, err = c.unbind(b, num, id); err != nil {
			return c.trouble("unbind", err)
		}
	}
	return nil
}

// unbind is Unbind for some of the locations behind one. They count as gone
// until they have come again: so the stored copies are free for them to stand on.
func (c *Catalog) unbind(b *Box, num int64, id string) (int64, string, bool, error) {
	const page = 1000
	var ids []source.ID
	err := c.each("SELECT num, id FROM location WHERE epoch=? AND (num, id)>(?,?) AND spared ORDER BY num, id LIMIT ?",
		[]any{b.epoch, num, id, page}, func(r *sql.Rows) error {
			err := r.Scan(&num, &id)
			ids = append(ids, unkey(num, id))
			return err
		})
	if err != nil {
		return 0, "", false, err
	}
	err = c.change(func() error {
		for _, id := range ids {
			num, text := key(id)
			if err := c.do("UPDATE location SET size=-2, spared=0, gone=1 WHERE epoch=? AND num=? AND id=?", b.epoch, num, text); err != nil {
				return err
			}
			c.tell(goneLine(b, id))
		}
		return nil
	})
	return num, id, len(ids) == page, err
}

// Unbound reports whether that has happened in this epoch of b.
func (c *Catalog) Unbound(ctx context.Context, b *Box) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, err := c.meta(unbound(b))
	return v != "", c.trouble("unbind", err)
}

func unbound(b *Box) string { return "unbound " + strconv.FormatInt(b.epoch, 10) }
