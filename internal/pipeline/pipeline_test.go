package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mailhaul/internal/catalog"
	"mailhaul/internal/foldername"
	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/internal/spool"
	"mailhaul/sink"
	"mailhaul/sink/maildir"
	"mailhaul/sink/mbox"
	"mailhaul/source"
)

// An archive is one directory that runs write to, one after the other.
type archive struct {
	t       *testing.T
	dir     string
	format  string
	layout  string // of Maildir; empty: nested
	account string
	options Options
	spool   int64
	events  []Event
	mu      sync.Mutex
	last    Report
}

func newArchive(t *testing.T, format string) *archive {
	a := &archive{t: t, dir: filepath.Join(t.TempDir(), "archive"), format: format, account: "fake:ann", spool: spool.Budget}
	if format == "maildir" {
		a.options.Dedup = DedupArchive
	}
	a.options.Sleep = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	return a
}

func (a *archive) openSink(ctx context.Context) (sink.Sink, error) {
	var r sink.Registry
	r.Register(mbox.Scheme())
	r.Register(maildir.Scheme())
	layout := ""
	if a.layout != "" {
		layout = "?layout=" + url.QueryEscape(a.layout)
	}
	return r.Open(ctx, a.format+":"+a.dir+layout, location.Env{})
}

// state is the name of the catalog's directory.
func (a *archive) state() string {
	if a.layout != "" {
		return "mailhaul.state"
	}
	return ".mailhaul"
}

func (a *archive) sink() sink.Sink {
	s, err := a.openSink(a.t.Context())
	if err != nil {
		a.t.Fatal(err)
	}
	return s
}

func (a *archive) catalog() *catalog.Catalog {
	c, err := catalog.Open(a.t.Context(), catalog.Home{Dir: a.dir, State: a.state(), Format: a.format, Layout: a.layout}, true, "test")
	if err != nil {
		a.t.Fatal(err)
	}
	if err := c.Admit(a.t.Context(), a.account, true); err != nil {
		a.t.Fatal(err)
	}
	return c
}

// run backs src up once.
func (a *archive) run(ctx context.Context, src source.Source) (Report, error) {
	a.t.Helper()
	s, c := a.sink(), a.catalog()
	defer s.Close()
	p := &Pipeline{Source: src, Sink: s, Catalog: c, Account: a.account, Options: a.options,
		Spool: spool.New(filepath.Join(a.dir, a.state()), a.spool),
		Observe: func(e Event) {
			a.mu.Lock()
			a.events = append(a.events, e)
			a.mu.Unlock()
		}}
	report, err := p.Run(ctx)
	if cerr := c.Close(); cerr != nil {
		a.t.Error(cerr)
	}
	for path, n := range report.Folders {
		if n.Listed != n.Settled() {
			a.t.Errorf("%s: %d listed, %d settled: %+v", path, n.Listed, n.Settled(), *n)
		}
	}
	a.last = report
	return report, err
}

// must runs without an error.
func (a *archive) must(src source.Source) Report {
	a.t.Helper()
	r, err := a.run(a.t.Context(), src)
	if err != nil {
		a.t.Fatal(err)
	}
	return r
}

// holds compares the archive's messages with what is wanted: texts by folder,
// as the catalog's locations show them, however they are stored.
func (a *archive) holds(want map[mail.Path][]string) {
	a.t.Helper()
	got := map[mail.Path][]string{}
	s := a.sink()
	defer s.Close()
	lines := map[string]catalog.Line{} // the last word on each location
	err := catalog.ReadManifest(a.dir, func(l catalog.Line) error {
		if l.Place != "" {
			lines[l.Account+"|"+l.Path+"|"+l.Epoch+"|"+l.ID] = l
		}
		return nil
	})
	if err != nil {
		a.t.Fatal(err)
	}
	for _, l := range lines {
		raw, err := rebuilt(a.t.Context(), s, l)
		if err != nil {
			a.t.Fatal(err)
		}
		got[mail.Path(l.Path)] = append(got[mail.Path(l.Path)], string(raw))
	}
	for _, m := range []map[mail.Path][]string{got, want} {
		for _, texts := range m {
			slices.Sort(texts)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		a.t.Errorf("archive (-want +got):\n%s", diff)
	}
}

// rebuilt is the message that a line of the manifest leads to, as it came.
func rebuilt(ctx context.Context, s sink.Sink, l catalog.Line) ([]byte, error) {
	f, err := s.Open(ctx, mail.Path(l.Folder), false)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := f.(sink.Reader).Read(ctx, sink.Place(l.Place))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", l.Folder, l.Place, err)
	}
	defer r.Close()
	ends, err := mail.ParseEnds(l.Ends)
	if err != nil {
		return nil, err
	}
	var raw bytes.Buffer
	w := ends.Restore(&raw)
	if _, err := io.Copy(w, r); err != nil {
		return nil, err
	}
	err = w.Close()
	return raw.Bytes(), err
}

