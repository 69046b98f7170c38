package imap

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"mailhaul/internal/mail"
	"mailhaul/internal/testmail"
	"mailhaul/sink"
)

func raw(m *sink.Message) []byte {
	var b bytes.Buffer
	it := item{m: m, ends: wireEnds(m.Ends)}
	if err := it.write(&b); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func nobodys(sink.Place) bool { return false }

// TestMatch is RELIABILITY 4.4: what is at the destination already, perhaps
// changed by its server, is recognised, one for one.
func TestMatch(t *testing.T) {
	plain := letter("Message-ID: <a@example.org>\r\nSubject: a\r\n\r\nbody\r\n")
	nameless := letter("Subject: nameless\r\n\r\nbody\r\n")
	folded := letter("Message-ID:\r\n <folded@example.org>\r\nSubject: f\r\n\r\nbody\r\n")
	open := letter("Message-ID: <open@example.org>\r\n\r\nno end")
	headless := letter("\r\nno header\r\n")
	with := func(m *sink.Message, head string) []byte { return append([]byte(head), raw(m)...) }
	for _, c := range []struct {
		name  string
		there [][]byte
		want  []*sink.Message
		found []int // which of there, from 1; 0: none
		note  string
	}{
		{"nothing there", nil, []*sink.Message{plain}, []int{0}, ""},
		{"the same", [][]byte{raw(nameless), raw(plain)}, []*sink.Message{plain, nameless}, []int{2, 1}, ""},
		{"folded, open, headless", [][]byte{raw(folded), raw(open), raw(headless)}, []*sink.Message{headless, open, folded}, []int{3, 2, 1}, ""},
		{"two wanted, one there", [][]byte{raw(plain)}, []*sink.Message{plain, plain}, []int{1, 0}, ""},
		{"two wanted, two there", [][]byte{raw(plain), raw(plain)}, []*sink.Message{plain, plain}, []int{1, 2}, ""},
		{"one wanted, two there", [][]byte{raw(plain), raw(plain)}, []*sink.Message{plain}, []int{1}, ""},
		{"the server has added a line", [][]byte{with(plain, "X-Added: by the server\r\n")}, []*sink.Message{plain}, []int{1}, ""},
		{"changed twice over", [][]byte{with(plain, "X-Added: 1\r\n"), with(plain, "X-Added: 2\r\n")}, []*sink.Message{plain}, []int{0}, "<a@example.org>"},
		{"changed and the same", [][]byte{with(plain, "X-Added: 1\r\n"), raw(plain)}, []*sink.Message{plain}, []int{2}, ""},
		{"the same name, another size", [][]byte{append(raw(plain), bytes.Repeat([]byte("x\r\n"), 5000)...)}, []*sink.Message{plain}, []int{0}, ""},
		{"no name, another body", [][]byte{[]byte("Subject: nameless\r\n\r\nydob\r\n")}, []*sink.Message{nameless}, []int{0}, ""},
		{"no name, another header", [][]byte{with(nameless, "X: 1\r\n")}, []*sink.Message{nameless}, []int{0}, ""},
		{"lines that end in LF", [][]byte{bytes.ReplaceAll(raw(plain), []byte("\r\n"), []byte("\n"))}, []*sink.Message{plain}, []int{1}, ""},
	} {
		for _, caps := range [][]string{testmail.DefaultCaps, testmail.PlainCaps} {
			m := &testmail.Model{Caps: caps}
			var uids []uint32
			for _, r := range c.there {
				uids = append(uids, m.Deliver("INBOX", testmail.Letter("there", r))...)
			}
			s := over(m.Start(t), 1)
			f, err := s.Open(t.Context(), mail.Inbox, false)
			if err != nil {
				t.Fatal(err)
			}
			var want []sink.Want
			for _, w := range c.want {
				want = append(want, w.Want)
			}
			got, err := f.(sink.Matcher).Match(t.Context(), want, nobodys)
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				continue
			}
			for i, at := range c.found {
				place := sink.Place("")
				if at > 0 {
					place = sink.Place(fmt.Sprintf("%d:%d", m.Validity("INBOX"), uids[at-1]))
				}
				if got[i] != place {
					t.Errorf("%s: message %d is found at %q, want %q", c.name, i, got[i], place)
				}
			}
			if notes := strings.Join(s.Notes(), "\n"); !strings.Contains(notes, c.note) || c.note == "" && notes != "" {
				t.Errorf("%s: notes %q", c.name, notes)
			}
			m.Untouched(t)
			f.Close()
			s.Close()
		}
	}
}

// TestMatchOurs leaves alone what the catalog knows, and finds nothing twice in
// batches that follow each other.
func TestMatchOurs(t *testing.T) {
	m := &testmail.Model{}
	ms := letters(6)
	for _, x := range ms {
		m.Deliver("INBOX", testmail.Letter("there", raw(x)))
	}
	s := over(m.Start(t), 1)
	defer s.Close()
	f, err := s.Open(t.Context(), mail.Inbox, false)
	if err != nil {
		t.Fatal(err)
	}
	ours := func(p sink.Place) bool {
		return strings.HasSuffix(string(p), ":1") || strings.HasSuffix(string(p), ":5")
	}
	var found []sink.Place
	for _, x := range ms {
		got, err := f.(sink.Matcher).Match(t.Context(), []sink.Want{x.Want}, ours)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, got[0])
	}
	v := fmt.Sprint(m.Validity("INBOX"), ":")
	if want := []sink.Place{"", sink.Place(v + "2"), sink.Place(v + "3"), sink.Place(v + "4"), "", sink.Place(v + "6")}; !slices.Equal(found, want) {
		t.Errorf("%q, want %q", found, want)
	}
	again, err := f.(sink.Matcher).Match(t.Context(), []sink.Want{ms[1].Want}, ours)
	if err != nil || again[0] != "" {
		t.Errorf("found a second time: %q, %v", again, err)
	}
}

// TestStale is a folder that the destination numbers anew.
func TestStale(t *testing.T) {
	m := &testmail.Model{}
	addr := m.Start(t)
	s := over(addr, 1)
	places, err := bring(t.Context(), s, mail.Inbox, letters(2))
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	for _, renumbered := range []bool{false, true} {
		if renumbered {
			m.Renumber("INBOX")
		}
		s := over(addr, 1)
		f, err := s.Open(t.Context(), mail.Inbox, false)
		if err != nil {
			t.Fatal(err)
		}
		if is, err := f.(sink.Matcher).Stale(t.Context(), places[0]); err != nil || is != renumbered {
			t.Errorf("stale %v, %v", is, err)
		}
		if r, err := f.(sink.Reader).Read(t.Context(), places[0]); (err == nil) == renumbered {
			t.Errorf("read %v, %v", r, err)
		}
		s.Close()
	}
}

// TestChanged is row D3: a server that changes what it is given, and tells no
// UIDs. Its messages are recognised all the same.
func TestChanged(t *testing.T) {
	m := &testmail.Model{Caps: without(testmail.DefaultCaps, "UIDPLUS")}
	m.Keeper.Change = func(raw []byte) []byte { return append([]byte("X-Server: was here\r\n"), raw...) }
	s := over(m.Start(t), 1)
	defer s.Close()
	ms := []*sink.Message{letters(1)[0], letters(3)[2]}
	places, err := bring(t.Context(), s, mail.Inbox, ms)
	if err != nil || slices.Contains(places, "") {
		t.Errorf("%q, %v", places, err)
	}
	if n := len(m.Mails("INBOX")); n != 2 {
		t.Errorf("%d messages", n)
	}
}
