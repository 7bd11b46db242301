package registry_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/model"
	"github.com/f708428e/engine/model/hub"
	"github.com/f708428e/engine/model/hub/hubtest"
	"github.com/f708428e/engine/model/modeltest"
	"github.com/f708428e/engine/model/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var now = time.Date(2026, 11, 27, 1, 2, 3, 0, time.UTC)

// tree lists what a folder holds, names of files alone.
func tree(t testing.TB, folder string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(folder, path)
			names = append(names, filepath.ToSlash(name))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func digestOf(t testing.TB, path string) string {
	t.Helper()
	e, err := model.OpenEmbedding(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return e.Digest
}

func TestImport(t *testing.T) {
	source := modeltest.Tiny("bert").Folder(t)
	folder := filepath.Join(t.TempDir(), "models")
	r := registry.New(folder)
	if all, err := r.List(); err != nil || len(all) != 0 {
		t.Errorf("got %v, %v", all, err)
	}
	e, err := r.Import(t.Context(), source, "tiny", now)
	if err != nil {
		t.Fatal(err)
	}
	digest := digestOf(t, source)
	sum := strings.TrimPrefix(digest, "sha256:")
	want := registry.Entry{Name: "tiny", Digest: digest, Path: filepath.Join(folder, sum), Kind: "embedding", Dim: 16, SizeBytes: e.SizeBytes, Source: source, Imported: now}
	if fmt.Sprintf("%+v", e) != strings.Replace(fmt.Sprintf("%+v", want), "inside:", "inside:.", 1) || e.SizeBytes < 1000 {
		t.Errorf("got %+v, want %+v", e, want)
	}
	if digestOf(t, e.Path) != digest {
		t.Error("the copy has another digest")
	}
	// README.md is not the model's.
	names := tree(t, folder)
	if len(names) != 7 || slices.Contains(names, sum+"/README.md") || !slices.Contains(names, "names/tiny.json") {
		t.Errorf("got %q", names)
	}
	if found, err := r.Find("tiny"); err != nil || found != e {
		t.Errorf("got %+v, %v", found, err)
	}
	if _, err := r.Import(t.Context(), source, "org/tiny-2", now); err != nil {
		t.Error(err)
	}
	modeltest.Write(t, source, map[string][]byte{"sentence_bert_config.json": []byte(`{"max_seq_length":31}`)})
	moved, err := r.Import(t.Context(), source, "tiny", now)
	if err != nil || moved.Digest == digest {
		t.Errorf("got %+v, %v", moved, err)
	}
	all, err := r.List()
	if err != nil || len(all) != 2 || all[0].Name != "org/tiny-2" || all[0].Digest != digest || all[1] != moved {
		t.Errorf("got %+v, %v", all, err)
	}
	if err := os.RemoveAll(moved.Path); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Find("tiny"); engine.KindOf(err) != engine.KindNotFound || !strings.Contains(err.Error(), "files are gone") {
		t.Errorf("got %v", err)
	}
	if all, err := r.List(); err != nil || len(all) != 1 {
		t.Errorf("got %+v, %v", all, err)
	}
}

func TestImportOtherKinds(t *testing.T) {
	const wine = "../../examples/wine/model"
	r := registry.New(t.TempDir())
	for path, want := range map[string]struct{ kind, base string }{
		wine: {"mlflow", ""}, wine + "/model.onnx": {"onnx", "model.onnx"},
	} {
		m, err := model.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		e, err := r.Import(t.Context(), path, "wine", now)
		if err != nil || e.Kind != want.kind || e.Digest != m.Digest || !strings.HasSuffix(e.Path, want.base) || e.Dim != 0 {
			t.Errorf("%s: got %+v, %v", path, e, err)
			continue
		}
		if copied, err := model.Open(t.Context(), e.Path); err != nil || copied.Digest != m.Digest {
			t.Errorf("%s: %v", path, err)
		}
	}
	// A file that another name has too, and whose content is there already.
	content, err := os.ReadFile(wine + "/model.onnx")
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "elastic.onnx")
	if err := os.WriteFile(other, content, 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := r.Import(t.Context(), other, "", now)
	if err != nil || e.Name != "elastic" {
		t.Fatal(e, err)
	}
	if _, err := model.Open(t.Context(), e.Path); err != nil {
		t.Error(err)
	}
}

// TestImportNamedGraph: the named file is what counts, not the weights that would be taken otherwise.
func TestImportNamedGraph(t *testing.T) {
	files := modeltest.Tiny("bert").Files()
	content, err := os.ReadFile("../../examples/wine/model/model.onnx")
	if err != nil {
		t.Fatal(err)
	}
	files["onnx/model_int8.onnx"] = content
	folder := t.TempDir()
	modeltest.Write(t, folder, files)
	r := registry.New(t.TempDir())
	if _, err := r.Import(t.Context(), filepath.Join(folder, "onnx", "model_int8.onnx"), "", now); engine.KindOf(err) != engine.KindModel {
		t.Errorf("a graph that does not take tokens: got %v", err)
	}
	if all, err := r.List(); err != nil || len(all) != 0 {
		t.Errorf("got %+v, %v", all, err)
	}
}

func TestImportRefuses(t *testing.T) {
	source := modeltest.Tiny("bert").Folder(t)
	folder := t.TempDir()
	r := registry.New(folder)
	for _, name := range []string{"a/b/c", "../x", "/x", "-x", ".x", "a b", "hf://a/b", "x.onnx", "a/", strings.Repeat("a", 100), "models:/x", "a\n"} {
		if _, err := r.Import(t.Context(), source, name, now); engine.KindOf(err) != engine.KindInvalidArgument {
			t.Errorf("%q: got %v", name, err)
		}
		if _, err := r.Find(name); engine.KindOf(err) != engine.KindNotFound {
			t.Errorf("%q: found, %v", name, err)
		}
	}
	if err := os.Remove(filepath.Join(source, "tokenizer.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Import(t.Context(), source, "x", now); engine.KindOf(err) != engine.KindModel {
		t.Errorf("got %v", err)
	}
	if _, err := r.Import(t.Context(), filepath.Join(source, "none"), "x", now); engine.KindOf(err) != engine.KindNotFound {
		t.Errorf("got %v", err)
	}
	if names := tree(t, folder); len(names) != 0 {
		t.Errorf("left behind: %q", names)
	}
}

func TestDamaged(t *testing.T) {
	source := modeltest.Tiny("bert").Folder(t)
	r := registry.New(t.TempDir())
	e, err := r.Import(t.Context(), source, "tiny", now)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(e.Path, "sentence_bert_config.json")
	if err := os.Remove(config); err != nil {
		t.Fatal(err)
	}
	if digestOf(t, e.Path) == e.Digest {
		t.Fatal("nothing is damaged")
	}
	again, err := r.Import(t.Context(), source, "tiny", now)
	if err != nil || again != e || digestOf(t, e.Path) != e.Digest {
		t.Errorf("got %+v, %v", again, err)
	}
}

func TestNameFileIsNotTrusted(t *testing.T) {
	folder := t.TempDir()
	r := registry.New(folder)
	for _, content := range []string{
		"", "{", "null", `{"name":"x","digest":"sha256:..","inside":"."}`,
		`{"name":"x","digest":"sha256:` + strings.Repeat("a", 64) + `","inside":"../../x"}`, `{"name":"x","digest":"md5:` + strings.Repeat("a", 64) + `","inside":"."}`,
	} {
		modeltest.Write(t, folder, map[string][]byte{"names/x.json": []byte(content)})
		if _, err := r.Find("x"); engine.KindOf(err) != engine.KindCorrupt {
			t.Errorf("%s: got %v", content, err)
		}
		if all, err := r.List(); err != nil || len(all) != 0 {
			t.Errorf("%s: got %+v, %v", content, all, err)
		}
	}
}

func TestConcurrentImports(t *testing.T) {
	source := modeltest.Tiny("bert").Folder(t)
	folder := t.TempDir()
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			if e, err := registry.New(folder).Import(t.Context(), source, fmt.Sprint("tiny", i%2), now); err != nil || e.Path == "" {
				t.Errorf("got %+v, %v", e, err)
			}
		})
	}
	wait.Wait()
	if names := tree(t, folder); len(names) != 8 {
		t.Errorf("got %q", names)
	}
}

