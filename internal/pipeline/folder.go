package pipeline

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"time"

	"mailhaul/internal/catalog"
	"mailhaul/internal/mail"
	"mailhaul/internal/spool"
	"mailhaul/sink"
	"mailhaul/source"
)

// A folder is one source folder being brought over by one reader.
type folder struct {
	*run
	source.Folder
	*Counts // guarded by run.mu once a writer is at work

	box      *catalog.Box
	renewed  bool // its epoch has changed in this run
	rewound  bool // it went back in this run
	progress bool // something was committed in this try

	binding *rebinding // of this run; nil: none yet

	pages    Counts // of the pages that are done, where a store shows its mail by pages
	failures int    // of them, in the report
	unsure   int    // likewise
	more     bool   // there is another page
}

const (
	chunk   = 1000    // entries compared with the catalog at once
	wanted  = 4000    // entries that may wait to be fetched
	group   = 256     // messages asked for by one command
	groupOf = 1 << 19 // and bytes: a command costs Dovecot 0.3 ms besides the messages
)

// bring works on one folder to its end, with retries. Its error is one that
// ends the run; what concerns the folder alone is in the report.
func (f *folder) bring(ctx context.Context) error {
	if f.unchanged(ctx) {
		f.Listed, f.Known = f.Messages, f.Messages-f.Accepted
		f.observe(Event{Kind: Folded, Folder: f.Path, Count: f.Listed})
		return nil
	}
	var err error
	for f.more = true; f.more && err == nil; {
		f.more = false
		err = f.retry(ctx, f.Path, func() (bool, error) {
			err := f.try(ctx)
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.progress, err
		})
	}
	f.binding = nil // the folder stays until the run ends, and this is large
	if err == nil {
		f.observe(Event{Kind: Folded, Folder: f.Path, Count: f.Listed})
		return nil
	}
	f.unreached()
	if ctx.Err() != nil || mail.ScopeOf(err, mail.ScopeFolder) > mail.ScopeFolder {
		return err
	}
	f.failed("", err)
	return nil
}

// unchanged reports whether the server's word and the catalog's agree that
// there is nothing to do, so that the folder need not be opened.
func (f *folder) unchanged(ctx context.Context) bool {
	if f.State == "" || f.box.Cursor != f.State || f.Options.MaxSize > 0 || f.due() || f.Mute && f.flagsDue() {
		return false
	}
	fails, err := f.Catalog.Failures(ctx, f.box)
	if err != nil || int64(len(fails)) > f.Messages {
		return false
	}
	for i := range fails {
		if fails[i].Accepted.IsZero() {
			return false
		}
	}
	f.Accepted = int64(len(fails))
	return true
}

// unreached accounts for what was not come to.
func (f *folder) unreached() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.Listed = max(f.Listed, f.Messages, f.Settled())
	f.Unreached = f.Listed - (f.Settled() - f.Unreached)
}

func (f *folder) failed(id source.ID, err error) {
	f.mu.Lock()
	if id != "" {
		f.Failed++
	}
	f.report.Failed = append(f.report.Failed, Failure{Folder: f.Path, ID: id, Err: err, Reason: err.Error()})
	f.mu.Unlock()
	f.observe(Event{Kind: Failed, Folder: f.Path, ID: id, Count: 1, Err: err})
}

// restart takes back what an earlier try has counted of the listing: it will be
// listed anew. What is committed stays counted; it shows up as fresh.
func (f *folder) restart() {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := &f.pages
	f.Listed, f.Known, f.Vanished, f.Filtered, f.Flagged, f.Counts.Failed, f.Doubt, f.Accepted =
		p.Listed, p.Known, p.Vanished, p.Filtered, p.Flagged, p.Failed, p.Doubt, p.Accepted
	f.report.Failed = f.first(f.report.Failed, f.failures)
	f.report.InDoubt = f.first(f.report.InDoubt, f.unsure)
}

// first leaves of this folder's failures only so many.
func (f *folder) first(all []Failure, n int) []Failure {
	kept, mine := all[:0], 0
	for _, x := range all {
		if x.Folder == f.Path {
			if mine++; mine > n {
				continue
			}
		}
		kept = append(kept, x)
	}
	return kept
}

