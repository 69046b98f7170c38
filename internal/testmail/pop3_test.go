package testmail

import (
	"bytes"
	"crypto/md5"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// say sends a command and gives the first line of the answer.
func (s *speech) say(format string, args ...any) string {
	s.t.Helper()
	if _, err := fmt.Fprintf(s.conn, format+"\r\n", args...); err != nil {
		return err.Error()
	}
	return strings.TrimSuffix(s.line(), "\r\n")
}

// all sends a command and gives what is between the first line and the final
// dot, as it came. Without a good first line, it is that line.
func (s *speech) all(format string, args ...any) string {
	s.t.Helper()
	if line := s.say(format, args...); !strings.HasPrefix(line, "+OK") {
		return line
	}
	return s.rest()
}

func (s *speech) rest() string {
	s.t.Helper()
	got := []byte("\r\n")
	for !bytes.HasSuffix(got, []byte("\r\n.\r\n")) {
		b, err := s.r.ReadByte()
		if err != nil {
			s.t.Fatalf("%v after %.100q", err, got)
		}
		got = append(got, b)
	}
	return string(got[2 : len(got)-3])
}

// unstuffed is a body as RFC 1939 says that it is to be read.
func unstuffed(wire string) []byte {
	lines := strings.SplitAfter(wire, "\r\n")
	for i, l := range lines {
		lines[i] = strings.TrimPrefix(l, ".")
	}
	return []byte(strings.Join(lines, ""))
}

// popped is a conversation with the maildrop open.
func popped(t testing.TB, p *POP3) *speech {
	t.Helper()
	p.Preauth = true
	s := dial(t, p.Start(t))
	if got := s.line(); !strings.HasPrefix(got, "+OK") {
		t.Fatalf("greeting: %s", got)
	}
	return s
}

// visited does commands in a session of their own and gives the first lines.
func visited(t testing.TB, addr string, commands ...string) []string {
	t.Helper()
	s := dial(t, addr)
	s.line()
	var got []string
	for _, c := range commands {
		if verb, _, _ := strings.Cut(c, " "); verb == "RETR" {
			got = append(got, s.all("%s", c))
			continue
		}
		got = append(got, s.say("%s", c))
	}
	s.conn.Close()
	return got
}

func threePOP3() *POP3 {
	p := &POP3{}
	for i := range 3 {
		p.Deliver(about(fmt.Sprintf("letter %d", i+1), "body\r\n"))
	}
	return p
}

func TestPOP3Corpus(t *testing.T) {
	p := &POP3{}
	p.Deliver(Corpus()...)
	s := popped(t, p)
	var sum int64
	sizes := s.all("LIST")
	for i, m := range Corpus() {
		want := KeptPOP3(m.Raw())
		sum += m.Size
		got := unstuffed(s.all("RETR %d", i+1))
		if !bytes.Equal(got, want) {
			t.Errorf("%s: %.100q, want %.100q", m.Name, got, want)
		}
		if line := fmt.Sprintf("%d %d\r\n", i+1, len(want)); !strings.Contains(sizes, line) {
			t.Errorf("%s: LIST has no %s", m.Name, line)
		}
	}
	if p.Bodies() != len(Corpus()) || p.BodyBytes() != sum || p.Sent() <= sum {
		t.Errorf("counted %d bodies of %d bytes in %d", p.Bodies(), p.BodyBytes(), p.Sent())
	}
	p.Untouched(t)
}

func TestPOP3Large(t *testing.T) {
	p := &POP3{}
	p.Deliver(Large(10_000_000))
	if got := popped(t, p).all("RETR 1"); !bytes.Equal([]byte(got), Large(10_000_000).Raw()) {
		t.Errorf("other bytes: %d", len(got))
	}
}

func TestKeptPOP3(t *testing.T) {
	for raw, want := range map[string]string{
		"": "", "a": "a\r\n", "a\r\n": "a\r\n", "a\n": "a\n\r\n", "a\r": "a\r\r\n", "\r\n": "\r\n", "\n": "\n\r\n",
	} {
		if got := KeptPOP3([]byte(raw)); string(got) != want {
			t.Errorf("%q is kept as %q, want %q", raw, got, want)
		}
	}
	raw := append(make([]byte, 0, 10), 'x')
	KeptPOP3(raw)
	if raw[:2][1] != 0 {
		t.Error("KeptPOP3 writes behind its argument")
	}
}

func TestPOP3Commands(t *testing.T) {
	p := threePOP3()
	p.SetID(1, "odd \x80 id")
	s := popped(t, p)
	size := p.Left()[0].Size
	for _, c := range []struct{ say, want string }{
		{"STAT", fmt.Sprintf("+OK 3 %d", 3*size)},
		{"LIST 2", fmt.Sprintf("+OK 2 %d", size)},
		{"list 2", fmt.Sprintf("+OK 2 %d", size)},
		{"UIDL 2", "+OK 2 odd \x80 id"},
		{"LIST 4", "-ERR no such message"},
		{"RETR 0", "-ERR no such message"},
		{"RETR", "-ERR no such message"},
		{"DELE 2", "+OK marked"},
		{"RETR 2", "-ERR no such message"},
		{"STAT", fmt.Sprintf("+OK 2 %d", 2*size)},
		{"RSET", "+OK all are back"},
		{"STAT", fmt.Sprintf("+OK 3 %d", 3*size)},
		{"NOOP", "+OK"},
		{"TOP 1", "-ERR unknown command"},
		{"TOP 1 -1", "-ERR how many lines?"},
		{"USER ann", "-ERR logged in already"},
		{"STLS", "-ERR no TLS here"},
		{"XYZZY", "-ERR unknown command"},
		{"QUIT", "+OK see you"},
		{"NOOP", ""},
	} {
		if got := s.say("%s", c.say); got != c.want && !(c.want == "" && !strings.HasPrefix(got, "+")) {
			t.Errorf("%s: %q, want %q", c.say, got, c.want)
		}
	}
	s = popped(t, p)
	if got := s.all("CAPA"); !strings.Contains(got, "UIDL\r\n") || strings.Contains(got, "STLS") {
		t.Errorf("CAPA: %q", got)
	}
	ids := p.IDs()
	if got := s.all("UIDL"); got != "1 "+ids[0]+"\r\n2 odd \x80 id\r\n3 "+ids[2]+"\r\n" {
		t.Errorf("UIDL: %q", got)
	}
	if got := s.all("TOP 1 0"); got != header("letter 1")+"\r\n" {
		t.Errorf("TOP 1 0: %q", got)
	}
	if got := s.all("TOP 1 9"); got != header("letter 1")+"\r\nbody\r\n" {
		t.Errorf("TOP 1 9: %q", got)
	}
}

// TestPOP3Update is when a message is deleted, and when not.
func TestPOP3Update(t *testing.T) {
	for _, c := range []struct {
		name  string
		say   []string
		set   func(*POP3)
		left  int
		says  string // at last
		gmail bool
	}{
		{name: "quit", say: []string{"DELE 1", "DELE 3", "QUIT"}, left: 1, says: "+OK see you"},
		{name: "lost", say: []string{"DELE 1"}, left: 3, says: "+OK marked"},
		{name: "reset", say: []string{"DELE 1", "RSET", "QUIT"}, left: 3, says: "+OK see you"},
		{name: "refused", say: []string{"DELE 1", "QUIT"}, set: func(p *POP3) { p.Fault(Refuse("QUIT", "-ERR no", 1)) }, left: 3, says: "-ERR no"},
		{name: "hangup", say: []string{"DELE 1", "QUIT"}, set: func(p *POP3) { p.Fault(Hangup("QUIT", 1)) }, left: 3, says: ""},
		{name: "answer lost", say: []string{"DELE 1", "QUIT"}, set: func(p *POP3) { p.Twist(On("QUIT", Lost(FIN))) }, left: 2, says: ""},
		{name: "answer wrong", say: []string{"DELE 1", "QUIT"}, set: func(p *POP3) { p.Twist(On("QUIT", Say("-ERR oops"))) }, left: 2, says: "-ERR oops"},
		{name: "pinned", say: []string{"DELE 1", "DELE 2", "QUIT"}, set: func(p *POP3) { p.Pin(1) }, left: 2, says: "-ERR some deleted messages not removed"},
		{name: "pinned others", say: []string{"DELE 1", "QUIT"}, set: func(p *POP3) { p.Pin(1) }, left: 2, says: "+OK see you"},
		{name: "expire 0", say: []string{"RETR 1", "QUIT"}, set: func(p *POP3) { p.Caps = []string{"EXPIRE 0", "UIDL"} }, left: 2, says: "+OK see you"},
		{name: "expire 0, lost", say: []string{"RETR 1"}, set: func(p *POP3) { p.Caps = []string{"EXPIRE 0", "UIDL"} }, left: 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := threePOP3()
			p.Preauth = true
			there := 0
			p.Update = func(gone []Message) { there = len(p.Left()) - len(gone) }
			if c.set != nil {
				c.set(p)
			}
			got := visited(t, p.Start(t), c.say...)
			p.Close()
			if n := len(p.Left()); n != c.left {
				t.Errorf("%d are left, want %d", n, c.left)
			}
			if c.left < 3 && there != c.left {
				t.Errorf("Update sees %d to stay, want %d", there, c.left)
			}
			if last := got[len(got)-1]; last != c.says && c.says != "" {
				t.Errorf("at last it says %q, want %q", last, c.says)
			}
		})
	}
}

