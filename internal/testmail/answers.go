package testmail

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// target is a message that a command is about.
type target struct {
	seq uint32
	stored
}

// targets are the messages of a set that are still there, as they are now.
func (d *dialogue) targets(text string, byUID bool) ([]target, set, error) {
	want, err := parseSet(text, d.last(byUID))
	if err != nil {
		return nil, nil, err
	}
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	now := d.m.box(d.name)
	var found []target
	for i, s := range d.view {
		n := uint32(i + 1)
		if byUID {
			n = s.uid
		}
		if !want.has(n) || now == nil {
			continue
		}
		if at, ok := now.find(s.uid); ok && now.validity == d.box.validity {
			found = append(found, target{uint32(i + 1), *now.mails[at]})
		}
	}
	return found, want, nil
}

// last is what "*" stands for.
func (d *dialogue) last(byUID bool) uint32 {
	n := len(d.view)
	if byUID && n > 0 {
		return d.view[n-1].uid
	}
	return uint32(n)
}

// fetch does FETCH and UID FETCH, one answer a message, with no lock held while
// the client reads.
func (d *dialogue) fetch(args []token, byUID bool) string {
	if len(args) < 2 {
		return "BAD set and items"
	}
	items, err := d.items(args[1], byUID)
	if err != nil {
		return "BAD " + err.Error()
	}
	var since uint64
	if len(args) > 2 {
		words := args[2].words()
		if !d.m.has("CONDSTORE") || len(words) < 2 || words[0] != "CHANGEDSINCE" {
			return "BAD unknown modifier"
		}
		since = mod(words[1])
		d.enabled["CONDSTORE"] = true
		if !slices.Contains(items, "MODSEQ") {
			items = append(items, "MODSEQ")
		}
	}
	found, want, err := d.targets(args[0].text, byUID)
	if err != nil {
		return "BAD not a set"
	}
	if len(args) > 2 && slices.Contains(args[2].words(), "VANISHED") {
		if !d.enabled["QRESYNC"] || !byUID {
			return "BAD QRESYNC was not enabled"
		}
		d.m.mu.Lock()
		d.vanished("(EARLIER) ", d.box.goneSince(since, want))
		d.m.mu.Unlock()
	}
	status := "OK done"
	for _, t := range found {
		if t.modseq <= since {
			continue
		}
		a := d.answer(t, items)
		d.m.bend(a)
		if a.Status != "" {
			status = a.Status
			continue
		}
		if !d.send(a) {
			return hangup
		}
	}
	return status
}

// items are the canonical names of what is asked for.
func (d *dialogue) items(asked token, byUID bool) ([]string, error) {
	names := asked.words()
	if !asked.isList {
		switch names[0] {
		case "FAST":
			names = []string{"FLAGS", "INTERNALDATE", "RFC822.SIZE"}
		case "ALL", "FULL":
			return nil, fmt.Errorf("%s is not known here", names[0])
		}
	}
	if byUID && !slices.Contains(names, "UID") {
		names = append([]string{"UID"}, names...)
	}
	for i, n := range names {
		n = strings.Replace(n, "BODY.PEEK[", "BODY[", 1)
		if !d.offers(n) {
			return nil, fmt.Errorf("%s is not known here", n)
		}
		names[i] = n
	}
	return names, nil
}

func (d *dialogue) offers(item string) bool {
	switch item {
	case "UID", "FLAGS", "INTERNALDATE", "RFC822.SIZE", "RFC822":
		return true
	case "MODSEQ":
		return d.m.has("CONDSTORE")
	case "EMAILID", "THREADID":
		return d.m.has("OBJECTID")
	case "X-GM-MSGID", "X-GM-THRID", "X-GM-LABELS":
		return d.m.has("X-GM-EXT-1")
	}
	name, _, _ := strings.Cut(item, "]")
	return name == "BODY[" || name == "BODY[HEADER" || strings.HasPrefix(name, "BODY[HEADER.FIELDS ") || name == "BODY[TEXT"
}

