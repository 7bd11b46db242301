package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// Limits are those of groups. Zero means no limit.
type Limits struct {
	// MemoryBytes bounds memory without swap. The kernel kills who needs more and cannot swap.
	MemoryBytes int64
	// Threads bounds processes and threads together. Who wants more gets an error.
	Threads int64
}

// Config is how groups are made.
type Config struct {
	// Limits are those of each group. The one on memory is that of all of them together, too.
	Limits Limits
	// Claim lets this process move to a group below its own, if it is the only one in there, which was delegated to it: of version 2, where a
	// group has either processes or limits for groups below it. It stays there. A program should do so only if it is what its group is for.
	Claim bool
}

// controllers are what groups need for Limits.
var controllers = []string{"memory", "pids"}

// poolPattern is what the folders of pools are called.
const poolPattern = "engine-pool-*"

// Pool is a group, without processes, below which there is one for each child. It is locked as long as its process lives, so that others can tell
// what a process has left behind that was killed. It is safe for concurrent use.
type Pool struct {
	limits Limits  // constant
	v2     bool    // constant
	dirs   []*lock // constant; one for each hierarchy, that with memory first

	mu   sync.Mutex
	made int
}

// lock is a folder that this process has locked.
type lock struct {
	path string
	file *os.File
}

// Open makes a pool, which the caller closes, and removes what processes have left behind that were killed. The error says what does not permit it.
func Open(config Config) (*Pool, error) {
	parents, v2, err := parents(config.Claim)
	switch {
	case err != nil:
		return nil, err
	case v2:
		return open(config.Limits, true, controllers, parents...)
	default:
		return open(config.Limits, false, nil, parents...)
	}
}

// Sweep removes what processes have left behind that were killed, and returns the pools of those that stay, since processes are in them. The error
// says what does not permit pools.
func Sweep() (left []string, err error) {
	parents, _, err := parents(false)
	for _, parent := range parents {
		left = append(left, sweep(parent)...)
	}
	return left, err
}

// parents are the groups below which pools are made, one for each hierarchy, that with memory first.
func parents(claim bool) (groups []string, v2 bool, err error) {
	memory, err := find(controllers[0])
	if err != nil {
		return nil, false, err
	}
	pids, err := find(controllers[1])
	switch {
	case err != nil:
		return nil, false, err
	case memory.v2 != pids.v2:
		return nil, false, errors.New("the controllers memory and pids are of different versions of cgroups")
	case memory.v2:
		parent, err := memory.place(controllers, claim)
		if err != nil {
			return nil, true, err
		}
		return []string{parent}, true, nil
	case memory.own == pids.own:
		return []string{memory.own}, false, nil
	default:
		return []string{memory.own, pids.own}, false, nil
	}
}

// open makes a pool below parents, one for each hierarchy.
func open(limits Limits, v2 bool, controllers []string, parents ...string) (*Pool, error) {
	p := &Pool{limits: limits, v2: v2}
	if err := p.make(controllers, parents); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *Pool) make(controllers, parents []string) error {
	for _, parent := range parents {
		sweep(parent)
		dir, err := newFolder(parent)
		if err != nil {
			return err
		}
		p.dirs = append(p.dirs, dir)
	}
	if p.v2 {
		if err := enable(p.dirs[0].path, controllers); err != nil {
			return err
		}
	}
	return p.limitMemory(p.dirs[0].path, false)
}

// newFolder makes a folder and locks it.
func newFolder(parent string) (*lock, error) {
	const attempts = 10
	for range attempts {
		path, err := os.MkdirTemp(parent, poolPattern)
		if err != nil {
			return nil, err
		}
		file, err := lockFolder(path)
		if err != nil {
			return nil, errors.Join(err, os.Remove(path))
		}
		if file != nil {
			return &lock{path, file}, nil
		}
		// Another process has taken it for one that was left behind.
	}
	return nil, fmt.Errorf("other processes remove what is made in %s", parent)
}

// lockFolder returns nil if another process has the lock, or has removed the folder.
func lockFolder(path string) (*os.File, error) {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		var opened, named os.FileInfo
		if opened, err = file.Stat(); err == nil {
			if named, err = os.Stat(path); err == nil && os.SameFile(opened, named) {
				return file, nil
			}
		}
	}
	_ = file.Close() // Nothing was written.
	if err == nil || errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.ENODEV) || errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return nil, err
}

// sweep removes pools that nobody has locked. What still has processes stays, and is returned.
func sweep(parent string) (left []string) {
	pools, _ := filepath.Glob(filepath.Join(parent, poolPattern)) // The pattern is good.
	for _, path := range pools {
		if file, err := lockFolder(path); err == nil && file != nil {
			if (&lock{path, file}).remove() != nil {
				left = append(left, path)
			}
		}
	}
	return left
}

// remove removes a folder, with groups below it that no process is in, and gives up the lock.
func (l *lock) remove() error {
	groups, _ := filepath.Glob(filepath.Join(l.path, "[0-9]*"))
	for _, group := range groups {
		_ = unix.Rmdir(group) // If it stays, so does the folder.
	}
	err := unix.Rmdir(l.path)
	if err != nil {
		err = fmt.Errorf("remove %s: %w", l.path, err)
	}
	return errors.Join(err, l.file.Close())
}

// Close removes the pool, whose groups must have been removed. It may be called once.
func (p *Pool) Close() error {
	var errs []error
	for _, dir := range p.dirs {
		errs = append(errs, dir.remove())
	}
	return errors.Join(errs...)
}

// NewGroup makes a group, which the caller removes.
func (p *Pool) NewGroup() (*Group, error) {
	p.mu.Lock()
	p.made++
	name := strconv.Itoa(p.made)
	p.mu.Unlock()
	g := &Group{pool: p}
	if err := g.make(name); err != nil {
		return nil, errors.Join(err, g.Remove())
	}
	return g, nil
}

// limitMemory sets the limit on memory of a group. All its processes die of it, if whole says so.
func (p *Pool) limitMemory(group string, whole bool) error {
	if p.limits.MemoryBytes == 0 {
		return nil
	}
	bytes := strconv.FormatInt(p.limits.MemoryBytes, 10)
	if !p.v2 {
		return write(group, "memory.limit_in_bytes", bytes)
	}
	err := write(group, "memory.max", bytes)
	if _, old := os.Stat(filepath.Join(group, "memory.oom.group")); whole && old == nil { // Linux before 4.19 does not have it.
		err = errors.Join(err, write(group, "memory.oom.group", "1"))
	}
	return err
}
