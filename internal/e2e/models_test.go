package e2e_test

import (
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet/file"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"

	"github.com/f708428e/engine/model/hub/hubtest"
	"github.com/f708428e/engine/model/modeltest"
)

// A job names a model of the hub, which is fetched; the same model by its name; and what quantize makes of it.
func TestModelsByName(t *testing.T) {
	server := hubtest.New(t, "org/tiny", modeltest.Tiny("bert").Files())
	p := newPlace(t)
	p.env = append(p.env, "HF_ENDPOINT="+server.URL, "HF_TOKEN=", "ENGINE_MODELS=")
	texts := []string{"the cat sat on the mat", "a dog", "or not", "the dog and the cat"}
	p.write("in.csv", "text\n"+strings.Join(texts, "\n")+"\n")
	embed := func(model, out string) [][]float32 {
		t.Helper()
		p.write("job.yaml", fmt.Sprintf("source: {csv: {paths: [in.csv]}}\nsteps: [{embed: {model: %q, text: [text]}}]\nsink: {parquet: {path: %q}}\n", model, out))
		p.must("run", "job.yaml")
		return readVectors(t, p.path(out))
	}
	want := embed("hf://org/tiny", "out-hub")
	if len(want) != len(texts) || len(want[0]) != 16 {
		t.Fatalf("got %v", want)
	}
	asked := len(server.Requests())
	p.must("model", "import", "hf://org/tiny")
	if got := embed("tiny", "out-name"); !slices.EqualFunc(got, want, slices.Equal[[]float32]) {
		t.Errorf("got %v, want %v", got, want)
	}
	if more := server.Requests()[asked:]; len(more) != 1 || !strings.HasPrefix(more[0], "GET /api/") {
		t.Errorf("asked the hub for %q", more)
	}
	var quantized struct {
		Cosine struct{ Min float64 }
	}
	if err := json.Unmarshal([]byte(p.must("model", "quantize", "tiny", "--out", "int8", "--sample", "in.csv", "--text", "text", "-o", "json").stdout), &quantized); err != nil {
		t.Fatal(err)
	}
	got := embed("int8", "out-int8")
	least, equal := 1.0, true
	for i := range want {
		var dot, x, y float64
		for d := range want[i] {
			a, b := float64(want[i][d]), float64(got[i][d])
			dot, x, y, equal = dot+a*b, x+a*a, y+b*b, equal && a == b
		}
		least = min(least, dot/math.Sqrt(x*y))
	}
	// The command and the job cut the same batches of so few texts.
	if math.Abs(least-quantized.Cosine.Min) > 1e-5 || equal || least < 0.97 {
		t.Errorf("smallest cosine %v, measured %v, equal %v", least, quantized.Cosine.Min, equal)
	}
}

// readVectors returns the vectors of a folder with one part.
func readVectors(t *testing.T, folder string) (vectors [][]float32) {
	t.Helper()
	parts, err := filepath.Glob(filepath.Join(folder, "*.parquet"))
	if err != nil || len(parts) != 1 {
		t.Fatal(parts, err)
	}
	reader, err := file.OpenParquetFile(parts[0], false)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	rows, err := pqarrow.NewFileReader(reader, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
	if err != nil {
		t.Fatal(err)
	}
	table, err := rows.ReadTable(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer table.Release()
	for _, chunk := range table.Column(int(table.NumCols()) - 1).Data().Chunks() {
		list := chunk.(array.ListLike)
		values := list.ListValues().(*array.Float32).Float32Values()
		for row := range list.Len() {
			from, to := list.ValueOffsets(row)
			vectors = append(vectors, slices.Clone(values[from:to]))
		}
	}
	return vectors
}
