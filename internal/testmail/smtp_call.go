package testmail

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
)

// call is one connection to an SMTP server.
type call struct {
	s      *SMTP
	number int
	wire   *wire
	r      *bufio.Reader
	w      *outbox
	secure bool
	over   bool // it ends when what is to be sent has been

	greeted bool
	in      bool // logged in
	letter
}

// letter is one mail transaction.
type letter struct {
	begun  bool
	from   string
	params []string
	to     []string
	raw    bytes.Buffer
	chunks bool
}

func (s *SMTP) serve(conn net.Conn, config *tls.Config) {
	number, _ := s.enter(conn)
	defer s.leave(conn)
	w := &wire{Conn: conn, h: &s.host, number: number}
	c := &call{s: s, number: number, wire: w}
	c.speak(w)
	if config != nil {
		c.upgrade(config)
	}
	c.converse()
	if c.w.Flush() != nil && !w.broken {
		return // the client has left
	}
	w.finish(w.how)
}

func (c *call) speak(conn net.Conn) { c.r, c.w = bufio.NewReader(conn), &outbox{conn: conn} }

func (c *call) upgrade(config *tls.Config) {
	c.speak(tls.Server(c.wire, config))
	c.secure, c.greeted, c.letter = true, false, letter{}
}

func (c *call) say(format string, args ...any) { fmt.Fprintf(c.w, format+"\r\n", args...) }

// converse greets and does commands until somebody ends it.
func (c *call) converse() {
	greeting := c.s.Greeting
	if greeting == "" {
		greeting = "220 model.example ready"
	}
	if status := c.ask(Command{Verb: "GREETING"}); status != "" {
		greeting = status
	}
	if !c.over {
		c.say("%s", greeting)
	}
	c.over = c.over || !strings.HasPrefix(greeting, "220")
	for !c.over {
		if c.r.Buffered() == 0 && c.w.Flush() != nil {
			return
		}
		line, err := c.r.ReadString('\n')
		if err != nil {
			return
		}
		c.command(line)
	}
}

// ask asks the faults about a moment and gives the reply that they want, or "".
func (c *call) ask(m Command) (status string) {
	m.Conn, m.Secure = c.number, c.secure
	r := c.s.fault(m)
	if r == nil {
		return ""
	}
	c.w.WriteString(r.Before)
	if r.Stall || r.Reset || r.End {
		if r.Status != "" {
			c.say("%s", r.Status)
		}
		c.over = true
		switch {
		case r.Stall:
			c.wire.how = Stall
		case r.Reset:
			c.wire.how = RST
		}
	}
	return r.Status
}

func (c *call) command(line string) {
	line, ended := strings.CutSuffix(line, "\r\n")
	if !ended || strings.ContainsAny(line, "\r\x00") {
		c.s.sin("a command line that is none: %q", line)
	}
	verb, args, _ := strings.Cut(line, " ")
	m := Command{Conn: c.number, Verb: strings.ToUpper(verb), Args: args, Secure: c.secure}
	if m.Verb == "AUTH" {
		m.Args, _, _ = strings.Cut(args, " ")
	}
	c.s.note(&m)
	if c.r.Buffered() > 0 && m.Verb != "BDAT" && !named(c.s.keywords(), "PIPELINING") {
		c.s.sin("%s: more was sent before the answer, and PIPELINING is not offered", m.Verb)
	}
	if status := c.ask(m); status != "" || c.over {
		if m.Verb == "BDAT" { // the octets come all the same
			n, _, _ := strings.Cut(args, " ")
			size, _ := strconv.ParseInt(n, 10, 64)
			if c.w.Flush() != nil {
				return
			}
			io.CopyN(io.Discard, c.r, size)
			c.letter = letter{}
		}
		if !c.over {
			c.say("%s", status)
		}
		return
	}
	c.do(m, args)
}

func (c *call) do(m Command, args string) {
	switch m.Verb {
	case "EHLO", "LHLO", "HELO":
		c.hello(m.Verb, args)
	case "STARTTLS":
		if c.s.TLS == nil || c.secure {
			c.say("502 5.5.1 no TLS here")
			return
		}
		c.say("220 2.0.0 begin")
		if c.w.Flush() == nil {
			c.upgrade(c.s.TLS)
		}
	case "AUTH":
		c.auth(args)
	case "NOOP":
		c.say("250 2.0.0 ok")
	case "RSET":
		c.letter = letter{}
		c.say("250 2.0.0 forgotten")
	case "QUIT":
		c.say("221 2.0.0 see you")
		c.over = true
	case "MAIL":
		c.begin(args)
	case "RCPT":
		c.recipient(args)
	case "DATA":
		c.data()
	case "BDAT":
		c.chunk(args)
	default:
		c.s.sin("unknown command %s", m.Verb)
		c.say("500 5.5.1 what?")
	}
}

