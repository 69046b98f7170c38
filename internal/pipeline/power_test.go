package pipeline

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mailhaul/internal/catalog"
	"mailhaul/internal/durable"
	"mailhaul/internal/mail"
	"mailhaul/internal/powerloss"
	"mailhaul/internal/spool"
	"mailhaul/internal/testmail"
	"mailhaul/sink"
	"mailhaul/source"
	"mailhaul/source/imap"
	"mailhaul/source/pop3"
)

// layouts are the archives that power is taken from.
var layouts = []struct{ name, format, layout string }{
	{"mbox", "mbox", ""},
	{"maildir", "maildir", ""},
	{"maildir++", "maildir", "maildir++"},
}

// A powered archive is on a disk whose power may fail, and is filled from a
// server.
type powered struct {
	*archive
	base string // of the disk
	addr string
	wrap func(sink.Sink) sink.Sink

	lenient bool // what is missing in the archive is no error
	keep    bool // nothing is removed from the server
}

func newPowered(t *testing.T, format, layout, addr string) *powered {
	base, err := os.MkdirTemp("/dev/shm", "powerloss")
	if err != nil {
		base = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	a := newArchive(t, format)
	a.dir, a.layout, a.account = filepath.Join(base, "archive"), layout, "imap:ann"
	return &powered{archive: a, base: base, addr: addr, wrap: func(s sink.Sink) sink.Sink { return s }}
}

// dial connects to the server.
func (p *powered) dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", p.addr)
}

// back runs one backup. A source that removes is let do so at once, unless it is to
// keep the mail.
func (p *powered) back(src source.Source) (Report, error) {
	ctx := p.t.Context()
	defer src.Close()
	s, err := p.openSink(ctx)
	if err != nil {
		return Report{}, err
	}
	s = p.wrap(s)
	defer s.Close()
	c, err := catalog.Open(ctx, catalog.Home{Dir: p.dir, State: p.state(), Format: p.format, Layout: p.layout}, true, "power")
	if err != nil {
		return Report{}, err
	}
	o := p.options
	o.Readers, o.Batch = 1, BatchLimit{Messages: 3}
	if _, ok := src.(source.Remover); ok && !p.keep {
		o.Remove = Remove{Yes: true, Sure: true}
	}
	if err = c.Admit(ctx, p.account, false); err == nil {
		var r Report
		r, err = (&Pipeline{Source: src, Sink: s, Catalog: c, Account: p.account, Options: o, Spool: spool.New(filepath.Join(p.dir, p.state()), spool.Budget)}).Run(ctx)
		if err == nil && (len(r.Failed) > 0 || !p.lenient && len(r.Lost)+int(r.Missing) > 0) {
			err = fmt.Errorf("%d failed, %d lost, %d missing", len(r.Failed), len(r.Lost), r.Missing)
		}
		cerr := c.Close()
		if err == nil {
			err = cerr
		}
		return r, err
	}
	c.Close()
	return Report{}, err
}

func (p *powered) imap() source.Source { return imap.OverConn("ann", "secret", 1, p.dial) }

// record runs one backup whose every step may be the last.
func (p *powered) record(src source.Source) []powerloss.Point {
	p.t.Helper()
	disk := powerloss.Record(p.t, p.base, "archive/"+p.state()+"/catalog.db*")
	if _, err := p.back(src); err != nil {
		p.t.Fatal(err)
	}
	return disk.Stop()
}

// portrait is all that a mail program would see of the archive, and what the
// manifest says of it.
func (p *powered) portrait() (string, error) {
	ctx := p.t.Context()
	s, err := p.openSink(ctx)
	if err != nil {
		return "", err
	}
	defer s.Close()
	paths, err := s.(sink.Lister).Folders(ctx)
	if err != nil {
		return "", err
	}
	var all []string
	for _, path := range paths {
		f, err := s.Open(ctx, path, false)
		if err != nil {
			return "", err
		}
		for x, err := range f.(sink.Scanner).Scan(ctx, true) {
			if err != nil {
				f.Close()
				return "", err
			}
			all = append(all, fmt.Sprint(path, " ", x.Digest, " ", x.Date.Unix(), " ", x.Flags.Key()))
		}
		f.Close()
	}
	slices.Sort(all)
	var told []string
	err = catalog.ReadManifest(p.dir, func(l catalog.Line) error {
		if l.Place != "" {
			told = append(told, fmt.Sprint("manifest: ", l.Path, " ", l.Epoch, " ", l.ID, " ", l.Digest))
		}
		return nil
	})
	slices.Sort(told)
	return strings.Join(append(all, slices.Compact(told)...), "\n"), err
}

