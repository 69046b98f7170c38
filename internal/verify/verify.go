// Package verify proves that an archive holds what its catalog says: every
// stored message is read and its digest compared with the one taken when it
// came.
//
// What must stay true:
//
//   - Nothing passes for whole without a reason: it was read just now and has
//     the digest it should have. Without reading (Quick) the result says so.
//   - Mail is never changed or deleted. With Mark, what is missing or damaged
//     is noted in the catalog as lost, so that the next backup fetches it; a
//     damaged file that would be in the way of the good one is moved aside.
//   - What was lost and is found whole again is no problem.
//
// Of a folder it keeps sixteen bytes a message, of a message never more than a
// buffer.
package verify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"

	"mailhaul/internal/catalog"
	"mailhaul/internal/mail"
	"mailhaul/sink"
)

// Options have useful zero values: all is read, and nothing noted.
type Options struct {
	Quick    bool // look at places and sizes only
	Raw      bool // rebuild the bytes as they were received, too
	Mark     bool // note what is missing or damaged; not with Quick
	Workers  int  // that read at the same time; 0: one a processor, four at most
	Progress Progress
}

// Progress is called with what was read since the last call, from several
// goroutines.
type Progress func(folder mail.Path, messages, bytes int64)

// A Result says what was found.
type Result struct {
	Quick    bool      `json:"quick,omitempty"`    // nothing was read
	Messages int64     `json:"messages"`           // found as they were stored
	Bytes    int64     `json:"bytes"`              // of these, in text form
	Foreign  int64     `json:"foreign"`            // messages that are not mailhaul's; left alone. Not counted with Quick
	Regained int64     `json:"regained,omitempty"` // of Messages: they were taken for lost
	Marked   int64     `json:"marked,omitempty"`   // of the problems: noted now, for the next backup
	Raw      *Raw      `json:"raw,omitempty"`
	Problems []Problem `json:"problems,omitempty"`
}

// A Problem is one message that is not as it was stored.
type Problem struct {
	Folder mail.Path  `json:"folder"`
	Place  sink.Place `json:"place"`
	SHA256 string     `json:"sha256"` // of the text form, as stored
	Kind   Kind       `json:"kind"`
	Detail string     `json:"detail,omitempty"`
	Aside  string     `json:"set_aside,omitempty"` // where the damaged file is now

	at   catalog.Stored
	mark bool // it is to be noted
	bad  bool // it was read, and is something else
}

// A Kind of problem.
type Kind string

const (
	Missing Kind = "missing"
	Damaged Kind = "damaged"
	// Unlike says that the text is as it was stored, but the catalog's word
	// about its line ends does not make of it what was received.
	Unlike Kind = "not as received"
)

// Size is how much there is to read: messages, and their bytes in text form.
func Size(ctx context.Context, c *catalog.Catalog) (messages, bytes int64, err error) {
	folders, err := c.Folders(ctx)
	for _, f := range folders {
		messages += f.Messages
		bytes += f.Bytes
	}
	return messages, bytes, err
}

// A check is one verification under way.
type check struct {
	opt  Options
	sink sink.Sink
	cat  *catalog.Catalog
	Result
}

// Run looks at the whole archive. An error is one that kept it from doing so;
// what is wrong with messages is in the result.
func Run(ctx context.Context, s sink.Sink, c *catalog.Catalog, o Options) (*Result, error) {
	if o.Workers == 0 {
		o.Workers = min(runtime.GOMAXPROCS(0), 4)
	}
	if o.Progress == nil {
		o.Progress = func(mail.Path, int64, int64) {}
	}
	k := &check{opt: o, sink: s, cat: c, Result: Result{Quick: o.Quick}}
	if o.Raw {
		k.Raw = &Raw{}
	}
	return &k.Result, k.run(ctx)
}

func (k *check) run(ctx context.Context) error {
	folders, err := k.cat.Folders(ctx)
	if err != nil {
		return err
	}
	lost, err := k.cat.Lost(ctx)
	if err != nil {
		return err
	}
	in := map[mail.Path][]catalog.Stored{}
	for _, m := range lost {
		in[m.Folder] = append(in[m.Folder], m)
	}
	for _, f := range folders {
		if err := k.folder(ctx, f.Path, in[f.Path]); err != nil {
			return fmt.Errorf("%s: %w", mail.Clean(string(f.Path)), err)
		}
	}
	return nil
}