func (c *call) hello(verb, name string) {
	switch {
	case verb == "HELO" && !c.s.LMTP:
		c.greeted = true
		c.say("250 model.example")
		return
	case c.s.Old || c.s.LMTP != (verb == "LHLO"):
		c.say("500 5.5.1 unknown command")
		return
	case name == "":
		c.say("501 5.5.4 who are you?")
		return
	}
	c.greeted, c.letter = true, letter{}
	lines := slices.Clone(c.s.keywords())
	if c.s.TLS != nil && !c.secure {
		lines = append(lines, "STARTTLS")
	}
	if c.s.Auth != "" && (c.secure || c.s.TLS == nil || c.s.Cleartext) {
		lines = append(lines, "AUTH "+c.s.Auth)
	}
	lines = append([]string{"model.example greets " + name}, lines...)
	for i, l := range lines {
		sep := "-"
		if i == len(lines)-1 {
			sep = " "
		}
		c.say("250%s%s", sep, l)
	}
}

// auth does PLAIN (RFC 4616) and LOGIN.
func (c *call) auth(args string) {
	mechanism, initial, _ := strings.Cut(args, " ")
	if c.s.Auth == "" || c.in || !slices.Contains(strings.Fields(c.s.Auth), strings.ToUpper(mechanism)) {
		c.say("504 5.5.4 not this way")
		return
	}
	ask := func(challenge string) string {
		c.say("334 %s", base64.StdEncoding.EncodeToString([]byte(challenge)))
		if c.w.Flush() != nil {
			return ""
		}
		line, _ := c.r.ReadString('\n')
		return strings.TrimRight(line, "\r\n")
	}
	plain := func(line string) string {
		b, _ := base64.StdEncoding.DecodeString(line)
		return string(b)
	}
	var user, password string
	if strings.EqualFold(mechanism, "PLAIN") {
		if initial == "" {
			initial = ask("")
		}
		if parts := strings.Split(plain(initial), "\x00"); len(parts) == 3 {
			user, password = parts[1], parts[2]
		}
	} else {
		user = plain(ask("Username:"))
		password = plain(ask("Password:"))
	}
	if !known(c.s.User, c.s.Password, user, password) {
		c.say("535 5.7.8 wrong user or password")
		return
	}
	c.in = true
	c.say("235 2.7.0 welcome")
}

// path takes "FROM:<x> A=B" apart.
func path(args, word string) (address string, params []string, ok bool) {
	if len(args) < len(word) || !strings.EqualFold(args[:len(word)], word) {
		return "", nil, false
	}
	rest, ok := strings.CutPrefix(args[len(word):], "<")
	address, tail, closed := strings.Cut(rest, ">")
	return address, strings.Fields(tail), ok && closed
}

func (c *call) begin(args string) {
	from, params, ok := path(args, "FROM:")
	switch {
	case !c.greeted:
		c.say("503 5.5.1 say who you are")
		return
	case c.s.Auth != "" && !c.in:
		c.say("530 5.7.0 authentication required")
		return
	case !ok || c.begun:
		c.s.sin("MAIL %s", args)
		c.say("501 5.5.4 not now, or not so")
		return
	}
	for _, p := range params {
		name, value, _ := strings.Cut(p, "=")
		need := strings.ToUpper(name)
		if need == "BODY" {
			need = map[string]string{"8BITMIME": "8BITMIME", "7BIT": "8BITMIME", "BINARYMIME": "BINARYMIME"}[value]
		}
		if !named(c.s.keywords(), need) {
			c.s.sin("MAIL %s: %s is not offered", args, p)
			c.say("555 5.5.4 %s?", name)
			return
		}
		if n, _ := strconv.ParseInt(value, 10, 64); need == "SIZE" && c.s.limit() > 0 && n > c.s.limit() {
			c.say("552 5.3.4 too big")
			return
		}
	}
	c.letter = letter{begun: true, from: from, params: params}
	c.say("250 2.1.0 ok")
}

