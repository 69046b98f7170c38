package pop3

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"mailhaul/internal/mail"
	"mailhaul/internal/netconn"
	"mailhaul/internal/pop3conn"
	"mailhaul/source"
)

// How much is deleted in one session. Nothing is deleted before its end: the
// more there is in one, the more a broken line undoes.
const (
	mostDeleted = 50
	mostDelete  = 5 * time.Minute
)

// Remove implements source.Remover. It deletes messages whose unique-id is
// theirs alone, now and when the core last saw the listing, and whose size is
// what it was then; each is asked for its unique-id just before. It returns
// those of a session only when the server has answered its QUIT with +OK, and
// those that are not listed any more: what a session that lost its end has
// deleted shows so.
func (a *account) Remove(ctx context.Context, path mail.Path, ids []source.ID) (gone []source.ID, err error) {
	if path != mail.Inbox {
		return nil, &mail.Error{Op: "remove", Scope: mail.ScopeFolder, Err: errors.New(mail.Clean(string(path)) + ": POP3 knows no folders, only INBOX")}
	}
	if err := a.take(ctx); err != nil {
		return nil, err
	}
	defer a.release()
	a.dismiss()
	a.mu.Lock()
	seen := a.listed
	a.mu.Unlock()
	if seen == nil {
		return nil, refuse(errors.New("nothing was listed in this run, so nothing is known well enough to be deleted"))
	}
	r := remover{a: a, seen: seen}
	for left := slices.Clone(ids); len(left) > 0; {
		left, err = r.session(ctx, left)
		if err != nil {
			break
		}
	}
	r.tell()
	return r.gone, err
}

// A remover deletes in one session after the other.
type remover struct {
	a    *account
	seen *listing // what the core has seen
	gone []source.ID
	kept int   // messages that are not what was seen
	no   int   // messages that the server did not want to delete
	why  error // what it said to the first
}

// A condemned message, as this session knows it.
type condemned struct {
	id     source.ID
	uid    string
	number int
}

// session deletes some of ids and returns those that are left to do.
func (r *remover) session(ctx context.Context, ids []source.ID) (left []source.ID, err error) {
	s, err := r.a.dial(ctx, true)
	if err != nil {
		return ids, err
	}
	defer s.Close()
	gmail := r.a.gmail(s)
	switch {
	case gmail && !r.a.gmailDelete:
		return ids, refuse(netconn.Advise(errors.New("nothing is deleted at Gmail, which does with deleted messages what its own settings say"), "use imaps:// for Gmail, or give gmail_delete=yes"))
	case !s.uidl && len(s.sizes) > 0:
		return ids, refuse(fmt.Errorf("nothing can be deleted: %w", pop3conn.ErrNoUIDL))
	}
	var due []condemned
	for i, id := range ids {
		// Where the next login has to wait, one session does it all.
		full := len(due) == mostDeleted && s.LoginDelay() == 0
		if full || len(due) > 0 && time.Since(s.born) > mostDelete {
			left = ids[i:]
			break
		}
		at, ok, listed := r.find(s.listing, id)
		switch {
		case ok:
			uid, _ := uidOf(id)
			due = append(due, condemned{id, uid, int(at) + 1})
		case !listed && !gmail:
			r.gone = append(r.gone, id)
		default:
			r.kept++
		}
	}
	if len(due) == 0 {
		// The answer is of no interest: nothing was marked.
		s.Quit(ctx)
		return left, nil
	}
	return left, r.delete(ctx, s, due)
}

// find looks whether a message is, in this session, what the core has seen.
// listed is false when there is certainly nothing of that name.
func (r *remover) find(l *listing, id source.ID) (at uint32, ok, listed bool) {
	uid, is := uidOf(id)
	if !is {
		return 0, false, true // a twin or worse: its name is not its own
	}
	at, ok, _ = l.find(id)
	before, known, _ := r.seen.find(id)
	switch {
	case ok && known && l.sizes[at] == r.seen.sizes[before]:
		return at, true, true
	case ok:
		return 0, false, true
	}
	return 0, false, l.has(uid)
}

// delete marks messages and ends the session. They are gone when the server
// says so, and not before.
func (r *remover) delete(ctx context.Context, s *session, due []condemned) error {
	numbers := make([]int, len(due))
	for i, d := range due {
		numbers[i] = d.number
	}
	now, err := s.UniqueIDs(ctx, numbers)
	if err != nil {
		return err
	}
	for i, d := range due {
		if now[i] != d.uid {
			// Nothing was marked: the numbers cannot be trusted, nor can this
			// session.
			return wrap("remove", mail.ScopeFolder, fmt.Errorf("message %d has the unique-id %s, and had %s a moment ago",
				d.number, mail.Clean(now[i]), mail.Clean(d.uid)))
		}
	}
	refused, err := s.Delete(ctx, numbers)
	if err != nil {
		return err
	}
	var marked []source.ID
	for i, d := range due {
		if refused[i] == nil {
			marked = append(marked, d.id)
			continue
		}
		r.no++
		if r.why == nil {
			r.why = refused[i]
		}
	}
	if err := s.Quit(ctx); err != nil {
		return unsure(err, len(marked))
	}
	r.gone = append(r.gone, marked...)
	return nil
}

// unsure is an error at QUIT: the messages stay pending until a listing lacks
// them (RELIABILITY B9).
func unsure(err error, n int) error {
	var e *mail.Error
	if !errors.As(err, &e) {
		return err
	}
	return &mail.Error{Op: "remove", Scope: mail.ScopeFolder, Temporary: e.Temporary, After: e.After,
		Err: fmt.Errorf("the server has not confirmed that %d messages are deleted; the next run looks: %w", n, e.Err)}
}

// tell notes what was not deleted.
func (r *remover) tell() {
	r.a.mu.Lock()
	defer r.a.mu.Unlock()
	if r.kept > 0 {
		r.a.note("messages that were not deleted, because their unique-id is not theirs alone or they are not what was backed up: %d", r.kept)
	}
	if r.no > 0 {
		r.a.note("messages that the server refused to delete: %d (%v)", r.no, r.why)
	}
}

func refuse(err error) error {
	return &mail.Error{Op: "remove", Scope: mail.ScopeFolder, Err: err}
}
