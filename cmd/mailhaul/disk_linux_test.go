package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"mailhaul/internal/testmail"
)

// archives are the formats of one, as locations write them.
func archives() []string {
	all := []string{"mbox:%s", "maildir:%s", "maildir:%s?layout=maildir++"}
	if testing.Short() {
		return all[:2]
	}
	return all
}

// A diskTest backs one account up to places that do not take it.
type diskTest struct {
	*killer
	dir, to string
	stored  int // that lie in the archive in the end
	user    uint32
	self    string // the program, where user may run it
}

func newDiskTest(t *testing.T, format, dir string) *diskTest {
	m := newMailbox("ann")
	m.life()
	for i, lines := range []int{12000, 13000, 14000, 40000} { // the last one comes by way of a file
		m.deliver("Big", testmail.Letter("big", fmt.Appendf(nil, "Subject: big %d\r\n\r\n%s", i, strings.Repeat("a line of forty octets, one of a lot..\r\n", lines))))
	}
	d := &diskTest{killer: &killer{t: t, m: m, from: "imap://ann@" + m.Start(t) + "?tls=none", state: t.TempDir()}, dir: dir, to: fmt.Sprintf(format, dir), stored: 18}
	if strings.HasPrefix(format, "maildir") {
		d.stored = 19
	}
	return d
}

// fails runs a backup behind a shell's preparations, which must fail with an exit
// code of 1 and words about the place.
func (d *diskTest) fails(what, prepare string, words ...string) {
	d.t.Helper()
	cmd := d.backup()
	if prepare != "" {
		// The program is told from a test by its name.
		cmd.Path = "/bin/sh"
		cmd.Args = append([]string{"sh", "-c", prepare + `; exec "$0" "$@"`, d.named()}, cmd.Args[1:]...)
	}
	out, err := cmd.CombinedOutput()
	said := string(out)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitFailed {
		d.t.Fatalf("%s: the run ended in %v and said %s", what, err, said)
	}
	for _, w := range append(words, "mailhaul: error: ", d.dir) {
		if !strings.Contains(said, w) {
			d.t.Fatalf("%s: %q is not in %s", what, w, said)
		}
	}
	for _, bad := range []string{"panic:", "goroutine ", "%!", canary} {
		if strings.Contains(said, bad) {
			d.t.Fatalf("%s: %s", what, said)
		}
	}
}

func (d *diskTest) backup() *exec.Cmd { return d.as(d.command("backup", "--quiet", d.from, d.to)) }

// as lets a command be run by another user, where there is one.
func (d *diskTest) as(cmd *exec.Cmd) *exec.Cmd {
	if d.user != 0 {
		cmd.Path = d.self
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: d.user, Gid: d.user}}
	}
	return cmd
}

// named is the program under its own name.
func (d *diskTest) named() string {
	self, err := os.Executable()
	if err != nil {
		d.t.Fatal(err)
	}
	name := filepath.Join(d.t.TempDir(), "mailhaul")
	if err := os.Symlink(self, name); err != nil {
		d.t.Fatal(err)
	}
	return name
}

// tidy wants nothing to be left behind by a run that failed.
func (d *diskTest) tidy(what string) {
	d.t.Helper()
	filepath.WalkDir(d.dir, func(name string, e fs.DirEntry, err error) error {
		if base := filepath.Base(name); err == nil && (strings.HasPrefix(base, ".mailhaul-") || strings.HasSuffix(base, ".lock") || filepath.Base(filepath.Dir(name)) == "tmp") {
			d.t.Errorf("%s: %s is left behind", what, name)
		}
		return nil
	})
}

// completes runs once more, now that nothing is in the way, and then again.
func (d *diskTest) completes(what string) {
	d.t.Helper()
	run := func() {
		d.t.Helper()
		out, err := d.backup().CombinedOutput()
		if err != nil {
			d.t.Fatalf("%s: the next run: %v\n%s", what, err, out)
		}
	}
	run()
	if err := d.m.equals(d.dir, "127.0.0.1", nil); err != nil {
		d.t.Fatalf("%s: %v", what, err)
	}
	if n, err := countStored(d.dir); err != nil || n != d.stored {
		d.t.Fatalf("%s: %d messages are stored, want %d (%v)", what, n, d.stored, err)
	}
	d.m.Reset()
	run()
	if n := d.m.Bodies(); n != 0 {
		d.t.Fatalf("%s: a third run fetched %d bodies", what, n)
	}
}

