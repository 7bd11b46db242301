package model

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/tokenizer"
)

// OpenEmbedding reads the folder of a sentence embedding model: one of sentence-transformers (modules.json), or a plain one of the
// transformers library (config.json and tokenizer.json). path may also name an ONNX file in such a folder, or in a folder within it;
// otherwise onnx/model.onnx is taken, else model.onnx, else model.safetensors, of which Materialize makes a graph, else the only other
// ONNX file there is, such as onnx/model_int8.onnx. All of the model's files are read once, for the digest. Symbolic links to configuration, tokenizer, and weights are followed.
//
// The error has kind engine.KindNotFound if path does not exist, engine.KindInvalidArgument for a URI, and engine.KindModel for
// everything that is wrong with the model.
func OpenEmbedding(ctx context.Context, path string) (*Embedding, error) {
	if scheme, ok := uriScheme(path); ok {
		err := engine.Errorf(engine.KindInvalidArgument, op, path, "%s models are not available in this version", scheme).
			WithHint("name a folder with a tokenizer.json")
		if scheme == "hf://" {
			err = engine.Errorf(engine.KindInvalidArgument, op, path, "the model is not here").WithHint("`engine model import %s` downloads it", path)
		}
		return nil, err
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, engine.Errorf(engine.KindInvalidArgument, op, path, "%w", err)
	}
	info, err := os.Stat(absolute)
	if err != nil {
		return nil, fileError(path, err)
	}
	o := &embeddingOpener{Embedding: &Embedding{Path: absolute, Folder: absolute}}
	if !info.IsDir() {
		if o.Folder, err = folderOf(absolute); err != nil {
			return nil, err
		}
		o.ONNXPath = absolute
	}
	for _, step := range []func(context.Context) error{
		o.readModules, o.readConfig, o.readTokenizer, o.findGraph, o.readGraph, o.checkModules, o.finish,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return o.Embedding, nil
}

// IsEmbedding reports whether path is what OpenEmbedding opens, rather than Open: a folder that is no MLflow model, or an ONNX file
// beside a tokenizer or in a folder beside one.
func IsEmbedding(path string) bool {
	there := func(parts ...string) bool {
		_, err := os.Stat(filepath.Join(parts...))
		return err == nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	if info.IsDir() {
		return !there(path, mlmodelName)
	}
	folder := filepath.Dir(path)
	return strings.HasSuffix(path, ".onnx") && !there(folder, mlmodelName) && (there(folder, tokenizerFile) || there(folder, "..", tokenizerFile))
}

// folderOf returns the model folder that an ONNX file belongs to.
func folderOf(file string) (string, error) {
	folder := filepath.Dir(file)
	for _, candidate := range []string{folder, filepath.Dir(folder)} {
		for _, name := range []string{modulesFile, tokenizerFile} {
			if _, err := os.Stat(filepath.Join(candidate, name)); err == nil {
				return candidate, nil
			}
		}
	}
	return "", engine.Errorf(engine.KindModel, op, file, "there is no %s beside it, nor in the folder above", tokenizerFile).
		WithHint("an embedding model is a folder with its tokenizer.json")
}

// Names of the files of a folder.
const (
	modulesFile         = "modules.json"
	tokenizerFile       = "tokenizer.json"
	tokenizerConfigFile = "tokenizer_config.json"
	configFile          = "config.json"
	weightsFile         = "model.safetensors"
	weightsIndexFile    = "model.safetensors.index.json"
	pickleFile          = "pytorch_model.bin"
	promptsFile         = "config_sentence_transformers.json"
)

// maxConfigBytes bounds a JSON file of the folder, tokenizers aside.
const maxConfigBytes = 64 << 20

// embeddingOpener fills in an Embedding.
type embeddingOpener struct {
	*Embedding
	// transformer is the folder of the transformer itself, relative to Folder, with slashes; "." for Folder.
	transformer string
	// limits are the numbers of tokens that the files allow, by the file that says so.
	limits []limit
	// vocabulary is the number of rows of the table of tokens; 0 if unknown.
	vocabulary int
	// vocabularySource is the file that says so.
	vocabularySource string
	// poolingDim is the length of the tokens' vectors by the pooling's config; 0 if unknown.
	poolingDim int
	// configPad is config.json's pad_token_id, or nil.
	configPad *int
}

type limit struct {
	tokens int
	source string
}

func (o *embeddingOpener) fail(name, format string, args ...any) *engine.Error {
	return engine.Errorf(engine.KindModel, op, o.path(name), format, args...)
}

func (o *embeddingOpener) path(name string) string {
	return filepath.Join(o.Folder, filepath.FromSlash(name))
}

// inTransformer returns the name, relative to Folder, of a file of the transformer.
func (o *embeddingOpener) inTransformer(name string) string { return path.Join(o.transformer, name) }

// has reports whether the file is there.
func (o *embeddingOpener) has(name string) bool {
	info, err := os.Stat(o.path(name))
	return err == nil && info.Mode().IsRegular()
}

// read returns the content of a file, which then counts as one of the model's. Nil, if it is not there.
func (o *embeddingOpener) read(name string) ([]byte, error) {
	file, err := engine.OpenRegular(o.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fileError(o.path(name), err)
	}
	defer func() { _ = file.Close() }() // Only read.
	content, err := io.ReadAll(io.LimitReader(file, maxConfigBytes+1))
	if err != nil {
		return nil, fileError(o.path(name), err)
	}
	if len(content) > maxConfigBytes {
		return nil, o.fail(name, "it has more than %d bytes", maxConfigBytes)
	}
	o.Files = append(o.Files, name)
	return content, nil
}

// readJSON decodes a file and reports whether it is there.
func (o *embeddingOpener) readJSON(name string, into any) (bool, error) {
	content, err := o.read(name)
	if err != nil || content == nil {
		return false, err
	}
	if err := json.Unmarshal(content, into); err != nil {
		return false, o.fail(name, "%w", err)
	}
	return true, nil
}

// readConfig reads config.json, as far as it does not concern the graph that may be made.
func (o *embeddingOpener) readConfig(context.Context) error {
	name := o.inTransformer(configFile)
	content, err := o.read(name)
	if err != nil || content == nil {
		return err
	}
	var file struct {
		ModelType  string `json:"model_type"`
		Hidden     int    `json:"hidden_size"`
		Dim        int    `json:"dim"` // of DistilBERT
		Positions  int    `json:"max_position_embeddings"`
		Vocabulary int    `json:"vocab_size"`
		PadID      *int   `json:"pad_token_id"`
	}
	if err := json.Unmarshal(content, &file); err != nil {
		return o.fail(name, "%w", err)
	}
	o.config, o.ModelType, o.configPad = content, file.ModelType, file.PadID
	if o.HiddenDim = file.Hidden; o.HiddenDim == 0 {
		o.HiddenDim = file.Dim
	}
	if o.vocabulary = file.Vocabulary; o.vocabulary > 0 {
		o.vocabularySource = name
	}
	if positions := file.Positions; positions > 0 {
		switch file.ModelType {
		case "roberta", "xlm-roberta", "camembert", "mpnet":
			// Positions begin after the padding's id, which is 1 unless the file says otherwise.
			pad := 1
			if file.PadID != nil {
				pad = *file.PadID
			}
			positions -= pad + 1
		}
		o.limits = append(o.limits, limit{positions, name})
	}
	return nil
}

func (o *embeddingOpener) readTokenizer(context.Context) error {
	name := o.inTransformer(tokenizerFile)
	if !o.has(name) {
		err := o.fail(name, "the model has no %s", tokenizerFile)
		for _, other := range []string{"vocab.txt", "sentencepiece.bpe.model", "vocab.json"} {
			if o.has(o.inTransformer(other)) {
				return err.WithHint("only %s is read; transformers.AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR) makes it of %s", tokenizerFile, other)
			}
		}
		return err.WithHint("a model folder has a tokenizer.json and config.json, and its weights as onnx/model.onnx or model.safetensors")
	}
	o.TokenizerPath = o.path(name)
	o.Files = append(o.Files, name)
	var file struct {
		MaxLength float64 `json:"model_max_length"`
	}
	name = o.inTransformer(tokenizerConfigFile)
	if _, err := o.readJSON(name, &file); err != nil {
		return err
	}
	// The library writes 1e30 for no limit.
	if file.MaxLength >= 1 && file.MaxLength < 1<<30 {
		o.limits = append(o.limits, limit{int(file.MaxLength), name})
	}
	return nil
}

// parseTokenizer checks that the tokenizer is the model's.
func (o *embeddingOpener) parseTokenizer() (err error) {
	if o.Tokenizer, err = tokenizer.Open(o.TokenizerPath); err != nil {
		return err
	}
	if n := o.Tokenizer.VocabSize(); o.vocabulary > 0 && n > o.vocabulary {
		return o.fail(o.inTransformer(tokenizerFile), "the tokenizer has ids up to %d, the model's table only %d rows (%s)", n-1, o.vocabulary, o.vocabularySource).
			WithHint("tokenizer and weights are of different models")
	}
	if o.ONNXPath == "" {
		return nil // The padding is that of the weights.
	}
	if id, ok := o.Tokenizer.PadID(); ok {
		o.PadID = int(id)
	} else if o.configPad != nil {
		o.PadID = *o.configPad
	}
	return nil
}

// finish sets what follows from all files, and the digest.
func (o *embeddingOpener) finish(ctx context.Context) error {
	if len(o.limits) == 0 {
		return o.fail(o.inTransformer(configFile), "no file says how many tokens a text may have").
			WithHint("sentence_bert_config.json may give max_seq_length, config.json max_position_embeddings")
	}
	smallest := slices.MinFunc(o.limits, func(a, b limit) int { return a.tokens - b.tokens })
	if o.MaxTokens = smallest.tokens; o.MaxTokens < 1 {
		return o.fail(smallest.source, "texts may have %d tokens", o.MaxTokens)
	}
	slices.Sort(o.Files)
	o.Files = slices.Compact(o.Files)
	// To read the tokenizer takes about as long as to hash the weights.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var hashing sync.WaitGroup
	var failed error
	hashing.Go(func() { o.Digest, o.SizeBytes, failed = digest(ctx, o.Folder, o.Files) })
	err := o.parseTokenizer()
	if err != nil {
		cancel()
	}
	hashing.Wait()
	return cmp.Or(err, failed)
}

// Verify returns an error of kind engine.KindModel if the model's digest is not want.
func (e *Embedding) Verify(want string) error { return verify(e.Path, e.Digest, want) }

// isLocal reports whether name is a path within the folder on every system.
func isLocal(name string) bool {
	return filepath.IsLocal(filepath.FromSlash(name)) && !strings.ContainsAny(name, "\\:")
}
