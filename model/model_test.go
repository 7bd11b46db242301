package model_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/model"
)

func read(t *testing.T, content []byte) (*model.Graph, error) {
	t.Helper()
	return model.ReadONNX(t.Context(), "m.onnx", bytes.NewReader(content), int64(len(content)))
}

func TestReadONNX(t *testing.T) {
	subgraph := message(nil).text(1, "then_branch").add(6, graph{nodes: []message{node("ai.onnx.ml", "Scaler")}}.encode())
	for name, test := range map[string]struct {
		content []byte
		want    model.Graph
	}{
		"matrix": {
			content: matrix().file(),
			want: model.Graph{
				Inputs:  []engine.TensorSpec{{Name: "X", Type: engine.Float64, Shape: []int64{-1, 11}}},
				Outputs: []engine.TensorSpec{{Name: "variable", Type: engine.Float64, Shape: []int64{-1, 1}}},
			},
		},
		"inputs with initializers are left out": {
			content: graph{
				initializers: []message{initializer("w", nil)},
				inputs:       []message{value("w", tensorType(onnxBfloat16, 3)), value("x", tensorType(onnxInt64, 0))},
				outputs:      []message{value("y", tensorType(onnxFloat))},
			}.file(),
			want: model.Graph{
				Inputs:  []engine.TensorSpec{{Name: "x", Type: engine.Int64, Shape: []int64{-1}}},
				Outputs: []engine.TensorSpec{{Name: "y", Type: engine.Float32}},
				// What is not fed need not be supported.
				Unsupported: map[string]string{},
			},
		},
		"sequence of maps": {
			content: graph{
				nodes:  []message{node("", "If", subgraph), node("com.microsoft", "Gelu")},
				inputs: []message{value("x", tensorType(onnxBfloat16, 0, 2))},
				outputs: []message{
					value("output_label", tensorType(onnxInt64, 0)),
					value("output_probability", seqType(mapType(onnxInt64, tensorType(onnxFloat)))),
				},
			}.file(),
			want: model.Graph{
				Inputs:      []engine.TensorSpec{{Name: "x", Shape: []int64{-1, 2}}},
				Outputs:     []engine.TensorSpec{{Name: "output_label", Type: engine.Int64, Shape: []int64{-1}}, {Name: "output_probability"}},
				Unsupported: map[string]string{"x": "tensor(bfloat16)", "output_probability": "seq(map(int64, tensor(float)))"},
			},
		},
		"a function of the model may have any domain": {
			content: graph{nodes: []message{node("pkg.mine", "gelu")}}.
				file(message(nil).text(1, "gelu").text(10, "pkg.mine").add(7, node("", "Erf"))),
		},
		"external data": {
			content: graph{initializers: []message{
				externalTensor("a", "m.data", "", "16"), externalTensor("b", "m.data", "16", "16"), externalTensor("c", "b.data", "", ""),
			}}.file(),
			want: model.Graph{External: []model.ExternalData{{Location: "b.data"}, {Location: "m.data", MinSizeBytes: 32}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := read(t, test.content)
			if err != nil {
				t.Fatal(err)
			}
			test.want.Opsets, test.want.Producer, test.want.IRVersion = map[string]int64{"ai.onnx": 13}, "test 1.0", 8
			if !reflect.DeepEqual(*got, test.want) {
				t.Errorf("got\n%+v, want\n%+v", *got, test.want)
			}
		})
	}
}

func TestReadONNXRefuses(t *testing.T) {
	deep := graph{}.encode()
	for range 40 {
		deep = graph{nodes: []message{node("", "If", message(nil).add(6, deep))}}.encode()
	}
	whole := matrix().file()
	for name, test := range map[string]struct {
		content []byte
		want    string
	}{
		"empty":            {nil, "not an ONNX model: found an empty file"},
		"text":             {[]byte("fixed acidity;volatile acidity\n7.4;0.7 °\n"), "not an ONNX model: found a text file"},
		"text cut":         {[]byte(strings.Repeat("é", 300))[1:], "not an ONNX model: "},
		"zip":              {[]byte("PK\x03\x04rest"), "found a zip archive, as torch.save and Keras write"},
		"pickle":           {[]byte("\x80\x04\x95rest"), "found a Python pickle"},
		"lfs":              {[]byte("version https://git-lfs.github.com/spec/v1\n"), "Git LFS pointer"},
		"safetensors":      {[]byte("\x40\x00\x00\x00\x00\x00\x00\x00{\"a\":{}}"), "a safetensors file"},
		"zeros":            {make([]byte, 100), "not an ONNX model: damaged: the tag at byte 0"},
		"other protobuf":   {message(nil).text(1, "name").int(2, 3), "not an ONNX model: damaged: field 2 has wire type 0"},
		"cut in the graph": {whole[:len(whole)/2], "truncated: the file ends within a field: field 7 at byte 13 has"},
		"cut before graph": {whole[:13], "truncated: the file ends within a field: no graph follows (copy the file again)"},
		"cut after graph":  {message(nil).int(1, 8).add(7, matrix().encode()), "no opset imports follow"},
		"two graphs":       {message(nil).int(1, 8).add(7, nil, nil), "more than one graph"},
		"nesting":          {message(nil).int(1, 8).add(7, deep), "graphs are nested deeper than 12, which is the limit"},
		"long name":        {graph{nodes: []message{node("", strings.Repeat("x", 20000))}}.file(), "a name at byte"},
		"same input twice": {graph{inputs: []message{value("x", nil), value("x", nil)}}.file(), `two inputs are named "x"`},
		"unknown domain": {
			graph{nodes: []message{node("ai.onnx.contrib", "StringUpper"), node("mine", "B"), node("mine", "A"), node("mine", "A")}}.file(),
			`operators of an unknown domain: "ai.onnx.contrib" (StringUpper); "mine" (A, B) (export the model with`,
		},
		"unknown domain in a subgraph": {
			graph{nodes: []message{node("", "Loop", message(nil).add(6, graph{nodes: []message{node("mine", "A")}}.encode()))}}.file(),
			`operators of an unknown domain: "mine" (A)`,
		},
		"unknown domain in a function": {
			graph{nodes: []message{node("f", "F")}}.file(message(nil).text(1, "F").text(10, "f").add(7, node("mine", "A"))),
			`operators of an unknown domain: "mine" (A)`,
		},
		"external data without location": {graph{initializers: []message{externalTensor("w", "", "1", "")}}.file(), `tensor "w": external data has no location`},
		"external data with bad length":  {graph{initializers: []message{externalTensor("w", "d", "", "many")}}.file(), `tensor "w": external data has length "many"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := read(t, test.content)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %q", err, test.want)
			}
			if engine.KindOf(err) != engine.KindModel || !strings.HasPrefix(err.Error(), "open model: m.onnx: ") {
				t.Errorf("got %s: %v", engine.KindOf(err), err)
			}
		})
	}
}

func TestReadONNXAnyPrefix(t *testing.T) {
	whole := matrix().file()
	for n := range whole {
		_, err := read(t, whole[:n])
		if engine.KindOf(err) != engine.KindModel {
			t.Fatalf("%d of %d bytes: got %v", n, len(whole), err)
		}
		if n >= 2 && !strings.Contains(err.Error(), "truncated: ") {
			t.Errorf("%d of %d bytes: got %v, want truncated", n, len(whole), err)
		}
	}
}

func TestReadONNXSkipsWeights(t *testing.T) {
	// A graph with almost 2 GiB of weights that nobody may read.
	const weights = 2<<30 - 4096
	tensor := message(nil).text(8, "w")
	head := message(nil).int(1, 8)
	inner := append(append(message(nil), 5<<3|2), varint(uint64(len(tensor)+1+len(varint(weights))+weights))...)
	inner = append(append(inner, tensor...), append([]byte{9<<3 | 2}, varint(weights)...)...)
	tail := message(nil).add(12, value("y", tensorType(onnxFloat, 0)))
	head = append(append(head, 7<<3|2), varint(uint64(len(inner)+weights+len(tail)))...)
	head = append(head, inner...)
	end := tail.add(8, message(nil).int(2, 13))
	sparse := &sparseReader{head: head, zeros: weights, tail: end}
	size := int64(len(head)) + weights + int64(len(end))
	g, err := model.ReadONNX(t.Context(), "m.onnx", sparse, size)
	if err != nil {
		t.Fatal(err)
	}
	if len(g.Outputs) != 1 || sparse.read > 1<<20 {
		t.Errorf("got %v after reading %d bytes", g.Outputs, sparse.read)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	nodes := make([]message, 10_000)
	for i := range nodes {
		nodes[i] = node("", "Add")
	}
	many := graph{nodes: nodes}.file()
	if _, err := model.ReadONNX(ctx, "m.onnx", bytes.NewReader(many), int64(len(many))); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
}

func varint(v uint64) []byte {
	var b []byte
	for ; v >= 0x80; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return append(b, byte(v))
}

// sparseReader is a file with a long run of zeros between head and tail.
type sparseReader struct {
	head, tail []byte
	zeros      int64
	read       int64
}

func (r *sparseReader) ReadAt(p []byte, offset int64) (int, error) {
	for i := range p {
		switch at := offset + int64(i); {
		case at < int64(len(r.head)):
			p[i] = r.head[at]
		case at < int64(len(r.head))+r.zeros:
			p[i] = 0
		default:
			p[i] = r.tail[at-int64(len(r.head))-r.zeros]
		}
	}
	r.read += int64(len(p))
	return len(p), nil
}

const mlmodelText = `flavors:
  onnx:
    data: model.onnx
signature:
  inputs: '[{"type": "double", "name": "fixed acidity", "required": true}, {"type": "long",
    "name": "n", "required": false}, {"type": "string", "name": "old", "optional": true}, {"type": "float", "name": "plain"}]'
  outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1]}}]'
  params: null
