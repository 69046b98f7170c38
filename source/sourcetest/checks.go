package sourcetest

import (
	"context"
	"errors"
	"slices"
	"sync"

	"mailhaul/internal/mail"
	"mailhaul/internal/testmail"
	"mailhaul/source"
)

// folders: each is listed once, and counts are right where they are told.
func folders(tr *trial) {
	got, err := tr.Source.Folders(tr.Context())
	if err != nil {
		tr.Fatalf("folders: %v", err)
	}
	want := map[mail.Path]int64{}
	for _, f := range tr.want {
		want[f.Path] = int64(len(f.Messages))
	}
	seen := map[mail.Path]bool{}
	for _, f := range got {
		if seen[f.Path] {
			tr.Errorf("folder %s is listed twice", f.Path)
		}
		seen[f.Path] = true
		n, ok := want[f.Path]
		if !ok {
			tr.Errorf("folder %s is not there", f.Path)
		}
		if f.Messages != -1 && f.Messages != n {
			tr.Errorf("folder %s has %d messages, not %d", f.Path, n, f.Messages)
		}
	}
	for path := range want {
		if !seen[path] {
			tr.Errorf("folder %s is not listed", path)
		}
	}
}

// list: all messages, each once, under IDs that are the same the next time,
// with true sizes, dates and flags, and a summary that agrees.
func list(tr *trial) {
	for _, f := range tr.want {
		box := tr.open(f.Path)
		entries := tr.list(box, "")
		if len(entries) != len(f.Messages) {
			tr.Errorf("%s: %d entries for %d messages", f.Path, len(entries), len(f.Messages))
		}
		seen := map[source.ID]bool{}
		for _, e := range entries {
			if e.ID == "" || seen[e.ID] {
				tr.Errorf("%s: id %q is empty or there twice", f.Path, e.ID)
			}
			seen[e.ID] = true
		}
		sum := box.Listing()
		if sum.Messages != int64(len(f.Messages)) || sum.Partial {
			tr.Errorf("%s: listing of %d messages is summed up as %+v", f.Path, len(f.Messages), sum)
		}
		epoch := box.Epoch()
		if epoch == "" {
			tr.Errorf("%s: no epoch", f.Path)
		}
		if again := tr.list(box, ""); !slices.Equal(ids(again), ids(entries)) {
			tr.Errorf("%s: listed again, ids are other or in another order", f.Path)
		}
		tr.shut(box)
		box = tr.open(f.Path)
		if again := tr.list(box, ""); box.Epoch() != epoch || !slices.Equal(ids(again), ids(entries)) {
			tr.Errorf("%s: opened again, epoch or ids are other", f.Path)
		}
		tr.shut(box)
	}
}

// fetchCorpus: every byte of every message.
func fetchCorpus(tr *trial) {
	for _, f := range tr.want {
		box := tr.open(f.Path)
		tr.same(tr.fetch(box, tr.list(box, "")), f.Messages)
		tr.shut(box)
	}
}

// fetchPieces: next is asked without wait while answers are outstanding, nil
// then means no room and not the end; with wait only when nothing is
// outstanding, and then nil is the end.
func fetchPieces(tr *trial) {
	box := tr.open(mail.Inbox)
	entries := tr.list(box, "")
	given, came, asked := 0, 0, 0
	ended := false
	next := func(wait bool) []source.Entry {
		if ended {
			tr.Errorf("next is asked again after it gave nil to wait")
		}
		if wait && given != came {
			tr.Errorf("next is to wait while %d answers are outstanding", given-came)
		}
		asked++
		if !wait && asked%3 != 0 {
			return nil
		}
		g := entries[given:min(given+1+asked%4, len(entries))]
		given += len(g)
		if len(g) == 0 {
			ended = wait
			return nil
		}
		return slices.Clone(g)
	}
	var got []letter
	seen := map[source.ID]bool{}
	tr.within("Fetch", func() {
		for m, err := range box.Fetch(tr.Context(), next) {
			if err != nil {
				tr.Errorf("fetch: %v", err)
				return
			}
			if seen[m.ID] {
				tr.Errorf("message %s came twice", m.ID)
			}
			seen[m.ID] = true
			came++
			got = append(got, tr.read(m))
		}
	})
	if !ended {
		tr.Errorf("Fetch ended without asking next to wait")
	}
	tr.same(got, tr.want[0].Messages)
	tr.shut(box)
}

