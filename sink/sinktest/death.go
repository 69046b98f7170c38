package sinktest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"mailhaul/internal/durable"
	"mailhaul/internal/mail"
	"mailhaul/sink"
)

const (
	envDeath = "SINKTEST_DEATH" // the step to die at
	envDir   = "SINKTEST_DIR"
	died     = 77
)

// die is the other process: it plays the scenario and ends at a step. Steps
// are counted across goroutines, so at any number of them.
func die(t *testing.T, open Opener) {
	at, err := strconv.ParseInt(os.Getenv(envDeath), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	dir := os.Getenv(envDir)
	s := open(t, filepath.Join(dir, "archive"))
	j, err := loadJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	var n atomic.Int64
	durable.Step = func(op, name string) error {
		if n.Add(1) == at {
			os.Exit(died) // nothing deferred runs, no lock is given back
		}
		return nil
	}
	if err := play(s, j); err != nil {
		t.Fatal(err)
	}
	os.Exit(0)
}

// testDeath ends a process at each step in turn. Another run must then reach
// the same end as if nothing had happened, and a third must change nothing.
func testDeath(t *testing.T, open Opener) {
	isLocal(t, open)
	if testing.Short() {
		t.Skip("takes many processes")
	}
	for n := 1; ; n++ {
		dir := tempDir(t)
		if !dies(t, dir, n) {
			t.Logf("died at %d steps", n-1)
			return
		}
		resume(t, open, dir, fmt.Sprintf("death at step %d", n))
		thirdRun(t, open, dir)
	}
}

// dies runs this test in another process and reports whether that died as told.
func dies(t *testing.T, dir string, step int) bool {
	t.Helper()
	name, _, _ := strings.Cut(t.Name(), "/death")
	var pattern []string
	for part := range strings.SplitSeq(name, "/") {
		pattern = append(pattern, "^"+regexp.QuoteMeta(part)+"$")
	}
	cmd := exec.Command(os.Args[0], "-test.run="+strings.Join(pattern, "/"))
	cmd.Env = append(os.Environ(), envDeath+"="+strconv.Itoa(step), envDir+"="+dir)
	out, err := cmd.CombinedOutput()
	if err == nil {
		return false
	}
	if cmd.ProcessState.ExitCode() != died {
		t.Fatalf("step %d: %v\n%s", step, err, out)
	}
	return true
}

func resume(t *testing.T, open Opener, dir, what string) {
	t.Helper()
	s := open(t, filepath.Join(dir, "archive"))
	defer s.Close()
	j, err := loadJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := play(s, j); err != nil {
		t.Fatalf("after %s: %v", what, err)
	}
	compare(t, s, j)
	tidy(t, dir)
}

// thirdRun wants nothing to change when there is nothing to do.
func thirdRun(t *testing.T, open Opener, dir string) {
	t.Helper()
	before := tree(t, dir)
	durable.Step = func(op, name string) error { return fmt.Errorf("a third run did %s %s", op, name) }
	defer func() { durable.Step = nil }()
	resume(t, open, dir, "everything")
	if after := tree(t, dir); after != before {
		t.Fatalf("a third run made of\n%s\nthis:\n%s", before, after)
	}
}

// tree describes all files of an archive.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(filepath.Join(dir, "archive"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintln(&b, path, fi.Mode(), fi.Size(), fi.ModTime().UnixNano())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// tidy wants no lock and no temporary file to be left.
func tidy(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(dir, "archive"), func(path string, d fs.DirEntry, err error) error {
		name := filepath.Base(path)
		if err == nil && !d.IsDir() && (strings.HasSuffix(name, ".lock") || strings.HasPrefix(name, ".mailhaul-") ||
			filepath.Base(filepath.Dir(path)) == "tmp") {
			err = errors.New(path + " is left behind")
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// errDead is what every step gives from the moment of death on: the process
// goes on, but nothing it does reaches the disk.
var errDead = errors.New("dead")

// deadFrom lets a number of steps happen and no more. It reports whether the
// scenario came to its end.
func deadFrom(t *testing.T, open Opener, dir string, step int64) (ended bool) {
	t.Helper()
	var n atomic.Int64
	durable.Step = func(op, name string) error {
		if n.Add(1) >= step {
			return errDead
		}
		return nil
	}
	defer func() { durable.Step = nil }()
	s := open(t, filepath.Join(dir, "archive"))
	defer s.Close()
	j, err := loadJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	err = play(s, j)
	if err != nil && !errors.Is(err, errDead) {
		t.Fatalf("step %d: %v", step, err)
	}
	return n.Load() < step
}

// testPairs dies at each step, and again at steps of the run that follows. It
// stays in one process and takes away the disk instead. Of the second deaths it
// tries every seventh, beginning with another one each time.
func testPairs(t *testing.T, open Opener) {
	isLocal(t, open)
	pairs := 0
	for first := int64(1); ; first++ {
		stride := int64(7)
		if testing.Short() {
			stride = 29
		}
		ended := false
		for second := 1 + first%stride; ; second += stride {
			dir := tempDir(t)
			if ended = deadFrom(t, open, dir, first); ended {
				break
			}
			if deadFrom(t, open, dir, second) {
				break
			}
			pairs++
			resume(t, open, dir, fmt.Sprintf("deaths at steps %d and %d", first, second))
			os.RemoveAll(dir)
		}
		if ended {
			t.Logf("%d pairs", pairs)
			return
		}
	}
}

// testFaults lets each step fail once, before its effect. The error must reach
// whoever called, with the scope of the run, and another try in the same
// process must reach the end.
func testFaults(t *testing.T, open Opener) {
	isLocal(t, open)
	for _, fault := range []error{syscall.ENOSPC, syscall.EIO} {
		for n := int64(1); ; n++ {
			dir := tempDir(t)
			s := open(t, filepath.Join(dir, "archive"))
			j, err := loadJournal(dir)
			if err != nil {
				t.Fatal(err)
			}
			var count atomic.Int64
			what := ""
			durable.Step = func(op, name string) error {
				if count.Add(1) == n {
					what = op + " " + filepath.Base(name)
					return fault
				}
				return nil
			}
			err = play(s, j)
			if err != nil {
				if mail.ScopeOf(err, 0) != mail.ScopeRun || !errors.Is(err, fault) || !strings.Contains(err.Error(), dir) {
					t.Errorf("%s: %v at step %d gave %v", what, fault, n, err)
				}
				if err = play(s, j); err != nil {
					t.Fatalf("%s: after %v at step %d: %v", what, fault, n, err)
				}
			}
			durable.Step = nil
			compare(t, s, j)
			s.Close()
			// What failed to be taken away, another run takes away.
			if !strings.HasPrefix(what, "unlink") {
				tidy(t, dir)
			}
			os.RemoveAll(dir)
			if count.Load() < n {
				break
			}
		}
	}
}

// tempDir is a directory in memory where there is one: death and faults need
// thousands of archives, and the disk's own speed is not what is tried.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "sinktest")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// isLocal skips where the disk is not ours to take away.
func isLocal(t *testing.T, open Opener) {
	t.Helper()
	s := open(t, t.TempDir())
	defer s.Close()
	if _, ok := s.(sink.Local); !ok {
		t.Skip("not on this machine")
	}
}
