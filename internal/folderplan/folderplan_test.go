package folderplan

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"mailhaul/internal/foldername"
	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/internal/utf7"
	"mailhaul/source"
)

// folders reads "Path", "Path:role" or "Path:role:Raw".
func folders(lines ...string) (all []source.Folder) {
	for _, s := range lines {
		part := strings.SplitN(s, ":", 3)
		f := source.Folder{Path: mail.Path(part[0]), Raw: part[0]}
		if len(part) > 1 {
			f.Role = part[1]
		}
		if len(part) > 2 {
			f.Raw = part[2]
		}
		all = append(all, f)
	}
	return all
}

func maps(t testing.TB, lines ...string) (all []Map) {
	t.Helper()
	for _, s := range lines {
		m, err := ParseMap(s)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

func TestMake(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, c := range []struct {
		name   string
		from   []source.Folder
		to     Dest
		maps   []string
		into   mail.Path
		pinned map[mail.Path]mail.Path
		want   string // "From -> To (why)", or "From skipped (why)", "+" when it exists
	}{
		{name: "the same", from: folders("INBOX", "Work", "Work/A"), to: Dest{Delimiter: '/', Folders: folders("INBOX", "Work")},
			want: "INBOX -> INBOX+ | Work -> Work+ | Work/A -> Work/A"},
		{name: "source below INBOX", from: folders("INBOX", "INBOX/Sent:sent:INBOX.Sent", "INBOX/Work::INBOX.Work", "INBOX/Work/A::INBOX.Work.A"), to: Dest{Delimiter: '/'},
			want: "INBOX -> INBOX+ | INBOX/Sent -> Sent (the source's folders lie below INBOX) | INBOX/Work -> Work (the source's folders lie below INBOX) | INBOX/Work/A -> Work/A (the source's folders lie below INBOX)"},
		{name: "not all below INBOX", from: folders("INBOX", "INBOX/A::INBOX.A", "B"), to: Dest{Delimiter: '/'},
			want: "INBOX -> INBOX+ | B -> B | INBOX/A -> INBOX/A"},
		{name: "an INBOX below INBOX", from: folders("INBOX", "INBOX/INBOX::INBOX.INBOX", "INBOX/a::INBOX.a"), to: Dest{Delimiter: '/'},
			want: "INBOX -> INBOX+ | INBOX/INBOX -> INBOX/INBOX | INBOX/a -> a (the source's folders lie below INBOX)"},
		{name: "no second inbox", from: folders("INBOX", "[Gmail]/inbox", " INBOX"), to: Dest{Delimiter: '/'},
			want: "INBOX -> INBOX+ |  INBOX -> INBOX~943e396e (it would be the inbox) | [Gmail]/inbox -> [Gmail]/inbox"},
		{name: "destination below INBOX", from: folders("INBOX", "Work", "INBOX/A"), to: Dest{Delimiter: '.', Prefix: "INBOX", Folders: folders("INBOX", "INBOX/Work")},
			want: "INBOX -> INBOX+ | INBOX/A -> INBOX/A | Work -> INBOX/Work+ (the destination's folders lie below INBOX)"},
		{name: "both below INBOX", from: folders("INBOX", "INBOX/Work::INBOX.Work"), to: Dest{Delimiter: '.', Prefix: "INBOX"},
			want: "INBOX -> INBOX+ | INBOX/Work -> INBOX/Work"},
		{name: "roles told", from: folders("Gesendet:sent", "Gesendet/2019", "Müll:trash"), to: Dest{Delimiter: '/', Folders: folders("Sent Items:sent", "Deleted Items:trash", "Sent", "Trash")},
			want: "Gesendet -> Sent Items+ (special use: sent) | Gesendet/2019 -> Sent Items/2019 (it goes with the folder around it) | Müll -> Deleted Items+ (special use: trash)"},
		{name: "roles by name", from: folders("Gesendete Elemente", "entwürfe", "Spamverdacht"), to: Dest{Delimiter: '/', Folders: folders("INBOX/Envoyés", "INBOX/Brouillons"), Prefix: "INBOX"},
			want: "Gesendete Elemente -> INBOX/Envoyés+ (special use: sent) | Spamverdacht -> INBOX/Spamverdacht (the destination's folders lie below INBOX) | entwürfe -> INBOX/Brouillons+ (special use: drafts)"},
		{name: "one for a role", from: folders("Sent", "Sent Items:sent", "Sent Messages"), to: Dest{Delimiter: '/', Folders: folders("Sent:sent")},
			want: "Sent -> Sent~c16bc82b (another folder goes there) | Sent Items -> Sent+ (special use: sent) | Sent Messages -> Sent Messages"},
		{name: "the name that is there", from: folders("Gesendet"), to: Dest{Delimiter: '/', Folders: folders("Sent", "Gesendet")}, want: "Gesendet -> Gesendet+"},
		{name: "told beats the name that is there", from: folders("Sent"), to: Dest{Delimiter: '/', Folders: folders("Sent", "Versandt:sent")}, want: "Sent -> Versandt+ (special use: sent)"},
		{name: "files", from: folders("Sent Items:sent", "Sent"), to: Dest{Plain: true, Folders: folders("Sent:sent", "Sent Items:sent")},
			want: "Sent -> Sent+ | Sent Items -> Sent Items+"},
		{name: "Gmail", from: folders("INBOX", "[Gmail]/Sent Mail:sent", "[Gmail]/All Mail:all", "[Gmail]/Starred:flagged", "[Gmail]/Important:important", "[Gmail]/Chats", "Work"),
			to: Dest{Delimiter: '/', Folders: folders("Sent:sent")},
			want: "INBOX -> INBOX+ | Work -> Work | [Gmail]/All Mail -> All Mail (only Gmail has [Gmail]) | [Gmail]/Chats -> Chats (only Gmail has [Gmail]) | " +
				"[Gmail]/Important skipped | [Gmail]/Sent Mail -> Sent+ (special use: sent) | [Gmail]/Starred skipped"},
		{name: "to Gmail", from: folders("Sent:sent", "Sent/2019", "Trash"), to: Dest{Delimiter: '/', Gmail: true, Folders: folders("[Google Mail]/Gesendet:sent", "[Google Mail]/Papierkorb:trash")},
			want: "Sent -> [Google Mail]/Gesendet+ (special use: sent) | Sent/2019 -> Sent/2019 | Trash -> [Google Mail]/Papierkorb+ (special use: trash)"},
		{name: "Gmail to Gmail", from: folders("[Gmail]/All Mail:all", "[Gmail]/Spam:junk"), to: Dest{Delimiter: '/', Gmail: true, Folders: folders("[Google Mail]/Alle Nachrichten:all", "[Google Mail]/Spam:junk")},
			want: "[Gmail]/All Mail -> [Google Mail]/Alle Nachrichten+ (special use: all) | [Gmail]/Spam -> [Google Mail]/Spam+ (special use: junk)"},
		{name: "a view that is mapped", from: folders("[Gmail]/Starred:flagged"), to: Dest{Delimiter: '/'}, maps: []string{"[Gmail]/Starred=Stars"},
			want: "[Gmail]/Starred -> Stars (--map)"},
		{name: "into", from: folders("INBOX", "Sent:sent", "INBOX/x"), to: Dest{Delimiter: '.', Prefix: "INBOX", Folders: folders("INBOX/Sent:sent")}, into: "/Old/",
			want: "INBOX -> INBOX/Old/INBOX (--into) | INBOX/x -> INBOX/Old/INBOX/x (--into) | Sent -> INBOX/Old/Sent (--into)"},
		{name: "maps", from: folders("INBOX", "Old", "Old/a", "Old/a/b", "Lists/x", "Lists/y/z"), to: Dest{Delimiter: '/'}, maps: []string{"Old/a=Else", "Old=New", "Lists/*=L-*", "inbox=Arrived"},
			want: "INBOX -> Arrived (--map) | Lists/x -> L-x (--map) | Lists/y/z -> Lists/y/z | Old -> New (--map) | Old/a -> Else (--map) | Old/a/b -> Else/b (--map)"},
		{name: "a map merges", from: folders("A", "B", "Work"), to: Dest{Delimiter: '/', Folders: folders("WORK")}, maps: []string{"A=Work", "B=Work"},
			want: "A -> Work~559aead0 (the destination has a folder of that name but for case) | B -> Work~559aead0 (--map) | Work -> Work~559aead0 (the destination has a folder of that name but for case)"},
		{name: "a map to the inbox", from: folders("INBOX", "Old Inbox"), to: Dest{Delimiter: '/'}, maps: []string{"Old Inbox=Inbox"}, want: "INBOX -> INBOX+ | Old Inbox -> INBOX+ (--map)"},
		{name: "maps and a prefix", from: folders("A", "B"), to: Dest{Delimiter: '.', Prefix: "INBOX"}, maps: []string{"A=X", "B=INBOX/Y"},
			want: "A -> INBOX/X (--map) | B -> INBOX/Y (--map)"},
		{name: "pinned", from: folders("A", "A/new", "Sent:sent", "X"), to: Dest{Delimiter: '/', Folders: folders("Sent Items:sent")},
			pinned: map[mail.Path]mail.Path{"A": "B", "Sent": "Sent", "X": "Sent Items"}, maps: []string{"A=C"},
			want: "A -> B (as in an earlier run) | A/new -> C/new (--map) | Sent -> Sent | X -> Sent Items+ (as in an earlier run)"},
		{name: "below what is pinned", from: folders("A", "A/new"), to: Dest{Delimiter: '/'}, pinned: map[mail.Path]mail.Path{"A": "B"},
			want: "A -> B (as in an earlier run) | A/new -> B/new (it goes with the folder around it)"},
		{name: "the place of a pinned one", from: folders("A", "B"), to: Dest{Delimiter: '/'}, pinned: map[mail.Path]mail.Path{"A": "B"},
			want: "A -> B (as in an earlier run) | B -> B~df7e70e5 (another folder goes there)"},
		{name: "case", from: folders("Work", "Work/A", "work"), to: Dest{Delimiter: '/', Folders: folders("WORK")},
			want: "Work -> Work~104ab921 (the destination has a folder of that name but for case) | Work/A -> Work~104ab921/A (it goes with the folder around it) | work -> work~00e13ed7 (the destination has a folder of that name but for case)"},
		{name: "case, and the destination tells it apart", from: folders("Work", "work"), to: Dest{Delimiter: '/', Folders: folders("work", "Work")}, want: "Work -> Work+ | work -> work+"},
		{name: "composition", from: folders("Größe::a", "Gro\u0308ße::b"), to: Dest{Delimiter: '/'},
			want: "Gro\u0308ße -> Gro\u0308ße | Größe -> Größe~ca978112 (another folder goes to that name but for case)"},
		{name: "dots", from: folders("a.b", "a_b", "x/y.z"), to: Dest{Delimiter: '.'},
			want: "a.b -> a_b~2e7336dc (another folder goes there) | a_b -> a_b | x/y.z -> x/y_z (the name has a . in it)"},
		{name: "slash", from: folders("a%2Fb"), to: Dest{Delimiter: '/'}, want: "a%2Fb -> a_b (the name has a / in it)"},
		{name: "slash that is there", from: folders("a%2Fb"), to: Dest{Delimiter: '.', Folders: folders("a%2Fb")}, want: "a%2Fb -> a%2Fb+"},
		{name: "odd letters", from: folders(" a ", "100%25", "*", "a\x01b", "~x", "#x", "..", "a/ /b"), to: Dest{Delimiter: '/'},
			want: " a  -> a (the name has blanks around it) | #x -> _x (the name begins with #) | * -> _ (the name has a * in it) | .. -> .._ (a part of the name is empty or only dots) | 100%25 -> 100_ (the name has a % in it) | " +
				"a\x01b -> a_b (the name has a control character in it) | a/ /b -> a/_/b (the name has blanks around it) | ~x -> _x~52fa2173 (another folder goes there)"},
		{name: "names not written as the standard says", from: folders("Entw%FCrfe:drafts", "Tom %26 Jerry", "M%C3%BCll"), to: Dest{Delimiter: '/'},
			want: "Entw%FCrfe -> Entwürfe (the name is not UTF-8) | M%C3%BCll -> Müll (the name is written as the standard says) | Tom %26 Jerry -> Tom & Jerry (the name is written as the standard says)"},
		{name: "flat", from: folders("INBOX", "a/b", "a-b"), to: Dest{},
			want: "INBOX -> INBOX+ | a-b -> a-b | a/b -> a-b~c14cddc0 (another folder goes there)"},
		{name: "too long", from: folders(mailPath("a", long)), to: Dest{Delimiter: '/'},
			want: "a/" + long + " -> a/" + long[:255-2-9] + "~e5d37797 (the name is too long)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			lines, err := Make(c.from, c.to, Rules{maps(t, c.maps...), c.into}, c.pinned)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, l := range lines {
				got = append(got, text(l))
			}
			if s := strings.Join(got, " | "); s != c.want {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.ReplaceAll(c.want, " | ", "\n"))
			}
		})
	}
}

