package netconn

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pair is a Conn and what is at its other end, in a bubble without real time.
func pair(t *testing.T, f func(t *testing.T, c *Conn, far net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		c := Wrap(near, Limits{})
		defer c.Close()
		f(t, c, far)
	})
}

// TestWaits: each wait has its own limit, and there is none in all.
func TestWaits(t *testing.T) {
	pair(t, func(t *testing.T, c *Conn, far net.Conn) {
		b := make([]byte, 10)
		go func() {
			for range 200 {
				time.Sleep(59 * time.Second)
				far.Write([]byte("x"))
			}
			time.Sleep(119 * time.Second)
			far.Write([]byte("y"))
		}()
		for range 200 {
			if _, err := c.Read(b); err != nil {
				t.Fatal(err)
			}
		}
		c.SetReadDeadline(time.Now()) // has no effect
		c.Await(0)
		if _, err := c.Read(b); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_, err := c.Read(b)
		if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Minute || !strings.Contains(err.Error(), "nothing for 1m0s") {
			t.Error(err, time.Since(start))
		}
		start = time.Now()
		if _, err := c.Write(b); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Minute {
			t.Error(err, time.Since(start))
		}
	})
}

// TestFollow: the end of the context is the end of every wait, with its cause.
func TestFollow(t *testing.T) {
	why := errors.New("enough")
	pair(t, func(t *testing.T, c *Conn, far net.Conn) {
		ctx, cancel := context.WithCancelCause(t.Context())
		stop := c.Follow(ctx)
		defer stop()
		go func() { time.Sleep(time.Second); cancel(why) }()
		start := time.Now()
		if _, err := c.Read(make([]byte, 1)); err != why || time.Since(start) != time.Second {
			t.Error(err)
		}
		if _, err := c.Write([]byte("x")); err != why {
			t.Error(err)
		}
	})
	pair(t, func(t *testing.T, c *Conn, far net.Conn) {
		ctx, cancel := context.WithCancelCause(t.Context())
		c.Follow(ctx)()
		cancel(why)
		synctest.Wait()
		go far.Write([]byte("x"))
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Error("still followed:", err)
		}
		ctx, cancel = context.WithCancelCause(t.Context())
		cancel(why)
		c.Follow(ctx)
		if _, err := c.Write([]byte("x")); err != why {
			t.Error("a context that has ended already:", err)
		}
	})
}

func TestCounts(t *testing.T) {
	pair(t, func(t *testing.T, c *Conn, far net.Conn) {
		told := 0
		c.Rate = func(n int) { told += n }
		go io.Copy(far, far)
		c.Write([]byte("hello"))
		io.ReadFull(c, make([]byte, 5))
		if r, w := c.Counts(); r != 5 || w != 5 || told != 5 {
			t.Error(r, w, told)
		}
	})
}

// TestDialErrors say what is wrong in words.
func TestDialErrors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	if _, err := Dial(t.Context(), addr, Limits{}); err == nil || !strings.Contains(err.Error(), "nobody answers at 127.0.0.1") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Dial(ctx, addr, Limits{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := explainDial(t.Context(), "x.invalid:993", &net.OpError{Err: &net.DNSError{IsNotFound: true}}); !strings.Contains(err.Error(), "no host is called x.invalid") {
		t.Error(err)
	}
	if err := explainDial(t.Context(), "x.invalid:993", &net.OpError{Err: &net.DNSError{IsTemporary: true}}); !strings.Contains(err.Error(), "just now") {
		t.Error(err)
	}
}
