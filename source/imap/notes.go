package imap

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"mailhaul/internal/imapconn"
	"mailhaul/internal/mail"
	"mailhaul/source"
)

// notes are what the user should know at the end, each said once. They are
// guarded by the account's lock; sizes is counted while bodies flow.
type notes struct {
	texts []string
	gaps  []string     // why folders are left out
	wrong atomic.Int64 // messages whose claimed size was not theirs
}

const mostNotes = 200

// note keeps a text. The lock is held.
func (n *notes) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if len(n.texts) < mostNotes && !slices.Contains(n.texts, text) {
		n.texts = append(n.texts, text)
	}
}

// gap tells that something is left out of the list of folders. The lock is held.
func (n *notes) gap(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if len(n.gaps) < mostNotes && !slices.Contains(n.gaps, text) {
		n.gaps = append(n.gaps, text)
	}
}

// Gaps implements source.Gapped.
func (a *account) Gaps() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.gaps)
}

// Notes implements source.Noter.
func (a *account) Notes() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := append(slices.Clone(a.texts), a.Pool.Notes()...)
	if n := a.wrong.Load(); n > 0 {
		all = append(all, fmt.Sprintf("messages of another size than the server had claimed: %d (stored as they came)", n))
	}
	return all
}

// atGmailsLimit notes a folder that holds exactly as many messages as Gmail's
// setting "limit IMAP folders" allows: there may be more that it does not show.
// The lock is held.
func (a *account) atGmailsLimit(path mail.Path, messages int64) {
	switch messages {
	case 1000, 2000, 5000, 10000:
		a.note("%s shows exactly %d messages: see whether Gmail's settings limit the size of IMAP folders",
			mail.Clean(string(path)), messages)
	}
}

// translate makes the connection's word for a renumbered folder the contract's.
func translate(err error) error {
	if errors.Is(err, imapconn.ErrEpoch) {
		return source.ErrEpoch
	}
	return err
}
