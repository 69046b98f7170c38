package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailhaul/internal/catalog"
	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/internal/pipeline"
)

const statusHelp = `
mailhaul status ARCHIVE

Tells what an archive is and how things stand: format, accounts, folders and
messages, the last runs and what became of them, and everything that is open:
messages that could not be brought over, with reason, tries and since when, those
of which nobody knows whether they have arrived (in doubt), those that the
archive had and has no more (lost), and those that you have accepted.

ARCHIVE is a directory (mail/ann) or a location (mbox:mail/ann); or a destination
that mail was migrated or delivered to (imaps://ann@new.example, or
smtp://ann@new.example with the --to of the delivery). Nobody is logged in to.

The ID in front of a message is what 'mailhaul accept' takes.

Exit code 0: nothing is open; 3: messages failed or are in doubt; 6: messages are
lost; 5: a run is at work on the archive just now.
`

const acceptHelp = `
mailhaul accept ARCHIVE ID...

Says of messages that could not be brought over, or are in doubt, that this is
all right: they are not fetched or sent again, do not count as failed, and do not
hold the exit code any longer. 'mailhaul status ARCHIVE' lists them and their
IDs: FOLDER/UID (INBOX/1234), or the UID alone where only one message has it.
--all is all of them.

They are remembered, also by the manifest, and 'mailhaul status' goes on to show
them. --undo takes it back: the next run tries again. A server that renumbers the
folder makes them new messages.

ARCHIVE is what 'mailhaul status' takes.
`

// mostRuns is how many runs are told of.
const mostRuns = 10

func (a *app) status() *cobra.Command {
	var recipients []string
	c := &cobra.Command{
		Use:   "status ARCHIVE",
		Short: "Tell what an archive is, and what is open",
		Long:  statusHelp,
		Args:  arguments(1, "status ARCHIVE"),
		RunE:  func(c *cobra.Command, args []string) error { return a.tellStatus(c.Context(), args[0], recipients) },
	}
	f := c.Flags()
	f.StringArrayVar(&recipients, "to", nil, "of a server that mail was delivered to: the `ADDRESS` that got it; may be repeated")
	a.outputFlags(f)
	return c
}

// A statusLine is what "status --json" prints.
type statusLine struct {
	Event    string          `json:"event"` // "status"
	Exit     int             `json:"exit"`
	Archive  string          `json:"archive"` // the directory, or that of the catalog of a destination elsewhere
	Format   string          `json:"format"`
	Layout   string          `json:"layout,omitempty"`
	Messages int64           `json:"messages"`
	Bytes    int64           `json:"bytes"`
	Folders  []statusFolder  `json:"folders"`
	Accounts []statusAccount `json:"accounts"`
	Runs     []statusRun     `json:"runs"` // the latest first
	Failed   []statusMessage `json:"failed"`
	InDoubt  []statusMessage `json:"in_doubt"`
	Accepted []statusMessage `json:"accepted"`
	Lost     []statusLost    `json:"lost"`
}

type statusFolder struct {
	Folder   mail.Path `json:"folder"`
	Messages int64     `json:"messages"`
	Bytes    int64     `json:"bytes"`
}

type statusAccount struct {
	Account  string `json:"account"`
	Folders  int64  `json:"folders"`
	Messages int64  `json:"messages"` // at its server, when it was last looked at
	Gone     int64  `json:"gone"`     // that it had before
}

type statusRun struct {
	Started string           `json:"started"`
	Ended   string           `json:"ended,omitempty"`
	Account string           `json:"account,omitempty"`
	Outcome string           `json:"outcome"`
	Total   *pipeline.Counts `json:"total,omitempty"`
	Error   string           `json:"error,omitempty"`

	failed, lost int
}

// Outcomes of a run.
const (
	runDone        = "done"
	runPartly      = "done, except for failures"
	runFailed      = "failed"
	runInterrupted = "interrupted"
	runDied        = "died"
	runRepaired    = "repaired"
)

type statusMessage struct {
	ID       string `json:"id"` // as accept takes it
	Account  string `json:"account"`
	Folder   string `json:"folder"`
	Reason   string `json:"reason"`
	Tries    int    `json:"tries"`
	First    string `json:"first"`
	Last     string `json:"last"`
	InDoubt  bool   `json:"in_doubt,omitempty"`
	Accepted string `json:"accepted,omitempty"`
}

