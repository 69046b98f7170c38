package catalog

import (
	"context"
	"database/sql"
	"errors"

	"mailhaul/internal/mail"
	"mailhaul/sink"
	"mailhaul/source"
)

// A Known is what the catalog has of a listed entry. The zero Known is an
// entry to be fetched.
type Known struct {
	Is     bool
	Flags  mail.Flags
	Labels string
	At     Stored
	Gone   bool // it was thought to be gone
	Fresh  bool // committed by this run
}

// A Stored is a message in the archive.
type Stored struct {
	Message     int64
	Digest      mail.Digest
	Text, Lines int64
	Folder      mail.Path
	Place       sink.Place
}

// Compare finds for each of entries what is known of it. An entry is known
// when its size and date are those recorded and its message is not lost. For a
// listing without gaps, where IDs are numbers and ascend, it also returns the
// IDs between after and the last entry that were not listed.
func (c *Catalog) Compare(ctx context.Context, b *Box, entries []source.Entry, after source.ID, gaps bool) (known []Known, gone []source.ID, err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	known = make([]Known, len(entries))
	from, _ := key(after)
	to, ordered := int64(0), !gaps
	for last, i := from, 0; i < len(entries); i++ {
		n, _ := key(entries[i].ID)
		ordered = ordered && n > last
		last, to = n, n
	}
	if ordered {
		gone, err = c.compareRange(b, entries, known, from, to)
	} else {
		err = c.compareEach(b, entries, known)
	}
	return known, gone, c.trouble("compare", err)
}

// unproven is the size of a location that must be fetched again.
const unproven = -2

const locationColumns = "l.num, l.id, l.size, l.date, l.flags, l.labels, l.gone, l.run, m.id, m.folder, m.place, m.lost"

func (c *Catalog) compareRange(b *Box, entries []source.Entry, known []Known, from, to int64) (gone []source.ID, err error) {
	i := 0
	err = c.each("SELECT "+locationColumns+" FROM location l JOIN message m ON m.id=l.message WHERE l.epoch=? AND l.num>? AND l.num<=? ORDER BY l.num",
		[]any{b.epoch, from, to}, func(r *sql.Rows) error {
			row, err := c.scanLocation(r)
			if err != nil {
				return err
			}
			for i < len(entries) {
				n, _ := key(entries[i].ID)
				if n >= row.num {
					break
				}
				i++
			}
			if i < len(entries) {
				if n, _ := key(entries[i].ID); n == row.num {
					known[i] = c.known(&row, entries[i])
					return nil
				}
			}
			if !row.gone {
				gone = append(gone, unkey(row.num, row.id))
			}
			return nil
		})
	return gone, err
}

func (c *Catalog) compareEach(b *Box, entries []source.Entry, known []Known) error {
	for i, e := range entries {
		num, id := key(e.ID)
		err := c.each("SELECT "+locationColumns+" FROM location l JOIN message m ON m.id=l.message WHERE l.epoch=? AND l.num=? AND l.id=?",
			[]any{b.epoch, num, id}, func(r *sql.Rows) error {
				row, err := c.scanLocation(r)
				if err == nil {
					known[i] = c.known(&row, e)
				}
				return err
			})
		if err != nil {
			return err
		}
	}
	return nil
}

// IsNumber reports whether an ID has a place in the order of numbers.
func IsNumber(id source.ID) bool {
	n, _ := key(id)
	return n > 0
}

// Beyond lists the IDs that are known, not marked as gone, and were not
// listed: numbers after the last one of the listing, and IDs that are no
// numbers and not among texts.
func (c *Catalog) Beyond(ctx context.Context, b *Box, after source.ID, texts map[source.ID]struct{}) (gone []source.ID, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	from, _ := key(after)
	err = c.each("SELECT num, id FROM location WHERE epoch=? AND (num>? OR num=0) AND gone=0", []any{b.epoch, from}, func(r *sql.Rows) error {
		var num int64
		var text string
		if err := r.Scan(&num, &text); err != nil {
			return err
		}
		id := unkey(num, text)
		if _, listed := texts[id]; !listed {
			gone = append(gone, id)
		}
		return nil
	})
	return gone, c.trouble("compare", err)
}

type locationRow struct {
	num, size, date int64
	run             int64
	id              string
	flags, labels   string
	gone, lost      bool
	at              Stored
}

