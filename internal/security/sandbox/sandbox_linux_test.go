package sandbox_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/f708428e/engine/internal/security/sandbox"
)

// attemptVariable has the attempt that a child of these tests makes when it is confined.
const attemptVariable = "ENGINE_TEST_ATTEMPT"

// answer is what a child prints.
type answer struct {
	Report sandbox.Report
	// Error is what became of the attempt.
	Error string
	Found []string
}

func TestMain(m *testing.M) {
	name := os.Getenv(attemptVariable)
	if name == "" {
		os.Exit(m.Run())
	}
	report, err := sandbox.Confine(3)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	a := answer{Report: report}
	if a.Found, err = attempts[name](os.Getenv("ENGINE_TEST_PATH")); err != nil {
		a.Error = err.Error()
	}
	if err := json.NewEncoder(os.Stdout).Encode(a); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

func only(err error) ([]string, error) { return nil, err }

func call(trap uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	if _, _, err := syscall.RawSyscall6(trap, a[0], a[1], a[2], a[3], a[4], a[5]); err != 0 {
		return err
	}
	return nil
}

// attempts are what somebody tries who has taken the process over.
var attempts = map[string]func(path string) ([]string, error){
	"nothing": func(string) ([]string, error) { return nil, nil },
	"status": func(string) ([]string, error) {
		text, err := os.ReadFile("/proc/self/status")
		return strings.Split(string(text), "\n"), err
	},
	"environment": func(string) ([]string, error) { return os.Environ(), nil },
	"files": func(string) (found []string, err error) {
		entries, err := os.ReadDir("/proc/self/fd")
		for _, e := range entries {
			target, _ := os.Readlink("/proc/self/fd/" + e.Name()) // that of the folder is gone
			found = append(found, e.Name()+" "+target)
		}
		return found, err
	},
	"mounts": func(string) ([]string, error) {
		text, err := os.ReadFile("/proc/self/mountinfo")
		return strings.Split(strings.TrimSpace(string(text)), "\n"), err
	},
	"read": func(path string) ([]string, error) { _, err := os.ReadFile(path); return nil, err },
	"list": func(path string) ([]string, error) { _, err := os.ReadDir(path); return nil, err },
	"open to write": func(path string) ([]string, error) {
		file, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err == nil {
			err = file.Close()
		}
		return nil, err
	},
	"write": func(path string) ([]string, error) { return only(os.WriteFile(path, nil, 0o600)) },
	"name thread": func(string) ([]string, error) {
		runtime.LockOSThread()
		file, err := os.OpenFile(fmt.Sprintf("/proc/self/task/%d/comm", unix.Gettid()), os.O_RDWR|os.O_TRUNC, 0)
		if err == nil {
			_, err = file.WriteString("named")
		}
		return nil, err
	},
	"system": func(string) ([]string, error) {
		text, err := os.ReadFile("/proc/sys/kernel/core_pattern")
		if err == nil {
			err = os.WriteFile("/proc/sys/kernel/core_pattern", text, 0)
		}
		return nil, err
	},
	"library": func(string) ([]string, error) {
		_, err := os.Open("/proc/self/exe")
		return nil, err
	},
	"execute": func(string) ([]string, error) {
		return only(syscall.Exec("/proc/self/exe", []string{"x"}, []string{attemptVariable + "=nothing"}))
	},
	"start": func(string) ([]string, error) { return only(exec.Command("/bin/true").Run()) }, //nolint:noctx // It does not come to that.
	"fork":  func(string) ([]string, error) { return only(call(unix.SYS_CLONE, uintptr(unix.SIGCHLD))) },
	"threads": func(string) ([]string, error) {
		var group sync.WaitGroup
		for range 20 {
			group.Go(func() {
				runtime.LockOSThread()
				unix.Gettid()
			})
		}
		group.Wait()
		return nil, nil
	},
	"kill itself": func(string) ([]string, error) { return only(syscall.Kill(os.Getpid(), 0)) },
	"kill":        func(string) ([]string, error) { return only(syscall.Kill(os.Getppid(), 0)) },
	"kill group":  func(string) ([]string, error) { return only(syscall.Kill(0, 0)) },
	"inspect": func(string) ([]string, error) {
		_, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", os.Getppid()))
		return nil, err
	},
	"memory": func(string) ([]string, error) {
		var b [8]byte
		local, remote := unix.Iovec{Base: &b[0], Len: 8}, unix.RemoteIovec{Base: uintptr(unsafe.Pointer(&b[0])), Len: 8}
		_, err := unix.ProcessVMReadv(os.Getppid(), []unix.Iovec{local}, []unix.RemoteIovec{remote}, 0)
		return nil, err
	},
	"ptrace":   func(string) ([]string, error) { return only(unix.PtraceAttach(os.Getppid())) },
	"socket":   func(string) ([]string, error) { return only(call(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM, 0)) },
	"local":    func(string) ([]string, error) { return only(call(unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM, 0)) },
	"mount":    func(string) ([]string, error) { return only(unix.Mount("none", "/proc", "tmpfs", 0, "")) },
	"unshare":  func(string) ([]string, error) { return only(unix.Unshare(unix.CLONE_NEWUSER)) },
	"bpf":      func(string) ([]string, error) { return only(call(unix.SYS_BPF)) },
	"io_uring": func(string) ([]string, error) { return only(call(unix.SYS_IO_URING_SETUP)) },
	"keyctl":   func(string) ([]string, error) { return only(call(unix.SYS_KEYCTL)) },
	"module":   func(string) ([]string, error) { return only(call(unix.SYS_INIT_MODULE)) },
	"prlimit": func(string) ([]string, error) {
		return only(unix.Prlimit(os.Getppid(), unix.RLIMIT_NOFILE, nil, nil))
	},
	"terminal": func(string) ([]string, error) { return only(call(unix.SYS_IOCTL, 0, unix.TIOCSTI, 0)) },
	"interfaces": func(string) (found []string, err error) {
		text, err := os.ReadFile("/proc/self/net/dev")
		return strings.Split(strings.TrimSpace(string(text)), "\n"), err
	},
}

// try has a confined child make an attempt.
func try(t *testing.T, policy sandbox.Policy, name, path string) answer {
	t.Helper()
	var out, errors bytes.Buffer
	open, err := os.Open(os.Args[0]) // It is to be closed in the child, though it is passed to it.
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = open.Close() }()
	child, err := sandbox.Start(func() *exec.Cmd {
		c := exec.CommandContext(t.Context(), os.Args[0])
		c.Stdout, c.Stderr, c.ExtraFiles = &out, &errors, []*os.File{open}
		return c
	}, policy, attemptVariable+"="+name, "ENGINE_TEST_PATH="+path, "GORACE=atexit_sleep_ms=0")
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Wait(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, errors.String())
	}
	var a answer
	if err := json.Unmarshal(out.Bytes(), &a); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out.String())
	}
	return a
}

