package main

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/rogpeppe/go-internal/testscript"

	"mailhaul/internal/testmail"
)

// A relay is an SMTP or LMTP server that mail is delivered to.
type relay struct{ testmail.SMTP }

func (m *relay) equals(string, string, []string) error { return errors.New("a relay is no archive") }

// onBody calls f when a message was accepted, before the client hears of it.
func (m *relay) onBody(f func()) {
	m.Fault(func(c testmail.Command) *testmail.Reply {
		if c.Verb == "ACCEPTED" {
			f()
		}
		return nil
	})
}

// copies counts the messages that are raw on the wire, by DATA or BDAT.
func (m *relay) copies(raw []byte) (n int) {
	closed := raw
	if !bytes.HasSuffix(raw, []byte("\r\n")) {
		closed = append(slices.Clip(raw), "\r\n"...)
	}
	for _, d := range m.Accepted() {
		if bytes.Equal(d.Raw, raw) || !d.Chunked && bytes.Equal(d.Raw, closed) {
			n++
		}
	}
	return n
}

func smtpCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: smtp COMMAND...")
	}
	if args[0] == "start" {
		startSMTP(ts, args[1:])
		return
	}
	c, ok := relayCommands[args[0]]
	if !ok {
		ts.Fatalf("smtp knows start, %s", strings.Join(slices.Sorted(maps.Keys(relayCommands)), ", "))
	}
	if len(args)-1 < c.least {
		ts.Fatalf("smtp %s wants %d arguments: %s", args[0], c.least, c.usage)
	}
	c.do(ts, worldOf(ts).relay, args[1:])
}

// relayOptions are those of "smtp start": name=value, or the name alone.
var relayOptions = map[string]func(m *relay, a *testmail.Authority, value string){
	"lmtp":     func(m *relay, _ *testmail.Authority, _ string) { m.LMTP = true },
	"login":    func(m *relay, _ *testmail.Authority, v string) { m.Auth, m.User, m.Password = "PLAIN LOGIN", v, canary },
	"offer":    func(m *relay, _ *testmail.Authority, v string) { m.Keywords = strings.Split(v, ",") },
	"old":      func(m *relay, _ *testmail.Authority, _ string) { m.Old, m.Keywords = true, []string{} },
	"starttls": func(m *relay, a *testmail.Authority, v string) { m.TLS = certificate(a, v) },
	"smtps":    func(m *relay, a *testmail.Authority, v string) { m.TLS = certificate(a, v) },
}

// startSMTP starts a server. The authority of its certificate is in
// $WORK/ca.pem.
func startSMTP(ts *testscript.TestScript, args []string) {
	authority, err := testmail.NewAuthority()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.Getenv("WORK")+"/ca.pem", authority.PEM(), 0o600))
	m := &relay{}
	scheme, user, query := "smtp", "", "?tls=none"
	for _, arg := range args {
		name, value, _ := strings.Cut(arg, "=")
		set, ok := relayOptions[name]
		if !ok {
			ts.Fatalf("smtp start: unknown %s", name)
		}
		set(m, authority, value)
		switch name {
		case "lmtp":
			scheme = "lmtp"
		case "smtps":
			scheme, query = "smtps", ""
		case "starttls":
			query = ""
		case "login":
			user = value + "@"
		}
	}
	worldOf(ts).relay, worldOf(ts).last = m, m
	addr := ""
	if scheme == "smtps" {
		addr = m.StartTLS(tb{ts})
	} else {
		addr = m.Start(tb{ts})
	}
	ts.Setenv("SMTP", addr)
	ts.Setenv("TO", scheme+"://"+user+addr+query)
}

// relayCommands make the server misbehave, or look at what it was given.
var relayCommands = map[string]struct {
	usage string
	least int
	do    func(ts *testscript.TestScript, m *relay, args []string)
}{
	"stop": {"", 0, func(_ *testscript.TestScript, m *relay, _ []string) { m.Close() }},
	"use":  {"", 0, func(ts *testscript.TestScript, m *relay, _ []string) { worldOf(ts).last = m }},
	"refuse": {"VERB STATUS [TIMES]: see testmail.SMTP for verbs that are none", 2, func(ts *testscript.TestScript, m *relay, args []string) {
		times := 0
		if len(args) > 2 {
			times = number64(ts, args[2])
		}
		m.Fault(testmail.Refuse(args[0], args[1], times))
	}},
	"refuse-to": {"VERB ADDRESS STATUS", 3, func(_ *testscript.TestScript, m *relay, args []string) {
		m.Fault(func(c testmail.Command) *testmail.Reply {
			if c.Verb != args[0] || !strings.Contains(c.Args, args[1]) {
				return nil
			}
			return &testmail.Reply{Status: args[2]}
		})
	}},
	"hangup": {"VERB", 1, func(_ *testscript.TestScript, m *relay, args []string) { m.Fault(testmail.Hangup(args[0], 0)) }},
	"lose": {"N: accept the N-th message from now on and do not say so", 1, func(ts *testscript.TestScript, m *relay, args []string) {
		var seen atomic.Int64
		at := int64(number64(ts, args[0]))
		m.Fault(func(c testmail.Command) *testmail.Reply {
			if c.Verb != "ACCEPTED" || seen.Add(1) != at {
				return nil
			}
			return &testmail.Reply{End: true}
		})
	}},
	"heal":  {"", 0, func(_ *testscript.TestScript, m *relay, _ []string) { m.Heal() }},
	"reset": {"", 0, func(_ *testscript.TestScript, m *relay, _ []string) { m.Reset() }},

	"accepted": {"N", 1, func(ts *testscript.TestScript, m *relay, args []string) {
		equal(ts, "messages were accepted", len(m.Accepted()), args[0])
	}},
	"copies": {"N WHAT: so many of each", 2, func(ts *testscript.TestScript, m *relay, args []string) {
		for _, msg := range messages(ts, args[1], nil) {
			equal(ts, "copies of "+msg.Name, m.copies(msg.Raw()), args[0])
		}
	}},
	"envelopes": {"FROM TO...: of every message", 1, func(ts *testscript.TestScript, m *relay, args []string) {
		for _, d := range m.Accepted() {
			if d.From != args[0] || !slices.Equal(d.To, args[1:]) {
				ts.Fatalf("a message from %s to %v", d.From, d.To)
			}
		}
	}},
	"got": {"ADDRESS N: messages were accepted for it", 2, func(ts *testscript.TestScript, m *relay, args []string) {
		n := 0
		for _, d := range m.Accepted() {
			if slices.Contains(d.To, args[0]) {
				n++
			}
		}
		equal(ts, "messages for "+args[0], n, args[1])
	}},
	"count": {"VERB N", 2, func(ts *testscript.TestScript, m *relay, args []string) {
		equal(ts, args[0], m.Count(args[0]), args[1])
	}},
	"connections": {"N", 1, func(ts *testscript.TestScript, m *relay, args []string) {
		equal(ts, "connections", m.Opened(), args[0])
	}},
	"secure": {"", 0, func(ts *testscript.TestScript, m *relay, _ []string) {
		for _, c := range m.Commands() {
			if !c.Secure && c.Verb != "EHLO" && c.Verb != "LHLO" && c.Verb != "STARTTLS" {
				ts.Fatalf("%s without TLS", c)
			}
		}
	}},
	"blameless": {"", 0, func(ts *testscript.TestScript, m *relay, _ []string) {
		if sins := m.Sins(); len(sins) > 0 {
			ts.Fatalf("the client has done what it should not: %v", sins)
		}
	}},
}
