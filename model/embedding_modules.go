package model

import (
	"context"
	"path"
	"slices"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/model/safetensors"
)

// The configuration of the transformer has the name of the architecture for which it was written first.
var transformerConfigs = []string{
	"sentence_bert_config.json", "sentence_roberta_config.json", "sentence_distilbert_config.json", "sentence_camembert_config.json",
	"sentence_albert_config.json", "sentence_xlm-roberta_config.json", "sentence_xlnet_config.json",
}

// readModules reads modules.json and the configuration of each module. Without it, the folder is a plain one.
func (o *embeddingOpener) readModules(context.Context) error {
	var modules []struct {
		Name string `json:"name"`
		Path string `json:"path"`
		Type string `json:"type"`
	}
	o.transformer = "."
	found, err := o.readJSON(modulesFile, &modules)
	if err != nil {
		return err
	}
	if !found {
		o.Pooling, o.PoolingAssumed = []Pooling{PoolMean}, true
		return o.readTransformerConfig()
	}
	for i, m := range modules {
		folder := path.Clean(m.Path)
		if m.Path == "" {
			folder = "."
		}
		if !isLocal(folder) {
			return o.fail(modulesFile, "module %d: path %q leads out of the model's folder", i, m.Path)
		}
		kind := m.Type[strings.LastIndexByte(m.Type, '.')+1:]
		if !strings.HasPrefix(m.Type, "sentence_transformers.") {
			return o.fail(modulesFile, "module %d is of type %q; only modules of sentence_transformers can be run", i, m.Type)
		}
		switch kind {
		case "Transformer":
			o.transformer = folder
			err = o.readTransformerConfig()
		case "Pooling":
			err = o.readPooling(path.Join(folder, configFile))
		case "Dense":
			err = o.readDense(folder)
		case "Normalize":
			o.Normalize = true
		case "Dropout": // does nothing outside of training
		default:
			return o.fail(modulesFile, "module %d is of type %q; known are Transformer, Pooling, Dense, Normalize", i, m.Type)
		}
		if err != nil {
			return err
		}
		switch {
		case (i == 0) != (kind == "Transformer"):
			return o.fail(modulesFile, "module %d is of type %q; the first one, and only it, must be a Transformer", i, m.Type)
		case i == 1 && kind != "Pooling", i > 1 && kind == "Pooling":
			return o.fail(modulesFile, "module %d is of type %q; the second one, and only it, must be a Pooling", i, m.Type)
		case kind == "Dense" && o.Normalize:
			return o.fail(modulesFile, "module %d is a Dense after a Normalize, which is not supported", i)
		}
	}
	if len(modules) < 2 {
		return o.fail(modulesFile, "it has %d modules, expected a Transformer and a Pooling at least", len(modules))
	}
	return o.readPrompts()
}

func (o *embeddingOpener) readTransformerConfig() error {
	for _, name := range transformerConfigs {
		var file struct {
			MaxTokens *int   `json:"max_seq_length"`
			LowerCase bool   `json:"do_lower_case"`
			Task      string `json:"transformer_task"`
		}
		name = o.inTransformer(name)
		found, err := o.readJSON(name, &file)
		if err != nil {
			return err
		}
		if !found {
			continue
		}
		if file.Task != "" && file.Task != "feature-extraction" {
			return o.fail(name, "transformer_task %q; only \"feature-extraction\" is known", file.Task)
		}
		o.LowerCase = file.LowerCase
		if file.MaxTokens != nil {
			o.limits = append(o.limits, limit{*file.MaxTokens, name})
		}
		return nil
	}
	return nil
}

// poolingModes are the fields of a pooling's config, in the order in which sentence-transformers concatenates them.
var poolingModes = []struct {
	field   string
	pooling Pooling
}{
	{"pooling_mode_cls_token", PoolCLS}, {"pooling_mode_max_tokens", PoolMax}, {"pooling_mode_mean_tokens", PoolMean},
	{"pooling_mode_mean_sqrt_len_tokens", PoolMeanSqrtLen}, {"pooling_mode_weightedmean_tokens", PoolWeightedMean},
	{"pooling_mode_lasttoken", PoolLastToken},
}

func (o *embeddingOpener) readPooling(name string) error {
	var file map[string]any
	found, err := o.readJSON(name, &file)
	if err != nil {
		return err
	}
	if !found {
		return o.fail(name, "the pooling has no config.json")
	}
	modes := map[Pooling]bool{}
	for field, v := range file {
		switch field {
		case "word_embedding_dimension", "embedding_dimension":
			n, ok := v.(float64)
			if !ok || n < 1 || n > 1<<20 {
				return o.fail(name, "%s is %v", field, v)
			}
			o.poolingDim = int(n)
		case "include_prompt":
			if v == false {
				return o.fail(name, "include_prompt is false; pooling without the prompt's tokens is not supported")
			}
		case "pooling_mode": // newer files have one name or a list of them
			names, ok := v.([]any)
			if !ok {
				names = []any{v}
			}
			for _, n := range names {
				text, _ := n.(string)
				if !slices.ContainsFunc(poolingModes, func(m struct {
					field   string
					pooling Pooling
				}) bool {
					return m.pooling == Pooling(text)
				}) {
					return o.fail(name, "unknown pooling_mode %v", n)
				}
				modes[Pooling(text)] = true
			}
		default:
			on, isBool := v.(bool)
			if !strings.HasPrefix(field, "pooling_mode") || isBool && !on || v == nil {
				continue
			}
			known := false
			for _, m := range poolingModes {
				if m.field == field && isBool {
					known, modes[m.pooling] = true, true
				}
			}
			if !known {
				return o.fail(name, "unknown pooling %q", field)
			}
		}
	}
	for _, m := range poolingModes {
		if modes[m.pooling] {
			o.Pooling = append(o.Pooling, m.pooling)
		}
	}
	if len(o.Pooling) == 0 {
		return o.fail(name, "no pooling is switched on")
	}
	return nil
}

