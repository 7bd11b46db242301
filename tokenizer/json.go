package tokenizer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/f708428e/engine"
)

const opParse = "parse tokenizer"

// maxDepth bounds how deep Sequence components nest: each level is read again by the one below.
const maxDepth = 8

// badModel returns an error about the place in tokenizer.json.
func badModel(path, format string, args ...any) error {
	return engine.Errorf(engine.KindModel, opParse, path, format, args...)
}

// decodeStrict reads one JSON value; a field that into does not name is an error, because we would not know what it asks for.
func decodeStrict(path string, raw []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return badModel(path, "%w", err)
	}
	return nil
}

// decodeLoose reads one JSON value and skips fields that into does not name.
func decodeLoose(path string, raw []byte, into any) error {
	if err := json.Unmarshal(raw, into); err != nil {
		return badModel(path, "%w", err)
	}
	return nil
}

// isNull reports whether a field is absent or null.
func isNull(raw json.RawMessage) bool {
	return len(raw) == 0 || string(raw) == "null"
}

// typeOf returns a component's "type".
func typeOf(path string, raw json.RawMessage) (string, error) {
	var c struct {
		Type *string `json:"type"`
	}
	if err := decodeLoose(path, raw, &c); err != nil {
		return "", err
	}
	if c.Type == nil {
		return "", badModel(path+".type", "missing")
	}
	return *c.Type, nil
}

// unknown is the refusal of a component that we do not have.
func unknown(path, what, name string) error {
	return badModel(path+".type", "%s %q is not supported", what, name)
}

// vocabEntry is one token of a vocabulary, in the order of the file.
type vocabEntry struct {
	token string
	id    int32
}

// decodeVocab reads {"token": id, ...}. A token or an id that comes twice is an error, and so is an id far beyond the
// number of tokens, for which no table could be kept in bounded memory.
func decodeVocab(path string, raw json.RawMessage) ([]vocabEntry, error) {
	if isNull(raw) {
		return nil, badModel(path, "missing")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, badModel(path, "is not an object of token and id")
	}
	var entries []vocabEntry
	seen := make(map[string]int32)
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, badModel(path, "%w", err)
		}
		token, _ := t.(string)
		bad := func(format string, args ...any) error {
			return badModel(fmt.Sprintf("%s[%q]", path, clip(token)), format, args...)
		}
		if t, err = d.Token(); err != nil {
			return nil, bad("%w", err)
		}
		number, ok := t.(float64)
		id := int64(number)
		if !ok || float64(id) != number || id < 0 {
			return nil, bad("id %v is not a whole number from 0", t)
		}
		if id > 1<<30 {
			return nil, bad("id %d is too large", id)
		}
		if old, ok := seen[token]; ok {
			return nil, bad("token comes twice, with ids %d and %d", old, id)
		}
		seen[token] = int32(id)
		entries = append(entries, vocabEntry{token, int32(id)})
	}
	if _, err := d.Token(); err != nil && !errors.Is(err, io.EOF) {
		return nil, badModel(path, "%w", err)
	}
	if len(entries) == 0 {
		return nil, badModel(path, "is empty")
	}
	return entries, nil
}

// maxHoles is how far ids may exceed the number of tokens: some files leave places for tokens that were never added.
func maxHoles(tokens int) int { return 4*tokens + 1<<16 }

// clip shortens a token for a message.
func clip(s string) string {
	if len(s) > 60 {
		return s[:60] + "..."
	}
	return s
}
