//go:build unix

package testmail

import (
	"os/exec"
	"syscall"
)

// runAs makes cmd run as uid, if that is not -1, in a process group of its
// own.
func runAs(cmd *exec.Cmd, uid int) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if uid >= 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}
	}
}

// endGroup ends cmd and every process that it started: Dovecot's children
// would keep the ports for a while when the master alone goes.
func endGroup(cmd *exec.Cmd) {
	syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
}
