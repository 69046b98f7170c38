// Package pipeline moves messages from a source to a sink: list, subtract
// what is known, fetch, spool, deduplicate, write, commit.
//
// What must stay true, in this order: an intention is durable before the sink
// is touched; the sink has synced before the outcome is committed; a folder's
// cursor passes a message only once that is committed or has a failure row.
// Whatever dies in between, the next run finds all of it with Recover.
//
// The pipeline knows contracts and no plug-in. Of an error it looks at two
// things, its scope and whether it is temporary.
package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"mailhaul/internal/catalog"
	"mailhaul/internal/foldername"
	"mailhaul/internal/mail"
	"mailhaul/internal/spool"
	"mailhaul/sink"
	"mailhaul/source"
)

// A Pipeline is the wiring of one run.
type Pipeline struct {
	Source  source.Source
	Sink    sink.Sink
	Catalog *catalog.Catalog
	Spool   *spool.Spool
	Account string          // the source's name in the catalog
	Listed  []source.Folder // of the source, where they were listed just now; nil: not yet
	Options Options
	Observe func(Event) // called often and from several goroutines; may be nil
}

// Options have useful zero values.
type Options struct {
	Folders func(source.Folder) (to mail.Path, ok bool) // nil: all, same names
	Dedup   Dedup
	MaxSize int64 // leave out larger messages; 0: none
	Most    int64 // refuse to bring more than this in one run; 0: as many as there are
	Resend  bool  // bring again what is in doubt
	Remove  Remove
	Refill  bool // bring again what has gone from a destination that others change, too
	Flags   Flags
	Share   bool // source folders may go to the same folder of the sink
	Rebind  bool // recognise what was renumbered without downloading it (rebind.go)
	Readers int  // mailboxes read at once; 0: 4
	Batch   BatchLimit

	// Where folders of the sink are labels, so that it keeps each content once
	// (labels.go): what those are for that it has (as in a listing), by path.
	Labels map[mail.Path]string

	Now   func() time.Time                           // nil: time.Now
	Sleep func(context.Context, time.Duration) error // nil: a timer

	// Random decides what of a renumbered folder is looked into: a server must
	// not be able to foresee it. nil: crypto/rand.
	Random io.Reader
}

// A Dedup says how far a content that is already there is looked for.
type Dedup int

const (
	DedupFolder  Dedup = iota // one copy per folder
	DedupArchive              // one copy in all
	DedupOff
)

// Remove says what may be deleted at the source, and when. The zero value
// keeps everything.
type Remove struct {
	Yes   bool
	After time.Duration // since the commit
	Most  int           // refuse to remove more than this in one run; 0: 1000, or half of the folder if that is less
	Sure  bool          // remove as many as there are
}

// A BatchLimit says when a batch is closed: whichever comes first.
type BatchLimit struct {
	Messages int           // 0: 256
	Bytes    int64         // 0: 32 MiB
	Age      time.Duration // 0: 2 s
}

// step, where a test has set it, is called at every point where the order of
// things matters, for the test to end the process there. It is nil in the
// shipped program.
var step func(name string)

func at(name string) {
	if step != nil {
		step(name)
	}
}

// run is the state of one Run.
type run struct {
	*Pipeline
	claims claims
	liar   atomic.Bool // the server's promises of identity do not hold
	wary   atomic.Bool // nor what it says has not changed

	copied   atomic.Int64 // messages that the destination has copied (copies.go)
	uncopied atomic.Int64 // of which it has made no copy, though it should have

	mu      sync.Mutex
	report  Report
	writers map[*writer]struct{}
	open    map[mail.Path]*openFolder
	turns   map[mail.Path]chan struct{} // who may write to a folder of the sink
	doubts  map[mail.Digest]bool        // contents that may have arrived, and are not to be put again
	gone    map[int64]bool              // stored messages that are not at their place any more
}