// stored counts the messages that lie in the archive's folders.
func (a *archive) stored() (n int) {
	a.t.Helper()
	s := a.sink()
	defer s.Close()
	paths, err := s.(sink.Lister).Folders(a.t.Context())
	if err != nil {
		a.t.Fatal(err)
	}
	for _, p := range paths {
		f, err := s.Open(a.t.Context(), p, false)
		if err != nil {
			a.t.Fatal(err)
		}
		for _, err := range f.(sink.Scanner).Scan(a.t.Context(), false) {
			if err != nil {
				a.t.Fatal(err)
			}
			n++
		}
		f.Close()
	}
	return n
}

func (s *fake) texts() map[mail.Path][]string {
	all := map[mail.Path][]string{}
	for _, f := range s.folders {
		for _, m := range f.messages {
			all[f.path] = append(all[f.path], m.raw)
		}
	}
	return all
}

func letter(i int) string {
	return fmt.Sprintf("From: a%d@example.org\r\nSubject: %d\r\n\r\nFrom here\r\nbody %d\r\n", i, i, i)
}

// account is a fake with some folders, with twins within and across them.
func account() *fake {
	s := &fake{}
	for i := range 7 {
		s.folder("INBOX").add(letter(i), `\Seen`)
	}
	s.folder("INBOX").add(letter(3))
	for i := range 4 {
		s.folder("Work/Projects").add(letter(10+i), "Important")
	}
	s.folder("Work/Projects").add(letter(3))
	s.folder("Empty")
	return s
}

var formats = []string{"mbox", "maildir"}

func each(t *testing.T, f func(t *testing.T, a *archive)) {
	for _, format := range formats {
		t.Run(format, func(t *testing.T) { f(t, newArchive(t, format)) })
	}
}

func TestBackupAndAgain(t *testing.T) {
	each(t, func(t *testing.T, a *archive) {
		s := account()
		r := a.must(s)
		if r.Total.Listed != 13 || r.Total.Stored+r.Total.Duplicate != 13 || r.Total.Duplicate == 0 {
			t.Errorf("report is %+v", r.Total)
		}
		a.holds(s.texts())
		before := a.stored()
		if want := map[string]int{"mbox": 12, "maildir": 13}[a.format]; before != want {
			t.Errorf("%d messages lie in the archive, want %d", before, want)
		}
		s.bodies, s.opens = 0, 0
		r = a.must(s)
		if s.bodies != 0 || s.opens != 0 || r.Total.Known != 13 {
			t.Errorf("second run: %d bodies, %d folders opened, %+v", s.bodies, s.opens, r.Total)
		}
		// Without CONDSTORE all is listed, and still nothing is fetched.
		for _, f := range s.folders {
			f.noState = true
		}
		r = a.must(s)
		if s.bodies != 0 || s.opens != 3 || r.Total.Known != 13 || a.stored() != before {
			t.Errorf("third run: %d bodies, %d folders opened, %+v", s.bodies, s.opens, r.Total)
		}
	})
}

