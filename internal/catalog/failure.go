package catalog

import (
	"context"
	"database/sql"
	"time"

	"mailhaul/internal/mail"
	"mailhaul/source"
)

// A Failure is a message that could not be brought over, or of which nobody
// knows whether it was.
type Failure struct {
	Entry    source.Entry
	Reason   string
	Doubt    bool        // it may have arrived
	Digest   mail.Digest // where the message has been seen
	Note     string      // what the sink wants to know at the next try
	Tries    int
	First    time.Time
	Last     time.Time
	Accepted time.Time // when the user has said to leave it as it is; zero: never
}

// Fail notes a failure. It stays, and holds the run's exit code, until the
// message is stored, has vanished, or is accepted. A message in doubt stays
// that; one that was accepted and fails again was another one, and counts.
func (c *Catalog) Fail(ctx context.Context, b *Box, e source.Entry, reason string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trouble("failure", c.fail(b.epoch, &Failure{Entry: e, Reason: reason}))
}

// fail files f. A doubt stays until the message is stored: that it was refused
// later says nothing about the first time. Digest and note stay where the later
// failure has none.
func (c *Catalog) fail(epoch int64, f *Failure) error {
	now := time.Now().Unix()
	digest := []byte{}
	if f.Digest != (mail.Digest{}) {
		digest = f.Digest[:]
	}
	return c.do(`INSERT INTO failure(epoch, id, entry, reason, tries, first, last, doubt, digest, note) VALUES(?,?,?,?,1,?,?,?,?,?)
		ON CONFLICT(epoch, id) DO UPDATE SET entry=excluded.entry, reason=excluded.reason, tries=tries+1, last=excluded.last,
		doubt=max(doubt, excluded.doubt), digest=iif(excluded.digest=x'', digest, excluded.digest),
		note=iif(excluded.note='', note, excluded.note), accepted=0`,
		epoch, string(f.Entry.ID), encode(f.Entry), f.Reason, now, now, f.Doubt, digest, f.Note)
}

const failureColumns = "x.entry, x.reason, x.tries, x.first, x.last, x.doubt, x.digest, x.note, x.accepted"

func scanFailure(r *sql.Rows, more ...any) (f Failure, err error) {
	var entry, digest []byte
	var first, last, accepted int64
	if err := r.Scan(append(more, &entry, &f.Reason, &f.Tries, &first, &last, &f.Doubt, &digest, &f.Note, &accepted)...); err != nil {
		return f, err
	}
	f.First, f.Last = time.Unix(first, 0), time.Unix(last, 0)
	if accepted != 0 {
		f.Accepted = time.Unix(accepted, 0)
	}
	copy(f.Digest[:], digest)
	return f, decode(entry, &f.Entry)
}

// Failures lists what failed before in the current epoch of b.
func (c *Catalog) Failures(ctx context.Context, b *Box) (all []Failure, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err = c.each("SELECT "+failureColumns+" FROM failure x WHERE x.epoch=? ORDER BY x.id", []any{b.epoch}, func(r *sql.Rows) error {
		f, err := scanFailure(r)
		all = append(all, f)
		return err
	})
	return all, c.trouble("failures", err)
}

// An Unstored message is a failure of one folder in its current epoch, as people are told
// of it.
type Unstored struct {
	Account string
	Path    mail.Path
	Failure

	epoch int64
	box   Box // as far as the manifest wants to know it
}

// Unstored lists the failures of all accounts, accepted ones too. What failed
// under numbers that hold no longer is none of them.
func (c *Catalog) Unstored(ctx context.Context) (all []Unstored, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	all, err = c.unstored("")
	return all, c.trouble("failures", err)
}

func (c *Catalog) unstored(which string) (all []Unstored, err error) {
	err = c.each("SELECT e.id, a.name, f.path, f.raw, f.role, f.sink, e.name, "+failureColumns+` FROM failure x
		JOIN epoch e ON e.id=x.epoch JOIN folder f ON f.id=e.folder JOIN account a ON a.id=f.account
		WHERE e.current `+which+" ORDER BY a.id, f.path, length(x.id), x.id", nil, func(r *sql.Rows) (err error) {
		var o Unstored
		b := &o.box
		o.Failure, err = scanFailure(r, &o.epoch, &b.Account, (*string)(&b.Path), &b.Raw, &b.Role, (*string)(&b.Sink), &b.Epoch)
		o.Account, o.Path = b.Account, b.Path
		all = append(all, o)
		return err
	})
	return all, err
}

// Accept notes that failures are to be left as they are: the messages are not
// fetched again. A zero time takes that back. The manifest remembers it.
func (c *Catalog) Accept(ctx context.Context, failures []Unstored, at time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	seconds := int64(0)
	if !at.IsZero() {
		seconds = at.Unix()
	}
	err := c.change(func() error {
		for i := range failures {
			o := failures[i]
			o.Accepted = at
			if err := c.do("UPDATE failure SET accepted=? WHERE epoch=? AND id=?", seconds, o.epoch, string(o.Entry.ID)); err != nil {
				return err
			}
			c.tell(acceptedLine(&o))
		}
		return nil
	})
	return c.trouble("accept", err)
}

// Settle drops the failure row of a message that has vanished.
func (c *Catalog) Settle(ctx context.Context, b *Box, id source.ID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trouble("failure", c.do("DELETE FROM failure WHERE epoch=? AND id=?", b.epoch, string(id)))
}

// Doubts are the contents that may have arrived, whatever account and epoch
// they are of: none of them is to be written again by itself.
func (c *Catalog) Doubts(ctx context.Context) (map[mail.Digest]bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[mail.Digest]bool{}
	err := c.each("SELECT digest FROM failure WHERE doubt AND digest<>x''", nil, func(r *sql.Rows) error {
		var b []byte
		err := r.Scan(&b)
		var d mail.Digest
		copy(d[:], b)
		all[d] = true
		return err
	})
	return all, c.trouble("doubts", err)
}
