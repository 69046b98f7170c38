package pipeline

import (
	"context"
	"fmt"

	"mailhaul/internal/catalog"
	"mailhaul/internal/mail"
	"mailhaul/sink"
	"mailhaul/source"
)

// doubtful are the messages of a folder that may have arrived in an earlier
// run, or in an earlier try of this one: nobody can tell. They are listed in
// the report and left alone.
type doubtful struct {
	unsure map[source.ID]*catalog.Failure
	found  []*catalog.Failure   // listed at the source
	note   map[source.ID]string // what the sink wants to know of a message that it is given again
}

func (d *doubtful) is(x *catalog.Failure) {
	if d.unsure == nil {
		d.unsure = map[source.ID]*catalog.Failure{}
	}
	d.unsure[x.Entry.ID] = x
}

func (d *doubtful) notes(x *catalog.Failure) {
	if x.Note == "" {
		return
	}
	if d.note == nil {
		d.note = map[source.ID]string{}
	}
	d.note[x.Entry.ID] = x.Note
}

// listed reports whether e is in doubt. Another size under the same ID is
// another message.
func (d *doubtful) listed(e source.Entry) bool {
	x, ok := d.unsure[e.ID]
	if !ok || e.Size >= 0 && x.Entry.Size >= 0 && e.Size != x.Entry.Size {
		return false
	}
	d.found = append(d.found, x)
	return true
}

// unlisted finds those that a partial listing has left out, and counts them.
func (d *doubtful) unlisted() (n int64) {
	seen := map[source.ID]bool{}
	for _, x := range d.found {
		seen[x.Entry.ID] = true
	}
	for id, x := range d.unsure {
		if !seen[id] {
			d.found = append(d.found, x)
			n++
		}
	}
	return n
}

// remember learns which contents may have arrived. Where they are to be sent
// again only those that become doubtful in this run count.
func (r *run) remember(ctx context.Context) (err error) {
	r.doubts = map[mail.Digest]bool{}
	if !r.Options.Resend {
		r.doubts, err = r.Catalog.Doubts(ctx)
	}
	return err
}

func (r *run) doubted(d mail.Digest) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.doubts[d]
}

// errTwin is why a message is not put although it is not known itself.
var errTwin = fmt.Errorf("another message of the same content is in doubt: %w", sink.ErrUnknown)

// uncertain puts a message that may have arrived into the report.
func (f *folder) uncertain(id source.ID, err error) {
	f.mu.Lock()
	f.Doubt++
	f.report.InDoubt = append(f.report.InDoubt, Failure{Folder: f.Path, ID: id, Err: err, Reason: err.Error()})
	f.mu.Unlock()
	f.observe(Event{Kind: InDoubt, Folder: f.Path, ID: id, Count: 1, Err: err})
}
