// Package eml reads messages that lie in files of their own, as mail programs
// export them: NAME.eml. A directory is a folder, the one that was named is
// INBOX. One such file alone is an INBOX with one message.
//
// What must stay true: nothing is changed, no link is followed, and a message
// is known by the name of its file; one that is written anew under its name is
// seen by its size and time.
package eml

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
		Names: []string{"eml"},
		Form:  "eml:PATH",
		Help:  "a directory tree of .eml files, one a message, or one such file",
		Open: func(_ context.Context, l location.Location, _ location.Env) (source.Source, error) {
			fi, err := local.Refuse(l)
			if err != nil {
				return nil, err
			}
			if !fi.IsDir() && !fi.Mode().IsRegular() {
				return nil, location.Wrong("", "%s: it is no regular file", mail.Clean(l.Path))
			}
			return &account{path: l.Path, single: !fi.IsDir()}, nil
		},
	}
}
