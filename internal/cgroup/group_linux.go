package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/f708428e/engine"
)

// Group is a group of one child. A nil one is none: its methods do nothing. Its methods must not be called at the same time, Kill excepted.
type Group struct {
	pool *Pool    // constant
	dirs []string // constant; one for each hierarchy, that with memory first
	// folder is that of the group, of version 2.
	folder *os.File
	// exceeded is how often the pool had exceeded its limit before.
	exceeded int64
}

// make makes the folders.
func (g *Group) make(name string) error {
	p := g.pool
	for _, dir := range p.dirs {
		path := filepath.Join(dir.path, name)
		if err := os.Mkdir(path, 0o700); err != nil {
			return err
		}
		g.dirs = append(g.dirs, path)
	}
	if err := p.limitMemory(g.dirs[0], true); err != nil {
		return err
	}
	if p.limits.Threads > 0 {
		// The last hierarchy is that with pids.
		if err := write(g.dirs[len(g.dirs)-1], "pids.max", strconv.FormatInt(p.limits.Threads, 10)); err != nil {
			return err
		}
	}
	g.exceeded = p.exceeded(p.dirs[0].path)
	if !p.v2 {
		return nil
	}
	var err error
	g.folder, err = os.Open(g.dirs[0])
	return err
}

// Prepare has a child with these attributes start in the group, if that is possible.
func (g *Group) Prepare(child *syscall.SysProcAttr) {
	if g != nil && g.folder != nil {
		child.UseCgroupFD, child.CgroupFD = true, int(g.folder.Fd())
	}
}

// Add puts a child into the group that Prepare could not have start there. What it has of memory by then is counted elsewhere.
func (g *Group) Add(pid int) error {
	if g == nil || g.folder != nil {
		return nil
	}
	for _, dir := range g.dirs {
		if err := write(dir, "cgroup.procs", strconv.Itoa(pid)); err != nil {
			return err
		}
	}
	return nil
}

// Kill kills all processes of the group. It does not wait for their end.
func (g *Group) Kill() {
	if g == nil || len(g.dirs) == 0 {
		return
	}
	if g.pool.v2 && write(g.dirs[0], "cgroup.kill", "1") == nil {
		return
	}
	members, _ := os.ReadFile(filepath.Join(g.dirs[0], "cgroup.procs")) // Linux before 5.14, or version 1
	for _, field := range strings.Fields(string(members)) {
		if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
			_ = unix.Kill(pid, unix.SIGKILL) // It may have ended.
		}
	}
}

// OutOfMemory says which limit the kernel has killed a process of the group for. It is empty if the kernel has killed none.
func (g *Group) OutOfMemory() string {
	if g == nil || len(g.dirs) == 0 {
		return ""
	}
	// Version 1 counts a limit as reached, too, where files gave way in time.
	file, unsure := "memory.oom_control", ", or the machine has no more"
	if g.pool.v2 {
		file, unsure = "memory.events", ""
	}
	limit := engine.FormatSize(g.pool.limits.MemoryBytes)
	switch {
	case count(g.dirs[0], file, "oom_kill") == 0:
		return ""
	case g.pool.exceeded(g.dirs[0]) > 0:
		return fmt.Sprintf("limit %s of its cgroup%s", limit, unsure)
	case g.pool.exceeded(g.pool.dirs[0].path) > g.exceeded:
		return fmt.Sprintf("limit %s of the cgroup that it shares with others like it%s", limit, unsure)
	default:
		return "the machine, or a cgroup around all, has no more"
	}
}

// exceeded is how often a group could not have memory because of its own limit.
func (p *Pool) exceeded(group string) int64 {
	if p.v2 {
		return count(group, "memory.events.local", "oom")
	}
	return count(group, "memory.failcnt", "")
}

// count is the number in a file of a group, in the line with that name if there is one. It is 0 if it is not there.
func count(group, file, name string) int64 {
	text, _ := os.ReadFile(filepath.Join(group, file)) // Not all kernels have all files.
	for line := range strings.Lines(string(text)) {
		if rest, found := strings.CutPrefix(line, name); found {
			if n, err := strconv.ParseInt(strings.TrimSpace(rest), 10, 64); err == nil {
				return n
			}
		}
	}
	return 0
}

// How long processes that were killed may take to leave a group, and how often that is looked at.
const (
	removeWithin = 5 * time.Second
	removeEvery  = 5 * time.Millisecond
)

// Remove kills what is left in the group, waits for its end, and removes the group. What cannot be removed goes with the pool.
func (g *Group) Remove() error {
	if g == nil {
		return nil
	}
	g.Kill()
	var errs []error
	if g.folder != nil {
		errs = append(errs, g.folder.Close())
	}
	waiting, cancel := context.WithTimeout(context.Background(), removeWithin)
	defer cancel()
	ticker := time.NewTicker(removeEvery)
	defer ticker.Stop()
	for _, dir := range g.dirs {
		err := unix.Rmdir(dir)
		for errors.Is(err, unix.EBUSY) && waiting.Err() == nil {
			select {
			case <-ticker.C:
				err = unix.Rmdir(dir)
			case <-waiting.Done():
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("remove %s: %w", dir, err))
		}
	}
	return errors.Join(errs...)
}
