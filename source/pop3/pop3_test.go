package pop3

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/internal/pop3conn"
	"mailhaul/internal/testmail"
	"mailhaul/source"
)

func TestOptions(t *testing.T) {
	var r source.Registry
	for _, s := range Schemes() {
		r.Register(s)
	}
	bad := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(bad, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		raw   string
		clear bool
		addr  string
		sec   pop3conn.Security
		wrong string // what it says
		hint  string
	}{
		{raw: "pop3s://ann@mail.example.org", addr: "mail.example.org:995"},
		{raw: "pop3s://ann@example.org@mail.example.org:1995/", addr: "mail.example.org:1995"},
		{raw: "pop3://ann@mail.example.org", addr: "mail.example.org:110", sec: pop3conn.STLS},
		{raw: "pop3://ann@mail.example.org?tls=starttls&auth=apop&max_messages=9", addr: "mail.example.org:110", sec: pop3conn.STLS},
		{raw: "pop3://ann@localhost:1110?tls=none", addr: "localhost:1110", sec: pop3conn.None},
		{raw: "pop3://ann@[::1]?tls=none", addr: "[::1]:110", sec: pop3conn.None},
		{raw: "pop3://ann@mail.example.org?tls=none", wrong: "for all to see", hint: "pop3s://"},
		{raw: "pop3://ann@mail.example.org?tls=none", clear: true, addr: "mail.example.org:110", sec: pop3conn.None},
		{raw: "pop3://ann@mail.example.org?tls=maybe", wrong: "tls=maybe", hint: "starttls or none"},
		{raw: "pop3s://ann@mail.example.org?tls=none", wrong: "unknown option"},
		{raw: "pop3s://mail.example.org", wrong: "no user name", hint: "pop3s://USER@"},
		{raw: "pop3s://ann@mail.example.org/Work", wrong: "no folders", hint: "IMAP"},
		{raw: "pop3s://ann@mail.example.org?auth=md5", wrong: "auth=md5", hint: "apop"},
		{raw: "pop3s://ann@mail.example.org?max_messages=-1", wrong: "max_messages", hint: "a number"},
		{raw: "pop3s://ann@mail.example.org?gmail_delete=1", wrong: "gmail_delete", hint: "yes or no"},
		{raw: "pop3s://ann@mail.example.org?ca_file=" + bad, wrong: "no certificate", hint: "PEM"},
	} {
		env := location.Env{AllowCleartext: c.clear, Secret: func(context.Context, location.Location) (string, error) { return "secret", nil }}
		src, err := r.Open(t.Context(), c.raw, env)
		if c.wrong != "" {
			if !errors.Is(err, location.ErrUsage) || !strings.Contains(err.Error(), c.wrong) || !strings.Contains(location.Hint(err), c.hint) {
				t.Errorf("%s: %v (%s)", c.raw, err, location.Hint(err))
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.raw, err)
			continue
		}
		if a := src.(*account); a.Addr != c.addr || a.Security != c.sec || a.Password != "secret" {
			t.Errorf("%s: %s, %v", c.raw, a.Addr, a.Security)
		}
		src.Close()
	}
}

// FuzzID: an ID leads back to its unique-id, and is plain text.
func FuzzID(f *testing.F) {
	for _, s := range []string{"", "%", "%41", "a b", "\xff\x00", "12", "%2"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, uid []byte) {
		id := idAlone(uid)
		back, ok := uidOf(id)
		if !ok || back != string(uid) {
			t.Fatalf("%q became %q", uid, back)
		}
		for _, c := range []byte(id) {
			if c <= ' ' || c > '~' {
				t.Fatalf("%q is no plain text", id)
			}
		}
	})
}

// listed makes a listing of n messages with unique-ids of u.
func listed(n int, u func(i int) string) *listing {
	l := &listing{uidl: true}
	for i := range n {
		if err := errors.Join(place(&l.sizes, i+1, int64(i%1000)), l.ids.put(i+1, []byte(u(i)))); err != nil {
			panic(err)
		}
	}
	l.settle("run")
	return l
}

// TestListing: what was put in comes out, whatever the order, and can be
// found.
func TestListing(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		n := 1 + r.IntN(50)
		uids := make([]string, n)
		count := map[string]int{}
		for i := range uids {
			uids[i] = strings.Repeat(string(rune('a'+r.IntN(3))), r.IntN(5))
			count[uids[i]]++
		}
		l := &listing{uidl: true}
		for _, i := range r.Perm(n) {
			if err := errors.Join(place(&l.sizes, i+1, int64(i)), l.ids.put(i+1, []byte(uids[i]))); err != nil {
				t.Fatal(err)
			}
		}
		l.settle("run")
		for i, uid := range uids {
			if l.sizes[i] != int64(i) || string(l.uid(uint32(i))) != uid {
				t.Fatalf("message %d: %q, %d", i, l.uid(uint32(i)), l.sizes[i])
			}
			id := l.id(uint32(i))
			at, ok, err := l.find(id)
			if !ok || err != nil || at != uint32(i) {
				t.Fatalf("%s is found at %d: %v", id, at, err)
			}
			if _, own := uidOf(id); own != (count[uid] == 1 && uid != "") {
				t.Fatalf("%q, there %d times: %s", uid, count[uid], id)
			}
		}
		if _, ok, _ := l.find("uidl:nowhere"); ok {
			t.Fatal("found nowhere")
		}
	}
}

// TestMillion: a million messages take little memory.
func TestMillion(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a second")
	}
	const n = 1_000_000
	before := heap()
	l := listed(n, func(i int) string { return fmt.Sprintf("%08x%08x", i, 0x6b04517d) })
	if took := heap() - before; took > 48<<20 {
		t.Errorf("%d MiB", took>>20)
	}
	if at, ok, _ := l.find(l.id(777_777)); !ok || at != 777_777 {
		t.Errorf("found at %d", at)
	}
	if len(l.odd) != 0 || !l.lasting() {
		t.Errorf("%d odd ones", len(l.odd))
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func BenchmarkListing(b *testing.B) {
	for b.Loop() {
		listed(100_000, func(i int) string { return fmt.Sprintf("%08x%08x", i, 0x6b04517d) })
	}
}

// BenchmarkFetch brings 2,000 messages of 8 KB over loopback.
func BenchmarkFetch(b *testing.B) {
	for _, caps := range [][]string{testmail.DefaultPOP3Caps, testmail.PlainPOP3Caps} {
		b.Run(fmt.Sprint("pipelined=", slices.Contains(caps, "PIPELINING")), func(b *testing.B) {
			p := &testmail.POP3{Caps: caps, Cleartext: true}
			m := testmail.Letter("8 KB", []byte(strings.Repeat("a line of a message as there are so many of them.\r\n", 160)))
			for range 2000 {
				p.Deliver(m)
			}
			addr := p.Start(b)
			b.SetBytes(2000 * m.Size)
			for b.Loop() {
				a := plainSource("ann", "secret", addr)
				box, err := a.Open(b.Context(), mail.Inbox)
				if err != nil {
					b.Fatal(err)
				}
				var entries []source.Entry
				for e, err := range box.List(b.Context(), "") {
					if err != nil {
						b.Fatal(err)
					}
					entries = append(entries, e)
				}
				for m, err := range box.Fetch(b.Context(), groups(entries, 256)) {
					if err != nil {
						b.Fatal(err)
					}
					if _, err := m.Body.Read(make([]byte, 1)); err != nil {
						b.Fatal(err)
					}
				}
				box.Close()
				a.Close()
			}
		})
	}
}
