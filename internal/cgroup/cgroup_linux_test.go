package cgroup_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/f708428e/engine/internal/cgroup"
)

// roleVariable says what a child of these tests does.
const roleVariable = "ENGINE_TEST_ROLE"

func TestMain(m *testing.M) {
	role := os.Getenv(roleVariable)
	if role == "" {
		os.Exit(m.Run())
	}
	// Who has started this process has put it into its group now.
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		os.Exit(3)
	}
	if err := roles[role](); err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	os.Exit(0)
}

var roles = map[string]func() error{
	"wait": func() error { return wait("waits") },
	// Eight times what it may have.
	"eat": func() error {
		for range 32 {
			if _, err := unix.Mmap(-1, 0, 32<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE); err != nil {
				return err
			}
		}
		fmt.Println("has eaten all")
		return nil
	},
	"threads": func() error {
		for range 500 {
			go func() { // lifecycle: ends with the process.
				runtime.LockOSThread()
				select {}
			}()
		}
		for started := 0; started < 500; {
			entries, err := os.ReadDir("/proc/self/task")
			if err != nil {
				return err
			}
			started = len(entries)
		}
		fmt.Println("has all threads")
		return nil
	},
	// It starts a child in a pool of its own and is killed.
	"leave": func() error {
		p, err := cgroup.Open(cgroup.Config{})
		if err != nil {
			return err
		}
		if _, err := p.NewGroup(); err != nil {
			return err
		}
		return wait(strings.Join(p.Dirs(), " "))
	},
	// It is alone in a group that was delegated to it.
	"claim": func() error {
		before, err := cgroup.Unified()
		if err != nil {
			return err
		}
		if p, err := cgroup.OpenUnified(false); err == nil {
			return errors.Join(fmt.Errorf("made %v without being told to", p.Dirs()), p.Close())
		}
		if unmoved, _ := cgroup.Unified(); unmoved != before {
			return fmt.Errorf("in %s without being told to", unmoved)
		}
		for range 2 { // The second time it is below already.
			p, err := cgroup.OpenUnified(true)
			if err != nil {
				return err
			}
			after, err := cgroup.Unified()
			if err != nil || filepath.Dir(after) != before || filepath.Dir(p.Dirs()[0]) != before {
				return fmt.Errorf("moved from %s to %s, and makes groups in %v, %w", before, after, p.Dirs(), err)
			}
			if err := startsIn(p); err != nil {
				return err
			}
			if err := p.Close(); err != nil {
				return err
			}
		}
		fmt.Println("claimed")
		return nil
	},
}

// wait prints a line and waits for the end of the input.
func wait(text string) error {
	fmt.Println(text)
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// startsIn starts a child in a group of the pool, and kills it by that.
func startsIn(p *cgroup.Pool) (err error) {
	g, err := p.NewGroup()
	if err != nil {
		return err
	}
	defer func() {
		if removal := g.Remove(); err == nil {
			err = removal
		}
	}()
	c, err := startChild(g, "wait")
	if err != nil {
		return err
	}
	line, err := c.output.ReadString('\n')
	if err != nil || line != "waits\n" {
		return fmt.Errorf("printed %q, %w", line, err)
	}
	in, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", c.cmd.Process.Pid))
	if err != nil {
		return err
	}
	for _, dir := range g.Dirs() {
		if pool, name := filepath.Base(filepath.Dir(dir)), filepath.Base(dir); !strings.Contains(string(in), "/"+pool+"/"+name+"\n") {
			return fmt.Errorf("it is in\n%s, and not in %s", in, dir)
		}
	}
	g.Kill()
	if err := c.cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		return fmt.Errorf("ended by %w", err)
	}
	if out := g.OutOfMemory(); out != "" {
		return fmt.Errorf("was killed for memory: %s", out)
	}
	return nil
}

type testChild struct {
	cmd    *exec.Cmd
	input  io.WriteCloser
	output *bufio.Reader
	errors *bytes.Buffer
}

// startChild starts a child in a group and lets it begin.
func startChild(g *cgroup.Group, role string) (*testChild, error) {
	c := &testChild{cmd: exec.Command("/proc/self/exe"), errors: &bytes.Buffer{}} //nolint:noctx // It ends with its input, or is killed.
	c.cmd.Env = append(os.Environ(), roleVariable+"="+role, "GORACE=atexit_sleep_ms=0", "GOTRACEBACK=none")
	c.cmd.Stderr = c.errors
	c.cmd.SysProcAttr = &syscall.SysProcAttr{}
	g.Prepare(c.cmd.SysProcAttr)
	var err error
	if c.input, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	output, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.output = bufio.NewReader(output)
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	if err := g.Add(c.cmd.Process.Pid); err != nil {
		return nil, err
	}
	_, err = io.WriteString(c.input, "\n")
	return c, err
}

// openPool makes a pool as the system permits it.
func openPool(t *testing.T, limits cgroup.Limits) *cgroup.Pool {
	t.Helper()
	p, err := cgroup.Open(cgroup.Config{Limits: limits})
	if err != nil {
		t.Skip("the system does not permit cgroups: ", err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		for _, dir := range p.Dirs() {
			if _, err := os.Stat(dir); !os.IsNotExist(err) {
				t.Errorf("%s is left: %v", dir, err)
			}
		}
	})
	return p
}

func newGroup(t *testing.T, p *cgroup.Pool) *cgroup.Group {
	t.Helper()
	g, err := p.NewGroup()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Remove(); err != nil {
			t.Error(err)
		}
	})
	return g
}

func TestChildIsInItsGroup(t *testing.T) {
	p := openPool(t, cgroup.Limits{MemoryBytes: 1 << 30, Threads: 1000})
	for range 2 {
		if err := startsIn(p); err != nil {
			t.Error(err)
		}
	}
}

