package testmail

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"
)

// client logs in to m with go-imap's client.
func client(t *testing.T, m *Model) *imapclient.Client {
	t.Helper()
	c, err := imapclient.DialInsecure(m.Start(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Login("ann", "secret").Wait(); err != nil {
		t.Fatal(err)
	}
	c.Caps()
	return c
}

func TestModelCorpus(t *testing.T) {
	m := &Model{}
	m.Deliver("INBOX", Corpus()...)
	c := client(t, m)
	same(t, fetched(t, c, "INBOX"), Corpus())
	var sum int64
	for _, msg := range Corpus() {
		sum += msg.Size
	}
	if m.BodyBytes() != sum || m.Bodies() != len(Corpus()) || m.Sent() <= sum {
		t.Errorf("counted %d bodies of %d bytes in %d", m.Bodies(), m.BodyBytes(), m.Sent())
	}
	m.Untouched(t)
}

func TestModelLarge(t *testing.T) {
	m := &Model{}
	m.Deliver("INBOX", Large(10_000_000))
	same(t, fetched(t, client(t, m), "INBOX"), []Message{Large(10_000_000)})
}

// speech talks to a server in plain lines.
type speech struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
	n    int
}

func talk(t testing.TB, conn net.Conn) *speech {
	return &speech{t: t, conn: conn, r: bufio.NewReader(conn)}
}

func dial(t testing.TB, addr string) *speech {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return talk(t, conn)
}

// line reads one; "" at the end of the connection.
func (s *speech) line() string {
	line, _ := s.r.ReadString('\n')
	return line
}

// ask sends a command and gives everything up to the tagged line.
func (s *speech) ask(format string, args ...any) string {
	s.t.Helper()
	s.n++
	tag := fmt.Sprintf("a%d", s.n)
	if _, err := fmt.Fprintf(s.conn, tag+" "+format+"\r\n", args...); err != nil {
		return err.Error()
	}
	var b strings.Builder
	for {
		line, err := s.r.ReadString('\n')
		b.WriteString(line)
		if err != nil || strings.HasPrefix(line, tag+" ") {
			return b.String()
		}
	}
}

// opened is a conversation with INBOX open.
func opened(t testing.TB, m *Model) *speech {
	t.Helper()
	m.Preauth = true
	s := dial(t, m.Start(t))
	s.line()
	if got := s.ask("EXAMINE INBOX"); !strings.Contains(got, "a1 OK") {
		t.Fatalf("examine: %s", got)
	}
	return s
}

func three() *Model {
	m := &Model{}
	for i := range 3 {
		m.Deliver("INBOX", about(fmt.Sprintf("letter %d", i+1), "body\r\n"))
	}
	return m
}

func TestModelBends(t *testing.T) {
	const all = "UID FETCH 1:* (FLAGS RFC822.SIZE BODY.PEEK[])"
	for _, c := range []struct {
		name    string
		bend    Bend
		has     string
		lacks   string
		ordered bool
	}{
		{name: "omit", bend: ForUID(2, Omit), has: "* 3 FETCH", lacks: "* 2 FETCH"},
		{name: "fail", bend: ForUID(2, Fail("NO [SERVERBUG] sorry")), has: "a2 NO [SERVERBUG] sorry", lacks: "* 2 FETCH"},
		{name: "uid last", bend: UIDLast, has: "body\r\n UID 3)", lacks: "FETCH (UID"},
		{name: "flags before", bend: FlagsBefore, has: "* 2 FETCH (UID 2 FLAGS (\\Seen $Other))\r\n* 2 FETCH (UID 2 "},
		{name: "flags after", bend: FlagsAfter, has: ")\r\n* 2 FETCH (FLAGS (\\Seen $Other) UID 2)\r\n"},
		{name: "twice", bend: Twice, has: "* 2 FETCH (UID 2 FLAGS ())\r\n"},
		{name: "lie", bend: Lie(1000), has: "RFC822.SIZE 1", lacks: "RFC822.SIZE 9"},
		{name: "short", bend: Short(3), has: "bod)\r\n"},
		{name: "long", bend: Long(3), has: "body\r\nxxx)\r\n"},
		{name: "nil", bend: ForUID(2, Nil), has: "BODY[] NIL)"},
		{name: "empty", bend: ForUID(2, Empty), has: `BODY[] "")`},
		{name: "placeholder", bend: Placeholder, has: "Microsoft Exchange", lacks: "letter"},
		{name: "bytes", bend: Bytes([]byte("other")), has: "BODY[] {5}\r\nother)"},
		{name: "value", bend: Value("X-NEW", "(a (b))"), has: " X-NEW (a (b)))"},
		{name: "times", bend: Times(2, Nil), has: "* 3 FETCH (UID 3 FLAGS () RFC822.SIZE 158 BODY[] {"},
		{name: "end", bend: ForUID(2, func(a *Answer) { a.End = true }), has: "* 2 FETCH", lacks: "* 3 FETCH"},
		{name: "bye", bend: ForUID(2, func(a *Answer) { a.Before, a.Omit, a.End = "* BYE tired\r\n", true, true }), has: "* BYE tired\r\n", lacks: "* 2 FETCH"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := three()
			m.Bend(c.bend)
			got := opened(t, m).ask(all)
			if !strings.Contains(got, c.has) || c.lacks != "" && strings.Contains(got, c.lacks) {
				t.Errorf("got %s", got)
			}
		})
	}
}

