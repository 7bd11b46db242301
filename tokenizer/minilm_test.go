package tokenizer_test

import (
	"bufio"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/f708428e/engine/internal/testenv"
	"github.com/f708428e/engine/tokenizer"
)

// miniLMPath is where testdata/fetch.sh puts all-MiniLM-L6-v2's tokenizer.json.
func miniLMPath(t testing.TB) string {
	t.Helper()
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		cache = filepath.Join(os.Getenv("HOME"), ".cache")
	}
	path := filepath.Join(cache, "engine", "tokenizers", "all-minilm-l6-v2.json")
	if _, err := os.Stat(path); err != nil {
		t.Skipf("needs all-MiniLM-L6-v2's tokenizer.json: %v; tokenizer/testdata/fetch.sh fetches it", err)
	}
	return path
}

func openMiniLM(t testing.TB) *tokenizer.Tokenizer {
	t.Helper()
	tok, err := tokenizer.Open(miniLMPath(t))
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// reference returns the path of a file under ../shared/embeddings and skips the test if it is not there.
func reference(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(testenv.Root(t), "..", "shared", "embeddings", name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("needs ../shared/embeddings/%s", name)
	}
	return path
}

// agNews returns the 3,800 texts, title and description.
func agNews(t testing.TB) []string {
	t.Helper()
	f, err := os.Open(testenv.Shared(t, "ag-news-3800.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	texts := make([]string, len(rows))
	for i, row := range rows { // no header: class, title, description
		texts[i] = row[1] + " " + row[2]
	}
	return texts
}

func TestMiniLMCases(t *testing.T) {
	f, err := os.Open(reference(t, "tokenizer-cases.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	e := openMiniLM(t).NewEncoder()
	lines, n := bufio.NewScanner(f), 0
	lines.Buffer(nil, 1<<24)
	for ; lines.Scan(); n++ {
		var c struct {
			Kind, Text  string
			IDs, IDs256 []int32
		}
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		if got, cut := e.AppendIDs(nil, c.Text, -1); !slices.Equal(got, c.IDs) || cut {
			t.Errorf("%s %q: got %d, want %d", c.Kind, c.Text, got, c.IDs)
		}
		got, cut := e.AppendIDs(nil, c.Text, 256)
		if !slices.Equal(got, c.IDs256) || cut != (len(c.IDs) > 256) {
			t.Errorf("%s %q cut at 256: got %d (%v), want %d", c.Kind, c.Text, got, cut, c.IDs256)
		}
	}
	if err := lines.Err(); err != nil || n < 600 {
		t.Fatalf("read %d cases: %v", n, err)
	}
	t.Logf("%d cases", n)
}

func TestMiniLMEveryCodePoint(t *testing.T) {
	data, err := os.ReadFile(reference(t, "codepoint-blocks.json"))
	if err != nil {
		t.Fatal(err)
	}
	var want struct{ Blocks map[string]string }
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	e := openMiniLM(t).NewEncoder()
	for name, sum := range want.Blocks {
		first, err := strconv.ParseInt(name, 16, 32)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for c := rune(first); c < rune(first)+256; c++ {
			text := "a" + string(c) + "b"
			if c >= 0xD800 && c < 0xE000 {
				text = "ab"
			}
			ids, _ := e.AppendContentIDs(nil, text, -1)
			lines = append(lines, strings.Trim(fmt.Sprint(ids), "[]"))
		}
		got := sha256.Sum256([]byte(strings.Join(lines, "\n")))
		if hex.EncodeToString(got[:])[:16] != sum {
			t.Errorf("block %s differs", name)
		}
	}
	t.Logf("%d blocks of 256 code points", len(want.Blocks))
}

func TestMiniLMTokenCountsOfAGNews(t *testing.T) {
	data, err := os.ReadFile(reference(t, "token-counts.json"))
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		MaxLength   int   `json:"max_length"`
		TokenCounts []int `json:"token_counts"`
	}
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	e := openMiniLM(t).NewEncoder()
	var ids []int32
	texts := agNews(t)
	if len(texts) != len(want.TokenCounts) {
		t.Fatalf("%d texts, %d counts", len(texts), len(want.TokenCounts))
	}
	for i, text := range texts {
		ids, _ = e.AppendIDs(ids[:0], text, want.MaxLength)
		if len(ids) != want.TokenCounts[i] {
			t.Errorf("text %d: %d tokens, want %d", i, len(ids), want.TokenCounts[i])
		}
	}
}
