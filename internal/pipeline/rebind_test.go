package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mailhaul/internal/catalog"
	"mailhaul/internal/mail"
	"mailhaul/internal/testmail"
	"mailhaul/source"
	"mailhaul/source/imap"
)

// Describe makes the fake a source.Describer: headers only.
func (m *fakeMailbox) Describe(ctx context.Context, entries []source.Entry) iter.Seq2[source.Description, error] {
	return func(yield func(source.Description, error) bool) {
		m.s.heads++
		for _, e := range entries {
			msg := m.find(e.ID)
			if msg == nil {
				continue
			}
			if fault := m.s.fault; fault != nil {
				if err := fault("describe", m.f, e.ID); err != nil {
					yield(source.Description{}, err)
					return
				}
			}
			sum, err := mail.Summarize(strings.NewReader(msg.raw))
			if err != nil {
				yield(source.Description{}, err)
				return
			}
			if !yield(source.Description{ID: e.ID, Size: m.s.entry(msg).Size, MessageID: sum.MessageID, Head: sum.Head}, nil) {
				return
			}
		}
	}
}

// renumber deals all numbers of a folder anew.
func (f *fakeFolder) renumber() {
	f.validity++
	f.next = 1
	for i, m := range f.messages {
		copy := *m
		f.modseq++
		copy.uid, copy.modseq = f.next, f.modseq
		f.messages[i] = &copy
		f.next++
	}
}

// many is an account of one folder; every message has a header and a size of
// its own.
func many(n int) (*fake, *fakeFolder) {
	s := &fake{}
	in := s.folder("INBOX")
	for i := range n {
		in.add(letter(i)+strings.Repeat("x", i%97)+"\r\n", `\Seen`).date = time.Unix(1e9+int64(i/3), 0)
	}
	return s, in
}

// body changes what stands behind the header, and nothing else.
func (m *fakeMessage) body(to byte) {
	i := strings.Index(m.raw, "\r\n\r\n") + 4
	raw := []byte(m.raw)
	raw[i] = to
	m.raw = string(raw)
}

// rebinding is an archive with a folder of n messages that its server renumbers
// afterwards.
func renumbered(t *testing.T, a *archive, n int) (*fake, *fakeFolder) {
	t.Helper()
	s, in := many(n)
	a.options.Rebind = true
	a.options.Random = bytes.NewReader(slices.Repeat([]byte("seed of this test"), 1000))
	a.must(s)
	a.holds(s.texts())
	in.renumber()
	s.bodies, s.heads = 0, 0
	return s, in
}

// said fails unless some note has the words.
func (a *archive) said(words string) {
	a.t.Helper()
	if !strings.Contains(strings.Join(a.last.Notes, "\n"), words) {
		a.t.Errorf("no note has %q: %q", words, a.last.Notes)
	}
}

// shows compares what is known of the current numbering with the server.
func (a *archive) shows(f *fakeFolder) {
	a.t.Helper()
	c := a.catalog()
	defer c.Close()
	boxes := map[string][]string{}
	err := catalog.ReadManifest(a.dir, func(l catalog.Line) error {
		if l.Epoch == fmt.Sprint(f.validity) || strings.HasPrefix(l.Epoch, fmt.Sprint(f.validity)+"#") {
			boxes[l.ID] = l.Flags
		}
		return nil
	})
	if err != nil {
		a.t.Fatal(err)
	}
	want := map[string][]string{}
	for _, m := range f.messages {
		var flags []string
		for _, x := range m.flags {
			flags = append(flags, string(x))
		}
		want[fmt.Sprint(m.uid)] = flags
	}
	if diff := cmp.Diff(want, boxes); diff != "" {
		a.t.Errorf("flags (-want +got):\n%s", diff)
	}
}

// exactly compares the archive with what the folder has held in all its lives:
// a text for each location of each numbering.
func (a *archive) exactly(lives ...[]string) {
	a.t.Helper()
	a.holds(map[mail.Path][]string{"INBOX": slices.Concat(lives...)})
}

func (f *fakeFolder) raws() (all []string) {
	for _, m := range f.messages {
		all = append(all, m.raw)
	}
	return all
}

// eachOrOne is each; one format has to do where everything takes long.
func eachOrOne(t *testing.T, f func(t *testing.T, a *archive)) {
	if raced || testing.Short() {
		f(t, newArchive(t, "mbox"))
		return
	}
	each(t, f)
}

