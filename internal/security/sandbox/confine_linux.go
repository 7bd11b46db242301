//go:build amd64 || arm64

package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/f708428e/engine"
)

// Confine confines this process as Start's policy says. It must be called before there is anything that it would take away: threads of
// native code, and files other than the first ones, of which it keeps that many and has the others closed. In the first stage it does not
// return but executes this program again, so that all of main up to here runs twice. A process that Start has not started gets no Report.
func Confine(files int) (Report, error) {
	const op = "confine process"
	if text, first := os.LookupEnv(policyVariable); first {
		var t task
		if err := json.Unmarshal([]byte(text), &t); err != nil {
			return nil, engine.Errorf(engine.KindInvalidArgument, op, "", "%s: %w", policyVariable, err)
		}
		return nil, engine.WrapError(op, "", enter(t, files))
	}
	text, second := os.LookupEnv(reportVariable)
	if !second {
		return nil, nil
	}
	var t task
	if err := errors.Join(json.Unmarshal([]byte(text), &t), os.Unsetenv(reportVariable)); err != nil {
		return nil, engine.Errorf(engine.KindInvalidArgument, op, "", "%s: %w", reportVariable, err)
	}
	return t.Report.add(SystemCalls, filterCalls(t.GPU)), nil
}

// enter is the first stage. It returns only if the program cannot be executed again.
func enter(t task, files int) error {
	// What follows holds for this thread, and from execve on for the process.
	runtime.LockOSThread()
	if err := closeFiles(files); err != nil {
		return fmt.Errorf("close files: %w", err)
	}
	if t.Mounts {
		keepCgroups()
	}
	t.Report = t.Report.add(Privileges, dropPrivileges()).add(Files, limitFiles(t.Policy))
	next := task{Policy: Policy{GPU: t.GPU}, Report: t.Report}
	environment := []string{reportVariable + "=" + encode(next)}
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, policyVariable+"=") {
			environment = append(environment, entry)
		}
	}
	return fmt.Errorf("execute this program again: %w", syscall.Exec("/proc/self/exe", os.Args, environment)) //nolint:gosec // It is this program.
}

// keepCgroups makes cgroups unchangeable for the process, in its own mount namespace, so that it cannot leave the one that it is in. Landlock does
// that too; where it is missing, or must be left out, this is what is left, if Linux is 5.12 or later and permits it.
func keepCgroups() {
	_ = unix.MountSetattr(unix.AT_FDCWD, cgroups, unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
}

// cgroups is where they are mounted.
const cgroups = "/sys/fs/cgroup"

// closeFiles lets no file but the first ones be open after execve. Go opens none without that, but who started the worker may have left
// some, and native code opens what it likes.
func closeFiles(first int) error {
	err := unix.CloseRange(uint(first), math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) //nolint:gosec // It is not negative.
	if !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL) {
		return err
	}
	entries, err := os.ReadDir("/proc/self/fd") // Linux before 5.11
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd >= first {
			unix.CloseOnExec(fd)
		}
	}
	return err
}

// dropPrivileges takes all capabilities from what is executed next, and the ways to any.
func dropPrivileges() error {
	var none unix.Rlimit
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &none); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	// Who may not do this has no capabilities that matter.
	for capability := uintptr(0); capability <= unix.CAP_LAST_CAP; capability++ {
		_ = unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0)
	}
	_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) // Linux before 4.3 has none.
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}
