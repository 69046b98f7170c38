package imapconn

import (
	"context"
	"errors"
	"time"
)

// Compress says when to use COMPRESS=DEFLATE (RFC 4978) where it is offered.
type Compress int

const (
	// CompressAuto begins when the line turns out to be slow: a server
	// deflates some ten megabytes a second, so on a faster line it only costs.
	CompressAuto Compress = iota
	CompressYes
	CompressNo
)

// When a line is slow: after so many bytes it has brought fewer than so many a
// second, and one question takes a while, which tells a line from a server that
// reads from a slow disk.
const (
	measuredBytes = 1 << 20
	slowRate      = 6 << 20 // bytes a second
	farTrip       = 2 * time.Millisecond
)

// A mark is a moment of a connection.
type mark struct {
	read   int64
	waited time.Duration
	set    bool
}

// Slow reports whether compression should begin: the connection has brought
// enough to tell, and was slow with it. It costs nothing to ask.
func (c *Conn) Slow() bool {
	if c.compressed || c.compress != CompressAuto || !c.Has("COMPRESS=DEFLATE") {
		return false
	}
	read, _ := c.nc.Counts()
	if !c.measured.set {
		c.measured = mark{read, c.nc.Waited(), true}
		return false
	}
	n, d := read-c.measured.read, c.nc.Waited()-c.measured.waited
	return n >= measuredBytes && float64(n) < d.Seconds()*slowRate
}

// Hasten begins to compress a line that is Slow, if it is the line. No command
// may be open.
func (c *Conn) Hasten(ctx context.Context) error {
	start := time.Now()
	if err := c.Noop(ctx); err != nil {
		return err
	}
	c.measured.set = false // whatever comes of it, the next look is a new one
	if time.Since(start) < farTrip {
		c.compress = CompressNo
		return nil
	}
	stop := c.nc.Follow(ctx)
	defer stop()
	return c.folder("compress", c.deflate())
}

// deflate compresses from here on. A server that refuses is left as it is.
func (c *Conn) deflate() error {
	if !c.Has("COMPRESS=DEFLATE") || c.compressed {
		return nil
	}
	_, err := c.run(dropAll, "COMPRESS DEFLATE")
	var s *Status
	if errors.As(err, &s) && c.broken() == nil {
		c.compress = CompressNo
		return nil
	}
	if err != nil {
		return err
	}
	// The answer was the last thing in clear; what was read behind it is
	// compressed already.
	early, _ := c.wire.br.Peek(c.wire.br.Buffered())
	c.nc.Deflate(early)
	c.wire.br.Discard(len(early))
	c.compressed = true
	return nil
}
