package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"mailhaul/internal/catalog"
	"mailhaul/internal/testmail"
	"mailhaul/sink"
)

// A maildrop is a POP3 server, and a book of all that was ever brought to it:
// an archive has that still when the server has not.
type maildrop struct {
	testmail.POP3
	user string
	book []testmail.Message
	odd  bool // unique-ids are not what archives know messages by
}

func newMaildrop(user string) *maildrop {
	m := &maildrop{user: user}
	m.User, m.Password = user, canary
	return m
}

// account is its name in archives.
func (m *maildrop) account(host string) string { return "pop3:" + m.user + "@" + host }

func (m *maildrop) deliver(messages ...testmail.Message) {
	m.Deliver(messages...)
	m.book = append(m.book, messages...)
}

func (m *maildrop) onBody(f func()) {
	m.Twist(testmail.On("RETR", func(*testmail.Response) { f() }))
}

// equals fails unless all that was ever delivered is in an archive, nothing
// else is, and each unique-id that one message has leads to that message.
func (m *maildrop) equals(dir, host string, folders []string) error {
	if len(folders) > 0 {
		return errors.New("a maildrop has no folders")
	}
	s, err := openArchive(dir)
	if err != nil {
		return err
	}
	defer s.Close()
	lines, err := accountLines(dir, m.account(host))
	if err != nil {
		return err
	}
	var errs []error
	there := map[[32]byte]bool{}
	for k, l := range lines {
		raw, err := rebuilt(s, l)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", k.id, err))
			continue
		}
		there[sha256.Sum256(raw)] = true
	}
	brought := map[[32]byte]bool{}
	for _, msg := range m.book {
		sum := kept(msg)
		if brought[sum] = true; !there[sum] {
			errs = append(errs, fmt.Errorf("%s is not in the archive", msg.Name))
		}
	}
	for sum := range there {
		if !brought[sum] {
			errs = append(errs, fmt.Errorf("a message is in the archive that was never delivered (%x)", sum))
		}
	}
	return errors.Join(append(errs, m.named(s, lines)...)...)
}

func kept(m testmail.Message) [32]byte { return sha256.Sum256(testmail.KeptPOP3(m.Raw())) }

// named compares what the server has now by its unique-ids.
func (m *maildrop) named(s sink.Sink, lines map[key]catalog.Line) (errs []error) {
	if m.odd {
		return nil
	}
	ids, left := m.IDs(), m.Left()
	count := map[string]int{}
	for _, id := range ids {
		count[id]++
	}
	for i, id := range ids {
		if count[id] > 1 || id == "" {
			continue
		}
		l, ok := lines[key{"INBOX", "pop3", "uidl:" + printable(id)}]
		if !ok {
			errs = append(errs, fmt.Errorf("message %d (%s), unique-id %q, is not in the archive", i+1, left[i].Name, id))
			continue
		}
		if err := same(s, l, testmail.KeptPOP3(left[i].Raw())); err != nil {
			errs = append(errs, fmt.Errorf("message %d (%s), unique-id %q: %w", i+1, left[i].Name, id, err))
		}
	}
	return errs
}

