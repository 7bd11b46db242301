//go:build linux

package local_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/local"
)

// roleVariable makes the test binary another process of a test: what it is to do.
const roleVariable = "ENGINE_LOCAL_TEST_ROLE"

func TestMain(m *testing.M) {
	role := os.Getenv(roleVariable)
	if role == "" {
		goleak.VerifyTestMain(m)
	}
	task := roles[role]
	if task == nil {
		fmt.Fprintf(os.Stderr, "unknown role %q\n", role)
		os.Exit(2)
	}
	if err := task(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", role, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// child is another process.
type child struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
	waited bool
}

// spawn starts the test binary in a role, and ends it with the test.
func spawn(t testing.TB, role string, files []*os.File, attributes *syscall.SysProcAttr, args ...string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = files
	cmd.SysProcAttr = attributes
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: cmd, stdin: stdin, stdout: bufio.NewReader(stdout)}
	t.Cleanup(c.kill)
	return c
}

// line waits for the next line that the child says.
func (c *child) line(t testing.TB) string {
	t.Helper()
	line, err := c.stdout.ReadString('\n')
	if err != nil {
		t.Fatalf("%s: no line: %v", c.cmd.Args, err)
	}
	return strings.TrimSpace(line)
}

// finish tells the child to end, and waits for that.
func (c *child) finish(t testing.TB) {
	t.Helper()
	_ = c.stdin.Close()
	c.waited = true
	if err := c.cmd.Wait(); err != nil {
		t.Errorf("%s: %v", c.cmd.Args, err)
	}
}

// kill ends the child with SIGKILL and waits for that.
func (c *child) kill() {
	if !c.waited {
		c.waited = true
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
	}
}

// untilTold waits in a child until the parent closes its standard input.
func untilTold() { _, _ = io.Copy(io.Discard, os.Stdin) }

// socketpair makes an executor's connection: one end as a file to inherit.
func socketpair(t testing.TB) (*net.UnixConn, *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fds[1]), "executor")
	t.Cleanup(func() { _ = file.Close() })
	conn, err := inherited(os.NewFile(uintptr(fds[0]), "store"))
	if err != nil {
		t.Fatal(err)
	}
	return conn, file
}

// inherited makes a connection of a file, which it closes.
func inherited(file *os.File) (*net.UnixConn, error) {
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	_ = file.Close()
	return conn.(*net.UnixConn), nil
}

// executor starts a child in a role with a connection that the fixture's server serves, and returns what is closed when that ends.
func (f *fixture) executor(t testing.TB, role, name string, args ...string) (*child, <-chan struct{}) {
	t.Helper()
	conn, file := socketpair(t)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := f.server.ServeExecutor(context.Background(), conn, name); err != nil {
			t.Errorf("serve executor: %v", err)
		}
	}()
	c := spawn(t, role, []*os.File{file}, nil, args...)
	_ = file.Close()
	return c, ended
}

// serverRole serves a store at args[0] until it is told to end. If it inherits a socket, an executor is at the other end.
func serverRole(args []string) error {
	if len(args) > 1 && args[1] == "as nobody" {
		if err := syscall.Setuid(65534); err != nil {
			return err
		}
	}
	ctx := context.Background()
	store, err := objectstore.Open(ctx, objectstore.Config{CapacityBytes: 1 << 30, ArenaBytes: 256 << 20})
	if err != nil {
		return err
	}
	server, err := local.Listen(ctx, local.ServerConfig{Store: store, Path: args[0], Node: "child"})
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx) }()
	if len(args) > 1 && args[1] == "executor" {
		conn, err := inherited(os.NewFile(3, "executor"))
		if err != nil {
			return err
		}
		go func() { _ = server.ServeExecutor(ctx, conn, "x") }()
	}
	fmt.Println("ready")
	untilTold()
	if err := server.Stop(ctx); err != nil {
		return err
	}
	if err := <-served; err != nil {
		return err
	}
	return store.Close(ctx)
}

// report is what children say of an object.
type report struct {
	// Outside counts buffers that are not in a mapping of shared memory that is read-only.
	Outside, Buffers int
	Rows             int64
	Mappings         []string
	Kind             string
	Error            string
}

func say(r report) { _ = json.NewEncoder(os.Stdout).Encode(r) }

// heard reads the next report of a child.
func (c *child) heard(t testing.TB) report {
	t.Helper()
	var r report
	if err := json.Unmarshal([]byte(c.line(t)), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func mustID(text string) engine.ObjectID {
	id, err := engine.ParseObjectID(text)
	if err != nil {
		panic(err)
	}
	return id
}
