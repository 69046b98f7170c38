//go:build !unix

package testmail

import "os/exec"

// Dovecot runs on Unix alone; elsewhere its tests are skipped before these
// are called.

func runAs(*exec.Cmd, int) {}

func endGroup(cmd *exec.Cmd) { cmd.Process.Kill() }