`

func write(t *testing.T, path string, content []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func sum(content []byte) string {
	s := sha256.Sum256(content)
	return hex.EncodeToString(s[:])
}

func TestOpenFile(t *testing.T) {
	content := matrix().file()
	path := write(t, filepath.Join(t.TempDir(), "m.onnx"), content)
	m, err := model.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if m.Path != path || m.ONNXPath != path || m.Signature != nil || m.SizeBytes != int64(len(content)) || m.Digest != "sha256:"+sum(content) ||
		!reflect.DeepEqual(m.Files, []string{"m.onnx"}) {
		t.Errorf("got %+v", m)
	}
}

func TestOpenFolder(t *testing.T) {
	folder := t.TempDir()
	g := matrix()
	g.initializers = append(g.initializers, externalTensor("w", "model.onnx.data", "", "4"))
	content := g.file()
	write(t, filepath.Join(folder, "MLmodel"), []byte(mlmodelText))
	write(t, filepath.Join(folder, "model.onnx"), content)
	data := write(t, filepath.Join(folder, "model.onnx.data"), []byte("1234"))
	write(t, filepath.Join(folder, "conda.yaml"), []byte("does not matter"))
	m, err := model.Open(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	wantSignature := &model.Signature{
		Inputs:        []model.SignatureColumn{{"fixed acidity", "double", true}, {"n", "long", false}, {"old", "string", false}, {"plain", "float", true}},
		TensorOutputs: []engine.TensorSpec{{Type: engine.Float64, Shape: []int64{-1}}},
	}
	if !reflect.DeepEqual(m.Signature, wantSignature) {
		t.Errorf("got signature %+v", m.Signature)
	}
	lines := fmt.Sprintf("%s  MLmodel\n%s  model.onnx\n%s  model.onnx.data\n", sum([]byte(mlmodelText)), sum(content), sum([]byte("1234")))
	if want := "sha256:" + sum([]byte(lines)); m.Digest != want || m.SizeBytes != int64(len(mlmodelText)+len(content)+4) {
		t.Errorf("got %s over %v, want %s", m.Digest, m.Files, want)
	}
	if err := model.VerifyDigest(t.Context(), folder, m.Digest); err != nil {
		t.Error(err)
	}
	write(t, filepath.Join(folder, "conda.yaml"), []byte("still does not matter"))
	if err := model.VerifyDigest(t.Context(), folder, m.Digest); err != nil {
		t.Error(err)
	}
	write(t, data, []byte("1235"))
	err = model.VerifyDigest(t.Context(), folder, m.Digest)
	if engine.KindOf(err) != engine.KindModel || !strings.Contains(err.Error(), "the model has changed: its digest is sha256:") {
		t.Errorf("got %v", err)
	}
}

func TestOpenTensorSignature(t *testing.T) {
	folder := t.TempDir()
	write(t, filepath.Join(folder, "MLmodel"), []byte(`flavors: {onnx: {data: data/model.onnx}}
