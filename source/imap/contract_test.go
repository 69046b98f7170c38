package imap

import (
	"context"
	"net"
	"testing"

	"mailhaul/internal/imapconn"
	"mailhaul/internal/mail"
	"mailhaul/internal/testmail"
	"mailhaul/source"
	"mailhaul/source/sourcetest"
)

// plainSource is a source over a server on loopback that needs no TLS.
func plainSource(addr string, connections int) source.Source {
	return OverConn("ann", "secret", connections, func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	})
}

// over fills a model with the folders that the suite wants.
func over(caps []string, delimiter string) sourcetest.Open {
	return func(tb sourcetest.TB, folders []sourcetest.Folder) sourcetest.Store {
		m := &testmail.Model{Caps: caps, Cleartext: true, Delim: delimiter}
		raw := func(path mail.Path) string { return imapconn.NameOf(path, delimiter[0]) }
		uids := map[mail.Path][]uint32{}
		for _, f := range folders {
			m.Folder(raw(f.Path))
			uids[f.Path] = m.Deliver(raw(f.Path), f.Messages...)
		}
		return sourcetest.Store{
			Source:  plainSource(m.Start(tb), 4),
			Deliver: func(path mail.Path, messages ...testmail.Message) { m.Deliver(raw(path), messages...) },
			Remove:  func(path mail.Path, i int) { m.Expunge(raw(path), uids[path][i]) },
		}
	}
}

func TestContract(t *testing.T) {
	for _, c := range []struct {
		name      string
		caps      []string
		delimiter string
	}{
		{"modern", nil, "/"},
		{"old", testmail.PlainCaps, "."},
		{"gmail", []string{"IMAP4rev1", "X-GM-EXT-1", "SPECIAL-USE", "CONDSTORE", "UTF8=ACCEPT"}, "/"},
		{"ids", []string{"IMAP4rev1", "IMAP4rev2", "OBJECTID", "LIST-STATUS", "LIST-EXTENDED"}, "^"},
	} {
		t.Run(c.name, func(t *testing.T) { sourcetest.Run(t, over(c.caps, c.delimiter)) })
	}
}

// TestContractDovecot is the same against a real server.
func TestContractDovecot(t *testing.T) {
	sourcetest.Run(t, func(tb sourcetest.TB, folders []sourcetest.Folder) sourcetest.Store {
		d := testmail.Dovecot(tb)
		plain := func(path mail.Path) string { return mail.Unescape(string(path)) }
		for _, f := range folders {
			d.Deliver(plain(f.Path), f.Messages...)
		}
		return sourcetest.Store{
			Source:  plainSource(d.Addr(), 4),
			Kept:    testmail.Kept,
			Deliver: func(path mail.Path, messages ...testmail.Message) { d.Deliver(plain(path), messages...) },
		}
	})
}
