package testmail

import (
	"bufio"
	"compress/flate"
	"io"
	"net"
)

// deflated is a connection with COMPRESS=DEFLATE over it (RFC 4978).
type deflated struct {
	net.Conn
	in  io.Reader
	out *flate.Writer
}

// newDeflated goes on behind what r has read of conn.
func newDeflated(conn net.Conn, r *bufio.Reader) *deflated {
	w, err := flate.NewWriter(conn, flate.BestSpeed)
	if err != nil {
		panic(err) // the level is one that there is
	}
	return &deflated{conn, flate.NewReader(r), w}
}

func (d *deflated) Read(p []byte) (int, error) { return d.in.Read(p) }

func (d *deflated) Write(p []byte) (int, error) {
	n, err := d.out.Write(p)
	if err == nil {
		err = d.out.Flush()
	}
	return n, err
}
