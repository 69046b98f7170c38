package testmail

import (
	"strings"

	"mailhaul/internal/mail"
)

// A Name is a folder's name as it goes over the wire.
type Name struct {
	About string
	Raw   string // modified UTF-7 where the server knows what it does (RFC 3501, section 5.1.3)
	Delim string // "" for a server without hierarchy
	Valid bool   // a careful server could send it
}

// Names are folder names that mail programs stumble over.
func Names() []Name {
	return []Name{
		{"inbox", "INBOX", "/", true},
		{"below inbox", "INBOX/Work", "/", true},
		{"inbox in lower case below another", "Old/inbox", "/", true},
		{"nested", "Work/Projects/2021", "/", true},
		{"parent that holds nothing else", "Deep/er/and/deep/er", "/", true},
		{"non-ASCII", EncodeName("Größe & Maße"), "/", true},
		{"japanese", EncodeName("日本語"), "/", true},
		{"emoji", EncodeName("🎉 party"), "/", true},
		{"decomposed", EncodeName("u\u0308ber"), "/", true},
		{"composed", EncodeName("über"), "/", true},
		{"case one", "Lists", "/", true},
		{"case two", "LISTS", "/", true},
		{"slash where dot separates", "a/b", ".", true},
		{"dot where slash separates", "a.b", "/", true},
		{"dots", "..", "/", true},
		{"up", "../../etc/passwd", "/", true},
		{"absolute", "/etc/passwd", "/", true},
		{"dot", ".", "/", true},
		{"hidden", ".hidden", "/", true},
		{"cur", "cur", "/", true},
		{"new below tmp", "tmp/new", "/", true},
		{"our own", ".mailhaul", "/", true},
		{"mbox", "INBOX.mbox", "/", true},
		{"lock", "INBOX.lock", "/", true},
		{"device", "CON", "/", true},
		{"device with ending", "aux.txt", "/", true},
		{"blank behind", "behind ", "/", true},
		{"blank before", " before", "/", true},
		{"dot behind", "behind.", "/", true},
		{"quote and backslash", `a"b\c`, "/", true},
		{"percent and star", "50%*", "/", true},
		{"tilde", "~ann", "/", true},
		{"colon and bar", `a:b|c<d>e?f`, "/", true},
		{"minus", "-rf", "/", true},
		{"very long", strings.Repeat("long", 200), "/", true},
		{"very long in japanese", EncodeName(strings.Repeat("長", 100)), "/", true},
		{"very deep", strings.Repeat("d/", 60) + "d", "/", true},
		{"no hierarchy", "a/b.c", "", true},
		{"control characters", "a\x07b\x1b[2Jc", "/", false},
		{"tab", "a\tb", "/", false},
		{"line end", "a\r\nb", "/", false},
		{"bidi", EncodeName("\u202egnp.exe"), "/", true},
		{"bare ampersand", "Tom & Jerry", "/", false},
		{"ampersand without end", "a&b", "/", false},
		{"plain letters encoded", "&AGE-", "/", false},
		{"lone surrogate", "&2AA-", "/", false},
		{"latin1", "Entw\xfcrfe", "/", false},
		{"utf-8", "Entwürfe", "/", false},
		{"broken utf-8", "a\xff\xfe", "/", false},
		{"empty part", "a//b", "/", false},
		{"delimiter behind", "a/", "/", false},
	}
}

// Paths are nasty folder names in the form the core uses, for sources and
// sinks that are not servers.
func Paths() []mail.Path {
	return []mail.Path{
		mail.Inbox,
		mail.Join("INBOX", "Work"),
		mail.Join("Work", "Projects", "2021"),
		mail.Join("Größe & Maße"),
		mail.Join("日本語"),
		mail.Join("🎉 party"),
		mail.Join("a/b"),
		mail.Join("100%"),
		mail.Join("a%2Fb"),
		mail.Join("a.b"),
		mail.Join(".."),
		mail.Join("..", "..", "etc", "passwd"),
		mail.Join("."),
		mail.Join(".hidden"),
		mail.Join("cur"),
		mail.Join("tmp", "new"),
		mail.Join(".mailhaul"),
		mail.Join("INBOX.mbox"),
		mail.Join("Lists"),
		mail.Join("LISTS"),
		mail.Join("CON"),
		mail.Join("behind "),
		mail.Join("behind."),
		mail.Join("a\x07b\x1b[2Jc"),
		mail.Join("a\r\nb"),
		mail.Join("a\x00b"),
		mail.Join("Entw\xfcrfe"),
		mail.Join("u\u0308ber"),
		mail.Join("über"),
		mail.Join("\u202egnp.exe"),
		mail.Join(strings.Repeat("long", 200)),
		mail.Join(strings.Repeat("長", 100)),
	}
}
