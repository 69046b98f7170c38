package testmail

import (
	"bytes"
	"io"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"

	"mailhaul/internal/mail"
)

// session is one connection to Memory. Before login the embedded session is
// nil; go-imap checks the state before it calls anything of it.
type session struct {
	*imapmemserver.UserSession
	memory   *Memory
	password string
	validity uint32 // of the folder that is open
	readOnly bool
}

func (s *session) Close() error {
	if s.UserSession == nil {
		return nil
	}
	return s.UserSession.Close()
}

func (s *session) Login(user, password string) error {
	s.memory.note("LOGIN %s", user)
	if err := s.memory.user.Login(user, password); err != nil {
		return err
	}
	s.UserSession = imapmemserver.NewUserSession(s.memory.user)
	return nil
}

func (s *session) Select(folder string, o *imap.SelectOptions) (*imap.SelectData, error) {
	verb := "SELECT"
	if o.ReadOnly {
		verb = "EXAMINE"
	}
	s.memory.note("%s %q", verb, folder)
	data, err := s.UserSession.Select(folder, o)
	if err == nil {
		s.validity, s.readOnly = data.UIDValidity, o.ReadOnly
	}
	return data, err
}

func (s *session) List(w *imapserver.ListWriter, ref string, patterns []string, o *imap.ListOptions) error {
	s.memory.note("LIST %q %q", ref, patterns)
	return s.UserSession.List(w, ref, patterns, o)
}

func (s *session) Status(folder string, o *imap.StatusOptions) (*imap.StatusData, error) {
	s.memory.note("STATUS %q", folder)
	return s.UserSession.Status(folder, o)
}

func (s *session) Create(folder string, o *imap.CreateOptions) error {
	s.memory.note("CREATE %q", folder)
	return s.UserSession.Create(folder, o)
}

func (s *session) Delete(folder string) error {
	s.memory.note("DELETE %q", folder)
	return s.UserSession.Delete(folder)
}

func (s *session) Rename(from, to string, o *imap.RenameOptions) error {
	s.memory.note("RENAME %q %q", from, to)
	return s.UserSession.Rename(from, to, o)
}

func (s *session) Append(folder string, r imap.LiteralReader, o *imap.AppendOptions) (*imap.AppendData, error) {
	s.memory.note("APPEND %q %d", folder, r.Size())
	raw := make([]byte, r.Size())
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, err
	}
	msg := Letter("appended", raw)
	msg.Date = o.Time
	msg.Flags = flagsOf(o.Flags)
	return s.memory.keep(folder, msg, raw)
}

func (s *session) Search(kind imapserver.NumKind, c *imap.SearchCriteria, o *imap.SearchOptions) (*imap.SearchData, error) {
	s.memory.note("SEARCH")
	return s.UserSession.Search(kind, c, o)
}

func (s *session) Expunge(w *imapserver.ExpungeWriter, uids *imap.UIDSet) error {
	if s.readOnly {
		return errReadOnly
	}
	s.memory.note("EXPUNGE")
	return s.UserSession.Expunge(w, uids)
}

// Move is not offered: its answer cannot be looked into for the new numbers.
func (s *session) Move(*imapserver.MoveWriter, imap.NumSet, string) error {
	return &imap.Error{Type: imap.StatusResponseTypeBad, Text: "MOVE is not offered"}
}

func (s *session) Copy(set imap.NumSet, dest string) (*imap.CopyData, error) {
	s.memory.note("COPY %s %q", set, dest)
	s.memory.mu.Lock()
	defer s.memory.mu.Unlock()
	data, err := s.UserSession.Copy(set, dest)
	if err != nil {
		return nil, err
	}
	from, _ := data.SourceUIDs.Nums()
	to, _ := data.DestUIDs.Nums()
	for i := range min(len(from), len(to)) {
		if k := s.memory.kept[s.validity][from[i]]; k != nil {
			twin := *k
			s.memory.put(data.UIDValidity, to[i], &twin)
		}
	}
	return data, nil
}

func (s *session) Store(w *imapserver.FetchWriter, set imap.NumSet, f *imap.StoreFlags, o *imap.StoreOptions) error {
	s.memory.note("STORE %s", set)
	if s.readOnly {
		return errReadOnly
	}
	found, err := s.find(set)
	if err != nil {
		return err
	}
	s.change(found, f.Op, f.Flags)
	silent := *f
	silent.Silent = true
	if err := s.UserSession.Store(w, set, &silent, o); err != nil || f.Silent {
		return err
	}
	return s.answer(w, found, &imap.FetchOptions{UID: true, Flags: true})
}

func (s *session) change(found []position, op imap.StoreFlagsOp, flags []imap.Flag) {
	s.memory.mu.Lock()
	defer s.memory.mu.Unlock()
	given := flagsOf(flags)
	for _, p := range found {
		var names []string
		for _, f := range p.kept.Flags {
			if op == imap.StoreFlagsAdd || op == imap.StoreFlagsDel && !given.Has(f) {
				names = append(names, string(f))
			}
		}
		if op != imap.StoreFlagsDel {
			for _, f := range given {
				names = append(names, string(f))
			}
		}
		p.kept.Flags = mail.NewFlags(names...)
	}
}

