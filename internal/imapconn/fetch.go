package imapconn

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"mailhaul/internal/mail"
	"mailhaul/internal/utf7"
)

// An Item is what one FETCH response says about a message. Servers send items
// in any order, send some unasked, and may send several responses for one
// message: what is not told has its zero value, Size -1.
type Item struct {
	UID      uint32 // 0 when not told
	Flags    mail.Flags
	HasFlags bool
	Date     time.Time // zero when not told or not a date
	Size     int64     // RFC822.SIZE
	ModSeq   uint64
	EmailID  string   // RFC 8474
	GmailID  uint64   // X-GM-MSGID
	Labels   []string // X-GM-LABELS, decoded
	HasLabel bool
	Head     []byte // BODY[HEADER] or some fields of it, valid during the call
	HasHead  bool

	body bodyKind
	text []byte // a body that came as a quoted string
}

type bodyKind int

const (
	noBody bodyKind = iota
	nilBody
	textBody
	literalBody
)

func (it *Item) reset() { *it = Item{Size: -1} }

// Fetch asks for items, never bodies, of the messages in set and calls f for
// each response that names a UID. The Item is valid during the call. The
// status is that of the command.
func (c *Conn) Fetch(ctx context.Context, set, items, modifier string, f func(*Item) error) (*Status, error) {
	stop := c.nc.Follow(ctx)
	defer stop()
	command := "UID FETCH " + set + " (" + items + ")"
	if modifier != "" {
		command += " (" + modifier + ")"
	}
	var it Item
	done, err := c.run(func(r response) (bool, error) {
		if r.word != "FETCH" {
			return false, nil
		}
		if err := c.read(r, &it); err != nil {
			return false, err
		}
		if it.UID == 0 {
			return true, nil // sent unasked, and of no use to us
		}
		return true, f(&it)
	}, command)
	if err == nil {
		err = c.epoch
	}
	return done, c.folder("list", err)
}

// read takes a whole FETCH response. A body in it was not asked for and is
// thrown away.
func (c *Conn) read(r response, it *Item) error {
	it.reset()
	if err := c.openItems(); err != nil {
		return err
	}
	for behind := false; ; behind = true {
		n, more, err := c.items(it, behind)
		if err != nil || !more {
			return err
		}
		if _, err := io.CopyN(io.Discard, c.wire.br, n); err != nil {
			return cut(err)
		}
		if err := c.scan.next(); err != nil {
			return err
		}
	}
}

func (c *Conn) openItems() error {
	if !c.scan.take('(') {
		return c.scan.wrong("no list of items")
	}
	return nil
}

// items reads items up to the end of the response, or up to the literal that
// holds the body, which the caller takes from the wire; then it calls scan.next
// and items again.
//
// Behind a body only items that are known may come: where a server has sent
// fewer bytes than it announced we stand in the middle of what followed, and
// that must not pass for an item of a kind yet to be invented.
func (c *Conn) items(it *Item, behind bool) (body int64, more bool, err error) {
	s := &c.scan
	if behind && s.peek() != ' ' && s.peek() != ')' {
		return 0, false, s.wrong("neither blank nor bracket behind a body")
	}
	for {
		s.spaces()
		if s.take(')') {
			return 0, false, s.end()
		}
		w := s.word()
		if len(w) == 0 {
			return 0, false, s.wrong("no item")
		}
		// Two comparisons cost less than one conversion, and nearly all
		// servers write capitals.
		switch string(w) {
		case "UID", "FLAGS", "INTERNALDATE", "RFC822.SIZE", "BODY[]":
		default:
			w = bytes.ToUpper(w)
		}
		s.spaces()
		switch string(w) {
		case "UID":
			err = c.uid(it)
		case "BODY[]", "BODY[]<0>":
			if s.literalAhead() {
				it.body = literalBody
				n, err := s.announce()
				return n, err == nil, err
			}
			err = c.smallBody(it)
		case "FLAGS":
			it.HasFlags = true
			it.Flags, err = c.flagList()
		case "INTERNALDATE":
			it.Date, err = c.date()
		case "RFC822.SIZE":
			it.Size, err = c.size()
		case "MODSEQ":
			err = s.list(func() error {
				var err error
				it.ModSeq, err = s.number()
				return err
			})
		case "EMAILID":
			err = s.list(func() error {
				id, _, err := s.text()
				it.EmailID = string(id)
				return err
			})
		case "X-GM-MSGID":
			if it.GmailID, err = s.number(); err != nil {
				err = s.skip()
			}
		case "X-GM-LABELS":
			it.HasLabel = true
			err = c.labels(it)
		default:
			if bytes.HasPrefix(w, []byte("BODY[HEADER")) {
				var isNil bool
				it.Head, isNil, err = s.text()
				it.HasHead = !isNil
				break
			}
			if behind && !isItem(w) {
				return 0, false, s.wrong("no item behind a body")
			}
			err = s.skip()
		}
		if err != nil {
			return 0, false, err
		}
	}
}

