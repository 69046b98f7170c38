package smtpconn

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"mailhaul/internal/mail"
	"mailhaul/internal/netconn"
	"mailhaul/internal/testmail"
)

// open connects to s in clear text.
func open(t *testing.T, s *testmail.SMTP) (*Conn, error) {
	t.Helper()
	o := Options{Addr: s.Start(t), LMTP: s.LMTP, Security: None}
	if s.Auth != "" {
		o.User, o.Password = "ann", "secret"
	}
	c, err := Dial(t.Context(), o)
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

func mustOpen(t *testing.T, s *testmail.SMTP) *Conn {
	t.Helper()
	c, err := open(t, s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func text(s string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, s)
		return err
	}
}

// envelope is one for a message to b.
func envelope(raw string) *Envelope {
	return &Envelope{From: "a@example.org", To: []string{"b@example.org"}, Size: int64(len(raw))}
}

// TestSend: what arrives is what was sent, with every way to send it, and in
// pieces of every size.
func TestSend(t *testing.T) {
	for name, raw := range map[string]string{
		"empty":  "",
		"plain":  "Subject: x\r\n\r\nbody\r\n",
		"dots":   ".\r\n..\r\n.a\r\n\r\n.\r\n",
		"blank":  "\r\n\r\n",
		"large":  strings.Repeat(".0123456789\r\n", 20000),
		"8-bit":  "Subject: x\r\n\r\nGr\xfc\xdfe\r\n",
		"latest": "one\r\n.",
		"binary": "a\x00b\n.\nc\r.\r\n.\r\nd",
	} {
		for _, lmtp := range []bool{false, true} {
			for _, piece := range []int{1, 2, 7, 1 << 20} {
				t.Run(fmt.Sprint(name, lmtp, piece), func(t *testing.T) {
					s := &testmail.SMTP{LMTP: lmtp, Keywords: append([]string{"BINARYMIME"}, testmail.DefaultSMTPKeywords...)}
					c := mustOpen(t, s)
					e := envelope(raw)
					e.Eight = !ASCII(raw)
					e.Chunk = name == "binary" || name == "latest"
					for range 2 {
						replies, err := c.Send(t.Context(), e, func(w io.Writer) error {
							for b := []byte(raw); len(b) > 0; {
								n := min(piece, len(b))
								if _, err := w.Write(b[:n]); err != nil {
									return err
								}
								b = b[n:]
							}
							return nil
						})
						if err != nil || len(replies) != 1 || !replies[0].Good() {
							t.Fatal(replies, err)
						}
					}
					c.Quit(0)
					all := s.Accepted()
					if len(all) != 2 || string(all[0].Raw) != raw || string(all[1].Raw) != raw || all[0].Chunked != e.Chunk || all[0].From != "a@example.org" {
						t.Errorf("%.300q", fmt.Sprint(all))
					}
					if sins := s.Sins(); len(sins) > 0 {
						t.Error(sins)
					}
				})
			}
		}
	}
}

// TestNoEndWithoutAWhole: whatever is wrong with the message, the line is cut,
// and nothing of it is accepted.
func TestNoEndWithoutAWhole(t *testing.T) {
	broken := errors.New("the disk is broken")
	half := func(w io.Writer) error {
		io.WriteString(w, "Subject: x\r\n\r\nhal")
		return broken
	}
	for _, c := range []struct {
		name  string
		body  func(io.Writer) error
		size  int64
		chunk bool
	}{
		{"source breaks", half, 100, false},
		{"source breaks at a line's end", func(w io.Writer) error { io.WriteString(w, "x\r\n"); return broken }, 100, false},
		{"source breaks at the very end", func(w io.Writer) error { io.WriteString(w, "x\r\n"); return broken }, 3, true},
		{"source breaks in a chunk", half, 100, true},
		{"shorter than announced", text("x\r\n"), 4, true},
		{"longer than announced", text("xxx\r\n"), 4, true},
		{"open last line", text("x"), 1, false},
		{"lf alone", text("x\n.\r\n"), 5, false},
		{"cr alone", text("x\ry\r\n"), 5, false},
		{"dot between lf", text("x\n.\n"), 4, false},
		{"errors are swallowed", func(w io.Writer) error { w.Write([]byte("x\ny\r\n")); w.Write([]byte("z\r\n")); return nil }, 9, false},
		{"an empty one of some size", text(""), 1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &testmail.SMTP{Keywords: append([]string{"BINARYMIME"}, testmail.DefaultSMTPKeywords...)}
			conn := mustOpen(t, s)
			e := envelope("")
			e.Size, e.Chunk = c.size, c.chunk
			_, err := conn.Send(t.Context(), e, c.body)
			if !OfBody(err) || errors.Is(err, ErrUnanswered) || !conn.Broken() {
				t.Error(err)
			}
			s.Close() // waits for the session to end
			if all := s.Accepted(); len(all) > 0 {
				t.Errorf("accepted: %.300q", fmt.Sprint(all))
			}
		})
	}
}