func mailPath(parts ...string) string { return string(mail.Join(parts...)) }

func text(l Line) string {
	if l.Skip != "" {
		return string(l.From.Path) + " skipped"
	}
	s := fmt.Sprintf("%s -> %s", l.From.Path, l.To)
	if l.Exists {
		s += "+"
	}
	if l.Why != "" {
		s += " (" + l.Why + ")"
	}
	return s
}

func TestAllMail(t *testing.T) {
	lines, err := Make(folders("INBOX", "[Gmail]/All Mail:all"), Dest{Delimiter: '/'}, Rules{}, nil)
	if err != nil || lines[0].Note != "" || !strings.Contains(lines[1].Note, "again") {
		t.Errorf("%+v, %v", lines, err)
	}
}

func TestParseMap(t *testing.T) {
	for _, c := range []struct{ text, path, want string }{
		{"Old=New", "Old", "New"},
		{"Old=New", "Old/a/b", "New/a/b"},
		{"Old=New", "Older", ""},
		{"/Old/=New/", "Old", "New"},
		{"Old/*=New/*", "Old/a", "New/a"},
		{"Old/*=New/*", "Old", ""},
		{"Old/*=New/*", "Old/a/b", ""},
		{"Old/**=New/**", "Old/a/b", "New/a/b"},
		{"*/*=**/*", "a/b", "a/b"},
		{"*/*-old=*/*", "a/b-old", "a/b"},
		{"Lists/*=Lists", "Lists/a", "Lists"},
		{"a%3Db=c=d", "a=b", "c=d"},
		{"20??=Years/20??", "2019", "Years/2019"},
		{"20??=Years/20??", "2019/May", "Years/2019/May"},
		{"x?=Really?", "xß", "Reallyß"},
		{"x=Really?", "x", "Really?"},
		{"INBOX=Old", "INBOX", "Old"},
		{"inbox=Old", "INBOX", "Old"},
		{"Old=inbox", "Old", "INBOX"},
		{"**=*", "", ""},
	} {
		m, err := ParseMap(c.text)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := m.apply(mail.Path(c.path)); string(got) != c.want || ok != (c.want != "") {
			t.Errorf("%s sends %s to %q, %v", c.text, c.path, got, ok)
		}
		if again, err := ParseMap(m.String()); err != nil || again != m {
			t.Errorf("%s is printed %s", c.text, m)
		}
	}
	for _, bad := range []string{"", "=", "a", "a=", "=b", "/=b", "a=*", "a/*=*/*", "a?=??"} {
		if _, err := ParseMap(bad); !errors.Is(err, location.ErrUsage) || location.Hint(err) == "" {
			t.Errorf("%q: %v", bad, err)
		}
	}
	_, err := Make(folders("INBOX", "Work"), Dest{}, Rules{Maps: maps(t, "Wrok=New")}, nil)
	if !errors.Is(err, location.ErrUsage) || !strings.Contains(location.Hint(err), "Work") {
		t.Errorf("%v (%s)", err, location.Hint(err))
	}
}

