// Package verify proves that an archive holds what its catalog says: every
// stored message is read and its digest compared with the one taken when it
// came. It changes nothing.
package verify

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"

	"mailhaul/internal/catalog"
	"mailhaul/internal/mail"
	"mailhaul/sink"
)

// A Result says what was found.
type Result struct {
	Messages int64     `json:"messages"` // read and found equal
	Bytes    int64     `json:"bytes"`    // of these, in text form
	Foreign  int64     `json:"foreign"`  // messages that are not mailhaul's; left alone
	Problems []Problem `json:"problems,omitempty"`
}

// A Problem is one message that is not as it was stored.
type Problem struct {
	Folder mail.Path  `json:"folder"`
	Place  sink.Place `json:"place"`
	SHA256 string     `json:"sha256"` // of the text form, as stored
	Kind   Kind       `json:"kind"`
	Detail string     `json:"detail,omitempty"`
}

// A Kind of problem.
type Kind string

const (
	Missing Kind = "missing"
	Damaged Kind = "damaged"
)

// Progress is called with what was read since the last call.
type Progress func(folder mail.Path, messages, bytes int64)

// Size is how much there is to read: messages, and their bytes in text form.
func Size(ctx context.Context, c *catalog.Catalog) (messages, bytes int64, err error) {
	folders, err := c.Folders(ctx)
	for _, f := range folders {
		messages += f.Messages
		bytes += f.Bytes
	}
	return messages, bytes, err
}

// Run reads the whole archive. An error is one that kept it from doing so;
// what is wrong with messages is in the result.
func Run(ctx context.Context, s sink.Sink, c *catalog.Catalog, progress Progress) (*Result, error) {
	r := &Result{}
	folders, err := c.Folders(ctx)
	if err != nil {
		return nil, err
	}
	for _, f := range folders {
		if err := r.folder(ctx, s, c, f.Path, progress); err != nil {
			return r, fmt.Errorf("%s: %w", mail.Clean(string(f.Path)), err)
		}
	}
	lost, err := c.Lost(ctx)
	for _, m := range lost {
		r.problem(m, Missing, "known since an earlier run")
	}
	return r, err
}

func (r *Result) problem(m catalog.Stored, kind Kind, detail string) {
	r.Problems = append(r.Problems, Problem{m.Folder, m.Place, m.Digest.String(), kind, detail})
}

// found is a place and the digest seen there, hashed: sixteen bytes for each
// message of a folder. What does not match is looked at again by itself, so a
// collision could only hide damage, once in 2^64 damaged messages.
type found map[uint64]uint64

func (r *Result) folder(ctx context.Context, s sink.Sink, c *catalog.Catalog, path mail.Path, progress Progress) error {
	f, err := s.Open(ctx, path, false)
	if errors.Is(err, fs.ErrNotExist) {
		for m, err := range c.Messages(ctx, path) {
			if err != nil {
				return err
			}
			r.problem(m, Missing, "the whole folder is gone")
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	scan, ok := f.(sink.Scanner)
	if !ok {
		return errors.New("this kind of archive cannot be read back")
	}
	seed := maphash.MakeSeed()
	there := found{}
	for x, err := range scan.Scan(ctx, true) {
		if err != nil {
			return err
		}
		there[maphash.String(seed, string(x.Place))] = maphash.Bytes(seed, x.Digest[:])
		if progress != nil {
			progress(path, 1, x.Size)
		}
	}
	mine := int64(0)
	for m, err := range c.Messages(ctx, path) {
		if err != nil {
			return err
		}
		at := maphash.String(seed, string(m.Place))
		digest, ok := there[at]
		if ok {
			mine++
		}
		if ok && digest == maphash.Bytes(seed, m.Digest[:]) {
			r.Messages++
			r.Bytes += m.Text
			continue
		}
		r.lookAgain(ctx, f, m)
	}
	r.Foreign += max(int64(len(there))-mine, 0)
	return nil
}

// lookAgain says what is wrong with one message.
func (r *Result) lookAgain(ctx context.Context, f sink.Folder, m catalog.Stored) {
	reader, ok := f.(sink.Reader)
	if !ok {
		r.problem(m, Damaged, "")
		return
	}
	body, err := reader.Read(ctx, m.Place)
	if errors.Is(err, fs.ErrNotExist) {
		r.problem(m, Missing, "")
		return
	}
	if err != nil {
		r.problem(m, Damaged, err.Error())
		return
	}
	defer body.Close()
	sum, n, err := digest(body)
	switch {
	case err != nil:
		r.problem(m, Damaged, err.Error())
	case sum == m.Digest: // a scan that fell out of step over a damaged neighbour
		r.Messages++
		r.Bytes += m.Text
	default:
		r.problem(m, Damaged, fmt.Sprintf("%d bytes with digest %v, stored were %d with %v", n, sum, m.Text, m.Digest))
	}
}
