package sourcetest

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestSuitePasses(t *testing.T) { Run(t, opener("", false)) }

func TestSuitePassesAlone(t *testing.T) { Run(t, opener("", true)) }

// TestSuitePassesRough: what a store says that it cannot do is no sin.
func TestSuitePassesRough(t *testing.T) { Run(t, opener("guesses sizes", false)) }

// TestSuiteFails commits one sin after the other: a suite that never fails
// proves nothing.
func TestSuiteFails(t *testing.T) {
	for _, c := range []struct {
		sin   string
		check string // that must notice, perhaps among others
		alone bool
	}{
		{sin: "hides a folder", check: "folders"},
		{sin: "counts wrong", check: "folders"},
		{sin: "misses the first", check: "list"},
		{sin: "lists twice", check: "list"},
		{sin: "gives other ids", check: "list"},
		{sin: "has no epoch", check: "list"},
		{sin: "sums up wrong", check: "list"},
		{sin: "lies about size", check: "fetch the corpus"},
		{sin: "forgets flags", check: "fetch the corpus"},
		{sin: "forgets dates", check: "fetch the corpus"},
		{sin: "drops a message", check: "fetch the corpus"},
		{sin: "cuts a body", check: "fetch the corpus"},
		{sin: "changes line ends", check: "fetch the corpus"},
		{sin: "adds a line end", check: "fetch the corpus"},
		{sin: "fails at the end of a body", check: "fetch the corpus"},
		{sin: "describes a wrong size", check: "describe the corpus"},
		{sin: "describes another header", check: "describe the corpus"},
		{sin: "describes no message-id", check: "describe the corpus"},
		{sin: "describes another text", check: "describe the corpus"},
		{sin: "describes too few", check: "describe the corpus"},
		{sin: "describes twice", check: "describe the corpus"},
		{sin: "describes what is not there", check: "describe the corpus"},
		{sin: "ends quietly", check: "describe, cancelled"},
		{sin: "gives twice", check: "fetch in pieces"},
		{sin: "always waits", check: "fetch in pieces"},
		{sin: "takes no room for the end", check: "fetch in pieces"},
		{sin: "ends quietly", check: "cancel list"},
		{sin: "ends quietly", check: "cancel fetch"},
		{sin: "ends quietly", check: "cancelled before"},
		{sin: "finds everything", check: "present"},
		{sin: "finds everything", check: "vanished"},
		{sin: "fails for one", check: "vanished"},
		{sin: "misses what is new", check: "cursor"},
		{sin: "hides that it is partial", check: "cursor"},
		{sin: "blames the account", check: "missing folder"},
		{sin: "opens when closed", check: "close"},
		{sin: "closes once", check: "close"},
		{sin: "removes what was read", check: "reading removes nothing"},
		{sin: "removes nothing", check: "remove"},
		{sin: "removes another", check: "remove"},
		{sin: "removes more", check: "remove"},
		{sin: "hides what it removed", check: "remove"},
		{sin: "tells twice", check: "remove"},
		{sin: "fails for what is not there", check: "remove"},
		{sin: "fails for what is not there", check: "remove again"},
		{sin: "takes nothing for everything", check: "remove nothing"},
		{sin: "spares the last", check: "remove everything"},
		{sin: "removes anywhere", check: "remove from a missing folder"},
		{sin: "removes nothing when cancelled", check: "remove, cancelled"},
		{sin: "believes that all is well", check: "remove what is kept"},
		{sin: "removes when closed", check: "remove when closed"},
	} {
		t.Run(c.sin+", "+c.check, func(t *testing.T) {
			i := slices.IndexFunc(checks, func(k check) bool { return k.name == c.check })
			if failed := collect(t, checks[i], opener(c.sin, c.alone)); len(failed) == 0 {
				t.Errorf("a source that %s passes %q", c.sin, c.check)
			}
		})
	}
}

// TestSuiteFailsSlowly commits the sins that are noticed by waiting; the wait
// is cut short.
func TestSuiteFailsSlowly(t *testing.T) {
	defer func(d time.Duration) { patience = d }(patience)
	patience = 100 * time.Millisecond
	for sin, name := range map[string]string{"leaks": "list", "hangs": "cancel list", "keeps its place": "several at once"} {
		t.Run(sin, func(t *testing.T) {
			i := slices.IndexFunc(checks, func(k check) bool { return k.name == name })
			if failed := collect(t, checks[i], opener(sin, sin == "keeps its place")); len(failed) == 0 {
				t.Errorf("a source that %s passes %q", sin, name)
			}
		})
	}
}

// collector is a TB that gathers failures.
type collector struct {
	ctx     context.Context
	mu      sync.Mutex
	failed  []string
	cleanup []func()
}

// collect runs a check and gives its failures.
func collect(t *testing.T, c check, open Open) []string {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	tb := &collector{ctx: ctx}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			for _, f := range slices.Backward(tb.cleanup) {
				f()
			}
		}()
		c.run(tb, open)
	}()
	<-done
	if len(tb.failed) > 0 {
		line, _, _ := strings.Cut(tb.failed[0], "\n")
		t.Log(line)
	}
	return tb.failed
}

func (c *collector) Helper()                  {}
func (c *collector) Logf(string, ...any)      {}
func (c *collector) Context() context.Context { return c.ctx }
func (c *collector) Cleanup(f func())         { c.cleanup = append(c.cleanup, f) }
func (c *collector) Skipf(string, ...any)     { runtime.Goexit() }

func (c *collector) Errorf(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed = append(c.failed, fmt.Sprintf(format, args...))
}

func (c *collector) Fatalf(format string, args ...any) {
	c.Errorf(format, args...)
	runtime.Goexit()
}
