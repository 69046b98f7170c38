package catalog

import (
	"context"
	"database/sql"
	"iter"

	"mailhaul/internal/mail"
	"mailhaul/sink"
)

// A SinkFolder is a folder of the archive as it was after the last commit.
type SinkFolder struct {
	Path     mail.Path
	State    sink.State // empty: never written
	Messages int64      // that are not lost
	Bytes    int64      // of them, in text form
}

// Folders lists the folders of the archive.
func (c *Catalog) Folders(ctx context.Context) (all []SinkFolder, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err = c.each(`SELECT s.path, s.state, count(m.id), ifnull(sum(m.text), 0) FROM sinkfolder s
		LEFT JOIN message m ON m.folder=s.id AND m.lost=0 GROUP BY s.id ORDER BY s.path`, nil,
		func(r *sql.Rows) error {
			var f SinkFolder
			err := r.Scan((*string)(&f.Path), (*string)(&f.State), &f.Messages, &f.Bytes)
			all = append(all, f)
			return err
		})
	return all, c.trouble("folders", err)
}

// States lists the folders of the archive without counting.
func (c *Catalog) States(ctx context.Context) (all []SinkFolder, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err = c.each("SELECT path, state FROM sinkfolder ORDER BY path", nil, func(r *sql.Rows) error {
		f := SinkFolder{Messages: -1}
		err := r.Scan((*string)(&f.Path), (*string)(&f.State))
		all = append(all, f)
		return err
	})
	return all, c.trouble("folders", err)
}

// SetState stores the state of a folder of the archive, filing the folder
// where it is new.
func (c *Catalog) SetState(ctx context.Context, path mail.Path, s sink.State) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	id, err := c.sinkFolder(path)
	if err == nil {
		err = c.do("UPDATE sinkfolder SET state=? WHERE id=?", string(s), id)
	}
	return c.trouble("state", err)
}

// Messages yields what a folder of the archive holds, in the order of storing.
// No query is open while the loop's body runs.
func (c *Catalog) Messages(ctx context.Context, path mail.Path) iter.Seq2[Stored, error] {
	return c.pages(ctx, func(after int64, n int) ([]Stored, error) { return c.page(path, "m.lost=0", after, n) })
}

// pages yields page after page.
func (c *Catalog) pages(ctx context.Context, read func(after int64, n int) ([]Stored, error)) iter.Seq2[Stored, error] {
	return func(yield func(Stored, error) bool) {
		const page = 1000
		at := int64(0)
		for {
			all, err := read(at, page)
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(Stored{}, err)
				return
			}
			for _, s := range all {
				if !yield(s, nil) {
					return
				}
				at = s.Message
			}
			if len(all) < page {
				return
			}
		}
	}
}

func (c *Catalog) page(path mail.Path, which string, after int64, n int) (all []Stored, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err = c.each("SELECT m.id, m.digest, m.text, m.lines, m.place FROM message m WHERE m.folder=? AND m.id>? AND "+which+" ORDER BY m.id LIMIT ?",
		[]any{c.folders[path], after, n}, func(r *sql.Rows) error {
			s := Stored{Folder: path}
			var digest []byte
			if err := r.Scan(&s.Message, &digest, &s.Text, &s.Lines, (*string)(&s.Place)); err != nil {
				return err
			}
			copy(s.Digest[:], digest)
			all = append(all, s)
			return nil
		})
	return all, c.trouble("messages", err)
}

// Lose marks messages that are not where they were. Their locations become
// unknown, and the folders of these are listed anew.
func (c *Catalog) Lose(ctx context.Context, messages []int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trouble("lose", c.transact(func() error {
		for _, m := range messages {
			if err := c.do("UPDATE message SET lost=1 WHERE id=?", m); err != nil {
				return err
			}
			if err := c.do("UPDATE epoch SET cursor='' WHERE id IN (SELECT epoch FROM location WHERE message=?)", m); err != nil {
				return err
			}
		}
		return nil
	}))
}

// Regain takes back that messages were lost.
func (c *Catalog) Regain(ctx context.Context, messages []int64) error {
	if len(messages) == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trouble("regain", c.transact(func() error {
		for _, m := range messages {
			if err := c.do("UPDATE message SET lost=0 WHERE id=?", m); err != nil {
				return err
			}
		}
		return nil
	}))
}

// Move notes that messages lie elsewhere in their folder than before: another
// program has rewritten it.
func (c *Catalog) Move(ctx context.Context, to map[int64]sink.Place) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trouble("move", c.transact(func() error {
		for m, p := range to {
			if err := c.do("UPDATE message SET place=? WHERE id=?", string(p), m); err != nil {
				return err
			}
		}
		return c.outdate() // its places are those of before
	}))
}

// Reconcile settles lost messages at the end of a run: history that stood on
// one moves to another copy of the same content, one that nothing stands on is
// dropped. It returns what is still lost.
func (c *Catalog) Reconcile(ctx context.Context) (lost []Stored, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err = c.transact(func() error {
		if err := c.do(`UPDATE location SET message=(SELECT n.id FROM message o JOIN message n ON n.prefix=o.prefix AND n.digest=o.digest AND n.lost=0
				WHERE o.id=location.message ORDER BY n.folder<>o.folder, n.id LIMIT 1)
			WHERE message IN (SELECT o.id FROM message o WHERE o.lost AND EXISTS
				(SELECT 1 FROM message n WHERE n.prefix=o.prefix AND n.digest=o.digest AND n.lost=0))
			AND (gone OR epoch IN (SELECT id FROM epoch WHERE NOT current))`); err != nil {
			return err
		}
		if err := c.do("DELETE FROM message WHERE lost AND NOT EXISTS (SELECT 1 FROM location l WHERE l.message=message.id)"); err != nil {
			return err
		}
		lost, err = c.lost(-1)
		return err
	})
	return lost, c.trouble("reconcile", err)
}

// Lost lists the messages that are not where they were.
func (c *Catalog) Lost(ctx context.Context) ([]Stored, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	lost, err := c.lost(-1)
	return lost, c.trouble("lost", err)
}

// lost lists the first n lost messages, or all for -1.
func (c *Catalog) lost(n int) (lost []Stored, err error) {
	err = c.each("SELECT id, digest, text, lines, folder, place FROM message WHERE lost LIMIT ?", []any{n}, func(r *sql.Rows) error {
		var s Stored
		var digest []byte
		var folder int64
		if err := r.Scan(&s.Message, &digest, &s.Text, &s.Lines, &folder, (*string)(&s.Place)); err != nil {
			return err
		}
		copy(s.Digest[:], digest)
		s.Folder = c.paths[folder]
		lost = append(lost, s)
		return nil
	})
	return lost, err
}

// Message is one stored message by its number.
func (c *Catalog) Message(ctx context.Context, id int64) (s Stored, err error) {
	if err := ctx.Err(); err != nil {
		return s, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var digest []byte
	var folder int64
	err = c.row("SELECT id, digest, text, lines, folder, place FROM message WHERE id=?", []any{id},
		&s.Message, &digest, &s.Text, &s.Lines, &folder, (*string)(&s.Place))
	copy(s.Digest[:], digest)
	s.Folder = c.paths[folder]
	return s, c.trouble("find", err)
}