// files describes what lies in the archive, but for the catalog.
func (p *powered) files() (string, error) {
	var b strings.Builder
	err := filepath.WalkDir(p.dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Name() == p.state() {
			return fs.SkipDir
		}
		fi, err := d.Info()
		fmt.Fprintln(&b, name, fi.Mode(), fi.Size(), fi.ModTime())
		if strings.HasPrefix(d.Name(), ".mailhaul-") || strings.HasSuffix(d.Name(), ".lock") || filepath.Base(filepath.Dir(name)) == "tmp" {
			return fmt.Errorf("%s is left behind", name)
		}
		return err
	})
	return b.String(), err
}

// resume runs to the end what was cut off, and tells whether the archive is
// then as if it had not been, and a third run does nothing.
func (p *powered) resume(m *testmail.Model, golden string) error {
	if _, err := p.back(p.imap()); err != nil {
		return err
	}
	got, err := p.portrait()
	if err != nil {
		return err
	}
	if diff := cmp.Diff(golden, got); diff != "" {
		return fmt.Errorf("the archive (-want +got):\n%s", diff)
	}
	before, err := p.files()
	if err != nil {
		return err
	}
	m.Reset()
	if _, err := p.back(p.imap()); err != nil {
		return fmt.Errorf("third run: %w", err)
	}
	if n := m.Bodies(); n > 0 {
		return fmt.Errorf("a third run fetched %d bodies", n)
	}
	after, err := p.files()
	if err == nil && before != after {
		err = fmt.Errorf("a third run made of\n%sthis:\n%s", before, after)
	}
	return err
}

// flagged are the messages of a power loss: those that a death test uses, with
// flags and keywords.
func flagged() []testmail.Message {
	all := doomed()
	for i, flags := range []string{`\Seen`, "", `\Flagged Work`, `\Answered \Seen`, "Home", ""} {
		all[i].Flags = mail.NewFlags(strings.Fields(flags)...)
	}
	return all
}

// stories tell what is done before the run that is cut off, and before that
// what it finds.
var stories = []struct {
	name   string
	before func(m *testmail.Model)
	change func(m *testmail.Model)
}{
	{"first run", nil, func(m *testmail.Model) {
		m.Deliver("INBOX", flagged()[:4]...)
		m.Folder("Work")
		m.Deliver("Work", flagged()[2:]...)
	}},
	{"later run", func(m *testmail.Model) {
		m.Deliver("INBOX", flagged()[:4]...)
		m.Folder("Work")
		m.Deliver("Work", flagged()[4:]...)
	}, func(m *testmail.Model) {
		m.SetFlags("INBOX", 1, `\Seen`, `\Answered`, "Later")
		m.SetFlags("INBOX", 2, `\Seen`)
		m.SetFlags("Work", 1)
		m.Expunge("INBOX", 3)
		m.Copy("INBOX", 4, "Work")
		m.Deliver("Work", testmail.Letter("new", []byte(letter(20)), `\Draft`), testmail.Letter("again", []byte(letter(2))))
		m.Deliver("INBOX", testmail.Letter("new too", []byte(letter(21)+"open")))
	}},
}

// TestPowerLoss lets power fail at every step of a run, and what was not synced
// have each fate there is. What was committed must be there; the next run must
// bring the rest, and one more must change nothing.
func TestPowerLoss(t *testing.T) {
	quiet(t)
	for _, l := range layouts {
		for _, story := range stories {
			t.Run(l.name+"/"+story.name, func(t *testing.T) {
				m := &testmail.Model{Cleartext: true}
				p := newPowered(t, l.format, l.layout, m.Start(t))
				if story.before != nil {
					story.before(m)
					if _, err := p.back(p.imap()); err != nil {
						t.Fatal(err)
					}
				}
				story.change(m)
				points := p.record(p.imap())
				golden, err := p.portrait()
				if err != nil {
					t.Fatal(err)
				}
				found := 0
				for n, point := range points {
					for i, fate := range fatesAt(n) {
						if err := point.Restore(fate, uint64(i)); err != nil {
							t.Fatal(err)
						}
						if err := p.resume(m, golden); err != nil {
							t.Fatalf("power lost at %s, with %s of what was not synced (seed %d): %v", point, fate, i, err)
						}
						found++
					}
				}
				t.Logf("power lost at %d steps, %d disks found", len(points), found)
				if len(points) < 30 {
					t.Errorf("only %d steps were counted", len(points))
				}
			})
		}
	}
}

// fatesAt are the fates to try at the nth step: one by one in turn and two by
// chance, for the sinks' own tests try all.
func fatesAt(n int) []powerloss.Fate {
	fates := []powerloss.Fate{powerloss.Fate(n % powerloss.Fates), powerloss.Some, powerloss.Some}
	if testing.Short() || raced {
		return fates[:1]
	}
	return fates
}

func quiet(t *testing.T) {
	old := slog.Default()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	t.Cleanup(func() { slog.SetDefault(old) })
}

