package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"mailhaul/internal/catalog"
	"mailhaul/internal/testmail"
)

// The scripts run the real program, one process a command, against servers in
// the test's own process, which further commands of the scripts steer.
//
//	exits CODE COMMAND...            run it; the exit code must be CODE
//	interrupted SIGNAL N CODE CMD... the same, with SIGNAL when the server is asked for the N-th body
//	imap start [OPTION...]           a server; see serverOptions; sets $IMAP (host:port) and $FROM (a location)
//	imap ...                         deliver mail, change it, set faults, count; see imapCommands
//	                                 (a second server has another user=; "imap use USER" turns back to one)
//	pop3 start [OPTION...], pop3 ... the same for POP3; see maildropOptions, maildropCommands; sets $POP3 and $FROM
//	same-mail [A=B...]               the second server holds what the first one has, folder A as B, and nothing else
//	smtp start [OPTION...], smtp ... a server to deliver to; see relayOptions, relayCommands; sets $SMTP and $TO
//	archive-equals DIR [FOLDER...]   every message of the server is in the archive, byte for byte
//	stored DIR N                     so many messages lie in the archive's folders
//	report KEY=VALUE...              look into the last line of --json; it must add up
//	events KIND...                   check the schema of --json; these kinds must occur
//	lock DIR, unlock DIR             hold an archive as another run would
//	private DIR                      nobody but the owner may do anything below it
//	damage FILE TEXT                 change one letter of a stored message
//	small DIR BYTES                  a file system of its own, soon full (root)
//
// After each script the password must not be found in anything that the
// program has written.

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"mailhaul": func() {
		pause = func(ctx context.Context, _ time.Duration) error { return context.Cause(ctx) }
		main()
	}})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":          exits,
			"interrupted":    interrupted,
			"imap":           imapCommand,
			"pop3":           pop3Command,
			"same-mail":      sameMail,
			"smtp":           smtpCommand,
			"archive-equals": archiveEquals,
			"stored":         stored,
			"report":         reportSays,
			"events":         events,
			"lock":           lock,
			"unlock":         unlock,
			"private":        private,
			"damage":         damage,
			"small":          small,
		},
	})
}

// canary is the password everywhere: it must never come out.
const canary = "canary-zX9q-tweet"

// A world is what one script plays in.
type world struct {
	t     testscript.T
	mail  *mailbox // of the IMAP server started last, or that "imap use" has named
	mails []*mailbox
	drop  *maildrop // of the POP3 server started last
	relay *relay    // the SMTP server started last
	last  server    // of these, the one started or used last
	locks map[string]*catalog.Catalog
	said  strings.Builder // all that the program has printed
}

type worldKey struct{}

func worldOf(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

func setup(env *testscript.Env) error {
	w := &world{t: env.T(), locks: map[string]*catalog.Catalog{}}
	env.Values[worldKey{}] = w
	env.Setenv("MAILHAUL_PASSWORD", canary)
	env.Setenv("XDG_STATE_HOME", filepath.Join(env.WorkDir, "state"))
	// With -race every process would wait a second at its end.
	env.Setenv("GORACE", strings.TrimSpace("atexit_sleep_ms=0 "+os.Getenv("GORACE")))
	work, t := env.WorkDir, env.T()
	env.Defer(func() {
		for _, c := range w.locks {
			c.Close()
		}
		if found := leaks(w.said.String(), work); found != "" {
			t.Log("the password is in " + found)
			t.FailNow()
		}
	})
	return nil
}

// leaks looks for the password, as it is and as it goes over the wire, in what
// was printed and in every file below dir but those of "secret".
func leaks(said, dir string) string {
	// Base64 of the same text differs by where it begins.
	forms := []string{canary}
	for _, before := range []string{"", "x", "xx"} {
		s := base64.StdEncoding.EncodeToString([]byte(before + canary))
		forms = append(forms, s[4:len(s)-4])
	}
	has := func(text string) bool {
		for _, f := range forms {
			if strings.Contains(text, f) {
				return true
			}
		}
		return false
	}
	if has(said) {
		return "the output"
	}
	found := ""
	filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil || found != "":
		case d.IsDir() && d.Name() == "secret":
			return fs.SkipDir
		case d.Type().IsRegular():
			if data, err := os.ReadFile(name); err == nil && has(string(data)) {
				found = name
			}
		}
		return nil
	})
	return found
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	want, args := numbered(ts, neg, args)
	err := ts.Exec(args[0], args[1:]...)
	heard(ts, ts.ReadFile("stdout")+ts.ReadFile("stderr"), exitCode(ts, err), want)
}