// fetchNothing: nil at once is the end at once, and no harm.
func fetchNothing(tr *trial) {
	box := tr.open(mail.Inbox)
	for range box.Fetch(tr.Context(), func(bool) []source.Entry { return nil }) {
		tr.Errorf("something came that nobody wanted")
	}
	tr.same(tr.fetch(box, tr.list(box, "")), tr.want[0].Messages)
	tr.shut(box)
}

// fetchAlone: one message of many, the last and then the first, so that the
// order of asking is not that of the store.
func fetchAlone(tr *trial) {
	box := tr.open(mail.Inbox)
	entries := tr.list(box, "")
	for i := len(entries) - 1; i >= 0; i -= 13 {
		var came []source.ID
		for m, err := range box.Fetch(tr.Context(), inGroups(entries[i:i+1], 1)) {
			if err != nil {
				tr.Fatalf("fetch: %v", err)
			}
			came = append(came, m.ID)
			tr.read(m)
		}
		if !slices.Equal(came, []source.ID{entries[i].ID}) {
			tr.Errorf("asked for %s, %v came", entries[i].ID, came)
		}
	}
	tr.shut(box)
}

// fetchWithinList: no command is open between two entries.
func fetchWithinList(tr *trial) {
	box := tr.open(mail.Inbox)
	var got []letter
	for e, err := range box.List(tr.Context(), "") {
		if err != nil {
			tr.Fatalf("list: %v", err)
		}
		got = append(got, tr.fetch(box, []source.Entry{e})...)
	}
	tr.same(got, tr.want[0].Messages)
	tr.shut(box)
}

// describe: what is told of a message without its body is what its body tells.
// Messages that are not there are left out.
func describe(tr *trial) {
	for _, f := range tr.want {
		box := tr.open(f.Path)
		d, ok := box.(source.Describer)
		if !ok {
			tr.shut(box)
			tr.Skipf("this source describes nothing")
			return
		}
		entries := tr.list(box, "")
		ask := slices.Concat([]source.Entry{{ID: nowhere, Size: -1}}, entries)
		got := map[source.ID]source.Description{}
		for d, err := range d.Describe(tr.Context(), ask) {
			if err != nil {
				tr.Fatalf("describe: %v", err)
			}
			if _, twice := got[d.ID]; twice {
				tr.Errorf("message %s is described twice", d.ID)
			}
			got[d.ID] = d
		}
		if len(got) != len(f.Messages) {
			tr.Errorf("%d messages are described, there are %d", len(got), len(f.Messages))
		}
		for m, err := range box.Fetch(tr.Context(), inGroups(entries, 7)) {
			if err != nil {
				tr.Fatalf("fetch: %v", err)
			}
			s, err := mail.Summarize(m.Body)
			if err != nil {
				tr.Fatalf("body of %s: %v", m.ID, err)
			}
			want := source.Description{ID: m.ID, Size: s.Size, MessageID: s.MessageID, Head: s.Head, Digest: s.Digest}
			d := got[m.ID]
			if d.Digest == (mail.Digest{}) {
				want.Digest = d.Digest // the bytes are not at hand
			}
			if s.Kept {
				want.Head = d.Head // a header alone does not tell that
			}
			if d != want {
				tr.Errorf("message %s is described as %+v, it is %+v", m.ID, d, want)
			}
		}
		tr.shut(box)
	}
}

