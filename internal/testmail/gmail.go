package testmail

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// GmailCaps is what Gmail offers after login.
var GmailCaps = []string{
	"IMAP4rev1", "AUTH=PLAIN", "SASL-IR", "UNSELECT", "NAMESPACE", "QUOTA", "ID", "X-GM-EXT-1", "UIDPLUS", "ENABLE",
	"CONDSTORE", "ESEARCH", "LIST-EXTENDED", "LIST-STATUS", "LITERAL-", "SPECIAL-USE",
}

// Gmail makes the Model a Gmail account: with its folders, its capabilities and
// a Keeper that has each content once. It is called before anything else.
//
// A folder is a label there. Every message lies in the folder of all mail, but
// for those in trash and junk, which lie there alone. What is brought a second
// time gets a label at most, and the answer is OK all the same. Flags belong to
// the message, not to its place.
func (m *Model) Gmail() {
	m.Caps, m.Keeper.Gmail, m.Keeper.Limit = GmailCaps, true, 35651584
	m.Keeper.Reserved = func(raw string) bool { return strings.HasPrefix(raw, "[Gmail]") }
	m.Folder("INBOX")
	m.Folder("[Gmail]", `\Noselect`)
	for _, f := range []struct{ name, attr string }{
		{"All Mail", `\All`}, {"Drafts", `\Drafts`}, {"Important", `\Important`}, {"Sent Mail", `\Sent`},
		{"Spam", `\Junk`}, {"Starred", `\Flagged`}, {"Trash", `\Trash`},
	} {
		m.Folder("[Gmail]/"+f.name, f.attr)
	}
}

// systemLabels are those that Gmail has by itself, and the attributes of their
// folders.
var systemLabels = map[string]string{
	`\Sent`: `\Sent`, `\Draft`: `\Drafts`, `\Starred`: `\Flagged`, `\Important`: `\Important`, `\Trash`: `\Trash`, `\Spam`: `\Junk`,
}

// labelled is the folder of a label, made when missing; nil for a label of the
// system whose folder the account does not show.
func (m *Model) labelled(label string) *box {
	if strings.EqualFold(label, `\Inbox`) {
		return m.box("INBOX")
	}
	for name, attr := range systemLabels {
		if strings.EqualFold(label, name) {
			return m.having(attr)
		}
	}
	if b := m.box(label); b != nil {
		return b
	}
	return m.create(label)
}

func (m *Model) having(attr string) *box {
	for _, b := range m.boxes {
		if slices.Contains(b.attrs, attr) {
			return b
		}
	}
	return nil
}

// label is the label that a folder stands for; "" for that of all mail.
func (b *box) label() string {
	if b.name == "INBOX" {
		return `\Inbox`
	}
	for name, attr := range systemLabels {
		if slices.Contains(b.attrs, attr) {
			return name
		}
	}
	if slices.Contains(b.attrs, `\All`) {
		return ""
	}
	return b.name
}

// labels are those of a message, in the order of the folders.
func (m *Model) labels(id int) (all []string) {
	for _, b := range m.boxes {
		if l := b.label(); l != "" && b.byID(id) != nil {
			all = append(all, l)
		}
	}
	return all
}

// Labels are those of the message that has a UID in a folder.
func (m *Model) Labels(raw string, uid uint32) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.labels(m.mail(raw, uid).id)
}

func (b *box) byID(id int) *stored {
	for _, s := range b.mails {
		if s.id == id {
			return s
		}
	}
	return nil
}

// bin reports whether what lies in a folder lies nowhere else.
func (b *box) bin() bool {
	return slices.Contains(b.attrs, `\Trash`) || slices.Contains(b.attrs, `\Junk`)
}

// merge brings a message into a folder: a new one only where no other has its
// bytes.
func (m *Model) merge(b *box, msg Message) uint32 {
	for _, other := range m.boxes {
		for _, s := range other.mails {
			if s.Size == msg.Size && bytes.Equal(s.Raw(), msg.Raw()) {
				return m.show(b, s.Message, s.id)
			}
		}
	}
	m.ids++
	return m.show(b, msg, m.ids)
}

// show gives a message the label of a folder, and tells its UID there.
func (m *Model) show(b *box, msg Message, id int) uint32 {
	for _, other := range m.boxes {
		if other != b && (b.bin() || other.bin()) {
			m.hide(other, id)
		}
	}
	if all := m.having(`\All`); all != nil && all != b && !b.bin() && all.byID(id) == nil {
		m.add(all, msg, id)
	}
	if s := b.byID(id); s != nil {
		return s.uid
	}
	return m.add(b, msg, id)
}

func (m *Model) hide(b *box, id int) {
	b.mails = slices.DeleteFunc(slices.Clone(b.mails), func(s *stored) bool {
		if s.id != id {
			return false
		}
		b.gone = append(b.gone, gone{s.uid, m.tick(b)})
		return true
	})
}

// spread gives the flags of a message to it wherever it is shown.
func (m *Model) spread(from *stored) {
	for _, b := range m.boxes {
		if s := b.byID(from.id); s != nil && s != from {
			s.Flags, s.modseq = from.Flags, m.tick(b)
		}
	}
}

// relabel does STORE of +X-GM-LABELS.
func (d *dialogue) relabel(found []target, labels []token) string {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	for _, l := range labels {
		if l.isList || l.text == "" || strings.HasPrefix(l.text, "[Gmail]") {
			return "BAD not a label"
		}
		b := d.m.labelled(l.text)
		for _, t := range found {
			if b != nil {
				d.m.show(b, t.Message, t.id)
			}
		}
	}
	for _, t := range found {
		var quoted []string
		for _, l := range d.m.labels(t.id) {
			quoted = append(quoted, quote(l))
		}
		fmt.Fprintf(d.w, "* %d FETCH (X-GM-LABELS (%s) UID %d)\r\n", t.seq, strings.Join(quoted, " "), t.uid)
	}
	return "OK Success"
}
