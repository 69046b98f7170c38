package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"mailhaul/internal/catalog"
	"mailhaul/internal/mail"
	"mailhaul/internal/spool"
	"mailhaul/sink"
)

// letterbox is a destination that cannot be looked into. What outcome says
// becomes of each message; nil is: it arrived.
type letterbox struct {
	mu      sync.Mutex
	inside  []string
	notes   []string
	outcome func(text string) (arrives bool, r sink.Result, err error)
	begun   int
}

func (l *letterbox) Open(ctx context.Context, path mail.Path, create bool) (sink.Folder, error) {
	return &slot{l: l}, nil
}
func (l *letterbox) Close() error { return nil }

type slot struct {
	l       *letterbox
	results []sink.Result
}

func (s *slot) Most() int                                       { return 1 }
func (s *slot) State(ctx context.Context) (sink.State, error)   { return "-", nil }
func (s *slot) Mark(ctx context.Context) (sink.Mark, error)     { s.results = nil; return "", nil }
func (s *slot) Close() error                                    { return nil }
func (s *slot) Sync(ctx context.Context) ([]sink.Result, error) { return s.results, nil }
func (s *slot) Recover(ctx context.Context, _ sink.Mark, want []sink.Want) ([]sink.Place, error) {
	if s.results == nil {
		return nil, sink.ErrUnknown
	}
	return make([]sink.Place, len(want)), nil // nothing of a batch of ours that failed was handed over
}

func (s *slot) Put(ctx context.Context, m *sink.Message) error {
	body, err := m.Open()
	if err != nil {
		return err
	}
	text, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	s.l.begun++
	s.results = []sink.Result{}
	arrives, r := true, sink.Result{Place: "sent"}
	if s.l.outcome != nil {
		if arrives, r, err = s.l.outcome(string(text)); err != nil {
			return err
		}
	}
	if arrives {
		s.l.inside, s.l.notes = append(s.l.inside, string(text)), append(s.l.notes, m.Note)
	}
	s.results = append(s.results, r)
	return nil
}

// lost is a reply that did not come, to messages with a text in them.
func lost(text string, arrives bool) func(string) (bool, sink.Result, error) {
	return func(got string) (bool, sink.Result, error) {
		if !strings.Contains(got, text) {
			return true, sink.Result{Place: "sent"}, nil
		}
		return arrives, sink.Result{Err: &mail.Error{Op: "send", Scope: mail.ScopeMessage, Err: fmt.Errorf("the line broke: %w", sink.ErrUnknown)}, Note: "given to x"}, nil
	}
}

// send is one run into a letterbox, with the archive's directory for the
// catalog.
func (a *archive) send(ctx context.Context, s *fake, l *letterbox) (Report, error) {
	a.t.Helper()
	c := a.catalog()
	defer c.Close()
	p := &Pipeline{Source: s, Sink: l, Catalog: c, Account: a.account, Options: a.options, Spool: spool.New(filepath.Join(a.dir, ".mailhaul"), a.spool),
		Observe: func(e Event) { a.mu.Lock(); a.events = append(a.events, e); a.mu.Unlock() }}
	r, err := p.Run(ctx)
	for path, n := range r.Folders {
		if n.Listed != n.Settled() {
			a.t.Errorf("%s: %d listed, %d settled: %+v", path, n.Listed, n.Settled(), *n)
		}
	}
	return r, err
}

// told is the text form of a letter.
func told(i int) string { return strings.ReplaceAll(letter(i), "\r\n", "\n") }

func newLetters(t *testing.T) (*archive, *fake) {
	a := newArchive(t, "mbox")
	a.options.Dedup = DedupArchive
	s := &fake{}
	for i := range 5 {
		s.folder("INBOX").add(letter(i))
	}
	return a, s
}

// TestInDoubt: a message that may have arrived is named by every run, counted
// apart, and sent again only on request, whatever the source does meanwhile.
func TestInDoubt(t *testing.T) {
	for _, arrives := range []bool{false, true} {
		for name, change := range map[string]func(*fake){
			"nothing":    func(*fake) {},
			"new mail":   func(s *fake) { s.folder("INBOX").add(letter(50)) },
			"flags":      func(s *fake) { s.folder("INBOX").reflag(1, `\Seen`) },
			"renumbered": func(s *fake) { s.folder("INBOX").validity++ },
			"a twin":     func(s *fake) { s.folder("Work").add(letter(2)) },
			"no cursors": func(s *fake) { s.folder("INBOX").noState = true },
		} {
			t.Run(fmt.Sprint(name, " arrives ", arrives), func(t *testing.T) {
				a, s := newLetters(t)
				l := &letterbox{}
				text := told(2)
				l.outcome = lost(text, arrives)
				r, err := a.send(t.Context(), s, l)
				if err != nil || r.Total.Doubt != 1 || r.Total.Stored != 4 || r.Total.Failed != 0 || len(r.Failed) != 0 {
					t.Fatalf("%+v, %v", r.Total, err)
				}
				if len(r.InDoubt) != 1 || r.InDoubt[0].ID != "3" || r.InDoubt[0].Folder != "INBOX" || !strings.Contains(r.InDoubt[0].Reason, "the line broke") {
					t.Fatalf("%+v", r.InDoubt)
				}
				change(s)
				l.outcome = nil
				for range 2 {
					r, err = a.send(t.Context(), s, l)
					if err != nil || r.Total.Doubt < 1 || r.Total.Failed != 0 || len(r.InDoubt) != int(r.Total.Doubt) {
						t.Fatalf("%+v, %v", r.Total, err)
					}
				}
				if n := count(l.inside, text); arrives && n != 1 || !arrives && n != 0 {
					t.Errorf("%d copies arrived", n)
				}
				a.options.Resend = true
				if r, err = a.send(t.Context(), s, l); err != nil || r.Total.Doubt != 0 || r.Total.Stored != 1 || len(r.InDoubt) != 0 {
					t.Fatalf("%+v, %v", r.Total, err)
				}
				if name != "renumbered" && name != "a twin" && l.notes[len(l.notes)-1] != "given to x" {
					t.Errorf("the sink's notes are %q", l.notes)
				}
				a.options.Resend = false
				before := len(l.inside)
				if r, err = a.send(t.Context(), s, l); err != nil || r.Total.Doubt != 0 || len(l.inside) != before {
					t.Errorf("%+v, %v", r.Total, err)
				}
			})
		}
	}
}