signature: {inputs: '[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 11]}, "name": "X"}]', outputs: null}
`))
	write(t, filepath.Join(folder, "data", "model.onnx"), matrix().file())
	m, err := model.Open(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	want := &model.Signature{TensorInputs: []engine.TensorSpec{{Name: "X", Type: engine.Float32, Shape: []int64{-1, 11}}}}
	if !reflect.DeepEqual(m.Signature, want) || !reflect.DeepEqual(m.Files, []string{"MLmodel", "data/model.onnx"}) {
		t.Errorf("got %+v, %v", m.Signature, m.Files)
	}
}

func TestOpenRefuses(t *testing.T) {
	onnx := string(matrix().file())
	external := func(location string) map[string]string {
		g := matrix()
		g.initializers = append(g.initializers, externalTensor("w", location, "", "4"))
		return map[string]string{"m.onnx": string(g.file()), "short": "123"}
	}
	mlmodel := func(text string) map[string]string { return map[string]string{"MLmodel": text, "model.onnx": onnx} }
	for name, test := range map[string]struct {
		files map[string]string
		open  string
		kind  engine.Kind
		want  string
	}{
		"no file":             {nil, "none.onnx", engine.KindNotFound, "none.onnx: no such file or folder"},
		"s3":                  {nil, "s3://bucket/m.onnx", engine.KindInvalidArgument, "s3:// models are not available in this version"},
		"registry":            {nil, "models:/wine@champion", engine.KindInvalidArgument, "models:/ models are not available in this version"},
		"folder of ONNX":      {map[string]string{"a.onnx": onnx}, "", engine.KindModel, "it has no file MLmodel (to use a bare ONNX file, name the file: "},
		"folder of others":    {map[string]string{"a.txt": ""}, "", engine.KindModel, "it has no file MLmodel (name an .onnx file or a folder that"},
		"sklearn":             {mlmodel("flavors: {sklearn: {}, python_function: {}}"), "", engine.KindModel, "the model has no onnx flavor, only python_function, sklearn (log the model with mlflow.onnx.log_model, or convert it with skl2onnx)"},
		"not YAML":            {mlmodel("flavors: ["), "", engine.KindModel, "MLmodel: not an MLmodel file: yaml: "},
		"no flavors":          {mlmodel("a: b"), "", engine.KindModel, "not an MLmodel file: it names no flavors"},
		"data outside":        {mlmodel("flavors: {onnx: {data: ../model.onnx}}"), "", engine.KindModel, `flavors.onnx.data: "../model.onnx" is not a path inside the model's folder`},
		"data missing":        {mlmodel("flavors: {onnx: {data: other.onnx}}"), "", engine.KindNotFound, "other.onnx: no such file or folder"},
		"data a folder":       {mlmodel("flavors: {onnx: {data: .}}"), "", engine.KindModel, `flavors.onnx.data: "." is a folder, expected an ONNX file`},
		"bad signature":       {mlmodel("flavors: {onnx: {data: model.onnx}}\nsignature: {inputs: '[{'}"), "", engine.KindModel, "MLmodel: signature.inputs: not the JSON of a signature: "},
		"untyped entry":       {mlmodel("flavors: {onnx: {data: model.onnx}}\nsignature: {inputs: '[{\"name\": \"a\"}]'}"), "", engine.KindModel, "signature.inputs: entry 0 has no type"},
		"column twice":        {mlmodel("flavors: {onnx: {data: model.onnx}}\nsignature: {outputs: '[{\"name\": \"a\", \"type\": \"long\"}, {\"name\": \"a\", \"type\": \"long\"}]'}"), "", engine.KindModel, `signature.outputs: "a" appears twice`},
		"tensor without spec": {mlmodel("flavors: {onnx: {data: model.onnx}}\nsignature: {inputs: '[{\"type\": \"tensor\"}]'}"), "", engine.KindModel, "entry 0 has no tensor-spec"},
		"external up":         {external("../w"), "m.onnx", engine.KindModel, `external data "../w" is not a path inside the model's folder`},
		"external up inside":  {external("a/../short"), "m.onnx", engine.KindModel, `external data "a/../short" is not a path`},
		"external absolute":   {external("/etc/passwd"), "m.onnx", engine.KindModel, `external data "/etc/passwd" is not a path`},
		"external URL":        {external("file://w"), "m.onnx", engine.KindModel, `external data "file://w" is not a path`},
		"external backslash":  {external(`..\w`), "m.onnx", engine.KindModel, "is not a path"},
		"external missing":    {external("w.data"), "m.onnx", engine.KindModel, `external data "w.data" is missing from the model's folder`},
		"external short":      {external("short"), "m.onnx", engine.KindModel, `external data "short" is truncated: found 3 bytes, expected at least 4`},
		"external folder":     {external("."), "m.onnx", engine.KindModel, "is not a regular file"},
		"not ONNX":            {map[string]string{"m.onnx": "hello"}, "m.onnx", engine.KindModel, "m.onnx: not an ONNX model: found a text file"},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			for file, content := range test.files {
				write(t, filepath.Join(folder, file), []byte(content))
			}
			path := test.open
			if !strings.Contains(path, ":/") {
				path = filepath.Join(folder, path)
			}
			_, err := model.Open(t.Context(), path)
			if err == nil || engine.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %s: %v, want %s: %s", engine.KindOf(err), err, test.kind, test.want)
			}
		})
	}
}

