package imapconn

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-sasl"

	"mailhaul/internal/mail"
)

const password = "pass\"w\\rd ü"

// asUser is how most tests log in.
func asUser() Options {
	return Options{Addr: "test:143", Security: None, User: "ann", Password: password, Name: "mailhaul", Version: "1"}
}

// TestLogin plays whole logins; the script is what the client must send and,
// behind "<", what it gets.
func TestLogin(t *testing.T) {
	plain := base64.StdEncoding.EncodeToString([]byte("\x00ann\x00" + password))
	for _, c := range []struct {
		name   string
		script []string
	}{
		{"plain with initial response", []string{
			"< * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi",
			"T1 AUTHENTICATE PLAIN " + plain, "< T1 OK [CAPABILITY IMAP4rev1] in"}},
		{"plain with a challenge", []string{
			"< * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] hi",
			"T1 AUTHENTICATE PLAIN", "< + ", plain, "< T1 OK in",
			"T2 CAPABILITY", "< * CAPABILITY IMAP4rev1 CONDSTORE", "< T2 OK done"}},
		{"login with literals", []string{
			"< * OK [CAPABILITY IMAP4rev1] hi",
			"T1 LOGIN \"ann\" {" + fmt.Sprint(len(password)) + "}", "< + go", password, "< T1 OK in",
			"T2 CAPABILITY", "< * CAPABILITY IMAP4rev1", "< T2 OK done"}},
		{"capabilities asked for, ID sent", []string{
			"< * OK hi",
			"T1 CAPABILITY", "< * CAPABILITY IMAP4rev1 LITERAL+", "< T1 OK done",
			"T2 LOGIN \"ann\" {" + fmt.Sprint(len(password)) + "+}", password, "< T2 OK [CAPABILITY IMAP4rev1 ID] in",
			"T3 ID (\"name\" \"mailhaul\" \"version\" \"1\")", "< * ID (\"name\" NIL {3}", "< x))", "< T3 BAD what"}},
		{"a server that talks at the wrong moment", []string{
			"< * OK [Capability Imap4Rev1 IMAP4rev2 UTF8=ACCEPT auth=plain sasl-ir] hi",
			"T1 AUTHENTICATE PLAIN " + plain,
			"< * LIST () \"/\" &", "< * VANISHED 1:3", "< * 3 FETCH (BODYSTRUCTURE ((((", "< * XLIST () {3}", "< )))",
			"< ", "< T77 OK to nobody", "< * NO [ALERT] disk \x1b[2Jfull", "< * 1 EXISTS", "< *  SEARCH 1", "< * OK [UNKNOWN a]b] ]",
			"< * ESEARCH ALL 1:500000000", "< * FLAGS (a]b)", "< * OK [PERMANENTFLAGS (a]b \\*)] ok", "< * 9999999999999999999999 EXISTS",
			"< T1 OK [CAPABILITY IMAP4rev2 IMAP4rev1 UTF8=ACCEPT] in"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			talk(t, asUser(), func(p *peer) {
				for _, line := range c.script {
					if say, ok := strings.CutPrefix(line, "< "); ok {
						p.say(say)
					} else if got := p.hear(); got != line {
						t.Errorf("client sent %q, want %q", got, line)
						return
					}
				}
				p.rest()
			}, func(t *testing.T, c *Conn, err error) {
				if err != nil {
					t.Fatal(err)
				}
				if err := c.Noop(t.Context()); err != nil {
					t.Error(err)
				}
				if strings.Contains(t.Name(), "wrong_moment") {
					if a := c.Alerts(); len(a) != 1 || a[0] != `disk \x1b[2Jfull` {
						t.Errorf("alerts %q", a)
					}
				}
				c.Logout(time.Second)
			})
		})
	}
}

