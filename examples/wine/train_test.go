package wine_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/f708428e/engine/examples/wine"
	"github.com/f708428e/engine/internal/testenv"
)

// The committed model is what train.py makes, from the rows of this package.
func TestRetrain(t *testing.T) {
	python := testenv.Python(t, "sklearn", "skl2onnx", "onnx", "numpy")
	dir := t.TempDir()
	trained, csv := filepath.Join(dir, "model"), filepath.Join(dir, "rows.csv")
	if _, err := os.ReadFile("train.py"); err != nil { // tells Go's test cache that the result depends on it
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), python, "train.py", "--out", trained, "--compare", "model", "--rows-to", csv).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("train.py: %v\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	var result struct {
		MaxDifference *float64 `json:"max_difference"`
	}
	if err := json.Unmarshal(out, &result); err != nil || result.MaxDifference == nil {
		t.Fatalf("train.py printed %q: %v", out, err)
	}
	if *result.MaxDifference > 1e-9 {
		t.Errorf("a coefficient differs from the committed model's by %g", *result.MaxDifference)
	}
	for _, name := range []string{"MLmodel", "requirements.txt", "conda.yaml", "python_env.yaml"} {
		got, want := read(t, filepath.Join(trained, name)), read(t, filepath.Join("model", name))
		if !bytes.Equal(got, want) {
			t.Errorf("model/%s is not what train.py writes:\n%s\nwant:\n%s", name, want, got)
		}
	}

	want := wine.AppendHeader(nil)
	for index := range uint64(5000) {
		row := wine.At(1, index)
		want = row.AppendCSV(want)
	}
	if got := read(t, csv); !bytes.Equal(got, want) {
		t.Error("train.py and this package make different rows of one seed")
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
