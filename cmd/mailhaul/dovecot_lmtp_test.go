package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"mailhaul/internal/testmail"
)

// TestDovecotLMTP delivers to a real mail store: what it takes is there, byte
// for byte but for line ends, which it stores in its own way; what it does not
// take is named; nothing comes twice.
func TestDovecotLMTP(t *testing.T) {
	d := testmail.DovecotDaemonLMTP(t)
	dir := t.TempDir()
	letters := filepath.Join(dir, "letters")
	if err := os.Mkdir(letters, 0o700); err != nil {
		t.Fatal(err)
	}
	var all [][]byte
	for i, m := range testmail.Corpus() {
		if m.Size > 2<<20 {
			continue
		}
		all = append(all, m.Raw())
		if err := os.WriteFile(filepath.Join(letters, strconv.Itoa(i)+".eml"), m.Raw(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, d.Authority.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", dir) // what was delivered is remembered there
	to := "lmtp://" + d.LMTP + "?ca_file=" + ca
	deliver := func() (code int, out, said string) {
		return call(t, "", "deliver", "eml:"+letters, to, "--to", d.User)
	}
	code, out, said := deliver()
	left := d.Left("INBOX")
	if code != exitPartly || len(left) < 30 || !strings.Contains(said, "unchanged") || strings.Contains(said, "in doubt") {
		t.Fatalf("exit %d, %d messages\n%s%s", code, len(left), out, said)
	}
	sent := map[string]bool{}
	for _, raw := range all {
		kept := bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n"))
		if len(kept) > 0 && !bytes.HasSuffix(kept, []byte("\n")) {
			kept = append(kept, 10)
		}
		sent[string(kept)] = true
	}
	for _, m := range left {
		_, raw, ok := bytes.Cut(m.Raw(), []byte("\nReceived: ")) // what Dovecot adds ends with this
		for ok && !sent[string(raw)] {
			_, raw, ok = bytes.Cut(raw, []byte("\n"))
		}
		if !ok {
			t.Errorf("not what was sent: %.300q", m.Raw())
		}
	}
	if code, _, _ := deliver(); code != exitPartly || len(d.Left("INBOX")) != len(left) {
		t.Errorf("exit %d, and then %d messages", code, len(d.Left("INBOX")))
	}
}
