package mbox

import (
	"context"
	"fmt"
	"io"
	"slices"

	"mailhaul/internal/mail"
	"mailhaul/source/local"
)

// A dialect is how the program that wrote a file marks where messages begin.
type dialect string

const (
	auto dialect = "auto"
	rd   dialect = "rd"
	o    dialect = "o"
	cl   dialect = "cl"
	cl2  dialect = "cl2"
)

// rules finds out how to read a file, which takes one reading of it unless the
// user has said so.
//
// Left to itself it decides as follows. If every message, without exception,
// names by its Content-Length the very spot where the next one begins, and
// there are lines within messages that would otherwise pass for separators, the
// file is framed by Content-Length, and nothing in it is quoted. Otherwise
// separators count. If a line "From " stands unquoted within a message, the
// writer did not quote, and every ">From " is the sender's own. Else it did: of
// ">From " and ">>From " and so on one ">" is taken off.
func (f *file) rules(ctx context.Context, opt options, mark string, store *local.Store) (rules, error) {
	r := rules{strict: opt.strict}
	switch opt.dialect {
	case rd:
		r.quote = undoAll
		return r, nil
	case o:
		r.quote = undoOne
		return r, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known != nil && f.mark == mark {
		return *f.known, nil
	}
	in, err := f.open()
	if err != nil {
		return r, err
	}
	defer in.Close()
	v, err := look(ctx, in, r, opt.dialect != auto)
	if err != nil {
		return r, err
	}
	name := mail.Clean(f.name)
	chained, whole := v.chain()
	switch {
	case opt.dialect == cl:
		r.fits, r.quote = v.fits, undoOne
	case opt.dialect == cl2:
		r.fits = v.fits
	case whole && chained < v.messages:
		r.fits = v.fits
		store.Note("%s: read by Content-Length, which all of its %d messages have; %d lines that look like the beginning of a message are left inside of them (dialect=rd takes them for separators)",
			name, chained, v.messages-chained)
	case v.unquoted == 0:
		r.quote = undoAll
	case v.marks > 0:
		store.Note(`%s: "From " stands at the start of %d lines and ">From " at that of %d, so nothing seems to be quoted: all are kept as found (dialect=rd or dialect=o takes the ">" off)`,
			name, v.unquoted, v.marks)
	}
	f.known, f.mark = &r, mark
	return r, nil
}

// A view is what one reading of a file has shown.
type view struct {
	sights
	messages int64
	begins   []int64 // of messages
	claims   []int64 // where they end by their Content-Length
	size     int64
	broken   bool // one of them does not say
}

// look reads a file by its separators. Content-Length is followed up as long
// as all messages have one, or to the end.
func look(ctx context.Context, in io.Reader, r rules, toEnd bool) (*view, error) {
	v := &view{}
	s := newScanner(in, r)
	for {
		if err := local.Ended("list", ctx); err != nil {
			return nil, err
		}
		m, err := s.next(halting{ctx})
		if err == io.EOF {
			v.sights, v.size = s.sights, s.at
			return v, nil
		}
		if err != nil {
			return nil, err
		}
		v.messages++
		if m.stray || m.claim == 0 {
			v.broken = v.broken || v.messages == 1 || m.stray
		}
		if v.broken && !toEnd {
			v.begins, v.claims = nil, nil
			continue
		}
		v.begins = append(v.begins, m.begin)
		v.claims = append(v.claims, m.claim)
	}
}

// halting takes everything until a context ends.
type halting struct{ ctx context.Context }

func (h halting) Write(p []byte) (int, error) { return len(p), local.Ended("list", h.ctx) }

// behind gives the message that begins where another one ends, with or without
// an empty line between; len(begins) is the end of the file, -1 nowhere.
func (v *view) behind(end int64) int {
	i, _ := slices.BinarySearch(v.begins, end)
	switch {
	case i < len(v.begins) && v.begins[i] <= end+2:
		return i
	case end <= v.size && end+2 >= v.size:
		return len(v.begins)
	}
	return -1
}

func (v *view) fits(end int64) bool { return v.behind(end) >= 0 }

// chain follows Content-Length from message to message and reports whether
// that leads to the end of the file.
func (v *view) chain() (n int64, whole bool) {
	if v.broken {
		return 0, false
	}
	for i := 0; i < len(v.begins); n++ {
		next := -1
		if v.claims[i] > 0 {
			next = v.behind(v.claims[i])
		}
		if next <= i {
			return n, false
		}
		i = next
	}
	return n, n > 1
}

// tell notes what was doubtful in a file.
func (s sights) tell(name string, strict bool, store *local.Store) {
	name = mail.Clean(name)
	if s.odd > 0 {
		store.Note("%s: %d messages begin with a line that has no date, or one of an unknown form (strict=yes takes it for text)", name, s.odd)
	}
	if s.passed > 0 {
		why := "for lack of an empty line before it or of a date"
		if strict {
			why += " in a known form"
		}
		store.Note("%s: %d lines look like the beginning of a message but were left inside of one, %s", name, s.passed, why)
	}
	if s.expunged > 0 {
		store.Note("%s: %d messages were deleted in Thunderbird, which has not removed them yet (compacting the folder does); they are read like the others", name, s.expunged)
	}
}

func (d dialect) check() error {
	switch d {
	case auto, rd, o, cl, cl2:
		return nil
	}
	return fmt.Errorf("dialect=%s", d)
}
