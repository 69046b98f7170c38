package testmail

import (
	"bytes"
	"crypto/tls"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"mailhaul/internal/mail"
)

func memory(t testing.TB, o MemoryOptions) *Memory {
	m, err := NewMemory(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// fetched is a folder as go-imap's client sees it.
func fetched(t *testing.T, c *imapclient.Client, folder string) []*imapclient.FetchMessageBuffer {
	t.Helper()
	if _, err := c.Select(folder, &imap.SelectOptions{ReadOnly: true}).Wait(); err != nil {
		t.Fatal(err)
	}
	all, err := c.Fetch(imap.UIDSet{{Start: 1, Stop: 0}}, &imap.FetchOptions{
		UID: true, Flags: true, InternalDate: true, RFC822Size: true,
		BodySection: []*imap.FetchItemBodySection{{Peek: true}},
	}).Collect()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func same(t *testing.T, got []*imapclient.FetchMessageBuffer, want []Message) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d messages, want %d", len(got), len(want))
	}
	for i, m := range want {
		g := got[i]
		if !bytes.Equal(g.BodySection[0].Bytes, m.Raw()) {
			t.Errorf("%s: other bytes", m.Name)
		}
		if g.RFC822Size != m.Size || !g.InternalDate.Equal(m.Date) || !flagsOf(g.Flags).Equal(m.Flags) {
			t.Errorf("%s: %d %v %v, want %d %v %v", m.Name, g.RFC822Size, g.InternalDate, g.Flags, m.Size, m.Date, m.Flags)
		}
	}
}

func TestMemory(t *testing.T) {
	m := memory(t, MemoryOptions{User: "ann", Password: "secret"})
	if err := m.Create("Größe/日本語"); err != nil {
		t.Fatal(err)
	}
	if err := m.Append("Größe/日本語", Corpus()...); err != nil {
		t.Fatal(err)
	}
	c, err := imapclient.DialInsecure(m.Addr(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login("ann", "wrong").Wait(); err == nil {
		t.Fatal("a wrong password was taken")
	}
	if err := c.Login("ann", "secret").Wait(); err != nil {
		t.Fatal(err)
	}
	same(t, fetched(t, c, "Größe/日本語"), Corpus())
	if m.Bodies() != len(Corpus()) || m.Sent() == 0 {
		t.Errorf("%d bodies in %d bytes", m.Bodies(), m.Sent())
	}
	want := []string{"LOGIN ann", "LOGIN ann", `EXAMINE "Größe/日本語"`, "FETCH 1:* BODY.PEEK[]"}
	if got := m.Commands(); !slices.Equal(got, want) {
		t.Errorf("commands %q, want %q", got, want)
	}
	m.Reset()
	if len(m.Commands()) != 0 || m.Bodies() != 0 || m.Sent() != 0 {
		t.Error("Reset forgets nothing")
	}
}

// TestMemoryChanges tries what a restore would do.
func TestMemoryChanges(t *testing.T) {
	m := memory(t, MemoryOptions{User: "ann", Password: "secret"})
	c, err := imapclient.DialInsecure(m.Addr(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login("ann", "secret").Wait(); err != nil {
		t.Fatal(err)
	}
	letter := exactly("lf", "Subject: x\n\nbody\n")
	a := c.Append("INBOX", letter.Size, &imap.AppendOptions{Flags: []imap.Flag{"$Forwarded", imap.FlagSeen}, Time: letter.Date})
	a.Write(letter.Raw())
	a.Close()
	if _, err := a.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := c.Create("Copies", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Copy(imap.UIDSetNum(1), "Copies").Wait(); err != nil {
		t.Fatal(err)
	}
	stored, err := c.Store(imap.UIDSetNum(1), &imap.StoreFlags{Op: imap.StoreFlagsDel, Flags: []imap.Flag{imap.FlagSeen}}, nil).Collect()
	if err != nil || len(stored) != 1 {
		t.Fatalf("store: %v %v", stored, err)
	}
	letter.Flags = mail.NewFlags("$Forwarded")
	same(t, fetched(t, c, "INBOX"), []Message{letter})
	letter.Flags = mail.NewFlags("$Forwarded", `\Seen`)
	same(t, fetched(t, c, "Copies"), []Message{letter})
}

func TestMemoryTLS(t *testing.T) {
	authority, err := NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	m := memory(t, MemoryOptions{User: "ann", Password: "secret", TLS: authority.Server()})
	trust := &imapclient.Options{TLSConfig: &tls.Config{RootCAs: authority.Pool()}}
	plain, err := imapclient.DialInsecure(m.Addr(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	var refused *imap.Error
	if err := plain.Login("ann", "secret").Wait(); !errors.As(err, &refused) {
		t.Errorf("login in clear text: %v", err)
	}
	for name, dial := range map[string]func(string, *imapclient.Options) (*imapclient.Client, error){
		m.Addr(): imapclient.DialStartTLS, m.AddrTLS(): imapclient.DialTLS,
	} {
		c, err := dial(name, trust)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Login("ann", "secret").Wait(); err != nil {
			t.Error(err)
		}
	}
}

func TestMemoryFill(t *testing.T) {
	m := memory(t, MemoryOptions{User: "ann", Password: "secret"})
	if err := m.Fill(1, 100); err != nil {
		t.Fatal(err)
	}
	c, err := imapclient.DialInsecure(m.Addr(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login("ann", "secret").Wait(); err != nil {
		t.Fatal(err)
	}
	all, err := c.List("", "*", &imap.ListOptions{ReturnStatus: &imap.StatusOptions{NumMessages: true}}).Collect()
	if err != nil {
		t.Fatal(err)
	}
	var n uint32
	var names []string
	for _, f := range all {
		n += *f.Status.NumMessages
		names = append(names, f.Mailbox)
	}
	if n != 110 || !strings.Contains(strings.Join(names, " "), "旅行") {
		t.Errorf("%d messages in %q", n, names)
	}
	t.Log(names)
}
