package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"mailhaul/internal/mail"
	"mailhaul/internal/pipeline"
	"mailhaul/source"
)

// A show turns events into a bar on a terminal, lines in a log, or JSON.
type show struct {
	app *app

	mu      sync.Mutex
	folders map[mail.Path]*ahead
	at      mail.Path
	done    ahead // read and settled so far
	started time.Time
	bar     *progressbar.ProgressBar
	enc     *json.Encoder
	stop    chan struct{}
	stopped sync.WaitGroup
}

// ahead is how much there is: messages and bytes.
type ahead struct {
	messages, bytes int64
	planned         bool // listed, not guessed
	unknown         bool // the server does not tell bytes
}

const (
	redraw    = 150 * time.Millisecond
	lineEvery = 5 * time.Second
)

func (a *app) show() *show {
	s := &show{app: a, folders: map[mail.Path]*ahead{}, started: time.Now(), stop: make(chan struct{})}
	switch {
	case a.json:
		s.enc = json.NewEncoder(a.out)
	case a.quiet:
	case columns(a.err) >= leastColumns:
		s.bar = newBar(a.err, columns(a.err))
		s.every(redraw, func() { s.draw(columns(a.err)) })
	default:
		s.every(lineEvery, s.line)
	}
	return s
}

// columns is how wide a terminal is; 0 when it is none.
func columns(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0
	}
	wide, _, err := term.GetSize(int(f.Fd()))
	if err != nil || wide <= 0 {
		return 80 // a terminal that does not know
	}
	return wide
}

// A line that does not fit would be broken by the terminal, and each redraw
// would leave a piece of it behind.
const (
	leastColumns = 60
	mostBar      = 24
	aroundBar    = 42 // percent, rate, time passed and left
)

func barWidth(columns int) int { return min(max(columns-aroundBar-22, 8), mostBar) }

// newBar is a bar over bytes. It gets its numbers from a ticker: its errors,
// and what it costs, stay out of the data's way.
func newBar(w io.Writer, columns int) *progressbar.ProgressBar {
	return progressbar.NewOptions64(1,
		progressbar.OptionSetWriter(terminal{w}),
		progressbar.OptionShowBytes(true),
		progressbar.OptionSetWidth(barWidth(columns)),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionThrottle(0),
		progressbar.OptionSetRenderBlankState(false))
}

// terminal hides that the writer is a file: the bar would sync it at every
// step.
type terminal struct{ io.Writer }

func (s *show) every(d time.Duration, f func()) {
	s.stopped.Go(func() {
		t := time.NewTicker(d)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				f()
			case <-s.stop:
				return
			}
		}
	})
}

// end stops showing progress; what follows is the report.
func (s *show) end() {
	close(s.stop)
	s.stopped.Wait()
	if s.bar != nil {
		s.bar.Finish() // its error is of the terminal, and nobody else could be told
		s.bar.Clear()
	}
}

// event takes an event in.
func (s *show) event(e pipeline.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count(e)
	if s.enc != nil {
		s.enc.Encode(jsonEvent(e))
		return
	}
	switch e.Kind {
	case pipeline.Retrying:
		s.say("warning: %s: trying again", tell(e))
	case pipeline.Missing:
		s.say("warning: %s: %s are not in the archive any more (deleted or changed by another program); fetching them again if the server still has them",
			mail.Clean(string(e.Folder)), plural(e.Count, "message"))
	case pipeline.Note:
		s.say("warning: %s", mail.Clean(e.Err.Error()))
	case pipeline.Recovered:
		if !s.app.quiet && e.Count > 0 {
			s.say("%s: %s of an earlier run that was cut short are whole", mail.Clean(string(e.Folder)), plural(e.Count, "message"))
		}
	}
}

func tell(e pipeline.Event) string {
	if e.Folder == "" || strings.Contains(e.Err.Error(), string(e.Folder)) {
		return mail.Clean(e.Err.Error())
	}
	return mail.Clean(string(e.Folder)) + ": " + mail.Clean(e.Err.Error())
}

// count keeps the sums.
func (s *show) count(e pipeline.Event) {
	f := s.folders[e.Folder]
	if f == nil {
		f = &ahead{}
		s.folders[e.Folder] = f
	}
	switch e.Kind {
	case pipeline.Expected:
		f.messages, f.bytes, f.unknown = max(e.Count, 0), max(e.Bytes, 0), e.Bytes < 0
	case pipeline.Planned:
		if !f.planned {
			*f = ahead{planned: true}
		}
		f.messages += e.Count
		f.bytes += e.Bytes
	case pipeline.Read:
		s.at = e.Folder
		s.done.bytes += e.Bytes
	case pipeline.Stored, pipeline.Duplicate, pipeline.Vanished, pipeline.Failed, checked:
		s.done.messages += e.Count
	case pipeline.Folded:
		if !f.planned {
			*f = ahead{planned: true} // nothing was new
		}
	}
}

// total is what there is in all. Messages of unknown size are taken to be like
// the others.
func (s *show) total() (t ahead) {
	var guess, listed ahead
	for _, f := range s.folders {
		t.messages += f.messages
		t.bytes += f.bytes
		switch {
		case f.unknown:
			guess.messages += f.messages
		case f.planned:
			listed.messages += f.messages
			listed.bytes += f.bytes
		}
	}
	if listed.messages > 0 {
		t.bytes += guess.messages * (listed.bytes / listed.messages)
	}
	t.messages = max(t.messages, s.done.messages)
	// Never at the end before the end.
	t.bytes = max(t.bytes, s.done.bytes+s.done.bytes/200+1)
	return t
}

