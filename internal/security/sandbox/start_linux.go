//go:build amd64 || arm64

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/f708428e/engine/internal/security/dumps"
)

// namespaces are a child's own, besides that of mounts. One for process ids would make it the first process of that, to which signals do not
// do what they do to others: a crash would not end it.
const namespaces = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC

// Start starts a child, whose main function must call Confine before it does anything else. command makes the child's command: again, if
// the system does not permit namespaces. Of its environment, where nil means this process's, Environment decides what stays, and extra
// ("NAME=value") is added.
func Start(command func() *exec.Cmd, policy Policy, extra ...string) (*exec.Cmd, error) {
	start := func(flags uintptr, missing error) (*exec.Cmd, error) {
		child := command()
		if child.SysProcAttr == nil {
			child.SysProcAttr = &syscall.SysProcAttr{}
		}
		mounts := flags&syscall.CLONE_NEWNS != 0
		if mounts {
			// It holds in the child's user namespace alone, and until Confine drops it: whoever is not root would not have it after execve.
			child.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN}
		}
		if child.SysProcAttr.Cloneflags |= flags; flags != 0 {
			// The user is itself there, so that files belong to whom they did.
			child.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}}
			child.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
		}
		environment := child.Env
		if environment == nil {
			environment = os.Environ()
		}
		child.Env = slices.Concat(Environment(environment), extra, []string{policyVariable + "=" + encode(task{Policy: policy, Mounts: mounts, Report: Report{}.add(Namespaces, missing)})})
		return child, dumps.Allow(child.Start)
	}
	child, err := start(namespaces|syscall.CLONE_NEWNS, nil)
	var refusal syscall.Errno
	if errors.As(err, &refusal) && isRefusal(refusal) {
		child, err = start(namespaces, fmt.Errorf("the system does not permit one of mounts: %w", refusal))
	}
	if errors.As(err, &refusal) && isRefusal(refusal) {
		return start(0, fmt.Errorf("the system does not permit them: %w", refusal))
	}
	return child, err
}

// isRefusal tells whether a process may not have been started because of its namespaces: they are not permitted, there are too many, or
// the kernel has none.
func isRefusal(n syscall.Errno) bool {
	return slices.Contains([]syscall.Errno{syscall.EPERM, syscall.EACCES, syscall.EINVAL, syscall.ENOSPC, syscall.EUSERS, syscall.ENOSYS}, n)
}
