package repair_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mailhaul/internal/catalog"
	"mailhaul/internal/durable"
	"mailhaul/internal/job"
	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/internal/pipeline"
	"mailhaul/internal/repair"
	"mailhaul/internal/testmail"
	"mailhaul/internal/verify"
	"mailhaul/sink"
	"mailhaul/sink/maildir"
	"mailhaul/sink/mbox"
	"mailhaul/source"
	"mailhaul/source/imap"
)

const diedAtStep = 99

// TestMain makes this binary the program that dies in a repair, when the parent
// asks.
func TestMain(m *testing.M) {
	if n, err := strconv.Atoi(os.Getenv("MAILHAUL_TEST_DIE_AT")); err == nil {
		durable.Step = func(string, string) error {
			if n--; n == 0 {
				os.Exit(diedAtStep)
			}
			return nil
		}
		if _, _, err := runner().Repair(context.Background(), os.Getenv("MAILHAUL_TEST_DIR"), nil); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func runner() *job.Runner {
	var sources source.Registry
	var sinks sink.Registry
	for _, s := range imap.Schemes() {
		sources.Register(s)
	}
	sinks.Register(mbox.Scheme())
	sinks.Register(maildir.Scheme())
	return &job.Runner{Sources: &sources, Sinks: &sinks, Doing: "test", Env: location.Env{
		Log:    slog.New(slog.DiscardHandler),
		Secret: func(context.Context, location.Location) (string, error) { return "secret", nil },
	}}
}

// An owner has an account and an archive of it.
type owner struct {
	t        *testing.T
	model    *testmail.Model
	from, to string
	dir      string
}

var forms = []string{"mbox:%s", "maildir:%s", "maildir:%s?layout=maildir++"}

func newOwner(t *testing.T, form string) *owner {
	m := &testmail.Model{}
	o := &owner{t: t, model: m, from: "imap://ann@" + m.Start(t) + "?tls=none", dir: filepath.Join(t.TempDir(), "a")}
	o.to = fmt.Sprintf(form, o.dir)
	return o
}

func letter(i int, flags ...string) testmail.Message {
	return testmail.Letter(fmt.Sprint(i), fmt.Appendf(nil, "Subject: %d\r\nMessage-ID: <%d@x>\r\n\r\nbody %d\r\n", i, i, i), flags...)
}

// life fills the account: equal messages in one folder and in two, odd line
// ends, moved and deleted ones.
func (o *owner) life() {
	m := o.model
	m.Deliver("INBOX", letter(1), letter(2, `\Seen`), letter(3), letter(3), letter(4))
	m.Deliver("Work", letter(5, "Todo"), letter(3))
	m.Deliver("Odd", testmail.Corpus()[:30]...)
	m.Folder("Sent", `\Sent`)
	m.Deliver("Sent", letter(6, `\Answered`))
	o.backup()
	m.Move("INBOX", 1, "Work")
	m.Expunge("INBOX", 5)
	o.backup()
}

func (o *owner) backup() pipeline.Report {
	o.t.Helper()
	r, err := runner().Run(o.t.Context(), job.Job{From: o.from, To: o.to})
	if err != nil {
		o.t.Fatalf("backup: %v", err)
	}
	return r
}

func (o *owner) repair() *repair.Result {
	o.t.Helper()
	r, _, err := runner().Repair(o.t.Context(), o.dir, nil)
	if err != nil {
		o.t.Fatalf("repair: %v", err)
	}
	return r
}

// state is the directory of the catalog.
func (o *owner) state() string {
	if strings.Contains(o.to, "++") {
		return filepath.Join(o.dir, "mailhaul.state")
	}
	return filepath.Join(o.dir, ".mailhaul")
}

func (o *owner) lose() {
	o.t.Helper()
	if err := os.RemoveAll(o.state()); err != nil {
		o.t.Fatal(err)
	}
}

func (o *owner) manifest() string { return filepath.Join(o.dir, "mailhaul.manifest") }

// holds is all that the archive gives back: a line a message, by folder, with
// its name and flags.
func (o *owner) holds() map[string][]string {
	o.t.Helper()
	ctx := o.t.Context()
	src, _, _, err := runner().Source(ctx, o.dir)
	if err != nil {
		o.t.Fatalf("open: %v", err)
	}
	defer src.Close()
	folders, err := src.Folders(ctx)
	if err != nil {
		o.t.Fatal(err)
	}
	all := map[string][]string{}
	for _, f := range folders {
		name := string(f.Path) + " " + f.Role
		all[name] = nil
		box, err := src.Open(ctx, f.Path)
		if err != nil {
			o.t.Fatal(err)
		}
		var entries []source.Entry
		for e, err := range box.List(ctx, "") {
			if err != nil {
				o.t.Fatal(err)
			}
			entries = append(entries, e)
		}
		for m, err := range box.Fetch(ctx, func(bool) []source.Entry { g := entries; entries = nil; return g }) {
			if err != nil {
				o.t.Fatal(err)
			}
			raw, err := io.ReadAll(m.Body)
			if err != nil {
				o.t.Fatal(err)
			}
			all[name] = append(all[name], fmt.Sprintf("%s %s %s %q", m.ID, m.Date, m.Flags.Key(), raw))
		}
		box.Close()
		slices.Sort(all[name])
	}
	return all
}

// proven fails unless verify finds all of the archive in order.
func (o *owner) proven() {
	o.t.Helper()
	s, c, err := runner().Archive(o.t.Context(), o.dir)
	if err != nil {
		o.t.Fatal(err)
	}
	defer s.Close()
	defer c.Close()
	r, err := verify.Run(o.t.Context(), s, c, verify.Options{})
	if err != nil || len(r.Problems) > 0 {
		o.t.Errorf("verify: %+v, %v", r, err)
	}
}

// quiet fails unless a backup has nothing to do.
func (o *owner) quiet() {
	o.t.Helper()
	o.model.Reset()
	if r := o.backup(); r.Total.Stored+r.Total.Duplicate+r.Total.Flagged+r.Total.Failed != 0 || o.model.Bodies() != 0 {
		o.t.Errorf("%d bodies, %+v", o.model.Bodies(), r.Total)
	}
}

// TestRepair: what the archive gives back afterwards is what it gave before.
func TestRepair(t *testing.T) {
	for _, form := range forms {
		t.Run(form, func(t *testing.T) {
			o := newOwner(t, form)
			o.life()
			before := o.holds()
			o.lose()
			if r := o.repair(); r.Lost+r.Adopted+r.SetAside+r.Passed != 0 || !r.Manifest || len(r.Files) != 0 {
				t.Errorf("%+v", r)
			}
			if diff := cmp.Diff(before, o.holds()); diff != "" {
				t.Errorf("-before +after: %.2000s", diff)
			}
			o.proven()
			o.quiet()
			if _, _, err := runner().Repair(t.Context(), o.dir, nil); !errors.Is(err, catalog.ErrSound) {
				t.Errorf("again: %v", err)
			}
			o.lose() // the manifest that repair wrote is as good
			o.repair()
			if diff := cmp.Diff(before, o.holds()); diff != "" {
				t.Errorf("-before +after twice: %.2000s", diff)
			}
		})
	}
}

// TestDamagedPages: the file is a database still, with a page that is not.
func TestDamagedPages(t *testing.T) {
	o := newOwner(t, forms[0])
	o.life()
	before := o.holds()
	name := filepath.Join(o.state(), "catalog.db")
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	rand.NewChaCha8([32]byte{1}).Read(data[3*4096 : 6*4096])
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	r := o.repair()
	if len(r.Files) != 1 {
		t.Fatalf("%+v", r)
	}
	if kept, err := os.ReadFile(r.Files[0]); err != nil || !bytes.Equal(kept, data) {
		t.Errorf("the damaged catalog was not kept: %v", err)
	}
	if diff := cmp.Diff(before, o.holds()); diff != "" {
		t.Errorf("-before +after: %.2000s", diff)
	}
	o.quiet()
}

// TestDies ends the process at every step of a repair. The next one makes up
// for it.
func TestDies(t *testing.T) {
	for _, form := range forms[:2] {
		t.Run(form, func(t *testing.T) {
			o := newOwner(t, form)
			o.model.Deliver("INBOX", letter(1), letter(2, `\Seen`), letter(2))
			o.backup()
			before := o.holds()
			damaged := []byte("this is no database, it is a text of some length that says so")
			for n := 1; ; n++ {
				if err := os.WriteFile(filepath.Join(o.state(), "catalog.db"), damaged, 0o600); err != nil {
					t.Fatal(err)
				}
				cmd := exec.Command(os.Args[0])
				// With -race every process would wait a second at its end.
				cmd.Env = append(os.Environ(), fmt.Sprint("MAILHAUL_TEST_DIE_AT=", n), "MAILHAUL_TEST_DIR="+o.dir, "GORACE=atexit_sleep_ms=0")
				out, err := cmd.CombinedOutput()
				var exit *exec.ExitError
				if err == nil {
					if n < 5 {
						t.Fatalf("a repair has %d steps", n-1)
					}
					break
				}
				if !errors.As(err, &exit) || exit.ExitCode() != diedAtStep {
					t.Fatalf("step %d: %v: %s", n, err, out)
				}
				if _, _, err := runner().Repair(t.Context(), o.dir, nil); err != nil && !errors.Is(err, catalog.ErrSound) {
					t.Fatalf("step %d: %v", n, err)
				}
				if diff := cmp.Diff(before, o.holds()); diff != "" {
					t.Fatalf("step %d: -before +after: %.2000s", n, diff)
				}
				if left, _ := filepath.Glob(filepath.Join(o.state(), "catalog.db.new*")); len(left) > 0 {
					t.Fatalf("step %d: left behind: %v", n, left)
				}
			}
			o.proven()
			o.quiet()
		})
	}
}

// TestInterrupted: whoever interrupts it finds the archive as it was.
func TestInterrupted(t *testing.T) {
	o := newOwner(t, forms[0])
	o.life()
	o.lose()
	before := tree(t, o.dir)
	for n := 1; n < 40; n += 6 {
		ctx, cancel := context.WithCancel(t.Context())
		seen := 0
		_, _, err := runner().Repair(ctx, o.dir, func(mail.Path, int64, int64) {
			if seen++; seen == n {
				cancel()
			}
		})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("interrupted at message %d: %v", n, err)
		}
		after := tree(t, o.dir)
		delete(after, ".mailhaul/lock")
		if diff := cmp.Diff(before, after); diff != "" {
			t.Fatalf("interrupted at message %d: %s", n, diff)
		}
	}
	o.repair()
	o.quiet()
}

// tree is every file with its content.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(name)
		rel, _ := filepath.Rel(dir, name)
		all[rel] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestRewritten: another program has worked on the mailbox file.
func TestRewritten(t *testing.T) {
	for _, c := range []struct {
		name          string
		change        func(string) string
		lost, adopted int64
	}{
		{"expunged at the beginning", func(s string) string {
			i := strings.Index(s[1:], "\nFrom ")
			return s[i+2:]
		}, 1, 0},
		{"two changed places", func(s string) string {
			i := strings.Index(s[1:], "\nFrom ") + 2
			j := strings.Index(s[i:], "\nFrom ") + 1 + i
			return s[i:j] + s[:i] + s[j:]
		}, 0, 0},
		{"a status added", func(s string) string { return strings.Replace(s, "Subject: 2\n", "Subject: 2\nStatus: RO\n", 1) }, 1, 0},
		{"one doubled", func(s string) string {
			i := strings.Index(s[1:], "\nFrom ") + 2
			return s[:i] + s
		}, 0, 1},
		{"one delivered", func(s string) string { return s + "From x@y Sun Mar 14 15:09:26 2021\nSubject: new\n\nnew\n\n" }, 0, 1},
		{"one torn", func(s string) string { return s + "From x@y Sun Mar 14 15:09:26 2021\nSubject: n" }, 0, 0},
		{"all gone", func(string) string { return "" }, 5, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newOwner(t, forms[0])
			o.model.Deliver("INBOX", letter(1), letter(2), letter(3), letter(4), letter(5))
			o.backup()
			o.lose()
			name := filepath.Join(o.dir, "INBOX.mbox")
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, []byte(c.change(string(data))), 0o600); err != nil {
				t.Fatal(err)
			}
			r := o.repair()
			if r.Lost != c.lost || r.Adopted != c.adopted || (r.SetAside > 0) != (c.name == "one torn") || len(r.Missing) != int(c.lost) {
				t.Errorf("%+v", r)
			}
			if b := o.backup(); b.Total.Stored != c.lost || b.Total.Failed != 0 {
				t.Errorf("backup: %+v", b.Total)
			}
			o.proven()
			o.quiet()
		})
	}
}