// TestFileSizeLimit lets no file grow beyond a limit (ulimit -f), which needs no
// right at all: writes are cut short at it, then fail.
func TestFileSizeLimit(t *testing.T) {
	for _, format := range archives() {
		t.Run(nameOf(format), func(t *testing.T) {
			t.Parallel()
			limits := []int{0, 1, 7, 8, 9, 33, 65, 100, 130, 160, 200, 250, 300, 900, 1500, 2100, 2800}
			if testing.Short() {
				limits = []int{65, 2100}
			}
			failed := 0
			for _, blocks := range limits { // of 512 octets
				what := fmt.Sprintf("files of %d blocks", blocks)
				d := newDiskTest(t, format, filepath.Join(t.TempDir(), "archive"))
				d.fails(what, fmt.Sprintf("ulimit -f %d", blocks), "file too large", "mailhaul: hint: no file may grow so large here")
				failed++
				d.tidy(what)
				d.completes(what)
				d.m.Close()
			}
			t.Logf("failed at %d limits", failed)
		})
	}
}

// TestFullDisk takes some sizes of what the pipeline's own test walks page by page,
// for what the program says and how it ends.
func TestFullDisk(t *testing.T) {
	for _, format := range archives() {
		t.Run(nameOf(format), func(t *testing.T) {
			sizes := []int{4, 100, 180, 300, 700, 1000, 1500, 3000}
			if testing.Short() {
				sizes = []int{1000}
			}
			for _, kib := range sizes {
				what := fmt.Sprintf("a disk of %d KiB", kib)
				disk := t.TempDir()
				mount(t, disk, fmt.Sprintf("size=%dk", kib))
				d := newDiskTest(t, format, filepath.Join(disk, "archive"))
				d.fails(what, "", " left): ", "no space left on device", "mailhaul: hint: make room")
				d.tidy(what)
				d.fails(what+", again", "", " left): ", "no space left on device", "mailhaul: hint: make room")
				remount(t, disk, 0, "size=64m")
				d.completes(what)
				// Read-only is a disk with everything on it, too.
				remount(t, disk, syscall.MS_RDONLY, "")
				d.m.deliver("INBOX", letter(50))
				d.stored++
				d.fails(what+", read-only", "", "read-only file system", "mailhaul: hint: this place is for reading only")
				remount(t, disk, 0, "size=64m")
				d.completes(what + ", read-only before")
				d.m.Close()
			}
		})
	}
}

func nameOf(format string) string { return strings.Replace(format, ":%s", "", 1) }

