package testmail

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
)

// A Fault looks at a command before it is done; nil means: do it. Faults are
// asked in the order in which they were set, from several goroutines, and may
// call the server.
type Fault func(Command) *Reply

// A Reply is what a client gets instead of an answer, or before it.
type Reply struct {
	Before string // whole lines, with CRLF
	Status string // the last line, without a tag, such as "NO [LIMIT] later" or "-ERR [IN-USE] later"; empty: do the command
	End    bool   // then close the connection
	Reset  bool   // then reset it
	Stall  bool   // then say nothing more until the client leaves
	Late   bool   // all this only after the command was done: its own answer is lost
}

// Bend adds bends.
func (m *Model) Bend(b ...Bend) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bends = append(m.bends, b...)
}

// Heal takes all faults, bends and cuts away.
func (m *Model) Heal() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults, m.bends, m.cut = nil, nil, nil
}

// How a connection ends.
type How int

const (
	FIN   How = iota // an orderly end, in a disorderly place
	RST              // what was under way is lost
	Stall            // it stays open and silent
)

// A Cut ends a connection when the server has sent so many bytes, TLS
// included. It happens once, so that the client's next try may succeed, or
// Every so many bytes.
type Cut struct {
	After int64 // 0: before the first byte
	How   How
	Conn  int // only this connection, counted from 1; 0: whichever it falls on
	Every bool
	Heard int64 // instead: when the server has read so many bytes of all clients since the last Reset
	left  int64
}

// Refuse answers the first times commands of a verb with status; 0 means all
// of them.
func Refuse(verb, status string, times int) Fault {
	return first(times, verb, &Reply{Status: status})
}

// Bye says goodbye at command number n, counted over all connections.
func Bye(n int, text string) Fault {
	return func(c Command) *Reply {
		if c.Number != n {
			return nil
		}
		return &Reply{Before: "* BYE " + text + "\r\n", End: true}
	}
}

// Silent never answers the first times commands of a verb.
func Silent(verb string, times int) Fault { return first(times, verb, &Reply{Stall: true}) }

// Lose does the first times commands of a verb and closes the connection
// instead of answering.
func Lose(verb string, times int) Fault { return first(times, verb, &Reply{Late: true, End: true}) }

// Hangup closes the connection at the first times commands of a verb.
func Hangup(verb string, times int) Fault { return first(times, verb, &Reply{End: true}) }

// Remark sends lines before the answers to the first times commands of a verb.
func Remark(verb, lines string, times int) Fault { return first(times, verb, &Reply{Before: lines}) }

