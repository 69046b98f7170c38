package pipeline

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"mailhaul/internal/catalog"
	"mailhaul/internal/durable"
	"mailhaul/internal/mail"
	"mailhaul/internal/powerloss"
	"mailhaul/internal/testmail"
	"mailhaul/sink"
	"mailhaul/source"
	"mailhaul/source/pop3"
)

// TestRandomPrograms runs programs made by chance of what can happen to an
// account and its archive, by IMAP and by POP3, with deletion and without, in each
// scope of deduplication, and checks after each step that
//
//   - each message that was on the server when a run began that ended well is in the
//     archive, where the catalog says, and gives the bytes back that were delivered,
//   - nothing has disappeared from the archive but what the program itself
//     deleted there, and nothing that a run has deleted at the server,
//   - each content lies in a folder as often as the scope wants it, and no more often
//     than the server ever had it there at a time.
//
// A program is its number. One that fails prints its steps.
func TestRandomPrograms(t *testing.T) {
	quiet(t)
	programs := 240
	switch {
	case raced:
		programs = 12
	case testing.Short():
		programs = 30
	}
	runs, pops := 0, 0
	for n := range programs {
		p := newProgram(t, n)
		err := p.play()
		p.end()
		runs += p.runs
		if p.pop != nil {
			pops++
		}
		if err != nil {
			t.Fatalf("program %d (%s):\n\t%s\n%v", n, p.name, strings.Join(p.said, "\n\t"), err)
		}
	}
	t.Logf("%d programs, %d of them by POP3, %d runs", programs, pops, runs)
}

var programFolders = []string{"INBOX", "Work", "Work/Old"}

// A copyOf is a content in a folder.
type copyOf struct {
	folder mail.Path
	digest mail.Digest
}

func (c copyOf) String() string {
	for i := range programLetters {
		if textDigest([]byte(letter(i))) == c.digest {
			return fmt.Sprintf("%d in %s", i, c.folder)
		}
	}
	return fmt.Sprintf("something (%v) in %s", c.digest, c.folder)
}

// programLetters is how many contents there are: few, so that there are twins, and
// most of one length, so that each fits where another one was.
const programLetters = 13

type program struct {
	*powered
	name   string
	server *testmail.Model // nil: it is pop
	pop    *testmail.POP3
	r      *rand.Rand
	said   []string
	runs   int
	count  int // of letters delivered
	older  *testmail.Snapshot

	kept    map[copyOf]bool // was seen in the archive, or deleted at the server, and not deleted there since
	most    map[copyOf]int  // on the server at a time
	allowed map[copyOf]int  // more, after an event that explains it
	edited  map[copyOf]bool // made by a mail program
}

func newProgram(t *testing.T, n int) *program {
	l := layouts[n%len(layouts)]
	p := &program{r: rand.New(rand.NewPCG(uint64(n), 7)),
		kept: map[copyOf]bool{}, most: map[copyOf]int{}, allowed: map[copyOf]int{}, edited: map[copyOf]bool{}}
	protocol := "IMAP"
	if n%4 == 3 {
		protocol = "POP3"
		p.pop = &testmail.POP3{Cleartext: true}
		p.powered = newPowered(t, l.format, l.layout, p.pop.Start(t))
		p.account = "pop3:ann"
		if p.keep = n%8 == 3; !p.keep {
			protocol += " with deletion"
		}
	} else {
		p.server = &testmail.Model{Cleartext: true}
		p.powered = newPowered(t, l.format, l.layout, p.server.Start(t))
		for _, name := range programFolders {
			p.server.Folder(name)
		}
	}
	p.options.Dedup = []Dedup{DedupFolder, DedupArchive, DedupOff}[n/len(layouts)%3]
	p.lenient = true // mail that the program has deleted in the archive is missed
	p.name = fmt.Sprintf("%s, %s, scope %v", l.name, protocol, p.options.Dedup)
	return p
}

func (p *program) end() {
	if p.pop != nil {
		p.pop.Close()
	} else {
		p.server.Close()
	}
	os.RemoveAll(p.base)
}

func (p *program) say(format string, args ...any) {
	p.said = append(p.said, fmt.Sprintf(format, args...))
}

