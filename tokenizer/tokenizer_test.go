package tokenizer_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/tokenizer"
)

// edit returns a base file of testdata with one part replaced.
func edit(t testing.TB, base, key, value string) []byte {
	t.Helper()
	var data map[string]json.RawMessage
	readJSON(t, filepath.Join("testdata", base), &data)
	data[key] = json.RawMessage(value)
	return mustJSON(t, data)
}

func TestParseNamesTheFault(t *testing.T) {
	wp := func(vocab string) string {
		return `{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":100,"vocab":` + vocab + `}`
	}
	bpe := func(merges string) string {
		return `{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":` + merges + `}`
	}
	charsmap := func(s string) string { return `{"type":"Precompiled","precompiled_charsmap":"` + s + `"}` }
	for _, c := range []struct {
		name, base, key, value string
		place, says            string
	}{
		{"unknown normalizer", "bpe.json", "normalizer", `{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"ByteLevel"}]}`, "normalizer.normalizers[1].type", `"ByteLevel" is not supported`},
		{"unknown pre-tokenizer", "bpe.json", "pre_tokenizer", `{"type":"UnicodeScripts"}`, "pre_tokenizer.type", `"UnicodeScripts"`},
		{"unknown post-processor", "bpe.json", "post_processor", `{"type":"Sequence","processors":[{"type":"X"}]}`, "post_processor.processors[0].type", `"X"`},
		{"unknown model", "bpe.json", "model", `{"type":"WordLevel","vocab":{},"unk_token":"u"}`, "model.type", `"WordLevel"`},
		{"no type", "bpe.json", "normalizer", `{}`, "normalizer.type", "missing"},
		{"unknown option", "wordpiece.json", "normalizer", `{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true,"more":1}`, "normalizer", `unknown field "more"`},
		{"regular expression", "bpe.json", "normalizer", `{"type":"Replace","pattern":{"Regex":"a+"},"content":"b"}`, "normalizer.pattern.Regex", `"a+" is not supported`},
		{"unknown behavior", "wordpiece.json", "pre_tokenizer", `{"type":"Punctuation","behavior":"Removed"}`, "pre_tokenizer.behavior", `"Removed"`},
		{"no model", "bpe.json", "model", `null`, "model", "missing"},
		{"no unknown token", "wordpiece.json", "model", wp(`{"a":0}`), "model.unk_token", `"[UNK]" is not in the vocabulary`},
		{"equal ids", "wordpiece.json", "model", wp(`{"[UNK]":0,"a":1,"b":1}`), "model.vocab", `"a" and "b" have the same id 1`},
		{"equal tokens", "wordpiece.json", "model", wp(`{"[UNK]":0,"a":1,"a":2}`), `model.vocab["a"]`, "comes twice, with ids 1 and 2"},
		{"negative id", "wordpiece.json", "model", wp(`{"[UNK]":-1}`), `model.vocab["[UNK]"]`, "is not a whole number"},
		{"broken id", "wordpiece.json", "model", wp(`{"[UNK]":0.5}`), `model.vocab["[UNK]"]`, "is not a whole number"},
		{"id of another type", "wordpiece.json", "model", wp(`{"[UNK]":null}`), `model.vocab["[UNK]"]`, "is not a whole number"},
		{"huge id", "wordpiece.json", "model", wp(`{"[UNK]":0,"a":1000000000}`), "model.vocab", "too far beyond"},
		{"huger id", "wordpiece.json", "model", wp(`{"[UNK]":99999999999}`), `model.vocab["[UNK]"]`, "too large"},
		{"empty vocabulary", "wordpiece.json", "model", wp(`{}`), "model.vocab", "is empty"},
		{"vocabulary of another kind", "wordpiece.json", "model", wp(`[]`), "model.vocab", "is not an object"},
		{"merge of three", "bpe.json", "model", bpe(`["a b ab"]`), "model.merges[0]", "is not two tokens"},
		{"merge of one", "bpe.json", "model", bpe(`[["a","b"],["a"]]`), "model.merges", "a merge has 1 tokens"},
		{"merge of the unknown", "bpe.json", "model", bpe(`[["a","b"],["a","c"]]`), "model.merges[1]", `"c" is not in the vocabulary`},
		{"merge into the unknown", "bpe.json", "model", bpe(`[["b","a"]]`), "model.merges[0]", `"ba", what "b" and "a" make`},
		{"dropout", "bpe.json", "model", `{"type":"BPE","dropout":0.1,"vocab":{"a":0},"merges":[]}`, "model.dropout", "random"},
		{"suffix", "bpe.json", "model", `{"type":"BPE","end_of_word_suffix":"</w>","vocab":{"a":0},"merges":[]}`, "model.end_of_word_suffix", `"</w>"`},
		{"no unknown id", "unigram.json", "model", `{"type":"Unigram","unk_id":null,"vocab":[["a",0]]}`, "model.unk_id", "missing"},
		{"unknown id beyond", "unigram.json", "model", `{"type":"Unigram","unk_id":1,"vocab":[["a",0]]}`, "model.unk_id", "not in the vocabulary"},
		{"token without score", "unigram.json", "model", `{"type":"Unigram","unk_id":0,"vocab":[["a"]]}`, "model", "want a token and its score"},
		{"byte fallback without bytes", "unigram.json", "model", `{"type":"Unigram","unk_id":0,"byte_fallback":true,"vocab":[["a",0]]}`, "model.byte_fallback", "lacks <0x00>"},
		{"charsmap not base64", "unigram.json", "normalizer", charsmap("?"), "normalizer.precompiled_charsmap", "illegal base64"},
		{"charsmap cut off", "unigram.json", "normalizer", charsmap("AAQAAAAA"), "normalizer.precompiled_charsmap", "claims a trie of 1024 bytes and has 2"},
		{"charsmap of nothing", "unigram.json", "normalizer", charsmap(""), "normalizer.precompiled_charsmap", "has 0 bytes"},
		{"charsmap that points away", "unigram.json", "normalizer", charsmap("BAAAAAD8//8="), "normalizer.precompiled_charsmap", "points at unit"},
		{"added token with another id", "wordpiece.json", "added_tokens", `[{"id":7,"content":"[UNK]"}]`, "added_tokens[0].id", "has id 7 here"},
		{"added token of nothing", "wordpiece.json", "added_tokens", `[{"id":7,"content":""}]`, "added_tokens[0].content", "is empty"},
		{"template without text", "wordpiece.json", "post_processor", `{"type":"TemplateProcessing","single":[],"pair":[],"special_tokens":{}}`, "post_processor.single", "no sequence A"},
		{"template of the unknown", "wordpiece.json", "post_processor", `{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x","type_id":0}}],"special_tokens":{}}`, "post_processor.single[0]", `"x" is not among`},
		{"post-processor beyond", "wordpiece.json", "post_processor", `{"type":"BertProcessing","sep":["[SEP]",99999],"cls":["[CLS]",2]}`, "post_processor", "adds id 99999"},
		{"truncation below the template", "wordpiece.json", "truncation", `{"max_length":2,"strategy":"LongestFirst","stride":0}`, "truncation.max_length", "2 special tokens"},
		{"truncation strategy", "wordpiece.json", "truncation", `{"max_length":9,"strategy":"OnlySecond","stride":0}`, "truncation.strategy", "OnlySecond"},
		{"padding beyond", "wordpiece.json", "padding", `{"pad_id":99999}`, "padding.pad_id", "99999"},
		{"version", "wordpiece.json", "version", `"2.0"`, "version", "2.0"},
		{"ByteLevel not last", "bpe.json", "pre_tokenizer", `{"type":"Sequence","pretokenizers":[{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true},{"type":"Whitespace"}]}`, "pre_tokenizer", "last"},
		{"ByteLevel before WordPiece", "wordpiece.json", "pre_tokenizer", `{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true}`, "pre_tokenizer", "BPE"},
		{"Metaspace after what removes", "unigram.json", "pre_tokenizer", `{"type":"Metaspace","replacement":"--","prepend_scheme":"always"}`, "pre_tokenizer.replacement", "one character"},
		{"deep", "wordpiece.json", "normalizer", strings.Repeat(`{"type":"Sequence","normalizers":[`, 20) + strings.Repeat("]}", 20), "normalizer", "nested too deep"},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := edit(t, c.base, c.key, c.value)
			_, err := tokenizer.Parse(data)
			if err == nil {
				t.Fatal("parsed")
			}
			var e *engine.Error
			if engine.KindOf(err) != engine.KindModel || !errors.As(err, &e) || !strings.HasPrefix(e.ID, c.place) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v (%v), want %s ... %s", err, engine.KindOf(err), c.place, c.says)
			}
		})
	}
	for _, data := range []string{"", "[]", "{}", "{\"model\":", "\xff", `{"model":{"type":"BPE"}}`} {
		if _, err := tokenizer.Parse([]byte(data)); engine.KindOf(err) != engine.KindModel || err == nil {
			t.Errorf("%q: %v", data, err)
		}
	}
	_, err := tokenizer.Open(filepath.Join(t.TempDir(), "no.json"))
	if engine.KindOf(err) != engine.KindNotFound || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestVocabularyWithHoles(t *testing.T) {
	tok := parse(t, edit(t, "wordpiece.json", "model", `{"unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":100,
		"vocab":{"[PAD]":0,"[UNK]":1,"[CLS]":2,"[SEP]":3,"[MASK]":4,"a":9}}`))
	if n := tok.VocabSize(); n != 10 {
		t.Errorf("size %d, want 10: the largest id plus one", n)
	}
	if s, ok := tok.Token(7); ok {
		t.Errorf("id 7 is %q", s)
	}
	if id, ok := tok.ID("a"); id != 9 || !ok {
		t.Errorf("a is %d, %v", id, ok)
	}
}

