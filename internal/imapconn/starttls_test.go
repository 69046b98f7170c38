package imapconn

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"mailhaul/internal/mail"
	"mailhaul/internal/netconn"
)

// certificate is one for mail.example.org that its own pool trusts.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, DNSNames: []string{"mail.example.org"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Now().AddDate(100, 0, 0), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ := x509.ParseCertificate(der)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// secure plays a server that talks in the clear until the client asks for TLS,
// and is then protected. What it hears in the clear is returned.
func secure(t *testing.T, host string, trust bool, before func(p *peer) bool, after func(p *peer)) (heard []string, err error) {
	cert, pool := certificate(t)
	l, lerr := net.Listen("tcp", "127.0.0.1:0")
	if lerr != nil {
		t.Fatal(lerr)
	}
	defer l.Close()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		nc, err := l.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(time.Minute)) // should all else fail
		p := &peer{nc, bufio.NewReader(&listener{nc, &heard})}
		if !before(p) {
			return
		}
		s := tls.Server(nc, &tls.Config{Certificates: []tls.Certificate{cert}})
		if s.Handshake() != nil {
			return
		}
		after(&peer{s, bufio.NewReader(s)})
	}()
	o := Options{Addr: l.Addr().String(), Host: host, Security: StartTLS, Roots: pool, User: "ann", Password: "canary"}
	if !trust {
		o.Roots = x509.NewCertPool()
	}
	c, err := Dial(context.Background(), o)
	if c != nil {
		c.Logout(time.Second)
	}
	<-gone
	return heard, err
}

// A listener notes what it hears.
type listener struct {
	net.Conn
	heard *[]string
}

func (l *listener) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	*l.heard = append(*l.heard, string(p[:n]))
	return n, err
}

func offer(lines ...string) func(p *peer) bool {
	return func(p *peer) bool {
		p.say(lines[0])
		tag, rest := p.command()
		if rest != "STARTTLS" {
			return false
		}
		p.Write([]byte(strings.ReplaceAll(strings.Join(lines[1:], "\r\n"), "TAG", tag) + "\r\n"))
		return true
	}
}

func welcome(p *peer) {
	tag, rest := p.command()
	if rest != "CAPABILITY" {
		p.say(tag + " BAD you know all that")
		return
	}
	p.say("* CAPABILITY IMAP4rev1", tag+" OK done")
	tag, _ = p.command()
	p.say(tag + " OK [CAPABILITY IMAP4rev1] in")
	p.rest()
}

// TestStartTLS is rows J1 to J4.
func TestStartTLS(t *testing.T) {
	for _, c := range []struct {
		name   string
		before func(p *peer) bool
		host   string
		trust  bool
		wrong  error
	}{
		{"all is well", offer("* OK hi", "TAG OK go"), "mail.example.org", true, nil},
		{"said before TLS counts for nothing", offer("* OK [CAPABILITY IMAP4rev1 LOGINDISABLED STARTTLS] hi", "* CAPABILITY AUTH=PLAIN", "* OK [ALERT] x", "TAG OK go"), "mail.example.org", true, nil},
		{"stripped", offer("* OK [CAPABILITY IMAP4rev1] hi", "TAG BAD what"), "mail.example.org", true, ErrSecurity},
		{"refused", offer("* OK hi", "TAG NO not now"), "mail.example.org", true, ErrSecurity},
		{"let in at once", offer("* PREAUTH hi", "TAG OK go"), "mail.example.org", true, ErrSecurity},
		{"injected", offer("* OK hi", "TAG OK go", "* CAPABILITY IMAP4rev1 AUTH=PLAIN"), "mail.example.org", true, ErrSecurity},
		{"no answer but talk", offer("* OK hi", strings.Repeat("* OK x\r\n", 200)), "mail.example.org", true, errLimit},
		{"endless line", offer("* OK hi", strings.Repeat("x", 10_000)), "mail.example.org", true, errLimit},
		{"goodbye", offer("* BYE too many", "TAG OK go"), "mail.example.org", true, ErrBusy},
		{"another host", offer("* OK hi", "TAG OK go"), "other.example.org", true, netconn.ErrCertificate},
		{"unknown authority", offer("* OK hi", "TAG OK go"), "mail.example.org", false, netconn.ErrCertificate},
	} {
		t.Run(c.name, func(t *testing.T) {
			heard, err := secure(t, c.host, c.trust, c.before, welcome)
			if c.wrong == nil && err != nil || c.wrong != nil && !errors.Is(err, c.wrong) {
				t.Errorf("%v, want %v", err, c.wrong)
			}
			if c.wrong != nil && mail.Temporary(err) != (c.wrong == ErrBusy || c.wrong == errLimit) {
				t.Errorf("temporary is wrong for %v", err)
			}
			if all := strings.Join(heard, ""); strings.Contains(all, "canary") || strings.Contains(all, "LOGIN") {
				t.Errorf("said in the clear: %q", all)
			}
		})
	}
}

// TestInjectedLater puts bytes where the handshake should be: the segment
// comes late, so that the buffer is empty at the switch.
func TestInjectedLater(t *testing.T) {
	heard, err := secure(t, "mail.example.org", true, func(p *peer) bool {
		offer("* OK hi", "TAG OK go")(p)
		p.br.ReadByte() // the client has begun its handshake
		p.say("* CAPABILITY IMAP4rev1")
		return false
	}, nil)
	if err == nil || strings.Contains(strings.Join(heard, ""), "canary") {
		t.Errorf("%v", err)
	}
}
