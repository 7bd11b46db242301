package tokenizer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// AddedToken is a token beside the model's vocabulary, which is looked for in the text before the model sees it.
type AddedToken struct {
	// ID is the token's id as the official library assigns it: that of the model's vocabulary if the model has the token.
	ID int32 `json:"id"`
	// Content is what is looked for; of a Normalized token, its normalized form in the normalized text.
	Content string `json:"content"`
	// SingleWord tokens count only where no word character (\w) is beside them.
	SingleWord bool `json:"single_word"`
	// LStrip and RStrip tokens swallow the white space on their left and right.
	LStrip bool `json:"lstrip"`
	RStrip bool `json:"rstrip"`
	// Normalized tokens are looked for after normalization, others before it.
	Normalized bool `json:"normalized"`
	// Special tokens, such as [CLS], say something about the text and stand for no part of it.
	Special bool `json:"special"`
}

// addedSet finds the added tokens of one kind, normalized or not, in a text: the leftmost match first, of these the longest.
type addedSet struct {
	trie   *trie // values index tokens
	tokens []AddedToken
	first  [256]bool
	lead   byte // the only first byte, if there is one
	single bool
}

// newAddedSet returns nil for no tokens. patterns[i] is what to look for in place of tokens[i].Content.
func newAddedSet(tokens []AddedToken, patterns []string) *addedSet {
	if len(tokens) == 0 {
		return nil
	}
	s := &addedSet{tokens: tokens, single: true, lead: patterns[0][0]}
	keys := make([]trieKey, len(tokens))
	for i, p := range patterns {
		keys[i] = trieKey{p, int32(i)}
		s.first[p[0]] = true
		s.single = s.single && p[0] == s.lead
	}
	s.trie = newTrie(keys)
	return s
}

// next returns the place of the next match from i on, and its token; start -1 means none.
func (s *addedSet) next(text []byte, i int) (start, stop int, token *AddedToken) {
	for i < len(text) {
		if s.single {
			n := bytes.IndexByte(text[i:], s.lead)
			if n < 0 {
				break
			}
			i += n
		} else if !s.first[text[i]] {
			i++
			continue
		}
		if n, v := s.trie.longest(trieRoot, text[i:]); n > 0 {
			return i, i + n, &s.tokens[v]
		}
		i++
	}
	return -1, -1, nil
}

// addedScan is how far a text was searched for added tokens.
type addedScan struct {
	i    int // where to look for the next match
	done int // the end of the last token, white space that it swallowed included
}

// scan returns the next added token that counts and what lies between the one before it and itself, which may be empty; a
// nil token means that the text ends after from:to. It follows AddedVocabulary::find_matches of the official library.
func (s *addedSet) scan(t *charTables, text []byte, at *addedScan) (from, to int, token *AddedToken) {
	for {
		start, stop, tok := s.next(text, at.i)
		if start < 0 {
			return at.done, len(text), nil
		}
		at.i = stop // also where the match is dismissed
		if tok.SingleWord && (endsWithWord(t, text[:start]) || startsWithWord(t, text[stop:])) {
			continue
		}
		if tok.LStrip {
			for start > at.done {
				r, n := utf8.DecodeLastRune(text[at.done:start])
				if t.at(r).props&propWhite == 0 {
					break
				}
				start -= n
			}
			start = max(start, at.done)
		}
		if tok.RStrip {
			for stop < len(text) {
				r, n := utf8.DecodeRune(text[stop:])
				if t.at(r).props&propWhite == 0 {
					break
				}
				stop += n
			}
		}
		from, to = at.done, max(at.done, start)
		at.done = stop
		return from, to, tok
	}
}

func endsWithWord(t *charTables, s []byte) bool {
	if len(s) == 0 {
		return false
	}
	r, _ := utf8.DecodeLastRune(s)
	return t.at(r).props&propWord != 0
}

func startsWithWord(t *charTables, s []byte) bool {
	if len(s) == 0 {
		return false
	}
	r, _ := utf8.DecodeRune(s)
	return t.at(r).props&propWord != 0
}

// decodeAdded reads "added_tokens" and gives each token its id, as AddedVocabulary::add_tokens does: the model's id if the
// model has the token, else the next one that is free. The "id" of the file must be the same.
func decodeAdded(raw json.RawMessage, modelIDs map[string]int32) ([]AddedToken, error) {
	const path = "added_tokens"
	if isNull(raw) {
		return nil, nil
	}
	var fields []json.RawMessage
	if err := decodeLoose(path, raw, &fields); err != nil {
		return nil, err
	}
	next := int32(len(modelIDs))
	seen := make(map[string]bool, len(fields))
	var tokens []AddedToken
	for i, f := range fields {
		at := fmt.Sprintf("%s[%d]", path, i)
		var tok AddedToken
		if err := decodeStrict(at, f, &tok); err != nil {
			return nil, err
		}
		if tok.Content == "" {
			return nil, badModel(at+".content", "is empty")
		}
		if seen[tok.Content] {
			return nil, badModel(at+".content", "%q comes twice", clip(tok.Content))
		}
		id, ok := modelIDs[tok.Content]
		if !ok {
			id = next
			next++
		}
		if id != tok.ID {
			return nil, badModel(at+".id", "%q has id %d here, but the official library would give it %d", clip(tok.Content), tok.ID, id)
		}
		seen[tok.Content] = true
		tokens = append(tokens, tok)
	}
	return tokens, nil
}
