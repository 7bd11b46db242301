//go:build cgo

package onnx_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/enginetest"
	"github.com/f708428e/engine/runtime/onnx"
)

// TestCUDA computes on a GPU if there is one that can be used, and otherwise wants to be told why not.
func TestCUDA(t *testing.T) {
	loader := newLoader(t)
	request := runtime.LoadRequest{Path: enginetest.WriteModel(t, enginetest.LinearModel(engine.Float32, 0.5, 1, 2, -4)), Device: runtime.GPU(0), GPUMemoryBytes: 64 << 20}
	refusal := loader.CheckCUDA()
	model, err := loader.Load(t.Context(), request)
	if (err == nil) != (refusal == nil) {
		t.Fatalf("the check says %v, loading %v", refusal, err)
	}
	if refusal != nil {
		var e *engine.Error
		if engine.KindOf(refusal) != engine.KindUnavailable || engine.KindOf(err) != engine.KindUnavailable || !errors.As(refusal, &e) {
			t.Fatalf("got %v, %v", refusal, err)
		}
		if strings.Contains(err.Error(), "has no CUDA") && !strings.Contains(e.Hint, "--onnxruntime") {
			t.Errorf("%v has the hint %q", refusal, e.Hint)
		}
		t.Skipf("no GPU can be used here: %v", refusal)
	}
	input := enginetest.Floats(engine.Float32, []int64{2, 3}, 1, 1, 1, 2, 0, -0.25)
	outputs := []runtime.Output{{}}
	if err := errors.Join(model.Run(t.Context(), []runtime.Tensor{input}, outputs), model.Close()); err != nil {
		t.Fatal(err)
	}
	if got := enginetest.Values(outputs[0].Tensor); len(got) != 2 || got[0] != -0.5 || got[1] != 3.5 {
		t.Errorf("got %v", got)
	}
}

// TestLoaderOnGPU holds a GPU to everything that is expected of a CPU.
func TestLoaderOnGPU(t *testing.T) {
	loader := newLoader(t)
	if err := loader.CheckCUDA(); err != nil {
		t.Skipf("no GPU can be used here: %v", err)
	}
	enginetest.TestLoader(t, onGPU{loader})
}

// onGPU loads models on the first GPU, if no other device is asked for.
type onGPU struct{ *onnx.Loader }

func (l onGPU) Load(ctx context.Context, r runtime.LoadRequest) (runtime.Model, error) {
	if r.Device == (runtime.Device{}) {
		r.Device = runtime.GPU(0)
	}
	return l.Loader.Load(ctx, r)
}

func TestCUDAOptions(t *testing.T) {
	want := map[string]string{"device_id": "3", "cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}
	if got := onnx.CUDAOptions(3, 0); !maps.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	want["gpu_mem_limit"] = "4294967296"
	if got := onnx.CUDAOptions(3, 4<<30); !maps.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestErrorsOfDevices(t *testing.T) {
	for _, test := range []struct {
		message string
		kind    engine.Kind
		text    string
	}{
		{
			"/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:123 std::conditional_t<THRW, void, Status> onnxruntime::CudaCall(ERRTYPE, const char*) CUDA failure 2: out of memory ; GPU=0 ; hostname=node-7 ; file=/src/cuda_allocator.cc ; line=48 ; expr=cudaMalloc((void**)&p, size); ",
			engine.KindExhausted, "CUDA failure 2: out of memory",
		},
		{
			"Error running network: Non-zero status code returned while running Attention node. Name:'a' Status Message: /src/core/framework/bfc_arena.cc:376 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool) Available memory of 1024 is smaller than requested bytes of 4194304",
			engine.KindExhausted, "Available memory of 1024 is smaller than requested bytes of 4194304",
		},
		{"CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=1 ; hostname=x ; file=f.cc ; line=1 ; expr=cublasCreate(&h); ", engine.KindExhausted, "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED"},
		{"CUDA failure 101: invalid device ordinal ; GPU=-1 ; hostname=x ; file=f.cc ; line=1 ; expr=cudaSetDevice(id); ", engine.KindUnavailable, "invalid device ordinal"},
		{"CUDNN failure 4000: CUDNN_STATUS_INTERNAL_ERROR ; GPU=0 ; hostname=x ; file=f.cc ; line=1 ; expr=y(); ", engine.KindUnavailable, "CUDNN_STATUS_INTERNAL_ERROR"},
		{"Load model from m.onnx failed:Protobuf parsing failed.", engine.KindModel, "no ONNX model"},
	} {
		err := onnx.ModelError("run model", "m.onnx", errors.New(test.message))
		if engine.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.text) || strings.Contains(err.Error(), "hostname") {
			t.Errorf("%q: kind %s, %v", test.message, engine.KindOf(err), err)
		}
	}
}
