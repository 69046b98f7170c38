package testmail

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// do does a command.
func (v *visit) do(a *Response, args string) {
	switch a.Verb {
	case "CAPA":
		v.capa(a)
	case "QUIT":
		v.quit(a)
	case "STLS":
		a.Status = "+OK begin"
		if v.p.TLS == nil || v.secure || v.in {
			a.Status = "-ERR no TLS here"
		}
	case "USER", "PASS", "APOP", "AUTH":
		v.login(a, args)
	default:
		if !v.in {
			a.Status = "-ERR log in first"
			return
		}
		v.doIn(a, args)
	}
}

// doIn does a command of the TRANSACTION state.
func (v *visit) doIn(a *Response, args string) {
	words := strings.Fields(args)
	switch a.Verb {
	case "STAT":
		n, octets := v.sum()
		a.Status = fmt.Sprintf("+OK %d %d", n, octets)
	case "LIST":
		v.listing(a, words, func(s *post) string { return strconv.FormatInt(v.claim(s), 10) })
	case "UIDL":
		if !v.p.has("UIDL") {
			a.Status = "-ERR unknown command"
			return
		}
		v.listing(a, words, v.id)
	case "RETR", "TOP":
		v.retrieve(a, words)
	case "DELE":
		if _, s := v.message(a, words); s != nil {
			v.deleted[s] = true
			a.Status = "+OK marked"
		}
	case "RSET":
		clear(v.deleted)
		a.Status = "+OK all are back"
	case "NOOP":
		a.Status = "+OK"
	default:
		a.Status = "-ERR unknown command"
	}
}

// caps are what CAPA tells now.
func (v *visit) caps() []string {
	exposed := v.p.TLS != nil && !v.secure && !v.in
	switch {
	case v.in && v.p.CapsIn != nil:
		return v.p.CapsIn
	case exposed && v.p.CapsClear != nil:
		return v.p.CapsClear
	case !exposed:
		return v.p.caps()
	}
	all := slices.Clone(v.p.caps())
	if !v.p.Cleartext {
		all = slices.DeleteFunc(all, func(c string) bool { return named([]string{c}, "USER") || named([]string{c}, "SASL") })
	}
	return append(all, "STLS")
}

func (v *visit) capa(a *Response) {
	if len(v.p.caps()) == 0 {
		a.Status = "-ERR unknown command"
		return
	}
	a.Status, a.Lines, a.Dot = "+OK", slices.Clone(v.caps()), dot
}

// coded puts a response code before text, where they are offered.
func (v *visit) coded(code, text string) string {
	offer := "RESP-CODES"
	if code == "AUTH" {
		offer = "AUTH-RESP-CODE" // RFC 3206
	}
	if !named(v.p.caps(), offer) {
		return "-ERR " + text
	}
	return "-ERR [" + code + "] " + text
}

// there tells whether a message of the view can still be asked for.
func (v *visit) there(s *post) bool {
	v.p.mu.Lock()
	defer v.p.mu.Unlock()
	return !s.gone && !v.deleted[s]
}

func (v *visit) claim(s *post) int64 {
	v.p.mu.Lock()
	claim := s.claim
	v.p.mu.Unlock()
	if claim < 0 {
		return s.size()
	}
	return claim
}

func (v *visit) id(s *post) string {
	v.p.mu.Lock()
	defer v.p.mu.Unlock()
	return s.id
}

// sum is what STAT tells: it must agree with LIST.
func (v *visit) sum() (n int, octets int64) {
	for _, s := range v.view {
		if v.there(s) {
			n++
			octets += v.claim(s)
		}
	}
	return n, octets
}

// listing answers LIST and UIDL, for all messages or for one.
func (v *visit) listing(a *Response, words []string, value func(*post) string) {
	if len(words) > 0 {
		if n, s := v.message(a, words); s != nil {
			a.Status = fmt.Sprintf("+OK %d %s", n, value(s))
		}
		return
	}
	n, octets := v.sum()
	a.Status, a.Dot = fmt.Sprintf("+OK %d messages (%d octets)", n, octets), dot
	for i, s := range v.view {
		if v.there(s) {
			a.Lines = append(a.Lines, fmt.Sprintf("%d %s", i+1, value(s)))
		}
	}
}

// message finds the one that the first of words is the number of; if there is
// none it says so.
func (v *visit) message(a *Response, words []string) (int, *post) {
	a.Status = "-ERR no such message"
	if len(words) == 0 {
		return 0, nil
	}
	n, err := strconv.Atoi(words[0])
	if err != nil || n < 1 || n > len(v.view) || !v.there(v.view[n-1]) {
		return 0, nil
	}
	return n, v.view[n-1]
}

func (v *visit) retrieve(a *Response, words []string) {
	_, s := v.message(a, words)
	if s == nil {
		return
	}
	if a.Verb == "RETR" {
		v.retrieved[s] = true
		a.Status, a.Message, a.Dot = fmt.Sprintf("+OK %d octets", v.claim(s)), s.Open(), dot
		return
	}
	if len(words) != 2 || !v.p.has("TOP") {
		a.Status = "-ERR unknown command"
		return
	}
	lines, err := strconv.Atoi(words[1])
	if err != nil || lines < 0 {
		a.Status = "-ERR how many lines?"
		return
	}
	a.Status, a.Message, a.Dot = "+OK", top(s.Open(), lines), dot
}

// top is the header of a message, the blank line and so many lines more.
func top(r io.Reader, lines int) io.Reader {
	var b bytes.Buffer
	in := bufio.NewReader(r)
	for header := true; header || lines > 0; {
		line, err := in.ReadBytes('\n')
		b.Write(line)
		if err != nil {
			break
		}
		if !header {
			lines--
		}
		header = header && len(bytes.TrimRight(line, "\r\n")) > 0
	}
	return &b
}

// quit ends the session; from TRANSACTION it goes through UPDATE.
func (v *visit) quit(a *Response) {
	a.Status = "+OK see you"
	if !v.in {
		return
	}
	if !v.update() {
		a.Status = "-ERR some deleted messages not removed"
	}
	v.p.free(v)
}

// update does what was only marked (RFC 1939, section 6), and tells whether
// all of it could be done.
func (v *visit) update() bool {
	var going []*post
	var messages []Message
	all := true
	v.p.mu.Lock()
	for _, s := range v.view {
		switch {
		case !v.deleted[s] && !(v.retrieved[s] && (v.p.Gmail > 0 || v.p.expires())):
		case v.p.Gmail > 0:
			s.hidden = true // what DELE means there the user sets in a browser
		case s.pinned:
			all = all && !v.deleted[s]
		case !s.gone:
			going = append(going, s)
			messages = append(messages, s.Message)
		}
	}
	v.p.mu.Unlock()
	if v.p.Update != nil && len(messages) > 0 {
		v.p.Update(messages)
	}
	v.p.mu.Lock()
	defer v.p.mu.Unlock()
	for _, s := range going {
		s.gone = true
	}
	v.p.sweep()
	return all
}
