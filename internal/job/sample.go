package job

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"mailhaul/internal/catalog"
	"mailhaul/internal/mail"
	"mailhaul/sink"
	"mailhaul/source"
)

// A sampler is one Sample under way.
type sampler struct {
	Sampling
	*Sample
	sink    sink.Sink
	cat     *catalog.Catalog
	src     source.Source
	account string

	first source.Entry // of everything listed: taken where chance has chosen nothing
	in    mail.Path
	any   bool
	taken bool
}

// mostAtOnce is how many messages are asked for in one go.
const mostAtOnce = 100

func (k *sampler) run(ctx context.Context) error {
	folders, err := k.src.Folders(ctx)
	if err != nil {
		return err
	}
	for _, f := range folders {
		if err := k.folder(ctx, f.Path, k.choose); err != nil {
			return fmt.Errorf("%s: %w", mail.Clean(string(f.Path)), err)
		}
	}
	if k.any && !k.taken {
		return k.folder(ctx, k.in, func(ctx context.Context, box source.Mailbox, path mail.Path) ([]source.Entry, error) {
			return []source.Entry{k.first}, nil
		})
	}
	return nil
}

// choose takes some of what a folder lists.
func (k *sampler) choose(ctx context.Context, box source.Mailbox, path mail.Path) (some []source.Entry, err error) {
	for e, err := range box.List(ctx, "") {
		if err != nil {
			return nil, err
		}
		if !k.any {
			k.any, k.first, k.in = true, e, path
		}
		if k.Share >= 1 || k.Pick() < k.Share {
			some = append(some, e)
			k.taken = true
		}
	}
	return some, nil
}

func (k *sampler) folder(ctx context.Context, path mail.Path, choose func(context.Context, source.Mailbox, mail.Path) ([]source.Entry, error)) error {
	box, err := k.src.Open(ctx, path)
	if err != nil {
		return err
	}
	defer box.Close()
	some, err := choose(ctx, box, path)
	if err != nil {
		return err
	}
	bytes := int64(0)
	for _, e := range some {
		bytes += max(e.Size, 0)
	}
	if len(some) > 0 {
		k.Planned(int64(len(some)), bytes)
	}
	for len(some) > 0 {
		n := min(len(some), mostAtOnce)
		if err := k.compare(ctx, box, path, some[:n]); err != nil {
			return err
		}
		some = some[n:]
	}
	return nil
}

// compare looks at some messages of a folder.
func (k *sampler) compare(ctx context.Context, box source.Mailbox, path mail.Path, some []source.Entry) error {
	copies := map[source.ID]catalog.Copy{}
	var wanted []source.Entry
	for _, e := range some {
		x, ok, err := k.cat.Located(ctx, k.account, path, e.ID)
		if err != nil {
			return err
		}
		epoch, _, _ := strings.Cut(x.Epoch, "#")
		if !ok || epoch != box.Epoch() || x.Lost {
			k.Unknown++ // the comparison, and the look at the archive, name it
			k.Progress(path, 1, 0)
			continue
		}
		copies[e.ID] = x
		wanted = append(wanted, e)
	}
	left, err := k.fetch(ctx, box, path, wanted, copies)
	// What did not come together comes alone, or says why not.
	for i := 0; i < len(left) && err == nil; i++ {
		var still []source.Entry
		if still, err = k.fetch(ctx, box, path, left[i:i+1], copies); err != nil || len(still) == 0 {
			continue
		}
		var there map[source.ID]bool
		if there, err = box.Present(ctx, []source.ID{left[i].ID}); err != nil {
			break
		}
		if there[left[i].ID] {
			k.differs(path, left[i].ID, false, "the server lists it and does not deliver it")
		} else {
			k.Vanished++
			k.Progress(path, 1, 0)
		}
	}
	return err
}