// printable writes a unique-id as IDs do.
func printable(id string) string {
	var b strings.Builder
	for _, c := range []byte(id) {
		if c > ' ' && c < 0x7f && c != '%' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func pop3Command(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: pop3 COMMAND...")
	}
	if args[0] == "start" {
		startPOP3(ts, args[1:])
		return
	}
	c, ok := maildropCommands[args[0]]
	if !ok {
		ts.Fatalf("pop3 knows start, %s", strings.Join(slices.Sorted(maps.Keys(maildropCommands)), ", "))
	}
	if len(args)-1 < c.least {
		ts.Fatalf("pop3 %s wants %d arguments: %s", args[0], c.least, c.usage)
	}
	c.do(ts, worldOf(ts).drop, args[1:])
}

// maildropOptions are those of "pop3 start": name=value, or the name alone.
var maildropOptions = map[string]func(m *maildrop, a *testmail.Authority, value string){
	"user":  func(m *maildrop, _ *testmail.Authority, v string) { m.User, m.user = v, v },
	"plain": func(m *maildrop, _ *testmail.Authority, _ string) { m.Caps = testmail.PlainPOP3Caps },
	"old":   func(m *maildrop, _ *testmail.Authority, _ string) { m.Caps = []string{} }, // older than CAPA
	"no-uidl": func(m *maildrop, _ *testmail.Authority, _ string) {
		m.Caps = slices.DeleteFunc(slices.Clone(testmail.DefaultPOP3Caps), func(c string) bool { return c == "UIDL" })
		m.odd = true
	},
	"cap": func(m *maildrop, _ *testmail.Authority, v string) {
		m.Caps = append(slices.Clone(testmail.DefaultPOP3Caps), v)
	},
	"delay":    func(m *maildrop, _ *testmail.Authority, v string) { m.Delay, _ = time.ParseDuration(v) },
	"apop":     func(m *maildrop, _ *testmail.Authority, _ string) { m.APOP = "<1896.697170952@example.org>" },
	"greeting": func(m *maildrop, _ *testmail.Authority, v string) { m.Greeting = v },
	"gmail": func(m *maildrop, _ *testmail.Authority, v string) {
		m.Gmail, _ = strconv.Atoi(v)
		m.Greeting = "+OK Gpop ready for requests from 192.0.2.1 abc"
	},
	"stls":  func(m *maildrop, a *testmail.Authority, v string) { m.TLS = certificate(a, v) },
	"pop3s": func(m *maildrop, a *testmail.Authority, v string) { m.TLS = certificate(a, v) },
}

// startPOP3 starts a server. The authority of its certificate is in
// $WORK/ca.pem.
func startPOP3(ts *testscript.TestScript, args []string) {
	authority, err := testmail.NewAuthority()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.Getenv("WORK")+"/ca.pem", authority.PEM(), 0o600))
	m := newMaildrop("ann")
	implicit := false
	for _, arg := range args {
		name, value, _ := strings.Cut(arg, "=")
		set, ok := maildropOptions[name]
		if !ok {
			ts.Fatalf("pop3 start: unknown %s", name)
		}
		set(m, authority, value)
		implicit = implicit || name == "pop3s"
	}
	worldOf(ts).drop, worldOf(ts).last = m, m
	addr, from := "", ""
	switch {
	case implicit:
		addr = m.StartTLS(tb{ts})
		from = "pop3s://" + m.user + "@" + addr
	case m.TLS != nil:
		addr = m.Start(tb{ts})
		from = "pop3://" + m.user + "@" + addr
	default:
		addr = m.Start(tb{ts})
		from = "pop3://" + m.user + "@" + addr + "?tls=none"
	}
	ts.Setenv("POP3", addr)
	ts.Setenv("FROM", from)
}

type maildropCommand func(ts *testscript.TestScript, m *maildrop, args []string)