// interrupt ends a run in the middle of the listing that messages are bound by,
// and tells how many it had settled.
func (a *archive) interrupt(s *fake) int64 {
	a.t.Helper()
	ctx, cancel := context.WithCancel(a.t.Context())
	defer cancel()
	s.lists = 0
	s.listing = func(id source.ID) {
		if s.lists == 2 && id == "1100" {
			cancel()
		}
	}
	_, err := a.run(ctx, s)
	s.listing = nil
	c := a.last.Total
	if !errors.Is(err, context.Canceled) || c.Duplicate == 0 || c.Unreached == 0 {
		a.t.Fatalf("%v, %+v", err, c)
	}
	return c.Duplicate
}

func TestRebind(t *testing.T) {
	eachOrOne(t, func(t *testing.T, a *archive) {
		s, in := renumbered(t, a, 1500)
		stored := a.stored()
		in.reflag(3, `\Answered`, "Todo")
		in.reflag(700)
		r := a.must(s)
		c := r.Folders["INBOX"]
		if s.bodies != 35 || s.heads != 2 {
			t.Errorf("%d bodies and %d times headers", s.bodies, s.heads)
		}
		if c.Listed != 1500 || c.Duplicate != 1500 || c.Spared != 1465 || c.Stored != 0 || a.stored() != stored {
			t.Errorf("%+v; %d lie there, before %d", *c, a.stored(), stored)
		}
		a.said("1500 of 1500 messages are recognised by size, date and header (--rebind); 35 of them")
		a.exactly(in.raws(), in.raws())
		a.shows(in)
		s.bodies, s.heads = 0, 0
		if r := a.must(s); r.Total.Known != 1500 || s.bodies+s.heads != 0 || len(r.Notes) != 0 {
			t.Errorf("afterwards: %d bodies, %d headers, %+v, %q", s.bodies, s.heads, r.Total, r.Notes)
		}
		// And once more: there are two numberings before now.
		in.renumber()
		if r := a.must(s); r.Total.Spared != 1465 || a.stored() != stored {
			t.Errorf("the second time: %+v", r.Total)
		}
	})
}

// TestRebindScopes: whatever the scope of deduplication is, no copy is written.
func TestRebindScopes(t *testing.T) {
	for _, format := range formats {
		for _, dedup := range []Dedup{DedupFolder, DedupArchive, DedupOff} {
			t.Run(fmt.Sprint(format, dedup), func(t *testing.T) {
				a := newArchive(t, format)
				a.options.Dedup = dedup
				s, in := renumbered(t, a, 100)
				stored := a.stored()
				if r := a.must(s); s.bodies != 21 || r.Total.Spared != 79 || r.Total.Duplicate != 100 || a.stored() != stored {
					t.Errorf("%d bodies, %d lie there, %+v", s.bodies, a.stored(), r.Total)
				}
				a.exactly(in.raws(), in.raws())
			})
		}
	}
}

func TestWithoutRebindAllIsDownloaded(t *testing.T) {
	each(t, func(t *testing.T, a *archive) {
		s, in := renumbered(t, a, 100)
		a.options.Rebind = false
		stored := a.stored()
		r := a.must(s)
		if s.bodies != 100 || s.heads != 0 || r.Total.Duplicate != 100 || r.Total.Spared != 0 || a.stored() != stored {
			t.Errorf("%d bodies, %d headers, %+v", s.bodies, s.heads, r.Total)
		}
		a.said("its messages are read again and compared; none is stored twice")
		a.exactly(in.raws(), in.raws())
	})
}

func TestRebindOfTooFew(t *testing.T) {
	for _, c := range []struct{ others, bodies int }{
		{5, 5 + 20 + 1}, // 95 of 100
		{6, 100},
	} {
		t.Run(fmt.Sprint(c.others), func(t *testing.T) {
			each(t, func(t *testing.T, a *archive) {
				s, in := renumbered(t, a, 100)
				before := in.raws()
				for i := range c.others {
					in.messages[10*i].raw = letter(1000 + i)
				}
				stored := a.stored()
				r := a.must(s)
				if s.bodies != c.bodies || r.Total.Stored != int64(c.others) || a.stored() != stored+c.others {
					t.Errorf("%d bodies, %+v", s.bodies, r.Total)
				}
				if c.others > 5 {
					a.said("94 of 100 messages are recognised by size, date and header, fewer than 95 in a hundred")
				}
				a.exactly(before, in.raws())
			})
		})
	}
}

