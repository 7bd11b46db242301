//go:build cgo

package onnx_test

import (
	"context"
	"math"
	"path/filepath"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/testenv"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/enginetest"
	"github.com/f708428e/engine/runtime/fake"
	"github.com/f708428e/engine/runtime/onnx"
	"github.com/f708428e/engine/runtime/operator"
)

func newLoader(t testing.TB) *onnx.Loader {
	t.Helper()
	loader, err := onnx.New(onnx.Config{Library: testenv.ONNXRuntime(t)})
	if err != nil {
		t.Fatal(err)
	}
	loader.Warm()
	t.Cleanup(func() {
		if err := loader.Close(); err != nil {
			t.Error(err)
		}
	})
	return loader
}

func TestLoader(t *testing.T) { enginetest.TestLoader(t, newLoader(t)) }

func TestLoaderWithThreads(t *testing.T) { enginetest.TestLoader(t, threaded{newLoader(t)}) }

type threaded struct{ *onnx.Loader }

func (l threaded) Load(ctx context.Context, r runtime.LoadRequest) (runtime.Model, error) {
	r.Threads = 3
	return l.Loader.Load(ctx, r)
}

func TestLibrary(t *testing.T) {
	// What is no library fails while there is none, and once there is, since a process has only one.
	bad := filepath.Join(t.TempDir(), "bad.so")
	write(t, bad)
	other, err := onnx.New(onnx.Config{Library: bad})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Library(); engine.KindOf(err) != engine.KindUnavailable && engine.KindOf(err) != engine.KindConflict {
		t.Errorf("got %v", err)
	}
	loader := newLoader(t)
	library, err := loader.Library()
	if err != nil {
		t.Fatal(err)
	}
	if library.Path != testenv.ONNXRuntime(t) || library.Version == "" {
		t.Errorf("got %+v", library)
	}
	if _, err := other.Library(); engine.KindOf(err) != engine.KindConflict {
		t.Errorf("got %v", err)
	}
}

// TestDeadline ends a call between two of the many nodes of a model, and calls the model again.
func TestDeadline(t *testing.T) {
	const width = 256
	path := enginetest.WriteModel(t, enginetest.DeepModel(width, 300))
	model, err := newLoader(t).Load(t.Context(), runtime.LoadRequest{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer model.Close()
	call := func(ctx context.Context, rows int64) error {
		input := enginetest.Floats(engine.Float64, []int64{rows, width}, make([]float64, rows*width)...)
		return model.Run(ctx, []runtime.Tensor{input}, []runtime.Output{{}})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := call(ctx, 2000); engine.KindOf(err) != engine.KindDeadline {
		t.Errorf("got %v", err)
	}
	t.Logf("returned after %v", time.Since(start)) // the whole call takes seconds
	if err := call(t.Context(), 1); err != nil {
		t.Errorf("the call after it: %v", err)
	}
}

// wine is a table of 11 columns of numbers like those of the wine data.
func wine(rows int) arrow.Record {
	fields := make([]arrow.Field, 11)
	columns := make([]arrow.Array, len(fields))
	for c := range fields {
		fields[c] = arrow.Field{Name: string(rune('a' + c)), Type: arrow.PrimitiveTypes.Float64}
		b := array.NewFloat64Builder(memory.NewGoAllocator())
		for r := range rows {
			b.Append(math.Sin(float64(r*len(fields) + c)))
		}
		columns[c] = b.NewArray()
	}
	return array.NewRecord(arrow.NewSchema(fields, nil), columns, int64(rows))
}

func inferWine(t testing.TB, loader runtime.Loader, path string, allocator memory.Allocator) (operator.Operator, func(rows int) arrow.Record) {
	t.Helper()
	model, err := loader.Load(t.Context(), runtime.LoadRequest{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = model.Close() })
	o, err := operator.NewInfer(operator.InferParams{
		Schema: wine(0).Schema(), Model: model, Inputs: []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, Outputs: []operator.InferOutput{{Column: "quality"}}, Allocator: allocator,
	})
	if err != nil {
		t.Fatal(err)
	}
	return o, func(rows int) arrow.Record {
		in := wine(rows)
		defer in.Release()
		out, err := o.Apply(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
}

// TestExample scores with the example's model, made by skl2onnx, on both runtimes.
func TestExample(t *testing.T) {
	allocator := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer allocator.AssertSize(t, 0)
	path := filepath.Join(testenv.Root(t), "examples", "wine", "model", "model.onnx")
	_, actual := inferWine(t, newLoader(t), path, allocator)
	_, imitated := inferWine(t, fake.New(), path, allocator)
	for _, rows := range []int{0, 1, 7, 10_000} {
		a, b := actual(rows), imitated(rows)
		x, y := a.Column(11).(*array.Float64).Float64Values(), b.Column(11).(*array.Float64).Float64Values()
		if len(x) != rows || len(y) != rows {
			t.Fatalf("%d and %d values for %d rows", len(x), len(y), rows)
		}
		for i := range x {
			if math.Abs(x[i]-y[i]) > 1e-9 {
				t.Fatalf("row %d: ONNX Runtime says %v, the fake %v", i, x[i], y[i])
			}
		}
		a.Release()
		b.Release()
	}
}
