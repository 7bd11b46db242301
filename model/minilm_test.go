package model_test

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/csv"
	"math"
	"os"
	"slices"
	"testing"
	"unsafe"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/testenv"
	"github.com/f708428e/engine/model"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/onnx"
	"github.com/f708428e/engine/tokenizer"
)

// load opens the graph of an embedding model with ONNX Runtime.
func load(t testing.TB, e *model.Embedding, threads int) runtime.Model {
	t.Helper()
	path, err := e.Materialize(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	// What the engine writes, it must also accept.
	if m, err := model.Open(t.Context(), path); err != nil {
		t.Fatal(err)
	} else if e.ONNXPath == "" && len(m.External) != 1 {
		t.Errorf("external data: %v", m.External)
	}
	loader, err := onnx.New(onnx.Config{Library: testenv.ONNXRuntime(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = loader.Close() })
	m, err := loader.Load(t.Context(), runtime.LoadRequest{Path: path, Threads: threads, Outputs: []string{e.Output}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func bytesOf[T any](values []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(values))), len(values)*int(unsafe.Sizeof(*new(T))))
}

// hidden evaluates the graph on texts of token ids, padded to the longest, and returns its output [batch, length, hidden].
func hidden(ctx context.Context, e *model.Embedding, m runtime.Model, texts [][]int32) ([]float32, int, error) {
	length := 0
	for _, ids := range texts {
		length = max(length, len(ids))
	}
	ids, mask, types := make([]int64, len(texts)*length), make([]int64, len(texts)*length), make([]int64, len(texts)*length)
	for r, text := range texts {
		for i := range length {
			ids[r*length+i] = int64(e.PadID)
			if i < len(text) {
				ids[r*length+i], mask[r*length+i] = int64(text[i]), 1
			}
		}
	}
	shape := []int64{int64(len(texts)), int64(length)}
	byName := map[string][]int64{e.Inputs.IDs: ids, e.Inputs.Mask: mask, e.Inputs.Types: types}
	inputs := make([]runtime.Tensor, len(m.Inputs()))
	for i, spec := range m.Inputs() {
		inputs[i] = runtime.Tensor{Type: engine.Int64, Shape: shape, Data: bytesOf(byName[spec.Name])}
	}
	output := make([]float32, len(texts)*length*e.HiddenDim)
	at := slices.IndexFunc(m.Outputs(), func(s engine.TensorSpec) bool { return s.Name == e.Output })
	outputs := []runtime.Output{{Index: at, Tensor: runtime.Tensor{
		Type: engine.Float32, Shape: append(slices.Clone(shape), int64(e.HiddenDim)), Data: bytesOf(output),
	}}}
	return output, length, m.Run(ctx, inputs, outputs)
}

// agNews returns the ids of the first n texts.
func agNews(t testing.TB, e *model.Embedding, n int) [][]int32 {
	t.Helper()
	f, err := os.Open(testenv.Shared(t, "ag-news-3800.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.Open(e.TokenizerPath)
	if err != nil {
		t.Fatal(err)
	}
	encoder, texts := tok.NewEncoder(), make([][]int32, n)
	for i := range texts {
		texts[i], _ = encoder.AppendIDs(nil, rows[i][1]+" "+rows[i][2], e.MaxTokens)
	}
	return texts
}

// batches returns the places of texts, sorted by length, in groups of at most budget padded tokens.
func batches(texts [][]int32, budget int) (groups [][]int) {
	order := make([]int, len(texts))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(len(texts[b]), len(texts[a])) })
	for len(order) > 0 {
		n := min(max(1, budget/len(texts[order[0]])), len(order))
		groups, order = append(groups, order[:n]), order[n:]
	}
	return groups
}

// embed returns the normalized mean vector of each text.
func embed(t testing.TB, e *model.Embedding, m runtime.Model, texts [][]int32) [][]float32 {
	t.Helper()
	vectors := make([][]float32, len(texts))
	for _, group := range batches(texts, 1024) {
		batch := make([][]int32, len(group))
		for i, at := range group {
			batch[i] = texts[at]
		}
		output, length, err := hidden(t.Context(), e, m, batch)
		if err != nil {
			t.Fatal(err)
		}
		for i, at := range group {
			v := make([]float32, e.HiddenDim)
			for token := range batch[i] {
				row := output[(i*length+token)*e.HiddenDim:]
				for d := range v {
					v[d] += row[d]
				}
			}
			var square float64
			for _, x := range v {
				square += float64(x) * float64(x)
			}
			for d := range v {
				v[d] = float32(float64(v[d]) / math.Sqrt(square))
			}
			vectors[at] = v
		}
	}
	return vectors
}

// readNPY reads a float32 matrix.
func readNPY(t testing.TB, path string, rows, columns int) [][]float32 {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data = data[len(data)-4*rows*columns:] // the header has a padded length
	matrix := make([][]float32, rows)
	for r := range matrix {
		matrix[r] = make([]float32, columns)
		for c := range columns {
			matrix[r][c] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*(r*columns+c):]))
		}
	}
	return matrix
}

func TestMiniLMGivesTheReferenceVectors(t *testing.T) {
	want := readNPY(t, testenv.SharedEmbeddings(t, "embeddings-ag-news-3800-first200.npy"), 200, 384)
	if level := os.Getenv("ENGINE_TEST"); level != "full" && level != "soak" {
		want = want[:40]
	}
	e, err := model.OpenEmbedding(t.Context(), testenv.MiniLM(t))
	if err != nil {
		t.Fatal(err)
	}
	if e.MaxTokens != 256 || e.Dim != 384 || e.HiddenDim != 384 || !e.Normalize || !slices.Equal(e.Pooling, []model.Pooling{model.PoolMean}) || e.PadID != 0 {
		t.Errorf("got %+v", e)
	}
	m := load(t, e, 1)
	got := embed(t, e, m, agNews(t, e, len(want)))
	var most float64
	least := 1.0
	for i := range want {
		var dot, a, b float64
		for d := range want[i] {
			x, y := float64(got[i][d]), float64(want[i][d])
			most = max(most, math.Abs(x-y))
			dot, a, b = dot+x*y, a+x*x, b+y*y
		}
		least = min(least, dot/math.Sqrt(a*b))
	}
	t.Logf("largest difference %.3g, smallest cosine %.12f", most, least)
	if most > 2e-6 || least < 0.9999999 {
		t.Error("the vectors differ")
	}
}

// BenchmarkMiniLM embeds 200 texts with two threads in calls of 1,024 padded tokens.
func BenchmarkMiniLM(b *testing.B) {
	e, err := model.OpenEmbedding(b.Context(), testenv.MiniLM(b))
	if err != nil {
		b.Fatal(err)
	}
	m, texts := load(b, e, 2), agNews(b, e, 200)
	embed(b, e, m, texts[:8])
	for b.Loop() {
		embed(b, e, m, texts)
	}
	b.ReportMetric(float64(len(texts)*b.N)/b.Elapsed().Seconds(), "texts/s")
}
