package pipeline

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"mailhaul/internal/catalog"
	"mailhaul/internal/mail"
	"mailhaul/internal/spool"
	"mailhaul/sink"
	"mailhaul/source"
)

// closing is how long an open batch may take to be committed once the run was
// interrupted.
const closing = 10 * time.Second

// A writer owns one folder of the sink: it decides what is a duplicate,
// gathers batches and commits them. All of it happens in one goroutine, so
// files are written in one place.
type writer struct {
	r    *run
	path mail.Path
	turn func() // gives back the right to write to the folder
	f    *openFolder
	in   chan order
	soon chan struct{} // close the batch now
	done chan struct{} // nothing more is taken
	gone chan struct{} // the goroutine has ended
	err  error         // why; read after done

	batch  []*job
	weight int64              // bytes in batch
	holds  atomic.Int64       // bytes of bodies in batch, and on their way to it
	due    *time.Timer        // when the batch is old; nil without a batch
	taken  map[int64]struct{} // copies that jobs of this run stand on and no committed location yet
	flags  []change

	parked  int               // jobs that wait for another's commit
	waiting map[*job]struct{} // those of them that came with claims of their own
	again   []*job            // to be fetched from the source after all

	theirs *places // of the folder's committed messages; nil: not looked up yet

	mu    sync.Mutex
	freed []*job // parked jobs whose owner is settled
	ended bool
	wake  chan struct{}
}

// An order is what a reader hands to a writer.
type order struct {
	job    *job     // a message to bring over
	parked bool     // one more job waits, by the server's identity
	flags  []change // of known messages
}

// A job is one message on its way into a sink folder.
type job struct {
	f       *folder
	rec     catalog.Record
	body    *spool.Body    // nil: the bytes are in the archive, at twin
	twin    *catalog.Twin  // a stored copy that is the same by digest or by the server's promise
	spared  bool           // not downloaded
	note    string         // for the sink, of an earlier try
	doubt   error          // it is not put: its content may have arrived already
	link    bool           // put by a link to twin
	copy    bool           // put by a copy of twin that the destination makes, or by its body
	alone   bool           // it stands on no other: the destination has made no copy
	holds   int64          // its part of the writer's
	claims  []string       // settled with what becomes of it
	at      catalog.Stored // afterwards
	found   sink.Place     // where the destination has it already, brought by somebody else
	present bool           // the destination had it, as was seen once it was put
}

// A change is a known message whose flags the server has changed.
type change struct {
	f  *folder
	ch catalog.Change
	at catalog.Stored
}

// writeTo opens the sink folder of f and starts its writer.
func (r *run) writeTo(ctx context.Context, f *folder) (*writer, error) {
	turn, err := r.mayWrite(ctx, f.box.Sink)
	if err != nil {
		return nil, err
	}
	o, err := r.acquire(ctx, f.box.Sink, true)
	if err != nil {
		turn()
		return nil, err
	}
	w := &writer{
		r: r, turn: turn, path: f.box.Sink, f: o,
		in:      make(chan order, 4096),
		soon:    make(chan struct{}, 1),
		done:    make(chan struct{}),
		gone:    make(chan struct{}),
		wake:    make(chan struct{}, 1),
		taken:   map[int64]struct{}{},
		waiting: map[*job]struct{}{},
	}
	w.tally(0)
	r.mu.Lock()
	r.writers[w] = struct{}{}
	r.mu.Unlock()
	go w.run(ctx)
	return w, nil
}

// tally notes what the destination's folder holds, with so many more by us.
func (w *writer) tally(added int64) {
	c, ok := w.f.Folder.(sink.Counter)
	if !ok || c.Count() < 0 {
		return
	}
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	h := w.r.report.There[w.path]
	if h == nil {
		if w.r.report.There == nil {
			w.r.report.There = map[mail.Path]*Held{}
		}
		h = &Held{Before: c.Count()}
		w.r.report.There[w.path] = h
	}
	h.Added += added
	h.After = c.Count()
}

