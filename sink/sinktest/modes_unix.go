//go:build unix

package sinktest

import (
	"io/fs"
	"path/filepath"
	"syscall"
	"testing"

	"mailhaul/sink"
)

// testModes: mail is for its owner only, whatever the umask.
func testModes(t *testing.T, open Opener) {
	for _, mask := range []int{0, 0o777} {
		dir := t.TempDir()
		s := open(t, filepath.Join(dir, "archive"))
		if _, ok := s.(sink.Local); !ok {
			t.Skip("not on this machine")
		}
		old := syscall.Umask(mask)
		f, err := s.Open(ctx, "Work/Projects", true)
		if err == nil {
			_, err = f.Mark(ctx)
		}
		if err == nil {
			err = f.Put(ctx, letter("m", "Subject: m\r\n\r\n", "Keyword"))
		}
		if err == nil {
			_, err = f.Sync(ctx)
		}
		syscall.Umask(old)
		if err != nil {
			t.Fatalf("umask %o: %v", mask, err)
		}
		f.Close()
		s.Close()
		err = filepath.WalkDir(filepath.Join(dir, "archive"), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			fi, err := d.Info()
			want := fs.FileMode(0o600)
			if d.IsDir() {
				want = fs.ModeDir | 0o700
			}
			if err == nil && fi.Mode() != want {
				t.Errorf("umask %o: %s is %v", mask, path, fi.Mode())
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
