package imapconn

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"time"

	"mailhaul/internal/mail"
)

// A Status is what the server says at the end of a command, or between
// (RFC 3501, section 7.1).
type Status struct {
	Type string // "OK", "NO", "BAD", "BYE", "PREAUTH"
	Code string // upper case, without brackets; often empty
	Arg  string // what follows the code within the brackets
	Text string // as sent: pass it through mail.Clean before showing it
}

func (s *Status) Error() string {
	text := s.Text
	if s.Code != "" {
		text = "[" + s.Code + "] " + text
	}
	if text = strings.TrimSpace(text); text == "" {
		text = "the server said " + s.Type + " and nothing else"
	}
	return mail.Clean(text)
}

// parseStatus reads what follows the tag or the star. Codes and types may be
// written in any case (RFC 3501, section 9, note 1).
func parseStatus(b []byte) (Status, bool) {
	word, rest, _ := bytes.Cut(b, []byte(" "))
	s := Status{Type: strings.ToUpper(string(word))}
	switch s.Type {
	case "OK", "NO", "BAD", "BYE", "PREAUTH":
	default:
		return s, false
	}
	rest = bytes.TrimLeft(rest, " ")
	if len(rest) > 0 && rest[0] == '[' {
		if end := codeEnd(rest); end > 0 {
			code, arg, _ := bytes.Cut(rest[1:end], []byte(" "))
			s.Code, s.Arg = strings.ToUpper(string(code)), string(arg)
			rest = bytes.TrimLeft(rest[end+1:], " ")
		}
	}
	s.Text = string(rest)
	return s, true
}

// codeEnd finds the "]" that closes a code. Flags of Gmail hold one, so within
// parentheses and quotes it does not count.
func codeEnd(b []byte) int {
	depth, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == ']' && depth <= 0:
			return i
		}
	}
	return bytes.IndexByte(b, ']')
}

// number is the code's argument where that is a number.
func (s *Status) number() (uint64, bool) {
	word, _, _ := strings.Cut(strings.TrimSpace(s.Arg), " ")
	n, err := strconv.ParseUint(word, 10, 64)
	return n, err == nil
}

// Busy reports whether the server asks to come back later, or with fewer
// connections: codes of RFC 5530, and the words of those that know no codes.
func (s *Status) Busy() bool {
	switch s.Code {
	case "UNAVAILABLE", "INUSE", "LIMIT", "THROTTLED", "OVERQUOTA":
		return true
	case "AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED", "EXPIRED", "PRIVACYREQUIRED", "CONTACTADMIN", "NOPERM":
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

// Wait is how long the server asks to wait, as Exchange does in its text:
// "Suggested Backoff Time: 299961 milliseconds".
func (s *Status) Wait() time.Duration {
	_, rest, ok := strings.Cut(strings.ToLower(s.Text), "backoff time: ")
	if !ok {
		return 0
	}
	n, unit := digits([]byte(rest))
	if n > uint64(time.Hour/time.Millisecond) || !bytes.HasPrefix(unit, []byte(" millisecond")) {
		return 0
	}
	return time.Duration(n) * time.Millisecond
}

var busyWords = []string{
	"too many simultaneous connections", "too many connections", "maximum number of connections",
	"connection limit", "not connected", "throttled", "bandwidth limit", "temporarily unavailable",
	"temporary authentication failure", "temporary failure", "try again later", "rate limit",
}

// temporary reports whether the same command may succeed later.
func (s *Status) temporary() bool {
	return s.Type == "BYE" || s.Busy() || s.Code == "SERVERBUG"
}

var (
	// ErrEpoch: UIDVALIDITY has changed under an open folder.
	ErrEpoch = errors.New("the server has renumbered the folder")

	// ErrBusy marks a refused connection or login that says: not so many at
	// once, or not now.
	ErrBusy = errors.New("the server takes no further connection now")

	// ErrSecurity marks a server that does not give the protection asked for.
	ErrSecurity = errors.New("no protected connection")

	// ErrVerb marks a command that this program must never send: a mistake of
	// ours.
	ErrVerb = errors.New("command not allowed")

	errSyntax = errors.New("the server's answer cannot be understood")
	errLimit  = errors.New("the server's answer is beyond all measure")
)
