//go:build cgo

package onnx

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"unsafe"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/runtime"
)

// model is one session.
type model struct {
	path            string              // constant
	inputs, outputs []engine.TensorSpec // constant
	// positions holds the place of each output among those that the session computes, or -1. Constant.
	positions []int

	running sync.RWMutex                // held for reading by Run, for writing by Close
	session *ort.DynamicAdvancedSession // guarded by running; nil when closed

	mu     sync.Mutex
	unused []*ort.RunOptions // guarded by mu; reused, because each costs two calls into C
}

// Inputs implements runtime.Model.
func (m *model) Inputs() []engine.TensorSpec { return m.inputs }

// Outputs implements runtime.Model.
func (m *model) Outputs() []engine.TensorSpec { return m.outputs }

// Close implements runtime.Model.
func (m *model) Close() error {
	m.running.Lock()
	defer m.running.Unlock()
	if m.session == nil {
		return nil
	}
	err := m.session.Destroy()
	m.session = nil
	for _, options := range m.unused {
		err = errors.Join(err, options.Destroy())
	}
	m.unused = nil
	return err
}

// Run implements runtime.Model.
func (m *model) Run(ctx context.Context, inputs []runtime.Tensor, outputs []runtime.Output) error {
	const op = "run model"
	m.running.RLock()
	defer m.running.RUnlock()
	if m.session == nil {
		return engine.Errorf(engine.KindInternal, op, m.path, "the model is closed")
	}
	if err := ctx.Err(); err != nil {
		return engine.WrapError(op, m.path, err)
	}
	if len(inputs) != len(m.inputs) {
		return engine.Errorf(engine.KindModel, op, m.path, "got %d inputs, expected %d", len(inputs), len(m.inputs))
	}
	var c call
	defer c.release()
	for i, t := range inputs {
		v, err := c.wrap(t)
		if err != nil {
			return engine.WrapError(op, m.path, fmt.Errorf("input %q: %w", m.inputs[i].Name, err))
		}
		c.inputs = append(c.inputs, v)
	}
	if err := m.prepareOutputs(&c, outputs); err != nil {
		return engine.WrapError(op, m.path, err)
	}
	if err := m.run(ctx, &c); err != nil {
		if ctx.Err() != nil {
			return engine.WrapError(op, m.path, ctx.Err())
		}
		if i := slices.IndexFunc(c.outputs, isTypedNil); i >= 0 && errors.Is(err, ort.ZeroShapeLengthError) {
			return scalarError(op, m.path, m.outputs[slices.Index(m.positions, i)])
		}
		return modelError(op, m.path, err)
	}
	for i := range outputs {
		o := &outputs[i]
		if o.Tensor.Data != nil {
			continue // written in place
		}
		value := c.outputs[m.positions[o.Index]]
		if len(value.GetShape()) == 0 { // of texts; the binding would panic on its content
			return scalarError(op, m.path, m.outputs[o.Index])
		}
		var err error
		if o.Tensor, err = unwrap(value); err != nil {
			return engine.WrapError(op, m.path, fmt.Errorf("output %q: %w", m.outputs[o.Index].Name, err))
		}
	}
	return nil
}

// prepareOutputs wraps the memory that the caller provides; the other outputs stay nil and are made by the session.
func (m *model) prepareOutputs(c *call, outputs []runtime.Output) error {
	c.outputs = make([]ort.Value, 0, len(m.positions))
	for _, position := range m.positions {
		if position >= 0 {
			c.outputs = append(c.outputs, nil)
		}
	}
	for _, o := range outputs {
		if o.Index < 0 || o.Index >= len(m.outputs) {
			return engine.Errorf(engine.KindModel, "", "", "there is no output %d", o.Index)
		}
		name, position := m.outputs[o.Index].Name, m.positions[o.Index]
		if position < 0 {
			return engine.Errorf(engine.KindModel, "", "", "output %q: the model was loaded without it", name)
		}
		if o.Tensor.Data == nil {
			continue
		}
		v, err := c.wrap(o.Tensor)
		if err != nil {
			return fmt.Errorf("output %q: %w", name, err)
		}
		if c.outputs[position] != nil {
			_ = v.Destroy()
			return engine.Errorf(engine.KindModel, "", "", "output %q is asked for twice", name)
		}
		c.outputs[position] = v
	}
	return nil
}

