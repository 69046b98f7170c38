package foldername

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mailhaul/internal/mail"
)

func TestParts(t *testing.T) {
	for _, c := range []struct{ name, part, want string }{
		{"plain", "Work", "Work"},
		{"other letters", "Entwürfe 台北", "Entwürfe 台北"},
		{"empty", "", "%"},
		{"dot", ".", "%2E"},
		{"up", "..", "%2E%2E"},
		{"hidden", ".git", "%2Egit"},
		{"trailing dot", "a.", "a%2E"},
		{"trailing blank", "a ", "a%20"},
		{"inner dot and blank", "a. b", "a. b"},
		{"slash", "a/b", "a%2Fb"},
		{"backslash", `a\b`, "a%5Cb"},
		{"percent", "100%", "100%25"},
		{"looks escaped", "%2E", "%252E"},
		{"drive", "C:", "C%3A"},
		{"newline", "a\r\nb", "a%0D%0Ab"},
		{"bidi", "a\u202eb", "a%E2%80%AEb"},
		{"not UTF-8", "a\xffb", "a%FFb"},
		{"maildir", "cur", "%63ur"},
		{"maildir in capitals", "TMP", "%54MP"},
		{"more than maildir", "current", "current"},
		{"ours", "Mailhaul.manifest", "%4Dailhaul.manifest"},
		{"device", "aux", "%61ux"},
		{"device with extension", "Com1.old", "%43om1.old"},
		{"no device", "compact", "compact"},
		{"mailbox file", "INBOX.mbox", "INBOX%2Embox"},
		{"its lock", "INBOX.mbox.lock", "INBOX%2Embox%2Elock"},
		{"torn tail", "a.mbox.torn-2026", "a%2Embox%2Etorn-2026"},
		{"dovecot", "dovecot-keywords", "%64ovecot-keywords"},
		{"like a cut name", "a~0123456789abcdef", "a%7E0123456789abcdef"},
		{"tilde", "a~b", "a~b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := mail.Join(c.part)
			if c.part == "" {
				p = mail.Join("a", "", "b")
				c.want = "a/%/b"
			}
			got, err := Parts(p)
			if err != nil || strings.Join(got, "/") != c.want {
				t.Fatalf("got %q, %v, want %q", got, err, c.want)
			}
			if back, ok := Path(got); !ok || back != p {
				t.Errorf("%q leads back to %q, %v", got, back, ok)
			}
		})
	}
}

func TestDotted(t *testing.T) {
	for _, c := range []struct{ path, want string }{
		{"INBOX", "."},
		{"Work/Projects", ".Work.Projects"},
		{"INBOX/a.b", ".INBOX.a%2Eb"},
		{"cur", ".%63ur"},
	} {
		got, err := Dotted(mail.Path(c.path))
		if err != nil || got != c.want {
			t.Errorf("%s: got %q, %v, want %q", c.path, got, err, c.want)
		}
		if back, ok := FromDotted(got); !ok || back != mail.Path(c.path) {
			t.Errorf("%q leads back to %q, %v", got, back, ok)
		}
	}
	if p, ok := FromDotted(".a..b"); ok {
		t.Errorf(`".a..b" leads to %q`, p)
	}
}

func TestLong(t *testing.T) {
	for _, letter := range []string{"a", "ü", "\x01", "台"} {
		a := mail.Join(strings.Repeat(letter, 300))
		b := mail.Join(strings.Repeat(letter, 300) + "x")
		na, _ := Parts(a)
		nb, _ := Parts(b)
		if len(na[0]) > most || slices.Equal(na, nb) || na[0] != strings.ToValidUTF8(na[0], "") {
			t.Errorf("got %q and %q", na, nb)
		}
		if p, ok := Path(na); ok {
			t.Errorf("a cut name leads back to %q", p)
		}
	}
	if _, err := Parts(mail.Path(strings.Repeat("a/", Deepest) + "a")); err == nil {
		t.Error("no limit of depth")
	}
	if _, err := Parts(""); err == nil {
		t.Error("a folder without a name has one")
	}
}

func TestKey(t *testing.T) {
	for _, c := range [][2]string{{"Work", "WORK"}, {"Entw\u00fcrfe", "ENTWU\u0308RFE"}, {"stra\u00dfe", "STRASSE"}} {
		if Key(mail.Path(c[0])) != Key(mail.Path(c[1])) {
			t.Errorf("%q and %q are kept apart", c[0], c[1])
		}
	}
}

// FuzzParts is rows G1 to G5 and G8: inside, one to one, and back again.
func FuzzParts(f *testing.F) {
	for _, s := range []string{"..", "a/../b", "a\x00b", "%", "%%41", "~0123456789abcdef", "cur/new", "a.b", strings.Repeat("ü%", 120)} {
		f.Add(s, s+"x")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		pa := mail.Join(strings.Split(a, "\n")...)
		pb := mail.Join(strings.Split(b, "\n")...)
		na, err := Parts(pa)
		if err != nil {
			return
		}
		long := false
		for _, n := range na {
			if n == "" || n[0] == '.' || len(n) > most || strings.ContainsAny(n, "/\\:\x00\n\x1b") || n != strings.ToValidUTF8(n, "") {
				t.Fatalf("%q became %q", pa, na)
			}
			i := strings.LastIndexByte(n, '~')
			long = long || i >= 0 && cutMark(n[i:])
		}
		if !filepath.IsLocal(filepath.Join(na...)) {
			t.Fatalf("%q leads out: %q", pa, na)
		}
		back, ok := Path(na)
		if ok == long || ok && back != pa {
			t.Fatalf("%q became %q and then %q, %v", pa, na, back, ok)
		}
		if nb, err := Parts(pb); err == nil && pa != pb && slices.Equal(na, nb) {
			t.Fatalf("%q and %q are both %q", pa, pb, na)
		}
		da, _ := Dotted(pa)
		if db, err := Dotted(pb); err == nil && pa != pb && da == db {
			t.Fatalf("%q and %q are both %q", pa, pb, da)
		}
		if da != "." && (da[0] != '.' || len(da) < 2 || da[1] == '.' || strings.ContainsAny(da, "/\\\x00\n")) {
			t.Fatalf("%q became %q", pa, da)
		}
		if back, ok := FromDotted(da); ok && back != pa {
			t.Fatalf("%q became %q and then %q", pa, da, back)
		}
	})
}