func TestModelShuffle(t *testing.T) {
	m := three()
	m.Bend(Shuffle(1))
	s := opened(t, m)
	once := s.ask("UID FETCH 1:* (FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])")
	if again := s.ask("UID FETCH 1:* (FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])"); strings.ReplaceAll(again, "a3 ", "a2 ") != once {
		t.Error("not the same order again")
	}
	m.Heal()
	if plain := s.ask("UID FETCH 1:* (FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])"); len(plain) != len(once) || strings.ReplaceAll(plain, "a4 ", "a2 ") == once {
		t.Errorf("not shuffled, or more than that: %s", once)
	}
}

func TestModelFaults(t *testing.T) {
	m := three()
	m.Fault(
		Refuse("NOOP", "NO [UNAVAILABLE] later", 1),
		Remark("CHECK", "* OK [ALERT] look\r\n", 0),
		Hangup("ID", 1),
		Bye(6, "enough"),
	)
	s := opened(t, m)
	for _, want := range []string{"a2 NO [UNAVAILABLE] later\r\n", "a3 OK done\r\n"} {
		if got := s.ask("NOOP"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := s.ask("CHECK"); got != "* OK [ALERT] look\r\na4 OK done\r\n" {
		t.Errorf("got %q", got)
	}
	if got := s.ask("ID NIL"); got != "" {
		t.Errorf("got %q before the end", got)
	}
	s = dial(t, m.Start(t))
	s.line()
	if got := s.ask("NOOP"); got != "* BYE enough\r\n" {
		t.Errorf("got %q", got)
	}
}

// TestModelCut cuts a short conversation at every byte, in both ways.
func TestModelCut(t *testing.T) {
	whole := func(cut *Cut) (string, int64) {
		m := three()
		m.Preauth = true
		if cut != nil {
			m.Cut(*cut)
		}
		addr := m.Start(t)
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			// A reset before the first byte may be faster than we are.
			return "", m.Sent()
		}
		defer conn.Close()
		// The kernel tells of a reset once: to the write, or to a read.
		_, early := io.WriteString(conn, "a EXAMINE INBOX\r\nb UID FETCH 1:* (BODY.PEEK[])\r\nc LOGOUT\r\n")
		got, err := io.ReadAll(conn)
		if err == nil {
			err = early
		}
		if cut != nil && cut.How == RST && err == nil {
			t.Errorf("reset after %d bytes was an orderly end", cut.After)
		}
		if cut == nil || cut.How == FIN {
			if err != nil {
				t.Errorf("%+v: %v", cut, err)
			}
		}
		m.Close()
		return string(got), m.Sent()
	}
	all, length := whole(nil)
	if int64(len(all)) != length || !strings.Contains(all, "c OK") {
		t.Fatalf("%d bytes were sent as %d", len(all), length)
	}
	for n := int64(0); n < length; n += 7 {
		got, sent := whole(&Cut{After: n})
		if got != all[:n] || sent != n {
			t.Fatalf("cut after %d: got %d bytes, sent %d", n, len(got), sent)
		}
		if _, sent := whole(&Cut{After: n, How: RST}); sent != n {
			t.Fatalf("reset after %d: sent %d", n, sent)
		}
	}
}

func TestModelCutAgain(t *testing.T) {
	m := three()
	m.Preauth = true
	addr := m.Start(t)
	m.Cut(Cut{After: 10, Every: true})
	for range 3 {
		if got, _ := io.ReadAll(dial(t, addr).conn); len(got) != 10 {
			t.Errorf("got %q", got)
		}
	}
	m.Cut(Cut{After: 10, Conn: m.Opened() + 2})
	for _, whole := range []bool{true, false} {
		if line := dial(t, addr).line(); strings.HasSuffix(line, "\n") != whole {
			t.Errorf("got %q", line)
		}
	}
}

func TestModelStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := three()
		m.Preauth = true
		m.Cut(Cut{After: 20, How: Stall})
		here, there := net.Pipe()
		go m.Serve(there)
		here.SetReadDeadline(time.Now().Add(time.Hour))
		got, err := io.ReadAll(here)
		if len(got) != 20 || !isTimeout(err) {
			t.Errorf("%d bytes, then %v", len(got), err)
		}
		here.Close()
	})
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func TestModelSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &Model{Greeting: "OK 0123456789", Window: 1, Pause: time.Minute}
		here, there := net.Pipe()
		go m.Serve(there)
		start := time.Now()
		line, _ := bufio.NewReader(here).ReadString('\n')
		if took := time.Since(start); took != time.Duration(len(line))*time.Minute {
			t.Errorf("%q took %v", line, took)
		}
		here.Close()
	})
}

