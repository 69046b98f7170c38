package smtp

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mailhaul/internal/job"
	"mailhaul/internal/mail"
	"mailhaul/internal/pipeline"
	"mailhaul/internal/testmail"
	"mailhaul/sink"
	"mailhaul/source"
	"mailhaul/source/eml"
)

// A delivery is a job that is run again and again, with what it remembers.
type delivery struct {
	t   *testing.T
	r   *job.Runner
	job job.Job
}

func newDelivery(t *testing.T, s *testmail.SMTP, letters map[string][]byte, to ...string) *delivery {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "letters"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, raw := range letters {
		if err := os.WriteFile(filepath.Join(dir, "letters", name+".eml"), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var sources source.Registry
	var sinks sink.Registry
	sources.Register(eml.Scheme())
	for _, x := range Schemes() {
		sinks.Register(x)
	}
	return &delivery{t, &job.Runner{Sources: &sources, Sinks: &sinks, State: filepath.Join(dir, "state"),
		Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }},
		job.Job{From: "eml:" + filepath.Join(dir, "letters"), To: address(t, s), Recipients: to, AddAccount: true}}
}

// run delivers once. Whatever its outcome, it adds up.
func (d *delivery) run() (pipeline.Report, error) {
	d.t.Helper()
	r, err := d.r.Run(d.t.Context(), d.job)
	if c := r.Total; c.Listed != c.Settled() || int(c.Doubt) != len(r.InDoubt) {
		d.t.Errorf("%+v, %v", c, r.InDoubt)
	}
	return r, err
}

// stride is how far cuts lie apart.
func stride() int64 {
	if testing.Short() {
		return 13
	}
	return 1
}

// TestCutAtEveryByte breaks the connection at each byte of what the server
// says, in each way to send. A message is accepted whole or not at all; what the
// server has is delivered or in doubt; what it has not is not called delivered;
// and a second run brings nothing twice.
func TestCutAtEveryByte(t *testing.T) {
	plain := map[string][]byte{"1": letter(1), "2": letter(2)}
	binary := map[string][]byte{"1": []byte("Subject: x\r\n\r\na\x00b\n.\nc"), "2": letter(2)}
	for _, c := range []struct {
		name     string
		lmtp     bool
		keywords []string
		letters  map[string][]byte
		to       []string
	}{
		{"data", false, []string{"SIZE"}, plain, []string{"a@x"}},
		{"bdat", false, []string{"CHUNKING", "BINARYMIME"}, binary, []string{"a@x"}},
		{"lmtp", true, []string{"PIPELINING"}, plain, []string{"a@x", "b@x"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // most of it is waiting for the disk
			whole := func() *testmail.SMTP {
				return &testmail.SMTP{LMTP: c.lmtp, Keywords: c.keywords, Greeting: "220 x"}
			}
			s := whole()
			if r, err := newDelivery(t, s, c.letters, c.to...).run(); err != nil || int(r.Total.Stored) != len(c.letters) {
				t.Fatalf("%+v, %v", r, err)
			}
			doubts := 0
			all := s.Sent() - int64(len("221 2.0.0 see you\r\n")) // what comes after QUIT is of no interest
			for at := int64(0); at < all; at += stride() {
				s := whole()
				s.Cut(testmail.Cut{After: at})
				doubts += cutOnce(t, at, s, newDelivery(t, s, c.letters, c.to...), c.letters)
			}
			if least := len("250 2.0.0 ok") * len(c.letters) / int(stride()); doubts < least {
				t.Errorf("%d of %d cuts left a doubt, at least %d should", doubts, all, least)
			}
		})
	}
}

// TestCutSink is the same for the sink alone, which takes no time, with other
// ways to break and to send.
func TestCutSink(t *testing.T) {
	letters := map[string][]byte{"1": letter(1), "2": letter(2), "3": []byte("Subject: x\r\n\r\na\x00b\n.\nc")}
	for _, keywords := range [][]string{nil, {"PIPELINING", "CHUNKING", "BINARYMIME", "SIZE 10000"}} {
		for _, how := range []testmail.How{testmail.FIN, testmail.RST} {
			s := &testmail.SMTP{Keywords: keywords}
			doubts := 0
			for at := int64(0); ; at += stride() {
				s.Empty()
				s.Reset()
				s.Cut(testmail.Cut{After: at, How: how})
				doubts += cutSink(t, at, s, letters)
				s.Heal()
				if s.Sent() < at {
					break // all was said before the cut
				}
			}
			if doubts < 2*len("250 2.0.0 ok, queued as 1")/int(stride()) {
				t.Errorf("%d doubts", doubts)
			}
		}
	}
}

func cutSink(t *testing.T, at int64, s *testmail.SMTP, letters map[string][]byte) (doubts int) {
	t.Helper()
	a := open(t, s)
	f := way(t, a)
	for name, raw := range letters {
		var r sink.Result
		err := errors.New("not yet")
		for n := 0; n < 3 && err != nil; n++ {
			if r, err = put(t, f, message(name, raw)); err != nil && !mail.Temporary(err) {
				t.Fatalf("cut at %d: %v", at, err)
			}
		}
		n := copies(s, raw, "ann@new.example")
		switch {
		case errors.Is(r.Err, sink.ErrUnknown):
			doubts++
			if n > 1 {
				t.Errorf("cut at %d: %d copies of %s, in doubt", at, n, name)
			}
		case r.Err != nil && n != 0, r.Err == nil && n != 1, err != nil:
			t.Errorf("cut at %d: %d copies of %s: %v, %v", at, n, name, r, err)
		}
	}
	if doubts > 1 {
		t.Errorf("cut at %d: %d in doubt", at, doubts)
	}
	untouched(t, at, s, letters)
	f.Close()
	a.Close()
	return doubts
}

func cutOnce(t *testing.T, at int64, s *testmail.SMTP, d *delivery, letters map[string][]byte) (doubts int) {
	t.Helper()
	if len(d.job.Recipients) == 1 {
		doubts = cutAndAgain(t, at, s, d, letters)
	} else {
		doubts = cutLMTP(t, at, s, d, letters)
	}
	untouched(t, at, s, letters)
	// On request what is in doubt is sent, and then all is settled.
	if d.job.Resend = true; doubts == 0 {
		return 0
	}
	r, err := d.run()
	if err != nil || r.Total.Doubt+r.Total.Failed != 0 || int(r.Total.Known+r.Total.Stored) != len(letters) {
		t.Fatalf("cut at %d, resent: %+v, %v", at, r.Total, err)
	}
	for name, raw := range letters {
		for _, to := range d.job.Recipients {
			if n := copies(s, raw, to); n < 1 || n > 2 {
				t.Errorf("cut at %d, resent: %d copies of %s for %s", at, n, name, to)
			}
		}
	}
	untouched(t, at, s, letters)
	return doubts
}

// untouched: what was accepted was sent, and is whole.
func untouched(t *testing.T, at int64, s *testmail.SMTP, letters map[string][]byte) {
	t.Helper()
	for _, x := range s.Accepted() {
		is := func(raw []byte) bool { return sameOnTheWire(x, raw) }
		if !slices.ContainsFunc(slices.Collect(maps.Values(letters)), is) {
			t.Errorf("cut at %d: accepted what nobody sent: %q", at, x.Raw)
		}
	}
	if sins := s.Sins(); len(sins) > 0 {
		t.Error(sins)
	}
}

func cutAndAgain(t *testing.T, at int64, s *testmail.SMTP, d *delivery, letters map[string][]byte) (doubts int) {
	t.Helper()
	for run := range 2 {
		r, err := d.run()
		if err != nil || r.Total.Failed+r.Total.Unreached != 0 {
			t.Fatalf("cut at %d, run %d: %+v, %v", at, run, r, err)
		}
		doubtful := map[string]bool{}
		for _, x := range r.InDoubt {
			doubtful[string(x.ID)] = true
		}
		doubts = len(doubtful)
		if int(r.Total.Stored+r.Total.Known)+doubts != len(letters) || doubts > 1 {
			t.Fatalf("cut at %d, run %d: %+v", at, run, r.Total)
		}
		there := 0
		for name, raw := range letters {
			n := copies(s, raw, d.job.Recipients[0])
			there += n
			if n > 1 {
				t.Errorf("cut at %d, run %d: %d copies of %s", at, run, n, name)
			}
		}
		// All but the doubtful one are there; it may be.
		if missing := len(letters) - there; missing > doubts {
			t.Errorf("cut at %d, run %d: %d are not there, %d in doubt: %v", at, run, missing, doubts, r.InDoubt)
		}
	}
	return doubts
}

// cutLMTP: with two recipients the same holds for each.
func cutLMTP(t *testing.T, at int64, s *testmail.SMTP, d *delivery, letters map[string][]byte) (doubts int) {
	t.Helper()
	for run := range 2 {
		r, err := d.run()
		if err != nil || r.Total.Failed != 0 {
			t.Fatalf("cut at %d, run %d: %+v, %v", at, run, r, err)
		}
		doubts = int(r.Total.Doubt)
		for _, to := range d.job.Recipients {
			there := 0
			for name, raw := range letters {
				n := copies(s, raw, to)
				there += n
				if n > 1 {
					t.Errorf("cut at %d, run %d: %d copies of %s for %s", at, run, n, name, to)
				}
			}
			if len(letters)-there > doubts {
				t.Errorf("cut at %d, run %d: %d are there for %s, %d in doubt", at, run, there, to, doubts)
			}
		}
	}
	return doubts
}

// copies counts how often raw was accepted, whole, for somebody.
func copies(s *testmail.SMTP, raw []byte, to string) (n int) {
	for _, d := range s.Accepted() {
		if sameOnTheWire(d, raw) && slices.Contains(d.To, to) {
			n++
		}
	}
	return n
}

// TestNothingTruncated: no cut makes the server accept a piece of a message,
// not where its own connection breaks in the middle of taking it either.
func TestNothingTruncated(t *testing.T) {
	large := []byte("Subject: large\r\n\r\n" + strings.Repeat("0123456789 0123456789\r\n", 100000))
	for _, when := range []string{"DATA", ".", "ACCEPTED"} {
		s := &testmail.SMTP{Keywords: []string{"PIPELINING"}}
		s.Fault(testmail.Hangup(when, 1))
		d := newDelivery(t, s, map[string][]byte{"1": large}, "a@x")
		r, err := d.run()
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range s.Accepted() {
			if !bytes.Equal(x.Raw, large) {
				t.Errorf("%s: %d octets of %d", when, len(x.Raw), len(large))
			}
		}
		if doubt := when != "DATA"; (r.Total.Doubt == 1) != doubt || (len(s.Accepted()) == 1) != (when != ".") {
			t.Errorf("%s: %+v, %d accepted", when, r.Total, len(s.Accepted()))
		}
	}
}

// TestResentToTheOthers: what one recipient has is not sent to him again by
// the next run (row C3).
func TestResentToTheOthers(t *testing.T) {
	s := &testmail.SMTP{LMTP: true}
	s.Fault(func(c testmail.Command) *testmail.Reply {
		if c.Verb == "." && c.Args == "b@x" {
			return &testmail.Reply{Status: "452 4.2.2 full"}
		}
		return nil
	})
	d := newDelivery(t, s, map[string][]byte{"1": letter(1)}, "a@x", "b@x")
	for range 2 {
		r, err := d.run()
		if err != nil || r.Total.Failed != 1 || len(r.Failed) != 1 || !strings.Contains(r.Failed[0].Reason, "b@x: 452 4.2.2 full; a@x took it") {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	s.Heal()
	if r, err := d.run(); err != nil || r.Total.Stored != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	if copies(s, letter(1), "a@x") != 1 || copies(s, letter(1), "b@x") != 1 {
		t.Error(s.Accepted())
	}
}

// TestRefusedRun: what concerns all messages ends the run and leaves nothing in
// doubt; the next run brings all.
func TestRefusedRun(t *testing.T) {
	for _, f := range []testmail.Fault{
		testmail.Refuse("RCPT", "550 5.1.1 unknown", 0), testmail.Refuse("MAIL", "451 later", 0), testmail.Refuse("GREETING", "554 no", 0),
		testmail.Hangup("EHLO", 0), testmail.Hangup("DATA", 0), testmail.Refuse(".", "451 later", 0),
	} {
		s := &testmail.SMTP{}
		d := newDelivery(t, s, map[string][]byte{"1": letter(1), "2": letter(2)}, "a@x")
		s.Fault(f)
		r, err := d.run()
		if r.Total.Doubt != 0 || len(s.Accepted()) != 0 || r.Total.Stored != 0 || err == nil && r.Total.Failed == 0 {
			t.Errorf("%+v, %v", r.Total, err)
		}
		if err != nil && mail.ScopeOf(err, 0) != mail.ScopeRun {
			t.Error(err)
		}
		s.Heal()
		if r, err := d.run(); err != nil || r.Total.Stored != 2 || len(s.Accepted()) != 2 {
			t.Errorf("%+v, %v", r.Total, err)
		}
	}
}
