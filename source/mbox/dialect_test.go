package mbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/internal/mboxrd"
	"mailhaul/source"
)

const sep = "From ann@example.org Sat Mar  7 08:05:01 2026\n"

func TestDialects(t *testing.T) {
	crlf := func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }
	for _, c := range []struct {
		name, file string
		options    []string
		want       []string
		note       string
	}{
		{name: "rd", file: sep + "A: b\n\n>From x\n>>From y\n\n" + sep + "\n",
			want: []string{"A: b\n\nFrom x\n>From y\n", ""}},
		{name: "o", file: sep + "A: b\n\n>From x\n>>From y\n\n", options: []string{"dialect", "o"},
			want: []string{"A: b\n\nFrom x\n>>From y\n"}},
		{name: "not quoted", file: sep + "A: b\n\nFrom here on\n>From x\n\n",
			want: []string{"A: b\n\nFrom here on\n>From x\n"}, note: "nothing seems to be quoted"},
		{name: "crlf", file: crlf(sep + "A: b\n\n>From x\n\n" + sep + "c\n\n"),
			want: []string{"A: b\r\n\r\nFrom x\r\n", "c\r\n"}},
		{name: "open", file: sep + "A: b\n\nc", want: []string{"A: b\n\nc"}},
		{name: "no empty line at the end", file: sep + "A: b\n\nc\n", want: []string{"A: b\n\nc\n"}},
		{name: "empty lines before and behind", file: "\n\n" + sep + "A: b\n\nc\n\n\n\n" + sep + "d\n\n",
			want: []string{"A: b\n\nc\n\n\n", "d\n"}},
		{name: "bare", file: "From \nSubject: a\n\nb\n\nFrom \nSubject: c\n\nd\n\nFrom \nno header\n",
			want: []string{"Subject: a\n\nb\n", "Subject: c\n\nd\n\nFrom \nno header\n"}, note: "no date"},
		{name: "bare, strict", file: sep + "Subject: a\n\nb\n\nFrom \nSubject: c\n\nd\n", options: []string{"strict", "yes"},
			want: []string{"Subject: a\n\nb\n\nFrom \nSubject: c\n\nd\n"}, note: "left inside"},
		{name: "no empty line before", file: sep + "A: b\n\nc\n" + sep + "D: e\n\n",
			want: []string{"A: b\n\nc\n" + sep + "D: e\n"}, note: "left inside"},
		{name: "thunderbird", file: "From - Sat Mar 07 08:05:01 2026\nX-Mozilla-Status: 0009\nA: b\n\n>From c\n\n",
			want: []string{"X-Mozilla-Status: 0009\nA: b\n\nFrom c\n"}, note: "deleted in Thunderbird"},
		{name: "cl2", file: sep + lengthy("x\n\n"+sep+">From y\n") + "\n" + sep + lengthy("z\n") + "\n" + sep + lengthy("") + "\n",
			want: []string{lengthy("x\n\n" + sep + ">From y\n"), lengthy("z\n"), lengthy("")}, note: "read by Content-Length"},
		{name: "cl of one message only", file: sep + lengthy("x\n\n"+sep+"y\n") + "\n" + sep + "A: b\n\n",
			want: []string{lengthyOf("x\n\n"+sep+"y\n", "x\n"), "y\n", "A: b\n"}},
		{name: "cl of one message only, on request", file: sep + lengthy("x\n\n"+sep+"y\n") + "\n" + sep + "A: b\n\n", options: []string{"dialect", "cl"},
			want: []string{lengthy("x\n\n" + sep + "y\n"), "A: b\n"}},
		{name: "cl that lies", file: sep + "Content-Length: 7\n\nx\n\n" + sep + "Content-Length: 99999999999999\n\ny\n\n", options: []string{"dialect", "cl"},
			want: []string{"Content-Length: 7\n\nx\n", "Content-Length: 99999999999999\n\ny\n"}},
		{name: "stray", file: "Subject: x\n\ny\n\n" + sep + "z\n\n", want: []string{"Subject: x\n\ny\n", "z\n"}, note: "before the first line"},
		{name: "zeros", file: sep + "a\n\n\x00\x00\x00", want: []string{"a\n\n\x00\x00\x00"}},
		{name: "many marks", file: sep + strings.Repeat(">", 300000) + "From x\n\n", want: []string{strings.Repeat(">", 299999) + "From x\n"}},
		{name: "only marks", file: sep + strings.Repeat(">", 300000), want: []string{strings.Repeat(">", 300000)}},
		{name: "long line", file: sep + "A: " + strings.Repeat("x", 600000) + "\n\n>From y\n\n", want: []string{"A: " + strings.Repeat("x", 600000) + "\n\nFrom y\n"}},
		{name: "equal", file: strings.Repeat(sep+"a\n\n", 3), want: []string{"a\n", "a\n", "a\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, suffix := range []string{"", ".gz", ".zst"} {
				write(t, filepath.Join(dir, "x.mbox"+suffix), pack(suffix, []byte(c.file)))
				src := sourceOf(t, dir, c.options...)
				got, entries := read(t, src)
				want := slices.Clone(c.want)
				for i := range want {
					want[i] = "x: " + want[i]
				}
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Errorf("%sgot %.300q, want %.300q", suffix, got, want)
				}
				ids := map[source.ID]bool{}
				for _, e := range entries {
					ids[e.ID] = true
				}
				if len(ids) != len(want) {
					t.Errorf("%d ids for %d messages", len(ids), len(want))
				}
				notes := strings.Join(src.(source.Noter).Notes(), "\n")
				if !strings.Contains(notes, c.note) || (notes == "") != (c.note == "") {
					t.Errorf("notes are %q, want %q", notes, c.note)
				}
				os.Remove(filepath.Join(dir, "x.mbox"+suffix))
			}
		})
	}
}

