package pipeline

import (
	"context"
	"time"

	"mailhaul/internal/mail"
	"mailhaul/source"
)

// What a server says has not changed is not looked at. That it says so rightly
// is seen from time to time, when the folder is listed in full all the same
// (RELIABILITY, row K7): where something has changed though its numbers have
// not, the account's folders are listed in full from then on.

// Flags says how often the flags of known messages are compared where the store
// does not tell which have changed.
type Flags int

const (
	FlagsAlways Flags = iota
	FlagsDaily
	FlagsNever
)

const (
	daily   = 20 * time.Hour      // one run a day is not always at the same hour
	monthly = 30 * 24 * time.Hour // how long a folder may go without a full listing
)

// older reports whether the last full listing is that long ago, or in the
// future, where a clock was wrong.
func (f *folder) older(than time.Duration) bool {
	age := f.Options.Now().Sub(f.box.Listed)
	return age < 0 || age >= than
}

// due reports whether the folder must be listed in full.
func (f *folder) due() bool { return f.wary.Load() || f.older(monthly) }

// flagsDue reports whether flags must be compared that nobody tells.
func (f *folder) flagsDue() bool {
	return f.Options.Flags == FlagsAlways || f.Options.Flags == FlagsDaily && f.older(daily)
}

// since is where the listing may go on from.
func (t *try) since() source.Cursor {
	if t.Options.MaxSize > 0 || t.due() {
		return "" // what was left out before must be listed, too
	}
	return t.box.Cursor
}

// test looks at a full listing of a folder that claims not to have changed.
func (t *try) test(ctx context.Context) error {
	l := t.mbox.Listing()
	if l.Partial || l.Cursor == "" || l.Cursor != t.box.Cursor || t.Mute || t.wary.Load() {
		return nil
	}
	t.mu.Lock()
	differs := t.Flagged > 0 || t.strange > 0 || len(t.gone) > 0
	t.mu.Unlock()
	if !differs {
		return nil
	}
	t.wary.Store(true)
	t.note(t.Path, "%s: something has changed though the server's numbers (UIDNEXT, HIGHESTMODSEQ) have not: folders of this account are listed in full from now on",
		mail.Clean(string(t.Path)))
	return t.Catalog.Doubt(ctx, t.Account)
}

// fits reports whether what a partial listing has left out is what is known, and
// counts it. If the numbers say otherwise, something has gone from the server, or
// was never stored; what the store says has gone is out of the count first.
func (t *try) fits(ctx context.Context) (bool, error) {
	l := t.mbox.Listing()
	gone, err := t.Catalog.Within(ctx, t.box, l.Gone)
	if err != nil {
		return false, err
	}
	out := l.Messages - t.listed
	if out < 0 || out != t.before-int64(len(gone))-t.live-t.fresh {
		return false, nil
	}
	// It may be as many as have gone, and still others: then their copies would
	// be given away. So each is looked for.
	if len(gone) > 0 && l.Messages > 0 {
		present, err := t.mbox.Present(ctx, gone)
		if err != nil {
			return false, err
		}
		for _, there := range present {
			if there {
				return false, nil
			}
		}
	}
	t.gone = append(t.gone, gone...)
	t.before -= int64(len(gone))
	t.listed += out
	t.known += out
	return true, nil
}
