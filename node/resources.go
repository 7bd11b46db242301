package node

import (
	"bufio"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/f708428e/engine"
)

// DefaultResources is what this machine offers: the cores that the process may use (affinity and cgroup quota counted, rounded up
// by the Go runtime), and the memory of the machine or of the smallest cgroup limit above the process.
func DefaultResources() engine.Resources {
	return engine.Resources{CPU: float64(runtime.GOMAXPROCS(0)), MemoryBytes: memoryBytes()}
}

// memoryBytes returns 0 if the system does not tell.
func memoryBytes() int64 {
	total := int64(0)
	if file, err := os.Open("/proc/meminfo"); err == nil {
		scanner := bufio.NewScanner(file)
		for scanner.Scan() {
			if rest, ok := strings.CutPrefix(scanner.Text(), "MemTotal:"); ok {
				if kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64); err == nil {
					total = kib << 10
				}
			}
		}
		if file.Close() != nil {
			return 0
		}
	}
	for _, limit := range cgroupLimits() {
		if total == 0 || limit < total {
			total = limit
		}
	}
	return total
}

// cgroupLimits returns the memory limits of the process's cgroup and those above it, versions 1 and 2.
func cgroupLimits() []int64 {
	membership, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil
	}
	var limits []int64
	for line := range strings.Lines(string(membership)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		root, file := "/sys/fs/cgroup", "memory.max"
		if fields[1] == "memory" {
			root, file = "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
		} else if fields[1] != "" {
			continue
		}
		for dir := fields[2]; ; dir = filepath.Dir(dir) {
			text, err := os.ReadFile(filepath.Join(root, dir, file))
			if err == nil {
				if limit, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil {
					limits = append(limits, limit)
				}
			}
			if dir == "/" || dir == "." {
				break
			}
		}
	}
	return limits
}
