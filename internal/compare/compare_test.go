package compare

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"mailhaul/internal/folderplan"
	"mailhaul/internal/mail"
	"mailhaul/source"
)

var noon = time.Date(2024, 5, 6, 12, 0, 0, 0, time.UTC)

// text is message number i, with CRLF; tail goes to the end of its body.
func text(i int, tail string) string {
	return fmt.Sprintf("From: Ann <ann@example.org>\r\nSubject: %d\r\nMessage-ID: <%d@example.org>\r\n\r\nbody %d%s\r\n", i, i, i, tail)
}

func msg(raw string, flags ...string) letter {
	return letter{raw: raw, date: noon, flags: mail.NewFlags(flags...)}
}

func later(l letter) letter { l.date = l.date.Add(time.Hour); return l }
func never(l letter) letter { l.date = time.Time{}; return l }
func bad(l letter) letter   { l.bad = true; return l }

// compared runs a comparison and gives counts and findings as text.
func compared(t *testing.T, from, to *fake, full bool) (*Result, []string) {
	t.Helper()
	lines, err := folderplan.Make(from.list(), folderplan.Dest{Folders: to.list(), Delimiter: '/', Plain: true}, folderplan.Rules{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	r, err := Run(t.Context(), Comparison{From: from, To: to, Lines: lines, Full: full,
		Found: func(f Finding) { said = append(said, say(f)) },
		Sleep: func(context.Context, time.Duration) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	return r, said
}

func say(f Finding) string {
	s := fmt.Sprintf("%s %s:%s %s:%s %s", f.What, f.From, f.FromID, f.To, f.ToID, f.MessageID)
	if f.Detail != "" {
		s += " (" + f.Detail + ")"
	}
	return s
}

func lf(s string) string { return strings.ReplaceAll(s, "\r\n", "\n") }

func TestCompare(t *testing.T) {
	header := strings.Replace(text(1, ""), "Subject", "Received: by the other side\r\nSubject", 1)
	long := text(1, strings.Repeat("x", 5000))
	none := "Subject: no id\r\n\r\n"
	type c struct {
		name     string
		kinds    string // of From and To; empty: all pairs of kinds
		from, to []letter
		lies     map[string]int64 // of To
		want     Counts
		said     []string
	}
	for _, c := range []c{
		{name: "nothing"},
		{name: "the same", from: []letter{msg(text(1, "")), msg(text(2, ""), `\Seen`)}, to: []letter{msg(text(2, ""), `\Seen`), msg(text(1, ""))},
			want: Counts{From: 2, To: 2, Same: 2}},
		{name: "missing", from: []letter{msg(text(1, "")), msg(text(2, ""))}, to: []letter{msg(text(2, ""))},
			want: Counts{From: 2, To: 1, Same: 1, Missing: 1}, said: []string{"missing INBOX:1 INBOX: <1@example.org>"}},
		{name: "extra", from: []letter{msg(text(2, ""))}, to: []letter{msg(text(1, "")), msg(text(2, ""))},
			want: Counts{From: 1, To: 2, Same: 1, Extra: 1}, said: []string{"extra INBOX: INBOX:1 <1@example.org>"}},
		{name: "copies", from: []letter{msg(text(1, "")), msg(text(1, "")), msg(text(1, ""))}, to: []letter{msg(text(1, "")), msg(text(1, ""))},
			want: Counts{From: 3, To: 2, Same: 2, Missing: 1}, said: []string{"missing INBOX:3 INBOX: <1@example.org>"}},
		{name: "doubled", from: []letter{msg(text(1, ""), `\Seen`)}, to: []letter{msg(text(1, "")), msg(text(1, ""), `\Seen`)},
			want: Counts{From: 1, To: 2, Same: 1, Extra: 1}, said: []string{"extra INBOX: INBOX:1 <1@example.org>"}},
		{name: "copies that belong together", from: []letter{msg(text(1, ""), `\Seen`), later(msg(text(1, ""))), msg(text(1, ""))},
			to:   []letter{msg(text(1, "")), msg(text(1, ""), `\Seen`), later(msg(text(1, "")))},
			want: Counts{From: 3, To: 3, Same: 3}},
		{name: "a header line more", from: []letter{msg(text(1, ""))}, to: []letter{msg(header)},
			want: Counts{From: 1, To: 1, Changed: 1},
			said: []string{fmt.Sprintf("changed INBOX:1 INBOX:1 <1@example.org> (the header is another: %d bytes in FROM, %d bytes in TO)", len(text(1, "")), len(header))}},
		{name: "a body that is another", from: []letter{msg(text(1, ""))}, to: []letter{msg(text(1, "!"))},
			want: Counts{From: 1, To: 1, Changed: 1},
			said: []string{fmt.Sprintf("changed INBOX:1 INBOX:1 <1@example.org> (the body is another: %d bytes in FROM, %d bytes in TO)", len(text(1, "")), len(text(1, "!")))}},
		{name: "of another size", from: []letter{msg(text(1, ""))}, to: []letter{msg(long)},
			want: Counts{From: 1, To: 1, Missing: 1, Extra: 1},
			said: []string{"missing INBOX:1 INBOX: <1@example.org>", "extra INBOX: INBOX:1 <1@example.org>"}},
		{name: "the same size, another body", kinds: "knows knows", from: []letter{msg(text(1, "a"))}, to: []letter{msg(text(1, "b"))},
			want: Counts{From: 1, To: 1, Changed: 1},
			said: []string{fmt.Sprintf("changed INBOX:1 INBOX:1 <1@example.org> (the body is another: %d bytes in FROM, %[1]d bytes in TO)", len(text(1, "a")))}},
		{name: "no Message-ID", from: []letter{msg(none + "a\r\n")}, to: []letter{msg(none + "ab\r\n")},
			want: Counts{From: 1, To: 1, Changed: 1}, said: []string{"changed INBOX:1 INBOX:1  (the body is another: 21 bytes in FROM, 22 bytes in TO)"}},
		{name: "a size that is a lie", kinds: "describes describes", from: []letter{msg(text(1, ""))}, to: []letter{msg(text(1, ""))}, lies: map[string]int64{text(1, ""): 120},
			want: Counts{From: 1, To: 1, Same: 1}},
		{name: "lines that end otherwise", from: []letter{msg(text(1, "")), msg(lf(text(2, "")))}, to: []letter{msg(lf(text(1, ""))), msg(text(2, ""))},
			want: Counts{From: 2, To: 2, Same: 2}},
		{name: "a last line without an end", from: []letter{msg(text(1, "") + "end")}, to: []letter{msg(lf(text(1, "") + "end"))},
			want: Counts{From: 1, To: 1, Same: 1}},
		{name: "flags", from: []letter{msg(text(1, ""), `\Seen`, "Work"), msg(text(2, ""), `\Seen`), msg(text(3, ""), "$FORWARDED")},
			to:   []letter{msg(text(1, ""), `\Flagged`, "Work"), msg(text(2, ""), `\Seen`), msg(text(3, ""), "$Forwarded")},
			want: Counts{From: 3, To: 3, Same: 3, Flags: 1}, said: []string{`flags INBOX:1 INBOX:1 <1@example.org> (only in FROM: \Seen; only in TO: \Flagged)`}},
		{name: "flags that a side does not have", from: []letter{msg(text(1, ""), `\Seen`, "Work"), msg(text(2, ""), "Work"), msg(text(3, ""))},
			to:   []letter{msg(text(1, "")), msg(text(2, "")), msg(text(3, ""), `\Seen`)},
			want: Counts{From: 3, To: 3, Same: 3, Flags: 3},
			said: []string{`flags INBOX:1 INBOX:1 <1@example.org> (only in FROM: \Seen)`, `flags INBOX:3 INBOX:3 <3@example.org> (only in TO: \Seen)`,
				"no flag INBOX: INBOX:  (Work: on 2 messages in FROM, on none in TO)"}},
		{name: "dates", from: []letter{msg(text(1, "")), msg(text(2, "")), never(msg(text(3, "")))}, to: []letter{later(msg(text(1, ""))), never(msg(text(2, ""))), msg(text(3, ""))},
			want: Counts{From: 3, To: 3, Same: 3, Dates: 1},
			said: []string{"date INBOX:1 INBOX:1 <1@example.org> (2024-05-06 12:00:00 UTC in FROM, 2024-05-06 13:00:00 UTC in TO)"}},
		{name: "unreadable", from: []letter{bad(msg(text(1, ""))), msg(text(2, ""))}, to: []letter{msg(text(2, "")), bad(msg(text(3, "")))},
			want: Counts{From: 2, To: 2, Same: 1, Failed: 2},
			said: []string{"unreadable INBOX:1 :  (fetch: the disk has a hole)", "unreadable : INBOX:2  (fetch: the disk has a hole)"}},
		{name: "a hostile Message-ID", from: []letter{msg(text(1, "")), msg(strings.Replace(text(2, ""), "<2@", "<1@", 1))}, to: []letter{msg(strings.Replace(text(2, ""), "<2@", "<1@", 1))},
			want: Counts{From: 2, To: 1, Same: 1, Missing: 1}, said: []string{"missing INBOX:1 INBOX: <1@example.org>"}},
	} {
		kinds := []string{c.kinds}
		if c.kinds == "" {
			kinds = nil
			for _, a := range []string{"describes", "knows", "reads"} {
				for _, b := range []string{"describes", "knows", "reads"} {
					kinds = append(kinds, a+" "+b)
				}
			}
		}
		for _, k := range kinds {
			for _, full := range []bool{false, true} {
				t.Run(fmt.Sprint(c.name, ", ", k, ", ", full), func(t *testing.T) {
					a, b, _ := strings.Cut(k, " ")
					from := &fake{kind: a, folders: map[mail.Path][]letter{"INBOX": c.from}}
					to := &fake{kind: b, folders: map[mail.Path][]letter{"INBOX": c.to}, lies: c.lies}
					r, said := compared(t, from, to, full)
					if r.Total != c.want {
						t.Errorf("got %+v, want %+v", r.Total, c.want)
					}
					if !slices.Equal(said, c.said) {
						t.Errorf("said\n%s\nwant\n%s", strings.Join(said, "\n"), strings.Join(c.said, "\n"))
					}
				})
			}
		}
	}
}

// TestSameSizeUnread: what only reading tells is left to --full, and is told by
// it.
func TestSameSizeUnread(t *testing.T) {
	from := &fake{kind: "describes", folders: map[mail.Path][]letter{"INBOX": {msg(text(1, "a"))}}}
	to := &fake{kind: "describes", folders: map[mail.Path][]letter{"INBOX": {msg(text(1, "b"))}}}
	if r, _ := compared(t, from, to, false); r.Total.Same != 1 || from.read+to.read != 0 {
		t.Errorf("%+v, %d read", r.Total, from.read+to.read)
	}
	if r, said := compared(t, from, to, true); r.Total.Changed != 1 || len(said) != 1 {
		t.Errorf("%+v, %q", r.Total, said)
	}
}

// TestIgnore: flags and dates may be left out of it.
func TestIgnore(t *testing.T) {
	from := &fake{kind: "describes", folders: map[mail.Path][]letter{"INBOX": {msg(text(1, ""), `\Seen`)}}}
	to := &fake{kind: "describes", folders: map[mail.Path][]letter{"INBOX": {later(msg(text(1, "")))}}}
	lines, _ := folderplan.Make(from.list(), folderplan.Dest{Folders: to.list()}, folderplan.Rules{}, nil)
	for _, c := range []struct{ flags, dates bool }{{false, false}, {true, false}, {false, true}, {true, true}} {
		found := 0
		r, err := Run(t.Context(), Comparison{From: from, To: to, Lines: lines, NoFlags: c.flags, NoDates: c.dates, Found: func(Finding) { found++ }})
		if err != nil || r.Total.Flags == 0 != c.flags || r.Total.Dates == 0 != c.dates || r.Differ() != (!c.flags || !c.dates) || int64(found) != r.Total.Flags+r.Total.Dates {
			t.Errorf("%+v: %+v, %d found, %v", c, r.Total, found, err)
		}
	}
}

// TestFolders: those that are missing, merged, left out, and on one side only.
func TestFolders(t *testing.T) {
	from := &fake{kind: "describes", folders: map[mail.Path][]letter{
		"INBOX": {msg(text(1, ""))}, "Old": {msg(text(2, "")), msg(text(3, ""))}, "Older": {msg(text(2, "")), msg(text(4, ""))}, "Lost": {msg(text(5, ""))}, "Empty": nil}}
	to := &fake{kind: "describes", folders: map[mail.Path][]letter{
		"INBOX": {msg(text(1, ""))}, "New": {msg(text(4, "")), msg(text(2, "")), msg(text(2, ""))}, "Mine": {msg(text(9, ""))}}}
	here := append(from.list(), source.Folder{Path: "Starred", Role: "flagged"})
	m1, _ := folderplan.ParseMap("Old=New")
	m2, _ := folderplan.ParseMap("Older=New")
	lines, err := folderplan.Make(here, folderplan.Dest{Folders: to.list(), Delimiter: '/'}, folderplan.Rules{Maps: []folderplan.Map{m1, m2}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	progress := int64(0)
	r, err := Run(t.Context(), Comparison{From: from, To: to, Lines: lines, Others: []source.Folder{{Path: "Mine", Messages: 1}},
		Found: func(f Finding) { said = append(said, say(f)) }, Progress: func(_ mail.Path, n, _ int64) { progress += n }})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range r.Folders {
		got = append(got, fmt.Sprintf("%v %s %v %v %v", f.From, f.To, f.Lacking, f.Skipped != "", f.Counts))
	}
	want := []string{
		"[INBOX] INBOX false false {1 1 1 0 0 0 0 0 0}", "[Empty] Empty true false {0 0 0 0 0 0 0 0 0}", "[Lost] Lost true false {1 0 0 0 1 0 0 0 0}",
		"[Old Older] New false false {4 3 3 0 1 0 0 0 0}", "[Starred]  false true {0 0 0 0 0 0 0 0 0}", "[] Mine false false {0 1 0 0 0 1 0 0 0}",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if s := strings.Join(said, "|"); s != "missing Lost:1 Lost: <5@example.org>|missing Old:2 New: <3@example.org>" {
		t.Errorf("%s", s)
	}
	if progress != 1+1+1+4+3 {
		t.Errorf("%d messages in progress", progress)
	}
	if (r.Total != Counts{From: 6, To: 5, Same: 4, Missing: 2, Extra: 1}) {
		t.Errorf("%+v", r.Total)
	}
}

// TestErrors: what may pass is tried again, and tells nothing twice; a folder
// that fails for good costs that folder; an account that fails ends the run.
func TestErrors(t *testing.T) {
	fail := func(scope mail.Scope, temporary bool) error {
		return &mail.Error{Op: "open", Scope: scope, Temporary: temporary, Err: errors.New("no luck")}
	}
	for _, c := range []struct {
		name string
		errs []error
		ends bool
		want string
	}{
		{"once", []error{fail(mail.ScopeFolder, true)}, false, ""},
		{"twice", []error{fail(mail.ScopeAccount, true), fail(mail.ScopeFolder, true)}, false, ""},
		{"too often", []error{fail(mail.ScopeFolder, true), fail(mail.ScopeFolder, true), fail(mail.ScopeFolder, true)}, false, "TO: open: no luck"},
		{"for good", []error{fail(mail.ScopeFolder, false)}, false, "TO: open: no luck"},
		{"the account", []error{fail(mail.ScopeAccount, false)}, true, "TO: open: no luck"},
	} {
		t.Run(c.name, func(t *testing.T) {
			from := &fake{kind: "describes", folders: map[mail.Path][]letter{"INBOX": {msg(text(1, "")), msg(text(2, ""))}, "Z": {msg(text(3, ""))}}}
			to := &fake{kind: "describes", folders: map[mail.Path][]letter{"INBOX": {msg(text(1, ""))}, "Z": {msg(text(3, ""))}}, fails: map[mail.Path][]error{"INBOX": c.errs}}
			lines, _ := folderplan.Make(from.list(), folderplan.Dest{Folders: to.list(), Delimiter: '/'}, folderplan.Rules{}, nil)
			found := 0
			r, err := Run(t.Context(), Comparison{From: from, To: to, Lines: lines, Found: func(Finding) { found++ },
				Sleep: func(context.Context, time.Duration) error { return nil }})
			if (err != nil) != c.ends {
				t.Fatal(err)
			}
			if r.Folders[0].Error != c.want {
				t.Errorf("error %q", r.Folders[0].Error)
			}
			switch {
			case c.want == "" && (r.Total != Counts{From: 3, To: 2, Same: 2, Missing: 1} || found != 1):
				t.Errorf("%+v, %d found", r.Total, found)
			case c.want != "" && !c.ends && (r.Total != Counts{From: 1, To: 1, Same: 1, Failed: 1} || found != 0):
				t.Errorf("%+v, %d found", r.Total, found)
			case c.ends && len(r.Folders) != 1:
				t.Errorf("it went on: %+v", r.Folders)
			}
		})
	}
}

// TestVanished: what went while it was looked at is not there, and no error.
func TestVanished(t *testing.T) {
	for _, kind := range []string{"describes", "reads"} {
		from := &fake{kind: kind, folders: map[mail.Path][]letter{"INBOX": {msg(text(1, "")), msg(text(2, ""))}}, vanish: map[mail.Path]int{"INBOX": 1}}
		to := &fake{kind: kind, folders: map[mail.Path][]letter{"INBOX": {msg(text(2, ""))}}}
		if r, said := compared(t, from, to, false); (r.Total != Counts{From: 1, To: 1, Same: 1}) || len(said) != 0 {
			t.Errorf("%s: %+v, %q", kind, r.Total, said)
		}
	}
}

// TestMany compares random folders of more than one window with what counting
// says.
func TestMany(t *testing.T) {
	kinds := []string{"describes", "knows", "reads"}
	for round := range uint64(9) {
		r := rand.New(rand.NewPCG(round, 7))
		from := &fake{kind: kinds[round%3], folders: map[mail.Path][]letter{"INBOX": nil}}
		to := &fake{kind: kinds[round/3], folders: map[mail.Path][]letter{"INBOX": nil}}
		here, there := map[int]int{}, map[int]int{}
		for range 1300 {
			n := r.IntN(800)
			if r.IntN(10) > 0 {
				from.folders["INBOX"] = append(from.folders["INBOX"], msg(text(n, ""), `\Seen`))
				here[n]++
			}
			if r.IntN(10) > 0 {
				to.folders["INBOX"] = append(to.folders["INBOX"], msg(text(n, ""), `\Seen`))
				there[n]++
			}
		}
		r.Shuffle(len(to.folders["INBOX"]), func(i, j int) {
			l := to.folders["INBOX"]
			l[i], l[j] = l[j], l[i]
		})
		var want Counts
		for n := range 800 {
			want.From += int64(here[n])
			want.To += int64(there[n])
			want.Same += int64(min(here[n], there[n]))
			want.Missing += int64(max(here[n]-there[n], 0))
			want.Extra += int64(max(there[n]-here[n], 0))
		}
		got, said := compared(t, from, to, false)
		if got.Total != want || int64(len(said)) != want.Missing+want.Extra {
			t.Errorf("round %d: %+v and %d findings, want %+v", round, got.Total, len(said), want)
		}
	}
}
