package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"mailhaul/internal/job"
	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/internal/testmail"
)

const demoHelp = `
mailhaul demo [DIRECTORY]

Starts an IMAP server on this machine with a made-up mailbox: some hundred
messages in nested folders, with attachments, duplicates, and messages of the
nasty kind. Backs it up over the network, with TLS, into mbox and into Maildir
below DIRECTORY (a new temporary one if none is given), does so again to show
that nothing is downloaded twice, and verifies both archives. Then it reads the
same mail by POP3 into the Maildir archive, where each message is kept once.
`

func (a *app) demo() *cobra.Command {
	return &cobra.Command{
		Use:   "demo [DIRECTORY]",
		Short: "Watch a backup on this machine, no account needed",
		Long:  demoHelp,
		Args:  cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			dir, err := demoDir(args)
			if err != nil {
				return err
			}
			return a.playDemo(c, dir)
		},
	}
}

func demoDir(args []string) (string, error) {
	if len(args) == 0 {
		return os.MkdirTemp("", "mailhaul-demo-")
	}
	if list, err := os.ReadDir(args[0]); err == nil && len(list) > 0 {
		return "", location.Wrong("name a new one", "%s: the directory is not empty", args[0])
	}
	return args[0], os.MkdirAll(args[0], 0o700)
}

const (
	demoUser     = "ann@example.org"
	demoPassword = "demo, no secret"
	demoMessages = 400
)

// playDemo does what the help says, and fails where it does not come true.
func (a *app) playDemo(c *cobra.Command, dir string) error {
	authority, err := testmail.NewAuthority()
	if err != nil {
		return err
	}
	config := authority.Server()
	// As the certificate authority of a server of one's own would be.
	ca := filepath.Join(dir, "demo-ca.pem")
	if err := os.WriteFile(ca, authority.PEM(), 0o600); err != nil {
		return err
	}
	server, err := demoServer(config)
	if err != nil {
		return err
	}
	defer server.Close()
	a.getenv = func(name string) string {
		if name == "MAILHAUL_PASSWORD" {
			return demoPassword
		}
		return ""
	}
	from := "imaps://" + demoUser + "@" + server.AddrTLS() + "?ca_file=" + queryEscape(ca)
	a.step("an account with a made-up life is served at %s", server.AddrTLS())
	if err := a.listFolders(c, from); err != nil {
		return err
	}
	for _, format := range []string{"mbox", "maildir"} {
		archive := filepath.Join(dir, format)
		to := format + ":" + archive
		a.step("the first backup: mailhaul backup FROM %s", to)
		if err := a.backedUp(c, job.Job{From: from, To: to}); err != nil {
			return err
		}
		a.step("the same command again")
		server.Reset()
		if err := a.backedUp(c, job.Job{From: from, To: to}); err != nil {
			return err
		}
		if n := server.Bodies(); n > 0 {
			return fmt.Errorf("the second run downloaded %d messages", n)
		}
		fmt.Fprintf(a.out, "The server was asked for %d message bodies.\n", server.Bodies())
		a.step("mailhaul verify %s", archive)
		if err := a.check(c, &verification{archive: archive}); err != nil {
			return err
		}
		if a.code != exitDone {
			return fmt.Errorf("%s: not all is well", archive)
		}
	}
	if err := a.playPOP3(c, dir, ca, config); err != nil {
		return err
	}
	a.farewell(dir)
	return nil
}

// playPOP3 reads mail that is there already, by the other protocol.
func (a *app) playPOP3(c *cobra.Command, dir, ca string, config *tls.Config) error {
	server, err := testmail.NewPOP3(testmail.MemoryOptions{User: demoUser, Password: demoPassword, TLS: config})
	if err != nil {
		return err
	}
	defer server.Close()
	server.Fill(1, demoMessages)
	from := "pop3s://" + demoUser + "@" + server.AddrTLS() + "?ca_file=" + queryEscape(ca)
	archive := filepath.Join(dir, "maildir")
	a.step("the same mail by POP3, into the archive that has it: mailhaul backup --add-account pop3s://... maildir:%s", archive)
	for range 2 {
		server.Reset()
		if err := a.backedUp(c, job.Job{From: from, To: "maildir:" + archive, AddAccount: true}); err != nil {
			return err
		}
	}
	if n := server.Bodies(); n > 0 {
		return fmt.Errorf("the second run downloaded %d messages", n)
	}
	a.step("mailhaul verify %s", archive)
	if err := a.check(c, &verification{archive: archive}); err != nil {
		return err
	}
	if a.code != exitDone {
		return fmt.Errorf("%s: not all is well", archive)
	}
	return nil
}

func (a *app) backedUp(c *cobra.Command, j job.Job) error {
	if err := a.transfer(c, j); err != nil {
		return err
	}
	if a.code != exitDone {
		return fmt.Errorf("the backup ended with exit code %d", a.code)
	}
	return context.Cause(c.Context())
}

func (a *app) step(format string, args ...any) {
	fmt.Fprintf(a.out, "\n==> %s\n", fmt.Sprintf(format, args...))
}

func (a *app) farewell(dir string) {
	fmt.Fprintf(a.out, `
Everything lies in %[1]s. To look at:
  %[1]s/mbox/INBOX.mbox             mutt -f, or any program that reads mbox
  %[1]s/maildir/Work/Projects       the same mail as a Maildir: mutt -f
  %[1]s/maildir/mailhaul.manifest   a line a message: digest, flags, date, place
Remove it when you have seen enough: rm -r %[1]s
`, dir)
}

// demoServer starts the IMAP server and fills it.
func demoServer(config *tls.Config) (*testmail.Memory, error) {
	server, err := testmail.NewMemory(testmail.MemoryOptions{User: demoUser, Password: demoPassword, TLS: config})
	if err != nil {
		return nil, err
	}
	if err := furnish(server); err != nil {
		server.Close()
		return nil, err
	}
	return server, nil
}

// furnish fills the account: ordinary mail, and the nasty kind.
func furnish(server *testmail.Memory) error {
	if err := server.Fill(1, demoMessages); err != nil {
		return err
	}
	const nasty = "Odd/Nasty messages"
	if err := server.Create(nasty); err != nil {
		return err
	}
	for _, m := range testmail.Corpus() {
		if m.Size > 1<<20 || m.Size == 0 || strings.HasPrefix(m.Name, "zip bomb") {
			continue
		}
		if err := server.Append(nasty, m); err != nil {
			return fmt.Errorf("%s: %w", mail.Clean(m.Name), err)
		}
	}
	return nil
}