// Run returns nil when everything was settled. The report is valid in any
// case and says what was not.
func (p *Pipeline) Run(ctx context.Context) (Report, error) {
	r := &run{
		Pipeline: p,
		report:   Report{Folders: map[mail.Path]*Counts{}},
		writers:  map[*writer]struct{}{},
		open:     map[mail.Path]*openFolder{},
		turns:    map[mail.Path]chan struct{}{},
	}
	r.defaults()
	p.Spool.Full = r.makeRoom
	started := p.Options.Now()
	if err := p.Catalog.StartRun(ctx, started); err != nil {
		return r.report, err
	}
	liar, unsure, err := p.Catalog.Distrusted(ctx, p.Account)
	r.liar.Store(liar)
	r.wary.Store(unsure)
	if err == nil {
		err = r.transfer(ctx)
	}
	if r.liar.Load() && !liar {
		// Again, for what was on its way when the lie was found.
		err = errors.Join(err, p.Catalog.Distrust(context.WithoutCancel(ctx), p.Account))
	}
	r.total()
	filed := Filed{Report: r.report, Account: p.Account}
	switch {
	case errors.Is(err, context.Canceled):
		filed.Error = Interrupted
	case err != nil:
		filed.Error = mail.Clean(err.Error())
	}
	if data, jerr := json.Marshal(filed); jerr == nil {
		err = errors.Join(err, p.Catalog.EndRun(context.WithoutCancel(ctx), p.Options.Now(), data))
	}
	return r.report, err
}

