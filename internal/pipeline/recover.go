package pipeline

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"slices"

	"mailhaul/internal/catalog"
	"mailhaul/internal/mail"
	"mailhaul/sink"
)

// recoverBatches settles the intentions of a run that died: what arrived whole
// is adopted, all else is unknown again.
func (r *run) recoverBatches(ctx context.Context) error {
	ids, batches, err := r.Catalog.Unsettled(ctx)
	if err != nil {
		return err
	}
	for i, b := range batches {
		if err := r.recoverBatch(ctx, ids[i], b); err != nil {
			return fmt.Errorf("recover %s: %w", mail.Clean(string(b.Folder)), err)
		}
	}
	return nil
}

func (r *run) recoverBatch(ctx context.Context, id int64, b *catalog.Batch) error {
	f, err := r.acquire(ctx, b.Folder, false)
	if errors.Is(err, fs.ErrNotExist) {
		_, err = r.Catalog.Commit(ctx, id, nil, b.Folder, "")
		return err
	}
	if err != nil {
		return err
	}
	defer r.release(b.Folder)
	var wants []sink.Want
	var done []catalog.Outcome
	for _, rec := range b.Records {
		// An alias stands on a stored message, which may be lost by now: its
		// entry is simply listed again.
		if rec.Message == 0 {
			wants = append(wants, rec.Want)
			done = append(done, catalog.Outcome{Record: rec, Folder: b.Folder})
		}
	}
	at("recover")
	places, err := f.Recover(ctx, b.Mark, wants)
	doubt := errors.Is(err, sink.ErrUnknown)
	if err != nil && !doubt {
		return err
	}
	found := int64(0)
	for i := range done {
		if doubt {
			done[i].Err = sink.ErrUnknown
		} else if done[i].Place = places[i]; places[i] != "" {
			found++
		}
	}
	// Others may have been here since that run died. What they have done to the
	// messages of earlier runs is looked for while those are all that the catalog
	// knows: an adopted one may lie just where the last of them was, and hide it.
	if err := r.checkOne(ctx, b.Folder); err != nil {
		return err
	}
	at("commit recovered")
	if _, err := r.Catalog.Commit(ctx, id, done, b.Folder, ""); err != nil {
		return err
	}
	at("recovered")
	r.observe(Event{Kind: Recovered, Folder: b.Folder, Count: found})
	return nil
}

// checkArchive compares each folder of the archive with what it was like
// after the last commit. Where somebody else was at work its messages are
// looked for, by place and then by content; what is missing becomes unknown, so
// that it is fetched again if the server still has it.
func (r *run) checkArchive(ctx context.Context) error {
	folders, err := r.Catalog.States(ctx)
	if err != nil {
		return err
	}
	lost, err := r.Catalog.Lost(ctx)
	if err != nil {
		return err
	}
	in := map[mail.Path][]catalog.Stored{}
	for _, s := range lost {
		in[s.Folder] = append(in[s.Folder], s)
	}
	for _, f := range folders {
		if err := r.checkFolder(ctx, f, in[f.Path]); err != nil {
			return fmt.Errorf("look at %s: %w", mail.Clean(string(f.Path)), err)
		}
	}
	return nil
}