func (c *Catalog) scanLocation(r *sql.Rows) (row locationRow, err error) {
	var folder int64
	var place sql.RawBytes
	var flags, labels, id sql.RawBytes
	err = r.Scan(&row.num, &id, &row.size, &row.date, &flags, &labels, &row.gone, &row.run, &row.at.Message, &folder, &place, &row.lost)
	row.id, row.flags, row.labels, row.at.Place = string(id), string(flags), string(labels), sink.Place(place)
	row.at.Folder = c.paths[folder]
	return row, err
}

func (c *Catalog) known(row *locationRow, e source.Entry) Known {
	if row.lost || row.size == unproven || e.Size >= 0 && e.Size != row.size || !e.Date.IsZero() && e.Date.Unix() != row.date {
		return Known{}
	}
	return Known{Is: true, Flags: mail.ParseFlags(row.flags), Labels: row.labels, At: row.at, Gone: row.gone, Fresh: row.run == c.run}
}

// Find returns the stored copies of a content that are not lost.
func (c *Catalog) Find(ctx context.Context, d mail.Digest) (all []Stored, err error) {
	return c.find(d, "")
}

// Alike returns those of the stored copies of a content that were brought with
// these flags and this date, or have got the flags since, as far as is known.
func (c *Catalog) Alike(ctx context.Context, d mail.Digest, e *source.Entry) (all []Stored, err error) {
	return c.find(d, "AND EXISTS(SELECT 1 FROM location l WHERE l.message=m.id AND l.flags=? AND l.date=?)", e.Flags.Key(), unix(e.Date))
}

