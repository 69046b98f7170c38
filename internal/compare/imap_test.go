package compare_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"mailhaul/internal/compare"
	"mailhaul/internal/folderplan"
	"mailhaul/internal/mail"
	"mailhaul/internal/testmail"
	"mailhaul/source"
	"mailhaul/source/imap"
)

func open(t *testing.T, addr string) source.Source {
	src := imap.OverConn("ann", "secret", 2, func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	})
	t.Cleanup(func() { src.Close() })
	return src
}

func run(t *testing.T, from, to source.Source, full bool) (compare.Counts, []string) {
	t.Helper()
	here, err := from.Folders(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	there, err := to.Folders(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lines, err := folderplan.Make(here, folderplan.Seen(there), folderplan.Rules{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	r, err := compare.Run(t.Context(), compare.Comparison{From: from, To: to, Lines: lines, Full: full,
		Sleep: func(context.Context, time.Duration) error { return nil },
		Found: func(f compare.Finding) { said = append(said, fmt.Sprint(f.What, " ", f.FromID, " ", f.ToID)) }})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Folders {
		if f.Error != "" {
			t.Errorf("%s: %s", f.To, f.Error)
		}
	}
	return r.Total, said
}

// TestServers: what a server may do to mail that is brought to it, one thing at
// a time.
func TestServers(t *testing.T) {
	var letters []testmail.Message
	for m := range testmail.Generate(3, 30) {
		letters = append(letters, m)
	}
	add := func(m testmail.Message) testmail.Message {
		m = testmail.Letter(m.Name, append([]byte("X-Received: here\r\n"), m.Raw()...))
		return m
	}
	for _, c := range []struct {
		name string
		do   func(m *testmail.Model)
		want compare.Counts // beyond those that stay the same
		said string
	}{
		{"nothing", func(*testmail.Model) {}, compare.Counts{Same: 30}, ""},
		{"a header line added", func(m *testmail.Model) { m.Replace("INBOX", 3, add(letters[2])) }, compare.Counts{Same: 29, Changed: 1}, "changed 3 3"},
		{"a date changed", func(m *testmail.Model) { m.SetDate("INBOX", 3, time.Unix(1, 0)) }, compare.Counts{Same: 30, Dates: 1}, "date 3 3"},
		{"a flag lost", func(m *testmail.Model) { m.SetFlags("INBOX", 3, append(names(letters[2].Flags), "New")...) }, compare.Counts{Same: 30, Flags: 1}, "flags 3 3"},
		{"a message dropped", func(m *testmail.Model) { m.Expunge("INBOX", 3) }, compare.Counts{Same: 29, Missing: 1}, "missing 3 "},
		{"a message doubled", func(m *testmail.Model) { m.Deliver("INBOX", letters[2]) }, compare.Counts{Same: 30, Extra: 1}, "extra  "},
		{"renumbered meanwhile", func(m *testmail.Model) {
			m.Fault(testmail.Remark("UID FETCH", "* OK [UIDVALIDITY 12345] renumbered\r\n", 1))
		}, compare.Counts{Same: 30}, ""},
		{"a line that breaks", func(m *testmail.Model) { m.Fault(testmail.Hangup("UID FETCH", 2)) }, compare.Counts{Same: 30}, ""},
		{"a message that cannot be read", func(m *testmail.Model) {
			m.Bend(testmail.ForUID(3, testmail.WithBody(testmail.Fail("NO [SERVERBUG] broken"))))
		}, compare.Counts{Same: 29, Missing: 1, Failed: 1}, "unreadable  3|missing 3 "},
	} {
		for _, full := range []bool{false, true} {
			t.Run(fmt.Sprint(c.name, ", ", full), func(t *testing.T) {
				from := &testmail.Model{Cleartext: true}
				to := &testmail.Model{Cleartext: true}
				from.Deliver("INBOX", letters...)
				to.Deliver("INBOX", letters...)
				a, b := open(t, from.Start(t)), open(t, to.Start(t))
				c.do(to)
				got, said := run(t, a, b, full)
				got.From, got.To = 0, 0
				if got != c.want {
					t.Errorf("%+v", got)
				}
				if s := strings.Join(said, "|"); !strings.HasPrefix(s, c.said) || c.said == "" && s != "" {
					t.Errorf("said %q", s)
				}
				from.Untouched(t)
				to.Untouched(t)
			})
		}
	}
}

func names(f mail.Flags) (all []string) {
	for _, s := range f {
		all = append(all, string(s))
	}
	return all
}

// TestDovecot compares go-imap's server with a real one that changes some of
// the corpus on its way in.
func TestDovecot(t *testing.T) {
	d := testmail.Dovecot(t)
	corpus := testmail.Corpus()
	d.Deliver("INBOX", corpus...)
	m, err := testmail.NewMemory(testmail.MemoryOptions{User: "ann", Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Append("INBOX", corpus...); err != nil {
		t.Fatal(err)
	}
	read := func(raw []byte) mail.Summary {
		s, err := mail.Summarize(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	here, there := map[mail.Digest]int64{}, map[mail.Digest]int64{}
	hidden := int64(0) // in the body a byte has become another: header and size do not tell
	for _, l := range corpus {
		a, b := read(l.Raw()), read(testmail.Kept(l.Raw()))
		here[a.Digest]++
		there[b.Digest]++
		if a.Digest != b.Digest && a.Head == b.Head && a.Size == b.Size {
			hidden++
		}
	}
	same := int64(0)
	for sum, n := range here {
		same += min(n, there[sum])
	}
	if all := int64(len(corpus)); same == all || same < all/2 {
		t.Fatalf("Dovecot keeps %d of %d: this test proves nothing", same, all)
	}
	for _, full := range []bool{false, true} {
		got, said := run(t, open(t, m.Addr()), open(t, d.Addr()), full)
		if !full {
			got.Same, got.Changed = got.Same-hidden, got.Changed+hidden
		}
		if got.Same != same || got.Same+got.Changed+got.Missing != int64(len(corpus)) || got.Missing != got.Extra || got.Failed != 0 {
			t.Errorf("full %v: %+v, want %d of %d to be the same", full, got, same, len(corpus))
		}
		if slices.ContainsFunc(said, func(s string) bool { return strings.HasPrefix(s, "date") }) {
			t.Errorf("dates differ: %q", said)
		}
	}
}