// checkOne does so for one folder, if it has ever been committed to.
func (r *run) checkOne(ctx context.Context, path mail.Path) error {
	folders, err := r.Catalog.States(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(folders, func(f catalog.SinkFolder) bool { return f.Path == path })
	if i < 0 {
		return nil
	}
	return r.checkFolder(ctx, folders[i], nil) // what was lost may be about to be adopted
}

// checkFolder looks at one folder. What was lost there may be back, as when its
// owner has put a copy in place.
func (r *run) checkFolder(ctx context.Context, known catalog.SinkFolder, lost []catalog.Stored) error {
	f, err := r.acquire(ctx, known.Path, false)
	if errors.Is(err, fs.ErrNotExist) {
		return r.lose(ctx, known.Path, nil, nil, nil)
	}
	if err != nil {
		return err
	}
	defer r.release(known.Path)
	now, err := f.State(ctx)
	if m, ok := f.Folder.(sink.Matcher); ok && err == nil {
		if now == known.State {
			return nil
		}
		if err := r.checkShared(ctx, known.Path, f.Folder, m); err != nil {
			return err
		}
		return r.Catalog.SetState(ctx, known.Path, now)
	}
	if err != nil || now == known.State && len(lost) == 0 {
		return err
	}
	scan, ok := f.Folder.(sink.Scanner)
	if !ok {
		return r.Catalog.SetState(ctx, known.Path, now)
	}
	ours, err := r.standing(ctx, known.Path)
	if err != nil {
		return err
	}
	there := places{seed: ours.seed}
	var last []sink.Place // in the order of the folder, of our messages
	for found, err := range scan.Scan(ctx, false) {
		if err != nil {
			return err
		}
		there.add(found.Place)
		if ours.has(found.Place) {
			last = append(last, found.Place)
			last = last[max(0, len(last)-proofs):]
		}
	}
	there.sort()
	if lost, err = r.vacant(ctx, known.Path, lost); err != nil {
		return err
	}
	if err := r.regain(ctx, lost, &there); err != nil {
		return err
	}
	if err := r.lose(ctx, known.Path, &there, last, scan); err != nil {
		return err
	}
	return r.Catalog.SetState(ctx, known.Path, now)
}

// checkShared looks at a folder that others fill, too. Where it was numbered
// anew, what we brought must be recognised again. What is not there any more its
// owner has moved or deleted: that is said, and it is not brought a second time
// unless the user wants it.
func (r *run) checkShared(ctx context.Context, path mail.Path, f sink.Folder, m sink.Matcher) error {
	var stale []int64
	var current []catalog.Stored
	for s, err := range r.Catalog.Messages(ctx, path) {
		if err != nil {
			return err
		}
		is, err := m.Stale(ctx, s.Place)
		switch {
		case err != nil:
			return err
		case is:
			stale = append(stale, s.Message)
		default:
			current = append(current, s)
		}
	}
	if len(stale) > 0 {
		r.note(path, "%s: the destination has numbered the folder anew: what was brought is compared with what is there", mail.Clean(string(path)))
		if err := r.Catalog.Lose(ctx, stale); err != nil {
			return err
		}
	}
	scan, ok := f.(sink.Scanner)
	if len(current) == 0 || !ok {
		return nil
	}
	there := places{seed: maphash.MakeSeed()}
	for found, err := range scan.Scan(ctx, false) {
		if err != nil {
			return err
		}
		there.add(found.Place)
	}
	there.sort()
	var away []int64
	for _, s := range current {
		if !there.has(s.Place) {
			away = append(away, s.Message)
		}
	}
	switch {
	case len(away) == 0:
		return nil
	case r.Options.Refill:
		return r.Catalog.Lose(ctx, away)
	}
	r.away(away...)
	r.note(path, "%s: of the messages that were brought %d are not there any more (moved or deleted at the destination); they are not brought again unless --refill is given",
		mail.Clean(string(path)), len(away))
	return nil
}

// vacant leaves out those of the lost whose file is another message's by now: in a
// Maildir what is fetched again gets the name that it had.
func (r *run) vacant(ctx context.Context, path mail.Path, lost []catalog.Stored) ([]catalog.Stored, error) {
	if len(lost) == 0 {
		return nil, nil
	}
	taken := places{seed: maphash.MakeSeed()}
	for s, err := range r.Catalog.Messages(ctx, path) {
		if err != nil {
			return nil, err
		}
		taken.add(with(s.Place, s.Digest))
	}
	taken.sort()
	return slices.DeleteFunc(lost, func(s catalog.Stored) bool { return taken.has(with(s.Place, s.Digest)) }), nil
}

// regain takes messages back that lie where they were, once they were read and
// found equal.
func (r *run) regain(ctx context.Context, lost []catalog.Stored, there *places) error {
	var back []int64
	for _, s := range lost {
		if !there.has(s.Place) {
			continue
		}
		if _, err := r.prove(ctx, s); err == nil {
			back = append(back, s.Message)
		}
	}
	return r.Catalog.Regain(ctx, back)
}

// proofs is how many messages at the end of a folder are read at most where others
// were at work. See lose.
const proofs = 64

// lose marks what is not in a folder any more; last are the last places in it. A nil
// places is a folder that is gone altogether.
func (r *run) lose(ctx context.Context, path mail.Path, there *places, last []sink.Place, scan sink.Scanner) error {
	missing := map[int64]catalog.Stored{}
	ends := make([]catalog.Stored, len(last))
	for s, err := range r.Catalog.Messages(ctx, path) {
		if err != nil {
			return err
		}
		if there == nil || !there.has(s.Place) {
			missing[s.Message] = s
		}
		if i := slices.Index(last, s.Place); i >= 0 {
			ends[i] = s
		}
	}
	if scan != nil {
		// In an mbox from which a message was taken, others may lie exactly where
		// one was before, if they are equally long. Where the last one was there is
		// nothing then, or another one that has come since. The catalog's own order
		// does not tell which is the last: a batch is filed by digests. Equal ones
		// may take each other's place unseen, so the last that is another is read too.
		moved := len(missing) > 0
		for i := len(ends) - 1; i >= 0 && !moved; i-- {
			_, err := r.prove(ctx, ends[i])
			if moved = err != nil; ends[i].Digest != ends[len(ends)-1].Digest {
				break
			}
		}
		if moved {
			var err error
			if missing, err = r.rematch(ctx, path, scan); err != nil {
				return err
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	var ids []int64
	for id := range missing {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	if err := r.Catalog.Lose(ctx, ids); err != nil {
		return err
	}
	r.report.Missing += int64(len(ids))
	r.observe(Event{Kind: Missing, Folder: path, Count: int64(len(ids))})
	return nil
}

// rematch looks for all messages of a folder by content: a mail program has
// rewritten the file, or renamed files. It returns those that are missing.
func (r *run) rematch(ctx context.Context, path mail.Path, scan sink.Scanner) (map[int64]catalog.Stored, error) {
	seen := places{seed: maphash.MakeSeed()}
	for found, err := range scan.Scan(ctx, true) {
		if err != nil {
			return nil, err
		}
		seen.add(with(found.Place, found.Digest))
	}
	seen.sort()
	missing := map[int64]catalog.Stored{}
	held := places{seed: seen.seed} // by messages that lie where they were
	for s, err := range r.Catalog.Messages(ctx, path) {
		if err != nil {
			return nil, err
		}
		if at := with(s.Place, s.Digest); seen.has(at) {
			held.add(at)
		} else {
			missing[s.Message] = s
		}
	}
	held.sort()
	by := map[mail.Digest][]int64{}
	for id, s := range missing {
		by[s.Digest] = append(by[s.Digest], id)
	}
	moved := map[int64]sink.Place{}
	for found, err := range scan.Scan(ctx, true) {
		if err != nil {
			return nil, err
		}
		ids := by[found.Digest]
		if len(ids) == 0 || held.has(with(found.Place, found.Digest)) {
			continue
		}
		moved[ids[0]] = found.Place
		by[found.Digest] = ids[1:]
		delete(missing, ids[0])
	}
	if len(moved) == 0 {
		return missing, nil
	}
	return missing, r.Catalog.Move(ctx, moved)
}

// with is a place with what lies there.
func with(at sink.Place, d mail.Digest) sink.Place { return at + sink.Place(d[:]) }

// places is a set of places, eight bytes each. Two places of one hash (one in
// ten thousand million folders of a million messages) would hide a missing
// message until the next verify.
type places struct {
	seed maphash.Seed
	all  []uint64
}

func (p *places) add(at sink.Place) { p.all = append(p.all, maphash.String(p.seed, string(at))) }

func (p *places) sort() { slices.Sort(p.all) }

func (p *places) has(at sink.Place) bool {
	_, ok := slices.BinarySearch(p.all, maphash.String(p.seed, string(at)))
	return ok
}

// reconcile says what the archive had and has no more.
func (r *run) reconcile(ctx context.Context) error {
	lost, err := r.Catalog.Reconcile(context.WithoutCancel(ctx))
	if r.elsewhere() {
		return err // what a server has lost, and the source has not, is history
	}
	for _, s := range lost {
		r.report.Lost = append(r.report.Lost, Gone{Folder: s.Folder, Digest: s.Digest, SHA256: s.Digest.String()})
	}
	return err
}
