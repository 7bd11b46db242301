package enginetest

import (
	"context"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/runtime"
)

// TestLoader checks that loader does what package runtime says. It does not close the loader.
func TestLoader(t *testing.T, loader runtime.Loader) {
	for name, test := range map[string]func(*testing.T, runtime.Loader){
		"Linear":           testLinear,
		"Columns":          testColumns,
		"Several":          testSeveral,
		"Types":            testTypes,
		"Sequence":         testSequence,
		"Scalar":           testScalar,
		"Mismatch":         testMismatch,
		"BadFiles":         testBadFiles,
		"BadDevice":        testBadDevice,
		"Concurrent":       testConcurrent,
		"Canceled":         testCanceled,
		"Closed":           testClosed,
		"InputsAreNotKept": testInputsAreNotKept,
	} {
		t.Run(name, func(t *testing.T) { test(t, loader) })
	}
}

// Floats returns values as a tensor of type Float32 or Float64.
func Floats(typ engine.ElementType, shape []int64, values ...float64) runtime.Tensor {
	return runtime.Tensor{Type: typ, Shape: shape, Data: encode(typ, values...)}
}

// Values returns the elements of a tensor of type Float32 or Float64.
func Values(tensor runtime.Tensor) []float64 {
	var values []float64
	for b := tensor.Data; len(b) > 0; b = b[tensor.Type.SizeBytes():] {
		if tensor.Type == engine.Float32 {
			values = append(values, float64(math.Float32frombits(binary.LittleEndian.Uint32(b))))
		} else {
			values = append(values, math.Float64frombits(binary.LittleEndian.Uint64(b)))
		}
	}
	return values
}