// put hands an order over; the writer now owns its job. The error is the
// writer's own, and finish returns it too.
func (w *writer) put(o order) error {
	if o.job != nil && o.job.body != nil {
		w.hold(o.job)
	}
	select {
	case w.in <- o:
		return nil
	case <-w.done:
		if o.job != nil {
			o.job.drop()
		}
		return w.err
	}
}

// hurry closes the open batch soon. It never waits.
func (w *writer) hurry() {
	select {
	case w.soon <- struct{}{}:
	default:
	}
}

// finish waits until all is committed and closes the folder. It returns the
// jobs that must be fetched after all. The writer has ended then.
func (w *writer) finish() ([]*job, error) {
	close(w.in)
	<-w.gone
	w.r.mu.Lock()
	delete(w.r.writers, w)
	w.r.mu.Unlock()
	defer w.turn()
	return w.again, errors.Join(w.err, w.r.release(w.path))
}

func (w *writer) run(ctx context.Context) {
	defer close(w.gone)
	w.err = w.loop(ctx)
	w.abandon()
	close(w.done)
	// Where the writer failed, bodies may still be on their way to it. They
	// hold room that their own reader may be waiting for.
	for o := range w.in {
		if o.job != nil {
			o.job.drop()
		}
	}
}

// loop works until the input ends. Writing goes on under a context of its
// own: an interrupt stops reading, and what was read is still committed.
func (w *writer) loop(ctx context.Context) error {
	write, stop := outlast(ctx)
	defer stop()
	in, asked := w.in, false
	for in != nil || w.parked > 0 {
		if in == nil && !asked {
			// Others own what our parked jobs wait for: they need not gather
			// any longer. Our own batch may hold an owner too.
			if err := w.flush(write); err != nil {
				return err
			}
			w.r.flushOthers(w)
			asked = true
			continue
		}
		var old <-chan time.Time
		if w.due != nil {
			old = w.due.C
		}
		var err error
		select {
		case o, ok := <-in:
			if !ok {
				in = nil
				break
			}
			err = w.take(write, o)
		case <-w.wake:
			err = w.unpark(write)
			asked = false
		case <-w.soon:
			err = w.drain(write, in)
		case <-old:
			err = w.flush(write)
		}
		if err != nil {
			return err
		}
	}
	if err := w.flush(write); err != nil {
		return err
	}
	return w.setFlags(write)
}

func (w *writer) take(ctx context.Context, o order) error {
	if o.parked {
		w.parked++
	}
	w.flags = append(w.flags, o.flags...)
	if o.job != nil {
		return w.add(ctx, o.job)
	}
	if len(w.flags) >= manyFlags {
		return w.flush(ctx)
	}
	return nil
}

// outlast is a context that ends some time after ctx does.
func outlast(ctx context.Context) (context.Context, func()) {
	write, cancel := context.WithCancel(context.WithoutCancel(ctx))
	unwatch := context.AfterFunc(ctx, func() { time.AfterFunc(closing, cancel) })
	return write, func() { unwatch(); cancel() }
}

// drain takes what is waiting into the batch and closes that.
func (w *writer) drain(ctx context.Context, in chan order) error {
	for {
		select {
		case o, ok := <-in:
			if !ok {
				return w.flush(ctx) // the loop sees the end by itself
			}
			if err := w.take(ctx, o); err != nil {
				return err
			}
		default:
			return w.flush(ctx)
		}
	}
}

