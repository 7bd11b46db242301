package tokenizer_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/f708428e/engine/tokenizer"
)

// variants returns the tokenizer.json files that testdata/make_golden.py makes: each a base file with some parts replaced.
func variants(t testing.TB) map[string][]byte {
	t.Helper()
	var table map[string]map[string]json.RawMessage
	readJSON(t, filepath.Join("testdata", "variants.json"), &table)
	files := make(map[string][]byte, len(table))
	for name, parts := range table {
		var base string
		if err := json.Unmarshal(parts["base"], &base); err != nil {
			t.Fatal(err)
		}
		var data map[string]json.RawMessage
		readJSON(t, filepath.Join("testdata", base), &data)
		for key, part := range parts {
			if field, ok := strings.CutSuffix(key, "+"); ok {
				var have, more map[string]json.RawMessage
				if err := json.Unmarshal(data[field], &have); err != nil {
					t.Fatal(err)
				}
				if err := json.Unmarshal(part, &more); err != nil {
					t.Fatal(err)
				}
				maps.Copy(have, more)
				data[field] = mustJSON(t, have)
			} else if key != "base" {
				data[key] = part
			}
		}
		files[name] = mustJSON(t, data)
	}
	return files
}

func readJSON(t testing.TB, path string, into any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func parse(t testing.TB, data []byte) *tokenizer.Tokenizer {
	t.Helper()
	tok, err := tokenizer.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestGolden(t *testing.T) {
	var golden struct {
		Texts []string
		IDs   map[string][][]int32
	}
	readJSON(t, filepath.Join("testdata", "golden.json"), &golden)
	files := variants(t)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		t.Run(name, func(t *testing.T) {
			e := parse(t, files[name]).NewEncoder()
			for round := range 2 { // the second time from caches
				for i, text := range golden.Texts {
					if got, _ := e.AppendIDs(nil, text, 0); !slices.Equal(got, golden.IDs[name][i]) {
						t.Errorf("round %d, %q:\n got %d\nwant %d", round, text, got, golden.IDs[name][i])
					}
				}
			}
		})
	}
	t.Logf("%d tokenizers, %d texts", len(files), len(golden.Texts))
}