// Of two children the one dies that takes too much.
func TestMemory(t *testing.T) {
	if swaps, _ := os.ReadFile("/proc/swaps"); strings.Count(string(swaps), "\n") > 1 {
		t.Skip("this machine has swap, which takes what is too much")
	}
	p := openPool(t, cgroup.Limits{MemoryBytes: 128 << 20})
	groups := make([]*cgroup.Group, 2)
	children := make([]*testChild, 2)
	for i, role := range []string{"wait", "eat"} {
		var err error
		groups[i] = newGroup(t, p)
		if children[i], err = startChild(groups[i], role); err != nil {
			t.Fatal(err)
		}
	}
	output, _ := io.ReadAll(children[1].output)
	if err := children[1].cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("got %v: %s%s", err, output, children[1].errors)
	}
	if got := groups[1].OutOfMemory(); !strings.HasPrefix(got, "limit 128MiB of ") {
		t.Errorf("got %q", got)
	}
	if got := groups[0].OutOfMemory(); got != "" {
		t.Errorf("the other one: %q", got)
	}
	if line, err := children[0].output.ReadString('\n'); err != nil || line != "waits\n" {
		t.Errorf("the other one: %q, %v", line, err)
	}
	_ = children[0].input.Close()
	if err := children[0].cmd.Wait(); err != nil {
		t.Errorf("the other one: %v", err)
	}
}

func TestThreads(t *testing.T) {
	p := openPool(t, cgroup.Limits{Threads: 64})
	g := newGroup(t, p)
	c, err := startChild(g, "threads")
	if err != nil {
		t.Fatal(err)
	}
	output, _ := io.ReadAll(c.output)
	if err := c.cmd.Wait(); err == nil || len(output) > 0 || !strings.Contains(c.errors.String(), "thread") && !strings.Contains(c.errors.String(), "Resource temporarily unavailable") {
		t.Errorf("got %v: %s%s", err, output, c.errors)
	}
	if got := g.OutOfMemory(); got != "" {
		t.Errorf("got %q", got)
	}
}

// What is still in a group is killed when it is removed.
func TestRemoveKills(t *testing.T) {
	p := openPool(t, cgroup.Limits{})
	g, err := p.NewGroup()
	if err != nil {
		t.Fatal(err)
	}
	c, err := startChild(g, "wait")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.cmd.Wait() }() // lifecycle: ends with the child, which the test waits for.
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil || err.Error() != "signal: killed" {
		t.Errorf("got %v", err)
	}
}

// A process that is killed leaves its groups to the next one, and one that lives keeps them.
func TestLeftBehind(t *testing.T) {
	openPool(t, cgroup.Limits{})
	c, err := startChild(nil, "leave")
	if err != nil {
		t.Fatal(err)
	}
	line, err := c.output.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	left := strings.Fields(line)
	there := func(dir string) bool { _, err := os.Stat(dir); return err == nil }
	openPool(t, cgroup.Limits{})
	if len(left) == 0 || slices.ContainsFunc(left, func(dir string) bool { return !there(dir) || !there(filepath.Join(dir, "1")) }) {
		t.Errorf("%q of a process that lives are gone", left)
	}
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.cmd.Wait() // It was killed.
	// Another process that sweeps has the lock for a moment.
	for deadline := time.Now().Add(time.Minute); slices.ContainsFunc(left, there); time.Sleep(10 * time.Millisecond) { // sleep: nothing tells when another gives up a lock.
		if time.Now().After(deadline) {
			t.Fatalf("%q of a process that was killed are there", left)
		}
		if _, err := cgroup.Sweep(); err != nil {
			t.Fatal(err)
		}
	}
}

// Many make and remove pools in one place, without taking another's for one that was left behind.
func TestManyPools(t *testing.T) {
	openPool(t, cgroup.Limits{})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20 {
				p, err := cgroup.Open(cgroup.Config{})
				if err != nil {
					t.Error(err)
					return
				}
				g, err := p.NewGroup()
				if err != nil {
					t.Error(err)
				} else if err := g.Remove(); err != nil {
					t.Error(err)
				}
				if err := p.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// TestUnified starts a process in a group of version 2 that was delegated to it, as far as this goes without controllers.
func TestUnified(t *testing.T) {
	own, err := cgroup.Unified()
	if err != nil {
		t.Skip("there is no hierarchy of version 2: ", err)
	}
	delegated, err := os.MkdirTemp(own, "engine-test-*") //nolint:usetesting // It is no folder of files.
	if err != nil {
		t.Skip("no group of version 2 can be made: ", err)
	}
	defer func() {
		_ = unix.Rmdir(filepath.Join(delegated, "engine-worker"))
		if err := unix.Rmdir(delegated); err != nil {
			t.Error(err)
		}
	}()
	if err := unix.Setxattr(delegated, "trusted.delegate", []byte("1"), 0); err != nil && os.Geteuid() == 0 {
		t.Skip("a group cannot be marked as delegated: ", err)
	}
	folder, err := os.Open(delegated)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = folder.Close() }()
	c := exec.CommandContext(t.Context(), "/proc/self/exe")
	c.Env = append(os.Environ(), roleVariable+"=claim", "GORACE=atexit_sleep_ms=0")
	c.Stdin = strings.NewReader("\n")
	c.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(folder.Fd())}
	output, err := c.CombinedOutput()
	if err != nil && len(output) == 0 {
		t.Skip("a process cannot be started in a group: ", err)
	}
	if err != nil || string(output) != "claimed\n" {
		t.Errorf("%v: %s", err, output)
	}
}
