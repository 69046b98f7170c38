// Package secret gets passwords from where their owners keep them: a file, a
// command, a terminal. What it returns is for a server's ears only: no error
// of this package contains any of it.
package secret

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// File reads the first line of a file, which nobody but its owner may read.
func File(name string) (string, error) {
	fi, err := os.Stat(name)
	if err != nil {
		return "", err
	}
	if fi.IsDir() {
		return "", fmt.Errorf("%s: is a directory", name)
	}
	if mode := fi.Mode(); mode.IsRegular() && mode.Perm()&0o077 != 0 && runtime.GOOS != "windows" {
		return "", fmt.Errorf("%s: others may read this file (mode %04o): chmod 600 it", name, mode.Perm())
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	return firstLine(data, name)
}

// Command runs a command and takes the first line of its output. The command
// is split into words at blanks, with quotes and backslashes as in a shell,
// but no shell runs it: nothing is expanded. Its error output is passed on.
func Command(ctx context.Context, line string) (string, error) {
	words, err := split(line)
	if err != nil {
		return "", err
	}
	if len(words) == 0 {
		return "", errors.New("the password command is empty")
	}
	c := exec.CommandContext(ctx, words[0], words[1:]...)
	c.Stderr = os.Stderr
	c.Stdin = os.Stdin
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("password command %s: %w", words[0], err)
	}
	return firstLine(out, "password command "+words[0])
}

func firstLine(data []byte, from string) (string, error) {
	line, _, _ := bytes.Cut(data, []byte{'\n'})
	line = bytes.TrimSuffix(line, []byte{'\r'})
	if len(line) == 0 {
		return "", fmt.Errorf("%s: no password on the first line", from)
	}
	return string(line), nil
}

// split cuts a command line into words.
func split(line string) (words []string, err error) {
	var word strings.Builder
	open := false
	var quote byte
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote == '\'' && c != '\'':
			word.WriteByte(c)
		case c == '\\' && quote != '\'':
			if i++; i == len(line) {
				return nil, errors.New("the password command ends in a backslash")
			}
			word.WriteByte(line[i])
			open = true
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote, open = c, true
		case quote == 0 && (c == ' ' || c == '\t'):
			if open {
				words = append(words, word.String())
				word.Reset()
				open = false
			}
		default:
			word.WriteByte(c)
			open = true
		}
	}
	if quote != 0 {
		return nil, errors.New("the password command has an open quote")
	}
	if open {
		words = append(words, word.String())
	}
	return words, nil
}
