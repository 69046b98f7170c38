package imap

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"mailhaul/internal/mail"
	"mailhaul/internal/testmail"
	"mailhaul/source"
)

// describe gives what is told of entries.
func describe(t *testing.T, box source.Mailbox, entries []source.Entry) (map[source.ID]source.Description, error) {
	t.Helper()
	got := map[source.ID]source.Description{}
	for d, err := range box.(source.Describer).Describe(t.Context(), entries) {
		if err != nil {
			return got, err
		}
		if _, twice := got[d.ID]; twice {
			t.Errorf("message %s is described twice", d.ID)
		}
		got[d.ID] = d
	}
	return got, nil
}

// facts are what reading a letter tells, as a Description without a digest.
func facts(t *testing.T, id source.ID, l testmail.Message) source.Description {
	t.Helper()
	s, err := mail.Summarize(bytes.NewReader(l.Raw()))
	if err != nil {
		t.Fatal(err)
	}
	return source.Description{ID: id, Size: s.Size, MessageID: s.MessageID, Head: s.Head}
}

// TestDescribeBent describes 60 messages while the answer about number 7 is
// bent: it is left out or right, and all others are there.
func TestDescribeBent(t *testing.T) {
	for _, c := range []struct {
		name string
		bend testmail.Bend
		told bool // number 7 is described
	}{
		{"uid last", testmail.UIDLast, true},
		{"shuffled", testmail.Shuffle(3), true},
		{"flags before", testmail.FlagsBefore, true},
		{"flags after", testmail.FlagsAfter, true},
		{"left out", testmail.Omit, false},
		{"refused", testmail.Fail("NO [SERVERBUG] cannot read it"), false},
		{"refused once", testmail.Once(testmail.Fail("NO [SERVERBUG] cannot read it")), true},
		{"bad", testmail.Fail("BAD what"), false},
		{"nil", testmail.Nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &testmail.Model{}
			src := model(t, m, 60)
			box := inbox(t, src)
			all := list(t, box, "")
			m.Bend(testmail.ForUID(7, c.bend))
			got, err := describe(t, box, all)
			if err != nil {
				t.Fatal(err)
			}
			for i, l := range letters(60) {
				d, told := got[all[i].ID]
				if told != (c.told || all[i].ID != "7") {
					t.Errorf("message %s: described %v", all[i].ID, told)
				}
				if told && d != facts(t, d.ID, l) {
					t.Errorf("message %s is described as %+v", d.ID, d)
				}
			}
		})
	}
}

// TestDescribeBusy: a server that has had enough is not asked again in halves.
func TestDescribeBusy(t *testing.T) {
	m := &testmail.Model{}
	src := model(t, m, 30)
	box := inbox(t, src)
	all := list(t, box, "")
	before := m.Count("UID FETCH")
	m.Fault(testmail.Refuse("UID FETCH", "NO [THROTTLED] later", 0))
	if _, err := describe(t, box, all); !mail.Temporary(err) || mail.ScopeOf(err, 0) != mail.ScopeFolder || !strings.Contains(err.Error(), "INBOX") {
		t.Errorf("%v", err)
	}
	if n := m.Count("UID FETCH") - before; n != 1 {
		t.Errorf("%d commands", n)
	}
}

// TestDescribeLong: what is longer than a window comes in several, and a header
// that is too long for one answer is read with its body.
func TestDescribeLong(t *testing.T) {
	m := &testmail.Model{}
	src := model(t, m, 2*mostDescribed+10)
	long := testmail.Letter("long", []byte("Message-ID: <long@example.org>\r\n"+strings.Repeat("X-Filler: "+strings.Repeat("x", 990)+"\r\n", 1500)+"\r\nbody\r\n"))
	m.Replace("INBOX", 5, long)
	box := inbox(t, src)
	all := list(t, box, "")
	before := m.Count("UID FETCH")
	got, err := describe(t, box, all)
	if err != nil || len(got) != 2*mostDescribed+10 {
		t.Fatalf("%d, %v", len(got), err)
	}
	if n := m.Count("UID FETCH") - before; n != 4 {
		t.Errorf("%d commands", n)
	}
	d := got["5"]
	if d.Digest == (mail.Digest{}) {
		t.Error("the long header was not read whole")
	}
	d.Digest = mail.Digest{}
	if d != facts(t, "5", long) {
		t.Errorf("%+v", d)
	}
}

// TestDescribeCut is row A1: a line that breaks is an error, whatever came.
func TestDescribeCut(t *testing.T) {
	m := &testmail.Model{Cleartext: true}
	m.Deliver("INBOX", letters(5)...)
	addr := m.Start(t)
	once := func() (int, error) {
		src := plainSource(addr, 1)
		defer src.Close()
		box, err := src.Open(t.Context(), mail.Inbox)
		if err != nil {
			return 0, err
		}
		defer box.Close()
		var all []source.Entry
		for i := range 5 {
			all = append(all, source.Entry{ID: idOf(uint32(i + 1)), Size: -1})
		}
		got, err := describe(t, box, all)
		for i, l := range letters(5) {
			if d, ok := got[idOf(uint32(i+1))]; ok && d != facts(t, d.ID, l) {
				t.Errorf("%+v", d)
			}
		}
		return len(got), err
	}
	if n, err := once(); n != 5 || err != nil {
		t.Fatal(n, err)
	}
	total := m.Sent()
	for at := int64(0); at < total; at += 7 {
		m.Heal()
		m.Reset()
		m.Cut(testmail.Cut{After: at})
		if n, err := once(); err == nil && n != 5 {
			t.Errorf("cut at %d: %d messages and no error", at, n)
		}
	}
}

// TestDescribeMemory describes what go-imap's server holds.
func TestDescribeMemory(t *testing.T) {
	m, err := testmail.NewMemory(testmail.MemoryOptions{User: "ann", Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	corpus := testmail.Corpus()
	if err := m.Append("INBOX", corpus...); err != nil {
		t.Fatal(err)
	}
	src := plainSource(m.Addr(), 1)
	defer src.Close()
	box := inbox(t, src)
	got, err := describe(t, box, list(t, box, ""))
	if err != nil || len(got) != len(corpus) {
		t.Fatal(len(got), err)
	}
	for i, l := range corpus {
		id := source.ID(fmt.Sprint(i + 1))
		d := got[id]
		d.Digest = mail.Digest{} // known of some: the server's header is not all of it
		if s, _ := mail.Summarize(bytes.NewReader(l.Raw())); !s.Kept && d != facts(t, id, l) {
			t.Errorf("%s: %+v, want %+v", l.Name, d, facts(t, id, l))
		}
	}
}
