package model

import (
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/model/onnxgraph"
	"github.com/f708428e/engine/model/safetensors"
)

// findGraph chooses the ONNX file, or the weights.
func (o *embeddingOpener) findGraph(context.Context) error {
	if o.ONNXPath != "" {
		return nil
	}
	for _, name := range []string{"onnx/model.onnx", "model.onnx"} {
		for _, folder := range slices.Compact([]string{o.transformer, "."}) {
			if name := path.Join(folder, name); o.has(name) {
				o.ONNXPath = o.path(name)
				return nil
			}
		}
	}
	index := o.inTransformer(weightsIndexFile)
	weights := o.inTransformer(weightsFile)
	switch {
	case o.has(weights):
		o.Weights = []string{o.path(weights)}
		o.addGraph(weights)
		return nil
	case o.has(index):
		return o.readIndex(index)
	}
	switch others, err := o.otherGraphs(); {
	case err != nil:
		return err
	case len(others) == 1:
		o.ONNXPath = o.path(others[0])
		return nil
	case len(others) > 1:
		return o.fail(".", "there is no onnx/model.onnx; found %s", strings.Join(others, ", ")).WithHint("name one of them in the place of the folder")
	}
	err := o.noWeights(o.transformer, weights)
	if engine.KindOf(err) == engine.KindModel && err.Hint == "" {
		err = o.fail(".", "the folder has no weights: neither onnx/model.onnx, model.onnx, nor %s", weightsFile)
	}
	return err
}

// otherGraphs returns the ONNX files that have none of the usual names, such as onnx/model_qint8_avx512.onnx.
func (o *embeddingOpener) otherGraphs() (names []string, err error) {
	for _, folder := range slices.Compact([]string{o.transformer, "."}) {
		for _, pattern := range []string{"onnx/*.onnx", "*.onnx"} {
			found, err := filepath.Glob(filepath.Join(globEscape(o.path(folder)), filepath.FromSlash(pattern)))
			if err != nil {
				return nil, o.fail(folder, "%w", err)
			}
			for _, f := range found {
				name, err := filepath.Rel(o.Folder, f)
				if err == nil && o.has(filepath.ToSlash(name)) {
					names = append(names, filepath.ToSlash(name))
				}
			}
		}
	}
	return names, nil
}

// globEscape keeps a folder's name from being read as a pattern.
func globEscape(name string) string {
	return strings.NewReplacer("*", "[*]", "?", "[?]", "[", "[[]").Replace(name)
}

// readIndex reads the list of the files that large weights are split into.
func (o *embeddingOpener) readIndex(index string) error {
	var file struct {
		Files map[string]string `json:"weight_map"`
	}
	if _, err := o.readJSON(index, &file); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, tensor := range sortedKeys(file.Files) {
		name := file.Files[tensor]
		if !isLocal(name) {
			return o.fail(index, "tensor %q lies in %q, which leads out of the model's folder", tensor, name)
		}
		if !seen[name] {
			seen[name] = true
			full := o.inTransformer(name)
			o.Weights = append(o.Weights, o.path(full))
			o.addGraph(full)
		}
	}
	if len(o.Weights) == 0 {
		return o.fail(index, "weight_map is empty")
	}
	o.graphFiles = append(o.graphFiles, index)
	slices.Sort(o.Weights)
	return nil
}

// addGraph counts a file among the model's, of which the graph is one or is made.
func (o *embeddingOpener) addGraph(name string) {
	o.Files, o.graphFiles = append(o.Files, name), append(o.graphFiles, name)
}

// readGraph sets inputs, output, and lengths of vectors.
func (o *embeddingOpener) readGraph(ctx context.Context) error {
	if o.ONNXPath != "" {
		return o.readONNXGraph(ctx)
	}
	if o.config == nil {
		return o.fail(o.inTransformer(configFile), "no such file; it says how the weights are to be used")
	}
	config, _, closeWeights, err := o.planGraph()
	if err != nil {
		return err
	}
	closeWeights()
	o.limits = append(o.limits, limit{config.MaxTokens(), o.inTransformer(configFile)})
	o.PadID, o.HiddenDim = config.PadID, config.Hidden
	o.Inputs = EmbeddingInputs{IDs: onnxgraph.InputIDs, Mask: onnxgraph.InputMask}
	if config.HasTokenTypes() {
		o.Inputs.Types = onnxgraph.InputTypes
	}
	o.Output = onnxgraph.Output
	return nil
}

// planGraph checks that a graph can be made of the weights. The caller calls the function when it is done with the graph.
func (e *Embedding) planGraph() (*onnxgraph.Config, *onnxgraph.Graph, func(), error) {
	config, err := onnxgraph.ParseConfig(filepath.Join(filepath.Dir(e.TokenizerPath), configFile), e.config)
	if err != nil {
		return nil, nil, nil, err
	}
	set, err := safetensors.OpenSet(e.Weights...)
	if err != nil {
		return nil, nil, nil, err
	}
	closeWeights := func() { _ = set.Close() } // Only read.
	graph, err := onnxgraph.New(config, set)
	if err != nil {
		closeWeights()
		var known *engine.Error
		if errors.As(err, &known) && known.ID == "" {
			known.ID = e.Weights[0]
		}
		return nil, nil, nil, err
	}
	return config, graph, closeWeights, nil
}

