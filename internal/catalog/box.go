package catalog

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailhaul/internal/mail"
	"mailhaul/source"
)

// A Box is one folder of one account as the catalog knows it, in its current
// epoch.
type Box struct {
	Account string
	Path    mail.Path
	Raw     string
	Role    string        // as it was last listed
	Sink    mail.Path     // the folder in the archive
	Epoch   string        // empty when it was never read
	Cursor  source.Cursor // empty when everything must be listed
	Listed  time.Time     // in full; zero: never, or by a version that did not note it

	folder, epoch int64
}

// Box files a folder. Its place in the archive is decided once, at first
// sight, by to.
func (c *Catalog) Box(ctx context.Context, account string, f source.Folder, to mail.Path) (*Box, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := &Box{Account: account, Path: f.Path, Raw: f.Raw, Role: f.Role, Sink: to}
	err := c.transact(func() error {
		var owner int64
		if err := c.row("SELECT id FROM account WHERE name=?", []any{account}, &owner); err != nil {
			return err
		}
		var role string
		err := c.row("SELECT id, sink, role FROM folder WHERE account=? AND path=?", []any{owner, string(f.Path)}, &b.folder, (*string)(&b.Sink), &role)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			b.folder, err = c.insert("INSERT INTO folder(account, path, raw, sink, role) VALUES(?,?,?,?,?)", owner, string(f.Path), f.Raw, string(to), f.Role)
		case err == nil && role != f.Role:
			if err = c.do("UPDATE folder SET role=? WHERE id=?", f.Role, b.folder); err == nil {
				err = c.outdate()
			}
		}
		if err != nil {
			return err
		}
		var listed int64
		err = c.row("SELECT id, name, cursor, listed FROM epoch WHERE folder=? AND current", []any{b.folder}, &b.epoch, &b.Epoch, (*string)(&b.Cursor), &listed)
		if listed > 0 {
			b.Listed = time.Unix(listed, 0)
		}
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
	return b, c.trouble("folder "+mail.Clean(string(f.Path)), err)
}

// Boxes lists where the folders of all accounts go.
func (c *Catalog) Boxes(ctx context.Context) (map[string]map[mail.Path]mail.Path, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[string]map[mail.Path]mail.Path{}
	err := c.each("SELECT a.name, f.path, f.sink FROM folder f JOIN account a ON a.id=f.account", nil, func(r *sql.Rows) error {
		var account, path, to string
		if err := r.Scan(&account, &path, &to); err != nil {
			return err
		}
		if all[account] == nil {
			all[account] = map[mail.Path]mail.Path{}
		}
		all[account][mail.Path(path)] = mail.Path(to)
		return nil
	})
	return all, c.trouble("folders", err)
}

// Enter tells the epoch in which the folder was found. Another one than
// before makes everything unknown: what was known stays as history. It
// reports whether that happened.
func (c *Catalog) Enter(ctx context.Context, b *Box, epoch string) (renumbered bool, err error) {
	base, _, _ := strings.Cut(b.Epoch, "#")
	if b.Epoch != "" && base == epoch {
		return false, nil
	}
	return b.Epoch != "", c.begin(b, epoch)
}

// Rewind opens a new generation of the epoch: the server was set back to an
// older state, so that its numbers may name other messages than before.
func (c *Catalog) Rewind(ctx context.Context, b *Box) error {
	base, n, _ := strings.Cut(b.Epoch, "#")
	i, _ := strconv.Atoi(n)
	return c.begin(b, fmt.Sprintf("%s#%d", base, i+1))
}

func (c *Catalog) begin(b *Box, epoch string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.transact(func() error {
		if err := c.do("UPDATE epoch SET current=0, cursor='' WHERE folder=?", b.folder); err != nil {
			return err
		}
		// A server that goes back to a UIDVALIDITY it had before may have
		// dealt the numbers anew: that is a generation of its own.
		name := epoch
		for n := 1; ; n++ {
			var one int
			err := c.row("SELECT 1 FROM epoch WHERE folder=? AND name=?", []any{b.folder, name}, &one)
			if errors.Is(err, sql.ErrNoRows) {
				break
			}
			if err != nil {
				return err
			}
			base, _, _ := strings.Cut(epoch, "#")
			name = fmt.Sprintf("%s#%d", base, n)
		}
		id, err := c.insert("INSERT INTO epoch(folder, name, current) VALUES(?,?,1)", b.folder, name)
		if err != nil {
			return err
		}
		b.epoch, b.Epoch, b.Cursor, b.Listed = id, name, "", time.Time{}
		return nil
	})
	return c.trouble("folder "+mail.Clean(string(b.Path)), err)
}

// Finish stores the cursor of a folder, after everything listed under it was
// settled or has a failure row. Listed is when that was done in full; zero: it
// was not.
func (c *Catalog) Finish(ctx context.Context, b *Box, to source.Cursor, listed time.Time) error {
	if d := listed.Sub(b.Listed); listed.IsZero() || d >= 0 && d < time.Hour {
		listed = b.Listed // an hour is near enough, and spares a write in each run
	}
	if to == b.Cursor && listed.Equal(b.Listed) {
		return nil
	}
	at := int64(0)
	if !listed.IsZero() {
		at = listed.Unix()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.do("UPDATE epoch SET cursor=?, listed=? WHERE id=?", string(to), at, b.epoch)
	if err == nil {
		b.Cursor, b.Listed = to, listed
	}
	return c.trouble("folder "+mail.Clean(string(b.Path)), err)
}

// Gone notes what a listing has lacked. What stands there in the archive stays,
// and is free for a new location of the same content to stand on. It returns
// those that an earlier run had asked the source to remove, without hearing
// that it did: now that is certain.
func (c *Catalog) Gone(ctx context.Context, b *Box, ids []source.ID) (removed []source.ID, err error) {
	if len(ids) == 0 {
		return nil, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	err = c.change(func() error {
		for _, id := range ids {
			num, text := key(id)
			var asked int64
			err := c.row("SELECT removed FROM location WHERE epoch=? AND num=? AND id=?", []any{b.epoch, num, text}, &asked)
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return err
			}
			if asked < 0 {
				removed = append(removed, id)
				c.tell(removedLine(b, id, -asked))
			} else if err == nil {
				c.tell(goneLine(b, id))
			}
			if err := c.do("UPDATE location SET gone=1, removed=abs(removed) WHERE epoch=? AND num=? AND id=?", b.epoch, num, text); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, c.trouble("folder "+mail.Clean(string(b.Path)), err)
	}
	return removed, nil
}

// Forget drops the cursor of b, so that the next run lists everything.
func (c *Catalog) Forget(ctx context.Context, b *Box) error { return c.Finish(ctx, b, "", time.Time{}) }

// mostSpans is how many times Within asks at most.
const mostSpans = 1000

// Within lists the locations in spans of numbers that were thought to be there,
// in ascending order. The spans may overlap. Where there are very many, such as
// the gaps of a folder, neighbours are looked up together.
func (c *Catalog) Within(ctx context.Context, b *Box, spans []source.Span) (ids []source.ID, err error) {
	spans = joined(spans)
	c.mu.Lock()
	defer c.mu.Unlock()
	for part := range slices.Chunk(spans, 1+len(spans)/mostSpans) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		first, last := part[0].First, part[len(part)-1].Last
		err := c.each("SELECT num FROM location WHERE epoch=? AND num BETWEEN ? AND ? AND gone=0 ORDER BY num", []any{b.epoch, int64(first), int64(last)}, func(r *sql.Rows) error {
			var num int64
			if err := r.Scan(&num); err != nil {
				return err
			}
			for part[0].Last < uint64(num) {
				part = part[1:]
			}
			if part[0].First <= uint64(num) {
				ids = append(ids, unkey(num, ""))
			}
			return nil
		})
		if err != nil {
			return nil, c.trouble("folder "+mail.Clean(string(b.Path)), err)
		}
	}
	return ids, nil
}

// joined are the same numbers in spans that ascend and do not overlap, as far as
// the catalog has such numbers.
func joined(spans []source.Span) (all []source.Span) {
	spans = slices.Clone(spans)
	slices.SortFunc(spans, func(a, b source.Span) int { return cmp.Compare(a.First, b.First) })
	for _, s := range spans {
		s.First, s.Last = max(s.First, 1), min(s.Last, math.MaxInt64)
		switch n := len(all); {
		case s.First > s.Last:
		case n > 0 && s.First <= all[n-1].Last:
			all[n-1].Last = max(all[n-1].Last, s.Last)
		default:
			all = append(all, s)
		}
	}
	return all
}

// Live counts the locations of b that the server was last seen to have.
func (c *Catalog) Live(ctx context.Context, b *Box) (n int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err = c.row("SELECT count(*) FROM location WHERE epoch=? AND gone=0", []any{b.epoch}, &n)
	return n, c.trouble("count", err)
}

// key splits an ID into its sortable forms.
func key(id source.ID) (num int64, text string) {
	n, err := strconv.ParseInt(string(id), 10, 64)
	if err == nil && n > 0 && strconv.FormatInt(n, 10) == string(id) {
		return n, ""
	}
	return 0, string(id)
}

func unkey(num int64, text string) source.ID {
	if num > 0 {
		return source.ID(strconv.FormatInt(num, 10))
	}
	return source.ID(text)
}
