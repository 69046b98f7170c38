package testmail

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"slices"
	"strings"
)

// dialogue is one connection to a Model.
type dialogue struct {
	m      *Model
	number int
	wire   *wire
	r      *bufio.Reader
	w      *outbox
	secure bool
	full   bool // one connection too many, told at login

	in      bool // logged in
	enabled map[string]bool
	told    uint64 // the folder's modseq when its changes were told last; 0: never
	box     *box   // open; a pointer to what the folder was when it was opened
	name    string
	view    []*seen // by sequence number

	readOnly   bool
	compressed bool
}

// seen is a message as this client knows it.
type seen struct {
	*stored
	told uint64 // mod-sequence of the flags that it was told
}

func (m *Model) serve(conn net.Conn, config *tls.Config) {
	number, now := m.enter(conn)
	defer m.leave(conn)
	w := &wire{Conn: conn, h: &m.host, pace: pace{m.Window, m.Pause}, number: number}
	d := &dialogue{m: m, number: number, wire: w, enabled: map[string]bool{}}
	d.speak(w)
	if config != nil {
		d.upgrade(config)
	}
	d.converse(m.Most > 0 && now > m.Most)
	if d.w.Flush() != nil && !w.broken {
		return // the client has left
	}
	w.finish(w.how)
}

// speak makes conn the one that is read and written.
func (d *dialogue) speak(conn net.Conn) {
	d.r, d.w = bufio.NewReader(conn), &outbox{conn: conn}
}

func (d *dialogue) upgrade(config *tls.Config) {
	d.speak(tls.Server(d.wire, config))
	d.secure = true
}

func (d *dialogue) printf(format string, args ...any) { fmt.Fprintf(d.w, format, args...) }

// converse greets and does commands until somebody ends it.
func (d *dialogue) converse(full bool) {
	if full && !strings.HasPrefix(d.m.Full, "NO") {
		text := d.m.Full
		if text == "" {
			text = "* BYE [UNAVAILABLE] too many simultaneous connections"
		}
		d.printf("%s\r\n", text)
		return
	}
	d.full = full
	d.greet()
	for {
		if d.w.Flush() != nil {
			return
		}
		line, err := readCommand(d.r, func() error {
			d.printf("+ go on\r\n")
			return d.w.Flush()
		})
		if err != nil || !d.command(line) {
			return
		}
	}
}

func (d *dialogue) greet() {
	switch {
	case d.m.Greeting != "":
		d.printf("* %s\r\n", d.m.Greeting)
		d.in = strings.HasPrefix(d.m.Greeting, "PREAUTH")
	case d.m.Preauth:
		d.in = true
		d.printf("* PREAUTH [CAPABILITY %s] ready\r\n", d.caps())
	default:
		d.printf("* OK [CAPABILITY %s] ready\r\n", d.caps())
	}
}

// caps are what may be used now.
func (d *dialogue) caps() string {
	all := slices.Clone(d.m.caps())
	if n := d.m.keeper().Limit; n > 0 && !d.m.has("APPENDLIMIT") {
		all = append(all, fmt.Sprintf("APPENDLIMIT=%d", n))
	}
	if d.m.TLS != nil && !d.secure && !d.in {
		all = append(all, "STARTTLS")
		if !d.m.Cleartext {
			all = slices.DeleteFunc(all, func(c string) bool { return strings.HasPrefix(c, "AUTH=") })
			all = append(all, "LOGINDISABLED")
		}
	}
	return strings.Join(all, " ")
}

// command does one line; false ends the connection.
func (d *dialogue) command(line string) bool {
	c := parseCommand(line)
	c.Conn, c.Secure = d.number, d.secure
	args := c.Args
	if c.Verb == "LOGIN" || c.Verb == "AUTHENTICATE" {
		c.Args = "" // no password in a log
	}
	d.m.note(&c)
	status := ""
	if r := d.m.fault(c); r != nil {
		if r.Late && d.do(c, args) == hangup {
			return false
		}
		d.w.WriteString(r.Before)
		if r.Stall || r.Reset || r.End {
			if r.Status != "" {
				d.printf("%s %s\r\n", c.Tag, r.Status)
			}
			d.wire.how = FIN
			if r.Stall {
				d.wire.how = Stall
			}
			if r.Reset {
				d.wire.how = RST
			}
			return false
		}
		status = r.Status
	}
	if status == "" {
		status = d.do(c, args)
	}
	if status == hangup {
		return false
	}
	d.sync(c.Verb)
	d.printf("%s %s\r\n", c.Tag, status)
	switch {
	case c.Verb == "LOGOUT":
		return false
	case c.Verb == "COMPRESS" && strings.HasPrefix(status, "OK") && !d.compressed:
		if d.w.Flush() != nil {
			return false
		}
		d.compressed = true
		d.speak(newDeflated(d.w.conn, d.r))
	case c.Verb == "STARTTLS" && strings.HasPrefix(status, "OK") && !d.secure:
		if d.w.Flush() != nil {
			return false
		}
		d.upgrade(d.m.TLS)
	}
	return true
}

// hangup is a status that is not sent.
const hangup = ""

func parseCommand(line string) Command {
	var c Command
	c.Tag, line, _ = strings.Cut(line, " ")
	c.Verb, c.Args, _ = strings.Cut(line, " ")
	c.Verb = strings.ToUpper(c.Verb)
	if c.Verb == "UID" {
		var verb string
		verb, c.Args, _ = strings.Cut(c.Args, " ")
		c.Verb += " " + strings.ToUpper(verb)
	}
	return c
}

