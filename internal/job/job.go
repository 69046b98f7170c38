// Package job runs one configured transfer from end to end: open the source,
// open the archive, bring over what is new, close both. The command line does
// its work through it, and so will a scheduler.
//
// A job is plain data without secrets: it can be written in a file, compared
// and printed.
package job

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"mailhaul/internal/catalog"
	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/internal/pipeline"
	"mailhaul/internal/spool"
	"mailhaul/sink"
	"mailhaul/source"
)

// A Job says what to bring where.
type Job struct {
	From, To   string   // locations
	Folders    []string // patterns; none: all folders
	Exclude    []string // patterns, stronger than Folders
	Dedup      string   // "folder", "archive", "off"; empty: what suits the destination
	Flags      string   // "always", "daily", "never": how often flags are compared that the server does not tell; empty: what suits the destination
	MaxSize    int64    // leave out larger messages; 0: none
	Remove     pipeline.Remove
	AddAccount bool // let a further account into the archive
	Rebind     bool // recognise what a server has renumbered by size, date and header
	Live       bool // of an archive as From: leave out what its server was last seen not to have

	Maps   []string // "Old/*=New/*": where folders go, for a destination with folders of its own
	Into   string   // put everything below this folder
	Refill bool     // bring again what has gone from the destination
	DryRun bool     // plan, and change nothing

	// Of a delivery.
	Recipients []string // who gets every message
	Sender     string   // of the envelope; empty: what suits the destination; "<>": nobody
	Most       int64    // send nothing when there is more to send; 0: any number
	Resend     bool     // send again what is in doubt
}

// A Runner has what a job needs at run time.
type Runner struct {
	Sources *source.Registry
	Sinks   *sink.Registry
	Env     location.Env
	State   string // directory for the catalogs of destinations elsewhere; empty: there is none
	Doing   string // what a second run is told that the archive is locked for
	Observe func(pipeline.Event)

	// ToSecret is Env.Secret for the destination; nil: the same. Planned is told
	// of the plan before anything is written; its error ends the job.
	ToSecret func(ctx context.Context, l location.Location) (string, error)
	Planned  func(*Plan) error

	Sleep func(context.Context, time.Duration) error // between tries; nil: a timer
}

// Run does the job. The report is valid in any case.
func (r *Runner) Run(ctx context.Context, j Job) (report pipeline.Report, err error) {
	origin, err := r.origin(j.From)
	if err != nil {
		return report, err
	}
	from := origin.Location
	filter, err := newFilter(j.Folders, j.Exclude)
	if err != nil {
		return report, err
	}
	where, _, err := r.Sinks.Check(j.To, r.Env.Home)
	if err != nil {
		return report, err
	}
	if where.Host != "" && where.Path != "" {
		if j.Into != "" {
			return report, location.Wrong("leave one of them out", "--into %s, and %s names a folder too", j.Into, where)
		}
		j.Into = where.Path
	}
	if err := loop(from, where, j.Into); err != nil {
		return report, err
	}
	env := r.Env
	env.DryRun = j.DryRun
	if r.ToSecret != nil {
		env.Secret = r.ToSecret
	}
	env.Recipients, env.Sender = j.Recipients, j.Sender
	to, err := r.Sinks.Open(ctx, j.To, env)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	home, err := r.home(j.To, j.Into, to)
	if err != nil {
		return report, err
	}
	if err := apart(from, home.Dir); err != nil {
		return report, err
	}
	dedup, err := dedupOf(j.Dedup, to, home)
	if err != nil {
		return report, err
	}
	flags, err := flagsOf(j.Flags, home)
	if err != nil {
		return report, err
	}
	var src source.Source
	account := Account(from)
	if origin.own { // its name is in it
		if src, account, err = r.openSource(ctx, origin, j.Live); err != nil {
			return report, err
		}
		defer func() { err = errors.Join(err, src.Close()) }()
	}
	// An archive that is there is locked before anybody is asked for a
	// password; a new one is made only once the source lets us in.
	var cat *catalog.Catalog
	if catalog.Exists(home) {
		if cat, err = r.admit(ctx, home, account, to, j); err != nil {
			return report, err
		}
		defer func() { err = errors.Join(err, cat.Close()) }()
	} else if _, err := catalog.Find(home.Dir); err == nil {
		// The catalog lies elsewhere in the other layout.
		return report, fmt.Errorf("%s: %w: it was made with another layout", home.Dir, catalog.ErrOtherFormat)
	} else if err := catalog.Vacant(home); err != nil {
		return report, err
	}
	if src == nil {
		if src, _, err = r.openSource(ctx, origin, j.Live); err != nil {
			return report, err
		}
		defer func() { err = errors.Join(err, src.Close()) }()
	}
	if _, ok := src.(source.Remover); !ok && j.Remove.Yes {
		return report, location.Wrong("only POP3 accounts can be emptied after a backup", "--delete-after: %s: this kind of source deletes nothing", from.Scheme)
	}
	var listed []source.Folder
	planned := plans(&j, to)
	if cat == nil || planned {
		if listed, err = src.Folders(ctx); err != nil {
			return report, Blame(from, err)
		}
	}
	choose, labels := filter.choose, map[mail.Path]string(nil)
	if planned {
		p, err := plan(ctx, &j, account, listed, filter, to, cat)
		if err == nil {
			err = filter.unused()
		}
		if err != nil {
			return report, Blame(where, err)
		}
		if r.Planned != nil {
			if err := r.Planned(p); err != nil {
				return report, err
			}
		}
		choose = p.choose()
		if labels = p.Labels; j.Dedup == "" && (labels != nil || p.Copies) {
			dedup = pipeline.DedupArchive // one message, many labels; or one upload, many copies
		}
	}
	if j.DryRun {
		return report, nil
	}
	if cat == nil {
		if cat, err = r.admit(ctx, home, account, to, j); err != nil {
			return report, err
		}
		defer func() { err = errors.Join(err, cat.Close()) }()
	}
	p := &pipeline.Pipeline{
		Source: src, Sink: to, Catalog: cat, Account: account, Listed: listed,
		Spool: spool.New(home.StateDir(), spool.Budget),
		Options: pipeline.Options{Folders: choose, Dedup: dedup, Flags: flags, MaxSize: j.MaxSize, Remove: j.Remove,
			Most: j.Most, Resend: j.Resend, Refill: j.Refill, Rebind: j.Rebind, Share: len(j.Maps) > 0, Labels: labels, Sleep: r.Sleep},
		Observe: r.Observe,
	}
	report, err = p.Run(ctx)
	err = Blame(from, err)
	if err == nil && !planned {
		err = filter.unused()
	}
	return report, err
}

