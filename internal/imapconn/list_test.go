package imapconn

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"mailhaul/internal/mail"
)

// TestList is rows A14, A15 and G6, and trap T10: a name that is not as it
// should be hides no other.
func TestList(t *testing.T) {
	want := []string{"INBOX", "&", "Entw\xfcrfe", "Entwürfe", "a\tb", "&AGE-", "My Folder", "a\"b", `a\b`, "lit\"eral)\r\n", "(odd)", "flat", "nil", "child (x)", "Sent", "weird\"inside", "NIL", "a b (c)"}
	served(t, func(p *peer) {
		tag, rest := p.command()
		if rest != `LIST "" "*"` {
			t.Errorf("sent %q", rest)
		}
		p.say(`* LIST (\HasNoChildren) "/" INBOX`, `* LIST () "/" &`, "* LIST () \"/\" \"Entw\xfcrfe\"", `* LIST () "/" Entwürfe`,
			"* LIST () \"/\" \"a\tb\"", `* LIST () "/" "&AGE-"`, `* LIST () "/" My Folder`, `* LIST () "/" "a\"b"`, `* LIST () "/" "a\\b"`,
			"* LIST () \"/\" {11}", "lit\"eral)\r\n", `* LIST () "/" "(odd)"`, `* LIST () "" flat`, `* LIST () nil nil`,
			`* LIST () "/" "child (x)" ("CHILDINFO" ("SUBSCRIBED"))`, `* LIST (\HasNoChildren \SENT) "/" Sent`, `* LIST () "/" "weird"inside"`,
			`* LIST () "/" "NIL"`, `* list (\x) "/" "a b (c)" `,
			// and what no name can be made of
			`* LIST () "/" ""`, `* LIST () "/"`, `* LIST`, `* LIST (`, `* LIST () "//" x`, `* LIST () "/" `+strings.Repeat("x", mostName+1),
			// once more, and others
			`* LIST () "/" INBOX`, `* LSUB () "/" x`, `* XLIST () "/" x`,
			tag+" OK done")
		p.rest()
	}, func(t *testing.T, c *Conn) {
		entries, odd, err := c.List(t.Context(), "MESSAGES")
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range entries {
			got = append(got, e.Name)
		}
		if len(got) != len(want) {
			t.Fatalf("%d names: %q", len(got), got)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("name %d is %q, want %q", i, got[i], want[i])
			}
		}
		if entries[11].Delimiter != 0 || entries[12].Delimiter != 0 || entries[0].Delimiter != '/' || !entries[14].Has(`\sent`) {
			t.Error("separators or attributes are wrong")
		}
		if odd != 6 {
			t.Errorf("%d odd lines", odd)
		}
	})
}

// TestListStatus takes counts with the listing where the server offers that,
// and does without where it does not mean it.
func TestListStatus(t *testing.T) {
	talk(t, Options{}, func(p *peer) {
		p.say("* PREAUTH [CAPABILITY IMAP4rev1 LIST-EXTENDED LIST-STATUS SPECIAL-USE] hi")
		tag, rest := p.command()
		if rest != `LIST "" "*" RETURN (SPECIAL-USE STATUS (MESSAGES UIDNEXT))` {
			t.Errorf("sent %q", rest)
		}
		p.say(`* LIST () "/" "a b"`, `* STATUS "a b" (MESSAGES 3 UIDNEXT 9 X-NEW (a b))`, `* LIST () "/" c`, `* STATUS d (MESSAGES 1)`, tag+" OK done")
		tag, _ = p.command()
		p.say(tag + " BAD what is RETURN?")
		tag, rest = p.command()
		if rest != `LIST "" "*"` {
			t.Errorf("sent %q", rest)
		}
		p.say(`* LIST () "/" e`, tag+" OK done")
		tag, _ = p.command()
		p.say(tag + " NO [UNAVAILABLE] later")
		p.rest()
	}, func(t *testing.T, c *Conn, err error) {
		if err != nil {
			t.Fatal(err)
		}
		entries, _, err := c.List(t.Context(), "MESSAGES UIDNEXT")
		if err != nil || len(entries) != 2 || entries[1].Counts != nil {
			t.Fatal(entries, err)
		}
		if n := entries[0].Counts; n == nil || *n != (Counts{3, 9, -1, -1, -1, -1}) {
			t.Errorf("%+v", n)
		}
		if entries, _, err = c.List(t.Context(), "MESSAGES UIDNEXT"); err != nil || len(entries) != 1 || entries[0].Name != "e" {
			t.Error(entries, err)
		}
		if _, _, err = c.List(t.Context(), "MESSAGES UIDNEXT"); err == nil || !mail.Temporary(err) || c.Broken() {
			t.Error(err)
		}
	})
}