func TestDedupScopes(t *testing.T) {
	for _, c := range []struct {
		format string
		dedup  Dedup
		stored int // files or entries
		copies int64
	}{
		{"mbox", DedupFolder, 12, 12}, {"mbox", DedupArchive, 11, 11}, {"mbox", DedupOff, 13, 13},
		{"maildir", DedupFolder, 13, 12}, {"maildir", DedupArchive, 13, 11}, {"maildir", DedupOff, 13, 13},
	} {
		t.Run(fmt.Sprint(c.format, c.dedup), func(t *testing.T) {
			a := newArchive(t, c.format)
			a.options.Dedup = c.dedup
			s := account()
			r := a.must(s)
			a.holds(s.texts())
			if n := a.stored(); n != c.stored || r.Total.Stored != c.copies {
				t.Errorf("%d lie there and %d were stored, want %d and %d", n, r.Total.Stored, c.stored, c.copies)
			}
			if r.Total.Saved == 0 && r.Total.Duplicate > 0 {
				t.Error("duplicates saved nothing")
			}
			// A new numbering writes nothing again, whatever the scope.
			for _, f := range s.folders {
				f.validity++
			}
			r = a.must(s)
			if n := a.stored(); n != c.stored || r.Total.Duplicate != 13 {
				t.Errorf("renumbered: %d lie there, want %d; %+v", n, c.stored, r.Total)
			}
		})
	}
}

func TestOnlyWhatIsNew(t *testing.T) {
	each(t, func(t *testing.T, a *archive) {
		s := account()
		a.must(s)
		stored := a.stored()
		in := s.folder("INBOX")
		in.add(letter(20))
		in.add(letter(21), `\Flagged`)
		in.reflag(0, `\Seen`, `\Answered`, "Todo")
		in.reflag(1)
		s.bodies = 0
		r := a.must(s)
		if c := r.Folders["INBOX"]; s.bodies != 2 || c.Stored != 2 || c.Flagged != 2 || c.Known != 8 || c.Listed != 10 {
			t.Errorf("%d bodies, %+v", s.bodies, *c)
		}
		if s.opens != 4 { // three at first, then the changed one
			t.Errorf("%d folders were opened", s.opens)
		}
		a.holds(s.texts())
		if a.stored() != stored+2 {
			t.Errorf("%d messages, want two more than %d", a.stored(), stored)
		}
		flags := map[string][]string{}
		catalog.ReadManifest(a.dir, func(l catalog.Line) error {
			if l.Path == "INBOX" {
				flags[l.ID] = l.Flags
			}
			return nil
		})
		if diff := cmp.Diff(flags["1"], []string{"Todo", `\Answered`, `\Seen`}); diff != "" || len(flags["2"]) != 0 {
			t.Error(diff, flags["2"])
		}
	})
}

func TestMovedMessages(t *testing.T) {
	each(t, func(t *testing.T, a *archive) {
		s := account()
		a.must(s)
		stored := a.stored()
		in, work := s.folder("INBOX"), s.folder("Work/Projects")
		for _, i := range []int{5, 1} { // moved away
			work.add(in.messages[i].raw)
			in.expunge(i)
		}
		r := a.must(s)
		if c := r.Folders["INBOX"]; c.Listed != 6 || c.Known != 6 {
			t.Errorf("INBOX: %+v", *c)
		}
		if c := r.Folders["Work/Projects"]; c.Listed != 7 || c.Known != 5 || c.Stored+c.Duplicate != 2 {
			t.Errorf("Work/Projects: %+v", *c)
		}
		if n := a.stored(); n != stored+2 {
			t.Errorf("%d lie there, before %d", n, stored)
		}
		in.add(work.messages[5].raw) // and one of them back
		work.expunge(5)
		a.must(s)
		if n := a.stored(); n != stored+2 {
			t.Errorf("moved back: %d lie there, want %d", n, stored+2)
		}
	})
}

func TestHoleInAPartialListingIsFound(t *testing.T) {
	each(t, func(t *testing.T, a *archive) {
		s := account()
		a.must(s)
		// A message that the server had not shown before, and calls unchanged.
		in := s.folder("INBOX")
		late := in.add(letter(77))
		late.modseq = 1
		in.add(letter(78))
		a.must(s)
		a.holds(s.texts())
	})
}

func TestRewoundServer(t *testing.T) {
	each(t, func(t *testing.T, a *archive) {
		s := account()
		a.must(s)
		all := s.texts()
		in := s.folder("INBOX")
		in.messages, in.next, in.modseq = in.messages[:5], 6, 4
		in.add(letter(50)) // takes the number that another message had
		stored := a.stored()
		a.must(s)
		if n := a.stored(); n != stored+1 {
			t.Errorf("%d lie there, want %d", n, stored+1)
		}
		all["INBOX"] = append(all["INBOX"], letter(50))
		for _, m := range in.messages[:5] { // their old locations are history and stay in the manifest
			all["INBOX"] = append(all["INBOX"], m.raw)
		}
		a.holds(all)
	})
}

