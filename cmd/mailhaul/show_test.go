package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"mailhaul/internal/mail"
	"mailhaul/internal/pipeline"
)

// TestBar draws the bar at many moments of a run, on terminals of many widths.
func TestBar(t *testing.T) {
	for _, columns := range []int{leastColumns, 70, 80, 100, 200} {
		var out strings.Builder
		s := &show{app: &app{stdio: stdio{err: &out, out: &out}}, folders: map[mail.Path]*ahead{}, bar: newBar(&out, columns, true),
			stop: make(chan struct{}), started: time.Now()}
		const messages, size = 12_000, 50_000
		say := func(kind pipeline.Kind, path mail.Path, n, bytes int64) {
			s.event(pipeline.Event{Kind: kind, Folder: path, Count: n, Bytes: bytes})
		}
		folders := []mail.Path{"INBOX", "Work/Projects/A rather long name for a folder/2021", mail.Path(strings.Repeat("旅行", 20))}
		for _, f := range folders {
			say(pipeline.Expected, f, messages, -1)
		}
		for _, f := range folders {
			say(pipeline.Planned, f, messages, messages*size)
			for i := range 20 {
				say(pipeline.Read, f, 0, messages*size/20)
				say(pipeline.Stored, f, messages/20, messages*size/20)
				if i == 7 {
					s.event(pipeline.Event{Kind: pipeline.Note, Folder: f, Err: errors.New("something")})
				}
				s.draw(columns)
				if strings.Contains(out.String(), " 99%") && f == folders[0] {
					t.Fatalf("%d columns: nearly done after %d%% of the first of three folders", columns, 5*i+5)
				}
			}
		}
		if strings.Contains(out.String(), "100%") {
			t.Errorf("%d columns: the bar was at its end before the end", columns)
		}
		for line := range strings.FieldsFuncSeq(out.String(), func(r rune) bool { return r == '\r' || r == '\n' }) {
			if n := cells(line); n > columns && strings.TrimSpace(line) != "" && !strings.HasPrefix(line, "mailhaul: ") {
				t.Fatalf("%d columns: a line of %d: %q", columns, n, line)
			}
		}
		if !strings.Contains(out.String(), "36,000 ") {
			t.Errorf("%d columns: no count of messages in %q", columns, out.String())
		}
		before := out.Len()
		s.end()
		if !strings.HasSuffix(out.String(), "\r") || len(strings.Trim(out.String()[before:], "\r ")) > columns {
			t.Errorf("the bar leaves %q", out.String()[before:])
		}
	}
}