// Blame adds to an error of an account which one it is.
func Blame(l location.Location, err error) error {
	if err == nil || mail.ScopeOf(err, mail.ScopeRun) != mail.ScopeAccount {
		return err
	}
	return fmt.Errorf("%s: %w", location.Location{Scheme: l.Scheme, User: l.User, Host: l.Host}, err)
}

// admit opens the catalog and lets the account in.
func (r *Runner) admit(ctx context.Context, home catalog.Home, account string, to sink.Sink, j Job) (*catalog.Catalog, error) {
	cat, err := catalog.Open(ctx, home, true, r.Doing)
	if err != nil {
		return nil, err
	}
	_, elsewhere := to.(sink.Remote) // there the catalog is not what the user sees: any account may come
	if err := cat.Admit(ctx, account, j.AddAccount || elsewhere); err != nil {
		cat.Close()
		return nil, err
	}
	return cat, nil
}

// Account is the name of a source in the catalog: protocol family, user and
// host. It is the same with and without TLS.
func Account(l location.Location) string {
	if l.Host == "" {
		return l.Scheme + ":" + absolute(l.Path)
	}
	family := strings.TrimSuffix(l.Scheme, "s")
	return family + ":" + l.User + "@" + strings.ToLower(l.Hostname())
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// apart refuses an archive within the files that it is made of, and files
// within their archive: a run would read what it writes.
func apart(from location.Location, archive string) error {
	if from.Host != "" {
		return nil
	}
	a, b := absolute(from.Path)+string(filepath.Separator), absolute(archive)+string(filepath.Separator)
	if strings.HasPrefix(a, b) || strings.HasPrefix(b, a) {
		return location.Wrong("choose a directory outside of it", "%s and %s lie within each other", from.Path, archive)
	}
	return nil
}

// home finds out where the archive of a sink is, or, for one elsewhere, where
// its catalog lies.
func (r *Runner) home(raw, into string, s sink.Sink) (catalog.Home, error) {
	l, _, err := r.Sinks.Check(raw, r.Env.Home)
	if err != nil {
		return catalog.Home{}, err
	}
	h := catalog.Home{Format: l.Scheme}
	switch s := s.(type) {
	case sink.Local:
		h.Dir, h.State = s.Home()
	case sink.Remote:
		if r.State == "" {
			return h, location.Wrong("set HOME or XDG_STATE_HOME", "%s: there is no directory to remember in what was brought there", l)
		}
		identity := s.Identity()
		if into != "" {
			identity += "/" + into // a destination of its own: what lies elsewhere in the account is not there
		}
		h.Dir, h.State = filepath.Join(r.State, remoteName(identity)), ".mailhaul"
		h.Format = strings.TrimSuffix(l.Scheme, "s") // with and without TLS it is the same place
		return h, nil
	default:
		return h, location.Wrong("", "%s: not a place for an archive", l)
	}
	h.Layout = layoutOf(l.Option)
	return h, nil
}

// remoteName is an identity as the name of a directory: readable, and unique by
// what stands at its end.
func remoteName(identity string) string {
	sum := sha256.Sum256([]byte(identity))
	readable := strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("@.-", c) {
			return c
		}
		return '_'
	}, identity)
	return readable[:min(len(readable), 80)] + "-" + hex.EncodeToString(sum[:4])
}