func (d *dialogue) answer(t target, items []string) *Answer {
	a := &Answer{Seq: t.seq, UID: t.uid}
	if d.m.keeper().Gmail {
		d.m.mu.Lock()
		t.Labels = d.m.labels(t.id)
		d.m.mu.Unlock()
	}
	for _, name := range items {
		a.Items = append(a.Items, t.item(name))
	}
	return a
}

// item is what is known of a message under a name.
func (t target) item(name string) Item {
	value := func(format string, args ...any) Item {
		return Item{Name: name, Value: fmt.Sprintf(format, args...)}
	}
	switch name {
	case "UID":
		return value("%d", t.uid)
	case "FLAGS":
		return value("(%s)", t.Flags.Key())
	case "INTERNALDATE":
		return value("%q", t.Date.Format("_2-Jan-2006 15:04:05 -0700"))
	case "RFC822.SIZE":
		return value("%d", t.Size)
	case "MODSEQ":
		return value("(%d)", t.modseq)
	case "EMAILID":
		return value("(M%d)", t.id)
	case "THREADID":
		return value("(T%d)", t.id)
	case "X-GM-MSGID", "X-GM-THRID":
		return value("%d", 1_700_000_000_000_000_000+uint64(t.id))
	case "X-GM-LABELS":
		var labels []string
		for _, l := range t.Labels {
			labels = append(labels, quote(l))
		}
		return value("(%s)", strings.Join(labels, " "))
	}
	return t.section(name)
}

// section is a body, or a part of one: BODY[], BODY[HEADER], BODY[TEXT] and
// octets of them. The whole is streamed.
func (t target) section(name string) Item {
	which, octets, _ := strings.Cut(strings.TrimPrefix(name, "BODY["), "]")
	if which == "" && octets == "" || name == "RFC822" {
		return Item{Name: name, Body: t.Open(), Size: t.Size}
	}
	raw := t.Raw()
	end := len(raw)
	for _, blank := range []string{"\r\n\r\n", "\n\n", "\n\r\n"} {
		if i := bytes.Index(raw[:end], []byte(blank)); i >= 0 {
			end = i + len(blank)
		}
	}
	if fields, ok := strings.CutPrefix(which, "HEADER.FIELDS "); ok {
		raw = fieldsOf(raw[:end], strings.Fields(strings.Trim(fields, "()")))
	}
	switch which {
	case "HEADER":
		raw = raw[:end]
	case "TEXT":
		raw = raw[end:]
	}
	if from, count, ok := strings.Cut(strings.Trim(octets, "<>"), "."); ok {
		name = fmt.Sprintf("BODY[%s]<%s>", which, from)
		a, _ := strconv.Atoi(from)
		n, _ := strconv.Atoi(count)
		a = min(a, len(raw))
		raw = raw[a:min(a+n, len(raw))]
	}
	return Item{Name: name, Body: bytes.NewReader(raw), Size: int64(len(raw))}
}

// fieldsOf are the named fields of a header, and the empty line behind them.
func fieldsOf(head []byte, names []string) []byte {
	var out []byte
	taken := false
	for line := range bytes.Lines(head) {
		if line[0] != ' ' && line[0] != '\t' {
			name, _, _ := bytes.Cut(line, []byte{':'})
			taken = slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, string(name)) })
		}
		if taken {
			out = append(out, line...)
		}
	}
	return append(out, "\r\n"...)
}

// bend asks the bends, without a lock: they may call the Model.
func (m *Model) bend(a *Answer) {
	m.mu.Lock()
	bends := slices.Clone(m.bends)
	m.mu.Unlock()
	for _, b := range bends {
		b(a)
	}
}

