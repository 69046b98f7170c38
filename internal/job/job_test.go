package job

import (
	"errors"
	"testing"

	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/source"
)

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern string
		path    mail.Path
		fits    bool
	}{
		{"Work", "Work", true},
		{"Work", "Work/Clients/ACME", true},
		{"Work", "Workshop", false},
		{"work", "Work", false},
		{"inbox", "INBOX", true},
		{"Work/*", "Work/Clients", true},
		{"Work/*", "Work/Clients/ACME", true},
		{"Work/*", "Work", false},
		{"*/Clients", "Work/Clients", true},
		{"*/Clients", "A/B/Clients", false},
		{"**/Clients", "A/B/Clients", true},
		{"Arch*", "Archive/2012", true},
		{"Gr?ße", "Größe", true},
		{"Archive/20?2", "Archive/2012", true},
		{"Archive/20?2", "Archive/20/2", false},
		{"/Work/", "Work", true},
		{"[Gmail]/*", "[Gmail]/All Mail", true},
	} {
		p := pattern{text: c.pattern}
		if got := p.fits(c.path); got != c.fits {
			t.Errorf("%q fits %q: %v", c.pattern, c.path, got)
		}
	}
}

func TestFilter(t *testing.T) {
	f, err := newFilter([]string{"Work", "INBOX", "Sentt"}, []string{"Work/Old"})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[mail.Path]bool{"INBOX": true, "Work": true, "Work/Old": false, "Work/Old/x": false, "Work/New": true, "Sent": false} {
		if _, ok := f.choose(source.Folder{Path: path}); ok != want {
			t.Errorf("%s: %v", path, ok)
		}
	}
	err = f.unused()
	var p *patternError
	if !errors.Is(err, ErrNoFolder) || !errors.As(err, &p) || p.Hint() != "did you mean Sent?" {
		t.Errorf("error is %v", err)
	}
	if _, err := newFilter(nil, []string{"/"}); !errors.Is(err, location.ErrUsage) {
		t.Errorf("error is %v", err)
	}
}

func TestAccountIsTheSameWithAndWithoutTLS(t *testing.T) {
	for _, raw := range []string{"imaps://ann@example.org@IMAP.example.org", "imap://ann@example.org@imap.example.org:1143/Work?tls=none"} {
		l, err := location.Parse(raw, "")
		if err != nil {
			t.Fatal(err)
		}
		if got := Account(l); got != "imap:ann@example.org@imap.example.org" {
			t.Errorf("%s is %s", raw, got)
		}
	}
}
