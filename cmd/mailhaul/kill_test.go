//go:build unix

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailhaul/internal/testmail"
)

// TestKilled ends first runs by kill -9 at random moments. After each death a
// run to the end must reach exactly what the server holds, with nothing stored
// twice, and a third run must change nothing.
func TestKilled(t *testing.T) {
	for _, c := range []struct {
		to     string // format of the location
		stored int    // messages that lie in the archive in the end
	}{
		{"mbox:%s", 74},
		{"maildir:%s", 75},
	} {
		t.Run(strings.TrimSuffix(c.to, ":%s"), func(t *testing.T) {
			t.Parallel()
			m := newMailbox("ann")
			m.life()
			m.deliver("INBOX", slices.Collect(testmail.Generate(3, 40))...)
			m.deliver("Archive", slices.Collect(testmail.Generate(4, 20))...)
			k := &killer{t: t, m: m, from: "imap://ann@" + m.Start(t) + "?tls=none"}
			for round := range rounds(26) {
				k.round(round, c.to, c.stored)
			}
			t.Logf("%d deaths in %d rounds", k.killed, rounds(26))
			if k.killed < rounds(40) {
				t.Error("too few runs were killed before their end")
			}
		})
	}
}

// rounds is how many of n are played: few where short ones are asked for.
func rounds(n int) int {
	if testing.Short() {
		return n / 6
	}
	return n
}

type killer struct {
	t      *testing.T
	m      *mailbox
	from   string
	state  string // directory for what is remembered of servers
	killed int
}

func (k *killer) round(round int, format string, want int) {
	k.t.Helper()
	dir := filepath.Join(k.t.TempDir(), "archive")
	to := fmt.Sprintf(format, dir)
	// Some runs die several times before one is let through.
	r := rand.New(rand.NewPCG(uint64(round), 9))
	for range 1 + round%3 {
		k.kill(r, "backup", "--quiet", k.from, to)
	}
	k.run("backup", "--quiet", k.from, to)
	if err := k.m.equals(dir, "127.0.0.1", nil); err != nil {
		k.t.Fatalf("round %d: %v", round, err)
	}
	if n, err := countStored(dir); err != nil || n != want {
		k.t.Fatalf("round %d: %d messages are stored, want %d (%v)", round, n, want, err)
	}
	k.run("verify", "--quiet", dir)
	k.m.Reset()
	k.run("backup", "--quiet", k.from, to)
	if n := k.m.Bodies(); n != 0 {
		k.t.Fatalf("round %d: the third run fetched %d bodies", round, n)
	}
}

// TestKilledMigration does the same for an account that goes to another server:
// in the end each message is there exactly once.
func TestKilledMigration(t *testing.T) {
	for _, capability := range []string{"MULTIAPPEND", "X-NONE"} {
		t.Run(capability, func(t *testing.T) {
			t.Parallel()
			m := newMailbox("ann")
			m.life()
			m.deliver("INBOX", slices.Collect(testmail.Generate(3, 40))...)
			m.deliver("Archive", slices.Collect(testmail.Generate(4, 20))...)
			k := &killer{t: t, m: m, from: "imap://ann@" + m.Start(t) + "?tls=none"}
			for round := range rounds(24) {
				k.migration(round, capability)
			}
			t.Logf("%d deaths in %d rounds", k.killed, rounds(24))
			if k.killed < rounds(36) {
				t.Error("too few runs were killed before their end")
			}
		})
	}
}

func (k *killer) migration(round int, capability string) {
	k.t.Helper()
	k.state = k.t.TempDir()
	dest := newMailbox("eve")
	dest.Caps = append(slices.Clone(testmail.DefaultCaps), capability)
	to := "imap://eve@" + dest.Start(k.t) + "?tls=none"
	defer dest.Close()
	r := rand.New(rand.NewPCG(uint64(round), 10))
	for range 1 + round%3 {
		k.kill(r, "migrate", "--quiet", "--yes", k.from, to)
		settle(dest)
	}
	k.run("migrate", "--quiet", "--yes", k.from, to)
	if problem := differ(k.m, dest, nil); problem != "" {
		k.t.Fatalf("round %d: %s", round, problem)
	}
	dest.Reset()
	k.run("migrate", "--quiet", "--yes", k.from, to)
	if n := dest.Count("APPEND"); n != 0 {
		k.t.Fatalf("round %d: the third run appended %d times", round, n)
	}
}

// kill starts a run and ends it a random while after a random body was asked
// for. It does not matter when exactly: the outcome must always be the same.
func (k *killer) kill(r *rand.Rand, args ...string) {
	body, while := 1+r.IntN(60), time.Duration(r.IntN(20_000))*time.Microsecond
	cmd := k.command(args...)
	seen := make(chan struct{}, 1000)
	k.m.Bend(testmail.WithBody(func(*testmail.Answer) {
		select {
		case seen <- struct{}{}:
		default:
		}
	}))
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	wait := func() error {
		for range body {
			select {
			case <-seen:
			case err := <-ended:
				return err
			}
		}
		select {
		case <-time.After(while):
			cmd.Process.Kill()
		case err := <-ended:
			return err
		}
		err := <-ended
		if err != nil && cmd.ProcessState.ExitCode() == -1 {
			k.killed++
			return nil
		}
		return err
	}
	err := wait()
	k.m.Heal()
	settle(k.m)
	if err != nil {
		k.t.Fatalf("a run that was not killed: %v", err)
	}
}

func (k *killer) command(args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		k.t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Args[0] = "mailhaul" // TestMain is the program then
	cmd.Env = append(os.Environ(), "MAILHAUL_PASSWORD="+canary, "GORACE=atexit_sleep_ms=0", "XDG_STATE_HOME="+k.state)
	return cmd
}

// run runs the program to its end, which must be a good and a quiet one.
func (k *killer) run(args ...string) {
	k.t.Helper()
	out, err := k.command(args...).CombinedOutput()
	if err != nil {
		k.t.Fatalf("mailhaul %s: %v\n%s", args[0], err, out)
	}
	if strings.Contains(string(out), canary) {
		k.t.Fatalf("the password is in the output of %s", args[0])
	}
}

// TestKilledHolder has a run hold the archive while another comes, which says
// whose it is; kill -9 of the holder gives the archive back at once.
func TestKilledHolder(t *testing.T) {
	m := newMailbox("ann")
	m.life()
	k := &killer{t: t, m: m, from: "imap://ann@" + m.Start(t) + "?tls=none"}
	dir := filepath.Join(t.TempDir(), "archive")
	for round := range 3 {
		asked, stay := make(chan struct{}), make(chan struct{})
		var once sync.Once
		m.Bend(testmail.WithBody(func(*testmail.Answer) { once.Do(func() { close(asked) }); <-stay }))
		m.deliver("INBOX", letter(100+round))
		holder := k.command("backup", "--quiet", k.from, "mbox:"+dir)
		if err := holder.Start(); err != nil {
			t.Fatal(err)
		}
		<-asked
		second := k.command("backup", "--quiet", k.from, "mbox:"+dir)
		out, err := second.CombinedOutput()
		if err == nil || second.ProcessState.ExitCode() != 5 || !strings.Contains(string(out), fmt.Sprintf("locked by process %d on ", holder.Process.Pid)) {
			t.Errorf("a second run ended in %v, and said: %s", err, out)
		}
		holder.Process.Kill()
		holder.Wait()
		close(stay)
		m.Heal()
		settle(m)
		k.run("backup", "--quiet", k.from, "mbox:"+dir)
		if err := m.equals(dir, "127.0.0.1", nil); err != nil {
			t.Fatal(err)
		}
	}
}