// dedupOf is the scope asked for, or what suits the destination: links cost
// nothing and keep every folder complete; files of many messages are better
// off complete each; a mailbox that all folders are delivered to gets each
// message once. Of a server whose folders are labels, or that copies from one to
// another, its layout tells, later.
func dedupOf(name string, s sink.Sink, h catalog.Home) (pipeline.Dedup, error) {
	switch name {
	case "folder":
		return pipeline.DedupFolder, nil
	case "archive":
		return pipeline.DedupArchive, nil
	case "off":
		return pipeline.DedupOff, nil
	case "":
		if h.Format == "maildir" || h.Format == "smtp" || h.Format == "lmtp" {
			return pipeline.DedupArchive, nil
		}
		if _, ok := s.(sink.Remote); ok {
			return pipeline.DedupOff, nil
		}
		return pipeline.DedupFolder, nil
	}
	return 0, location.Wrong("it is folder, archive or off", "--dedup %s", name)
}

// flagsOf is how often flags are compared that the server does not tell, or
// what suits the destination: in mbox hardly anybody looks at them.
func flagsOf(name string, h catalog.Home) (pipeline.Flags, error) {
	switch {
	case name == "always" || name == "" && h.Format != "mbox":
		return pipeline.FlagsAlways, nil
	case name == "daily" || name == "":
		return pipeline.FlagsDaily, nil
	case name == "never":
		return pipeline.FlagsNever, nil
	}
	return 0, location.Wrong("it is always, daily or never", "--flags %s", name)
}

// ErrNoFolder is returned when a pattern fits no folder.
var ErrNoFolder = errors.New("no such folder")

// A filter chooses folders by patterns.
type filter struct {
	in, out []pattern
	seen    []mail.Path
}

func newFilter(in, out []string) (*filter, error) {
	f := &filter{}
	for _, s := range in {
		f.in = append(f.in, pattern{text: s})
	}
	for _, s := range out {
		f.out = append(f.out, pattern{text: s})
	}
	for _, p := range append(f.in, f.out...) {
		if strings.Trim(p.text, "/") == "" {
			return nil, location.Wrong("write the folder as 'mailhaul folders' shows it; * fits any letters but /, ** fits those too", "an empty folder pattern")
		}
	}
	return f, nil
}

func (f *filter) choose(folder source.Folder) (mail.Path, bool) {
	f.seen = append(f.seen, folder.Path)
	chosen := len(f.in) == 0
	for i := range f.in {
		chosen = f.in[i].fits(folder.Path) || chosen
	}
	for i := range f.out {
		if f.out[i].fits(folder.Path) {
			chosen = false
		}
	}
	return folder.Path, chosen
}

// unused names a pattern that fitted nothing: probably a slip.
func (f *filter) unused() error {
	var names []string
	for _, p := range f.seen {
		names = append(names, string(p))
	}
	for _, p := range append(append([]pattern(nil), f.in...), f.out...) {
		if p.used {
			continue
		}
		hint := "'mailhaul folders' lists what there is"
		if n := location.Nearest(p.text, names); n != "" {
			hint = "did you mean " + mail.Clean(n) + "?"
		}
		return &patternError{p.text, hint}
	}
	return nil
}

type patternError struct{ pattern, hint string }

func (e *patternError) Error() string {
	return fmt.Sprintf("%s: %v", mail.Clean(e.pattern), ErrNoFolder)
}
func (e *patternError) Unwrap() error { return ErrNoFolder }
func (e *patternError) Hint() string  { return e.hint }

// A pattern fits a folder and everything below it. "*" stands for any letters
// within one level, "**" for any at all, "?" for one letter.
type pattern struct {
	text string
	used bool
}

func (p *pattern) fits(path mail.Path) bool {
	text := strings.Trim(p.text, "/")
	for at := path; at != ""; at = at.Parent() {
		if glob(text, string(at)) || strings.EqualFold(text, string(mail.Inbox)) && at == mail.Inbox {
			p.used = true
			return true
		}
	}
	return false
}

func glob(pattern, name string) bool {
	for pattern != "" {
		switch {
		case strings.HasPrefix(pattern, "**"):
			for i := 0; i <= len(name); i++ {
				if glob(pattern[2:], name[i:]) {
					return true
				}
			}
			return false
		case pattern[0] == '*':
			for i := 0; i <= len(name); i++ {
				if glob(pattern[1:], name[i:]) {
					return true
				}
				if i < len(name) && name[i] == '/' {
					break
				}
			}
			return false
		case name == "":
			return false
		case pattern[0] == '?' && name[0] != '/':
			n := 1
			for n < len(name) && name[n]&0xc0 == 0x80 { // one letter of several bytes
				n++
			}
			pattern, name = pattern[1:], name[n:]
		case pattern[0] == name[0]:
			pattern, name = pattern[1:], name[1:]
		default:
			return false
		}
	}
	return name == ""
}
