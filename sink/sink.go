// Package sink defines where messages go. Implementations live in the
// packages below it; sinktest checks that they keep the contract.
//
// A sink has four moments: Mark, Put, Sync, Recover. Recovery after a crash,
// a failed batch and a full disk all end in Recover: one code path.
package sink

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"mailhaul/internal/location"
	"mailhaul/internal/mail"
)

// A Sink is a destination, open for writing by this process alone. Its
// methods may be called from several goroutines.
type Sink interface {
	// Open returns a folder. It makes the folder only when create is true;
	// otherwise a missing one is fs.ErrNotExist. A folder is open once at a
	// time; several may be opened at once.
	Open(ctx context.Context, path mail.Path, create bool) (Folder, error)
	Close() error
}

// A Local is a Sink on this machine.
type Local interface {
	// Home tells the archive's directory and the name, in it, of the directory
	// for the catalog: one that no reader of the mail takes for a folder.
	Home() (dir, state string)
}

// A Remote is a Sink elsewhere. What the catalog remembers of it lies in the
// user's state directory, under a name made of its identity.
type Remote interface {
	// Identity names the destination in a word, the same in every run:
	// "imap:ann@mail.example.org".
	Identity() string
}

// A Planned is a Sink with a tree of folders of its own, which decides what
// folders may be called and where they go.
type Planned interface {
	Layout(ctx context.Context) (Layout, error)
}

// A Layout is what there is before anything is written.
type Layout struct {
	Folders   []Standing
	Delimiter byte      // of the hierarchy; 0: it is flat
	Prefix    mail.Path // where the user's folders lie (RFC 2342): "INBOX" on some servers, usually empty
	Gmail     bool      // folders are labels
	Copies    bool      // folders are Copiers
	Most      int64     // octets of one message that may be brought; 0: not told
	Free      int64     // octets that there is room for; -1: not told
}

// A Standing is a folder that is there.
type Standing struct {
	Path     mail.Path
	Raw      string // the store's own name
	Role     string // as in a source's listing
	NoMail   bool   // it holds other folders only
	Messages int64
	Print    string // as in a source's listing
}

// ErrFull marks an error of the scope of a run: there is no more room.
var ErrFull = errors.New("the destination is full")

// A Matcher is a Folder that others fill, too. A message may lie in it that the
// catalog knows nothing of, and numbers may be dealt anew.
type Matcher interface {
	// Match finds for each wanted message one that is there already, each for
	// one only, or gives "" where there is none or nobody can tell. Places for
	// which ours is true are left alone, and so is what was found before. It is
	// called before the batch is begun.
	Match(ctx context.Context, want []Want, ours func(Place) bool) ([]Place, error)

	// Stale reports whether a place belongs to numbers that hold no longer.
	Stale(ctx context.Context, at Place) (bool, error)
}

// A Folder takes messages in batches: one Mark, any number of Put, Link and Copy,
// one Sync. After a batch that did not reach its commit, in this process or in
// one that died, Recover says what became of it. It is used by one goroutine
// at a time.
type Folder interface {
	// State describes the folder as it is now (mbox: inode, length, time,
	// hash of the last separator; Maildir: times of cur and new; IMAP:
	// UIDVALIDITY, UIDNEXT). It is stored with each commit; a later run that
	// finds another one knows that somebody else was here.
	State(ctx context.Context) (State, error)

	// Mark names the spot where the next Put would land, and holds the
	// folder's lock until Sync or Recover returns.
	Mark(ctx context.Context) (Mark, error)

	// Put writes one message, or queues it. It counts only once Sync has
	// returned, and m must stay as it is until then. An error means that the
	// batch has failed and Recover must follow.
	Put(ctx context.Context, m *Message) error

	// Sync makes every Put so far survive a power cut and tells, in their
	// order, what became of each.
	Sync(ctx context.Context) ([]Result, error)

	// Recover looks at what lies behind mark; an empty mark means the whole
	// folder. For each wanted message it returns its place if it arrived
	// whole, or "" if not. Only complete messages behind mark stay; torn bytes
	// are moved aside, never deleted, so that Put can follow. A sink that
	// cannot look returns ErrUnknown, and the messages are in doubt: they are
	// named in every report, and put again only when the user asks for it. What
	// such a sink knows of a batch of this very process it tells as others do.
	Recover(ctx context.Context, mark Mark, want []Want) ([]Place, error)

	Close() error
}

// A Result is the outcome of one Put: a place, or the reason why not.
type Result struct {
	Place Place
	Err   error  // with ScopeMessage: this message only; ErrUnknown: in doubt
	Note  string // with Err: what the next Put of this message should know, in the sink's own words

	Present bool // with Place: the message was there already, and the store keeps each once
	Brought bool // of a Copy: there was nothing to copy, and the bytes were brought
}

// ErrUnknown is returned by Recover when there is nothing to look at, as
// after handing a message to an SMTP server.
var ErrUnknown = errors.New("cannot tell whether the message arrived")

