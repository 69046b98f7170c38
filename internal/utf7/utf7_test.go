package utf7

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzDecode is trap T10: what decodes is the one way to write it, and all text
// can be written.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{"Entw&APw-rfe", "&-", "&", "a&b", "&AGE-", "&2D3cqQ-", "&2D0-", "&APw-&APw-", "&AP=-", "Tom &- Jerry", "ü", "\xff", "&AAE-", "日本語 💩"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if plain, ok := Decode(s); ok {
			if !utf8.ValidString(plain) || Encode(plain) != s {
				t.Errorf("%q became %q", s, plain)
			}
		}
		if utf8.ValidString(s) && !strings.ContainsRune(s, utf8.RuneError) {
			if back, ok := Decode(Encode(s)); !ok || back != s {
				t.Errorf("%q is written %q and read %q", s, Encode(s), back)
			}
		}
	})
}

func TestDecode(t *testing.T) {
	for written, plain := range map[string]string{
		"INBOX": "INBOX", "Entw&APw-rfe": "Entwürfe", "&ZeVnLIqe-/&MOEw,DDr-": "日本語/メール", "a &- b": "a & b",
		"~peter/mail/&U,BTFw-/&ZeVnLIqe-": "~peter/mail/台北/日本語", "&2D3cqQ-": "💩",
	} {
		if got, ok := Decode(written); !ok || got != plain || Encode(plain) != written {
			t.Errorf("%q: %q", written, got)
		}
	}
	for _, s := range []string{"&", "a&b", "&AGE-", "&APw", "&APw-&APw-", "&2D0-", "&AP=-", "&APx-", "&A-", "ü", "\xfc", "\t", "&//0-", "Tom & Jerry"} {
		if got, ok := Decode(s); ok {
			t.Errorf("%q passes as %q", s, got)
		}
	}
}