// cancelDescribe: whoever cancels gets the rest at once, or an error at once.
func cancelDescribe(tr *trial) {
	count := len(tr.want[0].Messages)
	for _, at := range []int{0, 1, count} {
		box := tr.open(mail.Inbox)
		d, ok := box.(source.Describer)
		if !ok {
			tr.shut(box)
			tr.Skipf("this source describes nothing")
			return
		}
		entries := tr.list(box, "")
		ctx, cancel := context.WithCancel(tr.Context())
		if at == 0 {
			cancel()
		}
		n := 0
		var failed error
		tr.within("Describe, cancelled,", func() {
			for _, err := range d.Describe(ctx, entries) {
				if failed = err; err != nil {
					break
				}
				if n++; n == at {
					cancel()
				}
			}
		})
		cancel()
		tr.honest(failed, n, count)
		tr.shut(box)
	}
	tr.good()
}

// leaveList: leaving the loop is allowed; the next mailbox is as good as new.
func leaveList(tr *trial) {
	for _, after := range []int{1, 2, len(tr.want[0].Messages)} {
		box := tr.open(mail.Inbox)
		n := 0
		for _, err := range box.List(tr.Context(), "") {
			if err != nil {
				tr.Fatalf("list: %v", err)
			}
			if n++; n == after {
				break
			}
		}
		tr.shut(box)
	}
	tr.good()
}

// leaveFetch: the same, with a body unread and with one half read.
func leaveFetch(tr *trial) {
	for _, half := range []int{0, 1, 100} {
		box := tr.open(mail.Inbox)
		entries := tr.list(box, "")
		for m, err := range box.Fetch(tr.Context(), inGroups(entries, 10)) {
			if err != nil {
				tr.Fatalf("fetch: %v", err)
			}
			m.Body.Read(make([]byte, half)) // what it gives is not our concern
			break
		}
		tr.shut(box)
	}
	tr.good()
}

// good: the source still does what it should.
func (tr *trial) good() {
	tr.Helper()
	box := tr.open(mail.Inbox)
	tr.same(tr.fetch(box, tr.list(box, "")), tr.want[0].Messages)
	tr.shut(box)
}

// cancelList: whoever cancels gets the rest at once, or an error at once.
func cancelList(tr *trial) {
	count := len(tr.want[0].Messages)
	for _, at := range []int{1, count} {
		box := tr.open(mail.Inbox)
		ctx, cancel := context.WithCancel(tr.Context())
		n := 0
		var failed error
		tr.within("List, cancelled,", func() {
			for _, err := range box.List(ctx, "") {
				if failed = err; err != nil {
					break
				}
				if n++; n == at {
					cancel()
				}
			}
		})
		cancel()
		tr.honest(failed, n, count)
		tr.shut(box)
	}
	tr.good()
}

// cancelFetch: the same; a body that was begun may end in an error.
func cancelFetch(tr *trial) {
	count := len(tr.want[0].Messages)
	for _, at := range []int{1, count} {
		box := tr.open(mail.Inbox)
		entries := tr.list(box, "")
		ctx, cancel := context.WithCancel(tr.Context())
		n := 0
		var failed error
		tr.within("Fetch, cancelled,", func() {
			for m, err := range box.Fetch(ctx, inGroups(entries, 3)) {
				if failed = err; err != nil {
					break
				}
				if n++; n == at {
					cancel()
				}
				buf := make([]byte, 1000)
				for err == nil {
					_, err = m.Body.Read(buf)
				}
			}
		})
		cancel()
		tr.honest(failed, n, count)
		tr.shut(box)
	}
	tr.good()
}

// honest: a loop that ends too early and without an error would pass for
// complete.
func (tr *trial) honest(err error, n, count int) {
	tr.Helper()
	switch {
	case err == nil && n < count:
		tr.Errorf("cancelled, it ended after %d of %d without an error", n, count)
	case err != nil && !errors.Is(err, context.Canceled):
		tr.Errorf("cancelled, it says %v", err)
	}
}