func TestFailedMessageIsNamedAndTriedAgain(t *testing.T) {
	each(t, func(t *testing.T, a *archive) {
		s := account()
		bad := true
		s.fault = func(_ string, f *fakeFolder, id source.ID) error {
			if bad && f.path == "INBOX" && id == "3" {
				return &mail.Error{Op: "fetch", Scope: mail.ScopeMessage, Err: errors.New("server says no")}
			}
			return nil
		}
		for n := range 3 {
			r := a.must(s)
			if c := r.Folders["INBOX"]; c.Failed != 1 || len(r.Failed) != 1 || r.Failed[0].ID != "3" || !strings.Contains(r.Failed[0].Reason, "server says no") {
				t.Errorf("run %d: %+v, %+v", n, *c, r.Failed)
			}
		}
		s.bodies, bad = 0, false
		if r := a.must(s); r.Folders["INBOX"].Stored+r.Folders["INBOX"].Duplicate != 1 || s.bodies != 1 || len(r.Failed) != 0 {
			t.Errorf("%d bodies, %+v", s.bodies, *r.Folders["INBOX"])
		}
		a.holds(s.texts())
	})
}

func TestWhatDoesNotComeIsAskedForAlone(t *testing.T) {
	each(t, func(t *testing.T, a *archive) {
		s := account()
		s.folder("INBOX").messages[2].omit = 1
		s.folder("INBOX").messages[4].omit = 99
		s.folder("Work/Projects").messages[0].omit = 99
		gone := s.folder("Work/Projects").messages[1]
		s.fault = func(_ string, f *fakeFolder, id source.ID) error {
			if f.path == "Work/Projects" && id == "3" { // meanwhile another is deleted
				for i, m := range f.messages {
					if m == gone {
						f.expunge(i)
					}
				}
			}
			return nil
		}
		gone.omit = 99
		r := a.must(s)
		if c := r.Folders["INBOX"]; c.Failed != 1 || c.Vanished != 0 || c.Stored+c.Duplicate != 7 {
			t.Errorf("INBOX: %+v", *c)
		}
		if c := r.Folders["Work/Projects"]; c.Failed != 1 || c.Vanished != 1 {
			t.Errorf("Work/Projects: %+v", *c)
		}
	})
}

func TestDroppedConnectionGoesOn(t *testing.T) {
	each(t, func(t *testing.T, a *archive) {
		s := &fake{}
		for i := range 60 {
			s.folder("INBOX").add(letter(i))
		}
		a.options.Batch.Messages = 5
		n := 0
		s.fault = func(string, *fakeFolder, source.ID) error {
			if n++; n%10 == 0 {
				return &mail.Error{Op: "fetch", Scope: mail.ScopeFolder, Temporary: true, Err: io.ErrUnexpectedEOF}
			}
			return nil
		}
		r := a.must(s)
		if c := r.Folders["INBOX"]; c.Listed != 60 || c.Stored != 60 || s.bodies > 70 {
			t.Errorf("%d bodies, %+v", s.bodies, *c)
		}
		a.holds(s.texts())
	})
}

func TestTemporaryErrorsEnd(t *testing.T) {
	a := newArchive(t, "mbox")
	s := account()
	s.fault = func(_ string, f *fakeFolder, _ source.ID) error {
		if f.path == "INBOX" {
			return &mail.Error{Op: "fetch", Scope: mail.ScopeFolder, Temporary: true, Err: io.ErrUnexpectedEOF}
		}
		return nil
	}
	r := a.must(s) // one folder's trouble is in the report
	if len(r.Failed) != 1 || r.Failed[0].ID != "" || r.Folders["INBOX"].Unreached != 8 || r.Folders["Work/Projects"].Stored != 5 {
		t.Errorf("%+v, %+v", r.Failed, r.Total)
	}
	retries := 0
	for _, e := range a.events {
		if e.Kind == Retrying {
			retries++
		}
	}
	if retries != tries-1 {
		t.Errorf("%d retries", retries)
	}
}

