package verify

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"strings"
	"testing"

	"mailhaul/internal/mail"
)

// TestMark: what is damaged is lost to the catalog afterwards, unless nothing is
// to be noted; what is whole again is not.
func TestMark(t *testing.T) {
	for _, format := range []string{"mbox", "maildir"} {
		t.Run(format, func(t *testing.T) {
			dir := stored(t, format)
			look := func(o Options) *Result {
				t.Helper()
				s, cat := open(t, format, dir, false)
				defer cat.Close()
				defer s.Close()
				r, err := Run(t.Context(), s, cat, o)
				if err != nil {
					t.Fatal(err)
				}
				lost, err := cat.Lost(t.Context())
				if want := len(r.Problems); err != nil || (o.Mark && len(lost) != want) {
					t.Errorf("%d are lost, %d problems, %v", len(lost), want, err)
				}
				return r
			}
			change(t, dir, "body c", "body X")
			if r := look(Options{}); len(r.Problems) != 1 || r.Marked != 0 || r.Problems[0].Aside != "" {
				t.Errorf("%+v", r)
			}
			r := look(Options{Mark: true})
			if len(r.Problems) != 1 || r.Problems[0].Kind != Damaged || r.Marked != 1 || r.Messages != 9 {
				t.Fatalf("%+v", r)
			}
			aside := r.Problems[0].Aside
			if (aside != "") != (format == "maildir") {
				t.Errorf("set aside as %q", aside)
			}
			if aside != "" {
				if text, err := os.ReadFile(aside); err != nil || !strings.Contains(string(text), "body X") {
					t.Errorf("%q, %v", text, err)
				}
			}
			if r := look(Options{Mark: true}); len(r.Problems) != 1 || r.Marked != 0 || r.Foreign != 0 {
				t.Errorf("%+v", r)
			}
			if format == "mbox" { // its owner puts it right
				change(t, dir, "body X", "body c")
				if r := look(Options{Mark: true}); len(r.Problems) != 0 || r.Regained != 1 || r.Messages != 10 {
					t.Errorf("%+v", r)
				}
				if r := look(Options{}); r.Regained != 0 || r.Messages != 10 {
					t.Errorf("%+v", r)
				}
			}
		})
	}
}

// TestQuickNotesNothing: where nothing was read nothing is known for sure.
func TestQuickNotesNothing(t *testing.T) {
	for _, format := range []string{"mbox", "maildir"} {
		dir := stored(t, format)
		os.RemoveAll(dir + "/Work")
		os.Remove(dir + "/Work.mbox")
		s, cat := open(t, format, dir, false)
		r, err := Run(t.Context(), s, cat, Options{Quick: true})
		if err != nil || len(r.Problems) != 5 || r.Messages != 5 || !r.Quick {
			t.Errorf("%s: %+v, %v", format, r, err)
		}
		if lost, err := cat.Lost(t.Context()); err != nil || len(lost) != 0 {
			t.Errorf("%s: %v, %v", format, lost, err)
		}
		s.Close()
		cat.Close()
	}
}

// TestRaw finds a catalog that has lost how the lines of a message ended.
func TestRaw(t *testing.T) {
	for _, format := range []string{"mbox", "maildir"} {
		dir := stored(t, format)
		s, cat := open(t, format, dir, false)
		r, err := Run(t.Context(), s, cat, Options{Raw: true})
		if err != nil || len(r.Problems) != 0 || r.Raw == nil || r.Raw.Received != 10 || r.Raw.Claimed != 0 || r.Raw.Bytes <= r.Bytes {
			t.Errorf("%s: %+v, %+v, %v", format, r, r.Raw, err)
		}
		s.Close()
		cat.Close()
	}
	for _, c := range []struct {
		ends string
		why  string
	}{
		{"crlf", ""}, {"crlf-open", "rebuilt"}, {"mixed:0,3", "line ends"}, {"lf", ""},
	} {
		e, err := mail.ParseEnds(c.ends)
		if err != nil {
			t.Fatal(err)
		}
		f := &refolder{ends: e, sum: sha256.New()}
		w := e.Restore(f)
		w.Write([]byte("a\nb\nc\n"))
		w.Close()
		size := e.Size(6, 3)
		if c.ends == "crlf-open" {
			size++ // as a catalog with another word about it has
		}
		got := f.differs(size, sha256.Sum256([]byte("a\nb\nc\n")))
		if (got == "") != (c.why == "") || !strings.Contains(got, c.why) {
			t.Errorf("%s: %q, want %q", c.ends, got, c.why)
		}
	}
	f := &refolder{ends: mail.Ends{Kind: mail.EndsCRLF}, sum: sha256.New()}
	f.Write([]byte("a\r\n"))
	if got := f.differs(3, sha256.Sum256([]byte("b\n"))); !strings.Contains(got, "digest") {
		t.Errorf("another text: %q", got)
	}
}

// TestInterrupted: an interrupt in the middle of reading is the error, and no
// message passes for damaged because of it.
func TestInterrupted(t *testing.T) {
	for _, format := range []string{"mbox", "maildir"} {
		for _, o := range []Options{{Workers: 1, Mark: true}, {Workers: 3, Mark: true}, {Workers: 2, Raw: true, Mark: true}} {
			dir := stored(t, format)
			s, cat := open(t, format, dir, false)
			ctx, cancel := context.WithCancelCause(t.Context())
			stop := errors.New("enough")
			o.Progress = func(_ mail.Path, messages, _ int64) {
				if messages > 0 != o.Raw {
					cancel(stop)
				}
			}
			r, err := Run(ctx, s, cat, o)
			if !errors.Is(err, stop) || len(r.Problems) != 0 {
				t.Errorf("%s: %+v, %v", format, r, err)
			}
			if lost, err := cat.Lost(t.Context()); err != nil || len(lost) != 0 {
				t.Errorf("%s: %v are lost, %v", format, lost, err)
			}
			cancel(nil)
			s.Close()
			cat.Close()
		}
	}
}
