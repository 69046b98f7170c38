package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"mailhaul/internal/mail"
	"mailhaul/internal/testmail"
)

// A mailbox is a server, and a book of what it holds by folder (the server's
// own name for it) and UID: what archives are compared with does not come from
// the server itself.
type mailbox struct {
	testmail.Model
	user string
	book map[string]map[uint32]testmail.Message
}

func newMailbox(user string) *mailbox {
	m := &mailbox{user: user, book: map[string]map[uint32]testmail.Message{}}
	m.User, m.Password = user, canary
	return m
}

// account is its name in archives.
func (m *mailbox) account(host string) string { return "imap:" + m.user + "@" + host }

func (m *mailbox) note(folder string, uid uint32, msg testmail.Message) {
	if m.book[folder] == nil {
		m.book[folder] = map[uint32]testmail.Message{}
	}
	m.book[folder][uid] = msg
}

func (m *mailbox) deliver(folder string, messages ...testmail.Message) {
	for i, uid := range m.Deliver(folder, messages...) {
		m.note(folder, uid, messages[i])
	}
}

func (m *mailbox) copy(folder string, uid uint32, to string) {
	m.note(to, m.Copy(folder, uid, to), m.book[folder][uid])
}

func (m *mailbox) expunge(folder string, uid uint32) {
	m.Expunge(folder, uid)
	delete(m.book[folder], uid)
}

func (m *mailbox) setFlags(folder string, uid uint32, flags ...string) {
	m.SetFlags(folder, uid, flags...)
	msg := m.book[folder][uid]
	msg.Flags = mail.NewFlags(flags...)
	m.book[folder][uid] = msg
}

// replace changes a message under its UID, as no server may.
func (m *mailbox) replace(folder string, uid uint32, by testmail.Message) {
	m.Replace(folder, uid, by)
	by.Flags, by.Date = m.book[folder][uid].Flags, m.book[folder][uid].Date
	m.note(folder, uid, by)
}

func (m *mailbox) renumber(folder string) {
	m.Renumber(folder)
	old := m.book[folder]
	m.book[folder] = nil
	for i, uid := range slices.Sorted(maps.Keys(old)) {
		m.note(folder, uint32(i+1), old[uid])
	}
}

// life gives the account ordinary folders: fifteen messages, two of them in
// two places with the same bytes, and one twice in INBOX.
func (m *mailbox) life() {
	for i := range 7 {
		m.deliver("INBOX", letter(i, `\Seen`))
	}
	m.deliver("INBOX", letter(3))
	for i := range 3 {
		m.deliver("Work/Projects", letter(10+i, "Important"))
	}
	m.deliver("Work/Projects", letter(3))
	m.Folder("Sent", `\Sent`)
	m.deliver("Sent", letter(20, `\Seen`), letter(21, `\Seen`, `\Answered`))
	m.deliver("Lists/Go", letter(1))
	m.Folder("Empty")
}

// letter is a small message, the same for the same number.
func letter(i int, flags ...string) testmail.Message {
	return testmail.Letter(fmt.Sprint("letter ", i), fmt.Appendf(nil,
		"From: Bob <bob@example.net>\r\nTo: Ann <ann@example.org>\r\nSubject: letter %d\r\n"+
			"Message-ID: <%d@example.net>\r\n\r\nFrom here on\r\nthis is body %d\r\n", i, i, i), flags...)
}

func (m *mailbox) onBody(f func()) {
	m.Bend(testmail.WithBody(func(*testmail.Answer) { f() }))
}

// A server is one that archives are compared with and runs are stopped at.
type server interface {
	equals(dir, host string, folders []string) error
	onBody(func()) // calls the function when a body is due, before it is sent
	Heal()
	Drop()
	Connections() int
}

// signalled runs a command and sends it a signal when the body that is the n-th
// is due. The server then stays silent until the command has ended.
func signalled(m server, cmd *exec.Cmd, sig os.Signal, n int) (code int, err error) {
	return stopped(m, m.onBody, cmd, sig, n)
}

