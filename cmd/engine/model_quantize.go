package main

import (
	"context"
	_ "embed" // sentences.txt
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/model"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/embedding"
	"github.com/f708428e/engine/runtime/onnx"
)

// sentences are what models are compared on if the user gives nothing else, one a line.
//
//go:embed sentences.txt
var sentences string

// quantizedView is what model quantize prints.
type quantizedView struct {
	Path            string     `json:"path"`
	Digest          string     `json:"digest"`
	Source          string     `json:"source"`
	Matrices        int        `json:"matrices"`
	KeptMatrices    int        `json:"kept_matrices"`
	SizeBytes       int64      `json:"size_bytes"`
	SourceSizeBytes int64      `json:"source_size_bytes"`
	Sample          string     `json:"sample"`
	Texts           int        `json:"texts"`
	Threads         int        `json:"threads"`
	Cosine          cosineView `json:"cosine"`
	TextsPerSecond  rateView   `json:"texts_per_second"`
	Speedup         float64    `json:"speedup"`
}

type cosineView struct {
	Min  float64 `json:"min"`
	P1   float64 `json:"p1"`
	Mean float64 `json:"mean"`
}

type rateView struct {
	Float32 float64 `json:"float32"`
	Int8    float64 `json:"int8"`
}

type quantizeFlags struct {
	out, sample, text, onnxRuntime string
	rows, threads                  int
}

// farApart is the mean cosine below which the user is told to look.
const farApart = 0.98

func (a *app) modelQuantizeCommand() *cobra.Command {
	var f quantizeFlags
	cmd := &cobra.Command{
		Use:   "quantize PATH|NAME --out FOLDER",
		Short: "Make an embedding model compute in int8, and measure what that costs and brings",
		Long: `Quantize writes a copy of a sentence embedding model whose matrices of weights are int8: several times as fast on a CPU, with vectors that
are close to the model's own, not equal. It then embeds texts with both and prints how close the vectors are, as cosines, and how many
texts a second each embeds. Look at that on texts of your own, with --sample and --text, before you use the model; vectors of the two
should not be mixed in one index.

FOLDER can be the model of a job file at once, or be imported. Weights have one scale a column and seven bits, so that processors without
VNNI, whose 16-bit sums eight bits would overflow, give the same vectors; what they are multiplied with gets its scale call by call, so a
vector depends a little on the texts beside it. The table of words stays in float32: it is only looked up. The graph is the one that the
engine makes of the weights, or the model's own ONNX file, of which MatMul, Gemm, and ONNX Runtime's Attention are quantized.`,
		Example: `  engine model quantize all-MiniLM-L6-v2 --out models/minilm-int8
  engine model quantize all-MiniLM-L6-v2 --out models/minilm-int8 --sample news.csv --text title -o json`,
		Args: oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case f.out == "":
				return usagef("--out FOLDER is missing: where the quantized model goes")
			case (f.sample == "") != (f.text == ""):
				return usagef("--sample FILE.csv and --text COLUMN belong together")
			case f.rows < 1:
				return usagef("--rows %d: expected at least 1", f.rows)
			case f.threads < 1:
				return usagef("--threads %d: expected at least 1", f.threads)
			}
			view, err := a.quantize(cmd.Context(), args[0], f)
			if err != nil {
				return err
			}
			return a.print(view, func(w io.Writer) error { return describeQuantized(w, view) })
		},
	}
	cmd.Flags().StringVar(&f.out, "out", "", "the `FOLDER` of the quantized model, which must be new or empty")
	cmd.Flags().StringVar(&f.sample, "sample", "", "compare the models on texts of this CSV `FILE`; default: some English sentences")
	cmd.Flags().StringVar(&f.text, "text", "", "the `COLUMN` of --sample with the texts; a number from 1 on is one of a file without a header")
	cmd.Flags().IntVar(&f.rows, "rows", 1000, "how many `TEXTS` of --sample are compared at most")
	cmd.Flags().IntVar(&f.threads, "threads", goruntime.GOMAXPROCS(0), "how many `THREADS` compute")
	cmd.Flags().StringVar(&f.onnxRuntime, "onnxruntime", "", onnxRuntimeUsage)
	return cmd
}

