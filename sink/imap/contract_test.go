package imap

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"mailhaul/internal/imapconn"
	"mailhaul/internal/testmail"
	"mailhaul/sink"
	"mailhaul/sink/sinktest"
)

// over makes a sink of a model server.
func over(addr string, connections int) *Sink {
	return New(optionsFor(addr), connections,
		Options{Identity: "imap:ann@" + addr, Sleep: func(ctx context.Context, _ time.Duration) error { return context.Cause(ctx) }})
}

func optionsFor(addr string) imapconn.Options {
	return imapconn.Options{Addr: addr, Security: imapconn.None, User: "ann", Password: "secret"}
}

func without(caps []string, names ...string) []string {
	return slices.DeleteFunc(slices.Clone(caps), func(c string) bool { return slices.Contains(names, c) })
}

func TestContract(t *testing.T) {
	for _, c := range []struct {
		name        string
		caps        []string
		connections int
	}{
		{"modern", append(slices.Clone(testmail.DefaultCaps), "MULTIAPPEND"), 4},
		{"one by one", testmail.DefaultCaps, 4},
		{"without UIDPLUS", without(testmail.DefaultCaps, "UIDPLUS", "LIST-STATUS"), 4},
		{"literals that wait", without(testmail.DefaultCaps, "LITERAL+"), 1},
		{"several, and literals that wait", append(without(testmail.DefaultCaps, "LITERAL+"), "MULTIAPPEND", "LITERAL-"), 4},
		{"last century", testmail.PlainCaps, 2},
		{"gmail", testmail.GmailCaps, 4},
		{"gmail, one connection", testmail.GmailCaps, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var mu sync.Mutex
			servers := map[string]string{}
			sinktest.Run(t, func(t *testing.T, dir string) sink.Sink {
				mu.Lock()
				defer mu.Unlock()
				if servers[dir] == "" {
					m := &testmail.Model{Caps: c.caps}
					m.Keeper.Gmail = slices.Contains(c.caps, "X-GM-EXT-1")
					servers[dir] = m.Start(t)
				}
				return over(servers[dir], c.connections)
			})
		})
	}
}
