package testmail

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// A Maildrop is where a private Dovecot keeps the mail of one user.
type Maildrop struct {
	tb   TB
	dir  string // everything of this Dovecot lies below it
	mail string // the Maildir
	uid  int    // who Dovecot runs as; -1 for ourselves
	next map[string]int
}

// absent ends a test that needs Dovecot: quietly on a machine without it, as a
// failure where the environment says that nothing may be left out.
func absent(tb TB, why string) {
	tb.Helper()
	if os.Getenv("MAILHAUL_REQUIRE_DOVECOT") == "1" {
		tb.Fatalf("Dovecot is required here: %s", why)
		return
	}
	tb.Skipf("Dovecot is needed: %s", why)
}

// helper finds one of Dovecot's own programs, which this test needs.
func helper(tb TB, name string) string {
	tb.Helper()
	path := find(name)
	if path == "" {
		absent(tb, "no "+name+" program of Dovecot is installed")
	}
	return path
}

// find looks for one of Dovecot's own programs where packages put them.
func find(name string) string {
	for _, dir := range []string{
		"/usr/lib/dovecot", "/usr/libexec/dovecot",
		"/usr/local/libexec/dovecot", "/usr/local/lib/dovecot",
		"/opt/homebrew/opt/dovecot/libexec/dovecot",
	} {
		if path := filepath.Join(dir, name); executable(path) {
			return path
		}
	}
	return ""
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// master finds the dovecot program itself and checks that it reads the
// configuration we write: 2.4 renamed most of the settings.
func master(tb TB) string {
	tb.Helper()
	path, err := exec.LookPath("dovecot")
	for _, p := range []string{"/usr/sbin/dovecot", "/usr/local/sbin/dovecot", "/opt/homebrew/sbin/dovecot"} {
		if err != nil && executable(p) {
			path, err = p, nil
		}
	}
	if err != nil {
		absent(tb, "it is not installed")
	}
	version, err := exec.Command(path, "--version").Output()
	if err != nil {
		absent(tb, "it does not tell its version: "+err.Error())
	}
	if !strings.HasPrefix(string(version), "2.3.") {
		absent(tb, "version 2.3 is, this one is "+strings.TrimSpace(string(version)))
	}
	return path
}

// nobody is whom Dovecot runs as when the test runs as root, which Dovecot
// refuses to serve mail as.
const nobody = 65534

// newMaildrop makes an empty Maildir that Dovecot may use. It is not in the
// test's own directory, whose parents only its owner may enter.
func newMaildrop(tb TB, user string) *Maildrop {
	tb.Helper()
	// Short, because names of sockets below it end at about a hundred bytes.
	dir, err := os.MkdirTemp("", "mh")
	if err != nil {
		tb.Fatalf("directory for Dovecot: %v", err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	d := &Maildrop{tb: tb, dir: dir, uid: -1, next: map[string]int{}}
	if os.Getuid() == 0 {
		d.uid = nobody
	}
	d.mail = filepath.Join(dir, "home", user, "Maildir")
	d.own(dir)
	for _, sub := range []string{"run", "state", "log", "home", filepath.Join("home", user), filepath.Join("home", user, "Maildir")} {
		d.makeDir(filepath.Join(dir, sub))
	}
	return d
}

func (d *Maildrop) makeDir(path string) {
	d.tb.Helper()
	if err := os.MkdirAll(path, 0o700); err != nil {
		d.tb.Fatalf("directory for Dovecot: %v", err)
	}
	d.own(path)
}

func (d *Maildrop) own(path string) {
	d.tb.Helper()
	if d.uid < 0 {
		return
	}
	if err := os.Chown(path, d.uid, d.uid); err != nil {
		d.tb.Fatalf("give %s to Dovecot: %v", path, err)
	}
}

func (d *Maildrop) write(path string, content []byte) {
	d.tb.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		d.tb.Fatalf("write for Dovecot: %v", err)
	}
	d.own(path)
}

// Create makes a folder. Its name is plain UTF-8 with "/" between the parts.
func (d *Maildrop) Create(folder string) {
	d.tb.Helper()
	for _, sub := range []string{"cur", "new", "tmp"} {
		dir := d.folder(folder)
		d.makeDir(dir)
		d.makeDir(filepath.Join(dir, sub))
	}
}

// folder is where Maildir++ puts it.
func (d *Maildrop) folder(name string) string {
	if name == "INBOX" {
		return d.mail
	}
	return filepath.Join(d.mail, "."+strings.ReplaceAll(EncodeName(name), "/", "."))
}

// Deliver puts messages into a folder, made when missing, without going
// through Dovecot: thousands in a moment. Kept tells what Dovecot will give
// back of them.
func (d *Maildrop) Deliver(folder string, messages ...Message) {
	d.tb.Helper()
	d.Create(folder)
	dir := d.folder(folder)
	words := d.keywords(dir)
	for _, m := range messages {
		d.next[folder]++
		info := ":2," + words.letters(m.Flags)
		path := filepath.Join(dir, "cur", fmt.Sprintf("%d.%06d.mailhaul%s", Epoch.Unix(), d.next[folder], info))
		d.write(path, m.Raw())
		if err := os.Chtimes(path, m.Date, m.Date); err != nil {
			d.tb.Fatalf("date of %s: %v", m.Name, err)
		}
	}
	if len(words.names) > 0 {
		d.write(filepath.Join(dir, "dovecot-keywords"), words.file())
	}
}

// Left are the messages that lie in a folder, in the order of their delivery.
func (d *Maildrop) Left(folder string) []Message {
	d.tb.Helper()
	// Dovecot moves what it finds in new to cur, so new is looked into first.
	paths := map[string]string{}
	for _, sub := range []string{"new", "cur"} {
		found, _ := filepath.Glob(filepath.Join(d.folder(folder), sub, "*"))
		for _, path := range found {
			paths[filepath.Base(path)] = path
		}
	}
	var left []Message
	for _, name := range slices.Sorted(maps.Keys(paths)) {
		raw, err := os.ReadFile(paths[name])
		if err != nil {
			d.tb.Fatalf("what is left in %s: %v", folder, err)
		}
		left = append(left, Letter(name, raw))
	}
	return left
}

// KeptDovecotPOP3 is what Dovecot gives back of raw through POP3: every LF gets
// the CR that it lacks, and an open last line, an empty one too, is ended.
func KeptDovecotPOP3(raw []byte) []byte {
	kept := crlf(raw)
	if n := len(kept); n == 0 || kept[n-1] != '\n' {
		kept = append(kept, "\r\n"...)
	}
	return kept
}

// LostDovecotPOP3 tells whether Dovecot spoils raw through POP3: it stuffs no
// dot at the very beginning of a message. A client takes ".x" for "x", and "."
// on a line of its own for the end.
func LostDovecotPOP3(raw []byte) bool { return bytes.HasPrefix(raw, []byte(".")) }

// Kept is what Dovecot gives back of raw through IMAP: every LF gets the CR that it lacks,
// and a NUL, which no string of IMAP may hold, comes as 0x80.
func Kept(raw []byte) []byte { return bytes.ReplaceAll(crlf(raw), []byte{0}, []byte{0x80}) }

// crlf gives every LF the CR that it lacks.
func crlf(raw []byte) []byte {
	kept := make([]byte, 0, len(raw)+len(raw)/32)
	for i, c := range raw {
		if c == '\n' && (i == 0 || raw[i-1] != '\r') {
			kept = append(kept, '\r')
		}
		kept = append(kept, c)
	}
	return kept
}