func TestOpenRefusesSymlinkOut(t *testing.T) {
	outside := write(t, filepath.Join(t.TempDir(), "secret"), []byte("12345678"))
	folder := t.TempDir()
	g := matrix()
	g.initializers = append(g.initializers, externalTensor("w", "w.data", "", "4"))
	path := write(t, filepath.Join(folder, "m.onnx"), g.file())
	if err := os.Symlink(outside, filepath.Join(folder, "w.data")); err != nil {
		t.Skip("this file system has no symbolic links: ", err)
	}
	if _, err := model.Open(t.Context(), path); err == nil || !strings.Contains(err.Error(), `external data "w.data" is a symbolic link out of the model's folder`) {
		t.Errorf("got %v", err)
	}
}

// TestOpenExampleModel reads the model that scikit-learn and MLflow wrote for the quick start.
func TestOpenExampleModel(t *testing.T) {
	folder := filepath.Join("..", "examples", "wine", "model")
	if _, err := os.Stat(folder); err != nil {
		t.Skip("examples/wine/model is not there: ", err)
	}
	m, err := model.Open(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Inputs) != 1 || m.Inputs[0].Type != engine.Float64 || m.Signature == nil || len(m.Signature.Inputs) != 11 {
		t.Errorf("got %+v", m)
	}
}

func FuzzOpenONNX(f *testing.F) {
	f.Add(graph{nodes: []message{node("f", "a")}}.file(function("a", "b"), function("b", "a")))
	f.Add([]byte(message(nil).int(1, 8).add(7, nested(5)).add(8, message(nil).int(2, 13))))
	g := matrix()
	g.nodes = append(g.nodes, node("", "If", message(nil).add(6, matrix().encode())))
	g.initializers = append(g.initializers, externalTensor("w", "w.data", "8", "4"))
	g.outputs = append(g.outputs, value("p", seqType(mapType(onnxInt64, tensorType(onnxFloat, 0)))))
	f.Add(g.file(message(nil).text(1, "gelu").text(10, "pkg").add(7, node("", "Erf"))))
	f.Add(matrix().file()[:60])
	f.Add([]byte("not a model"))
	f.Fuzz(func(t *testing.T, content []byte) {
		got, err := model.ReadONNX(t.Context(), "m.onnx", bytes.NewReader(content), int64(len(content)))
		if (err == nil) != (got != nil) {
			t.Fatalf("got %v and %v", got, err)
		}
		if err != nil && engine.KindOf(err) != engine.KindModel {
			t.Fatalf("got %s: %v", engine.KindOf(err), err)
		}
	})
}
