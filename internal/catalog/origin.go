package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"iter"

	"mailhaul/internal/mail"
	"mailhaul/source"
)

// An Origin is a folder of an account, with what the archive can give back of
// it.
type Origin struct {
	Account  string
	Path     mail.Path
	Raw      string
	Role     string
	Sink     mail.Path // where its mail lies in the archive, as a rule
	Messages int64     // copies
	Bytes    int64     // of them, about

	id, account int64
}

// A Copy is one message of an origin, as often as its server had it.
type Copy struct {
	Epoch string
	Entry source.Entry // as last seen at the server; Size is what the server claimed
	Ends  mail.Ends
	At    Stored
	Gone  bool // the server was last seen not to have it, or has renumbered since
	Lost  bool // it is not where it was stored
}

// live is so of a location l, with its epoch e, that the server was last seen
// to have.
const live = "(e.current AND l.gone=0)"

// kept is so of a location l that is given back: a live one, or history whose
// content is not to be seen elsewhere. Content that is live in the account was
// moved or renumbered; content that a later epoch of the same folder has was
// renumbered before it went.
const kept = "(" + live + ` OR NOT EXISTS (SELECT 1 FROM message n JOIN location k ON k.message=n.id
	JOIN epoch d ON d.id=k.epoch JOIN folder g ON g.id=d.folder
	WHERE n.prefix=m.prefix AND n.digest=m.digest AND n.lost<=m.lost AND g.account=f.account
	AND (d.current AND k.gone=0 OR d.folder=e.folder AND d.id>e.id)))`

const copies = " FROM location l JOIN message m ON m.id=l.message JOIN epoch e ON e.id=l.epoch JOIN folder f ON f.id=e.folder WHERE "

func wanted(onlyLive bool) string {
	if onlyLive {
		return live
	}
	return kept
}

// Origins lists the folders of all accounts, in the order of their accounts'
// arrival. With onlyLive, what the server was last seen not to have does not
// count.
func (c *Catalog) Origins(ctx context.Context, onlyLive bool) (all []Origin, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	err = c.each("SELECT f.id, f.account, a.name, f.path, f.raw, f.role, f.sink FROM folder f JOIN account a ON a.id=f.account ORDER BY a.id, f.path", nil,
		func(r *sql.Rows) error {
			var o Origin
			err := r.Scan(&o.id, &o.account, &o.Account, (*string)(&o.Path), &o.Raw, &o.Role, (*string)(&o.Sink))
			all = append(all, o)
			return err
		})
	at := map[int64]int{}
	for i, o := range all {
		at[o.id] = i
	}
	if err == nil {
		err = c.each("SELECT f.id, count(*), sum(m.text+CASE WHEN l.ends LIKE 'crlf%' THEN m.lines ELSE 0 END)"+copies+wanted(onlyLive)+" GROUP BY f.id", nil,
			func(r *sql.Rows) error {
				var id, n, bytes int64
				err := r.Scan(&id, &n, &bytes)
				o := &all[at[id]]
				o.Messages, o.Bytes = n, bytes
				return err
			})
	}
	return all, c.trouble("folders", err)
}

const copyColumns = "SELECT e.id, e.name, l.num, l.id, l.size, l.date, l.ends, l.flags, l.labels, " + live +
	", m.id, m.digest, m.text, m.lines, m.folder, m.place, m.lost"

// Copies yields what the archive can give back of an origin, older epochs
// first. No query is open while the loop's body runs.
func (c *Catalog) Copies(ctx context.Context, o Origin, onlyLive bool) iter.Seq2[Copy, error] {
	return func(yield func(Copy, error) bool) {
		var epochs []int64
		err := c.epochs(o, &epochs)
		for _, epoch := range epochs {
			const page = 1000
			num, id := int64(-1), ""
			for more := true; more && err == nil; {
				var all []Copy
				if err = ctx.Err(); err == nil {
					all, err = c.copyPage(epoch, num, id, page, onlyLive)
				}
				for _, x := range all {
					if !yield(x, nil) {
						return
					}
					num, id = key(x.Entry.ID)
				}
				more = len(all) == page
			}
		}
		if err != nil {
			yield(Copy{}, err)
		}
	}
}

func (c *Catalog) epochs(o Origin, all *[]int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trouble("folder "+mail.Clean(string(o.Path)), c.each("SELECT id FROM epoch WHERE folder=? ORDER BY id", []any{o.id}, func(r *sql.Rows) error {
		var id int64
		err := r.Scan(&id)
		*all = append(*all, id)
		return err
	}))
}

func (c *Catalog) copyPage(epoch, num int64, id string, n int, onlyLive bool) (all []Copy, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err = c.each(copyColumns+copies+"l.epoch=? AND (l.num, l.id)>(?,?) AND "+wanted(onlyLive)+" ORDER BY l.num, l.id LIMIT ?",
		[]any{epoch, num, id, n}, func(r *sql.Rows) error {
			x, err := c.scanCopy(r)
			all = append(all, x)
			return err
		})
	return all, c.trouble("messages", err)
}

