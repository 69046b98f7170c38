// Package sourcetest is the suite that every source must pass. It holds a
// source to the contract in package source with the messages of testmail: what
// is listed is complete, what is fetched is exact to the byte, whoever stops
// early or is cancelled gets away at once and leaves nothing running.
//
// A source's own test opens one over mail that the suite names:
//
//	func TestContract(t *testing.T) {
//		sourcetest.Run(t, func(tb sourcetest.TB, folders []sourcetest.Folder) sourcetest.Store {
//			...
//			return sourcetest.Store{Source: src}
//		})
//	}
package sourcetest

import (
	"context"
	"testing"

	"mailhaul/internal/mail"
	"mailhaul/internal/testmail"
	"mailhaul/source"
)

// A TB is a *testing.T, or what stands in for one where the suite itself is
// tested.
type TB interface {
	testmail.TB
	Errorf(format string, args ...any)
	Context() context.Context
}

// A Folder is what a source is to hold.
type Folder struct {
	Path     mail.Path
	Messages []testmail.Message
}

// A Store is a source over the wanted folders, and what its kind of store can
// and cannot do.
type Store struct {
	Source source.Source

	// Kept is what the store gives back of raw bytes; nil: the same.
	Kept func(raw []byte) []byte

	// Deliver brings messages in behind the source's back; nil: not possible.
	Deliver func(path mail.Path, messages ...testmail.Message)

	// Remove takes message i of a folder, as it was wanted, away behind the
	// source's back; nil: not possible.
	Remove func(path mail.Path, i int)

	// Left is what lies in a folder now, seen past the source; nil: nobody knows.
	Left func(path mail.Path) []testmail.Message

	// Pin makes the store keep message i of a folder, as it was wanted, when the
	// source removes it; nil: not possible.
	Pin func(path mail.Path, i int)

	// Loses tells of raw bytes that the store does not give back unspoilt; open
	// is not to deliver them. nil: there are none.
	Loses func(raw []byte) bool

	Bare   bool // neither flags nor dates are kept, as in a POP3 maildrop
	Single bool // there is one folder, INBOX; others that are wanted are left out
	Alone  bool // one mailbox can be open at a time
	Rough  bool // sizes in entries are estimates
}

// An Open makes a store that holds folders. What it starts ends with tb.
// Sources that have a number of connections allow at least four, unless the
// store is Alone.
type Open func(tb TB, folders []Folder) Store

// Run runs the suite, each check on a store of its own.
func Run(t *testing.T, open Open) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) { c.run(t, open) })
	}
}

// A check is one demand of the contract.
type check struct {
	name    string
	folders func() []Folder
	do      func(*trial)
}

var checks = []check{
	{"folders", several, folders},
	{"list", several, list},
	{"list an empty folder", empty, list},
	{"fetch the corpus", corpus, fetchCorpus},
	{"fetch a large message", large, fetchCorpus},
	{"fetch in pieces", few, fetchPieces},
	{"fetch nothing", few, fetchNothing},
	{"fetch one alone", few, fetchAlone},
	{"fetch within list", few, fetchWithinList},
	{"describe the corpus", corpus, describe},
	{"describe an empty folder", empty, describe},
	{"describe, cancelled", few, cancelDescribe},
	{"leave list early", few, leaveList},
	{"leave fetch early", few, leaveFetch},
	{"cancel list", few, cancelList},
	{"cancel fetch", few, cancelFetch},
	{"cancelled before", few, cancelledBefore},
	{"present", few, present},
	{"vanished", few, vanished},
	{"cursor", few, cursor},
	{"several at once", several, severalAtOnce},
	{"missing folder", few, missingFolder},
	{"close", few, closeEarly},
	{"reading removes nothing", few, keeps},
	{"remove", few, remove},
	{"remove nothing", few, removeNothing},
	{"remove again", few, removeAgain},
	{"remove everything", few, removeEverything},
	{"remove from a missing folder", few, removeElsewhere},
	{"remove, cancelled", few, removeCancelled},
	{"remove what is kept", few, removeKept},
	{"remove when closed", few, removeClosed},
}

func (c check) run(tb TB, open Open) {
	tb.Helper()
	before := strangers()
	tr := &trial{TB: tb, want: c.folders()}
	tr.Store = open(tb, tr.want)
	if tr.Single {
		tr.want = tr.want[:1]
	}
	if tr.Loses != nil {
		tr.want = tr.without(tr.Loses)
	}
	c.do(tr)
	tr.shut(tr.Source)
	tr.alone(before)
}

// Folders that the checks ask for. INBOX is always the first.

func few() []Folder {
	var messages []testmail.Message
	for m := range testmail.Generate(7, 40) {
		messages = append(messages, m)
	}
	return []Folder{{mail.Inbox, messages}}
}

func several() []Folder {
	all := few()
	rest := all[0].Messages
	return []Folder{
		{mail.Inbox, rest[:10]},
		{mail.Join("Work"), rest[10:12]},
		{mail.Join("Work", "Projects"), rest[5:20]}, // some are in INBOX too
		{mail.Join("Größe & Maße", "日本語"), rest[20:]},
		{mail.Join("Empty"), nil},
	}
}

func empty() []Folder { return []Folder{{mail.Inbox, nil}} }

func corpus() []Folder { return []Folder{{mail.Inbox, testmail.Corpus()}} }

func large() []Folder {
	return []Folder{{mail.Inbox, []testmail.Message{
		testmail.Letter("small", []byte("Subject: small\r\n\r\nbody\r\n")),
		testmail.Large(10_000_000),
		testmail.Letter("small too", []byte("Subject: small too\r\n\r\nbody\r\n")),
	}}}
}