// add decides what a job is: a message to write, a link, an alias of a
// stored copy, or one that must wait for another on its way.
func (w *writer) add(ctx context.Context, j *job) error {
	d := j.rec.Want.Digest
	if j.twin != nil {
		d = j.twin.At.Digest
	}
	if j.rec.Want.Name == "" {
		e := &j.rec.Entry
		j.rec.Want.Name, j.rec.Want.Date, j.rec.Want.Flags = nameOf(j.rec.Box, string(e.ID), d, e.Date), e.Date, e.Flags
	}
	if key := w.scope(d, j); key != "" && !j.has(key) {
		if !w.r.claims.take(key, func(t *catalog.Twin) { w.free(j, t) }) {
			w.parked++
			w.waiting[j] = struct{}{}
			if j.body != nil {
				j.body.Free() // whoever comes second holds no room
				j.body = nil
			}
			w.unhold(j)
			return nil
		}
		j.claims = append(j.claims, key)
	}
	stored, err := w.r.Catalog.Find(ctx, d)
	if err != nil {
		j.drop()
		return err
	}
	if err := w.match(ctx, j, stored); err != nil {
		j.drop()
		return err
	}
	if j.rec.Message == 0 && !j.link && !j.copy && w.r.doubted(d) {
		j.doubt, j.rec.Want.Digest = errTwin, d
		if j.body != nil {
			j.body.Free()
			j.body = nil
		}
	}
	if j.rec.Message == 0 && !j.link && !j.copy && j.doubt == nil && j.body == nil {
		if w.r.elsewhere() && !w.r.labels() {
			w.back(j)
			return nil
		}
		// The server promised that it is the same as a stored one, but here
		// a copy of its own is wanted: its bytes come from the archive.
		if err := w.copy(ctx, j); err != nil {
			w.r.note(w.path, "%s: a stored copy could not be read and is downloaded again: %v", mail.Clean(string(w.path)), err)
			w.back(j)
			return nil
		}
	}
	w.batch = append(w.batch, j)
	w.weight += j.rec.Want.Text
	if w.due == nil {
		w.due = time.NewTimer(w.r.Options.Batch.Age)
	}
	if len(w.batch) >= w.most() || w.weight >= w.r.Options.Batch.Bytes {
		return w.flush(ctx)
	}
	return nil
}

// most is how many messages a batch may have.
func (w *writer) most() int {
	most := w.r.Options.Batch.Messages
	if l, ok := w.f.Folder.(sink.Limited); ok {
		most = min(most, l.Most())
	}
	return most
}

// scope is the claim on a content: within a folder, the archive, or none.
func (w *writer) scope(d mail.Digest, j *job) string {
	switch w.r.Options.Dedup {
	case DedupFolder:
		return "d" + string(w.path) + "\x00" + string(d[:])
	case DedupArchive:
		switch {
		case w.copies() && (j.alone || w.r.inVain()):
			return ""
		case w.copies():
			return "d\x00" + string(d[:]) + alike(&j.rec.Entry)
		}
		return "d\x00" + string(d[:])
	}
	return ""
}

// match looks for a stored copy that spares writing. First one in this folder
// that no live location of the same source folder stands on: so a server that
// renumbers its folder, or takes a message back into it, costs nothing, and an
// account that is read by two protocols shows each message once. Then one
// within the scope; a sink that links shows it in the folder under a name of
// its own, as often as the server has it.
func (w *writer) match(ctx context.Context, j *job, stored []catalog.Stored) error {
	for _, s := range stored {
		if _, taken := w.taken[s.Message]; s.Folder != w.path || taken {
			continue
		}
		held, err := w.r.Catalog.Held(ctx, j.rec.Box, s.Message)
		if err != nil {
			return err
		}
		if !held {
			w.taken[s.Message] = struct{}{}
			j.alias(s)
			if _, ok := w.f.Folder.(sink.Flagger); ok {
				w.flags = append(w.flags, change{f: j.f, at: s, ch: catalog.Change{ID: j.rec.Entry.ID, Flags: j.rec.Entry.Flags, Labels: j.rec.Entry.Labels}})
			}
			return nil
		}
	}
	if w.r.Options.Dedup == DedupOff {
		return nil
	}
	if w.copies() {
		return w.matchCopy(ctx, j)
	}
	copy := w.standOn(stored)
	if copy == nil {
		return nil
	}
	if _, ok := w.f.Folder.(sink.Linker); !ok || w.r.labels() && copy.Folder == w.path {
		j.alias(*copy)
		return nil
	}
	j.link = true
	j.stand(*copy)
	return nil
}

// alias makes j share a stored message.
func (j *job) alias(s catalog.Stored) {
	j.rec.Message = s.Message
	j.stand(s)
}

// stand ties j to a stored copy; its own body is not needed any more.
func (j *job) stand(s catalog.Stored) {
	j.tie(s)
	if j.body != nil {
		j.body.Free()
		j.body = nil
	}
}