// folder looks at one folder, and at what was lost there.
func (k *check) folder(ctx context.Context, path mail.Path, lost []catalog.Stored) error {
	from := len(k.Problems)
	f, err := k.sink.Open(ctx, path, false)
	if errors.Is(err, fs.ErrNotExist) {
		for m, err := range k.cat.Messages(ctx, path) {
			if err != nil {
				return err
			}
			k.problem(Problem{at: m, Kind: Missing, Detail: "the whole folder is gone", mark: true})
		}
		k.known(lost)
		return k.mark(ctx, nil, k.Problems[from:])
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if k.opt.Quick {
		k.known(lost)
		return k.look(ctx, f, path)
	}
	if err := k.read(ctx, f, path, lost); err != nil {
		return err
	}
	if k.opt.Raw {
		if err := k.rebuild(ctx, f, path); err != nil {
			return err
		}
	}
	return k.mark(ctx, f, k.Problems[from:])
}

func (k *check) problem(p Problem) {
	p.Folder, p.Place, p.SHA256 = p.at.Folder, p.at.Place, p.at.Digest.String()
	k.Problems = append(k.Problems, p)
}

// known names what an earlier run has found missing or damaged.
func (k *check) known(lost []catalog.Stored) {
	for _, m := range lost {
		k.problem(Problem{at: m, Kind: Missing, Detail: sinceEarlier})
	}
}

const sinceEarlier = "known since an earlier run"

func (k *check) good(m catalog.Stored) {
	k.Messages++
	k.Bytes += m.Text
}

// look asks for the place and size of every message.
func (k *check) look(ctx context.Context, f sink.Folder, path mail.Path) error {
	l, ok := f.(sink.Looker)
	if !ok {
		return errNoReader
	}
	for m, err := range k.cat.Messages(ctx, path) {
		if err != nil {
			return err
		}
		switch err := l.Look(ctx, m.Place, m.Text); {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, fs.ErrNotExist):
			k.problem(Problem{at: m, Kind: Missing})
		case err != nil:
			k.problem(Problem{at: m, Kind: Damaged, Detail: err.Error()})
		default:
			k.good(m)
		}
		k.opt.Progress(path, 1, 0)
	}
	return nil
}

var errNoReader = errors.New("this kind of archive cannot be read back")

// read reads all of a folder and compares it with the catalog.
func (k *check) read(ctx context.Context, f sink.Folder, path mail.Path, lost []catalog.Stored) error {
	scan, ok := f.(sink.Scanner)
	reader, ok2 := f.(sink.Reader)
	if !ok || !ok2 {
		return errNoReader
	}
	there, err := k.scan(ctx, scan, path)
	if err != nil {
		return err
	}
	mine := int64(0)
	for m, err := range k.cat.Messages(ctx, path) {
		if err != nil {
			return err
		}
		is, same := there.has(m)
		if is {
			mine++
		}
		if same {
			k.good(m)
		} else if p, err := lookAgain(ctx, reader, m); err != nil {
			return err
		} else if p == nil {
			k.good(m)
		} else {
			k.problem(*p)
		}
	}
	var back []int64
	for _, m := range lost {
		p, err := lookAgain(ctx, reader, m)
		if err != nil {
			return err
		}
		if is, _ := there.has(m); is {
			mine++
		}
		if p == nil {
			k.good(m)
			k.Regained++
			back = append(back, m.Message)
			continue
		}
		p.Detail, p.mark, p.bad = sinceEarlier, false, false
		k.problem(*p)
	}
	k.Foreign += max(there.count()-mine, 0)
	if k.opt.Mark {
		return k.cat.Regain(ctx, back)
	}
	return nil
}

// lookAgain says what is wrong with one message; nil: nothing. It may have been
// renamed while the folder was read, or stand behind a damaged neighbour.
func lookAgain(ctx context.Context, f sink.Reader, m catalog.Stored) (*Problem, error) {
	body, err := f.Read(ctx, m.Place)
	if body != nil {
		defer body.Close()
	}
	p := &Problem{at: m, mark: true}
	var sum mail.Digest
	var n int64
	if err == nil {
		sum, n, err = digest(ctx, body, make([]byte, 64<<10))
	}
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, fs.ErrNotExist):
		p.Kind = Missing
	case err != nil:
		// It may be whole for somebody who may read it.
		p.Kind, p.Detail, p.mark = Damaged, err.Error(), !errors.Is(err, fs.ErrPermission)
	case sum == m.Digest:
		return nil, nil
	default:
		p.Kind, p.bad = Damaged, true
		p.Detail = fmt.Sprintf("%d bytes with digest %v, stored were %d with %v", n, sum, m.Text, m.Digest)
	}
	return p, nil
}

// mark notes problems, so that the next backup fetches these messages. Only
// then are damaged files moved out of their way: whoever dies in between leaves
// them where they were, for the backup to move.
func (k *check) mark(ctx context.Context, f sink.Folder, problems []Problem) error {
	if !k.opt.Mark {
		return nil
	}
	var ids []int64
	for _, p := range problems {
		if p.mark {
			ids = append(ids, p.at.Message)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	if err := k.cat.Lose(ctx, ids); err != nil {
		return err
	}
	k.Marked += int64(len(ids))
	c, ok := f.(sink.Clearer)
	if !ok {
		return nil
	}
	for i := range problems {
		p := &problems[i]
		if !p.bad {
			continue
		}
		to, err := c.Clear(ctx, p.Place)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		p.Aside = to
	}
	return nil
}
