package pipeline

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mailhaul/internal/catalog"
	"mailhaul/internal/durable"
	"mailhaul/internal/imapconn"
	"mailhaul/internal/mail"
	"mailhaul/internal/spool"
	"mailhaul/internal/testmail"
	"mailhaul/sink"
	imapaccount "mailhaul/sink/imap"
	"mailhaul/source"
	"mailhaul/source/imap"
	"mailhaul/source/pop3"
)

// diedAtStep is the exit code of a child that ended itself.
const diedAtStep = 99

// TestMain makes this binary the program that dies, when the parent asks.
func TestMain(m *testing.M) {
	if n := os.Getenv("MAILHAUL_TEST_DIE_AT"); n != "" {
		os.Exit(child(n))
	}
	os.Exit(m.Run())
}

// child does one run with deletion on, and ends the process at its nth step:
// no deferred call runs, no file is closed.
func child(n string) int {
	last, _ := strconv.ParseInt(n, 10, 64)
	var count atomic.Int64
	die := func() {
		if count.Add(1) == last {
			os.Exit(diedAtStep)
		}
	}
	step = func(string) { die() }
	durable.Step = func(string, string) error { die(); return nil }
	deadly = die
	err := deathRun(context.Background(), os.Getenv("MAILHAUL_TEST_SERVER"), os.Getenv("MAILHAUL_TEST_DIR"), os.Getenv("MAILHAUL_TEST_FORMAT"), os.Getenv("MAILHAUL_TEST_PROTOCOL"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// deadly, where it is set, is called around everything that is said to a
// destination.
var deadly = func() {}

// A mortal is a connection at which a process may die.
type mortal struct{ net.Conn }

func (m mortal) Write(p []byte) (int, error) {
	deadly()
	n, err := m.Conn.Write(p)
	deadly()
	return n, err
}

// toServer is an IMAP account as the destination.
func toServer(addr string) sink.Sink {
	o := imapconn.Options{Addr: "test:143", Security: imapconn.None, User: "ann", Password: "secret",
		Dial: func(ctx context.Context, _ string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
			return mortal{c}, err
		}}
	return imapaccount.New(o, 2, imapaccount.Options{Identity: "imap:ann@destination",
		Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }})
}

// deathRun is one backup as planned: "imap", or "pop3" with deletion at once, then
// perhaps "keep", for no deletion, and a scope of deduplication.
func deathRun(ctx context.Context, addr, dir, format, plan string) error {
	protocol, rest, _ := strings.Cut(plan, " ")
	dial := func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", addr) }
	s, err := deathSink(ctx, dir, format)
	if err != nil {
		return err
	}
	defer s.Close()
	c, err := catalog.Open(ctx, catalog.Home{Dir: dir, State: ".mailhaul", Format: format}, true, "death")
	if err != nil {
		return err
	}
	defer c.Close()
	account := protocol + ":ann"
	if err := c.Admit(ctx, account, false); err != nil {
		return err
	}
	o := Options{Readers: 1, Batch: BatchLimit{Messages: 3}, Sleep: func(context.Context, time.Duration) error { return nil }}
	switch {
	case format == "maildir":
		o.Dedup = DedupArchive
	case strings.HasPrefix(format, "imap:"):
		o.Dedup = DedupOff
	}
	for _, word := range strings.Fields(rest) {
		if d, ok := dedupNames[word]; ok {
			o.Dedup = d
		}
	}
	var src source.Source
	if protocol == "pop3" {
		src = pop3.OverConn("ann", "secret", dial)
		o.Remove = Remove{Yes: !strings.Contains(rest, "keep"), Sure: true}
	} else {
		src = imap.OverConn("ann", "secret", 1, dial)
	}
	defer src.Close()
	p := &Pipeline{Source: src, Sink: s, Catalog: c, Account: account, Options: o, Spool: spool.New(filepath.Join(dir, ".mailhaul"), spool.Budget)}
	r, err := p.Run(ctx)
	if err == nil && len(r.Failed)+len(r.Lost)+int(r.Missing) > 0 {
		err = fmt.Errorf("%+v", r)
	}
	return err
}

var dedupNames = map[string]Dedup{"folder": DedupFolder, "archive": DedupArchive, "off": DedupOff}

// deathSink is an archive in dir, or with the format "imap:HOST:PORT" an account
// there, whose catalog lies in dir.
func deathSink(ctx context.Context, dir, format string) (sink.Sink, error) {
	if addr, ok := strings.CutPrefix(format, "imap:"); ok {
		return toServer(addr), nil
	}
	return (&archive{dir: dir, format: format}).openSink(ctx)
}

// doomed are the messages of a death test: twins, lines that mbox quotes, an
// open end.
func doomed() []testmail.Message {
	var all []testmail.Message
	for i, raw := range []string{letter(1), letter(2), letter(1), "From me\r\n\r\nFrom x\r\n>From y\r\n\r\n", letter(3), letter(4) + "open end", letter(2)} {
		all = append(all, testmail.Letter(fmt.Sprint("doomed ", i), []byte(raw)))
	}
	return all
}

func textDigest(raw []byte) mail.Digest {
	var f mail.Folder
	text, _, _ := f.Append(nil, raw)
	text, _ = f.Close(text)
	return sha256.Sum256(text)
}

// lies tells which contents lie whole in the archive's files, whatever its
// catalog knows, and how many messages in all.
func (a *archive) lies() (map[mail.Digest]int, int) {
	a.t.Helper()
	there, n := map[mail.Digest]int{}, 0
	s, err := a.openSink(a.t.Context())
	if err != nil {
		a.t.Fatal(err)
	}
	defer s.Close()
	paths, err := s.(sink.Lister).Folders(a.t.Context())
	if err != nil {
		a.t.Fatal(err)
	}
	for _, p := range paths {
		f, err := s.Open(a.t.Context(), p, false)
		if err != nil {
			a.t.Fatal(err)
		}
		for x, err := range f.(sink.Scanner).Scan(a.t.Context(), true) {
			if err != nil {
				a.t.Fatal(err)
			}
			there[x.Digest]++
			n++
		}
		f.Close()
	}
	return there, n
}

// TestDeathWithDeletion ends a POP3 backup that deletes at once at every step.
// After each death, and at the very moment in which the server deletes, every
// message is on the server or whole in the archive; the next run completes it,
// and one more changes nothing.
func TestDeathWithDeletion(t *testing.T) {
	atEveryStep(t, deletionDeath)
}

// atEveryStep lets a run die at step 1, 2, 3 ... until one lives, in each format.
func atEveryStep(t *testing.T, death func(t *testing.T, format string, n int) (lived bool)) {
	for _, format := range formats {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			n := 1
			for ; !death(t, format, n); n++ {
				if t.Failed() {
					t.Fatalf("failed at step %d", n)
				}
			}
			t.Logf("%d points of death", n-1)
			if n < 40 {
				t.Errorf("only %d steps were counted", n-1)
			}
		})
	}
}

