// Package folderplan decides where the folders of one account go in another,
// before anything is written there. It does no I/O: the same account, the same
// destination and the same rules give the same plan, in whatever order the
// folders are told.
//
// What must stay true:
//
//   - Two folders never meet in one, unless a --map says so in so many words.
//   - A folder stays where an earlier run has put it, whatever has changed on
//     either side since.
//   - Every name in the plan is one that the destination can hold.
//   - Nothing is left out but views of mail that lies in other folders, and
//     the plan says so.
package folderplan

import (
	"slices"
	"strings"

	"mailhaul/internal/foldername"
	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/source"
)

// A Dest is what a plan must know of the destination.
type Dest struct {
	Folders   []source.Folder // what is there already, with roles and raw names
	Delimiter byte            // of its hierarchy; 0: it has none, all folders lie side by side
	Prefix    mail.Path       // of the personal namespace (RFC 2342): "INBOX" where everything lies below the inbox; usually empty
	Gmail     bool            // folders are labels, those of the system lie below [Gmail]
	Plain     bool            // files or an archive: a folder that is there under the same name is the one, whatever the roles
}

// Rules are the wishes of the user.
type Rules struct {
	Maps []Map     // the first that fits a folder counts
	Into mail.Path // put everything below this folder; empty: no
}

// A Line says where one folder goes.
type Line struct {
	From   source.Folder
	To     mail.Path
	Exists bool   // at the destination
	Why    string // empty, or why To is not the same as From: "--map", "special use: sent"
	Note   string // empty, or what else there is to know: that the folder holds the others' mail again, where that is stored twice
	Skip   string // empty, or why the folder is not brought over; To is empty then
}

// Make plans where each folder of from goes. A folder that pinned names goes
// where that says: an earlier run put it there. For the others the rules are,
// in this order:
//
//   - The first --map that fits. Several folders may be mapped to one, or to
//     one that another folder goes to anyhow; equal messages are then kept as
//     often as they occur. Everything else concerns only folders that no --map
//     fits.
//   - Views (\Flagged, \Important) are left out.
//   - Where all folders of the source lie below its INBOX, they are taken for
//     what they mean: top folders.
//   - Sent mail goes to the folder for sent mail, whatever either side calls
//     it, and so do drafts, trash, junk and archive. What a side says of its
//     folders comes before what their names say; there is one folder for each
//     purpose. Folders below such a folder go with it.
//   - Gmail's [Gmail] is no folder elsewhere.
//   - With Into everything lies below that, INBOX too, under its own name.
//   - What the destination cannot hold in a name is replaced by "_"; a name
//     that is too long is cut. Where two folders would meet, or where the
//     destination has a folder whose name differs in case only, the name gets
//     "~" and 8 digits of the SHA-256 of the source's raw name.
//
// The lines come with INBOX first and the others by name. An error is one of
// usage: a --map that fits no folder.
func Make(from []source.Folder, to Dest, rules Rules, pinned map[mail.Path]mail.Path) ([]Line, error) {
	rules.Into = mail.Path(strings.Trim(string(rules.Into), "/"))
	p := newPlan(from, to, rules, pinned)
	if err := p.used(); err != nil {
		return nil, err
	}
	// Each step settles folders for good; those of later steps make way. What
	// is sure comes first.
	for _, step := range []func(*line){
		p.pin, p.byMap, p.skip, p.byRole, p.same, p.asItIs, p.changed,
	} {
		for _, l := range p.lines {
			if !l.settled {
				step(l)
			}
		}
	}
	out := make([]Line, len(p.lines))
	for i, l := range p.lines {
		out[i] = l.Line
	}
	return out, nil
}

// A plan is being made.
type plan struct {
	to     Dest
	rules  Rules
	pinned map[mail.Path]mail.Path
	lines  []*line
	byPath map[mail.Path]*line
	strip  bool // all folders of the source lie below INBOX

	exists   map[mail.Path]bool
	keys     map[string]mail.Path    // the first path with a key, there or planned
	claimed  map[mail.Path]claim     // planned destinations
	renamed  map[mail.Path]mail.Path // where the folders mapped to a path went instead
	roleAt   map[mail.Path]string    // of source folders
	roleGoes map[string][]candidate  // of destination folders, best first
}

type line struct {
	Line
	settled bool
	mapped  bool
}

// A claim is held by folders that were mapped to a path, or by one that was
// not, or by both.
type claim struct{ own, mapped bool }

