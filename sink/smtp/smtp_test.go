package smtp

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/internal/testmail"
	"mailhaul/sink"
)

// message is raw as it comes to a sink.
func message(name string, raw []byte) *sink.Message {
	var f mail.Folder
	text, took, err := f.Append(nil, raw)
	var ends mail.Ends
	if err != nil {
		// As the spool has it: kept as received.
		if took == 0 {
			panic("nothing was taken")
		}
		text, ends = raw, mail.Ends{Kind: mail.EndsKept}
	} else {
		text, ends = f.Close(text)
	}
	return &sink.Message{
		Want: sink.Want{Name: name, Digest: sha256.Sum256(text), Text: int64(len(text)), Lines: int64(bytes.Count(text, []byte("\n")))},
		Ends: ends,
		Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil },
	}
}

func letter(i int) []byte {
	return fmt.Appendf(nil, "From: a@example.org\r\nSubject: %d\r\n\r\n.body %d\r\n", i, i)
}

// address is where s listens, as a location.
func address(t *testing.T, s *testmail.SMTP) string {
	scheme := "smtp"
	if s.LMTP {
		scheme = "lmtp"
	}
	return scheme + "://" + s.Start(t) + "?tls=none"
}

func registry() *sink.Registry {
	var r sink.Registry
	for _, s := range Schemes() {
		r.Register(s)
	}
	return &r
}

// open opens a sink at s.
func open(t *testing.T, s *testmail.SMTP, to ...string) *account {
	t.Helper()
	if len(to) == 0 {
		to = []string{"ann@new.example"}
	}
	x, err := registry().Open(t.Context(), address(t, s), location.Env{Recipients: to})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return x.(*account)
}

// put is one batch of one message, as the pipeline does it.
func put(t *testing.T, f sink.Folder, m *sink.Message) (sink.Result, error) {
	t.Helper()
	mark, err := f.Mark(t.Context())
	if err != nil {
		return sink.Result{}, err
	}
	if err := f.Put(t.Context(), m); err != nil {
		places, rerr := f.Recover(t.Context(), mark, []sink.Want{m.Want})
		if rerr != nil || len(places) != 1 || places[0] != "" {
			t.Errorf("after %v: %q, %v", err, places, rerr)
		}
		return sink.Result{}, err
	}
	r, err := f.Sync(t.Context())
	if err != nil || len(r) != 1 {
		t.Fatal(r, err)
	}
	return r[0], nil
}

