package node

import (
	"bufio"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/runtime/cuda"
)

// DefaultResources is what this machine offers: the cores that the process may use (affinity and cgroup quota counted, rounded up
// by the Go runtime), the memory of the machine or of the smallest cgroup limit above the process, and the GPUs that CUDA sees. A
// driver that fails has none; `engine doctor` says why.
func DefaultResources() engine.Resources {
	r := engine.Resources{CPU: float64(runtime.GOMAXPROCS(0)), MemoryBytes: memoryBytes()}
	if driver, err := cuda.Probe(); err == nil {
		SetGPUs(&r, float64(len(driver.Devices)))
	}
	return r
}

// SetGPUs makes r offer count GPUs, the first of those that CUDA sees, with their memory. The scheduler takes all GPUs of a node for
// equal, so each counts with what the smallest has. GPUs that CUDA does not see have no memory to offer, and no models run on them.
func SetGPUs(r *engine.Resources, count float64) {
	r.GPU, r.GPUMemoryBytes = count, 0
	driver, err := cuda.Probe()
	n := int(math.Ceil(count))
	if err != nil || n <= 0 || n > len(driver.Devices) {
		return
	}
	smallest := driver.Devices[0].MemoryBytes
	for _, device := range driver.Devices[:n] {
		smallest = min(smallest, device.MemoryBytes)
	}
	r.GPUMemoryBytes = int64(n) * smallest
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