// source is what a run reads from.
func (p *program) source() source.Source {
	if p.pop != nil {
		return pop3.OverConn("ann", "secret", p.dial)
	}
	return p.imap()
}

func (p *program) play() error {
	steps := []struct {
		weight int
		do     func() error
	}{
		{6, p.deliver}, {2, p.expunge}, {2, p.move}, {2, p.flag}, {1, p.renumber}, {1, p.keepServer}, {1, p.restoreServer},
		{5, p.run}, {4, p.crash}, {2, p.full}, {1, p.twoAtOnce}, {4, p.edit},
	}
	var deck []func() error
	for _, s := range steps {
		for range s.weight {
			deck = append(deck, s.do)
		}
	}
	for range 14 {
		p.onServer()
		if err := deck[p.r.IntN(len(deck))](); err != nil {
			return err
		}
		if err := p.check(nil); err != nil {
			return err
		}
	}
	for range 2 {
		if err := p.run(); err != nil {
			return err
		}
	}
	return p.rest()
}

// rest wants one more run to fetch nothing.
func (p *program) rest() error {
	bodies := func() int { return p.server.Bodies() }
	if p.pop != nil {
		bodies = func() int { return p.pop.Count("RETR") }
		p.pop.Reset()
	} else {
		p.server.Reset()
	}
	if err := p.run(); err != nil {
		return err
	}
	if n := bodies(); n > 0 {
		return fmt.Errorf("a run with nothing to do fetched %d bodies", n)
	}
	return nil
}

// A listed message is one that the server has.
type listed struct {
	copyOf
	epoch, id string
	raw       []byte
}

// onServer is what the server has.
func (p *program) onServer() (all []listed) {
	if p.pop != nil {
		ids := p.pop.IDs()
		for i, m := range p.pop.Left() {
			raw := testmail.KeptPOP3(m.Raw())
			all = append(all, listed{copyOf{mail.Inbox, textDigest(raw)}, "", "uidl:" + ids[i], raw})
		}
	} else {
		for _, name := range programFolders {
			uids := p.server.UIDs(name)
			for i, m := range p.server.Mails(name) {
				all = append(all, listed{copyOf{mail.Path(name), textDigest(m.Raw())}, fmt.Sprint(p.server.Validity(name)), fmt.Sprint(uids[i]), m.Raw()})
			}
		}
	}
	for c, n := range counted(all) {
		p.most[c] = max(p.most[c], n)
	}
	return all
}

func counted(all []listed) map[copyOf]int {
	n := map[copyOf]int{}
	for _, x := range all {
		n[x.copyOf]++
	}
	return n
}

