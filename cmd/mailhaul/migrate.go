package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"mailhaul/internal/job"
	"mailhaul/internal/location"
	"mailhaul/internal/mail"
)

const migrateHelp = `
mailhaul migrate FROM TO

Brings every message of FROM that is not in the account TO yet, with flags,
keywords, internal date and folder tree. TO is an account (imaps://USER@HOST,
imap://USER@HOST) or one folder of it, below which everything goes
(imaps://USER@HOST/Old). FROM is an account too, or an archive of mailhaul, or
files of other programs. FROM is not changed; at TO nothing is ever deleted.

Before anything is written a plan says where each folder goes: sent mail to the
folder for sent mail, and so on, whatever either side calls it. On a terminal it
is shown and you are asked; --yes spares the question, --dry-run shows the plan
and ends. --map 'Old/*=New/*' sends folders elsewhere, --into FOLDER puts
everything below one folder; a folder stays where the first run has put it.

Run it again at any time: it brings what is new and the flags that have changed
at FROM since. What lies at TO already is recognised, also when mailhaul has
never been there or has forgotten (by Message-ID, header and size, and where
that does not tell, by the whole content); what cannot be told is brought.
What you move or delete at TO is not brought again, unless by --refill.

A folder that its server has renumbered, which a run says, is downloaded again
and compared; --rebind spares most of that, as 'mailhaul help backup' tells.

What has been brought is remembered in %s.
`

const restoreHelp = `
mailhaul restore ARCHIVE TO

Brings everything that an archive of mailhaul holds (mail/ann, mbox:mail/ann,
maildir:mail/ann) into the account TO (imaps://USER@HOST), or below one folder
of it (imaps://USER@HOST/Old mail), with the folders, flags, dates and line ends
that it had. What had gone from the server by the last backup comes too, unless
it lies in another folder; --present leaves it out. The archive is not changed.

It is a migration with an archive as its source: 'mailhaul help migrate' tells
of the plan, of running it again, and of mail that is there already.
`

func (a *app) migrate() *cobra.Command {
	var j job.Job
	c := a.moving(&j, "migrate FROM TO", "Bring an account to another provider", fmt.Sprintf(migrateHelp, a.stateDir()))
	rebindFlag(c.Flags(), &j)
	return c
}

func (a *app) restore() *cobra.Command {
	return a.moving(new(job.Job), "restore ARCHIVE TO", "Bring an archive back into an account", restoreHelp)
}

// moving makes a command that brings mail into an account.
func (a *app) moving(j *job.Job, form, short, long string) *cobra.Command {
	var size string
	var yes, comparing bool
	c := &cobra.Command{
		Use:   form,
		Short: short,
		Long:  long,
		Args:  arguments(2, form),
		RunE: func(c *cobra.Command, args []string) (err error) {
			j.From, j.To = args[0], args[1]
			if err := a.withOptions(&j.From, &j.To); err != nil {
				return err
			}
			if c.Flags().Changed("max-size") {
				if j.MaxSize, err = parseSize(size); err != nil {
					return err
				}
			}
			a.interrupted = "what was brought is remembered, run the same command again to go on"
			var plan *job.Plan
			a.planned = func(p *job.Plan) error {
				plan = p
				return a.agree(c.Context(), p, j, yes)
			}
			if err := a.transfer(c, *j); err != nil || !comparing || j.DryRun {
				return err
			}
			return a.compareMoved(c, *j, plan)
		},
	}
	f := c.Flags()
	f.StringArrayVar(&j.Folders, "folder", nil, "only folders that fit `PATTERN`, and those below; may be repeated")
	f.StringArrayVar(&j.Exclude, "exclude", nil, "no folder that fits `PATTERN`, nor those below; may be repeated")
	f.StringArrayVar(&j.Maps, "map", nil, "send folders elsewhere, `'OLD=NEW'`: 'Old/*=New/*'; may be repeated, the first that fits counts")
	f.BoolVar(&j.Live, "present", false, "of an archive: leave out what its server was last seen not to have")
	f.StringVar(&j.Into, "into", "", "put everything below `FOLDER`")
	f.StringVar(&size, "max-size", "", "leave out messages of more than `SIZE` bytes (500k, 25M, 2G)")
	f.BoolVar(&j.Refill, "refill", false, "bring again what has disappeared from the destination")
	f.BoolVar(&comparing, "compare", false, "compare both sides afterwards, as 'mailhaul compare' does")
	f.BoolVar(&j.DryRun, "dry-run", false, "show the plan and change nothing")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask")
	f.StringVar(&j.Flags, "flags", "", "where the server does not tell which flags have changed, compare them all `WHEN`: always, daily or never")
	a.accountFlags(f)
	a.sideFlags(f)
	a.outputFlags(f)
	return c
}