// TestGapsInTheList: what cannot be listed is named by every run, which has not
// brought everything then.
func TestGapsInTheList(t *testing.T) {
	each(t, func(t *testing.T, a *archive) {
		s := account()
		s.gaps = []string{"one line of the list could not be understood"}
		for range 2 {
			r := a.must(s)
			if len(r.Failed) != 1 || r.Failed[0].Folder != "" || r.Failed[0].Reason != s.gaps[0] {
				t.Errorf("%+v", r.Failed)
			}
			a.holds(s.texts())
		}
		s.gaps = nil
		if r := a.must(s); len(r.Failed) != 0 {
			t.Errorf("%+v", r.Failed)
		}
	})
}

func TestAccountErrorEndsTheRun(t *testing.T) {
	a := newArchive(t, "mbox")
	s := account()
	s.fault = func(string, *fakeFolder, source.ID) error {
		return &mail.Error{Op: "login", Scope: mail.ScopeAccount, Err: mail.ErrLogin}
	}
	r, err := a.run(t.Context(), s)
	if !errors.Is(err, mail.ErrLogin) || r.Total.Unreached != 13 {
		t.Errorf("%v, %+v", err, r.Total)
	}
}

func TestInterruptCommitsWhatWasRead(t *testing.T) {
	each(t, func(t *testing.T, a *archive) {
		s := &fake{}
		for i := range 100 {
			s.folder("INBOX").add(letter(i))
		}
		ctx, cancel := context.WithCancel(t.Context())
		s.fault = func(_ string, _ *fakeFolder, id source.ID) error {
			if id == "41" {
				cancel()
			}
			return nil
		}
		r, err := a.run(ctx, s)
		if !errors.Is(err, context.Canceled) || r.Total.Stored < 40 || r.Total.Unreached != 100-r.Total.Stored {
			t.Fatalf("%v, %+v", err, r.Total)
		}
		s.fault, s.bodies = nil, 0
		if r := a.must(s); int64(s.bodies) != r.Total.Stored || r.Total.Known < 40 {
			t.Errorf("%d bodies, %+v", s.bodies, r.Total)
		}
		a.holds(s.texts())
		if n := a.stored(); n != 100 {
			t.Errorf("%d lie there", n)
		}
	})
}

func TestServersIdentitySparesTheDownload(t *testing.T) {
	for _, format := range formats {
		for _, dedup := range []Dedup{DedupFolder, DedupArchive, DedupOff} {
			t.Run(fmt.Sprint(format, dedup), func(t *testing.T) {
				a := newArchive(t, format)
				a.options.Dedup = dedup
				s := &fake{}
				for i := range 20 {
					s.folder("INBOX").add(letter(i)).global = fmt.Sprint("G:", i)
					s.folder("All").add(letter(i)).global = fmt.Sprint("G:", i)
				}
				r := a.must(s)
				a.holds(s.texts())
				if s.bodies != 20 {
					t.Errorf("%d bodies for twenty messages; %+v", s.bodies, r.Total)
				}
			})
		}
	}
}

func TestPromiseOfIdentityIsGuardedBySize(t *testing.T) {
	a := newArchive(t, "maildir")
	s := &fake{}
	s.folder("INBOX").add(letter(1)).global = "G:1"
	a.must(s)
	s.folder("All").add(letter(100)).global = "G:1" // the server is wrong
	a.must(s)
	a.holds(s.texts())
}

// TestServersPromiseIsAudited: one in a hundred is looked into, and a single lie
// ends the trust for good.
func TestServersPromiseIsAudited(t *testing.T) {
	each(t, func(t *testing.T, a *archive) {
		s := &fake{}
		audits := 0
		for i := range 300 {
			id := fmt.Sprint("G:", i)
			if audited(id) {
				audits++
			}
			s.folder("INBOX").add(letter(1000 + i)).global = id
		}
		if audits == 0 || audits > 12 {
			t.Fatalf("%d of 300 are audited", audits)
		}
		a.must(s)
		for i := range 300 {
			s.folder("All").add(letter(1000 + i)).global = fmt.Sprint("G:", i)
		}
		s.bodies = 0
		a.must(s)
		if s.bodies != audits {
			t.Errorf("%d bodies for %d audits", s.bodies, audits)
		}
		for i := range 300 { // of the same size, and not the same
			s.folder("Other").add(strings.ToUpper(letter(1000 + i))).global = fmt.Sprint("G:", i)
		}
		r := a.must(s)
		if !strings.Contains(strings.Join(r.Notes, "\n"), "its word is not taken any more") {
			t.Errorf("notes are %q", r.Notes)
		}
		a.must(s) // what was taken on its word is downloaded now
		a.holds(s.texts())
		for i := range 20 {
			s.folder("Last").add(letter(1000 + i)).global = fmt.Sprint("G:", i)
		}
		s.bodies = 0
		if a.must(s); s.bodies != 20 {
			t.Errorf("%d bodies were downloaded after the lie", s.bodies)
		}
		a.holds(s.texts())
	})
}

