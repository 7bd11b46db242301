//go:build cgo

package onnx

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/runtime"
)

// library is the one that this process has loaded. The binding keeps it in variables of its own, so there can be only one, and
// it stays until the process ends: models of several loaders depend on it.
var library struct {
	mu     sync.Mutex
	loaded Library // guarded by mu; empty until it is
}

// openLibrary loads the library at path, unless it is loaded already.
func openLibrary(path string) (Library, error) {
	const op = "load ONNX Runtime"
	library.mu.Lock()
	defer library.mu.Unlock()
	if library.loaded.Path != "" {
		if path != library.loaded.Path && !sameFile(path, library.loaded.Path) {
			return Library{}, engine.Errorf(engine.KindConflict, op, path, "this process uses %s already", library.loaded.Path)
		}
		return library.loaded, nil
	}
	// Official builds from 1.29 on keep a device id in the user's cache folder and upload usage to their vendor as soon as the
	// environment is made, before the call that turns it off can be made. The variable is looked at first, and turns all of it off.
	if err := os.Setenv("ORT_DISABLE_TELEMETRY", "1"); err != nil {
		return Library{}, engine.WrapError(op, path, err)
	}
	ort.SetSharedLibraryPath(path)
	// What the runtime would print is in the errors that it returns.
	if err := ort.InitializeEnvironment(ort.WithLogLevelFatal()); err != nil {
		message := shorten(err, path)
		if strings.Contains(message, "Error setting ORT API base: 2") {
			return Library{}, engine.Errorf(engine.KindVersion, op, path, "the library is older than %s", Version).WithHint(howToGetLibrary)
		}
		return Library{}, engine.Errorf(engine.KindUnavailable, op, path, "%s", message).WithHint(howToGetLibrary)
	}
	_ = ort.DisableTelemetry() // fails where there is none
	library.loaded = Library{Path: path, Version: ort.GetVersion()}
	return library.loaded, nil
}

func sameFile(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}

// Loader implements runtime.Loader with ONNX Runtime. All loaders of a process share one library; one that asks for another gets
// an error of kind engine.KindConflict.
type Loader struct {
	config  Config
	warming sync.WaitGroup
}

var _ runtime.Loader = (*Loader)(nil)

// New returns a Loader. The library is neither looked for nor loaded yet.
func New(config Config) (*Loader, error) { return &Loader{config: config}, nil }

// Warm loads the library in the background; some 20 ms. What goes wrong is told to whoever needs the library next.
func (l *Loader) Warm() {
	l.warming.Go(func() { _, _ = l.Library() })
}

// Library loads the library, if that has not been done, and describes it. Errors are of kind engine.KindNotFound if there is
// none, engine.KindVersion if it is too old, engine.KindConflict if the process uses another, else engine.KindUnavailable. A
// failure is not remembered.
func (l *Loader) Library() (Library, error) {
	path, err := Find(l.config.Library)
	if err != nil {
		return Library{}, err
	}
	return openLibrary(path)
}

// Close waits for Warm. Library and models stay as they are.
func (l *Loader) Close() error {
	l.warming.Wait()
	return nil
}

// Load implements runtime.Loader. The file is read twice, the first time without optimizing the graph, because the binding
// needs the names of inputs and outputs before it makes a session.
func (l *Loader) Load(ctx context.Context, request runtime.LoadRequest) (runtime.Model, error) {
	const op = "load model"
	if err := ctx.Err(); err != nil {
		return nil, engine.WrapError(op, request.Path, err)
	}
	library, err := l.Library()
	if err != nil {
		return nil, err
	}
	if err := checkModelFile(request.Path); err != nil {
		return nil, err
	}
	fail := func(err error) error { return modelError(op, request.Path, err) }

	options, err := sessionOptions(max(request.Threads, 1), ort.GraphOptimizationLevelEnableAll)
	if err != nil {
		return nil, fail(err)
	}
	defer func() { _ = options.Destroy() }()
	if err := useDevice(options, library, request.Device, request.GPUMemoryBytes); err != nil {
		return nil, engine.WrapError(op, request.Path, err)
	}
	plain, err := sessionOptions(1, ort.GraphOptimizationLevelDisableAll)
	if err != nil {
		return nil, fail(err)
	}
	defer func() { _ = plain.Destroy() }()
	if err := plain.AddSessionConfigEntry("session.disable_prepacking", "1"); err != nil {
		return nil, fail(err)
	}
	inputs, outputs, err := ort.GetInputOutputInfoWithOptions(request.Path, plain)
	if err != nil {
		return nil, fail(err)
	}
	m := &model{path: request.Path, inputs: specs(inputs), outputs: specs(outputs)}
	names, err := m.choose(request.Outputs)
	if err != nil {
		return nil, err
	}
	inputNames := make([]string, len(inputs))
	for i := range inputs {
		inputNames[i] = inputs[i].Name
	}
	m.session, err = ort.NewDynamicAdvancedSession(request.Path, inputNames, names, options)
	if err != nil {
		return nil, fail(err)
	}
	return m, nil
}