// TestRebindContradicted: some have the header of before and another body. What
// the sample finds ends it, for later runs too.
func TestRebindContradicted(t *testing.T) {
	each(t, func(t *testing.T, a *archive) {
		s, in := renumbered(t, a, 300)
		before := in.raws()
		for _, m := range in.messages[:100] {
			m.body('Z')
		}
		cut := errors.New("cut")
		s.fault = func(what string, _ *fakeFolder, id source.ID) error {
			if what == "fetch" && s.bodies == 60 { // 23 are the sample
				return &mail.Error{Op: "fetch", Scope: mail.ScopeRun, Err: cut}
			}
			return nil
		}
		if _, err := a.run(t.Context(), s); !errors.Is(err, cut) {
			t.Fatal(err)
		}
		a.said("has the size, date and header of one brought before and other content: --rebind is not followed")
		s.fault, s.bodies, s.heads = nil, 0, 0
		r := a.must(s)
		if int64(s.bodies) != r.Total.Stored+r.Total.Duplicate || s.bodies < 240 || s.heads != 0 || r.Total.Spared != 0 {
			t.Errorf("%d bodies, %d headers, %+v", s.bodies, s.heads, r.Total)
		}
		a.said("--rebind is not followed: the server was found to call different messages the same")
		if n := a.stored(); n != 400 {
			t.Errorf("%d lie there, want 400", n)
		}
		a.exactly(before, in.raws())
	})
}

// TestRebindContradictedLater: a run that died had bound some; what the next one
// finds makes all of these unknown.
func TestRebindContradictedLater(t *testing.T) {
	eachOrOne(t, func(t *testing.T, a *archive) {
		s, in := renumbered(t, a, 1200)
		before := in.raws()
		read := map[source.ID]bool{}
		s.fault = func(what string, _ *fakeFolder, id source.ID) error {
			if what == "fetch" {
				read[id] = true
			}
			return nil
		}
		a.interrupt(s)
		s.fault = nil
		bound := a.last.Total
		if bound.Spared == 0 || len(read) != 32 {
			t.Fatalf("%d were looked into: %+v", len(read), bound)
		}
		changed := 0
		for _, m := range in.messages { // the server has lied about these all the time
			if !read[s.id(m)] {
				m.body('Z')
				changed++
			}
		}
		s.bodies = 0
		r := a.must(s)
		a.said("--rebind is not followed")
		if c := r.Total; c.Known != bound.Duplicate-bound.Spared || c.Spared != 0 || c.Stored != int64(changed) || a.stored() != 1200+changed {
			t.Errorf("%+v: %d lie there; %+v", bound, a.stored(), c)
		}
		a.exactly(before, in.raws())
		if r := a.must(s); r.Total.Known != 1200 {
			t.Errorf("%+v", r.Total)
		}
	})
}

// TestRebindAmbiguous: of two messages that only their bodies tell apart none is
// bound, nor where size or date is another.
func TestRebindAmbiguous(t *testing.T) {
	for name, c := range map[string]struct {
		before func(in *fakeFolder)
		after  func(in *fakeFolder)
		bodies int // besides the sample of 21
		stored int
	}{
		"two records": {before: func(in *fakeFolder) {
			twin := *in.messages[7]
			twin.body('Z')
			in.add(twin.raw).date = twin.date
		}, bodies: 2},
		"two records, one gone": {before: func(in *fakeFolder) {
			twin := *in.messages[7]
			twin.body('Z')
			in.add(twin.raw).date = twin.date
		}, after: func(in *fakeFolder) { in.expunge(len(in.messages) - 1) }, bodies: 1},
		"two listed": {after: func(in *fakeFolder) {
			twin := *in.messages[7]
			twin.body('Z')
			in.add(twin.raw).date = twin.date
		}, bodies: 2, stored: 1},
		"another size": {after: func(in *fakeFolder) { in.messages[7].raw += "\n" }, bodies: 1, stored: 1},
		"claimed size": {after: func(in *fakeFolder) { in.messages[7].size = int64(len(in.messages[7].raw)) + 1 }, bodies: 1},
		"another date": {after: func(in *fakeFolder) { in.messages[7].date = time.Unix(1, 0) }, bodies: 1},
		"another header": {after: func(in *fakeFolder) {
			in.messages[7].raw = strings.Replace(in.messages[7].raw, "From", "FROM", 1)
		}, bodies: 1, stored: 1},
		"new mail": {after: func(in *fakeFolder) { in.add(letter(5000)) }, bodies: 1, stored: 1},
		"gone":     {after: func(in *fakeFolder) { in.expunge(7) }},
	} {
		t.Run(name, func(t *testing.T) {
			eachOrOne(t, func(t *testing.T, a *archive) {
				s, in := many(100)
				if c.before != nil {
					c.before(in)
				}
				a.options.Rebind = true
				a.must(s)
				before := in.raws()
				stored := a.stored()
				in.renumber()
				if c.after != nil {
					c.after(in)
				}
				s.bodies = 0
				r := a.must(s)
				if s.bodies != 21+c.bodies || r.Total.Spared != int64(len(in.messages)-s.bodies) || a.stored() != stored+c.stored {
					t.Errorf("%d bodies, %d lie there, before %d, %+v", s.bodies, a.stored(), stored, r.Total)
				}
				a.exactly(before, in.raws())
			})
		})
	}
}