func numbered(ts *testscript.TestScript, neg bool, args []string) (int, []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	return n, args[1:]
}

func exitCode(ts *testscript.TestScript, err error) int {
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		ts.Fatalf("%v", err)
	}
	if exit == nil {
		return 0
	}
	return exit.ExitCode()
}

// heard checks what holds for every run, whatever it was for.
func heard(ts *testscript.TestScript, said string, code, want int) {
	worldOf(ts).said.WriteString(said)
	for _, bad := range []string{"DATA RACE", "panic:", "goroutine ", "%!"} {
		if strings.Contains(said, bad) {
			ts.Fatalf("the program printed %q", bad)
		}
	}
	if code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

// interrupted runs a command that the server signals in the middle, and holds
// the server still until it has ended.
func interrupted(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 4 {
		ts.Fatalf("usage: interrupted SIGNAL N CODE COMMAND...")
	}
	sig, ok := signals[args[0]]
	if !ok {
		ts.Fatalf("no signal %s", args[0])
	}
	body, err := strconv.Atoi(args[1])
	ts.Check(err)
	want, args := numbered(ts, false, args[2:])
	cmd := program(ts, args)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	code, err := signalled(worldOf(ts).last, cmd, sig, body)
	ts.Check(err)
	io.WriteString(ts.Stdout(), out.String())
	io.WriteString(ts.Stderr(), errs.String())
	heard(ts, out.String()+errs.String(), code, want)
}

// program is a command with the script's surroundings.
func program(ts *testscript.TestScript, args []string) *exec.Cmd {
	name := args[0]
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if full := filepath.Join(dir, name); name == filepath.Base(name) {
			if _, err := os.Stat(full); err == nil {
				name = full
			}
		}
	}
	cmd := exec.Command(name, args[1:]...)
	cmd.Dir = ts.MkAbs(".")
	for _, v := range []string{"PATH", "HOME", "TMPDIR", "GORACE", "MAILHAUL_PASSWORD", "XDG_STATE_HOME"} {
		cmd.Env = append(cmd.Env, v+"="+ts.Getenv(v))
	}
	return cmd
}

func lock(ts *testscript.TestScript, neg bool, args []string) {
	home, err := catalog.Find(ts.MkAbs(args[0]))
	ts.Check(err)
	c, err := catalog.Open(context.Background(), home, false, "mailhaul backup another")
	ts.Check(err)
	worldOf(ts).locks[args[0]] = c
}

func unlock(ts *testscript.TestScript, neg bool, args []string) {
	w := worldOf(ts)
	ts.Check(w.locks[args[0]].Close())
	delete(w.locks, args[0])
}

// private fails unless all below a directory is the owner's alone.
func private(ts *testscript.TestScript, neg bool, args []string) {
	err := filepath.WalkDir(ts.MkAbs(args[0]), func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if fi.Mode().Perm() != want {
			return fmt.Errorf("%s has mode %v, want %v", name, fi.Mode().Perm(), want)
		}
		return nil
	})
	ts.Check(err)
}

// damage turns the first letter of a text in a file, or in one of the files
// below a directory, into another.
func damage(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: damage FILE TEXT")
	}
	done := false
	err := filepath.WalkDir(ts.MkAbs(args[0]), func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || done {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		i := strings.Index(string(data), args[1])
		if i < 0 {
			return nil
		}
		done = true
		data[i] ^= 1
		return os.WriteFile(name, data, 0o600)
	})
	ts.Check(err)
	if !done {
		ts.Fatalf("%q is nowhere below %s", args[1], args[0])
	}
}

// lastLine is the report of --json.
func lastLine(ts *testscript.TestScript) map[string]any {
	lines := strings.Split(strings.TrimSpace(ts.ReadFile("stdout")), "\n")
	var last map[string]any
	ts.Check(json.Unmarshal([]byte(lines[len(lines)-1]), &last))
	return last
}

// reportSays compares numbers of the report: "exit=0 total.stored=7", and the
// length of what is no number: "failed=1". What the report leaves out is 0.
func reportSays(ts *testscript.TestScript, neg bool, args []string) {
	line := lastLine(ts)
	report, ok := line["report"].(map[string]any)
	if !ok || line["event"] != "report" {
		ts.Fatalf("the last line is no report")
	}
	addsUp(ts, report)
	for _, arg := range args {
		key, want, _ := strings.Cut(arg, "=")
		var v any = report
		if key == "exit" {
			v = line
		}
		for part := range strings.SplitSeq(key, ".") {
			m, _ := v.(map[string]any)
			v = m[part]
		}
		if got := measure(v); got != want {
			ts.Fatalf("the report's %s is %s, want %s", key, got, want)
		}
	}
}

