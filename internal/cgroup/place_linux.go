package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// leaf is the group into which a process moves that claims its own.
const leaf = "engine-worker"

// ErrShared says that other processes are in the group that this one would divide. They may leave it.
var ErrShared = errors.New("other processes are in the cgroup")

// place returns the group below which those for children can be made, with the controllers that they need. Of version 2: processes are in
// groups alone whose children have no controllers, the topmost group of the machine excepted.
func (h hierarchy) place(controllers []string, claim bool) (string, error) {
	var unusable error
	if above := filepath.Dir(h.own); h.above(above) {
		if unusable = enable(above, controllers); unusable == nil {
			return above, nil
		}
	}
	own, err := h.within(controllers, claim)
	if err != nil {
		return "", errors.Join(unusable, err)
	}
	return own, nil
}

// above tells whether the group above that of this process is its to divide: it was started in a part of what was delegated (DelegateSubgroup=), or
// has claimed it before. That it may write there does not suffice: what a user's own manager has not delegated is under limits that the group above is not.
func (h hierarchy) above(group string) bool {
	switch {
	case h.own == h.top:
		return false
	case filepath.Base(h.own) == leaf:
		return h.delegated(group)
	default:
		return marked(group) && writable(group) == nil
	}
}

// within is place for the group of this process itself.
func (h hierarchy) within(controllers []string, claim bool) (string, error) {
	switch {
	case errors.Is(writable(h.own), unix.EROFS):
		return "", fmt.Errorf("%s is mounted for reading alone", h.top)
	case !h.delegated(h.own):
		return "", fmt.Errorf("the cgroup %s was not delegated to this user; with systemd, Delegate=yes of a unit does that", h.own)
	case h.own == h.top && h.root():
		return h.own, enable(h.own, controllers)
	}
	if err := available(h.own, controllers); err != nil {
		return "", err
	}
	others, err := h.others()
	switch {
	case err != nil:
		return "", err
	case others > 0:
		return "", fmt.Errorf("%d %w %s, so that it cannot have others below it; a supervisor should run engine start --block there, and nothing else", others, ErrShared, h.own)
	case !claim:
		return "", fmt.Errorf("the cgroup %s was delegated, but only engine start makes others there", h.own)
	}
	return h.own, h.claim(controllers)
}

// claim moves this process down, and gives the controllers to what is beside it then.
func (h hierarchy) claim(controllers []string) error {
	down := filepath.Join(h.own, leaf)
	if err := os.Mkdir(down, 0o755); err != nil && !errors.Is(err, os.ErrExist) { //nolint:gosec // Who may look at cgroups is the system's to decide.
		return err
	}
	if err := write(down, "cgroup.procs", "0"); err != nil {
		return errors.Join(err, os.Remove(down))
	}
	if err := enable(h.own, controllers); err != nil {
		return errors.Join(err, write(h.own, "cgroup.procs", "0"), os.Remove(down))
	}
	return nil
}

// delegated tells whether a group is this process's to divide: of the root user only if who manages groups has said so, as it may write to all.
// A container's tree is its own, and so is that of a machine whose processes are not in groups.
func (h hierarchy) delegated(group string) bool {
	if writable(group) != nil {
		return false
	}
	return os.Geteuid() != 0 || group == h.top && (group == h.own || !h.root()) || marked(group)
}

// writable returns nil if this process may put others into a group, and give controllers to groups below it.
func writable(group string) error {
	return errors.Join(unix.Access(filepath.Join(group, "cgroup.procs"), unix.W_OK), unix.Access(filepath.Join(group, "cgroup.subtree_control"), unix.W_OK))
}

// marked tells whether a group was delegated by somebody who says so.
func marked(group string) bool {
	for _, name := range []string{"trusted.delegate", "user.delegate"} { // of systemd
		value := make([]byte, 1)
		if n, err := unix.Getxattr(group, name, value); err == nil && string(value[:n]) == "1" {
			return true
		}
	}
	return false
}

// root tells whether the topmost group that is visible is that of the machine, which alone has no type.
func (h hierarchy) root() bool {
	_, err := os.Stat(filepath.Join(h.top, "cgroup.type"))
	return errors.Is(err, os.ErrNotExist)
}

// others is how many other processes are in this process's group.
func (h hierarchy) others() (int, error) {
	members, err := os.ReadFile(filepath.Join(h.own, "cgroup.procs"))
	if err != nil {
		return 0, err
	}
	// What is of another namespace of process ids is 0.
	own := strconv.Itoa(os.Getpid())
	return len(slices.DeleteFunc(strings.Fields(string(members)), func(pid string) bool { return pid == own })), nil
}

// enable gives controllers to the groups below one.
func enable(group string, controllers []string) error {
	given, err := os.ReadFile(filepath.Join(group, "cgroup.subtree_control"))
	if err != nil {
		return err
	}
	var missing []string
	for _, c := range controllers {
		if !slices.Contains(strings.Fields(string(given)), c) {
			missing = append(missing, "+"+c)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if err := available(group, controllers); err != nil {
		return err
	}
	return write(group, "cgroup.subtree_control", strings.Join(missing, " "))
}

// available tells whether a group has controllers to give.
func available(group string, controllers []string) error {
	has, err := os.ReadFile(filepath.Join(group, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for _, c := range controllers {
		if !slices.Contains(strings.Fields(string(has)), c) {
			return fmt.Errorf("the cgroup %s does not have the controller %s", group, c)
		}
	}
	return nil
}

// write writes a file of a group, which the kernel has made.
func write(group, name, value string) error {
	return os.WriteFile(filepath.Join(group, name), []byte(value), 0o600)
}
