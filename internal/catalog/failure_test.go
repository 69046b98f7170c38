package catalog

import (
	"testing"
	"time"
)

// TestAccept: an accepted failure stays known as that, in catalog and manifest,
// until it is taken back, fails again, is stored, or belongs to old numbers.
func TestAccept(t *testing.T) {
	h := home(t)
	c := open(t, h)
	b := box(t, c, "INBOX", "7")
	at := time.Unix(1_800_000_000, 0)
	for id := 1; id <= 4; id++ {
		if err := c.Fail(t.Context(), b, entry(id), "no"); err != nil {
			t.Fatal(err)
		}
	}
	unstored := func() (all []Unstored) {
		t.Helper()
		all, err := c.Unstored(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	all := unstored()
	if len(all) != 4 || all[0].Account != ann || all[0].Path != "INBOX" || all[0].Entry.ID != "1" || !all[0].Accepted.IsZero() {
		t.Fatalf("%+v", all)
	}
	if err := c.Accept(t.Context(), all, at); err != nil {
		t.Fatal(err)
	}
	if err := c.Accept(t.Context(), all[1:2], time.Time{}); err != nil { // 2: taken back
		t.Fatal(err)
	}
	c.Fail(t.Context(), b, entry(3), "no, still") // 3: another message, it fails
	store(t, c, b, 4)                             // 4: stored
	for i, want := range []bool{true, false, false} {
		if x := unstored()[i]; !x.Accepted.IsZero() != want || want && !x.Accepted.Equal(at) {
			t.Errorf("message %s is accepted: %v", x.Entry.ID, x.Accepted)
		}
	}
	// What the manifest says, and says when it is written anew.
	said := func() map[string]string {
		t.Helper()
		last := map[string]string{}
		if err := ReadManifest(h.Dir, func(l Line) error {
			last[l.ID] = l.Accepted
			if l.Accepted != "" && (l.Reason != "no" || l.Size == 0 || l.Place != "") {
				t.Errorf("%+v", l)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return last
	}
	if s := said(); s["1"] != at.UTC().Format(time.RFC3339) || s["2"] != notAccepted || s["4"] != "" {
		t.Errorf("%v", s)
	}
	c.setMeta("manifest", "-1")
	c.Close()
	c = open(t, h)
	if s := said(); s["1"] != at.UTC().Format(time.RFC3339) || s["2"] != "" || s["3"] != "" {
		t.Errorf("written anew: %v", s)
	}
	box(t, c, "INBOX", "8") // renumbered
	if all := unstored(); len(all) != 0 {
		t.Errorf("%+v", all)
	}
}
