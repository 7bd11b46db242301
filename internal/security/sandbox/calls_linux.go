//go:build amd64 || arm64

package sandbox

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// refusedCalls are system calls that evaluating a model does not need, and that reach out of the process or deep into the kernel. It is
// a list of what is refused, not of what is allowed: what CUDA's driver calls changes with each of its versions.
var refusedCalls = []uint32{
	// other programs and processes
	unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PROCESS_MADVISE,
	unix.SYS_PROCESS_MRELEASE, unix.SYS_KCMP, unix.SYS_PIDFD_OPEN, unix.SYS_PIDFD_GETFD, unix.SYS_PIDFD_SEND_SIGNAL, unix.SYS_TKILL,
	unix.SYS_MIGRATE_PAGES, unix.SYS_SETNS, unix.SYS_UNSHARE,
	// file systems
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE, unix.SYS_OPEN_TREE_ATTR,
	unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR, unix.SYS_SWAPON, unix.SYS_SWAPOFF,
	unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD, unix.SYS_NAME_TO_HANDLE_AT, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_FANOTIFY_INIT, unix.SYS_ACCT,
	unix.SYS_MKNODAT, unix.SYS_LOOKUP_DCOOKIE,
	// the kernel
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_INIT_MODULE,
	unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_REBOOT, unix.SYS_SYSLOG,
	unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
	unix.SYS_PERSONALITY, unix.SYS_VHANGUP, unix.SYS_NFSSERVCTL,
	// It does what other calls do, unseen by a filter.
	unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
}

// Offsets in struct seccomp_data; both architectures are little endian.
const (
	callOffset = 0
	archOffset = 4
)

func argument(n uint32) bpf.LoadAbsolute { return bpf.LoadAbsolute{Off: 16 + 8*n, Size: 4} }

// Decisions of a filter.
const (
	allow          = unix.SECCOMP_RET_ALLOW
	refuse         = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	pretendMissing = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
)

// program returns the filter for a process of this id.
func program(pid uint32, gpu bool) []bpf.Instruction {
	is := func(value uint32) bpf.Instruction { return bpf.JumpIf{Cond: bpf.JumpEqual, Val: value, SkipFalse: 1} }
	ret := func(decision uint32) bpf.Instruction { return bpf.RetConstant{Val: decision} }
	loadCall := bpf.LoadAbsolute{Off: callOffset, Size: 4}
	code := []bpf.Instruction{
		bpf.LoadAbsolute{Off: archOffset, Size: 4},
		// A program for a machine of 64 bits may make calls of the one of 32, which have other numbers.
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: auditArch, SkipTrue: 1}, ret(pretendMissing),
		loadCall,
	}
	if foreignCalls != 0 {
		code = append(code, bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: foreignCalls, SkipFalse: 1}, ret(pretendMissing))
	}
	refused := slices.Concat(refusedCalls, archCalls)
	if !gpu {
		refused = append(refused, unix.SYS_SOCKET, unix.SYS_SOCKETPAIR)
	}
	for _, call := range refused {
		code = append(code, is(call), ret(refuse))
	}
	// Its flags are in memory, where a filter cannot look; the C library tries clone then.
	code = append(code, is(unix.SYS_CLONE3), ret(pretendMissing))
	// one decides a call by one of its arguments, of whose 64 bits the lower half counts: they are all int.
	one := func(call, number uint32, test bpf.JumpIf) {
		code = append(code, bpf.JumpIf{Cond: bpf.JumpEqual, Val: call, SkipFalse: 4}, argument(number), test, ret(refuse), ret(allow))
	}
	// New threads, and no new processes.
	one(unix.SYS_CLONE, 0, bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: unix.CLONE_THREAD, SkipTrue: 1})
	for _, call := range []uint32{unix.SYS_KILL, unix.SYS_TGKILL, unix.SYS_RT_SIGQUEUEINFO, unix.SYS_RT_TGSIGQUEUEINFO} {
		one(call, 0, bpf.JumpIf{Cond: bpf.JumpEqual, Val: pid, SkipTrue: 1})
	}
	// Keys for a terminal that others read.
	for _, request := range []uint32{unix.TIOCSTI, unix.TIOCLINUX} {
		code = append(code, bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.SYS_IOCTL, SkipFalse: 4}, argument(1),
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: request, SkipFalse: 1}, ret(refuse), loadCall)
	}
	code = append(code, bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.SYS_PRLIMIT64, SkipFalse: 5}, argument(0),
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 2}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: pid, SkipTrue: 1}, ret(refuse), ret(allow))
	if gpu {
		// CUDA talks to its own daemons over local sockets, and to the kernel over netlink.
		code = append(code, bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.SYS_SOCKET, SkipFalse: 5}, argument(0),
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.AF_UNIX, SkipTrue: 2}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.AF_NETLINK, SkipTrue: 1}, ret(refuse), ret(allow))
	}
	return append(code, ret(allow))
}

// filterCalls has the kernel refuse system calls, in all threads.
func filterCalls(gpu bool) error {
	raw, err := bpf.Assemble(program(uint32(os.Getpid()), gpu)) //nolint:gosec // It is positive.
	if err != nil {
		return fmt.Errorf("assemble the filter: %w", err)
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		filter[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]} //nolint:gosec // It is much shorter.
	// A thread must not have privileges to gain, without privileges of its own.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	thread, _, refused := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(filter)
	switch {
	case refused != 0:
		return fmt.Errorf("seccomp: %w", refused)
	case thread != 0:
		return fmt.Errorf("seccomp: thread %d has another filter", thread)
	}
	return nil
}