func TestModelLimits(t *testing.T) {
	m := &Model{Most: 1}
	addr := m.Start(t)
	dial(t, addr).line()
	if got := dial(t, addr).line(); !strings.HasPrefix(got, "* BYE [UNAVAILABLE] too many") {
		t.Errorf("second connection: %q", got)
	}
	m = &Model{Most: 1, Full: "NO [ALERT] too many simultaneous connections"}
	addr = m.Start(t)
	dial(t, addr).line()
	s := dial(t, addr)
	s.line()
	if got := s.ask("LOGIN ann secret"); got != "a1 NO [ALERT] too many simultaneous connections\r\n" {
		t.Errorf("second login: %q", got)
	}
}

func TestModelLogin(t *testing.T) {
	authority, err := NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	m := &Model{TLS: authority.Server(), Welcome: "[ALERT] hello"}
	s := dial(t, m.Start(t))
	if got := s.line(); !strings.Contains(got, "STARTTLS LOGINDISABLED]") || strings.Contains(got, "AUTH=") {
		t.Errorf("greeting %q", got)
	}
	if got := s.ask("LOGIN ann secret"); !strings.Contains(got, "PRIVACYREQUIRED") {
		t.Errorf("in clear text: %q", got)
	}
	s.ask("STARTTLS")
	s.conn = tls.Client(s.conn, &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost"})
	s.r.Reset(s.conn)
	if got := s.ask("LOGIN ann {5+}\r\nwrong"); !strings.Contains(got, "AUTHENTICATIONFAILED") {
		t.Errorf("wrong password: %q", got)
	}
	if got := s.ask("AUTHENTICATE PLAIN AGFubgBzZWNyZXQ="); got != "a4 OK [ALERT] hello\r\n" {
		t.Errorf("login: %q", got)
	}
	for _, c := range m.Commands() {
		if c.Args != "" {
			t.Errorf("%s is noted with arguments", c)
		}
	}
	conn, err := tls.Dial("tcp", m.StartTLS(t), &tls.Config{RootCAs: authority.Pool()})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s = talk(t, conn)
	s.line()
	fmt.Fprintf(conn, "x AUTHENTICATE PLAIN\r\n")
	if got := s.line(); got != "+ \r\n" {
		t.Errorf("got %q", got)
	}
	fmt.Fprintf(conn, "AGFubgBzZWNyZXQ=\r\n")
	if got := s.line(); got != "x OK [ALERT] hello\r\n" {
		t.Errorf("got %q", got)
	}
}

func TestModelNames(t *testing.T) {
	m := &Model{}
	for _, n := range Names() {
		if n.Delim == "/" {
			m.Folder(n.Raw)
			m.Deliver(n.Raw, about(n.About, "body\r\n"))
		}
	}
	m.Folder("Sent", `\Sent`)
	m.Folder("Top", `\Noselect`)
	m.Preauth = true
	s := dial(t, m.Start(t))
	s.line()
	got := s.ask(`LIST "" "*" RETURN (SPECIAL-USE STATUS (MESSAGES UIDVALIDITY))`)
	for _, want := range []string{
		`* LIST (\HasChildren) "/" "INBOX"`,
		`* LIST (\HasNoChildren) "/" "INBOX/Work"`,
		`* LIST (\HasNoChildren) "/" "&ZeVnLIqe-"`,
		`* LIST (\HasNoChildren) "/" "a\"b\\c"`,
		"* LIST (\\HasNoChildren) \"/\" {4}\r\na\r\nb\r\n* STATUS {4}\r\na\r\nb (MESSAGES 1 ",
		`* LIST (\Sent \HasNoChildren) "/" "Sent"`,
		`* LIST (\Noselect \HasNoChildren) "/" "Top"` + "\r\na1 OK",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
	for _, n := range Names() {
		if n.Delim != "/" {
			continue
		}
		if got := s.ask("EXAMINE {%d+}\r\n%s", len(n.Raw), n.Raw); !strings.Contains(got, "* 1 EXISTS") {
			t.Errorf("%s: %s", n.About, got)
		}
	}
	if got := s.ask(`LIST "" "%%"`); strings.Contains(got, "INBOX/Work") || !strings.Contains(got, "INBOX") {
		t.Errorf("top level: %s", got)
	}
	flat := &Model{Flat: true, Preauth: true}
	s = dial(t, flat.Start(t))
	s.line()
	if got := s.ask(`LIST "" *`); !strings.HasPrefix(got, `* LIST () NIL "INBOX"`) {
		t.Errorf("flat: %s", got)
	}
}

func TestModelChanges(t *testing.T) {
	m := three()
	m.Caps = append([]string{"QRESYNC", "OBJECTID", "X-GM-EXT-1"}, DefaultCaps...)
	s := opened(t, m)
	m.Expunge("INBOX", 1)
	m.Deliver("INBOX", about("letter 4", ""))
	m.SetFlags("INBOX", 3, `\Seen`)
	if got := s.ask("NOOP"); got != "* 1 EXPUNGE\r\n* 2 FETCH (FLAGS (\\Seen))\r\n* 3 EXISTS\r\na2 OK done\r\n" {
		t.Errorf("news: %q", got)
	}
	if got := s.ask("NOOP"); got != "a3 OK done\r\n" {
		t.Errorf("no news: %q", got)
	}
	if got := s.ask("UID FETCH 1:* (FLAGS) (CHANGEDSINCE 5)"); strings.Contains(got, "UID 2 ") || !strings.Contains(got, "UID 3 FLAGS (\\Seen) MODSEQ (7))") {
		t.Errorf("changed: %q", got)
	}
	if got := s.ask("UID SEARCH RETURN (ALL COUNT MAX) ALL"); !strings.Contains(got, "* ESEARCH (TAG \"a5\") UID ALL 2:4 COUNT 3 MAX 4\r\n") {
		t.Errorf("search: %q", got)
	}
	if got := s.ask("UID SEARCH UID 3:9 UNSEEN"); !strings.Contains(got, "* SEARCH 4\r\n") {
		t.Errorf("search: %q", got)
	}
	if got := s.ask("UID FETCH 99:* (EMAILID X-GM-MSGID X-GM-LABELS)"); !strings.Contains(got, "* 3 FETCH (UID 4 EMAILID (M4) X-GM-MSGID 1700000000000000004 X-GM-LABELS ())") {
		t.Errorf("ids: %q", got)
	}
	s.ask("ENABLE QRESYNC")
	got := s.ask("EXAMINE INBOX (QRESYNC (%d 4))", m.Validity("INBOX"))
	if !strings.Contains(got, "* VANISHED (EARLIER) 1\r\n") || !strings.Contains(got, "UID 4 ") || strings.Contains(got, "UID 2 ") {
		t.Errorf("resync: %q", got)
	}
	moved := m.Move("INBOX", 2, "Other")
	if got := s.ask("NOOP"); got != "* VANISHED 2\r\na10 OK done\r\n" || moved != 1 {
		t.Errorf("moved: %q", got)
	}
	m.Replace("INBOX", 3, exactly("x", "other"))
	if got := s.ask("UID FETCH 3 BODY.PEEK[]<1.3>"); !strings.Contains(got, "BODY[]<1> {3}\r\nthe)") {
		t.Errorf("part: %q", got)
	}
}

// TestModelCopy checks what the sink relies on: all that are there or none, and
// which has become which.
func TestModelCopy(t *testing.T) {
	m := &Model{Preauth: true}
	m.Deliver("INBOX", Letter("a", []byte("Subject: a\r\n"), `\Seen`), Letter("b", []byte("Subject: b\r\n"), "Work"), Letter("c", []byte("Subject: c\r\n")))
	m.Expunge("INBOX", 2)
	m.Folder("Work")
	m.Deliver("Work", Letter("d", []byte("Subject: d\r\n")))
	s := dial(t, m.Start(t))
	s.line()
	s.ask("EXAMINE INBOX")
	validity := m.Validity("Work")
	if got, want := s.ask("UID COPY 3,1:2 Work"), fmt.Sprintf("OK [COPYUID %d 1,3 2:3] done", validity); !strings.Contains(got, want) {
		t.Errorf("copied: %q, want %q", got, want)
	}
	if got := m.Mails("Work"); len(got) != 3 || got[1].Name != "a" || got[1].Flags.Key() != `\Seen` || !got[1].Date.Equal(Epoch) {
		t.Errorf("copies %+v", got)
	}
	if got := s.ask("UID COPY 2 Work"); !strings.Contains(got, "OK done") {
		t.Errorf("what is not there: %q", got)
	}
	if got := s.ask("UID COPY 1 Nowhere"); !strings.Contains(got, "NO [TRYCREATE]") {
		t.Errorf("to nowhere: %q", got)
	}
	m.Keep(func(k *Keeper) { k.Room = m.used() + 13 })
	if got := s.ask("UID COPY 1:3 Work"); !strings.Contains(got, "NO [OVERQUOTA]") || len(m.Mails("Work")) != 3 {
		t.Errorf("too much: %q", got)
	}
	if got := s.ask("UID COPY 3 INBOX"); !strings.Contains(got, " 3 4] done") || len(m.Mails("INBOX")) != 3 {
		t.Errorf("into itself: %q", got)
	}
}

func TestModelRewind(t *testing.T) {
	m := three()
	then := m.Snapshot()
	m.Deliver("INBOX", about("lost", ""))
	m.SetFlags("INBOX", 1, `\Seen`)
	m.Rewind(then)
	s := opened(t, m)
	if got := s.ask("STATUS INBOX (MESSAGES UIDNEXT HIGHESTMODSEQ)"); !strings.Contains(got, "(MESSAGES 3 UIDNEXT 4 HIGHESTMODSEQ 4)") {
		t.Errorf("after rewind: %q", got)
	}
	before := m.Validity("INBOX")
	m.Renumber("INBOX")
	if m.Validity("INBOX") == before {
		t.Error("Renumber keeps UIDVALIDITY")
	}
	m.NextUID("INBOX", 1<<32-1)
	if uids := m.Deliver("INBOX", about("last", "")); uids[0] != 1<<32-1 {
		t.Errorf("uids %v", uids)
	}
}

// TestModelExpungeUnderWay expunges a message between two answers.
func TestModelExpungeUnderWay(t *testing.T) {
	m := three()
	m.Bend(Once(ForUID(1, func(a *Answer) {
		m.Expunge("INBOX", 2)
		a.After = "* OK still here\r\n"
	})))
	s := opened(t, m)
	got := s.ask("UID FETCH 1 FLAGS")
	if !strings.HasSuffix(got, "* 2 EXPUNGE\r\na2 OK done\r\n") {
		t.Errorf("got %q", got)
	}
	if got := s.ask("UID FETCH 1:3 FLAGS"); strings.Contains(got, "UID 2 ") {
		t.Errorf("got %q", got)
	}
}

func TestUntouched(t *testing.T) {
	for line, harmless := range map[string]bool{
		"a EXAMINE INBOX":                      true,
		"a UID FETCH 1 (FLAGS BODY.PEEK[])":    true,
		"a SELECT INBOX":                       false,
		"a UID FETCH 1 (FLAGS BODY[])":         false,
		"a FETCH 1 BODY[TEXT]":                 false,
		"a FETCH 1 rfc822":                     false,
		"a FETCH 1 (RFC822.SIZE)":              true,
		"a UID STORE 1 +FLAGS (\\Deleted)":     false,
		"a CLOSE":                              false,
		"a UID FETCH 1 (BODY.PEEK[HEADER])":    true,
		"a LIST \"\" * RETURN (STATUS (SIZE))": true,
	} {
		if got := parseCommand(line).changes(); (got == "") != harmless {
			t.Errorf("%s: %q", line, got)
		}
	}
}

func FuzzTokens(f *testing.F) {
	f.Add(`"a\"b" (c {3}` + "\r\nxyz" + ` BODY[HEADER.FIELDS (A)]<1.2>) NIL`)
	f.Fuzz(func(t *testing.T, s string) {
		tokens(s)
		if back, err := tokens(quote(s)); err != nil || len(back) != 1 || back[0].text != s {
			t.Errorf("%q came back as %v: %v", s, back, err)
		}
	})
}