// TestManifestTorn: whatever is left of the manifest counts; what it lacks is
// downloaded once more and stored nowhere twice.
func TestManifestTorn(t *testing.T) {
	for _, form := range forms {
		t.Run(form, func(t *testing.T) {
			o := newOwner(t, form)
			o.life()
			whole, err := os.ReadFile(o.manifest())
			if err != nil {
				t.Fatal(err)
			}
			lines := bytes.SplitAfter(whole, []byte("\n"))
			for name, data := range map[string][]byte{
				"half":     whole[:len(whole)/2],
				"a line":   whole[:len(lines[0])],
				"no line":  whole[:len(lines[0])-5],
				"empty":    {},
				"no head":  bytes.Join(lines[1:], nil),
				"no sense": slices.Concat(lines[0], []byte("\x00\x00\x00\n{\"path\":\"x\"}\n{}\n"), bytes.Join(lines[1:], nil)),
			} {
				o.lose()
				if err := os.WriteFile(o.manifest(), data, 0o600); err != nil {
					t.Fatal(err)
				}
				if r := o.repair(); r.Lost != 0 || name == "no sense" && (r.Passed != 3 || len(r.Files) != 1) {
					t.Errorf("%s: %+v", name, r)
				}
				if r := o.backup(); r.Total.Stored != 0 || r.Total.Failed != 0 {
					t.Errorf("%s: backup: %+v", name, r.Total)
				}
				o.proven()
				o.quiet()
			}
		})
	}
}

