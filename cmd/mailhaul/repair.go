package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"mailhaul/internal/catalog"
	"mailhaul/internal/mail"
	"mailhaul/internal/pipeline"
	"mailhaul/internal/repair"
)

const repairHelp = `
mailhaul repair ARCHIVE

Makes the catalog of an archive anew when it is lost or damaged, from the
manifest that lies beside the mail and from the mail, all of which is read.
ARCHIVE is a directory (mail/ann) or a location (mbox:mail/ann). A catalog that
is in order is left as it is.

With the manifest nothing is downloaded again. Without it, flags in mbox, labels
and line ends other than CRLF are gone; the next backup brings flags and labels
back and downloads everything once more, but stores nothing twice. If it cannot
be told what the archive is, say it as you did for the backup:
'maildir:mail/ann?layout=maildir++', 'mbox:mail/ann?status=yes'.

Nothing is deleted. A damaged catalog is kept beside the new one; torn bytes at
the end of a mailbox file go to FOLDER.mbox.torn-DATE, and a damaged file of a
Maildir to the directory torn beside the catalog. It may be interrupted at any
time: then the archive is as it was.

Exit code 0: all that the manifest knows was found; 6: messages are missing,
named on standard error. The next backup fetches them again, if the server still
has them.
`

func (a *app) repair() *cobra.Command {
	c := &cobra.Command{
		Use:   "repair ARCHIVE",
		Short: "Make a lost or damaged catalog anew from the mail",
		Long:  repairHelp,
		Args:  arguments(1, "repair ARCHIVE"),
		RunE:  func(c *cobra.Command, args []string) error { return a.mend(c, args[0]) },
	}
	a.outputFlags(c.Flags())
	return c
}

func (a *app) mend(c *cobra.Command, name string) error {
	show := a.show()
	result, dir, err := a.runner("mailhaul repair", nil).Repair(c.Context(), name, func(folder mail.Path, messages, bytes int64) {
		if bytes > 0 { // empty messages have been seen
			show.event(pipeline.Event{Time: time.Now(), Kind: pipeline.Read, Folder: folder, Bytes: bytes})
		}
		show.event(pipeline.Event{Time: time.Now(), Kind: checked, Folder: folder, Count: messages, Bytes: bytes})
	})
	show.end()
	if errors.Is(err, catalog.ErrSound) {
		a.showSound(dir)
		return nil
	}
	if err != nil {
		return err
	}
	if result.Lost > 0 {
		a.code = exitDamaged
	}
	a.showRepaired(dir, result)
	return nil
}

// showSound says that there was nothing to do.
func (a *app) showSound(dir string) {
	if a.json {
		json.NewEncoder(a.out).Encode(struct {
			Event string `json:"event"`
			Exit  int    `json:"exit"`
		}{"sound", exitDone})
		return
	}
	if !a.quiet {
		fmt.Fprintf(a.out, "%s: the catalog is in order; nothing was changed ('mailhaul verify' reads the mail itself)\n", dir)
	}
}

func (a *app) showRepaired(dir string, r *repair.Result) {
	for _, m := range r.Missing {
		a.warn("%s: %s at %s: missing", mail.Clean(string(m.Folder)), m.SHA256[:16], mail.Clean(string(m.Place)))
	}
	if more := r.Lost - int64(len(r.Missing)); more > 0 {
		a.warn("and %s more", number(more))
	}
	if r.Lost > 0 {
		a.hint("run the backup again: what is missing is fetched again if the server still has it")
	}
	if !r.Manifest {
		a.warn("%s: there is no manifest: flags in mbox, labels and line ends other than CRLF are gone", dir)
		a.hint("run the backup again: it downloads everything once more, stores nothing twice, and brings flags and labels back")
	}
	if r.Passed > 0 {
		a.warn("%s: the manifest is damaged: %s could not be understood; their messages were found in the mail only", dir, plural(r.Passed, "line"))
	}
	if a.json {
		json.NewEncoder(a.out).Encode(struct {
			Event string `json:"event"`
			Exit  int    `json:"exit"`
			*repair.Result
		}{"repaired", a.code, r})
		return
	}
	if a.quiet {
		return
	}
	for _, name := range r.Files {
		fmt.Fprintf(a.out, "%s: kept for you to look at; it is not needed any more\n", name)
	}
	if r.SetAside > 0 {
		fmt.Fprintf(a.out, "%s: %s of torn or damaged mail were set aside\n", dir, bytesOf(r.SetAside))
	}
	fmt.Fprintf(a.out, "%s: %s found, %s; %s rebuilt, %s adopted, %s missing\n", dir, plural(r.Messages, "message"), bytesOf(r.Bytes),
		plural(r.Locations, "location"), number(r.Adopted), number(r.Lost))
}
