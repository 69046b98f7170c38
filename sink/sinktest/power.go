package sinktest

import (
	"fmt"
	"path/filepath"
	"testing"

	"mailhaul/internal/powerloss"
)

// testPower lets power fail at each step of the scenario, and what was not
// synced by then have each fate. Another run must then reach the same end as if
// nothing had happened, and a third must change nothing.
func testPower(t *testing.T, open Opener) {
	isLocal(t, open)
	dir := tempDir(t)
	disk := powerloss.Record(t, dir, "journal")
	s := open(t, filepath.Join(dir, "archive"))
	j, err := loadJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := play(s, j); err != nil {
		t.Fatal(err)
	}
	s.Close()
	points := disk.Stop()
	found := 0
	for n, p := range points {
		for i, end := range ends(n) {
			if err := p.Restore(end, uint64(i)); err != nil {
				t.Fatal(err)
			}
			what := fmt.Sprintf("power loss at %s, with %s of what was not synced (seed %d)", p, end, i)
			resume(t, open, dir, what)
			thirdRun(t, open, dir)
			if t.Failed() {
				t.Fatal(what)
			}
			found++
		}
	}
	t.Logf("power lost at %d steps, %d disks found", len(points), found)
}

// ends are the fates to try at the nth step: each, and two by chance; in a short
// test one.
func ends(n int) []powerloss.Fate {
	if testing.Short() {
		return []powerloss.Fate{powerloss.Fate(n % powerloss.Fates)}
	}
	var all []powerloss.Fate
	for f := range powerloss.Fates {
		all = append(all, powerloss.Fate(f))
	}
	return append(all, powerloss.Some)
}
