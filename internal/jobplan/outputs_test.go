package jobplan_test

import (
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine/dataset/parquet"
	"github.com/f708428e/engine/internal/jobplan"
)

// TestOutputsCanBeWritten plans a job whose model has outputs of every type, and writes a row of what the plan accepts.
func TestOutputsCanBeWritten(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/in/a.csv", "a\n1\n")
	var outputs []string
	for element := range onnxTypes {
		if element != "float16" && element != "bfloat16" {
			outputs = append(outputs, element+" list: "+element+"[?, 3]", element+": "+element+"[?]")
		}
	}
	model := writeModel(t, dir, []string{"x: double[?, 1]"}, outputs, "")
	spec := parse(t, dir, `{"source": {"csv": {"paths": ["DIR/in"]}}, "steps": [{"infer": {"model": "`+model+`"}}], "sink": {"parquet": {"path": "DIR/out"}}}`)
	plan, err := jobplan.Build(t.Context(), testJob, spec, jobplan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	program, err := jobplan.Compile(t.Context(), spec, plan, nil)
	if err != nil {
		t.Fatal(err)
	}
	schema := program.OutputSchema
	if schema.NumFields() != 1+len(outputs) {
		t.Fatalf("columns %v", schema)
	}
	var file countingWriter
	sink, err := parquet.NewSink(parquet.SinkOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := sink.Create(&file, schema, memory.DefaultAllocator)
	if err != nil {
		t.Fatal(err)
	}
	columns := make([]arrow.Array, schema.NumFields())
	for i, f := range schema.Fields() {
		b := array.NewBuilder(memory.DefaultAllocator, f.Type)
		b.AppendEmptyValue()
		built := b.NewArray().Data()
		// Arrow's builders make lists whose elements may be null.
		columns[i] = array.MakeFromData(array.NewData(f.Type, 1, built.Buffers(), built.Children(), 0, 0))
	}
	if err := w.Write(t.Context(), array.NewRecord(schema, columns, 1)); err != nil {
		t.Error(err)
	}
	if err := w.Finish(nil); err != nil || file == 0 {
		t.Errorf("%d bytes, %v", file, err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

type countingWriter int

func (w *countingWriter) Write(p []byte) (int, error) {
	*w += countingWriter(len(p))
	return len(p), nil
}
