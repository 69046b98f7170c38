package repair

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"mailhaul/internal/catalog"
	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/sink"
)

// recognise finds out what kind of archive it is, from its manifest or from
// what lies there, and opens its mail.
func (j *job) recognise(ctx context.Context) (home catalog.Home, id string, err error) {
	if fi, err := os.Stat(j.Dir); err != nil {
		return home, "", fmt.Errorf("%w: %w", catalog.ErrNone, err)
	} else if !fi.IsDir() {
		return home, "", location.Wrong("name the directory that a backup has written to", "%s is a file", mail.Clean(j.Dir))
	}
	head, err := catalog.ReadManifestHead(j.Dir)
	switch {
	case err == nil:
		if j.Format != "" && j.Format != head.Format {
			return home, "", fmt.Errorf("%s: %w: it is %s, not %s", j.Dir, catalog.ErrOtherFormat, mail.Clean(head.Format), j.Format)
		}
		j.Format, j.Layout, id = head.Format, head.Layout, head.Archive
		j.result.Manifest = true
	case errors.Is(err, catalog.ErrDamaged):
		j.result.Manifest, j.result.Passed = true, 1 // its lines may be good
	case !errors.Is(err, fs.ErrNotExist):
		return home, "", err
	}
	if j.Format == "" {
		if j.Format, j.Layout, err = form(ctx, j.Dir); err != nil {
			return home, "", err
		}
	}
	if j.sink, err = j.Open(ctx, j.Format, j.Layout); err != nil {
		return home, "", err
	}
	local, ok := j.sink.(sink.Local)
	if !ok {
		j.sink.Close()
		return home, "", location.Wrong("", "%s: no archive on this machine", mail.Clean(j.Dir))
	}
	home = catalog.Home{Format: j.Format, Layout: j.Layout}
	home.Dir, home.State = local.Home()
	return home, id, nil
}

// form finds out what an archive without a manifest looks like.
func form(ctx context.Context, dir string) (format, layout string, err error) {
	var mbox, nested, dotted bool
	err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || name == dir {
			return err
		}
		at, _ := filepath.Rel(dir, name)
		at = filepath.ToSlash(at)
		switch {
		case d.IsDir() && d.Name() == "cur":
			top, _, below := strings.Cut(at, "/")
			if !below || top[0] == '.' {
				dotted = true
			} else {
				nested = true
			}
			return fs.SkipDir
		case d.IsDir() && (d.Name() == "new" || d.Name() == "tmp" || d.Name() == ".mailhaul" || d.Name() == "mailhaul.state"):
			return fs.SkipDir
		case d.Type().IsRegular() && strings.HasSuffix(d.Name(), ".mbox"):
			mbox = true
		}
		return nil
	})
	if err != nil {
		return "", "", err
	}
	hint := "say what it is: mbox:" + mail.Clean(dir) + ", maildir:" + mail.Clean(dir) + " or 'maildir:" + mail.Clean(dir) + "?layout=maildir++'"
	switch {
	case mbox && !nested && !dotted:
		return "mbox", "", nil
	case nested && !mbox && !dotted:
		return "maildir", "", nil
	case dotted && !mbox && !nested:
		return "maildir", "layout=maildir++", nil
	case !mbox && !nested && !dotted:
		return "", "", fmt.Errorf("%s: %w: there is no mail in it", dir, catalog.ErrNone)
	}
	return "", "", location.Wrong(hint, "%s: there are both mailbox files and Maildirs, or Maildirs of two layouts", mail.Clean(dir))
}
