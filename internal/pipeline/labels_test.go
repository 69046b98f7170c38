package pipeline

import (
	"slices"
	"testing"

	"mailhaul/internal/catalog"
	"mailhaul/internal/mail"
	"mailhaul/source"
)

// TestLabelsStandOnOne puts each content once: never linked within a folder,
// where it would be the same message.
func TestLabelsStandOnOne(t *testing.T) {
	a := newArchive(t, "maildir") // it links, as labels do
	a.options.Labels = map[mail.Path]string{}
	s := account()
	r := a.must(s)
	a.holds(s.texts())
	if n := a.stored(); n != 12 || r.Total.Stored != 11 || r.Total.Duplicate != 2 {
		t.Errorf("%d lie there, %+v", n, r.Total)
	}
	r = a.must(s)
	if n := a.stored(); n != 12 || r.Total.Known != 13 {
		t.Errorf("again: %d lie there, %+v", n, r.Total)
	}
}

// TestLabelsComeInRounds has mail of all folders behind the others, and what is
// thrown away at the end.
func TestLabelsComeInRounds(t *testing.T) {
	a := newArchive(t, "maildir")
	a.options.Readers = 4
	a.options.Labels = map[mail.Path]string{"[Gmail]/Trash": "trash", "[Gmail]/All Mail": "all"}
	a.options.Folders = func(f source.Folder) (mail.Path, bool) {
		if f.Path == "Bin" {
			return "[Gmail]/Trash", true
		}
		return f.Path, true
	}
	s := &fake{}
	for _, path := range []mail.Path{"Bin", "[Gmail]/All Mail", "INBOX", "Work"} {
		f := s.folder(path)
		for _, text := range []string{"one", "two", "three"} {
			f.add("Subject: " + text + "\r\n\r\n" + text + "\r\n")
		}
		if path == "Work" {
			f.messages = f.messages[:1]
		}
	}
	r := a.must(s)
	var done []mail.Path
	for _, e := range a.events {
		if e.Kind == Folded {
			done = append(done, e.Folder)
		}
	}
	if len(done) != 4 || !slices.Equal(done[2:], []mail.Path{"[Gmail]/All Mail", "Bin"}) {
		t.Errorf("folders were done in the order %q", done)
	}
	for path, c := range r.Folders {
		if late := path == "Bin" || path == "[Gmail]/All Mail"; late && (c.Stored != 0 || c.Duplicate != 3) {
			t.Errorf("%s: %+v", path, *c)
		}
	}
}

// TestLabelsShareFlags has the flags of the location that a content was put for,
// whatever the others say.
func TestLabelsShareFlags(t *testing.T) {
	a := newArchive(t, "maildir")
	a.options.Labels = map[mail.Path]string{}
	s := &fake{}
	first, second := s.folder("INBOX"), s.folder("Work")
	first.add("Subject: x\r\n\r\nx\r\n")
	a.must(s)
	second.add("Subject: x\r\n\r\nx\r\n")
	a.must(s)
	c := a.catalog()
	defer c.Close()
	w := &writer{r: &run{Pipeline: &Pipeline{Catalog: c, Options: a.options}}}
	folders, err := s.Folders(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, false} {
		box, err := c.Box(t.Context(), a.account, folders[i], folders[i].Path)
		if err != nil {
			t.Fatal(err)
		}
		entry := source.Entry{ID: "1", Size: -1}
		known, _, err := c.Compare(t.Context(), box, []source.Entry{entry}, "", true)
		if err != nil || !known[0].Is {
			t.Fatalf("%+v, %v", known, err)
		}
		leads, err := w.leads(t.Context(), change{f: &folder{box: box}, at: known[0].At, ch: catalog.Change{ID: "1"}})
		if err != nil || leads != want {
			t.Errorf("%s leads: %v, %v", folders[i].Path, leads, err)
		}
	}
	// Where the first one was taken away by its owner, the next one leads.
	w.r.away(1)
	stored, err := c.Message(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	all, err := c.Find(t.Context(), stored.Digest)
	if err != nil || len(all) != 2 || w.first(all) != 2 {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestStandOn(t *testing.T) {
	stored := []catalog.Stored{{Message: 1, Folder: "[Gmail]/Trash"}, {Message: 2, Folder: "Work"}, {Message: 3, Folder: "INBOX"}}
	labels := map[mail.Path]string{"[Gmail]/Trash": "trash", "INBOX": ""}
	for _, c := range []struct {
		path  mail.Path
		dedup Dedup
		away  []int64
		want  int64
	}{
		{"INBOX", DedupArchive, nil, 3},
		{"New", DedupArchive, nil, 2},
		{"New", DedupArchive, []int64{2}, 3},
		{"New", DedupArchive, []int64{2, 3}, 1},
		{"New", DedupArchive, []int64{1, 2, 3}, 0},
		{"[Gmail]/Trash", DedupArchive, nil, 1},
		{"New", DedupFolder, nil, 0},
		{"Work", DedupFolder, nil, 2},
	} {
		r := &run{Pipeline: &Pipeline{Options: Options{Dedup: c.dedup, Labels: labels}}}
		r.away(c.away...)
		w := &writer{r: r, path: c.path}
		got := int64(0)
		if s := w.standOn(stored); s != nil {
			got = s.Message
		}
		if got != c.want {
			t.Errorf("%+v: stands on %d", c, got)
		}
	}
}
