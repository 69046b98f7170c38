package pipeline

import (
	"context"
	"errors"
	"strconv"

	"mailhaul/sink"
	"mailhaul/source"
)

// Where the destination is a server that copies what lies in one folder to
// another, a content is brought once, and every folder is complete all the same.
// A copy is a message of its own, with flags that follow its own location. But it
// begins with the flags and the date of what is copied: so only messages that are
// alike in these stand on one another; and the destination looks whether they are
// so there, too, for others may have been at work.
//
// What is copied without having been downloaded must be recognised all the same,
// after a crash and in a folder that others have filled: the catalog remembers by
// what (Hints).

// copies reports whether the destination's folder makes copies of what is brought.
// It is so for the whole run: were it not, what is looked up as for copies could be
// taken for an alias.
func (w *writer) copies() bool {
	_, ok := w.f.Folder.(sink.Copier)
	return ok && w.r.Options.Dedup == DedupArchive && !w.r.labels()
}

// inVain reports whether no copies are to be had though the destination offers
// them, as where it gives every message a date of its own.
func (r *run) inVain() bool { return r.copied.Load() == 0 && r.uncopied.Load() >= mostVain }

const mostVain = 16

// alike is what messages of one content have in common that one can be a copy of
// another.
func alike(e *source.Entry) string {
	date := int64(0)
	if !e.Date.IsZero() {
		date = e.Date.Unix()
	}
	return "\x00" + strconv.FormatInt(date, 10) + "\x00" + e.Flags.Key()
}

// matchCopy looks for a message that can be copied for j. A body that is at hand
// is kept: nobody knows yet whether the destination will agree.
func (w *writer) matchCopy(ctx context.Context, j *job) error {
	d := j.rec.Want.Digest
	if j.body == nil {
		d = j.twin.At.Digest
	}
	if j.alone || w.r.inVain() {
		return nil
	}
	stored, err := w.r.Catalog.Alike(ctx, d, &j.rec.Entry)
	if err != nil {
		return err
	}
	at := w.standOn(stored)
	if at == nil {
		return nil
	}
	if j.rec.Want.Digest != d { // it was not downloaded
		id, head, known, err := w.r.Catalog.Hints(ctx, d)
		if err != nil || !known {
			return err
		}
		j.rec.Want.MessageID, j.rec.Want.Head = id, head
	}
	j.copy = true
	j.tie(*at)
	return nil
}

// copied takes in what became of a copy.
func (w *writer) copied(j *job, r *sink.Result) {
	if !j.copy {
		return
	}
	switch {
	case r.Err == nil && r.Place == "": // not known: the batch has failed
	case r.Err == nil && !r.Brought:
		w.r.copied.Add(1)
	case r.Err == nil:
		j.copy = false // its bytes were needed
		w.r.uncopied.Add(1)
	case errors.Is(r.Err, sink.ErrNotCopied):
		j.alone = true
		w.r.uncopied.Add(1)
	}
}
