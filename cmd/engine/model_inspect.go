package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/model"
)

// modelView is what model inspect prints.
type modelView struct {
	Path      string         `json:"path"`
	Kind      string         `json:"kind"`
	Digest    string         `json:"digest"`
	SizeBytes int64          `json:"size_bytes"`
	Files     []string       `json:"files"`
	Producer  string         `json:"producer"`
	Inputs    []string       `json:"inputs"`
	Outputs   []string       `json:"outputs"`
	Embedding *embeddingView `json:"embedding"`
}

type embeddingView struct {
	Graph          string            `json:"graph"`
	Quantized      bool              `json:"quantized"`
	ModelType      string            `json:"model_type"`
	Tokenizer      string            `json:"tokenizer"`
	Vocabulary     int               `json:"vocabulary"`
	MaxTokens      int               `json:"max_tokens"`
	Dim            int               `json:"dim"`
	HiddenDim      int               `json:"hidden_dim"`
	Pooling        []model.Pooling   `json:"pooling"`
	PoolingAssumed bool              `json:"pooling_assumed"`
	Dense          []string          `json:"dense"`
	Normalize      bool              `json:"normalize"`
	LowerCase      bool              `json:"lower_case"`
	Prompts        map[string]string `json:"prompts"`
	DefaultPrompt  string            `json:"default_prompt"`
}

// Kinds of models.
const (
	kindONNX      = "onnx"
	kindMLflow    = "mlflow"
	kindEmbedding = "embedding"
)

func (a *app) modelInspectCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "inspect PATH|NAME",
		Short: "Show what a model takes and gives, its limits, and its digest",
		Long: `Inspect reads a model as a job would, and says what is wrong with it, or what it takes and gives. PATH is an .onnx file, an MLflow model
folder, or the folder of a sentence embedding model: one of sentence-transformers, or a plain one of the transformers library with
tokenizer.json and config.json; or the name of a model that was imported. Of folders of embedding models it also checks that the engine
can make a graph if there is no ONNX file, and says which file is taken if there is one: onnx/model.onnx or model.onnx; else weights,
of which the engine makes the graph; else the only other ONNX file, such as onnx/model_qint8_avx512.onnx. Another one is chosen by
giving its path in the place of the folder.`,
		Example: `  engine model inspect wine.onnx
  engine model inspect all-MiniLM-L6-v2 -o json`,
		Args: oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			view, err := inspectModel(cmd.Context(), a.modelPath(args[0]))
			if err != nil {
				return err
			}
			return a.print(view, func(w io.Writer) error { return describeModel(w, view) })
		},
	}
}

// inspectModel opens a model of whichever kind path is.
func inspectModel(ctx context.Context, path string) (modelView, error) {
	if model.IsEmbedding(path) {
		e, err := model.OpenEmbedding(ctx, path)
		if err != nil {
			return modelView{}, err
		}
		return viewEmbedding(e), nil
	}
	m, err := model.Open(ctx, path)
	if err != nil {
		return modelView{}, err
	}
	view := modelView{
		Path: m.Path, Kind: kindONNX, Digest: m.Digest, SizeBytes: m.SizeBytes, Files: m.Files, Producer: m.Producer,
		Inputs: viewSpecs(m.Inputs, m.Unsupported), Outputs: viewSpecs(m.Outputs, m.Unsupported),
	}
	if m.ONNXPath != m.Path {
		view.Kind = kindMLflow
	}
	return view, nil
}

// viewSpecs describes inputs or outputs, those of types that the engine does not have in ONNX's words.
func viewSpecs(specs []engine.TensorSpec, unsupported map[string]string) []string {
	all := make([]string, len(specs))
	for i, s := range specs {
		all[i] = s.String()
		if u := unsupported[s.Name]; u != "" {
			all[i] = s.Name + ": " + u
		}
	}
	return all
}

func viewEmbedding(e *model.Embedding) modelView {
	embedding := embeddingView{
		Graph: e.ONNXPath, Quantized: e.Quantized, ModelType: e.ModelType, Tokenizer: e.TokenizerPath, Vocabulary: e.Tokenizer.VocabSize(), MaxTokens: e.MaxTokens, Dim: e.Dim, HiddenDim: e.HiddenDim,
		Pooling: e.Pooling, PoolingAssumed: e.PoolingAssumed, Normalize: e.Normalize, LowerCase: e.LowerCase,
		Prompts: e.Prompts, DefaultPrompt: e.DefaultPrompt, Dense: []string{},
	}
	if embedding.Prompts == nil {
		embedding.Prompts = map[string]string{}
	}
	if e.OutputPooled {
		// The graph pools, whatever the folder says.
		embedding.Pooling, embedding.PoolingAssumed = []model.Pooling{}, false
	}
	for _, d := range e.Dense {
		embedding.Dense = append(embedding.Dense, fmt.Sprintf("%d to %d, %s", d.In, d.Out, d.Activation))
	}
	view := modelView{Path: e.Path, Kind: kindEmbedding, Digest: e.Digest, SizeBytes: e.SizeBytes, Files: e.Files, Embedding: &embedding, Inputs: []string{}}
	tokens := func(name string) engine.TensorSpec {
		return engine.TensorSpec{Name: name, Type: engine.Int64, Shape: []int64{-1, -1}}
	}
	for _, name := range []string{e.Inputs.IDs, e.Inputs.Mask, e.Inputs.Types} {
		if name != "" {
			view.Inputs = append(view.Inputs, tokens(name).String())
		}
	}
	output := engine.TensorSpec{Name: e.Output, Type: engine.Float32, Shape: []int64{-1, -1, int64(e.HiddenDim)}}
	if e.OutputPooled {
		output.Shape = []int64{-1, int64(e.Dim)}
	}
	view.Outputs = []string{output.String()}
	return view
}

func describeModel(w io.Writer, v modelView) error {
	rows := []string{
		"path", v.Path,
		"kind", v.Kind,
		"digest", v.Digest,
		"size", fmt.Sprintf("%s in %s", engine.FormatSize(v.SizeBytes), plural(int64(len(v.Files)), "file")),
		"producer", v.Producer,
		"inputs", strings.Join(v.Inputs, "\n"),
		"outputs", strings.Join(v.Outputs, "\n"),
	}
	if e := v.Embedding; e != nil {
		graph := e.Graph
		if graph == "" {
			graph = "made of " + e.ModelType + " weights when it is used"
		}
		if e.Quantized {
			graph += " (int8)"
		}
		var steps []string
		for _, p := range e.Pooling {
			steps = append(steps, string(p))
		}
		pooling := strings.Join(steps, ", ")
		switch {
		case len(steps) == 0:
			pooling = "in the graph"
		case e.PoolingAssumed:
			pooling += " (assumed: there is no modules.json)"
		}
		var prompts []string
		for _, name := range slices.Sorted(maps.Keys(e.Prompts)) {
			text := name + " " + strconv.Quote(e.Prompts[name])
			if name == e.DefaultPrompt {
				text += " (default)"
			}
			prompts = append(prompts, text)
		}
		rows = append(rows,
			"graph", graph,
			"dimension", strconv.Itoa(e.Dim),
			"vocabulary", plural(int64(e.Vocabulary), "token"),
			"max tokens", strconv.Itoa(e.MaxTokens),
			"pooling", pooling,
			"dense", strings.Join(e.Dense, "\n"),
			"normalize", yesNo(e.Normalize),
			"lower case", yesNo(e.LowerCase),
			"prompts", strings.Join(prompts, "\n"),
		)
	}
	return fields(w, rows...)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