func TestPOP3Gmail(t *testing.T) {
	p := threePOP3()
	p.Gmail = 2
	addr := p.Start(t)
	listed := func(user string, more ...string) string {
		got := visited(t, addr, append([]string{"USER " + user, "PASS secret", "UIDL 1", "UIDL 2"}, more...)...)
		return strings.NewReplacer("+OK ", "", p.IDs()[0], "a", p.IDs()[1], "b", p.IDs()[2], "c").Replace(got[2] + ", " + got[3])
	}
	const none = "-ERR no such message"
	for i, want := range []string{"1 a, 2 b", "1 a, 2 b", "1 b, 2 c", none + ", " + none} {
		more := [][]string{{"RETR 1"}, {"RETR 1", "QUIT"}, {"RETR 1", "DELE 2", "QUIT"}, nil}[i]
		if got := listed("ann", more...); got != want {
			t.Errorf("session %d: %s, want %s", i+1, got, want)
		}
	}
	if got := listed("recent:ann"); got != "1 a, 2 b" || len(p.Left()) != 3 {
		t.Errorf("recent: %s, and %d are left", got, len(p.Left()))
	}
}

func TestPOP3Maildrop(t *testing.T) {
	p := threePOP3()
	s := popped(t, p)
	first := p.IDs()
	p.Remove(0)
	p.Deliver(about("late", ""))
	p.Replace(0, exactly("other", "x"))
	if got := s.all("UIDL"); got != "3 "+first[2]+"\r\n" {
		t.Errorf("under way: %q", got)
	}
	s.say("QUIT")
	s = popped(t, p)
	if got := s.say("UIDL 1") + s.say("LIST 1"); got != "+OK 1 "+first[1]+"+OK 1 3" {
		t.Errorf("replaced: %q", got)
	}
	p.SetSize(0, 1<<40)
	if got := s.say("LIST 1") + s.all("RETR 1"); got != "+OK 1 1099511627776x\r\n" {
		t.Errorf("size: %q", got)
	}
	before := p.IDs()
	p.Renumber()
	for _, id := range p.IDs() {
		if slices.Contains(before, id) {
			t.Errorf("id %s is there again", id)
		}
	}
	now := p.IDs()
	p.Shuffle(3)
	if slices.Equal(p.IDs(), now) || len(p.IDs()) != 3 {
		t.Errorf("shuffled: %q", p.IDs())
	}
	p.NewID = func(n int, m Message) string { return fmt.Sprintf("%x", md5.Sum(m.Raw())) }
	ids := p.Deliver(about("twin", ""), about("twin", ""))
	if ids[0] != ids[1] || len(ids[0]) != 32 {
		t.Errorf("ids of twins: %q", ids)
	}
}

