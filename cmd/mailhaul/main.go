// Mailhaul backs up and migrates mailboxes. See the README, or run
// "mailhaul help".
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

func main() { os.Exit(realMain()) }

func realMain() int {
	// Bodies have a budget of their own; the collector keeps the rest small.
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(38 << 20)
	}
	ctx, stop := interruptible()
	defer stop()
	return run(ctx, os.Args[1:], stdio{os.Stdin, os.Stdout, os.Stderr}, os.Getenv)
}

// stdio are the program's streams.
type stdio struct {
	in       *os.File
	out, err io.Writer
}

// interruptible is a context that the first signal ends: reading stops, what
// was read is committed. The second signal leaves at once, which is safe too.
func interruptible() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		s, ok := <-signals
		if !ok {
			return
		}
		cancel(interrupt{s})
		if s, ok = <-signals; ok {
			os.Exit(interrupt{s}.code())
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(signals)
		cancel(nil)
	}
}

// An interrupt is why a run ended early.
type interrupt struct{ signal os.Signal }

func (i interrupt) Error() string { return "interrupted" }

// Is makes it a cancelled context's error too.
func (i interrupt) Is(err error) bool { return err == context.Canceled }

func (i interrupt) code() int {
	if n, ok := i.signal.(syscall.Signal); ok && n == syscall.SIGTERM {
		return 128 + int(n)
	}
	return exitInterrupted
}
