package testmail

import (
	"bytes"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// A Response is what a POP3 server is about to answer to a command. The
// command has been done: a QUIT has deleted.
type Response struct {
	Command
	Status   string    // the first line; empty: none
	Lines    []string  // those of a listing, as they are sent but without CRLF
	Message  io.Reader // of RETR and TOP, before dots are stuffed
	Stuffing Stuffing
	Rest     io.Reader // sent as it is, behind all that
	Dot      string    // what ends an answer of several lines; empty: nothing
	End      bool      // then the connection ends, as How says
	How      How
}

// A Twist changes an answer before it is sent. Twists are asked in the order
// in which they were set, from several goroutines, and may call the server.
type Twist func(*Response)

// Twist adds twists.
func (p *POP3) Twist(t ...Twist) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.twists = append(p.twists, t...)
}

// Heal takes all faults, twists and cuts away.
func (p *POP3) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults, p.twists, p.cut = nil, nil, nil
}

// twist asks the twists, without a lock.
func (p *POP3) twist(a *Response) {
	p.mu.Lock()
	twists := slices.Clone(p.twists)
	p.mu.Unlock()
	for _, t := range twists {
		t(a)
	}
}

// On twists answers to commands of a verb only, as they are sent: LIST stands
// for LIST and LIST 1.
func On(verb string, t Twist) Twist {
	return func(a *Response) {
		if a.Verb == verb {
			t(a)
		}
	}
}

// OnNumber twists answers about one message only, by its number.
func OnNumber(n int, t Twist) Twist {
	return func(a *Response) {
		if first, _, _ := strings.Cut(a.Args, " "); first == strconv.Itoa(n) {
			t(a)
		}
	}
}

// AtFirst twists the first times answers that t changes. One that t leaves
// alone does not count, so AtFirst(1, On("QUIT", x)) is the first QUIT.
func AtFirst(times int, t Twist) Twist {
	var mu sync.Mutex
	return func(a *Response) {
		mu.Lock()
		defer mu.Unlock()
		if times <= 0 {
			return
		}
		before := *a
		before.Lines = slices.Clone(a.Lines)
		if t(a); !a.same(&before) {
			times--
		}
	}
}

func (a *Response) same(b *Response) bool {
	return a.Status == b.Status && slices.Equal(a.Lines, b.Lines) && a.Message == b.Message && a.Stuffing == b.Stuffing &&
		a.Rest == b.Rest && a.Dot == b.Dot && a.End == b.End && a.How == b.How
}

// Say answers with nothing but text: one line, or several with CRLF between
// them. What the command has done stays done.
func Say(text string) Twist {
	return func(a *Response) {
		a.Status = text
		a.Lines, a.Message, a.Rest, a.Dot = nil, nil, nil, ""
	}
}

// Lost ends the connection in place of the answer.
func Lost(how How) Twist {
	return func(a *Response) {
		Say("")(a)
		a.End, a.How = true, how
	}
}

// SetLine replaces line i of a listing, from 0. Answers that have no such line
// are left alone, here and below.
func SetLine(i int, text string) Twist {
	return func(a *Response) {
		if i < len(a.Lines) {
			a.Lines[i] = text
		}
	}
}

// DropLine leaves line i of a listing out.
func DropLine(i int) Twist {
	return func(a *Response) {
		if i < len(a.Lines) {
			a.Lines = slices.Delete(a.Lines, i, i+1)
		}
	}
}

// AddLine puts a line behind a listing.
func AddLine(text string) Twist {
	return func(a *Response) {
		if a.Message == nil && a.Dot != "" {
			a.Lines = append(a.Lines, text)
		}
	}
}

// Endless repeats text for ever behind a listing or a message, whose end never
// comes: "x" is a line without end, "7 abc\r\n" lines without end.
func Endless(text string) Twist {
	return func(a *Response) {
		if a.Dot != "" {
			a.Rest, a.Dot = &repeated{text: text}, ""
		}
	}
}

// repeated reads as its text, again and again.
type repeated struct {
	text string
	at   int
}

func (r *repeated) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		c := copy(p[n:], r.text[r.at:])
		n += c
		r.at = (r.at + c) % len(r.text)
	}
	return n, nil
}

// NoDot leaves the line out that ends an answer of several.
func NoDot(a *Response) { a.Dot = "" }

// Stuff hides dots in another way.
func Stuff(how Stuffing) Twist { return func(a *Response) { a.Stuffing = how } }

// Instead sends another message.
func Instead(raw []byte) Twist {
	return func(a *Response) {
		if a.Message != nil {
			a.Message = bytes.NewReader(raw)
		}
	}
}

// Upto sends n bytes of a message and ends it in good order.
func Upto(n int64) Twist {
	return func(a *Response) {
		if a.Message != nil {
			a.Message = io.LimitReader(a.Message, n)
		}
	}
}

// Around puts bytes before and behind a message, such as the byte order mark
// that Outlook.com puts before some.
func Around(before, behind string) Twist {
	return func(a *Response) {
		if a.Message != nil {
			a.Message = io.MultiReader(strings.NewReader(before), a.Message, strings.NewReader(behind))
		}
	}
}