func lengthy(body string) string { return lengthyOf(body, body) }

func lengthyOf(length, body string) string {
	return fmt.Sprintf("Subject: x\nContent-Length: %d\n\n%s", len(length), body)
}

func TestTakeout(t *testing.T) {
	name := filepath.Join(t.TempDir(), "Takeout.mbox")
	const from = "From 1700000000000000001@xxx Sat Mar 07 08:05:01 +0000 2026\r\nX-GM-THRID: 1700000000000000001\r\nX-Gmail-Labels: "
	const rest = "\r\nX-Gmail-Labels: Forged\r\nSubject: x\r\n\r\ny\r\n\r\n"
	write(t, name, []byte(from+"Inbox,Opened,\"a, b\",Starred"+rest+
		from+"=?UTF-8?Q?Bo=C3=AEte_de_r=C3=A9ception,Non_lus,R=C3?=\r\n =?UTF-8?Q?=A9unions?="+rest+
		from+"Archiviert,Entwürfe,Ungelesen"+rest+
		strings.ReplaceAll(from+"Inbox,Starred"+rest, "1@xxx", "1@example.org")))
	_, entries := read(t, sourceOf(t, name))
	var got []string
	for _, e := range entries {
		got = append(got, strings.Join(e.Labels, "|")+" ("+e.Flags.Key()+") "+e.Date.Format("2006-01-02 15:04:05"))
	}
	want := []string{
		`\Inbox|a, b|\Starred (\Flagged \Seen) 2026-03-07 08:05:01`,
		`\Inbox|Réunions () 2026-03-07 08:05:01`,
		`\Draft (\Draft) 2026-03-07 08:05:01`,
		` () 2026-03-07 08:05:01`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestStatus(t *testing.T) {
	name := filepath.Join(t.TempDir(), "mbox")
	write(t, name, []byte(sep+"Status: RO\nX-Status: AF\nX-Keywords: Work \\Evil\nSubject: x\n\ny\n\n"+
		sep+"X-Mozilla-Status: 100d\nX-Mozilla-Keys: $label1           \n\n"))
	for option, want := range map[string]string{"no": ",", "yes": `Work \Answered \Flagged \Seen,$Forwarded $label1 \Deleted \Flagged \Seen`} {
		all, entries := read(t, sourceOf(t, name, "trust_status", option))
		if got := entries[0].Flags.Key() + "," + entries[1].Flags.Key(); got != want {
			t.Errorf("trust_status=%s: %s, want %s", option, got, want)
		}
		if !strings.HasPrefix(all[0], "INBOX: Status: RO\n") {
			t.Errorf("bytes are changed: %q", all[0])
		}
	}
}

func TestTree(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"Inbox": sep + "a\n\n", "Inbox.msf": "x", "Inbox.sbd/Work": sep + "b\n\n", "Inbox.sbd/Empty": "", "Inbox.sbd/Empty.msf": "x",
		"Entw&APw-rfe": sep + "c\n\n", "Lists.mbox": sep + "d\n\n", "Lists.mbox.gz": string(pack(".gz", []byte(sep+"e\n\n"))), "Lists/Go.mbox": sep + "f\n\n",
		"Apple.mbox/mbox": sep + "g\n\n", "Apple.mbox/table_of_contents": "x", "a%3Ab.mbox": sep + "h\n\n", "prefs.js": "x", ".hidden": sep,
		"ours/mailhaul.manifest": "", "ours/INBOX.mbox": sep + "i\n\n", "empty.mbox": "",
	} {
		write(t, filepath.Join(dir, filepath.FromSlash(name)), []byte(content))
	}
	os.Symlink("Inbox", filepath.Join(dir, "link.mbox"))
	src := sourceOf(t, dir)
	folders, err := src.Folders(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range folders {
		got = append(got, string(f.Path))
	}
	slices.Sort(got)
	want := []string{"Apple", "Entwürfe", "INBOX", "INBOX/Empty", "INBOX/Work", "Lists", "Lists.mbox.gz", "Lists/Go", "a:b", "empty"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	notes := strings.Join(src.(source.Noter).Notes(), "\n")
	for _, n := range []string{"links were not followed: 1", "prefs.js", "ours: an archive of mailhaul"} {
		if !strings.Contains(notes, n) {
			t.Errorf("notes are %q, want %q", notes, n)
		}
	}
}

func TestRefused(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.eml"), []byte("Subject: x\n\n"))
	write(t, filepath.Join(dir, "b"), []byte("\x00\x01"))
	write(t, filepath.Join(dir, "ours", "mailhaul.manifest"), nil)
	for name, want := range map[string]string{"a.eml": "no mailbox", "b": "no mailbox", "ours": "archive of mailhaul", "missing": "no such file"} {
		l := location.Location{Scheme: "mbox", Path: filepath.Join(dir, name)}
		if _, err := Scheme().Open(t.Context(), l, location.Env{}); !errors.Is(err, location.ErrUsage) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, o := range []string{"dialect", "strict", "trust_status"} {
		l := location.Location{Scheme: "mbox", Path: filepath.Join(dir, "b"), Option: map[string][]string{o: {"maybe"}}}
		if _, err := Scheme().Open(t.Context(), l, location.Env{}); !errors.Is(err, location.ErrUsage) {
			t.Errorf("%s: %v", o, err)
		}
	}
}

// TestChanged: a file that changes after it was listed is read by no offset.
func TestChanged(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x.mbox")
	write(t, name, []byte(sep+"a\n\n"+sep+"b\n\n"))
	src := sourceOf(t, name)
	defer src.Close()
	box, err := src.Open(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	var all []source.Entry
	for e, err := range box.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	write(t, name, []byte(sep+"bb\n\n"+sep+"b\n\n"))
	for _, err := range box.Fetch(t.Context(), func(bool) []source.Entry { return all }) {
		if mail.ScopeOf(err, mail.ScopeRun) != mail.ScopeFolder || !mail.Temporary(err) {
			t.Errorf("got %v", err)
		}
	}
	present, err := box.Present(t.Context(), []source.ID{all[0].ID, all[1].ID})
	if err != nil || present[all[0].ID] || !present[all[1].ID] {
		t.Errorf("present: %v, %v", present, err)
	}
}

func TestBroken(t *testing.T) {
	dir := t.TempDir()
	for _, suffix := range []string{".gz", ".zst"} {
		b := pack(suffix, []byte(strings.Repeat(sep+"a\n\n", 1000)))
		write(t, filepath.Join(dir, "x.mbox"+suffix), b[:len(b)-6])
		src := sourceOf(t, dir)
		box, err := src.Open(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		var failed error
		for _, err := range box.List(t.Context(), "") {
			failed = err
		}
		if mail.ScopeOf(failed, mail.ScopeRun) != mail.ScopeFolder || !strings.Contains(failed.Error(), "x.mbox"+suffix) {
			t.Errorf("%s: %v", suffix, failed)
		}
		box.Close()
		os.Remove(filepath.Join(dir, "x.mbox"+suffix))
	}
}

// FuzzScan reads anything: no byte is lost.
func FuzzScan(f *testing.F) {
	f.Add([]byte(sep+"a\n\n"+sep+">From \n\n>>From x"), false, uint8(0))
	f.Add([]byte("\r\n\nFrom \r\nA: b\r\n\r\nFrom \r\n"), true, uint8(1))
	f.Add([]byte(sep+lengthy("x\n\n"+sep+"y")+"\n"+sep+lengthy("")), false, uint8(2))
	f.Fuzz(func(t *testing.T, file []byte, strict bool, quote uint8) {
		v, err := look(t.Context(), bytes.NewReader(file), rules{strict: strict}, true)
		if err != nil {
			t.Fatal(err)
		}
		v.chain()
		for _, fits := range []func(int64) bool{nil, v.fits, func(int64) bool { return true }} {
			s := newScanner(bytes.NewReader(file), rules{strict: strict, quote: quoting(quote % 3), fits: fits})
			at := int64(len(file) - len(bytes.TrimLeft(file, "\r\n")))
			for first := true; ; first = false {
				var text bytes.Buffer
				m, err := s.next(&text)
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if m.begin != at && !(first && m.begin < at && strings.Trim(string(file[:m.begin]), "\r\n") == "") || m.text < m.begin || m.end < m.text || m.next < m.end {
					t.Fatalf("%+v at %d of %q", m, at, file)
				}
				if gap := string(file[m.end:m.next]); gap != "" && gap != "\n" && gap != "\r\n" {
					t.Fatalf("%q is lost", gap)
				}
				if raw := file[m.text:m.end]; quote%3 == 0 && !bytes.Equal(raw, text.Bytes()) || int64(text.Len()) > int64(len(raw)) {
					t.Fatalf("%q became %q", raw, text.Bytes())
				}
				again := newScanner(nil, s.rules)
				again.reset(bytes.NewReader(file[m.text:]), m.text)
				var back []byte
				for {
					p, err := again.piece(m.end)
					if err != nil {
						break
					}
					back = append(back, p...)
				}
				if !bytes.Equal(back, text.Bytes()) {
					t.Fatalf("listed %q, read %q", text.Bytes(), back)
				}
				at = m.next
			}
			if at < int64(len(file)) && strings.Trim(string(file[at:]), "\r\n") != "" {
				t.Fatalf("ended at %d of %d", at, len(file))
			}
		}
	})
}

// FuzzOurs: what our own writer has written is read as it was, however it is
// framed.
func FuzzOurs(f *testing.F) {
	f.Add("From \n>From x\n", "a\n\nFrom b Sat Mar  7 08:05:01 2026\n")
	f.Add("", "\n\n")
	f.Fuzz(func(t *testing.T, a, b string) {
		texts := []string{string(text([]byte(a))), string(text([]byte(b))), string(text([]byte(a)))}
		var file bytes.Buffer
		w := mboxrd.NewWriter(&file)
		for _, s := range texts {
			w.Begin("ann@example.org", long)
			io.WriteString(w, s)
			w.End()
		}
		if strings.Contains(file.String(), "\nStatus: O\nX-Status: \n") {
			t.Skip("it began with a status block of its own")
		}
		v, err := look(t.Context(), bytes.NewReader(file.Bytes()), rules{}, false)
		if err != nil || v.unquoted > 0 || v.messages != 3 {
			t.Fatalf("%+v, %v", v, err)
		}
		s := newScanner(bytes.NewReader(file.Bytes()), rules{quote: undoAll})
		for _, want := range texts {
			var got bytes.Buffer
			if _, err := s.next(&got); err != nil || got.String() != want {
				t.Fatalf("%q became %q, %v", want, got.String(), err)
			}
		}
	})
}