// try reads the folder once, over one connection.
func (f *folder) try(ctx context.Context) error {
	f.restart()
	f.mu.Lock()
	f.progress = false
	before := f.committed() - f.pages.committed()
	f.mu.Unlock()
	box, err := f.Source.Open(ctx, f.Path)
	if err != nil {
		return err
	}
	defer box.Close()
	if err := f.enter(ctx, box); err != nil {
		return err
	}
	t := &try{folder: f, mbox: box, texts: map[source.ID]struct{}{}, audits: map[source.ID]mail.Digest{}, alone: map[source.ID]struct{}{}}
	if err := t.session(ctx, t.read); err != nil {
		return err
	}
	// What was to come from the archive and could not comes from the source.
	for n := 0; len(t.want) > 0; n++ {
		if n == 3 {
			return &mail.Error{Op: "fetch", Scope: mail.ScopeFolder, Err: fmt.Errorf("%d messages wait for others that fail again and again", len(t.want))}
		}
		if err := t.session(ctx, t.fetch); err != nil {
			return err
		}
	}
	f.mu.Lock()
	f.Listed = f.pages.Listed + t.listed + before - t.fresh
	f.mu.Unlock()
	cursor := box.Listing().Cursor
	if t.filtered > 0 {
		cursor = "" // nor may a later run without the limit pass them over
	}
	at("finish")
	var listed time.Time
	if t.full {
		listed = f.Options.Now()
	}
	if err := f.Catalog.Finish(ctx, f.box, cursor, listed); err != nil {
		return err
	}
	f.turn(ctx, box)
	return nil
}

// turn asks for the next page, where the store has pages.
func (f *folder) turn(ctx context.Context, box source.Mailbox) {
	p, ok := box.(source.Pager)
	if !ok || !p.More(ctx) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.more, f.pages, f.failures, f.unsure = true, *f.Counts, f.mine(f.report.Failed), f.mine(f.report.InDoubt)
}

// mine counts this folder's failures.
func (f *folder) mine(all []Failure) (n int) {
	for _, x := range all {
		if x.Folder == f.Path {
			n++
		}
	}
	return n
}

// enter compares the folder's numbering with what the catalog knows.
func (f *folder) enter(ctx context.Context, box source.Mailbox) error {
	first := f.box.Epoch == ""
	renumbered, err := f.Catalog.Enter(ctx, f.box, box.Epoch())
	if err != nil || first || !renumbered {
		return err
	}
	if f.renewed {
		return &mail.Error{Op: "open " + mail.Clean(string(f.Path)), Scope: mail.ScopeFolder,
			Err: errors.New("the server has renumbered the folder while it was read, and that not for the first time; run again later")}
	}
	f.renewed = true
	f.note(f.Path, "%s: the server has renumbered the folder (UIDVALIDITY %s): %s; none is stored twice",
		mail.Clean(string(f.Path)), mail.Clean(box.Epoch()), f.reading())
	return nil
}

// A try is one reading of a folder.
type try struct {
	*folder
	mbox    source.Mailbox
	w       *writer                    // of this session
	want    []source.Entry             // to be fetched
	claimed map[source.ID]string       // by the server's identity, of what is to be fetched
	audits  map[source.ID]mail.Digest  // what the server says that a body is
	alone   map[source.ID]struct{}     // of which the destination has made no copy
	seen    map[source.ID]struct{}     // fetched before the listing was complete
	failing map[source.ID]source.Entry // failed in earlier runs and not listed yet
	doubt   doubtful
	accept  accepted
	rows    map[source.ID]struct{} // failed in earlier runs, and not in doubt
	sighted map[source.ID]struct{} // of these and the accepted: listed
	gone    []source.ID            // known, not listed any more
	last    source.ID              // the last one listed
	texts   map[source.ID]struct{} // listed IDs that are no numbers
	listed  int64
	known   int64 // of listed
	live    int64 // of known: the server was thought to have it
	fresh   int64 // of listed: committed by this run
	before  int64 // live in the catalog before anything was listed

	filtered int64 // of listed: too large
	strange  int64 // of listed: known to nobody

	unclear bool // the listing must be done once more, in full
	full    bool // everything was listed
}

