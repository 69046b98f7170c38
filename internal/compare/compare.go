// Package compare tells how the mail of two places differs, message by
// message: what is missing, what was changed on the way, whose flags or dates
// are others. It is how a move from one account to another is proven.
//
// What must stay true:
//
//   - Nothing passes for the same without a reason: equal digests of the whole
//     text where both are at hand; otherwise equal digests of the header, and
//     equal sizes. What looks alike and is not sure is read on both sides.
//   - Messages are counted: two copies here are matched by two copies there.
//   - A message that cannot be read is told as that, never left out.
//   - Neither side is changed.
//
// A folder at a time is held in memory, some hundred bytes a message; bodies
// never.
package compare

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"mailhaul/internal/folderplan"
	"mailhaul/internal/mail"
	"mailhaul/source"
)

// A Comparison says what is compared with what.
type Comparison struct {
	From, To source.Source
	Lines    []folderplan.Line // the folders of From, and where their mail is to be
	Others   []source.Folder   // folders of To that no line leads to: they are named
	Full     bool              // read every message on both sides
	NoFlags  bool              // leave flags out of it
	NoDates  bool              // leave dates of arrival out of it

	// Found is called with each difference, from one goroutine at a time.
	Found func(Finding)
	// Progress is called after some messages of a side were looked at, likewise.
	Progress func(folder mail.Path, messages, bytes int64)
	// Sleep waits between tries; nil: a timer.
	Sleep func(context.Context, time.Duration) error
}

// Counts are numbers of messages.
type Counts struct {
	From    int64 `json:"from"`    // listed there
	To      int64 `json:"to"`      // listed here
	Same    int64 `json:"same"`    // pairs of the same content
	Changed int64 `json:"changed"` // pairs of one message, the content of which is not the same
	Missing int64 `json:"missing"` // in From only
	Extra   int64 `json:"extra"`   // in To only
	Flags   int64 `json:"flags"`   // pairs whose flags differ
	Dates   int64 `json:"dates"`   // pairs whose dates of arrival differ
	Failed  int64 `json:"failed"`  // could not be read on one side
}

func (c *Counts) add(d *Counts) {
	c.From += d.From
	c.To += d.To
	c.Same += d.Same
	c.Changed += d.Changed
	c.Missing += d.Missing
	c.Extra += d.Extra
	c.Flags += d.Flags
	c.Dates += d.Dates
	c.Failed += d.Failed
}

// A Folder is the outcome for one folder of To and those of From whose mail is
// to be in it.
type Folder struct {
	From []mail.Path `json:"from_folders,omitempty"` // none: the folder is at To only
	To   mail.Path   `json:"to_folder,omitempty"`
	Counts
	Lacking bool   `json:"lacking,omitempty"` // the folder is not there at To
	Skipped string `json:"skipped,omitempty"` // why it was not compared, though it could be
	Note    string `json:"note,omitempty"`
	Error   string `json:"error,omitempty"` // why it could not be compared
}

// A Result is the outcome. Messages that are in To only are no difference: mail
// may have come in there.
type Result struct {
	Folders []Folder `json:"folders"`
	Total   Counts   `json:"total"`
}

// Differ reports whether anything of From is not as it is at To.
func (r *Result) Differ() bool {
	t := &r.Total
	return t.Missing+t.Changed+t.Flags+t.Dates+t.Failed > 0
}

// Kinds of Finding.
const (
	Missing    = "missing"    // in From only
	Extra      = "extra"      // in To only
	Changed    = "changed"    // the same message, but other content
	Flags      = "flags"      // flags differ
	NoFlag     = "no flag"    // a flag or keyword that one side has on no message of the folder; told once a folder
	Date       = "date"       // dates of arrival differ
	Unreadable = "unreadable" // the message could not be read
)

// A Finding is one difference.
type Finding struct {
	What      string    `json:"what"`
	From      mail.Path `json:"from_folder,omitempty"`
	To        mail.Path `json:"to_folder,omitempty"`
	FromID    source.ID `json:"from_id,omitempty"`
	ToID      source.ID `json:"to_id,omitempty"`
	MessageID string    `json:"message_id,omitempty"`
	Detail    string    `json:"detail,omitempty"`
}

// Run compares. The result is valid in any case; the error is one that ended
// the run, while a folder that could not be read has its own.
func Run(ctx context.Context, c Comparison) (*Result, error) {
	r := &Result{Folders: []Folder{}}
	if c.Found == nil {
		c.Found = func(Finding) {}
	}
	if c.Progress == nil {
		c.Progress = func(mail.Path, int64, int64) {}
	}
	var mu sync.Mutex
	progress := c.Progress
	c.Progress = func(folder mail.Path, messages, bytes int64) {
		mu.Lock()
		defer mu.Unlock()
		progress(folder, messages, bytes)
	}
	for _, g := range groups(c.Lines) {
		f := g.outcome()
		var err error
		if f.Skipped == "" {
			err = c.again(ctx, func() error { return c.folder(ctx, g, &f) })
		}
		if err != nil {
			f.Counts = Counts{Failed: 1}
			f.Error = mail.Clean(err.Error())
		}
		r.Folders = append(r.Folders, f)
		r.Total.add(&f.Counts)
		if err != nil && (ctx.Err() != nil || mail.ScopeOf(err, mail.ScopeRun) > mail.ScopeFolder) {
			return r, err
		}
	}
	for _, o := range c.Others {
		f := Folder{To: o.Path, Counts: Counts{To: max(o.Messages, 0), Extra: max(o.Messages, 0)}}
		r.Folders = append(r.Folders, f)
		r.Total.add(&f.Counts)
	}
	return r, nil
}

// A group is all that is to be in one folder.
type group struct {
	lines []folderplan.Line
	to    mail.Path
}

// groups puts lines together that lead to one folder, in their order.
func groups(lines []folderplan.Line) (all []*group) {
	at := map[mail.Path]*group{}
	for _, l := range lines {
		g := at[l.To]
		if g == nil || l.Skip != "" {
			g = &group{to: l.To}
			all = append(all, g)
			if l.Skip == "" {
				at[l.To] = g
			}
		}
		g.lines = append(g.lines, l)
	}
	return all
}

func (g *group) outcome() Folder {
	f := Folder{To: g.to, Skipped: g.lines[0].Skip, Note: g.lines[0].Note, Lacking: g.lines[0].Skip == "" && !g.lines[0].Exists}
	for _, l := range g.lines {
		f.From = append(f.From, l.From.Path)
	}
	return f
}

// tries is how often a folder is begun.
const tries = 3

// again does f until it is done or there is no hope. Found gets nothing before
// f is sure, so that nothing is told twice.
func (c *Comparison) again(ctx context.Context, f func() error) error {
	for n := 1; ; n++ {
		err := f()
		if err == nil || n == tries || !mail.Temporary(err) || ctx.Err() != nil {
			return err
		}
		wait := time.Duration(n*n) * 2 * time.Second
		var e *mail.Error
		if errors.As(err, &e) {
			wait = max(wait, e.After)
		}
		if serr := c.sleep(ctx, wait); serr != nil {
			return fmt.Errorf("%w (before it was tried again: %w)", err, serr)
		}
	}
}

func (c *Comparison) sleep(ctx context.Context, d time.Duration) error {
	if c.Sleep != nil {
		return c.Sleep(ctx, d)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
