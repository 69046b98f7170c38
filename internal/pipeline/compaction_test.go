package pipeline

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestCompactedAtEqualLength has a mail program delete the first of messages
// that are equally long from an mbox: each of the others now lies where one was
// before.
func TestCompactedAtEqualLength(t *testing.T) {
	a := newArchive(t, "mbox")
	s := &fake{}
	for i := range 4 {
		s.folder("INBOX").add(letter(i))
	}
	a.must(s)
	name := filepath.Join(a.dir, "INBOX.mbox")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	second := bytes.Index(text, []byte("\n\nFrom ")) + 2
	if err := os.WriteFile(name, text[second:], 0o600); err != nil {
		t.Fatal(err)
	}
	a.must(s)
	a.must(s) // which writes the manifest anew
	a.holds(s.texts())
	if n := a.stored(); n != 4 {
		t.Errorf("%d messages lie there, want 4", n)
	}
}