// TestRefused is row J5 and appendix C of our fault list: what a refusal means.
func TestRefused(t *testing.T) {
	const (
		login     = "login"
		busy      = "busy"
		security  = "security"
		permanent = "permanent"
		lost      = "lost"
	)
	for _, c := range []struct{ name, greeting, answer, kind, text string }{
		{"wrong password", "", "NO [AUTHENTICATIONFAILED] Authentication failed.", login, "[AUTHENTICATIONFAILED] Authentication failed."},
		{"no code", "", "NO nope", login, "nope"},
		{"no text", "", "NO", login, "NO"},
		{"code of small letters", "", "NO [authenticationfailed] x", login, "AUTHENTICATIONFAILED"},
		{"expired", "", "NO [EXPIRED] x", login, "EXPIRED"},
		{"web login", "", "NO [ALERT] Please log in via your web browser\x1b[0m", login, `web browser\x1b[0m`},
		{"contact admin", "", "NO [CONTACTADMIN] x", login, ""},
		{"unavailable", "", "NO [UNAVAILABLE] backend down", busy, "backend down"},
		{"in use", "", "NO [INUSE] x", busy, ""},
		{"limit", "", "NO [LIMIT] x", busy, ""},
		{"server bug", "", "NO [SERVERBUG] x", busy, ""},
		{"gmail", "", "NO [ALERT] Too many simultaneous connections. (Failure)", busy, ""},
		{"exchange", "", "BAD User is authenticated but not connected.", busy, ""},
		{"throttled", "", "NO Request is throttled. Suggested Backoff Time: 299961 milliseconds", busy, ""},
		{"dovecot", "", "NO [UNAVAILABLE] Maximum number of connections from user+IP exceeded (mail_max_userip_connections=10)", busy, ""},
		{"privacy required", "", "NO [PRIVACYREQUIRED] x", security, "imaps://"},
		{"bad", "", "BAD what", permanent, ""},
		{"bye", "", "BYE", busy, "over capacity"},
		{"gone", "", "", busy, ""},
		{"bye at once", "* BYE [UNAVAILABLE] too many", "", busy, "too many"},
		{"gone at once", "-", "", busy, ""},
		{"no imap", "220 mail.example.org ESMTP", "", lost, "ESMTP"},
		{"login disabled", "* OK [CAPABILITY IMAP4rev1 LOGINDISABLED] hi", "", security, "imaps://"},
	} {
		t.Run(c.name, func(t *testing.T) {
			logins := 0
			o := asUser()
			o.Password = "secret-canary"
			talk(t, o, func(p *peer) {
				switch c.greeting {
				case "":
					p.say("* OK [CAPABILITY IMAP4rev1] hi")
				case "-":
					return
				default:
					p.say(c.greeting)
				}
				tag, rest := p.command()
				if strings.HasPrefix(rest, "LOGIN") {
					logins++
				}
				switch c.answer {
				case "":
					return
				case "BYE":
					p.say("* BYE over capacity")
					return
				}
				p.say(tag + " " + c.answer)
				if _, rest := p.command(); strings.HasPrefix(rest, "LOGIN") {
					logins++
				}
			}, func(t *testing.T, conn *Conn, err error) {
				if err == nil {
					t.Fatal("let in")
				}
				if mail.ScopeOf(err, 0) != mail.ScopeAccount {
					t.Errorf("scope of %v", err)
				}
				got := map[string]bool{
					login:     errors.Is(err, mail.ErrLogin) && !mail.Temporary(err) && !errors.Is(err, ErrBusy),
					busy:      errors.Is(err, ErrBusy) && mail.Temporary(err) && !errors.Is(err, mail.ErrLogin),
					security:  errors.Is(err, ErrSecurity) && !mail.Temporary(err),
					permanent: !errors.Is(err, ErrBusy) && !errors.Is(err, mail.ErrLogin),
					lost:      !errors.Is(err, ErrBusy) && !errors.Is(err, mail.ErrLogin),
				}
				if !got[c.kind] {
					t.Errorf("not %s: %v", c.kind, err)
				}
				if !strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), "canary") {
					t.Errorf("says %q", err)
				}
				var e *mail.Error
				if errors.As(err, &e); c.name == "throttled" && e.After != 299961*time.Millisecond {
					t.Errorf("to wait: %v", e.After)
				}
			})
			if logins > 1 {
				t.Errorf("%d logins", logins)
			}
		})
	}
}

// token answers a refusal with an empty line, as RFC 7628, section 3.2.3, asks
// for, so that the server says what is wrong.
type token string

