package testmail

import (
	"fmt"
	"slices"
	"strings"
)

// list does LIST with what RFC 5258 and RFC 5819 add.
func (d *dialogue) list(args []token) string {
	if len(args) > 0 && args[0].isList {
		args = args[1:] // all folders are subscribed, so options select none away
	}
	if len(args) < 2 {
		return "BAD reference and pattern"
	}
	patterns := []token{args[1]}
	if args[1].isList {
		patterns = args[1].list
	}
	var items token
	if len(args) == 4 && strings.EqualFold(args[2].text, "RETURN") {
		for i, o := range args[3].list {
			if strings.EqualFold(o.text, "STATUS") && i+1 < len(args[3].list) {
				items = args[3].list[i+1]
			}
		}
	}
	if args[1].text == "" && !args[1].isList {
		d.printf("* LIST (\\Noselect) %s \"\"\r\n", d.m.delim())
		return "OK done"
	}
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	d.m.box("INBOX")
	for _, b := range d.m.boxes {
		if !slices.ContainsFunc(patterns, func(p token) bool { return d.matches(args[0].text+p.text, b.name) }) {
			continue
		}
		d.printf("* LIST (%s) %s %s\r\n", strings.Join(d.attributes(b), " "), d.m.delim(), quote(b.name))
		if items.isList && !slices.Contains(b.attrs, `\Noselect`) {
			d.printf("* STATUS %s (%s)\r\n", quote(b.name), d.counts(b, items.words()))
		}
	}
	return "OK done"
}

func (d *dialogue) attributes(b *box) []string {
	attrs := slices.Clone(b.attrs)
	if d.m.Flat {
		return attrs
	}
	below := b.name + d.separator()
	for _, o := range d.m.boxes {
		if strings.HasPrefix(o.name, below) {
			return append(attrs, `\HasChildren`)
		}
	}
	return append(attrs, `\HasNoChildren`)
}

func (d *dialogue) separator() string {
	if d.m.Delim == "" {
		return "/"
	}
	return d.m.Delim
}

// matches does the wildcards of LIST (RFC 3501, section 6.3.8).
func (d *dialogue) matches(pattern, name string) bool {
	if pattern == "" {
		return name == ""
	}
	switch pattern[0] {
	case '*', '%':
		for i := 0; ; i++ {
			if d.matches(pattern[1:], name[i:]) {
				return true
			}
			if i == len(name) || pattern[0] == '%' && !d.m.Flat && strings.HasPrefix(name[i:], d.separator()) {
				return false
			}
		}
	}
	return name != "" && name[0] == pattern[0] && d.matches(pattern[1:], name[1:])
}

func (d *dialogue) status(args []token) string {
	if len(args) != 2 || !args[1].isList {
		return "BAD folder and items"
	}
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	b := d.m.box(args[0].text)
	if b == nil || slices.Contains(b.attrs, `\Noselect`) {
		return "NO [NONEXISTENT] no such folder"
	}
	counts := d.counts(b, args[1].words())
	if counts == "" {
		return "BAD unknown item"
	}
	d.printf("* STATUS %s (%s)\r\n", quote(b.name), counts)
	return "OK done"
}

// counts are the items of a STATUS answer; "" when one is not known.
func (d *dialogue) counts(b *box, items []string) string {
	var parts []string
	for _, item := range items {
		var n any
		switch {
		case item == "MESSAGES":
			n = len(b.mails)
		case item == "RECENT":
			n = 0
		case item == "UNSEEN":
			n = b.count(func(s *stored) bool { return !s.Flags.Has(`\Seen`) })
		case item == "DELETED":
			n = b.count(func(s *stored) bool { return s.Flags.Has(`\Deleted`) })
		case item == "UIDNEXT":
			n = b.next
		case item == "UIDVALIDITY":
			n = b.validity
		case item == "HIGHESTMODSEQ" && d.m.has("CONDSTORE"):
			n = b.modseq
		case item == "SIZE" && d.m.has("STATUS=SIZE"):
			n = b.size()
		case item == "APPENDLIMIT" && d.m.has("APPENDLIMIT"):
			n = "NIL"
			if d.m.Keeper.Limit > 0 {
				n = d.m.Keeper.Limit
			}
		case item == "MAILBOXID" && d.m.has("OBJECTID"):
			n = "(" + b.id + ")"
		default:
			return ""
		}
		parts = append(parts, fmt.Sprintf("%s %v", item, n))
	}
	return strings.Join(parts, " ")
}

func (b *box) count(is func(*stored) bool) int {
	n := 0
	for _, s := range b.mails {
		if is(s) {
			n++
		}
	}
	return n
}

func (b *box) size() int64 {
	var n int64
	for _, s := range b.mails {
		n += s.Size
	}
	return n
}

