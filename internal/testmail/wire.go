package testmail

import (
	"bytes"
	"errors"
	"io"
	"net"
	"time"
)

// wire is a connection that breaks where a Cut says so.
type wire struct {
	net.Conn
	h      *host
	pace   pace
	number int
	how    How
	broken bool
}

var errCut = errors.New("cut by the test")

func (w *wire) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		if w.broken {
			return done, errCut
		}
		piece := p[done:]
		if w.pace.window > 0 && len(piece) > w.pace.window {
			piece = piece[:w.pace.window]
		}
		if w.pace.pause > 0 {
			time.Sleep(w.pace.pause)
		}
		var cut bool
		piece, cut = w.h.allow(w, piece)
		if len(piece) > 0 {
			n, err := w.Conn.Write(piece)
			done += n
			if err != nil {
				return done, err
			}
		}
		if cut {
			w.broken = true
			return done, errCut
		}
	}
	return done, nil
}

// Read counts what a client has said, and ends where a Cut is to fall into
// that.
func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	n, cut := w.h.heed(w, n)
	if cut {
		return n, errCut
	}
	return n, err
}

// finish ends the connection in the way that was asked for.
func (w *wire) finish(how How) {
	tcp, isTCP := w.Conn.(*net.TCPConn)
	switch {
	case how == Stall:
		io.Copy(io.Discard, w.Conn) // until the client leaves or the server closes
	case how == RST && isTCP:
		tcp.SetLinger(0)
	case isTCP:
		// Closing with something unread would send RST and take from the
		// client what it has not read yet.
		tcp.CloseWrite()
		io.Copy(io.Discard, w.Conn)
	}
	w.Conn.Close()
}

// outbox collects what is to be sent. Answers are made while the account is
// locked; only Flush and Stream, called without the lock, wait for the client.
type outbox struct {
	bytes.Buffer
	conn net.Conn
	err  error
}

// Flush sends what has been collected.
func (o *outbox) Flush() error {
	if o.err == nil && o.Len() > 0 {
		_, o.err = o.conn.Write(o.Bytes())
	}
	o.Reset()
	return o.err
}

// Stream sends r behind what has been collected and tells its length.
func (o *outbox) Stream(r io.Reader) (int64, error) {
	return io.Copy(spill{o}, r)
}

// spill is an outbox that is flushed whenever a socket's worth has come
// together.
type spill struct{ o *outbox }

func (s spill) Write(p []byte) (int, error) {
	s.o.Write(p)
	if s.o.Len() < 32<<10 {
		return len(p), nil
	}
	return len(p), s.o.Flush()
}