// TestRebindBesideKnown: a message that an interrupted download has brought is
// one of the listing, too.
func TestRebindBesideKnown(t *testing.T) {
	a := newArchive(t, "mbox")
	s, in := many(100)
	a.must(s)
	before := in.raws()
	twin := *in.messages[50]
	twin.body('Z')
	in.messages = append([]*fakeMessage{&twin}, in.messages...)
	in.renumber()
	ctx, cancel := context.WithCancel(t.Context())
	s.fault = func(_ string, _ *fakeFolder, id source.ID) error {
		if id == "41" {
			cancel()
		}
		return nil
	}
	if _, err := a.run(ctx, s); !errors.Is(err, context.Canceled) || a.last.Total.Stored != 1 || a.last.Total.Duplicate != 40 {
		t.Fatalf("%v, %+v", err, a.last.Total)
	}
	var read []source.ID
	s.fault = func(what string, _ *fakeFolder, id source.ID) error {
		if what == "fetch" {
			read = append(read, id)
		}
		return nil
	}
	a.options.Rebind = true
	r := a.must(s)
	if len(read) != 22 || !slices.Contains(read, "52") || r.Total.Spared != 60-1-21 || a.stored() != 101 {
		t.Errorf("%d bodies (%v), %+v", len(read), read, r.Total)
	}
	a.exactly(before, in.raws())
}