// examine opens a folder; with SELECT flags may be changed.
func (d *dialogue) examine(args []token, verb string) string {
	if len(args) == 0 {
		return "BAD folder"
	}
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	if d.box != nil && d.enabled["QRESYNC"] {
		d.printf("* OK [CLOSED] closed\r\n")
	}
	d.box, d.view = nil, nil
	b := d.m.box(args[0].text)
	if b == nil || slices.Contains(b.attrs, `\Noselect`) {
		return "NO [NONEXISTENT] no such folder"
	}
	d.box, d.name = b, b.name
	for _, s := range b.mails {
		d.view = append(d.view, &seen{s, s.modseq})
	}
	d.printf("* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)\r\n")
	d.readOnly = verb == "EXAMINE"
	if d.readOnly {
		d.printf("* OK [PERMANENTFLAGS ()] for reading only\r\n")
	} else {
		d.printf("* OK [PERMANENTFLAGS (%s)] these last\r\n", d.m.permanent())
	}
	d.printf("* %d EXISTS\r\n* 0 RECENT\r\n", len(d.view))
	d.printf("* OK [UIDVALIDITY %d] valid\r\n* OK [UIDNEXT %d] next\r\n", b.validity, b.next)
	if d.m.has("CONDSTORE") {
		d.printf("* OK [HIGHESTMODSEQ %d] highest\r\n", b.modseq)
	}
	if d.m.has("OBJECTID") {
		d.printf("* OK [MAILBOXID (%s)] id\r\n", b.id)
	}
	if len(args) > 1 {
		if status := d.resync(args[1]); status != "" {
			return status
		}
	}
	if d.readOnly {
		return "OK [READ-ONLY] " + verb + " done"
	}
	return "OK [READ-WRITE] " + verb + " done"
}

// resync does the parameters of SELECT (RFC 7162, sections 3.1.8 and 3.2.5);
// what it returns is an error.
func (d *dialogue) resync(params token) string {
	for i, p := range params.list {
		switch {
		case strings.EqualFold(p.text, "CONDSTORE") && d.m.has("CONDSTORE"):
			d.enabled["CONDSTORE"] = true
		case strings.EqualFold(p.text, "QRESYNC"):
			if !d.enabled["QRESYNC"] || i+1 >= len(params.list) || len(params.list[i+1].list) < 2 {
				return "BAD QRESYNC was not enabled"
			}
			d.catchUp(params.list[i+1].list)
			return ""
		case p.isList:
		default:
			return "BAD unknown parameter"
		}
	}
	return ""
}

// catchUp tells what has happened since a known state of the folder.
func (d *dialogue) catchUp(known []token) {
	if known[0].text != fmt.Sprint(d.box.validity) {
		return
	}
	since := mod(known[1].text)
	d.vanished("(EARLIER) ", d.box.goneSince(since, nil))
	for i, s := range d.view {
		if s.modseq > since {
			d.printf("* %d FETCH (UID %d FLAGS (%s) MODSEQ (%d))\r\n", i+1, s.uid, s.Flags.Key(), s.modseq)
		}
	}
}

func mod(s string) uint64 {
	var n uint64
	fmt.Sscan(s, &n)
	return n
}

func (d *dialogue) vanished(how string, uids []uint32) {
	if len(uids) > 0 {
		d.printf("* VANISHED %s%s\r\n", how, ranges(uids))
	}
}

// goneSince are the UIDs expunged after a mod-sequence, within a set if there
// is one.
func (b *box) goneSince(since uint64, within set) []uint32 {
	var uids []uint32
	for _, g := range b.gone {
		if g.modseq > since && (within == nil || within.has(g.uid)) {
			uids = append(uids, g.uid)
		}
	}
	slices.Sort(uids)
	return uids
}

// sync tells what others have done to the open folder. While FETCH and SEARCH
// by number run, numbers must not change (RFC 3501, section 7.4.1).
func (d *dialogue) sync(verb string) {
	if d.box == nil {
		return
	}
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	b := d.m.box(d.name)
	if b == nil || b.validity != d.box.validity {
		return // renumbered: the client finds out when it opens the folder again
	}
	if d.box == b && d.told == b.modseq {
		return // nothing has changed: a folder may be large
	}
	d.box = b
	if verb != "FETCH" && verb != "SEARCH" {
		d.drop(b)
		d.told = b.modseq
	}
	for i, s := range d.view {
		if now, ok := b.find(s.uid); ok && b.mails[now].modseq > s.told {
			s.stored, s.told = b.mails[now], b.mails[now].modseq
			d.printf("* %d FETCH (%sFLAGS (%s))\r\n", i+1, d.uidIfEnabled(s), s.Flags.Key())
		}
	}
	d.grow(b)
}

// uidIfEnabled is what RFC 7162, section 3.2.4, wants in such news.
func (d *dialogue) uidIfEnabled(s *seen) string {
	if !d.enabled["CONDSTORE"] {
		return ""
	}
	return fmt.Sprintf("UID %d MODSEQ (%d) ", s.uid, s.modseq)
}

// drop tells of messages that are gone.
func (d *dialogue) drop(b *box) {
	var uids []uint32
	for i := 0; i < len(d.view); {
		if _, ok := b.find(d.view[i].uid); ok {
			i++
			continue
		}
		uids = append(uids, d.view[i].uid)
		d.view = append(d.view[:i:i], d.view[i+1:]...)
		if !d.enabled["QRESYNC"] {
			d.printf("* %d EXPUNGE\r\n", i+1)
		}
	}
	if d.enabled["QRESYNC"] {
		d.vanished("", uids)
	}
}

// grow tells of messages that are new.
func (d *dialogue) grow(b *box) {
	last, before := uint32(0), len(d.view)
	if before > 0 {
		last = d.view[before-1].uid
	}
	for _, s := range b.mails {
		if s.uid > last {
			d.view = append(d.view, &seen{s, s.modseq})
		}
	}
	if len(d.view) > before {
		d.printf("* %d EXISTS\r\n", len(d.view))
	}
}