// tie is stand without letting go of the body.
func (j *job) tie(s catalog.Stored) {
	j.rec.Want.Digest, j.rec.Want.Text, j.rec.Want.Lines = s.Digest, s.Text, s.Lines
	j.twin = &catalog.Twin{At: s, Ends: j.rec.Ends}
	j.at = s
}

func (j *job) has(key string) bool {
	for _, k := range j.claims {
		if k == key {
			return true
		}
	}
	return false
}

// drop lets go of what j holds.
func (j *job) drop() {
	if j.body != nil {
		j.body.Free()
		j.body = nil
	}
	for _, k := range j.claims {
		j.f.run.claims.settle(k, nil)
	}
	j.claims = nil
}

// back gives j up to be fetched from the source.
func (w *writer) back(j *job) {
	j.drop()
	j.twin, j.spared, j.link, j.copy = nil, false, false, false
	w.again = append(w.again, j)
}

// copy takes the bytes of j's twin out of the archive, and trusts them only
// when their digest is the one that was stored.
func (w *writer) copy(ctx context.Context, j *job) error {
	credit := w.r.Spool.TryReserve(j.twin.At.Text)
	if credit == nil {
		credit = w.r.Spool.TryReserve(-1)
	}
	r, err := w.r.read(ctx, j.twin.At)
	if err != nil {
		credit.Release()
		return err
	}
	defer r.Close()
	body, err := credit.Take(kept{r})
	if err != nil {
		return err
	}
	if body.Digest != j.twin.At.Digest {
		body.Free()
		return fmt.Errorf("its digest is %v, not %v", body.Digest, j.twin.At.Digest)
	}
	want := body.Want
	want.Name, want.Date, want.Flags = j.rec.Want.Name, j.rec.Want.Date, j.rec.Want.Flags
	j.rec.Want, j.body = want, body
	w.hold(j)
	return nil
}

// kept hides everything but Read.
type kept struct{ io.Reader }

// read opens a stored message.
func (r *run) read(ctx context.Context, s catalog.Stored) (io.ReadCloser, error) {
	f, err := r.acquire(ctx, s.Folder, false)
	if err != nil {
		return nil, err
	}
	reader, ok := f.Folder.(sink.Reader)
	if !ok {
		r.release(s.Folder)
		return nil, errors.New("the destination cannot be read")
	}
	body, err := reader.Read(ctx, s.Place)
	if err != nil {
		r.release(s.Folder)
		return nil, err
	}
	return &reading{body, r, s.Folder}, nil
}

type reading struct {
	io.ReadCloser
	r      *run
	folder mail.Path
}

func (x *reading) Close() error {
	return errors.Join(x.ReadCloser.Close(), x.r.release(x.folder))
}