// checkModelFile gives what is not even a file the right kind of error.
func checkModelFile(path string) error {
	const op = "load model"
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &engine.Error{Kind: engine.KindNotFound, Op: op, ID: path, Err: err}
	case err != nil:
		return engine.WrapError(op, path, err)
	case !info.Mode().IsRegular():
		return engine.Errorf(engine.KindModel, op, path, "this is no file")
	case info.Size() == 0:
		return engine.Errorf(engine.KindModel, op, path, "the file is empty")
	}
	return nil
}

func sessionOptions(threads int, level ort.GraphOptimizationLevel) (*ort.SessionOptions, error) {
	o, err := ort.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		o.SetIntraOpNumThreads(threads),
		o.SetInterOpNumThreads(1),
		o.SetExecutionMode(ort.ExecutionModeSequential),
		o.SetGraphOptimizationLevel(level),
		// The runtime would remember a plan for every shape that it sees, for ever; for small models it gains nothing.
		o.SetMemPattern(false),
		o.SetLogSeverityLevel(ort.LoggingLevelFatal),
		// Threads that wait for work by spinning take the cores from the other tasks of the node.
		o.AddSessionConfigEntry("session.intra_op.allow_spinning", "0"),
		o.AddSessionConfigEntry("session.inter_op.allow_spinning", "0"),
	)
	if err != nil {
		_ = o.Destroy()
		return nil, err
	}
	return o, nil
}

// elementTypes maps the types that the binding can feed and read; float16 outputs it would cut in half.
var elementTypes = map[ort.TensorElementDataType]engine.ElementType{
	ort.TensorElementDataTypeFloat: engine.Float32, ort.TensorElementDataTypeDouble: engine.Float64,
	ort.TensorElementDataTypeInt8: engine.Int8, ort.TensorElementDataTypeUint8: engine.Uint8,
	ort.TensorElementDataTypeInt16: engine.Int16, ort.TensorElementDataTypeUint16: engine.Uint16,
	ort.TensorElementDataTypeInt32: engine.Int32, ort.TensorElementDataTypeUint32: engine.Uint32,
	ort.TensorElementDataTypeInt64: engine.Int64, ort.TensorElementDataTypeUint64: engine.Uint64,
	ort.TensorElementDataTypeBool: engine.Bool, ort.TensorElementDataTypeString: engine.String,
	ort.TensorElementDataTypeFloat16: engine.Float16,
}

// specs describes inputs or outputs. The binding says of a scalar what it says of a tensor without a declared shape, so both become
// the latter; what a scalar is shows when the model runs.
func specs(infos []ort.InputOutputInfo) []engine.TensorSpec {
	all := make([]engine.TensorSpec, len(infos))
	for i, info := range infos {
		all[i].Name = info.Name
		if info.OrtValueType == ort.ONNXTypeTensor {
			all[i].Type = elementTypes[info.DataType]
			if len(info.Dimensions) > 0 {
				all[i].Shape = slices.Clone(info.Dimensions)
			}
		}
	}
	return all
}

// choose decides which outputs the session computes.
func (m *model) choose(wanted []string) ([]string, error) {
	const op = "load model"
	m.positions = make([]int, len(m.outputs))
	for i := range m.positions {
		m.positions[i] = -1
	}
	if wanted == nil {
		for _, spec := range m.outputs {
			if spec.Type != engine.ElementUnknown {
				wanted = append(wanted, spec.Name)
			}
		}
	}
	var names []string
	for _, name := range wanted {
		i := slices.IndexFunc(m.outputs, func(s engine.TensorSpec) bool { return s.Name == name })
		switch {
		case i < 0:
			return nil, engine.Errorf(engine.KindModel, op, m.path, "the model has no output %q", name)
		case m.outputs[i].Type == engine.ElementUnknown:
			return nil, engine.Errorf(engine.KindModel, op, m.path, "output %q is no tensor of a type that the engine can read", name)
		case m.positions[i] < 0:
			m.positions[i] = len(names)
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, engine.Errorf(engine.KindModel, op, m.path, "the model has no output that is a tensor")
	}
	return names, nil
}
