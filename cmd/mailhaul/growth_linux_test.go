package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"mailhaul/internal/testmail"
)

// BenchmarkGrowth brings one folder of more and more small messages with the
// real program: the time should grow as they do, the memory hardly at all. Then
// it runs again, when there is nothing new. Look at it with
//
//	go test ./cmd/mailhaul -run - -bench Growth -benchtime 1x -timeout 1h
func BenchmarkGrowth(b *testing.B) {
	for _, n := range []int{1_000, 20_000, 100_000, 1_000_000} {
		m := newMailbox("ann")
		for from := 0; from < n; from += 10_000 {
			var some []testmail.Message
			for i := from; i < min(n, from+10_000); i++ {
				some = append(some, testmail.Letter("", fmt.Appendf(nil, "From: a%d@example.org\r\nMessage-ID: <%d@example.org>\r\nSubject: growth\r\n\r\nA short message, and the only one that says %d.\r\n", i%977, i, i)))
			}
			m.Deliver("Large", some...)
		}
		from := "imap://ann@" + m.Start(b) + "?tls=none"
		for _, format := range []string{"mbox", "maildir"} {
			if format == "maildir" && n > 100_000 {
				continue // as many files, each synced: the disk's speed and nothing else
			}
			dir := filepath.Join(b.TempDir(), "archive")
			for _, what := range []string{"first", "again"} {
				b.Run(fmt.Sprintf("%s/%d/%s", format, n, what), func(b *testing.B) {
					for b.Loop() {
						if what == "first" {
							os.RemoveAll(dir)
						}
						took, cpu, memory := measured(b, "backup", "--quiet", from, format+":"+dir)
						b.ReportMetric(float64(took.Microseconds())/float64(n), "µs/message")
						b.ReportMetric(float64(memory)/(1<<20), "MiB-most")
						b.ReportMetric(float64(cpu.Milliseconds()), "ms-CPU")
					}
				})
			}
		}
		m.Close()
	}
}

// measured runs the real program and tells how long that took, how much of the
// processor, and the most memory that it held.
func measured(b *testing.B, args ...string) (took, cpu time.Duration, memory int64) {
	b.Helper()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	var said bytes.Buffer
	cmd := exec.Command(self, args...)
	cmd.Args[0] = "mailhaul" // TestMain is the program then
	cmd.Env = append(os.Environ(), "MAILHAUL_PASSWORD="+canary)
	cmd.Stdout, cmd.Stderr = &said, &said
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case err := <-ended:
			if err != nil {
				b.Fatalf("%v: %s", err, &said)
			}
			return time.Since(begun), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), memory
		case <-look.C:
			memory = max(memory, resident(cmd.Process.Pid))
		}
	}
}

// resident is the most memory that a process has held so far. What the system
// tells of it at its end is no use: that counts what it was forked from.
func resident(pid int) int64 {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // it may have ended
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kib, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	n, _ := strconv.ParseInt(kib, 10, 64)
	return n << 10
}
