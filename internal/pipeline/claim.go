package pipeline

import (
	"sync"

	"mailhaul/internal/catalog"
)

// claims says what is on its way: a content, or a server's identity, that
// some job is about to commit. Whoever comes second waits without holding a
// body, a batch or room, and hears what became of the first.
type claims struct {
	mu sync.Mutex
	by map[string][]func(*catalog.Twin)
}

// take claims key. When somebody else has it, later is called once that one is
// settled: with what was committed, or nil when it failed.
func (c *claims) take(key string, later func(*catalog.Twin)) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if waiting, taken := c.by[key]; taken {
		c.by[key] = append(waiting, later)
		return false
	}
	if c.by == nil {
		c.by = map[string][]func(*catalog.Twin){}
	}
	c.by[key] = nil
	return true
}

// settle ends a claim. An empty key is none.
func (c *claims) settle(key string, twin *catalog.Twin) {
	if key == "" {
		return
	}
	c.mu.Lock()
	waiting := c.by[key]
	delete(c.by, key)
	c.mu.Unlock()
	for _, later := range waiting {
		later(twin)
	}
}
