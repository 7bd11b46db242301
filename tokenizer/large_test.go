package tokenizer_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/f708428e/engine/internal/testenv"
	"github.com/f708428e/engine/tokenizer"
)

// trainLarge returns the files that testdata/train_large.py makes of AG News, which takes a while, as the comparison does: some ten
// minutes with the race detector. A folder named
// in ENGINE_TOKENIZERS is used instead: it may hold any tokenizer.json files.
func trainLarge(t testing.TB) []string {
	t.Helper()
	dir := os.Getenv("ENGINE_TOKENIZERS")
	if dir == "" {
		testenv.Soak(t)
		python := testenv.Python(t, "tokenizers", "sentencepiece")
		dir = t.TempDir()
		cmd := exec.CommandContext(t.Context(), python, filepath.Join("testdata", "train_large.py"), dir)
		cmd.Stdin = strings.NewReader(jsonLines(t, agNews(t)))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in %s: %v", dir, err)
	}
	return files
}

func jsonLines(t testing.TB, texts []string) string {
	t.Helper()
	var b strings.Builder
	for _, s := range texts {
		data, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(data)
		b.WriteByte('\n')
	}
	return b.String()
}

func TestLargeAgainstTheOfficialLibrary(t *testing.T) {
	files := trainLarge(t)
	texts := agNews(t)
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			r := newRand(t)
			var all []oracleCase
			add := func(limit int, text string) {
				all = append(all, oracleCase{file: path, max: limit, special: true, text: text})
			}
			for _, text := range texts {
				add(256, text)
				add(-1, mutate(r, text))
			}
			for range many(400) {
				add(-1, randomText(r))
			}
			// Every code point, alone and beside others, then with marks and joiners that make it part of a cluster.
			for c := rune(0); c < 0x30000; c++ {
				if c >= 0xD800 && c < 0xE000 {
					continue
				}
				s := string(c)
				// A rule for ² takes what is in its cluster with it, and so do rules for s.
				add(-1, "a"+s+"b "+s+"\u0301 e"+s+" "+s+s+" \u0600"+s+"\u200d"+s+" \u00b2"+s+" "+s+"\u0903 \u0915\u094d"+s+"\u0301")
			}
			for c := rune(0xE0000); c < 0xE0200; c++ {
				add(-1, "a"+string(c)+"b")
			}
			askOracle(t, all)
			tok, err := tokenizer.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			check(t, tok, all)
		})
	}
}
