package eml

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"mailhaul/internal/foldername"
	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/internal/testmail"
	"mailhaul/source"
	"mailhaul/source/sourcetest"
)

func sourceOf(t sourcetest.TB, path string) source.Source {
	t.Helper()
	src, err := Scheme().Open(t.Context(), location.Location{Scheme: "eml", Path: path}, location.Env{})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return src
}

func TestContract(t *testing.T) {
	sourcetest.Run(t, func(tb sourcetest.TB, folders []sourcetest.Folder) sourcetest.Store {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		must := func(err error) {
			if err != nil {
				tb.Fatalf("%v", err)
			}
		}
		must(err)
		name := func(p mail.Path, i int) string {
			parts, _ := foldername.Parts(p)
			if p == mail.Inbox {
				parts = nil
			}
			return filepath.Join(append(append([]string{dir}, parts...), fmt.Sprintf("%03d.eml", i))...)
		}
		put := func(p mail.Path, i int, m testmail.Message) {
			must(os.WriteFile(name(p, i), m.Raw(), 0o600))
			must(os.Chtimes(name(p, i), m.Date, m.Date))
		}
		for _, f := range folders {
			must(os.MkdirAll(filepath.Dir(name(f.Path, 0)), 0o700))
			for i, m := range f.Messages {
				m.Flags = nil
				f.Messages[i] = m
				put(f.Path, i, m)
			}
		}
		return sourcetest.Store{
			Source: sourceOf(tb, dir),
			Remove: func(p mail.Path, i int) { must(os.Remove(name(p, i))) },
		}
	})
}

func TestTree(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.eml", "b.EML", "c.txt", ".d.eml", "Work/e.eml", "Entw&APw-rfe/f.eml", "none/below/g.eml", "inbox/h.eml", "INBOX/i.eml", "ours/mailhaul.manifest", "ours/j.eml"} {
		name = filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte("Subject: x\r\n\r\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string][]string{
		dir:                         {"Entwürfe 1", "INBOX 2", "INBOX_ 1", "Work 1", "inbox 1", "none/below 1"},
		filepath.Join(dir, "a.eml"): {"INBOX 1"},
		filepath.Join(dir, "c.txt"): {"INBOX 1"},
	} {
		src := sourceOf(t, path)
		folders, err := src.Folders(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range folders {
			box, err := src.Open(t.Context(), f.Path)
			if err != nil {
				t.Fatal(err)
			}
			var all []source.Entry
			for e, err := range box.List(t.Context(), "") {
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, e)
			}
			n := 0
			for _, err := range box.Fetch(t.Context(), func(bool) []source.Entry { g := all; all = nil; return g }) {
				if err != nil {
					t.Fatal(err)
				}
				n++
			}
			box.Close()
			got = append(got, fmt.Sprint(f.Path, " ", n))
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