// stopped is signalled at the n-th time that hook calls its function.
func stopped(m server, hook func(func()), cmd *exec.Cmd, sig os.Signal, n int) (code int, err error) {
	gone := make(chan struct{})
	var mu sync.Mutex
	started := make(chan struct{})
	hook(func() {
		mu.Lock()
		n--
		now := n == 0
		mu.Unlock()
		if now {
			<-started
			cmd.Process.Signal(sig)
			<-gone
		}
	})
	if err := cmd.Start(); err != nil {
		close(started)
		close(gone)
		return 0, err
	}
	close(started)
	err = cmd.Wait()
	m.Heal()
	close(gone)
	settle(m)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// settle ends the server's side of connections whose client has died: it must
// not count for the next run.
func settle(m server) {
	for m.Drop(); m.Connections() > 0; {
		runtime.Gosched()
	}
}

func imapCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: imap COMMAND...")
	}
	if args[0] == "start" {
		start(ts, args[1:])
		return
	}
	c, ok := imapCommands[args[0]]
	if !ok {
		ts.Fatalf("imap knows start, %s", strings.Join(slices.Sorted(maps.Keys(imapCommands)), ", "))
	}
	if len(args)-1 < c.least {
		ts.Fatalf("imap %s wants %d arguments", args[0], c.least)
	}
	c.do(ts, worldOf(ts).mail, args[1:])
}

// serverOptions are those of "imap start": name=value, or the name alone.
var serverOptions = map[string]func(m *mailbox, a *testmail.Authority, value string){
	"user":  func(m *mailbox, _ *testmail.Authority, v string) { m.User, m.user = v, v },
	"plain": func(m *mailbox, _ *testmail.Authority, _ string) { m.Caps = testmail.PlainCaps },
	"cap": func(m *mailbox, _ *testmail.Authority, v string) {
		m.Caps = append(slices.Clone(testmail.DefaultCaps), v)
	},
	"without": func(m *mailbox, _ *testmail.Authority, v string) {
		m.Caps = slices.DeleteFunc(slices.Clone(testmail.DefaultCaps), func(c string) bool { return c == v })
	},
	"gmail":    func(m *mailbox, _ *testmail.Authority, _ string) { m.Gmail() },
	"password": func(m *mailbox, _ *testmail.Authority, v string) { m.Password = v },
	"delim":    func(m *mailbox, _ *testmail.Authority, v string) { m.Delim = v },
	"flat":     func(m *mailbox, _ *testmail.Authority, _ string) { m.Flat = true },
	"prefix":   func(m *mailbox, _ *testmail.Authority, v string) { m.Prefix = v },
	"limit":    func(m *mailbox, _ *testmail.Authority, v string) { m.Keeper.Limit, _ = strconv.ParseInt(v, 10, 64) },
	"room":     func(m *mailbox, _ *testmail.Authority, v string) { m.Keeper.Room, _ = strconv.ParseInt(v, 10, 64) },
	"lasting":  func(m *mailbox, _ *testmail.Authority, v string) { m.Keeper.Permanent = strings.Split(v, ",") },
	"welcome":  func(m *mailbox, _ *testmail.Authority, v string) { m.Welcome = v },
	"starttls": func(m *mailbox, a *testmail.Authority, v string) { m.TLS = certificate(a, v) },
	"imaps":    func(m *mailbox, a *testmail.Authority, v string) { m.TLS = certificate(a, v) },
}

func certificate(a *testmail.Authority, kind string) *tls.Config {
	switch kind {
	case "expired":
		return a.Expired()
	case "wrong-name":
		return a.WrongName()
	}
	return a.Server()
}

// start starts a server. The authority of its certificate is in $WORK/ca.pem.
func start(ts *testscript.TestScript, args []string) {
	authority, err := testmail.NewAuthority()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.Getenv("WORK")+"/ca.pem", authority.PEM(), 0o600))
	m := newMailbox("ann")
	implicit := false
	for _, arg := range args {
		name, value, _ := strings.Cut(arg, "=")
		set, ok := serverOptions[name]
		if !ok {
			ts.Fatalf("imap start: unknown %s", name)
		}
		set(m, authority, value)
		implicit = implicit || name == "imaps"
	}
	w := worldOf(ts)
	m.Numbers = uint32(10_000 * len(w.mails))
	w.mail, w.last, w.mails = m, m, append(w.mails, m)
	addr, from := "", ""
	switch {
	case implicit:
		addr = m.StartTLS(tb{ts})
		from = "imaps://" + m.user + "@" + addr
	case m.TLS != nil:
		addr = m.Start(tb{ts})
		from = "imap://" + m.user + "@" + addr
	default:
		addr = m.Start(tb{ts})
		from = "imap://" + m.user + "@" + addr + "?tls=none"
	}
	ts.Setenv("IMAP", addr)
	ts.Setenv("PORT", addr[strings.LastIndexByte(addr, ':')+1:])
	ts.Setenv("FROM", from)
}