func TestPOP3InUse(t *testing.T) {
	p := threePOP3()
	p.Patience = -1
	addr := p.Start(t)
	s := dial(t, addr)
	s.line()
	s.say("USER ann")
	s.say("PASS secret")
	login := []string{"USER ann", "PASS secret"}
	if got := visited(t, addr, login...)[1]; got != "-ERR [IN-USE] another session has the maildrop" {
		t.Errorf("second session: %q", got)
	}
	if got := s.say("QUIT"); got != "+OK see you" {
		t.Error(got)
	}
	if got := visited(t, addr, login...)[1]; got != "+OK 3 messages" {
		t.Errorf("after QUIT: %q", got)
	}
}

// TestPOP3ComeBack: who leaves without a word may come back at once.
func TestPOP3ComeBack(t *testing.T) {
	p := &POP3{Preauth: true}
	p.Deliver(Large(1_000_000))
	addr := p.Start(t)
	for range 50 {
		s := dial(t, addr)
		if got := s.line(); got != "+OK 1 messages\r\n" {
			t.Fatalf("greeting: %q", got)
		}
		s.say("RETR 1")
		s.conn.Close()
	}
}

func TestPOP3Times(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := threePOP3()
		p.Preauth, p.Idle, p.Delay = true, 10*time.Minute, time.Hour
		visit := func() *speech {
			here, there := net.Pipe()
			go p.Serve(there)
			return talk(t, here)
		}
		s := visit()
		s.line()
		s.say("DELE 1")
		time.Sleep(9 * time.Minute)
		if got := s.say("NOOP"); got != "+OK" {
			t.Errorf("after nine minutes: %q", got)
		}
		time.Sleep(11 * time.Minute)
		if got := s.line(); got != "" || len(p.Left()) != 3 {
			t.Errorf("after eleven minutes: %q, %d left", got, len(p.Left()))
		}
		if got := visit().line(); !strings.HasPrefix(got, "-ERR [LOGIN-DELAY]") {
			t.Errorf("too soon: %q", got)
		}
		time.Sleep(time.Hour)
		s = visit()
		if got := s.line(); got != "+OK 3 messages\r\n" {
			t.Errorf("an hour later: %q", got)
		}
		s.conn.Close()
	})
}

