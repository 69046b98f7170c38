package testmail

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

// dictation is a raw conversation with an SMTP server.
type dictation struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

func dictate(t *testing.T, s *SMTP) *dictation {
	t.Helper()
	conn, err := net.Dial("tcp", s.Start(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	d := &dictation{t, conn, bufio.NewReader(conn)}
	d.hear("220")
	return d
}

// hear wants the next reply to begin so and gives its last line.
func (d *dictation) hear(want string) string {
	d.t.Helper()
	for {
		line, err := d.r.ReadString('\n')
		if err != nil {
			d.t.Fatalf("%v instead of %s", err, want)
		}
		if len(line) > 3 && line[3] == '-' {
			continue
		}
		if !strings.HasPrefix(line, want) {
			d.t.Fatalf("%q instead of %s", line, want)
		}
		return line
	}
}

func (d *dictation) say(want, format string, args ...any) string {
	d.t.Helper()
	fmt.Fprintf(d.conn, format+"\r\n", args...)
	return d.hear(want)
}

func TestSMTPKeepsWhatItIsGiven(t *testing.T) {
	s := &SMTP{Keywords: append([]string{"BINARYMIME"}, DefaultSMTPKeywords...)}
	d := dictate(t, s)
	d.say("250", "EHLO me")
	d.say("250", "MAIL FROM:<a@example.org> BODY=8BITMIME SIZE=10")
	d.say("250", "RCPT TO:<b@example.org>")
	d.say("354", "DATA")
	d.say("250", "..dot\r\n.\r\x00x\xff\r\n.")
	d.say("250", "MAIL FROM:<> BODY=BINARYMIME")
	d.say("250", "RCPT TO:<b@example.org>")
	fmt.Fprintf(d.conn, "BDAT 3\r\na\nb")
	d.hear("250")
	fmt.Fprintf(d.conn, "BDAT 2 LAST\r\n\x00c")
	d.hear("250")
	d.say("221", "QUIT")
	all := s.Accepted()
	if len(all) != 2 || string(all[0].Raw) != ".dot\r\n\r\x00x\xff\r\n" || all[0].From != "a@example.org" || all[0].To[0] != "b@example.org" {
		t.Fatalf("%+v", all)
	}
	if string(all[1].Raw) != "a\nb\x00c" || all[1].From != "" || !all[1].Chunked {
		t.Fatalf("%+v", all[1])
	}
	if sins := s.Sins(); len(sins) != 1 || !strings.Contains(sins[0], "a line that is none") {
		t.Error(sins)
	}
}

func TestSMTPRefusesAndLoses(t *testing.T) {
	s := &SMTP{LMTP: true}
	s.Fault(func(c Command) *Reply {
		if c.Verb == "." && c.Args == "b" {
			return &Reply{Status: "452 4.2.2 full"}
		}
		return nil
	})
	d := dictate(t, s)
	letter := func() {
		d.say("250", "MAIL FROM:<a>")
		d.say("250", "RCPT TO:<b>")
		d.say("250", "RCPT TO:<c>")
		d.say("354", "DATA")
	}
	d.say("500", "EHLO me")
	d.say("250", "LHLO me")
	letter()
	d.say("452", "x\r\n.")
	d.hear("250")
	s.Fault(Hangup("ACCEPTED", 1))
	letter()
	fmt.Fprintf(d.conn, "x\r\n.\r\n")
	d.hear("452")
	if rest, err := io.ReadAll(d.r); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
	all := s.Accepted()
	if len(all) != 2 || len(all[0].To) != 1 || all[0].To[0] != "c" {
		t.Errorf("%+v", all)
	}
}

func TestSMTPLogin(t *testing.T) {
	s := &SMTP{Auth: "PLAIN LOGIN"}
	d := dictate(t, s)
	d.say("250", "EHLO me")
	d.say("530", "MAIL FROM:<a>")
	d.say("535", "AUTH PLAIN AGFubgB3cm9uZw==")
	d.say("235", "AUTH PLAIN AGFubgBzZWNyZXQ=")
	d.say("250", "MAIL FROM:<a>")
	for _, c := range s.Commands() {
		if strings.Contains(c.Args, "AGF") {
			t.Error("a password in the log")
		}
	}
}

// TestSMTPNoticesSins: a check of clients is worth nothing that cannot fail.
func TestSMTPNoticesSins(t *testing.T) {
	s := &SMTP{Keywords: []string{"8BITMIME"}}
	d := dictate(t, s)
	d.say("250", "EHLO me")
	d.say("555", "MAIL FROM:<a> SIZE=1")
	d.say("250", "MAIL FROM:<a>")
	d.say("250", "RCPT TO:<b>")
	d.say("354", "DATA")
	d.say("250", "\xff\r\n%s\r\n.", strings.Repeat("x", 999))
	fmt.Fprintf(d.conn, "NOOP\r\nNOOP\r\n")
	d.hear("250")
	d.hear("250")
	all := strings.Join(s.Sins(), "\n")
	for _, want := range []string{"SIZE=1 is not offered", "a line that is none", "not announced", "PIPELINING is not offered"} {
		if !strings.Contains(all, want) {
			t.Errorf("not noticed: %s (%s)", want, all)
		}
	}
}
