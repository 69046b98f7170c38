package sourcetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"

	"mailhaul/internal/mail"
	"mailhaul/internal/testmail"
	"mailhaul/source"
)

// keeps: whatever is read, and however one leaves, all of it stays.
func keeps(tr *trial) {
	if tr.Left == nil {
		tr.Skipf("nobody sees what lies in this store")
		return
	}
	box := tr.open(mail.Inbox)
	entries := tr.list(box, "")
	tr.fetch(box, entries)
	if _, err := box.Present(tr.Context(), ids(entries)); err != nil {
		tr.Fatalf("present: %v", err)
	}
	tr.shut(box)
	box = tr.open(mail.Inbox)
	for _, err := range box.Fetch(tr.Context(), inGroups(tr.list(box, ""), 3)) {
		if err != nil {
			tr.Fatalf("fetch: %v", err)
		}
		break
	}
	tr.shut(box)
	tr.rest(ids(entries), tr.but())
}

// remover is the source, if it can remove; if not, the test is skipped.
func (tr *trial) remover() source.Remover {
	tr.Helper()
	r, ok := tr.Source.(source.Remover)
	if !ok {
		tr.Skipf("this source removes nothing")
	}
	return r
}

// all is the listing of INBOX on a mailbox that is closed again: a store may
// have but one connection, and to remove takes it.
func (tr *trial) all() []source.ID {
	tr.Helper()
	box := tr.open(mail.Inbox)
	defer tr.shut(box)
	return ids(tr.list(box, ""))
}

// left compares what lies in the store with messages, where that can be seen.
func (tr *trial) left(messages []testmail.Message) {
	tr.Helper()
	if tr.Left == nil {
		return
	}
	print := func(all []testmail.Message) (sums []string) {
		for _, m := range all {
			sum := sha256.Sum256(m.Raw())
			sums = append(sums, string(sum[:]))
		}
		slices.Sort(sums)
		return sums
	}
	if now := tr.Left(mail.Inbox); !slices.Equal(print(now), print(messages)) {
		tr.Errorf("%d messages are left in the store, these should be %d, or they are others", len(now), len(messages))
	}
}

// but is what is wanted in INBOX without the messages at positions.
func (tr *trial) but(positions ...int) []testmail.Message {
	var rest []testmail.Message
	for i, m := range tr.want[0].Messages {
		if !slices.Contains(positions, i) {
			rest = append(rest, m)
		}
	}
	return rest
}

// rest: exactly these messages are listed, under the IDs they had, can be read,
// and lie in the store.
func (tr *trial) rest(want []source.ID, messages []testmail.Message) {
	tr.Helper()
	box := tr.open(mail.Inbox)
	entries := tr.list(box, "")
	if !slices.Equal(ids(entries), want) {
		tr.Errorf("%d messages are listed where %d are left, or their ids are others", len(entries), len(want))
	}
	tr.same(tr.fetch(box, entries), messages)
	tr.shut(box)
	tr.left(messages)
}

// remove: what is asked for goes, is told to be gone, and nothing else is. An
// ID that is not there is no error: it may have gone in an earlier run that did
// not hear of it, and the source may say so.
func remove(tr *trial) {
	r := tr.remover()
	before := tr.all()
	ask := []source.ID{before[17], before[3], nowhere, before[0]}
	gone, err := r.Remove(tr.Context(), mail.Inbox, slices.Clone(ask))
	if err != nil {
		tr.Errorf("remove: %v", err)
	}
	seen := map[source.ID]bool{}
	for _, id := range gone {
		if seen[id] || !slices.Contains(ask, id) {
			tr.Errorf("%s is told to be gone twice, or unasked", id)
		}
		seen[id] = true
	}
	var rest []source.ID
	for _, id := range before {
		if !slices.Contains(ask, id) {
			rest = append(rest, id)
		} else if !seen[id] {
			tr.Errorf("%s is not told to be gone", id)
		}
	}
	tr.rest(rest, tr.but(17, 3, 0))
	box := tr.open(mail.Inbox)
	there, err := box.Present(tr.Context(), before)
	if err != nil {
		tr.Fatalf("present: %v", err)
	}
	for _, id := range before {
		if there[id] != slices.Contains(rest, id) {
			tr.Errorf("presence of %s is %v", id, there[id])
		}
	}
	tr.shut(box)
}

