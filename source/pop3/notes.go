package pop3

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"mailhaul/source"
)

// notes are what the user should know at the end, each said once. They are
// guarded by the account's lock; sizes are counted while bodies flow.
type notes struct {
	texts []string
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

// learn notes what the capabilities mean for somebody who keeps mail on the
// server (RFC 2449, section 6.7).
func (a *account) learn(s *session) {
	a.mu.Lock()
	defer a.mu.Unlock()
	expire, ok := s.Capability("EXPIRE")
	days, _, _ := strings.Cut(expire, " ")
	switch {
	case a.gmail(s):
		a.note("Gmail shows only some 250 messages at a time by POP3 and drops them from view once they were fetched: imaps:// is the better way to back it up")
	case s.forgetful():
		a.note("the server says that it keeps no message once it was fetched (EXPIRE 0): sessions are ended without QUIT, so that nothing is deleted")
	case ok && days != "" && !strings.EqualFold(days, "NEVER"):
		a.note("the server says that it deletes messages by itself after %s days (EXPIRE)", days)
	}
	if !s.uidl && len(s.sizes) > 0 {
		a.note("the server gives messages no unique-ids (UIDL): all of them are fetched in every run, and those that are in the archive already are not stored again; nothing can be deleted")
	}
}

// look notes what the listing says that the core is about to see.
func (a *account) look(s *session, since source.Cursor) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.listed = s.listing
	empty, twins := 0, 0
	for _, at := range s.odd {
		if len(s.uid(at)) == 0 {
			empty++
		} else {
			twins++
		}
	}
	if empty > 0 {
		a.note("messages to which the server gives an empty unique-id: %d (fetched in every run)", empty)
	}
	if twins > 0 && s.lasting() {
		a.note("messages that share their unique-id with others: %d (told apart by their headers, never deleted)", twins)
	} else if twins > 0 {
		a.note("messages that share their unique-id with others: %d (fetched in every run, never deleted)", twins)
	}
	if s.renamed(since) && !a.gmail(s) {
		a.note("the server has given all %d messages new unique-ids: they are fetched again and compared; none is stored twice", len(s.sizes))
	}
}

// Notes implements source.Noter.
func (a *account) Notes() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := slices.Clone(a.texts)
	if n := a.wrong.Load(); n > 0 {
		all = append(all, fmt.Sprintf("messages of another size than the server had claimed: %d (stored as they came)", n))
	}
	return all
}