// TestPowerLossCanFail keeps the test above honest: with the wrong order, or
// with syncs left out, it must find fault.
func TestPowerLossCanFail(t *testing.T) {
	quiet(t)
	for _, c := range []struct {
		name   string
		late   bool // sync and commit are swapped
		ignore func(durable.Effect) bool
		not    string // the format that does not need this
	}{
		{name: "commit before sync", late: true},
		{name: "no fsync of files", ignore: func(e durable.Effect) bool {
			return e.Op == "fsync" && (strings.HasSuffix(e.Name, ".mbox") || strings.Contains(e.Name, "/tmp/"))
		}},
		{name: "no fsync of directories", ignore: func(e durable.Effect) bool {
			return e.Op == "syncdir" && (filepath.Base(e.Name) == "cur" || filepath.Base(e.Name) == "new")
		}, not: "mbox"},
	} {
		for _, l := range layouts {
			if l.format == c.not {
				continue
			}
			t.Run(c.name+"/"+l.name, func(t *testing.T) {
				m := &testmail.Model{Cleartext: true}
				p := newPowered(t, l.format, l.layout, m.Start(t))
				stories[0].change(m)
				if _, err := p.back(p.imap()); err != nil {
					t.Fatal(err)
				}
				golden, err := p.portrait()
				if err != nil {
					t.Fatal(err)
				}
				if err := os.RemoveAll(p.dir); err != nil {
					t.Fatal(err)
				}
				disk := powerloss.Record(t, p.base, "archive/"+p.state()+"/catalog.db*")
				disk.Ignore = c.ignore
				if c.late {
					p.wrap = func(s sink.Sink) sink.Sink { return late{s, disk} }
				}
				if _, err := p.back(p.imap()); err != nil {
					t.Fatal(err)
				}
				points := disk.Stop()
				p.wrap = func(s sink.Sink) sink.Sink { return s }
				for n, point := range points {
					fate := []powerloss.Fate{powerloss.Nothing, powerloss.Zeroes}[n%2]
					if err := point.Restore(fate, 0); err != nil {
						t.Fatal(err)
					}
					if err := p.resume(m, golden); err != nil {
						t.Logf("noticed at %s: %v", point, err)
						return
					}
				}
				t.Error("nothing was noticed")
			})
		}
	}
}

// A late sink says that it has synced, and does so when the next batch begins
// or the folder is closed: behind the commit.
type late struct {
	sink.Sink
	disk *powerloss.Disk
}

func (s late) Open(ctx context.Context, path mail.Path, create bool) (sink.Folder, error) {
	f, err := s.Sink.Open(ctx, path, create)
	if err != nil {
		return nil, err
	}
	return lateFolder{f, s.disk}, nil
}

type lateFolder struct {
	sink.Folder
	disk *powerloss.Disk
}

func (f lateFolder) Mark(ctx context.Context) (sink.Mark, error) {
	f.disk.Release()
	return f.Folder.Mark(ctx)
}

func (f lateFolder) Sync(ctx context.Context) ([]sink.Result, error) {
	f.disk.Hold()
	return f.Folder.Sync(ctx)
}

func (f lateFolder) Read(ctx context.Context, at sink.Place) (io.ReadCloser, error) {
	return f.Folder.(sink.Reader).Read(ctx, at)
}

func (f lateFolder) Close() error {
	f.disk.Release()
	return f.Folder.Close()
}

// TestPowerLossWithDeletion lets power fail at every step of a POP3 backup that
// deletes at once. What the server had deleted by then is whole in the archive,
// with nothing there of what was not synced.
func TestPowerLossWithDeletion(t *testing.T) {
	quiet(t)
	for _, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			type deletion struct {
				steps int // that were begun before
				m     testmail.Message
			}
			var gone []deletion
			srv := &testmail.POP3{Cleartext: true}
			p := newPowered(t, l.format, l.layout, srv.Start(t))
			p.account = "pop3:ann"
			disk := powerloss.Record(t, p.base, "archive/"+p.state()+"/catalog.db*")
			srv.Update = func(ms []testmail.Message) {
				for _, m := range ms {
					gone = append(gone, deletion{disk.Steps(), m})
				}
			}
			srv.Deliver(doomed()...)
			if _, err := p.back(pop3.OverConn("ann", "secret", p.dial)); err != nil {
				t.Fatal(err)
			}
			points := disk.Stop()
			checked := 0
			for n, point := range points {
				for _, fate := range []powerloss.Fate{powerloss.Nothing, powerloss.Zeroes, powerloss.Some} {
					if err := point.Restore(fate, 1); err != nil {
						t.Fatal(err)
					}
					var there map[mail.Digest]int
					for _, g := range gone {
						if g.steps > n {
							continue
						}
						if there == nil {
							there, _ = p.lies()
						}
						checked++
						if there[textDigest(testmail.KeptPOP3(g.m.Raw()))] == 0 {
							t.Fatalf("power lost at %s, with %s of what was not synced: %s is deleted and not in the archive", point, fate, g.m.Name)
						}
					}
				}
			}
			t.Logf("power lost at %d steps, %d deleted messages looked for", len(points), checked)
			if checked == 0 {
				t.Error("nothing was deleted")
			}
		})
	}
}
