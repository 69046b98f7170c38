package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
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
	drawn   bool
	counts  bool // the bar is over messages: they are looked at, not read
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

func (a *app) show() *show { return a.showing(false) }

// showing is show with a bar over messages instead of bytes.
func (a *app) showing(counts bool) *show {
	s := &show{app: a, counts: counts, folders: map[mail.Path]*ahead{}, started: time.Now(), stop: make(chan struct{})}
	switch {
	case a.json:
		s.enc = json.NewEncoder(a.out)
	case a.quiet:
	case columns(a.err) >= leastColumns:
		s.bar = newBar(a.err, columns(a.err), !counts)
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

// newBar is a bar over bytes or messages. It gets its numbers from a ticker: its errors,
// and what it costs, stay out of the data's way.
func newBar(w io.Writer, columns int, bytes bool) *progressbar.ProgressBar {
	return progressbar.NewOptions64(1,
		progressbar.OptionSetWriter(terminal{w}),
		progressbar.OptionShowBytes(bytes),
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
	if s.drawn {
		s.bar.Finish() // its error is of the terminal, and nobody else could be told
		s.bar.Clear()
	}
}

// event takes an event in.
func (s *show) event(e pipeline.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.folders) == 0 {
		s.started = time.Now() // the time that a password took does not count
	}
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
		if !s.app.quiet || e.Count == 0 { // once a month is enough for cron
			s.say("warning: %s", mail.Clean(e.Err.Error()))
		}
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
	case pipeline.Stored, pipeline.Duplicate, pipeline.Vanished, pipeline.Failed, pipeline.InDoubt, checked:
		s.done.messages += e.Count
	case pipeline.Folded:
		if !f.planned {
			*f = ahead{planned: true} // nothing was new
		}
	}
}

// looked tells which folder is at work where nothing is read.
func (s *show) looked(folder mail.Path) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = folder
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
	if len(s.folders) == 0 {
		return // the password may still be asked for
	}
	t := s.total()
	s.drawn = true
	counts := number(s.done.messages) + "/" + number(t.messages)
	room := columns - aroundBar - barWidth(columns) - len(counts) - 1
	s.bar.Describe(strings.TrimRight(counts+" "+short(s.at, room), " "))
	if s.counts {
		s.bar.ChangeMax64(max(t.messages, s.done.messages+1))
		s.bar.Set64(s.done.messages)
		return
	}
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
	if s.counts {
		s.say("%s of %s messages, at %s", number(s.done.messages), number(t.messages), mail.Clean(string(s.at)))
		return
	}
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
	if s.drawn {
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