// TestTooManyFolders is row G6.
func TestTooManyFolders(t *testing.T) {
	served(t, func(p *peer) {
		tag, _ := p.command()
		var b strings.Builder
		for i := range MostFolders + 1 {
			fmt.Fprintf(&b, "* LIST () \"/\" f%d\r\n", i)
		}
		p.say(b.String() + tag + " OK done")
	}, func(t *testing.T, c *Conn) {
		if _, _, err := c.List(t.Context(), ""); !errors.Is(err, errLimit) {
			t.Error(err)
		}
	})
}

// TestStatus asks for counts of names that go-imap could not write.
func TestStatus(t *testing.T) {
	names := []string{"INBOX", "Entw\xfcrfe", "a\"b", "gone", "&AGE-", "last"}
	talk(t, Options{}, func(p *peer) {
		p.say("* PREAUTH [CAPABILITY IMAP4rev1] hi")
		answer := func(name, list string) {
			tag, rest := p.command()
			if !strings.HasPrefix(rest, "STATUS "+name) {
				t.Errorf("sent %q", rest)
			}
			if strings.HasSuffix(rest, "}") {
				p.say("* 4 EXISTS", "+ go on")
				if l := p.hear(); l != "Entw\xfcrfe (MESSAGES)" {
					t.Errorf("sent %q", l)
				}
			}
			if list == "" {
				p.say(tag + " NO [NONEXISTENT] gone")
				return
			}
			p.say("* STATUS "+list, tag+" OK done")
		}
		answer(`"INBOX"`, `inbox (MESSAGES 1)`)
		answer(`{8}`, "{8}\r\nEntw\xfcrfe (MESSAGES 2)")
		answer(`"a\"b"`, `"a\"b" (MESSAGES 3)`)
		answer(`"gone"`, "")
		answer(`"&AGE-"`, `a (MESSAGES 4 HIGHESTMODSEQ 18446744073709551615)`)
		answer(`"last"`, `last (MESSAGES 5) `)
		p.rest()
	}, func(t *testing.T, c *Conn, err error) {
		if err != nil {
			t.Fatal(err)
		}
		got := map[int]int64{}
		err = c.Status(t.Context(), names, "MESSAGES", func(i int, n Counts) { got[i] = n.Messages })
		if want := (map[int]int64{0: 1, 1: 2, 2: 3, 4: 4, 5: 5}); err != nil || !reflect.DeepEqual(got, want) {
			t.Error(got, err)
		}
	})
}

// TestExamine is rows A8, A9, A11 and trap T13.
func TestExamine(t *testing.T) {
	for _, c := range []struct {
		name  string
		lines []string
		want  Box
		wrong string
	}{
		{"usual", []string{"* 3 EXISTS", "* FLAGS (a]b)", "* OK [PERMANENTFLAGS (a]b \\*)] ok", "* OK [UIDVALIDITY 7] v", "* OK [UIDNEXT 9] n", "* OK [HIGHESTMODSEQ 12] h", "* OK [MAILBOXID (F1)] i", "OK [READ-ONLY] done"},
			Box{Exists: 3, Validity: 7, Next: 9, ModSeq: 12, ID: "F1", Lasting: `a]b \*`}, ""},
		{"small letters", []string{"* 3 exists", "* OK [UidValidity 7] v", "* ok [uidnext 9]", "ok done"}, Box{Exists: 3, Validity: 7, Next: 9}, ""},
		{"no modseq", []string{"* 0 EXISTS", "* OK [UIDVALIDITY 7]", "* OK [HIGHESTMODSEQ 3]", "* OK [NOMODSEQ]", "OK done"}, Box{Validity: 7}, ""},
		{"validity by status", []string{"* 0 EXISTS", "OK done"}, Box{Validity: 5}, ""},
		{"validity zero", []string{"* OK [UIDVALIDITY 0]", "OK done"}, Box{}, "UIDVALIDITY"},
		{"validity too large", []string{"* OK [UIDVALIDITY 4294967296]", "OK done"}, Box{}, "UIDVALIDITY"},
		{"refused", []string{"NO [NONEXISTENT] no such thing"}, Box{}, "no such thing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			served(t, func(p *peer) {
				tag, rest := p.command()
				if rest != `EXAMINE "Work"` {
					t.Errorf("sent %q", rest)
				}
				for _, l := range c.lines {
					if l[0] != '*' {
						l = tag + " " + l
					}
					p.say(l)
				}
				if tag, rest = p.command(); strings.HasPrefix(rest, "STATUS") {
					v := 0
					if c.want.Validity == 5 {
						v = 5
					}
					p.say(fmt.Sprintf("* STATUS Work (UIDVALIDITY %d)", v), tag+" OK done")
				}
				p.rest()
			}, func(t *testing.T, conn *Conn) {
				box, err := conn.Examine(t.Context(), "Work")
				if c.wrong != "" {
					if err == nil || !strings.Contains(err.Error(), c.wrong) || conn.Broken() {
						t.Error(err)
					}
					if c.name == "refused" && (!NoSuchFolder(err) || mail.Temporary(err)) {
						t.Errorf("wrong kind: %v", err)
					}
					return
				}
				if err != nil || box != c.want {
					t.Errorf("%+v, %v", box, err)
				}
			})
		})
	}
}

