package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"unicode/utf8"

	"github.com/f708428e/engine"
)

// maxFileBytes is the largest tokenizer.json that Open reads. The largest in use have some 20 MB.
const maxFileBytes = 256 << 20

// Tokenizer turns text into token ids. It is immutable and safe for concurrent use; each goroutine that encodes needs an
// Encoder of its own.
type Tokenizer struct {
	chars      *charTables
	raw        *addedSet // added tokens looked for before normalization; may be nil
	normalized *addedSet // and after it
	normalize  []normalizer
	pre        []preTokenizer
	model      model
	bert       *bertPath // set where the whole way from text to ids is BERT's: normalizer, pre-tokenizer, WordPiece
	post       template
	truncation truncation
	pad        int32 // -1: none
	unknown    int32 // -1: none

	added  []AddedToken
	tokens []string // by id
	known  []bool   // by id: whether there is such a token
	ids    map[string]int32
}

// model turns one piece of normalized text into ids, appended to e.ids.
type model interface {
	appendPiece(e *Encoder, piece []byte)
}

// truncation is the file's own limit.
type truncation struct {
	maxLength int // 0: none
	left      bool
}

// Open reads a tokenizer.json. Errors: engine.KindNotFound; engine.KindModel for a file that is broken or asks for what
// this package does not have, with the place in the file.
func Open(path string) (*Tokenizer, error) {
	const op = "open tokenizer"
	f, err := engine.OpenRegular(path)
	if err != nil {
		kind := engine.KindInternal
		var ours *engine.Error
		switch {
		case errors.Is(err, fs.ErrNotExist):
			kind = engine.KindNotFound
		case errors.As(err, &ours): // It is no file, and says what it is.
			kind, err = engine.KindModel, ours.Err
		}
		return nil, engine.Errorf(kind, op, path, "%w", err)
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, engine.Errorf(engine.KindInternal, op, path, "%w", err)
	}
	if len(data) > maxFileBytes {
		return nil, engine.Errorf(engine.KindModel, op, path, "is larger than %d MiB", maxFileBytes>>20)
	}
	t, err := Parse(data)
	return t, engine.WrapError(op, path, err)
}

// file is tokenizer.json. Decoder is read by nobody: we only encode.
type file struct {
	Version       string          `json:"version"`
	Truncation    json.RawMessage `json:"truncation"`
	Padding       json.RawMessage `json:"padding"`
	AddedTokens   json.RawMessage `json:"added_tokens"`
	Normalizer    json.RawMessage `json:"normalizer"`
	PreTokenizer  json.RawMessage `json:"pre_tokenizer"`
	PostProcessor json.RawMessage `json:"post_processor"`
	Model         json.RawMessage `json:"model"`
}

// Parse reads the contents of a tokenizer.json, which it does not keep. Memory is bounded by a multiple of the data's size.
// Errors are of engine.KindModel and name the place in the file, such as "normalizer.normalizers[1].type".
func Parse(data []byte) (*Tokenizer, error) {
	if !utf8.Valid(data) {
		return nil, badModel("", "is not UTF-8")
	}
	var f file
	if err := decodeLoose("", data, &f); err != nil {
		return nil, err
	}
	if f.Version != "" && f.Version != "1.0" {
		return nil, badModel("version", "%q is not supported, only 1.0", clip(f.Version))
	}
	t := &Tokenizer{chars: tables(), pad: -1, unknown: -1}
	var err error
	if t.normalize, err = t.parseNormalizer("normalizer", f.Normalizer, 0); err != nil {
		return nil, err
	}
	if t.pre, err = t.parsePreTokenizer("pre_tokenizer", f.PreTokenizer, 0); err != nil {
		return nil, err
	}
	vocab, err := t.parseModel(f.Model)
	if err != nil {
		return nil, err
	}
	if err := t.index(vocab, f.AddedTokens); err != nil {
		return nil, err
	}
	if t.post, err = parsePostProcessor("post_processor", f.PostProcessor, 0); err != nil {
		return nil, err
	}
	for _, id := range append(t.post.prefix, t.post.suffix...) {
		if int(id) >= len(t.tokens) {
			return nil, badModel("post_processor", "adds id %d, beyond the vocabulary of %d", id, len(t.tokens))
		}
	}
	if err := t.parseLimits(f.Truncation, f.Padding); err != nil {
		return nil, err
	}
	t.bert = newBertPath(t)
	return t, nil
}

// parseModel reads the model and returns its vocabulary.
func (t *Tokenizer) parseModel(raw json.RawMessage) ([]vocabEntry, error) {
	if isNull(raw) {
		return nil, badModel("model", "missing")
	}
	var head struct {
		Type   *string         `json:"type"`
		Vocab  json.RawMessage `json:"vocab"`
		Merges json.RawMessage `json:"merges"`
	}
	if err := decodeLoose("model", raw, &head); err != nil {
		return nil, err
	}
	var kind string
	switch { // files from before 2021 do not name the model's type
	case head.Type != nil:
		kind = *head.Type
	case len(head.Merges) > 0:
		kind = "BPE"
	case len(head.Vocab) > 0 && head.Vocab[0] == '[':
		kind = "Unigram"
	default:
		kind = "WordPiece"
	}
	if kind != "WordPiece" && kind != "BPE" && kind != "Unigram" {
		return nil, unknown("model", "model", kind)
	}
	bytes := false
	for i, p := range t.pre {
		if _, ok := p.(*byteLevel); ok {
			if bytes = i+1 == len(t.pre) && kind == "BPE"; !bytes {
				return nil, badModel("pre_tokenizer", "ByteLevel is supported as the last pre-tokenizer before a BPE model only")
			}
		}
	}
	switch kind {
	case "WordPiece":
		return t.parseWordPiece(raw)
	case "BPE":
		return t.parseBPE(raw, bytes)
	}
	return t.parseUnigram(raw)
}

