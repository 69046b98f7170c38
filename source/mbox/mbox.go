// Package mbox reads mailbox files that other programs wrote: one file, or a
// tree of them, each a folder.
//
// What must stay true:
//
//   - Files are only read. No lock is taken, and a file that changes while it
//     is read is an error, not a guess.
//   - Bytes are given as they were found. The one thing taken away is the ">"
//     that a program put before "From " to store the message at all, and that
//     only where nothing speaks against it (dialect.go).
//   - What a sender can write is not believed: flags in headers on request
//     only, Content-Length where it agrees with the whole file, labels of Gmail
//     in files of Gmail.
//   - A message is known by its digest, so it stays the same message when the
//     file is rewritten.
package mbox

import (
	"context"

	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/source"
	"mailhaul/source/local"
)

// Scheme describes this source to a registry.
func Scheme() *source.Scheme {
	return &source.Scheme{
		Names: []string{"mbox"},
		Form:  "mbox:PATH",
		Help:  "a mailbox file of another program (Takeout, Thunderbird, mutt; .gz and .zst too), or a directory of them",
		Options: []location.Option{
			{Name: "dialect", Default: "auto", Help: "how messages are told apart and \"From \" is quoted: auto, rd, o, cl, or cl2"},
			{Name: "strict", Default: "no", Help: "yes: a message begins only with a line \"From \" that has a date in a usual form"},
			{Name: "trust_status", Default: "no", Help: "yes: take flags from Status, X-Status, X-Keywords and X-Mozilla-Status"},
		},
		Open: open,
	}
}

type options struct {
	dialect dialect
	strict  bool
	trust   bool
}

func open(ctx context.Context, l location.Location, _ location.Env) (source.Source, error) {
	opt := options{dialect: dialect(l.Option.Get("dialect"))}
	if opt.dialect == "" {
		opt.dialect = auto
	}
	if err := opt.dialect.check(); err != nil {
		return nil, location.Wrong("dialect is auto, rd (mboxrd), o (mboxo), cl or cl2 (with Content-Length)", "%s: %v", l, err)
	}
	for name, to := range map[string]*bool{"strict": &opt.strict, "trust_status": &opt.trust} {
		switch v := l.Option.Get(name); v {
		case "yes":
			*to = true
		case "no", "":
		default:
			return nil, location.Wrong("write "+name+"=yes or "+name+"=no", "%s: %s=%s", l, name, v)
		}
	}
	fi, err := local.Refuse(l)
	if err != nil {
		return nil, err
	}
	a := &account{path: l.Path, dir: fi.IsDir(), opt: opt}
	if a.dir {
		return a, nil
	}
	if !fi.Mode().IsRegular() {
		return nil, location.Wrong("", "%s: it is no regular file", mail.Clean(l.Path))
	}
	f := a.single()
	switch kind, err := f.sniff(); {
	case err != nil:
		return nil, local.Fail("open", mail.ScopeAccount, err)
	case kind == letter:
		return nil, location.Wrong("one message in a file is read by eml:PATH", "%s: a message, but no mailbox: it does not begin with \"From \"", mail.Clean(l.Path))
	case kind == other:
		return nil, location.Wrong("", "%s: no mailbox: it does not begin with \"From \"", mail.Clean(l.Path))
	}
	return a, nil
}
