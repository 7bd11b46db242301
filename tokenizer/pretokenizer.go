package tokenizer

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// preTokenizer cuts a piece of normalized text into smaller ones, and may rewrite them.
type preTokenizer interface {
	// split gives each part to e.split of the next step, in order, until that returns false, and returns that. No part is
	// empty. first tells that the piece begins the text.
	split(e *Encoder, step int, piece []byte, first bool) bool
}

func (t *Tokenizer) parsePreTokenizer(path string, raw json.RawMessage, depth int) ([]preTokenizer, error) {
	if isNull(raw) {
		return nil, nil
	}
	kind, err := typeOf(path, raw)
	if err != nil {
		return nil, err
	}
	bare := func(p preTokenizer) ([]preTokenizer, error) {
		var f struct {
			Type string `json:"type"`
		}
		return []preTokenizer{p}, decodeStrict(path, raw, &f)
	}
	switch kind {
	case "BertPreTokenizer":
		return bare(bertPreTokenizer{})
	case "WhitespaceSplit":
		return bare(whitespaceSplit{})
	case "Whitespace":
		return bare(whitespaceWords{})
	case "ByteLevel":
		p, err := parseByteLevel(path, raw)
		return []preTokenizer{p}, err
	case "Metaspace":
		p, err := t.parseMetaspace(path, raw)
		return []preTokenizer{p}, err
	case "Punctuation":
		var f struct {
			Type     string  `json:"type"`
			Behavior *string `json:"behavior"`
		}
		if err := decodeStrict(path, raw, &f); err != nil {
			return nil, err
		}
		if f.Behavior != nil && *f.Behavior != "Isolated" {
			return nil, badModel(path+".behavior", "%q is not supported", clip(*f.Behavior))
		}
		return []preTokenizer{isolate{propPunct}}, nil
	case "Digits":
		var f struct {
			Type       string `json:"type"`
			Individual *bool  `json:"individual_digits"`
		}
		if err := decodeStrict(path, raw, &f); err != nil {
			return nil, err
		}
		if f.Individual == nil {
			return nil, badModel(path+".individual_digits", "missing")
		}
		if *f.Individual {
			return []preTokenizer{isolate{propNumeric}}, nil
		}
		return []preTokenizer{contiguous{propNumeric}}, nil
	case "Sequence":
		var f struct {
			Type    string            `json:"type"`
			Members []json.RawMessage `json:"pretokenizers"`
		}
		if err := decodeStrict(path, raw, &f); err != nil {
			return nil, err
		}
		if depth >= maxDepth {
			return nil, badModel(path, "is nested too deep")
		}
		var all []preTokenizer
		for i, m := range f.Members {
			p, err := t.parsePreTokenizer(fmt.Sprintf("%s.pretokenizers[%d]", path, i), m, depth+1)
			if err != nil {
				return nil, err
			}
			all = append(all, p...)
		}
		return all, nil
	}
	return nil, unknown(path, "pre-tokenizer", kind)
}

// splitByProp drops code points with the properties of drop and makes those of alone pieces of their own.
func splitByProp(e *Encoder, step int, s []byte, first bool, drop, alone uint16) bool {
	t, start := e.t.chars, 0
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRune(s[i:])
		props := t.at(r).props
		if props&(drop|alone) == 0 {
			i += n
			continue
		}
		if start < i && !e.split(step+1, s[start:i], first && start == 0) {
			return false
		}
		if props&drop == 0 && !e.split(step+1, s[i:i+n], first && i == 0) {
			return false
		}
		i += n
		start = i
	}
	return start == len(s) || e.split(step+1, s[start:], first && start == 0)
}

// whitespaceSplit is WhitespaceSplit.
type whitespaceSplit struct{}

// split implements preTokenizer.
func (whitespaceSplit) split(e *Encoder, step int, s []byte, first bool) bool {
	return splitByProp(e, step, s, first, propWhite, 0)
}

// isolate makes every code point with a property a piece: Punctuation, and Digits with individual_digits.
type isolate struct{ prop uint16 }

// split implements preTokenizer.
func (p isolate) split(e *Encoder, step int, s []byte, first bool) bool {
	return splitByProp(e, step, s, first, 0, p.prop)
}

// contiguous cuts where a property begins or ends: Digits.
type contiguous struct{ prop uint16 }

// split implements preTokenizer.
func (p contiguous) split(e *Encoder, step int, s []byte, first bool) bool {
	return splitByClass(e, step, s, first, func(props uint16) uint8 {
		if props&p.prop != 0 {
			return 1
		}
		return 2
	})
}

// whitespaceWords is Whitespace: \w+|[^\w\s]+.
type whitespaceWords struct{}

// split implements preTokenizer.
func (whitespaceWords) split(e *Encoder, step int, s []byte, first bool) bool {
	return splitByClass(e, step, s, first, func(props uint16) uint8 {
		switch {
		case props&propWord != 0:
			return 1
		case props&propWhite != 0:
			return 0
		}
		return 2
	})
}

// splitByClass makes runs of one class pieces and drops class 0.
func splitByClass(e *Encoder, step int, s []byte, first bool, class func(props uint16) uint8) bool {
	t, start, current := e.t.chars, 0, uint8(0)
	for i := 0; i <= len(s); {
		c, n := uint8(255), 1 // the end of the text ends a run
		if i < len(s) {
			var r rune
			r, n = utf8.DecodeRune(s[i:])
			c = class(t.at(r).props)
		}
		if c != current {
			if current != 0 && !e.split(step+1, s[start:i], first && start == 0) {
				return false
			}
			start, current = i, c
		}
		i += n
	}
	return true
}
