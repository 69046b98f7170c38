package main

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/term"

	"mailhaul/internal/location"
	"mailhaul/internal/mail"
	"mailhaul/internal/secret"
)

// A keyring is the ways that were given to get a password. The plain ones have
// no side; those of one side come before them.
type keyring struct {
	side          string // "", "from", "to"
	file, command string
}

// flag is a flag of the ring.
func (k *keyring) flag(name string) string {
	if k.side == "" {
		return "--" + name
	}
	return "--" + k.side + "-" + name
}

func (k *keyring) variable() string {
	if k.side == "" {
		return "MAILHAUL_PASSWORD"
	}
	return "MAILHAUL_" + strings.ToUpper(k.side) + "_PASSWORD"
}

// secretOf gives the passwords of one side: "from" or "to". Whatever a server
// says of them later is not passed on.
func (a *app) secretOf(side string) func(context.Context, location.Location) (string, error) {
	return func(ctx context.Context, l location.Location) (string, error) {
		password, err := a.password(ctx, side, l)
		mail.Conceal(password)
		return password, err
	}
}

// password takes it from a file or a command where these are given, from the
// environment, or from the terminal. What was given for one server never goes
// to another.
func (a *app) password(ctx context.Context, side string, l location.Location) (string, error) {
	own := &a.fromKeys
	if side == "to" {
		own = &a.toKeys
	}
	password, err := a.from(ctx, own)
	if err != nil || password != "" {
		return password, err
	}
	if !a.twoServers {
		password, err = a.from(ctx, &a.keys)
		if err != nil || password != "" {
			return password, err
		}
	} else if a.keys.file != "" || a.keys.command != "" {
		return "", location.Wrong("say whose it is: --from-password-file, --to-password-file, --from-password-command, --to-password-command",
			"one password is given and there are two servers: it will not be sent to both")
	}
	if a.in == nil || !term.IsTerminal(int(a.in.Fd())) {
		keys := &a.keys
		if a.twoServers {
			keys = own
		}
		return "", location.Wrong("set "+keys.variable()+", or give "+keys.flag("password-file")+" or "+keys.flag("password-command"),
			"no password for %s, and no terminal to ask on", mail.Clean(l.User+" at "+l.Hostname()))
	}
	return a.ask(ctx, l)
}

// from looks into a ring; "" is nothing there.
func (a *app) from(ctx context.Context, k *keyring) (string, error) {
	switch {
	case k.file != "" && k.command != "":
		return "", location.Wrong("give one of them", "%s and %s", k.flag("password-file"), k.flag("password-command"))
	case k.file != "":
		return a.given(secret.File(k.file))
	case k.command != "":
		return a.given(secret.Command(ctx, k.command))
	}
	return a.getenv(k.variable()), nil
}

// given turns what is wrong with a way to give the password into a usage error.
func (a *app) given(password string, err error) (string, error) {
	if err != nil {
		return "", location.Wrong("", "%v", err)
	}
	if strings.ContainsAny(password, "\x00\r\n") {
		return "", location.Wrong("", "the password contains a character that no server takes")
	}
	return password, nil
}

// ask reads the password without showing it. An interrupt ends the question
// and leaves the terminal as it was.
func (a *app) ask(ctx context.Context, l location.Location) (string, error) {
	fd := int(a.in.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(a.err, "password for %s at %s: ", mail.Clean(l.User), mail.Clean(l.Hostname()))
	type answer struct {
		text []byte
		err  error
	}
	c := make(chan answer, 1)
	go func() { // ends with the process at the latest: a read cannot be taken back
		text, err := term.ReadPassword(fd)
		c <- answer{text, err}
	}()
	select {
	case x := <-c:
		fmt.Fprintln(a.err)
		if x.err == nil && len(x.text) == 0 {
			return "", location.Wrong("", "no password given")
		}
		return string(x.text), x.err
	case <-ctx.Done():
		term.Restore(fd, before)
		fmt.Fprintln(a.err)
		return "", context.Cause(ctx)
	}
}