func newPlan(from []source.Folder, to Dest, rules Rules, pinned map[mail.Path]mail.Path) *plan {
	p := &plan{to: to, rules: rules, pinned: pinned, byPath: map[mail.Path]*line{}, exists: map[mail.Path]bool{},
		keys: map[string]mail.Path{}, claimed: map[mail.Path]claim{}, renamed: map[mail.Path]mail.Path{}}
	for _, f := range from {
		if p.byPath[f.Path] != nil {
			continue // the same folder told twice
		}
		l := &line{Line: Line{From: f}}
		p.byPath[f.Path] = l
		p.lines = append(p.lines, l)
	}
	slices.SortFunc(p.lines, func(a, b *line) int { return byName(a.From.Path, b.From.Path) })
	p.strip = belowInbox(from)
	p.roleAt = p.sourceRoles()
	p.roleGoes = p.destRoles()
	there := []mail.Path{mail.Inbox}
	for _, f := range to.Folders {
		there = append(there, f.Path)
	}
	slices.SortFunc(there, byName)
	for _, path := range there {
		p.exists[path] = true
		if k := foldername.Key(path); p.keys[k] == "" {
			p.keys[k] = path
		}
	}
	return p
}

// byName orders INBOX first, and a folder before those below it.
func byName(a, b mail.Path) int {
	switch {
	case a == b:
		return 0
	case a == mail.Inbox:
		return -1
	case b == mail.Inbox:
		return 1
	}
	return strings.Compare(string(a), string(b))
}

// belowInbox reports whether all folders lie below INBOX because the server
// has no other place for them.
func belowInbox(from []source.Folder) bool {
	some := false
	for _, f := range from {
		if f.Path == mail.Inbox {
			continue
		}
		const top = "INBOX"
		if len(f.Raw) <= len(top)+1 || !strings.EqualFold(f.Raw[:len(top)], top) || f.Raw[len(top)] != '.' && f.Raw[len(top)] != '/' || len(f.Path.Parts()) < 2 {
			return false
		}
		some = true
	}
	return some
}

// pin keeps a folder where an earlier run has put it.
func (p *plan) pin(l *line) {
	to, ok := p.pinned[l.From.Path]
	if !ok {
		return
	}
	if want, ok := p.mapOf(l); ok && want == to {
		l.mapped = true
	}
	why := ""
	if to != l.From.Path {
		why = "as in an earlier run"
	}
	p.settle(l, to, why)
}

// byMap sends a folder where a --map says.
func (p *plan) byMap(l *line) {
	want, ok := p.mapOf(l)
	if !ok {
		return
	}
	l.mapped = true
	if to, ok := p.renamed[want]; ok {
		p.settle(l, to, "--map")
		return
	}
	to, why := p.makeable(want, "--map", l)
	if to != want {
		p.renamed[want] = to
	}
	p.settle(l, to, why)
}

// mapOf is where the first --map that fits sends a folder.
func (p *plan) mapOf(l *line) (mail.Path, bool) {
	for i := range p.rules.Maps {
		if to, ok := p.rules.Maps[i].apply(l.From.Path); ok {
			return p.place(to, true), true
		}
	}
	return "", false
}

// skip leaves out what shows mail that lies elsewhere.
func (p *plan) skip(l *line) {
	switch l.From.Role {
	case "flagged", "important":
		l.Skip = "a view: its messages lie in other folders too"
		l.settled = true
	}
}

// byRole sends a folder to the one for the same purpose.
func (p *plan) byRole(l *line) {
	if p.to.Plain && p.exists[l.From.Path] && p.rules.Into == "" && !p.claimed[l.From.Path].own {
		p.settle(l, l.From.Path, "")
		return
	}
	role := p.roleAt[l.From.Path]
	if role == "" || p.rules.Into != "" {
		return
	}
	if to, ok := p.counterpart(role, l); ok && !p.claimed[to].own {
		p.settle(l, to, "special use: "+role)
	}
}

// same takes the folder of the same name where there is one.
func (p *plan) same(l *line) {
	if want, why := p.wanted(l); p.exists[want] && p.clash(want, l) == "" {
		p.settle(l, want, why)
	}
}

// asItIs settles names that the destination can hold.
func (p *plan) asItIs(l *line) {
	if want, _ := p.wanted(l); p.clean(want).path == want {
		p.changed(l)
	}
}

