package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/f708428e/engine/model/modeltest"
)

func TestModelInspectEmbedding(t *testing.T) {
	files := modeltest.Tiny("bert").Files()
	files["config_sentence_transformers.json"] = []byte(`{"prompts":{"query":"query: ","passage":"p: "},"default_prompt_name":"query"}`)
	folder := t.TempDir()
	modeltest.Write(t, folder, files)
	c := newConsole(t, nil)
	c.run(t, 0, "model", "inspect", folder)
	for _, want := range []string{
		"path:        " + folder + "\n", "kind:        embedding\n", "digest:      sha256:", " in 7 files\n",
		"inputs:      input_ids: int64[?, ?]\n             attention_mask: int64[?, ?]\n             token_type_ids: int64[?, ?]\n",
		"outputs:     last_hidden_state: float[?, ?, 16]\n", "graph:       made of bert weights when it is used\n", "dimension:   16\n",
		"vocabulary:  68 tokens\n", "max tokens:  32\n", "pooling:     mean\n", "normalize:   yes\n", "prompts:     passage \"p: \"\n             query \"query: \" (default)\n",
	} {
		if !strings.Contains(c.stdout.String(), want) {
			t.Errorf("got\n%s\nwithout\n%s", c.stdout, want)
		}
	}
	for _, name := range []string{"modules.json", "sentence_bert_config.json"} {
		if err := os.Remove(filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	c.run(t, 0, "model", "inspect", folder, "-o", "json")
	var v modelView
	if err := json.Unmarshal(c.stdout.Bytes(), &v); err != nil {
		t.Fatal(err)
	}
	if v.Kind != kindEmbedding || v.Embedding == nil || v.Embedding.Dim != 16 || v.Embedding.MaxTokens != 64 || !v.Embedding.PoolingAssumed || v.Embedding.Normalize {
		t.Errorf("got %+v, %+v", v, v.Embedding)
	}
	if err := os.Remove(filepath.Join(folder, "tokenizer.json")); err != nil {
		t.Fatal(err)
	}
	c.run(t, exitFailed, "model", "inspect", folder)
	c.wantErr(t, "error: open model: "+filepath.Join(folder, "tokenizer.json")+": the model has no tokenizer.json\n"+
		"  hint: a model folder has a tokenizer.json and config.json, and its weights as onnx/model.onnx or model.safetensors\n")
}

func TestModelInspectOtherKinds(t *testing.T) {
	c := newConsole(t, nil)
	for path, kind := range map[string]string{"../../examples/wine/model": kindMLflow, "../../examples/wine/model/model.onnx": kindONNX} {
		c.run(t, 0, "model", "inspect", path, "-o", "json")
		var v modelView
		if err := json.Unmarshal(c.stdout.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		if v.Kind != kind || v.Embedding != nil || len(v.Inputs) == 0 || len(v.Outputs) == 0 || v.Digest == "" {
			t.Errorf("%s: got %+v", path, v)
		}
	}
	c.run(t, exitFailed, "model", "inspect", filepath.Join(t.TempDir(), "none"))
}
