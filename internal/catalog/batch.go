package catalog

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"mailhaul/internal/mail"
	"mailhaul/sink"
	"mailhaul/source"
)

// A Record ties a message at its source to its place in the sink. Several
// records may share one place: that is deduplication.
type Record struct {
	Box     *Box `json:"-"`
	Entry   source.Entry
	Want    sink.Want
	Ends    mail.Ends
	Message int64 // the stored message that it shares; 0: the batch writes it
	Spared  bool  // not downloaded: the server says that it is the same as another
	Hints   bool  // Want's Message-ID and header are to be remembered: see Hints
}

// A Batch is an intention: these messages are about to be written behind this
// mark.
type Batch struct {
	Folder  mail.Path
	Mark    sink.Mark
	Records []Record
}

// An Outcome is what became of an intended message: its place, or why not.
type Outcome struct {
	Record Record
	Folder mail.Path // of the archive, where Place is
	Place  sink.Place
	Err    error  // failed, with the reason; sink.ErrUnknown: in doubt
	Note   string // with Err: see sink.Result
}

// Fault is nil in the shipped program. Tests set it to let Begin and Commit fail
// without their effect, or after it as when an answer is lost. It is called from
// several goroutines.
var Fault func(op string, applied bool) error

func fault(op string, applied bool) error {
	if Fault == nil {
		return nil
	}
	return Fault(op, applied)
}

// intentions keeps what they are packed in.
var intentions = sync.Pool{New: func() any { return new([]byte) }}

// Begin stores the intention before the first byte is written.
func (c *Catalog) Begin(ctx context.Context, b *Batch) (id int64, err error) {
	records := intentions.Get().(*[]byte)
	defer intentions.Put(records)
	*records = pack((*records)[:0], b.Records)
	if err := fault("begin", false); err != nil {
		return 0, c.trouble("begin", err)
	}
	err = c.share(func() (err error) {
		id, err = c.insert("INSERT INTO batch(folder, mark, records) VALUES(?,?,?)", string(b.Folder), string(b.Mark), *records)
		return err
	})
	if err == nil {
		err = fault("begin", true)
	}
	return id, c.trouble("begin", err)
}

// Commit replaces an intention by its outcome, in one step, with the state of
// the sink's folder afterwards. Records that failed or are in doubt get a failure
// row; those without place and error are dropped and stay unknown. It returns the
// messages that the records now stand on, in their order.
func (c *Catalog) Commit(ctx context.Context, id int64, done []Outcome, folder mail.Path, after sink.State) ([]int64, error) {
	messages := make([]int64, len(done))
	if err := fault("commit", false); err != nil {
		return nil, c.trouble("commit", err)
	}
	err := c.share(func() error {
		at, err := c.sinkFolder(folder)
		if err != nil {
			return err
		}
		var failures bool // of old, that the batch may have made good; seldom there are any
		if err := c.row("SELECT EXISTS(SELECT 1 FROM failure)", nil, &failures); err != nil {
			return err
		}
		now := time.Now().Unix()
		if err := c.insertMessages(done, messages, at, now); err != nil {
			return err
		}
		where := make([]location, 0, len(done))
		for i := range done {
			o := &done[i]
			r := &o.Record
			switch {
			case messages[i] != 0:
				where = append(where, location{r, messages[i]})
				if failures {
					if err := c.do("DELETE FROM failure WHERE epoch=? AND id=?", r.Box.epoch, string(r.Entry.ID)); err != nil {
						return err
					}
				}
				c.tell(located(r, o.Place, o.Folder))
			case o.Err != nil:
				f := Failure{Entry: r.Entry, Reason: o.Err.Error(), Doubt: errors.Is(o.Err, sink.ErrUnknown), Digest: r.Want.Digest, Note: o.Note}
				if err := c.fail(r.Box.epoch, &f); err != nil {
					return err
				}
			}
		}
		if err := c.locate(where); err != nil {
			return err
		}
		if after != "" {
			if err := c.do("UPDATE sinkfolder SET state=? WHERE id=?", string(after), at); err != nil {
				return err
			}
		}
		return c.do("DELETE FROM batch WHERE id=?", id)
	})
	if err != nil {
		return nil, c.trouble("commit", err)
	}
	if err := fault("commit", true); err != nil {
		return nil, c.trouble("commit", err)
	}
	return messages, nil
}