// isItem knows the items that we do not read.
func isItem(w []byte) bool {
	switch string(w) {
	case "THREADID", "SAVEDATE", "PREVIEW", "RFC822.HEADER", "ENVELOPE", "BODYSTRUCTURE", "BODY":
		return true
	}
	return bytes.HasPrefix(w, []byte("X-"))
}

func (c *Conn) uid(it *Item) error {
	n, err := c.scan.number()
	if err != nil {
		return err
	}
	if n == 0 || n > maxUID || it.UID != 0 && it.UID != uint32(n) {
		return fmt.Errorf("%w: UID %d", errSyntax, n)
	}
	it.UID = uint32(n)
	return nil
}

// smallBody takes a body that is NIL or a quoted string.
func (c *Conn) smallBody(it *Item) error {
	b, isNil, err := c.scan.text()
	if err != nil {
		return err
	}
	it.body = textBody
	if isNil {
		it.body = nilBody
	}
	it.text = bytes.Clone(b)
	return nil
}

// size takes RFC822.SIZE. It is a claim, and servers have claimed -1.
func (c *Conn) size() (int64, error) {
	if b := c.scan.peek(); b < '0' || b > '9' {
		return -1, c.scan.skip()
	}
	n, err := c.scan.number()
	if v := int64(n); v >= 0 {
		return v, err
	}
	return -1, err
}

// mostSets is how many different sets of flags are kept for use again.
const mostSets = 4096

// flagList reads flags, which are atoms in theory. In practice there are
// brackets and quotes, and NIL for none.
func (c *Conn) flagList() (mail.Flags, error) {
	s := &c.scan
	if s.take('(') {
		if end := bytes.IndexByte(s.b, ')'); end >= 0 && bytes.IndexByte(s.b[:end], '"') < 0 {
			raw := s.b[:end]
			s.b = s.b[end+1:]
			if set, ok := c.flags[string(raw)]; ok {
				return set, nil
			}
			set := mail.NewFlags(fields(raw)...)
			if len(c.flags) < mostSets {
				c.flags[string(raw)] = set
			}
			return set, nil
		}
		// Back to the bracket, and the slow way.
		return c.flagListSlow()
	}
	return nil, s.skip() // NIL
}

func (c *Conn) flagListSlow() (mail.Flags, error) {
	s := &c.scan
	var names []string
	for {
		s.spaces()
		if s.take(')') {
			return mail.NewFlags(names...), nil
		}
		b, _, err := s.text()
		if err != nil {
			return nil, err
		}
		names = append(names, fields(b)...)
	}
}

func fields(b []byte) []string {
	var names []string
	for _, f := range bytes.Fields(b) {
		names = append(names, string(f))
	}
	return names
}

func (c *Conn) labels(it *Item) error {
	return c.scan.list(func() error {
		b, _, err := c.scan.text()
		if err != nil {
			return err
		}
		label := string(b)
		if plain, ok := utf7.Decode(label); ok {
			label = plain
		}
		it.Labels = append(it.Labels, label)
		return nil
	})
}

// date takes INTERNALDATE. What is no date is no error: the message is none
// the worse for it.
func (c *Conn) date() (time.Time, error) {
	b, isNil, err := c.scan.text()
	if err != nil || isNil {
		return time.Time{}, err
	}
	t, _ := parseDate(b)
	return t, nil
}

// parseDate reads " 1-Jan-2026 12:00:00 +0100" (RFC 3501, section 9). It is
// written out because time.Parse takes longer than all else that is done for
// one line of a listing.
func parseDate(b []byte) (time.Time, bool) {
	b = bytes.TrimLeft(b, " ")
	if len(b) == 25 {
		b = append([]byte("0"), b...) // a day of one digit
	}
	if len(b) != 26 || b[2] != '-' || b[6] != '-' || b[11] != ' ' || b[14] != ':' || b[17] != ':' || b[20] != ' ' {
		return time.Time{}, false
	}
	good := true
	num := func(from, to int) int {
		n, rest := digits(b[from:to])
		good = good && len(rest) == 0
		return int(n)
	}
	day, year := num(0, 2), num(7, 11)
	hour, minute, second := num(12, 14), num(15, 17), num(18, 20)
	zone := num(22, 24)*60 + num(24, 26)
	month := monthOf(b[3:6])
	good = good && (b[21] == '+' || b[21] == '-')
	if !good || year < 1 || month == 0 || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 60 || zone >= 24*60 {
		return time.Time{}, false
	}
	if b[21] == '-' {
		zone = -zone
	}
	t := time.Date(year, month, day, hour, minute-zone, second, 0, time.UTC)
	return t, true
}

func monthOf(b []byte) time.Month {
	const names = "janfebmaraprmayjunjulaugsepoctnovdec"
	m := [3]byte{b[0] | 32, b[1] | 32, b[2] | 32}
	for i := 0; i < len(names); i += 3 {
		if names[i:i+3] == string(m[:]) {
			return time.Month(i/3 + 1)
		}
	}
	return 0
}
