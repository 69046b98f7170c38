package catalog

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"math"
	"time"

	"mailhaul/internal/mail"
)

// packed is the first byte of an intention's records in our own form, which costs a
// tenth of what gob takes. Gob, in which the catalog of schema 6 kept them, never
// begins with it.
const packed = 0

// pack appends the records of an intention.
func pack(p []byte, records []Record) []byte {
	c := coder{p: append(p, packed)}
	var boxes []*Box
	at := map[*Box]int{}
	for _, r := range records {
		if _, ok := at[r.Box]; !ok {
			at[r.Box] = len(boxes)
			boxes = append(boxes, r.Box)
		}
	}
	n := len(boxes)
	c.count(&n)
	for _, b := range boxes {
		c.box(b)
	}
	n = len(records)
	c.count(&n)
	for _, r := range records {
		i := at[r.Box]
		c.count(&i)
		c.record(&r)
	}
	return c.p
}

// unpack undoes it.
func unpack(p []byte) (records []Record, err error) {
	if len(p) == 0 || p[0] != packed {
		return ungob(p)
	}
	c := coder{p: p[1:], read: true}
	var boxes []*Box
	n := 0
	for c.count(&n); n > 0 && c.err == nil; n-- {
		b := &Box{}
		c.box(b)
		boxes = append(boxes, b)
	}
	for c.count(&n); n > 0 && c.err == nil; n-- {
		var r Record
		i := 0
		if c.count(&i); i >= len(boxes) {
			c.fail()
			break
		}
		r.Box = boxes[i]
		c.record(&r)
		records = append(records, r)
	}
	if len(c.p) > 0 {
		c.fail()
	}
	if c.err != nil {
		return nil, fmt.Errorf("an intention: %w", c.err)
	}
	return records, nil
}

// A coder appends values to p or, with read, takes them from there: what is written
// and what is read cannot differ, as the same lines do both.
type coder struct {
	p    []byte
	read bool
	err  error
}

func (c *coder) box(b *Box) {
	c.text(&b.Account)
	c.text((*string)(&b.Path))
	c.text(&b.Raw)
	c.text(&b.Role)
	c.text((*string)(&b.Sink))
	c.text(&b.Epoch)
	c.num(&b.folder)
	c.num(&b.epoch)
}

// record does all of a record but for its box.
func (c *coder) record(r *Record) {
	e := &r.Entry
	c.text((*string)(&e.ID))
	c.num(&e.Size)
	c.time(&e.Date)
	c.flags(&e.Flags)
	list(c, &e.Labels, c.text)
	c.text(&e.Global)
	c.bool(&e.Brief)
	w := &r.Want
	c.text(&w.Name)
	c.digest(&w.Digest)
	c.num(&w.Text)
	c.num(&w.Lines)
	c.time(&w.Date)
	c.text(&w.Sender)
	c.text(&w.MessageID)
	c.digest(&w.Head)
	c.flags(&w.Flags)
	c.text(&r.Ends.Kind)
	list(c, &r.Ends.Runs, c.run)
	c.bool(&r.Ends.Open)
	c.num(&r.Message)
	c.bool(&r.Spared)
	c.bool(&r.Hints)
}

func (c *coder) fail() {
	if c.err == nil {
		c.err = fmt.Errorf("%w: it is cut short, or something else", ErrDamaged)
	}
	c.p = nil
}

func (c *coder) num(n *int64) {
	if !c.read {
		c.p = binary.AppendVarint(c.p, *n)
		return
	}
	v, k := binary.Varint(c.p)
	if k <= 0 {
		c.fail()
		return
	}
	*n, c.p = v, c.p[k:]
}

func (c *coder) count(n *int) {
	v := int64(*n)
	if c.num(&v); v < 0 || v > math.MaxInt32 {
		c.fail()
		v = 0
	}
	*n = int(v)
}

func (c *coder) run(n *uint32) {
	v := int64(*n)
	c.num(&v)
	*n = uint32(v)
}

func (c *coder) bool(b *bool) {
	n := 0
	if *b {
		n = 1
	}
	c.count(&n)
	*b = n == 1
}

// bytes takes n bytes.
func (c *coder) bytes(n int) []byte {
	if n > len(c.p) {
		c.fail()
		return nil
	}
	b := c.p[:n]
	c.p = c.p[n:]
	return b
}

func (c *coder) text(s *string) {
	n := len(*s)
	c.count(&n)
	if c.read {
		*s = string(c.bytes(n))
	} else {
		c.p = append(c.p, *s...)
	}
}

func (c *coder) digest(d *mail.Digest) {
	if c.read {
		copy(d[:], c.bytes(len(d)))
	} else {
		c.p = append(c.p, d[:]...)
	}
}

// time keeps the zone's offset: an IMAP server is told it with the date.
func (c *coder) time(t *time.Time) {
	_, zone := t.Zone()
	s, ns, offset := t.Unix(), int64(t.Nanosecond()), int64(zone)
	c.num(&s)
	c.num(&ns)
	c.num(&offset)
	if !c.read {
		return
	}
	if *t = time.Unix(s, ns).UTC(); offset != 0 {
		*t = t.In(time.FixedZone("", int(offset)))
	}
}

func (c *coder) flags(f *mail.Flags) {
	list(c, (*[]mail.Flag)(f), func(f *mail.Flag) { c.text((*string)(f)) })
}

func list[T any](c *coder, l *[]T, each func(*T)) {
	n := len(*l)
	c.count(&n)
	if !c.read {
		for i := range *l {
			each(&(*l)[i])
		}
		return
	}
	for ; n > 0 && c.err == nil; n-- {
		var v T
		each(&v)
		*l = append(*l, v)
	}
}

// ungob reads records of schema 6.
func ungob(p []byte) (records []Record, err error) {
	var all []struct {
		Record
		Box struct {
			Account, Path, Raw, Role, Sink, Epoch string
			Folder, ID                            int64
		}
	}
	if err := gob.NewDecoder(bytes.NewReader(p)).Decode(&all); err != nil {
		return nil, errors.Join(ErrDamaged, err)
	}
	for _, s := range all {
		b := s.Box
		s.Record.Box = &Box{Account: b.Account, Path: mail.Path(b.Path), Raw: b.Raw, Role: b.Role,
			Sink: mail.Path(b.Sink), Epoch: b.Epoch, folder: b.Folder, epoch: b.ID}
		records = append(records, s.Record)
	}
	return records, nil
}
