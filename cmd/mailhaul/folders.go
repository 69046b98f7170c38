package main

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"mailhaul/internal/job"
	"mailhaul/internal/mail"
	"mailhaul/source"
)

const foldersHelp = `
mailhaul folders FROM

Lists the folders of an account that can hold messages: name, role, number of
messages and, where the server tells it, size. The names are those that
--folder and --exclude take. FROM may also be files of other programs, or an
archive of mailhaul (mail/ann).
`

func (a *app) folders() *cobra.Command {
	c := &cobra.Command{
		Use:   "folders FROM",
		Short: "List the folders of an account",
		Long:  foldersHelp,
		Args:  arguments(1, "folders FROM"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.withOptions(&args[0]); err != nil {
				return err
			}
			return a.listFolders(c, args[0])
		},
	}
	a.accountFlags(c.Flags())
	c.Flags().BoolVar(&a.json, "json", false, "print a JSON object a line")
	return c
}

// A folderLine is a line of "folders --json". Unknown numbers are -1.
type folderLine struct {
	Path     mail.Path `json:"path"`
	Raw      string    `json:"raw"`
	Role     string    `json:"role,omitempty"`
	Messages int64     `json:"messages"`
	Bytes    int64     `json:"bytes"`
}

func (a *app) listFolders(c *cobra.Command, from string) error {
	src, l, _, err := a.runner("mailhaul folders", nil).Source(c.Context(), from)
	if err != nil {
		return err
	}
	defer src.Close()
	list, err := src.Folders(c.Context())
	if err != nil {
		return job.Blame(l, err)
	}
	slices.SortFunc(list, func(a, b source.Folder) int { // the inbox first
		if (a.Path == mail.Inbox) != (b.Path == mail.Inbox) {
			return map[bool]int{true: -1, false: 1}[a.Path == mail.Inbox]
		}
		return strings.Compare(string(a.Path), string(b.Path))
	})
	if a.json {
		enc := json.NewEncoder(a.out)
		for _, f := range list {
			if err := enc.Encode(folderLine{f.Path, strings.ToValidUTF8(f.Raw, "\uFFFD"), f.Role, f.Messages, f.Bytes}); err != nil {
				return err
			}
		}
		return nil
	}
	t := table{{"FOLDER", "ROLE", "MESSAGES", "SIZE"}}
	var messages, size int64
	for _, f := range list {
		t = append(t, []string{mail.Clean(string(f.Path)), or(f.Role, "-"), number(f.Messages), bytesOf(f.Bytes)})
		messages += max(f.Messages, 0)
		size += max(f.Bytes, 0)
	}
	t = append(t, []string{plural(int64(len(list)), "folder"), "", number(messages), bytesOf(size)})
	t.print(a.out, 2)
	return nil
}