// TestRefusals say what was refused, and leave a connection that goes on.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		verb, status, want string
		temporary, broken  bool
	}{
		{"MAIL", "550 5.1.8 nobody\x1b[2J sends", `550 5.1.8 nobody\x1b[2J sends`, false, false},
		{"MAIL", "451 later", "451 later", true, false},
		{"RCPT", "550 5.1.1 unknown", "b@example.org: 550 5.1.1 unknown", false, false},
		{"RCPT", "421 4.3.2 shutting down", "b@example.org: 421 4.3.2 shutting down", true, true},
		{"DATA", "554 no", "554 no", false, false},
	} {
		for _, keywords := range [][]string{{}, {"PIPELINING"}} {
			t.Run(fmt.Sprint(c.verb, c.status[:3], keywords), func(t *testing.T) {
				s := &testmail.SMTP{Keywords: keywords}
				s.Fault(testmail.Refuse(c.verb, c.status, 1))
				conn := mustOpen(t, s)
				_, err := conn.Send(t.Context(), envelope(""), text(""))
				var no *Refusal
				if !errors.As(err, &no) || no.Verb != c.verb || err.Error() != c.want || no.Temporary() != c.temporary || conn.Broken() != c.broken {
					t.Fatalf("%q %v", err, conn.Broken())
				}
				if c.broken {
					return
				}
				if r, err := conn.Send(t.Context(), envelope("x\r\n"), text("x\r\n")); err != nil || !r[0].Good() || len(s.Accepted()) != 1 {
					t.Error(r, err)
				}
				if sins := s.Sins(); len(sins) > 0 {
					t.Error(sins)
				}
			})
		}
	}
}

// TestOneRecipientRefused: then the message goes to none.
func TestOneRecipientRefused(t *testing.T) {
	s := &testmail.SMTP{}
	s.Fault(func(c testmail.Command) *testmail.Reply {
		if c.Verb == "RCPT" && strings.Contains(c.Args, "c@") {
			return &testmail.Reply{Status: "550 no such user"}
		}
		return nil
	})
	c := mustOpen(t, s)
	e := envelope("")
	e.To = []string{"b@example.org", "c@example.org", "d@example.org"}
	_, err := c.Send(t.Context(), e, text(""))
	if err == nil || err.Error() != "c@example.org: 550 no such user" || len(s.Accepted()) != 0 || s.Count("DATA") != 0 {
		t.Error(err, s.Commands())
	}
}

// TestLMTPVerdicts: one for each recipient, in their order.
func TestLMTPVerdicts(t *testing.T) {
	s := &testmail.SMTP{LMTP: true}
	s.Fault(func(c testmail.Command) *testmail.Reply {
		switch {
		case c.Verb == "." && c.Args == "b":
			return &testmail.Reply{Status: "452 full"}
		case c.Verb == "." && c.Args == "c":
			return &testmail.Reply{Status: "550 no"}
		}
		return nil
	})
	c := mustOpen(t, s)
	e := envelope("x\r\n")
	e.To = []string{"a", "b", "c", "d"}
	r, err := c.Send(t.Context(), e, text("x\r\n"))
	if err != nil || len(r) != 4 || !r[0].Good() || r[1].Code != 452 || r[2].Code != 550 || !r[3].Good() {
		t.Fatal(r, err)
	}
	s.Fault(func(c testmail.Command) *testmail.Reply {
		if c.Verb == "ACCEPTED" && c.Args == "d" {
			return &testmail.Reply{End: true}
		}
		return nil
	})
	r, err = c.Send(t.Context(), e, text("x\r\n"))
	if !errors.Is(err, ErrUnanswered) || len(r) != 3 {
		t.Error(r, err)
	}
}

// TestFinalReplies: a no is a no; what is no verdict leaves the doubt.
func TestFinalReplies(t *testing.T) {
	for _, c := range []struct {
		status    string
		doubtful  bool
		good, end bool
	}{
		{"250 ok", false, true, false},
		{"251 passed on", false, true, false},
		{"554 spam", false, false, false},
		{"452 later", false, false, false},
		{"421 bye", false, false, true},
		{"354 go on", true, false, true},
		{"150 what", true, false, true},
		{"ok", true, false, true},
		{"25", true, false, true},
		{"250x", true, false, true},
		{"250-one\r\n251 two", true, false, true},
		{strings.Repeat("250-x\r\n", 1000) + "250 x", true, false, true},
		{"250 " + strings.Repeat("x", 9000), true, false, true},
	} {
		t.Run(c.status[:min(len(c.status), 20)], func(t *testing.T) {
			s := &testmail.SMTP{}
			s.Fault(testmail.Refuse("ACCEPTED", c.status, 1))
			conn := mustOpen(t, s)
			r, err := conn.Send(t.Context(), envelope("x\r\n"), text("x\r\n"))
			if errors.Is(err, ErrUnanswered) != c.doubtful || conn.Broken() != c.end || !c.doubtful && (err != nil || r[0].Good() != c.good) {
				t.Error(r, err, conn.Broken())
			}
		})
	}
}

