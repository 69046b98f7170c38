package pipeline

import (
	"context"

	"mailhaul/internal/catalog"
)

// Where the sink's folders are labels it keeps each content once, and shows it
// in many. So a content is put once and linked elsewhere; it is never linked
// within a folder, for there it would be the same message; and its flags are
// those of the location it was put for, whatever other folders of the source say
// of their copies.

// round says in which round a folder's turn comes. Where folders are labels, that
// of all mail comes after the others, so that messages get their own labels
// first; and trash and junk last, for what lies there lies nowhere else: a
// message that is in another folder too stays out of them.
func (r *run) round(f *folder) int {
	role := r.Options.Labels[f.box.Sink]
	switch {
	case !r.labels():
		return 0
	case bin(role) || bin(f.Role):
		return 2
	case role == "all" || f.Role == "all":
		return 1
	}
	return 0
}

// labels reports whether the sink's folders are labels.
func (r *run) labels() bool { return r.Options.Labels != nil }

// bin reports whether what lies in a folder for a purpose lies nowhere else.
func bin(role string) bool { return role == "trash" || role == "junk" }

// standOn picks the stored copy to stand on: one in this folder, or else, where the
// scope is the archive, the first that is not thrown away.
func (w *writer) standOn(stored []catalog.Stored) (copy *catalog.Stored) {
	for i, s := range stored {
		switch {
		case w.r.isAway(s.Message):
		case s.Folder == w.path:
			return &stored[i]
		case w.r.Options.Dedup != DedupArchive:
		case copy == nil || bin(w.r.Options.Labels[copy.Folder]) && !bin(w.r.Options.Labels[s.Folder]):
			copy = &stored[i]
		}
	}
	return copy
}

// leads reports whether the flags of a location are those of its message.
func (w *writer) leads(ctx context.Context, c change) (bool, error) {
	leads, err := w.r.Catalog.Leads(ctx, c.f.box, c.ch.ID, c.at.Message)
	if err != nil || !leads || !w.r.labels() {
		return leads, err
	}
	s, err := w.r.Catalog.Message(ctx, c.at.Message)
	if err != nil {
		return false, err
	}
	stored, err := w.r.Catalog.Find(ctx, s.Digest)
	return err == nil && w.first(stored) == s.Message, err
}

// first is the message of a content that was put; the others are links to it.
func (w *writer) first(stored []catalog.Stored) int64 {
	for _, s := range stored {
		if !w.r.isAway(s.Message) {
			return s.Message
		}
	}
	return 0
}

// away notes stored messages that their owner has taken from their place at the
// destination: nothing can be linked to them.
func (r *run) away(messages ...int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone == nil {
		r.gone = map[int64]bool{}
	}
	for _, m := range messages {
		r.gone[m] = true
	}
}

func (r *run) isAway(message int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.gone[message]
}