// compareMoved looks whether all is at the destination, by the plan that it was
// brought with. What the transfer itself had to complain of is not forgotten.
func (a *app) compareMoved(c *cobra.Command, j job.Job, p *job.Plan) error {
	code := a.code
	to, err := location.Parse(j.To, a.env().Home)
	if err != nil {
		return err
	}
	to.Path = "" // the plan has its folder
	lines := slices.Clone(p.Lines)
	for i := range lines {
		lines[i].Exists = true // by now
	}
	err = a.compareBoth(c, job.Comparison{From: j.From, To: to.String(), Folders: j.Folders, Exclude: j.Exclude, Lines: lines})
	if code != exitDone {
		a.code = code
	}
	return err
}

// errDeclined ends a job that its user does not want.
var errDeclined = fmt.Errorf("nothing was changed")

// agree shows a plan, and asks where there is somebody to ask.
func (a *app) agree(ctx context.Context, p *job.Plan, j *job.Job, yes bool) error {
	terminal := a.in != nil && term.IsTerminal(int(a.in.Fd()))
	switch {
	case j.DryRun && a.json:
		return a.planLines(p)
	case j.DryRun:
		a.printPlan(a.out, p)
		return nil
	case yes || !terminal:
		return nil
	}
	a.printPlan(a.err, p)
	fmt.Fprint(a.err, "go on? [y/N] ")
	answer := make(chan string, 1)
	go func() { // ends with the process at the latest: a read cannot be taken back
		line, _ := bufio.NewReader(a.in).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case s := <-answer:
		if s == "y" || s == "yes" {
			return nil
		}
		return errDeclined
	case <-ctx.Done():
		fmt.Fprintln(a.err)
		return context.Cause(ctx)
	}
}

// A planLine is a line of "--dry-run --json".
type planLine struct {
	Event    string    `json:"event"` // "plan"
	From     mail.Path `json:"from"`
	To       mail.Path `json:"to,omitempty"`
	Exists   bool      `json:"exists"`
	Messages int64     `json:"messages"`
	Bytes    int64     `json:"bytes"`
	Why      string    `json:"why,omitempty"`
	Note     string    `json:"note,omitempty"`
	Skip     string    `json:"skip,omitempty"`
}

func (a *app) planLines(p *job.Plan) error {
	enc := json.NewEncoder(a.out)
	for _, l := range p.Lines {
		err := enc.Encode(planLine{"plan", l.From.Path, l.To, l.Exists, l.From.Messages, l.From.Bytes, l.Why, l.Note, l.Skip})
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *app) printPlan(w io.Writer, p *job.Plan) {
	t := table{{"FOLDER", "GOES TO", "", "MESSAGES", "SIZE"}}
	var messages int64
	for _, l := range p.Lines {
		to, remark := mail.Clean(string(l.To)), l.Why
		switch {
		case l.Skip != "":
			to, remark = "-", l.Skip
		case l.Note != "":
			remark = strings.TrimPrefix(remark+"; "+l.Note, "; ")
		}
		if !l.Exists && l.Skip == "" {
			remark = strings.TrimSuffix("new; "+remark, "; ")
		}
		if l.Skip == "" {
			messages += max(l.From.Messages, 0)
		}
		t = append(t, []string{mail.Clean(string(l.From.Path)), to, mail.Clean(remark), number(l.From.Messages), bytesOf(l.From.Bytes)})
	}
	bytes, known := p.Bytes()
	size := bytesOf(bytes)
	if !known {
		size = "?"
	}
	t = append(t, []string{plural(int64(len(p.Lines)), "folder"), "", "", number(messages), size})
	t.print(w, 3)
	if p.Free >= 0 {
		fmt.Fprintf(w, "The destination has room for %s.\n", bytesOf(p.Free))
		if p.Free < bytes {
			a.warn("that is less than the folders hold (%s); what is there already needs no room", bytesOf(bytes))
		}
	}
	if p.Most > 0 {
		fmt.Fprintf(w, "It takes messages of up to %s.\n", bytesOf(p.Most))
	}
}
