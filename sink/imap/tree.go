package imap

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"mailhaul/internal/imapconn"
	"mailhaul/internal/mail"
	"mailhaul/sink"
)

// A tree is what the account holds, listed once in a run.
type tree struct {
	folders   map[mail.Path]*standing
	order     []mail.Path
	delimiter byte
	gmail     bool
	copies    bool  // a message can be copied to another folder (copy.go)
	most      int64 // octets of one message that the server takes; 0: not told
	each      bool  // each folder has a limit of its own
}

// A standing is a folder of the account.
type standing struct {
	raw      string
	role     string
	noSelect bool
	counts   counts
	print    string
}

// counts are what is known of a folder's numbers; zero where it is not.
type counts struct {
	validity uint32
	next     uint32
	messages int64
	bytes    int64
	limit    int64
}

func known(c imapconn.Counts) counts {
	n := counts{messages: c.Messages, bytes: c.Size, limit: max(c.Limit, 0)}
	if c.Validity > 0 && c.Next >= 0 {
		n.validity, n.next = uint32(c.Validity), uint32(c.Next)
	}
	return n
}

// look lists the account once: folders with their numbers, in one command
// where the server can answer so.
func (s *Sink) look(ctx context.Context) (*tree, error) {
	s.making.Lock()
	defer s.making.Unlock()
	s.mu.Lock()
	t := s.tree
	s.mu.Unlock()
	if t != nil {
		return t, nil
	}
	err := s.pool.Use(ctx, func(c *imapconn.Conn) (err error) {
		t, err = list(ctx, c)
		return err
	})
	if err == nil {
		s.mu.Lock()
		s.tree = t
		s.mu.Unlock()
	}
	return t, err
}

func list(ctx context.Context, c *imapconn.Conn) (*tree, error) {
	t := &tree{folders: map[mail.Path]*standing{}, gmail: c.Has("X-GM-EXT-1")}
	t.copies = !t.gmail && c.Has("UIDPLUS")
	t.most, t.each = c.AppendLimit()
	entries, _, err := c.List(ctx, items(c))
	if err != nil {
		return nil, err
	}
	var ask []string
	var at []*standing
	for _, e := range entries {
		path := imapconn.PathOf(e.Name, e.Delimiter)
		if t.folders[path] != nil {
			continue // two ways to write INBOX
		}
		if e.Delimiter != 0 {
			t.delimiter = e.Delimiter
		}
		st := &standing{raw: e.Name, role: e.Role(), noSelect: e.Has(`\noselect`) || e.Has(`\nonexistent`)}
		t.folders[path] = st
		t.order = append(t.order, path)
		switch {
		case st.noSelect:
		case e.Counts != nil:
			st.counts, st.print = known(*e.Counts), e.Counts.Print()
		default:
			ask, at = append(ask, e.Name), append(at, st)
		}
	}
	if err := c.Status(ctx, ask, items(c), func(i int, n imapconn.Counts) { at[i].counts, at[i].print = known(n), n.Print() }); err != nil {
		return nil, err
	}
	return t, nil
}

// items are those of STATUS that tell whether somebody else was here.
func items(c *imapconn.Conn) string {
	s := "MESSAGES UIDNEXT UIDVALIDITY"
	if _, each := c.AppendLimit(); each {
		s += " APPENDLIMIT" // RFC 7889, section 3
	}
	return s
}

