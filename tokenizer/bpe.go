package tokenizer

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// bpe is byte pair encoding (Sennrich et al., 2016; as in the official library's models/bpe): of all neighbouring symbols
// the pair of the lowest rank is merged, the leftmost first, until no pair has a rank. Immutable.
type bpe struct {
	byteLevel    bool
	symbols      [256]int32 // byte-level: id of each byte, -1 for none
	merges       *pairTable
	words        *wordTable // pieces of up to 16 bytes that come out as one token
	trie         *trie      // all tokens, for characters and for ignoreMerges
	ignoreMerges bool
	unknown      int32 // -1: what is not in the vocabulary is left out
	fuseUnknown  bool
	fallback     *[256]int32 // ids of <0x00> to <0xFF>, -1 for none; nil without byte_fallback
}

func (t *Tokenizer) parseBPE(raw json.RawMessage, byteLevel bool) ([]vocabEntry, error) {
	var f struct {
		Type         string          `json:"type"`
		Dropout      *float64        `json:"dropout"`
		Unknown      *string         `json:"unk_token"`
		Prefix       *string         `json:"continuing_subword_prefix"`
		Suffix       *string         `json:"end_of_word_suffix"`
		FuseUnknown  *bool           `json:"fuse_unk"`
		ByteFallback *bool           `json:"byte_fallback"`
		IgnoreMerges *bool           `json:"ignore_merges"`
		Vocab        json.RawMessage `json:"vocab"`
		Merges       json.RawMessage `json:"merges"`
	}
	if err := decodeStrict("model", raw, &f); err != nil {
		return nil, err
	}
	isSet := func(b *bool) bool { return b != nil && *b }
	switch {
	case f.Dropout != nil && *f.Dropout != 0:
		return nil, badModel("model.dropout", "%v is not supported: ids would be random", *f.Dropout)
	case f.Prefix != nil && *f.Prefix != "":
		return nil, badModel("model.continuing_subword_prefix", "%q is not supported", clip(*f.Prefix))
	case f.Suffix != nil && *f.Suffix != "":
		return nil, badModel("model.end_of_word_suffix", "%q is not supported", clip(*f.Suffix))
	}
	vocab, err := decodeVocab("model.vocab", f.Vocab)
	if err != nil {
		return nil, err
	}
	ids := make(map[string]int32, len(vocab))
	for _, v := range vocab {
		ids[v.token] = v.id
	}
	m := &bpe{byteLevel: byteLevel, ignoreMerges: isSet(f.IgnoreMerges), fuseUnknown: isSet(f.FuseUnknown), unknown: -1}
	if m.merges, err = decodeMerges(f.Merges, ids); err != nil {
		return nil, err
	}
	if f.Unknown != nil {
		id, ok := ids[*f.Unknown]
		if ok {
			m.unknown = id
		}
	}
	if isSet(f.ByteFallback) {
		m.fallback = new([256]int32)
		for b := range m.fallback {
			m.fallback[b] = -1
			if id, ok := ids[fmt.Sprintf("<0x%02X>", b)]; ok {
				m.fallback[b] = id
			}
		}
	}
	complete := m.index(vocab)
	switch {
	case byteLevel && !complete && m.fallback != nil:
		return nil, badModel("model.byte_fallback", "is not supported for a byte-level vocabulary that lacks bytes")
	case (!byteLevel || !complete) && f.Unknown != nil && m.unknown < 0:
		return nil, badModel("model.unk_token", "%q is not in the vocabulary", clip(*f.Unknown))
	}
	t.model, t.unknown = m, m.unknown
	return vocab, nil
}

// index makes the tables of tokens and reports whether all bytes have a token.
func (m *bpe) index(vocab []vocabEntry) (complete bool) {
	keys := make([]trieKey, 0, len(vocab))
	for _, v := range vocab {
		key := v.token
		if m.byteLevel {
			b, ok := appendBytesOf(nil, v.token)
			if !ok {
				continue
			}
			key = string(b)
		}
		if key != "" {
			keys = append(keys, trieKey{key, v.id})
		}
	}
	m.trie = newTrie(keys)
	complete = true
	for b := range m.symbols {
		m.symbols[b] = -1
		if id, ok := m.trie.get([]byte{byte(b)}); ok {
			m.symbols[b] = id
		} else {
			complete = false
		}
	}
	m.words = newWordTable(len(keys))
	var s bpeScratch
	var out []int32
	for _, k := range keys {
		if len(k.key) > shortWord {
			continue
		}
		if !m.ignoreMerges { // a token is not always what merging its characters gives
			out = m.appendMerged(out[:0], &s, []byte(k.key))
			if len(out) != 1 || out[0] != k.value {
				continue
			}
		}
		m.words.put(k.key, k.value)
	}
	return complete
}

