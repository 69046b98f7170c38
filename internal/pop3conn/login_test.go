package pop3conn

import (
	"encoding/base64"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-sasl"

	"mailhaul/internal/mail"
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// A token is a mechanism of tokens, as OAuth has them.
type token struct{}

func (token) Start() (string, []byte, error)        { return "XOAUTH2", []byte("user=ann"), nil }
func (token) Next(challenge []byte) ([]byte, error) { return nil, errors.New(string(challenge)) }

// TestLogin plays dialogues: lines of the server begin with S, of the client
// with C.
func TestLogin(t *testing.T) {
	const caps = "S +OK\nS %\nS .\n"
	with := func(s string) string { return "S +OK hello\nC CAPA\n" + strings.ReplaceAll(caps, "%", s) }
	in := "C CAPA\nS +OK\nS UIDL\nS PIPELINING\nS .\n"
	plain := b64("\x00ann\x00secret")
	for _, c := range []struct {
		name   string
		o      func(*Options)
		script string
		err    string // what it says; empty: let in
		login  bool   // the password is wrong
		later  bool   // may succeed later
		after  time.Duration
	}{
		{name: "plain", script: with("SASL LOGIN PLAIN") + "C AUTH PLAIN\nS + \nC " + plain + "\nS +OK\n" + in},
		{name: "plain, nothing behind the plus", script: with("sasl plain") + "C AUTH PLAIN\nS +\nC " + plain + "\nS +OK\n" + in},
		{name: "login", script: with("SASL LOGIN") + "C AUTH LOGIN\nS + " + b64("Username:") + "\nC " + b64("ann") +
			"\nS + " + b64("password") + "\nC " + b64("secret") + "\nS +ok\n" + in},
		{name: "user and pass", script: with("USER") + "C USER ann\nS +OK\nC PASS secret\nS +OK\n" + in},
		{name: "no CAPA", script: "S +OK\nC CAPA\nS -ERR what\nC USER ann\nS +OK\nC PASS secret\nS +OK\nC CAPA\nS -ERR what\n"},
		{name: "mechanism withdrawn", script: with("SASL PLAIN") + "C AUTH PLAIN\nS -ERR not that\nC USER ann\nS +OK\nC PASS secret\nS +OK\n" + in},
		{name: "apop", o: func(o *Options) { o.APOP, o.User, o.Password = true, "mrose", "tanstaaf" },
			script: "S +OK POP3 server ready <1896.697170952@dbc.mtview.ca.us>\nC CAPA\nS -ERR\nC APOP mrose c4c9334bac560ecc979e58001b3e22fb\nS +OK\n" + in},

		{name: "wrong password", script: with("USER") + "C USER ann\nS +OK\nC PASS secret\nS -ERR no\n", err: "no", login: true},
		{name: "wrong, with code", script: with("USER") + "C USER ann\nS +OK\nC PASS secret\nS -ERR [AUTH] please try again\n", err: "please try again", login: true},
		{name: "wrong by sasl", script: with("SASL PLAIN") + "C AUTH PLAIN\nS + \nC " + plain + "\nS -ERR\n", err: "nothing else", login: true},
		{name: "unknown user", script: with("USER") + "C USER ann\nS -ERR unknown\n", err: "unknown", login: true},
		{name: "in use", script: with("USER") + "C USER ann\nS +OK\nC PASS secret\nS -ERR [IN-USE] somebody is here\n", err: "[IN-USE] somebody", later: true},
		{name: "in use, in words", script: with("USER") + "C USER ann\nS +OK\nC PASS secret\nS -ERR maildrop already locked\n", err: "locked", later: true},
		{name: "too soon", script: with("LOGIN-DELAY 900 USER") + "C USER ann\nS +OK\nC PASS secret\nS -ERR [LOGIN-DELAY] come back\n", err: "come back", later: true, after: 15 * time.Minute},
		{name: "trouble", script: with("SASL PLAIN") + "C AUTH PLAIN\nS + \nC " + plain + "\nS -ERR [SYS/TEMP] disk\n", err: "disk", later: true},
		{name: "trouble at the mechanism", script: with("SASL PLAIN") + "C AUTH PLAIN\nS -ERR [SYS/TEMP] disk\n", err: "disk", later: true},
		{name: "trouble for good", script: with("USER") + "C USER ann\nS +OK\nC PASS secret\nS -ERR [SYS/PERM] no such host\n", err: "no such host"},
		{name: "closed account", script: "S -ERR go away\n", err: "go away", later: true},
		{name: "closed line", script: "S +OK\nC CAPA\n", err: "has closed the connection", later: true},
		{name: "closed in the login", script: with("USER") + "C USER ann\nS +OK\nC PASS secret\n", err: "has closed the connection", later: true},
		{name: "not pop3", script: "S * OK IMAP ready\n", err: "does not greet like a POP3 server", later: true},
		{name: "in before we said who", script: with("SASL PLAIN") + "C AUTH PLAIN\nS +OK\n", err: "before we said who"},
		{name: "no end", script: with("SASL PLAIN") + "C AUTH PLAIN\nS + \nC " + plain + "\nS + \nC *\nS + \nC *\nS + \nC *\nS + \nC *\nS + \nC *\nS + \nC *\nS + \nC *\nS + \nC *\nS + \n", err: "without end", later: true},
		{name: "no password wanted", script: with("SASL XOAUTH2") + "C USER ann\nS -ERR not here\n", err: "without TLS"},
		{name: "apop without a stamp", o: func(o *Options) { o.APOP = true }, script: with("USER"), err: "does not offer APOP"},
		{name: "apop with a made up stamp", o: func(o *Options) { o.APOP = true }, script: "S +OK <a\x80@b>\nC CAPA\nS -ERR\n", err: "no server makes"},
		{name: "apop with half a stamp", o: func(o *Options) { o.APOP = true }, script: "S +OK <ab>\nC CAPA\nS -ERR\n", err: "no server makes"},
		{name: "line break in the password", o: func(o *Options) { o.Password = "x\r\nDELE 1" }, script: with("USER"), err: "line break"},
		{name: "line break in the user", o: func(o *Options) { o.User = "x\ny" }, script: with("USER"), err: "line break"},
		{name: "NUL in the password", o: func(o *Options) { o.Password = "x\x00y" }, script: with("SASL PLAIN"), err: "line break or a NUL"},
	} {
		t.Run(c.name, func(t *testing.T) {
			meet(t, func(t *testing.T, p *peer) {
				for line := range strings.Lines(c.script) {
					line = strings.TrimSuffix(line, "\n")
					if text, ok := strings.CutPrefix(line, "S "); ok {
						p.say(text)
					} else {
						p.expect(t, line[2:])
					}
				}
			}, func(t *testing.T, nc net.Conn) {
				o := plainOptions(nc)
				if c.o != nil {
					c.o(&o)
				}
				conn, err := Dial(t.Context(), o)
				if c.err == "" {
					if err != nil {
						t.Fatalf("dial: %v", err)
					}
					conn.Close()
					return
				}
				if err == nil {
					conn.Close()
					t.Fatal("let in")
				}
				var e *mail.Error
				if !errors.As(err, &e) || e.Scope != mail.ScopeAccount {
					t.Fatalf("an error of no account: %v", err)
				}
				if !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "secret") {
					t.Errorf("it says: %v", err)
				}
				if got := errors.Is(err, mail.ErrLogin); got != c.login {
					t.Errorf("login refused: %v (%v)", got, err)
				}
				if e.Temporary != c.later || e.After != c.after {
					t.Errorf("temporary %v, after %v: %v", e.Temporary, e.After, err)
				}
			})
		})
	}
}