// words are what random names are made of: few, so that they meet.
var words = []string{"a", "A", "a.b", "a_b", "a-b", "Sent", "sent", "Gesendet", "Trash", "INBOX", "inbox", " a", "a ", "ä", "a\u0308",
	"100%", "*", "x/y", "[Gmail]", "~", "#", ".", "", "&", "\x01", "Archive", strings.Repeat("long ", 60), strings.Repeat("ü", 60), "a~ca978112"}

// account makes one with random folders, as a server may show it.
func account(r *rand.Rand, most int) []source.Folder {
	delimiter := []string{"/", ".", "^"}[r.IntN(3)]
	prefix := r.IntN(4) == 0
	seen := map[mail.Path]bool{}
	var all []source.Folder
	for range r.IntN(most) {
		var parts []string
		if prefix {
			parts = append(parts, "INBOX")
		}
		for range 1 + r.IntN(3) {
			parts = append(parts, words[r.IntN(len(words))])
		}
		f := source.Folder{Path: mail.Join(parts...), Raw: strings.Join(parts, delimiter)}
		if r.IntN(5) == 0 {
			f.Path = mail.Inbox
			f.Raw = "INBOX"
		}
		if f.Path == "" || seen[f.Path] {
			continue
		}
		seen[f.Path] = true
		if r.IntN(6) == 0 {
			f.Role = []string{"sent", "trash", "all", "flagged", "archive"}[r.IntN(5)]
		}
		all = append(all, f)
	}
	return all
}