// Layout implements sink.Planned. It asks for what a plan needs and a run does
// not: where the user's folders lie, and how much room there is.
func (s *Sink) Layout(ctx context.Context) (l sink.Layout, err error) {
	t, err := s.look(ctx)
	if err != nil {
		return l, err
	}
	l = sink.Layout{Delimiter: t.delimiter, Gmail: t.gmail, Copies: t.copies, Most: t.most, Free: -1}
	err = s.pool.Use(ctx, func(c *imapconn.Conn) error {
		n, told, err := c.Namespace(ctx)
		if err != nil {
			return err
		}
		if told && n.Delimiter != 0 {
			if l.Delimiter == 0 {
				l.Delimiter = n.Delimiter
			}
			l.Prefix = imapconn.PathOf(strings.TrimSuffix(n.Prefix, string(rune(n.Delimiter))), n.Delimiter)
		}
		used, limit, told, err := c.Quota(ctx, "INBOX")
		if told {
			l.Free = max(limit-used, 0)
		}
		return err
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.delimiter == 0 {
		t.delimiter = l.Delimiter
	}
	for _, p := range t.order {
		st := t.folders[p]
		l.Folders = append(l.Folders, sink.Standing{Path: p, Raw: st.raw, Role: st.role, NoMail: st.noSelect, Messages: st.counts.messages, Print: st.print})
	}
	return l, err
}

// Folders implements sink.Lister.
func (s *Sink) Folders(ctx context.Context) ([]mail.Path, error) {
	t, err := s.look(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []mail.Path
	for _, p := range t.order {
		if !t.folders[p].noSelect && (p != mail.Inbox || t.folders[p].counts.messages > 0 || s.opened(p)) {
			all = append(all, p)
		}
	}
	return all, nil
}

// opened reports whether a folder was made or opened by us.
func (s *Sink) opened(p mail.Path) bool { return s.tree.folders[p] != nil }

// Open implements sink.Sink. A folder that is there costs nothing: it is
// opened at the server once something is to be done in it.
func (s *Sink) Open(ctx context.Context, path mail.Path, create bool) (sink.Folder, error) {
	t, err := s.look(ctx)
	if err != nil {
		return nil, runWide(err)
	}
	s.mu.Lock()
	st := t.folders[path]
	s.mu.Unlock()
	if st == nil || st.noSelect {
		if !create {
			return nil, fail("open", path, fs.ErrNotExist)
		}
		if st, err = s.create(ctx, t, path); err != nil {
			return nil, fail("create", path, err)
		}
	}
	f := &folder{s: s, path: path, raw: st.raw, role: st.role, gmail: t.gmail, now: st.counts, held: st.counts.messages != 0}
	switch {
	case f.labelled():
		return label{f}, ctx.Err()
	case t.copies:
		return copier{f}, ctx.Err()
	}
	return f, ctx.Err()
}

// runWide makes what is wrong with the account wrong with the run.
func runWide(err error) error {
	var e *mail.Error
	if errors.As(err, &e) && e.Scope == mail.ScopeAccount {
		return &mail.Error{Op: e.Op, Scope: mail.ScopeRun, Temporary: e.Temporary, After: e.After, Err: e.Err}
	}
	return err
}

// create makes a folder and subscribes to it. Parents come with it, by the
// standard (RFC 3501, section 6.3.3); for servers that want them first they are
// made one by one.
func (s *Sink) create(ctx context.Context, t *tree, path mail.Path) (*standing, error) {
	s.making.Lock()
	defer s.making.Unlock()
	s.mu.Lock()
	there := t.folders[path]
	raw := rawName(t, path)
	var parents []string // that are missing
	for _, above := range ancestors(path) {
		if t.folders[above] == nil {
			parents = append(parents, rawName(t, above))
		}
	}
	s.mu.Unlock()
	if there != nil && !there.noSelect {
		return there, nil // somebody else was faster
	}
	st := &standing{raw: raw}
	err := s.pool.Use(ctx, func(c *imapconn.Conn) error {
		err := c.Create(ctx, raw)
		if err != nil && !errors.Is(err, imapconn.ErrExists) && !mail.Temporary(err) {
			for _, above := range parents {
				// A parent that cannot be made shows in what follows.
				_ = c.Create(ctx, above)
			}
			err = c.Create(ctx, raw)
		}
		if err != nil && !errors.Is(err, imapconn.ErrExists) {
			return err
		}
		if err := c.Subscribe(ctx, raw); err != nil && !c.Broken() {
			s.note("%s could not be subscribed to (%v): some mail programs will not show it until you do", mail.Clean(string(path)), err)
		}
		return c.Status(ctx, []string{raw}, items(c), func(_ int, n imapconn.Counts) { st.counts = known(n) })
	})
	if err != nil {
		return nil, runWide(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.folders[path] == nil {
		t.order = append(t.order, path)
	}
	t.folders[path] = st
	return st, nil
}

func rawName(t *tree, path mail.Path) string {
	if st := t.folders[path]; st != nil {
		return st.raw
	}
	// Below a folder that is there its own bytes count, however it is spelled.
	if above := path.Parent(); above != "" && t.delimiter != 0 && t.folders[above] != nil {
		return t.folders[above].raw + string(rune(t.delimiter)) + imapconn.NameOf(path[len(above)+1:], t.delimiter)
	}
	return imapconn.NameOf(path, t.delimiter)
}

// ancestors are the folders around path, outermost first.
func ancestors(path mail.Path) (all []mail.Path) {
	for p := path.Parent(); p != ""; p = p.Parent() {
		all = append([]mail.Path{p}, all...)
	}
	return all
}