// TestTokens uses the seam for mechanisms of others, with a server that takes
// tokens only in the second step and explains a refusal in a challenge.
func TestTokens(t *testing.T) {
	for _, good := range []bool{true, false} {
		meet(t, func(t *testing.T, p *peer) {
			p.say("+OK")
			p.expect(t, "CAPA")
			p.say("+OK", "SASL PLAIN XOAUTH2", ".")
			p.expect(t, "AUTH XOAUTH2")
			p.say("+ ")
			p.expect(t, b64("user=ann"))
			if !good {
				p.say("+ " + b64(`{"status":"400"}`))
				p.expect(t, "*")
				p.say("-ERR [AUTH] token expired")
				return
			}
			p.say("+OK")
			p.expect(t, "CAPA")
			p.say("+OK", ".")
		}, func(t *testing.T, nc net.Conn) {
			o := plainOptions(nc)
			o.Mechanisms = []Mechanism{{"XOAUTH2", func() (sasl.Client, error) { return token{}, nil }}}
			c, err := Dial(t.Context(), o)
			if good != (err == nil) || !good && !errors.Is(err, mail.ErrLogin) {
				t.Errorf("dial: %v", err)
			}
			if err == nil {
				c.Close()
			}
		})
	}
}

// TestMechanismsMissing says what the server offers instead.
func TestMechanismsMissing(t *testing.T) {
	meet(t, func(t *testing.T, p *peer) {
		p.say("+OK")
		p.expect(t, "CAPA")
		p.say("+OK", "SASL PLAIN", "USER", ".")
		p.expect(t, "")
	}, func(t *testing.T, nc net.Conn) {
		o := plainOptions(nc)
		o.Mechanisms = []Mechanism{{"XOAUTH2", func() (sasl.Client, error) { return token{}, nil }}}
		_, err := Dial(t.Context(), o)
		if err == nil || !strings.Contains(err.Error(), "PLAIN") || mail.Temporary(err) {
			t.Errorf("dial: %v", err)
		}
	})
}

// TestCutLogin closes the line at every byte of a login: an error, never a
// panic, a wait or a session.
func TestCutLogin(t *testing.T) {
	text := "+OK hello\r\n+OK\r\nSASL PLAIN\r\nUIDL\r\n.\r\n+ \r\n+OK\r\n+OK\r\nUIDL\r\n.\r\n"
	for at := range len(text) {
		meet(t, func(_ *testing.T, p *peer) { io.WriteString(p, text[:at]) }, func(t *testing.T, nc net.Conn) {
			c, err := Dial(t.Context(), plainOptions(nc))
			if err == nil {
				c.Close()
				t.Fatalf("cut at %d: a session", at)
			}
			if !mail.Temporary(err) || errors.Is(err, mail.ErrLogin) {
				t.Errorf("cut at %d: %v", at, err)
			}
		})
	}
}

// TestSilentGreeting waits for a minute, not for ever.
func TestSilentGreeting(t *testing.T) {
	meet(t, func(_ *testing.T, p *peer) { p.hear() }, func(t *testing.T, nc net.Conn) {
		begun := time.Now()
		_, err := Dial(t.Context(), plainOptions(nc))
		if err == nil || !mail.Temporary(err) || time.Since(begun) != time.Minute {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
	})
}