// cancelledBefore: with a context that has ended nothing hangs and nothing
// ends quietly.
func cancelledBefore(tr *trial) {
	ctx := tr.cancelled()
	tr.within("Open, cancelled,", func() {
		if box, err := tr.Source.Open(ctx, mail.Inbox); err == nil {
			box.Close() // a local store need not look at ctx to open
		}
	})
	box := tr.open(mail.Inbox)
	entries := tr.list(box, "")
	tr.shut(box)

	box = tr.open(mail.Inbox)
	tr.within("List, cancelled,", func() {
		n, failed := 0, error(nil)
		for _, err := range box.List(ctx, "") {
			if failed = err; err != nil {
				break
			}
			n++
		}
		tr.honest(failed, n, len(entries))
	})
	tr.shut(box)

	box = tr.open(mail.Inbox)
	tr.within("Fetch, cancelled,", func() {
		n, failed := 0, error(nil)
		for m, err := range box.Fetch(ctx, inGroups(entries, 3)) {
			if failed = err; err != nil {
				break
			}
			tr.read(m)
			n++
		}
		tr.honest(failed, n, len(entries))
	})
	tr.shut(box)
	tr.good()
}

// nowhere is an ID that no message has; it can be one of any store.
const nowhere source.ID = "4294967290"

// present: what is there is, what is not is not.
func present(tr *trial) {
	box := tr.open(mail.Inbox)
	entries := tr.list(box, "")
	ask := append(ids(entries[3:7]), nowhere, entries[0].ID)
	got, err := box.Present(tr.Context(), ask)
	if err != nil {
		tr.Fatalf("present: %v", err)
	}
	for _, id := range ask {
		if got[id] != (id != nowhere) {
			tr.Errorf("presence of %s is %v", id, got[id])
		}
	}
	if got, err := box.Present(tr.Context(), nil); err != nil || len(got) != 0 {
		tr.Errorf("presence of nothing is %v, %v", got, err)
	}
	tr.shut(box)
}

// vanished: a message that is gone is left out, and the others come.
func vanished(tr *trial) {
	if tr.Remove == nil {
		tr.Skipf("nothing can be removed behind the back of this store")
		return
	}
	box := tr.open(mail.Inbox)
	entries := tr.list(box, "")
	tr.Remove(mail.Inbox, 5)
	var gone source.ID
	got, err := box.Present(tr.Context(), ids(entries))
	if err != nil {
		tr.Fatalf("present: %v", err)
	}
	for _, e := range entries {
		if !got[e.ID] {
			if gone != "" {
				tr.Errorf("%s and %s are gone, one was removed", gone, e.ID)
			}
			gone = e.ID
		}
	}
	if gone == "" {
		tr.Errorf("a removed message is still present")
	}
	rest := slices.Concat(tr.want[0].Messages[:5], tr.want[0].Messages[6:])
	var came []letter
	for m, err := range box.Fetch(tr.Context(), inGroups(entries, 7)) {
		if err != nil {
			// Told as an error of that message is as good as left out.
			if mail.ScopeOf(err, mail.ScopeRun) != mail.ScopeMessage || m == nil || m.ID != gone {
				tr.Fatalf("fetch: %v", err)
			}
			continue
		}
		came = append(came, tr.read(m))
	}
	tr.same(came, rest)
	tr.shut(box)
}

// cursor: what a listing with a cursor leaves out was there before, it says so,
// and what is new is never left out.
func cursor(tr *trial) {
	box := tr.open(mail.Inbox)
	before := tr.list(box, "")
	at := box.Listing().Cursor
	tr.shut(box)
	if at == "" {
		tr.Skipf("this source has no cursors")
		return
	}
	at, _ = tr.since(at, before, 0)
	if tr.Deliver == nil {
		return
	}
	tr.Deliver(mail.Inbox,
		testmail.Letter("new one", []byte("Subject: new one\r\n\r\nbody\r\n")),
		testmail.Letter("new two", []byte("Subject: new two\r\n\r\nbody\r\n")))
	at, fresh := tr.since(at, before, 2)
	tr.since(at, slices.Concat(before, fresh), 0)
}

