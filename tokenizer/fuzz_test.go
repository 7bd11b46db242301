package tokenizer_test

import (
	"maps"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/tokenizer"
)

// FuzzParse: whatever the file, Parse returns a usable tokenizer or an error of KindModel.
func FuzzParse(f *testing.F) {
	small := `{"normalizer":null,"pre_tokenizer":{"type":"Metaspace","replacement":"_"},"added_tokens":[{"id":1,"content":"b","normalized":true,"lstrip":true}],`
	f.Add([]byte(small + `"model":{"type":"Unigram","unk_id":0,"vocab":[["a",0],["b",-1.5],["_",-1]]}}`))
	f.Add([]byte(small + `"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"],"unk_token":"a"}}`))
	f.Add([]byte(small + `"model":{"unk_token":"a","continuing_subword_prefix":"","max_input_chars_per_word":3,"vocab":{"a":0,"b":1}}}`))
	f.Add([]byte(`{"version":"1.0","truncation":{"direction":"Left","max_length":9,"strategy":"LongestFirst","stride":0},"padding":{"pad_id":0},
		"added_tokens":[{"id":0,"content":"[U]","special":true},{"id":3,"content":"A b","normalized":true,"single_word":true,"rstrip":true}],
		"normalizer":{"type":"Sequence","normalizers":[{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true},
			{"type":"NFKC"},{"type":"Strip","strip_left":true,"strip_right":true},{"type":"Replace","pattern":{"Regex":" {2,}"},"content":" "}]},
		"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"BertPreTokenizer"},{"type":"Digits","individual_digits":true}]},
		"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"[U]","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[],
			"special_tokens":{"[U]":{"id":"[U]","ids":[0],"tokens":["[U]"]}}},
		"model":{"type":"WordPiece","unk_token":"[U]","continuing_subword_prefix":"##","max_input_chars_per_word":9,"vocab":{"[U]":0,"a":1,"##b":2}}}`))
	f.Add([]byte(`{"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},"post_processor":{"type":"RobertaProcessing",
		"sep":["a",0],"cls":["b",1],"trim_offsets":true,"add_prefix_space":true},"model":{"type":"BPE","dropout":null,"unk_token":"a","fuse_unk":true,
		"ignore_merges":true,"vocab":{"a":0,"b":1,"Ġ":2,"ab":3},"merges":[["a","b"]]}}`))
	f.Add([]byte(`{"normalizer":{"type":"Precompiled","precompiled_charsmap":"BAAAAAAEAAA="},"model":{"type":"Unigram","unk_id":0,"vocab":[["a",0]]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		tok, err := tokenizer.Parse(data)
		if err != nil {
			if engine.KindOf(err) != engine.KindModel {
				t.Fatalf("%v: %v", engine.KindOf(err), err)
			}
			return
		}
		if n := tok.VocabSize(); n > 16*len(data)+1<<17 {
			t.Fatalf("%d tokens from %d bytes", n, len(data))
		}
		e := tok.NewEncoder()
		for _, text := range []string{"", "ab a_b  b\r\n\u0301é東\U0001F600 x", "\xff<mask>"} {
			ids, _ := e.AppendIDs(nil, text, -1)
			for _, id := range ids {
				if id < 0 || int(id) >= tok.VocabSize() {
					t.Fatalf("%q: id %d of %d", text, id, tok.VocabSize())
				}
			}
		}
	})
}

// FuzzEncode: whatever the text, every tokenizer gives ids of its vocabulary, the same ones again, for a text cut off the
// beginning of the whole, and for broken UTF-8 those of the text with U+FFFD.
func FuzzEncode(f *testing.F) {
	files := variants(f)
	names := slices.Sorted(maps.Keys(files))
	type pair struct {
		tok *tokenizer.Tokenizer
		enc *tokenizer.Encoder
	}
	all := make([]pair, len(names))
	for i, name := range names {
		tok := parse(f, files[name])
		all[i] = pair{tok, tok.NewEncoder()}
	}
	var golden struct{ Texts []string }
	readJSON(f, "testdata/golden.json", &golden)
	for i, text := range golden.Texts {
		f.Add(text, uint8(i), int8(i))
	}
	f.Fuzz(func(t *testing.T, text string, which uint8, limit int8) {
		p := all[int(which)%len(all)]
		whole, cut := p.enc.AppendContentIDs(nil, text, -1)
		if cut {
			t.Fatal("cut without a limit")
		}
		for _, id := range whole {
			if _, ok := p.tok.Token(id); !ok {
				t.Fatalf("id %d has no token", id)
			}
		}
		if again, _ := p.tok.NewEncoder().AppendContentIDs(nil, text, -1); !slices.Equal(whole, again) {
			t.Fatalf("first %d, then %d", whole, again)
		}
		if limit > 0 {
			some, cut := p.enc.AppendContentIDs(nil, text, int(limit))
			n := min(int(limit), len(whole))
			if name := names[int(which)%len(all)]; name == "wordpiece left" {
				if !slices.Equal(some, whole[len(whole)-n:]) {
					t.Fatalf("limit %d: %d of %d", limit, some, whole)
				}
			} else if !slices.Equal(some, whole[:n]) || cut != (len(whole) > n) {
				t.Fatalf("limit %d: %d (%v) of %d", limit, some, cut, whole)
			}
		}
		if utf8.ValidString(text) && len(text) > 0 {
			broken, _ := p.enc.AppendContentIDs(nil, text+"\xe2\x82", -1)
			if want, _ := p.enc.AppendContentIDs(nil, text+"\ufffd", -1); !slices.Equal(broken, want) {
				t.Fatalf("broken: %d, want %d", broken, want)
			}
		}
	})
}
