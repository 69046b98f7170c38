package testmail

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"time"
)

// A Daemon is a whole Dovecot on ports of its own, for login, STARTTLS, STLS,
// TLS and compression. Every user name is known; Password opens all of them, but
// only User has the mail that Deliver brings.
type Daemon struct {
	*Maildrop
	Authority *Authority
	IMAP      string // host and port; STARTTLS
	IMAPS     string
	POP3      string // STLS; empty, as the next, where Dovecot was installed without POP3
	POP3S     string
	LMTP      string // STARTTLS; empty where Dovecot was installed without LMTP
	User      string
	Password  string
}

// DovecotDaemon starts one and waits until it answers.
func DovecotDaemon(tb TB) *Daemon {
	tb.Helper()
	program := master(tb)
	helper(tb, "imap-login")
	authority, err := NewAuthority()
	if err != nil {
		tb.Fatalf("certificates for Dovecot: %v", err)
	}
	cert, key, err := files(authority.Server())
	if err != nil {
		tb.Fatalf("certificates for Dovecot: %v", err)
	}
	d := &Daemon{Maildrop: newMaildrop(tb, "ann"), Authority: authority, User: "ann", Password: "pass"}
	d.write(filepath.Join(d.dir, "cert.pem"), cert)
	d.write(filepath.Join(d.dir, "key.pem"), key)

	// Ports are free when we look and may be gone when Dovecot takes them.
	var why string
	for range 5 {
		if why = d.start(program); why == "" {
			return d
		}
	}
	tb.Fatalf("Dovecot does not start: %s", why)
	return nil
}

// DovecotDaemonPOP3 is DovecotDaemon for tests that need its POP3.
func DovecotDaemonPOP3(tb TB) *Daemon {
	tb.Helper()
	helper(tb, "pop3-login")
	return DovecotDaemon(tb)
}

// DovecotDaemonLMTP is DovecotDaemon for tests that need its LMTP.
func DovecotDaemonLMTP(tb TB) *Daemon {
	tb.Helper()
	helper(tb, "lmtp")
	return DovecotDaemon(tb)
}

// start tells why Dovecot did not, or "".
func (d *Daemon) start(program string) string {
	ports, err := freePorts(5)
	if err != nil {
		return err.Error()
	}
	text := daemonConfig
	d.IMAP, d.IMAPS = local(ports[0]), local(ports[1])
	if find("pop3-login") != "" && find("pop3") != "" {
		text += daemonPOP3
		d.POP3, d.POP3S = local(ports[2]), local(ports[3])
	}
	if find("lmtp") != "" {
		text += daemonLMTP
		d.LMTP = local(ports[4])
	}
	name, group, uid := d.identity()
	config := filepath.Join(d.dir, "dovecot.conf")
	d.write(config, []byte(strings.NewReplacer(
		"$DIR", d.dir, "$NAME", filepath.Base(d.dir), "$IMAPS", fmt.Sprint(ports[1]), "$IMAP", fmt.Sprint(ports[0]),
		"$POP3S", fmt.Sprint(ports[3]), "$POP3", fmt.Sprint(ports[2]), "$LMTP", fmt.Sprint(ports[4]),
		"$USER", name, "$GROUP", group, "$UID", fmt.Sprint(uid),
	).Replace(text)))

	cmd := exec.Command(program, "-F", "-c", config)
	runAs(cmd, d.uid)
	if err := cmd.Start(); err != nil {
		return err.Error()
	}
	gone := make(chan struct{})
	go func() {
		cmd.Wait() // ended by us; the log tells of other reasons
		close(gone)
	}()
	if d.answers(gone) {
		d.tb.Cleanup(func() {
			endGroup(cmd)
			<-gone
		})
		return ""
	}
	endGroup(cmd)
	<-gone
	said, _ := os.ReadFile(filepath.Join(d.dir, "log", "dovecot.log"))
	return string(said)
}

// answers waits for the greeting, as long as Dovecot lives.
func (d *Daemon) answers(gone <-chan struct{}) bool {
	try := time.NewTicker(5 * time.Millisecond)
	defer try.Stop()
	patience := time.After(20 * time.Second)
	for {
		if d.greets(d.IMAP) && (d.POP3 == "" || d.greets(d.POP3)) {
			return true
		}
		select {
		case <-gone:
			return false
		case <-patience:
			return false
		case <-try.C:
		}
	}
}

// greets reports whether our Dovecot listens at addr: the greeting names its
// directory, as another test's may have been faster to take the port.
func (d *Daemon) greets(addr string) bool {
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	line, err := bufio.NewReader(conn).ReadString('\n')
	return err == nil && strings.Contains(line, filepath.Base(d.dir))
}

// identity is who all of Dovecot's processes run as: one user without rights.
func (d *Daemon) identity() (name, group string, uid int) {
	uid = d.uid
	if uid < 0 {
		uid = os.Getuid()
	}
	u, err := user.LookupId(fmt.Sprint(uid))
	if err != nil {
		absent(d.tb, "user "+fmt.Sprint(uid)+" has no name: "+err.Error())
	}
	gid := u.Gid
	if d.uid >= 0 {
		gid = fmt.Sprint(d.uid)
	}
	g, err := user.LookupGroupId(gid)
	if err != nil {
		absent(d.tb, "group "+gid+" has no name: "+err.Error())
	}
	return u.Username, g.Name, uid
}

func local(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// freePorts are ports of loopback that nobody had a moment ago.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

const daemonConfig = `
base_dir = $DIR/run
state_dir = $DIR/state
log_path = $DIR/log/dovecot.log
instance_name = $NAME
login_greeting = $NAME
auth_failure_delay = 0
protocols = imap
listen = 127.0.0.1
ssl = yes
ssl_cert = <$DIR/cert.pem
ssl_key = <$DIR/key.pem
disable_plaintext_auth = no
auth_mechanisms = plain login
default_internal_user = $USER
default_internal_group = $GROUP
default_login_user = $USER
mail_location = maildir:$DIR/home/%u/Maildir
mail_fsync = never
first_valid_uid = 1
mail_max_userip_connections = 100
passdb {
  driver = static
  args = password=pass
}
userdb {
  driver = static
  args = uid=$UID gid=$GROUP home=$DIR/home/%u
}
service anvil {
  chroot =
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
service stats {
  chroot =
}
service imap-login {
  chroot =
  inet_listener imap {
    port = $IMAP
  }
  inet_listener imaps {
    port = $IMAPS
    ssl = yes
  }
}
mail_plugins = $mail_plugins zlib
protocol imap {
  mail_plugins = $mail_plugins imap_zlib
}
namespace inbox {
  inbox = yes
  separator = /
}
`

// daemonPOP3 follows where Dovecot has POP3.
const daemonPOP3 = `
protocols = imap pop3
service pop3-login {
  chroot =
  inet_listener pop3 {
    port = $POP3
  }
  inet_listener pop3s {
    port = $POP3S
    ssl = yes
  }
}
`

// daemonLMTP follows where Dovecot has LMTP. A process serves one client.
const daemonLMTP = `
protocols = $protocols lmtp
service lmtp {
  user = $USER
  inet_listener lmtp {
    address = 127.0.0.1
    port = $LMTP
  }
}
protocol lmtp {
  ssl = yes
}
`