func measure(v any) string {
	switch v := v.(type) {
	case nil:
		return "0"
	case []any:
		return strconv.Itoa(len(v))
	case map[string]any:
		return strconv.Itoa(len(v))
	}
	return fmt.Sprint(v)
}

// addsUp holds for every report, in each folder and in all, and the folders
// make up the total.
func addsUp(ts *testscript.TestScript, report map[string]any) {
	sums := map[string]float64{}
	check := func(name string, v any) map[string]any {
		c := v.(map[string]any)
		settled := 0.0
		for _, k := range []string{"known", "stored", "duplicate", "vanished", "filtered", "failed", "in_doubt", "accepted", "unreached"} {
			settled += c[k].(float64)
		}
		if listed := c["listed"].(float64); listed != settled {
			ts.Fatalf("%s: %v listed, %v accounted for", name, listed, settled)
		}
		return c
	}
	for name, f := range report["folders"].(map[string]any) {
		for k, n := range check(name, f) {
			sums[k] += n.(float64)
		}
	}
	for k, n := range check("total", report["total"]) {
		if sums[k] != n.(float64) {
			ts.Fatalf("total %s is %v, the folders make %v", k, n, sums[k])
		}
	}
}

// fields of --json, by kind of event: those that must be there, then those
// that may. A number that is 0 is left out.
var fields = map[string][2]string{
	"expected":  {"folder", "count bytes"},
	"planned":   {"", "folder count bytes"},
	"read":      {"folder bytes", "id count"},
	"stored":    {"folder count", "bytes id"},
	"duplicate": {"folder count", "bytes id"},
	"vanished":  {"folder", "count id bytes"},
	"failed":    {"folder error", "id count bytes"},
	"in_doubt":  {"folder error", "id count bytes"},
	"retrying":  {"error", "folder id count"},
	"recovered": {"folder count", "bytes"},
	"missing":   {"folder count", ""},
	"note":      {"error", "folder"},
	"folder":    {"folder", "count bytes"},
	"removed":   {"folder id count", ""},
	"checked":   {"folder count", "bytes"},
	"report":    {"exit report", "error"},
	"verified":  {"exit messages bytes foreign", "problems quick regained marked raw against sample error"},
	"status":    {"exit archive format messages bytes folders accounts runs failed in_doubt accepted lost", "layout"},
	"repaired":  {"exit messages bytes locations adopted lost set_aside manifest", "passed files missing"},
	"sound":     {"exit", ""},
	"differs":   {"what", "from_folder to_folder from_id to_id message_id detail"},
	"compared":  {"exit folders total", "error"},
}

func events(ts *testscript.TestScript, neg bool, args []string) {
	seen := map[string]bool{}
	lines := strings.Split(strings.TrimSuffix(ts.ReadFile("stdout"), "\n"), "\n")
	for i, text := range lines {
		var line map[string]any
		ts.Check(json.Unmarshal([]byte(text), &line))
		kind, _ := line["event"].(string)
		known, ok := fields[kind]
		if !ok {
			ts.Fatalf("line %d: unknown event %q", i+1, kind)
		}
		seen[kind] = true
		if end := kind == "report" || kind == "verified" || kind == "repaired" || kind == "sound" || kind == "compared" || kind == "status"; end != (i == len(lines)-1) {
			ts.Fatalf("line %d of %d is a %s", i+1, len(lines), kind)
		}
		must := strings.Fields(known[0])
		may := append(strings.Fields("time event "+known[1]), must...)
		for _, name := range must {
			if _, ok := line[name]; !ok {
				ts.Fatalf("line %d: a %s without %s: %s", i+1, kind, name, text)
			}
		}
		for name := range line {
			if !strings.Contains(" "+strings.Join(may, " ")+" ", " "+name+" ") {
				ts.Fatalf("line %d: a %s with %s: %s", i+1, kind, name, text)
			}
		}
	}
	for _, kind := range args {
		if seen[kind] == neg {
			ts.Fatalf("event %s: %v", kind, seen[kind])
		}
	}
}

// tb lets the test servers fail a script.
type tb struct{ *testscript.TestScript }

func (tb) Helper()                            {}
func (t tb) Skipf(format string, args ...any) { t.Fatalf("skip: "+format, args...) }
func (t tb) Cleanup(f func())                 { t.Defer(f) }

var _ testmail.TB = tb{}