func (x token) Start() (string, []byte, error) { return "OAUTHBEARER", []byte(x), nil }
func (token) Next([]byte) ([]byte, error)      { return []byte{1}, nil }

// TestMechanism uses a way to log in that comes from outside.
func TestMechanism(t *testing.T) {
	o := asUser()
	o.Mechanisms = []Mechanism{
		{"SCRAM-SHA-256", func() (sasl.Client, error) { panic("not offered") }},
		{"OAUTHBEARER", func() (sasl.Client, error) {
			return token(strings.Repeat("t", 9000)), nil
		}},
	}
	talk(t, o, func(p *peer) {
		p.say("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=OAUTHBEARER] hi")
		tag, rest := p.command()
		if !strings.HasPrefix(rest, "AUTHENTICATE OAUTHBEARER ") || len(rest) < 9000 {
			t.Errorf("got %.50q", rest)
		}
		p.say("+ " + base64.StdEncoding.EncodeToString([]byte(`{"status":"invalid_token"}`)))
		p.hear()
		p.say(tag + " NO [AUTHENTICATIONFAILED] expired")
		p.rest()
	}, func(t *testing.T, c *Conn, err error) {
		if !errors.Is(err, mail.ErrLogin) {
			t.Error(err)
		}
	})
}

// TestSilence is row A17: every wait has an end, and the time is the clock's of
// the bubble.
func TestSilence(t *testing.T) {
	for _, c := range []struct {
		name   string
		server func(p *peer)
		after  time.Duration
	}{
		{"no greeting", func(p *peer) { p.hear() }, 60 * time.Second},
		{"no answer to login", func(p *peer) { p.say("* OK [CAPABILITY IMAP4rev1 LITERAL+] hi"); p.hear(); p.hear(); p.hear() }, 120 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			talk(t, asUser(), c.server, func(t *testing.T, conn *Conn, err error) {
				start := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // of every bubble
				if !errors.Is(err, os.ErrDeadlineExceeded) || !mail.Temporary(err) {
					t.Errorf("%v", err)
				}
				if d := time.Since(start); d != c.after {
					t.Errorf("after %v", d)
				}
			})
		})
	}
}

// TestSlowBody comes for hours, a byte at a time, and is no error.
func TestSlowBody(t *testing.T) {
	served(t, func(p *peer) {
		tag, _ := p.command()
		time.Sleep(119 * time.Second)
		p.say("* 1 FETCH (UID 1 BODY[] {500}")
		for range 500 {
			time.Sleep(59 * time.Second)
			io.WriteString(p, "x")
		}
		p.say(")")
		for range 3 {
			time.Sleep(119 * time.Second)
			p.say("* OK [INPROGRESS] working")
		}
		p.say(tag + " OK done")
		p.command()
		p.say("* 1 FETCH (UID 1 BODY[] {5}", "x")
		p.hear()
	}, func(t *testing.T, c *Conn) {
		if got, _, err := fetched(c, t, byCopy); err != nil || len(got) != 1 {
			t.Fatal(err)
		}
		start := time.Now()
		if _, _, err := fetched(c, t, byCopy); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Minute {
			t.Error(err, time.Since(start))
		}
	})
}

// TestCancel ends whatever waits, at once, with the context's own error.
func TestCancel(t *testing.T) {
	why := errors.New("the user has left")
	served(t, func(p *peer) { p.hear(); p.hear() }, func(t *testing.T, c *Conn) {
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() { time.Sleep(time.Second); cancel(why) }()
		start := time.Now()
		if _, err := c.Examine(ctx, "INBOX"); !errors.Is(err, why) || time.Since(start) != time.Second {
			t.Error(err, time.Since(start))
		}
		if _, err := c.Examine(t.Context(), "INBOX"); err == nil {
			t.Error("a dead connection is used on")
		}
		c.Logout(time.Hour)
	})
}

// TestLogoutIsPatient for so long and no longer.
func TestLogoutIsPatient(t *testing.T) {
	served(t, func(p *peer) { p.hear(); p.hear() }, func(t *testing.T, c *Conn) {
		start := time.Now()
		c.Logout(2 * time.Second)
		if d := time.Since(start); d != 2*time.Second {
			t.Error(d)
		}
	})
}
