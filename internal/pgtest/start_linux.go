package pgtest

import (
	"os"
	"os/exec"
	"runtime"
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

// start runs a command that dies with this process, however that ends. The channel is closed when it has ended.
func start(command *exec.Cmd) (exited <-chan struct{}, err error) {
	if command.SysProcAttr == nil {
		command.SysProcAttr = &syscall.SysProcAttr{}
	}
	command.SysProcAttr.Pdeathsig = syscall.SIGQUIT
	started, ended := make(chan error), make(chan struct{})
	go func() { // lifecycle: ends with the command, which the test kills.
		defer close(ended)
		// The signal comes when the thread ends that started the command, so keep it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := command.Start()
		started <- err
		if err == nil {
			_ = command.Wait() // killed
		}
	}()
	return ended, <-started
}
