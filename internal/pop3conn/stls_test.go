package pop3conn

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"mailhaul/internal/mail"
	"mailhaul/internal/netconn"
	"mailhaul/internal/testmail"
)

// TestSTLS has the login behind TLS, and nothing that was said before it.
func TestSTLS(t *testing.T) {
	authority, err := testmail.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		security Security
		server   *tls.Config
		roots    bool
		err      error
	}{
		{"stls", STLS, authority.Server(), true, nil},
		{"implicit", Implicit, authority.Server(), true, nil},
		{"unknown authority", STLS, authority.Server(), false, netconn.ErrCertificate},
		{"wrong name", STLS, authority.WrongName(), true, netconn.ErrCertificate},
		{"expired", Implicit, authority.Expired(), true, netconn.ErrCertificate},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &testmail.POP3{TLS: c.server}
			start := p.Start
			if c.security == Implicit {
				start = p.StartTLS
			}
			o := Options{Addr: start(t), Security: c.security, User: "ann", Password: "secret"}
			if c.roots {
				o.Roots = authority.Pool()
			}
			conn, err := Dial(t.Context(), o)
			if err == nil {
				err = conn.Quit(t.Context())
			}
			if !errors.Is(err, c.err) {
				t.Errorf("dial: %v", err)
			}
			if c.err != nil && mail.Temporary(err) {
				t.Errorf("a certificate gets no better: %v", err)
			}
			for _, cmd := range p.Commands() {
				if !cmd.Secure && cmd.Verb != "STLS" {
					t.Errorf("in clear text: %s", cmd)
				}
			}
		})
	}
}

// TestSTLSForged lets somebody on the line try to keep TLS away. Nothing may be
// said in clear text but STLS.
func TestSTLSForged(t *testing.T) {
	for _, c := range []struct {
		name, greeting, answer string
	}{
		{"refused", "+OK hi\r\n", "-ERR unknown\r\n"},
		{"refused as busy", "+OK hi\r\n", "-ERR [SYS/TEMP] try again later\r\n"},
		{"injected", "+OK hi\r\n", "+OK begin\r\n+OK capabilities\r\n"},
		{"injected half a line", "+OK hi\r\n", "+OK begin\r\n+"},
		{"injected at the greeting", "+OK hi\r\n+OK begin\r\n+OK in\r\n", ""},
		{"let in", "+OK hi\r\n", "+OK begin\r\n+OK logged in\r\n.\r\n"},
		{"no answer at all", "+OK hi\r\n", ""},
		{"garbage", "+OK hi\r\n", "STLS OK\r\n"},
		{"lf alone", "+OK hi\r\n", "+OK begin\n"},
		{"a challenge", "+OK hi\r\n", "+ \r\n"},
		{"refused greeting", "-ERR no\r\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			meet(t, func(t *testing.T, p *peer) {
				io.WriteString(p, c.greeting)
				if c.greeting[0] == '+' {
					p.expect(t, "STLS")
					io.WriteString(p, c.answer)
				}
				if rest := p.hearAll(c.answer == ""); strings.ContainsAny(rest, "@") || strings.Contains(rest, "USER") || strings.Contains(rest, "AUTH") {
					t.Errorf("said in clear text: %q", rest)
				}
			}, func(t *testing.T, nc net.Conn) {
				o := plainOptions(nc)
				o.Security = STLS
				conn, err := Dial(t.Context(), o)
				if err == nil {
					conn.Close()
					t.Fatal("a session")
				}
			})
		})
	}
}

// hearAll is what else the client says; leave first when it waits for us.
func (p *peer) hearAll(leave bool) string {
	if leave {
		p.Close()
	}
	rest, _ := io.ReadAll(p.br)
	return string(rest)
}
