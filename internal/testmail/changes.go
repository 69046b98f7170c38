package testmail

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"mailhaul/internal/mail"
)

// A Keeper says how a Model takes what clients bring. The zero Keeper takes
// everything as it is.
type Keeper struct {
	Limit     int64                      // octets of one message that APPEND takes, announced; 0: any number
	Room      int64                      // octets of all messages together, told by QUOTA where that is offered; 0: no end
	Permanent []string                   // flags that last, with `\*` where new keywords may be made; nil: all
	Reserved  func(raw string) bool      // names that no folder may have
	Change    func(raw []byte) []byte    // what is stored instead of the bytes that came
	Redate    func(time.Time) time.Time  // the date that is stored instead
	Refuse    func(raw []byte) string    // a refusal, such as "NO [PARSE] invalid header"; "": none
	Swallow   func(raw []byte) bool      // the answer is OK and the message is not stored
	Forget    bool                       // a copy has neither flags nor date of what was copied, which is only a SHOULD
	Gmail     bool                       // each content is there once, and folders are labels (gmail.go)
	Stored    func(folder string, n int) // told after each APPEND or COPY that stored n messages
}

// Keep lets f change how the server takes things while it runs.
func (m *Model) Keep(f func(k *Keeper)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(&m.Keeper)
}

// keeper is how it takes them now, for who has no lock.
func (m *Model) keeper() Keeper {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Keeper
}

// create does CREATE. Parents come with it (RFC 3501, section 6.3.3).
func (d *dialogue) create(args []token) string {
	if len(args) != 1 {
		return "BAD folder"
	}
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	name := args[0].text
	if !d.m.Flat {
		name = strings.TrimSuffix(name, d.separator())
	}
	switch k := d.m.Keeper; {
	case d.m.box(name) != nil:
		return "NO [ALREADYEXISTS] there is such a folder"
	case name == "" || k.Reserved != nil && k.Reserved(name):
		return "NO [CANNOT] a folder cannot have this name"
	}
	if !d.m.Flat {
		for i := range name {
			if strings.HasPrefix(name[i:], d.separator()) && d.m.box(name[:i]) == nil {
				d.m.create(name[:i])
			}
		}
	}
	d.m.create(name)
	return "OK done"
}

func (d *dialogue) subscribe(args []token) string {
	if len(args) != 1 {
		return "BAD folder"
	}
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	d.m.subscribed = append(d.m.subscribed, args[0].text)
	return "OK done"
}

// Subscribed are the folders that clients have subscribed to, in order.
func (m *Model) Subscribed() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.subscribed)
}

// A brought is one message of an APPEND command.
type brought struct {
	flags []token
	date  time.Time
	raw   []byte
}

// appends does APPEND, of several messages where MULTIAPPEND is offered (RFC
// 3502): all or nothing.
func (d *dialogue) appends(args []token) string {
	if len(args) < 2 {
		return "BAD folder and message"
	}
	name, args := args[0].text, args[1:]
	var all []brought
	for len(args) > 0 {
		b := brought{date: time.Now()}
		if args[0].isList {
			b.flags, args = args[0].list, args[1:]
		}
		if len(args) > 1 && !args[0].literal {
			t, err := time.Parse("_2-Jan-2006 15:04:05 -0700", args[0].text)
			if err != nil {
				return "BAD not a date"
			}
			b.date, args = t, args[1:]
		}
		if len(args) == 0 || !args[0].literal {
			return "BAD no message"
		}
		b.raw, args = []byte(args[0].text), args[1:]
		all = append(all, b)
	}
	if len(all) > 1 && !d.m.has("MULTIAPPEND") {
		return "BAD one message at a time"
	}
	return d.store(name, all)
}

func (d *dialogue) store(name string, all []brought) string {
	m := d.m
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.box(name)
	if b == nil || slices.Contains(b.attrs, `\Noselect`) {
		return "NO [TRYCREATE] no such folder"
	}
	var total int64
	for _, x := range all {
		total += int64(len(x.raw))
		switch k := m.Keeper; {
		case len(x.raw) == 0:
			return "NO an empty message"
		case k.Limit > 0 && int64(len(x.raw)) > k.Limit:
			return "NO [TOOBIG] the message is too large"
		case k.Refuse != nil:
			if s := k.Refuse(x.raw); s != "" {
				return s
			}
		}
		for _, f := range x.flags {
			if strings.EqualFold(f.text, `\Recent`) || !m.permits(f.text) && m.Strict {
				return "BAD invalid flag " + f.text
			}
		}
	}
	if m.Keeper.Room > 0 && m.used()+total > m.Keeper.Room {
		return "NO [OVERQUOTA] the mailbox is full"
	}
	var uids []uint32
	for _, x := range all {
		uids = append(uids, m.keep(b, x)...)
	}
	if m.Keeper.Stored != nil {
		m.Keeper.Stored(name, len(uids))
	}
	if m.has("UIDPLUS") && len(uids) == len(all) {
		return fmt.Sprintf("OK [APPENDUID %d %s] done", b.validity, ranges(uids))
	}
	return "OK done"
}