func (a *app) quantize(ctx context.Context, path string, f quantizeFlags) (view quantizedView, err error) {
	texts, sample := strings.Split(strings.TrimSpace(sentences), "\n"), "built-in sentences"
	if f.sample != "" {
		sample = f.sample
		if texts, err = readTexts(f.sample, f.text, f.rows); err != nil {
			return view, err
		}
	}
	path = a.modelPath(path)
	if _, err := os.Stat(path); err == nil && !model.IsEmbedding(path) {
		return view, engine.Errorf(engine.KindModel, "quantize model", path, "it is no sentence embedding model; only those are quantized")
	}
	source, err := model.OpenEmbedding(ctx, path)
	if err != nil {
		return view, err
	}
	// The library first: without it nothing can be measured, and nothing should be left behind.
	loader, err := onnx.New(onnx.Config{Library: f.onnxRuntime})
	if err != nil {
		return view, err
	}
	defer func() { _ = loader.Close() }() // The process ends.
	if _, err := loader.Library(); err != nil {
		return view, err
	}
	cache, err := a.cacheDir()
	if err != nil {
		return view, engine.Errorf(engine.KindInvalidArgument, "find the cache folder", "", "%w", err)
	}
	graphs := filepath.Join(cache, "engine", modelsFolder)
	a.notef("quantizing %s", source.Path)
	done, err := source.Quantize(ctx, graphs, f.out)
	if err != nil {
		return view, err
	}
	target, err := model.OpenEmbedding(ctx, f.out)
	if err != nil {
		return view, err
	}
	a.notef("comparing the models on %s of %s", plural(int64(len(texts)), "text"), sample)
	base, closeBase, err := openEmbedder(ctx, loader, source, graphs, f.threads)
	if err != nil {
		return view, err
	}
	defer closeBase()
	other, closeOther, err := openEmbedder(ctx, loader, target, graphs, f.threads)
	if err != nil {
		return view, err
	}
	defer closeOther()
	s, err := embedding.Compare(ctx, base, other, texts)
	if err != nil {
		return view, err
	}
	if s.Mean < farApart {
		a.notef("warning: the vectors are far from those of the model in float32; look at what your application does with them before you use it")
	}
	return quantizedView{
		Path: target.Path, Digest: target.Digest, Source: source.Path, Matrices: done.Matrices, KeptMatrices: done.KeptMatrices,
		SizeBytes: target.SizeBytes, SourceSizeBytes: source.SizeBytes, Sample: sample, Texts: s.Texts, Threads: f.threads,
		Cosine: cosineView{s.Min, s.P1, s.Mean}, TextsPerSecond: rateView{s.BaseRate, s.OtherRate}, Speedup: s.OtherRate / s.BaseRate,
	}, nil
}

// openEmbedder loads a model, which the function that it returns closes.
func openEmbedder(ctx context.Context, loader runtime.Loader, e *model.Embedding, graphs string, threads int) (*embedding.Embedder, func(), error) {
	path, err := e.Materialize(ctx, graphs)
	if err != nil {
		return nil, nil, err
	}
	loaded, err := loader.Load(ctx, runtime.LoadRequest{Path: path, Digest: e.Digest, Threads: 1, Outputs: []string{e.Output}})
	if err != nil {
		return nil, nil, err
	}
	closeModel := func() { _ = loaded.Close() } // All calls have returned.
	made, err := embedding.New(embedding.Config{
		Model: loaded, Spec: e, Tokenizer: e.Tokenizer, Normalize: e.Normalize, Prompt: e.Prompts[e.DefaultPrompt], Parallel: threads,
	})
	if err != nil {
		closeModel()
		return nil, nil, err
	}
	return made, closeModel, nil
}

// readTexts returns the texts of a column of a CSV file, at most rows.
func readTexts(path, column string, rows int) ([]string, error) {
	const op = "read sample"
	file, err := os.Open(path) //nolint:gosec // The user says which.
	if err != nil {
		kind := engine.KindInternal
		if errors.Is(err, os.ErrNotExist) {
			kind = engine.KindNotFound
		}
		return nil, engine.Errorf(kind, op, path, "%w", errors.Unwrap(err))
	}
	defer func() { _ = file.Close() }() // Only read.
	reader := csv.NewReader(file)
	header, err := reader.Read()
	if errors.Is(err, io.EOF) {
		return nil, engine.Errorf(engine.KindData, op, path, "the file is empty")
	}
	if err != nil {
		return nil, engine.Errorf(engine.KindData, op, path, "%w", err)
	}
	if len(header) > 0 {
		header[0] = strings.TrimPrefix(header[0], "\ufeff")
	}
	var texts []string
	place, isNumber := -1, false
	if number, err := strconv.Atoi(column); err == nil {
		isNumber = true
		if number >= 1 && number <= len(header) {
			place = number - 1
			texts = append(texts, header[place])
		}
	} else {
		place = slices.Index(header, column)
	}
	switch {
	case place < 0 && isNumber:
		return nil, engine.Errorf(engine.KindInvalidArgument, op, path, "there is no column %s; the file has %d", column, len(header))
	case place < 0:
		return nil, engine.Errorf(engine.KindInvalidArgument, op, path, "there is no column %q; the file has %s", column, strings.Join(header, ", ")).
			WithHint("of a file without a header, --text is a column's number")
	}
	for len(texts) < rows {
		record, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, engine.Errorf(engine.KindData, op, path, "%w", err)
		}
		if record[place] != "" {
			texts = append(texts, record[place])
		}
	}
	if len(texts) == 0 {
		return nil, engine.Errorf(engine.KindData, op, path, "column %q has no text", column)
	}
	return texts, nil
}

func describeQuantized(w io.Writer, v quantizedView) error {
	matrices := fmt.Sprintf("%d in int8", v.Matrices)
	if v.KeptMatrices > 0 {
		matrices += fmt.Sprintf(", %d in float32", v.KeptMatrices)
	}
	return fields(w,
		"path", v.Path,
		"digest", v.Digest,
		"matrices", matrices,
		"size", fmt.Sprintf("%s, in float32 %s", engine.FormatSize(v.SizeBytes), engine.FormatSize(v.SourceSizeBytes)),
		"sample", fmt.Sprintf("%s, %s", plural(int64(v.Texts), "text"), v.Sample),
		"cosine", fmt.Sprintf("min %.4f, 1st percentile %.4f, mean %.4f", v.Cosine.Min, v.Cosine.P1, v.Cosine.Mean),
		"texts/s", fmt.Sprintf("%.0f, in float32 %.0f, on %s: %.2f x", v.TextsPerSecond.Int8, v.TextsPerSecond.Float32, plural(int64(v.Threads), "thread"), v.Speedup),
	)
}