func first(times int, verb string, r *Reply) Fault {
	var mu sync.Mutex
	n := 0
	return func(c Command) *Reply {
		if c.Verb != verb {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		if n++; times > 0 && n > times {
			return nil
		}
		return r
	}
}

// A Bend changes the answer about one message before it is sent. Bends are
// asked in the order in which they were set and may call the Model.
type Bend func(*Answer)

// An Answer is one FETCH response.
type Answer struct {
	Seq, UID      uint32
	Items         []Item
	Before, After string // whole lines around it, with CRLF
	Omit          bool   // it is not sent
	Status        string // it is not sent, and in the end the command gets this: "NO [SERVERBUG] ..."
	End           bool   // then close the connection
}

// An Item is a name and a value, or a literal.
type Item struct {
	Name, Value string
	Body        io.Reader // when not nil, a literal
	Size        int64     // that is announced
}

// Body is the item that holds a body, or nil.
func (a *Answer) Body() *Item {
	for i := range a.Items {
		if strings.HasPrefix(a.Items[i].Name, "BODY[") {
			return &a.Items[i]
		}
	}
	return nil
}

// Item is the item of a name, or nil.
func (a *Answer) Item(name string) *Item {
	for i := range a.Items {
		if a.Items[i].Name == name {
			return &a.Items[i]
		}
	}
	return nil
}

// ForUID bends the answer about one message only.
func ForUID(uid uint32, b Bend) Bend {
	return func(a *Answer) {
		if a.UID == uid {
			b(a)
		}
	}
}

// WithBody bends answers that hold a body only.
func WithBody(b Bend) Bend {
	return func(a *Answer) {
		if a.Body() != nil {
			b(a)
		}
	}
}

// Once bends the first answer that b changes. An answer that b leaves alone
// does not count, so Once(ForUID(7, x)) is the first one about 7.
func Once(b Bend) Bend { return Times(1, b) }

// Times is Once for the first n.
func Times(n int, b Bend) Bend {
	var mu sync.Mutex
	return func(a *Answer) {
		mu.Lock()
		defer mu.Unlock()
		if n <= 0 {
			return
		}
		before := a.print()
		if b(a); a.print() != before {
			n--
		}
	}
}

// print tells answers apart.
func (a *Answer) print() string { return fmt.Sprintf("%+v", *a) }

// Omit leaves a message out; the command ends with OK.
func Omit(a *Answer) { a.Omit = true }

// Fail leaves a message out and ends the command with status.
func Fail(status string) Bend { return func(a *Answer) { a.Status = status } }

// UIDLast puts the UID behind everything else, the body too.
func UIDLast(a *Answer) {
	for i, it := range a.Items {
		if it.Name == "UID" {
			a.Items = append(append(append([]Item(nil), a.Items[:i]...), a.Items[i+1:]...), it)
			return
		}
	}
}

// Shuffle puts the items of each answer into an order of its own.
func Shuffle(seed uint64) Bend {
	return func(a *Answer) {
		r := rand.New(rand.NewPCG(seed, uint64(a.UID)))
		r.Shuffle(len(a.Items), func(i, j int) { a.Items[i], a.Items[j] = a.Items[j], a.Items[i] })
	}
}

// FlagsBefore sends news about the flags of a message right before its answer,
// as when another client has changed them.
func FlagsBefore(a *Answer) {
	a.Before += fmt.Sprintf("* %d FETCH (UID %d FLAGS (\\Seen $Other))\r\n", a.Seq, a.UID)
}

// FlagsAfter is FlagsBefore behind the answer.
func FlagsAfter(a *Answer) {
	a.After += fmt.Sprintf("* %d FETCH (FLAGS (\\Seen $Other) UID %d)\r\n", a.Seq, a.UID)
}

// Twice sends what is not a body twice, the second time alone.
func Twice(a *Answer) {
	for _, it := range a.Items {
		if it.Body == nil && it.Name != "UID" {
			a.After += fmt.Sprintf("* %d FETCH (UID %d %s %s)\r\n", a.Seq, a.UID, it.Name, it.Value)
		}
	}
}

// Lie makes RFC822.SIZE wrong by delta.
func Lie(delta int64) Bend {
	return func(a *Answer) {
		if it := a.Item("RFC822.SIZE"); it != nil {
			var n int64
			fmt.Sscan(it.Value, &n)
			it.Value = fmt.Sprint(max(0, n+delta))
		}
	}
}

// Short sends n bytes of the body fewer than it announces and goes on as if
// all were well.
func Short(n int64) Bend {
	return WithBody(func(a *Answer) {
		it := a.Body()
		it.Body = io.LimitReader(it.Body, max(0, it.Size-n))
	})
}

// Long sends n bytes of the body more than it announces.
func Long(n int64) Bend {
	return WithBody(func(a *Answer) {
		it := a.Body()
		it.Body = io.MultiReader(it.Body, io.LimitReader(letters{}, n))
	})
}

// Nil says that the message has no body.
func Nil(a *Answer) { instead(a, "NIL") }

// Empty says that the body has no bytes.
func Empty(a *Answer) { instead(a, `""`) }

func instead(a *Answer, value string) {
	if it := a.Body(); it != nil {
		it.Body, it.Size, it.Value = nil, 0, value
	}
}

// Placeholder sends what Exchange sends for a message that it cannot convert.
func Placeholder(a *Answer) {
	if it := a.Body(); it != nil {
		it.Body, it.Size = strings.NewReader(placeholder), int64(len(placeholder))
	}
}

const placeholder = "From: Microsoft Exchange\r\nTo: ann@example.org\r\nSubject: Retrieval using the IMAP4 protocol failed for the following message: 7\r\nDate: Sun, 14 Mar 2021 15:09:26 +0100\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\nThe server couldn't retrieve the following message:\r\n\r\nSubject: \"x\"\r\nFrom: (\"Bob\" <bob@example.net>)\r\nSent date: 14.03.2021 15:09:26\r\n\r\nThe message hasn't been deleted. You might be able to view it using either Outlook or Outlook Web App.\r\n"

// Value replaces the value of an item, or adds the item.
func Value(name, value string) Bend {
	return func(a *Answer) {
		if it := a.Item(name); it != nil {
			it.Value, it.Body = value, nil
			return
		}
		a.Items = append(a.Items, Item{Name: name, Value: value})
	}
}

// Bytes sends another body, with the right announcement.
func Bytes(raw []byte) Bend {
	return WithBody(func(a *Answer) {
		it := a.Body()
		it.Body, it.Size = bytes.NewReader(raw), int64(len(raw))
	})
}
