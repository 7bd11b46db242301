package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/security/sandbox"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/onnx"
	"github.com/f708428e/engine/runtime/process"
)

// executes says that this program can be started as an executor.
var executes atomic.Bool

// RunExecutor lets the nodes of this program run models in executors, which are this program again. Main calls it before anything else,
// and ends with the exit code if executed is true: this process was an executor then, and has done its work.
func RunExecutor() (code int, executed bool) {
	if !process.IsExecutor() {
		executes.Store(true)
		return 0, false
	}
	loader, err := onnx.New(onnx.Config{}) // The worker has set the library's variable.
	if err == nil {
		err = process.Serve(loader)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1, true
	}
	return 0, true
}

// IsolationAlways is WorkerConfig.Isolation of workers that run no model in their own process, whatever a job says.
const IsolationAlways = "always"

// DefaultIsolation is the best that this system can do, for a program that calls RunExecutor.
func DefaultIsolation() string {
	if process.Supported {
		return "process"
	}
	return "none"
}

// models are the caches of a worker's models.
type models struct {
	here *runtime.Cache
	// executors is nil if this program has none.
	executors *runtime.Cache
	isolated  bool
}

// newModels makes the caches. Nothing is loaded yet.
func newModels(config WorkerConfig) (_ *models, err error) {
	m := &models{isolated: config.Isolation == "process" || config.Isolation == IsolationAlways}
	if config.Isolation != "" && config.Isolation != "none" && !m.isolated {
		return nil, engine.Errorf(engine.KindInvalidArgument, "start worker", config.Address, "isolation: %q is none of process, always, none", config.Isolation)
	}
	if config.Models == nil && config.ONNXRuntime != "" {
		// A path that the user gave is wrong now, not when the first task needs it.
		if _, err := onnx.Find(config.ONNXRuntime); err != nil {
			return nil, err
		}
	}
	here := config.Models
	if here == nil {
		loader, err := onnx.New(onnx.Config{Library: config.ONNXRuntime})
		if err != nil {
			return nil, err
		}
		if !m.isolated {
			loader.Warm()
		}
		here = loader
	}
	if m.here, err = runtime.NewCache(here, runtime.CacheConfig{}); err != nil {
		return nil, errors.Join(err, here.Close())
	}
	executors := config.Executors
	if executors == nil && config.Models == nil && process.Supported && executes.Load() {
		if executors, err = process.New(config.processes()); err != nil {
			return nil, errors.Join(err, m.here.Close())
		}
	}
	switch {
	case executors != nil:
		if m.executors, err = runtime.NewCache(executors, runtime.CacheConfig{}); err != nil {
			return nil, errors.Join(err, m.here.Close(), executors.Close())
		}
	case m.isolated:
		err := engine.Errorf(engine.KindInvalidArgument, "start worker", config.Address, "isolation: process needs Linux, and a program that calls node.RunExecutor")
		return nil, errors.Join(err, m.here.Close())
	}
	return m, nil
}

// processes is how executors are run.
func (c WorkerConfig) processes() process.Config {
	p := process.Config{
		Logger: c.Logger, Sandbox: c.Sandbox, LoadTimeout: c.ModelLoadTimeout, LoadMemoryBytes: c.ModelLoadMemoryBytes,
		MemoryBytes: executorBytes(c.Resources.MemoryBytes, memoryBytes()), ClaimCgroup: c.ClaimCgroup,
	}
	if path, err := onnx.Find(c.ONNXRuntime); err == nil {
		p.Environment = []string{onnx.LibraryVariable + "=" + path}
		p.Read = []string{filepath.Dir(path)} // It loads others from there.
		if resolved, err := filepath.EvalSymlinks(path); err == nil {
			p.Read = append(p.Read, filepath.Dir(resolved))
		}
	}
	return p
}

// ProbeExecutor starts an executor as a worker of this configuration would, without a model, and reports how it is confined. The program
// must have called RunExecutor.
func ProbeExecutor(ctx context.Context, config WorkerConfig) (sandbox.Report, error) {
	return process.Probe(ctx, config.processes())
}

// close waits until all models have been given back, and frees them.
func (m *models) close(ctx context.Context) error {
	err := m.here.Shutdown(ctx)
	if m.executors != nil {
		err = errors.Join(err, m.executors.Shutdown(ctx))
	}
	return err
}
