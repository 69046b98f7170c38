package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailhaul/internal/catalog"
	"mailhaul/internal/mail"
	"mailhaul/internal/testmail"
)

// appendable reports whether Dovecot's APPEND stores a message as it is: it refuses
// empty ones, and takes a CR before CRLF or at the end away.
func appendable(raw []byte) bool {
	return len(raw) > 0 && !bytes.Contains(raw, []byte("\r\r\n")) && !bytes.HasSuffix(raw, []byte("\r"))
}

// TestDovecotChanges is row D3: what the destination has changed is said.
func TestDovecotChanges(t *testing.T) {
	d := testmail.DovecotDaemon(t)
	d.Create("INBOX")
	d.Deliver("INBOX", testmail.Letter("a CR too many", []byte("Message-ID: <cr@example.org>\r\nSubject: cr\r\n\r\none\r\r\ntwo\r\n")),
		testmail.Letter("empty", nil))
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	at := func(user string) string { return "imap://" + user + "@" + d.IMAP + "?ca_file=" + dir + "/ca.pem" }
	if err := os.WriteFile(dir+"/ca.pem", d.Authority.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, err := call(t, d.Password, "migrate", at(d.User), at("bob"))
	if code != exitPartly || !strings.Contains(out, "1 message stored") || !strings.Contains(err, "INBOX: message 2: append: it has no content") {
		t.Errorf("exit %d\n%s%s", code, out, err)
	}
	code, out, err = call(t, d.Password, "compare", at(d.User), at("bob"))
	if code != exitPartly || !strings.Contains(err, "<cr@example.org>: changed") {
		t.Errorf("exit %d\n%s%s", code, out, err)
	}
}

// holdsEach wants an archive to hold what Dovecot was given, in each folder every
// message as often as it was given, with its flags and date.
func holdsEach(t *testing.T, user, archive string, folders map[string][]testmail.Message) {
	t.Helper()
	left := map[string]map[string]int{}
	for name, messages := range folders {
		path := string(mail.Join(strings.Split(name, "/")...))
		left[path] = map[string]int{}
		for _, m := range messages {
			var fold mail.Folder
			text, _, err := fold.Append(nil, testmail.Kept(m.Raw()))
			if err != nil {
				t.Fatal(err)
			}
			text, _ = fold.Close(text)
			left[path][fmt.Sprintf("%x (%s) %s", sha256.Sum256(text), m.Flags.Key(), m.Date.UTC().Format("2006-01-02T15:04:05Z"))]++
		}
	}
	err := catalog.ReadManifest(archive, func(l catalog.Line) error {
		left[l.Path][fmt.Sprintf("%s (%s) %s", l.Digest, mail.NewFlags(l.Flags...).Key(), l.Date)]--
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, messages := range left {
		for m, n := range messages {
			if n != 0 {
				t.Errorf("%s, %s: %d missing, or too many where negative: %s", user, path, n, m)
			}
		}
	}
}

// TestDovecotMigrate takes an account of a real server to others of it, by
// migrate, and by a backup in each format and restore. What is there in the end
// is what was there in the beginning: folders, order, bytes, flags, keywords and
// dates.
func TestDovecotMigrate(t *testing.T) {
	d := testmail.DovecotDaemon(t)
	folders := dovecotFolders()
	for name, messages := range folders {
		if name == "INBOX" {
			folders[name] = nil
			for _, m := range messages {
				if appendable(m.Raw()) {
					folders[name] = append(folders[name], m)
				}
			}
		}
		d.Create(name)
		d.Deliver(name, folders[name]...)
	}
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, d.Authority.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	at := func(user string) string { return "imaps://" + user + "@" + d.IMAPS + "?ca_file=" + ca }
	ann := at(d.User)
	must := func(want string, args ...string) {
		t.Helper()
		code, out, err := call(t, d.Password, args...)
		if code != 0 || !strings.Contains(out, want) {
			t.Fatalf("mailhaul %s: exit %d\n%s%s", strings.Join(args, " "), code, out, err)
		}
	}
	holds := func(user string) {
		t.Helper()
		archive := filepath.Join(dir, "check-"+user)
		must("", "backup", at(user), "mbox:"+archive)
		holdsEach(t, user, archive, folders)
	}

	holds(d.User)
	must("new", "migrate", "--dry-run", ann, at("bob"))
	must("", "migrate", "--compare", ann, at("bob"))
	must("\n0 messages stored", "migrate", ann, at("bob"))
	holds("bob")

	// By STARTTLS, and by what is remembered of nobody.
	if err := os.RemoveAll(filepath.Join(dir, ".local")); err != nil {
		t.Fatal(err)
	}
	start := "imap://bob@" + d.IMAP + "?ca_file=" + ca
	must("\n0 messages stored", "migrate", ann, start)
	must("", "compare", "--full", ann, at("bob"))
	holds("bob")

	for _, c := range []struct{ format, user string }{{"mbox", "carol"}, {"maildir", "dave"}} {
		archive := c.format + ":" + filepath.Join(dir, c.format)
		must("", "backup", ann, archive)
		must("", "restore", "--compare", archive, at(c.user))
		must("\n0 messages stored", "restore", archive, at(c.user))
		must("", "compare", ann, at(c.user))
		holds(c.user)
	}

	// Between the real server and ours, in both directions.
	m := newMailbox("eve")
	m.Password = d.Password
	m.Cleartext = true
	model := "imap://eve@" + m.Start(t) + "?tls=none"
	must("", "migrate", "--compare", ann, model)
	must("", "migrate", "--compare", model, at("fred"))
	holds("fred")
}

// TestDovecotCopies takes an account in which messages lie in several folders to
// another one of a real server, which copies them: those that are alike. Both hold
// the same then, flags and dates included, and each follows its own place later.
func TestDovecotCopies(t *testing.T) {
	d := testmail.DovecotDaemon(t)
	folders := map[string][]testmail.Message{}
	uploads, i := 0, -1
	for m := range testmail.Generate(5, 120) {
		i++
		uploads++
		folders["INBOX"] = append(folders["INBOX"], m)
		if i%2 == 0 {
			folders["Archive"] = append(folders["Archive"], m)
		}
		if i%3 == 0 {
			folders["Work/Größe & Maße"] = append(folders["Work/Größe & Maße"], m)
			folders["INBOX"] = append(folders["INBOX"], m) // twice in one folder
		}
		if i%5 == 0 {
			m.Flags = mail.NewFlags(`\Flagged`, "$Other")
			folders["Marked"] = append(folders["Marked"], m)
			uploads++
		}
		if i%7 == 0 {
			m.Date = m.Date.AddDate(0, 0, 1)
			folders["Later"] = append(folders["Later"], m)
			uploads++
		}
	}
	all := 0
	for name, messages := range folders {
		all += len(messages)
		d.Create(name)
		d.Deliver(name, messages...)
	}
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, d.Authority.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	at := func(user string) string { return "imaps://" + user + "@" + d.IMAPS + "?ca_file=" + ca }
	must := func(want string, args ...string) {
		t.Helper()
		code, out, err := call(t, d.Password, args...)
		if code != 0 || !strings.Contains(out, want) {
			t.Fatalf("mailhaul %s: exit %d, want %q in\n%s%s", strings.Join(args, " "), code, want, out, err)
		}
	}
	must(fmt.Sprintf("\n%d messages stored", uploads), "migrate", at(d.User), at("bob"))
	must("", "compare", "--full", at(d.User), at("bob"))
	must("\n0 messages stored", "migrate", at(d.User), at("bob"))
	archive := filepath.Join(dir, "check")
	must("", "backup", at("bob"), "mbox:"+archive)
	holdsEach(t, "bob", archive, folders)
	must(fmt.Sprintf("%d added", all), "migrate", at(d.User), at("carol"))

	// An archive comes back in the same way; and by what is remembered of nobody
	// nothing comes twice.
	must(fmt.Sprintf("\n%d messages stored", uploads), "restore", "--compare", archive, at("dave"))
	if err := os.RemoveAll(filepath.Join(dir, ".local")); err != nil {
		t.Fatal(err)
	}
	must("\n0 messages stored", "restore", archive, at("dave"))
	must("", "compare", "--full", at(d.User), at("dave"))
}