func (s *show) draw(columns int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.total()
	counts := number(s.done.messages) + "/" + number(t.messages)
	room := columns - aroundBar - barWidth(columns) - len(counts) - 1
	s.bar.Describe(strings.TrimRight(counts+" "+short(s.at, room), " "))
	s.bar.ChangeMax64(t.bytes)
	s.bar.Set64(s.done.bytes)
}

// short is the end of a folder's name, in so many cells of a terminal.
func short(p mail.Path, room int) string {
	name := mail.Clean(string(p))
	if cells(name) <= room {
		return name
	}
	if room < 8 {
		return ""
	}
	r := []rune(name)
	for cells(string(r)) > room-3 {
		r = r[1:]
	}
	return "..." + string(r)
}

// cells is how wide a text is at most: letters of eastern scripts take two.
func cells(s string) (n int) {
	for _, r := range s {
		if n++; r >= 0x2e80 {
			n++
		}
	}
	return n
}

func (s *show) line() {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.total()
	if t.messages == 0 && s.done.bytes == 0 {
		return
	}
	passed := time.Since(s.started)
	rate := float64(s.done.bytes) / passed.Seconds()
	left := ""
	if rate > 0 && t.bytes > s.done.bytes {
		left = ", " + (time.Duration(float64(t.bytes-s.done.bytes)/rate) * time.Second).Round(time.Second).String() + " left"
	}
	s.say("%s of %s messages, %s of %s, %s/s%s, at %s", number(s.done.messages), number(t.messages),
		bytesOf(s.done.bytes), bytesOf(t.bytes), bytesOf(int64(rate)), left, mail.Clean(string(s.at)))
}

// say prints a line above the bar.
func (s *show) say(format string, args ...any) {
	if s.bar != nil {
		s.bar.Clear()
	}
	fmt.Fprintf(s.app.err, "mailhaul: %s\n", fmt.Sprintf(format, args...))
}

// An eventLine is a line of --json: the schema is in the README.
type eventLine struct {
	Time   string    `json:"time"`
	Event  string    `json:"event"`
	Folder mail.Path `json:"folder,omitempty"`
	ID     source.ID `json:"id,omitempty"`
	Count  int64     `json:"count,omitempty"`
	Bytes  int64     `json:"bytes,omitempty"`
	Error  string    `json:"error,omitempty"`
}

func jsonEvent(e pipeline.Event) eventLine {
	l := eventLine{e.Time.UTC().Format(time.RFC3339Nano), string(e.Kind), e.Folder, e.ID, e.Count, e.Bytes, ""}
	if e.Err != nil {
		l.Error = mail.Clean(e.Err.Error())
	}
	return l
}

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

// problems names every message that is not in the archive, with the reason.
func (s *show) problems(r pipeline.Report) {
	a := s.app
	const most = 1000
	for i, f := range r.Failed {
		if i == most {
			a.warn("and %d more", len(r.Failed)-most)
			break
		}
		if f.ID == "" {
			a.warn("%s: %s", mail.Clean(string(f.Folder)), mail.Clean(f.Reason))
		} else {
			a.warn("%s: message %s: %s", mail.Clean(string(f.Folder)), mail.Clean(string(f.ID)), mail.Clean(f.Reason))
		}
	}
	if len(r.Failed) > 0 {
		a.hint("these are not in the archive; the next run tries them again")
	}
	for i, g := range r.Lost {
		if i == most {
			a.warn("and %d more", len(r.Lost)-most)
			break
		}
		a.warn("%s: a message (SHA-256 %s) is gone from the archive, and from the server too", mail.Clean(string(g.Folder)), g.SHA256[:16])
	}
	if len(r.Lost) > 0 {
		a.hint("put the archive's files back from a copy of yours, if there is one, and run again")
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
	{"NOT REACHED", func(c *pipeline.Counts) int64 { return c.Unreached }, false, false},
	{"REFLAGGED", func(c *pipeline.Counts) int64 { return c.Flagged }, false, false},
	{"READ", func(c *pipeline.Counts) int64 { return c.Bytes }, true, true},
}

func (s *show) table(r pipeline.Report) {
	w := tabwriter.NewWriter(s.app.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	var used []column
	for _, c := range reported {
		if c.must || c.of(&r.Total) != 0 {
			used = append(used, c)
		}
	}
	width := len("FOLDER")
	var paths []mail.Path
	for p := range r.Folders {
		paths = append(paths, p)
		width = max(width, len([]rune(mail.Clean(string(p)))))
	}
	slices.Sort(paths)
	row := func(name string, cell func(column) string) {
		fmt.Fprintf(w, "%s%s", name, strings.Repeat(" ", width-len([]rune(name))))
		for _, c := range used {
			fmt.Fprintf(w, "\t%s", cell(c))
		}
		fmt.Fprintln(w, "\t")
	}
	row("FOLDER", func(c column) string { return c.name })
	counts := func(k *pipeline.Counts) func(column) string {
		return func(c column) string {
			if c.size {
				return bytesOf(c.of(k))
			}
			return number(c.of(k))
		}
	}
	for _, p := range paths {
		row(mail.Clean(string(p)), counts(r.Folders[p]))
	}
	row("TOTAL", counts(&r.Total))
	w.Flush()
	t := &r.Total
	fmt.Fprintf(s.app.out, "%s stored (%s) in %s", plural(t.Stored, "message"), bytesOf(t.Written), time.Since(s.started).Round(10*time.Millisecond))
	if t.Duplicate > 0 {
		fmt.Fprintf(s.app.out, "; %s, which saved %s", plural(t.Duplicate, "duplicate"), bytesOf(t.Saved))
	}
	if t.Spared > 0 {
		fmt.Fprintf(s.app.out, " (%s of them not even downloaded)", number(t.Spared))
	}
	fmt.Fprintln(s.app.out)
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