// TestEpoch is row A9: a new UIDVALIDITY in the middle of the work.
func TestEpoch(t *testing.T) {
	served(t, func(p *peer) {
		tag, _ := p.command()
		p.say("* OK [UIDVALIDITY 7]", tag+" OK done")
		tag, _ = p.command()
		p.say("* OK [UIDVALIDITY 7] the same", "* 1 FETCH (UID 1)", "* OK [UIDVALIDITY 8] new", tag+" OK done")
		p.rest()
	}, func(t *testing.T, c *Conn) {
		if _, err := c.Examine(t.Context(), "INBOX"); err != nil {
			t.Fatal(err)
		}
		_, err := c.Fetch(t.Context(), "1:*", "UID", "", func(*Item) error { return nil })
		if !errors.Is(err, ErrEpoch) || mail.ScopeOf(err, 0) != mail.ScopeFolder {
			t.Error(err)
		}
		if _, _, err := fetched(c, t, byCopy); !errors.Is(err, ErrEpoch) {
			t.Error(err)
		}
	})
}

// TestItems reads one line of a listing.
func TestItems(t *testing.T) {
	served(t, func(p *peer) {
		tag, rest := p.command()
		if rest != "UID FETCH 1:9 (UID FLAGS) (CHANGEDSINCE 5)" {
			t.Errorf("sent %q", rest)
		}
		p.say(`* 1 FETCH (FLAGS (\seen $Forwarded \Recent) INTERNALDATE " 2-Mar-2021 01:02:03 +0130" RFC822.SIZE 77 MODSEQ (9) EMAILID (M12) X-GM-MSGID 1278455344230334865 X-GM-LABELS (\Inbox "\\Sent" "a b" {3}`,
			`x"y &APw-) UID 4)`, `* 2 FETCH (FLAGS (\Seen))`, `* 3 FETCH (UID 5 FLAGS NIL INTERNALDATE NIL RFC822.SIZE NIL EMAILID NIL X-GM-LABELS NIL X-GM-MSGID NIL)`, tag+" OK [MESSAGELIMIT 1000 5] done")
		p.rest()
	}, func(t *testing.T, c *Conn) {
		var got []string
		done, err := c.Fetch(t.Context(), "1:9", "UID FLAGS", "CHANGEDSINCE 5", func(it *Item) error {
			got = append(got, fmt.Sprintf("%d %s %v %d %d %s %d %q", it.UID, it.Flags.Key(), it.Date, it.Size, it.ModSeq, it.EmailID, it.GmailID, it.Labels))
			return nil
		})
		if err != nil || done.Code != "MESSAGELIMIT" {
			t.Error(done, err)
		}
		want := []string{`4 $Forwarded \Seen 2021-03-01 23:32:03 +0000 UTC 77 9 M12 1278455344230334865 ["\\Inbox" "\\Sent" "a b" "x\"y" "ü"]`,
			`5  0001-01-01 00:00:00 +0000 UTC -1 0  0 []`}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q", got)
		}
	})
}

func BenchmarkListing(b *testing.B) {
	c := canned(b, 0, b.N)
	defer c.Close()
	b.ReportAllocs()
	b.ResetTimer()
	n := 0
	if _, err := c.Fetch(b.Context(), "1:*", "UID", "", func(*Item) error { n++; return nil }); err != nil || n != b.N {
		b.Fatal(n, err)
	}
}
