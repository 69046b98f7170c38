package verify

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash/maphash"
	"io"
	"slices"
	"sync"

	"mailhaul/internal/catalog"
	"mailhaul/internal/mail"
	"mailhaul/sink"
)

// A buffer is large: a message that fits in is read by one system call.
const buffer = 256 << 10

// found is what lies in a folder: for each place there its hash, and that of
// the digest, 0 where it could not be read. What does not match is looked at
// again by itself, so a collision could only hide damage, once in 2^64 damaged
// messages.
type found struct {
	seed maphash.Seed
	all  []spot
}

type spot struct{ place, digest uint64 }

func (f *found) sort() {
	slices.SortFunc(f.all, func(a, b spot) int {
		switch {
		case a.place < b.place:
			return -1
		case a.place > b.place:
			return 1
		}
		return 0
	})
}

func (f *found) count() int64 { return int64(len(f.all)) }

// has reports whether something lies in the place of m, and whether it is m.
func (f *found) has(m catalog.Stored) (is, same bool) {
	at := maphash.String(f.seed, string(m.Place))
	i, is := slices.BinarySearchFunc(f.all, at, func(s spot, at uint64) int {
		switch {
		case s.place < at:
			return -1
		case s.place > at:
			return 1
		}
		return 0
	})
	return is, is && f.all[i].digest == maphash.Bytes(f.seed, m.Digest[:])
}

// A got is a message that was found: where, and what reads it.
type got struct {
	at   sink.Place
	body io.ReadCloser // nil: it cannot be read
}

// scan goes through a folder once: one goroutine finds the messages, and others
// read close behind it, while the disk's work is still in memory.
func (k *check) scan(ctx context.Context, s sink.Scanner, path mail.Path) (*found, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f := &found{seed: maphash.MakeSeed()}
	messages := make(chan got, 32)
	parts := make([][]spot, k.opt.Workers)
	var workers sync.WaitGroup
	for i := range parts {
		workers.Go(func() {
			buf := make([]byte, buffer)
			for m := range messages {
				s := spot{place: maphash.String(f.seed, string(m.at))}
				if sum, n, err := m.digest(ctx, buf); err == nil {
					s.digest = maphash.Bytes(f.seed, sum[:])
					k.opt.Progress(path, 1, n)
				}
				parts[i] = append(parts[i], s)
			}
		})
	}
	var err error
	for x, serr := range s.Scan(ctx, false) {
		if err = serr; err != nil {
			break
		}
		if x.Open == nil {
			err = errNoReader
			break
		}
		m := got{at: x.Place}
		if body, err := x.Open(); err == nil {
			m.body = body
		}
		messages <- m
		if ctx.Err() != nil {
			break
		}
	}
	close(messages)
	workers.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	for _, p := range parts {
		f.all = append(f.all, p...)
	}
	f.sort()
	return f, nil
}

var errUnread = errors.New("it cannot be read")

func (m got) digest(ctx context.Context, buf []byte) (d mail.Digest, n int64, err error) {
	if m.body == nil {
		return d, 0, errUnread
	}
	defer m.body.Close()
	return digest(ctx, m.body, buf)
}

func digest(ctx context.Context, r io.Reader, buf []byte) (d mail.Digest, n int64, err error) {
	h := sha256.New()
	n, err = pour(ctx, h, r, buf)
	h.Sum(d[:0])
	return d, n, err
}

// pour copies, and stops when the context ends.
func pour(ctx context.Context, w io.Writer, r io.Reader, buf []byte) (n int64, err error) {
	for {
		m, err := r.Read(buf)
		if m > 0 {
			if _, werr := w.Write(buf[:m]); werr != nil {
				return n, werr
			}
		}
		n += int64(m)
		switch {
		case errors.Is(err, io.EOF):
			return n, nil
		case err != nil:
			return n, err
		case ctx.Err() != nil:
			return n, context.Cause(ctx)
		}
	}
}
