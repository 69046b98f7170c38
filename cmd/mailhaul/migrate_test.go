package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"mailhaul/internal/testmail"
)

// sameMail compares what the first two servers hold, folder by folder: bytes,
// flags and dates, each message as often as it is there.
func sameMail(ts *testscript.TestScript, neg bool, args []string) {
	w := worldOf(ts)
	if len(w.mails) < 2 {
		ts.Fatalf("there are no two servers")
	}
	to := map[string]string{}
	for _, arg := range args {
		from, name, ok := strings.Cut(arg, "=")
		if !ok {
			ts.Fatalf("usage: same-mail [A=B...]")
		}
		to[from] = name
	}
	problem := differ(w.mails[0], w.mails[1], to)
	if neg && problem == "" {
		ts.Fatalf("both servers hold the same")
	}
	if !neg && problem != "" {
		ts.Fatalf("%s", problem)
	}
}

func differ(a, b *mailbox, to map[string]string) string {
	seen := map[string]bool{}
	for _, name := range a.Names() {
		at := name
		if t, ok := to[name]; ok {
			at = t
		}
		if at == "" {
			continue // left out
		}
		seen[at] = true
		if !slices.Contains(b.Names(), at) {
			return fmt.Sprintf("%s is not at the destination as %s: %q", name, at, b.Names())
		}
		left := map[string]int{}
		for _, m := range a.Mails(name) {
			left[print(m)]++
		}
		for _, m := range b.Mails(at) {
			left[print(m)]--
		}
		for m, n := range left {
			if n > 0 {
				return fmt.Sprintf("%s: missing %d times at the destination: %s", name, n, m)
			}
			if n < 0 {
				return fmt.Sprintf("%s: %d times too often at the destination: %s", name, -n, m)
			}
		}
	}
	for _, name := range b.Names() {
		if len(b.Mails(name)) > 0 && !seen[name] {
			return fmt.Sprintf("%s is at the destination only", name)
		}
	}
	return ""
}

func print(m testmail.Message) string {
	return fmt.Sprintf("%s (%s) %.300q", m.Date.UTC().Format("2006-01-02T15:04:05Z"), m.Flags.Key(), m.Raw())
}
