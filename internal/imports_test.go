// Package internal holds no code: only the test of who may import whom.
package internal

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// arrows is who may import whom, by folder below the module's root; the
// standard library is free to all. A name that ends in "/..." is all below it.
//
// It began as the table of the design. The code has since shown that:
// sources and sinks share the vocabulary of locations; a sink's State and
// Place are types of sink, so spool knows sink; foldername is its own package
// because two sinks need it, and the pipeline to see which names a file system
// takes for the same; durable knows mail, for what a full or broken disk means to
// a run is said once for all who write; verify and job stand between pipeline and cmd; x/sys is behind
// durable's system calls alone.
var arrows = map[string][]string{
	"internal/mail":        {},
	"internal/location":    {},
	"internal/durable":     {"internal/mail", "golang.org/x/sys/..."},
	"internal/netconn":     {},
	"internal/secret":      {},
	"internal/foldername":  {"internal/mail", "golang.org/x/text/..."},
	"internal/maildirname": {"internal/mail"},
	"internal/utf7":        {},
	"internal/mboxrd":      {"internal/mail", "github.com/emersion/go-mbox"},
	"internal/spool":       {"internal/mail", "internal/durable", "sink"},

	"source":       {"internal/mail", "internal/location"},
	"sink":         {"internal/mail", "internal/location"},
	"source/local": {"source", "internal/mail", "internal/location", "internal/foldername", "internal/utf7"},
	"source/imap":  {"source", "internal/mail", "internal/location", "internal/netconn", "internal/imapconn"},
	"source/pop3":  {"source", "internal/mail", "internal/location", "internal/netconn", "internal/pop3conn"},
	"source/mbox": {"source", "source/local", "internal/mail", "internal/location", "internal/mboxrd",
		"github.com/klauspost/compress/zstd"},
	"source/maildir": {"source", "source/local", "internal/mail", "internal/location", "internal/foldername", "internal/maildirname"},
	"source/eml":     {"source", "source/local", "internal/mail", "internal/location"},
	"sink/imap":      {"sink", "internal/mail", "internal/location", "internal/imapconn"},
	"sink/mbox":      {"sink", "internal/mail", "internal/location", "internal/durable", "internal/foldername", "internal/mboxrd"},
	"sink/maildir": {"sink", "internal/mail", "internal/location", "internal/durable", "internal/foldername",
		"internal/maildirname"},
	"sink/smtp": {"sink", "internal/mail", "internal/location", "internal/netconn", "internal/smtpconn"},

	"internal/imapconn": {"internal/mail", "internal/location", "internal/netconn", "internal/secret", "internal/utf7",
		"github.com/emersion/go-imap/v2/...", "github.com/emersion/go-sasl"},
	"internal/pop3conn": {"internal/mail", "internal/netconn", "internal/secret",
		"github.com/knadh/go-pop3", "github.com/emersion/go-sasl"},
	"internal/catalog":  {"internal/mail", "internal/durable", "source", "sink", "modernc.org/sqlite"},
	"internal/verify":   {"internal/catalog", "internal/mail", "sink"},
	"internal/repair":   {"internal/catalog", "internal/location", "internal/mail", "sink"},
	"internal/archive":  {"internal/catalog", "internal/mail", "source", "source/local", "sink"},
	"internal/smtpconn": {"internal/mail", "internal/netconn", "github.com/emersion/go-smtp", "github.com/emersion/go-sasl"},
	"internal/pipeline": {"internal/mail", "internal/foldername", "internal/spool", "internal/catalog", "source", "sink",
		"golang.org/x/sync/errgroup"},
	"internal/job": {"internal/pipeline", "internal/folderplan", "internal/catalog", "internal/archive", "internal/repair", "internal/spool", "internal/location", "internal/mail",
		"internal/verify", "internal/compare", "source", "sink"},

	"internal/folderplan": {"source", "internal/mail", "internal/location", "internal/foldername", "internal/utf7"},
	"internal/compare":    {"source", "internal/mail", "internal/folderplan"},

	"internal/testmail":  {"internal/...", "source/...", "sink/...", "github.com/emersion/go-imap/v2/..."},
	"internal/powerloss": {"internal/durable"},
	"source/sourcetest":  {"internal/...", "source", "github.com/google/go-cmp/..."},
	"sink/sinktest":      {"internal/...", "sink", "github.com/google/go-cmp/..."},

	"cmd/mailhaul": {"internal/...", "source", "source/imap", "source/pop3", "source/mbox",
		"source/maildir", "source/eml", "sink", "sink/imap", "sink/mbox", "sink/maildir", "sink/smtp",
		"github.com/spf13/cobra", "github.com/spf13/pflag", "github.com/schollz/progressbar/v3", "github.com/rivo/uniseg", "golang.org/x/term"},
}

// testOnly may be imported by tests, by each other, and by the demo.
var testOnly = []string{"internal/testmail", "internal/powerloss", "source/sourcetest", "sink/sinktest"}

