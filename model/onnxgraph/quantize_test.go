package onnxgraph_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/model/onnxgraph"
	"github.com/f708428e/engine/runtime"
)

func cosine(a, b []float32) float64 {
	var dot, x, y float64
	for i := range a {
		p, q := float64(a[i]), float64(b[i])
		dot, x, y = dot+p*q, x+p*p, y+q*q
	}
	return dot / math.Sqrt(x*y)
}

// TestQuantizedEncoders compares encoders with their quantized selves, padding included. The weights are random, without the slack
// that trained ones have, so vectors are less close than those of a real model.
func TestQuantizedEncoders(t *testing.T) {
	for name, e := range encoders() {
		t.Run(name, func(t *testing.T) {
			e.Hidden, e.Intermediate = 64, 128
			folder, quantized := write(t, e), t.TempDir()
			done, err := onnxgraph.Quantize(t.Context(), filepath.Join(folder, onnxgraph.ModelFile), quantized, onnxgraph.ModelFile)
			if err != nil {
				t.Fatal(err)
			}
			if want := (onnxgraph.Quantized{Matrices: 4 * e.Layers, WeightBytes: int64(4 * e.Layers * (4*64*64 + 2*64*128))}); done != want {
				t.Errorf("got %+v, want %+v", done, want)
			}
			if before, after := size(t, folder), size(t, quantized); after > before*3/4 {
				t.Errorf("%d bytes became %d", before, after)
			}
			fp32, small := load(t, folder), load(t, quantized)
			random := rand.New(rand.NewPCG(e.Seed, 9))
			const batch, length = 3, 12
			ids, mask, types := make([]int64, batch*length), make([]int64, batch*length), make([]int64, batch*length)
			for r := range batch {
				for i := range length - 3*r {
					mask[r*length+i] = 1
				}
				for i := range length {
					if ids[r*length+i] = int64(e.PadID); mask[r*length+i] == 1 {
						ids[r*length+i] = int64(4 + random.IntN(e.Vocabulary-4))
					}
				}
			}
			a, b := run(t, fp32, ids, mask, types, batch, length, e.Hidden), run(t, small, ids, mask, types, batch, length, e.Hidden)
			least, equal := 1.0, true
			for i := range batch * length {
				if mask[i] == 1 {
					least = min(least, cosine(a[i*e.Hidden:][:e.Hidden], b[i*e.Hidden:][:e.Hidden]))
					equal = equal && a[i*e.Hidden] == b[i*e.Hidden]
				}
			}
			if least < 0.99 || equal {
				t.Errorf("smallest cosine %.5f, equal %v", least, equal)
			}
		})
	}
}