// changed settles what is left.
func (p *plan) changed(l *line) {
	want, why := p.wanted(l)
	to, why := p.makeable(want, why, l)
	if with, ok := p.renamed[want]; ok && !p.claimed[with].own {
		to = with // those mapped to its name could not go there either
	}
	p.settle(l, to, why)
}

// settle puts a folder into the plan.
func (p *plan) settle(l *line, to mail.Path, why string) {
	l.settled, l.To, l.Exists = true, to, p.exists[to]
	if to != l.From.Path {
		l.Why = why
	}
	if l.From.Role == "all" && !p.to.Gmail {
		l.Note = "it holds the messages of the other folders again"
	}
	c := p.claimed[to]
	p.claimed[to] = claim{c.own || !l.mapped, c.mapped || l.mapped}
	if k := foldername.Key(to); p.keys[k] == "" {
		p.keys[k] = to
	}
}

// wanted is where a folder goes by its name, if that can be.
func (p *plan) wanted(l *line) (mail.Path, string) {
	if to, ok := p.follow(l); ok {
		return to, "it goes with the folder around it"
	}
	own, why := p.ownName(l.From.Path)
	to := p.place(own, false)
	switch {
	case p.rules.Into != "":
		why = "--into"
	case to != own:
		why = "the destination's folders lie below " + mail.Clean(string(p.to.Prefix))
	}
	return to, why
}

// follow is where a folder goes when one around it went elsewhere than its own
// name says. What was mapped went alone: the user has said which folders.
func (p *plan) follow(l *line) (mail.Path, bool) {
	for at := l.From.Path.Parent(); at != "" && at != mail.Inbox; at = at.Parent() {
		around := p.byPath[at]
		if around == nil || !around.settled || around.Skip != "" {
			continue
		}
		own, _ := p.ownName(at)
		if around.To == p.place(own, false) || around.mapped || around.To == mail.Inbox || ofGmail(around.To.Parts()) {
			return "", false
		}
		if top := p.top(); top != "" && !around.To.Within(top) {
			return "", false
		}
		return around.To + l.From.Path[len(at):], true
	}
	return "", false
}

// ownName is the name of a folder without what is no name but the way its
// server writes it.
func (p *plan) ownName(path mail.Path) (mail.Path, string) {
	_, rest, deep := strings.Cut(string(path), "/")
	switch {
	case !deep || rest == "":
	case strings.EqualFold(strings.SplitN(rest, "/", 2)[0], string(mail.Inbox)): // it would be another one's
	case p.strip:
		return mail.Path(rest), "the source's folders lie below INBOX"
	case ofGmail(path.Parts()) && !(p.to.Gmail && p.exists[path]):
		return mail.Path(rest), "only Gmail has " + path.Parts()[0]
	}
	return path, ""
}

// ofGmail reports whether a folder lies where Gmail keeps those of the system,
// and lets nobody make another.
func ofGmail(parts []string) bool {
	return len(parts) > 1 && (strings.EqualFold(parts[0], "[Gmail]") || strings.EqualFold(parts[0], "[Google Mail]"))
}

// place puts a folder below --into and the destination's prefix. A user who
// knows of the prefix may have written it.
func (p *plan) place(path mail.Path, user bool) mail.Path {
	if p.rules.Into != "" {
		path = p.rules.Into + "/" + path
	} else if path == mail.Inbox {
		return path
	}
	prefix := p.to.Prefix
	if prefix == "" || path.Within(prefix) && (user || prefix == mail.Inbox) {
		return path
	}
	return prefix + "/" + path
}

// top is the folder that all lie below, or "".
func (p *plan) top() mail.Path {
	if p.rules.Into != "" {
		return p.place("x", false).Parent()
	}
	return p.to.Prefix
}

// used refuses a --map that fits nothing: it is probably a slip.
func (p *plan) used() error {
	var names []string
	for _, l := range p.lines {
		for at := l.From.Path; at != ""; at = at.Parent() {
			names = append(names, string(at))
		}
	}
	for i := range p.rules.Maps {
		m := &p.rules.Maps[i]
		if slices.ContainsFunc(p.lines, func(l *line) bool { _, ok := m.apply(l.From.Path); return ok }) {
			continue
		}
		hint := "'mailhaul folders' lists what there is"
		if n := location.Nearest(m.from, names); n != "" {
			hint = "did you mean " + mail.Clean(n) + "?"
		}
		return location.Wrong(hint, "--map %s: no such folder", mail.Clean(m.String()))
	}
	return nil
}