// removeNothing: no IDs are no messages.
func removeNothing(tr *trial) {
	r := tr.remover()
	before := tr.all()
	for _, none := range [][]source.ID{nil, {}} {
		if gone, err := r.Remove(tr.Context(), mail.Inbox, none); err != nil || len(gone) > 0 {
			tr.Errorf("remove nothing: %v, %v", gone, err)
		}
	}
	tr.rest(before, tr.but())
}

// removeAgain: what is gone already is no error, and no other message takes
// its place.
func removeAgain(tr *trial) {
	r := tr.remover()
	before := tr.all()
	for range 2 {
		if _, err := r.Remove(tr.Context(), mail.Inbox, slices.Clone(before[5:9])); err != nil {
			tr.Errorf("remove: %v", err)
		}
		tr.rest(slices.Concat(before[:5], before[9:]), tr.but(5, 6, 7, 8))
	}
}

// removeEverything: an empty folder is left.
func removeEverything(tr *trial) {
	r := tr.remover()
	before := tr.all()
	gone, err := r.Remove(tr.Context(), mail.Inbox, slices.Clone(before))
	if err != nil || len(gone) != len(before) {
		tr.Errorf("remove: %d of %d are gone, %v", len(gone), len(before), err)
	}
	tr.rest(nil, nil)
}

// removeElsewhere: an ID means something in its own folder alone.
func removeElsewhere(tr *trial) {
	r := tr.remover()
	before := tr.all()
	gone, err := r.Remove(tr.Context(), mail.Join("No", "such folder"), before[:3])
	if err == nil || len(gone) > 0 {
		tr.Errorf("removed from a folder that does not exist: %v, %v", gone, err)
	}
	if s := mail.ScopeOf(err, mail.ScopeRun); s != mail.ScopeFolder {
		tr.Errorf("a missing folder is an error of %s: %v", scopes[s], err)
	}
	tr.rest(before, tr.but())
}

// removeCancelled: whoever cancels is told the truth: what is said to be gone
// is gone, and nothing goes that was not asked for.
func removeCancelled(tr *trial) {
	r := tr.remover()
	before := tr.all()
	ask := slices.Clone(before[:10])
	var gone []source.ID
	tr.within("Remove, cancelled,", func() {
		var err error
		gone, err = r.Remove(tr.cancelled(), mail.Inbox, slices.Clone(ask))
		if err != nil && !errors.Is(err, context.Canceled) {
			tr.Errorf("cancelled, it says %v", err)
		}
		if err == nil && len(gone) < len(ask) {
			tr.Errorf("cancelled, it removed %d of %d without an error", len(gone), len(ask))
		}
	})
	tr.truth(before, ask, gone)
}

// truth: nothing that is said to be gone is there, and all that was not asked
// for is.
func (tr *trial) truth(before, ask, gone []source.ID) {
	tr.Helper()
	now := tr.all()
	for _, id := range gone {
		if slices.Contains(now, id) {
			tr.Errorf("%s is told to be gone, and is there", id)
		}
	}
	for _, id := range before {
		if !slices.Contains(ask, id) && !slices.Contains(now, id) {
			tr.Errorf("%s is gone, and nobody asked for that", id)
		}
	}
}

// removeKept: what the store does not let go of is not told to be gone. That of
// the others less is told than is true may happen: a POP3 server says only that
// some are left.
func removeKept(tr *trial) {
	r := tr.remover()
	if tr.Pin == nil {
		tr.Skipf("this store lets go of everything")
		return
	}
	before := tr.all()
	tr.Pin(mail.Inbox, 4)
	gone, err := r.Remove(tr.Context(), mail.Inbox, slices.Clone(before[2:6]))
	if err != nil {
		tr.Logf("one is kept: %v", err)
	}
	tr.truth(before, before[2:6], gone)
	if slices.Contains(gone, before[4]) || !slices.Contains(tr.all(), before[4]) {
		tr.Errorf("%s was to be kept", before[4])
	}
}

// removeClosed: a closed source removes nothing.
func removeClosed(tr *trial) {
	r := tr.remover()
	before := tr.all()
	tr.shut(tr.Source)
	tr.within("Remove at a closed source", func() {
		if gone, err := r.Remove(tr.Context(), mail.Inbox, before[:3]); err == nil || len(gone) > 0 {
			tr.Errorf("a closed source removes: %v, %v", gone, err)
		}
	})
	tr.left(tr.want[0].Messages)
}