func TestPOP3Login(t *testing.T) {
	authority, err := NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	p := &POP3{TLS: authority.Server(), APOP: "<7@example.org>"}
	p.SASL = map[string]Mechanism{"XTWO": func(ask func(string) (string, error)) bool {
		first, _ := ask("")
		second, err := ask("more")
		return err == nil && first+second == "onetwo"
	}}
	trust := &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost"}
	plain := p.Start(t)
	s := dial(t, plain)
	if got := s.line(); got != "+OK ready <7@example.org>\r\n" {
		t.Errorf("greeting %q", got)
	}
	if got := s.all("CAPA"); !strings.Contains(got, "STLS\r\n") || strings.Contains(got, "USER") || strings.Contains(got, "SASL") {
		t.Errorf("CAPA in the clear: %q", got)
	}
	if got := s.say("USER ann"); got != "-ERR [AUTH] not in clear text" {
		t.Errorf("USER in the clear: %q", got)
	}
	// What comes in the clear behind STLS is not a command of the TLS session.
	if got := s.say("STLS\r\nNOOP"); got != "+OK begin" {
		t.Fatalf("STLS: %q", got)
	}
	s.conn = tls.Client(s.conn, trust)
	s.r.Reset(s.conn)
	if got := s.all("CAPA"); strings.Contains(got, "STLS") || !strings.Contains(got, "SASL PLAIN LOGIN\r\n") {
		t.Errorf("CAPA: %q", got)
	}
	secure := p.StartTLS(t)
	digest := fmt.Sprintf("%x", md5.Sum([]byte("<7@example.org>secret")))
	for _, c := range []struct {
		name string
		say  []string
		want string
	}{
		{"user", []string{"USER ann", "PASS secret"}, "+OK 0 messages"},
		{"wrong", []string{"USER ann", "PASS wrong"}, "-ERR [AUTH] wrong user or password"},
		{"no user", []string{"PASS secret"}, "-ERR who are you?"},
		{"apop", []string{"APOP ann " + digest}, "+OK 0 messages"},
		{"apop wrong", []string{"APOP ann 0"}, "-ERR [AUTH] wrong user or password"},
		{"plain", []string{"AUTH PLAIN AGFubgBzZWNyZXQ="}, "+OK 0 messages"},
		{"plain in two", []string{"AUTH PLAIN", "AGFubgBzZWNyZXQ="}, "+OK 0 messages"},
		{"plain cancelled", []string{"AUTH PLAIN", "*"}, "-ERR [AUTH] wrong user or password"},
		{"login", []string{"AUTH LOGIN", "YW5u", "c2VjcmV0"}, "+OK 0 messages"},
		{"login in two", []string{"AUTH LOGIN YW5u", "c2VjcmV0"}, "+OK 0 messages"},
		{"own", []string{"AUTH XTWO b25l", "dHdv"}, "+OK 0 messages"},
		{"unknown", []string{"AUTH NTLM"}, "-ERR no such mechanism"},
		{"not logged in", []string{"STAT"}, "-ERR log in first"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, err := tls.Dial("tcp", secure, trust)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			s := talk(t, conn)
			s.line()
			got := ""
			for _, line := range c.say {
				got = s.say("%s", line)
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			s.say("QUIT")
		})
	}
	for _, c := range p.Commands() {
		for _, secret := range []string{"secret", digest, "AGFubgBzZWNyZXQ=", "YW5u"} {
			if strings.Contains(c.String(), secret) {
				t.Errorf("%s is noted", c)
			}
		}
		if c.Verb == "AUTH" && !c.Secure {
			t.Errorf("%s is said to come in the clear", c)
		}
	}
}