func TestAccessors(t *testing.T) {
	data := edit(t, "wordpiece.json", "padding", `{"strategy":"BatchLongest","direction":"Right","pad_to_multiple_of":null,"pad_id":4,"pad_type_id":0,"pad_token":"[MASK]"}`)
	tok := parse(t, data)
	for token, want := range map[string]int32{"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4} {
		id, ok := tok.ID(token)
		if back, known := tok.Token(id); id != want || !ok || back != token || !known {
			t.Errorf("%s: %d, %v, %q, %v", token, id, ok, back, known)
		}
	}
	if _, ok := tok.ID("no such token"); ok {
		t.Error("found what is not there")
	}
	for _, id := range []int32{-1, int32(tok.VocabSize())} {
		if _, ok := tok.Token(id); ok {
			t.Errorf("id %d has a token", id)
		}
	}
	if id, ok := tok.PadID(); id != 4 || !ok {
		t.Errorf("pad %d, %v", id, ok)
	}
	if id, ok := tok.UnknownID(); id != 1 || !ok {
		t.Errorf("unknown %d, %v", id, ok)
	}
	if len(tok.AddedTokens()) != 5 || tok.SpecialCount() != 2 || tok.MaxLength() != 0 {
		t.Errorf("%d added tokens, %d special, max %d", len(tok.AddedTokens()), tok.SpecialCount(), tok.MaxLength())
	}
}

