package location

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		raw  string
		want Location
	}{
		{"imaps://ann@example.org@imap.example.org", Location{Scheme: "imaps", User: "ann@example.org", Host: "imap.example.org"}},
		{"IMAP://ann@localhost:1143/Work/a%20b?tls=none", Location{Scheme: "imap", User: "ann", Host: "localhost:1143", Path: "Work/a b", Option: url.Values{"tls": {"none"}}}},
		{"imaps://ann@[::1]:993/", Location{Scheme: "imaps", User: "ann", Host: "[::1]:993"}},
		{"imaps://imap.example.org", Location{Scheme: "imaps", Host: "imap.example.org"}},
		{"imaps://a%3Ab@h/x@y", Location{Scheme: "imaps", User: "a:b", Host: "h", Path: "x@y"}},
		{"mbox:mail/ann", Location{Scheme: "mbox", Path: "mail/ann"}},
		{"maildir:~/mail?layout=maildir%2B%2B", Location{Scheme: "maildir", Path: "/home/ann/mail", Option: url.Values{"layout": {"maildir++"}}}},
		{"mbox:~", Location{Scheme: "mbox", Path: "/home/ann"}},
		{"mbox:a:b@c", Location{Scheme: "mbox", Path: "a:b@c"}},
	} {
		if c.want.Option == nil {
			c.want.Option = url.Values{}
		}
		got, err := Parse(c.raw, "/home/ann")
		if diff := cmp.Diff(got, c.want); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", c.raw, err, diff)
		}
		again, err := Parse(got.String(), "/home/ann")
		if diff := cmp.Diff(again, got); diff != "" || err != nil {
			t.Errorf("%s printed as %s: %v\n%s", c.raw, got, err, diff)
		}
	}
}

// TestParseRefuses also checks that no error repeats what may be a password.
func TestParseRefuses(t *testing.T) {
	for _, raw := range []string{
		"", "mail/ann", "imaps", "imaps://", "imaps:///x", "imaps://ann@", "mbox:", "imaps://ann@h?%zz", "imaps://a%zz@h", "imaps://ann@h/%zz",
		"imaps://ann:canary@h", "imaps://ann@x:canary@h", "imaps://ann:canary/x@h", "imaps://ann:canary/x@h?y=%zz", "imaps://a\nb@h", "imaps://a:b:canary",
		"imaps://ann@h?p=canary%zz",
	} {
		_, err := Parse(raw, "")
		if !errors.Is(err, ErrUsage) {
			t.Errorf("%q: %v", raw, err)
			continue
		}
		if said := err.Error() + Hint(err); strings.Contains(said, "canary") {
			t.Errorf("%q is repeated: %s", raw, said)
		}
	}
}

func TestRegistry(t *testing.T) {
	var r Registry[string]
	r.Register(&Scheme[string]{Names: []string{"imaps", "imap"}, Form: "imaps://USER@HOST", Options: []Option{{Name: "connections", Default: "4"}, {Name: "ca_file"}},
		Open: func(_ context.Context, l Location, _ Env) (string, error) { return l.String(), nil }})
	r.Register(&Scheme[string]{Names: []string{"mbox"}, Form: "mbox:PATH"})
	if got, err := r.Open(t.Context(), "imap://ann@h", Env{}); got != "imap://ann@h?connections=4" || err != nil {
		t.Errorf("%s, %v", got, err)
	}
	for _, c := range []struct{ raw, hint string }{
		{"imasp://ann@h", "did you mean imaps:?"},
		{"ftp://ann@h", "known here: imap, imaps, mbox"},
		{"imaps://ann@h?conections=2", "did you mean connections=?"},
		{"imaps://ann@h?ca_file=a&ca_file=b", "give it once"},
		{"imaps:ann@h", "write imaps://USER@HOST"},
		{"mbox:x?status=yes", "mbox has no options"},
		{"imaps://ann@h?password=canary", "leave the password out"},
		{"imaps://ann@h?x=canary", "imaps knows connections, ca_file"},
	} {
		_, _, err := r.Check(c.raw, "")
		if !errors.Is(err, ErrUsage) || !strings.HasPrefix(Hint(err), c.hint) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v; hint %q, want %q", c.raw, err, Hint(err), c.hint)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a scheme was registered twice")
		}
	}()
	r.Register(&Scheme[string]{Names: []string{"imap"}})
}

func FuzzParse(f *testing.F) {
	f.Add("imaps://ann@example.org@imap.example.org:993/Work?x=y")
	f.Add("mbox:~/mail")
	f.Fuzz(func(t *testing.T, raw string) {
		l, err := Parse(raw, "/home")
		if err != nil {
			return
		}
		again, err := Parse(l.String(), "/home")
		if err != nil || !cmp.Equal(again, l) {
			t.Fatalf("%q is %+v, printed %q is %+v (%v)", raw, l, l.String(), again, err)
		}
	})
}
