package imap

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"mailhaul/internal/imapconn"
	"mailhaul/internal/mail"
	"mailhaul/source"
)

// A mailbox is a folder that is open on a connection of its own.
type mailbox struct {
	a       *account
	c       *imapconn.Conn
	path    mail.Path
	box     imapconn.Box
	listing source.Listing
	window  int // how many messages one command of List may name
}

// Open examines a folder.
func (a *account) Open(ctx context.Context, path mail.Path) (source.Mailbox, error) {
	raw, err := a.rawName(ctx, path)
	if err != nil {
		return nil, in(path, err)
	}
	c, box, err := a.examine(ctx, raw, a.Borrow)
	if err != nil {
		return nil, in(path, err)
	}
	return newMailbox(a, c, path, box), nil
}

// examine opens a folder on a connection that get gives; nil where that gives
// none.
func (a *account) examine(ctx context.Context, raw string, get func(context.Context) (*imapconn.Conn, bool, error)) (*imapconn.Conn, imapconn.Box, error) {
	for {
		c, fresh, err := get(ctx)
		if err != nil || c == nil {
			return nil, imapconn.Box{}, err
		}
		box, err := c.Examine(ctx, raw)
		if err == nil {
			return c, box, nil
		}
		// A connection that was idle may have been closed by the server.
		again := !fresh && c.Broken() && ctx.Err() == nil
		a.GiveBack(c)
		if !again {
			return nil, imapconn.Box{}, gone(err)
		}
	}
}

// gone makes a folder that does not exist an error for good.
func gone(err error) error {
	var e *mail.Error
	if errors.As(err, &e) && imapconn.NoSuchFolder(err) {
		return &mail.Error{Op: e.Op, Scope: mail.ScopeFolder, Err: e.Err}
	}
	return err
}

func newMailbox(a *account, c *imapconn.Conn, path mail.Path, box imapconn.Box) *mailbox {
	m := &mailbox{a: a, c: c, path: path, box: box, window: mostWindow}
	if n := c.MessageLimit(); n > 0 {
		m.window = min(m.window, n)
	}
	if c.Has("X-GM-EXT-1") {
		a.mu.Lock()
		a.atGmailsLimit(path, int64(box.Exists))
		a.mu.Unlock()
	}
	return m
}

func (m *mailbox) Epoch() string { return strconv.FormatUint(uint64(m.box.Validity), 10) }

func (m *mailbox) Listing() source.Listing { return m.listing }

// Present asks for nothing but the UIDs themselves.
func (m *mailbox) Present(ctx context.Context, ids []source.ID) (map[source.ID]bool, error) {
	asked := make(map[uint32]bool, len(ids))
	var uids []uint32
	for _, id := range ids {
		uid, err := uidOf(id)
		if err != nil {
			return nil, in(m.path, wrap("look up", mail.ScopeFolder, err))
		}
		if !asked[uid] {
			asked[uid] = true
			uids = append(uids, uid)
		}
	}
	slices.Sort(uids)
	there := make(map[source.ID]bool, len(uids))
	for part := range slices.Chunk(uids, m.window) {
		for len(part) > 0 {
			var set string
			set, part = imapconn.Set(part)
			_, err := m.c.Fetch(ctx, set, "UID", "", func(it *imapconn.Item) error {
				if asked[it.UID] {
					there[idOf(it.UID)] = true
				}
				return nil
			})
			if err != nil {
				return nil, in(m.path, err)
			}
		}
	}
	return there, nil
}

// Close returns the connection. It was opened with EXAMINE: leaving the folder
// takes nothing away.
func (m *mailbox) Close() error {
	if m.c != nil {
		m.a.GiveBack(m.c)
		m.c = nil
	}
	return nil
}

func idOf(uid uint32) source.ID { return source.ID(strconv.FormatUint(uint64(uid), 10)) }

func uidOf(id source.ID) (uint32, error) {
	n, err := strconv.ParseUint(string(id), 10, 32)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is no UID", string(id))
	}
	return uint32(n), nil
}