type statusLost struct {
	Folder mail.Path `json:"folder"`
	Place  string    `json:"place"`
	SHA256 string    `json:"sha256"`
}

func (a *app) tellStatus(ctx context.Context, name string, recipients []string) error {
	cat, err := a.runner("mailhaul status", nil).Memory(ctx, name, recipients)
	if err != nil {
		return err
	}
	defer cat.Close()
	s, err := statusOf(ctx, cat)
	if err != nil {
		return err
	}
	a.code = s.Exit
	if a.json {
		return json.NewEncoder(a.out).Encode(s)
	}
	a.printStatus(s)
	return nil
}

func statusOf(ctx context.Context, cat *catalog.Catalog) (*statusLine, error) {
	h := cat.Home()
	s := &statusLine{Event: "status", Archive: h.Dir, Format: h.Format, Layout: h.Layout,
		Folders: []statusFolder{}, Accounts: []statusAccount{}, Runs: []statusRun{}, Failed: []statusMessage{},
		InDoubt: []statusMessage{}, Accepted: []statusMessage{}, Lost: []statusLost{}}
	accounts, err := cat.Accounts(ctx)
	if err != nil {
		return nil, err
	}
	for _, x := range accounts {
		s.Accounts = append(s.Accounts, statusAccount{x.Name, x.Folders, x.Here, x.Gone})
	}
	folders, err := cat.Folders(ctx)
	if err != nil {
		return nil, err
	}
	for _, f := range folders {
		s.Folders = append(s.Folders, statusFolder{f.Path, f.Messages, f.Bytes})
		s.Messages += f.Messages
		s.Bytes += f.Bytes
	}
	runs, err := cat.Runs(ctx, mostRuns)
	if err != nil {
		return nil, err
	}
	for _, r := range runs {
		s.Runs = append(s.Runs, runOf(r))
	}
	lost, err := cat.Lost(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range lost {
		s.Lost = append(s.Lost, statusLost{m.Folder, string(m.Place), m.Digest.String()})
	}
	all, err := cat.Unstored(ctx)
	if err != nil {
		return nil, err
	}
	names := idsOf(all)
	for i := range all {
		switch x := &all[i]; {
		case !x.Accepted.IsZero():
			s.Accepted = append(s.Accepted, messageOf(x, names[i]))
		case x.Doubt:
			s.InDoubt = append(s.InDoubt, messageOf(x, names[i]))
		default:
			s.Failed = append(s.Failed, messageOf(x, names[i]))
		}
	}
	switch {
	case len(s.Lost) > 0 && remote(h):
		// What a server has lost, its owner has moved or deleted there.
	case len(s.Lost) > 0:
		s.Exit = exitDamaged
	}
	if s.Exit == exitDone && len(s.Failed)+len(s.InDoubt) > 0 {
		s.Exit = exitPartly
	}
	return s, nil
}

// remote reports whether a catalog is that of a destination elsewhere.
func remote(h catalog.Home) bool {
	return h.Format != "mbox" && h.Format != "maildir"
}

func messageOf(x *catalog.Unstored, id string) statusMessage {
	m := statusMessage{ID: id, Account: x.Account, Folder: string(x.Path), Reason: x.Reason, Tries: x.Tries,
		First: x.First.UTC().Format(time.RFC3339), Last: x.Last.UTC().Format(time.RFC3339), InDoubt: x.Doubt}
	if !x.Accepted.IsZero() {
		m.Accepted = x.Accepted.UTC().Format(time.RFC3339)
	}
	return m
}

// idsOf are the names that people call failures by: folder and ID, and the
// account before them where another one has a failure of that name.
func idsOf(all []catalog.Unstored) []string {
	seen := map[string]int{}
	for i := range all {
		seen[shortID(&all[i])]++
	}
	names := make([]string, len(all))
	for i := range all {
		names[i] = shortID(&all[i])
		if seen[names[i]] > 1 {
			names[i] = longID(&all[i])
		}
	}
	return names
}

func shortID(x *catalog.Unstored) string {
	return mail.Clean(string(x.Path)) + "/" + mail.Clean(string(x.Entry.ID))
}

func longID(x *catalog.Unstored) string { return mail.Clean(x.Account) + "/" + shortID(x) }

func runOf(r catalog.Run) statusRun {
	s := statusRun{Started: r.Started.UTC().Format(time.RFC3339), Outcome: runDied}
	if r.Ended.IsZero() {
		return s
	}
	s.Ended = r.Ended.UTC().Format(time.RFC3339)
	if r.Report == nil {
		s.Outcome = runRepaired
		return s
	}
	var f pipeline.Filed
	if err := json.Unmarshal(r.Report, &f); err != nil {
		s.Outcome, s.Error = runFailed, "its report cannot be read: "+mail.Clean(err.Error())
		return s
	}
	s.Account, s.Total, s.Error = f.Account, &f.Total, f.Error
	s.failed, s.lost = len(f.Failed), len(f.Lost)
	switch {
	case f.Error == pipeline.Interrupted:
		s.Outcome, s.Error = runInterrupted, ""
	case f.Error != "":
		s.Outcome = runFailed
	case outcome(f.Report) != exitDone:
		s.Outcome = runPartly
	default:
		s.Outcome = runDone
	}
	return s
}

func (a *app) printStatus(s *statusLine) {
	if !a.quiet {
		a.printArchive(s)
	}
	for _, part := range []struct {
		all  []statusMessage
		what string
	}{{s.Failed, "failed"}, {s.InDoubt, "in doubt"}} {
		a.printOpen(part.all, part.what)
	}
	if !a.quiet {
		a.printOpen(s.Accepted, "accepted")
	}
	for i, l := range s.Lost {
		if i == mostNamed {
			fmt.Fprintf(a.out, "and %s more\n", number(int64(len(s.Lost)-mostNamed)))
			break
		}
		fmt.Fprintf(a.out, "%s: lost: %s at %s\n", mail.Clean(string(l.Folder)), l.SHA256[:16], mail.Clean(l.Place))
	}
	if len(s.Failed)+len(s.InDoubt) > 0 {
		a.hint("every run tries again what has failed; what is never to come: mailhaul accept ARCHIVE ID")
	}
	if s.Exit == exitDamaged {
		a.hint("run the backup again: what is lost is fetched again if the server still has it; or put a copy of yours in place")
	}
	if !a.quiet && s.Exit == exitDone {
		fmt.Fprintln(a.out, "nothing is open")
	}
}

func (a *app) printArchive(s *statusLine) {
	format := strings.TrimSpace(s.Format + " " + s.Layout)
	fmt.Fprintf(a.out, "%s: %s, %s, %s, %s\n", s.Archive, format,
		plural(int64(len(s.Folders)), "folder"), plural(s.Messages, "message"), bytesOf(s.Bytes))
	for _, x := range s.Accounts {
		fmt.Fprintf(a.out, "%s: %s, %s at the server", mail.Clean(x.Account), plural(x.Folders, "folder"), plural(x.Messages, "message"))
		if x.Gone > 0 {
			fmt.Fprintf(a.out, ", %s gone from there since", number(x.Gone))
		}
		fmt.Fprintln(a.out)
	}
	if len(s.Runs) == 0 {
		return
	}
	t := table{{"RUN", "ENDED", "OUTCOME", "LISTED", "STORED", "FAILED", "IN DOUBT"}}
	for _, r := range s.Runs {
		row := []string{local(r.Started), local(r.Ended), strings.TrimSuffix(r.Outcome+": "+mail.Clean(r.Error), ": "), "", "", "", ""}
		if r.Total != nil {
			row[3], row[4], row[5], row[6] = number(r.Total.Listed), number(r.Total.Stored), number(int64(r.failed)), number(r.Total.Doubt)
		}
		t = append(t, row)
	}
	t.print(a.out, 3)
}

// local is a time as people read it, where they are.
func local(s string) string {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

func (a *app) printOpen(all []statusMessage, what string) {
	for i, m := range all {
		if i == mostNamed {
			fmt.Fprintf(a.out, "and %s more %s; --json names all\n", number(int64(len(all)-mostNamed)), what)
			break
		}
		fmt.Fprintf(a.out, "%s: %s: %s (%s since %s)\n", m.ID, what, mail.Clean(m.Reason), tried(m.Tries), local(m.First))
	}
}

func tried(n int) string {
	if n == 1 {
		return "tried once"
	}
	return fmt.Sprintf("tried %s times", number(int64(n)))
}

// ---- accept

func (a *app) accept() *cobra.Command {
	var recipients []string
	var all, undo bool
	c := &cobra.Command{
		Use:   "accept ARCHIVE ID...",
		Short: "Leave messages that cannot be had as they are",
		Long:  acceptHelp,
		Args: func(c *cobra.Command, args []string) error {
			switch {
			case len(args) == 0 || len(args) == 1 && !all:
				return location.Wrong("mailhaul help accept", "wrong number of arguments (%d): mailhaul accept ARCHIVE ID...", len(args))
			case len(args) > 1 && all:
				return location.Wrong("give one of them", "--all and IDs")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			return a.acceptSome(c.Context(), args[0], recipients, args[1:], undo)
		},
	}
	f := c.Flags()
	f.BoolVar(&all, "all", false, "accept everything that failed or is in doubt")
	f.BoolVar(&undo, "undo", false, "take it back: the next run tries again")
	f.StringArrayVar(&recipients, "to", nil, "of a server that mail was delivered to: the `ADDRESS` that got it; may be repeated")
	a.outputFlags(f)
	return c
}

// An acceptedLine is a line of "accept --json".
type acceptedLine struct {
	Event string `json:"event"` // "accepted" or "unaccepted"
	statusMessage
}

func (a *app) acceptSome(ctx context.Context, name string, recipients, ids []string, undo bool) error {
	cat, err := a.runner("mailhaul accept", nil).Memory(ctx, name, recipients)
	if err != nil {
		return err
	}
	defer cat.Close()
	all, err := cat.Unstored(ctx)
	if err != nil {
		return err
	}
	names := idsOf(all)
	chosen, err := chooseOpen(all, names, ids)
	if err != nil {
		return err
	}
	at, event := time.Now(), "accepted"
	if undo {
		at, event = time.Time{}, "unaccepted"
	}
	var todo []catalog.Unstored
	var told []string
	for _, i := range chosen {
		if all[i].Accepted.IsZero() != undo {
			x := all[i]
			x.Accepted = at
			todo, told = append(todo, x), append(told, names[i])
		}
	}
	if err := cat.Accept(ctx, todo, at); err != nil {
		return err
	}
	enc := json.NewEncoder(a.out)
	for i := range todo {
		switch {
		case a.json:
			enc.Encode(acceptedLine{event, messageOf(&todo[i], told[i])})
		case a.quiet:
		case undo:
			fmt.Fprintf(a.out, "%s: not accepted any more; the next run tries again\n", told[i])
		default:
			fmt.Fprintf(a.out, "%s: accepted: %s\n", told[i], mail.Clean(todo[i].Reason))
		}
	}
	if len(todo) == 0 && !a.json && !a.quiet {
		fmt.Fprintln(a.out, "there was nothing to do")
	}
	return nil
}

// chooseOpen finds the failures that IDs name; no IDs: all of them.
func chooseOpen(all []catalog.Unstored, names, ids []string) (chosen []int, err error) {
	if len(ids) == 0 {
		for i := range all {
			chosen = append(chosen, i)
		}
		return chosen, nil
	}
	for _, id := range ids {
		var fits []int
		for i := range all {
			x := &all[i]
			raw := string(x.Entry.ID)
			for _, form := range []string{raw, mail.Clean(raw), string(x.Path) + "/" + raw, shortID(x), x.Account + "/" + string(x.Path) + "/" + raw, longID(x)} {
				if form == id {
					fits = append(fits, i)
					break
				}
			}
		}
		switch len(fits) {
		case 1:
			chosen = append(chosen, fits[0])
		case 0:
			hint := "'mailhaul status ARCHIVE' lists what failed or is in doubt"
			if n := location.Nearest(id, names); n != "" {
				hint = "did you mean " + n + "?"
			}
			return nil, location.Wrong(hint, "%s: no message of this ID has failed or is in doubt", mail.Clean(id))
		default:
			var which []string
			for _, i := range fits[:min(len(fits), 5)] {
				which = append(which, names[i])
			}
			return nil, location.Wrong("write which one: "+strings.Join(which, ", "), "%s: %d messages have this ID", mail.Clean(id), len(fits))
		}
	}
	return chosen, nil
}
