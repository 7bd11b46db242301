package tokenizer

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/f708428e/engine/internal/testenv"
)

// BenchmarkWordLookup compares ways to look up the words of AG News in all-MiniLM's vocabulary, words alone: the table of
// short words before the trie, which is what we do; the trie alone; and a map of substrings, as most implementations do.
func BenchmarkWordLookup(b *testing.B) {
	tok, err := Open(filepath.Join(os.Getenv("HOME"), ".cache", "engine", "tokenizers", "all-minilm-l6-v2.json"))
	if err != nil {
		b.Skip("needs all-MiniLM-L6-v2's tokenizer.json; tokenizer/testdata/fetch.sh fetches it")
	}
	f, err := os.Open(testenv.Shared(b, "ag-news-3800.csv"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		b.Fatal(err)
	}
	var words [][]byte
	for _, row := range rows {
		for _, w := range strings.FieldsFunc(strings.ToLower(row[1]+" "+row[2]), func(r rune) bool { return r < '0' || r > 'z' }) {
			words = append(words, []byte(w))
		}
	}
	m := tok.model.(*wordPiece)
	e := tok.NewEncoder()
	run := func(name string, encode func(ids []int32, w []byte) []int32) {
		b.Run(name, func(b *testing.B) {
			ids := make([]int32, 0, 64)
			for b.Loop() {
				for _, w := range words {
					ids = encode(ids[:0], w)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(words)), "ns/word")
		})
	}
	run("table then trie", func(ids []int32, w []byte) []int32 {
		e.ids = ids
		m.appendPiece(e, w)
		return e.ids
	})
	run("trie", m.appendSplit)
	run("map of substrings", func(ids []int32, w []byte) []int32 {
		base, buf := len(ids), make([]byte, 0, 128)
		for start := 0; start < len(w); {
			end := len(w)
			for ; end > start; end-- {
				buf = buf[:0]
				if start > 0 {
					buf = append(buf, "##"...)
				}
				if id, ok := tok.ids[string(append(buf, w[start:end]...))]; ok {
					ids = append(ids, id)
					break
				}
			}
			if end == start {
				return append(ids[:base], m.unknown)
			}
			start = end
		}
		return ids
	})
}

func TestTrie(t *testing.T) {
	words := []string{"a", "ab", "abc", "b", "\x00", "\x00\xff", "##", "##a", "ab", strings.Repeat("x", 300)}
	for c := range 256 {
		words = append(words, "q"+string([]byte{byte(c)}), "q"+string([]byte{byte(c), byte(c)}))
	}
	keys := make([]trieKey, len(words))
	want := make(map[string]int32)
	for i, w := range words {
		keys[i] = trieKey{w, int32(i)}
		want[w] = int32(i)
	}
	tr := newTrie(keys)
	for w, v := range want {
		if got, ok := tr.get([]byte(w)); !ok || got != v {
			t.Errorf("%q: %d, %v, want %d", w, got, ok, v)
		}
	}
	for _, w := range []string{"", "c", "q", "abcd", "\xff", "#", "xx"} {
		if got, ok := tr.get([]byte(w)); ok {
			t.Errorf("%q: %d", w, got)
		}
	}
	if n, v := tr.longest(trieRoot, []byte("abd")); n != 2 || v != 8 {
		t.Errorf("longest %d, %d", n, v)
	}
	if tr := newTrie(nil); tr.walk(trieRoot, []byte("a")) >= 0 {
		t.Error("an empty trie has a key")
	}
}