func mount(t *testing.T, dir, options string) {
	t.Helper()
	if err := syscall.Mount("none", dir, "tmpfs", 0, options); err != nil {
		t.Skip("only root can mount a file system of its own: ", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

func remount(t *testing.T, dir string, flags uintptr, options string) {
	t.Helper()
	if err := syscall.Mount("none", dir, "tmpfs", syscall.MS_REMOUNT|flags, options); err != nil {
		t.Fatal(err)
	}
}

// nobody is a user without rights.
const nobody = 65534

// asNobody lets the program be run by another user, or skips the test. The program
// is copied to where that user can reach it.
func (d *diskTest) asNobody() {
	d.t.Helper()
	if os.Getuid() != 0 {
		d.t.Skip("only root can run a program as another user")
	}
	dir, err := os.MkdirTemp("", "mailhaul")
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { os.RemoveAll(dir) })
	d.self = filepath.Join(dir, "mailhaul")
	program, err := os.Executable()
	if err == nil {
		var text []byte
		if text, err = os.ReadFile(program); err == nil {
			err = errors.Join(os.WriteFile(d.self, text, 0o755), os.Chmod(dir, 0o755))
		}
	}
	if err != nil {
		d.t.Fatal(err)
	}
	d.user, d.dir = nobody, filepath.Join(dir, "home", "archive")
	if err := errors.Join(os.Mkdir(filepath.Dir(d.dir), 0o755), os.Chown(filepath.Dir(d.dir), nobody, nobody)); err != nil {
		d.t.Fatal(err)
	}
	if out, err := d.as(d.command("help")).CombinedOutput(); err != nil {
		d.t.Skipf("another user cannot run the program: %v %s", err, out)
	}
}

// TestForbidden takes rights away from the user that a backup is made by. The next
// run says where; with the right back it goes on.
func TestForbidden(t *testing.T) {
	for _, format := range archives() {
		t.Run(nameOf(format), func(t *testing.T) {
			d := newDiskTest(t, format, "")
			d.asNobody()
			d.to = fmt.Sprintf(format, d.dir)
			home := filepath.Dir(d.dir)
			chmod := func(name string, mode fs.FileMode) {
				t.Helper()
				if err := os.Chmod(name, mode); err != nil {
					t.Fatal(err)
				}
			}
			chmod(home, 0o555)
			d.fails("a parent that may not be written to", "", "permission denied", "mailhaul: hint: check who owns")
			chmod(home, 0o755)
			d.completes("a parent")

			state := ".mailhaul"
			if strings.HasSuffix(format, "++") {
				state = "mailhaul.state"
			}
			// What may not be written to in the second case harms no run: nothing is
			// to be made there.
			names := map[string]bool{".": false, state: false, filepath.Join(state, "catalog.db"): false, "mailhaul.manifest": false}
			switch {
			case format == "mbox:%s":
				names["Big.mbox"], names["INBOX.mbox"], names["Work"] = false, false, false
			case strings.HasSuffix(format, "++"):
				names["."], names["cur"], names["tmp"], names[".Big"] = true, false, false, true
			default:
				names["."], names["INBOX/cur"], names["INBOX/tmp"], names["INBOX"], names["Work"] = true, false, false, true, true
			}
			round, failed := 0, 0
			for _, name := range slices.Sorted(maps.Keys(names)) {
				harmless := names[name]
				if testing.Short() && name != state && name != filepath.Join(state, "catalog.db") {
					continue // they differ in words only
				}
				for _, without := range []fs.FileMode{0o777, 0o222} {
					round++
					name := filepath.Join(d.dir, name)
					what := fmt.Sprintf("%s without %o", name[len(d.dir):], without)
					d.m.deliver("INBOX", letter(100+round, `\Seen`))
					d.m.deliver("Big", letter(200+round))
					d.m.deliver("Work/Projects", letter(300+round))
					d.stored += 3
					fi, err := os.Stat(name)
					if err != nil {
						t.Fatal(err)
					}
					chmod(name, fi.Mode().Perm()&^without)
					if harmless && without == 0o222 {
						d.completes(what)
					} else {
						failed++
						d.fails(what, "", "permission denied", "mailhaul: hint: check who owns")
					}
					d.tidy(what)
					chmod(name, fi.Mode().Perm())
					d.completes(what)
				}
			}
			t.Logf("%d rights taken away, %d of them missed", round, failed)
		})
	}
}

// TestLongNames backs up folders whose names no file system takes: a name of more
// than 255 octets, two that differ behind those, and a path that the archive's own makes longer than 4096.
func TestLongNames(t *testing.T) {
	for i, format := range archives() {
		if i > 0 && testing.Short() {
			break
		}
		t.Run(nameOf(format), func(t *testing.T) {
			d := newDiskTest(t, format, filepath.Join(t.TempDir(), strings.Repeat("above/", 100), "archive"))
			// SQLite takes no path of more than about 500 octets.
			d.fails("a long directory", "", "file name too long", "mailhaul: hint: choose a directory with a shorter path")
			d.dir = filepath.Join(t.TempDir(), "archive")
			d.to = fmt.Sprintf(format, d.dir)
			long := strings.Repeat("long name ", 40)
			deep := strings.TrimSuffix(strings.Repeat(strings.Repeat("d", 180)+"/", 22), "/")
			for i, folder := range []string{long + "a", long + "b", "Under/" + long, deep, deep + "/and below"} {
				d.m.deliver(folder, letter(400+i))
			}
			// What lies in folders whose names had to be cut is not counted: they are
			// told apart by the manifest alone.
			if !strings.HasSuffix(format, "++") {
				d.stored += 2
			}
			d.completes("long names")
			d.m.deliver(long+"b", letter(500))
			d.m.deliver(deep, letter(501))
			if !strings.HasSuffix(format, "++") {
				d.stored++
			}
			d.completes("more for them")
			d.run("verify", "--quiet", d.dir)
		})
	}
}