// session gives work a writer and ends that.
func (t *try) session(ctx context.Context, work func(context.Context) error) error {
	w, err := t.writeTo(ctx, t.folder)
	if err != nil {
		return err
	}
	t.w = w
	err = work(ctx)
	for _, key := range t.claimed {
		t.claims.settle(key, nil)
	}
	t.claimed = nil
	again, werr := w.finish()
	t.want = t.want[:0]
	for _, j := range again {
		e := j.rec.Entry
		e.Global = "" // the promise that did not hold
		t.want = append(t.want, e)
		if j.alone {
			t.alone[e.ID] = struct{}{}
		}
	}
	if werr != nil {
		return werr // the reader's own error is its consequence, or will come again
	}
	return err
}

// read lists the folder and fetches what is unknown.
func (t *try) read(ctx context.Context) error {
	defer t.account()
	if err := t.begin(ctx); err != nil {
		return err
	}
	err := t.list(ctx, t.since())
	if errors.Is(err, source.ErrRewound) && !t.rewound {
		if err := t.rewind(ctx); err != nil {
			return err
		}
		err = t.list(ctx, "")
	}
	if err != nil {
		return err
	}
	if l := t.mbox.Listing(); l.Partial {
		for _, e := range t.failing { // not listed: fetched by their IDs
			t.want = append(t.want, e)
			t.listed++
		}
		t.failing = nil
		t.listed += t.doubt.unlisted() + t.accept.unlisted(t.sighted)
		fits, err := t.fits(ctx)
		if err != nil {
			return err
		}
		if fits {
			err = t.settleGone(ctx)
		} else {
			err = t.listAll(ctx)
		}
		if err != nil {
			return err
		}
	} else if t.unclear {
		if err := t.listAll(ctx); err != nil {
			return err
		}
	}
	if l := t.mbox.Listing(); !l.Partial && !l.Hides {
		beyond, err := t.Catalog.Beyond(ctx, t.box, t.last, t.texts)
		if err != nil {
			return err
		}
		t.gone = append(t.gone, beyond...)
		if err := t.test(ctx); err != nil {
			return err
		}
		if err := t.settle(ctx); err != nil {
			return err
		}
		t.full = true
	}
	t.plan()
	return t.fetch(ctx)
}

// early reports whether bodies may be fetched before the listing is complete.
// What has gone must be known first: its copy is free for the same message
// under a new ID. Numbers tell that as they come, other IDs only at the end.
func (t *try) early() bool {
	return !t.unclear && len(t.want) >= wanted && (len(t.texts) == 0 || t.before == 0)
}

// begin looks up what the catalog knows before anything is listed.
func (t *try) begin(ctx context.Context) error {
	fails, err := t.Catalog.Failures(ctx, t.box)
	if err != nil {
		return err
	}
	t.failing = map[source.ID]source.Entry{}
	t.rows, t.sighted = map[source.ID]struct{}{}, map[source.ID]struct{}{}
	for _, x := range fails {
		t.doubt.notes(&x)
		if !x.Doubt {
			t.rows[x.Entry.ID] = struct{}{}
		}
		if !x.Accepted.IsZero() {
			t.accept.is(&x)
		} else if x.Doubt && (!t.Options.Resend || t.doubted(x.Digest)) {
			t.doubt.is(&x)
		} else {
			t.failing[x.Entry.ID] = x.Entry
		}
	}
	t.before, err = t.Catalog.Live(ctx, t.box)
	return err
}

// rewind gives up what is known of the folder's numbers.
func (t *try) rewind(ctx context.Context) error {
	t.rewound = true
	t.note(t.Path, "%s: the server has gone back to an older state (restored from a backup?): %s; none is stored twice",
		mail.Clean(string(t.Path)), t.reading())
	if err := t.Catalog.Rewind(ctx, t.box); err != nil {
		return err
	}
	t.accept, t.rows = accepted{}, nil // numbers of before
	t.forget()
	return nil
}

// listAll lists the folder without a cursor, after a listing with one.
func (t *try) listAll(ctx context.Context) error {
	t.want = t.want[:0]
	t.forget()
	return t.list(ctx, "")
}

func (t *try) forget() {
	t.unclear, t.strange = false, 0
	t.listed, t.known, t.live, t.fresh, t.filtered, t.gone, t.last, t.doubt.found, t.accept.found = 0, 0, 0, 0, 0, nil, "", nil, 0
	clear(t.texts)
	t.mu.Lock()
	t.Flagged = 0
	t.mu.Unlock()
}

