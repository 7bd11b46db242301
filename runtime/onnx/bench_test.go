//go:build cgo

package onnx_test

import (
	"path/filepath"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	ort "github.com/yalue/onnxruntime_go"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/testenv"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/enginetest"
)

func exampleModel(b *testing.B) string {
	b.Helper()
	path := filepath.Join(testenv.Root(b), "examples", "wine", "model", "model.onnx")
	return path
}

const benchRows = 10_000

// BenchmarkInfer compares what the layers cost on 10,000 rows of 11 columns: the binding called with a matrix that is there
// already (the control), Model.Run with the same, and the operator from the record on.
func BenchmarkInfer(b *testing.B) {
	loader := newLoader(b)
	path := exampleModel(b)
	in := wine(benchRows)
	defer in.Release()
	matrix := make([]float64, benchRows*11)
	for c := range 11 {
		for r, v := range in.Column(c).(*array.Float64).Float64Values() {
			matrix[r*11+c] = v
		}
	}
	scores := make([]float64, benchRows)
	model, err := loader.Load(b.Context(), runtime.LoadRequest{Path: path})
	if err != nil {
		b.Fatal(err)
	}
	defer model.Close()

	b.Run("binding", func(b *testing.B) {
		session, err := ort.NewDynamicAdvancedSession(path, []string{model.Inputs()[0].Name}, []string{model.Outputs()[0].Name}, benchOptions(b))
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = session.Destroy() }()
		input, err := ort.NewTensor(ort.NewShape(benchRows, 11), matrix)
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = input.Destroy() }()
		output, err := ort.NewTensor(ort.NewShape(benchRows, 1), scores)
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = output.Destroy() }()
		for b.Loop() {
			if err := session.Run([]ort.Value{input}, []ort.Value{output}); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(benchRows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	})
	b.Run("model", func(b *testing.B) {
		inputs := []runtime.Tensor{{Type: engine.Float64, Shape: []int64{benchRows, 11}, Data: bytesOf(matrix)}}
		outputs := []runtime.Output{{Tensor: runtime.Tensor{Type: engine.Float64, Shape: []int64{benchRows, 1}, Data: bytesOf(scores)}}}
		for b.Loop() {
			if err := model.Run(b.Context(), inputs, outputs); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(benchRows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	})
	b.Run("operator", func(b *testing.B) {
		o, _ := inferWine(b, loader, path, memory.NewGoAllocator())
		for b.Loop() {
			out, err := o.Apply(b.Context(), in)
			if err != nil {
				b.Fatal(err)
			}
			out.Release()
		}
		b.ReportMetric(float64(benchRows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	})
}

// BenchmarkCall is what a call costs beside the model: one row, one column.
func BenchmarkCall(b *testing.B) {
	loader := newLoader(b)
	path := enginetest.WriteModel(b, enginetest.LinearModel(engine.Float64, 1, 1))
	model, err := loader.Load(b.Context(), runtime.LoadRequest{Path: path})
	if err != nil {
		b.Fatal(err)
	}
	defer model.Close()
	x, y := []float64{1}, []float64{0}
	b.Run("binding", func(b *testing.B) {
		session, err := ort.NewDynamicAdvancedSession(path, []string{enginetest.InputName}, []string{enginetest.OutputName}, benchOptions(b))
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = session.Destroy() }()
		for b.Loop() {
			input, err := ort.NewTensor(ort.NewShape(1, 1), x)
			if err != nil {
				b.Fatal(err)
			}
			output, err := ort.NewTensor(ort.NewShape(1, 1), y)
			if err != nil {
				b.Fatal(err)
			}
			if err := session.Run([]ort.Value{input}, []ort.Value{output}); err != nil {
				b.Fatal(err)
			}
			_ = input.Destroy()
			_ = output.Destroy()
		}
	})
	b.Run("model", func(b *testing.B) {
		inputs := []runtime.Tensor{{Type: engine.Float64, Shape: []int64{1, 1}, Data: bytesOf(x)}}
		outputs := []runtime.Output{{Tensor: runtime.Tensor{Type: engine.Float64, Shape: []int64{1, 1}, Data: bytesOf(y)}}}
		for b.Loop() {
			if err := model.Run(b.Context(), inputs, outputs); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkLoad is what loading a small model costs.
func BenchmarkLoad(b *testing.B) {
	loader := newLoader(b)
	path := exampleModel(b)
	for b.Loop() {
		model, err := loader.Load(b.Context(), runtime.LoadRequest{Path: path})
		if err != nil {
			b.Fatal(err)
		}
		_ = model.Close()
	}
}

func benchOptions(b *testing.B) *ort.SessionOptions {
	b.Helper()
	options, err := ort.NewSessionOptions()
	if err != nil {
		b.Fatal(err)
	}
	if err := options.SetIntraOpNumThreads(1); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = options.Destroy() })
	return options
}

func bytesOf(values []float64) []byte { return arrow.Float64Traits.CastToBytes(values) }
