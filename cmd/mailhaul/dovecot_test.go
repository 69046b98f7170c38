package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"mailhaul/internal/catalog"
	"mailhaul/internal/mail"
	"mailhaul/internal/testmail"
)

// call runs the program within the test and returns its exit code and what it
// said.
func call(t *testing.T, password string, args ...string) (code int, out, err string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), args, stdio{nil, &o, &e}, func(name string) string {
		if name == "MAILHAUL_PASSWORD" {
			return password
		}
		return ""
	})
	return code, o.String(), e.String()
}

// dovecotFolders is what the real server holds: the nasty corpus, ordinary
// mail, and names of other scripts.
func dovecotFolders() map[string][]testmail.Message {
	var corpus []testmail.Message
	for _, m := range testmail.Corpus() {
		if m.Size < 2<<20 {
			corpus = append(corpus, m)
		}
	}
	var ordinary []testmail.Message
	for m := range testmail.Generate(7, 120) {
		ordinary = append(ordinary, m)
	}
	return map[string][]testmail.Message{
		"INBOX": corpus, "Work/Größe & Maße": ordinary[:80], "日本語": ordinary[40:], "Work/Empty": nil,
	}
}

// TestDovecot backs a real server up over TLS and over STARTTLS, into every
// format, and compares each message, its flags, keywords and date.
func TestDovecot(t *testing.T) {
	d := testmail.DovecotDaemon(t)
	folders := dovecotFolders()
	for name, messages := range folders {
		d.Create(name)
		d.Deliver(name, messages...)
	}
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, d.Authority.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	secure := "imaps://" + d.User + "@" + d.IMAPS + "?ca_file=" + ca
	start := "imap://" + d.User + "@" + d.IMAP + "?ca_file=" + ca
	for _, c := range []struct{ from, to string }{
		{secure, "mbox:" + dir + "/mbox"},
		{start, "maildir:" + dir + "/maildir"},
		{secure, "maildir:" + dir + "/plus?layout=maildir%2B%2B"},
		{secure + "&compress=yes", "mbox:" + dir + "/deflated"},
	} {
		archive, _, _ := strings.Cut(strings.SplitN(c.to, ":", 2)[1], "?")
		for n := range 2 {
			if code, out, err := call(t, d.Password, "backup", c.from, c.to); code != 0 || err != "" && !strings.Contains(err, "messages, ") || n == 1 && !strings.Contains(out, "0 messages stored") {
				t.Fatalf("%s, run %d: exit %d\n%s%s", c.to, n, code, out, err)
			}
		}
		if code, out, err := call(t, "", "verify", archive); code != 0 {
			t.Errorf("verify: exit %d\n%s%s", code, out, err)
		}
		holdsFolders(t, archive, folders)
	}
	readBack(t, dir, folders)
	if code, _, err := call(t, "wrong", "backup", secure, "mbox:"+dir+"/none"); code != exitLogin || !strings.Contains(err, "hint:") {
		t.Errorf("wrong password: exit %d, %s", code, err)
	}
	if _, err := os.Stat(dir + "/none"); err == nil {
		t.Error("a refused login left an archive behind")
	}
	if code, _, err := call(t, d.Password, "backup", "imaps://"+d.User+"@"+d.IMAPS, "mbox:"+dir+"/none"); code != exitFailed || !strings.Contains(err, "certificate") {
		t.Errorf("unknown authority: exit %d, %s", code, err)
	}
}

// holdsFolders looks every message up in the archive.
func holdsFolders(t *testing.T, archive string, folders map[string][]testmail.Message) {
	t.Helper()
	s, err := openArchive(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	lines := map[string][]catalog.Line{} // of a folder, in the order of UIDs, which is that of delivery
	err = catalog.ReadManifest(archive, func(l catalog.Line) error {
		lines[l.Path] = append(lines[l.Path], l)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, messages := range folders {
		path := string(mail.Join(strings.Split(name, "/")...))
		by := map[string]catalog.Line{}
		for _, l := range lines[path] {
			by[l.ID] = l
		}
		if len(by) != len(messages) {
			t.Errorf("%s: %d of %d messages", name, len(by), len(messages))
			continue
		}
		for i, m := range messages {
			l := by[strconv.Itoa(i+1)]
			if err := same(s, l, testmail.Kept(m.Raw())); err != nil {
				t.Errorf("%s: %s: %v", name, m.Name, err)
			}
			if got := mail.NewFlags(l.Flags...); !got.Equal(m.Flags) {
				t.Errorf("%s: %s: flags %v, want %v", name, m.Name, got, m.Flags)
			}
			if want := m.Date.UTC().Format("2006-01-02T15:04:05Z"); l.Date != want {
				t.Errorf("%s: %s: date %s, want %s", name, m.Name, l.Date, want)
			}
		}
	}
}

// readBack lets another program count what it finds.
func readBack(t *testing.T, dir string, folders map[string][]testmail.Message) {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Log("python3 is not here to read the archives back")
		return
	}
	const script = `
import mailbox, sys
print(len(mailbox.mbox(sys.argv[1] + "/mbox/Work/Größe & Maße.mbox", create=False)),
      len(mailbox.Maildir(sys.argv[1] + "/maildir/Work/Größe & Maße", create=False)),
      len(mailbox.mbox(sys.argv[1] + "/mbox/日本語.mbox", create=False)))`
	cmd := exec.Command(python, "-c", script, dir)
	cmd.Env = append(os.Environ(), "PYTHONIOENCODING=utf-8", "PYTHONUTF8=1")
	out, err := cmd.CombinedOutput()
	if want := "80 80 80"; err != nil || strings.TrimSpace(string(out)) != want {
		t.Errorf("python finds %s (%v), want %s", out, err, want)
	}
}