// Mark, Place and State are opaque outside the sink that made them; all are
// stored. Those of IMAP carry UIDVALIDITY.
type (
	Mark  string // mbox: a length; IMAP: a UIDNEXT; Maildir: "-"
	Place string // mbox: offset and length; IMAP: UID; Maildir: a name
	State string
)

// A Want is a message that a batch means to write. Everything in it is settled
// before the intention is stored.
type Want struct {
	Name      string // stable, unique in the folder, fit for a file name: letters, digits, "." and "-"
	Digest    mail.Digest
	Text      int64 // size of the text form, LF
	Lines     int64 // lines of the text form: Text+Lines is the size with CRLF
	Date      time.Time
	Sender    string      // of the envelope, for mbox's separator line; empty when unknown
	MessageID string      // a hint for destinations that change messages
	Head      mail.Digest // of the header's text form, likewise
	Flags     mail.Flags  // as it is put; equal messages may be told apart by them
}

// A Message is a message at rest: its size and digest are facts, and its body
// can be read as often as needed, from several goroutines.
type Message struct {
	Want
	Ends   mail.Ends
	Labels []string
	Note   string                        // of the Result of an earlier Put that failed; empty: there is none
	Plain  bool                          // no line of the text begins with "From " behind any number of ">"; false: one may
	Open   func() (io.ReadCloser, error) // the text form
}

// A Limited is a Folder that takes few messages a batch: what cannot be looked
// for afterwards is in doubt when a run dies, and so should be no more than
// what was in flight.
type Limited interface {
	Most() int
}

// A Flagger is a Folder that can change the flags of stored messages; doing
// so twice is harmless. It returns when the change will survive a power cut.
// A place that is not there any more is passed over.
type Flagger interface {
	SetFlags(ctx context.Context, at []Place, flags []mail.Flags) error
}

// A Counter is a Folder whose store tells how many messages are in it.
type Counter interface {
	// Count is that number as the store told it last, or -1 where it says
	// nothing of what was put here.
	Count() int64
}

// A Linker is a Folder that can show a message stored elsewhere in the same
// sink, or in the same folder, without storing it twice. It is put, synced and
// recovered like a Put, and may fall back to m.Open where a link cannot be made.
type Linker interface {
	Link(ctx context.Context, m *Message, from mail.Path, at Place) error
}

// A Copier is a Folder of a store that makes another message of one that lies
// elsewhere in the same sink, or in the same folder: of its bytes, and with the
// flags and the date that it has there. It is put, synced and recovered like a
// Put, and what is stored is exactly what a Put would have stored: of a message
// with other flags, another date or another size no copy is made. Then the bytes
// are brought, by m.Open, which must not read from this sink. Where m.Open is nil
// no bytes are at hand, and the outcome is ErrNotCopied, or fs.ErrNotExist where
// nothing lies at that place.
type Copier interface {
	Copy(ctx context.Context, m *Message, from mail.Path, at Place) error
}

// ErrNotCopied marks an error of the scope of a message whose bytes must be
// brought: no copy can be made of what is stored.
var ErrNotCopied = errors.New("no copy can be made of the stored message")

// A Reader is a Folder that can give a stored message back, in text form. In a
// Local sink Read may be called from several goroutines, and while a Scan is
// under way.
type Reader interface {
	Read(ctx context.Context, at Place) (io.ReadCloser, error)
}

// A Lister is a Sink that can tell which folders it holds.
type Lister interface {
	Folders(ctx context.Context) ([]mail.Path, error)
}

// A Remover is a Folder that can drop messages, for retention.
type Remover interface {
	Remove(ctx context.Context, at []Place) error
}

// A Scanner is a Folder that can tell what it holds: with full, every message
// is read and its digest taken; otherwise places and sizes only.
type Scanner interface {
	Scan(ctx context.Context, full bool) iter.Seq2[Found, error]
}

// A Looker is a Folder that can tell, without reading it, whether a message with
// a text form of that size may lie at a place. Where none does the error is
// fs.ErrNotExist; any other says what is wrong with it.
type Looker interface {
	Look(ctx context.Context, at Place, text int64) error
}

// A Clearer is a Folder in which a message that is not as it was stored is in
// the way of a good copy. Clear moves it out of the folder and tells where to,
// on the disk; nothing is deleted. A message that is not there is
// fs.ErrNotExist.
type Clearer interface {
	Clear(ctx context.Context, at Place) (to string, err error)
}

// A Found is one stored message. Other is the folded digest where it differs,
// as in mail of other programs; either may match.
type Found struct {
	Digest, Other mail.Digest
	Size          int64 // of the text form, with full; else what the place takes in the store
	Lines         int64 // of the text form, with full
	Place         Place
	Date          time.Time
	Flags         mail.Flags

	// Open reads its text form, in a Local sink, without looking for it again.
	// It may be called until the scan goes on; what it gives may be read by
	// another goroutine, until the folder is closed.
	Open func() (io.ReadCloser, error)
}

// A Salvager is a Folder that can tell how many bytes its Recover has set aside
// since it was opened.
type Salvager interface {
	SetAside() int64
}

type (
	Scheme   = location.Scheme[Sink]
	Registry = location.Registry[Sink]
)
