package tokenizer

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// metaspace is Metaspace, SentencePiece's way with white space: spaces become a visible character, one is put in front, and
// every one begins a piece.
type metaspace struct {
	char          []byte
	always, first bool // put in front of every piece; of the one that begins the text
	cut           bool
}

func (t *Tokenizer) parseMetaspace(path string, raw json.RawMessage) (*metaspace, error) {
	var f struct {
		Type        string  `json:"type"`
		Replacement string  `json:"replacement"`
		PrefixSpace *bool   `json:"add_prefix_space"`
		Scheme      *string `json:"prepend_scheme"`
		Split       *bool   `json:"split"`
		StrRep      *string `json:"str_rep"`
	}
	if err := decodeStrict(path, raw, &f); err != nil {
		return nil, err
	}
	if utf8.RuneCountInString(f.Replacement) != 1 {
		return nil, badModel(path+".replacement", "%q is not one character", clip(f.Replacement))
	}
	m := &metaspace{char: []byte(f.Replacement), cut: f.Split == nil || *f.Split}
	scheme := "always"
	if f.Scheme != nil {
		scheme = *f.Scheme
	}
	if f.PrefixSpace != nil && !*f.PrefixSpace && scheme != "never" {
		return nil, badModel(path, "add_prefix_space and prepend_scheme contradict each other")
	}
	switch scheme {
	case "always":
		m.always = true
	case "first":
		m.first = true
		// Whether a piece begins the text is asked of the text before normalization.
		for _, n := range t.normalize {
			switch n := n.(type) {
			case unicodeForm, lowercase, prepend, *precompiled:
			case replace:
				if n.to == "" {
					return nil, badModel(path+".prepend_scheme", `"first" is not supported together with a Replace that removes text`)
				}
			default:
				return nil, badModel(path+".prepend_scheme", `"first" is not supported together with a normalizer that removes text`)
			}
		}
	case "never":
	default:
		return nil, badModel(path+".prepend_scheme", "%q is not supported", clip(scheme))
	}
	return m, nil
}

// split implements preTokenizer.
func (m *metaspace) split(e *Encoder, step int, s []byte, first bool) bool {
	buf := e.pre[step][:0]
	if (m.always || m.first && first) && s[0] != ' ' && !bytes.HasPrefix(s, m.char) {
		buf = append(buf, m.char...)
	}
	for len(s) > 0 {
		n := bytes.IndexByte(s, ' ')
		if n < 0 {
			buf = append(buf, s...)
			break
		}
		buf = append(append(buf, s[:n]...), m.char...)
		s = s[n+1:]
	}
	e.pre[step] = buf
	for m.cut {
		n := bytes.Index(buf[1:], m.char)
		if n < 0 {
			break
		}
		n++
		if !e.split(step+1, buf[:n], first) {
			return false
		}
		buf, first = buf[n:], false
	}
	return e.split(step+1, buf, first)
}
