package pipeline

import (
	"context"

	"mailhaul/internal/catalog"
	"mailhaul/source"
)

// accepted are the messages of a folder that failed, or are in doubt, and that
// the user wants left as they are: they are counted and not fetched.
type accepted struct {
	left  map[source.ID]source.Entry // not listed yet
	found int64                      // listed at the source
}

func (a *accepted) is(x *catalog.Failure) {
	if a.left == nil {
		a.left = map[source.ID]source.Entry{}
	}
	a.left[x.Entry.ID] = x.Entry
}

// listed reports whether e is one of them. Another size under the same ID is
// another message.
func (a *accepted) listed(e source.Entry) bool {
	x, ok := a.left[e.ID]
	if !ok || e.Size >= 0 && x.Size >= 0 && e.Size != x.Size {
		return false
	}
	a.found++
	return true
}

// unlisted counts those that a partial listing has left out.
func (a *accepted) unlisted(seen map[source.ID]struct{}) (n int64) {
	for id := range a.left {
		if _, ok := seen[id]; !ok {
			n++
		}
	}
	a.found += n
	return n
}

// settle drops what failed before and is not at the source any more. It is
// called after a listing without gaps.
func (t *try) settle(ctx context.Context) error {
	for id := range t.rows {
		if _, ok := t.sighted[id]; ok {
			continue
		}
		if err := t.Catalog.Settle(ctx, t.box, id); err != nil {
			return err
		}
	}
	return nil
}
