// Package maildir reads Maildirs that other programs wrote: one of them, a
// tree of directories with Maildirs in it, or a Maildir++ tree as Dovecot and
// Courier keep it.
//
// What must stay true:
//
//   - Nothing is changed: no message moves from new to cur, no flag is set.
//   - A message is known by the unique part of its name, wherever it is and
//     whatever flags other programs give it meanwhile.
//   - Links are not followed, be they files or directories.
package maildir

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
		Names: []string{"maildir"},
		Form:  "maildir:PATH",
		Help:  "a Maildir of another program (Dovecot, mutt, mbsync), or a tree of them; it is only read",
		Options: []location.Option{
			{Name: "layout", Default: "auto", Help: "auto; nested: Work/Projects; maildir++: .Work.Projects, as Dovecot has it"},
		},
		Open: func(_ context.Context, l location.Location, _ location.Env) (source.Source, error) {
			a := &account{dir: l.Path}
			switch v := l.Option.Get("layout"); v {
			case "auto", "":
			case "nested":
				a.layout = nested
			case "maildir++", "maildir  ": // a "+" in a query may come as a blank
				a.layout = dotted
			default:
				return nil, location.Wrong("write layout=auto, layout=nested or layout=maildir++", "%s: layout=%s", l, v)
			}
			fi, err := local.Refuse(l)
			if err != nil {
				return nil, err
			}
			if !fi.IsDir() {
				return nil, location.Wrong("one mailbox file is read by mbox:PATH, one message by eml:PATH", "%s is a file", mail.Clean(l.Path))
			}
			return a, nil
		},
	}
}
