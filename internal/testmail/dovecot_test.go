package testmail

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2/imapclient"
)

// dovecots is what Dovecot gives back of the corpus.
func dovecots() []Message {
	var all []Message
	for _, m := range Corpus() {
		kept := Letter(m.Name, Kept(m.Raw()))
		kept.Date, kept.Flags = m.Date, m.Flags
		all = append(all, kept)
	}
	return all
}

func TestDovecot(t *testing.T) {
	d := Dovecot(t)
	d.Deliver("INBOX", Corpus()...)
	d.Deliver("Work/Größe & Maße", Corpus()[:10]...)
	conn, err := d.Dial(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	c := imapclient.New(conn, nil)
	defer c.Close()
	same(t, fetched(t, c, "INBOX"), dovecots())
	same(t, fetched(t, c, "Work/Größe & Maße"), dovecots()[:10])
	d.Deliver("INBOX", Letter("late", []byte("Subject: late\r\n\r\n")))
	if n := len(fetched(t, c, "INBOX")); n != len(dovecots())+1 {
		t.Errorf("%d messages after one more came", n)
	}
	d.Remove("INBOX", 0, 3)
	if n := len(fetched(t, c, "INBOX")); n != len(dovecots())-1 {
		t.Errorf("%d messages after two were removed", n)
	}
	if said := d.Say("STATUS INBOX (MESSAGES)"); !strings.Contains(said, "* STATUS INBOX (MESSAGES 115)") {
		t.Errorf("status: %s", said)
	}
}

func TestDovecotDaemon(t *testing.T) {
	d := DovecotDaemon(t)
	d.Deliver("INBOX", Corpus()[:10]...)
	trust := &imapclient.Options{TLSConfig: &tls.Config{RootCAs: d.Authority.Pool()}}
	for name, dial := range map[string]func(string, *imapclient.Options) (*imapclient.Client, error){
		d.IMAP: imapclient.DialStartTLS, d.IMAPS: imapclient.DialTLS,
	} {
		c, err := dial(name, trust)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Login("ann", "wrong").Wait(); err == nil {
			t.Error("a wrong password was taken")
		}
		if err := c.Login(d.User, d.Password).Wait(); err != nil {
			t.Fatal(err)
		}
		if !c.Caps().Has("COMPRESS=DEFLATE") {
			t.Error("no compression")
		}
		same(t, fetched(t, c, "INBOX"), dovecots()[:10])
	}
}

func TestDovecotPOP3(t *testing.T) {
	d := DovecotPOP3(t)
	fit := slices.DeleteFunc(Corpus(), func(m Message) bool { return LostDovecotPOP3(m.Raw()) })
	d.Deliver("INBOX", fit...)
	s := dial(t, d.Addr())
	if got := s.line(); !strings.HasPrefix(got, "+OK") {
		t.Fatalf("greeting: %q", got)
	}
	for i, m := range fit {
		if got := unstuffed(s.all("RETR %d", i+1)); !bytes.Equal(got, KeptDovecotPOP3(m.Raw())) {
			t.Errorf("%s: got %.200q", m.Name, got)
		}
	}
	if got := s.say("DELE 1"); !strings.HasPrefix(got, "+OK") || len(d.Left("INBOX")) != len(fit) {
		t.Errorf("DELE: %q, %d left", got, len(d.Left("INBOX")))
	}
	s.say("QUIT")
	left := d.Left("INBOX")
	if len(left) != len(fit)-1 || !bytes.Equal(left[0].Raw(), fit[1].Raw()) {
		t.Errorf("%d left after QUIT", len(left))
	}
	d.Remove("INBOX", 0)
	s = dial(t, d.Addr())
	s.line()
	if got := s.say("STAT"); !strings.HasPrefix(got, fmt.Sprintf("+OK %d ", len(fit)-2)) {
		t.Errorf("after one was removed: %q", got)
	}
}

// TestDovecotPOP3Loses: should this fail one day, LostDovecotPOP3 has had its
// time.
func TestDovecotPOP3Loses(t *testing.T) {
	d := DovecotPOP3(t)
	d.Deliver("INBOX", exactly("dot", ".x\r\n"))
	s := dial(t, d.Addr())
	s.line()
	if got := s.all("RETR 1"); got != ".x\r\n" {
		t.Errorf("got %q", got)
	}
}

func TestDovecotDaemonPOP3(t *testing.T) {
	d := DovecotDaemonPOP3(t)
	d.Deliver("INBOX", Corpus()[:10]...)
	trust := &tls.Config{RootCAs: d.Authority.Pool(), ServerName: "localhost"}
	for _, addr := range []string{d.POP3, d.POP3S} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if addr == d.POP3 {
			s := talk(t, conn)
			s.line()
			if got := s.say("STLS"); !strings.HasPrefix(got, "+OK") {
				t.Fatalf("STLS: %q", got)
			}
		}
		s := talk(t, tls.Client(conn, trust))
		if addr == d.POP3S {
			s.line()
		}
		s.say("USER %s", d.User)
		if got := s.say("PASS wrong"); !strings.HasPrefix(got, "-ERR [AUTH]") {
			t.Errorf("wrong password: %q", got)
		}
		s.say("USER %s", d.User)
		if got := s.say("PASS %s", d.Password); !strings.HasPrefix(got, "+OK") {
			t.Fatalf("login: %q", got)
		}
		if got := unstuffed(s.all("RETR 10")); !bytes.Equal(got, KeptDovecotPOP3(Corpus()[9].Raw())) {
			t.Errorf("got %q", got)
		}
		s.say("QUIT")
	}
}

// fussy is a TB that notes how a helper gave up.
type fussy struct {
	TB
	how string
}

func (f *fussy) Helper()                        {}
func (f *fussy) Skipf(format string, _ ...any)  { f.how = "skipped: " + format }
func (f *fussy) Fatalf(format string, _ ...any) { f.how = "failed: " + format }

func TestDovecotAbsent(t *testing.T) {
	for env, want := range map[string]string{"": "skipped: Dovecot", "1": "failed: Dovecot"} {
		t.Setenv("MAILHAUL_REQUIRE_DOVECOT", env)
		var f fussy
		absent(&f, "it is not installed")
		if !strings.HasPrefix(f.how, want) {
			t.Errorf("%q: %s", env, f.how)
		}
	}
}

func TestKeptDovecotPOP3(t *testing.T) {
	for raw, want := range map[string]string{"": "\r\n", "a\x00\nb": "a\x00\r\nb\r\n", "a\n": "a\r\n", "a\r": "a\r\r\n"} {
		if got := KeptDovecotPOP3([]byte(raw)); string(got) != want {
			t.Errorf("%q is kept as %q", raw, got)
		}
	}
}

func TestKept(t *testing.T) {
	if got := Kept([]byte("a\nb\r\nc\r\r\n\n\x00")); !bytes.Equal(got, []byte("a\r\nb\r\nc\r\r\n\r\n\x80")) {
		t.Errorf("%q", got)
	}
}
