package location

import (
	"crypto/x509"
	"errors"
	"net/netip"
	"os"
	"strings"
)

// Cleartext reads the option tls of a scheme that begins in clear text: it is
// starttls, which is the default and means that TLS must come before any
// password, or none. The latter is refused where others could read along,
// unless the user has allowed it; secure is the scheme to use instead, empty
// where there is none.
func (l Location) Cleartext(env Env, secure string) (bool, error) {
	instead, what := "", "the mail"
	if secure != "" {
		instead = "use " + secure + "://, or "
	}
	if l.User != "" {
		what = "the password"
	}
	switch tls := l.Option.Get("tls"); {
	case tls == "" || tls == "starttls":
		return false, nil
	case tls != "none":
		return false, Wrong("tls is starttls or none", "%s: tls=%s", l, tls)
	case !loopback(l.Hostname()) && !env.AllowCleartext:
		return false, Wrong(instead+"leave tls=none out; --allow-cleartext lets everybody on the way read along",
			"%s: without TLS %s would be sent for all to see", l, what)
	}
	return true, nil
}

// Authority is the pool of certificates that option ca_file names; nil
// without that option.
func (l Location) Authority() (*x509.CertPool, error) {
	file := l.Option.Get("ca_file")
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	pool := x509.NewCertPool()
	if err == nil && !pool.AppendCertsFromPEM(pem) {
		err = errors.New(file + ": no certificate in it")
	}
	if err != nil {
		return nil, Wrong("ca_file is a file with certificates in PEM form", "%s: ca_file: %v", l, err)
	}
	return pool, nil
}

// loopback reports whether host is certainly this machine.
func loopback(host string) bool {
	if strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
