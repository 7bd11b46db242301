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
	"time"
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

// Config is how executors are run. The zero value is ready for use but for Logger.
type Config struct {
	// Environment is what executors have beside this process's own, as "NAME=value".
	Environment []string
	// LoadTimeout bounds the start of an executor with its model. Zero means 10 minutes.
	LoadTimeout time.Duration
	// StopTimeout is how long a call may go on that was told to end, and an executor that is closed, before its process is killed. Zero
	// means 5 s.
	StopTimeout time.Duration
	// Logger hears of executors that start and die, and what they printed. Required.
	Logger *slog.Logger

	keepBytes int64 // keepBytes but in tests
}

// IsExecutor reports whether this process was started as an executor. It must then call Serve, and end when that returns.
func IsExecutor() bool { return os.Getenv(variable) != "" }
