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

// secret finds the password for a location. Whatever a server says of it later
// is not passed on.
func (a *app) secret(ctx context.Context, l location.Location) (string, error) {
	password, err := a.password(ctx, l)
	mail.Conceal(password)
	return password, err
}

// password takes it from a file or a command where these are given, from the
// environment, or from the terminal.
func (a *app) password(ctx context.Context, l location.Location) (string, error) {
	switch {
	case a.passwordFile != "" && a.passwordCommand != "":
		return "", location.Wrong("give one of them", "--password-file and --password-command")
	case a.passwordFile != "":
		return a.given(secret.File(a.passwordFile))
	case a.passwordCommand != "":
		return a.given(secret.Command(ctx, a.passwordCommand))
	}
	if p := a.getenv("MAILHAUL_PASSWORD"); p != "" {
		return p, nil
	}
	if a.in == nil || !term.IsTerminal(int(a.in.Fd())) {
		return "", location.Wrong("set MAILHAUL_PASSWORD, or give --password-file or --password-command",
			"no password for %s, and no terminal to ask on", mail.Clean(l.User+" at "+l.Hostname()))
	}
	return a.ask(ctx, l)
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
