package tokenizer

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"
)

// unigram is SentencePiece's unigram language model (Kudo, 2018): of all ways to cut a piece, the one with the highest sum
// of scores, found by dynamic programming (models/unigram of the official library, encode_optimized). Immutable.
type unigram struct {
	trie     *trie
	scores   []float64
	unknown  int32
	penalty  float64     // the score of an unknown character
	fallback *[256]int32 // ids of <0x00> to <0xFF>; nil unless all are there and wanted
}

// unknownPenalty is K_UNK_PENALTY of the official library.
const unknownPenalty = 10

// scored is ["token", score].
type scored struct {
	token string
	score float64
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *scored) UnmarshalJSON(data []byte) error {
	var parts []json.RawMessage
	if err := json.Unmarshal(data, &parts); err != nil {
		return err
	}
	if len(parts) != 2 {
		return fmt.Errorf("want a token and its score, have %d values", len(parts))
	}
	if err := json.Unmarshal(parts[0], &s.token); err != nil {
		return err
	}
	return json.Unmarshal(parts[1], &s.score)
}

func (t *Tokenizer) parseUnigram(raw json.RawMessage) ([]vocabEntry, error) {
	var f struct {
		Type         string   `json:"type"`
		UnknownID    *int64   `json:"unk_id"`
		ByteFallback *bool    `json:"byte_fallback"`
		Vocab        []scored `json:"vocab"`
	}
	if err := decodeStrict("model", raw, &f); err != nil {
		return nil, err
	}
	if len(f.Vocab) == 0 || len(f.Vocab) > maxVocab {
		return nil, badModel("model.vocab", "has %d tokens", len(f.Vocab))
	}
	if f.UnknownID == nil || *f.UnknownID < 0 || *f.UnknownID >= int64(len(f.Vocab)) {
		return nil, badModel("model.unk_id", "missing or not in the vocabulary: nothing could stand for unknown characters")
	}
	m := &unigram{unknown: int32(*f.UnknownID), penalty: math.Inf(1)}
	vocab := make([]vocabEntry, len(f.Vocab))
	keys := make([]trieKey, 0, len(f.Vocab))
	ids := make(map[string]int32, len(f.Vocab))
	for i, v := range f.Vocab {
		if old, ok := ids[v.token]; ok {
			return nil, badModel(fmt.Sprintf("model.vocab[%d]", i), "token %q has id %d already", clip(v.token), old)
		}
		ids[v.token] = int32(i)
		vocab[i] = vocabEntry{v.token, int32(i)}
		m.scores = append(m.scores, v.score)
		m.penalty = min(m.penalty, v.score)
		if v.token != "" {
			keys = append(keys, trieKey{v.token, int32(i)})
		}
	}
	m.penalty -= unknownPenalty
	m.trie = newTrie(keys)
	if f.ByteFallback != nil && *f.ByteFallback {
		m.fallback = new([256]int32)
		for b := range m.fallback {
			id, ok := ids[fmt.Sprintf("<0x%02X>", b)]
			if !ok {
				return nil, badModel("model.byte_fallback", "the vocabulary lacks <0x%02X>", b)
			}
			m.fallback[b] = id
		}
	}
	t.model, t.unknown = m, m.unknown
	return vocab, nil
}

// unigramScratch is the best way to each place in a piece. It is of one Encoder.
type unigramScratch struct {
	best []bestPath
}

type bestPath struct {
	score float64
	from  int32 // where the last token begins; -1 if there is no way yet
	id    int32
}

func (s *unigramScratch) shrink() {
	if cap(s.best) > keepBytes/16 {
		s.best = nil
	}
}

// appendPiece implements model.
func (m *unigram) appendPiece(e *Encoder, piece []byte) {
	if len(piece) > shortWord {
		e.ids = m.appendBest(e.ids, &e.uni, piece)
		return
	}
	var buf [shortWord]byte
	copy(buf[:], piece)
	c := e.cache.slot(buf, len(piece))
	if c.holds(buf, len(piece)) {
		e.ids = append(e.ids, c.ids[:c.count]...)
		return
	}
	base := len(e.ids)
	e.ids = m.appendBest(e.ids, &e.uni, piece)
	c.keep(buf, len(piece), e.ids[base:])
}

func (m *unigram) appendBest(ids []int32, s *unigramScratch, piece []byte) []int32 {
	s.best = resize(s.best, len(piece)+1)
	best, nodes := s.best, m.trie.nodes
	best[0] = bestPath{from: -1}
	for i := range best {
		best[i].from = -1
	}
	for i := 0; i < len(piece); {
		size := 1
		if piece[i] >= utf8.RuneSelf {
			_, size = utf8.DecodeRune(piece[i:])
		}
		here, known := best[i].score, false
		node := trieRoot
		at := nodes[node].base // trie.child, with what it reads kept for the next step
		for j := i; j < len(piece); {
			n := at ^ int32(piece[j])
			if uint(n) >= uint(len(nodes)) || nodes[n].check != node {
				break
			}
			node, at = n, nodes[n].base
			j++
			id := nodes[n].value
			if id < 0 {
				continue
			}
			p := &best[j]
			if score := m.scores[id] + here; p.from < 0 || score > p.score {
				p.score, p.from, p.id = score, int32(i), id
			}
			known = known || j-i == size
		}
		if !known {
			if score := m.penalty + here; best[i+size].from < 0 || score > best[i+size].score {
				best[i+size] = bestPath{score, int32(i), m.unknown}
			}
		}
		i += size
	}
	base := len(ids)
	for end := len(piece); end > 0; { // backwards, and turned round at the end
		p := best[end]
		start := int(p.from)
		if p.id != m.unknown {
			ids = append(ids, p.id)
			end = start
			continue
		}
		for start > 0 && best[start].id == m.unknown { // unknown neighbours are one token
			start = int(best[start].from)
		}
		switch id, ok := m.trie.get(piece[start:end]); {
		case ok:
			ids = append(ids, id)
		case m.fallback != nil:
			for k := end - 1; k >= start; k-- {
				ids = append(ids, m.fallback[piece[k]])
			}
		default:
			ids = append(ids, m.unknown)
		}
		end = start
	}
	slices.Reverse(ids[base:])
	return ids
}