func TestDamagedTwinIsDownloaded(t *testing.T) {
	a := newArchive(t, "mbox")
	s := &fake{}
	raw := letter(1) + strings.Repeat("x", 100) + "\r\n" // the end is looked at in each run
	s.folder("INBOX").add(raw).global = "G:1"
	a.must(s)
	name := filepath.Join(a.dir, "INBOX.mbox")
	data, _ := os.ReadFile(name)
	fi, _ := os.Stat(name)
	os.WriteFile(name, []byte(strings.Replace(string(data), "body 1", "bodY 1", 1)), 0o600)
	os.Chtimes(name, fi.ModTime(), fi.ModTime()) // bit rot leaves no trace
	s.folder("All").add(raw).global = "G:1"
	s.bodies = 0
	r := a.must(s)
	if s.bodies != 1 || r.Folders["All"].Stored != 1 || len(r.Notes) == 0 {
		t.Errorf("%d bodies, %+v, %v", s.bodies, r.Folders["All"], r.Notes)
	}
}

func TestArchiveThatLostMessages(t *testing.T) {
	each(t, func(t *testing.T, a *archive) {
		s := account()
		a.must(s)
		whole := a.stored()
		switch a.format {
		case "mbox":
			os.Remove(filepath.Join(a.dir, "Work", "Projects.mbox"))
		case "maildir":
			names, _ := filepath.Glob(filepath.Join(a.dir, "Work", "Projects", "cur", "*"))
			for _, n := range names {
				os.Remove(n)
			}
		}
		r := a.must(s)
		if r.Missing == 0 || len(r.Lost) != 0 || a.stored() != whole {
			t.Errorf("%d missing, %d lost, %d of %d lie there", r.Missing, len(r.Lost), a.stored(), whole)
		}
		a.holds(s.texts())
		if r := a.must(s); r.Missing != 0 || r.Total.Known != 13 {
			t.Errorf("the run after: %d missing, %+v", r.Missing, r.Total)
		}
		// Gone from the server too: named by every run, until somebody puts it
		// back.
		in := s.folder("INBOX")
		in.expunge(0)
		a.must(s)
		name := filepath.Join(a.dir, map[string]string{"mbox": "INBOX.mbox", "maildir": "INBOX"}[a.format])
		if err := os.Rename(name, a.dir+".aside"); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if r := a.must(s); len(r.Lost) != 1 {
				t.Errorf("%d lost: %+v", len(r.Lost), r.Lost)
			}
		}
		os.RemoveAll(name)
		if err := os.Rename(a.dir+".aside", name); err != nil {
			t.Fatal(err)
		}
		if r := a.must(s); len(r.Lost) != 0 {
			t.Errorf("put back, and %d are lost: %+v", len(r.Lost), r.Lost)
		}
		if r := a.must(s); len(r.Lost) != 0 || r.Missing != 0 {
			t.Errorf("%d lost, %d missing", len(r.Lost), r.Missing)
		}
	})
}

func TestMailProgramsMayReflag(t *testing.T) {
	a := newArchive(t, "maildir")
	s := account()
	a.must(s)
	names, _ := filepath.Glob(filepath.Join(a.dir, "INBOX", "new", "*"))
	if len(names) == 0 {
		t.Fatal("nothing in new")
	}
	for _, n := range names { // read by somebody
		os.Rename(n, filepath.Join(a.dir, "INBOX", "cur", filepath.Base(n)+":2,S"))
	}
	s.bodies = 0
	if r := a.must(s); r.Missing != 0 || s.bodies != 0 {
		t.Errorf("%d missing, %d bodies", r.Missing, s.bodies)
	}
}

