package imapconn

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"mailhaul/internal/mail"
)

// TestSearch is a server that is believed when what it finds proves itself, and
// otherwise as good as before.
func TestSearch(t *testing.T) {
	many := make([]string, 200)
	var singles []Range
	for i := range many {
		many[i] = fmt.Sprint(2*i + 1)
		singles = append(singles, Range{uint32(2*i + 1), uint32(2*i + 1)})
	}
	for _, c := range []struct {
		name  string
		say   string // @ is the tag of the command
		count uint64
		want  []Range // nil: not believed
	}{
		{"set", `* ESEARCH (TAG "@") UID COUNT 7 ALL 1:5,7,9`, 7, []Range{{1, 5}, {7, 7}, {9, 9}}},
		{"another order", `* ESEARCH (TAG "@") UID ALL 1:5,7,9 COUNT 7`, 7, []Range{{1, 5}, {7, 7}, {9, 9}}},
		{"small letters, two blanks", `* esearch (tag "@")  uid count 2 all 9,400 `, 2, []Range{{9, 9}, {400, 400}}},
		{"atom for tag", `* ESEARCH (TAG @) UID COUNT 2 ALL 9:10`, 2, []Range{{9, 10}}},
		{"literal for tag", "* ESEARCH (TAG {2}\r\n@) UID COUNT 2 ALL 9:10", 2, []Range{{9, 10}}},
		{"more results", `* ESEARCH (TAG "@") UID MIN 9 MAX 10 X-NEW (a (b "c")) COUNT 2 MODSEQ 7 ALL 9:10`, 2, []Range{{9, 10}}},
		{"any order", `* ESEARCH (TAG "@") UID COUNT 5 ALL 400,7:9,3`, 5, []Range{{3, 3}, {7, 9}, {400, 400}}},
		{"range backwards", `* ESEARCH (TAG "@") UID COUNT 3 ALL 9:7`, 3, []Range{{7, 9}}},
		{"to the end", `* ESEARCH (TAG "@") UID COUNT 401 ALL 1:400,401`, 401, []Range{{1, 400}, {401, 401}}},
		{"news between", "* 7 EXPUNGE\r\n* 3 EXISTS\r\n* 4 FETCH (FLAGS ())\r\n* ESEARCH (TAG \"@\") UID COUNT 2 ALL 9:10\r\n* OK fine", 2, []Range{{9, 10}}},
		{"many", `* ESEARCH (TAG "@") UID COUNT 200 ALL ` + strings.Join(many, ","), 200, singles},
		{"none", `* ESEARCH (TAG "@") UID COUNT 0`, 0, []Range{}},

		{"no answer", `* OK`, 0, nil},
		{"plain search", `* SEARCH 1 2 3`, 3, nil},
		{"plain search for nothing", `* SEARCH`, 0, nil},
		{"another tag", `* ESEARCH (TAG "M999") UID COUNT 3 ALL 1:3`, 3, nil},
		{"no tag", `* ESEARCH UID COUNT 3 ALL 1:3`, 3, nil},
		{"more than a tag", `* ESEARCH (TAG "@" MAILBOX x) UID COUNT 3 ALL 1:3`, 3, nil},
		{"tag cut short", `* ESEARCH (TAG "TAG`, 3, nil},
		{"positions", `* ESEARCH (TAG "@") COUNT 3 ALL 1:3`, 3, nil},
		{"no count", `* ESEARCH (TAG "@") UID ALL 1:3`, 3, nil},
		{"no set", `* ESEARCH (TAG "@") UID COUNT 3`, 3, nil},
		{"nothing", `* ESEARCH (TAG "@") UID`, 0, nil},
		{"nothing at all", `* ESEARCH`, 0, nil},
		{"fewer than there are", `* ESEARCH (TAG "@") UID COUNT 3 ALL 1:3`, 4, nil},
		{"more than there are", `* ESEARCH (TAG "@") UID COUNT 3 ALL 1:3`, 2, nil},
		{"none of those that are", `* ESEARCH (TAG "@") UID COUNT 0`, 3, nil},
		{"none of those that are, with a count", `* ESEARCH (TAG "@") UID COUNT 3`, 3, nil},
		{"set too short", `* ESEARCH (TAG "@") UID COUNT 4 ALL 1:3`, 4, nil},
		{"set too long", `* ESEARCH (TAG "@") UID COUNT 2 ALL 1:3`, 2, nil},
		{"set of nothing", `* ESEARCH (TAG "@") UID COUNT 0 ALL 1`, 0, nil},
		{"no end", `* ESEARCH (TAG "@") UID COUNT 7 ALL 1:5,7,9:*`, 7, nil},
		{"star", `* ESEARCH (TAG "@") UID COUNT 1 ALL *`, 1, nil},
		{"overlap", `* ESEARCH (TAG "@") UID COUNT 6 ALL 1:3,3:5`, 6, nil},
		{"twice the same", `* ESEARCH (TAG "@") UID COUNT 2 ALL 7,7`, 2, nil},
		{"one inside", `* ESEARCH (TAG "@") UID COUNT 11 ALL 1:10,4`, 11, nil},
		{"zero", `* ESEARCH (TAG "@") UID COUNT 4 ALL 0:3`, 4, nil},
		{"behind the last", `* ESEARCH (TAG "@") UID COUNT 2 ALL 1,402`, 2, nil},
		{"not a UID", `* ESEARCH (TAG "@") UID COUNT 1 ALL 5000000000`, 1, nil},
		{"no number", `* ESEARCH (TAG "@") UID COUNT 99999999999999999999 ALL 1`, 1, nil},
		{"half a number", `* ESEARCH (TAG "@") UID COUNT 1x ALL 1`, 1, nil},
		{"empty parts", `* ESEARCH (TAG "@") UID COUNT 2 ALL 1,,2`, 2, nil},
		{"comma at the end", `* ESEARCH (TAG "@") UID COUNT 2 ALL 1,2,`, 2, nil},
		{"half a range", `* ESEARCH (TAG "@") UID COUNT 2 ALL 1:`, 2, nil},
		{"set in brackets", `* ESEARCH (TAG "@") UID COUNT 2 ALL (1:2)`, 2, nil},
		{"count twice", `* ESEARCH (TAG "@") UID COUNT 2 COUNT 2 ALL 1:2`, 2, nil},
		{"set twice", `* ESEARCH (TAG "@") UID COUNT 2 ALL 1:2 ALL 1:2`, 2, nil},
		{"answer twice", "* ESEARCH (TAG \"@\") UID COUNT 2 ALL 1:2\r\n* ESEARCH (TAG \"@\") UID COUNT 2 ALL 1:2", 2, nil},
		{"another one first", "* ESEARCH (TAG \"M1\") UID COUNT 2 ALL 1:2\r\n* ESEARCH (TAG \"@\") UID COUNT 2 ALL 1:2", 2, nil},
		{"brackets", `* ESEARCH (TAG "@") UID (COUNT 2 ALL 1:2)`, 2, nil},
		{"open brackets", `* ESEARCH (TAG "@") UID X ((( COUNT 2 ALL 1:2`, 2, nil},
		{"literal behind a mistake", "* ESEARCH (TAG \"M0\") UID X {7}\r\nM1 OK\r\n COUNT 2 ALL 1:2", 2, nil},
		{"refused", "@ NO [CANNOT] search", 2, nil},
		{"unknown", "@ BAD what is RETURN?", 2, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			talk(t, Options{}, func(p *peer) {
				p.say("* PREAUTH [CAPABILITY IMAP4rev1 ESEARCH] hi")
				tag, rest := p.command()
				if rest != "UID SEARCH RETURN (ALL COUNT) UID 1:401" {
					t.Errorf("sent %q", rest)
				}
				p.say(strings.ReplaceAll(c.say, "@", tag))
				if !strings.HasPrefix(c.say, "@") {
					p.say(tag + " OK done")
				}
				p.rest()
			}, func(t *testing.T, c2 *Conn, err error) {
				if err != nil || !c2.Searches() {
					t.Fatal(err)
				}
				there, ok, err := c2.Search(t.Context(), 401, c.count)
				if err != nil || ok != (c.want != nil) {
					t.Fatal(there, ok, err)
				}
				if ok && len(there)+len(c.want) > 0 && !reflect.DeepEqual(there, c.want) {
					t.Errorf("found %v", there)
				}
				if err := c2.Noop(t.Context()); err != nil {
					t.Error("the connection is of no use:", err)
				}
			})
		})
	}
}