// run calls the session and stops it when ctx ends.
func (m *model) run(ctx context.Context, c *call) error {
	if ctx.Done() == nil {
		return m.session.Run(c.inputs, c.outputs)
	}
	options, err := m.takeOptions()
	if err != nil {
		return err
	}
	terminated := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(terminated)
		_ = options.Terminate()
	})
	err = m.session.RunWithOptions(c.inputs, c.outputs, options)
	if !stop() {
		<-terminated
		if errUnset := options.UnsetTerminate(); errUnset != nil {
			return errors.Join(err, errUnset, options.Destroy())
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unused = append(m.unused, options)
	return err
}

func (m *model) takeOptions() (*ort.RunOptions, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(m.unused); n > 0 {
		options := m.unused[n-1]
		m.unused = m.unused[:n-1]
		return options, nil
	}
	return ort.NewRunOptions()
}

// call is what one Run holds on the side of C.
type call struct {
	inputs, outputs []ort.Value
	pins            goruntime.Pinner
}

// release frees the values, which refer to Go memory, before it unpins the memory. It unpins in any case: a Pinner that is dropped
// with pinned memory ends the process.
func (c *call) release() {
	defer c.pins.Unpin()
	for _, values := range [][]ort.Value{c.inputs, c.outputs} {
		for _, v := range values {
			if v != nil && !isTypedNil(v) {
				_ = v.Destroy()
			}
		}
	}
}

// isTypedNil reports whether v is a nil pointer, which the binding leaves where it could not make a value, as of a scalar.
func isTypedNil(v ort.Value) bool {
	pointer := reflect.ValueOf(v)
	return pointer.Kind() == reflect.Pointer && pointer.IsNil()
}

func scalarError(op, path string, spec engine.TensorSpec) error {
	spec.Shape = []int64{}
	return engine.Errorf(engine.KindModel, op, path, "the model returned %s, a scalar; expected the rows as its first dimension", spec)
}

// dataTypes is the inverse of elementTypes.
var dataTypes = func() map[engine.ElementType]ort.TensorElementDataType {
	inverse := map[engine.ElementType]ort.TensorElementDataType{}
	for d, t := range elementTypes {
		inverse[t] = d
	}
	return inverse
}()

// wrap makes a value of ONNX Runtime of t's memory, which is pinned; strings are copied.
func (c *call) wrap(t runtime.Tensor) (ort.Value, error) {
	elements := t.Elements()
	if elements <= 0 || len(t.Shape) == 0 {
		return nil, engine.Errorf(engine.KindModel, "", "", "shape %v has no elements", t.Shape)
	}
	if t.Type == engine.String {
		return wrapStrings(t, elements)
	}
	dataType, ok := dataTypes[t.Type]
	if !ok {
		return nil, engine.Errorf(engine.KindModel, "", "", "cannot pass elements of type %s", t.Type)
	}
	if int64(len(t.Data)) != elements*int64(t.Type.SizeBytes()) {
		return nil, engine.Errorf(engine.KindModel, "", "", "%d bytes do not make %s%v", len(t.Data), t.Type, t.Shape)
	}
	c.pins.Pin(&t.Data[0]) // C keeps the pointer while the value lives; memory that is not Go's is left alone
	v, err := ort.NewCustomDataTensor(t.Shape, t.Data, dataType)
	if err != nil {
		return nil, modelError("", "", err)
	}
	return v, nil
}

func wrapStrings(t runtime.Tensor, elements int64) (ort.Value, error) {
	if int64(len(t.Strings)) != elements {
		return nil, engine.Errorf(engine.KindModel, "", "", "%d strings do not make %s%v", len(t.Strings), t.Type, t.Shape)
	}
	for i, s := range t.Strings {
		if strings.IndexByte(s, 0) >= 0 {
			return nil, engine.Errorf(engine.KindData, "", "", "string %d contains a NUL character, where ONNX Runtime would cut it off", i)
		}
	}
	v, err := ort.NewStringTensor(t.Shape)
	if err != nil {
		return nil, modelError("", "", err)
	}
	if err := v.SetContents(t.Strings); err != nil {
		return nil, errors.Join(modelError("", "", err), v.Destroy())
	}
	return v, nil
}

// unwrap returns what the session made. The binding has copied numbers into Go memory, which outlives the value.
func unwrap(value ort.Value) (runtime.Tensor, error) {
	t := runtime.Tensor{Shape: value.GetShape()}
	switch v := value.(type) {
	case *ort.StringTensor:
		var err error
		t.Type = engine.String
		t.Strings, err = v.GetContents()
		if err != nil {
			return t, modelError("", "", err)
		}
	case *ort.Tensor[float32]:
		t.Type, t.Data = engine.Float32, bytesOf(v.GetData())
	case *ort.Tensor[float64]:
		t.Type, t.Data = engine.Float64, bytesOf(v.GetData())
	case *ort.Tensor[int8]:
		t.Type, t.Data = engine.Int8, bytesOf(v.GetData())
	case *ort.Tensor[uint8]:
		t.Type, t.Data = engine.Uint8, bytesOf(v.GetData())
	case *ort.Tensor[int16]:
		t.Type, t.Data = engine.Int16, bytesOf(v.GetData())
	case *ort.Tensor[uint16]:
		t.Type, t.Data = engine.Uint16, bytesOf(v.GetData())
	case *ort.Tensor[int32]:
		t.Type, t.Data = engine.Int32, bytesOf(v.GetData())
	case *ort.Tensor[uint32]:
		t.Type, t.Data = engine.Uint32, bytesOf(v.GetData())
	case *ort.Tensor[int64]:
		t.Type, t.Data = engine.Int64, bytesOf(v.GetData())
	case *ort.Tensor[uint64]:
		t.Type, t.Data = engine.Uint64, bytesOf(v.GetData())
	case *ort.Tensor[bool]:
		t.Type, t.Data = engine.Bool, bytesOf(v.GetData())
	default:
		return t, engine.Errorf(engine.KindModel, "", "", "the engine cannot read values of this type (%T)", value)
	}
	return t, nil
}

func bytesOf[T ort.TensorData](elements []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(elements))), len(elements)*int(unsafe.Sizeof(*new(T))))
}
