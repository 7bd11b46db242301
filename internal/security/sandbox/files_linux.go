//go:build amd64 || arm64

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What Landlock can keep a process from, by the version that brought it. See https://docs.kernel.org/userspace-api/landlock.html.
const (
	readFile = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE
	readAll  = readFile | unix.LANDLOCK_ACCESS_FS_READ_DIR
	change   = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG
	special = unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO |
		unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK | unix.LANDLOCK_ACCESS_FS_MAKE_SYM
	device = readAll | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
)

// since lists what came after the first version.
var since = []struct {
	version         int
	fs, net, scoped uint64
}{
	{2, unix.LANDLOCK_ACCESS_FS_REFER, 0, 0},
	{3, unix.LANDLOCK_ACCESS_FS_TRUNCATE, 0, 0},
	{4, 0, unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP, 0},
	{5, unix.LANDLOCK_ACCESS_FS_IOCTL_DEV, 0, 0},
	{6, 0, 0, unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL},
}

var (
	// systemPlaces have programs and libraries, and what those ask of the machine.
	systemPlaces = []string{
		"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt", "/nix/store", "/gnu/store", "/run/opengl-driver",
		"/proc", "/sys", "/etc/ld.so.cache", "/etc/ld.so.preload", "/etc/localtime", "/etc/ld-musl-x86_64.path", "/etc/ld-musl-aarch64.path",
	}
	plainDevices = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"}
	gpuDevices   = []string{"/dev/nvidia*", "/dev/nvidia-caps/*", "/dev/nvhost*", "/dev/nvmap", "/dev/nvgpu/*", "/dev/dxg", "/proc/driver/nvidia"}
)

// limitFiles has Landlock keep the process, from execve on, from files that it does not need, from TCP, and from signalling or
// inspecting processes outside. It needs no privileges, but no_new_privs.
func limitFiles(p Policy) error {
	if p.AnyFile {
		return errors.New("they were not limited, as was asked for")
	}
	version, _, refused := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if refused != 0 {
		return fmt.Errorf("the kernel has no Landlock (Linux 5.13 and later, if it is among the lsm= of its command line): %w", refused)
	}
	rules := unix.LandlockRulesetAttr{Handled_access_fs: readAll | change | special}
	for _, more := range since {
		if int(version) >= more.version {
			rules.Handled_access_fs |= more.fs
			rules.Handled_access_net |= more.net
			rules.Scoped |= more.scoped
		}
	}
	size := unsafe.Offsetof(rules.Quiet_access_fs)
	switch {
	case version < 4:
		size = unsafe.Offsetof(rules.Handled_access_net)
	case version < 6:
		size = unsafe.Offsetof(rules.Scoped)
	}
	fd, _, refused := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&rules)), size, 0)
	if refused != 0 {
		return fmt.Errorf("landlock_create_ruleset: %w", refused)
	}
	ruleset := landlock{fd: int(fd), handled: rules.Handled_access_fs}
	defer func() { _ = unix.Close(ruleset.fd) }() // It is in force then, or of no use.
	if err := ruleset.allow(p); err != nil {
		return err
	}
	if _, _, refused := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); refused != 0 {
		return fmt.Errorf("landlock_restrict_self: %w", refused)
	}
	return nil
}

// landlock is a set of rules.
type landlock struct {
	fd      int
	handled uint64
}

func (l landlock) allow(p Policy) error {
	mapped, err := mappedFiles()
	if err != nil {
		return err
	}
	var errs []error
	add := func(access uint64, paths ...string) {
		for _, path := range paths {
			errs = append(errs, l.beneath(path, access))
		}
	}
	add(readAll, systemPlaces...)
	add(readAll, append(mapped, "/proc/self/exe")...)
	add(readAll, p.Read...)
	add(readAll|change|unix.LANDLOCK_ACCESS_FS_REFER|unix.LANDLOCK_ACCESS_FS_TRUNCATE, p.Write...)
	add(device, plainDevices...)
	if p.GPU {
		for _, pattern := range gpuDevices {
			found, _ := filepath.Glob(pattern) // The patterns are good.
			add(device, found...)
		}
		if err := l.ownProcess(); err != nil {
			return err
		}
		// Where processes that share a GPU meet, and where CUDA shares memory.
		add(readAll|change|unix.LANDLOCK_ACCESS_FS_TRUNCATE|unix.LANDLOCK_ACCESS_FS_MAKE_SOCK|unix.LANDLOCK_ACCESS_FS_MAKE_FIFO, "/tmp/nvidia-mps", "/dev/shm")
	}
	return errors.Join(errs...)
}

// beneath allows access to a file, or to a folder and what is below it. What is not there needs none.
func (l landlock) beneath(path string, access uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil // See above; and what cannot be reached now cannot be reached later.
	}
	defer func() { _ = unix.Close(fd) }() // It names the file, and is not open.
	return l.allowFile(path, fd, access)
}

func (l landlock) allowFile(path string, fd int, access uint64) error {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= readFile | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: access & l.handled, Parent_fd: int32(fd)} //nolint:gosec // Descriptors are small.
	if _, _, refused := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(l.fd), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0); refused != 0 {
		return fmt.Errorf("landlock_add_rule %s: %w", path, refused)
	}
	return nil
}

// ownProcess lets the process write what /proc has of itself, without which CUDA does not start. Not in all of /proc, where root sets up
// the machine. The folder stays open, so that it is not made anew, without the rule, when memory is short.
func (l landlock) ownProcess() error {
	const path = "/proc/self"
	fd, err := unix.Open(path, unix.O_PATH, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return l.allowFile(path, fd, readAll|unix.LANDLOCK_ACCESS_FS_WRITE_FILE|unix.LANDLOCK_ACCESS_FS_TRUNCATE)
}

// mappedFiles are those that the program consists of, wherever its libraries are installed.
func mappedFiles() ([]string, error) {
	text, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return nil, err
	}
	var files []string
	for line := range strings.Lines(string(text)) {
		// address, rights, offset, device, inode, path
		if f := strings.SplitN(strings.TrimSpace(line), "/", 2); len(f) == 2 && strings.Contains(f[0], " r-xp ") {
			files = append(files, "/"+f[1])
		}
	}
	return files, nil
}