// account moves what was found known to the report.
func (t *try) account() {
	t.mu.Lock()
	t.Known += t.known
	t.Filtered += t.filtered
	t.Accepted += t.accept.found
	t.mu.Unlock()
	for _, x := range t.doubt.found {
		t.uncertain(x.Entry.ID, errors.New(x.Reason))
	}
}

// list compares the listing with the catalog, piece by piece.
func (t *try) list(ctx context.Context, since source.Cursor) error {
	if since == "" {
		if err := t.rebind(ctx); err != nil {
			return err
		}
	}
	piece := make([]source.Entry, 0, chunk)
	list := t.mbox.List
	if n, ok := t.mbox.(source.Newer); ok && !t.flagsDue() {
		list = n.ListNew
	}
	for e, err := range list(ctx, since) {
		if err != nil {
			return err
		}
		if piece = append(piece, e); len(piece) < chunk {
			continue
		}
		if err := t.compare(ctx, piece); err != nil {
			return err
		}
		piece = piece[:0]
		if t.early() {
			t.plan()
			if err := t.fetch(ctx); err != nil {
				return err
			}
		}
	}
	return t.compare(ctx, piece)
}

func (t *try) compare(ctx context.Context, piece []source.Entry) error {
	if len(piece) == 0 {
		return nil
	}
	partial := t.mbox.Listing().Partial
	known, gone, err := t.Catalog.Compare(ctx, t.box, piece, t.last, partial)
	if err != nil {
		return err
	}
	t.gone = append(t.gone, gone...)
	t.last = piece[len(piece)-1].ID
	t.listed += int64(len(piece))
	var flags []change
	for i, k := range known {
		e := piece[i]
		_, failed := t.rows[e.ID]
		delete(t.failing, e.ID)
		t.sight(e.ID)
		if !catalog.IsNumber(e.ID) {
			t.texts[e.ID] = struct{}{}
		}
		if _, seen := t.seen[e.ID]; seen {
			continue
		}
		switch {
		case k.Fresh:
			t.fresh++
		case k.Is:
			t.known++
			if !k.Gone {
				t.live++
			}
			if k.Gone || !k.Flags.Equal(e.Flags) || k.Labels != catalog.Labels(e.Labels) {
				flags = append(flags, change{f: t.folder, at: k.At, ch: catalog.Change{ID: e.ID, Flags: e.Flags, Labels: e.Labels}})
			}
		case e.Brief: // known to nobody: more must be asked for
			t.unclear = true
		case t.accept.listed(e):
		case t.doubt.listed(e):
		case t.Options.MaxSize > 0 && e.Size > t.Options.MaxSize:
			t.filtered++
		default:
			if !failed {
				t.strange++
			}
			if err := t.unknown(ctx, e); err != nil {
				return err
			}
		}
	}
	if len(flags) == 0 {
		return nil
	}
	t.mu.Lock()
	t.Flagged += int64(len(flags))
	t.mu.Unlock()
	return t.w.put(order{flags: flags})
}

// sight notes that a message which failed before is there.
func (t *try) sight(id source.ID) {
	if _, ok := t.rows[id]; !ok {
		if _, ok := t.accept.left[id]; !ok {
			return
		}
	}
	t.sighted[id] = struct{}{}
}

// unknown decides how an entry comes over: from the archive where the server
// itself says that it is the same as a stored one, else from the server.
func (t *try) unknown(ctx context.Context, e source.Entry) error {
	if bound, err := t.rebound(ctx, e); bound || err != nil {
		return err
	}
	w := t.w
	copies := w.copies() && !t.inVain()
	if e.Global == "" || t.liar.Load() || t.elsewhere() && !t.labels() && !copies {
		t.want = append(t.want, e)
		return nil
	}
	j := &job{f: t.folder, rec: catalog.Record{Box: t.box, Entry: e}, spared: true}
	key := fmt.Sprintf("g%s\x00%s\x00%d", t.Account, e.Global, e.Size)
	if copies {
		key += alike(&e)
	}
	if !t.claims.take(key, func(twin *catalog.Twin) { w.free(j, twin) }) {
		return w.put(order{parked: true})
	}
	var twin catalog.Twin
	var ok bool
	var err error
	if copies {
		twin, ok, err = t.Catalog.FindGlobalAlike(ctx, t.Account, &e)
	} else {
		twin, ok, err = t.Catalog.FindGlobal(ctx, t.Account, e.Global, e.Size)
	}
	if ok && audited(e.Global) {
		t.audits[e.ID] = twin.At.Digest
		ok = false
	}
	if err != nil || !ok {
		if t.claimed == nil {
			t.claimed = map[source.ID]string{}
		}
		t.claimed[e.ID] = key
		t.want = append(t.want, e)
		return err
	}
	j.claims = []string{key}
	j.twin, j.rec.Ends = &twin, twin.Ends
	return w.put(order{job: j})
}

