package process

import (
	"context"
	"errors"
	"math"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/runtime"
)

// Supported says whether this system has what executors need.
const Supported = true

// Loader implements runtime.Loader with executors.
type Loader struct{ config Config }

var _ runtime.Loader = (*Loader)(nil)

// New returns a Loader whose models are evaluated by copies of this program, whose main function must look at IsExecutor.
func New(config Config) (*Loader, error) {
	const op = "configure executors"
	switch {
	case config.LoadTimeout < 0 || config.StopTimeout < 0 || config.Logger == nil:
		return nil, engine.Errorf(engine.KindInvalidArgument, op, "", "timeouts must not be negative, and a logger is required")
	case config.MemoryBytes < 0:
		return nil, engine.Errorf(engine.KindInvalidArgument, op, "", "%d bytes for executors: expected at least 0", config.MemoryBytes)
	case config.LoadMemoryBytes < -1:
		return nil, engine.Errorf(engine.KindInvalidArgument, op, "", "%d bytes for loading a model: expected at least -1", config.LoadMemoryBytes)
	case config.Sandbox == "":
		config.Sandbox = SandboxAuto
	case config.Sandbox != SandboxAuto && config.Sandbox != SandboxRequire && config.Sandbox != SandboxOff:
		return nil, engine.Errorf(engine.KindInvalidArgument, op, "", "sandbox: %q is none of auto, require, off", config.Sandbox)
	}
	if config.StopTimeout == 0 {
		config.StopTimeout = 5 * time.Second
	}
	config.keepBytes, config.said, config.cgroups = keepBytes, &sync.Once{}, newCgroups(&config)
	return &Loader{config: config}, nil
}

// Close implements runtime.Loader. Its models must have been closed.
func (l *Loader) Close() error {
	l.config.cgroups.close(l.config.Logger)
	return nil
}

// Load implements runtime.Loader: it starts an executor, which loads the model. One that dies of that is of kind engine.KindModel.
func (l *Loader) Load(ctx context.Context, request runtime.LoadRequest) (runtime.Model, error) {
	m := &model{config: &l.config, request: request, gate: semaphore.NewWeighted(everybody), starting: make(chan struct{}, 1)}
	m.file, _ = os.Stat(request.Path) // What is wrong with the file is the executor's to say.
	c, loaded, err := start(ctx, m.config, request)
	if l.withoutFiles(request, err) {
		// Which files a driver of the future needs is not known here.
		lax := l.config
		lax.anyFile = true
		var again error
		if c, loaded, again = start(ctx, &lax, request); again == nil {
			l.config.Logger.WarnContext(ctx, "a GPU works only in executors that reach all files", "model", request.Path, "device", request.Device.String(), "error", err)
			m.config, err = &lax, nil
		}
	}
	if err != nil {
		return nil, err
	}
	m.child = c
	m.inputs, m.outputs = specsFromProto(loaded.GetInputs()), specsFromProto(loaded.GetOutputs())
	m.resident = c.residentBytes()
	l.config.Logger.DebugContext(ctx, "an executor has started", "model", request.Path, "device", request.Device.String(), "pid", c.cmd.Process.Pid)
	return m, nil
}

// withoutFiles tells whether a model that could not be loaded may be, by an executor that reaches all files.
func (l *Loader) withoutFiles(request runtime.LoadRequest, err error) bool {
	_, gpu := request.Device.GPU()
	return gpu && l.config.Sandbox == SandboxAuto && engine.KindOf(err) == engine.KindUnavailable
}

// everybody is the weight of a call that runs alone.
const everybody = math.MaxInt64

// model is a model with an executor, which is started again when it has died and is needed.
type model struct {
	config          *Config             // constant
	request         runtime.LoadRequest // constant
	file            os.FileInfo         // constant; the model as it was
	inputs, outputs []engine.TensorSpec // constant
	resident        int64               // constant
	// gate lets calls run beside each other, or one alone.
	gate *semaphore.Weighted
	// starting has a token while somebody starts an executor.
	starting chan struct{}

	mu     sync.Mutex
	child  *child
	closed bool
}

// Inputs implements runtime.Model.
func (m *model) Inputs() []engine.TensorSpec { return m.inputs }

// Outputs implements runtime.Model.
func (m *model) Outputs() []engine.TensorSpec { return m.outputs }

// ResidentBytes implements runtime.Resident: what the executor had when it had loaded the model.
func (m *model) ResidentBytes() int64 { return m.resident }

// MemoryBytes implements runtime.Sized: what the executor has now.
func (m *model) MemoryBytes() int64 {
	m.mu.Lock()
	c := m.child
	m.mu.Unlock()
	return c.residentBytes()
}

