package testmail

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// A token is an atom, a string or a list of tokens (RFC 3501, section 9).
type token struct {
	text   string
	list   []token
	isList bool

	literal bool
}

// words are the texts of a list, in capitals.
func (t token) words() []string {
	if !t.isList {
		return []string{strings.ToUpper(t.text)}
	}
	var w []string
	for _, e := range t.list {
		w = append(w, strings.ToUpper(e.text))
	}
	return w
}

var errSyntax = errors.New("syntax error")

// longest is how much of a command is read, with the messages in it.
const longest = 64 << 20

// readCommand reads a command with its literals, asking for them with more.
func readCommand(r *bufio.Reader, more func() error) (string, error) {
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", err
		}
		line = strings.TrimRight(line, "\r\n")
		b.WriteString(line)
		n, sync, ok := literalAtEnd(line)
		if !ok {
			return b.String(), nil
		}
		if n > longest || b.Len() > longest {
			return "", fmt.Errorf("command of more than %d bytes", longest)
		}
		if sync {
			if err := more(); err != nil {
				return "", err
			}
		}
		b.WriteString("\r\n")
		if _, err := io.CopyN(&b, r, n); err != nil {
			return "", err
		}
	}
}

// literalAtEnd looks for {n} or {n+} (RFC 7888) at the end of line.
func literalAtEnd(line string) (n int64, sync, ok bool) {
	i := strings.LastIndexByte(line, '{')
	if i < 0 || !strings.HasSuffix(line, "}") {
		return 0, false, false
	}
	digits, nonSync := strings.CutSuffix(line[i+1:len(line)-1], "+")
	n, err := strconv.ParseInt(digits, 10, 64)
	return n, !nonSync, err == nil && n >= 0
}

// tokens takes the arguments of a command apart.
func tokens(s string) ([]token, error) {
	all, rest, err := tokenList(s, false)
	if err == nil && rest != "" {
		err = errSyntax
	}
	return all, err
}

func tokenList(s string, inList bool) (all []token, rest string, err error) {
	for {
		s = strings.TrimLeft(s, " ")
		if s == "" {
			if inList {
				return nil, "", errSyntax
			}
			return all, "", nil
		}
		var t token
		switch s[0] {
		case ')':
			if !inList {
				return nil, "", errSyntax
			}
			return all, s[1:], nil
		case '(':
			t.isList = true
			t.list, s, err = tokenList(s[1:], true)
		case '"':
			t.text, s, err = quoted(s[1:])
		case '{':
			t.literal = true
			t.text, s, err = braced(s)
		default:
			t.text, s = atom(s)
		}
		if err != nil {
			return nil, "", err
		}
		all = append(all, t)
	}
}

func quoted(s string) (text, rest string, err error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], nil
		case '\\':
			if i++; i == len(s) {
				return "", "", errSyntax
			}
		}
		b.WriteByte(s[i])
	}
	return "", "", errSyntax
}

func braced(s string) (text, rest string, err error) {
	head, rest, ok := strings.Cut(s, "\r\n")
	if !ok {
		return "", "", errSyntax
	}
	n, _, ok := literalAtEnd(head)
	if !ok || n > int64(len(rest)) {
		return "", "", errSyntax
	}
	return rest[:n], rest[n:], nil
}

// atom ends at a blank or a parenthesis, but not within brackets:
// BODY[HEADER.FIELDS (DATE)] is one.
func atom(s string) (text, rest string) {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '[':
			depth++
		case ']':
			depth--
		case ' ', '(', ')':
			if depth <= 0 {
				return s[:i], s[i:]
			}
		}
	}
	return s, ""
}

// quote writes a string as a server does: in quotes, as a literal where it
// must be one. Bytes above ASCII stay as they are; bad servers send them so.
func quote(s string) string {
	if strings.ContainsAny(s, "\r\n\x00") {
		return fmt.Sprintf("{%d}\r\n%s", len(s), s)
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// A set of numbers (RFC 3501, section 9, sequence-set). It is never counted
// through: 1:4294967295 is a fine set.
type set []span

type span struct{ from, to uint32 }

// parseSet reads a set in which "*" stands for last.
func parseSet(s string, last uint32) (set, error) {
	var all set
	for part := range strings.SplitSeq(s, ",") {
		a, b, isRange := strings.Cut(part, ":")
		from, err := number(a, last)
		if err != nil {
			return nil, err
		}
		to := from
		if isRange {
			if to, err = number(b, last); err != nil {
				return nil, err
			}
		}
		// RFC 3501, section 9: 4:2 means 2:4, and so 9:* is never empty.
		all = append(all, span{min(from, to), max(from, to)})
	}
	return all, nil
}

func number(s string, last uint32) (uint32, error) {
	if s == "*" {
		return last, nil
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 0 {
		return 0, errSyntax
	}
	return uint32(n), nil
}

func (s set) has(n uint32) bool {
	for _, p := range s {
		if p.from <= n && n <= p.to {
			return true
		}
	}
	return false
}

// ranges writes sorted numbers as a set.
func ranges(nums []uint32) string {
	var parts []string
	for i := 0; i < len(nums); {
		j := i
		for j+1 < len(nums) && nums[j+1] == nums[j]+1 {
			j++
		}
		if i == j {
			parts = append(parts, fmt.Sprint(nums[i]))
		} else {
			parts = append(parts, fmt.Sprintf("%d:%d", nums[i], nums[j]))
		}
		i = j + 1
	}
	return strings.Join(parts, ",")
}