func (c *call) recipient(args string) {
	to, _, ok := path(args, "TO:")
	if !c.begun || !ok || to == "" {
		if c.begun {
			c.s.sin("RCPT %s", args)
		}
		c.say("503 5.5.1 not now, or not so")
		return
	}
	c.to = append(c.to, to)
	c.say("250 2.1.5 ok")
}

func (c *call) has(param string) bool { return slices.Contains(c.params, param) }

func (c *call) data() {
	switch {
	case len(c.to) == 0:
		c.say("503 5.5.1 no recipients")
		return
	case c.has("BODY=BINARYMIME"):
		c.s.sin("DATA for binary mail")
		c.say("503 5.5.1 BDAT is the way for it")
		return
	case c.r.Buffered() > 0:
		c.s.sin("DATA: more was sent before the answer")
	}
	c.say("354 go on")
	if c.w.Flush() != nil {
		c.over = true
		return
	}
	for begins := true; ; {
		line, err := c.r.ReadBytes('\n')
		if err != nil {
			c.over = true
			return
		}
		if begins && string(line) == ".\r\n" {
			break
		}
		if begins && line[0] == '.' {
			line = line[1:]
		}
		begins = bytes.HasSuffix(line, []byte("\r\n"))
		c.raw.Write(line)
	}
	c.judge()
	c.settle()
}

// judge looks for what may not be in DATA.
func (c *call) judge() {
	eight := false
	for line := range bytes.SplitAfterSeq(c.raw.Bytes(), []byte("\r\n")) {
		text, ended := bytes.CutSuffix(line, []byte("\r\n"))
		if !ended && len(line) > 0 || bytes.ContainsAny(text, "\r\n\x00") || len(text) > 998 {
			c.s.sin("DATA: a line that is none: %.60q", line)
		}
		eight = eight || bytes.ContainsFunc(text, func(r rune) bool { return r >= 0x80 })
	}
	if eight && !c.has("BODY=8BITMIME") {
		c.s.sin("DATA: 8-bit text that was not announced")
	}
}

func (c *call) chunk(args string) {
	words := strings.Fields(args)
	size, err := int64(-1), error(nil)
	if len(words) > 0 {
		size, err = strconv.ParseInt(words[0], 10, 64)
	}
	if err != nil || size < 0 || !named(c.s.keywords(), "CHUNKING") {
		c.s.sin("BDAT %s", args)
		c.say("502 5.5.1 no chunks")
		c.over = true
		return
	}
	if c.w.Flush() != nil {
		c.over = true
		return
	}
	if _, err := io.CopyN(&c.raw, c.r, size); err != nil {
		c.over = true
		return
	}
	c.chunks = true
	switch {
	case len(c.to) == 0:
		c.say("503 5.5.1 no recipients")
	case len(words) > 1:
		c.settle()
	default:
		c.say("250 2.0.0 %d octets", size)
	}
}

// settle accepts the message, or not.
func (c *call) settle() {
	l := c.letter
	c.letter = letter{}
	c.s.note(&Command{Conn: c.number, Verb: ".", Secure: c.secure})
	d := Delivery{Conn: c.number, From: l.from, Parameters: l.params, Raw: bytes.Clone(l.raw.Bytes()), Chunked: l.chunks}
	each := []string{""}
	if c.s.LMTP {
		each = l.to
	}
	status := make([]string, len(each))
	for i, to := range each {
		status[i] = c.ask(Command{Verb: ".", Args: to})
		switch {
		case c.over:
			return
		case status[i] != "" && status[i][0] != '2':
		case c.s.limit() > 0 && int64(len(d.Raw)) > c.s.limit():
			status[i] = "552 5.3.4 too big"
		case c.s.LMTP:
			d.To = append(d.To, to)
		default:
			d.To = l.to
		}
	}
	if len(d.To) > 0 {
		c.s.accept(d)
	}
	for i, to := range each {
		if status[i] == "" {
			status[i] = c.ask(Command{Verb: "ACCEPTED", Args: to})
		}
		if c.over {
			return
		}
		if status[i] == "" {
			status[i] = fmt.Sprintf("250 2.0.0 ok, queued as %d", len(c.s.Accepted()))
		}
		c.say("%s", status[i])
	}
}
