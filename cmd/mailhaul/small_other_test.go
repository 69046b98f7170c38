//go:build !linux

package main

import "github.com/rogpeppe/go-internal/testscript"

func small(ts *testscript.TestScript, _ bool, _ []string) {
	worldOf(ts).t.Skip("a file system of its own can be mounted on Linux only")
}
