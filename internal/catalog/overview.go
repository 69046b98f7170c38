package catalog

import (
	"context"
	"database/sql"
	"iter"
	"time"

	"mailhaul/internal/mail"
	"mailhaul/source"
)

// An Account is one that mail was brought from.
type Account struct {
	Name    string
	Folders int64
	Here    int64 // messages that its server was last seen to have
	Gone    int64 // that it had
}

// Accounts lists the accounts in the order of their arrival.
func (c *Catalog) Accounts(ctx context.Context) (all []Account, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	err = c.each(`SELECT a.name, (SELECT count(*) FROM folder f WHERE f.account=a.id),
		(SELECT count(*) FROM location l JOIN epoch e ON e.id=l.epoch JOIN folder f ON f.id=e.folder WHERE f.account=a.id AND e.current AND l.gone=0),
		(SELECT count(*) FROM location l JOIN epoch e ON e.id=l.epoch JOIN folder f ON f.id=e.folder WHERE f.account=a.id AND e.current AND l.gone)
		FROM account a ORDER BY a.id`, nil, func(r *sql.Rows) error {
		var a Account
		err := r.Scan(&a.Name, &a.Folders, &a.Here, &a.Gone)
		all = append(all, a)
		return err
	})
	return all, c.trouble("accounts", err)
}

// A Run is one of the past.
type Run struct {
	Started time.Time
	Ended   time.Time // zero: it died, or it is this one
	Report  []byte    // as EndRun was given it; nil: none
}

// Runs lists the last n runs, the latest first.
func (c *Catalog) Runs(ctx context.Context, n int) (all []Run, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	err = c.each("SELECT started, ended, report FROM run ORDER BY id DESC LIMIT ?", []any{n}, func(r *sql.Rows) error {
		var x Run
		var started int64
		var ended sql.NullInt64
		err := r.Scan(&started, &ended, &x.Report)
		x.Started = time.Unix(started, 0)
		if ended.Valid {
			x.Ended = time.Unix(ended.Int64, 0)
		}
		all = append(all, x)
		return err
	})
	return all, c.trouble("runs", err)
}

// A Received is a way in which a stored message has come, and how many bytes
// its server said that it has (-1: it did not).
type Received struct {
	At      Stored
	Ends    mail.Ends
	Claimed int64
}

// Received yields the ways in which the messages of a folder of the archive
// have come, those of one message in a row. No query is open while the loop's
// body runs.
func (c *Catalog) Received(ctx context.Context, path mail.Path) iter.Seq2[Received, error] {
	return func(yield func(Received, error) bool) {
		for stored, err := range c.chunks(ctx, path) {
			var all []Received
			if err == nil {
				all, err = c.received(path, stored)
			}
			if err != nil {
				yield(Received{}, err)
				return
			}
			for _, x := range all {
				if !yield(x, nil) {
					return
				}
			}
		}
	}
}

// chunks yields ranges of message numbers of a folder, some hundred messages each.
func (c *Catalog) chunks(ctx context.Context, path mail.Path) iter.Seq2[[2]int64, error] {
	return func(yield func([2]int64, error) bool) {
		const page = 500
		for at := int64(0); ; {
			all, err := c.page(path, "m.lost=0", at, page)
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield([2]int64{}, err)
				return
			}
			if len(all) == 0 {
				return
			}
			to := all[len(all)-1].Message
			if !yield([2]int64{at, to}, nil) {
				return
			}
			at = to
		}
	}
}

func (c *Catalog) received(path mail.Path, between [2]int64) (all []Received, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err = c.each(`SELECT DISTINCT m.id, m.digest, m.text, m.lines, m.place, l.ends, l.size FROM message m JOIN location l ON l.message=m.id
		WHERE m.folder=? AND m.id>? AND m.id<=? AND m.lost=0 ORDER BY m.id, l.ends`, []any{c.folders[path], between[0], between[1]}, func(r *sql.Rows) error {
		x := Received{At: Stored{Folder: path}}
		var digest []byte
		var ends string
		err := r.Scan(&x.At.Message, &digest, &x.At.Text, &x.At.Lines, (*string)(&x.At.Place), &ends, &x.Claimed)
		if err == nil {
			copy(x.At.Digest[:], digest)
			x.Ends, err = mail.ParseEnds(ends)
		}
		all = append(all, x)
		return err
	})
	return all, c.trouble("messages", err)
}

// Located finds a message by where its server has it now: the ID in the
// current epoch of the folder, which Epoch of the copy names.
func (c *Catalog) Located(ctx context.Context, account string, path mail.Path, id source.ID) (x Copy, ok bool, err error) {
	if err := ctx.Err(); err != nil {
		return x, false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	num, text := key(id)
	err = c.each(copyColumns+copies+"e.current AND f.path=? AND f.account=(SELECT id FROM account WHERE name=?) AND l.num=? AND l.id=?",
		[]any{string(path), account, num, text}, func(r *sql.Rows) (err error) {
			x, err = c.scanCopy(r)
			ok = true
			return err
		})
	return x, ok, c.trouble("find", err)
}