// insertMessages files what was written, in the order of the digest's prefix:
// neighbours in the index cost far less than strangers.
func (c *Catalog) insertMessages(done []Outcome, messages []int64, folder, now int64) error {
	order := make([]int, 0, len(done))
	for i := range done {
		switch r := &done[i].Record; {
		case done[i].Err != nil:
		case r.Message != 0:
			messages[i] = r.Message
		case done[i].Place != "":
			order = append(order, i)
		}
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Compare(prefix(done[a].Record.Want.Digest), prefix(done[b].Record.Want.Digest))
	})
	var last int64
	if err := c.row("SELECT coalesce(max(id), 0) FROM message", nil, &last); err != nil {
		return err
	}
	err := c.rows(&messageRows, len(order), func(args []any, k int) []any {
		i := order[k]
		messages[i] = last + int64(k) + 1
		w := &done[i].Record.Want
		return append(args, messages[i], prefix(w.Digest), w.Digest[:], w.Text, w.Lines, folder, string(done[i].Place), now)
	})
	if err != nil {
		return err
	}
	for _, i := range order {
		w := &done[i].Record.Want
		if c.filter != nil {
			c.filter.add(w.Digest)
		}
		if done[i].Record.Hints {
			if err := c.do("INSERT OR IGNORE INTO hint(digest, head, name) VALUES(?,?,?)", w.Digest[:], w.Head[:], w.MessageID); err != nil {
				return err
			}
		}
	}
	return nil
}

// A location is a record whose message lies in the archive.
type location struct {
	*Record
	message int64
}

func (c *Catalog) locate(all []location) error {
	return c.rows(&locationRows, len(all), func(args []any, i int) []any {
		r := all[i]
		e := &r.Entry
		num, id := key(e.ID)
		return append(args, r.Box.epoch, num, id, r.message, e.Size, unix(e.Date), r.Ends.String(), e.Flags.Key(), Labels(e.Labels), e.Global, c.run, r.Spared)
	})
}

// A bulk is an INSERT of several rows, for each number of them.
type bulk [bulkRows + 1]string

const bulkRows = 8 // 16 are no faster

func newBulk(into string, columns int, then string) (b bulk) {
	row := ",(" + strings.Repeat(",?", columns)[1:] + ")"
	for n := 1; n < len(b); n++ {
		b[n] = "INSERT INTO " + into + " VALUES" + strings.Repeat(row, n)[1:] + then
	}
	return b
}

var (
	messageRows  = newBulk("message(id, prefix, digest, text, lines, folder, place, stored)", 8, "")
	locationRows = newBulk("location(epoch, num, id, message, size, date, ends, flags, labels, global, run, spared)", 12, `
		ON CONFLICT(epoch, num, id) DO UPDATE SET message=excluded.message, size=excluded.size, date=excluded.date, ends=excluded.ends,
		flags=excluded.flags, labels=excluded.labels, global=excluded.global, run=excluded.run, spared=excluded.spared, gone=0`)
)

// rows inserts n rows, of which args appends the values: a statement costs more than
// a row.
func (c *Catalog) rows(b *bulk, n int, args func(to []any, i int) []any) error {
	var values []any
	for i := 0; i < n; {
		values = values[:0]
		from := i
		for i = from; i < min(n, from+bulkRows); i++ {
			values = args(values, i)
		}
		if err := c.do(b[i-from], values...); err != nil {
			return err
		}
	}
	return nil
}

// unix is the time as it is stored; a missing one is the smallest number.
func unix(t time.Time) int64 {
	if t.IsZero() {
		return noDate
	}
	return t.Unix()
}

const noDate = -1 << 62

func fromUnix(n int64) time.Time {
	if n == noDate {
		return time.Time{}
	}
	return time.Unix(n, 0).UTC()
}

// sinkFolder finds or files a folder of the archive. The caller holds mu.
func (c *Catalog) sinkFolder(path mail.Path) (int64, error) {
	if id, ok := c.folders[path]; ok {
		return id, nil
	}
	id, err := c.insert("INSERT INTO sinkfolder(path) VALUES(?) ON CONFLICT(path) DO UPDATE SET path=path", string(path))
	if err == nil {
		err = c.row("SELECT id FROM sinkfolder WHERE path=?", []any{string(path)}, &id)
	}
	if err != nil {
		return 0, err
	}
	c.folders[path], c.paths[id] = id, path
	c.filed = append(c.filed, path)
	return id, nil
}

// Unsettled lists the intentions that have no outcome, oldest first.
func (c *Catalog) Unsettled(ctx context.Context) (ids []int64, batches []*Batch, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err = c.each("SELECT id, folder, mark, records FROM batch ORDER BY id", nil, func(r *sql.Rows) error {
		var id int64
		b := &Batch{}
		var records []byte
		if err := r.Scan(&id, (*string)(&b.Folder), (*string)(&b.Mark), &records); err != nil {
			return err
		}
		var err error
		if b.Records, err = unpack(records); err != nil {
			return err
		}
		ids, batches = append(ids, id), append(batches, b)
		return nil
	})
	return ids, batches, c.trouble("recover", err)
}

func encode(v any) []byte {
	p, err := json.Marshal(v)
	if err != nil {
		panic(err) // only plain data is encoded here
	}
	return p
}

func decode(p []byte, v any) error {
	if err := json.Unmarshal(p, v); err != nil {
		return errors.Join(ErrDamaged, err)
	}
	return nil
}