// elsewhere reports whether the destination is a server: getting a copy's bytes
// from there costs no less than from the source. A label needs no bytes, and
// neither does a copy that the server makes.
func (r *run) elsewhere() bool {
	_, ok := r.Sink.(sink.Remote)
	return ok
}

// audited picks one in a hundred of the server's promises to be looked into
// (RELIABILITY, row I2): always the same, for the message is then known.
func audited(global string) bool {
	h := fnv.New32a()
	io.WriteString(h, global)
	return h.Sum32()%100 == 0
}

// audit compares a body with what the server called the same. One promise that
// does not hold, and none of this account is believed any more.
func (t *try) audit(ctx context.Context, id source.ID, got mail.Digest) error {
	want, ok := t.audits[id]
	delete(t.audits, id)
	if !ok || got == want {
		return nil
	}
	t.liar.Store(true)
	t.note(t.Path, "%s: message %s is not the one that the server calls the same: its word is not taken any more, and messages in several folders are downloaded for each",
		mail.Clean(string(t.Path)), mail.Clean(string(id)))
	return t.Catalog.Distrust(ctx, t.Account)
}

// plan says what lies ahead.
func (t *try) plan() {
	if len(t.want) == 0 {
		return
	}
	e := Event{Kind: Planned, Folder: t.Path, Count: int64(len(t.want))}
	for _, w := range t.want {
		e.Bytes += max(w.Size, 0)
	}
	t.observe(e)
}