func TestSmallSpoolDoesNotStarve(t *testing.T) {
	each(t, func(t *testing.T, a *archive) {
		a.spool = spool.Large
		a.options.Batch = BatchLimit{Messages: 10_000, Bytes: 1 << 40, Age: time.Hour}
		s := &fake{}
		for i := range 30 {
			body := letter(i) + strings.Repeat("x", 200_000) + "\r\n"
			for _, p := range []mail.Path{"A", "B", "C", "D", "E"} {
				s.folder(p).add(body)
			}
		}
		a.must(s)
		a.holds(s.texts())
	})
}

func TestNamesThatFileSystemsConfuse(t *testing.T) {
	each(t, func(t *testing.T, a *archive) {
		s := &fake{}
		for i, p := range []mail.Path{"Sent", "SENT", "sent", "Gro\u0308ße", "Größe"} {
			s.folder(p).add(letter(i))
		}
		a.must(s)
		a.must(s)
		a.holds(s.texts())
		c := a.catalog()
		defer c.Close()
		boxes, _ := c.Boxes(t.Context())
		seen := map[string]bool{}
		for to := range maps.Values(boxes["fake:ann"]) {
			if f := foldername.Key(to); seen[f] {
				t.Errorf("%s is taken twice", f)
			} else {
				seen[f] = true
			}
		}
	})
}

// failing is a sink whose folders fail at one point, without effect or after it.
type failing struct {
	sink.Sink
	at func(op string, path mail.Path) (applied bool, err error)
}

type failingFolder struct {
	sink.Folder
	s    *failing
	path mail.Path
}

func (s *failing) Open(ctx context.Context, path mail.Path, create bool) (sink.Folder, error) {
	f, err := s.Sink.Open(ctx, path, create)
	if err != nil {
		return nil, err
	}
	return &failingFolder{f, s, path}, nil
}

func (f *failingFolder) Put(ctx context.Context, m *sink.Message) error {
	applied, err := f.s.at("put", f.path)
	if err == nil || applied {
		if perr := f.Folder.Put(ctx, m); perr != nil {
			return perr
		}
	}
	return err
}

func (f *failingFolder) Sync(ctx context.Context) ([]sink.Result, error) {
	applied, err := f.s.at("sync", f.path)
	if err == nil || applied {
		results, serr := f.Folder.Sync(ctx)
		if err == nil {
			return results, serr
		}
	}
	return nil, err
}

func (f *failingFolder) Read(ctx context.Context, at sink.Place) (io.ReadCloser, error) {
	return f.Folder.(sink.Reader).Read(ctx, at)
}

// TestSinkFailsBothWays lets the nth Put or Sync fail, without its effect and
// after it: what arrived is adopted, the next run brings the rest, and nothing
// is stored twice.
func TestSinkFailsBothWays(t *testing.T) {
	for _, op := range []string{"put", "sync"} {
		for _, applied := range []bool{false, true} {
			for _, scope := range []mail.Scope{mail.ScopeFolder, mail.ScopeRun} {
				t.Run(fmt.Sprint(op, applied, scope), func(t *testing.T) {
					each(t, func(t *testing.T, a *archive) { failOnce(t, a, op, applied, scope) })
				})
			}
		}
	}
}

// counting is a sink that counts what is in its folders, and in which somebody
// else is at work.
type counting struct {
	sink.Sink
	before, others int64
	held           map[mail.Path]int64
}

type countingFolder struct {
	sink.Folder
	s    *counting
	path mail.Path
	puts int64
}

func (s *counting) Open(ctx context.Context, path mail.Path, create bool) (sink.Folder, error) {
	f, err := s.Sink.Open(ctx, path, create)
	if _, ok := s.held[path]; !ok {
		s.held[path] = s.before
	}
	return &countingFolder{Folder: f, s: s, path: path}, err
}

func (f *countingFolder) Put(ctx context.Context, m *sink.Message) error {
	f.puts++
	return f.Folder.Put(ctx, m)
}

func (f *countingFolder) Sync(ctx context.Context) ([]sink.Result, error) {
	f.s.held[f.path] += f.puts + f.s.others
	f.puts = 0
	return f.Folder.Sync(ctx)
}

