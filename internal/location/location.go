// Package location parses "scheme:..." arguments and finds the plug-in that a
// scheme stands for.
//
// A location says where mail is and never how to get in: it holds no password,
// so it may be logged, stored and printed as it is. Whatever is wrong with an
// argument is told with the nearest thing that would have been right.
package location

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A Location is a parsed argument.
type Location struct {
	Scheme string // "imaps"
	User   string
	Host   string // with port when given
	Path   string // folder on a server, or file name
	Option url.Values
}

// ErrUsage marks errors that come from the argument itself.
var ErrUsage = errors.New("wrong location")

type usage struct{ text, hint string }

func (u *usage) Error() string   { return u.text }
func (u *usage) Is(t error) bool { return t == ErrUsage }

// Hint is what to do about err, or "".
func Hint(err error) string {
	var u *usage
	if errors.As(err, &u) {
		return u.hint
	}
	return ""
}

// Wrong makes a usage error with a hint, which may be empty.
func Wrong(hint, format string, args ...any) error {
	return &usage{fmt.Sprintf(format, args...), hint}
}

// Parse takes raw apart. Schemes followed by "//" name a server, others a
// file. The "@" of a user name may stand as it is: the last one before the
// path separates user and host. A "~/" at the start of a file name is home,
// which the shell does not do behind "mbox:".
func Parse(raw, home string) (Location, error) {
	scheme, rest, ok := strings.Cut(raw, ":")
	if !ok || scheme == "" || strings.ContainsAny(scheme, "/.@ ") {
		return Location{}, Wrong("a location begins with a scheme, such as imaps://USER@HOST or maildir:PATH",
			"%q is not a location", raw)
	}
	l := Location{Scheme: strings.ToLower(scheme)}
	rest, query, _ := strings.Cut(rest, "?")
	var err error
	if l.Option, err = url.ParseQuery(query); err != nil {
		return Location{}, Wrong("options are written ?name=value&name=value", "%s: options: %v", safe(raw), err)
	}
	server, isServer := strings.CutPrefix(rest, "//")
	if !isServer {
		if rest == "" {
			return Location{}, Wrong("write "+l.Scheme+":PATH", "%s: no path", raw)
		}
		if rest == "~" || strings.HasPrefix(rest, "~/") {
			if home == "" {
				return Location{}, Wrong("write the whole path", "%s: home directory unknown", raw)
			}
			rest = filepath.Join(home, rest[1:])
		}
		l.Path = rest
		return l, nil
	}
	// A user name has no "/", a host has no "@": the last "@" before the
	// first "/" behind it ends the user name.
	authority, path := server, ""
	if i := strings.IndexByte(server, '/'); i >= 0 {
		authority, path = server[:i], server[i+1:]
	}
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		user := authority[:i]
		l.Host = authority[i+1:]
		if strings.Contains(user, ":") {
			return Location{}, noPassword(l.Scheme + "://...@" + l.Host)
		}
		if l.User, err = url.PathUnescape(user); err != nil {
			return Location{}, Wrong("write a '%' as %25", "%s: user: %v", safe(raw), err)
		}
	} else {
		l.Host = authority
	}
	// A password with a "/" in it ends up as a port that is no number.
	if _, port, err := net.SplitHostPort(l.Host); err == nil && strings.Trim(port, "0123456789") != "" || strings.Count(l.Host, ":") > 1 && !strings.HasPrefix(l.Host, "[") {
		return Location{}, noPassword(l.Scheme + "://...")
	}
	if l.Path, err = url.PathUnescape(path); err != nil {
		return Location{}, Wrong("write a '%' as %25", "%s: path: %v", safe(raw), err)
	}
	if strings.ContainsAny(l.User+l.Host, "\x00\r\n") {
		return Location{}, Wrong("", "%q: control characters in a location", raw)
	}
	if l.Host == "" {
		return Location{}, Wrong("write "+l.Scheme+"://USER@HOST", "%s: no host", raw)
	}
	return l, nil
}

// noPassword refuses what looks like a password, without repeating it.
func noPassword(where string) error {
	return Wrong("leave the password out: mailhaul asks for it, or give MAILHAUL_PASSWORD, --password-file or --password-command; a ':' of the user name is written %3A",
		"%s: a password may not stand in a location", where)
}

// safe is raw without what may be a password: options, and what stands before
// the host.
func safe(raw string) string {
	raw, _, _ = strings.Cut(raw, "?")
	scheme, rest, ok := strings.Cut(raw, ":")
	if i := strings.LastIndexByte(rest, '@'); ok && i >= 0 && strings.Contains(rest[:i], ":") {
		return scheme + "://...@" + rest[i+1:]
	}
	return raw
}

// String prints l so that Parse gives it back.
func (l Location) String() string {
	var b strings.Builder
	b.WriteString(l.Scheme)
	b.WriteByte(':')
	if l.Host != "" {
		b.WriteString("//")
		if l.User != "" {
			b.WriteString(strings.NewReplacer("%40", "@", ":", "%3A").Replace(url.PathEscape(l.User)))
			b.WriteByte('@')
		}
		b.WriteString(l.Host)
		if l.Path != "" {
			b.WriteByte('/')
			b.WriteString(strings.ReplaceAll(url.PathEscape(l.Path), "%2F", "/"))
		}
	} else {
		b.WriteString(l.Path)
	}
	if q := l.Option.Encode(); q != "" {
		b.WriteByte('?')
		b.WriteString(q)
	}
	return b.String()
}

