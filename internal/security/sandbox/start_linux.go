//go:build amd64 || arm64

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"

	"github.com/f708428e/engine/internal/security/dumps"
)

// namespaces are a child's own. One for process ids would make it the first process of that, to which signals do not do what they do to
// others: a crash would not end it.
const namespaces = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWNS

// Start starts a child, whose main function must call Confine before it does anything else. command makes the child's command: again, if
// the system does not permit namespaces. Of its environment, where nil means this process's, Environment decides what stays, and extra
// ("NAME=value") is added.
func Start(command func() *exec.Cmd, policy Policy, extra ...string) (*exec.Cmd, error) {
	start := func(confine bool, known Report) (*exec.Cmd, error) {
		child := command()
		if child.SysProcAttr == nil {
			child.SysProcAttr = &syscall.SysProcAttr{}
		}
		if confine {
			child.SysProcAttr.Cloneflags |= namespaces
			// The user is itself there, so that files belong to whom they did.
			child.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}}
			child.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
		}
		environment := child.Env
		if environment == nil {
			environment = os.Environ()
		}
		child.Env = slices.Concat(Environment(environment), extra, []string{policyVariable + "=" + encode(task{Policy: policy, Report: known})})
		return child, dumps.Allow(child.Start)
	}
	child, err := start(true, Report{}.add(Namespaces, nil))
	var refusal syscall.Errno
	if errors.As(err, &refusal) && isRefusal(refusal) {
		return start(false, Report{}.add(Namespaces, fmt.Errorf("the system does not permit them: %w", refusal)))
	}
	return child, err
}

// isRefusal tells whether a process may not have been started because of its namespaces: they are not permitted, there are too many, or
// the kernel has none.
func isRefusal(n syscall.Errno) bool {
	return slices.Contains([]syscall.Errno{syscall.EPERM, syscall.EACCES, syscall.EINVAL, syscall.ENOSPC, syscall.EUSERS, syscall.ENOSYS}, n)
}