// do does a command and tells the tagged status.
func (d *dialogue) do(c Command, raw string) string {
	args, err := tokens(raw)
	if err != nil {
		return "BAD syntax error"
	}
	switch c.Verb {
	case "CAPABILITY":
		d.printf("* CAPABILITY %s\r\n", d.caps())
		return "OK done"
	case "NOOP":
		return "OK done"
	case "LOGOUT":
		d.printf("* BYE see you\r\n")
		return "OK done"
	case "ID":
		return d.id()
	case "STARTTLS":
		if d.m.TLS == nil || d.secure {
			return "BAD no TLS here"
		}
		return "OK begin"
	case "LOGIN":
		return d.login(args)
	case "AUTHENTICATE":
		return d.authenticate(args)
	}
	if !d.in {
		return "BAD log in first"
	}
	if status, ok := d.doIn(c, args); ok {
		return status
	}
	if d.box == nil {
		return "BAD unknown here"
	}
	switch c.Verb {
	case "UNSELECT":
		if !d.m.has("UNSELECT") {
			return "BAD unknown"
		}
		d.box, d.view = nil, nil
		return "OK done"
	case "CLOSE":
		d.box, d.view = nil, nil // open for reading only, so nothing is expunged
		return "OK done"
	case "CHECK":
		return "OK done"
	case "FETCH", "UID FETCH":
		return d.fetch(args, c.Verb == "UID FETCH")
	case "UID STORE":
		return d.change(args)
	case "UID COPY":
		return d.copies(args)
	case "SEARCH", "UID SEARCH":
		return d.search(c.Tag, args, c.Verb == "UID SEARCH")
	}
	return "BAD unknown"
}

// doIn does what needs no open folder.
func (d *dialogue) doIn(c Command, args []token) (status string, known bool) {
	switch c.Verb {
	case "NAMESPACE":
		if !d.m.has("NAMESPACE") {
			return "BAD unknown", true
		}
		d.printf("* NAMESPACE ((%s %s)) NIL NIL\r\n", quote(d.m.Prefix), d.m.delim())
		return "OK done", true
	case "ENABLE":
		return d.enable(args), true
	case "COMPRESS":
		if !d.m.has("COMPRESS=DEFLATE") || len(args) != 1 || !strings.EqualFold(args[0].text, "DEFLATE") {
			return "BAD unknown", true
		}
		if d.compressed {
			return "NO [COMPRESSIONACTIVE] it is on", true
		}
		return "OK compressed from here on", true
	case "LIST":
		return d.list(args), true
	case "STATUS":
		return d.status(args), true
	case "SELECT", "EXAMINE":
		return d.examine(args, c.Verb), true
	case "CREATE":
		return d.create(args), true
	case "SUBSCRIBE":
		return d.subscribe(args), true
	case "APPEND":
		return d.appends(args), true
	case "GETQUOTAROOT":
		return d.quota(args), true
	}
	return "", false
}

func (d *dialogue) id() string {
	if !d.m.has("ID") {
		return "BAD unknown"
	}
	d.printf("* ID (\"name\" \"Model\" \"version\" \"1\")\r\n")
	return "OK done"
}

func (d *dialogue) login(args []token) string {
	if len(args) != 2 {
		return "BAD user and password"
	}
	return d.admit(args[0].text, args[1].text)
}

// authenticate does PLAIN (RFC 4616), with an initial response or without.
func (d *dialogue) authenticate(args []token) string {
	if len(args) == 0 || !strings.EqualFold(args[0].text, "PLAIN") {
		return "NO [CANNOT] only PLAIN"
	}
	var answer string
	if len(args) > 1 {
		answer = args[1].text
	} else {
		d.printf("+ \r\n")
		if d.w.Flush() != nil {
			return hangup
		}
		line, err := d.r.ReadString('\n')
		if err != nil {
			return hangup
		}
		answer = strings.TrimRight(line, "\r\n")
	}
	raw, err := base64.StdEncoding.DecodeString(answer)
	parts := strings.Split(string(raw), "\x00")
	if err != nil || len(parts) != 3 {
		return "BAD not PLAIN"
	}
	return d.admit(parts[1], parts[2])
}

func (d *dialogue) admit(user, password string) string {
	switch {
	case d.in:
		return "BAD logged in already"
	case d.m.TLS != nil && !d.secure && !d.m.Cleartext:
		return "NO [PRIVACYREQUIRED] not in clear text"
	case d.full:
		return d.m.Full
	case !d.m.knows(user, password):
		return "NO [AUTHENTICATIONFAILED] wrong user or password"
	}
	d.in = true
	if d.m.Welcome != "" {
		return "OK " + d.m.Welcome
	}
	return fmt.Sprintf("OK [CAPABILITY %s] welcome", d.caps())
}

func (d *dialogue) enable(args []token) string {
	if !d.m.has("ENABLE") {
		return "BAD unknown"
	}
	var on []string
	for _, a := range args {
		name := strings.ToUpper(a.text)
		if (name == "CONDSTORE" || name == "QRESYNC") && d.m.has(name) {
			d.enabled[name], d.enabled["CONDSTORE"] = true, true
			on = append(on, name)
		}
	}
	d.printf("* ENABLED%s\r\n", strings.Join(append([]string{""}, on...), " "))
	return "OK done"
}