func client(t testing.TB, s *hubtest.Server) *hub.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := hub.New(hub.Config{Endpoint: s.URL, Transport: transport, Backoff: time.Microsecond})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPull(t *testing.T) {
	s := hubtest.New(t, "org/tiny", modeltest.Tiny("bert").Files())
	folder := t.TempDir()
	r := registry.New(folder)
	ref := hub.Ref{Org: "org", Name: "tiny"}
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			e, err := r.Pull(t.Context(), client(t, s), ref, "tiny", now)
			if err != nil || e.Name != "tiny" || e.Source != "hf://org/tiny@"+hubtest.Commit || e.Dim != 16 {
				t.Errorf("got %+v, %v", e, err)
			}
		})
	}
	wait.Wait()
	downloads := slices.DeleteFunc(s.Requests(), func(r string) bool { return !strings.Contains(r, "resolve") })
	if len(downloads) != 6 {
		t.Errorf("asked for %q", downloads)
	}
	first, err := r.Find("tiny")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"hf://org/tiny", "hf://org/tiny@" + hubtest.Commit} {
		if e, err := r.Find(name); err != nil || e.Path != first.Path {
			t.Errorf("%s: got %+v, %v", name, e, err)
		}
	}
	if all, err := r.List(); err != nil || len(all) != 1 || all[0] != first {
		t.Errorf("got %+v, %v", all, err)
	}
	if names := tree(t, filepath.Join(folder, "downloads")); len(names) != 1 || !strings.HasSuffix(names[0], ".lock") {
		t.Errorf("left behind: %q", names)
	}
	// Damage is found, and mended.
	weights := filepath.Join(first.Path, "model.safetensors")
	content, err := os.ReadFile(weights)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)-1] ^= 1
	if err := os.Remove(weights); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(weights, content, 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := r.Pull(t.Context(), client(t, s), hub.Ref{Org: "org", Name: "tiny", Revision: "v1"}, "", now)
	if err != nil || e.Name != "hf://org/tiny@v1" || e.Path != first.Path || digestOf(t, e.Path) != first.Digest {
		t.Errorf("got %+v, %v", e, err)
	}
}

func TestPullRefuses(t *testing.T) {
	files := modeltest.Tiny("bert").Files()
	files["config.json"] = bytes.Replace(files["config.json"], []byte(`"vocab_size": `), []byte(`"vocab_size": 5,"old": `), 1)
	s := hubtest.New(t, "org/tiny", files)
	r := registry.New(t.TempDir())
	if _, err := r.Pull(t.Context(), client(t, s), hub.Ref{Org: "org", Name: "tiny"}, "", now); engine.KindOf(err) != engine.KindModel {
		t.Errorf("a tokenizer that does not fit: got %v", err)
	}
	if _, err := r.Find("hf://org/tiny"); engine.KindOf(err) != engine.KindNotFound {
		t.Errorf("got %v", err)
	}
	if _, err := r.Pull(t.Context(), client(t, s), hub.Ref{Org: "org", Name: "tiny"}, "../x", now); engine.KindOf(err) != engine.KindInvalidArgument {
		t.Errorf("got %v", err)
	}
}
