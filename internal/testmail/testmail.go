// Package testmail is the world that mailhaul is tried out in: nasty messages,
// nasty folder names, and servers to fetch them from and to bring them to.
//
// There are five kinds of server. Memory is go-imap's in-memory server, made
// to give every byte back as it came; the demo shows a backup of it. Model is
// our own small IMAP server that does on request what servers do in bad hours:
// it cuts connections, lies about sizes, leaves messages out. POP3 is the same
// for that protocol, and when nothing is requested it is good enough for the
// demo. SMTP takes messages, by LMTP too, and keeps them. Dovecot is the real
// thing, started privately for one test.
//
// Everything is deterministic: the same call gives the same bytes for ever, so
// a failure seen once can be seen again. Nothing here links the testing
// package, because the demo is part of the shipped program.
package testmail

import (
	"bytes"
	"fmt"
	"io"
	"time"

	"mailhaul/internal/mail"
)

// A TB is what the helpers need of a test; *testing.T is one.
type TB interface {
	Helper()
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
	Cleanup(func())
}

// A Message is a mail as it lies on a server.
type Message struct {
	Name   string // what is nasty about it, fit for a subtest's name
	Date   time.Time
	Flags  mail.Flags
	Labels []string
	Size   int64            // exactly what Open gives
	Open   func() io.Reader // from its beginning, as often as needed
}

// Raw is the whole message in memory.
func (m Message) Raw() []byte {
	raw := make([]byte, m.Size)
	if _, err := io.ReadFull(m.Open(), raw); err != nil {
		panic(fmt.Sprintf("testmail: %s is shorter than its size: %v", m.Name, err))
	}
	return raw
}

// Letter makes a message of bytes. It arrived at Epoch.
func Letter(name string, raw []byte, flags ...string) Message {
	return Message{
		Name:  name,
		Date:  Epoch,
		Flags: mail.NewFlags(flags...),
		Size:  int64(len(raw)),
		Open:  func() io.Reader { return bytes.NewReader(raw) },
	}
}

// Epoch is when the first message of every collection arrived.
var Epoch = time.Date(2021, time.March, 14, 15, 9, 26, 0, time.FixedZone("", 3600))