// inArchive counts what lies in the archive, and what does in the shape that a
// mail program has given it.
func (p *program) inArchive() (exact, bare map[copyOf]int, err error) {
	exact, bare = map[copyOf]int{}, map[copyOf]int{}
	if _, err := os.Stat(p.dir); err != nil {
		return exact, bare, nil
	}
	ctx := p.t.Context()
	s, err := p.openSink(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer s.Close()
	paths, err := s.(sink.Lister).Folders(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, path := range paths {
		f, err := s.Open(ctx, path, false)
		if err != nil {
			return nil, nil, err
		}
		for x, err := range f.(sink.Scanner).Scan(ctx, true) {
			if err != nil {
				f.Close()
				return nil, nil, err
			}
			exact[copyOf{path, x.Digest}]++
			bare[copyOf{path, x.Other}]++
		}
		f.Close()
	}
	return exact, bare, nil
}

// check looks at the archive. Want is what a run that ended well had to bring,
// and nil after anything else.
func (p *program) check(want []listed) error {
	exact, bare, err := p.inArchive()
	if err != nil {
		return err
	}
	for c := range p.kept {
		if p.lies(exact, c) == 0 && p.lies(bare, c) == 0 {
			return fmt.Errorf("%s has disappeared from the archive", c)
		}
	}
	if want == nil {
		return nil // a batch may be open, and torn
	}
	if err := p.leads(want); err != nil {
		return err
	}
	for c, n := range counted(want) {
		least := n
		if p.format == "mbox" && p.options.Dedup != DedupOff {
			least = 1
		}
		if got := p.lies(exact, c); got < least {
			return fmt.Errorf("%s lies in the archive %d times after a run that ended well, want %d", c, got, least)
		}
	}
	for c, n := range exact {
		if p.edited[c] {
			continue
		}
		p.kept[c] = true
		most := p.most[c]
		if p.format == "mbox" && p.options.Dedup != DedupOff {
			most = min(most, 1)
		}
		if n > most+p.allowed[c] {
			return fmt.Errorf("%s lies in the archive %d times, and was on the server %d times at most", c, n, p.most[c])
		}
	}
	return nil
}

// lies is how often a content lies in its folder, or where one copy in the archive is
// enough, anywhere.
func (p *program) lies(in map[copyOf]int, c copyOf) (n int) {
	if p.format != "mbox" || p.options.Dedup != DedupArchive {
		return in[c]
	}
	for _, name := range programFolders {
		n += in[copyOf{mail.Path(name), c.digest}]
	}
	return n
}

// leads follows the catalog from each message of the server to the place that it
// tells, and compares the bytes there with those that were delivered.
func (p *program) leads(want []listed) error {
	ctx := p.t.Context()
	// Opening it writes the manifest anew where that is due.
	c, err := catalog.Open(ctx, catalog.Home{Dir: p.dir, State: p.state(), Format: p.format, Layout: p.layout}, false, "look")
	if err != nil {
		return err
	}
	if err := c.Close(); err != nil {
		return err
	}
	type key struct{ path, epoch, id string }
	lines := map[key]catalog.Line{}
	err = catalog.ReadManifest(p.dir, func(l catalog.Line) error {
		if l.Place != "" {
			epoch, _, _ := strings.Cut(l.Epoch, "#") // behind it: how often the server went back
			if p.pop != nil {
				epoch = ""
			}
			lines[key{l.Path, epoch, l.ID}] = l
		}
		return nil
	})
	if err != nil {
		return err
	}
	s, err := p.openSink(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	for _, x := range want {
		l, ok := lines[key{string(x.folder), x.epoch, x.id}]
		if !ok {
			return fmt.Errorf("%s, message %s, was on the server and is not in the catalog after a run that ended well", x.copyOf, x.id)
		}
		got, err := rebuilt(ctx, s, l)
		if err != nil {
			return fmt.Errorf("%s, message %s: %w", x.copyOf, x.id, err)
		}
		if !bytes.Equal(got, x.raw) {
			return fmt.Errorf("%s, message %s, leads to %s %s, where another one lies:\n%s", x.copyOf, x.id, l.Folder, l.Place, got)
		}
	}
	return nil
}

// ---- what happens on the server

func (p *program) some() (folder string, uid uint32) {
	folder = programFolders[p.r.IntN(len(programFolders))]
	if uids := p.server.UIDs(folder); len(uids) > 0 {
		uid = uids[p.r.IntN(len(uids))]
	}
	return folder, uid
}

var programFlags = []string{`\Seen`, `\Answered`, `\Flagged`, "Work", "Later"}

func (p *program) flags() (flags []string) {
	for _, f := range programFlags {
		if p.r.IntN(3) == 0 {
			flags = append(flags, f)
		}
	}
	return flags
}

func (p *program) deliver() error {
	folder := "INBOX"
	if p.server != nil {
		folder, _ = p.some()
	}
	for range 1 + p.r.IntN(4) {
		i := p.r.IntN(programLetters)
		p.count++
		m := testmail.Letter(fmt.Sprintf("%d (%d)", i, p.count), []byte(letter(i)), p.flags()...)
		p.say("deliver %s to %s", m.Name, folder)
		if p.server != nil {
			p.server.Deliver(folder, m)
		} else {
			p.pop.Deliver(m)
		}
	}
	return nil
}

func (p *program) expunge() error {
	if p.pop != nil {
		if n := len(p.pop.IDs()); n > 0 {
			i := p.r.IntN(n)
			p.say("remove the message at %d", i)
			p.pop.Remove(i)
		}
		return nil
	}
	if folder, uid := p.some(); uid != 0 {
		p.say("expunge %d in %s", uid, folder)
		p.server.Expunge(folder, uid)
	}
	return nil
}

func (p *program) move() error {
	if p.pop != nil {
		p.say("put the messages into another order")
		p.pop.Shuffle(p.r.Uint64())
		return nil
	}
	folder, uid := p.some()
	if to, _ := p.some(); uid != 0 && to != folder {
		p.say("move %d from %s to %s", uid, folder, to)
		p.server.Move(folder, uid, to)
	}
	return nil
}

func (p *program) flag() error {
	if p.pop != nil {
		return p.deliver() // there are no flags
	}
	if folder, uid := p.some(); uid != 0 {
		p.say("flag %d in %s", uid, folder)
		p.server.SetFlags(folder, uid, p.flags()...)
	}
	return nil
}

func (p *program) renumber() error {
	if p.pop != nil {
		p.say("give all messages new unique-ids")
		p.pop.Renumber()
		return nil
	}
	folder, _ := p.some()
	p.say("renumber %s", folder)
	p.server.Renumber(folder)
	return nil
}

func (p *program) keepServer() error {
	if p.pop != nil {
		return nil
	}
	p.say("back up the server")
	p.older = p.server.Snapshot()
	return nil
}

func (p *program) restoreServer() error {
	if p.older != nil {
		p.say("restore the server")
		p.server.Rewind(p.older)
	}
	return nil
}

// ---- runs

func (p *program) run() error {
	p.say("run")
	p.runs++
	want := p.onServer()
	p.watch(nil)
	if _, err := p.back(p.source()); err != nil {
		return err
	}
	if p.pop != nil && !p.keep && len(p.pop.IDs()) > 0 {
		return fmt.Errorf("%d messages are left on the server", len(p.pop.IDs()))
	}
	return p.check(want)
}

// watch is told what the server deletes, and otherwise takes it for kept from then
// on.
func (p *program) watch(told func(m testmail.Message)) {
	if p.pop == nil {
		return
	}
	if told == nil {
		told = p.deleted
	}
	p.pop.Update = func(gone []testmail.Message) {
		for _, m := range gone {
			told(m)
		}
	}
}

func (p *program) deleted(m testmail.Message) {
	p.kept[copyOf{mail.Inbox, textDigest(testmail.KeptPOP3(m.Raw()))}] = true
}

// crash is a run in the middle of which power fails, or which is killed.
func (p *program) crash() error {
	p.runs++
	ids := map[string]string{}
	if p.pop != nil {
		all := p.pop.IDs()
		for i, m := range p.pop.Left() {
			ids[m.Name] = all[i]
		}
	}
	type deletion struct {
		steps int // that were begun before
		m     testmail.Message
	}
	var gone []deletion
	disk := powerloss.Record(p.t, p.base, "archive/"+p.state()+"/catalog.db*")
	p.watch(func(m testmail.Message) { gone = append(gone, deletion{disk.Steps(), m}) })
	_, err := p.back(p.source())
	points := disk.Stop()
	if err != nil {
		return err
	}
	n := p.r.IntN(len(points))
	fate, seed := powerloss.Fate(p.r.IntN(powerloss.Fates)), p.r.Uint64()
	p.say("power loss at %s, with %s of what was not synced (seed %d)", points[n], fate, seed)
	for _, g := range gone {
		if g.steps <= n {
			p.deleted(g.m)
			continue
		}
		// It was not deleted yet.
		p.pop.Deliver(g.m)
		p.pop.SetID(len(p.pop.IDs())-1, ids[g.m.Name])
	}
	// What the run had stored by its end it has not, perhaps.
	return points[n].Restore(fate, seed)
}

// full is a run that finds the disk full for a while.
func (p *program) full() error {
	p.runs++
	from := p.r.IntN(60)
	to := from + 1 + p.r.IntN(20)
	p.say("run with a disk that is full from step %d to %d", from, to)
	want := p.onServer()
	var count atomic.Int64
	durable.Step = func(op, name string) error {
		n := int(count.Add(1))
		if n > from && n <= to && (op == "create" || op == "write" || op == "fsync" || op == "mkdir" || op == "link") {
			return syscall.ENOSPC
		}
		return nil
	}
	p.watch(nil)
	_, err := p.back(p.source())
	durable.Step = nil
	if err == nil {
		return p.check(want)
	}
	if !durable.Full(err) {
		return fmt.Errorf("a full disk gave %w", err)
	}
	if !strings.Contains(err.Error(), p.base) {
		return fmt.Errorf("a full disk is not said to be %s: %w", p.base, err)
	}
	return nil
}

func (p *program) twoAtOnce() error {
	p.say("run while another one is at work")
	c, err := catalog.Open(p.t.Context(), catalog.Home{Dir: p.dir, State: p.state(), Format: p.format, Layout: p.layout}, true, "another")
	if err != nil {
		return err
	}
	defer c.Close()
	var locked *durable.Locked
	if _, err := p.back(p.source()); !errors.As(err, &locked) || locked.PID != os.Getpid() || locked.Command != "another" {
		return fmt.Errorf("a second run at once gave %v", err)
	}
	return nil
}

// ---- what a mail program does to the archive

func (p *program) edit() error {
	var files []string
	err := filepath.WalkDir(p.dir, func(name string, d fs.DirEntry, err error) error {
		parent := filepath.Base(filepath.Dir(name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case d.Name() == p.state():
			return fs.SkipDir
		case p.format == "mbox" && strings.HasSuffix(name, ".mbox"), p.format != "mbox" && (parent == "cur" || parent == "new"):
			files = append(files, name)
		}
		return nil
	})
	if err != nil || len(files) == 0 {
		return err
	}
	before, dressed, err := p.inArchive()
	if err != nil {
		return err
	}
	name := files[p.r.IntN(len(files))]
	if p.format == "mbox" {
		err = p.rewrite(name)
	} else {
		err = p.rename(name)
	}
	if err != nil {
		return err
	}
	after, bare, err := p.inArchive()
	for c := range after {
		if before[c] == 0 && p.most[c] == 0 {
			p.edited[c] = true
		}
	}
	for c := range p.kept {
		if before[c]+dressed[c] > 0 && after[c]+bare[c] == 0 {
			delete(p.kept, c)
		}
	}
	for c := range before {
		// What its owner has changed may be brought again, and what it was
		// may be there still.
		p.allowed[c] += before[c] - after[c]
	}
	return err
}

// rename does what Mutt does to a message in a Maildir: it is seen, or deleted.
func (p *program) rename(name string) error {
	if p.r.IntN(3) == 0 {
		p.say("delete a file of %s", filepath.Dir(name)[len(p.base):])
		return os.Remove(name)
	}
	unique, _, _ := strings.Cut(filepath.Base(name), ":2,")
	to := filepath.Join(filepath.Dir(filepath.Dir(name)), "cur", unique+":2,"+[]string{"S", "FS", "RS", ""}[p.r.IntN(4)])
	p.say("flag a file of %s", filepath.Dir(name)[len(p.base):])
	return os.Rename(name, to)
}

// rewrite does what Dovecot does to an mbox: every message gets a status, and
// one is deleted, so that all behind it move up.
func (p *program) rewrite(name string) error {
	text, err := os.ReadFile(name)
	if err != nil || len(text) == 0 {
		return err
	}
	var records [][]byte
	for {
		i := bytes.Index(text[1:], []byte("\n\nFrom "))
		if i < 0 {
			break
		}
		records, text = append(records, text[:i+3]), text[i+3:]
	}
	records = append(records, text)
	gone := -1
	if p.r.IntN(3) > 0 {
		gone = p.r.IntN(len(records))
	}
	status := gone < 0 || p.r.IntN(3) == 0
	p.say("rewrite %s with status %v, without message %d", name[len(p.base):], status, gone)
	var out []byte
	for i, r := range records {
		if i == gone {
			continue
		}
		head, body, ok := bytes.Cut(r, []byte("\n\n"))
		if status && ok && !bytes.Contains(head, []byte("\nStatus: ")) {
			r = slices.Concat(head, []byte("\nStatus: RO\n\n"), body)
		}
		out = append(out, r...)
	}
	if err := os.WriteFile(name+".dovecot", out, 0o600); err != nil {
		return err
	}
	return os.Rename(name+".dovecot", name)
}
