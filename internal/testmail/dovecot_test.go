package testmail

import (
	"bytes"
	"crypto/tls"
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

func TestKept(t *testing.T) {
	if got := Kept([]byte("a\nb\r\nc\r\r\n\n\x00")); !bytes.Equal(got, []byte("a\r\nb\r\nc\r\r\n\r\n\x80")) {
		t.Errorf("%q", got)
	}
}
