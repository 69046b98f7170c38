package pop3

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
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
	seen, proofs := a.listed, a.proofs
	a.mu.Unlock()
	if seen == nil {
		return nil, refuse(errors.New("nothing was listed in this run, so nothing is known well enough to be deleted"))
	}
	r := remover{a: a, seen: seen, proofs: proofs}
	for left := slices.Clone(ids); len(left) > 0; {
		left, err = r.session(ctx, left)
		if err != nil {
			break
		}
	}
	r.tell()
	return r.gone, err
}

// Expect implements source.Prover.
func (a *account) Expect(proofs map[source.ID]source.Proof) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.proofs = proofs
}

var _ source.Prover = (*account)(nil)

// A remover deletes in one session after the other.
type remover struct {
	a      *account
	seen   *listing // what the core has seen
	proofs map[source.ID]source.Proof
	gone   []source.ID
	kept   int   // messages that are not what was seen
	no     int   // messages that the server did not want to delete
	why    error // what it said to the first
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
	if due, err = r.compare(ctx, s, due); err != nil {
		return ids, err
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

// compare leaves out what is another message than was committed, though its
// unique-id and its size are the same: a server may deal a unique-id out again.
// The header tells; where there is no TOP, or the header is not the same, the
// whole message does.
func (r *remover) compare(ctx context.Context, s *session, due []condemned) (same []condemned, err error) {
	var doubt []condemned
	for _, d := range due {
		if _, expected := r.proofs[d.id]; expected {
			doubt = append(doubt, d)
		} else {
			same = append(same, d)
		}
	}
	b := s.Bodies(ctx)
	defer b.End()
	for _, look := range []struct {
		ask  func(numbers ...int) error
		is   func(condemned, io.Reader) (bool, error)
		skip bool
	}{
		{b.AskTop, r.hasHeader, !s.Has("TOP")},
		{b.Ask, r.hasText, false},
	} {
		if look.skip || len(doubt) == 0 {
			continue
		}
		proven, rest, err := r.look(b, window(s.Conn), doubt, look.ask, look.is)
		if err != nil {
			return nil, err
		}
		same, doubt = append(same, proven...), rest
	}
	r.kept += len(doubt)
	return same, nil
}

// look asks for something of each message and sorts them by whether it is as
// expected.
func (r *remover) look(b *pop3conn.Bodies, window int, due []condemned, ask func(...int) error, is func(condemned, io.Reader) (bool, error)) (same, other []condemned, err error) {
	by := map[int]condemned{}
	var numbers []int
	for _, d := range due {
		by[d.number] = d
		numbers = append(numbers, d.number)
	}
	for len(numbers) > 0 || b.Open() > 0 {
		if n := min(window-b.Open(), len(numbers)); n > 0 {
			if err := ask(numbers[:n]...); err != nil {
				return nil, nil, err
			}
			numbers = numbers[n:]
		}
		a, err := b.Next()
		if err != nil {
			return nil, nil, err
		}
		d, ok := by[a.Number], false
		if a.Err == nil {
			if ok, err = is(d, a.Body); err != nil {
				return nil, nil, err
			}
		}
		if ok {
			same = append(same, d)
		} else {
			other = append(other, d)
		}
	}
	return same, other, nil
}

// hasHeader reads what TOP gives and compares the header.
func (r *remover) hasHeader(d condemned, body io.Reader) (bool, error) {
	raw, err := io.ReadAll(io.LimitReader(body, mail.MostHeader))
	if err == nil {
		_, err = io.Copy(io.Discard, body)
	}
	if err != nil {
		return false, err
	}
	var f mail.Folder
	text, _, mixed := f.Append(nil, raw)
	if mixed != nil {
		return false, nil
	}
	text, _ = f.Close(text)
	return sha256.Sum256(mail.Header(text)) == r.proofs[d.id].Header, nil
}

// hasText reads a whole message and compares its text form, or, where its line
// ends are too mixed for one, what was received.
func (r *remover) hasText(d condemned, body io.Reader) (bool, error) {
	var f mail.Folder
	folded, kept := sha256.New(), sha256.New()
	var mixed error
	var text []byte
	last := byte('\n')
	buf := make([]byte, 32<<10)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			kept.Write(buf[:n])
			last = buf[n-1]
			if mixed == nil {
				text, _, mixed = f.Append(text[:0], buf[:n])
				folded.Write(text)
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return false, err
		}
	}
	sum := folded
	if mixed == nil {
		text, _ = f.Close(text[:0])
		folded.Write(text)
	} else {
		if sum = kept; last != '\n' {
			kept.Write([]byte{'\n'})
		}
	}
	return mail.Digest(sum.Sum(nil)) == r.proofs[d.id].Text, nil
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
