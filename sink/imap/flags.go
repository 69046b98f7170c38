package imap

import (
	"context"
	"slices"
	"strings"

	"mailhaul/internal/imapconn"
	"mailhaul/internal/mail"
	"mailhaul/sink"
)

// lasting is which flags a folder keeps (RFC 3501, section 7.1,
// PERMANENTFLAGS).
type lasting struct {
	flags  map[string]bool // in small letters
	any    bool            // new keywords may be made
	told   bool
	behind map[mail.Flag]bool // that a message had and the folder does not keep
}

// learnFlags opens the folder, if that was not done yet: flags are told only so.
// It is left again, for a server would tell us of each of our own messages.
func (f *folder) learnFlags(ctx context.Context, c *imapconn.Conn) error {
	if f.lasting != nil {
		return nil
	}
	box, err := c.Select(ctx, f.raw)
	if imapconn.NoSuchFolder(err) {
		return f.gone(err)
	}
	if err != nil {
		return err
	}
	f.lasting = newLasting(box.Lasting)
	return c.Unselect(ctx)
}

func newLasting(list string) *lasting {
	l := &lasting{flags: map[string]bool{}, behind: map[mail.Flag]bool{}}
	for name := range strings.FieldsSeq(list) {
		l.told = true
		if name == `\*` {
			l.any = true
			continue
		}
		l.flags[strings.ToLower(name)] = true
	}
	return l
}

// keeps reports whether a flag lasts. A server that does not tell keeps all
// (RFC 3501, section 7.1).
func (l *lasting) keeps(f mail.Flag) bool {
	return !l.told || l.flags[strings.ToLower(string(f))] || l.any && !strings.HasPrefix(string(f), `\`)
}

// of are the flags of a set that may be sent: those that last, and that are
// flags at all by the grammar.
func (l *lasting) of(set mail.Flags) mail.Flags {
	if !slices.ContainsFunc(set, func(f mail.Flag) bool { return !l.keeps(f) || !isFlag(f) }) {
		return set
	}
	return slices.DeleteFunc(slices.Clone(set), func(f mail.Flag) bool { return !l.keeps(f) || !isFlag(f) })
}

// miss notes those that stay behind.
func (l *lasting) miss(set mail.Flags) {
	for _, f := range set {
		if (!l.keeps(f) || !isFlag(f)) && len(l.behind) < 100 {
			l.behind[f] = true
		}
	}
}

// lost names what has stayed behind.
func (l *lasting) lost() string {
	if l == nil {
		return ""
	}
	var names []string
	for f := range l.behind {
		names = append(names, mail.Clean(string(f)))
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// simpler takes keywords off an item that the server could not read, once.
func (l *lasting) simpler(it *item) bool {
	system := slices.DeleteFunc(slices.Clone(it.flags), func(f mail.Flag) bool { return !strings.HasPrefix(string(f), `\`) })
	if len(system) == len(it.flags) {
		if len(it.flags) == 0 {
			return false
		}
		system = nil
	}
	for _, f := range it.flags {
		if !system.Has(f) {
			l.behind[f] = true
		}
	}
	it.flags = system
	return true
}

// isFlag checks the grammar of a flag (RFC 3501, section 9): an atom, or a
// backslash and an atom. Flags of files may hold anything.
func isFlag(f mail.Flag) bool {
	s := strings.TrimPrefix(string(f), `\`)
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`(){%*"\]`, r)
	})
}

// SetFlags implements sink.Flagger.
func (f *folder) SetFlags(ctx context.Context, at []sink.Place, flags []mail.Flags) error {
	err := f.s.pool.Use(ctx, func(c *imapconn.Conn) error {
		box, err := c.Select(ctx, f.raw)
		if err != nil {
			return err
		}
		l := newLasting(box.Lasting)
		by := map[string][]uint32{}
		for i, p := range at {
			if validity, uid, ok := numbers(string(p)); ok && validity == box.Validity {
				key := l.of(flags[i]).Key()
				by[key] = append(by[key], uid)
			}
		}
		for key, uids := range by {
			slices.Sort(uids)
			for len(uids) > 0 {
				var set string
				if set, uids = imapconn.Set(uids); set == "" {
					break
				}
				if err := c.Store(ctx, set, mail.ParseFlags(key)); err != nil {
					return err
				}
			}
		}
		return c.Unselect(ctx)
	})
	return fail("set flags", f.path, runWide(err))
}
