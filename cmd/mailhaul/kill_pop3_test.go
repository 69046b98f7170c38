//go:build unix

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mailhaul/internal/testmail"
)

// TestKilledDeleting ends POP3 backups that delete at once by kill -9: at a
// random command, before the server has done it or when it has and has not
// answered yet. In the end every message that was ever delivered is in the
// archive, none twice, and none is left on the server.
func TestKilledDeleting(t *testing.T) {
	for _, c := range []struct {
		to     string // format of the location
		stored int    // messages that lie in the archive in the end
	}{
		{"mbox:%s", 42},
		{"maildir:%s", 43},
		{"maildir:%s?layout=maildir%%2B%%2B", 43},
	} {
		t.Run(strings.NewReplacer(":%s", "", "?layout=maildir%%2B%%2B", "++").Replace(c.to), func(t *testing.T) {
			t.Parallel()
			k := &popKiller{killer: killer{t: t}, to: c.to, stored: c.stored}
			for round := range rounds(12) {
				k.round(round)
			}
			t.Logf("%d deaths in %d rounds, %d of them after mail was deleted", k.killed, rounds(12), k.late)
			if k.killed < rounds(20) || k.late == 0 && !testing.Short() {
				t.Error("too few runs were killed")
			}
		})
	}
}

type popKiller struct {
	killer // which runs the program
	to     string
	stored int
	drop   *maildrop
	late   int // deaths when mail had gone from the server
}

func (k *popKiller) round(round int) {
	k.drop = newMaildrop("ann")
	k.drop.deliver(slices.Collect(testmail.Generate(uint64(round), 30))...)
	for i := range 10 {
		k.drop.deliver(letter(i))
	}
	k.drop.deliver(letter(3)) // again: another message of the same bytes
	k.from = "pop3://ann@" + k.drop.Start(k.t) + "?tls=none"
	defer k.drop.Close()
	dir := filepath.Join(k.t.TempDir(), "archive")
	to := fmt.Sprintf(k.to, dir)
	r := rand.New(rand.NewPCG(uint64(round), 5))
	for range 1 + round%3 {
		k.kill(r, to)
	}
	k.drop.deliver(letter(50), letter(51))
	k.kill(r, to)
	k.drop.Reset()
	k.run("backup", "--quiet", "--delete-after", "0", "--yes", k.from, to)
	if err := k.drop.equals(dir, "127.0.0.1", nil); err != nil {
		k.t.Fatalf("round %d: %v", round, err)
	}
	if n, err := countStored(dir); err != nil || n != k.stored {
		k.t.Fatalf("round %d: %d messages are stored, want %d (%v)", round, n, k.stored, err)
	}
	if n := len(k.drop.Left()); n != 0 {
		k.t.Fatalf("round %d: %d messages are left on the server", round, n)
	}
	k.run("verify", "--quiet", dir)
	k.drop.Reset()
	k.run("backup", "--quiet", k.from, to)
	if k.drop.Bodies() != 0 {
		k.t.Fatalf("round %d: the last run fetched %d bodies", round, k.drop.Bodies())
	}
}

// kill runs a backup and ends it at one of its commands: at any of the first
// hundred, at one that deletes, or when mail has gone and this was not said yet.
func (k *popKiller) kill(r *rand.Rand, to string) {
	had, at := len(k.drop.Left()), 1+r.IntN(100)
	due := func(testmail.Command) bool { return true }
	before := func(f func()) {
		k.drop.Fault(func(c testmail.Command) *testmail.Reply {
			if due(c) {
				f()
			}
			return nil
		})
	}
	after := func(f func()) {
		k.drop.Twist(func(a *testmail.Response) {
			if due(a.Command) {
				f()
			}
		})
	}
	hook := []func(func()){before, after}[r.IntN(2)]
	switch r.IntN(4) {
	case 0:
		at = 1 + r.IntN(max(had, 1)) // nothing is left after a death that came late
		due = func(c testmail.Command) bool { return c.Verb == "DELE" }
	case 1:
		hook, at = after, 1
		due = func(testmail.Command) bool { return len(k.drop.Left()) < had }
	}
	code, err := stopped(k.drop, hook, k.command("backup", "--quiet", "--delete-after", "0", "--yes", k.from, to), os.Kill, at)
	switch {
	case err == nil && code == -1:
		k.killed++
		if len(k.drop.Left()) < had {
			k.late++
		}
	case err != nil || code != 0:
		k.t.Fatalf("a run that was not killed: exit %d, %v", code, err)
	}
}