// guests are libraries that only the packages named may know.
var guests = map[string][]string{
	"github.com/schollz/progressbar": {"cmd/mailhaul"},
	"github.com/spf13/cobra":         {"cmd/mailhaul"},
	"modernc.org/sqlite":             {"internal/catalog"},
	"github.com/emersion/go-mbox":    {"internal/mboxrd"},
	"github.com/emersion/go-imap":    {"internal/imapconn", "internal/testmail"},
	"github.com/emersion/go-sasl":    {"internal/imapconn", "internal/pop3conn", "internal/smtpconn"},
	"github.com/emersion/go-smtp":    {"internal/smtpconn"},
	"github.com/knadh/go-pop3":       {"internal/pop3conn"},
	"golang.org/x/sys":               {"internal/durable"},
	"github.com/klauspost/compress":  {"source/mbox"},
}

const module = "mailhaul"

func TestArrows(t *testing.T) {
	for _, problem := range wrongArrows(t, os.DirFS("..")) {
		t.Error(problem)
	}
}

// wrongArrows reads the import lines of everything but tests.
func wrongArrows(t *testing.T, root fs.FS) (problems []string) {
	t.Helper()
	seen := map[string]bool{}
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := path.Base(name); name != "." && (strings.HasPrefix(base, ".") || base == "testdata") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		source, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, source, parser.ImportsOnly)
		if err != nil {
			return err
		}
		from := path.Dir(name)
		if _, known := arrows[from]; !known {
			if !seen[from] {
				problems = append(problems, fmt.Sprintf("%s: not in the table: say what it may import", from))
			}
			seen[from] = true
			return nil
		}
		seen[from] = true
		for _, line := range f.Imports {
			to, err := strconv.Unquote(line.Path.Value)
			if err != nil {
				return err
			}
			if why := wrong(from, to); why != "" {
				problems = append(problems, fmt.Sprintf("%s: imports %s: %s", name, to, why))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for from := range arrows {
		if !seen[from] {
			problems = append(problems, fmt.Sprintf("%s: in the table, but not there", from))
		}
	}
	slices.Sort(problems)
	return problems
}

// wrong says why from may not import to, or "".
func wrong(from, to string) string {
	own, isOwn := strings.CutPrefix(to, module+"/")
	if !isOwn && !strings.Contains(strings.SplitN(to, "/", 2)[0], ".") {
		return "" // the standard library
	}
	if isOwn {
		to = own
	}
	if slices.Contains(testOnly, to) && !slices.Contains(testOnly, from) && from != "cmd/mailhaul" {
		return "this is for tests and the demo only"
	}
	for library, hosts := range guests {
		if below(to, library) && !slices.Contains(hosts, from) {
			return "only " + strings.Join(hosts, " and ") + " may know it"
		}
	}
	for _, ok := range arrows[from] {
		if all, is := strings.CutSuffix(ok, "/..."); to == ok || is && below(to, all) {
			return ""
		}
	}
	return "a wrong arrow"
}

// below reports whether name is dir or lies in it.
func below(name, dir string) bool { return name == dir || strings.HasPrefix(name, dir+"/") }

// TestArrowsCanFail keeps the test above honest.
func TestArrowsCanFail(t *testing.T) {
	for _, c := range []struct{ from, to, why string }{
		{"internal/mail", "net/http", ""},
		{"internal/mail", "mailhaul/internal/catalog", "a wrong arrow"},
		{"source/imap", "mailhaul/sink/mbox", "a wrong arrow"},
		{"sink/mbox", "mailhaul/source/imap", "a wrong arrow"},
		{"sink/mbox", "mailhaul/sink/maildir", "a wrong arrow"},
		{"internal/pipeline", "mailhaul/source/imap", "a wrong arrow"},
		{"internal/pipeline", "mailhaul/sink", ""},
		{"internal/pipeline", "mailhaul/sink/mbox", "a wrong arrow"},
		{"internal/pipeline", "mailhaul/internal/testmail", "this is for tests and the demo only"},
		{"cmd/mailhaul", "mailhaul/internal/testmail", ""},
		{"cmd/mailhaul", "modernc.org/sqlite", "only internal/catalog may know it"},
		{"internal/job", "github.com/spf13/cobra", "only cmd/mailhaul may know it"},
		{"source/imap", "github.com/emersion/go-imap/v2/imapclient", "only internal/imapconn and internal/testmail may know it"},
		{"internal/imapconn", "github.com/emersion/go-imap/v2/imapclient", ""},
		{"internal/secret", "github.com/pkg/errors", "a wrong arrow"},
	} {
		if got := wrong(c.from, c.to); got != c.why {
			t.Errorf("%s imports %s: %q, want %q", c.from, c.to, got, c.why)
		}
	}

	dir := t.TempDir()
	write := func(name, text string) {
		name = filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("internal/mail/bad.go", "package mail\n\nimport (\n\t\"fmt\"\n\n\t_ \"mailhaul/sink/mbox\"\n)\n")
	write("internal/mail/bad_test.go", "package mail\n\nimport _ \"mailhaul/sink/mbox\"\n")
	write("internal/news/news.go", "package news\n")
	got := wrongArrows(t, os.DirFS(dir))
	for _, want := range []string{
		"internal/mail/bad.go: imports mailhaul/sink/mbox: a wrong arrow",
		"internal/news: not in the table: say what it may import",
		"internal/catalog: in the table, but not there",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("not noticed: %s", want)
		}
	}
	if slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "_test.go") }) {
		t.Error("a test's imports are nobody's business")
	}
}
