package job

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"mailhaul/internal/archive"
	"mailhaul/internal/catalog"
	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/sink"
	"mailhaul/source"
)

// Source opens what a job can read from: an account, files of other programs,
// or an archive of our own, by the name of its directory ("mail/ann") or by a
// location ("mbox:mail/ann"). Account is the source's name in the catalog of
// its destination. Close of the source lets go of all that was opened.
func (r *Runner) Source(ctx context.Context, raw string) (src source.Source, l location.Location, account string, err error) {
	o, err := r.origin(raw)
	if err != nil {
		return nil, o.Location, "", err
	}
	src, account, err = r.openSource(ctx, o, false)
	return src, o.Location, account, err
}

// An origin is where mail comes from, before it is opened.
type origin struct {
	location.Location
	raw string
	own bool // an archive of ours
}

// origin finds out what an argument stands for. An archive without its catalog
// is catalog.ErrDamaged.
func (r *Runner) origin(raw string) (origin, error) {
	if dir, l, err := r.directory(raw); err == nil {
		home, err := catalog.Find(dir)
		switch {
		case err == nil:
			if l.Path == "" {
				l = location.Location{Scheme: home.Format, Path: dir}
			}
			return origin{l, raw, true}, nil
		case errors.Is(err, catalog.ErrDamaged):
			return origin{}, err
		}
	}
	l, _, err := r.Sources.Check(raw, r.Env.Home)
	return origin{l, raw, false}, err
}

// openSource opens an origin. An archive is locked until the source is closed.
func (r *Runner) openSource(ctx context.Context, o origin, live bool) (src source.Source, account string, err error) {
	if !o.own {
		src, err = r.Sources.Open(ctx, o.raw, r.Env)
		return src, Account(o.Location), err
	}
	s, cat, err := r.Archive(ctx, o.raw)
	if err != nil {
		return nil, "", err
	}
	src = archive.Open(cat, s, archive.Options{Live: live})
	if account, err = archive.Account(ctx, cat); err != nil {
		return nil, "", errors.Join(err, src.Close())
	}
	return src, account, nil
}

// directory is the one on this machine that an argument names: as it is, or by
// a location, which is empty otherwise.
func (r *Runner) directory(name string) (dir string, l location.Location, err error) {
	l, _, err = r.Sinks.Check(name, r.Env.Home)
	if err == nil && l.Host == "" {
		return l.Path, l, nil
	}
	if err == nil {
		err = location.Wrong("name a directory: mail/ann, or mbox:mail/ann", "%s: no archive on this machine", l)
	}
	if _, serr := os.Stat(name); serr != nil && strings.Contains(name, ":") {
		return "", location.Location{}, err
	}
	if rest, ok := strings.CutPrefix(name, "~/"); ok && r.Env.Home != "" {
		name = filepath.Join(r.Env.Home, rest)
	}
	return name, location.Location{}, nil
}

// Archive opens an archive that is there, whatever its format, by the name of
// its directory or by a location.
func (r *Runner) Archive(ctx context.Context, name string) (sink.Sink, *catalog.Catalog, error) {
	dir, l, err := r.directory(name)
	if err != nil {
		return nil, nil, err
	}
	home, err := catalog.Find(dir)
	if err != nil {
		return nil, nil, err
	}
	cat, err := catalog.Open(ctx, home, false, r.Doing)
	if err != nil {
		return nil, nil, err
	}
	home = cat.Home()
	if l.Scheme != "" && l.Scheme != home.Format {
		cat.Close()
		return nil, nil, fmt.Errorf("%s: %w: it is %s, not %s", dir, catalog.ErrOtherFormat, home.Format, l.Scheme)
	}
	s, err := r.sinkAt(ctx, home.Dir, home.Format, home.Layout)
	if err != nil {
		cat.Close()
		return nil, nil, err
	}
	return s, cat, nil
}

// sinkAt opens the mail of an archive.
func (r *Runner) sinkAt(ctx context.Context, dir, format, layout string) (sink.Sink, error) {
	s, ok := r.Sinks.Lookup(format)
	if !ok {
		return nil, fmt.Errorf("%s: %w: it is %s, which this program does not know", dir, catalog.ErrOtherFormat, mail.Clean(format))
	}
	// Not by way of a location: the name of a directory may have any letters.
	option, err := url.ParseQuery(layout)
	if err != nil {
		return nil, fmt.Errorf("%s: its layout %q: %w", dir, layout, err)
	}
	return s.Open(ctx, location.Location{Scheme: format, Path: dir, Option: option}, r.Env)
}