func TestPOP3Plain(t *testing.T) {
	p := threePOP3()
	p.Caps = []string{}
	got := visited(t, p.Start(t), "CAPA", "USER ann", "PASS wrong", "USER ann", "PASS secret", "UIDL 1", "NOOP\r\nNOOP")
	want := []string{"-ERR unknown command", "+OK and the password?", "-ERR wrong user or password",
		"+OK and the password?", "+OK 3 messages", "+OK 1 " + p.IDs()[0], "-ERR too fast: PIPELINING is not offered here"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	p = threePOP3()
	p.Caps = []string{"USER"}
	s := popped(t, p)
	if got := s.say("UIDL") + s.say("TOP 1 0"); got != "-ERR unknown command-ERR unknown command" {
		t.Errorf("UIDL and TOP: %q", got)
	}
	if got := dial(t, (&POP3{Greeting: "-ERR [SYS/TEMP] later"}).Start(t)); got.line() != "-ERR [SYS/TEMP] later\r\n" || got.line() != "" {
		t.Error("greeting")
	}
}

func TestPOP3Twists(t *testing.T) {
	ids := threePOP3().IDs()
	letter := header("letter 1") + "\r\n"
	for _, c := range []struct {
		name  string
		twist Twist
		say   string
		want  string // of what follows the first line, where it is good; the beginning, where no end comes
	}{
		{"say", On("STAT", Say("+OK 99 1")), "STAT", "+OK 99 1"},
		{"say garbage", On("STAT", Say("what?\r\n+OK")), "STAT", "what?\r\n+OK"},
		{"set line", On("UIDL", SetLine(1, "2 ")), "UIDL", "1 " + ids[0] + "\r\n2 \r\n3 " + ids[2] + "\r\n"},
		{"set no line", SetLine(9, "x"), "UIDL", "1 " + ids[0] + "\r\n2 " + ids[1] + "\r\n3 " + ids[2] + "\r\n"},
		{"drop line", On("UIDL", DropLine(0)), "UIDL", "2 " + ids[1] + "\r\n3 " + ids[2] + "\r\n"},
		{"add line", On("UIDL", AddLine("4 x")), "UIDL", "1 " + ids[0] + "\r\n2 " + ids[1] + "\r\n3 " + ids[2] + "\r\n4 x\r\n"},
		{"endless line", On("UIDL", Endless("x")), "UIDL", "1 " + ids[0] + "\r\n2 " + ids[1] + "\r\n3 " + ids[2] + "\r\nxxxxx"},
		{"endless lines", On("RETR", Endless("x\r\n")), "RETR 1", letter + "body\r\nx\r\nx\r\nx\r\n"},
		{"no dot", NoDot, "RETR 1", letter + "body\r\n+OK see you\r\n"},
		{"upto", OnNumber(1, Upto(3)), "RETR 1", letter[:3] + "\r\n"},
		{"around", OnNumber(1, Around("\ufeff", "x")), "RETR 1", "\ufeff" + letter + "body\r\nx\r\n"},
		{"instead", Instead([]byte("a\n.\r\n.\n")), "RETR 1", "a\n.\r\n..\n\r\n"},
		{"stuff after lf", func(a *Response) { Instead([]byte("a\n.\r\n.\n"))(a); Stuff(AfterLF)(a) }, "RETR 1", "a\n..\r\n..\n\r\n"},
		{"stuff but first", func(a *Response) { Instead([]byte(".a\r\n.b"))(a); Stuff(ButFirst)(a) }, "RETR 1", ".a\r\n..b\r\n"},
		{"stuff nowhere", func(a *Response) { Instead([]byte("a\n.b\r\n.c"))(a); Stuff(Nowhere)(a) }, "RETR 1", "a\n.b\r\n.c\r\n"},
		{"another number", OnNumber(2, Instead(nil)), "RETR 1", letter + "body\r\n"},
		{"empty", Instead(nil), "RETR 1", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := threePOP3()
			p.Twist(c.twist)
			s := popped(t, p)
			var got string
			switch {
			case c.say == "STAT":
				got = s.say("STAT")
				for range strings.Count(c.want, "\n") {
					got += "\r\n" + strings.TrimSuffix(s.line(), "\r\n")
				}
			case strings.Contains(c.name, "endless") || c.name == "no dot":
				s.say("%s\r\nQUIT", c.say)
				b := make([]byte, len(c.want))
				io.ReadFull(s.r, b)
				got = string(b)
				s.conn.Close()
			default:
				got = s.all("%s", c.say)
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestPOP3AtFirst(t *testing.T) {
	p := threePOP3()
	p.Twist(AtFirst(2, On("NOOP", Say("-ERR"))))
	p.Fault(Refuse("RETR", "-ERR [SYS/TEMP] later", 1), Remark("LIST", "+OK 0 0\r\n", 1))
	s := popped(t, p)
	got := []string{s.say("NOOP"), s.say("STAT")[:3], s.say("NOOP"), s.say("NOOP"), s.say("RETR 1"), s.say("RETR 9"), s.say("LIST 9"), s.line()}
	want := []string{"-ERR", "+OK", "-ERR", "+OK", "-ERR [SYS/TEMP] later", "-ERR no such message", "+OK 0 0", "-ERR no such message\r\n"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	p.Heal()
	p.Fault(Silent("STAT", 1))
	fmt.Fprintf(s.conn, "STAT\r\n")
	s.conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if got, err := s.r.ReadByte(); !isTimeout(err) {
		t.Errorf("silent: %q %v", got, err)
	}
}

// TestPOP3Cut cuts a short conversation at every byte: what was marked is
// deleted just when QUIT came.
func TestPOP3Cut(t *testing.T) {
	whole := func(cut *Cut) (got string, sent int64, left int) {
		p := threePOP3()
		p.Preauth = true
		if cut != nil {
			p.Cut(*cut)
		}
		conn, err := net.Dial("tcp", p.Start(t))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		s := talk(t, conn)
		got = s.line()
		for _, c := range []string{"DELE 1", "LIST 2", "QUIT"} {
			fmt.Fprintf(conn, "%s\r\n", c)
			got += s.line()
		}
		p.Close()
		return got, p.Sent(), len(p.Left())
	}
	all, length, left := whole(nil)
	if int64(len(all)) != length || left != 2 {
		t.Fatalf("%d bytes were sent as %d, %d left", len(all), length, left)
	}
	beforeQUIT := length - int64(len("+OK see you\r\n"))
	for n := range length {
		got, sent, left := whole(&Cut{After: n})
		if got != all[:n] || sent != n {
			t.Fatalf("cut after %d: got %d bytes, sent %d", n, len(got), sent)
		}
		if updated := n > beforeQUIT; updated != (left == 2) {
			t.Errorf("cut after %d of %d: %d left", n, length, left)
		}
	}
}

func TestPOP3Untouched(t *testing.T) {
	for _, c := range []struct {
		caps []string
		say  []string
		want string
	}{
		{say: []string{"RETR 1", "TOP 1 0", "QUIT"}},
		{say: []string{"DELE 9"}, want: "failed: "},
		{caps: []string{"EXPIRE 0"}, say: []string{"RETR 1"}},
		{caps: []string{"EXPIRE 0"}, say: []string{"QUIT"}},
		{caps: []string{"EXPIRE 0"}, say: []string{"RETR 1", "QUIT"}, want: "failed: "},
	} {
		p := threePOP3()
		p.Caps, p.Preauth = c.caps, true
		visited(t, p.Start(t), c.say...)
		p.Close()
		var f fussy
		p.Untouched(&f)
		if !strings.HasPrefix(f.how, c.want) || c.want == "" && f.how != "" {
			t.Errorf("%q at %q: %q", c.say, c.caps, f.how)
		}
	}
}

// TestNewPOP3 is the server of the demo: the account of Memory.Fill.
func TestNewPOP3(t *testing.T) {
	authority, err := NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	o := MemoryOptions{User: "ann@example.org", Password: "secret", TLS: authority.Server()}
	p, err := NewPOP3(o)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	p.Fill(1, 100)
	m := memory(t, MemoryOptions{})
	if err := m.Fill(1, 100); err != nil {
		t.Fatal(err)
	}
	var inbox []string
	for _, box := range m.kept {
		for _, k := range box {
			inbox = append(inbox, string(k.raw))
		}
	}
	if len(p.Left()) < 20 {
		t.Errorf("only %d messages", len(p.Left()))
	}
	conn, err := tls.Dial("tcp", p.AddrTLS(), &tls.Config{RootCAs: authority.Pool()})
	if err != nil {
		t.Fatal(err)
	}
	s := talk(t, conn)
	s.line()
	s.say("USER ann@example.org")
	s.say("PASS secret")
	for i := range p.Left() {
		if got := unstuffed(s.all("RETR %d", i+1)); !slices.Contains(inbox, string(got)) {
			t.Errorf("message %d is not that of Memory", i+1)
		}
	}
	if got := visited(t, p.Addr(), "USER ann@example.org"); got[0] != "-ERR [AUTH] not in clear text" {
		t.Errorf("in clear text: %q", got)
	}
}

func FuzzStuffing(f *testing.F) {
	f.Add([]byte(".\r\n..\n.\r.\r\n.x"), 1)
	f.Fuzz(func(t *testing.T, raw []byte, piece int) {
		var b bytes.Buffer
		s := &stuffer{w: &b}
		for rest := raw; len(rest) > 0; {
			n := min(len(rest), max(piece%7, 1))
			s.Write(rest[:n])
			rest = rest[n:]
		}
		s.Close()
		if got := unstuffed(b.String()); !bytes.Equal(got, KeptPOP3(raw)) {
			t.Errorf("%q came as %q", raw, got)
		}
		if bytes.Contains([]byte("\r\n"+b.String()), []byte("\r\n.\r\n")) {
			t.Errorf("%q ends early", b.String())
		}
	})
}
