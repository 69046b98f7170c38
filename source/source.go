// Package source defines where messages come from. Implementations live in
// the packages below it; sourcetest checks that they keep the contract.
//
// A source lists first and fetches afterwards: the listing is made of claims
// (ids, sizes, dates, flags), the core subtracts what it has, and only then
// asks for bodies. Reading never changes the store.
package source

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"mailhaul/internal/location"
	"mailhaul/internal/mail"
)

// A Source is one account or one local store, open for reading.
// Its methods may be called from several goroutines.
type Source interface {
	// Folders lists what there is to read. A store without folders, such as
	// a POP3 maildrop, lists one: INBOX. Folders that cannot hold messages are
	// left out.
	Folders(ctx context.Context) ([]Folder, error)

	// Open selects a folder. It waits while all connections that the
	// location allows are in use. A folder may be open more than once, each
	// time on a connection of its own.
	Open(ctx context.Context, path mail.Path) (Mailbox, error)

	Close() error
}

// A Folder is one line of a listing.
type Folder struct {
	Path     mail.Path
	Raw      string // the store's own name, byte for byte: the folder's identity there
	Role     string // "inbox", "all", "archive", "drafts", "flagged", "important", "junk", "sent", "trash" (RFC 6154); empty when unknown
	Messages int64  // -1 when not known without opening
	Bytes    int64  // an estimate for progress; -1 when unknown
	State    Cursor // equal to the stored one: nothing to do; empty: open it to see
	Mute     bool   // State stays the same when only flags change
	Print    string // the same for the same folder under another address, and hardly for another one; empty: not known
}

// A Mailbox is one folder on one connection, used by one goroutine.
// Reading never changes it: no message becomes seen or disappears.
type Mailbox interface {
	// Epoch names the numbering that IDs belong to: UIDVALIDITY for IMAP, a
	// constant where IDs never get reused.
	Epoch() string

	// List yields every message, without its body, in windows of bounded
	// size: no command is open between two windows, so Fetch may be called
	// inside the loop. It is the only place where claimed sizes, dates and
	// flags come from. A non-empty cursor allows, but does not oblige, the
	// mailbox to leave out what was there before; Listing tells what it did.
	// When the store has gone back behind the cursor (UIDNEXT or HIGHESTMODSEQ
	// smaller), List ends in ErrRewound and nothing known may be trusted.
	List(ctx context.Context, since Cursor) iter.Seq2[Entry, error]

	// Listing describes the last List that has ended without error. Partial is
	// settled before that List yields its first entry.
	Listing() Listing

	// Fetch yields the bodies of wanted entries, each at most once, in any
	// order. It asks next for more while answers are still outstanding
	// (wait false: nil means no room just now) and with wait true when none
	// are; nil then ends the loop. So the line is never idle. What the
	// server does not deliver is left out; the caller asks again for it
	// alone before believing that it has vanished. A body must be read
	// before the next step of the loop, and ends in an error unless it is
	// complete. An error of message scope yields with the message's Entry and
	// a nil Body, and the loop goes on; any other error ends it.
	Fetch(ctx context.Context, next func(wait bool) []Entry) iter.Seq2[*Message, error]

	// Present tells which of ids the store still has.
	Present(ctx context.Context, ids []ID) (map[ID]bool, error)

	Close() error
}

// A Listing sums up one List.
type Listing struct {
	Cursor   Cursor // where a later List may continue; empty: nowhere
	Messages int64  // in the folder, yielded or not
	Partial  bool   // unchanged messages were left out
	Hides    bool   // what is not listed may be there all the same (Gmail's POP3)
	Gone     []Span // with Partial: what the store says is not there any more, whether or not it ever was; the core asks Present before it believes it
}

// A Span is a run of IDs that are numbers, both ends included.
type Span struct{ First, Last uint64 }

// A Newer is a Mailbox that can spare the look at what was there before, where
// the store does not tell which flags have changed. ListNew is List, but may
// leave out changed flags as well.
type Newer interface {
	ListNew(ctx context.Context, since Cursor) iter.Seq2[Entry, error]
}

// ErrRewound is returned when a store was set back to an older state.
var ErrRewound = errors.New("the server has gone back to an older state")

// ErrEpoch is returned, within an error of folder scope, when a mailbox finds
// its epoch changed while it is open: nothing that was listed may be used.
var ErrEpoch = errors.New("the server has renumbered the folder")

// An ID is stable within a folder and an epoch: an IMAP UID, a POP3
// unique-id, the unique part of a Maildir name.
type ID string

// A Cursor is opaque outside the source that made it.
type Cursor string

// An Entry is what the store claims about a message. A message is known when
// ID, claimed size and claimed date are those recorded.
type Entry struct {
	ID     ID
	Size   int64     // in octets as claimed; -1 when unknown
	Date   time.Time // arrival, not the Date header; zero when unknown
	Flags  mail.Flags
	Labels []string
	Global string // identity across folders where offered (EMAILID, X-GM-MSGID)
	Brief  bool   // the date and Global were not asked for: with a cursor, for what should be known
}

// A Message is an entry with its one-shot body: the bytes that the store
// gives, unchanged.
type Message struct {
	Entry
	Body io.Reader
}

// A Describer is a Mailbox that can tell more of a message than its entry,
// for less than its body: what a comparison needs. Messages that are gone are
// left out; the order is any.
type Describer interface {
	Describe(ctx context.Context, entries []Entry) iter.Seq2[Description, error]
}

// A Description is what can be said of a message without comparing it byte by
// byte.
type Description struct {
	ID        ID
	Size      int64       // in octets, as stored there
	MessageID string      // as it stands in the header, without blanks around it; empty when there is none
	Head      mail.Digest // of the header's text form; another one, perhaps, where the text form is kept as received (mail.Summary)
	Digest    mail.Digest // of the whole text form; zero when the bytes are not at hand
}

// A Remover is a Source that can delete. It opens a session of its own, is
// called only for messages that were committed, read back and found equal, and
// returns those whose removal the server has confirmed (POP3: after the answer
// to QUIT).
type Remover interface {
	Remove(ctx context.Context, path mail.Path, ids []ID) (gone []ID, err error)
}

// A Prover is a Remover in whose store an ID may come to name another message
// than the one that was committed: POP3 servers deal unique-ids out again. Told
// before Remove what each is, it looks, and leaves alone what is something else.
type Prover interface {
	Expect(proofs map[ID]Proof)
}

// A Proof is what a committed message was found to be when it was read back:
// the digests of its text form and of the header in it.
type Proof struct{ Text, Header mail.Digest }

// A Watcher is a Mailbox that can wait until something may have changed.
type Watcher interface {
	Watch(ctx context.Context) error
}

// A Pager is a Mailbox of a store that shows its mail by pages: Gmail's POP3
// lists some hundred messages and hides them once they were retrieved in a
// session that has ended well. More is called once everything that was listed
// is committed; true means that the folder is to be opened and listed again.
// What an earlier page showed is not gone because a later one lacks it.
type Pager interface {
	More(ctx context.Context) bool
}

// A Gapped is a Source that may find folders which it cannot list. It tells why,
// for each; a run with gaps has not brought everything.
type Gapped interface {
	Gaps() []string
}

// A Noter is a Source that has something to tell at the end: alerts of the
// server, sizes that were wrong, extensions that are missing.
type Noter interface {
	Notes() []string
}

// A Scheme is a kind of source, a Registry the kinds compiled in.
type (
	Scheme   = location.Scheme[Source]
	Registry = location.Registry[Source]
)