// decodeMerges reads [["a", "b"], ...] or ["a b", ...]; a pair that comes twice has its last rank.
func decodeMerges(raw json.RawMessage, ids map[string]int32) (*pairTable, error) {
	const path = "model.merges"
	if isNull(raw) {
		return nil, badModel(path, "missing")
	}
	var list []mergePair
	if err := decodeLoose(path, raw, &list); err != nil {
		return nil, err
	}
	table := newPairTable(len(list))
	rank := int32(0)
	for i, p := range list {
		if p.legacy && strings.HasPrefix(p.a, "#version") {
			continue
		}
		at := func() string { return fmt.Sprintf("%s[%d]", path, i) }
		if p.legacy {
			a, b, ok := strings.Cut(p.a, " ")
			if !ok || strings.Contains(b, " ") {
				return nil, badModel(at(), "%q is not two tokens", clip(p.a))
			}
			p.a, p.b = a, b
		}
		a, ok := ids[p.a]
		if !ok {
			return nil, badModel(at(), "token %q is not in the vocabulary", clip(p.a))
		}
		b, ok := ids[p.b]
		if !ok {
			return nil, badModel(at(), "token %q is not in the vocabulary", clip(p.b))
		}
		to, ok := ids[p.a+p.b]
		if !ok {
			return nil, badModel(at(), "%q, what %q and %q make, is not in the vocabulary", clip(p.a+p.b), clip(p.a), clip(p.b))
		}
		table.put(a, b, rank, to)
		rank++
	}
	return table, nil
}

// mergePair is one merge: two tokens, or in older files one string with a space between them.
type mergePair struct {
	a, b   string
	legacy bool
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *mergePair) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		p.legacy = true
		return json.Unmarshal(data, &p.a)
	}
	var pair []string
	if err := json.Unmarshal(data, &pair); err != nil {
		return err
	}
	if len(pair) != 2 {
		return fmt.Errorf("a merge has %d tokens, not 2", len(pair))
	}
	p.a, p.b = pair[0], pair[1]
	return nil
}

// appendPiece implements model.
func (m *bpe) appendPiece(e *Encoder, piece []byte) {
	if len(piece) > shortWord {
		if m.ignoreMerges {
			if id, ok := m.trie.get(piece); ok {
				e.ids = append(e.ids, id)
				return
			}
		}
		e.ids = m.appendMerged(e.ids, &e.bpe, piece)
		return
	}
	var buf [shortWord]byte
	copy(buf[:], piece)
	if id := m.words.get(buf[:], len(piece)); id >= 0 {
		e.ids = append(e.ids, id)
		return
	}
	c := e.cache.slot(buf, len(piece))
	if c.holds(buf, len(piece)) {
		e.ids = append(e.ids, c.ids[:c.count]...)
		return
	}
	base := len(e.ids)
	e.ids = m.appendMerged(e.ids, &e.bpe, piece)
	c.keep(buf, len(piece), e.ids[base:])
}

// appendMerged does the whole work for one piece.
func (m *bpe) appendMerged(ids []int32, s *bpeScratch, piece []byte) []int32 {
	base := len(ids)
	if m.byteLevel {
		unknown := false
		for _, b := range piece {
			id := m.symbols[b]
			if id < 0 {
				if id = m.unknown; id < 0 || m.fuseUnknown && unknown {
					continue
				}
				unknown = true
			} else {
				unknown = false
			}
			ids = append(ids, id)
		}
	} else {
		ids = m.appendChars(ids, piece)
	}
	n := m.merge(s, ids[base:])
	return ids[:base+n]
}

// appendChars appends the symbols of a piece's characters. An unknown one waits until a known one comes, as in the official
// library, where bytes of byte_fallback overtake it.
func (m *bpe) appendChars(ids []int32, piece []byte) []int32 {
	waiting := false
	for len(piece) > 0 {
		_, n := utf8.DecodeRune(piece)
		char := piece[:n]
		piece = piece[n:]
		if id, ok := m.trie.get(char); ok {
			if waiting {
				ids = append(ids, m.unknown)
				waiting = false
			}
			ids = append(ids, id)
			continue
		}
		if m.fallback != nil {
			base, ok := len(ids), true
			for _, b := range char {
				ok = ok && m.fallback[b] >= 0
				ids = append(ids, m.fallback[b])
			}
			if ok {
				continue
			}
			ids = ids[:base]
		}
		if m.unknown >= 0 {
			if waiting && !m.fuseUnknown {
				ids = append(ids, m.unknown)
			}
			waiting = true
		}
	}
	if waiting {
		ids = append(ids, m.unknown)
	}
	return ids
}

// noRank marks a pair that no merge has.
const noRank = math.MaxInt32
