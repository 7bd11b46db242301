package tokenizer

import (
	"encoding/json"
	"fmt"
)

// template is what a post-processor puts around the ids of one text.
type template struct {
	prefix, suffix           []int32
	prefixTypes, suffixTypes []int32
	textType                 int32
}

func (p *template) len() int { return len(p.prefix) + len(p.suffix) }

func (p *template) appendTypes(dst []int32, n int) []int32 {
	dst = append(dst, p.prefixTypes...)
	for range n - p.len() {
		dst = append(dst, p.textType)
	}
	return append(dst, p.suffixTypes...)
}

// parsePostProcessor reads a post-processor. Of a Sequence, one member may add tokens.
func parsePostProcessor(path string, raw json.RawMessage, depth int) (template, error) {
	if isNull(raw) {
		return template{}, nil
	}
	kind, err := typeOf(path, raw)
	if err != nil {
		return template{}, err
	}
	switch kind {
	case "TemplateProcessing":
		return parseTemplate(path, raw)
	case "BertProcessing", "RobertaProcessing":
		return parseClsSep(path, raw)
	case "ByteLevel": // it is about offsets only
		return template{}, nil
	case "Sequence":
		var f struct {
			Type       string            `json:"type"`
			Processors []json.RawMessage `json:"processors"`
		}
		if err := decodeStrict(path, raw, &f); err != nil {
			return template{}, err
		}
		if depth >= maxDepth {
			return template{}, badModel(path, "is nested too deep")
		}
		var all template
		for i, p := range f.Processors {
			at := fmt.Sprintf("%s.processors[%d]", path, i)
			one, err := parsePostProcessor(at, p, depth+1)
			if err != nil {
				return template{}, err
			}
			if one.len() > 0 && all.len() > 0 {
				return template{}, badModel(at, "a second post-processor that adds tokens is not supported")
			}
			if all.len() == 0 {
				all = one
			}
		}
		return all, nil
	}
	return template{}, unknown(path, "post-processor", kind)
}

// tokenPair is ["[SEP]", 102].
type tokenPair struct {
	token string
	id    int32
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *tokenPair) UnmarshalJSON(data []byte) error {
	var parts []json.RawMessage
	if err := json.Unmarshal(data, &parts); err != nil {
		return err
	}
	if len(parts) != 2 {
		return fmt.Errorf("want a token and its id, have %d values", len(parts))
	}
	if err := json.Unmarshal(parts[0], &p.token); err != nil {
		return err
	}
	return json.Unmarshal(parts[1], &p.id)
}

func parseClsSep(path string, raw json.RawMessage) (template, error) {
	var f struct {
		Type           string     `json:"type"`
		Sep            *tokenPair `json:"sep"`
		Cls            *tokenPair `json:"cls"`
		TrimOffsets    *bool      `json:"trim_offsets"`
		AddPrefixSpace *bool      `json:"add_prefix_space"`
	}
	if err := decodeStrict(path, raw, &f); err != nil {
		return template{}, err
	}
	if f.Sep == nil || f.Cls == nil || f.Sep.id < 0 || f.Cls.id < 0 {
		return template{}, badModel(path, "sep and cls are not both there, with ids from 0")
	}
	return template{
		prefix: []int32{f.Cls.id}, suffix: []int32{f.Sep.id},
		prefixTypes: []int32{0}, suffixTypes: []int32{0},
	}, nil
}

func parseTemplate(path string, raw json.RawMessage) (template, error) {
	type piece struct {
		SpecialToken *struct {
			ID     string `json:"id"`
			TypeID int32  `json:"type_id"`
		} `json:"SpecialToken"`
		Sequence *struct {
			ID     string `json:"id"`
			TypeID int32  `json:"type_id"`
		} `json:"Sequence"`
	}
	var f struct {
		Type          string          `json:"type"`
		Single        []piece         `json:"single"`
		Pair          json.RawMessage `json:"pair"`
		SpecialTokens map[string]struct {
			ID     string   `json:"id"`
			IDs    []int32  `json:"ids"`
			Tokens []string `json:"tokens"`
		} `json:"special_tokens"`
	}
	if err := decodeStrict(path, raw, &f); err != nil {
		return template{}, err
	}
	var t template
	seen := false
	for i, p := range f.Single {
		at := fmt.Sprintf("%s.single[%d]", path, i)
		switch {
		case p.SpecialToken != nil && p.Sequence == nil:
			special, ok := f.SpecialTokens[p.SpecialToken.ID]
			if !ok {
				return template{}, badModel(at, "token %q is not among special_tokens", clip(p.SpecialToken.ID))
			}
			ids, types := &t.prefix, &t.prefixTypes
			if seen {
				ids, types = &t.suffix, &t.suffixTypes
			}
			for _, id := range special.IDs {
				if id < 0 {
					return template{}, badModel(at, "token %q has id %d", clip(p.SpecialToken.ID), id)
				}
				*ids, *types = append(*ids, id), append(*types, p.SpecialToken.TypeID)
			}
		case p.Sequence != nil && p.SpecialToken == nil && p.Sequence.ID == "A" && !seen:
			seen, t.textType = true, p.Sequence.TypeID
		default:
			return template{}, badModel(at, "is neither a special token nor the only sequence A")
		}
	}
	if !seen {
		return template{}, badModel(path+".single", "has no sequence A")
	}
	return t, nil
}