func (r *run) defaults() {
	o := &r.Options
	if o.Readers == 0 {
		o.Readers = 4
	}
	if o.Batch.Messages == 0 {
		o.Batch.Messages = 256
	}
	if o.Batch.Bytes == 0 {
		o.Batch.Bytes = 32 << 20
	}
	if o.Batch.Age == 0 {
		o.Batch.Age = 2 * time.Second
	}
	if o.Folders == nil {
		o.Folders = func(f source.Folder) (mail.Path, bool) { return f.Path, true }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Sleep == nil {
		o.Sleep = sleep
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *run) observe(e Event) {
	if r.Observe != nil {
		e.Time = r.Options.Now()
		r.Observe(e)
	}
}

// note says something once, in the report and now.
func (r *run) note(folder mail.Path, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.mu.Lock()
	seen := slices.Contains(r.report.Notes, text)
	if !seen {
		r.report.Notes = append(r.report.Notes, text)
	}
	r.mu.Unlock()
	if !seen {
		r.observe(Event{Kind: Note, Folder: folder, Err: errors.New(text)})
	}
}

// remark says what a source has to tell. Much of it is so in every run: the
// event counts whether it was told before.
func (r *run) remark(ctx context.Context, text string) error {
	told, err := r.Catalog.Told(context.WithoutCancel(ctx), text, r.Options.Now())
	r.mu.Lock()
	r.report.Notes = append(r.report.Notes, text)
	r.mu.Unlock()
	e := Event{Kind: Note, Err: errors.New(text)}
	if told {
		e.Count = 1
	}
	r.observe(e)
	return err
}

// transfer is the run itself: put right what an earlier run left, look
// whether the archive is as we left it, then bring over what is new.
func (r *run) transfer(ctx context.Context) error {
	if err := r.recoverBatches(ctx); err != nil {
		return err
	}
	if err := r.checkArchive(ctx); err != nil {
		return err
	}
	list, err := r.Listed, error(nil)
	if list == nil {
		// No second try here: who asks for the first thing can ask again.
		list, err = r.Source.Folders(ctx)
	}
	if err != nil {
		return err
	}
	folders, err := r.choose(ctx, list)
	if err == nil {
		err = r.remember(ctx)
	}
	if err == nil {
		err = r.few(ctx, folders)
	}
	if err != nil {
		return err
	}
	err = r.each(ctx, folders)
	if err == nil && r.Options.Remove.Yes {
		err = r.remove(ctx, folders)
	}
	if g, ok := r.Source.(source.Gapped); ok {
		for _, text := range g.Gaps() {
			r.missed(text)
		}
	}
	for _, side := range []any{r.Source, r.Sink} {
		if n, ok := side.(source.Noter); ok {
			for _, text := range n.Notes() {
				err = errors.Join(err, r.remark(ctx, mail.Clean(text)))
			}
		}
	}
	return errors.Join(err, r.reconcile(ctx))
}

// missed notes that folders could not be listed.
func (r *run) missed(reason string) {
	r.mu.Lock()
	r.report.Failed = append(r.report.Failed, Failure{Reason: mail.Clean(reason), Err: errors.New(reason)})
	r.mu.Unlock()
	r.observe(Event{Kind: Failed, Count: 1, Err: errors.New(reason)})
}

// choose applies the filter and gives every folder a place in the archive
// that no other takes, also where the file system does not tell upper from
// lower case or forms of accents apart.
func (r *run) choose(ctx context.Context, list []source.Folder) ([]*folder, error) {
	boxes, err := r.Catalog.Boxes(ctx)
	if err != nil {
		return nil, err
	}
	taken := map[string]mail.Path{} // folded: the source path that has it
	for _, known := range boxes {
		for path, to := range known {
			taken[foldername.Key(to)] = path
		}
	}
	var chosen []*folder
	for _, f := range list {
		to, ok := r.Options.Folders(f)
		if !ok {
			continue
		}
		if !r.elsewhere() {
			// A folder of the archive has one spelling: that which a look at the
			// archive gives back.
			to = to.Plain()
		}
		if owner, is := taken[foldername.Key(to)]; is && owner != f.Path && !r.Options.Share {
			sum := sha256.Sum256([]byte(f.Raw))
			to += mail.Path("~" + hex.EncodeToString(sum[:4]))
		}
		taken[foldername.Key(to)] = f.Path
		box, err := r.Catalog.Box(ctx, r.Account, f, to)
		if err != nil {
			return nil, err
		}
		counts := &Counts{}
		r.report.Folders[f.Path] = counts
		chosen = append(chosen, &folder{run: r, Folder: f, box: box, Counts: counts})
		r.expect(ctx, chosen[len(chosen)-1])
	}
	// The largest first: then the last one to end is a small one.
	slices.SortStableFunc(chosen, func(a, b *folder) int {
		if c := r.round(a) - r.round(b); c != 0 {
			return c
		}
		switch {
		case a.Messages > b.Messages:
			return -1
		case a.Messages < b.Messages:
			return 1
		}
		return strings.Compare(string(a.Path), string(b.Path))
	})
	return chosen, nil
}

// expect says what may lie ahead in a folder, for the progress bar.
func (r *run) expect(ctx context.Context, f *folder) {
	if f.Messages < 0 || f.box.Cursor != "" || r.Observe == nil {
		return
	}
	r.observe(Event{Kind: Expected, Folder: f.Path, Count: f.Messages, Bytes: f.Folder.Bytes})
}

// each works on all folders, some at a time, and one round after the other. An
// error that reaches beyond its folder ends the run; writers finish what they
// have.
func (r *run) each(ctx context.Context, folders []*folder) error {
	for len(folders) > 0 {
		n := 1
		for n < len(folders) && r.round(folders[n]) == r.round(folders[0]) {
			n++
		}
		if err := r.together(ctx, folders[:n]); err != nil {
			for _, f := range folders[n:] {
				f.unreached()
			}
			return err
		}
		folders = folders[n:]
	}
	return nil
}

// together works on the folders of one round.
func (r *run) together(ctx context.Context, folders []*folder) error {
	queue := make(chan *folder, len(folders))
	for _, f := range folders {
		queue <- f
	}
	close(queue)
	g, ctx := errgroup.WithContext(ctx)
	for range min(r.Options.Readers, len(folders)) {
		g.Go(func() error {
			for f := range queue {
				if err := f.bring(ctx); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := g.Wait()
	for f := range queue { // never reached
		f.unreached()
	}
	return err
}

// total adds up, and checks that it does.
func (r *run) total() {
	for path, c := range r.report.Folders {
		if c.Listed != c.Settled() {
			r.note(path, "%s: the report does not add up: %d listed, %d accounted for; this is an error of mailhaul", mail.Clean(string(path)), c.Listed, c.Settled())
		}
		r.report.Total.add(c)
	}
	for _, path := range slices.Sorted(maps.Keys(r.report.There)) {
		h := r.report.There[path]
		if off := h.After - h.Before - h.Added; off != 0 {
			way := "more"
			if off < 0 {
				way, off = "fewer", -off
			}
			r.note(path, "%s: the destination held %d messages, got %d from this run and holds %d now: %d %s than that. "+
				"If nobody else was at work there, compare both sides", mail.Clean(string(path)), h.Before, h.Added, h.After, off, way)
		}
	}
	slices.SortFunc(r.report.Failed, byName)
	slices.SortFunc(r.report.InDoubt, byName)
}

func byName(a, b Failure) int {
	if c := strings.Compare(string(a.Folder), string(b.Folder)); c != 0 {
		return c
	}
	if c := len(a.ID) - len(b.ID); c != 0 {
		return c
	}
	return strings.Compare(string(a.ID), string(b.ID))
}

// makeRoom closes the heaviest of the open batches: a reader waits for room, and
// asks again when there is some. The others go on gathering, for large batches
// cost less. Where all are on their way already there is nothing to do.
func (r *run) makeRoom() {
	r.mu.Lock()
	defer r.mu.Unlock()
	var heaviest *writer
	most := int64(0)
	for w := range r.writers {
		select {
		case <-w.done: // it has failed, and let go of everything
			continue
		default:
		}
		if n := w.holds.Load(); n > most {
			heaviest, most = w, n
		}
	}
	if heaviest != nil {
		heaviest.hurry()
	}
}

func (r *run) flushOthers(than *writer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for w := range r.writers {
		if w != than {
			w.hurry()
		}
	}
}

// An openFolder is a sink folder and how many use it, or wait for it to be opened.
type openFolder struct {
	sink.Folder
	users   int        // guarded by run.mu
	opening sync.Mutex // held while it is opened and closed
}

// acquire opens a folder of the sink, or joins those who have it open.
func (r *run) acquire(ctx context.Context, path mail.Path, create bool) (*openFolder, error) {
	r.mu.Lock()
	o := r.open[path]
	if o == nil {
		o = &openFolder{}
		r.open[path] = o
	}
	o.users++
	r.mu.Unlock()
	o.opening.Lock()
	defer o.opening.Unlock()
	if o.Folder == nil {
		f, err := r.Sink.Open(ctx, path, create)
		if err != nil {
			r.part(path, o)
			return nil, err
		}
		o.Folder = f
	}
	return o, nil
}

// part counts one user less.
func (r *run) part(path mail.Path, o *openFolder) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o.users--; o.users == 0 {
		delete(r.open, path)
	}
}

// mayWrite waits until nobody else writes to a folder of the sink, to which several
// folders of the source may go, and gives the right back by done.
func (r *run) mayWrite(ctx context.Context, path mail.Path) (done func(), err error) {
	r.mu.Lock()
	c := r.turns[path]
	if c == nil {
		c = make(chan struct{}, 1)
		r.turns[path] = c
	}
	r.mu.Unlock()
	select {
	case c <- struct{}{}:
		return func() { <-c }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// release closes a folder of the sink that nobody else uses. Who comes meanwhile
// opens it anew afterwards.
func (r *run) release(path mail.Path) (err error) {
	r.mu.Lock()
	o := r.open[path]
	r.mu.Unlock()
	o.opening.Lock()
	defer o.opening.Unlock()
	defer r.part(path, o)
	r.mu.Lock()
	last := o.users == 1
	r.mu.Unlock()
	if last {
		err, o.Folder = o.Close(), nil
	}
	return err
}