// fetch downloads messages and returns those that did not come.
func (k *sampler) fetch(ctx context.Context, box source.Mailbox, path mail.Path, wanted []source.Entry, copies map[source.ID]catalog.Copy) (left []source.Entry, err error) {
	if len(wanted) == 0 {
		return nil, nil
	}
	came := map[source.ID]bool{}
	rest := wanted
	next := func(bool) []source.Entry {
		now := rest
		rest = nil
		return now
	}
	for m, ferr := range box.Fetch(ctx, next) {
		if ferr != nil && (m == nil || mail.ScopeOf(ferr, mail.ScopeFolder) != mail.ScopeMessage) {
			return nil, ferr
		}
		x, ok := copies[m.ID]
		if !ok || came[m.ID] {
			continue
		}
		came[m.ID] = true
		if ferr != nil {
			k.differs(path, m.ID, false, mail.Clean(ferr.Error()))
			continue
		}
		if err := k.one(ctx, path, m, &x); err != nil {
			return nil, err
		}
	}
	for _, e := range wanted {
		if !came[e.ID] {
			left = append(left, e)
		}
	}
	return left, nil
}

// one compares a message that is coming in with its copy.
func (k *sampler) one(ctx context.Context, path mail.Path, m *source.Message, x *catalog.Copy) error {
	got, ends, err := folded(m.Body)
	if err != nil {
		if mail.ScopeOf(err, mail.ScopeFolder) == mail.ScopeMessage && !mail.Temporary(err) {
			k.differs(path, m.ID, false, mail.Clean(err.Error()))
			return nil
		}
		return err
	}
	stored, why, err := k.stored(ctx, x.At)
	if err != nil {
		return err
	}
	k.Bytes += got.Size
	size := x.Ends.Size(x.At.Text, x.At.Lines)
	switch {
	case why != "":
		k.differs(path, m.ID, true, why)
	case stored != x.At.Digest:
		k.differs(path, m.ID, true, fmt.Sprintf("the archive's copy has digest %v, stored was %v", stored, x.At.Digest))
	case got.Digest != stored:
		k.differs(path, m.ID, false, fmt.Sprintf("the server gives %d bytes with digest %v, stored were %d with %v", got.Size, got.Digest, size, stored))
	case got.Size != size || ends.String() != x.Ends.String():
		k.differs(path, m.ID, false, fmt.Sprintf("the server gives it with other line ends: %d bytes, received were %d", got.Size, size))
	default:
		k.Messages++
		k.Progress(path, 1, got.Size)
	}
	return nil
}

func (k *sampler) differs(path mail.Path, id source.ID, archive bool, detail string) {
	k.Differ = append(k.Differ, Different{path, id, detail, archive})
	k.Progress(path, 1, 0)
}

// stored is the digest of what lies in the archive, or why it cannot be read.
func (k *sampler) stored(ctx context.Context, at catalog.Stored) (d mail.Digest, why string, err error) {
	f, err := k.sink.Open(ctx, at.Folder, false)
	if errors.Is(err, fs.ErrNotExist) {
		return d, "the archive's folder is gone", nil
	}
	if err != nil {
		return d, "", err
	}
	defer f.Close()
	r, ok := f.(sink.Reader)
	if !ok {
		return d, "", errors.New("this kind of archive cannot be read back")
	}
	body, err := r.Read(ctx, at.Place)
	if body != nil {
		defer body.Close()
	}
	h := sha256.New()
	if err == nil {
		_, err = io.Copy(h, body)
	}
	switch {
	case ctx.Err() != nil:
		return d, "", context.Cause(ctx)
	case errors.Is(err, fs.ErrNotExist):
		return d, "the archive's copy is missing", nil
	case err != nil:
		return d, mail.Clean(err.Error()), nil
	}
	h.Sum(d[:0])
	return d, "", nil
}

// folded reads a message as it comes and tells what its text form is, and its
// line ends.
func folded(r io.Reader) (mail.Summary, mail.Ends, error) {
	var f endsOf
	sum, err := mail.Summarize(io.TeeReader(r, &f))
	return sum, f.ends(), err
}

// An endsOf notes the line ends of what is written to it.
type endsOf struct {
	fold  mail.Folder
	text  []byte
	last  byte
	mixed bool
}

func (f *endsOf) Write(p []byte) (int, error) {
	if len(p) > 0 {
		f.last = p[len(p)-1]
	}
	if !f.mixed {
		text, _, err := f.fold.Append(f.text[:0], p)
		f.text, f.mixed = text, err != nil
	}
	return len(p), nil
}

func (f *endsOf) ends() mail.Ends {
	if f.mixed {
		return mail.Ends{Kind: mail.EndsKept, Open: f.last != '\n'}
	}
	_, e := f.fold.Close(nil)
	return e
}