func load(t *testing.T, loader runtime.Loader, content []byte, outputs ...string) runtime.Model {
	t.Helper()
	m, err := loader.Load(t.Context(), runtime.LoadRequest{Path: WriteModel(t, content), Digest: "test", Outputs: outputs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func run(t *testing.T, m runtime.Model, inputs []runtime.Tensor, indices ...int) []runtime.Output {
	t.Helper()
	outputs := make([]runtime.Output, len(indices))
	for i, index := range indices {
		outputs[i].Index = index
	}
	if err := m.Run(t.Context(), inputs, outputs); err != nil {
		t.Fatal(err)
	}
	return outputs
}

func wantTensor(t *testing.T, got runtime.Tensor, typ engine.ElementType, shape []int64, values ...float64) {
	t.Helper()
	if got.Type != typ || !slices.Equal(got.Shape, shape) || !slices.Equal(Values(got), values) {
		t.Errorf("got %s%v %v, want %s%v %v", got.Type, got.Shape, Values(got), typ, shape, values)
	}
}

func wantKind(t *testing.T, err error, kind engine.Kind, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one of kind %s", kind)
	}
	if engine.KindOf(err) != kind {
		t.Errorf("kind %s of %q, want %s", engine.KindOf(err), err, kind)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not mention %q", err, part)
		}
	}
	if strings.Contains(err.Error(), "\n") || len(err.Error()) > 600 {
		t.Errorf("error is not one short line: %q", err)
	}
}

func testLinear(t *testing.T, loader runtime.Loader) {
	for _, typ := range []engine.ElementType{engine.Float32, engine.Float64} {
		m := load(t, loader, LinearModel(typ, 0.5, 1, 2, -4))
		if in := m.Inputs(); len(in) != 1 || in[0].String() != "input: "+typ.String()+"[?, 3]" {
			t.Errorf("inputs %v", in)
		}
		if out := m.Outputs(); len(out) != 1 || out[0].String() != "variable: "+typ.String()+"[?, 1]" {
			t.Errorf("outputs %v", out)
		}
		input := Floats(typ, []int64{2, 3}, 1, 1, 1, 2, 0, -0.25)
		got := run(t, m, []runtime.Tensor{input}, 0)
		wantTensor(t, got[0].Tensor, typ, []int64{2, 1}, -0.5, 3.5)

		given := Floats(typ, []int64{2, 1}, -1, -1)
		outputs := []runtime.Output{{Tensor: given}}
		if err := m.Run(t.Context(), []runtime.Tensor{input}, outputs); err != nil {
			t.Fatal(err)
		}
		wantTensor(t, given, typ, []int64{2, 1}, -0.5, 3.5)
	}
}

func testColumns(t *testing.T, loader runtime.Loader) {
	for rank := 1; rank <= 2; rank++ {
		m := load(t, loader, ColumnsModel(engine.Float64, rank, []string{"a b", "c"}, 1, 10, 100))
		shape := []int64{2, 1}[:rank]
		in := m.Inputs()
		if len(in) != 2 || in[0].Name != "a b" || in[1].Name != "c" || len(in[0].Shape) != rank {
			t.Fatalf("inputs %v", in)
		}
		got := run(t, m, []runtime.Tensor{Floats(engine.Float64, shape, 1, 2), Floats(engine.Float64, shape, 3, 4)}, 0)
		wantTensor(t, got[0].Tensor, engine.Float64, []int64{2, 1}, 311, 421)
	}
}

func testSeveral(t *testing.T, loader runtime.Loader) {
	content := SeveralModel(engine.Float32)
	input := []runtime.Tensor{Floats(engine.Float32, []int64{2, 2}, 1, 2, 3, 4)}
	m := load(t, loader, content)
	got := run(t, m, input, 1, 2, 0, 3)
	wantTensor(t, got[0].Tensor, engine.Float32, []int64{2, 2}, 2, 4, 6, 8)
	wantTensor(t, got[1].Tensor, engine.Float32, []int64{2}, 3, 7)
	wantTensor(t, got[2].Tensor, engine.Float32, []int64{2, 1}, 3, 7)
	wantTensor(t, got[3].Tensor, engine.Float32, []int64{2, 2}, 2, 4, 6, 8)
	got = run(t, m, input, 2)
	wantTensor(t, got[0].Tensor, engine.Float32, []int64{2}, 3, 7)

	m = load(t, loader, content, "flat", "pair")
	if len(m.Outputs()) != 4 {
		t.Errorf("outputs %v", m.Outputs())
	}
	got = run(t, m, input, 1, 2)
	wantTensor(t, got[0].Tensor, engine.Float32, []int64{2, 2}, 2, 4, 6, 8)
	wantTensor(t, got[1].Tensor, engine.Float32, []int64{2}, 3, 7)

	path := WriteModel(t, content)
	_, err := loader.Load(t.Context(), runtime.LoadRequest{Path: path, Outputs: []string{"sum", "nope"}})
	wantKind(t, err, engine.KindModel, path, `"nope"`)
}

func testTypes(t *testing.T, loader runtime.Loader) {
	types := []engine.ElementType{
		engine.Float32, engine.Float64, engine.Int32, engine.Int64, engine.Bool, engine.Int8, engine.Uint8, engine.Int16, engine.Uint16,
		engine.Uint32, engine.Uint64, engine.String,
	}
	m := load(t, loader, IdentitiesModel(types...))
	inputs := make([]runtime.Tensor, len(types))
	indices := make([]int, len(types))
	for i, typ := range types {
		if m.Inputs()[i].Type != typ || m.Outputs()[i].Type != typ {
			t.Errorf("input %v, output %v, want %s", m.Inputs()[i], m.Outputs()[i], typ)
		}
		indices[i] = i
		inputs[i] = runtime.Tensor{Type: typ, Shape: []int64{3}}
		if typ == engine.String {
			inputs[i].Strings = []string{"a", "", "größer"}
			continue
		}
		inputs[i].Data = make([]byte, 3*typ.SizeBytes())
		for j := range inputs[i].Data {
			inputs[i].Data[j] = byte(j % 2)
		}
	}
	for i, o := range run(t, m, inputs, indices...) {
		if !slices.Equal(o.Tensor.Data, inputs[i].Data) || !slices.Equal(o.Tensor.Strings, inputs[i].Strings) || o.Tensor.Type != types[i] {
			t.Errorf("%s: got %v, want %v", types[i], o.Tensor, inputs[i])
		}
	}
}

func testSequence(t *testing.T, loader runtime.Loader) {
	path := WriteModel(t, SequenceModel())
	_, err := loader.Load(t.Context(), runtime.LoadRequest{Path: path, Outputs: []string{"sequence"}})
	wantKind(t, err, engine.KindModel, path, `"sequence"`)
	for _, outputs := range [][]string{nil, {OutputName}} {
		m := load(t, loader, SequenceModel(), outputs...)
		if out := m.Outputs(); len(out) != 2 || out[1].Type != engine.ElementUnknown {
			t.Errorf("outputs %v", out)
		}
		got := run(t, m, []runtime.Tensor{Floats(engine.Float32, []int64{1, 2}, 1, 2)}, 0)
		wantTensor(t, got[0].Tensor, engine.Float32, []int64{1, 2}, 1, 2)
	}
}

// testScalar runs models whose output has no rows. Garbage collections find what they leave pinned.
func testScalar(t *testing.T, loader runtime.Loader) {
	for _, typ := range []engine.ElementType{engine.Float64, engine.Int32, engine.Bool, engine.String} {
		for _, declared := range [][]int64{nil, {}, {-1}} {
			path := WriteModel(t, ScalarModel(typ, declared))
			m, err := loader.Load(t.Context(), runtime.LoadRequest{Path: path})
			if err != nil {
				// ONNX Runtime need not accept a shape that is wrong.
				wantKind(t, err, engine.KindModel, path)
				continue
			}
			outputs := []runtime.Output{{}}
			err = m.Run(t.Context(), []runtime.Tensor{Floats(engine.Float64, []int64{2, 2}, 1, 2, 3, 4)}, outputs)
			wantKind(t, err, engine.KindModel, path, "variable: "+typ.String()+"[]", "expected the rows")
			given := []runtime.Output{{Tensor: runtime.Tensor{Type: typ, Shape: []int64{2}, Data: make([]byte, 2*typ.SizeBytes())}}}
			if typ == engine.String {
				given = outputs
			}
			wantKind(t, m.Run(t.Context(), []runtime.Tensor{Floats(engine.Float64, []int64{2, 2}, 1, 2, 3, 4)}, given), engine.KindModel, path)
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	for range 2 {
		goruntime.GC()
	}
}

func testMismatch(t *testing.T, loader runtime.Loader) {
	m := load(t, loader, LinearModel(engine.Float64, 0, 1, 2))
	good := Floats(engine.Float64, []int64{2, 2}, 1, 2, 3, 4)
	short := good
	short.Data = good.Data[:24]
	for name, inputs := range map[string][]runtime.Tensor{
		"none":     {},
		"two":      {good, good},
		"features": {Floats(engine.Float64, []int64{1, 3}, 1, 2, 3)},
		"rank":     {Floats(engine.Float64, []int64{2}, 1, 2)},
		"type":     {Floats(engine.Float32, []int64{1, 2}, 1, 2)},
		"short":    {short},
	} {
		err := m.Run(t.Context(), inputs, []runtime.Output{{}})
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		wantKind(t, err, engine.KindModel, "run model", "model.onnx")
	}
	for _, output := range []runtime.Output{
		{Index: 1},
		{Tensor: Floats(engine.Float64, []int64{2}, 0, 0)},
		{Tensor: Floats(engine.Float64, []int64{3, 1}, 0, 0, 0)},
		{Tensor: Floats(engine.Float32, []int64{2, 1}, 0, 0)},
	} {
		wantKind(t, m.Run(t.Context(), []runtime.Tensor{good}, []runtime.Output{output}), engine.KindModel, "run model")
	}
	got := run(t, m, []runtime.Tensor{good}, 0) // it still works
	wantTensor(t, got[0].Tensor, engine.Float64, []int64{2, 1}, 5, 11)

	m = load(t, loader, TotalModel())
	outputs := []runtime.Output{{Tensor: Floats(engine.Float64, []int64{2, 2}, 0, 0, 0, 0)}}
	wantKind(t, m.Run(t.Context(), []runtime.Tensor{good}, outputs), engine.KindModel)
	got = run(t, m, []runtime.Tensor{good}, 0)
	wantTensor(t, got[0].Tensor, engine.Float64, []int64{1, 2}, 4, 6)
}

func testBadFiles(t *testing.T, loader runtime.Loader) {
	whole := LinearModel(engine.Float64, 0, 1, 2)
	for name, content := range map[string][]byte{
		"empty":          {},
		"text":           []byte("alcohol;quality\n9.4;5\n"),
		"truncated":      whole[:len(whole)-7],
		"half":           whole[:len(whole)/2],
		"unknown domain": UnknownDomainModel(),
	} {
		t.Run(name, func(t *testing.T) {
			path := WriteModel(t, content)
			_, err := loader.Load(t.Context(), runtime.LoadRequest{Path: path, Digest: name})
			wantKind(t, err, engine.KindModel, "load model", path)
			if name == "unknown domain" {
				wantKind(t, err, engine.KindModel, "com.example", "Frobnicate")
			}
			t.Log(err)
		})
	}
	missing := filepath.Join(t.TempDir(), "missing.onnx")
	_, err := loader.Load(t.Context(), runtime.LoadRequest{Path: missing})
	wantKind(t, err, engine.KindNotFound, missing)
	_, err = loader.Load(t.Context(), runtime.LoadRequest{Path: t.TempDir()})
	if err == nil {
		t.Error("a folder was loaded")
	}
}

// testBadDevice asks for GPUs that no machine has. Nothing takes their place.
func testBadDevice(t *testing.T, loader runtime.Loader) {
	path := WriteModel(t, LinearModel(engine.Float32, 0, 1))
	for _, number := range []int{4096, -2} {
		m, err := loader.Load(t.Context(), runtime.LoadRequest{Path: path, Digest: "test", Device: runtime.GPU(number), GPUMemoryBytes: 1 << 20})
		wantKind(t, err, engine.KindUnavailable, "CUDA")
		if m != nil {
			t.Errorf("GPU %d: got a model", number)
		}
	}
}

func testConcurrent(t *testing.T, loader runtime.Loader) {
	m := load(t, loader, LinearModel(engine.Float64, 1, 1, 10))
	var group sync.WaitGroup
	for g := range 8 {
		group.Go(func() {
			for i := range 50 {
				rows := int64(g + 1)
				values := make([]float64, 2*rows)
				values[0] = float64(i)
				outputs := []runtime.Output{{}}
				if err := m.Run(t.Context(), []runtime.Tensor{Floats(engine.Float64, []int64{rows, 2}, values...)}, outputs); err != nil {
					t.Error(err)
					return
				}
				if got := Values(outputs[0].Tensor); int64(len(got)) != rows || got[0] != float64(i+1) {
					t.Errorf("got %v, want %d and %d rows", got, i+1, rows)
				}
			}
		})
	}
	group.Wait()
}

func testCanceled(t *testing.T, loader runtime.Loader) {
	path := WriteModel(t, LinearModel(engine.Float64, 1, 1))
	ctx, cancel := context.WithCancel(t.Context())
	m, err := loader.Load(ctx, runtime.LoadRequest{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	input := []runtime.Tensor{Floats(engine.Float64, []int64{1, 1}, 1)}
	if err := m.Run(ctx, input, []runtime.Output{{}}); err != nil {
		t.Error(err)
	}
	cancel()
	wantKind(t, m.Run(ctx, input, []runtime.Output{{}}), engine.KindCanceled)
	_, err = loader.Load(ctx, runtime.LoadRequest{Path: path})
	wantKind(t, err, engine.KindCanceled)
	if err := m.Run(t.Context(), input, []runtime.Output{{}}); err != nil {
		t.Error(err)
	}
}

func testClosed(t *testing.T, loader runtime.Loader) {
	path := WriteModel(t, LinearModel(engine.Float64, 1, 1))
	m, err := loader.Load(t.Context(), runtime.LoadRequest{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil { // a loaded model does not need its file
		t.Fatal(err)
	}
	input := []runtime.Tensor{Floats(engine.Float64, []int64{1, 1}, 1)}
	wantTensor(t, run(t, m, input, 0)[0].Tensor, engine.Float64, []int64{1, 1}, 2)
	for range 2 {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := m.Run(t.Context(), input, []runtime.Output{{}}); err == nil {
		t.Error("a closed model ran")
	}
}

// testInputsAreNotKept changes the inputs and frees the memory of earlier calls: results must not change.
func testInputsAreNotKept(t *testing.T, loader runtime.Loader) {
	m := load(t, loader, IdentityModel(engine.Float64, -1, 2))
	input := Floats(engine.Float64, []int64{1, 2}, 1, 2)
	first := run(t, m, []runtime.Tensor{input}, 0)
	copy(input.Data, encode(engine.Float64, 3, 4))
	second := run(t, m, []runtime.Tensor{input}, 0)
	wantTensor(t, first[0].Tensor, engine.Float64, []int64{1, 2}, 1, 2)
	wantTensor(t, second[0].Tensor, engine.Float64, []int64{1, 2}, 3, 4)
}
