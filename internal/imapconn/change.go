package imapconn

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"mailhaul/internal/mail"
)

// Create makes a folder by the bytes of its name. One that is there already is
// none the worse for it: ErrExists.
func (c *Conn) Create(ctx context.Context, name string) error {
	stop := c.nc.Follow(ctx)
	defer stop()
	_, err := c.run(dropAll, c.astring("CREATE ", name, "")...)
	var s *Status
	if errors.As(err, &s) && (s.Code == "ALREADYEXISTS" || strings.Contains(strings.ToLower(s.Text), "exist")) {
		err = fmt.Errorf("%w: %w", ErrExists, s)
	}
	return c.folder("create", err)
}

// ErrExists is returned by Create for a folder that is there.
var ErrExists = errors.New("the folder exists")

// Subscribe makes mail programs show a folder.
func (c *Conn) Subscribe(ctx context.Context, name string) error {
	stop := c.nc.Follow(ctx)
	defer stop()
	_, err := c.run(dropAll, c.astring("SUBSCRIBE ", name, "")...)
	return c.folder("subscribe", err)
}

// Store gives messages of the open folder exactly these flags.
func (c *Conn) Store(ctx context.Context, set string, flags mail.Flags) error {
	stop := c.nc.Follow(ctx)
	defer stop()
	_, err := c.run(dropAll, "UID STORE "+set+" FLAGS.SILENT ("+flags.Key()+")")
	return c.folder("set flags", err)
}

// Label gives messages of the open folder one more of Gmail's labels: one of
// the system's own, such as `\Inbox`, or the bytes of a folder's name.
func (c *Conn) Label(ctx context.Context, set, label string, system bool) error {
	stop := c.nc.Follow(ctx)
	defer stop()
	before := "UID STORE " + set + " +X-GM-LABELS ("
	parts := []string{before + label + ")"}
	if !system {
		parts = c.astring(before, label, ")")
	}
	_, err := c.run(dropAll, parts...)
	return c.folder("label", err)
}

// Unselect leaves the open folder without expunging anything (RFC 3691), where
// the server can do that.
func (c *Conn) Unselect(ctx context.Context) error {
	c.box = Box{}
	if !c.Has("UNSELECT") {
		return nil
	}
	stop := c.nc.Follow(ctx)
	defer stop()
	_, err := c.run(dropAll, "UNSELECT")
	return c.folder("leave", err)
}

// A Namespace is the first personal one (RFC 2342).
type Namespace struct {
	Prefix    string
	Delimiter byte // 0: flat
}

// Namespace asks where the user's folders lie. Known is false where the server
// does not tell.
func (c *Conn) Namespace(ctx context.Context) (n Namespace, known bool, err error) {
	if !c.Has("NAMESPACE") {
		return n, false, nil
	}
	stop := c.nc.Follow(ctx)
	defer stop()
	_, err = c.run(func(r response) (bool, error) {
		if r.word != "NAMESPACE" {
			return false, nil
		}
		line, err := r.whole()
		if err != nil {
			return false, err
		}
		s := scan{b: line}
		first := true
		// What is no namespace is as good as none: the answer is a help only.
		_ = s.list(func() error {
			if !first {
				return s.skip()
			}
			first = false
			return s.list(func() error {
				switch field, isNil, err := s.text(); {
				case err != nil:
					return err
				case !known:
					n.Prefix, known = string(field), true
				case n.Delimiter == 0 && !isNil && len(field) == 1:
					n.Delimiter = field[0]
				}
				return nil
			})
		})
		return true, nil
	}, "NAMESPACE")
	var status *Status
	if errors.As(err, &status) && c.broken() == nil {
		return n, false, nil // it offered what it cannot do
	}
	return n, known, c.folder("ask for namespaces", err)
}

// Quota asks for the room that the folder's quota root has (RFC 9208, section
// 4.1.2), in octets. Known is false where there is no limit, or none is told.
func (c *Conn) Quota(ctx context.Context, name string) (used, limit int64, known bool, err error) {
	if !c.Has("QUOTA") {
		return 0, 0, false, nil
	}
	stop := c.nc.Follow(ctx)
	defer stop()
	_, err = c.run(func(r response) (bool, error) {
		if r.word != "QUOTA" {
			return false, nil
		}
		line, err := r.whole()
		if err != nil {
			return false, err
		}
		s := scan{b: line}
		if _, _, err := s.text(); err != nil {
			return true, nil
		}
		s.spaces()
		_ = s.list(func() error {
			kind := fold(s.word())
			s.spaces()
			u, err := s.number()
			if err != nil {
				return err
			}
			s.spaces()
			l, err := s.number()
			if err == nil && kind == "STORAGE" && l < 1<<50 && u < 1<<50 && (!known || int64(l)<<10 < limit) {
				used, limit, known = int64(u)<<10, int64(l)<<10, true
			}
			return err
		})
		return true, nil
	}, c.astring("GETQUOTAROOT ", name, "")...)
	var status *Status
	if errors.As(err, &status) && c.broken() == nil {
		return 0, 0, false, nil
	}
	return used, limit, known, c.folder("ask for room", err)
}
