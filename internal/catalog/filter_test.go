package catalog

import (
	"testing"

	"mailhaul/internal/mail"
)

// TestFilter looks for contents in an archive that was empty and in one that was
// not: a filter spares questions and changes no answer.
func TestFilter(t *testing.T) {
	h := home(t)
	c := open(t, h)
	b := box(t, c, "INBOX", "7")
	if c.filter == nil {
		t.Fatal("an empty archive has no filter")
	}
	for n, stored := range []bool{false, true, true} {
		for id := range 10 {
			d := record(b, id).Want.Digest
			twin := d // the same bit, another content
			twin[31]++
			all, err := c.Find(t.Context(), d)
			if (len(all) == 1) != stored || err != nil {
				t.Errorf("%d: %d copies of %d, %v", n, len(all), id, err)
			}
			for _, d := range []mail.Digest{twin, record(b, id+100).Want.Digest} {
				if all, err := c.Find(t.Context(), d); len(all) > 0 || err != nil {
					t.Errorf("%d: %d copies of what was not stored, %v", n, len(all), err)
				}
			}
		}
		switch n {
		case 0:
			store(t, c, b, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
		case 1:
			c.Close()
			if c = open(t, h); c.filter != nil {
				t.Error("an archive with mail has an empty filter")
			}
			b = box(t, c, "INBOX", "7")
		}
	}
}
