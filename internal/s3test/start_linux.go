package s3test

import (
	"os/exec"
	"runtime"
	"syscall"
)

// start runs a command that dies with this process, however that ends. The channel is closed when it has ended.
func start(command *exec.Cmd) (exited <-chan struct{}, err error) {
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
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
