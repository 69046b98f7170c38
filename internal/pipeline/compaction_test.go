package pipeline

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// compact takes the first message out of the mbox of INBOX, as a mail program does
// that deletes it.
func (a *archive) compact() {
	a.t.Helper()
	name := filepath.Join(a.dir, "INBOX.mbox")
	text, err := os.ReadFile(name)
	if err != nil {
		a.t.Fatal(err)
	}
	second := bytes.Index(text, []byte("\n\nFrom ")) + 2
	if err := os.WriteFile(name, text[second:], 0o600); err != nil {
		a.t.Fatal(err)
	}
}

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
	a.compact()
	a.must(s)
	a.must(s) // which writes the manifest anew
	a.holds(s.texts())
	if n := a.stored(); n != 4 {
		t.Errorf("%d messages lie there, want 4", n)
	}
}

// TestChangedAfterDeath has a run die between intention and commit, and then the
// owner of the archive delete what earlier runs have committed: the first message,
// and in an mbox thereby more than the dead run has written, or just as much, so that
// what it has written lies where the last message was.
func TestChangedAfterDeath(t *testing.T) {
	for _, last := range []string{"Subject: x\r\n\r\n", letter(8)} {
		changedAfterDeath(t, last)
	}
}

func changedAfterDeath(t *testing.T, last string) {
	each(t, func(t *testing.T, a *archive) {
		s := &fake{}
		for i := range 6 {
			s.folder("INBOX").add(letter(i))
		}
		a.must(s)
		s.folder("INBOX").add(last)
		if err := interrupted(a, s); err != nil {
			t.Fatal(err)
		}
		if a.format == "mbox" {
			a.compact()
		} else {
			names, err := filepath.Glob(filepath.Join(a.dir, "INBOX", "new", "*"))
			if err != nil || len(names) != 7 {
				t.Fatal(names, err)
			}
			if err := os.Remove(names[0]); err != nil {
				t.Fatal(err)
			}
		}
		a.must(s)
		a.must(s) // which writes the manifest anew
		a.holds(s.texts())
		if n := a.stored(); n != 7 {
			t.Errorf("%d messages lie there, want 7", n)
		}
	})
}