// needs skips a test without the measures, which a system may not permit.
func needs(t *testing.T, a answer, measures ...string) {
	t.Helper()
	for _, m := range a.Report {
		if slices.Contains(measures, m.Name) && m.Missing != "" {
			t.Skipf("%s: %s", m.Name, m.Missing)
		}
	}
}

func TestReport(t *testing.T) {
	a := try(t, sandbox.Policy{}, "nothing", "")
	var names []string
	for _, m := range a.Report {
		names = append(names, m.Name)
		t.Logf("%s: %q", m.Name, m.Missing)
	}
	if want := []string{sandbox.Namespaces, sandbox.Privileges, sandbox.Files, sandbox.SystemCalls}; !slices.Equal(names, want) {
		t.Errorf("measures %v, want %v", names, want)
	}
}

// TestAttempts makes each attempt in a process of its own, which must survive it.
func TestAttempts(t *testing.T) {
	folder := t.TempDir()
	mine, other := filepath.Join(folder, "model"), filepath.Join(folder, "secret")
	for _, path := range []string{mine, other} {
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	writable := t.TempDir()
	confined := sandbox.Policy{Read: []string{mine, filepath.Join(folder, "missing")}, Write: []string{writable}}
	const denied, refused = "permission denied", "operation not permitted"
	for _, test := range []struct {
		name, path, want string
		measure          string
		policy           sandbox.Policy
	}{
		{"read", mine, "", sandbox.Files, confined},
		{"library", "", "", sandbox.Files, confined},
		{"read", "/etc/localtime", "", "", confined},
		{"read", other, denied, sandbox.Files, confined},
		{"read", "/etc/passwd", denied, sandbox.Files, confined},
		{"list", folder, denied, sandbox.Files, confined},
		{"write", mine, denied, sandbox.Files, confined},
		{"write", filepath.Join(folder, "new"), denied, sandbox.Files, confined},
		{"write", filepath.Join(writable, "new"), "", sandbox.Files, confined},
		{"inspect", "", denied, sandbox.Files, confined},
		{"name thread", "", denied, sandbox.Files, confined},
		{"name thread", "", "", sandbox.Files, sandbox.Policy{GPU: true}},
		{"system", "", denied, sandbox.Files, confined},
		{"system", "", denied, sandbox.Files, sandbox.Policy{GPU: true}},
		{"read", "/etc/passwd", "", "", sandbox.Policy{AnyFile: true}},
		{"execute", "", refused, sandbox.SystemCalls, confined},
		{"start", "", refused, sandbox.SystemCalls, confined},
		{"fork", "", refused, sandbox.SystemCalls, confined},
		{"threads", "", "", "", confined},
		{"kill itself", "", "", "", confined},
		{"kill", "", refused, sandbox.SystemCalls, confined},
		{"kill group", "", refused, sandbox.SystemCalls, confined},
		{"memory", "", refused, sandbox.SystemCalls, confined},
		{"ptrace", "", refused, sandbox.SystemCalls, confined},
		{"socket", "", refused, sandbox.SystemCalls, confined},
		{"local", "", refused, sandbox.SystemCalls, confined},
		{"socket", "", refused, sandbox.SystemCalls, sandbox.Policy{GPU: true}},
		{"local", "", "", "", sandbox.Policy{GPU: true}},
		{"mount", "", refused, sandbox.SystemCalls, confined},
		{"unshare", "", refused, sandbox.SystemCalls, confined},
		{"bpf", "", refused, sandbox.SystemCalls, confined},
		{"io_uring", "", refused, sandbox.SystemCalls, confined},
		{"keyctl", "", refused, sandbox.SystemCalls, confined},
		{"module", "", refused, sandbox.SystemCalls, confined},
		{"prlimit", "", refused, sandbox.SystemCalls, confined},
		{"terminal", "", refused, sandbox.SystemCalls, confined},
	} {
		t.Run(test.name+" "+filepath.Base(test.path), func(t *testing.T) {
			a := try(t, test.policy, test.name, test.path)
			needs(t, a, test.measure)
			if test.want == "" && a.Error != "" || !strings.Contains(a.Error, test.want) {
				t.Errorf("got %q, want %q", a.Error, test.want)
			}
		})
	}
}

func TestStatus(t *testing.T) {
	a := try(t, sandbox.Policy{}, "status", "")
	needs(t, a, sandbox.Privileges, sandbox.SystemCalls)
	for _, want := range []string{"NoNewPrivs:\t1", "Seccomp:\t2", "CapInh:\t0000000000000000", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapAmb:\t0000000000000000"} {
		if !slices.Contains(a.Found, want) {
			t.Errorf("there is no line %q in\n%s", want, strings.Join(a.Found, "\n"))
		}
	}
}

func TestFilesAreClosed(t *testing.T) {
	a := try(t, sandbox.Policy{}, "files", "")
	for _, file := range a.Found {
		number, target, _ := strings.Cut(file, " ")
		if known := target == "" || strings.HasPrefix(target, "anon_inode:") || strings.HasPrefix(target, "/proc/") || strings.HasPrefix(target, "/sys/fs/cgroup/") || slices.Contains([]string{"0", "1", "2"}, number); !known {
			t.Errorf("%s is open", file)
		}
	}
}

func TestNoNetwork(t *testing.T) {
	a := try(t, sandbox.Policy{}, "interfaces", "")
	needs(t, a, sandbox.Namespaces)
	for _, line := range a.Found[2:] {
		if name, _, _ := strings.Cut(strings.TrimSpace(line), ":"); name != "lo" && !isTunnel(name) {
			t.Errorf("the child sees %q", line)
		}
	}
}

// isTunnel tells interfaces that the kernel makes in each new namespace from those of the machine.
func isTunnel(name string) bool {
	i, err := net.InterfaceByName(name)
	return err == nil && i.Flags&net.FlagUp == 0
}

func TestEnvironment(t *testing.T) {
	t.Setenv("AWS_SECRET_ACCESS_KEY", "canary")
	t.Setenv("ENGINE_TOKEN", "canary")
	t.Setenv("CUDA_VISIBLE_DEVICES", "0")
	a := try(t, sandbox.Policy{}, "environment", "")
	if text := strings.Join(a.Found, "\n"); strings.Contains(text, "canary") || !strings.Contains(text, "CUDA_VISIBLE_DEVICES=0") || strings.Contains(text, "ENGINE_SANDBOX") {
		t.Errorf("the child has\n%s", text)
	}
}

// TestCgroupsStay looks at what keeps a process in its cgroup where Landlock does not, and tries to leave where this user could.
func TestCgroupsStay(t *testing.T) {
	a := try(t, sandbox.Policy{AnyFile: true}, "mounts", "")
	needs(t, a, sandbox.Namespaces)
	for _, line := range a.Found {
		// number, parent, device, root, mount point, options
		if fields := strings.Fields(line); strings.HasPrefix(fields[4], "/sys/fs/cgroup") && !slices.Contains(strings.Split(fields[5], ","), "ro") {
			t.Errorf("it is mounted for writing: %s", line)
		}
	}
	var files []string
	for _, pattern := range []string{"/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/*/cgroup.procs"} {
		found, _ := filepath.Glob(pattern) // The patterns are good.
		files = append(files, found...)
	}
	files = slices.DeleteFunc(files, func(path string) bool { return unix.Access(path, unix.W_OK) != nil })
	if len(files) == 0 {
		return // This user cannot write to them.
	}
	for _, path := range files {
		a := try(t, sandbox.Policy{AnyFile: true}, "open to write", path)
		needs(t, a, sandbox.Namespaces)
		if !strings.Contains(a.Error, "read-only file system") {
			t.Errorf("%s: %q", path, a.Error)
		}
	}
}

// TestNotPermitted starts children where there are no namespaces of mounts, or of users: in one of users that may have none of its own.
func TestNotPermitted(t *testing.T) {
	if os.Getenv("ENGINE_TEST_NESTED") != "" {
		if err := os.WriteFile("/proc/sys/user/max_mnt_namespaces", []byte("0"), 0); err != nil {
			t.Skip("it cannot be forbidden here: ", err)
		}
		a := try(t, sandbox.Policy{}, "mounts", "")
		if a.Report[0].Name != sandbox.Namespaces || !strings.Contains(a.Report[0].Missing, "does not permit one of mounts") {
			t.Errorf("got %v", a.Report)
		}
		if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
			t.Skip("it cannot be forbidden here: ", err)
		}
		a = try(t, sandbox.Policy{}, "fork", "")
		if a.Report.Complete() || a.Report[0].Name != sandbox.Namespaces || !strings.Contains(a.Report[0].Missing, "does not permit them") {
			t.Errorf("got %v", a.Report)
		}
		if a.Report[3].Missing == "" && !strings.Contains(a.Error, "not permitted") {
			t.Errorf("the other measures are missing too: %q", a.Error)
		}
		return
	}
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestNotPermitted$", "-test.v")
	c.Env = append(os.Environ(), "ENGINE_TEST_NESTED=1")
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
	output, err := c.CombinedOutput()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		t.Skip("there are no user namespaces: ", err)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, output)
	}
	t.Logf("%s", output)
}
