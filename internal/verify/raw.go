package verify

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"sync"

	"mailhaul/internal/catalog"
	"mailhaul/internal/mail"
	"mailhaul/sink"
)

// Raw says how the bytes as they were received were rebuilt.
type Raw struct {
	Received int64 `json:"received"`          // ways in which messages have come: each was rebuilt
	Bytes    int64 `json:"bytes"`             // of these
	Claimed  int64 `json:"claimed_otherwise"` // of these: the server had told another size than came
}

// ways are those in which one message has come.
type ways []catalog.Received

// rebuild makes of every message of a folder what was received, in all the ways
// in which it was, and folds that again: its length, its line ends and the
// digest of the text must be those of the catalog.
func (k *check) rebuild(ctx context.Context, f sink.Folder, path mail.Path) error {
	reader := f.(sink.Reader)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	bad := map[int64]bool{}
	for _, p := range k.Problems {
		bad[p.at.Message] = true
	}
	work := make(chan ways, 64)
	var mu sync.Mutex // guards what is found
	var workers sync.WaitGroup
	for range k.opt.Workers {
		workers.Go(func() {
			buf := make([]byte, buffer)
			for w := range work {
				if ctx.Err() != nil {
					continue
				}
				raw, why, err := w.rebuild(ctx, reader, buf)
				mu.Lock()
				k.Raw.Received += raw.Received
				k.Raw.Bytes += raw.Bytes
				k.Raw.Claimed += raw.Claimed
				switch {
				case ctx.Err() != nil:
				case err != nil: // it was read well a moment ago
					k.problem(Problem{at: w[0].At, Kind: Damaged, Detail: err.Error()})
				case why != "":
					k.problem(Problem{at: w[0].At, Kind: Unlike, Detail: why})
				}
				mu.Unlock()
				k.opt.Progress(path, 0, w[0].At.Text)
			}
		})
	}
	err := k.received(ctx, path, func(w ways) {
		if bad[w[0].At.Message] {
			return
		}
		select {
		case work <- w:
		case <-ctx.Done():
		}
	})
	close(work)
	workers.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// received gives out the ways of each message of a folder.
func (k *check) received(ctx context.Context, path mail.Path, do func(ways)) error {
	var w ways
	for x, err := range k.cat.Received(ctx, path) {
		if err != nil {
			return err
		}
		if len(w) > 0 && w[0].At.Message != x.At.Message {
			do(w)
			w = nil
		}
		w = append(w, x)
	}
	if len(w) > 0 {
		do(w)
	}
	return nil
}

// rebuild reads the message once.
func (w ways) rebuild(ctx context.Context, r sink.Reader, buf []byte) (raw Raw, why string, err error) {
	body, err := r.Read(ctx, w[0].At.Place)
	if body != nil {
		defer body.Close()
	}
	if err != nil {
		return raw, "", err
	}
	var again []*refolder
	var restored []io.WriteCloser
	var all []io.Writer
	for _, x := range w {
		a := &refolder{ends: x.Ends, sum: sha256.New()}
		c := x.Ends.Restore(a)
		again, restored, all = append(again, a), append(restored, c), append(all, c)
	}
	if _, err := pour(ctx, io.MultiWriter(all...), body, buf); err != nil {
		return raw, "", err
	}
	for i, x := range w {
		if err := restored[i].Close(); err != nil {
			return raw, "", err
		}
		size := x.Ends.Size(x.At.Text, x.At.Lines)
		raw.Received++
		raw.Bytes += again[i].size
		if x.Claimed >= 0 && x.Claimed != again[i].size {
			raw.Claimed++
		}
		if why == "" {
			why = again[i].differs(size, x.At.Digest)
		}
	}
	return raw, why, nil
}

// A refolder takes bytes as they were received.
type refolder struct {
	ends mail.Ends
	fold mail.Folder
	sum  hash.Hash
	size int64
	text []byte
}

func (f *refolder) Write(p []byte) (int, error) {
	f.size += int64(len(p))
	if f.ends.Kind == mail.EndsKept {
		return len(p), nil // the text form is what was received
	}
	text, _, err := f.fold.Append(f.text[:0], p)
	f.text = text
	f.sum.Write(text)
	return len(p), err
}

// differs says how what was rebuilt differs from what the catalog has; "": it
// does not.
func (f *refolder) differs(size int64, want mail.Digest) string {
	if f.size != size {
		return fmt.Sprintf("rebuilt it has %d bytes, received were %d", f.size, size)
	}
	if f.ends.Kind == mail.EndsKept {
		return ""
	}
	text, ends := f.fold.Close(f.text[:0])
	f.sum.Write(text)
	var got mail.Digest
	f.sum.Sum(got[:0])
	switch {
	case ends.String() != f.ends.String():
		return fmt.Sprintf("rebuilt its line ends are %s, received were %s", short(ends), short(f.ends))
	case got != want:
		return fmt.Sprintf("rebuilt and folded again it has digest %v", got)
	}
	return ""
}

// short tells line ends in a few letters.
func short(e mail.Ends) string {
	s := e.String()
	return s[:min(len(s), 60)]
}
