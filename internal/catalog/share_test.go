package catalog

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing"

	"mailhaul/internal/mail"
)

// TestShare lets changes wait for one another: they become one step, and one that
// fails spoils none of the others.
func TestShare(t *testing.T) {
	wrong := errors.New("wrong")
	for _, bad := range []int{-1, 0, 3, 7} {
		t.Run(fmt.Sprint("bad ", bad), func(t *testing.T) {
			const n = 8
			h := home(t)
			c := open(t, h)
			b := box(t, c, "INBOX", "7")
			before := c.manifest.len
			var at [n][]int // how much the step had told before
			errs := make(chan error, n)
			c.mu.Lock()
			for i := range n {
				go func() {
					err := c.share(func() error {
						at[i] = append(at[i], len(c.lines))
						if _, err := c.sinkFolder(mail.Path(fmt.Sprint("folder ", i))); err != nil {
							return err
						}
						c.tell(reflagged(b, Change{ID: "1"}))
						if i == bad {
							return wrong
						}
						return nil
					})
					if (i == bad) != (err == wrong) {
						err = fmt.Errorf("change %d: %v", i, err)
					} else {
						err = nil
					}
					errs <- err
				}()
			}
			for waiting := 0; waiting < n; runtime.Gosched() {
				c.waiting.Lock()
				waiting = len(c.turns)
				c.waiting.Unlock()
			}
			c.mu.Unlock()
			for range n {
				if err := <-errs; err != nil {
					t.Error(err)
				}
			}
			var told []int
			for i := range n {
				told = append(told, at[i][0])
				if bad >= 0 && len(at[i]) == 2 && at[i][1] != 0 {
					t.Errorf("change %d was not alone the second time", i)
				}
			}
			if slices.Sort(told); bad < 0 && len(slices.Compact(told)) != n {
				t.Errorf("the changes were not one step: %v", told)
			}
			want := int64(n * len(appendLine(nil, reflagged(b, Change{ID: "1"}))))
			if bad >= 0 {
				want -= want / n
			}
			if got := c.manifest.len - before; got != want {
				t.Errorf("the manifest has grown by %d, not %d", got, want)
			}
			folders := len(c.folders)
			kept, paths := c.folders, c.paths
			c.Close()
			c = open(t, h)
			if len(c.folders) != folders {
				t.Errorf("%d folders were filed, %d are known", len(c.folders), folders)
			}
			for path, id := range c.folders {
				if kept[path] != id || paths[id] != path {
					t.Errorf("%s is %d and was taken for %d", path, id, kept[path])
				}
			}
			if s, _ := c.meta("manifest"); s != fmt.Sprint(before+want) {
				t.Errorf("the manifest should have %s bytes, not %d", s, before+want)
			}
		})
	}
}
