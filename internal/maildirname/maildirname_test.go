package maildirname

import (
	"strings"
	"testing"

	"mailhaul/internal/mail"
)

func TestName(t *testing.T) {
	for _, c := range []struct{ file, unique, fields, info string }{
		{"a.b-c", "a.b-c", "", ""},
		{"a,S=1,W=2", "a", ",S=1,W=2", ""},
		{"a,S=1,W=2:2,", "a", ",S=1,W=2", ""},
		{"a:2,FSab", "a", "", "FSab"},
		{"a,S=1:2,S,extra", "a", ",S=1", "S,extra"},
		{"a:1,x", "a", ":1,x", ""},
		{":2,S", "", "", "S"},
		{"", "", "", ""},
	} {
		file := strings.ReplaceAll(c.file, ":", separator)
		n := Parse(file)
		if n.Unique != c.unique || strings.ReplaceAll(n.Fields, separator, ":") != c.fields || n.Info != c.info {
			t.Errorf("%s is %+v", file, n)
		}
		if n.String() != file || Unique(file) != c.unique {
			t.Errorf("%s became %s", file, n)
		}
	}
	if got := New("x", 12, 14).String(); got != "x,S=12,W=14" {
		t.Error(got)
	}
}

func TestFlags(t *testing.T) {
	var k Keywords
	flags := mail.NewFlags(`\Seen`, `\Flagged`, `\Deleted`, "$Forwarded", "Work", "$Junk", `\Odd`, "a b")
	if !k.Add(flags) || k.Add(flags) {
		t.Error("Add does not tell what is new")
	}
	if k.String() != "0 $Junk\n1 Work\n" {
		t.Errorf("keywords are %q", k)
	}
	n := New("x", 1, 2).With(flags, k)
	if n.Info != "FPSTab" || n.Dir() != "cur" {
		t.Errorf("info is %q in %s", n.Info, n.Dir())
	}
	if got := n.Flags(k).Key(); got != `$Forwarded $Junk Work \Deleted \Flagged \Seen` {
		t.Errorf("flags are %q", got)
	}
	if n := New("x", 1, 2).With(nil, k); n.Has || n.Dir() != "new" {
		t.Errorf("without flags: %s in %s", n, n.Dir())
	}
	n.Info = "FSXaz" // X and z are of somebody else
	if n := n.With(mail.NewFlags(`\Answered`), k); n.Info != "RXz" {
		t.Errorf("info is %q", n.Info)
	}
	if n := n.With(nil, k); n.Dir() != "cur" {
		t.Error("a file went back to new")
	}
	for i := range 40 {
		k.Add(mail.NewFlags("k" + string(rune('A'+i))))
	}
	if len(k) != MostKeywords {
		t.Errorf("%d keywords", len(k))
	}
}

func TestKeywords(t *testing.T) {
	k := ParseKeywords("0 a\n2 c\r\nx\n99 z\n-1 q\n3 \n")
	if k.String() != "0 a\n2 c\n" {
		t.Fatalf("got %q", k)
	}
	k.Add(mail.NewFlags("b"))
	if k.String() != "0 a\n1 b\n2 c\n" {
		t.Fatalf("got %q", k)
	}
}

// FuzzName: every name prints as it was, and flags come back.
func FuzzName(f *testing.F) {
	f.Add("a,S=1:2,S", `\Seen Work`, "0 Work\n")
	f.Fuzz(func(t *testing.T, file, flags, keywords string) {
		n := Parse(file)
		if n.String() != file || n.Unique != Unique(file) {
			t.Fatalf("%q became %q", file, n)
		}
		k := ParseKeywords(keywords)
		set := mail.ParseFlags(flags)
		k.Add(set)
		m := n.With(set, k)
		if m.Unique != n.Unique || m.Fields != n.Fields || n.Has && !m.Has {
			t.Fatalf("%q became %q", n, m)
		}
		for _, f := range m.Flags(k) {
			if !set.Has(f) {
				t.Fatalf("%q shows %s", m, f)
			}
		}
		if again := m.With(set, k); again != m {
			t.Fatalf("%q became %q", m, again)
		}
	})
}
