package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"mailhaul/internal/mail"
)

const foldersHelp = `
mailhaul folders FROM

Lists the folders of an account that can hold messages: name, role, number of
messages and, where the server tells it, size. The names are those that
--folder and --exclude take.
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
	sources, _ := plugins()
	src, err := sources.Open(c.Context(), from, a.env())
	if err != nil {
		return err
	}
	defer src.Close()
	list, err := src.Folders(c.Context())
	if err != nil {
		return err
	}
	if a.json {
		enc := json.NewEncoder(a.out)
		for _, f := range list {
			if err := enc.Encode(folderLine{f.Path, strings.ToValidUTF8(f.Raw, "\uFFFD"), f.Role, f.Messages, f.Bytes}); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FOLDER\tROLE\tMESSAGES\tSIZE")
	var messages, size int64
	for _, f := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", mail.Clean(string(f.Path)), or(f.Role, "-"), number(f.Messages), bytesOf(f.Bytes))
		messages += max(f.Messages, 0)
		size += max(f.Bytes, 0)
	}
	fmt.Fprintf(w, "%d folders\t\t%s\t%s\n", len(list), number(messages), bytesOf(size))
	return w.Flush()
}