func dest(r *rand.Rand) Dest {
	d := Dest{Folders: account(r, 12), Delimiter: []byte{'/', '.', 0, '\\'}[r.IntN(4)], Gmail: r.IntN(5) == 0}
	if d.Delimiter != 0 && r.IntN(4) == 0 {
		d.Prefix = mail.Inbox
	}
	return d
}

// TestProperties is rows D5 and G3: whatever the folders are, no two meet, all
// can be made, and nothing moves once it has its place.
func TestProperties(t *testing.T) {
	rounds := uint64(1000)
	if testing.Short() {
		rounds = 300
	}
	for seed := range rounds {
		r := rand.New(rand.NewPCG(seed, 1))
		from, d := account(r, 20), dest(r)
		var rules Rules
		if r.IntN(5) == 0 {
			rules.Into = mail.Join(words[r.IntN(3)])
		}
		lines := check(t, seed, from, d, rules, nil)

		shuffled := slices.Clone(from)
		r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if again := check(t, seed, shuffled, d, rules, nil); !slices.Equal(again, lines) {
			t.Fatalf("%d: another order gives\n%v\nnot\n%v", seed, again, lines)
		}

		// What was made is there the next time, with what was done pinned, and
		// there are more folders.
		pinned := map[mail.Path]mail.Path{}
		there := d
		there.Folders = slices.Clone(d.Folders)
		for _, l := range lines {
			if l.Skip != "" {
				continue
			}
			pinned[l.From.Path] = l.To
			if !l.Exists {
				there.Folders = append(there.Folders, source.Folder{Path: l.To, Raw: string(l.To)})
			}
		}
		more := slices.Clone(from)
		for _, f := range account(r, 10) {
			if !slices.ContainsFunc(from, func(g source.Folder) bool { return g.Path == f.Path }) {
				more = append(more, f)
			}
		}
		for _, l := range check(t, seed, more, there, rules, pinned) {
			if to, ok := pinned[l.From.Path]; ok && (l.To != to || !l.Exists) {
				t.Fatalf("%d: %q moved from %q to %q", seed, l.From.Path, to, l.To)
			}
		}
		// Without the memory of it the outcome is the same: what bears the
		// names of the plan is found again. (But for names made to look like ours.)
		if slices.ContainsFunc(from, func(f source.Folder) bool { return strings.Contains(f.Raw, "~ca978112") }) {
			continue
		}
		for _, l := range check(t, seed, from, there, rules, nil) {
			if l.Skip == "" && l.To != pinned[l.From.Path] {
				t.Fatalf("%d: forgotten, %q moved from %q to %q\nfrom %+v\nto %+v\nrules %+v\nfirst %+v\nlast %+v", seed, l.From.Path, pinned[l.From.Path], l.To, from, d, rules, lines, l)
			}
		}
	}
}

