package onnxfile_test

import (
	"bytes"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/runtime/enginetest"
	"github.com/f708428e/engine/runtime/internal/onnxfile"
)

func TestRoundTrip(t *testing.T) {
	for name, content := range map[string][]byte{
		"linear":   enginetest.LinearModel(engine.Float64, 1, 2, 3),
		"columns":  enginetest.ColumnsModel(engine.Float32, 1, []string{"a", "b"}, 1, 2, 3),
		"several":  enginetest.SeveralModel(engine.Float32),
		"sequence": enginetest.SequenceModel(),
	} {
		model, err := onnxfile.Unmarshal(content)
		if err != nil {
			t.Fatal(name, err)
		}
		if again := onnxfile.Marshal(model); !bytes.Equal(again, content) {
			t.Errorf("%s: %q became %q", name, content, again)
		}
	}
}

func FuzzUnmarshal(f *testing.F) {
	f.Add(enginetest.LinearModel(engine.Float64, 1, 2, 3))
	f.Add(enginetest.ColumnsModel(engine.Float32, 1, []string{"a", "b"}, 1, 2, 3))
	f.Add(enginetest.SequenceModel())
	f.Fuzz(func(t *testing.T, data []byte) {
		model, err := onnxfile.Unmarshal(data)
		if err != nil {
			return
		}
		again, err := onnxfile.Unmarshal(onnxfile.Marshal(model))
		if err != nil {
			return // what cannot be written, such as strings in an initializer
		}
		if len(again.Graph.Nodes) != len(model.Graph.Nodes) || len(again.Graph.Inputs) != len(model.Graph.Inputs) {
			t.Errorf("%+v became %+v", model, again)
		}
	})
}