// free is called by whoever owned what j waited for.
func (w *writer) free(j *job, t *catalog.Twin) {
	if t != nil && j.twin == nil {
		j.twin = &catalog.Twin{At: t.At, Ends: t.Ends}
		if j.rec.Want.Digest == t.At.Digest {
			j.twin.Ends = j.rec.Ends // its own, it was downloaded
		} else {
			j.rec.Ends = t.Ends // the same bytes, by the server's promise
		}
	} else if t == nil {
		j.twin = nil
	}
	w.mu.Lock()
	ended := w.ended
	w.freed = append(w.freed, j)
	w.mu.Unlock()
	if ended {
		return
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// unpark takes parked jobs up again: as twins of what was committed, or to be
// fetched when that failed.
func (w *writer) unpark(ctx context.Context) error {
	w.mu.Lock()
	freed := w.freed
	w.freed = nil
	w.mu.Unlock()
	for i, j := range freed {
		w.parked--
		delete(w.waiting, j)
		if j.twin == nil {
			w.back(j)
			continue
		}
		if err := w.add(ctx, j); err != nil {
			for _, rest := range freed[i+1:] {
				rest.drop()
			}
			return err
		}
	}
	return nil
}

// flush writes the batch: intend, write, sync, commit, and only then let go.
func (w *writer) flush(ctx context.Context) error {
	if w.due != nil {
		w.due.Stop()
		w.due = nil
	}
	batch := w.batch
	w.batch, w.weight = nil, 0
	for _, j := range batch {
		w.unhold(j)
	}
	if len(batch) > 0 {
		err := w.write(ctx, batch)
		for _, j := range batch {
			j.drop()
		}
		if err != nil {
			return err
		}
	}
	if len(w.flags) >= manyFlags {
		return w.setFlags(ctx)
	}
	return nil
}

// hold counts j's body to what closing the batch would free.
func (w *writer) hold(j *job) {
	j.holds = j.rec.Want.Text
	w.holds.Add(j.holds)
}

// unhold takes it out again.
func (w *writer) unhold(j *job) {
	w.holds.Add(-j.holds)
	j.holds = 0
}

// manyFlags is how many changes are brought to the sink at once.
const manyFlags = 500

func (w *writer) write(ctx context.Context, batch []*job) (err error) {
	// Servers answer commands that are under way at once in an order of their
	// own; who reads the folder later likes that of the source.
	slices.SortStableFunc(batch, func(a, b *job) int { return compareIDs(a.rec.Entry.ID, b.rec.Entry.ID) })
	wants := make([]sink.Want, 0, len(batch))
	intent := catalog.Batch{Folder: w.path, Records: make([]catalog.Record, 0, len(batch))}
	_, hints := w.f.Folder.(sink.Matcher)
	for _, j := range batch {
		j.rec.Spared = j.spared
		j.rec.Hints = j.body != nil && hints
		if j.doubt != nil {
			continue // nothing is intended
		}
		intent.Records = append(intent.Records, j.rec)
		if j.rec.Message == 0 {
			wants = append(wants, j.rec.Want)
		}
	}
	if len(wants) == 0 {
		return w.commit(ctx, 0, batch, nil, "")
	}
	if wants, err = w.recognise(ctx, batch, wants); err != nil {
		return err
	}
	if len(wants) == 0 {
		after, err := w.f.State(ctx)
		if err != nil {
			return err
		}
		return w.commit(ctx, 0, batch, nil, after)
	}
	mark, err := w.f.Mark(ctx)
	if err != nil {
		return err
	}
	intent.Mark = mark
	at("begin")
	id, err := w.r.Catalog.Begin(ctx, &intent) // what we are about to do
	if err != nil {
		return err
	}
	at("begun")
	results, err := w.putAll(ctx, batch) // do it, and make it last
	if err != nil {
		// What arrived whole is adopted; the rest is not in the archive.
		places, rerr := w.f.Recover(ctx, mark, wants)
		if rerr != nil {
			return errors.Join(err, rerr) // the intention stays for the next run
		}
		results = make([]sink.Result, len(places))
		for i, p := range places {
			results[i].Place = p
		}
	}
	after, serr := w.f.State(ctx)
	if serr != nil {
		return errors.Join(err, serr)
	}
	return errors.Join(err, w.commit(ctx, id, batch, results, after)) // know it
}

// compareIDs is the order of a listing, where IDs are numbers.
func compareIDs(a, b source.ID) int {
	if catalog.IsNumber(a) && catalog.IsNumber(b) {
		return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
	}
	return 0
}

// recognise looks in a folder that others fill, too, for messages that are
// there already. It returns the wants of those that must be written.
func (w *writer) recognise(ctx context.Context, batch []*job, wants []sink.Want) ([]sink.Want, error) {
	m, ok := w.f.Folder.(sink.Matcher)
	if !ok {
		return wants, nil
	}
	var trouble error
	found, err := m.Match(ctx, wants, func(p sink.Place) bool {
		if w.theirs == nil && trouble == nil {
			w.theirs, trouble = w.r.standing(ctx, w.path)
		}
		return trouble == nil && w.theirs.has(p)
	})
	if err = errors.Join(err, trouble); err != nil {
		return nil, err
	}
	var rest []sink.Want
	i := 0
	for _, j := range batch {
		if j.rec.Message != 0 || j.doubt != nil {
			continue
		}
		if j.found = found[i]; j.found == "" {
			rest = append(rest, wants[i])
		}
		i++
	}
	return rest, nil
}

// standing are the places of what we have brought to a folder.
func (r *run) standing(ctx context.Context, path mail.Path) (*places, error) {
	all := &places{seed: maphash.MakeSeed()}
	for s, err := range r.Catalog.Messages(ctx, path) {
		if err != nil {
			return nil, err
		}
		all.add(s.Place)
	}
	all.sort()
	return all, nil
}

func (w *writer) putAll(ctx context.Context, batch []*job) ([]sink.Result, error) {
	n := 0
	for _, j := range batch {
		if j.rec.Message != 0 || j.found != "" || j.doubt != nil {
			continue
		}
		n++
		m := &sink.Message{Want: j.rec.Want, Ends: j.rec.Ends, Labels: j.rec.Entry.Labels, Note: j.note}
		if j.link {
			from := j.at
			m.Open = func() (io.ReadCloser, error) { return w.r.read(ctx, from) }
			if err := w.f.Folder.(sink.Linker).Link(ctx, m, from.Folder, from.Place); err != nil {
				return nil, err
			}
			continue
		}
		if j.body != nil {
			m.Open, m.Plain = j.body.Open, j.body.Plain
		}
		if j.copy {
			err := w.f.Folder.(sink.Copier).Copy(ctx, m, j.at.Folder, j.at.Place)
			if err != nil {
				return nil, err
			}
			continue
		}
		if err := w.f.Put(ctx, m); err != nil {
			return nil, err
		}
	}
	results, err := w.f.Sync(ctx)
	if err == nil && len(results) != n {
		err = fmt.Errorf("%s: %d results for %d messages", w.path, len(results), n)
	}
	return results, err
}

// commit makes the outcome of a batch known, then lets go of everything that
// waited for it.
func (w *writer) commit(ctx context.Context, id int64, batch []*job, results []sink.Result, after sink.State) error {
	done := make([]catalog.Outcome, len(batch))
	var larger error // that concerns more than a message: it is told once the others are committed
	var gone []*job  // links to what is not there any more, or cannot be copied
	for i, j := range batch {
		done[i] = catalog.Outcome{Record: j.rec, Folder: j.at.Folder, Place: j.at.Place}
		switch {
		case j.doubt != nil:
			done[i].Folder, done[i].Err = w.path, j.doubt
		case j.found != "":
			done[i].Folder, done[i].Place = w.path, j.found
		case j.rec.Message == 0:
			done[i].Folder, done[i].Place, done[i].Err, done[i].Note = w.path, results[0].Place, results[0].Err, results[0].Note
			j.present = results[0].Present
			w.copied(j, &results[0])
			results = results[1:]
			switch {
			case (j.link || j.copy) && errors.Is(done[i].Err, fs.ErrNotExist):
				// The copy has gone from under us: it comes from the source.
				w.r.away(j.at.Message)
				done[i].Place, done[i].Err = "", nil
				gone = append(gone, j)
			case errors.Is(done[i].Err, sink.ErrNotCopied):
				done[i].Place, done[i].Err = "", nil
				gone = append(gone, j)
			}
		}
		if done[i].Err != nil && mail.ScopeOf(done[i].Err, mail.ScopeMessage) != mail.ScopeMessage {
			larger = done[i].Err
			done[i].Place, done[i].Err = "", nil // unknown again
		}
	}
	at("commit")
	messages, err := w.r.Catalog.Commit(ctx, id, done, w.path, after)
	if err != nil {
		return err
	}
	at("committed")
	var added int64
	for i, j := range batch {
		if messages[i] != 0 {
			j.at.Message = messages[i]
		}
		if j.rec.Message == 0 && j.found == "" && !j.present && done[i].Place != "" && done[i].Err == nil {
			added++
		}
		w.settle(j, done[i])
	}
	w.tally(added)
	for _, j := range gone {
		w.back(j)
	}
	return larger
}

// settle counts what became of a job and tells those who wait for it.
func (w *writer) settle(j *job, o catalog.Outcome) {
	c := j.f.Counts
	w.r.mu.Lock()
	text := j.rec.Want.Text
	var e Event
	switch {
	case o.Err != nil && errors.Is(o.Err, sink.ErrUnknown):
		// Before anybody hears of it who waits with the same content.
		w.r.doubts[j.rec.Want.Digest] = true
		j.f.progress = true
		w.r.mu.Unlock()
		j.f.uncertain(j.rec.Entry.ID, o.Err)
		return
	case o.Err != nil:
		w.r.mu.Unlock()
		j.f.failed(j.rec.Entry.ID, o.Err)
		return
	case o.Place == "":
		w.r.mu.Unlock()
		return // not reached; the error of the batch says why
	case j.rec.Message != 0 || j.link || j.copy || j.found != "" || j.present:
		c.Duplicate++
		if j.found != "" || j.present && !j.link {
			c.Present++
		}
		c.Saved += text
		if j.spared {
			c.Spared++
		}
		e = Event{Kind: Duplicate}
	default:
		c.Stored++
		c.Written += text
		e = Event{Kind: Stored}
	}
	j.f.progress = true
	delete(w.taken, j.at.Message) // held by a location from now on
	w.r.mu.Unlock()
	if e.Kind != "" {
		e.Folder, e.ID, e.Count, e.Bytes = j.f.Path, j.rec.Entry.ID, 1, text
		w.r.observe(e)
	}
	if o.Err == nil {
		stored := catalog.Stored{Message: j.at.Message, Digest: j.rec.Want.Digest, Text: text, Lines: j.rec.Want.Lines, Folder: w.path, Place: o.Place}
		if j.rec.Message != 0 {
			stored = j.at
		}
		for _, k := range j.claims {
			w.r.claims.settle(k, &catalog.Twin{At: stored, Ends: j.rec.Ends})
		}
		j.claims = nil
	}
}

// abandon lets go of everything when the writer ends.
func (w *writer) abandon() {
	for _, j := range w.batch {
		j.drop()
	}
	w.batch = nil
	w.mu.Lock()
	w.ended = true
	w.mu.Unlock()
	for j := range w.waiting {
		j.drop() // others may wait for what it had claimed
	}
}

// setFlags brings changed flags to the sink, then to the catalog. Doing it
// twice is harmless, so it needs no intention.
func (w *writer) setFlags(ctx context.Context) error {
	all := w.flags
	w.flags = nil
	if len(all) == 0 {
		return nil
	}
	if f, ok := w.f.Folder.(sink.Flagger); ok {
		var places []sink.Place
		var flags []mail.Flags
		for _, c := range all {
			leads, err := w.leads(ctx, c)
			if err != nil {
				return err
			}
			if leads && c.at.Folder == w.path {
				places, flags = append(places, c.at.Place), append(flags, c.ch.Flags)
			}
		}
		if len(places) > 0 {
			if err := f.SetFlags(ctx, places, flags); err != nil {
				return err
			}
			after, err := w.f.State(ctx)
			if err == nil {
				err = w.r.Catalog.SetState(ctx, w.path, after)
			}
			if err != nil {
				return err
			}
		}
	}
	by := map[*folder][]catalog.Change{}
	for _, c := range all {
		by[c.f] = append(by[c.f], c.ch)
	}
	for f, changes := range by {
		if err := w.r.Catalog.Reflag(ctx, f.box, changes); err != nil {
			return err
		}
	}
	return nil
}

// nameOf makes the stable, unique name of a message in its sink folder: time
// of arrival for those who sort by it, content, and where it came from, so
// that twins have names of their own and putting twice is putting once.
func nameOf(b *catalog.Box, id string, d mail.Digest, date time.Time) string {
	key := sha256.New()
	for _, s := range []string{b.Account, string(b.Path), b.Epoch, id} {
		io.WriteString(key, s)
		key.Write([]byte{0})
	}
	arrived := int64(0)
	if !date.IsZero() {
		arrived = max(date.Unix(), 0)
	}
	return strconv.FormatInt(arrived, 10) + "." + hex.EncodeToString(d[:16]) + "-" + hex.EncodeToString(key.Sum(nil)[:6]) + ".mailhaul"
}