func TestTruncation(t *testing.T) {
	right := parse(t, edit(t, "wordpiece.json", "truncation", `{"max_length":5,"strategy":"LongestFirst","stride":3}`)).NewEncoder()
	left := parse(t, edit(t, "wordpiece.json", "truncation", `{"direction":"Left","max_length":5,"strategy":"OnlyFirst","stride":0}`)).NewEncoder()
	all, _ := right.AppendContentIDs(nil, "the of and to in", -1)
	if len(all) != 5 {
		t.Fatalf("%d", all)
	}
	with := func(ids ...int32) []int32 { return append(append([]int32{2}, ids...), 3) }
	for _, c := range []struct {
		e    *tokenizer.Encoder
		max  int
		want []int32
		cut  bool
	}{
		{right, 0, with(all[:3]...), true}, {right, 7, with(all...), false}, {right, 6, with(all[:4]...), true},
		{right, -1, with(all...), false}, {right, 3, with(all[0]), true}, {right, 2, with(), true}, {right, 1, with(), true},
		{left, 0, with(all[2:]...), true}, {left, 7, with(all...), false}, {left, 1, with(), true},
	} {
		got, cut := c.e.AppendIDs([]int32{77}, "the of and to in", c.max)
		if got[0] != 77 || !slices.Equal(got[1:], c.want) || cut != c.cut {
			t.Errorf("max %d: got %d, %v, want %d, %v", c.max, got[1:], cut, c.want, c.cut)
		}
	}
	if got, cut := right.AppendIDs(nil, "", 2); !slices.Equal(got, with()) || cut {
		t.Errorf("empty text: %d, %v", got, cut)
	}
}

