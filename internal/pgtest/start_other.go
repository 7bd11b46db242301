//go:build !linux

package pgtest

import (
	"os"
	"os/exec"
	"syscall"
)

// nobody is the user and group that a server runs as which root starts.
const nobody = 65534

// unroot lets a command of root's run as nobody.
func unroot(command *exec.Cmd) {
	if os.Geteuid() == 0 {
		command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
}

// start runs a command. The channel is closed when it has ended.
func start(command *exec.Cmd) (exited <-chan struct{}, err error) {
	ended := make(chan struct{})
	if err := command.Start(); err != nil {
		return nil, err
	}
	go func() { // lifecycle: ends with the command, which the test kills.
		defer close(ended)
		_ = command.Wait() // killed
	}()
	return ended, nil
}
