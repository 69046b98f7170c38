package main

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mailhaul/internal/testmail"
)

// TestDovecotPOP3 backs a real server up by POP3 in both kinds of TLS, adds the
// same account by IMAP, and in the end has everything deleted there.
func TestDovecotPOP3(t *testing.T) {
	d := testmail.DovecotDaemonPOP3(t)
	all := slices.DeleteFunc(testmail.Corpus(), func(m testmail.Message) bool {
		return m.Size > 2<<20 || testmail.LostDovecotPOP3(m.Raw())
	})
	all = append(all, slices.Collect(testmail.Generate(7, 60))...)
	d.Deliver("INBOX", all...)
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, d.Authority.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	implicit := "pop3s://" + d.User + "@" + d.POP3S + "?ca_file=" + ca
	stls := "pop3://" + d.User + "@" + d.POP3 + "?ca_file=" + ca
	must := func(args ...string) string {
		t.Helper()
		code, out, said := call(t, d.Password, args...)
		if code != 0 {
			t.Fatalf("%s: exit %d\n%s%s", args, code, out, said)
		}
		return out
	}
	for _, c := range []struct{ from, to string }{
		{implicit, "mbox:" + dir + "/mbox"},
		{stls, "maildir:" + dir + "/maildir"},
		{stls, "maildir:" + dir + "/plus?layout=maildir%2B%2B"},
	} {
		archive, _, _ := strings.Cut(strings.SplitN(c.to, ":", 2)[1], "?")
		must("backup", c.from, c.to)
		if out := must("backup", c.from, c.to); !strings.Contains(out, "0 messages stored (0 B)") {
			t.Errorf("%s: the second run says\n%s", c.to, out)
		}
		must("verify", archive)
		holds(t, archive, "pop3:"+d.User+"@127.0.0.1", all)
	}
	before, err := countStored(dir + "/maildir")
	if err != nil || before != len(all) {
		t.Errorf("%d of %d messages are stored (%v)", before, len(all), err)
	}
	must("backup", "--delete-after", "0", "--yes", implicit, "maildir:"+dir+"/maildir")
	if out := must("folders", "--json", implicit); !strings.Contains(out, `"messages":0,`) || len(d.Left("INBOX")) > 0 {
		t.Errorf("after deletion there is\n%s", out)
	}
	must("verify", dir+"/maildir")
	holds(t, dir+"/maildir", "pop3:"+d.User+"@127.0.0.1", all)
}

// TestDovecotBoth reads one real mailbox by both protocols into one archive:
// each message is stored once.
func TestDovecotBoth(t *testing.T) {
	d := testmail.DovecotDaemonPOP3(t)
	all := slices.Collect(testmail.Generate(7, 80))
	d.Deliver("INBOX", all...)
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, d.Authority.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	from := []string{
		"imaps://" + d.User + "@" + d.IMAPS + "?ca_file=" + ca,
		"pop3s://" + d.User + "@" + d.POP3S + "?ca_file=" + ca,
	}
	for _, to := range []string{"mbox:" + dir + "/mbox", "maildir:" + dir + "/maildir"} {
		stored := 0
		for i, f := range from {
			if code, out, said := call(t, d.Password, "backup", "--add-account", f, to); code != 0 {
				t.Fatalf("%s: exit %d\n%s%s", f, code, out, said)
			}
			n, err := countStored(strings.SplitN(to, ":", 2)[1])
			if i > 0 && n != stored || err != nil {
				t.Errorf("%s: %d messages are stored, and %d before (%v)", to, n, stored, err)
			}
			stored = n
		}
		holds(t, strings.SplitN(to, ":", 2)[1], "pop3:"+d.User+"@127.0.0.1", all)
		slices.Reverse(from)
	}
}

// holds fails unless all messages are in an archive as Dovecot shows them by
// POP3.
func holds(t *testing.T, archive, account string, all []testmail.Message) {
	t.Helper()
	s, err := openArchive(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	lines, err := accountLines(archive, account)
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) != len(all) {
		t.Errorf("%s knows %d of %d messages", archive, len(lines), len(all))
	}
	there := map[[32]byte]bool{}
	for k, l := range lines {
		raw, err := rebuilt(s, l)
		if err != nil {
			t.Fatalf("%s: %v", k.id, err)
		}
		there[sha256.Sum256(raw)] = true
	}
	for _, m := range all {
		if !there[sha256.Sum256(testmail.KeptDovecotPOP3(m.Raw()))] {
			t.Errorf("%s: %s is not there", archive, m.Name)
		}
	}
}