// index makes the tables of all tokens, and the search for added ones.
func (t *Tokenizer) index(vocab []vocabEntry, added json.RawMessage) error {
	t.ids = make(map[string]int32, len(vocab))
	for _, v := range vocab {
		t.ids[v.token] = v.id
	}
	limit := maxHoles(len(vocab))
	put := func(path, token string, id int32) error {
		if int(id) >= limit {
			return badModel(path, "token %q has id %d, too far beyond the %d tokens", clip(token), id, len(vocab))
		}
		for int(id) >= len(t.tokens) {
			t.tokens, t.known = append(t.tokens, ""), append(t.known, false)
		}
		if t.known[id] && t.tokens[id] != token {
			return badModel(path, "tokens %q and %q have the same id %d", clip(t.tokens[id]), clip(token), id)
		}
		t.tokens[id], t.known[id], t.ids[token] = token, true, id
		return nil
	}
	for _, v := range vocab {
		if err := put("model.vocab", v.token, v.id); err != nil {
			return err
		}
	}
	var err error
	if t.added, err = decodeAdded(added, t.ids); err != nil {
		return err
	}
	limit += len(t.added)
	var rawTokens, normTokens []AddedToken
	var rawPatterns, normPatterns []string
	e := t.NewEncoder()
	for i, a := range t.added {
		path := fmt.Sprintf("added_tokens[%d]", i)
		if err := put(path, a.Content, a.ID); err != nil {
			return err
		}
		if !a.Normalized {
			rawTokens, rawPatterns = append(rawTokens, a), append(rawPatterns, a.Content)
			continue
		}
		pattern := string(e.normalizeText([]byte(a.Content)))
		if pattern == "" {
			return badModel(path+".content", "%q is nothing once normalized", clip(a.Content))
		}
		normTokens, normPatterns = append(normTokens, a), append(normPatterns, pattern)
	}
	seen := make(map[string]bool, len(normPatterns))
	for i, p := range normPatterns {
		if seen[p] {
			return badModel("added_tokens", "%q is, once normalized, the same as another added token", clip(normTokens[i].Content))
		}
		seen[p] = true
	}
	t.raw, t.normalized = newAddedSet(rawTokens, rawPatterns), newAddedSet(normTokens, normPatterns)
	return nil
}

// parseLimits reads "truncation" and "padding".
func (t *Tokenizer) parseLimits(truncation, padding json.RawMessage) error {
	if !isNull(truncation) {
		var f struct {
			MaxLength *int64 `json:"max_length"`
			Strategy  string `json:"strategy"`
			Stride    int64  `json:"stride"`
			Direction string `json:"direction"`
		}
		if err := decodeStrict("truncation", truncation, &f); err != nil {
			return err
		}
		if f.MaxLength == nil || *f.MaxLength <= int64(t.post.len()) || *f.MaxLength > math.MaxInt32 {
			return badModel("truncation.max_length", "missing or not above the %d special tokens", t.post.len())
		}
		switch f.Strategy {
		case "LongestFirst", "OnlyFirst":
		default: // OnlySecond is an error in the official library too, for a single text
			return badModel("truncation.strategy", "%q is not supported", clip(f.Strategy))
		}
		switch f.Direction {
		case "", "Right":
		case "Left":
			t.truncation.left = true
		default:
			return badModel("truncation.direction", "%q is not supported", clip(f.Direction))
		}
		t.truncation.maxLength = int(*f.MaxLength) // the stride is about what was cut off, which nobody gets
	}
	if !isNull(padding) {
		var f struct {
			PadID *int32 `json:"pad_id"`
		}
		if err := decodeLoose("padding", padding, &f); err != nil {
			return err
		}
		if f.PadID != nil {
			if *f.PadID < 0 || int(*f.PadID) >= len(t.tokens) {
				return badModel("padding.pad_id", "%d is beyond the vocabulary of %d", *f.PadID, len(t.tokens))
			}
			t.pad = *f.PadID
		}
	}
	return nil
}

// VocabSize returns the number of rows that an embedding table needs: the largest id plus one, added tokens included.
func (t *Tokenizer) VocabSize() int { return len(t.tokens) }

// ID returns the id of a token, such as "[CLS]" or "##ing", whether the model's or an added one.
func (t *Tokenizer) ID(token string) (int32, bool) {
	id, ok := t.ids[token]
	return id, ok
}

// Token returns the token of an id; false for an id that no token has.
func (t *Tokenizer) Token(id int32) (string, bool) {
	if id < 0 || int(id) >= len(t.tokens) || !t.known[id] {
		return "", false
	}
	return t.tokens[id], true
}

// AddedTokens returns the added tokens in the order of the file. The slice is the caller's.
func (t *Tokenizer) AddedTokens() []AddedToken { return append([]AddedToken(nil), t.added...) }

// PadID returns the id that the file wants texts filled up with; false if it names none.
func (t *Tokenizer) PadID() (int32, bool) { return max(t.pad, 0), t.pad >= 0 }

// UnknownID returns the id that stands for what the vocabulary cannot express; false if there is none.
func (t *Tokenizer) UnknownID() (int32, bool) { return max(t.unknown, 0), t.unknown >= 0 }

// MaxLength returns the file's own limit of tokens, special ones included; 0 if it has none.
func (t *Tokenizer) MaxLength() int { return t.truncation.maxLength }

// SpecialCount returns how many special tokens are put around every text.
func (t *Tokenizer) SpecialCount() int { return t.post.len() }
