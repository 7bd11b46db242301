package node

import (
	"bufio"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/cgroup"
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
	if limit, limited := cgroup.MemoryLimit(); limited && (total == 0 || limit < total) {
		total = limit
	}
	return total
}

// executorBytes bounds the memory of all executors together: what the worker offers, but a sixteenth less than there is, so that an executor that
// takes all is more likely ended for its own limit than others are for the machine's, or for that of a container: what the worker itself takes, and the
// arena of its store, lie beside it. Zero means that neither is known.
func executorBytes(offered, there int64) int64 {
	// What is offered is counted when tasks are placed, and who offers little, to have few tasks, still needs executors that can start: ONNX Runtime and
	// CUDA take some hundred MiB each before there is a model.
	const least = 2 << 30
	if offered > 0 {
		offered = max(offered, least)
	}
	most := there - there/16
	if offered > 0 && (there == 0 || offered < most) {
		return offered
	}
	return most
}
