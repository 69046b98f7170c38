package mail

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// A Scope says how far the damage of an error reaches.
type Scope int

const (
	ScopeMessage Scope = iota + 1 // skip this message, note it, go on
	ScopeFolder                   // skip this folder
	ScopeAccount                  // stop this account
	ScopeRun                      // stop everything: destination full or gone
)

// An Error is what every plug-in returns. The pipeline decides by Scope and
// Temporary alone and never looks at protocol codes.
type Error struct {
	Op        string // "select", "fetch", "append"
	Scope     Scope
	Temporary bool          // the same call may succeed later
	After     time.Duration // not before this, where the server has said so
	Err       error
}

func (e *Error) Error() string { return e.Op + ": " + e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// ScopeOf is the scope of err, or otherwise where err carries none.
func ScopeOf(err error, otherwise Scope) Scope {
	var e *Error
	if errors.As(err, &e) {
		return e.Scope
	}
	return otherwise
}

// Temporary reports whether the call that gave err may succeed later.
func Temporary(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Temporary
}

// ErrLogin marks an error that means: these credentials were refused. It is
// never worth a second try in the same run.
var ErrLogin = errors.New("login refused")

// concealed are secrets that Clean does not let through: servers have been
// seen to repeat what they were given. It is the one thing that this package
// remembers, because Clean is the one gate that all text from elsewhere passes.
var concealed struct {
	sync.RWMutex
	all []string
}

// Conceal makes Clean put "..." in place of a secret. One of a few letters is
// not concealed: it would be found in words where it is not meant.
func Conceal(secret string) {
	const fewest = 6
	if len(secret) < fewest {
		return
	}
	concealed.Lock()
	defer concealed.Unlock()
	if !slices.Contains(concealed.all, secret) {
		concealed.all = append(concealed.all, secret)
	}
}

func conceal(s string) string {
	concealed.RLock()
	defer concealed.RUnlock()
	for _, secret := range concealed.all {
		s = strings.ReplaceAll(s, secret, "...")
	}
	return s
}

// Clean makes text that came from elsewhere (a server, a message, a folder
// name) fit for a terminal and a log: control characters, bidirectional
// overrides and invalid UTF-8 are escaped, it ends after 512 characters, and
// secrets that were concealed are left out.
func Clean(s string) string {
	s = conceal(s)
	const most = 512
	plain := true
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 || s[i] >= 0x7f {
			plain = false
			break
		}
	}
	if plain && len(s) <= most {
		return s
	}
	var b strings.Builder
	n := 0
	for len(s) > 0 {
		if n++; n > most {
			b.WriteString("...")
			break
		}
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size <= 1:
			b.WriteString(`\x`)
			b.WriteByte(hexDigits[s[0]>>4])
			b.WriteByte(hexDigits[s[0]&15])
		case r < 0x20 || r >= 0x7f && r < 0xa0:
			b.WriteString(`\x`)
			b.WriteByte(hexDigits[r>>4&15])
			b.WriteByte(hexDigits[r&15])
		case unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r) || unicode.Is(unicode.Co, r):
			b.WriteString(`\u{`)
			for shift := 20; shift >= 0; shift -= 4 {
				b.WriteByte(hexDigits[r>>shift&15])
			}
			b.WriteByte('}')
		default:
			b.WriteRune(r)
		}
		s = s[size:]
	}
	return b.String()
}

const hexDigits = "0123456789abcdef"
