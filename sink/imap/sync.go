package imap

import (
	"context"
	"errors"
	"fmt"

	"mailhaul/internal/imapconn"
	"mailhaul/internal/mail"
	"mailhaul/sink"
)

// Sync implements sink.Folder: it waits for all answers, brings what was
// refused because of others once more, alone, and makes sure that what the
// server says it has stored is there.
func (f *folder) Sync(ctx context.Context) ([]sink.Result, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, fail("append", f.path, err)
	}
	link := f.copies
	if f.gmail {
		link = f.labels
	}
	for _, step := range []func(context.Context) error{f.finish, link, f.prove} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	results := make([]sink.Result, len(f.items))
	for i, it := range f.items {
		results[i] = sink.Result{Place: it.place, Err: it.err, Present: it.present, Brought: it.brought && it.err == nil}
	}
	f.items, f.doubt = nil, false
	f.learn(f.now)
	return results, nil
}

// finish sees all that was sent through to its answer, and gives the connection
// back.
func (f *folder) finish(ctx context.Context) error {
	err := error(errBody)
	if !f.broken {
		err = f.settle()
	}
	for err == errBody {
		err = f.resume(ctx)
	}
	if err == nil {
		f.leave()
	}
	if err != nil || f.counting || len(f.items) == 0 || !f.gmail && f.toCopy() {
		return err
	}
	// The numbers could not be asked for on the way.
	next := f.now.next
	err = f.ask(ctx)
	f.now.next = max(f.now.next, next)
	return err
}

// settle sends what waits and reads all answers. Behind the last message, on
// the same way, the folder's numbers are asked for.
func (f *folder) settle() error {
	if f.a == nil {
		return nil
	}
	if err := f.flush(); err != nil {
		return err
	}
	for asked := false; len(f.sent) > 0 || !asked; {
		if len(f.sent) == 0 || !asked {
			if _, err := f.a.Count(f.raw, items(f.c)); err != nil {
				return fail("append", f.path, err)
			}
			asked = true
		}
		before := len(f.sent)
		if f.a.Open() == 0 {
			break
		}
		if err := f.answer(); err != nil {
			return err
		}
		if len(f.sent) > before {
			asked = false // something was sent again: the numbers are asked for once more
		}
	}
	for f.a.Open() > 0 {
		if err := f.answer(); err != nil {
			return err
		}
	}
	return nil
}

// counted takes the folder's numbers as they are behind our messages.
func (f *folder) counted(n counts) {
	if n.validity == 0 {
		return
	}
	f.counting = true
	f.now = counts{validity: n.validity, next: max(n.next, f.now.next), messages: n.messages, bytes: n.bytes, limit: f.now.limit}
}

// resume goes on after a message that broke the line: what arrived before it is
// found, the rest is sent again.
func (f *folder) resume(ctx context.Context) error {
	f.leave()
	f.broken, f.half = false, false
	var open []*item
	var wants []sink.Want
	for _, it := range f.items {
		if !it.done && it.err == nil && it.link == nil {
			open = append(open, it)
			wants = append(wants, it.m.Want)
		}
	}
	f.sent, f.group, f.weight = map[string]group{}, nil, 0
	if len(open) == 0 {
		return nil
	}
	places, err := f.find(ctx, f.from, wants)
	if err != nil {
		return err
	}
	if err := f.begin(ctx); err != nil {
		return err
	}
	for i, it := range open {
		if places[i] != "" {
			it.done, it.place = true, places[i]
			continue
		}
		if err := f.add(it); err != nil {
			return err
		}
	}
	return f.settle()
}

// refused does what a refusal asks for (RELIABILITY, appendix C). One that
// concerns more than a message is the outcome of all that have none yet.
func (f *folder) refused(g group, s *imapconn.Status) error {
	if f.trouble == nil {
		f.trouble = f.larger(s)
	}
	if f.trouble != nil {
		for _, it := range g {
			it.err = f.trouble
		}
		return nil
	}
	switch {
	case f.half:
		return nil // each is sent again, on another connection
	case len(g) > 1:
		// One of them spoilt it for all (RFC 3502): each alone.
		for _, it := range g {
			if err := f.send(group{it}); err != nil {
				return err
			}
		}
		return nil
	case s.Type == "BAD" && f.lasting.simpler(g[0]):
		return f.send(g)
	}
	g[0].refuse(errors.New("the server refuses it: " + s.Error()))
	return nil
}

