// Package fake evaluates models in pure Go, for tests and for programs without cgo. It knows the handful of ONNX operators of
// which linear models and the models of runtime/enginetest consist, and is slow. It can be told to fail.
package fake

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/internal/onnxfile"
)

// Faults is what shall go wrong. The zero value is nothing.
type Faults struct {
	// Load, if set, is the error of every Load.
	Load error
	// Run, if set, is the error of calls of Run: all calls, but the first SparedRuns ones after SetFaults.
	Run error
	// SparedRuns is how many calls succeed before Run counts.
	SparedRuns int
	// Gate, if set, holds every call of Run until it can receive from it, or the channel is closed, or the call's context ends.
	Gate <-chan struct{}
	// Delay is how long every call of Run takes at least, or until its context ends.
	Delay time.Duration
}

// Loader loads models as runtime.Loader describes, and counts. The zero value is ready to use. It is safe for concurrent use.
type Loader struct {
	mu     sync.Mutex
	faults Faults
	spared int
	stats  Stats
	gpus   int
	loads  map[runtime.Device]int
}

var _ runtime.Loader = (*Loader)(nil)

// Stats counts what a Loader's callers did.
type Stats struct {
	// Loads counts successful loads, Open the models of them that are not closed.
	Loads, Open int
	// Runs counts calls of Run, also those that failed; Running those that have not returned.
	Runs, Running int
}

// New returns a Loader.
func New() *Loader { return &Loader{} }

// SetFaults replaces the faults, for models that are loaded already too.
func (l *Loader) SetFaults(faults Faults) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults, l.spared = faults, faults.SparedRuns
}

// SetGPUs says how many GPUs there are to load models on, at first none. They compute like the CPU.
func (l *Loader) SetGPUs(count int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gpus = count
}

// Loads counts the successful loads on a device.
func (l *Loader) Loads(device runtime.Device) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.loads[device]
}

// Stats returns the counts.
func (l *Loader) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stats
}

// Close does nothing.
func (l *Loader) Close() error { return nil }

// Load implements runtime.Loader.
func (l *Loader) Load(ctx context.Context, request runtime.LoadRequest) (runtime.Model, error) {
	const op = "load model"
	if err := ctx.Err(); err != nil {
		return nil, engine.WrapError(op, request.Path, err)
	}
	l.mu.Lock()
	fault, gpus := l.faults.Load, l.gpus
	l.mu.Unlock()
	if fault != nil {
		return nil, engine.WrapError(op, request.Path, fault)
	}
	if number, ok := request.Device.GPU(); ok && (number < 0 || number >= gpus) {
		return nil, engine.Errorf(engine.KindUnavailable, op, request.Path, "use CUDA %s: there is no such device: there are %d here", request.Device, gpus)
	}
	data, err := os.ReadFile(request.Path)
	if err != nil {
		kind := engine.KindInternal
		if errors.Is(err, fs.ErrNotExist) {
			kind = engine.KindNotFound
		}
		return nil, &engine.Error{Kind: kind, Op: op, ID: request.Path, Err: err}
	}
	file, err := onnxfile.Unmarshal(data)
	if err != nil {
		return nil, &engine.Error{Kind: engine.KindModel, Op: op, ID: request.Path, Err: err}
	}
	m := &model{loader: l, path: request.Path, graph: &file.Graph}
	for _, v := range file.Graph.Inputs {
		if !slices.ContainsFunc(file.Graph.Initializers, func(t onnxfile.Tensor) bool { return t.Name == v.Name }) {
			m.inputs = append(m.inputs, engine.TensorSpec{Name: v.Name, Type: v.Type, Shape: v.Dims})
		}
	}
	for _, v := range file.Graph.Outputs {
		m.outputs = append(m.outputs, engine.TensorSpec{Name: v.Name, Type: v.Type, Shape: v.Dims})
	}
	if err := m.check(request); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.Loads++
	l.stats.Open++
	if l.loads == nil {
		l.loads = map[runtime.Device]int{}
	}
	l.loads[request.Device]++
	return m, nil
}

// model is a graph that is interpreted node by node.
type model struct {
	loader          *Loader
	path            string
	graph           *onnxfile.Graph
	inputs, outputs []engine.TensorSpec

	running sync.RWMutex // held for reading by Run, for writing by Close
	closed  bool         // guarded by running
}

// check refuses what cannot be evaluated.
func (m *model) check(request runtime.LoadRequest) error {
	const op = "load model"
	wanted := request.Outputs
	if wanted == nil {
		for _, spec := range m.outputs {
			if spec.Type != engine.ElementUnknown {
				wanted = append(wanted, spec.Name)
			}
		}
	}
	for _, name := range wanted {
		i := slices.IndexFunc(m.outputs, func(s engine.TensorSpec) bool { return s.Name == name })
		if i < 0 {
			return engine.Errorf(engine.KindModel, op, request.Path, "the model has no output %q", name)
		}
		if m.outputs[i].Type == engine.ElementUnknown {
			return engine.Errorf(engine.KindModel, op, request.Path, "output %q is no tensor", name)
		}
	}
	for i := range m.graph.Nodes {
		n := &m.graph.Nodes[i]
		if _, ok := operators[n.Op]; (n.Domain != "" || !ok) && n.Op != "SequenceConstruct" {
			return engine.Errorf(engine.KindModel, op, request.Path, "%s is not a registered function/op", strings.TrimPrefix(n.Domain+":"+n.Op, ":"))
		}
	}
	return nil
}

// Inputs implements runtime.Model.
func (m *model) Inputs() []engine.TensorSpec { return m.inputs }

// Outputs implements runtime.Model.
func (m *model) Outputs() []engine.TensorSpec { return m.outputs }

// Close implements runtime.Model.
func (m *model) Close() error {
	m.running.Lock()
	defer m.running.Unlock()
	if !m.closed {
		m.closed = true
		m.loader.mu.Lock()
		m.loader.stats.Open--
		m.loader.mu.Unlock()
	}
	return nil
}

// Run implements runtime.Model.
func (m *model) Run(ctx context.Context, inputs []runtime.Tensor, outputs []runtime.Output) error {
	const op = "run model"
	m.running.RLock()
	defer m.running.RUnlock()
	if m.closed {
		return engine.Errorf(engine.KindInternal, op, m.path, "the model is closed")
	}
	if err := m.loader.fault(ctx); err != nil {
		return engine.WrapError(op, m.path, err)
	}
	if err := m.evaluate(inputs, outputs); err != nil {
		return &engine.Error{Kind: engine.KindModel, Op: op, ID: m.path, Err: err}
	}
	return nil
}

// fault goes through what is set to go wrong with a call of Run.
func (l *Loader) fault(ctx context.Context) error {
	l.mu.Lock()
	faults := l.faults
	spare := l.spared > 0
	if spare {
		l.spared--
	}
	l.stats.Runs++
	l.stats.Running++
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.stats.Running--
		l.mu.Unlock()
	}()
	if faults.Gate != nil {
		select {
		case <-faults.Gate:
		case <-ctx.Done():
		}
	}
	if faults.Delay > 0 {
		timer := time.NewTimer(faults.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if faults.Run != nil && !spare {
		return faults.Run
	}
	return nil
}