// HostPort is the address to dial, with port where the location names none.
func (l Location) HostPort(port string) string {
	if h, p, err := net.SplitHostPort(l.Host); err == nil {
		return net.JoinHostPort(h, p)
	}
	return net.JoinHostPort(strings.Trim(l.Host, "[]"), port)
}

// Hostname is the host without its port.
func (l Location) Hostname() string {
	if h, _, err := net.SplitHostPort(l.Host); err == nil {
		return h
	}
	return strings.Trim(l.Host, "[]")
}

// An Env is what a plug-in may use of its surroundings.
type Env struct {
	Log            *slog.Logger
	Secret         func(ctx context.Context, l Location) (string, error)
	AllowCleartext bool   // --allow-cleartext: no TLS also off this machine
	Home           string // the user's home directory
	DryRun         bool   // look and plan: a sink sends nothing that changes anything

	Sleep func(context.Context, time.Duration) error // how to wait; nil: a timer

	// To whom, and in whose name, a destination that hands mail on is to send
	// it. They are given beside the location, never in it.
	Recipients []string
	Sender     string // empty: what suits the destination; "<>": nobody
}

// A Scheme describes one plug-in. Its options are declared, so that they can
// be checked, defaulted and printed by help.
type Scheme[T any] struct {
	Names   []string // "imaps", "imap"
	Form    string   // "imaps://USER@HOST[:PORT]/[FOLDER]"
	Help    string
	Options []Option
	Open    func(ctx context.Context, l Location, env Env) (T, error)
}

// An Option is one ?name=value of a scheme.
type Option struct{ Name, Default, Help string }

// A Registry finds schemes by name. The zero Registry is empty.
type Registry[T any] struct {
	schemes map[string]*Scheme[T]
	order   []*Scheme[T]
}

// Register adds a scheme and panics when a name is taken.
func (r *Registry[T]) Register(s *Scheme[T]) {
	if r.schemes == nil {
		r.schemes = map[string]*Scheme[T]{}
	}
	for _, n := range s.Names {
		if r.schemes[n] != nil {
			panic("location: scheme " + n + " registered twice")
		}
		r.schemes[n] = s
	}
	r.order = append(r.order, s)
}

// Schemes lists what is registered, in the order of registration.
func (r *Registry[T]) Schemes() []*Scheme[T] { return r.order }

// Lookup finds a scheme by name.
func (r *Registry[T]) Lookup(name string) (*Scheme[T], bool) {
	s, ok := r.schemes[name]
	return s, ok
}

// Check parses raw and checks its scheme and options. Options that are left
// out get their defaults.
func (r *Registry[T]) Check(raw, home string) (Location, *Scheme[T], error) {
	l, err := Parse(raw, home)
	if err != nil {
		return l, nil, err
	}
	s := r.schemes[l.Scheme]
	if s == nil {
		var names []string
		for n := range r.schemes {
			names = append(names, n)
		}
		slices.Sort(names)
		hint := "known here: " + strings.Join(names, ", ")
		if n := Nearest(l.Scheme, names); n != "" {
			hint = "did you mean " + n + ":?"
		}
		return l, nil, Wrong(hint, "unknown scheme %q in %s", l.Scheme, safe(raw))
	}
	if strings.Contains(s.Form, "://") && l.Host == "" {
		return l, nil, Wrong("write "+s.Form, "%s: no host", l.Scheme)
	}
	where := Location{Scheme: l.Scheme, User: l.User, Host: l.Host, Path: l.Path} // options may hold a password
	var known []string
	for _, o := range s.Options {
		known = append(known, o.Name)
	}
	for name, vs := range l.Option {
		if !slices.Contains(known, name) {
			hint := l.Scheme + " has no options"
			if len(known) > 0 {
				hint = l.Scheme + " knows " + strings.Join(known, ", ")
			}
			if n := Nearest(name, known); n != "" {
				hint = "did you mean " + n + "=?"
			}
			if strings.HasPrefix(strings.ToLower(name), "pass") {
				return l, nil, noPassword(where.String())
			}
			return l, nil, Wrong(hint, "%s: unknown option %q", where, name)
		}
		if len(vs) != 1 {
			return l, nil, Wrong("give it once", "%s: option %s is given %d times", where, name, len(vs))
		}
	}
	for _, o := range s.Options {
		if !l.Option.Has(o.Name) && o.Default != "" {
			l.Option.Set(o.Name, o.Default)
		}
	}
	return l, s, nil
}

// Open parses raw, checks its options and opens it.
func (r *Registry[T]) Open(ctx context.Context, raw string, env Env) (T, error) {
	l, s, err := r.Check(raw, env.Home)
	if err != nil {
		var zero T
		return zero, err
	}
	return s.Open(ctx, l, env)
}

// Nearest is the one of names that s was probably meant to be, or "".
func Nearest(s string, names []string) string {
	best, at := "", len(s)/3+2
	for _, n := range names {
		d := distance(s, n)
		if d < at || d == at && best != "" && len(n) == len(s) && len(best) != len(s) {
			best, at = n, d
		}
	}
	return best
}

// distance is the number of letters to add, drop, change or swap.
func distance(a, b string) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}