func (f *countingFolder) Count() int64 { return f.s.held[f.path] }

// TestDestinationCounts: the report has the numbers of the destination too, and
// says where they do not add up.
func TestDestinationCounts(t *testing.T) {
	for _, others := range []int64{0, 2, -1} {
		a := newArchive(t, "mbox")
		a.options.Dedup = DedupFolder
		s := &fake{}
		for i := range 5 {
			s.folder("INBOX").add(letter(i))
		}
		s.folder("INBOX").add(letter(0)) // is not brought twice
		c := a.catalog()
		to := &counting{Sink: a.sink(), before: 7, others: others, held: map[mail.Path]int64{}}
		p := &Pipeline{Source: s, Sink: to, Catalog: c, Account: "fake:ann", Options: a.options, Spool: spool.New(filepath.Join(a.dir, ".mailhaul"), a.spool)}
		r, err := p.Run(t.Context())
		if err = errors.Join(err, c.Close(), to.Close()); err != nil {
			t.Fatal(err)
		}
		if h := r.There["INBOX"]; h == nil || *h != (Held{Before: 7, Added: 5, After: 12 + others}) {
			t.Errorf("%d by others: %+v", others, h)
		}
		want := map[int64]string{2: "2 more than that", -1: "1 fewer than that"}[others]
		if said := strings.Join(r.Notes, "\n"); !strings.Contains(said, want) || want == "" && said != "" {
			t.Errorf("%d by others: %q", others, said)
		}
	}
}

func failOnce(t *testing.T, a *archive, op string, applied bool, scope mail.Scope) {
	a.options.Batch.Messages = 3
	a.spool = spool.Large // little room: a reader must not wait for a writer that is gone
	s := &fake{}
	for i := range 12 {
		s.folder("INBOX").add(letter(i) + strings.Repeat("x", 150_000))
		s.folder("Work").add(letter(100 + i))
	}
	n := 0
	broken := &failing{Sink: a.sink(), at: func(what string, path mail.Path) (bool, error) {
		if what == op && path == "INBOX" {
			if n++; n == 2 {
				return applied, &mail.Error{Op: op, Scope: scope, Err: errors.New("disk says no")}
			}
		}
		return false, nil
	}}
	c := a.catalog()
	p := &Pipeline{Source: s, Sink: broken, Catalog: c, Account: "fake:ann", Options: a.options, Spool: spool.New(filepath.Join(a.dir, ".mailhaul"), a.spool)}
	r, err := p.Run(t.Context())
	c.Close()
	broken.Close()
	if (err != nil) != (scope == mail.ScopeRun) || err == nil && len(r.Failed) != 1 {
		t.Errorf("error is %v, %+v", err, r.Failed)
	}
	for path, k := range r.Folders {
		if k.Listed != k.Settled() {
			t.Errorf("%s: %+v", path, *k)
		}
	}
	a.must(s)
	a.holds(s.texts())
	if n := a.stored(); n != 24 {
		t.Errorf("%d messages lie there, want 24", n)
	}
}

// TestManyFolders: of a folder that is done next to nothing stays in memory.
func TestManyFolders(t *testing.T) {
	const many = 200
	src := &fake{}
	for i := range many {
		src.folder(mail.Path(fmt.Sprint("f", i))).add(fmt.Sprintf("Subject: %d\r\n\r\nx\r\n", i))
	}
	a := newArchive(t, "mbox")
	s, c := a.sink(), a.catalog()
	defer s.Close()
	defer c.Close()
	var mu sync.Mutex
	var done int
	var heap [2]int64
	p := &Pipeline{Source: src, Sink: s, Catalog: c, Account: a.account, Options: a.options, Spool: spool.New(filepath.Join(a.dir, a.state()), a.spool),
		Observe: func(e Event) {
			mu.Lock()
			defer mu.Unlock()
			if e.Kind != Folded {
				return
			}
			if done++; done == many/10 || done == many {
				runtime.GC()
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				heap[done/many] = int64(m.HeapAlloc)
			}
		}}
	if _, err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if each := (heap[1] - heap[0]) / (many - many/10); done != many || each > 16<<10 {
		t.Errorf("%d folders; each leaves %d bytes behind", done, each)
	}
}
