//go:build !windows

package maildirname

const separator = ":"
