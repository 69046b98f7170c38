package imapconn_test

import (
	"bytes"
	"context"
	"io"
	"slices"
	"testing"
	"time"

	"mailhaul/internal/imapconn"
	"mailhaul/internal/mail"
	"mailhaul/internal/testmail"
)

// bodies fetches INBOX whole.
func bodies(t *testing.T, c *imapconn.Conn) (all [][]byte) {
	t.Helper()
	if _, err := c.Examine(t.Context(), "INBOX"); err != nil {
		t.Fatal(err)
	}
	b := c.Bodies(t.Context())
	defer b.End()
	if _, err := b.Ask("1:*"); err != nil {
		t.Fatal(err)
	}
	for b.Open() > 0 {
		m, done, err := b.Next()
		if err != nil {
			t.Fatal(err)
		}
		if done != nil {
			continue
		}
		raw, err := io.ReadAll(m)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, raw)
	}
	return all
}

func compressing() *testmail.Model {
	return &testmail.Model{Caps: append(slices.Clone(testmail.DefaultCaps), "COMPRESS=DEFLATE")}
}

func TestCompress(t *testing.T) {
	for _, c := range []struct {
		name   string
		how    imapconn.Compress
		refuse bool
		asked  int
	}{
		{"yes", imapconn.CompressYes, false, 1},
		{"refused", imapconn.CompressYes, true, 1},
		{"no", imapconn.CompressNo, false, 0},
		{"auto, on a fast line", imapconn.CompressAuto, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := compressing()
			m.Deliver("INBOX", testmail.Corpus()...)
			if c.refuse {
				m.Fault(testmail.Refuse("COMPRESS", "NO [CANNOT] not now", 0))
			}
			conn, err := imapconn.Dial(t.Context(), imapconn.Options{Addr: m.Start(t), Security: imapconn.None, User: "ann", Password: "secret", Compress: c.how, Write: true})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			got := bodies(t, conn)
			for i, msg := range testmail.Corpus() {
				if i >= len(got) || !bytes.Equal(got[i], msg.Raw()) {
					t.Fatalf("%s came back as something else", msg.Name)
				}
			}
			if n := m.Count("COMPRESS"); n != c.asked {
				t.Errorf("asked %d times", n)
			}
			small := c.how == imapconn.CompressYes && !c.refuse
			if sent := m.Sent(); (sent < m.BodyBytes()/2) != small {
				t.Errorf("%d bytes were sent for %d", sent, m.BodyBytes())
			}
			// The library goes on, and so does what is sent.
			if err := conn.Noop(t.Context()); err != nil {
				t.Fatal(err)
			}
			raw := testmail.Corpus()[3].Raw()
			a := conn.Appends(t.Context())
			_, err = a.Send("INBOX", imapconn.Letter{Flags: mail.NewFlags(`\Seen`), Size: int64(len(raw)),
				Write: func(w io.Writer) error { _, err := w.Write(raw); return err }})
			if err != nil {
				t.Fatal(err)
			}
			if done, _, err := a.Next(); err != nil || done.Status.Type != "OK" {
				t.Fatal(done, err)
			}
			a.End()
			mails := m.Mails("INBOX")
			if last := mails[len(mails)-1]; !bytes.Equal(last.Raw(), raw) {
				t.Error("what was appended is something else")
			}
			conn.Logout(time.Minute)
		})
	}
}

// TestSlow is a line that turns out to be slow, and far: every answer takes a
// while.
func TestSlow(t *testing.T) {
	m := compressing()
	m.Window, m.Pause = 8<<10, 5*time.Millisecond
	m.Deliver("INBOX", testmail.Large(3<<20))
	conn, err := imapconn.Dial(t.Context(), imapconn.Options{Addr: m.Start(t), Security: imapconn.None, User: "ann", Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if conn.Slow() {
		t.Error("slow before anything came")
	}
	want := bodies(t, conn)
	if !conn.Slow() {
		t.Fatal("not found slow")
	}
	if err := conn.Hasten(context.Background()); err != nil {
		t.Fatal(err)
	}
	if conn.Slow() || m.Count("COMPRESS") != 1 {
		t.Errorf("still slow, or not compressed: %v", m.Commands())
	}
	if got := bodies(t, conn); !bytes.Equal(got[0], want[0]) {
		t.Error("the body is another")
	}
}