func way(t *testing.T, a *account) sink.Folder {
	t.Helper()
	f, err := a.Open(t.Context(), "INBOX", true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestContract: what every sink does, as far as one can that has nothing to
// show.
func TestContract(t *testing.T) {
	s := &testmail.SMTP{}
	a := open(t, s)
	f := way(t, a)
	if l, ok := f.(sink.Limited); !ok || l.Most() != 1 {
		t.Error("more than one message would be in doubt")
	}
	if _, ok := f.(sink.Reader); ok {
		t.Error("a delivery cannot be read")
	}
	if m := message("x", letter(0)); f.Put(t.Context(), m) == nil {
		t.Error("put without a mark")
	}
	if _, err := f.Sync(t.Context()); err == nil {
		t.Error("sync without a mark")
	}
	before, err := f.State(t.Context())
	if err != nil || before == "" {
		t.Fatal(before, err)
	}
	for i := range 3 {
		r, err := put(t, f, message(fmt.Sprint(i), letter(i)))
		if err != nil || r.Err != nil || !strings.HasPrefix(string(r.Place), "250 2.0.0 ok, queued as") {
			t.Fatal(r, err)
		}
	}
	if after, err := f.State(t.Context()); err != nil || after != before {
		t.Error(after, err)
	}
	if n := s.Opened(); n != 1 {
		t.Errorf("%d connections", n)
	}
	// A batch of another process: nothing is known.
	want := []sink.Want{message("1", letter(1)).Want}
	if places, err := f.Recover(t.Context(), "", want); places != nil || !errors.Is(err, sink.ErrUnknown) {
		t.Error(places, err)
	}
	if places, err := f.Recover(t.Context(), "", nil); len(places) != 0 || err != nil {
		t.Error(places, err)
	}
	// One of ours: what was put is known, what was not is not there. Twice in
	// a row it is as if it were another's.
	f.Mark(t.Context())
	if err := f.Put(t.Context(), message("8", letter(8))); err != nil {
		t.Fatal(err)
	}
	want = []sink.Want{message("8", letter(8)).Want, message("9", letter(9)).Want}
	if places, err := f.Recover(t.Context(), "", want); err != nil || len(places) != 2 || places[0] == "" || places[1] != "" {
		t.Error(places, err)
	}
	if _, err := f.Recover(t.Context(), "", want); !errors.Is(err, sink.ErrUnknown) {
		t.Error(err)
	}
	// Another folder waits for its turn, and a closed one has none.
	g := way(t, a)
	f.Mark(t.Context())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Mark(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	f.Close()
	if r, err := put(t, g, message("g", letter(7))); err != nil || r.Err != nil {
		t.Error(r, err)
	}
	if sins := s.Sins(); len(sins) > 0 {
		t.Error(sins)
	}
}

// servers are kinds of server, by what they offer.
var servers = map[string][]string{
	"nothing": {},
	"usual":   {"PIPELINING", "SIZE 300000", "8BITMIME"},
	"utf8":    {"8BITMIME", "SMTPUTF8"},
	"binary":  {"PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "CHUNKING", "BINARYMIME"},
	"chunks":  {"8BITMIME", "CHUNKING"},
}

// TestCorpus: each nasty message arrives unchanged or is refused with a reason;
// a server that takes binary mail gets all of them; no server gets what it does
// not offer to take.
func TestCorpus(t *testing.T) {
	for name, keywords := range servers {
		for _, lmtp := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " lmtp ", lmtp), func(t *testing.T) {
				s := &testmail.SMTP{Keywords: keywords, LMTP: lmtp}
				f := way(t, open(t, s))
				taken, refused := 0, 0
				for i, c := range testmail.Corpus() {
					raw := c.Raw()
					s.Empty()
					r, err := put(t, f, message(fmt.Sprint(i), raw))
					if err != nil {
						t.Fatalf("%s: %v", c.Name, err)
					}
					all := s.Accepted()
					if r.Err != nil {
						if refused++; len(all) != 0 || r.Place != "" || mail.ScopeOf(r.Err, 0) != mail.ScopeMessage || errors.Is(r.Err, sink.ErrUnknown) {
							t.Errorf("%s: %v, %d accepted", c.Name, r.Err, len(all))
						}
						if name == "binary" && !strings.Contains(r.Err.Error(), "a loop") {
							t.Errorf("%s: %v", c.Name, r.Err)
						}
						continue
					}
					taken++
					if len(all) != 1 || !sameOnTheWire(all[0], raw) {
						t.Errorf("%s: not what was sent", c.Name)
					}
				}
				if taken < 20 || name != "binary" && refused < 5 {
					t.Errorf("%d taken, %d refused", taken, refused)
				}
				if sins := s.Sins(); len(sins) > 0 {
					t.Error(sins)
				}
			})
		}
	}
}

// sameOnTheWire: with a line end at the end, and CRLF for LF throughout, by
// DATA; exact by BDAT, but for lines that end in LF throughout.
func sameOnTheWire(d testmail.Delivery, raw []byte) bool {
	if bytes.Equal(d.Raw, raw) {
		return true
	}
	if bytes.Count(raw, []byte("\r\n")) == 0 {
		raw = bytes.ReplaceAll(raw, []byte("\n"), []byte("\r\n"))
	}
	if !d.Chunked && !bytes.HasSuffix(raw, []byte("\r\n")) {
		raw = append(slices.Clip(raw), "\r\n"...)
	}
	return bytes.Equal(d.Raw, raw)
}

// TestPreflight: why a message is not sent, in words, and what it was announced
// as.
func TestPreflight(t *testing.T) {
	head := "From: a@example.org\r\nSubject: x\r\n"
	long := strings.Repeat("x", 999)
	for _, c := range []struct {
		name, raw string
		keywords  []string
		refused   string   // empty: it goes
		announced []string // parameters of MAIL
		chunked   bool
	}{
		{"plain", head + "\r\nx\r\n", servers["usual"], "", []string{"SIZE=38"}, false},
		{"plain to an old one", head + "\r\nx\r\n", servers["nothing"], "", nil, false},
		{"998", head + "\r\n" + long[:998] + "\r\n", servers["nothing"], "", nil, false},
		{"999", head + "\r\n" + long + "\r\n", servers["usual"], "it has a line of 999 octets, and 998 are allowed, which this server cannot take unchanged", nil, false},
		{"999 open", head + "\r\n" + long, servers["chunks"], "it has a line of 999 octets", nil, false},
		{"999 binary", head + "\r\n" + long + "\r\n", servers["binary"], "", []string{"SIZE=1036", "BODY=BINARYMIME"}, true},
		{"nul", head + "\r\n\x00\r\n", servers["usual"], "it holds NUL octets", nil, false},
		{"bare cr", head + "\r\na\rb\r\n", servers["usual"], "it holds a CR that ends no line", nil, false},
		{"mixed", head + "\r\na\nb\r\n", servers["usual"], "some of its lines end in LF alone", nil, false},
		{"lf throughout", strings.ReplaceAll(head, "\r", "") + "\na\n", servers["nothing"], "", nil, false},
		{"8-bit", head + "\r\nGr\xfc\xdfe\r\n", servers["usual"], "", []string{"SIZE=42", "BODY=8BITMIME"}, false},
		{"8-bit refused", head + "\r\nGr\xfc\xdfe\r\n", servers["nothing"], "it offers no 8BITMIME", nil, false},
		{"8-bit subject", "Subject: Größe\r\nFrom: Jörg <j@example.org>\r\n\r\n", servers["utf8"], "", []string{"BODY=8BITMIME"}, false},
		{"utf-8 address", "From: <jörg@example.org>\r\n\r\n", servers["utf8"], "", []string{"BODY=8BITMIME", "SMTPUTF8"}, false},
		{"utf-8 address in a second line", "To: a@example.org,\r\n jörg@example.org\r\n\r\n", servers["usual"], "it offers no SMTPUTF8", nil, false},
		{"utf-8 address in a subject", "Subject: jörg@example.org\r\n\r\n", servers["usual"], "", []string{"SIZE=30", "BODY=8BITMIME"}, false},
		{"too big", head + "\r\n" + strings.Repeat("x\r\n", 99989) + "\r\n", servers["usual"], "it has 300004 octets, and the server takes 300000", nil, false},
		{"50 hops", strings.Repeat("Received: x\r\n", 50) + head + "\r\n", servers["nothing"], "", nil, false},
		{"51 hops", strings.Repeat("RECEIVED : x\r\n y\r\n", 51) + head + "\r\n", servers["binary"], "it was passed on 51 times already", nil, false},
		{"hops in the body", head + "\r\n" + strings.Repeat("Received: x\r\n", 60), servers["nothing"], "", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &testmail.SMTP{Keywords: c.keywords}
			r, err := put(t, way(t, open(t, s)), message("x", []byte(c.raw)))
			if err != nil {
				t.Fatal(err)
			}
			all := s.Accepted()
			if c.refused != "" {
				if r.Err == nil || !strings.Contains(r.Err.Error(), c.refused) || len(all) != 0 || s.Count("MAIL") != 0 {
					t.Fatalf("%v, %d accepted", r.Err, len(all))
				}
				return
			}
			if r.Err != nil || len(all) != 1 || !slices.Equal(all[0].Parameters, c.announced) || all[0].Chunked != c.chunked || !sameOnTheWire(all[0], []byte(c.raw)) {
				t.Fatalf("%v, %.500q", r.Err, fmt.Sprint(all))
			}
		})
	}
}

