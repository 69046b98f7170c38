package mail

import (
	"regexp"
	"testing"
)

func TestPath(t *testing.T) {
	p := Join("Work", "a/b", "100%", "")
	if p != "Work/a%2Fb/100%25/" {
		t.Fatalf("joined to %q", p)
	}
	for i, want := range []string{"Work", "a/b", "100%", ""} {
		if got := p.Parts()[i]; got != want {
			t.Errorf("part %d is %q, want %q", i, got, want)
		}
	}
	for _, p := range []Path{"a%2Fb/Gr%C3%BCn/%25/\xff%FE", "a%2fb/Grün/%/%FF\xfe"} {
		if got := p.Plain(); got != "a%2Fb/Grün/%25/%FF%FE" || got.Plain() != got {
			t.Errorf("spelled plainly %q is %q", p, got)
		}
	}
	if !p.Within("Work") || Path("Workshop").Within("Work") {
		t.Error("Within looks at letters, not parts")
	}
}

func TestFlags(t *testing.T) {
	f := NewFlags(`\seen`, "$Forwarded", `\RECENT`, `\Seen`, "Work")
	if f.Key() != `$Forwarded Work \Seen` {
		t.Fatalf("set is %q", f.Key())
	}
	if !f.Has(Seen) || f.Has(Draft) {
		t.Error("Has is wrong")
	}
	if !ParseFlags(f.Key()).Equal(f) || ParseFlags("") != nil {
		t.Error("ParseFlags does not undo Key")
	}
}

// FuzzClean is row J11: nothing from elsewhere steers a terminal.
func FuzzClean(f *testing.F) {
	f.Add("a\x1b]52;c;x\x07\r\n\u202e\xff")
	plain := regexp.MustCompile(`^[^\x00-\x1f\x7f-\x{9f}\x{200b}-\x{200f}\x{202a}-\x{202e}\x{2066}-\x{2069}\x{fffd}]*$`)
	f.Fuzz(func(t *testing.T, s string) {
		if got := Clean(s); !plain.MatchString(got) && !regexp.MustCompile(`\x{fffd}`).MatchString(s) {
			t.Fatalf("%q became %q", s, got)
		}
	})
}

func TestConceal(t *testing.T) {
	Conceal("s3cret-word")
	Conceal("pw")
	if got := Clean("no: s3cret-word is wrong, pw"); got != "no: ... is wrong, pw" {
		t.Errorf("got %q", got)
	}
}
