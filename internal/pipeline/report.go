package pipeline

import (
	"time"

	"mailhaul/internal/mail"
	"mailhaul/source"
)

// An Event is progress, one flat record that prints and marshals as it is.
type Event struct {
	Time   time.Time
	Kind   Kind
	Folder mail.Path
	ID     source.ID
	Count  int64 // messages
	Bytes  int64
	Err    error
}

// A Kind says what an event tells.
type Kind string

const (
	Expected  Kind = "expected"  // about Count messages and Bytes may have to be read in Folder; -1 when unknown
	Planned   Kind = "planned"   // Count and Bytes more lie ahead in Folder
	Read      Kind = "read"      // Bytes more were read
	Stored    Kind = "stored"    // committed
	Duplicate Kind = "duplicate" // committed without being written
	Vanished  Kind = "vanished"  // listed, but gone when fetched
	Failed    Kind = "failed"    // a message, or with an empty ID the folder
	Retrying  Kind = "retrying"  // after a pause, because of Err
	InDoubt   Kind = "in_doubt"  // it may have arrived: nobody can tell; not brought again by itself
	Removed   Kind = "removed"   // deleted at the source, after the copy was read back
	Recovered Kind = "recovered" // Count messages of a run that died were found whole
	Missing   Kind = "missing"   // Count messages are not in the archive's folder any more
	Note      Kind = "note"      // worth saying; Err is the text; Count is 1 if it was said within the last month
	Folded    Kind = "folder"    // Folder is done; Count messages were listed
)

// A Report sums up a run. For each folder and in all:
// Listed = Known + Stored + Duplicate + Vanished + Filtered + Failed + Doubt + Accepted + Unreached.
type Report struct {
	Folders map[mail.Path]*Counts `json:"folders"`
	Total   Counts                `json:"total"`
	There   map[mail.Path]*Held   `json:"destination,omitempty"` // by its own folders, of those that were opened to write, where the store tells
	Failed  []Failure             `json:"failed,omitempty"`
	InDoubt []Failure             `json:"in_doubt,omitempty"` // may have arrived; of this run and of earlier ones
	Missing int64                 `json:"missing,omitempty"`  // found missing in the archive by this run
	Lost    []Gone                `json:"lost,omitempty"`     // still missing at its end
	Notes   []string              `json:"notes,omitempty"`
}

// Held are the numbers of messages of a folder of the destination, by its own
// word. Before + Added = After, unless others were at work there too.
type Held struct {
	Before int64 `json:"before"` // when the run began
	Added  int64 `json:"added"`  // by this run
	After  int64 `json:"after"`  // behind the last that was added
}

// A Filed report is what the catalog keeps of a run, as JSON.
type Filed struct {
	Report
	Account string `json:"account"`         // that mail was brought from
	Error   string `json:"error,omitempty"` // what ended the run early
}

// Interrupted is the Error of a run that its user has ended.
const Interrupted = "interrupted"

// Counts are messages, but for the last ones.
type Counts struct {
	Listed    int64 `json:"listed"`
	Known     int64 `json:"known"`
	Stored    int64 `json:"stored"`
	Duplicate int64 `json:"duplicate"`
	Vanished  int64 `json:"vanished"`
	Filtered  int64 `json:"filtered"`
	Failed    int64 `json:"failed"`
	Doubt     int64 `json:"in_doubt"`
	Accepted  int64 `json:"accepted"` // failed or in doubt earlier, and left as they are by the user's word
	Unreached int64 `json:"unreached"`

	Flagged int64 `json:"flagged"`      // known ones whose flags or labels changed
	Removed int64 `json:"removed"`      // of all but the unstored: deleted at the source
	Present int64 `json:"present"`      // of Duplicate: the destination had it, and we had not brought it
	Spared  int64 `json:"spared"`       // of Duplicate: not even downloaded
	Bytes   int64 `json:"bytes"`        // read from the source
	Written int64 `json:"stored_bytes"` // of Stored, in text form
	Saved   int64 `json:"saved_bytes"`  // of Duplicate, in text form
}

// Settled is the sum that must equal Listed.
func (c *Counts) Settled() int64 {
	return c.Known + c.Stored + c.Duplicate + c.Vanished + c.Filtered + c.Failed + c.Doubt + c.Accepted + c.Unreached
}

// committed is how many came into the archive.
func (c *Counts) committed() int64 { return c.Stored + c.Duplicate }

func (c *Counts) add(d *Counts) {
	c.Listed += d.Listed
	c.Known += d.Known
	c.Stored += d.Stored
	c.Duplicate += d.Duplicate
	c.Vanished += d.Vanished
	c.Filtered += d.Filtered
	c.Failed += d.Failed
	c.Doubt += d.Doubt
	c.Accepted += d.Accepted
	c.Unreached += d.Unreached
	c.Flagged += d.Flagged
	c.Removed += d.Removed
	c.Present += d.Present
	c.Spared += d.Spared
	c.Bytes += d.Bytes
	c.Written += d.Written
	c.Saved += d.Saved
}

// A Failure is a message, or with an empty ID a folder, that is not in the
// archive, or may not be, and why. With an empty Folder it is about folders that
// the list does not show.
type Failure struct {
	Folder mail.Path `json:"folder"`
	ID     source.ID `json:"id,omitempty"`
	Err    error     `json:"-"`
	Reason string    `json:"reason"`
}

// A Gone is a message that the archive had and has no more.
type Gone struct {
	Folder mail.Path   `json:"folder"`
	Digest mail.Digest `json:"-"`
	SHA256 string      `json:"sha256"`
}