// copies does UID COPY: all that are there or none (RFC 3501, section 6.4.7), and
// tells what became of which (RFC 4315, section 3).
func (d *dialogue) copies(args []token) string {
	if len(args) != 2 {
		return "BAD set and folder"
	}
	found, _, err := d.targets(args[0].text, true)
	if err != nil {
		return "BAD not a set"
	}
	m := d.m
	m.mu.Lock()
	defer m.mu.Unlock()
	b, from := m.box(args[1].text), m.box(d.name)
	if b == nil || slices.Contains(b.attrs, `\Noselect`) {
		return "NO [TRYCREATE] no such folder"
	}
	var all []*stored
	var total int64
	for _, t := range found {
		if from == nil {
			break
		}
		at, ok := from.find(t.uid)
		if !ok {
			continue
		}
		s := from.mails[at]
		if k := m.Keeper; k.Refuse != nil {
			if status := k.Refuse(s.Raw()); status != "" {
				return status
			}
		}
		all, total = append(all, s), total+s.Size
	}
	if m.Keeper.Room > 0 && m.used()+total > m.Keeper.Room {
		return "NO [OVERQUOTA] the mailbox is full"
	}
	var here, there []uint32
	for _, s := range all {
		here, there = append(here, s.uid), append(there, m.double(b, s))
	}
	if m.Keeper.Stored != nil {
		m.Keeper.Stored(b.name, len(there))
	}
	if m.has("UIDPLUS") && len(there) > 0 {
		return fmt.Sprintf("OK [COPYUID %d %s %s] done", b.validity, ranges(here), ranges(there))
	}
	return "OK done"
}

// double stores a copy and gives its UID, as keep does.
func (m *Model) double(b *box, s *stored) uint32 {
	k := m.Keeper
	if k.Swallow != nil && k.Swallow(s.Raw()) {
		b.next++
		return b.next - 1
	}
	msg := s.Message
	if k.Forget {
		msg.Flags, msg.Date = nil, time.Now()
	}
	if k.Gmail {
		return m.merge(b, msg)
	}
	return m.add(b, msg, s.id)
}

// keep stores one message and gives its UID; a swallowed one has a UID that
// nobody will ever see.
func (m *Model) keep(b *box, x brought) []uint32 {
	k := m.Keeper
	if k.Swallow != nil && k.Swallow(x.raw) {
		b.next++
		return []uint32{b.next - 1}
	}
	raw, date := x.raw, x.date
	if k.Change != nil {
		raw = k.Change(raw)
	}
	if k.Redate != nil {
		date = k.Redate(date)
	}
	msg := Message{Name: "appended", Date: date, Flags: m.lasting(x.flags), Size: int64(len(raw)),
		Open: func() io.Reader { return bytes.NewReader(raw) }}
	if k.Gmail {
		return []uint32{m.merge(b, msg)}
	}
	m.ids++
	return []uint32{m.add(b, msg, m.ids)}
}

func (m *Model) used() (n int64) {
	for _, b := range m.boxes {
		n += b.size()
	}
	return n
}

// permits reports whether a flag lasts.
func (m *Model) permits(flag string) bool {
	p := m.Keeper.Permanent
	if p == nil {
		return true
	}
	return slices.ContainsFunc(p, func(x string) bool {
		return strings.EqualFold(x, flag) || x == `\*` && !strings.HasPrefix(flag, `\`)
	})
}

func (m *Model) lasting(flags []token) mail.Flags {
	var names []string
	for _, f := range flags {
		if m.permits(f.text) {
			names = append(names, f.text)
		}
	}
	return mail.NewFlags(names...)
}

func (m *Model) permanent() string {
	if m.Keeper.Permanent == nil {
		return `\Answered \Flagged \Deleted \Seen \Draft \*`
	}
	return strings.Join(m.Keeper.Permanent, " ")
}

// change does UID STORE of flags.
func (d *dialogue) change(args []token) string {
	if len(args) < 3 {
		return "BAD set, item and flags"
	}
	if d.readOnly {
		return "NO [CANNOT] open for reading only"
	}
	item, quiet := strings.CutSuffix(strings.ToUpper(args[1].text), ".SILENT")
	found, _, err := d.targets(args[0].text, true)
	if err != nil {
		return "BAD not a set"
	}
	list := args[2].list
	if !args[2].isList {
		list = args[2:]
	}
	if item == "+X-GM-LABELS" && d.m.Keeper.Gmail {
		return d.relabel(found, list)
	}
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	now := d.m.box(d.name)
	for _, t := range found {
		at, ok := now.find(t.uid)
		if !ok {
			continue
		}
		s := now.mails[at]
		given := d.m.lasting(list)
		switch item {
		case "FLAGS":
			s.Flags = given
		case "+FLAGS":
			s.Flags = mail.ParseFlags(s.Flags.Key() + " " + given.Key())
		case "-FLAGS":
			s.Flags = slices.DeleteFunc(slices.Clone(s.Flags), func(f mail.Flag) bool { return given.Has(f) })
		default:
			return "BAD unknown item"
		}
		s.modseq = d.m.tick(now)
		if d.m.Keeper.Gmail {
			d.m.spread(s)
		}
		for _, v := range d.view {
			if quiet && v.uid == t.uid {
				v.told = s.modseq
			}
		}
	}
	return "OK done"
}

// quota does GETQUOTAROOT (RFC 9208).
func (d *dialogue) quota(args []token) string {
	if !d.m.has("QUOTA") || len(args) != 1 {
		return "BAD unknown"
	}
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	d.printf("* QUOTAROOT %s \"\"\r\n", quote(args[0].text))
	if d.m.Keeper.Room > 0 {
		d.printf("* QUOTA \"\" (STORAGE %d %d)\r\n", (d.m.used()+1023)/1024, d.m.Keeper.Room/1024)
	}
	return "OK done"
}

// Mails are the messages of a folder, in the order of their UIDs.
func (m *Model) Mails(raw string) []Message {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.box(raw)
	if b == nil {
		return nil
	}
	all := make([]Message, len(b.mails))
	for i, s := range b.mails {
		all[i] = s.Message
	}
	return all
}

// Names are the folders there are.
func (m *Model) Names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []string
	for _, b := range m.boxes {
		all = append(all, b.name)
	}
	return all
}