// TestLostReply: the doubt begins with the end of the message and not before.
func TestLostReply(t *testing.T) {
	for _, verb := range []string{"MAIL", "RCPT", "DATA", ".", "ACCEPTED"} {
		s := &testmail.SMTP{}
		s.Fault(testmail.Hangup(verb, 1))
		c := mustOpen(t, s)
		_, err := c.Send(t.Context(), envelope("x\r\n"), text("x\r\n"))
		if errors.Is(err, ErrUnanswered) != (verb == "." || verb == "ACCEPTED") || err == nil || !c.Broken() {
			t.Errorf("%s: %v", verb, err)
		}
	}
}

// TestInterrupt: before its end a message is given up, and not accepted.
func TestInterrupt(t *testing.T) {
	s := &testmail.SMTP{}
	c := mustOpen(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := c.Send(ctx, envelope("x\r\n"), func(w io.Writer) error {
		io.WriteString(w, "x\r\n")
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnanswered) {
		t.Error(err)
	}
	s.Close()
	if len(s.Accepted()) != 0 {
		t.Error("accepted")
	}
}

// TestArguments: row C7.
func TestArguments(t *testing.T) {
	s := &testmail.SMTP{}
	c := mustOpen(t, s)
	for _, bad := range []string{"a@b>\r\nRCPT TO:<c@d", "a b@c", "a@b\x00", "a@b\u2028", "a@b\u202e", "<a@b", "a\xff@b", "a@b\u00a0"} {
		e := envelope("")
		e.To = append(e.To, bad)
		if _, err := c.Send(t.Context(), e, text("")); err == nil || CheckAddress(bad, true) == nil {
			t.Errorf("%q passes", bad)
		}
	}
	for _, good := range []string{"ann@example.org", "jörg@größe.example", "a+b=c@d", "ann@[192.0.2.1]"} {
		if err := CheckAddress(good, false); err != nil {
			t.Error(err)
		}
	}
	if CheckAddress("ann", true) != nil || CheckAddress("ann", false) == nil || CheckAddress("", true) == nil || CheckAddress("@x", true) == nil {
		t.Error("bare names")
	}
	if n := s.Count("MAIL"); n != 0 {
		t.Errorf("%d transactions", n)
	}
}

func FuzzCheck(f *testing.F) {
	for _, s := range []string{"ann@example.org", "a\r\nb", "a b", "\xff", "a\u2029b", "<>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if Check(s) != nil {
			return
		}
		if strings.ContainsAny(s, " \t\r\n\x00\x7f<>\v\f\u0085\u00a0\u2028\u2029") {
			t.Errorf("%q passes", s)
		}
		for _, r := range s {
			if r < ' ' || r >= 0x7f && r < 0xa0 {
				t.Errorf("%q passes", s)
			}
		}
	})
}