// Fetch answers what backups ask for from the bytes as they were stored. Parts
// of messages, envelopes and the like are left to go-imap.
func (s *session) Fetch(w *imapserver.FetchWriter, set imap.NumSet, o *imap.FetchOptions) error {
	s.memory.note("FETCH %s%s", set, wanted(o))
	if !plain(o) {
		return s.UserSession.Fetch(w, set, o)
	}
	found, err := s.find(set)
	if err != nil {
		return err
	}
	if marks(o) && !s.readOnly {
		seen := []imap.Flag{imap.FlagSeen}
		s.change(found, imap.StoreFlagsAdd, seen)
		err := s.UserSession.Store(w, set, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: seen}, &imap.StoreOptions{})
		if err != nil {
			return err
		}
	}
	return s.answer(w, found, o)
}

// plain reports whether o asks for nothing but what is kept.
func plain(o *imap.FetchOptions) bool {
	for _, b := range o.BodySection {
		if b.Specifier != imap.PartSpecifierNone || len(b.Part) > 0 {
			return false
		}
	}
	return !o.Envelope && o.BodyStructure == nil && !o.ModSeq &&
		len(o.BinarySection) == 0 && len(o.BinarySectionSize) == 0
}

// marks reports whether o makes messages seen (RFC 3501, section 6.4.5).
func marks(o *imap.FetchOptions) bool {
	for _, b := range o.BodySection {
		if !b.Peek {
			return true
		}
	}
	return false
}

func wanted(o *imap.FetchOptions) string {
	switch {
	case len(o.BodySection) == 0:
		return ""
	case marks(o):
		return " BODY[]"
	}
	return " BODY.PEEK[]"
}

// A position is a message of the open folder and its number in this session.
type position struct {
	seq  uint32
	uid  imap.UID
	kept *kept
}

// find looks a set up twice, by UID and by number: both answers are in the
// order of the folder. Messages that this client has not been told of have no
// number and stand at the end.
func (s *session) find(set imap.NumSet) ([]position, error) {
	criteria := func() *imap.SearchCriteria {
		switch set := set.(type) {
		case imap.SeqSet:
			return &imap.SearchCriteria{SeqNum: []imap.SeqSet{append(imap.SeqSet(nil), set...)}}
		case imap.UIDSet:
			return &imap.SearchCriteria{UID: []imap.UIDSet{append(imap.UIDSet(nil), set...)}}
		}
		return &imap.SearchCriteria{}
	}
	byUID, err := s.UserSession.Search(imapserver.NumKindUID, criteria(), &imap.SearchOptions{})
	if err != nil {
		return nil, err
	}
	bySeq, err := s.UserSession.Search(imapserver.NumKindSeq, criteria(), &imap.SearchOptions{})
	if err != nil {
		return nil, err
	}
	byUIDs, _ := byUID.All.(imap.UIDSet)
	bySeqs, _ := bySeq.All.(imap.SeqSet)
	uids, _ := byUIDs.Nums()
	seqs, _ := bySeqs.Nums()

	s.memory.mu.Lock()
	defer s.memory.mu.Unlock()
	var found []position
	for i := range min(len(uids), len(seqs)) {
		if k := s.memory.kept[s.validity][uids[i]]; k != nil {
			found = append(found, position{seqs[i], uids[i], k})
		}
	}
	return found, nil
}

// answer writes one FETCH response a message, with no lock held while the
// client reads.
func (s *session) answer(w *imapserver.FetchWriter, found []position, o *imap.FetchOptions) error {
	for _, p := range found {
		s.memory.mu.Lock()
		k := *p.kept
		s.memory.bodies += len(o.BodySection)
		s.memory.mu.Unlock()
		if err := reply(w.CreateMessage(p.seq), p.uid, k, o); err != nil {
			return err
		}
	}
	return nil
}

func reply(w *imapserver.FetchResponseWriter, uid imap.UID, k kept, o *imap.FetchOptions) error {
	w.WriteUID(uid)
	if o.Flags {
		var flags []imap.Flag
		for _, f := range k.Flags {
			flags = append(flags, imap.Flag(f))
		}
		w.WriteFlags(flags)
	}
	if o.InternalDate {
		w.WriteInternalDate(k.Date)
	}
	if o.RFC822Size {
		w.WriteRFC822Size(int64(len(k.raw)))
	}
	for _, section := range o.BodySection {
		raw := part(k.raw, section.Partial)
		body := w.WriteBodySection(section, int64(len(raw)))
		_, err := io.Copy(body, bytes.NewReader(raw))
		if closing := body.Close(); err == nil {
			err = closing
		}
		if err != nil {
			w.Close()
			return err
		}
	}
	return w.Close()
}

// part is the octets that a partial fetch asks for.
func part(raw []byte, p *imap.SectionPartial) []byte {
	if p == nil {
		return raw
	}
	from := min(p.Offset, int64(len(raw)))
	return raw[from:min(from+p.Size, int64(len(raw)))]
}

var errReadOnly = &imap.Error{Type: imap.StatusResponseTypeNo, Text: "the folder is open for reading only"}