// TestRebindDamagedCopy: what a copy has lost of its header is not recognised.
func TestRebindDamagedCopy(t *testing.T) {
	a := newArchive(t, "maildir")
	s, _ := renumbered(t, a, 100)
	names, err := filepath.Glob(filepath.Join(a.dir, "INBOX", "cur", "*"))
	if err != nil || len(names) != 100 {
		t.Fatal(len(names), err)
	}
	data, err := os.ReadFile(names[3])
	if err == nil {
		err = os.WriteFile(names[3], bytes.Replace(data, []byte("Subject"), []byte("SUBJECT"), 1), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	a.must(s)
	if s.bodies != 22 {
		t.Errorf("%d bodies", s.bodies)
	}
}

// TestRebindGoesOn: whatever breaks in the middle, nothing is asked for twice
// that has come, and nothing is doubled.
func TestRebindGoesOn(t *testing.T) {
	for _, c := range []struct {
		what string
		nth  int
	}{{"describe", 1}, {"describe", 1100}, {"fetch", 1}, {"fetch", 20}, {"fetch", 32}} {
		if raced && c.nth != 1100 && c.nth != 20 {
			continue
		}
		t.Run(fmt.Sprint(c.what, c.nth), func(t *testing.T) {
			a := newArchive(t, "mbox")
			s, in := renumbered(t, a, 1200)
			n, heads := 0, 0
			s.fault = func(what string, _ *fakeFolder, _ source.ID) error {
				if what == "describe" {
					heads++
				}
				if what == c.what {
					if n++; n == c.nth {
						return &mail.Error{Op: what, Scope: mail.ScopeFolder, Temporary: true, Err: io.ErrUnexpectedEOF}
					}
				}
				return nil
			}
			r := a.must(s)
			if s.bodies != 32 || heads > 2200 || r.Total.Spared != 1168 || a.stored() != 1200 {
				t.Errorf("%d bodies, %d headers, %+v", s.bodies, heads, r.Total)
			}
			a.exactly(in.raws(), in.raws())
		})
	}
}

// TestRebindInterrupted: the run dies while it binds; the next one, with the
// option or without it, brings the rest.
func TestRebindInterrupted(t *testing.T) {
	for _, with := range []bool{true, false} {
		t.Run(fmt.Sprint(with), func(t *testing.T) {
			eachOrOne(t, func(t *testing.T, a *archive) {
				s, in := renumbered(t, a, 1200)
				done := a.interrupt(s)
				a.options.Rebind, s.bodies, s.heads = with, 0, 0
				r := a.must(s)
				want := 1200 - done
				if with {
					want = min(20+(want+99)/100, want)
				}
				if int64(s.bodies) != want || r.Total.Known != done || r.Total.Duplicate != 1200-done || a.stored() != 1200 {
					t.Errorf("%d bodies, want %d, %+v", s.bodies, want, r.Total)
				}
				a.exactly(in.raws(), in.raws())
				a.shows(in)
			})
		})
	}
}

// TestRebindEvaded: what is drawn and does not come is not bound; where that are
// many, nothing is.
func TestRebindEvaded(t *testing.T) {
	for _, missing := range []int{1, 40} {
		t.Run(fmt.Sprint(missing), func(t *testing.T) {
			a := newArchive(t, "mbox")
			s, in := renumbered(t, a, 300)
			for _, m := range in.messages[:missing] {
				m.omit = 1
			}
			r := a.must(s)
			switch {
			case missing == 1 && (r.Total.Spared < 276 || s.bodies > 24):
				t.Errorf("%d bodies, %+v", s.bodies, r.Total)
			case missing == 40 && r.Total.Spared != 0:
				t.Errorf("%d bodies, %+v", s.bodies, r.Total)
			}
			if r.Total.Duplicate != 300 || a.stored() != 300 {
				t.Errorf("%+v", r.Total)
			}
			a.exactly(in.raws(), in.raws())
		})
	}
}

// TestRebindRewound: a server that was set back deals its numbers anew without
// saying so.
func TestRebindRewound(t *testing.T) {
	each(t, func(t *testing.T, a *archive) {
		s, in := many(300)
		a.options.Rebind = true
		a.must(s)
		before, stored := in.raws(), a.stored()
		in.messages, in.next, in.modseq = in.messages[:250], 251, 4
		in.add(letter(5000)) // takes the number that another message had
		s.bodies = 0
		r := a.must(s)
		a.said("the server has gone back to an older state")
		if s.bodies != 20+3+1 || r.Total.Stored != 1 || r.Total.Spared != 227 || a.stored() != stored+1 {
			t.Errorf("%d bodies, %+v", s.bodies, r.Total)
		}
		a.exactly(before, in.raws())
	})
}

// TestRebindDrawsByChance: two runs draw different lots, unless they are told
// the same chance.
func TestRebindDrawsByChance(t *testing.T) {
	lot := func(random io.Reader) (all []source.ID) {
		a := newArchive(t, "mbox")
		s, _ := renumbered(t, a, 100)
		a.options.Random = random
		s.fault = func(what string, _ *fakeFolder, id source.ID) error {
			if what == "fetch" {
				all = append(all, id)
			}
			return nil
		}
		a.must(s)
		return all
	}
	seed := func(b byte) io.Reader { return bytes.NewReader(bytes.Repeat([]byte{b}, 32)) }
	one := lot(seed(1))
	if len(one) != 21 || !slices.Equal(one, lot(seed(1))) || slices.Equal(one, lot(seed(2))) {
		t.Error("a lot is not what chance makes of it")
	}
	if slices.Equal(lot(nil), lot(nil)) {
		t.Error("two lots are the same")
	}
}

func TestRebindLeavesOutWhatIsTooLarge(t *testing.T) {
	a := newArchive(t, "mbox")
	a.options.MaxSize = 10_000
	s, in := many(100)
	for i := range 20 {
		in.add(letter(2000+i) + strings.Repeat("x", 20_000))
	}
	a.options.Rebind = true
	a.must(s)
	in.renumber()
	s.bodies = 0
	if r := a.must(s); s.bodies != 21 || r.Total.Spared != 79 || r.Total.Filtered != 20 {
		t.Errorf("%d bodies, %+v", s.bodies, r.Total)
	}
}

// TestRebindDovecot: a real server's headers, sizes and dates are those of the
// stored copies.
func TestRebindDovecot(t *testing.T) {
	d := testmail.Dovecot(t)
	d.Deliver("Work", slices.Collect(testmail.Generate(7, 200))...)
	each(t, func(t *testing.T, a *archive) {
		a.options.Rebind = true
		backup := func() *Counts {
			src := imap.OverConn("ann", "secret", 2, func(ctx context.Context) (net.Conn, error) { return d.Dial(ctx, "", "") })
			defer src.Close()
			return a.must(src).Folders["Work"]
		}
		if c := backup(); c.Stored+c.Duplicate != 200 {
			t.Fatalf("%+v", *c)
		}
		stored := a.stored()
		d.Say("RENAME Work Aside", "CREATE Work", "SELECT Aside", "COPY 1:* Work", "UNSELECT", "DELETE Aside")
		c := backup()
		a.said("the server has renumbered the folder")
		if c.Duplicate != 200 || c.Spared != 178 || a.stored() != stored {
			t.Errorf("%+v, %q", *c, a.last.Notes)
		}
	})
}