// TestSearchEnds: what is no answer at all, or without end, is an error.
func TestSearchEnds(t *testing.T) {
	half := `* ESEARCH (TAG "M2") UID COUNT 2 ALL 1`
	for _, c := range []struct {
		name, say string
		because   error
	}{
		{"cut off", half, nil},
		{"line without end", half + strings.Repeat(",1", mostFound/2), errLimit},
		{"literal without end", `* ESEARCH (TAG {2000000}`, errLimit},
		{"brackets without end", `* ESEARCH (TAG "M2") UID X ` + strings.Repeat("(", 1000), errLimit},
		{"renumbered", "* OK [UIDVALIDITY 4] x\r\n* ESEARCH (TAG \"M2\") UID COUNT 2 ALL 1:2\r\nM2 OK done", ErrEpoch},
	} {
		t.Run(c.name, func(t *testing.T) {
			served(t, func(p *peer) {
				tag, _ := p.command()
				p.say("* OK [UIDVALIDITY 3] x", tag+" OK done")
				if p.command(); c.because == nil {
					fmt.Fprint(p, c.say)
					return
				}
				p.say(c.say)
				p.rest()
			}, func(t *testing.T, conn *Conn) {
				if _, err := conn.Examine(t.Context(), "INBOX"); err != nil {
					t.Fatal(err)
				}
				_, ok, err := conn.Search(t.Context(), 9, 2)
				if ok || err == nil || !errors.Is(err, c.because) && c.because != nil || mail.ScopeOf(err, 0) != mail.ScopeFolder {
					t.Error(ok, err)
				}
			})
		})
	}
}

