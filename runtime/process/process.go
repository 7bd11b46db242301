// Package process evaluates models in child processes, executors: native code that crashes, or is killed for memory, costs its calls
// another try and not the worker with all that it holds. A program that offers it calls IsExecutor and Serve first in its main
// function; New then returns a runtime.Loader whose models each have a process of their own, which is this program again.
//
// A call copies its tensors through shared memory. It costs 50 to 100 us, most of it for processes to wake up, and a copy of inputs and
// outputs.
package process

import (
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/f708428e/engine/internal/security/sandbox"
)

// variable is set in the environment of an executor.
const variable = "ENGINE_EXECUTOR"

// descriptor is that of an executor's socket.
const descriptor = 3

// maxMessageBytes bounds a message: the descriptions of some 100,000 tensors.
const maxMessageBytes = 16 << 20

// maxCrashes is how often a call may end its executor before it is given up. The first time it may run beside others, and nobody knows
// whose fault it was; after that it runs alone.
const maxCrashes = 3

// keepBytes is how much memory the slots of an executor keep between calls: what four calls of a large model for texts have on a GPU.
const keepBytes = 256 << 20

// What Config.Sandbox may be.
const (
	// SandboxAuto confines executors as far as the system permits, and logs once what it does not permit.
	SandboxAuto = "auto"
	// SandboxRequire starts no executor that is not confined in all ways.
	SandboxRequire = "require"
	// SandboxOff confines executors in no way but their environment.
	SandboxOff = "off"
)

// Config is how executors are run. The zero value is ready for use but for Logger.
//
// An executor is confined: of the environment it has what sandbox.Environment leaves, of files the system's programs and libraries, those of
// its model, and what Read and Write name, and it reaches neither the network nor other processes.
type Config struct {
	// Environment is what executors have beside what is left of this process's own, as "NAME=value".
	Environment []string
	// Read are further files and folders that executors may read, such as libraries, Write folders in which they may make files.
	Read, Write []string
	// Sandbox is SandboxAuto, SandboxRequire, or SandboxOff. Empty means SandboxAuto.
	Sandbox string
	// LoadTimeout bounds the start of an executor with its model. Zero means 5 minutes, and one more for each GiB of the model.
	LoadTimeout time.Duration
	// LoadMemoryBytes bounds the memory that an executor takes until it has its model, mapped files left out. Zero means 4 GiB and four
	// times the size of the model; -1 that there is no bound.
	LoadMemoryBytes int64
	// MemoryBytes bounds the memory of all executors of a Loader together, and that of each, where the system permits cgroups. One that needs more is
	// killed by the kernel. Zero means that there is no bound.
	MemoryBytes int64
	// ClaimCgroup lets this process move to a cgroup of its own where executors could have none otherwise; see cgroup.Config.
	ClaimCgroup bool
	// StopTimeout is how long a call may go on that was told to end, and an executor that is closed, before its process is killed. Zero
	// means 5 s.
	StopTimeout time.Duration
	// Logger hears of executors that start and die, and what they printed. Required.
	Logger *slog.Logger

	keepBytes int64 // keepBytes but in tests
	said      *sync.Once
	cgroups   *cgroups
	// anyFile says that executors may reach all files, because CUDA did not start otherwise.
	anyFile bool
	// told hears how an executor is confined; nil if the log does.
	told func(sandbox.Report)
}

// IsExecutor reports whether this process was started as an executor. It must then call Serve, and end when that returns.
func IsExecutor() bool { return os.Getenv(variable) != "" }
