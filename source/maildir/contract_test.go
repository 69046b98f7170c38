package maildir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mailhaul/internal/foldername"
	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/internal/maildirname"
	"mailhaul/internal/testmail"
	"mailhaul/source"
	"mailhaul/source/sourcetest"
)

func sourceOf(t sourcetest.TB, dir string, layout string) source.Source {
	t.Helper()
	l := location.Location{Scheme: "maildir", Path: dir, Option: url.Values{"layout": {layout}}}
	src, err := Scheme().Open(t.Context(), l, location.Env{})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return src
}

// old is long enough ago for times to be trusted.
var old = time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)

// A tree is a source's directory.
type tree struct {
	tb    sourcetest.TB
	dir   string
	dots  bool
	count int
	files map[mail.Path][]string
	words map[mail.Path]maildirname.Keywords
}

func (tr *tree) must(err error) {
	tr.tb.Helper()
	if err != nil {
		tr.tb.Fatalf("%v", err)
	}
}

func (tr *tree) folder(p mail.Path) string {
	dir := tr.dir
	if name, err := foldername.Dotted(p); tr.dots && err == nil {
		dir = filepath.Join(dir, name)
	} else if parts, err := foldername.Parts(p); err == nil && p != mail.Inbox {
		dir = filepath.Join(append([]string{dir}, parts...)...)
	}
	for _, sub := range []string{"cur", "new", "tmp"} {
		tr.must(os.MkdirAll(filepath.Join(dir, sub), 0o700))
	}
	return dir
}

func (tr *tree) put(p mail.Path, messages ...testmail.Message) {
	dir := tr.folder(p)
	k := tr.words[p]
	for _, m := range messages {
		if tr.count++; k.Add(m.Flags) {
			tr.words[p] = k
			tr.must(os.WriteFile(filepath.Join(dir, "dovecot-keywords"), []byte(k.String()), 0o600))
		}
		n := maildirname.New(fmt.Sprintf("1600000000.M%dP1.host", tr.count), m.Size, m.Size).With(m.Flags, k)
		name := filepath.Join(dir, n.Dir(), n.String())
		tr.must(os.WriteFile(name, m.Raw(), 0o600))
		tr.must(os.Chtimes(name, m.Date, m.Date))
		tr.files[p] = append(tr.files[p], name)
	}
	tr.age(dir, old.Add(time.Duration(tr.count)*time.Second))
}

// age sets the times of what tells the state of a folder.
func (tr *tree) age(dir string, at time.Time) {
	for _, sub := range []string{"cur", "new", "dovecot-keywords"} {
		if err := os.Chtimes(filepath.Join(dir, sub), at, at); !errors.Is(err, os.ErrNotExist) {
			tr.must(err)
		}
	}
}

func TestContract(t *testing.T) {
	for _, c := range []struct {
		name, layout string
		dots         bool
	}{
		{"nested", "nested", false},
		{"nested, found out", "auto", false},
		{"maildir++", "maildir++", true},
		{"maildir++, found out", "auto", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			cursors := 0
			sourcetest.Run(t, func(tb sourcetest.TB, folders []sourcetest.Folder) sourcetest.Store {
				dir, err := os.MkdirTemp(t.TempDir(), "")
				if err != nil {
					tb.Fatalf("%v", err)
				}
				tr := &tree{tb: tb, dir: dir, dots: c.dots, files: map[mail.Path][]string{}, words: map[mail.Path]maildirname.Keywords{}}
				for _, f := range folders {
					for i, m := range f.Messages {
						// There are 26 letters, and none for flags of unknown systems.
						var flags []string
						for _, x := range m.Flags {
							if n := (maildirname.Keywords{}); x[0] != '\\' && !n.Add(mail.Flags{x}) && x != mail.Forwarded {
								continue
							}
							flags = append(flags, string(x))
						}
						m.Flags = mail.NewFlags(flags...)
						f.Messages[i] = m
					}
					tr.put(f.Path, f.Messages...)
				}
				return sourcetest.Store{
					Source:  sourceOf(tb, dir, c.layout),
					Deliver: func(p mail.Path, messages ...testmail.Message) { cursors++; tr.put(p, messages...) },
					Remove: func(p mail.Path, i int) {
						tr.must(os.Remove(tr.files[p][i]))
					},
				}
			})
			if cursors == 0 {
				t.Error("cursors were not tried")
			}
		})
	}
}

// listed is a listing, as text.
func listed(t *testing.T, src source.Source, p mail.Path) (all []string, entries []source.Entry, box source.Mailbox) {
	t.Helper()
	box, err := src.Open(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { box.Close() })
	for e, err := range box.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
		all = append(all, fmt.Sprintf("%s %d (%s)", e.ID, e.Size, e.Flags.Key()))
	}
	return all, entries, box
}