// TestSearchLong: a million messages of which every second one has gone come in
// one line, longer than others may be.
func TestSearchLong(t *testing.T) {
	const n = 500_000
	var set strings.Builder
	for i := range n {
		fmt.Fprintf(&set, ",%d", 2*i+1)
	}
	said := fmt.Sprintf("* ESEARCH (TAG \"M1\") UID COUNT %d ALL %s\r\nM1 OK done\r\n* LONG %s\r\n", n, set.String()[1:], set.String())
	c := raw([]byte(said))
	there, ok, err := c.Search(context.Background(), 2*n, n)
	if err != nil || !ok || len(there) != n || there[n-1] != (Range{2*n - 1, 2*n - 1}) {
		t.Fatal(len(there), ok, err)
	}
	if _, err := c.Fetch(context.Background(), "1", "UID", "", func(*Item) error { return nil }); !errors.Is(err, errLimit) {
		t.Error("others may be as long:", err)
	}
}

// TestSearches is who may be asked.
func TestSearches(t *testing.T) {
	for _, c := range []struct {
		caps, addr string
		want       bool
	}{
		{"IMAP4rev1 ESEARCH", "test:143", true}, {"IMAP4rev1 IMAP4rev2", "test:143", true}, {"IMAP4rev1 SEARCHRES", "test:143", false},
		{"IMAP4rev1 ESEARCH", "imap.mail.me.com:993", false}, {"IMAP4rev1 ESEARCH", "P42-IMAP.Mail.Me.com.:993", false}, {"IMAP4rev1 ESEARCH", "notmail.me.com.example:993", true},
	} {
		talk(t, Options{Addr: c.addr, Security: None}, func(p *peer) {
			p.say("* PREAUTH [CAPABILITY " + c.caps + "] hi")
			p.rest()
		}, func(t *testing.T, conn *Conn, err error) {
			if err != nil || conn.Searches() != c.want {
				t.Errorf("%s at %s: %v, %v", c.caps, c.addr, !c.want, err)
			}
		})
	}
}

// FuzzSearch: whatever is said, what is believed has as many UIDs as there must
// be, each once and none beyond the last.
func FuzzSearch(f *testing.F) {
	for _, s := range []string{
		`(TAG "M1") UID COUNT 7 ALL 1:5,7,9`, `(TAG "M1") UID ALL 9:7,3 COUNT 4 MIN 3`, `(TAG M1) UID COUNT 0`,
		"(TAG {2}\r\nM1) UID COUNT 1 ALL 4294967295", `(TAG "M1") UID COUNT 6 ALL 1:3,3:5`, `(TAG "M1") UID X (a "b") COUNT 2 ALL 1:*`,
	} {
		f.Add([]byte("* ESEARCH "+s+"\r\nM1 OK\r\n"), uint32(1<<32-1), uint64(7))
	}
	f.Fuzz(func(t *testing.T, said []byte, last uint32, count uint64) {
		there, ok, err := raw(said).Search(context.Background(), last, count)
		if !ok || err != nil {
			if len(there) > 0 {
				t.Errorf("%v is not to be believed", there)
			}
			return
		}
		sum, before := uint64(0), uint32(0)
		for _, r := range there {
			if r.First <= before || r.Last < r.First || r.Last > last {
				t.Fatalf("%v", there)
			}
			sum, before = sum+uint64(r.Last-r.First)+1, r.Last
		}
		if sum != count {
			t.Errorf("%d UIDs, not %d", sum, count)
		}
	})
}
