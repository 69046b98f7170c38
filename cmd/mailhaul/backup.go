package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mailhaul/internal/job"
	"mailhaul/internal/location"
	"mailhaul/internal/pipeline"
)

const backupHelp = `
mailhaul backup FROM TO

Brings every message of FROM that is not in the archive TO yet, with flags,
keywords, internal date and folder tree. FROM is an account
(imaps://USER@HOST, imap://USER@HOST), one folder of it and what lies below
(imaps://USER@HOST/Work), or the inbox that POP3 shows, without flags and dates
(pop3s://USER@HOST, pop3://USER@HOST), or files of other programs (mbox:PATH,
maildir:PATH, eml:PATH), or another archive of mailhaul (mail/ann); TO is a
directory: mbox:PATH or maildir:PATH.

The server is not changed, not even what is read and unread, unless by
--delete-after. Nothing is ever deleted from the archive: what disappears from
the server stays in it.

--folder and --exclude take names as 'mailhaul folders' shows them, with
patterns: * fits any letters but /, ** fits those too. A pattern means what
fits and everything below.

--dedup says when a message that is already there is not stored again; only
equal content counts. folder: within a folder (default for mbox). archive: in
the whole archive (default for Maildir, where every folder stays complete, by
hard links). off: never.

--rebind is for a large folder that its server has renumbered or set back, which a
run says. Without it the folder is downloaded again and compared, and nothing is
stored twice. With it a message is taken for one in the archive without being
downloaded if its size, date and header are those of exactly one message of this
folder there. At least 95 of 100 must be recognised so, and 20 and one in a hundred
of these, drawn by chance, are downloaded and compared. One that is not equal, and
all is downloaded.

--delete-after deletes messages of a POP3 account at the server, which is never
done otherwise: each was committed to this archive that long ago, its copy was
read back just now and found equal. Deleting more than half of the mailbox, or
more than a thousand messages, takes --yes too.
`

func (a *app) backup() *cobra.Command {
	var j job.Job
	var age, size string
	c := &cobra.Command{
		Use:   "backup FROM TO",
		Short: "Bring what is new from an account into an archive",
		Long:  backupHelp,
		Args:  arguments(2, "backup FROM TO"),
		RunE: func(c *cobra.Command, args []string) error {
			j.From, j.To = args[0], args[1]
			if err := a.withOptions(&j.From, &j.To); err != nil {
				return err
			}
			var err error
			if c.Flags().Changed("delete-after") {
				j.Remove.Yes = true
				if j.Remove.After, err = parseAge(age); err != nil {
					return err
				}
			}
			if c.Flags().Changed("max-size") {
				if j.MaxSize, err = parseSize(size); err != nil {
					return err
				}
			}
			return a.transfer(c, j)
		},
	}
	f := c.Flags()
	f.StringArrayVar(&j.Folders, "folder", nil, "only folders that fit `PATTERN`, and those below; may be repeated")
	f.StringArrayVar(&j.Exclude, "exclude", nil, "no folder that fits `PATTERN`, nor those below; may be repeated")
	f.StringVar(&j.Dedup, "dedup", "", "store equal messages once per `SCOPE`: folder, archive or off")
	f.StringVar(&size, "max-size", "", "leave messages of more than `SIZE` bytes (500k, 25M, 2G) on the server")
	rebindFlag(f, &j)
	f.StringVar(&age, "delete-after", "", "POP3: delete at the server what has been in the archive for `TIME` (30d, 2w, 12h, or 0 for at once)")
	f.BoolVar(&j.Remove.Sure, "yes", false, "delete also where that is most of a mailbox")
	f.BoolVar(&j.AddAccount, "add-account", false, "let a further account into an archive")
	f.StringVar(&j.Flags, "flags", "", "where the server does not tell which flags have changed, compare them all `WHEN`: always, daily or never")
	a.accountFlags(f)
	a.outputFlags(f)
	return c
}

func rebindFlag(f *pflag.FlagSet, j *job.Job) {
	f.BoolVar(&j.Rebind, "rebind", false, "do not download again what a server has renumbered, where size, date and header tell; a sample is compared")
}

// transfer runs a job and shows it.
func (a *app) transfer(c *cobra.Command, j job.Job) error {
	show := a.show()
	a.twoServers = twoServers(j.From, j.To)
	report, err := a.runner("mailhaul "+c.Name()+" "+j.From, show.event).Run(c.Context(), j)
	show.end()
	code := outcome(report)
	if err != nil {
		code, _ = judge(c.Context(), err)
	}
	// Whoever reads JSON gets a last line in any case.
	if j.DryRun && err == nil {
		// the plan is all there is to say
	} else if a.json || len(report.Folders) > 0 || err == nil {
		show.report(report, code, err)
	}
	a.code = code
	return err
}

// twoServers reports whether two locations lead to different servers.
func twoServers(from, to string) bool {
	f, err := location.Parse(from, "")
	t, err2 := location.Parse(to, "")
	return err == nil && err2 == nil && f.Host != "" && t.Host != "" && !strings.EqualFold(f.Hostname(), t.Hostname())
}

// pause is how a run waits before it tries again; nil in the shipped program.
// Tests have no time.
var pause func(context.Context, time.Duration) error

// outcome is the exit code of a run that came to its end.
func outcome(r pipeline.Report) int {
	switch {
	case len(r.Lost) > 0:
		return exitDamaged
	case len(r.Failed) > 0 || r.Total.Doubt > 0 || r.Missing > 0:
		return exitPartly
	}
	return exitDone
}
