package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/f708428e/engine/model/hub/hubtest"
	"github.com/f708428e/engine/model/modeltest"
)

func TestModelImport(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "tiny")
	modeltest.Write(t, folder, modeltest.Tiny("bert").Files())
	c := newConsole(t, nil)
	c.run(t, 0, "model", "list")
	c.run(t, 0, "model", "import", folder)
	for _, want := range []string{"name:       tiny\n", "digest:     sha256:", "dimension:  16\n", "path:       " + filepath.Join(c.cache, "engine", "models") + "/", "source:     " + folder + "\n"} {
		if !strings.Contains(c.stdout.String(), want) {
			t.Errorf("got\n%s\nwithout\n%s", c.stdout, want)
		}
	}
	c.run(t, 0, "model", "list", "-o", "json")
	var all []importedView
	if err := json.Unmarshal(c.stdout.Bytes(), &all); err != nil || len(all) != 1 || all[0].Name != "tiny" || all[0].Dim != 16 || all[0].Imported != testNow.UTC().Format(time.RFC3339) {
		t.Errorf("got %+v, %v", all, err)
	}
	c.run(t, 0, "model", "list")
	if !strings.Contains(c.stdout.String(), "tiny") {
		t.Errorf("got %s", c.stdout)
	}
	c.run(t, exitUsage, "model", "import", folder, "--name", "../x")
	c.run(t, exitFailed, "model", "import", folder+"-none")
}

// TestModelOfJob looks at the paths that job files' names become.
func TestModelOfJob(t *testing.T) {
	server := hubtest.New(t, "org/tiny", modeltest.Tiny("bert").Files())
	folder := filepath.Join(t.TempDir(), "tiny-2")
	modeltest.Write(t, folder, modeltest.Tiny("mpnet").Files())
	c := newConsole(t, nil)
	env := map[string]string{"HF_ENDPOINT": server.URL}
	c.app.env = func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	c.run(t, 0, "model", "import", folder, "--data-dir", filepath.Join(c.cache, "own"))
	var imported importedView
	c.run(t, 0, "model", "import", "hf://org/tiny", "-o", "json")
	if err := json.Unmarshal(c.stdout.Bytes(), &imported); err != nil || imported.Name != "tiny" || imported.Source != "hf://org/tiny@"+hubtest.Commit {
		t.Errorf("got %+v, %v", imported, err)
	}
	c.run(t, 0, "model", "inspect", "tiny")
	if !strings.Contains(c.stdout.String(), imported.Path) {
		t.Errorf("got %s", c.stdout)
	}
	job := func(model string) string {
		return writeJob(t, "source: {csv: {paths: [a.csv]}}\nsteps: [{embed: {model: '"+model+"', text: [t]}}]\nsink: {parquet: {path: out}}\n")
	}
	find := func(model, dataDir string) string {
		t.Helper()
		spec, err := c.app.loadJob(t.Context(), job(model), nil, dataDir)
		if err != nil {
			t.Fatal(err)
		}
		return spec.GetSteps()[0].GetEmbed().GetModel()
	}
	before := len(server.Requests())
	for _, name := range []string{"tiny", "hf://org/tiny", "hf://org/tiny@" + hubtest.Commit} {
		if got := find(name, ""); got != imported.Path {
			t.Errorf("%s: got %s", name, got)
		}
	}
	if len(server.Requests()) != before {
		t.Error("what is here was asked for")
	}
	if got := find("hf://org/tiny@v1", ""); got != imported.Path {
		t.Errorf("got %s", got)
	}
	own := filepath.Join(c.cache, "own")
	if got := find("tiny-2", own); !strings.HasPrefix(got, own) {
		t.Errorf("got %s", got)
	}
	if got := find("tiny", own); got != imported.Path {
		t.Errorf("got %s", got)
	}
	// A folder beside the job file comes first.
	path := job("tiny")
	if err := os.Mkdir(filepath.Join(filepath.Dir(path), "tiny"), 0o700); err != nil {
		t.Fatal(err)
	}
	if spec, err := c.app.loadJob(t.Context(), path, nil, ""); err != nil || spec.GetSteps()[0].GetEmbed().GetModel() != filepath.Join(filepath.Dir(path), "tiny") {
		t.Errorf("got %v, %v", spec, err)
	}
	for _, command := range []string{"run", "submit"} {
		c.run(t, exitUsage, command, job("tiny-2"))
		if got := c.stderr.String(); !strings.Contains(got, "wine.yaml:2:25: steps.0.embed.model: find model: tiny-2: there is no file or folder, and no imported model, of that name") ||
			!strings.Contains(got, "imported are tiny; a path is relative to the job file") {
			t.Errorf("got %s", got)
		}
		c.run(t, exitUsage, command, job("hf://org/other"))
		if got := c.stderr.String(); !strings.Contains(got, "there is no such model") {
			t.Errorf("got %s", got)
		}
	}
	server.Intercept = func(w http.ResponseWriter, _ *http.Request, _ bool) bool {
		w.WriteHeader(http.StatusForbidden)
		return true
	}
	env["HF_TOKEN"] = "hf_secret"
	c.run(t, exitFailed, "run", job("hf://org/gated"))
	if got := c.stderr.String(); !strings.Contains(got, "gated or private") || strings.Contains(got, "secret") {
		t.Errorf("got %s", got)
	}
	env["HF_ENDPOINT"] = "nowhere"
	c.run(t, exitUsage, "model", "import", "hf://org/gated")
	c.wantErr(t, "error: download model: HF_ENDPOINT is not the URL of a hub\n  hint: write HF_ENDPOINT=https://huggingface.co\n")
	env["ENGINE_MODELS"] = filepath.Join(own, "models")
	c.run(t, 0, "model", "list", "-o", "json")
	if !strings.Contains(c.stdout.String(), `"tiny-2"`) {
		t.Errorf("got %s", c.stdout)
	}
}