// fetch brings what is wanted. What the source does not deliver is asked for
// once more, alone; only what a look at the folder lacks too has vanished.
func (t *try) fetch(ctx context.Context) error {
	if !t.mbox.Listing().Partial {
		if err := t.settleGone(ctx); err != nil {
			return err
		}
	} else {
		// The listing may have to be done again in full.
		if t.seen == nil {
			t.seen = map[source.ID]struct{}{}
		}
		for _, e := range t.want {
			t.seen[e.ID] = struct{}{}
		}
	}
	missing, err := t.pass(ctx, t.want, group)
	t.want = t.want[:0]
	if err == nil && len(missing) > 0 {
		missing, err = t.pass(ctx, missing, 1)
	}
	if err != nil || len(missing) == 0 {
		return err
	}
	ids := make([]source.ID, len(missing))
	for i, e := range missing {
		ids[i] = e.ID
	}
	present, err := t.mbox.Present(ctx, ids)
	if err != nil {
		return err
	}
	for _, e := range missing {
		if present[e.ID] {
			err = t.refuse(ctx, e, errors.New("the server lists the message but does not deliver it"))
		} else {
			err = t.vanish(ctx, e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// settleGone notes what is not there any more.
func (t *try) settleGone(ctx context.Context) error {
	removed, err := t.Catalog.Gone(ctx, t.box, t.gone)
	if err != nil {
		return err
	}
	t.tellRemoved(removed)
	t.gone = t.gone[:0]
	return nil
}

// refuse notes that a message could not be had. Later runs try again.
func (t *try) refuse(ctx context.Context, e source.Entry, reason error) error {
	t.unclaim(e.ID)
	if err := t.Catalog.Fail(ctx, t.box, e, reason.Error()); err != nil {
		return err
	}
	t.failed(e.ID, reason)
	return nil
}

func (t *try) vanish(ctx context.Context, e source.Entry) error {
	t.unclaim(e.ID)
	t.mu.Lock()
	t.Vanished++
	t.mu.Unlock()
	t.observe(Event{Kind: Vanished, Folder: t.Path, ID: e.ID, Count: 1})
	return t.Catalog.Settle(ctx, t.box, e.ID)
}

func (t *try) unclaim(id source.ID) {
	t.claims.settle(t.claimed[id], nil)
	delete(t.claimed, id)
}

// A pass is one Fetch: entries are asked for in groups, as room is reserved.
type pass struct {
	*try
	ctx   context.Context
	rest  []source.Entry
	most  int // messages a group
	asked map[source.ID]asked
	stop  error // why next gave nothing
}

type asked struct {
	entry  source.Entry
	credit *spool.Credit
}

// pass fetches entries and returns those that did not come.
func (t *try) pass(ctx context.Context, entries []source.Entry, most int) (missing []source.Entry, err error) {
	p := &pass{try: t, ctx: ctx, rest: entries, most: most, asked: map[source.ID]asked{}}
	for m, ferr := range t.mbox.Fetch(ctx, p.next) {
		if ferr != nil && (m == nil || mail.ScopeOf(ferr, mail.ScopeFolder) != mail.ScopeMessage) {
			err = ferr
			break
		}
		a, ok := p.asked[m.ID]
		if !ok {
			continue
		}
		delete(p.asked, m.ID)
		if ferr != nil {
			a.credit.Release()
			err = t.refuse(ctx, a.entry, ferr)
		} else {
			err = p.take(a, m.Body)
		}
		if err != nil {
			break
		}
	}
	for _, e := range entries {
		if a, ok := p.asked[e.ID]; ok {
			a.credit.Release()
			missing = append(missing, e)
		}
	}
	if err == nil {
		err = p.stop
	}
	return missing, err
}

// next reserves room and names what to ask for. Only here does a slow sink
// slow the source down.
func (p *pass) next(wait bool) []source.Entry {
	var all []source.Entry
	for bytes := int64(0); len(p.rest) > 0 && len(all) < p.most && bytes < groupOf; {
		e := p.rest[0]
		credit := p.Spool.TryReserve(e.Size)
		if credit == nil && wait && len(all) == 0 {
			if credit, p.stop = p.Spool.Reserve(p.ctx, e.Size); p.stop != nil {
				return nil
			}
		}
		if credit == nil {
			break
		}
		p.rest = p.rest[1:]
		p.asked[e.ID] = asked{e, credit}
		all = append(all, e)
		bytes += max(e.Size, 0)
	}
	return all
}

// take sets a body down and hands it to the writer.
func (p *pass) take(a asked, r io.Reader) error {
	body, err := a.credit.Take(p.meter(r))
	if err != nil {
		a.credit.Release()
		if mail.ScopeOf(err, mail.ScopeFolder) == mail.ScopeMessage && !mail.Temporary(err) {
			return p.refuse(p.ctx, a.entry, err) // the others can be had
		}
		return err
	}
	if err := p.audit(p.ctx, a.entry.ID, body.Digest); err != nil {
		body.Free()
		return err
	}
	j := &job{f: p.folder, body: body, note: p.doubt.note[a.entry.ID], rec: catalog.Record{Box: p.box, Entry: a.entry, Want: body.Want, Ends: body.Ends}}
	_, j.alone = p.alone[a.entry.ID]
	if key := p.claimed[a.entry.ID]; key != "" {
		j.claims = []string{key}
		delete(p.claimed, a.entry.ID)
	}
	if a.entry.Size < 0 {
		j.rec.Entry.Size = body.Raw
	}
	return p.w.put(order{job: j})
}

// meter tells how many bytes are read from r.
func (t *try) meter(r io.Reader) io.Reader {
	m := &metered{r: r, t: t}
	if _, ok := r.(io.WriterTo); ok {
		return giver{m}
	}
	return m
}

type metered struct {
	r io.Reader
	t *try
	n int64
}

const meterEvery = 256 << 10

func (m *metered) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.count(n, err != nil)
	return n, err
}

// A giver is a metered source that gives its bytes from its own buffer.
type giver struct{ *metered }

func (g giver) WriteTo(w io.Writer) (int64, error) {
	defer g.count(0, true)
	return g.r.(io.WriterTo).WriteTo(meter{w, g.metered})
}

type meter struct {
	w io.Writer
	m *metered
}

func (m meter) Write(p []byte) (int, error) {
	n, err := m.w.Write(p)
	m.m.count(n, false)
	return n, err
}

func (m *metered) count(n int, end bool) {
	m.n += int64(n)
	if m.n < meterEvery && !end {
		return
	}
	m.t.mu.Lock()
	m.t.Counts.Bytes += m.n
	m.t.mu.Unlock()
	m.t.observe(Event{Kind: Read, Folder: m.t.Path, Bytes: m.n})
	m.n = 0
}