// check makes a plan and looks at what must be so of every plan.
func check(t *testing.T, seed uint64, from []source.Folder, d Dest, rules Rules, pinned map[mail.Path]mail.Path) []Line {
	t.Helper()
	lines, err := Make(from, d, rules, pinned)
	if err != nil {
		t.Fatal(err)
	}
	there := map[mail.Path]bool{mail.Inbox: true}
	for _, f := range d.Folders {
		there[f.Path] = true
	}
	used := map[mail.Path]mail.Path{}
	keys := map[string]mail.Path{}
	for _, l := range lines {
		if l.Skip != "" {
			continue
		}
		if first, twice := used[l.To]; twice {
			t.Fatalf("%d: %q and %q both go to %q", seed, first, l.From.Path, l.To)
		}
		used[l.To] = l.From.Path
		if l.Exists != there[l.To] || (l.Why == "") != (l.To == l.From.Path) {
			t.Fatalf("%d: %+v", seed, l)
		}
		if l.Exists || pinned[l.From.Path] != "" {
			continue
		}
		if first, meet := keys[foldername.Key(l.To)]; meet {
			t.Fatalf("%d: %q and %q differ in case only", seed, first, l.To)
		}
		keys[foldername.Key(l.To)] = l.To
		if why := unmakeable(l.To, d); why != "" {
			t.Fatalf("%d: %q goes to %q: %s", seed, l.From.Path, l.To, why)
		}
	}
	if len(lines) != len(from) {
		t.Fatalf("%d: %d lines of %d folders", seed, len(lines), len(from))
	}
	return lines
}