func fill(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		name = filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNames(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, map[string]string{
		"new/1.a.host": "a", "cur/2.b.host,S=2:2,FS": "bb", "cur/3.c.host;2,PR": "ccc", "cur/4.d.host!2,DT": "d", "cur/5.e.host:1,x": "e",
		"cur/6.f.host:2,Sab": "f", "cur/7.g:2,": "g", "cur/7.g,S=1:2,S": "g", "cur/.hidden": "x", "tmp/8.h": "x", "dovecot-keywords": "0 Work\n1 $Junk\n",
	})
	if err := os.Symlink("7.g:2,", filepath.Join(dir, "cur", "9.link")); err != nil {
		t.Skip(err)
	}
	src := sourceOf(t, dir, "auto")
	got, entries, box := listed(t, src, mail.Inbox)
	want := []string{"1.a.host 1 ()", `2.b.host 2 (\Flagged \Seen)`, `3.c.host 3 ($Forwarded \Answered)`, `4.d.host 1 (\Deleted \Draft)`, "5.e.host 1 ()",
		`6.f.host 1 ($Junk Work \Seen)`, `7.g 1 (\Seen)`, "7.g/2 1 ()"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if notes := strings.Join(src.(source.Noter).Notes(), "\n"); !strings.Contains(notes, "links or no files were left out") {
		t.Errorf("notes are %q", notes)
	}

	// Another program sets a flag, takes a message from new to cur, and
	// spoils one, between List and Fetch.
	rename := func(from, to string) {
		if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	rename("new/1.a.host", "cur/1.a.host:2,S")
	rename("cur/2.b.host,S=2:2,FS", "cur/2.b.host,S=2:2,FRS")
	fill(t, dir, map[string]string{"cur/3.c.host;2,PR": "longer"})
	bodies := map[source.ID]string{}
	for m, err := range box.Fetch(t.Context(), func(bool) []source.Entry { g := entries; entries = nil; return g }) {
		if err != nil {
			if mail.ScopeOf(err, mail.ScopeRun) != mail.ScopeMessage || m.ID != "3.c.host" {
				t.Errorf("fetch: %v", err)
			}
			continue
		}
		b, err := io.ReadAll(m.Body)
		if err != nil {
			t.Error(err)
		}
		bodies[m.ID] = string(b)
	}
	if len(bodies) != 7 || bodies["1.a.host"] != "a" || bodies["2.b.host"] != "bb" {
		t.Errorf("got %q", bodies)
	}
	if _, err := os.Stat(filepath.Join(dir, "cur", "1.a.host:2,S")); err != nil {
		t.Error(err)
	}
}

func TestTrees(t *testing.T) {
	for _, c := range []struct {
		name  string
		dirs  []string
		want  []string
		notes string
	}{
		{"dovecot", []string{"cur", ".Sent/cur", ".Work.Projects/cur", ".Entw&APw-rfe/new", ".Größe/cur", ".a%2Eb/cur", ".nothing", "beside/cur"},
			[]string{"Entwürfe", "Größe", "INBOX", "Sent", "Work/Projects", "a.b"}, "layout=nested"},
		{"nested", []string{"INBOX/cur", "INBOX/.sub/cur", "Work/cur", "Work/Projects/cur", "only/below/new", ".notmuch/cur2"},
			[]string{"INBOX", "INBOX/sub", "Work", "Work/Projects", "only/below"}, ""},
		{"two names in one", []string{"inbox/cur", "cur"}, []string{"INBOX", "inbox"}, ""},
		{"ours within", []string{"a/cur", "b/.mailhaul", "b/INBOX/cur"}, []string{"a"}, "b: an archive of mailhaul"},
		{"nothing", []string{"a/b"}, nil, "there is no Maildir"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, d := range c.dirs {
				fill(t, dir, map[string]string{d + "/1": ""})
			}
			src := sourceOf(t, dir, "auto")
			folders, err := src.Folders(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range folders {
				got = append(got, string(f.Path))
				if _, entries, _ := listed(t, src, f.Path); len(entries) != 1 {
					t.Errorf("%s has %d messages", f.Path, len(entries))
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			notes := strings.Join(src.(source.Noter).Notes(), "\n")
			if !strings.Contains(notes, c.notes) || (c.notes == "") != (notes == "") {
				t.Errorf("notes are %q, want %q", notes, c.notes)
			}
		})
	}
}

// TestUnsettled: a folder that was changed a moment ago has no state.
func TestUnsettled(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, map[string]string{"cur/1": "x"})
	src := sourceOf(t, dir, "auto")
	_, _, box := listed(t, src, mail.Inbox)
	if c := box.Listing().Cursor; c != "" {
		t.Errorf("cursor is %q", c)
	}
	box.(*mailbox).now = func() time.Time { return time.Now().Add(time.Minute) }
	for range box.List(t.Context(), "") {
	}
	if c := box.Listing().Cursor; c == "" {
		t.Error("no cursor")
	}
}

func TestRefused(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, map[string]string{"file": "", "ours/mailhaul.manifest": "", "dots/mailhaul.state/x": ""})
	for name, want := range map[string]string{"file": "is a file", "ours": "archive of mailhaul", "dots": "archive of mailhaul", "missing": "no such"} {
		l := location.Location{Scheme: "maildir", Path: filepath.Join(dir, name)}
		if _, err := Scheme().Open(context.Background(), l, location.Env{}); !errors.Is(err, location.ErrUsage) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