// TestBrokenCopies are not sent, and do not stop the others.
func TestBrokenCopies(t *testing.T) {
	s := &testmail.SMTP{}
	f := way(t, open(t, s))
	second := message("second", letter(2)) // breaks when it is read again
	first := second.Open
	n := 0
	second.Open = func() (io.ReadCloser, error) {
		if n++; n == 2 {
			return io.NopCloser(io.MultiReader(strings.NewReader("From: x\n\n"), broken{})), nil
		}
		return first()
	}
	changed := message("changed", letter(3))
	n2 := 0
	changed.Open = func() (io.ReadCloser, error) {
		n2++
		return message("", letter(3+n2-1)).Open()
	}
	other := message("other", letter(4))
	other.Open = message("", letter(5)).Open
	for _, m := range []*sink.Message{second, changed, other} {
		r, err := put(t, f, m)
		if err != nil || r.Err == nil || mail.ScopeOf(r.Err, 0) != mail.ScopeMessage || errors.Is(r.Err, sink.ErrUnknown) {
			t.Errorf("%s: %v, %v", m.Name, r.Err, err)
		}
	}
	if r, err := put(t, f, message("good", letter(6))); err != nil || r.Err != nil {
		t.Error(r, err)
	}
	if all := s.Accepted(); len(all) != 1 || !bytes.Equal(all[0].Raw, letter(6)) {
		t.Errorf("%v", all)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("the disk is broken") }

// TestReplies: what a refusal is taken for (RELIABILITY, row C6).
func TestReplies(t *testing.T) {
	const (
		message   = "message"
		later     = "later"
		run       = "run"
		doubtful  = "doubt"
		delivered = "delivered"
	)
	for _, c := range []struct{ verb, status, want, says string }{
		{"MAIL", "451 4.3.0 later", later, "451 4.3.0 later"},
		{"MAIL", "552 5.3.4 too big", message, "552 5.3.4 too big"},
		{"MAIL", "550 5.7.1 not you", run, "the sender ann@new.example is refused: 550 5.7.1 not you"},
		{"MAIL", "530 5.7.0 log in", run, "the server wants a login: 530 5.7.0 log in"},
		{"MAIL", "421 4.3.2 bye", later, "421 4.3.2 bye"},
		{"RCPT", "450 4.7.1 greylisted", later, "ann@new.example: 450 4.7.1 greylisted"},
		{"RCPT", "552 too many recipients", later, "552 too many recipients"},
		{"RCPT", "550 5.1.1 unknown", run, "a recipient is refused: ann@new.example: 550 5.1.1 unknown"},
		{"DATA", "451 later", later, "451 later"},
		{"DATA", "554 no", message, "554 no"},
		{".", "554 5.7.1 spam\x1b]52;c;x\a", message, `554 5.7.1 spam\x1b]52`},
		{".", "552 5.2.2 full", message, "552 5.2.2 full"},
		{".", "452 4.2.2 full", later, "452 4.2.2 full"},
		{".", "421 4.3.2 bye", later, "421 4.3.2 bye"},
		{"ACCEPTED", "354 what", doubtful, "354 what"},
		{"ACCEPTED", "251 ok", delivered, ""},
		{"EHLO", "421 busy", later, "421 busy"},
		{"EHLO", "554 never", run, "554 never"},
		{"GREETING", "554 never", run, "554 never"},
	} {
		t.Run(c.verb+" "+c.status[:3], func(t *testing.T) {
			s := &testmail.SMTP{}
			s.Fault(testmail.Refuse(c.verb, c.status, 1))
			r, err := put(t, way(t, open(t, s)), messageOf(1))
			got, said := delivered, ""
			switch {
			case err != nil && mail.Temporary(err) && mail.ScopeOf(err, 0) == mail.ScopeRun:
				got, said = later, err.Error()
			case err != nil && mail.ScopeOf(err, 0) == mail.ScopeRun:
				got, said = run, err.Error()
			case errors.Is(r.Err, sink.ErrUnknown):
				got, said = doubtful, r.Err.Error()
			case r.Err != nil:
				got, said = message, r.Err.Error()
			}
			if got != c.want || !strings.Contains(said, c.says) {
				t.Errorf("%s: %s", got, said)
			}
			if n := len(s.Accepted()); (n == 1) != (c.verb == "ACCEPTED") {
				t.Errorf("%d accepted", n)
			}
		})
	}
}

func messageOf(i int) *sink.Message { return message(fmt.Sprint(i), letter(i)) }

// TestPutOff: one message that is always put off does not stop the others; a
// server that puts off all does.
func TestPutOff(t *testing.T) {
	s := &testmail.SMTP{}
	f := way(t, open(t, s))
	s.Fault(testmail.Refuse(".", "451 not this one", 3))
	for n := 1; n <= 3; n++ {
		r, err := put(t, f, messageOf(1))
		if n < 3 && !mail.Temporary(err) || n == 3 && (err != nil || r.Err == nil || !strings.Contains(r.Err.Error(), "puts it off")) {
			t.Errorf("try %d: %v, %v", n, r, err)
		}
	}
	if r, err := put(t, f, messageOf(2)); err != nil || r.Err != nil {
		t.Error(r, err)
	}
	s.Fault(testmail.Refuse(".", "451 none at all", 0))
	given := 0
	for i := 10; i < 20; i++ {
		for range 3 {
			r, err := put(t, f, messageOf(i))
			if err == nil && r.Err != nil {
				given++
				break
			}
		}
	}
	if given != mostPutOff {
		t.Errorf("%d messages were given up", given)
	}
}

// TestSilence: a server that takes mail and says nothing does not get all of
// it.
func TestSilence(t *testing.T) {
	s := &testmail.SMTP{}
	s.Fault(testmail.Hangup("ACCEPTED", 0))
	f := way(t, open(t, s))
	for i := range 3 {
		if r, err := put(t, f, messageOf(i)); err != nil || !errors.Is(r.Err, sink.ErrUnknown) {
			t.Fatal(r, err)
		}
	}
	if _, err := put(t, f, messageOf(4)); err == nil || mail.Temporary(err) || !strings.Contains(err.Error(), "three messages in a row") {
		t.Error(err)
	}
	if n := len(s.Accepted()); n != 3 {
		t.Errorf("%d accepted", n)
	}
}

// TestIdleConnection: a server that has hung up meanwhile is called again.
func TestIdleConnection(t *testing.T) {
	s := &testmail.SMTP{}
	f := way(t, open(t, s))
	for i := range 3 {
		if r, err := put(t, f, messageOf(i)); err != nil || r.Err != nil {
			t.Fatal(r, err)
		}
		s.Drop()
	}
	if s.Opened() != 3 || len(s.Accepted()) != 3 {
		t.Errorf("%d connections, %d accepted", s.Opened(), len(s.Accepted()))
	}
	// One that hangs up on every connection is not called for ever.
	s.Fault(testmail.Hangup("MAIL", 0))
	if _, err := put(t, f, messageOf(9)); !mail.Temporary(err) || mail.ScopeOf(err, 0) != mail.ScopeRun {
		t.Error(err)
	}
}

// TestUnreachable leaves nothing begun.
func TestUnreachable(t *testing.T) {
	s := &testmail.SMTP{}
	a := open(t, s)
	s.Close()
	if _, err := way(t, a).Mark(t.Context()); !mail.Temporary(err) || mail.ScopeOf(err, 0) != mail.ScopeRun || !strings.Contains(err.Error(), a.Addr) {
		t.Error(err)
	}
}

// TestLoginRefused is asked once.
func TestLoginRefused(t *testing.T) {
	s := &testmail.SMTP{Auth: "PLAIN", User: "ann", Password: "right"}
	raw := strings.Replace(address(t, s), "://", "://ann@", 1)
	x, err := registry().Open(t.Context(), raw, location.Env{Recipients: []string{"a@b"},
		Secret: func(context.Context, location.Location) (string, error) { return "wrong", nil }})
	if err != nil {
		t.Fatal(err)
	}
	f := way(t, x.(*account))
	for range 3 {
		if _, err := f.Mark(t.Context()); !errors.Is(err, mail.ErrLogin) {
			t.Error(err)
		}
	}
	if n := s.Count("AUTH"); n != 1 {
		t.Errorf("%d logins", n)
	}
}

// TestRate: so many a minute, and no more.
func TestRate(t *testing.T) {
	s := &testmail.SMTP{}
	a := open(t, s)
	a.interval = 20 * time.Second
	now := time.Unix(1e9, 0)
	var slept []time.Duration
	a.now = func() time.Time { return now }
	a.sleep = func(ctx context.Context, d time.Duration) error {
		slept = append(slept, d)
		now = now.Add(d)
		return ctx.Err()
	}
	f := way(t, a)
	for i := range 4 {
		if r, err := put(t, f, messageOf(i)); err != nil || r.Err != nil {
			t.Fatal(r, err)
		}
		now = now.Add(time.Duration(i) * 10 * time.Second)
	}
	if want := []time.Duration{20 * time.Second, 10 * time.Second}; !slices.Equal(slept, want) {
		t.Errorf("slept %v, want %v", slept, want)
	}
	l, _, err := registry().Check("smtps://h?rate=30", "")
	if err != nil {
		t.Fatal(err)
	}
	if o, err := options(l, location.Env{Recipients: []string{"a@b"}}); err != nil || o.interval != 2*time.Second {
		t.Error(o.interval, err)
	}
}

// TestLMTPSomeRecipients: those who have the message do not get it again (row
// C3).
func TestLMTPSomeRecipients(t *testing.T) {
	s := &testmail.SMTP{LMTP: true}
	refuse := func(to, status string, times int) {
		n := 0
		s.Fault(func(c testmail.Command) *testmail.Reply {
			if c.Verb != "." || c.Args != to {
				return nil
			}
			if n++; n > times {
				return nil
			}
			return &testmail.Reply{Status: status}
		})
	}
	refuse("bob@x", "452 4.2.2 full", 1)
	refuse("cem@x", "550 5.7.1 no", 2)
	f := way(t, open(t, s, "ann@x", "bob@x", "cem@x"))
	m := messageOf(1)
	var got []string
	for n, want := range []string{"ann@x", "bob@x", "cem@x"} {
		r, err := put(t, f, m)
		if err != nil || errors.Is(r.Err, sink.ErrUnknown) || (r.Err == nil) != (n == 2) {
			t.Fatalf("try %d: %v, %v", n, r, err)
		}
		if n == 0 && (!strings.Contains(r.Err.Error(), "bob@x: 452 4.2.2 full; cem@x: 550 5.7.1 no") || !strings.Contains(r.Err.Error(), "ann@x took it")) {
			t.Error(r.Err)
		}
		all := s.Accepted()
		if got = append(got, all[len(all)-1].To...); len(all) != n+1 || len(got) != n+1 || got[n] != want {
			t.Fatalf("%v have it", got)
		}
		m = messageOf(1)
		m.Note = r.Note
	}
	// A line that breaks between two replies: one has it, of the other nothing
	// is known.
	s.Heal()
	s.Fault(func(c testmail.Command) *testmail.Reply {
		if c.Verb == "ACCEPTED" && c.Args == "bob@x" {
			return &testmail.Reply{End: true}
		}
		return nil
	})
	r, err := put(t, f, messageOf(2))
	if err != nil || !errors.Is(r.Err, sink.ErrUnknown) || !slices.Equal(noted(r.Note), []string{"ann@x"}) ||
		!strings.Contains(r.Err.Error(), "ann@x took it; of bob@x, cem@x nothing is known") {
		t.Error(r, err)
	}
}

// TestLocations: what a location may say.
func TestLocations(t *testing.T) {
	env := location.Env{Recipients: []string{"Bob@New.Example", "ann@new.example", "ann@new.example"}}
	for _, c := range []struct{ raw, sender, addr, identity, from string }{
		{"smtp://relay.example", "", "relay.example:25", "smtp:relay.example to Bob@new.example ann@new.example", "Bob@New.Example"},
		{"smtp://Relay.Example.:2525", "<>", "Relay.Example.:2525", "smtp:relay.example:2525 to Bob@new.example ann@new.example", ""},
		{"smtp://cem@relay.example", "", "relay.example:587", "smtp:relay.example to Bob@new.example ann@new.example", "Bob@New.Example"},
		{"smtps://cem@old.example@relay.example", "", "relay.example:465", "smtp:relay.example to Bob@new.example ann@new.example", "cem@old.example"},
		{"lmtp://relay.example", "me@x", "relay.example:24", "lmtp:relay.example to Bob@new.example ann@new.example", "me@x"},
		{"smtp://[::1]?tls=none", "", "[::1]:25", "smtp:::1 to Bob@new.example ann@new.example", "Bob@New.Example"},
	} {
		env.Sender = c.sender
		l, _, err := registry().Check(c.raw, "")
		if err != nil {
			t.Fatal(err)
		}
		o, err := options(l, env)
		if err != nil || o.Addr != c.addr || o.identity != c.identity || o.from != c.from || len(o.to) != 2 {
			t.Errorf("%s: %+v, %v", c.raw, o, err)
		}
	}
	for raw, hint := range map[string]string{
		"smtp://relay.example?tls=none": "use smtps://",
		"lmtp://relay.example?tls=none": "leave tls=none out",
		"smtp://relay.example/Work":     "leave /Work out",
		"smtps://relay.example?rate=-1": "rate is a number",
		"smtps://relay.example?tls=no":  "smtps knows ca_file",
		"smtp://":                       "write smtp://",
	} {
		env.Sender = ""
		if _, err := registry().Open(t.Context(), raw, env); !errors.Is(err, location.ErrUsage) || !strings.Contains(location.Hint(err), hint) {
			t.Errorf("%s: %v (%s)", raw, err, location.Hint(err))
		}
	}
	for _, env := range []location.Env{
		{},
		{Recipients: []string{"ann"}},
		{Recipients: []string{"a@b\r\nRCPT TO:<c@d>"}},
		{Recipients: []string{"a b@c"}},
		{Recipients: []string{"a@b"}, Sender: "x y@z"},
	} {
		if _, err := registry().Open(t.Context(), "smtps://relay.example", env); !errors.Is(err, location.ErrUsage) {
			t.Errorf("%+v: %v", env, err)
		}
	}
}