// imapCommands change the account, make the server misbehave, or look at what
// was asked of it since it started or since "imap reset".
var imapCommands = map[string]struct {
	usage string
	least int
	do    func(ts *testscript.TestScript, m *mailbox, args []string)
}{
	"stop": {"", 0, func(_ *testscript.TestScript, m *mailbox, _ []string) { m.Close() }},
	"lose": {"VERB TIMES", 2, func(ts *testscript.TestScript, m *mailbox, args []string) {
		m.Fault(testmail.Lose(args[0], number64(ts, args[1])))
	}},
	"swallow": {"TEXT", 1, func(_ *testscript.TestScript, m *mailbox, args []string) {
		m.Keep(func(k *testmail.Keeper) {
			k.Swallow = func(raw []byte) bool { return bytes.Contains(raw, []byte(args[0])) }
		})
	}},
	"refuse-mail": {"TEXT STATUS", 2, func(_ *testscript.TestScript, m *mailbox, args []string) {
		m.Keep(func(k *testmail.Keeper) {
			k.Refuse = func(raw []byte) string {
				if bytes.Contains(raw, []byte(args[0])) {
					return args[1]
				}
				return ""
			}
		})
	}},
	"take-all": {"", 0, func(_ *testscript.TestScript, m *mailbox, _ []string) {
		m.Keep(func(k *testmail.Keeper) { *k = testmail.Keeper{} })
	}},
	"holds": {"FOLDER N", 2, func(ts *testscript.TestScript, m *mailbox, args []string) {
		equal(ts, "messages in "+args[0], len(m.Mails(args[0])), args[1])
	}},
	"labels": {"FOLDER UID [LABEL...]", 2, func(ts *testscript.TestScript, m *mailbox, args []string) {
		if got := m.Labels(args[0], uid(ts, args[1])); !slices.Equal(got, args[2:]) {
			ts.Fatalf("labels %q", got)
		}
	}},
	"shows": {"FOLDER UID FLAG...", 2, func(ts *testscript.TestScript, m *mailbox, args []string) {
		for i, uid := range m.UIDs(args[0]) {
			if fmt.Sprint(uid) == args[1] {
				if got := m.Mails(args[0])[i].Flags; !got.Equal(mail.NewFlags(args[2:]...)) {
					ts.Fatalf("flags %q", got.Key())
				}
				return
			}
		}
		ts.Fatalf("%s has no message %s", args[0], args[1])
	}},
	"stores": {"N", 1, func(ts *testscript.TestScript, m *mailbox, args []string) {
		equal(ts, "stores", m.Count("UID STORE"), args[0])
	}},
	"appends": {"N", 1, func(ts *testscript.TestScript, m *mailbox, args []string) {
		equal(ts, "appends", m.Count("APPEND"), args[0])
	}},
	"copies": {"N", 1, func(ts *testscript.TestScript, m *mailbox, args []string) {
		n := 0
		for _, c := range m.Commands() {
			if c.Verb == "UID COPY" {
				set, _, _ := strings.Cut(c.Args, " ")
				n += copiedBy(ts, set)
			}
		}
		equal(ts, "copies", n, args[0])
	}},
	"subscribed": {"FOLDER", 1, func(ts *testscript.TestScript, m *mailbox, args []string) {
		if !slices.Contains(m.Subscribed(), args[0]) {
			ts.Fatalf("subscribed to %q", m.Subscribed())
		}
	}},
	"listed-in-full": {"TIMES", 1, func(ts *testscript.TestScript, m *mailbox, args []string) {
		n := 0
		for _, c := range m.Commands() {
			if c.Verb == "UID FETCH" && strings.Contains(c.Args, "INTERNALDATE") && !strings.Contains(c.Args, "CHANGEDSINCE") {
				n++
			}
		}
		equal(ts, "full listings", n, args[0])
	}},
	"opened-none": {"", 0, func(ts *testscript.TestScript, m *mailbox, _ []string) {
		if n := m.Count("SELECT") + m.Count("EXAMINE"); n > 0 {
			ts.Fatalf("folders were opened %d times: %v", n, m.Commands())
		}
	}},
	"round-trips-at-most": {"N", 1, func(ts *testscript.TestScript, m *mailbox, args []string) {
		if n := len(m.Commands()); n > number64(ts, args[0]) {
			ts.Fatalf("%d commands: %v", n, m.Commands())
		}
	}},
	"use": {"[USER]", 0, func(ts *testscript.TestScript, m *mailbox, args []string) {
		w := worldOf(ts)
		if len(args) > 0 {
			i := slices.IndexFunc(w.mails, func(m *mailbox) bool { return m.user == args[0] })
			if i < 0 {
				ts.Fatalf("no server of %s", args[0])
			}
			m = w.mails[i]
			w.mail = m
		}
		w.last = m
	}},
	"life": {"", 0, func(_ *testscript.TestScript, m *mailbox, _ []string) { m.life() }},
	"deliver": {"FOLDER WHAT [FLAG...]", 2, func(ts *testscript.TestScript, m *mailbox, args []string) {
		m.deliver(args[0], messages(ts, args[1], args[2:])...)
	}},
	"folder": {"NAME [ATTRIBUTE...]", 1, func(_ *testscript.TestScript, m *mailbox, args []string) { m.Folder(args[0], args[1:]...) }},
	"nasty-names": {"", 0, func(_ *testscript.TestScript, m *mailbox, _ []string) {
		for i, n := range testmail.Names() {
			if n.Delim == "/" {
				m.deliver(n.Raw, letter(1000+i))
			}
		}
	}},
	"move": {"FOLDER UID TO", 3, func(ts *testscript.TestScript, m *mailbox, args []string) {
		m.copy(args[0], uid(ts, args[1]), args[2])
		m.expunge(args[0], uid(ts, args[1]))
	}},
	"copy":    {"FOLDER UID TO", 3, func(ts *testscript.TestScript, m *mailbox, args []string) { m.copy(args[0], uid(ts, args[1]), args[2]) }},
	"expunge": {"FOLDER UID", 2, func(ts *testscript.TestScript, m *mailbox, args []string) { m.expunge(args[0], uid(ts, args[1])) }},
	"flags": {"FOLDER UID [FLAG...]", 2, func(ts *testscript.TestScript, m *mailbox, args []string) {
		m.setFlags(args[0], uid(ts, args[1]), args[2:]...)
	}},
	"replace": {"FOLDER UID WHAT", 3, func(ts *testscript.TestScript, m *mailbox, args []string) {
		m.replace(args[0], uid(ts, args[1]), messages(ts, args[2], nil)[0])
	}},
	"later": {"FOLDER UID", 2, func(ts *testscript.TestScript, m *mailbox, args []string) {
		msg := m.book[args[0]][uid(ts, args[1])]
		msg.Date = msg.Date.Add(time.Hour)
		m.SetDate(args[0], uid(ts, args[1]), msg.Date)
		m.note(args[0], uid(ts, args[1]), msg)
	}},
	"renumber": {"FOLDER", 1, func(_ *testscript.TestScript, m *mailbox, args []string) { m.renumber(args[0]) }},
	"delete-folder": {"FOLDER", 1, func(_ *testscript.TestScript, m *mailbox, args []string) {
		m.DeleteFolder(args[0])
		delete(m.book, args[0])
	}},

	"omit":        {"UID", 1, bend(testmail.Omit)},
	"nil":         {"UID", 1, bend(testmail.Nil)},
	"placeholder": {"UID", 1, bend(testmail.Placeholder)},
	"no":          {"UID", 1, bend(testmail.Fail("NO [SERVERBUG] cannot read this one"))},
	"short":       {"UID", 1, bend(testmail.Short(10))},
	"lie": {"BYTES", 1, func(ts *testscript.TestScript, m *mailbox, args []string) {
		m.Bend(testmail.Lie(int64(number64(ts, args[0]))))
	}},
	"cut": {"BYTES", 1, func(ts *testscript.TestScript, m *mailbox, args []string) {
		m.Cut(testmail.Cut{After: int64(number64(ts, args[0]))})
	}},
	"bye": {"COMMAND-NUMBER TEXT", 2, func(ts *testscript.TestScript, m *mailbox, args []string) {
		m.Fault(testmail.Bye(number64(ts, args[0]), args[1]))
	}},
	"refuse": {"VERB STATUS", 2, func(_ *testscript.TestScript, m *mailbox, args []string) {
		m.Fault(testmail.Refuse(args[0], args[1], 0))
	}},
	"refuse-login": {"STATUS", 1, func(_ *testscript.TestScript, m *mailbox, args []string) {
		m.Fault(testmail.Refuse("LOGIN", args[0], 0), testmail.Refuse("AUTHENTICATE", args[0], 0))
	}},
	"heal": {"", 0, func(_ *testscript.TestScript, m *mailbox, _ []string) { m.Heal() }},

	"reset":  {"", 0, func(_ *testscript.TestScript, m *mailbox, _ []string) { m.Reset() }},
	"bodies": {"N", 1, func(ts *testscript.TestScript, m *mailbox, args []string) { equal(ts, "bodies", m.Bodies(), args[0]) }},
	"logins": {"N", 1, func(ts *testscript.TestScript, m *mailbox, args []string) {
		equal(ts, "logins", m.Count("LOGIN")+m.Count("AUTHENTICATE"), args[0])
	}},
	"connections": {"N", 1, func(ts *testscript.TestScript, m *mailbox, args []string) {
		equal(ts, "connections", m.Opened(), args[0])
	}},
	"readonly": {"", 0, func(ts *testscript.TestScript, m *mailbox, _ []string) { m.Untouched(tb{ts}) }},
}