// larger is the error that a refusal means for the folder or the run, or nil
// where it concerns the message alone.
func (f *folder) larger(s *imapconn.Status) error {
	switch code := s.Code; {
	case code == "TRYCREATE" || code == "NONEXISTENT":
		return f.gone(s)
	case code == "OVERQUOTA":
		return &mail.Error{Op: "append", Scope: mail.ScopeRun, Err: fmt.Errorf("%s: %w: %w", mail.Clean(string(f.path)), sink.ErrFull, s)}
	case s.Busy() && code != "LIMIT" || code == "SERVERBUG":
		return &mail.Error{Op: "append", Scope: mail.ScopeFolder, Temporary: true, After: s.Wait(),
			Err: fmt.Errorf("%s: %w", mail.Clean(string(f.path)), s)}
	case code == "NOPERM":
		return &mail.Error{Op: "append", Scope: mail.ScopeFolder, Err: fmt.Errorf("%s: %w", mail.Clean(string(f.path)), s)}
	}
	return nil
}

// prove makes sure of what the server has said OK to: where it did not tell
// the UIDs they are looked for, and where the folder holds fewer messages than
// it must, each UID is (RELIABILITY, row D2).
func (f *folder) prove(ctx context.Context) error {
	if f.gmail {
		return f.proveLabelled(ctx)
	}
	var stored, nameless []*item
	for _, it := range f.items {
		switch {
		case it.done && it.place == "":
			nameless = append(nameless, it)
		case it.done:
			stored = append(stored, it)
		}
	}
	if len(nameless) > 0 {
		wants := make([]sink.Want, len(nameless))
		for i, it := range nameless {
			wants[i] = it.m.Want
		}
		f.doubt = true
		places, err := f.find(ctx, f.from, wants)
		if err != nil {
			return err
		}
		for i, it := range nameless {
			if it.place = places[i]; it.place == "" {
				it.refuse(errSwallowed)
			}
		}
	}
	if len(stored) == 0 || f.now.messages >= f.from.messages+int64(len(stored)+len(nameless)) {
		return nil
	}
	missing, err := f.unseen(ctx, stored)
	for _, it := range missing {
		it.refuse(errSwallowed)
	}
	return err
}

var errSwallowed = errors.New("the server says that it has stored the message, and does not show it")

// unseen looks for UIDs, and gives those whose message the folder does not show.
// They have no place then.
func (f *folder) unseen(ctx context.Context, stored []*item) (missing []*item, err error) {
	at := map[uint32]bool{}
	var uids []uint32
	for _, it := range stored {
		if validity, uid, ok := numbers(string(it.place)); ok && validity == f.now.validity && !at[uid] {
			at[uid] = true
			uids = append(uids, uid)
		}
	}
	err = f.look(ctx, func(c *imapconn.Conn, box imapconn.Box) error {
		return fetch(ctx, c, uids, "UID", func(i *imapconn.Item) error {
			delete(at, i.UID)
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	for _, it := range stored {
		if validity, uid, _ := numbers(string(it.place)); validity == f.now.validity && at[uid] {
			it.place = ""
			missing = append(missing, it)
		}
	}
	return missing, nil
}

// Recover implements sink.Folder.
func (f *folder) Recover(ctx context.Context, mark sink.Mark, want []sink.Want) ([]sink.Place, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, fail("recover", f.path, err)
	}
	f.leave()
	f.doubt = f.doubt || !f.known // perhaps a run that died has sent something
	f.items, f.group, f.sent = nil, nil, map[string]group{}
	from := counts{}
	if validity, next, ok := numbers(string(mark)); ok {
		from.validity, from.next = validity, next
	}
	if len(want) == 0 {
		f.doubt = false
		return nil, nil
	}
	places, err := f.find(ctx, from, want)
	if imapconn.NoSuchFolder(err) {
		return make([]sink.Place, len(want)), nil
	}
	if err == nil {
		f.doubt = false
		err = f.ask(ctx)
	}
	return places, err
}
