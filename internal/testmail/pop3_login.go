package testmail

import (
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"
)

// A Mechanism is a way to log in by AUTH, besides PLAIN and LOGIN. It learns
// the client's answers by ask, to which the first one needs no challenge if
// the client has sent an initial response, and tells whether to let it in.
type Mechanism func(ask func(challenge string) (answer string, err error)) bool

// login does USER, PASS, APOP and AUTH.
func (v *visit) login(a *Response, args string) {
	switch {
	case v.in:
		a.Status = "-ERR logged in already"
	case v.p.TLS != nil && !v.secure && !v.p.Cleartext:
		a.Status = v.coded("AUTH", "not in clear text")
	case a.Verb == "AUTH":
		v.auth(a, args)
	case a.Verb == "APOP":
		user, digest, _ := strings.Cut(args, " ")
		if v.p.APOP == "" {
			a.Status = "-ERR unknown command"
			return
		}
		v.decide(a, user, v.p.knows(user, v.p.password()) && digest == v.p.digest())
	case !v.p.has("USER"):
		a.Status = "-ERR unknown command"
	case a.Verb == "USER":
		v.user = args
		a.Status = "+OK and the password?"
	case v.user == "":
		a.Status = "-ERR who are you?"
	default:
		v.decide(a, v.user, v.p.knows(v.user, args))
	}
}

// digest is what APOP proves the password with (RFC 1939, section 7).
func (p *POP3) digest() string {
	return fmt.Sprintf("%x", md5.Sum([]byte(p.APOP+p.password())))
}

func (p *POP3) password() string {
	if p.Password == "" {
		return "secret"
	}
	return p.Password
}

// decide lets the client in if it may come in and the maildrop is free.
func (v *visit) decide(a *Response, user string, right bool) {
	v.user = ""
	if !right {
		a.Status = v.coded("AUTH", "wrong user or password")
		return
	}
	a.Status = v.admit(user)
}

func (v *visit) auth(a *Response, args string) {
	name, initial, has := strings.Cut(args, " ")
	name = strings.ToUpper(name)
	if !v.p.offers(name) {
		a.Status = "-ERR no such mechanism"
		return
	}
	ask := func(challenge string) (string, error) {
		answer := initial
		if has {
			has = false
			if answer == "=" { // RFC 5034, section 4: empty, but there
				return "", nil
			}
		} else {
			fmt.Fprintf(v.w, "+ %s\r\n", base64.StdEncoding.EncodeToString([]byte(challenge)))
			if err := v.w.Flush(); err != nil {
				return "", err
			}
			var err error
			if answer, err = v.line(); err != nil {
				return "", err
			}
		}
		if answer == "*" {
			return "", errCancelled
		}
		raw, err := base64.StdEncoding.DecodeString(answer)
		return string(raw), err
	}
	user, right := "", false
	switch m := v.p.SASL[name]; {
	case m != nil:
		right = m(ask)
	case name == "PLAIN":
		user, right = v.plain(ask)
	default:
		user, right = v.secret(ask)
	}
	v.decide(a, user, right)
}

var errCancelled = errors.New("cancelled by the client")

// offers tells whether a mechanism may be used.
func (p *POP3) offers(name string) bool {
	if p.SASL[name] != nil {
		return true
	}
	for _, c := range p.caps() {
		words := strings.Fields(strings.ToUpper(c))
		if words[0] != "SASL" {
			continue
		}
		for _, w := range words[1:] {
			if w == name && (w == "PLAIN" || w == "LOGIN") {
				return true
			}
		}
	}
	return false
}

// plain is RFC 4616.
func (v *visit) plain(ask func(string) (string, error)) (user string, right bool) {
	answer, err := ask("")
	parts := strings.Split(answer, "\x00")
	if err != nil || len(parts) != 3 {
		return "", false
	}
	return parts[1], v.p.knows(parts[1], parts[2])
}

// secret is LOGIN, which no RFC describes.
func (v *visit) secret(ask func(string) (string, error)) (user string, right bool) {
	user, err := ask("Username:")
	if err != nil {
		return "", false
	}
	password, err := ask("Password:")
	return user, err == nil && v.p.knows(user, password)
}

// admit gives the maildrop to v, if it gets free soon enough, and tells what to
// answer.
func (v *visit) admit(user string) string {
	p := v.p
	patience := p.Patience
	if patience == 0 {
		patience = 5 * time.Second
	}
	enough := time.After(patience)
	for {
		p.mu.Lock()
		before := p.holder
		if before == nil {
			defer p.mu.Unlock()
			if p.Delay > 0 && !p.entered.IsZero() && time.Since(p.entered) < p.Delay {
				return v.coded("LOGIN-DELAY", "you were here a moment ago")
			}
			v.enter(user)
			return fmt.Sprintf("+OK %d messages", len(v.view))
		}
		p.mu.Unlock()
		// A client that has left without QUIT is noticed only after a while:
		// the next one must not be refused for it.
		select {
		case <-before.over:
		case <-enough:
			return v.coded("IN-USE", "another session has the maildrop")
		}
	}
}

// enter begins the TRANSACTION state; the server is locked.
func (v *visit) enter(user string) {
	v.p.holder, v.p.entered, v.in = v, time.Now(), true
	for _, s := range v.p.posts {
		if s.hidden && !strings.HasPrefix(user, recent) {
			continue
		}
		if v.p.Gmail > 0 && len(v.view) == v.p.Gmail && !strings.HasPrefix(user, recent) {
			break
		}
		v.view = append(v.view, s)
	}
}

// free gives the maildrop back; twice is as good as once.
func (p *POP3) free(v *visit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.holder == v {
		p.holder = nil
		close(v.over)
	}
}
