//go:build !linux

package s3test

import "os/exec"

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
