package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"mailhaul/internal/mail"
	"mailhaul/internal/pipeline"
	"mailhaul/internal/verify"
)

const verifyHelp = `
mailhaul verify ARCHIVE

Reads every message of the archive and compares its SHA-256 with the one taken
when it came from the server. ARCHIVE is a directory (mail/ann) or a location
(mbox:mail/ann). Nothing is changed. Exit code 0: all is as it was stored; 6:
messages are missing or damaged, named on standard error. The next backup
fetches again what is missing, if the server still has it.
`

func (a *app) verify() *cobra.Command {
	c := &cobra.Command{
		Use:   "verify ARCHIVE",
		Short: "Read every stored message and compare digests",
		Long:  verifyHelp,
		Args:  arguments(1, "verify ARCHIVE"),
		RunE:  func(c *cobra.Command, args []string) error { return a.check(c, args[0]) },
	}
	a.outputFlags(c.Flags())
	return c
}

func (a *app) check(c *cobra.Command, name string) error {
	ctx := c.Context()
	s, cat, err := a.runner("mailhaul verify", nil).Archive(ctx, name)
	if err != nil {
		return err
	}
	defer s.Close()
	defer cat.Close()
	messages, bytes, err := verify.Size(ctx, cat)
	if err != nil {
		return err
	}
	show := a.show()
	show.event(pipeline.Event{Time: time.Now(), Kind: pipeline.Planned, Count: messages, Bytes: bytes})
	result, err := verify.Run(ctx, s, cat, func(folder mail.Path, messages, bytes int64) {
		if bytes > 0 { // empty messages have been seen
			show.event(pipeline.Event{Time: time.Now(), Kind: pipeline.Read, Folder: folder, Bytes: bytes})
		}
		show.event(pipeline.Event{Time: time.Now(), Kind: checked, Folder: folder, Count: messages, Bytes: bytes})
	})
	show.end()
	if err != nil {
		return err
	}
	if len(result.Problems) > 0 {
		a.code = exitDamaged
	}
	a.showVerified(cat.Home().Dir, result)
	return nil
}

// checked is the kind of event that counts a message as done.
const checked pipeline.Kind = "checked"

func (a *app) showVerified(dir string, r *verify.Result) {
	for _, p := range r.Problems {
		detail := ""
		if p.Detail != "" {
			detail = " (" + mail.Clean(p.Detail) + ")"
		}
		a.warn("%s: %s at %s: %s%s", mail.Clean(string(p.Folder)), p.SHA256[:16], mail.Clean(string(p.Place)), p.Kind, detail)
	}
	if len(r.Problems) > 0 {
		a.hint("run the backup again: what is missing is fetched again if the server still has it; take damaged files out of the archive first")
	}
	if a.json {
		json.NewEncoder(a.out).Encode(struct {
			Event string `json:"event"`
			Exit  int    `json:"exit"`
			*verify.Result
		}{"verified", a.code, r})
		return
	}
	if a.quiet {
		return
	}
	if r.Foreign > 0 {
		fmt.Fprintf(a.out, "%s: %s messages that mailhaul did not store were left alone\n", dir, number(r.Foreign))
	}
	fmt.Fprintf(a.out, "%s: %s messages, %s: as they were stored; %s missing or damaged\n",
		dir, number(r.Messages), bytesOf(r.Bytes), number(int64(len(r.Problems))))
}
