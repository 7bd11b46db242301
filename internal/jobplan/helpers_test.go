package jobplan_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// message is a protobuf message under construction.
type message []byte

func (m message) int(number protowire.Number, value int64) message {
	return protowire.AppendVarint(protowire.AppendTag(m, number, protowire.VarintType), uint64(value))
}

func (m message) text(number protowire.Number, value string) message {
	return protowire.AppendString(protowire.AppendTag(m, number, protowire.BytesType), value)
}

func (m message) add(number protowire.Number, part message) message {
	return protowire.AppendBytes(protowire.AppendTag(m, number, protowire.BytesType), part)
}

// onnxTypes are TensorProto.DataType.
var onnxTypes = map[string]int64{
	"float": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "string": 8, "bool": 9, "float16": 10, "double": 11,
	"uint32": 12, "uint64": 13, "bfloat16": 16,
}

// value encodes "name: double[?, 11]", "name: double" without shape, or "name: zipmap".
func value(text string) message {
	name, typ, _ := strings.Cut(text, ": ")
	if typ == "zipmap" {
		tensor := message(nil).add(1, message(nil).int(1, onnxTypes["float"]))
		oneMap := message(nil).add(5, message(nil).int(1, onnxTypes["int64"]).add(2, tensor))
		return message(nil).text(1, name).add(2, message(nil).add(4, message(nil).add(1, oneMap)))
	}
	element, dims, shaped := strings.Cut(strings.TrimSuffix(typ, "]"), "[")
	tensor := message(nil).int(1, onnxTypes[element])
	if shaped {
		var shape message
		for _, d := range strings.Fields(strings.ReplaceAll(dims, ",", " ")) {
			var dim message
			if n := int64(0); d != "?" {
				if _, err := fmt.Sscan(d, &n); err != nil {
					panic(err)
				}
				dim = dim.int(1, n)
			}
			shape = shape.add(1, dim)
		}
		tensor = tensor.add(2, shape)
	}
	return message(nil).text(1, name).add(2, message(nil).add(1, tensor))
}

// onnx is a model with inputs and outputs as value has them.
func onnx(inputs, outputs []string) []byte {
	graph := message(nil).add(1, message(nil).text(4, "Identity"))
	for _, in := range inputs {
		graph = graph.add(11, value(in))
	}
	for _, out := range outputs {
		graph = graph.add(12, value(out))
	}
	return message(nil).int(1, 8).add(7, graph).add(8, message(nil).int(2, 13))
}

func write(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// writeModel writes a bare model, or with a signature such as "a: double, b: long?" an MLflow folder, and returns its path.
func writeModel(t *testing.T, folder string, inputs, outputs []string, signature string) string {
	t.Helper()
	content := string(onnx(inputs, outputs))
	if signature == "" {
		return write(t, filepath.Join(folder, "m.onnx"), content)
	}
	var entries []string
	for _, c := range strings.Split(signature, ", ") {
		name, typ, _ := strings.Cut(c, ": ")
		typ, optional := strings.CutSuffix(typ, "?")
		entries = append(entries, fmt.Sprintf(`{"name": %q, "type": %q, "required": %v}`, name, typ, !optional))
	}
	write(t, filepath.Join(folder, "m", "MLmodel"), fmt.Sprintf("flavors: {onnx: {data: model.onnx}}\nsignature: {inputs: '[%s]'}\n", strings.Join(entries, ", ")))
	write(t, filepath.Join(folder, "m", "model.onnx"), content)
	return filepath.Join(folder, "m")
}

// parse reads a job in JSON; DIR stands for folder.
func parse(t *testing.T, folder, text string) *enginev1.JobSpec {
	t.Helper()
	spec := &enginev1.JobSpec{}
	options := protojson.UnmarshalOptions{}
	if err := options.Unmarshal([]byte(strings.ReplaceAll(text, "DIR", folder)), spec); err != nil {
		t.Fatal(err)
	}
	return spec
}

// writeParquet writes a file with one row group for each of rows; columns are "name: type".
func writeParquet(t *testing.T, path string, columns []string, rows ...int) {
	t.Helper()
	types := map[string]arrow.DataType{
		"int32": arrow.PrimitiveTypes.Int32, "int64": arrow.PrimitiveTypes.Int64, "uint32": arrow.PrimitiveTypes.Uint32,
		"float32": arrow.PrimitiveTypes.Float32, "float64": arrow.PrimitiveTypes.Float64,
		"string": arrow.BinaryTypes.String, "bool": arrow.FixedWidthTypes.Boolean,
		"list": arrow.ListOf(arrow.PrimitiveTypes.Int64),
	}
	var fields []arrow.Field
	for _, c := range columns {
		name, typ, _ := strings.Cut(c, ": ")
		fields = append(fields, arrow.Field{Name: name, Type: types[typ], Nullable: true})
	}
	schema := arrow.NewSchema(fields, nil)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := pqarrow.NewFileWriter(schema, file, nil, pqarrow.DefaultWriterProps())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range rows {
		builder := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		for _, f := range builder.Fields() {
			for range n {
				f.AppendNull()
			}
		}
		record := builder.NewRecord()
		if err := w.Write(record); err != nil {
			t.Fatal(err)
		}
		record.Release()
		builder.Release()
	}
	// Closes the file too.
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// wantError checks kind and text of an error; DIR stands for folder.
func wantError(t *testing.T, err error, kind engine.Kind, folder, want string) {
	t.Helper()
	want = strings.ReplaceAll(want, "DIR", folder)
	if err == nil || engine.KindOf(err) != kind || !strings.Contains(err.Error(), want) {
		t.Errorf("got  %s: %v\nwant %s: %s", engine.KindOf(err), err, kind, want)
	}
}
