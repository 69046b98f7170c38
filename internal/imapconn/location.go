package imapconn

import (
	"strconv"

	"mailhaul/internal/location"
)

// Version is told to servers that ask for the client's name (RFC 2971).
var Version = ""

const program = "mailhaul"

// LocationOptions are those of a scheme that names an IMAP server, imaps or
// imap.
func LocationOptions(scheme string) []location.Option {
	all := []location.Option{
		{Name: "connections", Default: "4", Help: "how many connections to open at most"},
		{Name: "compress", Default: "auto", Help: "yes or no; auto: when the line turns out to be slow"},
		{Name: "ca_file", Help: "file with the certificate authority of a server of your own (PEM)"},
	}
	if scheme == "imap" {
		all = append(all, location.Option{Name: "tls", Default: "starttls",
			Help: "starttls, or none: only for servers on this machine, unless --allow-cleartext is given"})
	}
	return all
}

// Of reads a location: where to connect and as whom, but for the password, and
// how many connections there may be.
func Of(l location.Location, env location.Env) (o Options, most int, err error) {
	if l.User == "" {
		return o, 0, location.Wrong("write "+l.Scheme+"://USER@"+l.Host, "%s: no user name", l)
	}
	o = Options{User: l.User, Host: l.Hostname(), Name: program, Version: Version}
	if l.Scheme == "imaps" {
		o.Addr = l.HostPort("993")
	} else {
		o.Addr, o.Security = l.HostPort("143"), StartTLS
		none, err := l.Cleartext(env, "imaps")
		if err != nil {
			return o, 0, err
		}
		if none {
			o.Security = None
		}
	}
	switch v := l.Option.Get("compress"); v {
	case "", "auto":
	case "yes":
		o.Compress = CompressYes
	case "no":
		o.Compress = CompressNo
	default:
		return o, 0, location.Wrong("compress is auto, yes or no", "%s: compress=%s", l, v)
	}
	most = 4
	if v := l.Option.Get("connections"); v != "" {
		if most, err = strconv.Atoi(v); err != nil || most < 1 || most > 100 {
			return o, 0, location.Wrong("connections is a number from 1 to 100", "%s: connections=%s", l, v)
		}
	}
	o.Roots, err = l.Authority()
	return o, most, err
}