func (c *Catalog) find(d mail.Digest, and string, args ...any) (all []Stored, err error) {
	if c.filter != nil && !c.filter.has(d) {
		return nil, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	err = c.each("SELECT id, text, lines, folder, place FROM message m WHERE prefix=? AND digest=? AND lost=0 "+and+" ORDER BY id",
		append([]any{prefix(d), d[:]}, args...), func(r *sql.Rows) error {
			s := Stored{Digest: d}
			var folder int64
			err := r.Scan(&s.Message, &s.Text, &s.Lines, &folder, (*string)(&s.Place))
			s.Folder = c.paths[folder]
			all = append(all, s)
			return err
		})
	return all, c.trouble("find", err)
}

// Hints tells by what a content is recognised in a folder that others fill, too,
// when it is not at hand: its Message-ID and the digest of its header. They are
// known of what was committed with Record.Hints, by whatever run.
func (c *Catalog) Hints(ctx context.Context, d mail.Digest) (messageID string, head mail.Digest, known bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var h []byte
	err = c.row("SELECT name, head FROM hint WHERE digest=?", []any{d[:]}, &messageID, &h)
	if errors.Is(err, sql.ErrNoRows) {
		return "", head, false, nil
	}
	copy(head[:], h)
	return messageID, head, err == nil, c.trouble("find", err)
}

// prefix is the part of a digest that is indexed.
func prefix(d mail.Digest) int64 {
	return int64(d[0])<<24 | int64(d[1])<<16 | int64(d[2])<<8 | int64(d[3])
}

// Held reports whether a location of b, that the server still has, stands on
// a message. History does not hold, nor do other folders and accounts.
func (c *Catalog) Held(ctx context.Context, b *Box, message int64) (held bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err = c.row("SELECT EXISTS(SELECT 1 FROM location WHERE message=? AND epoch=? AND gone=0)", []any{message, b.epoch}, &held)
	return held, c.trouble("find", err)
}

// Leads reports whether the location (b, id) is the one, of all that stand on
// the message, whose flags count: the live one with the lowest UID. A store
// that knows no dates of arrival knows no flags either and comes last.
func (c *Catalog) Leads(ctx context.Context, b *Box, id source.ID, message int64) (leads bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	num, text := key(id)
	var n int64
	var t string
	var epoch int64
	err = c.row(`SELECT l.epoch, l.num, l.id FROM location l JOIN epoch e ON e.id=l.epoch WHERE l.message=? AND l.gone=0 AND e.current
		ORDER BY l.date=?, l.epoch, l.num, l.id LIMIT 1`, []any{message, int64(noDate)}, &epoch, &n, &t)
	if errors.Is(err, sql.ErrNoRows) {
		return true, nil
	}
	return epoch == b.epoch && n == num && t == text, c.trouble("find", err)
}

// A Twin is a committed location with the server's own identity.
type Twin struct {
	At   Stored
	Ends mail.Ends
}

// FindGlobalAlike is FindGlobal for a copy that the destination is to make: of
// what has the flags and the date of e, and can be recognised (Hints).
func (c *Catalog) FindGlobalAlike(ctx context.Context, account string, e *source.Entry) (t Twin, ok bool, err error) {
	return c.findGlobal("AND l.flags=? AND l.date=? AND EXISTS(SELECT 1 FROM hint h WHERE h.digest=m.digest)", account, e.Global, e.Size, e.Flags.Key(), unix(e.Date))
}

// FindGlobal finds, by the server's own identity within one account, a
// message of the same claimed size (RELIABILITY: the size guards the promise).
func (c *Catalog) FindGlobal(ctx context.Context, account, global string, size int64) (t Twin, ok bool, err error) {
	return c.findGlobal("", account, global, size)
}

func (c *Catalog) findGlobal(and, account, global string, size int64, args ...any) (t Twin, ok bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var folder int64
	var digest []byte
	var ends string
	err = c.row(`SELECT m.id, m.digest, m.text, m.lines, m.folder, m.place, l.ends FROM location l JOIN message m ON m.id=l.message
		JOIN epoch e ON e.id=l.epoch JOIN folder f ON f.id=e.folder JOIN account a ON a.id=f.account
		WHERE l.global=? AND l.global<>'' AND l.size=? AND a.name=? AND m.lost=0 `+and+` ORDER BY m.id LIMIT 1`, append([]any{global, size, account}, args...),
		&t.At.Message, &digest, &t.At.Text, &t.At.Lines, &folder, (*string)(&t.At.Place), &ends)
	if errors.Is(err, sql.ErrNoRows) {
		return t, false, nil
	}
	if err != nil {
		return t, false, c.trouble("find", err)
	}
	copy(t.At.Digest[:], digest)
	t.At.Folder = c.paths[folder]
	t.Ends, err = mail.ParseEnds(ends)
	return t, err == nil, c.trouble("find", err)
}

// Distrust notes that an account's server gave two different messages one
// identity. What was taken on its word becomes unknown, to be downloaded.
func (c *Catalog) Distrust(ctx context.Context, account string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	const epochs = "SELECT e.id FROM epoch e JOIN folder f ON f.id=e.folder JOIN account a ON a.id=f.account WHERE a.name=?"
	return c.trouble("distrust", c.transact(func() error {
		if err := c.do("UPDATE location SET size=-2, spared=0 WHERE spared AND epoch IN ("+epochs+")", account); err != nil {
			return err
		}
		if err := c.do("UPDATE epoch SET cursor='' WHERE id IN ("+epochs+")", account); err != nil {
			return err
		}
		return c.setMeta("distrust "+account, "yes")
	}))
}

// Doubt notes that an account's server has called something unchanged that was
// not.
func (c *Catalog) Doubt(ctx context.Context, account string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trouble("distrust", c.setMeta("doubt "+account, "yes"))
}

// Distrusted reports whether either happened, ever.
func (c *Catalog) Distrusted(ctx context.Context, account string) (identity, changes bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, err := c.meta("distrust " + account)
	var d string
	if err == nil {
		d, err = c.meta("doubt " + account)
	}
	return v != "", d != "", c.trouble("distrust", err)
}

// A Change is what the server now says of a known location.
type Change struct {
	ID     source.ID
	Flags  mail.Flags
	Labels []string
}

// Reflag stores changed flags and labels. Locations that were thought to be
// gone are back.
func (c *Catalog) Reflag(ctx context.Context, b *Box, changes []Change) error {
	if len(changes) == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.change(func() error {
		for _, ch := range changes {
			num, id := key(ch.ID)
			if err := c.do("UPDATE location SET flags=?, labels=?, gone=0 WHERE epoch=? AND num=? AND id=?",
				ch.Flags.Key(), Labels(ch.Labels), b.epoch, num, id); err != nil {
				return err
			}
			c.tell(reflagged(b, ch))
		}
		return nil
	})
	return c.trouble("flags", err)
}
