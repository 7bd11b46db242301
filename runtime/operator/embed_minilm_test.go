package operator_test

import (
	"encoding/binary"
	"encoding/csv"
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine/internal/testenv"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/embedding"
	"github.com/f708428e/engine/runtime/onnx"
)

// agNews is a record of the first n news: title and description.
func agNews(t testing.TB, n int) arrow.Record {
	t.Helper()
	f, err := os.Open(testenv.Shared(t, "ag-news-3800.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	schema := arrow.NewSchema([]arrow.Field{{Name: "title", Type: arrow.BinaryTypes.String}, {Name: "description", Type: arrow.BinaryTypes.String}}, nil)
	b := array.NewRecordBuilder(memory.NewGoAllocator(), schema)
	defer b.Release()
	for _, row := range rows[:n] {
		b.Field(0).(*array.StringBuilder).Append(row[1])
		b.Field(1).(*array.StringBuilder).Append(row[2])
	}
	return b.NewRecord()
}

func onnxRuntime(t testing.TB) runtime.Loader {
	t.Helper()
	loader, err := onnx.New(onnx.Config{Library: testenv.ONNXRuntime(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = loader.Close() })
	return loader
}

func vectors(column arrow.Array) []float32 {
	return column.(*array.FixedSizeList).ListValues().(*array.Float32).Float32Values()
}

// differ returns the largest difference between elements of vectors of length dim, and the smallest cosine.
func differ(a, b []float32, dim int) (most, least float64) {
	least = 1
	for at := 0; at < len(a); at += dim {
		var dot, x2, y2 float64
		for i := range dim {
			x, y := float64(a[at+i]), float64(b[at+i])
			most = max(most, math.Abs(x-y))
			dot, x2, y2 = dot+x*y, x2+x*x, y2+y*y
		}
		least = min(least, dot/math.Sqrt(x2*y2))
	}
	return most, least
}

// TestEmbedGivesTheReferenceVectors compares all of the way from columns of text to vectors with sentence-transformers.
func TestEmbedGivesTheReferenceVectors(t *testing.T) {
	const rows, dim = 200, 384
	data, err := os.ReadFile(testenv.SharedEmbeddings(t, "embeddings-ag-news-3800-first200.npy"))
	if err != nil {
		t.Fatal(err)
	}
	want := make([]float32, rows*dim)
	data = data[len(data)-4*len(want):] // the header has a padded length
	for i := range want {
		want[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	in := agNews(t, rows)
	defer in.Release()
	o := newEmbed(t, in.Schema(), embedder(t, onnxRuntime(t), testenv.MiniLM(t), nil), false, 0, 1)
	out := apply(t, o, in)
	most, least := differ(vectors(out.Column(2)), want, dim)
	t.Logf("largest difference %.3g, smallest cosine %.12f; %+v", most, least, o.Stats())
	if most > 2e-6 || least < 0.9999999 {
		t.Error("the vectors differ")
	}
}

// TestEmbedDoesNotDependOnBatches holds but for the rounding of float32.
func TestEmbedDoesNotDependOnBatches(t *testing.T) {
	rows := 16
	if os.Getenv("ENGINE_TEST") != "" {
		rows = 300
	}
	in := agNews(t, rows)
	defer in.Release()
	var base embedding.Config
	embedder(t, onnxRuntime(t), testenv.MiniLM(t), func(c *embedding.Config) { base = *c })
	var first []float32
	for _, c := range []embedding.Config{
		{}, {BatchRows: 1}, {BatchRows: 7}, {BatchRows: 10_000}, {BatchTokens: 1}, {BatchTokens: 256}, {BatchTokens: 4096}, {BatchTokens: 65_536},
		{Parallel: 3},
	} {
		base.BatchRows, base.BatchTokens, base.Parallel = c.BatchRows, c.BatchTokens, c.Parallel
		e, err := embedding.New(base)
		if err != nil {
			t.Fatal(err)
		}
		got := vectors(apply(t, newEmbed(t, in.Schema(), e, false, 0, 1), in).Column(2))
		if first == nil {
			first = got
		}
		if most, _ := differ(got, first, e.Dim()); most > 1e-5 {
			t.Errorf("%d rows, %d tokens: vectors differ by %g", c.BatchRows, c.BatchTokens, most)
		}
	}
}

// TestMemoryIsFlat embeds for long, in calls of many shapes beside each other.
func TestMemoryIsFlat(t *testing.T) {
	testenv.Full(t)
	const rounds, warm = 25, 5
	in := agNews(t, 400)
	defer in.Release()
	o := newEmbed(t, in.Schema(), embedder(t, onnxRuntime(t), testenv.MiniLM(t), func(c *embedding.Config) { c.Parallel = 2 }), false, 0, 1)
	var before int64
	for round := range rounds {
		// Other rows in each round make calls of other shapes.
		part := in.NewSlice(int64(3*round), int64(3*round+50))
		apply(t, o, part)
		part.Release()
		if round == warm {
			before = residentBytes(t)
		}
	}
	after := residentBytes(t)
	t.Logf("%d MB after %d rounds, %d MB after %d", before>>20, warm, after>>20, rounds)
	if after > before+before/10 {
		t.Errorf("memory grew from %d to %d bytes", before, after)
	}
}

// residentBytes is what this process has, without garbage.
func residentBytes(t *testing.T) int64 {
	t.Helper()
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip("this system does not say how much memory a process has: ", err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}
