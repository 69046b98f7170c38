package job

import (
	"context"
	"errors"
	"fmt"

	"mailhaul/internal/catalog"
	"mailhaul/internal/location"
)

// Memory opens the catalog of an archive, or of a destination elsewhere that
// mail was brought to (an account; a server, for these recipients). Nobody is
// logged in to and no password is asked for.
func (r *Runner) Memory(ctx context.Context, name string, recipients []string) (*catalog.Catalog, error) {
	if where, _, err := r.Sinks.Check(name, r.Env.Home); err == nil && where.Host != "" {
		return r.elsewhere(ctx, where, name, recipients)
	}
	if len(recipients) > 0 {
		return nil, location.Wrong("name the server: smtp://HOST or lmtp://HOST", "--to is for a server that mail was delivered to")
	}
	s, cat, err := r.Archive(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := s.Close(); err != nil {
		return nil, errors.Join(err, cat.Close())
	}
	return cat, nil
}

func (r *Runner) elsewhere(ctx context.Context, where location.Location, name string, recipients []string) (*catalog.Catalog, error) {
	env := r.Env
	env.Secret, env.Recipients = nil, recipients
	s, err := r.Sinks.Open(ctx, name, env)
	if err != nil {
		return nil, err
	}
	defer s.Close() // it was never connected
	home, err := r.home(name, where.Path, s)
	if err != nil {
		return nil, err
	}
	cat, err := catalog.Open(ctx, home, false, r.Doing)
	if errors.Is(err, catalog.ErrNone) {
		where.Option = nil // not what the user wrote alone
		return nil, &nothingThere{where, err}
	}
	return cat, err
}

// nothingThere is the error for a destination of which nothing is remembered.
type nothingThere struct {
	where location.Location
	err   error
}

func (e *nothingThere) Error() string {
	return fmt.Sprintf("%s: nothing is remembered of it: this user has brought no mail there from this machine", e.where)
}

// Hint says where else to look.
func (e *nothingThere) Hint() string {
	return "write it as in 'mailhaul migrate' or 'mailhaul deliver', with the folder that was named there: imaps://USER@HOST/FOLDER"
}
