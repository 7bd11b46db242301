// Package cgroup puts children of this process into control groups of Linux that are their own, with limits on memory and threads, and reads
// the limits that hold for this process. It knows both versions of the kernel's interface:
//
//   - With version 2 a child is started in its group. Groups are made beside or below that of this process, and only where it was delegated: see
//     Config.Claim.
//   - With version 1 a child is moved after its start, in the hierarchies memory and pids, where this process may write below its own groups.
//
// See https://docs.kernel.org/admin-guide/cgroup-v2.html and https://docs.kernel.org/admin-guide/cgroup-v1/memory.html.
package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// hierarchy is a tree of groups that is mounted somewhere, and the place of this process in it.
type hierarchy struct {
	// v2 says that it is the one of version 2.
	v2 bool
	// top is the folder of the topmost group that is visible, own that of this process's group.
	top, own string
}

// find returns the hierarchy that has a controller, or the one of version 2 if none of version 1 does.
func find(controller string) (hierarchy, error) {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return hierarchy{}, err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return hierarchy{}, err
	}
	return locate(controller, string(groups), string(mounts))
}

// locate is find for given contents of /proc/self/cgroup and /proc/self/mountinfo.
func locate(controller, groups, mounts string) (hierarchy, error) {
	h, path, kind := hierarchy{}, "", ""
	for line := range strings.Lines(groups) {
		// number, controllers, path
		switch fields := strings.SplitN(strings.TrimSpace(line), ":", 3); {
		case len(fields) != 3:
		case slices.Contains(strings.Split(fields[1], ","), controller):
			h.v2, path, kind = false, fields[2], "cgroup"
		case fields[0] == "0" && kind == "":
			h.v2, path, kind = true, fields[2], "cgroup2"
		}
	}
	for line := range strings.Lines(mounts) {
		// number, parent, device, root, mount point, options, further ones up to "-"; type, source, options of the file system
		place, rest, _ := strings.Cut(strings.TrimSpace(line), " - ")
		at, system := strings.Fields(place), strings.Fields(rest)
		if len(at) < 5 || len(system) < 3 || system[0] != kind || !h.v2 && !slices.Contains(strings.Split(system[2], ","), controller) {
			continue
		}
		below, err := filepath.Rel(at[3], path)
		if err != nil || below == ".." || strings.HasPrefix(below, "../") || strings.HasPrefix(path, "/..") || strings.HasPrefix(at[3], "/..") {
			continue // The process lies in a part of the tree that is not mounted, or outside of this namespace.
		}
		h.top = strings.ReplaceAll(at[4], `\040`, " ")
		h.own = filepath.Join(h.top, below)
		return h, nil
	}
	return h, fmt.Errorf("no cgroups with the controller %s are mounted", controller)
}

// MemoryLimit is the smallest limit on memory of this process's group and those above it, in bytes. It is false if there is none.
func MemoryLimit() (int64, bool) {
	h, err := find("memory")
	if err != nil {
		return 0, false
	}
	return h.memoryLimit()
}

// unlimited is less than what version 1 says where there is no limit: the largest number of whole pages.
const unlimited = 1 << 62

func (h hierarchy) memoryLimit() (least int64, limited bool) {
	file := "memory.limit_in_bytes"
	if h.v2 {
		file = "memory.max"
	}
	for folder := h.own; ; folder = filepath.Dir(folder) {
		text, err := os.ReadFile(filepath.Join(folder, file))
		if err == nil {
			if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && n < unlimited && (!limited || n < least) {
				least, limited = n, true
			}
		}
		if folder == h.top {
			return least, limited
		}
	}
}
