package testmail

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"mailhaul/internal/mail"
)

// box is a folder of a Model. Everything in it is guarded by Model.mu.
type box struct {
	name     string // raw
	attrs    []string
	validity uint32
	next     uint32
	modseq   uint64 // the highest of the folder
	id       string
	mails    []*stored // by UID
	gone     []gone
}

// stored is a message in a box. Its flags change; all else is fixed.
type stored struct {
	Message
	uid    uint32
	modseq uint64
	id     int // the same for all copies of a message
}

// gone is what QRESYNC remembers of a message.
type gone struct {
	uid    uint32
	modseq uint64
}

const firstValidity = 1_600_000_000

// Folder makes a folder, or changes the attributes of one. raw is its name on
// the wire; attributes are such as `\Sent` and `\Noselect`.
func (m *Model) Folder(raw string, attrs ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.box(raw)
	if b == nil {
		b = m.create(raw)
	}
	b.attrs = attrs
}

func (m *Model) create(raw string) *box {
	b := &box{name: raw, validity: firstValidity + m.Numbers + uint32(len(m.boxes)), next: 1, modseq: 1, id: fmt.Sprintf("F%d", len(m.boxes)+1)}
	m.boxes = append(m.boxes, b)
	return b
}

// box finds a folder; nil when there is none. INBOX is there from the start.
func (m *Model) box(raw string) *box {
	if strings.EqualFold(raw, "INBOX") {
		raw = "INBOX"
	}
	for _, b := range m.boxes {
		if b.name == raw {
			return b
		}
	}
	if raw == "INBOX" {
		return m.create(raw)
	}
	return nil
}

// must is box for tests, whose mistakes are loud.
func (m *Model) must(raw string) *box {
	b := m.box(raw)
	if b == nil {
		panic(fmt.Sprintf("testmail: no folder %q", raw))
	}
	return b
}

// DeleteFolder takes a folder away with all its mail.
func (m *Model) DeleteFolder(raw string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.must(raw)
	m.boxes = slices.DeleteFunc(m.boxes, func(o *box) bool { return o == b })
}

// Deliver brings messages into a folder, made when missing, and tells their
// UIDs.
func (m *Model) Deliver(raw string, messages ...Message) []uint32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.box(raw)
	if b == nil {
		b = m.create(raw)
	}
	var uids []uint32
	for _, msg := range messages {
		if m.Keeper.Gmail {
			uids = append(uids, m.merge(b, msg))
			continue
		}
		m.ids++
		uids = append(uids, m.add(b, msg, m.ids))
	}
	return uids
}

func (m *Model) add(b *box, msg Message, id int) uint32 {
	s := &stored{Message: msg, uid: b.next, id: id, modseq: m.tick(b)}
	b.next++
	b.mails = append(b.mails, s)
	return s.uid
}

// tick is the next mod-sequence, now the highest of b.
func (m *Model) tick(b *box) uint64 {
	m.modseq = max(m.modseq, 1) + 1
	b.modseq = m.modseq
	return m.modseq
}

// Copy puts the same message, with the same EMAILID, into another folder.
func (m *Model) Copy(raw string, uid uint32, to string) uint32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.mail(raw, uid)
	dest := m.box(to)
	if dest == nil {
		dest = m.create(to)
	}
	return m.add(dest, s.Message, s.id)
}

// Move is Copy, and the message is gone from where it was.
func (m *Model) Move(raw string, uid uint32, to string) uint32 {
	now := m.Copy(raw, uid, to)
	m.Expunge(raw, uid)
	return now
}

// Expunge takes messages away.
func (m *Model) Expunge(raw string, uids ...uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.must(raw)
	for _, uid := range uids {
		i, ok := b.find(uid)
		if !ok {
			panic(fmt.Sprintf("testmail: no message %d in %q", uid, raw))
		}
		b.mails = slices.Delete(slices.Clone(b.mails), i, i+1)
		b.gone = append(b.gone, gone{uid, m.tick(b)})
	}
}

// SetFlags gives a message other flags, as another client would.
func (m *Model) SetFlags(raw string, uid uint32, flags ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.mail(raw, uid)
	s.Flags = mail.NewFlags(flags...)
	s.modseq = m.tick(m.must(raw))
	if m.Keeper.Gmail {
		m.spread(s)
	}
}

// Replace gives a message other bytes under its old UID, which no server may.
func (m *Model) Replace(raw string, uid uint32, by Message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.mail(raw, uid)
	s.Size, s.Open = by.Size, by.Open
}

// SetDate gives a message another date of arrival, which no server may.
func (m *Model) SetDate(raw string, uid uint32, date time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mail(raw, uid).Date = date
}

func (m *Model) mail(raw string, uid uint32) *stored {
	b := m.must(raw)
	i, ok := b.find(uid)
	if !ok {
		panic(fmt.Sprintf("testmail: no message %d in %q", uid, raw))
	}
	return b.mails[i]
}

func (b *box) find(uid uint32) (int, bool) {
	return slices.BinarySearchFunc(b.mails, uid, func(s *stored, uid uint32) int {
		return int(int64(s.uid) - int64(uid))
	})
}

// UIDs are those of a folder, in order.
func (m *Model) UIDs(raw string) []uint32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	var uids []uint32
	for _, s := range m.must(raw).mails {
		uids = append(uids, s.uid)
	}
	return uids
}

// Validity is a folder's UIDVALIDITY.
func (m *Model) Validity(raw string) uint32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.must(raw).validity
}

// NextUID makes uid the next one to be given, for gaps and for the end of the
// range; it must not be smaller than those given.
func (m *Model) NextUID(raw string, uid uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.must(raw).next = uid
}

// Renumber gives a folder a new UIDVALIDITY and its messages new UIDs.
func (m *Model) Renumber(raw string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.must(raw)
	b.validity += 1000
	b.next = 1
	b.gone = nil
	var mails []*stored
	for _, s := range b.mails {
		mails = append(mails, &stored{Message: s.Message, uid: b.next, id: s.id, modseq: m.tick(b)})
		b.next++
	}
	b.mails = mails
}

// A Snapshot is an account as it was.
type Snapshot struct {
	boxes  []*box
	modseq uint64
}

// Snapshot keeps the account as it is, for Rewind.
func (m *Model) Snapshot() *Snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &Snapshot{twins(m.boxes), m.modseq}
}

// Rewind sets the account back, as a restored server does: UIDVALIDITY is the
// same, UIDNEXT and HIGHESTMODSEQ are smaller than they were.
func (m *Model) Rewind(to *Snapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.boxes, m.modseq = twins(to.boxes), to.modseq
}

func twins(boxes []*box) []*box {
	var all []*box
	for _, b := range boxes {
		twin := *b
		twin.attrs, twin.gone, twin.mails = slices.Clone(b.attrs), slices.Clone(b.gone), nil
		for _, s := range b.mails {
			copied := *s
			twin.mails = append(twin.mails, &copied)
		}
		all = append(all, &twin)
	}
	return all
}
