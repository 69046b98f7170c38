package pipeline

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"testing"

	"mailhaul/internal/catalog"
	"mailhaul/internal/spool"
	"mailhaul/internal/testmail"
	"mailhaul/source/imap"
)

// benchFolders are the folders of the benchmarks, with as many messages each.
const (
	benchFolders  = 8
	benchMessages = 250
)

// benchAccount is a server in memory with mail of the usual sizes; some of it
// lies in two folders.
func benchAccount(b *testing.B) (addr string, bytes int64) {
	m := &testmail.Model{Cleartext: true}
	all := slices.Collect(testmail.Generate(1, benchFolders*benchMessages))
	for i := range benchFolders {
		part := all[i*benchMessages:][:benchMessages]
		if i > 0 {
			part = append(all[(i-1)*benchMessages:][:benchMessages/5:benchMessages/5], part[benchMessages/5:]...)
		}
		m.Deliver(fmt.Sprintf("Folder %d", i), part...)
		for _, x := range part {
			bytes += x.Size
		}
	}
	return m.Start(b), bytes
}

// bring runs a backup of addr into dir.
func bring(b *testing.B, addr, dir, format string) Report {
	b.Helper()
	ctx := b.Context()
	s, err := deathSink(ctx, dir, format)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	c, err := catalog.Open(ctx, catalog.Home{Dir: dir, State: ".mailhaul", Format: format}, true, "bench")
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	if err := c.Admit(ctx, "imap:ann", false); err != nil {
		b.Fatal(err)
	}
	src := imap.OverConn("ann", "secret", 4, func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", addr) })
	defer src.Close()
	p := &Pipeline{Source: src, Sink: s, Catalog: c, Account: "imap:ann", Spool: spool.New(filepath.Join(dir, ".mailhaul"), spool.Budget)}
	if format == "maildir" {
		p.Options.Dedup = DedupArchive
	}
	r, err := p.Run(ctx)
	if err != nil || r.Total.Listed != benchFolders*benchMessages {
		b.Fatal(err, r.Total)
	}
	return r
}

// BenchmarkFirst brings 2,000 messages from a server in memory, everything
// synced.
func BenchmarkFirst(b *testing.B) {
	for _, format := range []string{"mbox", "maildir"} {
		b.Run(format, func(b *testing.B) {
			addr, bytes := benchAccount(b)
			b.SetBytes(bytes)
			b.ReportAllocs()
			for b.Loop() {
				bring(b, addr, b.TempDir(), format)
			}
			b.ReportMetric(float64(b.N*benchFolders*benchMessages)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}

// BenchmarkAgain is a run that finds nothing new.
func BenchmarkAgain(b *testing.B) {
	for _, format := range []string{"mbox", "maildir"} {
		b.Run(format, func(b *testing.B) {
			addr, _ := benchAccount(b)
			dir := b.TempDir()
			bring(b, addr, dir, format)
			b.ReportAllocs()
			for b.Loop() {
				if r := bring(b, addr, dir, format); r.Total.Stored > 0 {
					b.Fatal(r.Total)
				}
			}
		})
	}
}

// BenchmarkMigrate brings them to another server in memory, a new one each
// time.
func BenchmarkMigrate(b *testing.B) {
	addr, bytes := benchAccount(b)
	b.SetBytes(bytes)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		to := &testmail.Model{Cleartext: true, Caps: append(slices.Clone(testmail.DefaultCaps), "MULTIAPPEND")}
		format := "imap:" + to.Start(b)
		dir := b.TempDir()
		b.StartTimer()
		bring(b, addr, dir, format)
	}
	b.ReportMetric(float64(b.N*benchFolders*benchMessages)/b.Elapsed().Seconds(), "messages/s")
}
