package smtpconn

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"mailhaul/internal/mail"
)

// Check is nil for what may stand in a command: text without control
// characters, blanks of any kind and invisible letters, and without the
// brackets that an address stands in. Everything that comes from elsewhere
// passes it; what it lets through cannot end a line or begin another argument.
func Check(argument string) error {
	for i, r := range argument {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(argument[i:], "\uFFFD"):
			return fmt.Errorf("%q is no valid UTF-8", argument)
		case r == '<' || r == '>':
			return fmt.Errorf("%q: brackets", argument)
		case unicode.IsControl(r) || unicode.IsSpace(r) || unicode.In(r, unicode.Zs, unicode.Zl, unicode.Zp, unicode.Cf):
			return fmt.Errorf("%q: a blank or a control character", argument)
		}
	}
	return nil
}

// CheckAddress is nil for an address that a command can name. A bare name is
// one where bare is true: LMTP servers know their users so.
func CheckAddress(address string, bare bool) error {
	if err := Check(address); err != nil {
		return err
	}
	at := strings.LastIndexByte(address, '@')
	switch {
	case len(address) > 320: // RFC 5321, sections 4.5.3.1.1 and 4.5.3.1.2
		return errors.New("an address of more than 320 letters")
	case at < 0 && bare && address != "":
		return nil
	case at <= 0 || at == len(address)-1:
		return fmt.Errorf("%q is no address", mail.Clean(address))
	}
	return nil
}

// ASCII reports whether s is made of ASCII alone.
func ASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