// FuzzReply: nothing a server says makes us panic or read without end; a good
// verdict needs a whole reply.
func FuzzReply(f *testing.F) {
	for _, s := range []string{"250 ok\r\n", "250-a\r\n250 b\r\n", "250", "554 x\r\n", "\r\n", "250-\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		near, far := net.Pipe()
		defer near.Close()
		defer far.Close()
		c, err := Dial(t.Context(), Options{Addr: "test:25", Security: None, Dial: func(context.Context, string) (net.Conn, error) {
			return &canned{Conn: near, r: bytes.NewReader(append([]byte("220 x\r\n250 x\r\n"), said...))}, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		r, err := c.reply(patience)
		if err == nil && (r.Code < 200 || r.Code > 599 || !bytes.Contains(said, []byte("\n"))) {
			t.Errorf("%+v of %q", r, said)
		}
	})
}

// canned is a connection whose other side says what it says, whatever it is told.
type canned struct {
	net.Conn
	r io.Reader
}

func (c *canned) Read(p []byte) (int, error)  { return c.r.Read(p) }
func (c *canned) Write(p []byte) (int, error) { return len(p), nil }

// TestLogin: ways in, and what keeps us out.
func TestLogin(t *testing.T) {
	for _, mechanisms := range []string{"PLAIN", "LOGIN", "GSSAPI login plain"} {
		s := &testmail.SMTP{Auth: strings.ToUpper(mechanisms)}
		c := mustOpen(t, s)
		if r, err := c.Send(t.Context(), envelope("x\r\n"), text("x\r\n")); err != nil || !r[0].Good() {
			t.Error(mechanisms, r, err)
		}
	}
	for _, c := range []struct {
		name      string
		auth      string
		fault     testmail.Fault
		login     bool
		temporary bool
		want      string
	}{
		{"wrong", "PLAIN", testmail.Refuse("AUTH", "535 5.7.8 wrong", 0), true, false, "log in: login refused: 535 5.7.8 wrong"},
		{"busy", "PLAIN", testmail.Refuse("AUTH", "454 4.7.0 busy", 0), false, true, "log in: 454 4.7.0 busy"},
		{"unknown ways", "GSSAPI", nil, false, false, "log in: no way to log in: the server offers GSSAPI, and mailhaul knows PLAIN and LOGIN"},
		{"gone", "PLAIN", testmail.Hangup("AUTH", 0), false, true, "closed the connection"},
		{"greeting", "PLAIN", testmail.Refuse("GREETING", "554 5.3.2 go away", 0), false, false, "connect: 554 5.3.2 go away"},
		{"greeting later", "PLAIN", testmail.Refuse("GREETING", "421 later", 0), false, true, "connect: 421 later"},
		{"no mail server", "PLAIN", testmail.Refuse("GREETING", "+OK POP3 ready", 0), false, true, "this does not greet like a mail server"},
		{"ehlo", "PLAIN", testmail.Refuse("EHLO", "550 not you", 0), false, false, "connect: 550 not you"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &testmail.SMTP{Auth: c.auth}
			if c.fault != nil {
				s.Fault(c.fault)
			}
			_, err := open(t, s)
			if err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, mail.ErrLogin) != c.login || mail.Temporary(err) != c.temporary ||
				mail.ScopeOf(err, 0) != mail.ScopeRun {
				t.Errorf("%v (temporary %v)", err, mail.Temporary(err))
			}
			if n := s.Count("*"); n != 0 {
				t.Errorf("an exchange that was over was ended")
			}
			for _, sin := range s.Sins() {
				t.Error(sin)
			}
		})
	}
	s := &testmail.SMTP{}
	if _, err := Dial(t.Context(), Options{Addr: s.Start(t), Security: None, User: "ann"}); !errors.Is(err, errWays) {
		t.Error(err)
	}
}

// TestOldServer knows HELO only and offers nothing.
func TestOldServer(t *testing.T) {
	s := &testmail.SMTP{Old: true, Keywords: []string{}}
	c := mustOpen(t, s)
	if r, err := c.Send(t.Context(), envelope("x\r\n"), text("x\r\n")); err != nil || !r[0].Good() || c.Has("SIZE") || c.Size() != 0 {
		t.Error(r, err)
	}
}

// TestTLS: in both ways, and never without.
func TestTLS(t *testing.T) {
	a, err := testmail.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	dial := func(s *testmail.SMTP, security Security, config *tls.Config) error {
		o := Options{Security: security, Roots: a.Pool(), LMTP: s.LMTP}
		if security == Implicit {
			o.Addr = s.StartTLS(t)
		} else {
			o.Addr = s.Start(t)
		}
		c, err := Dial(t.Context(), o)
		if err != nil {
			return err
		}
		defer c.Quit(0)
		r, err := c.Send(t.Context(), envelope("x\r\n"), text("x\r\n"))
		if err == nil && !r[0].Good() {
			err = r[0]
		}
		return err
	}
	for _, lmtp := range []bool{false, true} {
		for _, security := range []Security{Implicit, StartTLS} {
			s := &testmail.SMTP{TLS: a.Server(), LMTP: lmtp}
			if err := dial(s, security, nil); err != nil {
				t.Error(security, err)
			}
			for _, c := range s.Commands() {
				if !c.Secure && c.Verb != "EHLO" && c.Verb != "LHLO" && c.Verb != "STARTTLS" {
					t.Errorf("%v without TLS", c)
				}
			}
			if err := dial(&testmail.SMTP{TLS: a.WrongName()}, security, nil); !errors.Is(err, netconn.ErrCertificate) {
				t.Error(security, err)
			}
		}
	}
	if err := dial(&testmail.SMTP{}, StartTLS, nil); !errors.Is(err, ErrSecurity) {
		t.Error(err)
	}
	// Octets behind the answer to STARTTLS are somebody else's.
	s := &testmail.SMTP{TLS: a.Server()}
	s.Fault(testmail.Refuse("STARTTLS", "220 begin\r\n250 injected", 1))
	if err := dial(s, StartTLS, nil); err == nil || !strings.Contains(err.Error(), "somebody may be listening") {
		t.Error(err)
	}
}
