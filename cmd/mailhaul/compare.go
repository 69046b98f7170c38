package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailhaul/internal/compare"
	"mailhaul/internal/folderplan"
	"mailhaul/internal/job"
	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/internal/pipeline"
)

const compareHelp = `
mailhaul compare FROM TO

Looks whether every message of FROM is at TO, the same and as often, with the
same flags and date of arrival: what a move from one account to another is
checked by. Both are accounts, archives of mailhaul, or files that mail can be
brought from, as in 'mailhaul backup'. Nothing is changed on either side.

Folders belong together as 'mailhaul migrate' would bring them: by name, by
what they are for (Sent Items and Gesendet), by --map. --map 'Old/*=New/*' says
which folder is which, with names as 'mailhaul folders' shows them: * stands
for any letters but /, ** for those too, and fills the * on the right. Without
a * a folder means all below it, too. Folders mapped to one are compared
together. --into says that all of FROM lies below a folder of TO.

Messages are the same when their SHA-256 is; unless both sides have the bytes at
hand, when that of the header is, and the size. --full reads every message on
both sides and compares the whole. A message with the same Message-ID and about the same
size is called changed; what has no counterpart is missing (in FROM only) or
extra (in TO only, which is no difference: mail may have come in there).

Exit code 0: nothing is missing, changed, unreadable, or has other flags or
dates (but for what --ignore names); 3: something is, and it is named on
standard error, the first thousand; --json names all.
`

func (a *app) compare() *cobra.Command {
	var j job.Comparison
	var maps, ignore []string
	var into string
	c := &cobra.Command{
		Use:   "compare FROM TO",
		Short: "Look whether all mail of one place is at another",
		Long:  compareHelp,
		Args:  arguments(2, "compare FROM TO"),
		RunE: func(c *cobra.Command, args []string) error {
			j.From, j.To = args[0], args[1]
			if err := a.withOptions(&j.From, &j.To); err != nil {
				return err
			}
			for _, s := range maps {
				m, err := folderplan.ParseMap(s)
				if err != nil {
					return err
				}
				j.Rules.Maps = append(j.Rules.Maps, m)
			}
			j.Rules.Into = mail.Path(into)
			for _, what := range ignore {
				if err := leaveOut(&j, what); err != nil {
					return err
				}
			}
			return a.compareBoth(c, j)
		},
	}
	f := c.Flags()
	f.StringArrayVar(&maps, "map", nil, "folders of FROM that are others at TO, `FROM=TO`; may be repeated, the first that fits counts")
	f.StringVar(&into, "into", "", "all of FROM lies below this `FOLDER` of TO")
	f.StringArrayVar(&j.Folders, "folder", nil, "only folders that fit `PATTERN`, and those below; may be repeated")
	f.StringArrayVar(&j.Exclude, "exclude", nil, "no folder that fits `PATTERN`, nor those below; may be repeated")
	f.BoolVar(&j.Full, "full", false, "read every message on both sides and compare the whole")
	f.StringSliceVar(&ignore, "ignore", nil, "leave `WHAT` out of it: flags, dates or both (flags,dates)")
	a.accountFlags(f)
	a.sideFlags(f)
	a.outputFlags(f)
	return c
}

// leaveOut takes one word of --ignore in.
func leaveOut(j *job.Comparison, what string) error {
	switch what {
	case "flags":
		j.NoFlags = true
	case "dates":
		j.NoDates = true
	default:
		return location.Wrong("it is flags or dates", "--ignore %s", mail.Clean(what))
	}
	return nil
}

// compared tells of messages that were looked at.
func (s *show) compared(folder mail.Path, messages, _ int64) {
	s.looked(folder)
	s.event(pipeline.Event{Time: time.Now(), Kind: checked, Folder: folder, Count: messages})
}

func (a *app) compareBoth(c *cobra.Command, j job.Comparison) error {
	a.interrupted = "nothing was changed; the comparison is not complete"
	a.twoServers = twoServers(j.From, j.To)
	show := a.showing(true)
	t := differences{show: show}
	j.Found = t.found
	j.Planned = func(messages int64) {
		show.event(pipeline.Event{Time: time.Now(), Kind: pipeline.Planned, Count: messages})
	}
	j.Progress = show.compared
	result, err := a.runner("mailhaul compare", nil).Compare(c.Context(), j)
	show.end()
	code := exitDone
	if result != nil && result.Differ() {
		code = exitPartly
	}
	if err != nil {
		code, _ = judge(c.Context(), err)
	}
	a.code = code
	if result == nil {
		result = &compare.Result{Folders: []compare.Folder{}}
	}
	t.report(result, code, err)
	return err
}

// differences are told while they are found: as JSON at once, as text up to a
// number of each kind.
type differences struct {
	show *show
	told map[string]int
}

// mostTold is how many differences of a kind are told as text.
const mostTold = 1000

// A differenceLine is a line of "compare --json".
type differenceLine struct {
	Time  string `json:"time"`
	Event string `json:"event"`
	compare.Finding
}

func (d *differences) found(f compare.Finding) {
	s := d.show
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.enc != nil {
		s.enc.Encode(differenceLine{time.Now().UTC().Format(time.RFC3339Nano), "differs", f})
		return
	}
	if d.told == nil {
		d.told = map[string]int{}
	}
	switch d.told[f.What]++; {
	case f.What == compare.Extra: // the table has their number
	case d.told[f.What] == mostTold+1:
		s.say("warning: more differences of this kind (%s) are not named; --json names all", f.What)
	case d.told[f.What] <= mostTold:
		s.say("warning: %s", sentence(f))
	}
}

