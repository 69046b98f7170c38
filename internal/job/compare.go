package job

import (
	"context"
	"errors"
	"strings"

	"mailhaul/internal/compare"
	"mailhaul/internal/folderplan"
	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/source"
)

// A Comparison says what to compare with what.
type Comparison struct {
	From, To string   // locations of sources
	Folders  []string // patterns for folders of From; none: all
	Exclude  []string // patterns, stronger than Folders
	Rules    folderplan.Rules
	Lines    []folderplan.Line                           // which folder belongs to which, where that is known; nil: by Rules
	Where    func(source.Folder) (to mail.Path, ok bool) // likewise, a folder at a time; false: it is not at To
	Full     bool                                        // read every message on both sides
	NoFlags  bool                                        // leave flags out of it
	NoDates  bool                                        // leave dates of arrival out of it

	Planned  func(messages int64) // told once how many there are, as far as that is known
	Progress func(folder mail.Path, messages, bytes int64)
	Found    func(compare.Finding)
}

// Compare opens both places, works out which folder belongs to which and
// compares them. The result is valid when it is not nil, also with an error.
func (r *Runner) Compare(ctx context.Context, c Comparison) (result *compare.Result, err error) {
	filter, err := newFilter(c.Folders, c.Exclude)
	if err != nil {
		return nil, err
	}
	from, fromAt, _, err := r.Source(ctx, c.From)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	there := *r
	if r.ToSecret != nil {
		there.Env.Secret = r.ToSecret
	}
	to, toAt, _, err := there.Source(ctx, c.To)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	if same(fromAt, toAt) && c.Lines == nil && c.Where == nil && len(c.Rules.Maps) == 0 && c.Rules.Into == "" {
		return nil, location.Wrong("name two places, or say with --map which folder belongs to which", "%s: FROM and TO are the same", fromAt)
	}
	fromFolders, err := from.Folders(ctx)
	if err != nil {
		return nil, Blame(fromAt, err)
	}
	toFolders, err := to.Folders(ctx)
	if err != nil {
		return nil, Blame(toAt, err)
	}
	lines := c.Lines
	if c.Where != nil {
		lines = nil
		for _, f := range fromFolders {
			to, ok := c.Where(f)
			lines = append(lines, folderplan.Line{From: f, To: to, Exists: ok})
		}
	} else if lines == nil {
		dest := folderplan.Seen(toFolders)
		dest.Plain = toAt.Host == ""
		if lines, err = folderplan.Make(fromFolders, dest, c.Rules, nil); err != nil {
			return nil, err
		}
	}
	todo := compare.Comparison{From: from, To: to, Full: c.Full, Found: c.Found, Progress: c.Progress, Sleep: r.Sleep,
		// POP3 keeps no flags: there is nothing to be other.
		NoFlags: c.NoFlags || pop3(fromAt) || pop3(toAt), NoDates: c.NoDates}
	todo.Lines, todo.Others = chosen(filter, lines, toFolders)
	if c.Planned != nil {
		c.Planned(expected(todo.Lines, toFolders))
	}
	if result, err = compare.Run(ctx, todo); err != nil {
		return result, blameEither(fromAt, toAt, err)
	}
	return result, filter.unused()
}

func pop3(l location.Location) bool { return strings.HasPrefix(l.Scheme, "pop3") }

func same(a, b location.Location) bool {
	return Account(a) == Account(b) && (a.Host == "" || a.Path == b.Path && a.Host == b.Host)
}

// chosen are the lines of folders that are wanted, and the folders that no line
// leads to, wanted or not.
func chosen(f *filter, all []folderplan.Line, there []source.Folder) (lines []folderplan.Line, others []source.Folder) {
	led := map[mail.Path]bool{}
	for _, l := range all {
		led[l.To] = true
		if _, ok := f.choose(l.From); ok {
			lines = append(lines, l)
		}
	}
	for _, o := range there {
		if o.Path == mail.Inbox && o.Messages == 0 {
			continue // every account has one
		}
		if _, ok := f.choose(o); ok && !led[o.Path] && o.Role != "flagged" && o.Role != "important" {
			others = append(others, o)
		}
	}
	return lines, others
}

// expected is how many messages will be looked at, as far as both sides tell.
func expected(lines []folderplan.Line, there []source.Folder) (n int64) {
	in := map[mail.Path]int64{}
	for _, f := range there {
		in[f.Path] = max(f.Messages, 0)
	}
	for _, l := range lines {
		if l.Skip == "" {
			n += max(l.From.Messages, 0) + in[l.To]
			delete(in, l.To) // once, however many lead there
		}
	}
	return n
}

// blameEither adds which account an error is of, where that is known.
func blameEither(from, to location.Location, err error) error {
	var side *compare.SideError
	switch {
	case !errors.As(err, &side) || mail.ScopeOf(err, mail.ScopeRun) != mail.ScopeAccount:
		return err
	case side.From:
		return Blame(from, side.Err)
	}
	return Blame(to, side.Err)
}
