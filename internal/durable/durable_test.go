package durable

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// hook sets Step for one test.
func hook(t *testing.T, f func(op, name string) error) {
	t.Helper()
	Step = f
	t.Cleanup(func() { Step = nil })
}

func open(t *testing.T) *Dir {
	t.Helper()
	d, err := OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func write(t *testing.T, d *Dir, name, text string) {
	t.Helper()
	if err := d.Replace(name, func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, d *Dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(d.Path(name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}

func TestMkdir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b", "c")
	var synced []string
	hook(t, func(op, name string) error {
		if op == "syncdir" {
			synced = append(synced, filepath.Base(name))
		}
		return nil
	})
	for range 2 {
		d, err := MakeDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Mkdir("x/y"); err != nil {
			t.Fatal(err)
		}
		d.Close()
	}
	if got := strings.Join(synced[1:], " "); got != "a b c x" {
		t.Errorf("synced %s", got)
	}
	d := open(t)
	write(t, d, "file", "x")
	if err := d.Mkdir("file/sub"); err == nil {
		t.Error("a directory in a file")
	}
	if err := Mkdir(d.Path("file")); err == nil || !strings.Contains(err.Error(), d.Path("file")) {
		t.Error(err)
	}
}

// TestReplace fails each step in turn: the name has the old content or the
// new, and a second try works.
func TestReplace(t *testing.T) {
	for n := 1; ; n++ {
		d := open(t)
		write(t, d, "f", "old")
		count := 0
		hook(t, func(op, name string) error {
			if count++; count >= n {
				return syscall.EIO
			}
			return nil
		})
		err := d.Replace("f", func(w io.Writer) error {
			_, err := io.WriteString(w, "newer")
			return err
		})
		Step = nil
		got := content(t, d, "f")
		if err == nil {
			if got != "newer" || n < 6 {
				t.Fatalf("%d steps and %q", n-1, got)
			}
			return
		}
		if !errors.Is(err, syscall.EIO) || got != "old" && got != "newer" {
			t.Fatalf("step %d: %v, %q", n, err, got)
		}
		write(t, d, "f", "newest")
		if es, _ := d.Names("."); len(es) != 1 {
			t.Fatalf("step %d left %v", n, es)
		}
	}
}

func TestAppend(t *testing.T) {
	d := open(t)
	for i, fresh := range []bool{true, false} {
		f, err := d.Append("f")
		if err != nil || f.Fresh != fresh {
			t.Fatal(err, f.Fresh)
		}
		if _, err := f.Write([]byte("line\n")); err != nil {
			t.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			if err := f.Rewrite(2, 8); err != nil {
				t.Fatal(err)
			}
			if _, err := f.Write([]byte("end")); err != nil { // still appends
				t.Fatal(err)
			}
			if err := f.Truncate(12); err != nil {
				t.Fatal(err)
			}
		}
		f.Close()
	}
	if got := content(t, d, "f"); got != "line\nline\nen" {
		t.Errorf("got %q", got)
	}
}

// TestSyncOnce is row E4: after a failed fsync no other may succeed.
func TestSyncOnce(t *testing.T) {
	d := open(t)
	f, err := d.Append("f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fail := true
	hook(t, func(op, name string) error {
		if op == "fsync" && fail {
			return syscall.EIO
		}
		return nil
	})
	first := f.Sync()
	fail = false
	if second := f.Sync(); first == nil || second != first {
		t.Errorf("first %v, then %v", first, second)
	}
}

func TestLink(t *testing.T) {
	d := open(t)
	write(t, d, "a", "1")
	write(t, d, "b", "2")
	if err := d.Link("a", "b"); !errors.Is(err, fs.ErrExist) || content(t, d, "b") != "2" {
		t.Errorf("%v, %q", err, content(t, d, "b"))
	}
	if err := d.Link("a", "c"); err != nil || content(t, d, "c") != "1" {
		t.Error(err)
	}
}

func TestSetAside(t *testing.T) {
	d := open(t)
	write(t, d, "f", "0123456789")
	f, err := d.Append("f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := d.SetAside(f, 3, 7, "torn"); err != nil || content(t, d, "torn") != "3456" {
		t.Fatal(err)
	}
	if err := d.SetAside(f, 0, 1, "torn"); !errors.Is(err, fs.ErrExist) || content(t, d, "torn") != "3456" {
		t.Errorf("overwrote what was set aside: %v", err)
	}
	hook(t, func(op, name string) error {
		if op == "write" {
			return syscall.ENOSPC
		}
		return nil
	})
	if err := d.SetAside(f, 0, 9, "no room"); !Full(err) || content(t, d, "no room") != "" {
		t.Error(err)
	}
}

// TestInside is row J9: nothing leads out, and links are not written through.
func TestInside(t *testing.T) {
	d := open(t)
	outside := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(outside, []byte("safe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, d.Path("link")); err != nil {
		t.Skip(err)
	}
	os.Symlink(filepath.Dir(outside), d.Path("dir"))
	os.Symlink("inner", d.Path("within"))
	write(t, d, "inner", "safe")
	for _, name := range []string{"link", "dir/victim", "../x", "within", outside} {
		if f, err := d.Append(name); err == nil {
			f.Close()
			t.Errorf("%s was opened", name)
		}
		if f, err := d.Create(name); err == nil {
			f.Close()
			t.Errorf("%s was created", name)
		}
	}
	if err := d.Mkdir("dir/sub"); err == nil {
		t.Error("a directory outside")
	}
	write(t, d, "link", "mine") // takes the place of the link
	if text, _ := os.ReadFile(outside); string(text) != "safe" || content(t, d, "inner") != "safe" {
		t.Error("written through a link")
	}
	if l, err := LockFile(d.Path("within"), ""); err == nil && runtime.GOOS != "windows" {
		l.Release()
		t.Error("locked through a link")
	}
}

// TestLock has another process hold the lock, and die.
func TestLock(t *testing.T) {
	name := os.Getenv("DURABLE_LOCK")
	if name != "" {
		if _, err := LockFile(name, "backup\nto x"); err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("locked\n")
		time.Sleep(time.Hour)
	}
	name = filepath.Join(t.TempDir(), "lock")
	cmd := exec.Command(os.Args[0], "-test.run=^TestLock$")
	cmd.Env = append(os.Environ(), "DURABLE_LOCK="+name)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	if _, err := io.ReadFull(out, make([]byte, 7)); err != nil {
		t.Fatal(err)
	}
	host, _ := os.Hostname()
	_, err = LockFile(name, "other")
	var l *Locked
	if !errors.As(err, &l) || l.PID != cmd.Process.Pid || l.Host != host || l.Command != "backup to x" || time.Since(l.Since) > time.Minute {
		t.Fatalf("%+v, %v", l, err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	lock, err := LockFile(name, "other")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := LockFile(name, "third"); !errors.As(err, &l) || l.PID != os.Getpid() {
		t.Errorf("%v within one process", err)
	}
	lock.Release()
	if lock, err = LockFile(name, "third"); err != nil {
		t.Fatal(err)
	}
	lock.Release()
}

func TestTrouble(t *testing.T) {
	d := open(t)
	for _, c := range []struct {
		err  error
		want string
	}{
		{syscall.EROFS, "read-only"},
		{syscall.EACCES, "permission"},
		{syscall.EIO, "disk"},
		{fs.ErrNotExist, ""},
		{nil, ""},
	} {
		if got := Trouble(c.err); c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%v: %q", c.err, got)
		}
	}
	err := &fs.PathError{Op: "write", Path: d.Path("f"), Err: syscall.ENOSPC}
	if got := Trouble(err); !strings.HasPrefix(got, "no room (") || !strings.HasSuffix(got, "B left)") {
		t.Errorf("%q", got)
	}
	if n, err := Free(d.Name()); err != nil || n <= 0 {
		t.Error(n, err)
	}
}

// TestNotSupported is row E8.
func TestNotSupported(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip()
	}
	if !noted(syscall.EINVAL, "x") || !noted(syscall.ENOTSUP, "x") || noted(syscall.EIO, "x") || noted(syscall.ENOSPC, "x") {
		t.Error("only EINVAL and ENOTSUP may be ignored")
	}
}
