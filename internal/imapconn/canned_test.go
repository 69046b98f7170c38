package imapconn

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"testing"
)

// canned is a connection over loopback to a server that answers every UID
// FETCH with n messages of one size, or with n lines of a listing.
func canned(tb testing.TB, size, n int) *Conn {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { l.Close() })
	text := bytes.Repeat([]byte("x"), size)
	go func() {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		p := &peer{nc, bufio.NewReader(nc)}
		p.say(ready)
		w := bufio.NewWriterSize(nc, 256<<10)
		for {
			tag, rest := p.command()
			if tag == "" {
				return
			}
			for i := 1; i <= n && rest[:3] == "UID"; i++ {
				if size > 0 {
					fmt.Fprintf(w, "* %d FETCH (UID %d BODY[] {%d}\r\n", i, i, size)
					w.Write(text)
					w.WriteString(")\r\n")
				} else {
					fmt.Fprintf(w, "* %d FETCH (UID %d FLAGS (\\Seen) INTERNALDATE \"01-Jan-2026 12:00:00 +0100\" RFC822.SIZE 12345)\r\n", i, i)
				}
			}
			fmt.Fprintf(w, "%s OK done\r\n", tag)
			w.Flush()
		}
	}()
	c, err := Dial(context.Background(), Options{Addr: l.Addr().String(), Security: None})
	if err != nil {
		tb.Fatal(err)
	}
	return c
}
