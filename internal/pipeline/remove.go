package pipeline

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"

	"mailhaul/internal/catalog"
	"mailhaul/internal/mail"
	"mailhaul/source"
)

// session is how many messages the source is asked to remove at once. Between
// two of these the catalog hears what became of the first.
const session = 250

// mostRemoved is how many go in one run without being asked twice.
const mostRemoved = 1000

// remove deletes at the source what is safe in the archive: a phase of its
// own, after every folder was brought over. A message goes only when it was
// committed long enough ago, and its copy was read back just now and found
// equal. One bad copy ends it for all: an archive that cannot be read is no
// reason to let go of anything.
func (r *run) remove(ctx context.Context, folders []*folder) error {
	remover, ok := r.Source.(source.Remover)
	if !ok {
		return &mail.Error{Op: "remove", Scope: mail.ScopeAccount, Err: errors.New("this kind of source deletes nothing")}
	}
	now := r.Options.Now()
	reason, err := r.Catalog.Clock(ctx, now)
	if err != nil {
		return err
	}
	if reason != "" && r.Options.Remove.After > 0 {
		r.note("", "nothing is deleted at the server in this run: %s", reason)
		return nil
	}
	for _, f := range folders {
		due, err := r.Catalog.Receipts(ctx, f.box, r.Options.Remove.After, now)
		if err == nil && len(due) > 0 {
			err = f.remove(ctx, remover, due)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// remove lets go of the due messages of one folder.
func (f *folder) remove(ctx context.Context, remover source.Remover, due []catalog.Receipt) error {
	most := f.Options.Remove.Most
	if most == 0 {
		most = int(min(mostRemoved, f.Listed/2))
	}
	if len(due) > most && !f.Options.Remove.Sure {
		return &mail.Error{Op: "remove", Scope: mail.ScopeFolder, Err: &TooMany{Folder: f.Path, Due: len(due), Of: f.Listed}}
	}
	for part := range slices.Chunk(due, session) {
		if err := ctx.Err(); err != nil {
			return err
		}
		var ids []source.ID
		proofs := map[source.ID]source.Proof{}
		for _, d := range part {
			head, err := f.prove(ctx, d.At)
			if err != nil {
				return &mail.Error{Op: "remove", Scope: mail.ScopeRun, Err: &Unproven{Folder: f.Path, ID: d.ID, Err: err}}
			}
			ids = append(ids, d.ID)
			proofs[d.ID] = source.Proof{Text: d.At.Digest, Header: head}
		}
		if p, ok := remover.(source.Prover); ok {
			p.Expect(proofs)
		}
		if err := f.letGo(ctx, remover, ids); err != nil {
			return err
		}
	}
	return nil
}

// prove reads a stored copy and compares its digest. It returns that of its
// header.
func (r *run) prove(ctx context.Context, at catalog.Stored) (head mail.Digest, err error) {
	body, err := r.read(ctx, at)
	if err != nil {
		return head, err
	}
	defer body.Close()
	h := sha256.New()
	start, err := io.ReadAll(io.TeeReader(io.LimitReader(body, mail.MostHeader), h))
	if err != nil {
		return head, err
	}
	if _, err := io.Copy(h, body); err != nil {
		return head, err
	}
	var got mail.Digest
	if h.Sum(got[:0]); got != at.Digest {
		return head, fmt.Errorf("its digest is %v, stored was %v", got, at.Digest)
	}
	return sha256.Sum256(mail.Header(start)), nil
}

// letGo has messages removed. What the source confirmed is noted even when it
// then failed.
func (f *folder) letGo(ctx context.Context, remover source.Remover, ids []source.ID) error {
	at("removing")
	if err := f.Catalog.Removing(ctx, f.box, ids, f.Options.Now()); err != nil {
		return err
	}
	at("remove")
	gone, err := remover.Remove(ctx, f.Path, ids)
	at("removed")
	after := context.WithoutCancel(ctx)
	if len(gone) > 0 {
		err = errors.Join(err, f.Catalog.Removed(after, f.box, gone, f.Options.Now()), f.Catalog.Forget(after, f.box))
	}
	f.tellRemoved(gone)
	return err
}

// tellRemoved counts what the source has removed.
func (f *folder) tellRemoved(gone []source.ID) {
	f.mu.Lock()
	f.Removed += int64(len(gone))
	f.mu.Unlock()
	for _, id := range gone {
		f.observe(Event{Kind: Removed, Folder: f.Path, ID: id, Count: 1})
	}
}

// TooMany is returned when more would be removed than a slip should cost.
type TooMany struct {
	Folder mail.Path
	Due    int
	Of     int64
}

func (e *TooMany) Error() string {
	return fmt.Sprintf("%s: %d of %d messages would be deleted at the server; none was", mail.Clean(string(e.Folder)), e.Due, e.Of)
}

// Hint is what to do about it.
func (e *TooMany) Hint() string { return "give --yes to delete so many" }

// Unproven is returned when a copy in the archive is not what was stored.
type Unproven struct {
	Folder mail.Path
	ID     source.ID
	Err    error
}

func (e *Unproven) Error() string {
	return fmt.Sprintf("%s: message %s: its copy in the archive is not as it was stored, so nothing is deleted at the server: %v",
		mail.Clean(string(e.Folder)), mail.Clean(string(e.ID)), e.Err)
}

func (e *Unproven) Unwrap() error { return e.Err }

// Hint is what to do about it.
func (e *Unproven) Hint() string { return "mailhaul verify names what is damaged" }
