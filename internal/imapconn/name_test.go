package imapconn

import (
	"strings"
	"testing"

	"mailhaul/internal/mail"
	"mailhaul/internal/testmail"
)

// TestNames is row A15 and G3: every name has a path of its own that leads back
// to its bytes.
func TestNames(t *testing.T) {
	seen := map[mail.Path]string{}
	for _, n := range testmail.Names() {
		var delimiter byte
		if n.Delim != "" {
			delimiter = n.Delim[0]
		}
		path := PathOf(n.Raw, delimiter)
		if back := NameOf(path, delimiter); back != n.Raw {
			t.Errorf("%s: %q became %q and that %q", n.About, n.Raw, path, back)
		}
		if other, taken := seen[path]; taken && delimiter == '/' {
			t.Errorf("%q and %q are both %q", n.Raw, other, path)
		}
		seen[path] = n.Raw
	}
	for raw, want := range map[string]mail.Path{
		"iNbOx": "INBOX", "Entw&APw-rfe": "Entwürfe", "Entwürfe": "Entw%C3%BCrfe", "Entw\xfcrfe": "Entw%FCrfe",
		"a &- b": "a & b", "a & b": "a %26 b", "100%": "100%25", "&AGE-": "%26AGE-", "&AAE-": "%26AAE-", "\x01": "%01",
		"a.b/c": "a.b/c", "": "", "/": "/", "&-": "&", "%26": "%2526",
	} {
		if got := PathOf(raw, '/'); got != want {
			t.Errorf("%q became %q, want %q", raw, got, want)
		}
	}
	if got := PathOf("a/b.c", '.'); got != "a%2Fb/c" || NameOf(got, '.') != "a/b.c" {
		t.Error(got)
	}
	if got := PathOf("a/b.c", 0); got != "a%2Fb.c" || NameOf(got, 0) != "a/b.c" {
		t.Error(got)
	}
}

// FuzzNames: two names never share a path, and a path leads back.
func FuzzNames(f *testing.F) {
	for _, n := range testmail.Names() {
		f.Add(n.Raw, "&AGE-", byte('/'))
	}
	f.Add("%26", "&-%", byte('.'))
	f.Add("&APw-", "\xc3\xbc", byte(0))
	f.Fuzz(func(t *testing.T, a, b string, delimiter byte) {
		pa, pb := PathOf(a, delimiter), PathOf(b, delimiter)
		back := NameOf(pa, delimiter)
		if strings.EqualFold(a, "INBOX") {
			a, back = strings.ToUpper(a), strings.ToUpper(back)
		}
		if back != a {
			t.Errorf("%q became %q and that %q (delimiter %q)", a, pa, back, delimiter)
		}
		if strings.EqualFold(b, "INBOX") {
			b = strings.ToUpper(b)
		}
		if (pa == pb) != (a == b) {
			t.Errorf("%q and %q are both %q", a, b, pa)
		}
	})
}
