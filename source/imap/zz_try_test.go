package imap

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"os"
	"testing"
	"time"

	"mailhaul/internal/location"
	"mailhaul/source"
)

func TestTry(t *testing.T) {
	where := os.Getenv("TRY")
	if where == "" {
		t.Skip()
	}
	_ = slog.Default()
	var reg source.Registry
	for _, s := range Schemes() {
		reg.Register(s)
	}
	ctx := context.Background()
	src, err := reg.Open(ctx, where, location.Env{Secret: func(context.Context, location.Location) (string, error) { return "pw", nil }})
	if err != nil {
		t.Fatal(err)
	}
	t0 := time.Now()
	fs, err := src.Folders(ctx)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("folders", len(fs), time.Since(t0))
	var total, bytes int64
	h := sha256.New()
	for _, f := range fs {
		if len(fs) < 50 {
			fmt.Printf("%+v\n", f)
		}
		m, err := src.Open(ctx, f.Path)
		if err != nil {
			t.Fatal(err)
		}
		var all []source.Entry
		t1 := time.Now()
		for e, err := range m.List(ctx, "") {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, e)
		}
		if len(all) > 5000 {
			fmt.Println("list", len(all), time.Since(t1), m.Listing())
		}
		if m.Listing().Cursor != f.State || int64(len(all)) != f.Messages {
			fmt.Println("differs", m.Listing(), f)
		}
		n := 0
		for range m.List(ctx, m.Listing().Cursor) {
			n++
		}
		if n > 0 {
			fmt.Println("changed", n)
		}
		t1 = time.Now()
		at := 0
		got := 0
		for msg, err := range m.Fetch(ctx, func(bool) []source.Entry {
			g := all[at:min(len(all), at+200)]
			at += len(g)
			return g
		}) {
			if err != nil {
				t.Fatal(err)
			}
			var w io.Writer = io.Discard
			if os.Getenv("SUM") != "" {
				w = h
			}
			nn, err := io.Copy(w, msg.Body)
			if err != nil {
				t.Fatal(err)
			}
			bytes += nn
			got++
		}
		total += int64(got)
		if got != len(all) {
			fmt.Println("missing", f.Path, got, len(all))
		}
		if got > 5000 {
			fmt.Println("fetch", got, time.Since(t1))
		}
		m.Close()
	}
	fmt.Println("all", total, bytes, time.Since(t0))
	src.Close()
	if n, ok := src.(source.Noter); ok {
		fmt.Println(n.Notes())
	}
}