// sentence is a finding as people say it.
func sentence(f compare.Finding) string {
	folder, id := f.From, f.FromID
	if folder == "" || id == "" && f.ToID != "" {
		folder, id = f.To, f.ToID
	}
	s := mail.Clean(string(folder))
	if f.From != "" && f.To != "" && f.From != f.To {
		s = mail.Clean(string(f.From)) + " and " + mail.Clean(string(f.To))
	}
	if id != "" {
		s += ": message " + mail.Clean(string(id))
	}
	if f.MessageID != "" {
		s += " " + mail.Clean(f.MessageID)
	}
	switch f.What {
	case compare.Missing:
		s += ": missing in TO"
	case compare.Extra:
		s += ": in TO only"
	case compare.Changed:
		s += ": changed"
	case compare.Flags:
		s += ": other flags"
	case compare.NoFlag:
		s += ": other flags"
	case compare.Date:
		s += ": another date"
	case compare.Unreadable:
		s += " of FROM cannot be read"
		if f.FromID == "" {
			s = strings.TrimSuffix(s, " of FROM cannot be read") + " of TO cannot be read"
		}
	}
	if f.Detail != "" {
		s += ": " + mail.Clean(f.Detail)
	}
	return s
}

func (d *differences) report(r *compare.Result, code int, err error) {
	a := d.show.app
	if a.json {
		line := struct {
			Time  string `json:"time"`
			Event string `json:"event"`
			Exit  int    `json:"exit"`
			Error string `json:"error,omitempty"`
			*compare.Result
		}{time.Now().UTC().Format(time.RFC3339Nano), "compared", code, "", r}
		if err != nil {
			line.Error = mail.Clean(err.Error())
		}
		json.NewEncoder(a.out).Encode(line)
		return
	}
	for _, f := range r.Folders {
		if f.Error != "" {
			a.warn("%s: not compared: %s", folderPair(f), f.Error)
		}
	}
	if a.quiet || len(r.Folders) == 0 {
		return
	}
	d.table(r)
}

// comparedColumns are those of the table; the ones that may be left out are
// when they are empty.
var comparedColumns = []struct {
	name string
	of   func(*compare.Counts) int64
	must bool
}{
	{"FROM", func(c *compare.Counts) int64 { return c.From }, true},
	{"TO", func(c *compare.Counts) int64 { return c.To }, true},
	{"SAME", func(c *compare.Counts) int64 { return c.Same }, true},
	{"MISSING", func(c *compare.Counts) int64 { return c.Missing }, true},
	{"CHANGED", func(c *compare.Counts) int64 { return c.Changed }, false},
	{"EXTRA", func(c *compare.Counts) int64 { return c.Extra }, false},
	{"FLAGS", func(c *compare.Counts) int64 { return c.Flags }, false},
	{"DATES", func(c *compare.Counts) int64 { return c.Dates }, false},
	{"FAILED", func(c *compare.Counts) int64 { return c.Failed }, false},
}

func (d *differences) table(r *compare.Result) {
	w := d.show.app.out
	used := slices.Clone(comparedColumns)
	for i := len(used) - 1; i >= 0; i-- {
		if !used[i].must && used[i].of(&r.Total) == 0 {
			used = slices.Delete(used, i, i+1)
		}
	}
	row := func(name string, c *compare.Counts) []string {
		cells := []string{name}
		for _, u := range used {
			cells = append(cells, number(u.of(c)))
		}
		return cells
	}
	t := table{{"FOLDER"}}
	for _, u := range used {
		t[0] = append(t[0], u.name)
	}
	var notes []string
	for i := range r.Folders {
		f := &r.Folders[i]
		if f.Skipped != "" {
			notes = append(notes, fmt.Sprintf("%s: not compared: %s", folderPair(*f), f.Skipped))
			continue
		}
		t = append(t, row(folderPair(*f), &f.Counts))
		switch {
		case len(f.From) == 0:
			notes = append(notes, folderPair(*f)+": this folder is in TO only")
		case f.Lacking:
			notes = append(notes, folderPair(*f)+": this folder is in FROM only")
		}
		if f.Note != "" {
			notes = append(notes, folderPair(*f)+": "+f.Note)
		}
	}
	t = append(t, row("TOTAL", &r.Total))
	t.print(w, 1)
	for _, n := range notes {
		fmt.Fprintln(w, n)
	}
	fmt.Fprintf(w, "%s\n", verdict(r))
}

func verdict(r *compare.Result) string {
	t := &r.Total
	if !r.Differ() {
		s := "all " + plural(t.From, "message") + " of FROM are in TO"
		if t.From == 1 {
			s = "the one message of FROM is in TO"
		}
		return s
	}
	var parts []string
	for _, p := range []struct {
		n    int64
		what string
	}{{t.Missing, "missing"}, {t.Changed, "changed"}, {t.Flags, "with other flags"}, {t.Dates, "with another date"}, {t.Failed, "failed"}} {
		if p.n > 0 {
			parts = append(parts, number(p.n)+" "+p.what)
		}
	}
	return fmt.Sprintf("of %s of FROM: %s", plural(t.From, "message"), strings.Join(parts, ", "))
}

// folderPair names a folder, and the one it is compared with where that has
// another name.
func folderPair(f compare.Folder) string {
	var from []string
	for _, p := range f.From {
		from = append(from, mail.Clean(string(p)))
	}
	name := strings.Join(from, ", ")
	switch {
	case len(f.From) == 0:
		return mail.Clean(string(f.To))
	case f.To == "" || len(f.From) == 1 && f.From[0] == f.To:
		return name
	}
	return name + " -> " + mail.Clean(string(f.To))
}
