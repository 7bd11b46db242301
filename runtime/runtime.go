// Package runtime is what a task runs: models behind narrow interfaces, and their cache. runtime/operator applies them to
// record batches, runtime/onnx evaluates them with ONNX Runtime, runtime/fake in pure Go for tests, and runtime/enginetest
// holds the suite that both pass.
package runtime

import (
	"context"

	"github.com/f708428e/engine"
)

// Tensor is an array of elements of one type in row-major order. It is a view: it owns nothing.
type Tensor struct {
	// Type is the type of the elements.
	Type engine.ElementType
	// Shape has one length a dimension, none negative.
	Shape []int64
	// Data holds the elements in the machine's byte order (little-endian on all platforms that we support), aligned to their
	// size; its length is the product of Shape times Type.SizeBytes. A bool is one byte, 0 or 1. Unused for strings.
	Data []byte
	// Strings holds the elements of a tensor of type engine.String. They must not contain NUL.
	Strings []string
}

// Elements is the product of Shape; 1 for a scalar.
func (t Tensor) Elements() int64 {
	n := int64(1)
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// Output asks for one output of a model.
type Output struct {
	// Index is the output's place in Model.Outputs.
	Index int
	// Tensor is where the output goes. If its Data is set, the model writes there: Type and Shape must be those of the result,
	// and nobody may touch the memory until Run returns. If Data is nil, the model sets the whole Tensor to memory of its own
	// making, which belongs to the caller then and is reclaimed by the garbage collector. Outputs of strings are always the latter.
	Tensor Tensor
}

// Model is a loaded model. It is safe for concurrent use.
type Model interface {
	// Inputs describes the inputs in the order of the graph. The caller must not change the result.
	Inputs() []engine.TensorSpec
	// Outputs describes all outputs in the order of the graph, also those that the model was loaded without. An output that is
	// no tensor (a sequence, a map) has the type engine.ElementUnknown and cannot be asked for. The caller must not change the
	// result.
	Outputs() []engine.TensorSpec
	// Run evaluates the model. There is one tensor for each of Inputs, in that order, with at least one element; their memory is
	// read where it lies, and must stay as it is until Run returns. When ctx ends, Run stops as soon as the model lets it.
	//
	// Shapes or types that do not fit the model, failures inside it, and an output that turns out to be a scalar, which has no rows,
	// are of kind engine.KindModel, too little memory of kind engine.KindExhausted. After an error the memory of outputs holds
	// anything.
	Run(ctx context.Context, inputs []Tensor, outputs []Output) error
	// Close waits for calls of Run to return and frees the model. Further calls of Run fail. It may be called more than once.
	Close() error
}

// Resident is a Model that knows how much of the machine's memory it has.
type Resident interface {
	// ResidentBytes is that memory when the model had been loaded, or 0 if it is not known.
	ResidentBytes() int64
}

// LoadRequest says which model to load and how.
type LoadRequest struct {
	// Path is the .onnx file. Required.
	Path string
	// Digest identifies the content of the model, such as "sha256:…". Cache needs it; it is not verified.
	Digest string
	// Threads is how many threads one call may use, the caller's included. Zero means 1.
	Threads int
	// Outputs names the outputs that will be asked for; others need not be computed. Nil means all that are tensors.
	Outputs []string
	// Device is where the model runs. Tensors stay in the machine's memory; what a GPU needs of them is copied.
	Device Device
	// MemoryBytes is what the caller has been granted of the machine's memory for the weights and for calls. Cache adds up what all users of
	// a model have; see Meter. Zero means no bound.
	MemoryBytes int64
	// GPUMemoryBytes bounds what the model takes of a GPU's memory for its weights and for calls, all at once; above it they fail with
	// kind engine.KindExhausted. What CUDA itself takes, some hundred MiB a process and device, is not counted. Zero means no bound.
	GPUMemoryBytes int64
}

// Loader loads models. It is safe for concurrent use.
type Loader interface {
	// Load returns the model in the request's file, which the caller closes. It blocks until the model is ready. A file that
	// does not exist is of kind engine.KindNotFound; one that is no model, or a model that cannot be run, of engine.KindModel. A device
	// that is not there, or that the loader cannot use, is of kind engine.KindUnavailable: no other takes its place. One without the
	// memory for the model is of kind engine.KindExhausted.
	Load(ctx context.Context, request LoadRequest) (Model, error)
	// Close releases what the loader holds. Models that it loaded are closed by those who loaded them. It may be called more
	// than once.
	Close() error
}
