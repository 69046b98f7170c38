package netconn

import (
	"bufio"
	"bytes"
	"compress/flate"
	"io"
	"net"
	"time"
)

// Deflate compresses all that is said from now on, in both directions (RFC
// 4978; RFC 1951). Early are bytes that were read already and belong to it: the
// other side begins at once. Limits hold for what goes over the line as before,
// and a stream that inflates without end takes no memory.
func (c *Conn) Deflate(early []byte) {
	w, err := flate.NewWriter(c.top, flate.DefaultCompression)
	if err != nil {
		panic(err) // the level is one that there is
	}
	in := io.MultiReader(bytes.NewReader(bytes.Clone(early)), c.top)
	c.top = &deflated{Conn: c.top, in: flate.NewReader(bufio.NewReaderSize(in, 32<<10)), out: w}
}

// A deflated is a connection with DEFLATE over it.
type deflated struct {
	net.Conn
	in  io.Reader
	out *flate.Writer
}

func (d *deflated) Read(p []byte) (int, error) { return d.in.Read(p) }

// Write sends at once: whoever waits for an answer must have been heard.
func (d *deflated) Write(p []byte) (int, error) {
	n, err := d.out.Write(p)
	if err == nil {
		err = d.out.Flush()
	}
	return n, err
}

// Waited is how long reading has waited for the other side, in all.
func (c *Conn) Waited() time.Duration { return time.Duration(c.waited.Load()) }