func (o *embeddingOpener) readONNXGraph(ctx context.Context) error {
	m := &Model{ONNXPath: o.ONNXPath}
	if err := m.readONNX(ctx); err != nil {
		return err
	}
	o.Quantized = m.Quantized
	external, err := externalFiles(m.ONNXPath, m.External)
	if err != nil {
		return err
	}
	for _, file := range append(external, o.ONNXPath) {
		name, err := filepath.Rel(o.Folder, file)
		if err != nil {
			return engine.Errorf(engine.KindModel, op, file, "%w", err)
		}
		o.addGraph(filepath.ToSlash(name))
	}
	fail := func(format string, args ...any) *engine.Error {
		return engine.Errorf(engine.KindModel, op, o.ONNXPath, format, args...)
	}
	places := map[string]*string{"input_ids": &o.Inputs.IDs, "attention_mask": &o.Inputs.Mask, "token_type_ids": &o.Inputs.Types}
	for _, input := range m.Inputs {
		place := places[input.Name]
		switch {
		case place == nil:
			return fail("the graph has an input %q that cannot be fed; known are input_ids, attention_mask, token_type_ids", input.Name)
		case input.Type != engine.Int64 || input.Shape != nil && len(input.Shape) != 2:
			return fail("input %s, expected int64 [batch, length]", input)
		case slices.ContainsFunc(input.Shape, func(d int64) bool { return d >= 0 }):
			return fail("input %s has a fixed shape, expected a free batch and length", input).WithHint("export the model with dynamic axes")
		}
		*place = input.Name
	}
	if o.Inputs.IDs == "" {
		return fail("the graph has no input input_ids")
	}
	output, err := o.chooseOutput(m)
	if err != nil {
		return err
	}
	if output.Type != engine.Float32 {
		return fail("output %s, expected float32", output)
	}
	o.Output, o.OutputPooled = output.Name, len(output.Shape) == 2
	dim := output.Shape[len(output.Shape)-1]
	switch {
	case o.OutputPooled && dim > 0:
		o.Dim = int(dim)
	case o.OutputPooled:
		// The modules say what the graph leaves open.
		if o.Dim = max(o.HiddenDim, o.poolingDim) * max(len(o.Pooling), 1); len(o.Dense) > 0 {
			o.Dim = o.Dense[len(o.Dense)-1].Out
		}
	case dim > 0:
		o.HiddenDim = int(dim)
	case o.HiddenDim == 0:
		o.HiddenDim = o.poolingDim
	}
	if max(o.Dim, o.HiddenDim) < 1 {
		return fail("neither the graph nor %s says how long the vectors of output %q are", configFile, o.Output)
	}
	return nil
}

// chooseOutput prefers the tokens' vectors where the folder says how to pool them, else what the graph has pooled.
func (o *embeddingOpener) chooseOutput(m *Model) (engine.TensorSpec, error) {
	tokens, pooled := []string{"last_hidden_state", "token_embeddings"}, []string{"sentence_embedding"}
	wanted := slices.Concat(tokens, pooled)
	if o.PoolingAssumed {
		wanted = slices.Concat(pooled, tokens)
	}
	var found []string
	for _, name := range wanted {
		for _, output := range m.Outputs {
			rank := 3
			if slices.Contains(pooled, name) {
				rank = 2
			}
			if output.Name == name && len(output.Shape) == rank {
				return output, nil
			}
		}
	}
	for _, output := range m.Outputs {
		found = append(found, output.String())
	}
	if len(m.Outputs) == 1 {
		if rank := len(m.Outputs[0].Shape); rank == 2 || rank == 3 {
			return m.Outputs[0], nil
		}
	}
	return engine.TensorSpec{}, engine.Errorf(engine.KindModel, op, o.ONNXPath,
		"none of the outputs is known to hold vectors: found %s; expected last_hidden_state or token_embeddings [batch, length, dim], or sentence_embedding [batch, dim]",
		strings.Join(found, ", "))
}

// Materialize returns the path of an ONNX file that evaluates the model: ONNXPath, or one that it writes into cacheDir, in a folder
// that is named by the model's digest. It writes once: the folder appears as a whole, so several goroutines and processes may
// call it at the same time. The folder stays until somebody deletes it.
func (e *Embedding) Materialize(ctx context.Context, cacheDir string) (onnxPath string, err error) {
	if e.ONNXPath != "" {
		return e.ONNXPath, nil
	}
	sum := strings.TrimPrefix(e.Digest, digestPrefix)
	if _, err := hex.DecodeString(sum); err != nil || sum == "" {
		return "", engine.Errorf(engine.KindInternal, op, e.Path, "digest %q", e.Digest)
	}
	folder := filepath.Join(cacheDir, sum+"-v"+strconv.Itoa(onnxgraph.Version))
	onnxPath = filepath.Join(folder, onnxgraph.ModelFile)
	if _, err := os.Stat(onnxPath); err == nil {
		return onnxPath, nil
	}
	if err := os.MkdirAll(cacheDir, 0o755); err != nil {
		return "", fileError(cacheDir, err)
	}
	staging, err := os.MkdirTemp(cacheDir, ".graph-*")
	if err != nil {
		return "", fileError(cacheDir, err)
	}
	defer func() { _ = os.RemoveAll(staging) }() // Of no use to anyone.
	_, graph, closeWeights, err := e.planGraph()
	if err != nil {
		return "", err
	}
	defer closeWeights()
	if err := graph.Write(ctx, staging); err != nil {
		return "", err
	}
	if err := os.Chmod(staging, 0o755); err != nil { //nolint:gosec // as other files of the cache
		return "", fileError(staging, err)
	}
	if err := os.Rename(staging, folder); err != nil {
		// Whoever was faster has written the same bytes.
		if _, errStat := os.Stat(onnxPath); errStat != nil {
			if errors.Is(err, fs.ErrExist) {
				return "", engine.Errorf(engine.KindCorrupt, op, folder, "the folder is in the way, and has no %s", onnxgraph.ModelFile).WithHint("delete it")
			}
			return "", fileError(folder, err)
		}
	}
	return onnxPath, nil
}
