package imap

import (
	"context"
	"fmt"

	"mailhaul/internal/imapconn"
	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/source"
)

// Folders lists the folders of the location with their counts. It asks in one
// command where the server can answer so, and otherwise for all counts at once
// without waiting between.
func (a *account) Folders(ctx context.Context) ([]source.Folder, error) {
	var found []source.Folder
	err := a.Use(ctx, func(c *imapconn.Conn) error {
		entries, odd, err := c.List(ctx, items(c))
		if err != nil {
			return err
		}
		places, err := a.place(entries, odd)
		if err != nil {
			return err
		}
		if err := count(ctx, c, places); err != nil {
			return err
		}
		found = a.describe(places, c.Has("X-GM-EXT-1"))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// items are those of STATUS that tell whether a folder has changed.
func items(c *imapconn.Conn) string {
	s := "MESSAGES UIDNEXT UIDVALIDITY"
	if c.Has("CONDSTORE") || c.Has("QRESYNC") {
		s += " HIGHESTMODSEQ" // RFC 7162, section 3.1.7
	}
	if c.Has("STATUS=SIZE") {
		s += " SIZE" // RFC 8438
	}
	return s
}

// A place is a folder with its path.
type place struct {
	imapconn.Entry
	path mail.Path
}

// place gives each folder that can hold messages its path, notes where the
// paths lead and leaves out what lies outside the location.
func (a *account) place(entries []imapconn.Entry, odd int) ([]place, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if odd > 0 {
		a.gap("lines of the server's list of folders that could not be understood: %d; the folders that they name are left out", odd)
	}
	a.folders = map[mail.Path]folder{}
	var all []place
	var paths []string
	inside := a.top == ""
	for _, e := range entries {
		path := imapconn.PathOf(e.Name, e.Delimiter)
		paths = append(paths, string(path))
		if a.top != "" && !path.Within(a.top) {
			continue
		}
		inside = true
		if e.Has(`\noselect`) || e.Has(`\nonexistent`) {
			continue
		}
		if _, taken := a.folders[path]; taken {
			// Two ways to write INBOX, or two namespaces whose separators
			// differ: the second is taken as one long part.
			if path == mail.Inbox {
				continue
			}
			path = imapconn.PathOf(e.Name, 0)
			if _, taken := a.folders[path]; taken {
				a.gap("folder %s is left out: another one has the same path; rename it at the server", mail.Clean(e.Name))
				continue
			}
		}
		if imapconn.Bytewise(string(path)) {
			a.note("the name of folder %s is not written as the standard says: it is kept as it is", mail.Clean(string(path)))
		}
		a.folders[path] = folder{e.Name, e.Delimiter}
		all = append(all, place{e, path})
	}
	if !inside {
		return nil, &mail.Error{Op: "list folders", Scope: mail.ScopeAccount, Err: missing(a.top, paths)}
	}
	return all, nil
}

func missing(top mail.Path, paths []string) error {
	hint := "mailhaul folders lists what there is"
	if near := location.Nearest(string(top), paths); near != "" {
		hint = fmt.Sprintf("did you mean %s?", mail.Clean(near))
	}
	return location.Wrong(hint, "there is no folder %s", mail.Clean(string(top)))
}

// count asks for what LIST has not told.
func count(ctx context.Context, c *imapconn.Conn, places []place) error {
	var names []string
	var at []int
	for i, p := range places {
		if p.Counts == nil {
			names, at = append(names, p.Name), append(at, i)
		}
	}
	return c.Status(ctx, names, items(c), func(i int, counts imapconn.Counts) {
		places[at[i]].Counts = &counts
	})
}

func (a *account) describe(places []place, gmail bool) []source.Folder {
	a.mu.Lock()
	defer a.mu.Unlock()
	found := make([]source.Folder, 0, len(places))
	for _, p := range places {
		f := source.Folder{Path: p.path, Raw: p.Name, Role: p.Role(), Messages: -1, Bytes: -1, Print: p.Counts.Print()}
		f.State, f.Mute = stateOf(p.Counts)
		if p.Counts != nil {
			f.Messages, f.Bytes = p.Counts.Messages, p.Counts.Size
		}
		if gmail {
			a.atGmailsLimit(p.path, f.Messages)
		}
		found = append(found, f)
	}
	return found
}

// rawName is the server's name for path. One that Folders has not listed is
// worked out with the separator of the others.
func (a *account) rawName(ctx context.Context, path mail.Path) (string, error) {
	a.mu.Lock()
	known := a.folders != nil
	f, ok := a.folders[path]
	a.mu.Unlock()
	switch {
	case ok:
		return f.raw, nil
	case path == mail.Inbox:
		return "INBOX", nil
	case !known:
		if _, err := a.Folders(ctx); err != nil {
			return "", err
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		if f, ok := a.folders[path]; ok {
			return f.raw, nil
		}
	default:
		a.mu.Lock()
		defer a.mu.Unlock()
	}
	for _, f := range a.folders {
		return imapconn.NameOf(path, f.delimiter), nil
	}
	return imapconn.NameOf(path, '/'), nil
}