// activations maps the classes of torch to ours.
var activations = map[string]string{
	"torch.nn.modules.linear.Identity": ActivationIdentity, "torch.nn.modules.activation.Tanh": ActivationTanh,
	"torch.nn.modules.activation.GELU": ActivationGELU, "torch.nn.modules.activation.ReLU": ActivationReLU,
}

func (o *embeddingOpener) readDense(folder string) (err error) {
	file := struct {
		In         int    `json:"in_features"`
		Out        int    `json:"out_features"`
		Bias       bool   `json:"bias"`
		Activation string `json:"activation_function"`
		Input      string `json:"module_input_name"`
		Output     string `json:"module_output_name"`
	}{Bias: true, Activation: "torch.nn.modules.activation.Tanh"}
	name := path.Join(folder, configFile)
	found, err := o.readJSON(name, &file)
	const most = 1 << 16
	activation, known := activations[file.Activation]
	switch {
	case err != nil:
		return err
	case !found:
		return o.fail(name, "the Dense module has no config.json")
	case file.In < 1 || file.Out < 1 || file.In > most || file.Out > most:
		return o.fail(name, "in_features %d, out_features %d", file.In, file.Out)
	case !known:
		return o.fail(name, "unknown activation_function %q; known are Identity, Tanh, GELU, ReLU of torch.nn", file.Activation)
	}
	for _, tensor := range []string{file.Input, file.Output} {
		if tensor != "" && tensor != "sentence_embedding" {
			return o.fail(name, "the Dense module reads or writes %q; only \"sentence_embedding\" is known", tensor)
		}
	}
	weights := path.Join(folder, weightsFile)
	if !o.has(weights) {
		return o.noWeights(folder, weights)
	}
	o.Files = append(o.Files, weights)
	f, err := safetensors.Open(o.path(weights))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // Only read.
	read := func(tensor string, shape ...int64) ([]float32, error) {
		t, ok := f.Tensor(tensor)
		if !ok || !slices.Equal(t.Shape, shape) {
			return nil, o.fail(weights, "found %v for tensor %q, expected %v by %s", t.Shape, tensor, shape, configFile)
		}
		values := make([]float32, t.Elements)
		return values, f.ReadFloat32(tensor, 0, values)
	}
	d := Dense{In: file.In, Out: file.Out, Activation: activation}
	if d.Weight, err = read("linear.weight", int64(d.Out), int64(d.In)); err != nil {
		return err
	}
	if file.Bias {
		if d.Bias, err = read("linear.bias", int64(d.Out)); err != nil {
			return err
		}
	}
	o.Dense = append(o.Dense, d)
	return nil
}

// noWeights says what a folder without safetensors has instead.
func (o *embeddingOpener) noWeights(folder, wanted string) *engine.Error {
	err := o.fail(wanted, "no such file")
	for _, pickle := range []string{pickleFile, pickleFile + ".index.json"} {
		if o.has(path.Join(folder, pickle)) {
			return o.fail(path.Join(folder, pickle), "the weights are a Python pickle, which may hold code, and is not read").
				WithHint("a current version of sentence-transformers writes safetensors: SentenceTransformer(DIR).save(NEW_DIR)")
		}
	}
	return err
}

func (o *embeddingOpener) readPrompts() error {
	var file struct {
		Prompts map[string]*string `json:"prompts"`
		Default *string            `json:"default_prompt_name"`
	}
	if _, err := o.readJSON(promptsFile, &file); err != nil {
		return err
	}
	for name, text := range file.Prompts {
		if text == nil {
			continue
		}
		if o.Prompts == nil {
			o.Prompts = map[string]string{}
		}
		o.Prompts[name] = *text
	}
	if file.Default != nil && *file.Default != "" {
		if _, ok := o.Prompts[*file.Default]; !ok {
			return o.fail(promptsFile, "default_prompt_name %q is not among the prompts", *file.Default)
		}
		o.DefaultPrompt = *file.Default
	}
	return nil
}

// checkModules compares lengths of vectors from module to module, and sets Dim.
func (o *embeddingOpener) checkModules(context.Context) error {
	if o.OutputPooled {
		// The graph holds all modules.
		o.Dense = nil
		return nil
	}
	if o.poolingDim > 0 && o.poolingDim != o.HiddenDim {
		return o.fail(modulesFile, "pooling expects vectors of %d, the model gives %d", o.poolingDim, o.HiddenDim)
	}
	o.Dim = o.HiddenDim * len(o.Pooling)
	for i, d := range o.Dense {
		if d.In != o.Dim {
			return o.fail(modulesFile, "Dense module %d expects vectors of %d, the one before it gives %d", i, d.In, o.Dim)
		}
		o.Dim = d.Out
	}
	return nil
}
