package process

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/runtime"
)

// alignment is where tensors begin, for the kernels that read them.
const alignment = 64

// layout hands out places of a slot.
type layout struct{ end int64 }

func (l *layout) place(n int64) int64 {
	at := (l.end + alignment - 1) / alignment * alignment
	l.end = at + n
	return at
}

// sizeOf is how many bytes a tensor takes in a slot.
func sizeOf(t runtime.Tensor) int64 {
	if t.Type != engine.String {
		return int64(len(t.Data))
	}
	n := int64(8 * len(t.Strings))
	for _, s := range t.Strings {
		n += int64(len(s))
	}
	return n
}

// describe gives a tensor its place.
func (l *layout) describe(t runtime.Tensor) *enginev1.ExecutorTensor {
	n := sizeOf(t)
	return &enginev1.ExecutorTensor{Type: uint32(t.Type), Shape: t.Shape, OffsetBytes: l.place(n), LengthBytes: n}
}

// put writes a tensor to its place.
func put(memory []byte, at *enginev1.ExecutorTensor, t runtime.Tensor) {
	to := memory[at.GetOffsetBytes():][:at.GetLengthBytes()]
	if t.Type != engine.String {
		copy(to, t.Data)
		return
	}
	end := 0
	texts := to[8*len(t.Strings):]
	for i, s := range t.Strings {
		end += copy(texts[end:], s)
		binary.LittleEndian.PutUint64(to[8*i:], uint64(end)) //nolint:gosec // A length is not negative.
	}
}

// view returns the tensor at a place. Numbers lie in the slot; texts are copied. What the other end says is not believed.
func view(memory []byte, at *enginev1.ExecutorTensor) (runtime.Tensor, error) {
	t := runtime.Tensor{Type: engine.ElementType(min(at.GetType(), math.MaxUint8)), Shape: at.GetShape()} //nolint:gosec // See min.
	fail := func() (runtime.Tensor, error) {
		return runtime.Tensor{}, engine.Errorf(engine.KindInternal, "read tensor of executor", "", "%s%v of %d bytes at %d in %d",
			t.Type, t.Shape, at.GetLengthBytes(), at.GetOffsetBytes(), len(memory))
	}
	lo, n := at.GetOffsetBytes(), at.GetLengthBytes()
	if lo < 0 || n < 0 || lo > int64(len(memory)) || n > int64(len(memory))-lo {
		return fail()
	}
	elements := int64(1)
	for _, d := range t.Shape {
		if d < 0 || d > 0 && elements > math.MaxInt64/d/8 {
			return fail()
		}
		elements *= d
	}
	from := memory[lo : lo+n : lo+n]
	if t.Type != engine.String {
		if size := int64(t.Type.SizeBytes()); size == 0 || elements*size != n {
			return fail()
		}
		t.Data = from
		return t, nil
	}
	if elements*8 > n {
		return fail()
	}
	texts := string(from[8*elements:])
	t.Strings = make([]string, elements)
	start := uint64(0)
	for i := range t.Strings {
		end := binary.LittleEndian.Uint64(from[8*i:])
		if end < start || end > uint64(len(texts)) {
			return fail()
		}
		t.Strings[i], start = texts[start:end], end
	}
	return t, nil
}

// own copies a tensor out of a slot.
func own(t runtime.Tensor) runtime.Tensor {
	t.Shape, t.Data = slices.Clone(t.Shape), slices.Clone(t.Data)
	return t
}

func specsToProto(specs []engine.TensorSpec) []*enginev1.ExecutorTensorSpec {
	out := make([]*enginev1.ExecutorTensorSpec, len(specs))
	for i, s := range specs {
		out[i] = &enginev1.ExecutorTensorSpec{Name: s.Name, Type: uint32(s.Type), Shape: s.Shape, HasShape: s.Shape != nil}
	}
	return out
}

func specsFromProto(wire []*enginev1.ExecutorTensorSpec) []engine.TensorSpec {
	out := make([]engine.TensorSpec, len(wire))
	for i, w := range wire {
		out[i] = engine.TensorSpec{Name: w.GetName(), Type: engine.ElementType(min(w.GetType(), math.MaxUint8)), Shape: w.GetShape()} //nolint:gosec // See min.
		if w.GetHasShape() && out[i].Shape == nil {
			out[i].Shape = []int64{}
		}
	}
	return out
}

func loadToProto(r runtime.LoadRequest, confined bool) *enginev1.ExecutorLoad {
	load := &enginev1.ExecutorLoad{
		Path: r.Path, Digest: r.Digest, Threads: int32(min(r.Threads, math.MaxInt32)), //nolint:gosec // See min.
		Outputs: r.Outputs, AllOutputs: r.Outputs == nil, GpuMemoryBytes: r.GPUMemoryBytes, Confined: confined,
	}
	if gpu, ok := r.Device.GPU(); ok {
		number := int32(gpu) //nolint:gosec // A machine has fewer.
		load.Gpu = &number
	}
	return load
}

func loadFromProto(wire *enginev1.ExecutorLoad) runtime.LoadRequest {
	r := runtime.LoadRequest{
		Path: wire.GetPath(), Digest: wire.GetDigest(), Threads: int(wire.GetThreads()), Outputs: wire.GetOutputs(), GPUMemoryBytes: wire.GetGpuMemoryBytes(),
	}
	if r.Outputs == nil && !wire.GetAllOutputs() {
		r.Outputs = []string{}
	}
	if wire.Gpu != nil {
		r.Device = runtime.GPU(int(wire.GetGpu()))
	}
	return r
}