func count(all []string, text string) (n int) {
	for _, s := range all {
		if s == text {
			n++
		}
	}
	return n
}

// TestDoubtWhileRetrying: a broken connection after a doubt does not send the
// doubtful message again, nor count it twice; nor with Resend.
func TestDoubtWhileRetrying(t *testing.T) {
	for _, resend := range []bool{false, true} {
		a, s := newLetters(t)
		a.options.Resend = resend
		l := &letterbox{}
		broken := 0
		l.outcome = func(text string) (bool, sink.Result, error) {
			switch {
			case text == told(1):
				return lost(told(1), true)(text)
			case text == told(3) && broken < 2:
				broken++
				return false, sink.Result{}, &mail.Error{Op: "send", Scope: mail.ScopeRun, Temporary: true, Err: errors.New("busy")}
			}
			return true, sink.Result{Place: "sent"}, nil
		}
		r, err := a.send(t.Context(), s, l)
		if err != nil || r.Total.Doubt != 1 || r.Total.Stored != 4 || r.Total.Listed != 5 || len(r.InDoubt) != 1 {
			t.Errorf("%+v, %v", r.Total, err)
		}
		if len(l.inside) != 5 || count(l.inside, told(1)) != 1 {
			t.Errorf("%d arrived", len(l.inside))
		}
	}
}

// TestDeathLeavesOneInDoubt: what was in flight when a run died is in doubt,
// and nothing else.
func TestDeathLeavesOneInDoubt(t *testing.T) {
	a, s := newLetters(t)
	l := &letterbox{}
	var c *catalog.Catalog
	died := errors.New("died")
	l.outcome = func(text string) (bool, sink.Result, error) {
		if text == told(2) {
			c.Close() // nothing more is written, as after a death
			return true, sink.Result{}, died
		}
		return true, sink.Result{Place: "sent"}, nil
	}
	c = a.catalog()
	p := &Pipeline{Source: s, Sink: l, Catalog: c, Account: a.account, Options: a.options, Spool: spool.New(filepath.Join(a.dir, ".mailhaul"), a.spool)}
	if _, err := p.Run(t.Context()); !errors.Is(err, died) {
		t.Fatal(err)
	}
	l.outcome = nil
	r, err := a.send(t.Context(), s, l)
	if err != nil || r.Total.Doubt != 1 || r.Total.Stored != 2 || r.Total.Known != 2 || len(r.InDoubt) != 1 || r.InDoubt[0].ID != "3" {
		t.Fatalf("%+v %+v, %v", r.Total, r.InDoubt, err)
	}
	a.options.Resend = true
	r, err = a.send(t.Context(), s, l)
	if err != nil || r.Total.Doubt != 0 || r.Total.Stored != 1 || count(l.inside, told(2)) != 1 {
		t.Fatalf("%+v, %v", r.Total, err)
	}
}

// TestTooManyAhead: more than allowed, and nothing is sent.
func TestTooManyAhead(t *testing.T) {
	a, s := newLetters(t)
	s.folder("Work").add(letter(20))
	l := &letterbox{}
	a.options.Most = 5
	var many *ManyAhead
	if _, err := a.send(t.Context(), s, l); !errors.As(err, &many) || many.Count != 6 || l.begun != 0 {
		t.Fatalf("%v, %d begun", err, l.begun)
	}
	a.options.Most = 6
	if r, err := a.send(t.Context(), s, l); err != nil || r.Total.Stored != 6 {
		t.Fatalf("%+v, %v", r.Total, err)
	}
	a.options.Most = 1
	s.folder("Work").add(letter(21))
	if r, err := a.send(t.Context(), s, l); err != nil || r.Total.Stored != 1 {
		t.Fatalf("what is known counts: %+v, %v", r.Total, err)
	}
}