// deletionDeath reports whether the run lived longer than n steps.
func deletionDeath(t *testing.T, format string, n int) (lived bool) {
	a := &archive{t: t, dir: filepath.Join(t.TempDir(), "archive"), format: format}
	all := doomed()
	p := &testmail.POP3{Cleartext: true}
	p.Update = func(gone []testmail.Message) {
		there, _ := a.lies()
		for _, m := range gone {
			if there[textDigest(testmail.KeptPOP3(m.Raw()))] == 0 {
				t.Errorf("step %d: %s is deleted, and not in the archive", n, m.Name)
			}
		}
	}
	p.Deliver(all...)
	addr := p.Start(t)
	lived = runChild(t, n, addr, a, "pop3")
	p.Drop()

	there := map[mail.Digest]int{}
	if _, err := os.Stat(a.dir); err == nil {
		there, _ = a.lies()
	}
	for _, m := range p.Left() {
		there[textDigest(testmail.KeptPOP3(m.Raw()))]++
	}
	for _, m := range all {
		if there[textDigest(testmail.KeptPOP3(m.Raw()))] == 0 {
			t.Errorf("step %d: %s is lost", n, m.Name)
		}
	}
	for range 2 {
		if err := deathRun(t.Context(), addr, a.dir, format, "pop3"); err != nil {
			t.Fatalf("step %d: %v", n, err)
		}
		whole, count := a.lies()
		if want := map[string]int{"mbox": 5, "maildir": 7}[format]; len(whole) != 5 || count != want {
			t.Errorf("step %d: %d messages of %d contents lie in the archive, want %d of 5", n, count, len(whole), want)
		}
		if left := p.Left(); len(left) != 0 {
			t.Errorf("step %d: %d are left on the server", n, len(left))
		}
	}
	return lived
}

// TestDeath does the same for IMAP, where nothing is deleted: after each death
// the next run brings exactly what is missing, and one more changes nothing.
func TestDeath(t *testing.T) {
	atEveryStep(t, imapDeath)
}

func imapDeath(t *testing.T, format string, n int) (lived bool) {
	a := &archive{t: t, dir: filepath.Join(t.TempDir(), "archive"), format: format}
	m := &testmail.Model{Cleartext: true}
	m.Deliver("INBOX", doomed()[:4]...)
	m.Folder("Work")
	m.Deliver("Work", doomed()[2:]...)
	addr := m.Start(t)
	lived = runChild(t, n, addr, a, "imap")
	for range 2 {
		if err := deathRun(t.Context(), addr, a.dir, format, "imap"); err != nil {
			t.Fatalf("step %d: %v", n, err)
		}
		whole, count := a.lies()
		if want := map[string]int{"mbox": 8, "maildir": 9}[format]; len(whole) != 5 || count != want {
			t.Errorf("step %d: %d messages of %d contents lie in the archive, want %d of 5", n, count, len(whole), want)
		}
	}
	m.Untouched(t)
	return lived
}