// copiedBy counts what a set names, "1:3,5".
func copiedBy(ts *testscript.TestScript, set string) (n int) {
	for part := range strings.SplitSeq(set, ",") {
		from, to, isRange := strings.Cut(part, ":")
		if !isRange {
			to = from
		}
		n += number64(ts, to) - number64(ts, from) + 1
	}
	return n
}

func bend(b testmail.Bend) func(*testscript.TestScript, *mailbox, []string) {
	return func(ts *testscript.TestScript, m *mailbox, args []string) {
		m.Bend(testmail.ForUID(uid(ts, args[0]), testmail.WithBody(b)))
	}
}

func equal(ts *testscript.TestScript, what string, got int, want string) {
	if strconv.Itoa(got) != want {
		ts.Fatalf("%d %s, want %s", got, what, want)
	}
}

func uid(ts *testscript.TestScript, s string) uint32 { return uint32(number64(ts, s)) }

func number64(ts *testscript.TestScript, s string) int {
	n, err := strconv.Atoi(s)
	ts.Check(err)
	return n
}

// messages are what a script names: "corpus" for all nasty ones, "ordinary:N",
// "letters:N", "letter:I", "large:BYTES", or a file of the script, whose line
// ends become CRLF.
func messages(ts *testscript.TestScript, what string, flags []string) (all []testmail.Message) {
	kind, arg, _ := strings.Cut(what, ":")
	switch kind {
	case "corpus":
		return testmail.Corpus()
	case "ordinary":
		return slices.Collect(testmail.Generate(7, number64(ts, arg)))
	case "letters":
		for i := range number64(ts, arg) {
			all = append(all, letter(i, flags...))
		}
		return all
	case "letter":
		return append(all, letter(number64(ts, arg), flags...))
	case "large":
		return append(all, testmail.Large(int64(number64(ts, arg))))
	}
	raw := bytes.ReplaceAll([]byte(ts.ReadFile(what)), []byte("\n"), []byte("\r\n"))
	return append(all, testmail.Letter(what, raw, flags...))
}
