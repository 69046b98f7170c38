package imapconn

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
)

// mostFound is the longest line that may answer Search: enough for 700,000 UIDs
// of seven digits that all stand alone.
const mostFound = 6 << 20

// Searches reports whether Search may be asked. iCloud is not: it has answered
// searches for UIDs with what looks like positions (PEERS: msgvault #436).
func (c *Conn) Searches() bool {
	return (c.Has("ESEARCH") || c.Has("IMAP4REV2")) && !c.icloud()
}

// Search asks which UIDs the messages of the open folder have, up to last, in
// ranges that ascend (RFC 4731). It takes no answer that does not prove itself,
// for servers have been seen to cut the results of a search short: it must be
// the one to this command, and in UIDs; and as many as count must be there, by
// the server's own number and by those in the set. Otherwise ok is false, and
// the connection as good as before.
//
// What is proven is how many there are, and not that they have these UIDs.
func (c *Conn) Search(ctx context.Context, last uint32, count uint64) (there []Range, ok bool, err error) {
	stop := c.nc.Follow(ctx)
	defer stop()
	c.wire.most = mostFound
	defer func() { c.wire.most, c.wire.long = 0, nil }()
	answers := 0
	_, err = c.run(func(r response) (bool, error) {
		if r.word != "ESEARCH" {
			return false, nil // SEARCH is the answer of one that has overlooked RETURN
		}
		answers++
		var err error
		there, err = r.found(c.tag(), last, count)
		if errors.Is(err, errSyntax) {
			// This is no reason to give the connection up: a line of which
			// nothing is used ends where it ends.
			there, answers = nil, 2
			return false, nil
		}
		return true, err
	}, fmt.Sprintf("UID SEARCH RETURN (ALL COUNT) UID 1:%d", last))
	if err == nil {
		err = c.epoch
	}
	var refused *Status
	if errors.As(err, &refused) && c.broken() == nil {
		return nil, false, nil
	}
	if err != nil || answers != 1 {
		return nil, false, c.folder("list", err)
	}
	return there, true, nil
}

// found reads `(TAG "M5") UID COUNT 3 ALL 2:4`. Whatever else the server adds is
// passed over (RFC 4466, section 2.6.2).
func (s *scan) found(tag string, last uint32, count uint64) (there []Range, err error) {
	if err := s.correlator(tag); err != nil {
		return nil, err
	}
	s.spaces()
	if fold(s.word()) != "UID" {
		return nil, s.wrong("no UIDs")
	}
	counted, listed := false, false
	for s.spaces(); len(s.b) > 0; s.spaces() {
		item := fold(s.word())
		s.spaces()
		switch {
		case item == "COUNT" && !counted:
			counted = true
			n, err := s.number()
			if err != nil {
				return nil, err
			}
			if n != count || s.peek() != ' ' && s.peek() != 0 {
				return nil, s.wrong("not as many messages as there are")
			}
		case item == "ALL" && !listed:
			listed = true
			if there, err = members(s.word(), last, count); err != nil {
				return nil, err
			}
		case item == "" || item == "COUNT" || item == "ALL":
			return nil, s.wrong("no result of a search")
		default:
			if err := s.skip(); err != nil {
				return nil, err
			}
		}
	}
	// RFC 4731, section 3.1: where nothing is found there is no ALL.
	if !counted || listed != (count > 0) {
		return nil, s.wrong("not all that was asked for")
	}
	return there, nil
}

// correlator reads `(TAG "M5")`.
func (s *scan) correlator(tag string) error {
	if !s.take('(') || fold(s.word()) != "TAG" {
		return s.wrong("no tag")
	}
	s.spaces()
	got, _, err := s.text()
	if err != nil {
		return err
	}
	if string(got) != tag || !s.take(')') {
		return s.wrong("the tag of another command")
	}
	return nil
}

// members reads the set of an answer: count UIDs, each once, up to last. They
// may come in any order (RFC 4731, section 3.1).
func members(set []byte, last uint32, count uint64) ([]Range, error) {
	bad := func() ([]Range, error) { return nil, fmt.Errorf("%w: the set %.60q", errSyntax, set) }
	var all []Range
	sum := uint64(0)
	for rest, more := set, true; more; {
		var part []byte
		part, rest, more = bytes.Cut(rest, []byte(","))
		r, ok := rangeOf(part)
		if !ok || r.Last > last || len(all) == mostRanges {
			return bad()
		}
		// Looked at each time, so that no more is kept than there may be.
		if sum += uint64(r.Last-r.First) + 1; sum > count {
			return bad()
		}
		all = append(all, r)
	}
	byFirst := func(a, b Range) int { return cmp.Compare(a.First, b.First) }
	if !slices.IsSortedFunc(all, byFirst) {
		slices.SortFunc(all, byFirst)
	}
	for i := 1; i < len(all); i++ {
		if all[i].First <= all[i-1].Last {
			return bad()
		}
	}
	if sum != count {
		return bad()
	}
	return all, nil
}