// maildropCommands change the maildrop, make the server misbehave, or look at
// what was asked of it since it started or since "pop3 reset". Messages are
// numbered from 1, as they lie there now.
var maildropCommands = map[string]struct {
	usage string
	least int
	do    maildropCommand
}{
	"stop": {"", 0, func(_ *testscript.TestScript, m *maildrop, _ []string) { m.Close() }},
	"use":  {"", 0, func(ts *testscript.TestScript, m *maildrop, _ []string) { worldOf(ts).last = m }},
	"deliver": {"WHAT", 1, func(ts *testscript.TestScript, m *maildrop, args []string) {
		m.deliver(messages(ts, args[0], nil)...)
	}},
	"remove": {"N", 1, func(ts *testscript.TestScript, m *maildrop, args []string) { m.Remove(number64(ts, args[0]) - 1) }},
	"replace": {"N WHAT", 2, func(ts *testscript.TestScript, m *maildrop, args []string) {
		by := messages(ts, args[1], nil)[0]
		m.Replace(number64(ts, args[0])-1, by)
		m.book = append(m.book, by)
	}},
	"id":       {"N ID", 2, func(ts *testscript.TestScript, m *maildrop, args []string) { m.SetID(number64(ts, args[0])-1, args[1]) }},
	"renumber": {"", 0, func(_ *testscript.TestScript, m *maildrop, _ []string) { m.Renumber() }},
	"shuffle":  {"", 0, func(_ *testscript.TestScript, m *maildrop, _ []string) { m.Shuffle(1) }},
	"size": {"N BYTES", 2, func(ts *testscript.TestScript, m *maildrop, args []string) {
		m.SetSize(number64(ts, args[0])-1, int64(number64(ts, args[1])))
	}},
	"pin": {"N", 1, func(ts *testscript.TestScript, m *maildrop, args []string) { m.Pin(number64(ts, args[0]) - 1) }},

	"refuse": {"VERB STATUS", 2, func(_ *testscript.TestScript, m *maildrop, args []string) {
		m.Fault(testmail.Refuse(args[0], args[1], 0))
	}},
	"refuse-body": {"N STATUS", 2, func(_ *testscript.TestScript, m *maildrop, args []string) {
		m.Fault(func(c testmail.Command) *testmail.Reply {
			if c.Verb != "RETR" || c.Args != args[0] {
				return nil
			}
			return &testmail.Reply{Status: args[1]}
		})
	}},
	"refuse-login": {"STATUS", 1, func(_ *testscript.TestScript, m *maildrop, args []string) {
		for _, verb := range []string{"PASS", "AUTH", "APOP"} {
			m.Fault(testmail.Refuse(verb, args[0], 0))
		}
	}},
	"hangup": {"VERB: before it is done", 1, func(_ *testscript.TestScript, m *maildrop, args []string) { m.Fault(testmail.Hangup(args[0], 0)) }},
	"hangup-at": {"VERB N: before the N-th is done", 2, func(ts *testscript.TestScript, m *maildrop, args []string) {
		var seen atomic.Int64
		at := int64(number64(ts, args[1]))
		m.Fault(func(c testmail.Command) *testmail.Reply {
			if c.Verb != args[0] || seen.Add(1) != at {
				return nil
			}
			return &testmail.Reply{End: true}
		})
	}},
	"busy-after": {"LOGINS", 1, func(ts *testscript.TestScript, m *maildrop, args []string) {
		var seen atomic.Int64
		free := int64(number64(ts, args[0]))
		m.Fault(func(c testmail.Command) *testmail.Reply {
			if c.Verb != "PASS" && c.Verb != "AUTH" || seen.Add(1) <= free {
				return nil
			}
			return &testmail.Reply{Status: "-ERR [IN-USE] somebody was faster"}
		})
	}},
	"lose": {"VERB: when it is done, before it is answered", 1, func(_ *testscript.TestScript, m *maildrop, args []string) {
		m.Twist(testmail.On(args[0], testmail.Lost(testmail.FIN)))
	}},
	"cut": {"BYTES", 1, func(ts *testscript.TestScript, m *maildrop, args []string) {
		m.Cut(testmail.Cut{After: int64(number64(ts, args[0]))})
	}},
	"unlist": {"VERB LINE: leave a line out of a listing", 2, func(ts *testscript.TestScript, m *maildrop, args []string) {
		m.Twist(testmail.On(args[0], testmail.DropLine(number64(ts, args[1])-1)))
	}},
	"heal": {"", 0, func(_ *testscript.TestScript, m *maildrop, _ []string) { m.Heal() }},

	"reset":  {"", 0, func(_ *testscript.TestScript, m *maildrop, _ []string) { m.Reset() }},
	"bodies": {"N", 1, func(ts *testscript.TestScript, m *maildrop, args []string) { equal(ts, "bodies", m.Bodies(), args[0]) }},
	"left": {"N", 1, func(ts *testscript.TestScript, m *maildrop, args []string) {
		equal(ts, "messages on the server", len(m.Left()), args[0])
	}},
	"count": {"VERB N", 2, func(ts *testscript.TestScript, m *maildrop, args []string) {
		equal(ts, args[0], m.Count(args[0]), args[1])
	}},
	"logins": {"N", 1, func(ts *testscript.TestScript, m *maildrop, args []string) {
		equal(ts, "logins", m.Count("PASS")+m.Count("AUTH")+m.Count("APOP"), args[0])
	}},
	"connections": {"N", 1, func(ts *testscript.TestScript, m *maildrop, args []string) {
		equal(ts, "connections", m.Opened(), args[0])
	}},
	"at-most": {"N", 1, func(ts *testscript.TestScript, m *maildrop, args []string) {
		if all := m.Commands(); len(all) > number64(ts, args[0]) {
			ts.Fatalf("%d commands: %v", len(all), all)
		}
	}},
	"secure": {"", 0, func(ts *testscript.TestScript, m *maildrop, _ []string) {
		for _, c := range m.Commands() {
			if !c.Secure && c.Verb != "CAPA" && c.Verb != "STLS" && c.Verb != "QUIT" {
				ts.Fatalf("%s without TLS", c)
			}
		}
	}},
	"readonly": {"", 0, func(ts *testscript.TestScript, m *maildrop, _ []string) { m.Untouched(tb{ts}) }},
}
