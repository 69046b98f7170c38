package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"mailhaul/internal/mail"
	"mailhaul/internal/pipeline"
)

// reportLine is the last line of --json.
type reportLine struct {
	Time   string          `json:"time"`
	Event  string          `json:"event"`
	Exit   int             `json:"exit"`
	Error  string          `json:"error,omitempty"`
	Report pipeline.Report `json:"report"`
}

// report prints what became of everything.
func (s *show) report(r pipeline.Report, code int, err error) {
	if s.enc != nil {
		if r.Folders == nil {
			r.Folders = map[mail.Path]*pipeline.Counts{} // {} rather than null
		}
		l := reportLine{Time: time.Now().UTC().Format(time.RFC3339Nano), Event: "report", Exit: code, Report: r}
		if err != nil {
			l.Error = mail.Clean(err.Error())
		}
		s.enc.Encode(l)
	} else if !s.app.quiet {
		s.table(r)
	}
	s.problems(r)
}

// mostNamed is how many messages are named one by one.
const mostNamed = 1000

// problems names every message that is not where it should be, or may not be,
// with the reason.
func (s *show) problems(r pipeline.Report) {
	a := s.app
	done := "brought over"
	if a.sends {
		done = "delivered"
	}
	s.failures(r.Failed, "", "these were not "+done+"; the next run tries them again")
	s.failures(r.InDoubt, "in doubt: ", "these may have arrived or not, and are not sent again unless you say --resend-unknown; look first whether they are there")
	for i, g := range r.Lost {
		if i == mostNamed {
			a.warn("and %d more", len(r.Lost)-mostNamed)
			break
		}
		a.warn("%s: a message (SHA-256 %s) is gone from the archive, and from the server too", mail.Clean(string(g.Folder)), g.SHA256[:16])
	}
	if len(r.Lost) > 0 {
		a.hint("put the archive's files back from a copy of yours, if there is one, and run again")
	}
}

func (s *show) failures(all []pipeline.Failure, kind, hint string) {
	a := s.app
	for i, f := range all {
		if i == mostNamed {
			a.warn("and %d more", len(all)-mostNamed)
			break
		}
		if f.Folder == "" {
			a.warn("%s%s", kind, mail.Clean(f.Reason))
		} else if f.ID == "" {
			a.warn("%s: %s%s", mail.Clean(string(f.Folder)), kind, mail.Clean(f.Reason))
		} else {
			a.warn("%s: message %s: %s%s", mail.Clean(string(f.Folder)), mail.Clean(string(f.ID)), kind, mail.Clean(f.Reason))
		}
	}
	if len(all) > 0 {
		a.hint(hint)
	}
}

// A column of the report, left out when it is empty.
type column struct {
	name string
	of   func(*pipeline.Counts) int64
	size bool
	must bool
}

var reported = []column{
	{"LISTED", func(c *pipeline.Counts) int64 { return c.Listed }, false, true},
	{"KNOWN", func(c *pipeline.Counts) int64 { return c.Known }, false, true},
	{"STORED", func(c *pipeline.Counts) int64 { return c.Stored }, false, true},
	{"DUPLICATE", func(c *pipeline.Counts) int64 { return c.Duplicate }, false, true},
	{"VANISHED", func(c *pipeline.Counts) int64 { return c.Vanished }, false, false},
	{"FILTERED", func(c *pipeline.Counts) int64 { return c.Filtered }, false, false},
	{"FAILED", func(c *pipeline.Counts) int64 { return c.Failed }, false, false},
	{"IN DOUBT", func(c *pipeline.Counts) int64 { return c.Doubt }, false, false},
	{"ACCEPTED", func(c *pipeline.Counts) int64 { return c.Accepted }, false, false},
	{"NOT REACHED", func(c *pipeline.Counts) int64 { return c.Unreached }, false, false},
	{"DELETED", func(c *pipeline.Counts) int64 { return c.Removed }, false, false},
	{"REFLAGGED", func(c *pipeline.Counts) int64 { return c.Flagged }, false, false},
	{"READ", func(c *pipeline.Counts) int64 { return c.Bytes }, true, true},
}

func (s *show) table(r pipeline.Report) {
	var used []column
	for _, c := range reported {
		if c.must || c.of(&r.Total) != 0 {
			used = append(used, c)
		}
	}
	row := func(name string, k *pipeline.Counts) []string {
		cells := []string{name}
		for _, c := range used {
			if n := c.of(k); c.size {
				cells = append(cells, bytesOf(n))
			} else {
				cells = append(cells, number(n))
			}
		}
		return cells
	}
	t := table{{"FOLDER"}}
	for _, c := range used {
		if c.name == "STORED" && s.app.sends {
			c.name = "DELIVERED"
		}
		t[0] = append(t[0], c.name)
	}
	for _, p := range slices.Sorted(maps.Keys(r.Folders)) {
		t = append(t, row(mail.Clean(string(p)), r.Folders[p]))
	}
	t = append(t, row("TOTAL", &r.Total))
	t.print(s.app.out, 1)
	s.sums(&r.Total)
	s.there(r)
}

// sums says in a sentence what the run came to.
func (s *show) sums(t *pipeline.Counts) {
	w := s.app.out
	done := "stored"
	if s.app.sends {
		done = "delivered"
	}
	fmt.Fprintf(w, "%s %s (%s) in %s", plural(t.Stored, "message"), done, bytesOf(t.Written), time.Since(s.started).Round(10*time.Millisecond))
	if t.Duplicate > 0 {
		fmt.Fprintf(w, "; %s, which saved %s", plural(t.Duplicate, "duplicate"), bytesOf(t.Saved))
	}
	if t.Spared > 0 {
		fmt.Fprintf(w, " (%s of them not even downloaded)", number(t.Spared))
	}
	if t.Removed > 0 {
		fmt.Fprintf(w, "; %s deleted at the server", number(t.Removed))
	}
	fmt.Fprintln(w)
}

// there says what the destination itself counts.
func (s *show) there(r pipeline.Report) {
	var all pipeline.Held
	for _, h := range r.There {
		all.Before += h.Before
		all.Added += h.Added
		all.After += h.After
	}
	if all.Added > 0 {
		fmt.Fprintf(s.app.out, "the destination counts %s before, %s added, %s after\n", plural(all.Before, "message"), number(all.Added), number(all.After))
	}
}

// number groups digits by thousands; negative is unknown.
func number(n int64) string {
	if n < 0 {
		return "?"
	}
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func plural(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return number(n) + " " + what + "s"
}

// bytesOf is a size in a unit that suits it; negative is unknown.
func bytesOf(n int64) string {
	switch {
	case n < 0:
		return "?"
	case n < 1000:
		return strconv.FormatInt(n, 10) + " B"
	}
	f := float64(n)
	for _, unit := range []string{"kB", "MB", "GB", "TB"} {
		if f /= 1000; f < 999.95 {
			return strconv.FormatFloat(f, 'f', 1, 64) + " " + unit
		}
	}
	return strconv.FormatFloat(f/1000, 'f', 1, 64) + " PB"
}