// unmakeable says, in its own words, why a destination would not make a folder.
func unmakeable(p mail.Path, d Dest) string {
	parts := p.Parts()
	n := 0
	for _, s := range parts {
		n += len(utf7.Encode(s)) + 1
		switch {
		case s == "" || s == "." || s == "..":
			return "an empty part"
		case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
			return "control characters"
		case strings.ContainsAny(s, "%*/") || d.Delimiter != 0 && strings.IndexByte(s, d.Delimiter) >= 0:
			return "a letter that may not be"
		case strings.TrimSpace(s) != s:
			return "blanks"
		}
	}
	switch {
	case n-1 > 255:
		return "too long"
	case d.Delimiter == 0 && len(parts) != 1:
		return "levels where there are none"
	case d.Prefix != "" && p != mail.Inbox && !p.Within(d.Prefix):
		return "not below the prefix"
	}
	return ""
}

func TestSeen(t *testing.T) {
	for _, c := range []struct {
		name    string
		folders []source.Folder
		want    Dest
	}{
		{"nothing", nil, Dest{Delimiter: '/'}},
		{"flat", folders("INBOX", "a.b"), Dest{Delimiter: '/'}},
		{"slash", folders("INBOX", "a/b"), Dest{Delimiter: '/'}},
		{"dot", folders("INBOX", "Größe/b::Gr&APYA3w-e.b"), Dest{Delimiter: '.'}},
		{"below INBOX", folders("INBOX", "INBOX/Work::INBOX.Work"), Dest{Delimiter: '.', Prefix: "INBOX"}},
		{"Gmail", folders("INBOX", "[Gmail]/Sent Mail"), Dest{Delimiter: '/', Gmail: true}},
	} {
		d := Seen(c.folders)
		if d.Delimiter != c.want.Delimiter || d.Prefix != c.want.Prefix || d.Gmail != c.want.Gmail || len(d.Folders) != len(c.folders) {
			t.Errorf("%s: %+v", c.name, d)
		}
	}
}