// send writes an answer; false ends the connection.
func (d *dialogue) send(a *Answer) bool {
	d.w.WriteString(a.Before)
	if !a.Omit {
		d.printf("* %d FETCH (", a.Seq)
		for i, it := range a.Items {
			if i > 0 {
				d.w.WriteByte(' ')
			}
			if it.Body == nil {
				d.printf("%s %s", it.Name, it.Value)
				continue
			}
			d.printf("%s {%d}\r\n", it.Name, it.Size)
			n, err := d.w.Stream(it.Body)
			if !strings.HasPrefix(it.Name, "BODY[HEADER") {
				d.m.sentBody(n)
			}
			if err != nil {
				return false
			}
		}
		d.w.WriteString(")\r\n")
	}
	d.w.WriteString(a.After)
	return (d.w.Len() < 32<<10 || d.w.Flush() == nil) && !a.End
}

// search does what is needed to find out what is there: ALL, sets, some flags
// and MODSEQ, and the answers of RFC 4731.
func (d *dialogue) search(tag string, args []token, byUID bool) string {
	var want []string
	if len(args) > 1 && strings.EqualFold(args[0].text, "RETURN") {
		if !d.m.has("ESEARCH") && !d.m.has("IMAP4rev2") {
			return "BAD unknown"
		}
		want = args[1].words()
		if len(want) == 0 {
			want = []string{"ALL"}
		}
		args = args[2:]
	}
	found, _, err := d.targets("1:4294967295", true)
	for i := 0; i < len(args) && err == nil; i++ {
		found, err = d.narrow(found, args, &i)
	}
	if err != nil || len(args) == 0 {
		return "BAD unknown key"
	}
	var nums []uint32
	for _, t := range found {
		if byUID {
			nums = append(nums, t.uid)
		} else {
			nums = append(nums, t.seq)
		}
	}
	if want == nil {
		d.w.WriteString("* SEARCH")
		for _, n := range nums {
			d.printf(" %d", n)
		}
		d.w.WriteString("\r\n")
		return "OK done"
	}
	d.esearch(tag, nums, want, byUID)
	return "OK done"
}

// narrow keeps of found what the key at args[*i] allows.
func (d *dialogue) narrow(found []target, args []token, i *int) ([]target, error) {
	keep := func(is func(target) bool) []target {
		return slices.DeleteFunc(found, func(t target) bool { return !is(t) })
	}
	key := strings.ToUpper(args[*i].text)
	switch key {
	case "ALL":
		return found, nil
	case "SEEN", "DELETED", "FLAGGED", "ANSWERED", "DRAFT":
		flag := `\` + key[:1] + strings.ToLower(key[1:])
		return keep(func(t target) bool { return strings.Contains(t.Flags.Key(), flag) }), nil
	case "UNSEEN", "UNDELETED", "UNFLAGGED", "UNANSWERED", "UNDRAFT":
		flag := `\` + key[2:3] + strings.ToLower(key[3:])
		return keep(func(t target) bool { return !strings.Contains(t.Flags.Key(), flag) }), nil
	case "UID", "MODSEQ":
		if *i++; *i == len(args) {
			return nil, errSyntax
		}
	}
	if key == "MODSEQ" {
		least := mod(args[*i].text)
		return keep(func(t target) bool { return t.modseq >= least }), nil
	}
	within, err := parseSet(args[*i].text, d.last(key == "UID"))
	if err != nil {
		return nil, err
	}
	return keep(func(t target) bool {
		if key == "UID" {
			return within.has(t.uid)
		}
		return within.has(t.seq)
	}), nil
}

func (d *dialogue) esearch(tag string, nums []uint32, want []string, byUID bool) {
	d.printf("* ESEARCH (TAG %s)", quote(tag))
	if byUID {
		d.w.WriteString(" UID")
	}
	for _, w := range want {
		switch {
		case w == "COUNT":
			d.printf(" COUNT %d", len(nums))
		case len(nums) == 0:
		case w == "ALL":
			d.printf(" ALL %s", ranges(nums))
		case w == "MIN":
			d.printf(" MIN %d", nums[0])
		case w == "MAX":
			d.printf(" MAX %d", nums[len(nums)-1])
		}
	}
	d.w.WriteString("\r\n")
}
