//go:build unix && !linux

package durable

import (
	"os"

	"golang.org/x/sys/unix"
)

const setLock = unix.F_SETLK

func start(*os.File) {}