// TestDeathInEachScope lets runs die, once and twice, in each scope of deduplication,
// by IMAP and by POP3, with deletion and without. The tests above do so at every step
// for the usual scope; this one takes samples, the same ones each time.
func TestDeathInEachScope(t *testing.T) {
	quiet(t)
	stride, pairs := 19, 3
	if testing.Short() || raced {
		stride, pairs = 80, 1
	}
	for i, c := range []struct {
		plan          string
		mbox, maildir int // messages that lie in the archive in the end
	}{
		{"imap archive", 5, 9}, {"imap off", 9, 9}, {"imap folder", 8, 9},
		{"pop3 folder", 5, 7}, {"pop3 archive", 5, 7}, {"pop3 off", 7, 7},
		{"pop3 keep folder", 5, 7}, {"pop3 keep archive", 5, 7}, {"pop3 keep off", 7, 7},
	} {
		for j, format := range formats {
			t.Run(c.plan+"/"+format, func(t *testing.T) {
				t.Parallel()
				want := []int{c.mbox, c.maildir}[j]
				points, n := 0, 1+(7*i+3*j)%stride
				for ; !scopeDeath(t, format, c.plan, want, n); n += stride {
					points++
				}
				r := rand.New(rand.NewPCG(uint64(i), uint64(j)))
				for range pairs {
					scopeDeath(t, format, c.plan, want, 1+r.IntN(n), 1+r.IntN(60))
				}
				t.Logf("%d points of death, %d pairs", points, pairs)
			})
		}
	}
}

// scopeDeath dies at one step after the other, a run each, and reports whether the last
// run lived longer. Nothing is lost then, on the way and in the end.
func scopeDeath(t *testing.T, format, plan string, want int, steps ...int) (lived bool) {
	a := &archive{t: t, dir: filepath.Join(t.TempDir(), "archive"), format: format}
	var addr string
	var left func() []testmail.Message
	if strings.HasPrefix(plan, "pop3") {
		p := &testmail.POP3{Cleartext: true}
		defer p.Close()
		p.Deliver(doomed()...)
		p.Update = func(gone []testmail.Message) {
			there, _ := a.lies()
			for _, m := range gone {
				if there[textDigest(testmail.KeptPOP3(m.Raw()))] == 0 {
					t.Errorf("steps %v: %s is deleted, and not in the archive", steps, m.Name)
				}
			}
			if strings.Contains(plan, "keep") {
				t.Errorf("steps %v: %d messages are deleted", steps, len(gone))
			}
		}
		addr, left = p.Start(t), p.Left
		for _, n := range steps {
			lived = runChild(t, n, addr, a, plan)
			p.Drop()
		}
	} else {
		m := &testmail.Model{Cleartext: true}
		defer m.Close()
		m.Deliver("INBOX", doomed()[:4]...)
		m.Folder("Work")
		m.Deliver("Work", doomed()[2:]...)
		addr, left = m.Start(t), func() []testmail.Message { return append(m.Mails("INBOX"), m.Mails("Work")...) }
		for _, n := range steps {
			lived = runChild(t, n, addr, a, plan)
		}
	}
	for run := range 2 {
		if err := deathRun(t.Context(), addr, a.dir, format, plan); err != nil {
			t.Fatalf("steps %v: %v", steps, err)
		}
		whole, count := a.lies()
		if len(whole) != 5 || count != want {
			t.Errorf("steps %v, run %d: %d messages of %d contents lie in the archive, want %d of 5", steps, run, count, len(whole), want)
		}
	}
	if n := len(left()); n != 0 && strings.HasPrefix(plan, "pop3") && !strings.Contains(plan, "keep") {
		t.Errorf("steps %v: %d are left on the server", steps, n)
	}
	return lived
}

// A migration is what a death test brings from one account to another.
type migration struct {
	name   string
	caps   []string                       // of the destination
	plan   string                         // as of deathRun
	fill   func(from, to *testmail.Model) // all of from comes to to
	pairs  bool                           // it dies twice, too
	points int                            // that there are at least
}