// since lists behind a cursor what has come since before, and gives the next
// cursor.
func (tr *trial) since(at source.Cursor, before []source.Entry, count int) (source.Cursor, []source.Entry) {
	tr.Helper()
	box := tr.open(mail.Inbox)
	defer tr.shut(box)
	known := map[source.ID]bool{}
	for _, e := range before {
		known[e.ID] = true
	}
	all := tr.list(box, at)
	fresh := slices.DeleteFunc(slices.Clone(all), func(e source.Entry) bool { return known[e.ID] })
	sum := box.Listing()
	if len(fresh) != count {
		tr.Errorf("listed behind a cursor: %d new messages, want %d", len(fresh), count)
	}
	if old := len(all) - len(fresh); old < len(before) && !sum.Partial {
		tr.Errorf("listed behind a cursor: %d of %d known ones, and it is not said to be partial", old, len(before))
	}
	if want := int64(len(before) + count); sum.Messages != want {
		tr.Errorf("listed behind a cursor: the folder is said to hold %d, not %d", sum.Messages, want)
	}
	return sum.Cursor, fresh
}

// severalAtOnce: mailboxes do not disturb one another, also two of one folder.
func severalAtOnce(tr *trial) {
	if tr.Alone {
		tr.oneAtATime()
		return
	}
	var wait sync.WaitGroup
	for i := range 4 {
		f := tr.want[i/2%len(tr.want)]
		box := tr.open(f.Path)
		wait.Go(func() {
			var entries []source.Entry
			for e, err := range box.List(tr.Context(), "") {
				if err != nil {
					tr.Errorf("list %s: %v", f.Path, err)
					return
				}
				entries = append(entries, e)
			}
			var got []letter
			for m, err := range box.Fetch(tr.Context(), inGroups(entries, 2)) {
				if err != nil {
					tr.Errorf("fetch from %s: %v", f.Path, err)
					return
				}
				got = append(got, tr.read(m))
			}
			tr.same(got, f.Messages)
		})
		defer tr.shut(box)
	}
	tr.within("reading four mailboxes", wait.Wait)
}

// oneAtATime: the second Open waits for the first mailbox to be closed.
func (tr *trial) oneAtATime() {
	first := tr.open(mail.Inbox)
	ctx, cancel := context.WithCancel(tr.Context())
	refused := make(chan error, 1)
	go func() {
		_, err := tr.Source.Open(ctx, mail.Inbox)
		refused <- err
	}()
	cancel()
	tr.within("Open, cancelled while it waits,", func() {
		if err := <-refused; !errors.Is(err, context.Canceled) {
			tr.Errorf("open, cancelled while it waits: %v", err)
		}
	})
	opened := make(chan error, 1)
	go func() {
		second, err := tr.Source.Open(tr.Context(), mail.Inbox)
		if err == nil {
			err = second.Close()
		}
		opened <- err
	}()
	tr.shut(first)
	tr.within("Open after Close", func() {
		if err := <-opened; err != nil {
			tr.Errorf("open after close: %v", err)
		}
	})
}

// missingFolder: only that folder is concerned, and trying again is useless.
func missingFolder(tr *trial) {
	box, err := tr.Source.Open(tr.Context(), mail.Join("No", "such folder"))
	if err == nil {
		tr.shut(box)
		tr.Fatalf("a folder that does not exist was opened")
	}
	if s := mail.ScopeOf(err, mail.ScopeRun); s != mail.ScopeFolder {
		tr.Errorf("a missing folder is an error of %s: %v", scopes[s], err)
	}
	if mail.Temporary(err) {
		tr.Errorf("a missing folder is said to be temporary: %v", err)
	}
	tr.good()
}

var scopes = map[mail.Scope]string{
	mail.ScopeMessage: "message scope", mail.ScopeFolder: "folder scope",
	mail.ScopeAccount: "account scope", mail.ScopeRun: "run scope",
}

// closeEarly: closing with mailboxes open and idle does not hang, twice is as
// good as once, and afterwards nothing opens.
func closeEarly(tr *trial) {
	box := tr.open(mail.Inbox)
	tr.list(box, "")
	tr.shut(tr.Source)
	tr.within("Close of a mailbox of a closed source", func() { box.Close() })
	tr.within("Open of a closed source", func() {
		if box, err := tr.Source.Open(tr.Context(), mail.Inbox); err == nil {
			box.Close()
			tr.Errorf("a closed source opens a folder")
		}
	})
}
