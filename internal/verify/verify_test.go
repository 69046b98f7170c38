package verify

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"mailhaul/internal/catalog"
	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/internal/pipeline"
	"mailhaul/internal/spool"
	"mailhaul/internal/testmail"
	"mailhaul/sink"
	"mailhaul/sink/maildir"
	"mailhaul/sink/mbox"
	"mailhaul/source/imap"
)

// stored makes an archive of a small account and returns its directory.
func stored(t *testing.T, format string) string {
	t.Helper()
	m := &testmail.Model{Cleartext: true}
	m.Folder("Work")
	for _, f := range []string{"INBOX", "Work"} {
		for i := range 5 {
			m.Deliver(f, testmail.Letter("x", []byte("Subject: "+f+string(rune('a'+i))+"\r\n\r\nFrom body "+string(rune('a'+i))+"\r\n")))
		}
	}
	return archive(t, format, m, 10)
}

// archive makes one of an account with so many messages.
func archive(t testing.TB, format string, m *testmail.Model, messages int64) string {
	t.Helper()
	addr := m.Start(t)
	src := imap.OverConn("ann", "secret", 1, func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	})
	defer src.Close()
	dir := filepath.Join(t.TempDir(), "archive")
	s, c := open(t, format, dir, true)
	defer c.Close()
	defer s.Close()
	if err := c.Admit(t.Context(), "imap:ann", false); err != nil {
		t.Fatal(err)
	}
	p := pipeline.Pipeline{Source: src, Sink: s, Catalog: c, Account: "imap:ann", Spool: spool.New(filepath.Join(dir, ".mailhaul"), spool.Budget)}
	if r, err := p.Run(t.Context()); err != nil || r.Total.Stored != messages {
		t.Fatalf("%v, %+v", err, r.Total)
	}
	return dir
}

func open(t testing.TB, format, dir string, create bool) (sink.Sink, *catalog.Catalog) {
	t.Helper()
	var r sink.Registry
	r.Register(mbox.Scheme())
	r.Register(maildir.Scheme())
	s, err := r.Open(t.Context(), format+":"+dir, location.Env{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := catalog.Open(t.Context(), catalog.Home{Dir: dir, State: ".mailhaul", Format: format}, create, "test")
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

// change edits the first file whose text has old in it.
func change(t *testing.T, dir, old, by string) {
	t.Helper()
	done := false
	filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || done || strings.HasPrefix(d.Name(), "mailhaul.") || strings.Contains(name, ".mailhaul") && !strings.Contains(name, "INBOX") {
			return err
		}
		data, err := os.ReadFile(name)
		if err == nil && strings.Contains(string(data), old) {
			err = os.WriteFile(name, []byte(strings.Replace(string(data), old, by, 1)), 0o600)
			done = true
		}
		return err
	})
	if !done {
		t.Fatalf("%q is nowhere", old)
	}
}

func TestVerify(t *testing.T) {
	for _, format := range []string{"mbox", "maildir"} {
		for _, c := range []struct {
			name    string
			spoil   func(t *testing.T, dir string)
			kinds   map[Kind]int
			good    int64
			foreign int64
		}{
			{"as it was", func(*testing.T, string) {}, nil, 10, 0},
			{"one letter", func(t *testing.T, dir string) { change(t, dir, "body c", "body X") }, map[Kind]int{Damaged: 1}, 9, 0},
			// In an mbox its place is no record any more.
			{"a letter more", func(t *testing.T, dir string) { change(t, dir, "INBOXe", "INBOXee") },
				map[string]map[Kind]int{"mbox": {Missing: 1}, "maildir": {Damaged: 1}}[format], 9, -1},
			{"a folder gone", func(t *testing.T, dir string) {
				os.RemoveAll(filepath.Join(dir, "Work"))
				os.Remove(filepath.Join(dir, "Work.mbox"))
			}, map[Kind]int{Missing: 5}, 5, 0},
			{"a message of others", func(t *testing.T, dir string) {
				if format == "mbox" {
					f, _ := os.OpenFile(filepath.Join(dir, "INBOX.mbox"), os.O_APPEND|os.O_WRONLY, 0)
					f.WriteString("From bob@example.org Sun Jan  1 00:00:00 2023\nSubject: hi\n\nthere\n\n")
					f.Close()
					return
				}
				os.WriteFile(filepath.Join(dir, "INBOX", "new", "123.other.host"), []byte("Subject: hi\n\nthere\n"), 0o600)
			}, nil, 10, 1},
		} {
			t.Run(format+", "+c.name, func(t *testing.T) {
				dir := stored(t, format)
				c.spoil(t, dir)
				s, cat := open(t, format, dir, false)
				defer cat.Close()
				defer s.Close()
				var read atomic.Int64
				r, err := Run(t.Context(), s, cat, Options{Progress: func(_ mail.Path, n, _ int64) { read.Add(n) }})
				if err != nil {
					t.Fatal(err)
				}
				kinds := map[Kind]int{}
				for _, p := range r.Problems {
					kinds[p.Kind]++
				}
				for k, n := range c.kinds {
					if kinds[k] != n {
						t.Errorf("%d are %s, want %d: %+v", kinds[k], k, n, r.Problems)
					}
				}
				if len(r.Problems) > 0 && c.kinds == nil || r.Messages != c.good || c.foreign >= 0 && r.Foreign != c.foreign {
					t.Errorf("%+v", r)
				}
				if read.Load() == 0 && c.good > 0 {
					t.Error("no progress was told")
				}
			})
		}
	}
}

// BenchmarkVerify reads small messages, of which the finding costs more than the
// reading: 8 us a message in an mbox and 19 in a Maildir, on two cores.
func BenchmarkVerify(b *testing.B) {
	const messages = 5000
	for _, format := range []string{"mbox", "maildir"} {
		b.Run(format, func(b *testing.B) {
			m := &testmail.Model{Cleartext: true}
			for i := range messages {
				m.Deliver("INBOX", testmail.Letter("x", fmt.Appendf(nil, "Subject: %d\r\n\r\n%s", i, strings.Repeat("a line of the usual length in a mail\r\n", 50))))
			}
			dir := archive(b, format, m, messages)
			s, c := open(b, format, dir, false)
			defer c.Close()
			defer s.Close()
			for b.Loop() {
				if r, err := Run(b.Context(), s, c, Options{}); err != nil || r.Messages != messages {
					b.Fatalf("%v, %+v", err, r)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*messages), "us/message")
		})
	}
}