// TestMigrationDeath ends a migration at every step, those between two writes
// to the destination among them. The next run brings exactly what is missing,
// and one more sends nothing. Then it dies once more in the run that follows.
func TestMigrationDeath(t *testing.T) {
	twoFolders := func(from, to *testmail.Model) {
		from.Deliver("INBOX", doomed()[:4]...)
		from.Folder("Work")
		from.Deliver("Work", doomed()[2:]...)
	}
	for _, m := range []migration{
		{"MULTIAPPEND", append(slices.Clone(testmail.DefaultCaps), "MULTIAPPEND"), "imap", twoFolders, true, 40},
		{"IMAP4rev1", testmail.PlainCaps, "imap", twoFolders, false, 40},
		{"copies", testmail.DefaultCaps, "imap archive", shared, true, 80},
	} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			stride := 37 // of second deaths every so many are tried, beginning with another one each time
			if !m.pairs || testing.Short() {
				stride = 1000
			}
			points, pairs := 0, 0
			for n := 1; ; n++ {
				lived := m.death(t, n, 0)
				if t.Failed() {
					t.Fatalf("failed at step %d", n)
				}
				if lived {
					break
				}
				points++
				for second := 1 + n%stride; stride < 1000; second += stride {
					pairs++
					if m.death(t, n, second) || t.Failed() {
						break
					}
				}
			}
			t.Logf("%d points of death, %d pairs", points, pairs)
			if points < m.points {
				t.Errorf("only %d steps were counted", points)
			}
		})
	}
}

// shared is mail that lies in several folders, once with other flags and once in a
// folder where it is at the destination, too.
func shared(from, to *testmail.Model) {
	from.Caps = append(slices.Clone(testmail.DefaultCaps), "OBJECTID")
	all := doomed()[:6]
	for i := range 3 {
		all[i] = testmail.Letter("named", []byte("Message-ID: <"+fmt.Sprint(i%2)+"@example.org>\r\n"+string(all[i].Raw())))
	}
	from.Deliver("INBOX", all...)
	for _, uid := range []uint32{1, 2, 4, 5} {
		from.Copy("INBOX", uid, "Work")
	}
	from.SetFlags("Work", 2, `\Flagged`)
	for _, uid := range []uint32{1, 3, 4} { // the first and the third are twins
		from.Copy("INBOX", uid, "Archive")
	}
	to.Deliver("Work", all[0], all[3])
}

// death dies at one step, and where second is not 0 again at that one of the next
// run. It reports whether the last of them lived.
func (x *migration) death(t *testing.T, first, second int) (lived bool) {
	from, to := &testmail.Model{Cleartext: true}, &testmail.Model{Cleartext: true, Caps: x.caps}
	x.fill(from, to)
	to.Deliver("INBOX", testmail.Letter("stranger", []byte("Subject: here before\r\n\r\nx\r\n")))
	addr, dest := from.Start(t), to.Start(t)
	defer from.Close()
	defer to.Close()
	a := &archive{t: t, dir: filepath.Join(t.TempDir(), "catalog"), format: "imap:" + dest}
	lived = runChild(t, first, addr, a, x.plan)
	if second > 0 {
		lived = runChild(t, second, addr, a, x.plan)
	}
	for n := range 2 {
		to.Reset()
		if err := deathRun(t.Context(), addr, a.dir, a.format, x.plan); err != nil {
			t.Fatalf("steps %d and %d: %v", first, second, err)
		}
		if n == 1 && to.Count("APPEND")+to.Count("UID COPY")+to.Count("UID STORE") > 0 {
			t.Errorf("steps %d and %d: one more run sends something", first, second)
		}
	}
	for _, name := range from.Names() {
		want := map[string]int{}
		for _, m := range from.Mails(name) {
			want[string(m.Raw())+m.Flags.Key()]++
		}
		if name == "INBOX" {
			want["Subject: here before\r\n\r\nx\r\n"]++
		}
		for _, m := range to.Mails(name) {
			want[string(m.Raw())+m.Flags.Key()]--
		}
		for raw, n := range want {
			if n != 0 {
				t.Errorf("steps %d and %d: %s: %d of %.40q missing (or, negative, too many)", first, second, name, n, raw)
			}
		}
	}
	from.Untouched(t)
	return lived
}

// runChild runs the binary until it dies at step n, and reports whether it
// lived.
func runChild(t *testing.T, n int, addr string, a *archive, protocol string) bool {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "MAILHAUL_TEST_DIE_AT="+strconv.Itoa(n), "MAILHAUL_TEST_SERVER="+addr,
		"MAILHAUL_TEST_DIR="+a.dir, "MAILHAUL_TEST_FORMAT="+a.format, "MAILHAUL_TEST_PROTOCOL="+protocol)
	out, err := cmd.CombinedOutput()
	if err == nil {
		return true
	}
	if cmd.ProcessState.ExitCode() != diedAtStep || strings.Contains(string(out), "panic") {
		t.Fatalf("step %d: %v\n%s", n, err, out)
	}
	return false
}
