package tokenizer

import (
	"encoding/json"
	"unicode/utf8"
)

// wordPiece is the greedy longest-match-first model of BERT (Schuster and Nakajima, 2012; as in the official library's
// models/wordpiece). Most words are tokens: those of up to 16 bytes are found in one probe of a hash table; everything else
// takes one walk down a trie for each piece.
type wordPiece struct {
	words    *wordTable
	trie     *trie
	cont     int32 // the trie's node after the continuing prefix, "##"; -1 if no token begins with it
	unknown  int32
	maxChars int // a word of more code points is unknown
}

// maxVocab bounds the vocabulary, so that tables indexed by 32 bits hold it.
const maxVocab = 1 << 24

func (t *Tokenizer) parseWordPiece(raw json.RawMessage) ([]vocabEntry, error) {
	var f struct {
		Type     string          `json:"type"`
		Unknown  *string         `json:"unk_token"`
		Prefix   *string         `json:"continuing_subword_prefix"`
		MaxChars *int            `json:"max_input_chars_per_word"`
		Vocab    json.RawMessage `json:"vocab"`
	}
	if err := decodeStrict("model", raw, &f); err != nil {
		return nil, err
	}
	switch {
	case f.Unknown == nil:
		return nil, badModel("model.unk_token", "missing")
	case f.Prefix == nil:
		return nil, badModel("model.continuing_subword_prefix", "missing")
	case f.MaxChars == nil || *f.MaxChars < 0:
		return nil, badModel("model.max_input_chars_per_word", "missing or negative")
	}
	vocab, err := decodeVocab("model.vocab", f.Vocab)
	if err != nil {
		return nil, err
	}
	m := &wordPiece{unknown: -1, maxChars: min(*f.MaxChars, maxVocab)}
	m.words = newWordTable(len(vocab))
	keys := make([]trieKey, 0, len(vocab))
	for _, v := range vocab {
		if v.token == *f.Unknown {
			m.unknown = v.id
		}
		if v.token == "" {
			continue
		}
		keys = append(keys, trieKey{v.token, v.id})
		if len(v.token) <= shortWord {
			m.words.put(v.token, v.id)
		}
	}
	if m.unknown < 0 {
		return nil, badModel("model.unk_token", "%q is not in the vocabulary", clip(*f.Unknown))
	}
	m.trie = newTrie(keys)
	m.cont = m.trie.walk(trieRoot, []byte(*f.Prefix))
	t.model, t.unknown = m, m.unknown
	return vocab, nil
}

// appendPiece implements model.
func (m *wordPiece) appendPiece(e *Encoder, piece []byte) {
	if len(piece) > m.maxChars && utf8.RuneCount(piece) > m.maxChars {
		e.ids = append(e.ids, m.unknown)
		return
	}
	if len(piece) <= shortWord {
		var buf [shortWord]byte
		copy(buf[:], piece)
		if id := m.words.get(buf[:], len(piece)); id >= 0 {
			e.ids = append(e.ids, id)
			return
		}
	}
	e.ids = m.appendSplit(e.ids, piece)
}

// appendSplit splits a word into its longest pieces from the left; a word that has a part without a piece is unknown.
func (m *wordPiece) appendSplit(ids []int32, word []byte) []int32 {
	base := len(ids)
	for from := trieRoot; len(word) > 0; from = m.cont {
		n, id := 0, int32(0)
		if from >= 0 {
			n, id = m.trie.longest(from, word)
		}
		if n == 0 {
			return append(ids[:base], m.unknown)
		}
		ids = append(ids, id)
		word = word[n:]
	}
	return ids
}
