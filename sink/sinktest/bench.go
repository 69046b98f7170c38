package sinktest

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"mailhaul/sink"
)

// Bench stores messages of about size bytes in batches of batch, each synced
// to the disk. One operation is one message.
func Bench(b *testing.B, open func(dir string) sink.Sink, size, batch int) {
	s := open(b.TempDir())
	defer s.Close()
	f, err := s.Open(ctx, inbox, true)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	text := []byte("Subject: bench\n\n" + strings.Repeat("a line of the usual length in a mail that people write\n", size/55))
	m := sink.Message{Want: sink.Want{
		Digest: digest(text), Text: int64(len(text)), Lines: int64(bytes.Count(text, []byte("\n"))), Date: epoch, Sender: "ann@example.org",
	}}
	m.Open = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; {
		if _, err := f.Mark(ctx); err != nil {
			b.Fatal(err)
		}
		for range min(batch, b.N-n) {
			m.Name = fmt.Sprintf("%016x.%d", n*0x9e3779b97f4a7c1, n)
			n++
			if err := f.Put(ctx, &m); err != nil {
				b.Fatal(err)
			}
		}
		rs, err := f.Sync(ctx)
		if err != nil {
			b.Fatal(err)
		}
		for _, r := range rs {
			if r.Err != nil {
				b.Fatal(r.Err)
			}
		}
	}
}
