package hub

import (
	"encoding/json"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/model/onnxgraph"
)

// Names of files.
const (
	modulesName   = "modules.json"
	configName    = "config.json"
	tokenizerName = "tokenizer.json"
	weightsName   = "model.safetensors"
	indexName     = "model.safetensors.index.json"
)

var (
	transformerConfig = regexp.MustCompile(`^sentence_[a-z-]+_config\.json$`)
	shard             = regexp.MustCompile(`^model-\d+-of-\d+\.safetensors$`)
)

// layout is what modules.json says of the folders.
type layout struct {
	// transformer is the folder of the transformer; "." for the whole.
	transformer string
	// others are those of the modules after it.
	others []string
}

// readLayout reads the content of modules.json, which may be missing. What is wrong with it, opening the model will say.
func readLayout(modules []byte) layout {
	l := layout{transformer: "."}
	var list []struct {
		Path string `json:"path"`
	}
	if json.Unmarshal(modules, &list) != nil {
		return l
	}
	for i, m := range list {
		if folder := path.Clean(m.Path); i == 0 {
			l.transformer = folder
		} else if folder != "." {
			l.others = append(l.others, folder)
		}
	}
	return l
}

// choose returns the names of the files that the engine needs, sorted. config is the content of the transformer's config.json.
//
// Weights that the engine can make a graph of are preferred to a graph: that of the hub is not made for ONNX Runtime, and no smaller.
func (s *Snapshot) choose(l layout, config []byte) ([]string, error) {
	has := func(name string) bool { _, ok := s.files[name]; return ok }
	fail := func(format string, args ...any) *engine.Error {
		return engine.Errorf(engine.KindModel, op, s.Ref.String(), format, args...)
	}
	chosen := map[string]bool{}
	take := func(names ...string) {
		for _, name := range names {
			if has(name) {
				chosen[name] = true
			}
		}
	}
	in := func(name string) string { return path.Join(l.transformer, name) }
	if !has(in(tokenizerName)) {
		return nil, fail("it has no %s, so it is no model that the engine can embed with", in(tokenizerName)).
			WithHint("sentence embedding models have one; transformers.AutoTokenizer.from_pretrained(…).save_pretrained(DIR) makes it for an older one")
	}
	take(modulesName, "config_sentence_transformers.json", in(configName), in(tokenizerName), in("tokenizer_config.json"))
	for name := range s.files {
		if path.Dir(name) == l.transformer && transformerConfig.MatchString(path.Base(name)) {
			take(name)
		}
	}
	for _, folder := range l.others {
		take(path.Join(folder, configName), path.Join(folder, weightsName))
	}
	_, unknown := onnxgraph.ParseConfig(s.Ref.String(), config)
	weights := has(in(weightsName)) || has(in(indexName))
	graphs := s.graphs(l)
	switch {
	case weights && unknown == nil && has(in(weightsName)):
		take(in(weightsName))
	case weights && unknown == nil:
		take(in(indexName))
		for name := range s.files {
			if path.Dir(name) == l.transformer && shard.MatchString(path.Base(name)) {
				take(name)
			}
		}
	case len(graphs) == 1:
		take(graphs[0])
		for name := range s.files {
			// What torch writes beside a large graph: model.onnx_data, model.onnx.data, model.onnx_data_1.
			if rest, ok := strings.CutPrefix(name, graphs[0]); ok && (strings.HasPrefix(rest, "_data") || strings.HasPrefix(rest, ".data")) {
				take(name)
			}
		}
	case len(graphs) > 1:
		return nil, fail("it has no onnx/model.onnx, but %s", strings.Join(graphs, ", ")).
			WithHint("download one of them with its configuration, and import the folder")
	case weights:
		return nil, unknown
	case has(in("pytorch_model.bin")) || has(in("pytorch_model.bin.index.json")):
		return nil, fail("its weights are a Python pickle, which may hold code, and is not read").
			WithHint("ask for a revision with %s, such as @refs/pr/1, or save it with a current version of sentence-transformers", weightsName)
	default:
		return nil, fail("it has no weights: neither %s nor onnx/model.onnx", in(weightsName))
	}
	return slices.Sorted(maps.Keys(chosen)), nil
}

// graphs returns the ONNX file with the usual name, or else all that there are.
func (s *Snapshot) graphs(l layout) []string {
	folders := slices.Compact([]string{l.transformer, "."})
	for _, name := range []string{"onnx/model.onnx", "model.onnx"} {
		for _, folder := range folders {
			if full := path.Join(folder, name); s.files[full].name != "" {
				return []string{full}
			}
		}
	}
	var all []string
	for name := range s.files {
		folder := path.Dir(name)
		if strings.HasSuffix(name, ".onnx") && (slices.Contains(folders, folder) || path.Base(folder) == "onnx" && slices.Contains(folders, path.Dir(folder))) {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}
