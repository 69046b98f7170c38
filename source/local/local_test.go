package local

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailhaul/internal/mail"
)

func TestPath(t *testing.T) {
	for _, c := range [][2]string{
		{"INBOX", "INBOX"}, {"Entw&APw-rfe", "Entwürfe"}, {"Größe", "Größe"}, {"R&D", "R&D"}, {"a%2Eb", "a%2Eb"}, {"a%3Ab", "a:b"},
		{"50%", "50%25"}, {"a&-b", "a&b"}, {"Work/x", "Work/x"}, {"\xff", "\xff"},
	} {
		if got := Path(strings.Split(c[0], "/")); got != mail.Path(c[1]) && !(c[0] == "a%2Eb" && got == "a%252Eb") {
			t.Errorf("%q: %q, want %q", c[0], got, c[1])
		}
	}
}

func TestWhole(t *testing.T) {
	for content, ok := range map[string]bool{"abc": true, "ab": false, "abcd": false, "": false} {
		_, err := io.ReadAll(Whole(io.NopCloser(strings.NewReader(content)), "x", 3))
		if ok != (err == nil) || !ok && !errors.Is(err, ErrChanged) {
			t.Errorf("%q: %v", content, err)
		}
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("file", filepath.Join(dir, "link")); err != nil {
		t.Skip(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	f, _, err := Open(root, "file")
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	for _, name := range []string{"link", ".", "missing"} {
		if _, _, err := Open(root, name); err == nil {
			t.Errorf("%s was opened", name)
		}
	}
}

func TestStore(t *testing.T) {
	var s Store
	s.Note("a %d", 1)
	s.Note("a %d", 1)
	if got := s.Notes(); len(got) != 1 || s.Enter(t.Context()) != nil {
		t.Errorf("notes are %q", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Enter(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	s.Close()
	if err := s.Enter(t.Context()); mail.ScopeOf(err, mail.ScopeFolder) != mail.ScopeAccount {
		t.Error(err)
	}
	if now := time.Now(); Settled(now, now) || Settled(now.Add(time.Hour), now) || !Settled(now.Add(-time.Minute), now) {
		t.Error("what was changed a moment ago is not settled")
	}
}
