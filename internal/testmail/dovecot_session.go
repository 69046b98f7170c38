package testmail

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// A Private is a Dovecot without daemon, port of its own or root: every
// connection to Addr gets an imap or pop3 process that is logged in already and
// speaks straight to the socket. It starts in some milliseconds.
type Private struct {
	*Maildrop
	imap     *Private // the same mail through IMAP: itself, mostly
	greeting string   // where the process leaves it to the one that logs in
	listener net.Listener
	program  string
	config   string
	serves   sync.WaitGroup
}

// Dovecot starts one that speaks IMAP. Its greeting is PREAUTH.
func Dovecot(tb TB) *Private {
	tb.Helper()
	program := helper(tb, "imap")
	master(tb) // for its version
	p := private(tb, newMaildrop(tb, "ann"), program, "")
	p.imap = p
	return p
}

// DovecotPOP3 starts one that speaks POP3, of the folder INBOX. Sessions begin
// in the TRANSACTION state; there may be several at a time.
func DovecotPOP3(tb TB) *Private {
	tb.Helper()
	program := helper(tb, "pop3")
	imap := Dovecot(tb)
	p := private(tb, imap.Maildrop, program, "+OK Logged in.\r\n")
	p.imap = imap
	return p
}

func private(tb TB, mail *Maildrop, program, greeting string) *Private {
	tb.Helper()
	p := &Private{Maildrop: mail, program: program, greeting: greeting}
	p.config = filepath.Join(p.dir, "dovecot.conf")
	p.write(p.config, []byte(strings.NewReplacer("$DIR", p.dir, "$MAIL", p.mail).Replace(privateConfig)))
	var err error
	if p.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		tb.Fatalf("listen for Dovecot: %v", err)
	}
	p.serves.Go(p.accept)
	tb.Cleanup(func() {
		p.listener.Close()
		p.serves.Wait()
	})
	return p
}

const privateConfig = `
base_dir = $DIR/run
state_dir = $DIR/state
log_path = $DIR/log/dovecot.log
mail_location = maildir:$MAIL
mail_fsync = never
ssl = no
first_valid_uid = 1
mail_max_userip_connections = 100
namespace inbox {
  inbox = yes
  separator = /
}
`

// Addr is host and port; there is no TLS and no login.
func (p *Private) Addr() string { return p.listener.Addr().String() }

// Dial connects, whatever network and address say: it may stand in for a
// net.Dialer's DialContext.
func (p *Private) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", p.Addr())
}

func (p *Private) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.serves.Go(func() { p.serve(conn.(*net.TCPConn)) })
	}
}

// serve hands the socket itself to a new process. It ends with the
// client's connection, or is ended when the test does.
func (p *Private) serve(conn *net.TCPConn) {
	io.WriteString(conn, p.greeting) // a client that has left, the process will notice
	socket, err := conn.File()
	conn.Close()
	if err != nil {
		p.tb.Logf("socket for Dovecot: %v", err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p.tb.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, p.program, "-c", p.config, "-o", "stats_writer_socket_path=")
	cmd.Stdin, cmd.Stdout = socket, socket
	cmd.Env = []string{"USER=ann", "HOME=" + filepath.Dir(p.mail), "PATH=" + os.Getenv("PATH")}
	runAs(cmd, p.uid)
	err = cmd.Start()
	// Our copy of the socket must go, or the client never sees its end.
	socket.Close()
	if err != nil {
		p.tb.Logf("start Dovecot: %v", err)
		return
	}
	cmd.Wait() // its exit code tells only how the client left
}

// Remove expunges the messages with these positions, from 0, and no others, as
// another client would: files taken away behind Dovecot's back it goes on
// listing for a while.
func (p *Private) Remove(folder string, positions ...int) {
	p.tb.Helper()
	var set []string
	for _, i := range positions {
		set = append(set, fmt.Sprint(i+1))
	}
	open := "SELECT " + quote(EncodeName(folder))
	said := p.Say(open, "UID SEARCH "+strings.Join(set, ","))
	_, uids, _ := strings.Cut(said, "* SEARCH ")
	uids, _, _ = strings.Cut(uids, "\r\n")
	uids = strings.ReplaceAll(uids, " ", ",")
	p.Say(open, "UID STORE "+uids+` +FLAGS.SILENT (\Deleted)`, "UID EXPUNGE "+uids)
}

// Say does IMAP commands on a connection of its own, as another client, and
// gives the answers. A command that is refused fails the test.
func (p *Private) Say(commands ...string) string {
	p.tb.Helper()
	conn, err := p.imap.Dial(context.Background(), "", "")
	if err != nil {
		p.tb.Fatalf("dial Dovecot: %v", err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	var said strings.Builder
	for i, c := range commands {
		tag := fmt.Sprintf("t%d ", i)
		fmt.Fprintf(conn, "%s%s\r\n", tag, c)
		for {
			line, err := r.ReadString('\n')
			said.WriteString(line)
			if err != nil || strings.HasPrefix(line, tag) && !strings.HasPrefix(line, tag+"OK") {
				p.tb.Fatalf("%s: %s%v", c, said.String(), err)
			}
			if strings.HasPrefix(line, tag) {
				break
			}
		}
	}
	return said.String()
}
