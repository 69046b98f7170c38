package job

import (
	"context"
	"fmt"
	"strings"

	"mailhaul/internal/catalog"
	"mailhaul/internal/folderplan"
	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/sink"
	"mailhaul/source"
)

// A Plan says what a job is about to do.
type Plan struct {
	Lines []folderplan.Line
	Free  int64 // octets that the destination has room for; -1: not told
	Most  int64 // octets of one message that it takes; 0: not told

	Copies bool                 // the destination copies messages from folder to folder
	Labels map[mail.Path]string // where the destination's folders are labels: what those are for that it has
}

// Bytes is what the folders of the plan hold together, as far as it is told;
// known is false where a folder does not tell.
func (p *Plan) Bytes() (n int64, known bool) {
	known = true
	for _, l := range p.Lines {
		if l.Skip == "" {
			n += max(l.From.Bytes, 0)
			known = known && l.From.Bytes >= 0
		}
	}
	return n, known
}

// plans reports whether the folders of j need a plan: a tree of folders of the
// destination's own, or wishes of the user.
func plans(j *Job, to sink.Sink) bool {
	_, planned := to.(sink.Planned)
	return planned || len(j.Maps) > 0 || j.Into != ""
}

// plan decides where the chosen folders go. An account's earlier decisions are
// in cat, which may be nil.
func plan(ctx context.Context, j *Job, account string, folders []source.Folder, f *filter, to sink.Sink, cat *catalog.Catalog) (*Plan, error) {
	var rules folderplan.Rules
	for _, text := range j.Maps {
		m, err := folderplan.ParseMap(text)
		if err != nil {
			return nil, err
		}
		rules.Maps = append(rules.Maps, m)
	}
	rules.Into = mail.Path(strings.Trim(j.Into, "/"))
	var chosen []source.Folder
	for _, folder := range folders {
		if _, ok := f.choose(folder); ok {
			chosen = append(chosen, folder)
		}
	}
	p := &Plan{Free: -1}
	var there []sink.Standing
	dest := folderplan.Dest{Delimiter: '/', Plain: true}
	if s, ok := to.(sink.Planned); ok {
		l, err := s.Layout(ctx)
		if err != nil {
			return nil, err
		}
		dest = folderplan.Dest{Delimiter: l.Delimiter, Prefix: l.Prefix, Gmail: l.Gmail}
		there = l.Folders
		for _, x := range there {
			dest.Folders = append(dest.Folders, source.Folder{Path: x.Path, Raw: x.Raw, Role: x.Role, Messages: x.Messages, Bytes: -1})
		}
		p.Free, p.Most, p.Copies = l.Free, l.Most, l.Copies
		if l.Gmail {
			p.Labels = map[mail.Path]string{}
			for _, x := range l.Folders {
				p.Labels[x.Path] = x.Role
			}
		}
	}
	var pinned map[mail.Path]mail.Path
	if cat != nil {
		boxes, err := cat.Boxes(ctx)
		if err != nil {
			return nil, err
		}
		pinned = boxes[account]
	}
	// What was brought over before makes both sides alike.
	if len(pinned) == 0 && j.Into == "" && twins(folders, there) {
		return nil, location.Wrong("if it is: name one folder of it, and another one to put its mail into",
			"source and destination seem to be one account under two names: every folder has the same UIDVALIDITY, UIDNEXT and number of messages")
	}
	var err error
	p.Lines, err = folderplan.Make(chosen, dest, rules, pinned)
	return p, err
}

// twins reports whether a source and a destination are the same account though
// their names differ: each folder with mail is on the other side as it is here.
func twins(from []source.Folder, to []sink.Standing) bool {
	prints := map[string]string{}
	for _, s := range to {
		prints[s.Raw] = s.Print
	}
	some := false
	for _, f := range from {
		if f.Messages > 0 && (f.Print == "" || f.Print != prints[f.Raw]) {
			return false
		}
		some = some || f.Messages > 0
	}
	return some
}

// choose is the pipeline's view of a plan.
func (p *Plan) choose() func(source.Folder) (mail.Path, bool) {
	to := map[mail.Path]mail.Path{}
	for _, l := range p.Lines {
		if l.Skip == "" {
			to[l.From.Path] = l.To
		}
	}
	return func(f source.Folder) (mail.Path, bool) {
		t, ok := to[f.Path]
		return t, ok
	}
}

// loop refuses to bring an account's mail into itself: every run would find
// the copies that the one before has made (RELIABILITY, row D10).
func loop(from location.Location, to location.Location, into string) error {
	if from.Host == "" || to.Host == "" || Account(from) != Account(to) || from.HostPort("") != to.HostPort("") {
		return nil
	}
	top, below := strings.Trim(from.Path, "/"), strings.Trim(into, "/")
	if top != "" && below != "" && !mail.Path(below).Within(mail.Path(top)) && !mail.Path(top).Within(mail.Path(below)) {
		return nil
	}
	return location.Wrong("name one folder of it and another one to put its mail into: "+from.Scheme+"://USER@HOST/Old and --into New",
		"source and destination are the same account (%s)", mail.Clean(fmt.Sprint(from.User, "@", from.Host)))
}
