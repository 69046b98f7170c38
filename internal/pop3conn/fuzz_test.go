package pop3conn

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

// FuzzBody: whatever a message is made of, and wherever the buffer ends, it
// comes back exact, and the next status is in step.
func FuzzBody(f *testing.F) {
	for _, s := range nasty {
		f.Add([]byte(s), uint8(0), uint8(0))
		f.Add([]byte(s), uint8(3), uint8(1))
	}
	f.Fuzz(func(t *testing.T, m []byte, buffer, piece uint8) {
		exact(t, bytes.NewReader(wireOf(m, m)), 16+int(buffer), int(piece), m, m)
	})
}

// FuzzServer: whatever a server says, a session ends in an error or in what
// its listings say, and never in more messages than it counts.
func FuzzServer(f *testing.F) {
	f.Add([]byte("+OK 2 30\r\n+OK\r\n1 10\r\n2 20\r\n.\r\n+OK\r\n1 a\r\n2 b\r\n.\r\n+OK\r\nx\r\n.\r\n-ERR\r\n"))
	f.Add([]byte("+OK 1 1\r\n+OK\r\n1 1\r\n.\r\n-ERR what\r\n+OK\r\n.\r\n"))
	f.Add([]byte("+OK 268435456 1\r\n+OK\r\n268435456 1\r\n"))
	f.Add([]byte("\r\n"))
	f.Add([]byte("+OK 0 0\r\n+OK\r\n.\r\n+OK\r\n.\r\n"))
	f.Fuzz(func(t *testing.T, said []byte) {
		for _, caps := range []map[string]string{{}, {"PIPELINING": ""}} {
			c := canned(bytes.NewReader(said), 16)
			c.caps = caps
			var v told
			uidl, err := c.Survey(t.Context(), v.survey())
			if err != nil {
				var s *Status
				if !errors.As(err, &s) && !c.Broken() {
					t.Fatalf("an error, and the session goes on: %v", err)
				}
				continue
			}
			if int64(len(v.sizes)) > v.count || uidl && int64(len(v.ids)) > v.count {
				t.Fatalf("%d messages: %v %v", v.count, v.sizes, v.ids)
			}
			b := c.Bodies(t.Context())
			b.Ask(1)
			a, err := b.Next()
			if err == nil && a.Body != nil {
				var got bytes.Buffer
				if _, err := a.Body.WriteTo(&got); err == nil && got.Len() > 0 && !bytes.HasSuffix(got.Bytes(), []byte("\r\n")) {
					t.Fatalf("it ends in the middle of a line: %q", got.Bytes())
				}
			}
			b.End()
		}
	})
}

// FuzzCapabilities: a list of them, and the status in front.
func FuzzCapabilities(f *testing.F) {
	f.Add("+OK\r\nUIDL\r\nSASL PLAIN\r\nEXPIRE 0 USER\r\nLOGIN-DELAY 900\r\n.\r\n")
	f.Add("-ERR [AUTH] x\r\n")
	f.Add("+OK\r\n..\r\n\r\n \r\n.\r\n")
	f.Fuzz(func(t *testing.T, said string) {
		c := canned(strings.NewReader(said), 16)
		c.guard.in = false
		c.learn()
		if len(c.caps) > mostCapabilities {
			t.Fatalf("%d capabilities", len(c.caps))
		}
		if d := c.LoginDelay(); d < 0 {
			t.Fatalf("a delay of %v", d)
		}
	})
}

// FuzzStatus: what is said of it is fit to be shown, and says which it was.
func FuzzStatus(f *testing.F) {
	for _, s := range []string{"+OK", "+ok x", "-ERR", "-ERR [IN-USE] x", "-ERR [", "-err []", "+OKx", "", "-ERR  [ a ]b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		s, ok := parseStatus(line)
		if !ok {
			return
		}
		if s.OK != (line[0] == '+') {
			t.Fatalf("%q is taken for %v", line, s.OK)
		}
		if text := s.Error(); text == "" || strings.ContainsAny(text, "\x00\x1b\r\n") {
			t.Fatalf("%q is shown as %q", line, text)
		}
		s.Temporary()
		if s.OK && s.Code != "" {
			t.Fatalf("%q has a code", line)
		}
	})
}

var _ io.Reader = (*Body)(nil)
