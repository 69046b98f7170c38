package pop3

import (
	"context"
	"fmt"
	"iter"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/internal/testmail"
	"mailhaul/source"
	"mailhaul/source/sourcetest"
)

// plainSource is a source over a server on loopback that needs no TLS.
func plainSource(user, password, addr string) source.Source {
	return OverConn(user, password, func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	})
}

// over fills a model with the inbox that the suite wants.
func over(make func() *testmail.POP3) sourcetest.Open {
	return func(tb sourcetest.TB, folders []sourcetest.Folder) sourcetest.Store {
		p := make()
		p.Cleartext = true
		p.Deliver(folders[0].Messages...)
		return sourcetest.Store{
			Source: plainSource("ann", "secret", p.Start(tb)),
			Bare:   true, Single: true, Alone: true,
			Kept:    testmail.KeptPOP3,
			Deliver: func(_ mail.Path, messages ...testmail.Message) { p.Deliver(messages...) },
			Remove:  func(_ mail.Path, i int) { p.Remove(i) },
		}
	}
}

func TestContract(t *testing.T) {
	for _, c := range []struct {
		name string
		make func() *testmail.POP3
	}{
		{"modern", func() *testmail.POP3 { return &testmail.POP3{} }},
		{"old", func() *testmail.POP3 { return &testmail.POP3{Caps: testmail.PlainPOP3Caps} }},
		{"older than CAPA", func() *testmail.POP3 { return &testmail.POP3{Caps: []string{}} }},
		{"keeps nothing", func() *testmail.POP3 {
			return &testmail.POP3{Caps: append(slices.Clone(testmail.DefaultPOP3Caps), "EXPIRE 0")}
		}},
		{"numbers for unique-ids", func() *testmail.POP3 {
			return &testmail.POP3{NewID: func(n int, _ testmail.Message) string { return fmt.Sprint(n * 7919 % 100_003) }}
		}},
	} {
		t.Run(c.name, func(t *testing.T) { sourcetest.Run(t, over(c.make)) })
	}
}

// TestContractDovecot is the same against a real server, with STLS and with TLS
// from the first byte.
func TestContractDovecot(t *testing.T) {
	for _, c := range []struct {
		scheme string
		addr   func(d *testmail.Daemon) string
	}{
		{"pop3", func(d *testmail.Daemon) string { return d.POP3 }},
		{"pop3s", func(d *testmail.Daemon) string { return d.POP3S }},
	} {
		t.Run(c.scheme, func(t *testing.T) {
			sourcetest.Run(t, func(tb sourcetest.TB, folders []sourcetest.Folder) sourcetest.Store {
				d := testmail.DovecotDaemonPOP3(tb)
				for i, m := range folders[0].Messages {
					if m.Name == "dot begins the message" { // Dovecot does not stuff that one
						folders[0].Messages[i] = testmail.Letter("dot begins the message, and something follows", []byte(".x\r\n"))
					}
				}
				d.Deliver("INBOX", folders[0].Messages...)
				ca := filepath.Join(t.TempDir(), "ca.pem")
				if err := os.WriteFile(ca, d.Authority.PEM(), 0o600); err != nil {
					tb.Fatalf("certificate authority: %v", err)
				}
				l := location.Location{Scheme: c.scheme, User: d.User, Host: c.addr(d), Option: url.Values{
					"ca_file": {ca},
				}}
				src, err := Open(tb.Context(), l, location.Env{Secret: func(context.Context, location.Location) (string, error) {
					return d.Password, nil
				}})
				if err != nil {
					tb.Fatalf("open: %v", err)
				}
				return sourcetest.Store{
					Source: vague{src},
					Bare:   true, Single: true, Alone: true,
					Kept:    testmail.KeptDovecotPOP3,
					Deliver: func(_ mail.Path, messages ...testmail.Message) { d.Deliver("INBOX", messages...) },
				}
			})
		})
	}
}

// vague makes no claims about sizes when it fetches: Dovecot does not count the
// CRLF that it adds to a last line without an end.
type vague struct{ source.Source }

func (v vague) Open(ctx context.Context, path mail.Path) (source.Mailbox, error) {
	box, err := v.Source.Open(ctx, path)
	if err != nil {
		return nil, err
	}
	return vagueBox{box}, nil
}

type vagueBox struct{ source.Mailbox }

func (v vagueBox) Fetch(ctx context.Context, next func(bool) []source.Entry) iter.Seq2[*source.Message, error] {
	return func(yield func(*source.Message, error) bool) {
		for m, err := range v.Mailbox.Fetch(ctx, next) {
			if m != nil {
				m.Size = -1
			}
			if !yield(m, err) {
				return
			}
		}
	}
}
