package pop3conn

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"mailhaul/internal/mail"
)

// A Status is the first line of an answer (RFC 1939, section 3, with the
// response codes of RFC 2449, section 8).
type Status struct {
	OK   bool
	Code string // upper case, without brackets; often empty
	Text string // as sent: pass it through mail.Clean before showing it
}

func (s *Status) Error() string {
	text := s.Text
	if s.Code != "" {
		text = "[" + s.Code + "] " + text
	}
	switch text = strings.TrimSpace(text); {
	case text == "" && s.OK:
		text = "the server said +OK and nothing else"
	case text == "":
		text = "the server said -ERR and nothing else"
	}
	return mail.Clean(text)
}

// parseStatus reads a status line. Servers write the indicator in any case.
// What stands behind +OK is text, in which brackets mean nothing: it may be a
// unique-id.
func parseStatus(line string) (s Status, ok bool) {
	word, text, _ := strings.Cut(line, " ")
	switch strings.ToUpper(word) {
	case "+OK":
		return Status{OK: true, Text: text}, true
	case "-ERR":
	default:
		return s, false
	}
	text = strings.TrimLeft(text, " ")
	if rest, is := strings.CutPrefix(text, "["); is {
		if code, rest, closed := strings.Cut(rest, "]"); closed && len(code) <= mostCode {
			return Status{Code: strings.ToUpper(strings.TrimSpace(code)), Text: strings.TrimLeft(rest, " ")}, true
		}
	}
	return Status{Text: text}, true
}

// mostCode is more than any response code takes.
const mostCode = 64

// Temporary reports whether the same command may succeed later. Codes count
// before words (RFC 2449, section 8.1; RFC 3206).
func (s *Status) Temporary() bool {
	switch s.Code {
	case "IN-USE", "LOGIN-DELAY", "SYS/TEMP":
		return true
	case "AUTH", "SYS/PERM":
		return false
	}
	text := strings.ToLower(s.Text)
	for _, w := range busyWords {
		if strings.Contains(text, w) {
			return true
		}
	}
	return false
}

// busyWords are those of servers that know no codes.
var busyWords = []string{
	"in use", "lock", "another session", "already open", "busy", "too many", "try again", "try later",
	"temporar", "login delay", "minimum time", "too frequent", "rate limit", "throttled", "not connected",
}

// denied reports whether the status speaks of the password and of nothing else.
// A plain -ERR does: servers without codes say no more.
func (s *Status) denied() bool { return !s.Temporary() && s.Code != "SYS/PERM" }

// after is how long the server wants us to stay away.
func (c *Conn) after(s *Status) time.Duration {
	if s.Code != "LOGIN-DELAY" {
		return 0
	}
	return c.LoginDelay()
}

// LoginDelay is the least time between two logins, where the server announces
// one (RFC 2449, section 6.5).
func (c *Conn) LoginDelay() time.Duration {
	n, _ := number(c.caps["LOGIN-DELAY"])
	return time.Duration(min(n, 24*60*60)) * time.Second
}

// number reads the number that s begins with, up to a blank or the end.
func number(s string) (int64, bool) {
	word, _, _ := strings.Cut(s, " ")
	n, err := strconv.ParseUint(word, 10, 63)
	return int64(n), err == nil
}

var (
	// ErrSecurity marks a server that does not give the protection asked for.
	ErrSecurity = errors.New("no protected connection")

	// ErrVerb marks a command that this session must never send: a mistake of
	// ours.
	ErrVerb = errors.New("command not allowed")

	// ErrCounts marks a listing that does not agree with itself or with the
	// number of messages that the server tells.
	ErrCounts = errors.New("the server's listings do not agree")

	// ErrNoUIDL: the server gives messages no unique-ids.
	ErrNoUIDL = errors.New("the server knows no unique-ids (UIDL)")

	// ErrSyntax marks an answer that cannot be understood.
	ErrSyntax = errors.New("the server's answer cannot be understood")

	errWays  = errors.New("no way to log in")
	errLimit = errors.New("the server's answer is beyond all measure")
)
