package mbox_test

import (
	"fmt"
	"log/slog"
	"testing"

	"mailhaul/sink"
	"mailhaul/sink/mbox"
	"mailhaul/sink/sinktest"
)

func TestContract(t *testing.T) {
	for _, c := range []struct {
		name string
		opt  mbox.Options
	}{
		{"plain", mbox.Options{}},
		{"status", mbox.Options{Status: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.opt.Log = slog.New(slog.DiscardHandler)
			sinktest.Run(t, func(t *testing.T, dir string) sink.Sink { return mbox.New(dir, c.opt) })
		})
	}
}

func BenchmarkStore(b *testing.B) {
	for _, batch := range []int{100, 250, 1000} {
		b.Run(fmt.Sprint(batch), func(b *testing.B) {
			sinktest.Bench(b, func(dir string) sink.Sink { return mbox.New(dir, mbox.Options{}) }, 8000, batch)
		})
	}
}
