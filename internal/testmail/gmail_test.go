package testmail

import (
	"slices"
	"strings"
	"testing"
)

// TestModelGmail checks what the sink relies on: one message, many labels.
func TestModelGmail(t *testing.T) {
	m := &Model{Preauth: true}
	m.Gmail()
	m.Folder("Work")
	s := dial(t, m.Start(t))
	if got := s.line(); !strings.Contains(got, "X-GM-EXT-1") || !strings.Contains(got, "APPENDLIMIT=35651584") {
		t.Errorf("greeting: %q", got)
	}
	const raw = "{12+}\r\nSubject: x\r\n"
	for i, want := range []struct{ folder, uid string }{{"INBOX", "1"}, {"Work", "1"}, {"Work", "1"}, {`"[Gmail]/All Mail"`, "1"}} {
		if got := s.ask("APPEND %s (\\Seen) %s", want.folder, raw); !strings.Contains(got, " "+want.uid+"] done") || !strings.Contains(got, "OK [APPENDUID ") {
			t.Errorf("append %d: %q", i, got)
		}
	}
	s.ask("SELECT INBOX")
	if got := s.ask("UID FETCH 1 (X-GM-MSGID X-GM-LABELS)"); !strings.Contains(got, `X-GM-MSGID 1700000000000000001 X-GM-LABELS ("\\Inbox" "Work")`) {
		t.Errorf("labels: %q", got)
	}
	if got := s.ask(`UID STORE 1 +X-GM-LABELS (\Sent "a b" "Lists/Go")`); !strings.Contains(got, "OK Success") {
		t.Errorf("store: %q", got)
	}
	for _, folder := range []string{"INBOX", "Work", "[Gmail]/All Mail", "[Gmail]/Sent Mail", "a b", "Lists/Go"} {
		if n := len(m.Mails(folder)); n != 1 {
			t.Errorf("%s shows %d messages", folder, n)
		}
	}
	if got := m.Labels("Work", 1); !slices.Equal(got, []string{`\Inbox`, `\Sent`, "Work", "a b", "Lists/Go"}) {
		t.Errorf("labels %q", got)
	}
	s.ask(`UID STORE 1 FLAGS (\Flagged)`)
	if got := m.Mails("Work")[0].Flags.Key(); got != `\Flagged` {
		t.Errorf("flags %q", got)
	}
	// What is thrown away is nowhere else.
	s.ask(`UID STORE 1 +X-GM-LABELS (\Trash)`)
	if len(m.Mails("[Gmail]/Trash")) != 1 || len(m.Mails("INBOX"))+len(m.Mails("[Gmail]/All Mail")) != 0 {
		t.Error("thrown away, and there all the same")
	}
	if got := s.ask("APPEND INBOX %s", raw); !strings.Contains(got, " 2] done") || len(m.Mails("[Gmail]/Trash")) != 0 {
		t.Errorf("brought back: %q", got)
	}
	if got := s.ask("CREATE [Gmail]/Mine"); !strings.Contains(got, "NO ") {
		t.Errorf("created: %q", got)
	}
	uids := m.Deliver("INBOX", exactly("y", "Subject: y\r\n"), exactly("y", "Subject: y\r\n"))
	if uids[0] != uids[1] || len(m.Mails("[Gmail]/All Mail")) != 2 {
		t.Errorf("delivered as %v", uids)
	}
}