func (c *Catalog) scanCopy(r interface{ Scan(...any) error }) (x Copy, err error) {
	var epoch, num, date, folder int64
	var id, ends, flags, labels string
	var digest []byte
	var isLive bool
	e := &x.Entry
	if err := r.Scan(&epoch, &x.Epoch, &num, &id, &e.Size, &date, &ends, &flags, &labels, &isLive,
		&x.At.Message, &digest, &x.At.Text, &x.At.Lines, &folder, (*string)(&x.At.Place), &x.Lost); err != nil {
		return x, err
	}
	copy(x.At.Digest[:], digest)
	x.At.Folder = c.paths[folder]
	x.Gone = !isLive
	e.ID, e.Date, e.Flags = unkey(num, id), fromUnix(date), mail.ParseFlags(flags)
	if labels != "" {
		if err := json.Unmarshal([]byte(labels), &e.Labels); err != nil {
			return x, errors.Join(ErrDamaged, err)
		}
	}
	if x.Ends, err = mail.ParseEnds(ends); err != nil {
		err = errors.Join(ErrDamaged, err)
	}
	return x, err
}

// Copy finds one message of an origin. It reports false where Copies would not
// yield it.
func (c *Catalog) Copy(ctx context.Context, o Origin, epoch string, id source.ID, onlyLive bool) (x Copy, ok bool, err error) {
	if err := ctx.Err(); err != nil {
		return x, false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	num, text := key(id)
	err = c.each(copyColumns+copies+"e.folder=? AND e.name=? AND l.num=? AND l.id=? AND "+wanted(onlyLive), []any{o.id, epoch, num, text}, func(r *sql.Rows) (err error) {
		x, err = c.scanCopy(r)
		ok = true
		return err
	})
	return x, ok, c.trouble("find", err)
}

// stray is so of a message m that no location stands on, nor on its content:
// it was adopted without a word about where it came from.
const stray = `m.lost=0 AND NOT EXISTS (SELECT 1 FROM location l WHERE l.message=m.id)
	AND NOT EXISTS (SELECT 1 FROM message n JOIN location k ON k.message=n.id WHERE n.prefix=m.prefix AND n.digest=m.digest AND n.lost=0)`

// Strays counts the messages of each folder of the archive, folders without any
// too, of which nothing is known but their content.
func (c *Catalog) Strays(ctx context.Context) (all []SinkFolder, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	err = c.each("SELECT s.path, count(m.id), ifnull(sum(m.text+m.lines), 0) FROM sinkfolder s LEFT JOIN message m ON m.folder=s.id AND "+stray+" GROUP BY s.id ORDER BY s.path", nil,
		func(r *sql.Rows) error {
			var f SinkFolder
			err := r.Scan((*string)(&f.Path), &f.Messages, &f.Bytes)
			all = append(all, f)
			return err
		})
	return all, c.trouble("folders", err)
}

// StraysIn yields those of one folder. No query is open while the loop's body
// runs.
func (c *Catalog) StraysIn(ctx context.Context, path mail.Path) iter.Seq2[Stored, error] {
	return c.pages(ctx, func(after int64, n int) ([]Stored, error) { return c.page(path, stray, after, n) })
}

// Ordinal tells the how many-th stray of its content a message is within its
// folder, from 1.
func (c *Catalog) Ordinal(ctx context.Context, s Stored) (n int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err = c.row("SELECT count(*) FROM message m WHERE m.prefix=? AND m.digest=? AND m.folder=? AND m.id<=? AND "+stray,
		[]any{prefix(s.Digest), s.Digest[:], c.folders[s.Folder], s.Message}, &n)
	return n, c.trouble("find", err)
}

// Stray finds the n-th stray of a content within a folder.
func (c *Catalog) Stray(ctx context.Context, path mail.Path, d mail.Digest, n int64) (s Stored, ok bool, err error) {
	if err := ctx.Err(); err != nil {
		return s, false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s = Stored{Folder: path, Digest: d}
	err = c.row("SELECT m.id, m.text, m.lines, m.place FROM message m WHERE m.prefix=? AND m.digest=? AND m.folder=? AND "+stray+" ORDER BY m.id LIMIT 1 OFFSET ?",
		[]any{prefix(d), d[:], c.folders[path], n - 1}, &s.Message, &s.Text, &s.Lines, (*string)(&s.Place))
	if errors.Is(err, sql.ErrNoRows) {
		return s, false, nil
	}
	return s, err == nil, c.trouble("find", err)
}

// Age tells the state of the whole catalog in a word that is another one once a
// run has begun since.
func (c *Catalog) Age(ctx context.Context) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var id, run, started string
	err := c.row("SELECT ifnull(max(id), 0), ifnull(max(started), 0) FROM run", nil, &run, &started)
	if err == nil {
		id, err = c.meta("id")
	}
	return fmt.Sprintf("%s %s %s", id, run, started), c.trouble("age", err)
}