// Python: bytes.decode("utf-8", "replace").
func TestTextThatIsNotUTF8(t *testing.T) {
	e := parse(t, variants(t)["bpe"]).NewEncoder()
	for broken, want := range map[string]string{
		"a\xffb": "a\ufffdb", "\xe2\x82": "\ufffd", "\xe2\x82a": "\ufffda", "\xf0\x9f\x98": "\ufffd", "\xf0\x9f\x98\x80\x80": "😀\ufffd",
		"\xed\xa0\x80": "\ufffd\ufffd\ufffd", "\xc0\xaf": "\ufffd\ufffd", "\xf4\x90\x80\x80": "\ufffd\ufffd\ufffd\ufffd", "\xe0\x80": "\ufffd\ufffd", "\xc3": "\ufffd",
	} {
		got, _ := e.AppendIDs(nil, broken, -1)
		if ids, _ := e.AppendIDs(nil, want, -1); !slices.Equal(got, ids) {
			t.Errorf("%q: got %d, want %d as of %q", broken, got, ids, want)
		}
	}
}

func TestConcurrentEncoders(t *testing.T) {
	for name, data := range variants(t) {
		tok := parse(t, data)
		want, _ := tok.NewEncoder().AppendIDs(nil, "The naïve tokenizer <mask> — 東京 don't", -1)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				e := tok.NewEncoder()
				for range 20 {
					if got, _ := e.AppendIDs(nil, "The naïve tokenizer <mask> — 東京 don't", -1); !slices.Equal(got, want) {
						t.Errorf("%s: got %d, want %d", name, got, want)
					}
				}
			})
		}
		wg.Wait()
	}
}

func TestEncodingAllocatesNothing(t *testing.T) {
	var golden struct{ Texts []string }
	readJSON(t, filepath.Join("testdata", "golden.json"), &golden)
	for name, data := range variants(t) {
		e := parse(t, data).NewEncoder()
		var ids []int32
		run := func() {
			for _, text := range golden.Texts {
				ids, _ = e.AppendIDs(ids[:0], text, 0)
			}
		}
		run()
		if n := testing.AllocsPerRun(10, run); n > 0 {
			t.Errorf("%s: %v allocations for %d texts", name, n, len(golden.Texts))
		}
	}
}

// TestHugeTexts encodes texts of 400 kB (10 MB in `make soak`) of the kinds that a careless algorithm takes quadratic time for.
// The time of a text ten times as long must not be much more than ten times as long; the limit is generous, for a busy machine.
func TestHugeTexts(t *testing.T) {
	size := 400_000
	if os.Getenv("ENGINE_TEST") == "soak" {
		size = 10_000_000
	}
	kinds := map[string]string{
		"words": "the unbelievable tokenizer, ", "one word": "a", "one unknown word": "ł", "spaces": " ", "marks": "\u0301\u0327", "spacing marks": "\U0001d165",
		"ideographs": "東京", "hangul": "한\u1100", "newlines": "\r\n", "masks": " <mask>", "joiners": "👩\u200d", "broken": "\xe2\x82", "metaspaces": "▁", "flags": "🇩",
	}
	for _, name := range []string{"wordpiece", "wordpiece added", "wordpiece nmt", "bpe", "bpe no regex", "bpe added", "chars fused", "unigram", "unigram never"} {
		t.Run(name, func(t *testing.T) {
			e := parse(t, variants(t)[name]).NewEncoder()
			for kind, unit := range kinds {
				long := strings.Repeat(unit, size/len(unit))
				start := time.Now()
				e.AppendIDs(nil, long[:len(long)/10], -1)
				short := time.Since(start)
				start = time.Now()
				e.AppendIDs(nil, long, -1)
				whole := time.Since(start)
				t.Logf("%s: %v", kind, whole)
				if whole > 40*short+5*time.Second {
					t.Errorf("%s: %v for %d bytes, but %v for a tenth of it", kind, whole, len(long), short)
				}
				start = time.Now()
				e.AppendIDs(nil, long, 256)
				if d := time.Since(start); d > 2*whole+5*time.Second {
					t.Errorf("%s: %v for 256 tokens, but %v for all", kind, d, whole)
				}
			}
		})
	}
}
