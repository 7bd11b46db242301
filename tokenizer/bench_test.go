package tokenizer_test

import (
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/f708428e/engine/internal/testenv"
	"github.com/f708428e/engine/tokenizer"
)

// maxTokens is the limit of the benchmarks, that of all-MiniLM-L6-v2.
const maxTokens = 256

// benchmarkFile encodes all AG News texts, one goroutine.
func benchmarkFile(b *testing.B, path string) {
	b.Helper()
	tok, err := tokenizer.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	texts := agNews(b)
	e := tok.NewEncoder()
	var ids []int32
	bytes, tokens := 0, 0
	for _, text := range texts {
		ids, _ = e.AppendIDs(ids[:0], text, maxTokens)
		bytes, tokens = bytes+len(text), tokens+len(ids)
	}
	b.SetBytes(int64(bytes))
	b.ReportAllocs()
	for b.Loop() {
		for _, text := range texts {
			ids, _ = e.AppendIDs(ids[:0], text, maxTokens)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(texts)), "ns/text")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*tokens), "ns/token")
}

func BenchmarkMiniLMAGNews(b *testing.B) { benchmarkFile(b, miniLMPath(b)) }

func BenchmarkLargeAGNews(b *testing.B) {
	for _, path := range trainLarge(b) {
		b.Run(filepath.Base(path), func(b *testing.B) { benchmarkFile(b, path) })
	}
}

func BenchmarkOpenMiniLM(b *testing.B) {
	path := miniLMPath(b)
	for b.Loop() {
		if _, err := tokenizer.Open(path); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAgainstTheOfficialLibrary runs the official library (testdata/bench.py, one core) and this package one after the
// other, on the same texts in the same run, and reports the ratios of the median text and of the whole. The official library
// is measured by its quickest call: single texts by encode or encode_batch_fast, the whole by encode_batch_fast.
func BenchmarkAgainstTheOfficialLibrary(b *testing.B) {
	paths := []string{miniLMPath(b)}
	if testing.Short() {
		b.Skip("takes a second or two for each file")
	}
	if os.Getenv("ENGINE_TEST") != "" || os.Getenv("ENGINE_TOKENIZERS") != "" {
		paths = append(paths, trainLarge(b)...)
	}
	texts := agNews(b)
	python := testenv.Python(b, "tokenizers")
	for _, path := range paths {
		b.Run(filepath.Base(path), func(b *testing.B) {
			var official struct {
				MedianNs float64 `json:"median_ns"`
				MeanNs   float64 `json:"mean_ns"`
				Version  string
			}
			tok, err := tokenizer.Open(path)
			if err != nil {
				b.Fatal(err)
			}
			var median, mean, officialMedian, officialMean []float64
			for b.Loop() {
				cmd := exec.CommandContext(b.Context(), python, filepath.Join("testdata", "bench.py"), path, "256")
				cmd.Stdin = strings.NewReader(jsonLines(b, texts))
				out, err := cmd.Output()
				if err != nil {
					b.Fatal(err)
				}
				if err := json.Unmarshal(out, &official); err != nil {
					b.Fatal(err)
				}
				m, all := timeTexts(tok, texts)
				median, mean = append(median, m), append(mean, all)
				officialMedian, officialMean = append(officialMedian, official.MedianNs), append(officialMean, official.MeanNs)
			}
			b.ReportMetric(slices.Min(median), "ns/median-text")
			b.ReportMetric(slices.Min(officialMedian), "official-ns/median-text")
			b.ReportMetric(slices.Min(officialMedian)/slices.Min(median), "x-median")
			b.ReportMetric(slices.Min(officialMean)/slices.Min(mean), "x-mean")
			b.ReportMetric(0, "ns/op")
			b.Logf("tokenizers %s", official.Version)
		})
	}
}

// timeTexts does what bench.py does: the best of five for each text, the median of these; and the best mean of all texts.
func timeTexts(tok *tokenizer.Tokenizer, texts []string) (median, mean float64) {
	e := tok.NewEncoder()
	var ids []int32
	mean = math.Inf(1)
	for range 6 {
		start := time.Now()
		for _, text := range texts {
			ids, _ = e.AppendIDs(ids[:0], text, maxTokens)
		}
		mean = min(mean, float64(time.Since(start).Nanoseconds())/float64(len(texts)))
	}
	single := make([]float64, len(texts))
	for round := range 5 { // not one text five times in a row: neither caches nor branch predictors may learn it
		for i, text := range texts {
			start := time.Now()
			ids, _ = e.AppendIDs(ids[:0], text, maxTokens)
			if ns := float64(time.Since(start).Nanoseconds()); round == 0 || ns < single[i] {
				single[i] = ns
			}
		}
	}
	slices.Sort(single)
	return single[len(single)/2], mean
}