func size(t testing.TB, folder string) (sum int64) {
	t.Helper()
	for _, name := range []string{onnxgraph.ModelFile, onnxgraph.DataFile} {
		info, err := os.Stat(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		sum += info.Size()
	}
	return sum
}

func TestQuantizeIsDeterministic(t *testing.T) {
	source := filepath.Join(write(t, encoders()["bert"]), onnxgraph.ModelFile)
	var files [2][]byte
	for i := range files {
		folder := t.TempDir()
		if _, err := onnxgraph.Quantize(t.Context(), source, folder, onnxgraph.ModelFile); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{onnxgraph.ModelFile, onnxgraph.DataFile} {
			content, err := os.ReadFile(filepath.Join(folder, name))
			if err != nil {
				t.Fatal(err)
			}
			files[i] = append(files[i], content...)
		}
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Error("the same graph gave different bytes")
	}
}

// pb is a protobuf message under construction.
type pb []byte

func (p pb) text(field protowire.Number, s string) pb {
	return protowire.AppendString(protowire.AppendTag(p, field, protowire.BytesType), s)
}

func (p pb) int(field protowire.Number, v int64) pb {
	return protowire.AppendVarint(protowire.AppendTag(p, field, protowire.VarintType), uint64(v))
}

func (p pb) add(field protowire.Number, messages ...pb) pb {
	for _, m := range messages {
		p = protowire.AppendBytes(protowire.AppendTag(p, field, protowire.BytesType), m)
	}
	return p
}

func nodeOf(domain, operator string, inputs []string, output string, attributes ...pb) pb {
	var p pb
	for _, in := range inputs {
		p = p.text(1, in)
	}
	return p.text(2, output).text(4, operator).add(5, attributes...).text(7, domain)
}

func raw(values []float32) (b []byte) {
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

func tensorOf(name string, dataType int64, dims ...int64) (p pb) {
	for _, d := range dims {
		p = p.int(1, d)
	}
	return p.int(2, dataType).text(8, name)
}

func matrix(name string, values []float32, rows, columns int64) pb {
	return tensorOf(name, 1, rows, columns).add(9, raw(values))
}

func valueOf(name string, dims ...int64) pb {
	var shape pb
	for _, d := range dims {
		if d < 0 {
			shape = shape.add(1, pb(nil).text(2, "n"))
		} else {
			shape = shape.add(1, pb(nil).int(1, d))
		}
	}
	return pb(nil).text(1, name).add(2, pb(nil).add(1, pb(nil).int(1, 1).add(2, shape)))
}

// graphOf is a model of opset 13 with the input x [n, 4] and the output y.
func graphOf(opset int64, nodes, initializers []pb, inputs ...pb) []byte {
	g := pb(nil).add(1, nodes...).text(2, "g").add(5, initializers...).add(11, append([]pb{valueOf("x", -1, 4)}, inputs...)...).add(12, valueOf("y", -1, 3))
	return pb(nil).int(1, 8).text(2, "test").add(7, g).add(8, pb(nil).text(1, "").int(2, opset))
}

var (
	weights  = []float32{1, -2, 0, 0.5, 0.25, 0, -1, 2, 0, 3, -0.125, 0} // 4 rows of 3
	products = nodeOf("", "MatMul", []string{"x", "w"}, "y")
)

// TestQuantizeOtherGraphs evaluates graphs as others write them, before and after.
func TestQuantizeOtherGraphs(t *testing.T) {
	external := func(location, offset, length string) pb {
		p := tensorOf("w", 1, 4, 3).int(14, 1)
		for _, entry := range [][2]string{{"location", location}, {"offset", offset}, {"length", length}} {
			p = p.add(13, pb(nil).text(1, entry[0]).text(2, entry[1]))
		}
		return p
	}
	floats := tensorOf("w", 1, 4, 3)
	for _, v := range weights {
		floats = protowire.AppendFixed32(protowire.AppendTag(floats, 4, protowire.Fixed32Type), math.Float32bits(v))
	}
	branch := func(output string) pb {
		return pb(nil).text(1, output+"_branch").int(20, 5).add(6, pb(nil).
			add(1, nodeOf("", "Transpose", []string{"w"}, "t"+output), nodeOf("", "MatMul", []string{"x2", "t" + output}, "z"+output)).
			text(2, output).add(12, valueOf("z"+output, -1, 4)))
	}
	for name, test := range map[string]struct {
		file []byte
		want onnxgraph.Quantized
		// has and lacks are tensors of the result.
		has, lacks string
	}{
		"raw data":      {file: graphOf(13, []pb{products}, []pb{matrix("w", weights, 4, 3)}), want: onnxgraph.Quantized{Matrices: 1, WeightBytes: 48}, has: "w_quantized", lacks: "w"},
		"floats":        {file: graphOf(13, []pb{products}, []pb{floats}), want: onnxgraph.Quantized{Matrices: 1, WeightBytes: 48}, has: "w_scale", lacks: "w"},
		"packed floats": {file: graphOf(13, []pb{products}, []pb{tensorOf("w", 1, 4, 3).add(4, raw(weights))}), want: onnxgraph.Quantized{Matrices: 1, WeightBytes: 48}, has: "w_scale", lacks: "w"},
		"external data": {file: graphOf(13, []pb{products}, []pb{external("weights.bin", "16", "48")}), want: onnxgraph.Quantized{Matrices: 1, WeightBytes: 48}, has: "w_scale", lacks: "w"},
		"an initializer that is an input": {
			file: graphOf(13, []pb{products}, []pb{matrix("w", weights, 4, 3)}, valueOf("w", 4, 3)), want: onnxgraph.Quantized{Matrices: 1, WeightBytes: 48}, has: "w_scale", lacks: "w",
		},
		"used twice by one kind": {
			file: graphOf(13, []pb{
				nodeOf("", "MatMul", []string{"x", "w"}, "a"), nodeOf("", "MatMul", []string{"x", "w"}, "b"), nodeOf("", "Add", []string{"a", "b"}, "y"),
			}, []pb{matrix("w", weights, 4, 3)}),
			want: onnxgraph.Quantized{Matrices: 1, WeightBytes: 48}, has: "w_quantized", lacks: "w",
		},
		"used by others too": {
			file: graphOf(13, []pb{
				nodeOf("", "MatMul", []string{"x", "w"}, "a"), nodeOf("", "Transpose", []string{"w"}, "b"), nodeOf("", "MatMul", []string{"a", "b"}, "c"), nodeOf("", "MatMul", []string{"c", "w"}, "y"),
			}, []pb{matrix("w", weights, 4, 3)}),
			want: onnxgraph.Quantized{Matrices: 1, WeightBytes: 48}, has: "w",
		},
		"used within a branch": {
			file: graphOf(13, []pb{
				nodeOf("", "MatMul", []string{"x", "w"}, "x2"), nodeOf("", "If", []string{"yes"}, "c", branch("then"), branch("else")), nodeOf("", "MatMul", []string{"c", "w"}, "y"),
			}, []pb{matrix("w", weights, 4, 3), tensorOf("yes", 9).add(9, pb{1})}),
			want: onnxgraph.Quantized{Matrices: 1, WeightBytes: 48}, has: "w",
		},
		"names that are taken": {
			file: graphOf(13, []pb{nodeOf("", "MatMul", []string{"x", "w"}, "w_scale"), nodeOf("", "Add", []string{"w_scale", "w_quantized"}, "y")},
				[]pb{matrix("w", weights, 4, 3), matrix("w_quantized", []float32{1, 2, 3}, 1, 3)}),
			want: onnxgraph.Quantized{Matrices: 1, WeightBytes: 48}, has: "w_quantized_", lacks: "w",
		},
		"Gemm": {
			file: graphOf(13, []pb{nodeOf("", "Gemm", []string{"x", "w", "bias"}, "a"), nodeOf("", "Gemm", []string{"a", "v"}, "y")},
				[]pb{matrix("w", weights, 4, 3), matrix("v", weights[:9], 3, 3), tensorOf("bias", 1, 3).add(9, raw(weights[:3]))}),
			want: onnxgraph.Quantized{Matrices: 2, WeightBytes: 84}, has: "v_quantized", lacks: "v",
		},
		"Gemm that transposes stays": {
			file: graphOf(13, []pb{
				nodeOf("", "MatMul", []string{"x", "w"}, "a"), nodeOf("", "Gemm", []string{"a", "v"}, "y").add(5, pb(nil).text(1, "transB").int(3, 1).int(20, 2)),
			}, []pb{matrix("w", weights, 4, 3), matrix("v", weights[:9], 3, 3)}),
			want: onnxgraph.Quantized{Matrices: 1, KeptMatrices: 1, WeightBytes: 48}, has: "v", lacks: "w",
		},
		"Gemm that adds a row to each stays": {
			file: graphOf(13, []pb{nodeOf("", "MatMul", []string{"x", "w"}, "a"), nodeOf("", "Gemm", []string{"a", "v", "rows"}, "y")},
				[]pb{matrix("w", weights, 4, 3), matrix("v", weights[:9], 3, 3), matrix("rows", weights[:6], 2, 3)}),
			want: onnxgraph.Quantized{Matrices: 1, KeptMatrices: 1, WeightBytes: 48}, has: "v", lacks: "w",
		},
	} {
		t.Run(name, func(t *testing.T) {
			folder, quantized := t.TempDir(), t.TempDir()
			write := func(name string, content []byte) {
				if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write(onnxgraph.ModelFile, test.file)
			write("weights.bin", append(make([]byte, 16), raw(weights)...))
			done, err := onnxgraph.Quantize(t.Context(), filepath.Join(folder, onnxgraph.ModelFile), quantized, onnxgraph.ModelFile)
			if err != nil || done != test.want {
				t.Fatalf("got %+v, %v", done, err)
			}
			content, err := os.ReadFile(filepath.Join(quantized, onnxgraph.ModelFile))
			if err != nil {
				t.Fatal(err)
			}
			tensorNamed := func(name string) bool { return bytes.Contains(content, pb(nil).text(8, name)) }
			if !tensorNamed(test.has) || test.lacks != "" && tensorNamed(test.lacks) {
				t.Errorf("the result lacks %q or has %q", test.has, test.lacks)
			}
			x := []float32{1, 2, 3, 4, -1, 0.5, 0, 2}
			before, after := evaluate(t, folder, x), evaluate(t, quantized, x)
			for i := range before {
				if c := math.Abs(float64(before[i] - after[i])); c > 0.05*(1+math.Abs(float64(before[i]))) {
					t.Errorf("got %v, want about %v", after, before)
					break
				}
			}
		})
	}
}

// evaluate runs a model of two rows of four.
func evaluate(t testing.TB, folder string, x []float32) []float32 {
	t.Helper()
	m := load(t, folder)
	out := make([]float32, 6)
	err := m.Run(t.Context(), []runtime.Tensor{{Type: engine.Float32, Shape: []int64{2, 4}, Data: bytesOf(x)}},
		[]runtime.Output{{Tensor: runtime.Tensor{Type: engine.Float32, Shape: []int64{2, 3}, Data: bytesOf(out)}}})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestQuantizeRefuses(t *testing.T) {
	nan := append([]float32{float32(math.NaN())}, weights[1:]...)
	inf := append([]float32{float32(math.Inf(-1))}, weights[1:]...)
	w := matrix("w", weights, 4, 3)
	deep := nodeOf("", "MatMul", []string{"x", "w"}, "y")
	for range 40 {
		deep = nodeOf("", "If", []string{"x"}, "y", pb(nil).text(1, "then_branch").add(6, pb(nil).add(1, deep)))
	}
	for name, test := range map[string]struct {
		file []byte
		want string
	}{
		"integers":        {graphOf(13, []pb{products, nodeOf("com.microsoft", "QAttention", nil, "q")}, []pb{w}), "computes in integers already: it has the operator QAttention"},
		"nothing to do":   {graphOf(13, []pb{nodeOf("", "Relu", []string{"x"}, "y")}, nil), "no MatMul or Attention with constant weights; its operators are Relu"},
		"no constant":     {graphOf(13, []pb{nodeOf("", "MatMul", []string{"w", "x"}, "y")}, []pb{w}), "no MatMul or Attention"},
		"half precision":  {graphOf(13, []pb{products}, []pb{tensorOf("w", 10, 4, 3).add(9, make([]byte, 24))}), `its weights, such as "w", are of float16`},
		"an early opset":  {graphOf(10, []pb{products}, []pb{w}), "it is of opset 10"},
		"NaN":             {graphOf(13, []pb{products}, []pb{matrix("w", nan, 4, 3)}), `tensor "w": it holds NaN`},
		"infinity":        {graphOf(13, []pb{products}, []pb{matrix("w", inf, 4, 3)}), `tensor "w": it holds infinity`},
		"too few bytes":   {graphOf(13, []pb{products}, []pb{matrix("w", weights[:11], 4, 3)}), `tensor "w" of shape [4 3] has 44 bytes`},
		"no data":         {graphOf(13, []pb{products}, []pb{tensorOf("w", 1, 4, 3)}), `tensor "w" of shape [4 3] has 0 bytes`},
		"a huge matrix":   {graphOf(13, []pb{products}, []pb{tensorOf("w", 1, math.MaxInt32, math.MaxInt32)}), `tensor "w" of shape`},
		"a shape below 0": {graphOf(13, []pb{products}, []pb{tensorOf("w", 1, -4, 3)}), `tensor "w" has shape [-4 3]`},
		"data elsewhere": {
			graphOf(13, []pb{products}, []pb{tensorOf("w", 1, 4, 3).int(14, 1).add(13, pb(nil).text(1, "location").text(2, "../w"))}), `external data "../w" is not a path inside`,
		},
		"truncated data": {
			graphOf(13, []pb{products}, []pb{tensorOf("w", 1, 4, 3).int(14, 1).add(13, pb(nil).text(1, "location").text(2, "model.onnx"), pb(nil).text(1, "offset").text(2, "100000"))}),
			`external data "model.onnx" is truncated`,
		},
		"an offset that is none": {
			graphOf(13, []pb{products}, []pb{tensorOf("w", 1, 4, 3).int(14, 1).add(13, pb(nil).text(1, "offset").text(2, "-1"))}), `tensor "w": offset "-1"`,
		},
		"no model": {[]byte("PK\x03\x04"), "not a well-formed ONNX file"},
		"deep":     {graphOf(13, []pb{deep}, []pb{w}), "nested deeper than"},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			path := filepath.Join(folder, "model.onnx")
			if err := os.WriteFile(path, test.file, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := onnxgraph.Quantize(t.Context(), path, t.TempDir(), "q.onnx")
			if engine.KindOf(err) != engine.KindModel || !strings.Contains(fmt.Sprint(err), test.want) || !strings.Contains(fmt.Sprint(err), path) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	if _, err := onnxgraph.Quantize(t.Context(), filepath.Join(t.TempDir(), "none.onnx"), t.TempDir(), "q.onnx"); engine.KindOf(err) != engine.KindNotFound {
		t.Errorf("got %v", err)
	}
}

// TestQuantizedWeights multiplies by the identity of rows that quantization leaves exact: what comes out are the weights, each at
// most half a step of its column away. A column of zeros stays zero.
func TestQuantizedWeights(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	const rows, columns = 4, 3
	for range 5 {
		values := make([]float32, rows*columns)
		for i := range values {
			if i%columns > 0 {
				values[i] = float32(random.NormFloat64() * math.Pow(10, float64(random.IntN(9)-4)))
			}
		}
		folder, quantized := t.TempDir(), t.TempDir()
		path := filepath.Join(folder, onnxgraph.ModelFile)
		if err := os.WriteFile(path, graphOf(13, []pb{products}, []pb{matrix("w", values, rows, columns)}), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := onnxgraph.Quantize(t.Context(), path, quantized, onnxgraph.ModelFile); err != nil {
			t.Fatal(err)
		}
		for row := 0; row < rows; row += 2 {
			x := make([]float32, 2*rows)
			x[row], x[rows+row+1] = 1, 1
			got := evaluate(t, quantized, x)
			for i, v := range got {
				r, c := row+i/columns, i%columns
				var most float64
				for k := range rows {
					most = max(most, math.Abs(float64(values[k*columns+c])))
				}
				if diff := math.Abs(float64(v - values[r*columns+c])); diff > most/64*0.51 {
					t.Fatalf("seed %d: row %d, column %d: got %v, want %v within %v", seed, r, c, v, values[r*columns+c], most/128)
				}
			}
		}
	}
}

func FuzzQuantize(f *testing.F) {
	f.Add(graphOf(13, []pb{products}, []pb{matrix("w", weights, 4, 3)}))
	f.Add(graphOf(13, []pb{nodeOf("com.microsoft", "Attention", []string{"x", "w", "b", ""}, "y", pb(nil).text(1, "num_heads").int(3, 1).int(20, 2))}, []pb{matrix("w", weights, 4, 3)}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, content []byte) {
		folder := t.TempDir()
		path := filepath.Join(folder, "model.onnx")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := onnxgraph.Quantize(t.Context(), path, folder, "q.onnx"); err != nil && engine.KindOf(err) == engine.KindInternal {
			t.Error(err)
		}
	})
}