// TestWrongForm: an archive that is taken for what it is not stays one that can
// be repaired.
func TestWrongForm(t *testing.T) {
	o := newOwner(t, forms[2])
	o.life()
	o.lose()
	os.Remove(o.manifest())
	if _, _, err := runner().Repair(t.Context(), "maildir:"+o.dir, nil); !errors.Is(err, catalog.ErrNone) {
		t.Fatalf("error is %v", err)
	}
	if r := o.repair(); r.Adopted == 0 {
		t.Errorf("%+v", r)
	}
	if r := o.backup(); r.Total.Stored != 0 {
		t.Errorf("backup: %+v", r.Total)
	}
	o.quiet()
}

// TestForms: what cannot be told is asked for, and what is no archive is not
// made one.
func TestForms(t *testing.T) {
	for _, c := range []struct {
		name  string
		files []string
		err   error
	}{
		{"nothing", nil, catalog.ErrNone},
		{"something else", []string{"thesis.tex", "new/x", "curriculum/cur.txt"}, catalog.ErrNone},
		{"both", []string{"INBOX.mbox", "Work/cur/1"}, location.ErrUsage},
		{"two layouts", []string{".Work/cur/1", "Work/cur/1"}, location.ErrUsage},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, f := range c.files {
				if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(f)), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, f), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			before := tree(t, dir)
			if _, _, err := runner().Repair(t.Context(), dir, nil); !errors.Is(err, c.err) {
				t.Errorf("error is %v", err)
			}
			if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