// Run implements runtime.Model. When the executor dies, all its calls are made again, each alone, in one that is started anew. A call of
// which it dies time and again is a *runtime.CrashError; see also runtime.Suspect.
func (m *model) Run(ctx context.Context, inputs []runtime.Tensor, outputs []runtime.Output) error {
	const op = "run model"
	if err := m.check(inputs); err != nil {
		return err
	}
	weight, most := int64(1), maxCrashes
	if runtime.IsSuspect(ctx) {
		weight, most = everybody, 1
	}
	for crashes := 0; ; {
		if err := m.gate.Acquire(ctx, weight); err != nil {
			return engine.WrapError(op, m.request.Path, err)
		}
		died, err := m.try(ctx, inputs, outputs)
		m.gate.Release(weight)
		if died == nil {
			return err
		}
		if died.blamed != 0 { // Another call would not end.
			continue
		}
		weight = everybody
		if crashes++; crashes == most {
			return &runtime.CrashError{Model: m.request.Path, Times: crashes, Cause: died.cause, Killed: died.killed}
		}
	}
}

// check refuses what cannot be described to an executor.
func (m *model) check(inputs []runtime.Tensor) error {
	const op = "run model"
	if len(inputs) != len(m.inputs) {
		return engine.Errorf(engine.KindModel, op, m.request.Path, "got %d inputs, expected %d", len(inputs), len(m.inputs))
	}
	for i, t := range inputs {
		have, want := int64(len(t.Data)), t.Elements()*int64(t.Type.SizeBytes())
		if t.Type == engine.String {
			have, want = int64(len(t.Strings)), t.Elements()
		}
		if have != want {
			return engine.Errorf(engine.KindModel, op, m.request.Path, "input %q: the data does not fit %s%v", m.inputs[i].Name, t.Type, t.Shape)
		}
	}
	return nil
}

// try makes a call once. died is set if its executor has ended before it had a result.
func (m *model) try(ctx context.Context, inputs []runtime.Tensor, outputs []runtime.Output) (died *death, err error) {
	if err := ctx.Err(); err != nil {
		return nil, engine.WrapError("run model", m.request.Path, err)
	}
	c, err := m.ready(ctx)
	if err != nil {
		return nil, err
	}
	_, err = c.run(ctx, inputs, outputs)
	if !errors.Is(err, errDied) {
		return nil, err
	}
	<-c.dead
	if err := ctx.Err(); err != nil {
		return nil, engine.WrapError("run model", m.request.Path, err)
	}
	return c.death, nil
}

// ready returns an executor that lives, and starts one if there is none.
func (m *model) ready(ctx context.Context) (*child, error) {
	const op = "run model"
	select {
	case m.starting <- struct{}{}:
	case <-ctx.Done():
		return nil, engine.WrapError(op, m.request.Path, ctx.Err())
	}
	defer func() { <-m.starting }()
	m.mu.Lock()
	c, closed := m.child, m.closed
	m.mu.Unlock()
	switch {
	case closed:
		return nil, engine.Errorf(engine.KindInternal, op, m.request.Path, "the model is closed")
	case c.alive():
		return c, nil
	}
	// The digest was verified when the model was loaded first.
	if now, err := os.Stat(m.request.Path); err != nil || m.file == nil || !now.ModTime().Equal(m.file.ModTime()) || now.Size() != m.file.Size() {
		return nil, engine.Errorf(engine.KindConflict, op, m.request.Path, "its executor died, and the file is not what it was when it was loaded")
	}
	<-c.dead
	c, err := m.restart(ctx)
	if err != nil {
		return nil, err
	}
	m.config.Logger.InfoContext(ctx, "an executor has started again", "model", m.request.Path, "pid", c.cmd.Process.Pid)
	m.mu.Lock()
	m.child = c
	m.mu.Unlock()
	return c, nil
}

// restart starts another executor. The model could be loaded once, so that an executor that dies of that is no proof against it.
func (m *model) restart(ctx context.Context) (c *child, err error) {
	for range maxCrashes {
		if c, _, err = start(ctx, m.config, m.request); engine.KindOf(err) != engine.KindModel || !errors.Is(err, errDied) {
			break
		}
	}
	if engine.KindOf(err) == engine.KindExhausted {
		// A call of fewer rows, which is what callers try then, would help nobody.
		err = engine.Errorf(engine.KindUnavailable, "run model", m.request.Path, "its executor died, and none can be started: %w", err)
	}
	return c, err
}

// Close implements runtime.Model.
func (m *model) Close() error {
	_ = m.gate.Acquire(context.Background(), everybody) // It has no end.
	defer m.gate.Release(everybody)
	m.mu.Lock()
	closed := m.closed
	m.closed = true
	c := m.child
	m.mu.Unlock()
	if !closed {
		c.close()
	}
	return nil
}
