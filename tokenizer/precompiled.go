package tokenizer

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"unicode/utf8"
)

// precompiled is Precompiled, SentencePiece's compiled rules (spm_precompiled and normalizers/precompiled of the official
// library): a Darts double array from strings to places in a blob of replacements that end with NUL. The library looks up
// whole grapheme clusters of less than 6 bytes, else characters, and takes the shortest rule that a cluster begins with; the
// rest of such a cluster is lost. So do we.
type precompiled struct {
	units []uint32
	text  []byte
	ascii [utf8.RuneSelf]int32 // the replacement's place for each ASCII character, -1 for none
}

func parsePrecompiled(path string, raw json.RawMessage) (*precompiled, error) {
	var f struct {
		Type string  `json:"type"`
		Map  *string `json:"precompiled_charsmap"`
	}
	if err := decodeStrict(path, raw, &f); err != nil {
		return nil, err
	}
	path += ".precompiled_charsmap"
	if f.Map == nil {
		return nil, badModel(path, "missing")
	}
	data, err := base64.StdEncoding.DecodeString(*f.Map)
	if err != nil {
		return nil, badModel(path, "%w", err)
	}
	if len(data) < 4 {
		return nil, badModel(path, "has %d bytes", len(data))
	}
	size := binary.LittleEndian.Uint32(data)
	data = data[4:]
	if size == 0 || size%4 != 0 || uint64(size) > uint64(len(data)) {
		return nil, badModel(path, "claims a trie of %d bytes and has %d", size, len(data))
	}
	n := &precompiled{units: make([]uint32, size/4), text: data[size:]}
	for i := range n.units {
		n.units[i] = binary.LittleEndian.Uint32(data[4*i:])
	}
	if !utf8.Valid(n.text) {
		return nil, badModel(path, "the replacements are not UTF-8")
	}
	if err := n.check(path); err != nil {
		return nil, err
	}
	for c := range n.ascii {
		n.ascii[c] = int32(n.find([]byte{byte(c)}))
	}
	return n, nil
}

// The fields of a Darts unit.
func unitHasLeaf(u uint32) bool  { return u>>8&1 == 1 }
func unitLabel(u uint32) uint32  { return u & (1<<31 | 0xFF) }
func unitOffset(u uint32) uint32 { return u >> 10 << (u & (1 << 9) >> 6) }
func unitValue(u uint32) uint32  { return u & (1<<31 - 1) }

// check walks the whole double array once, so that find need not fear to leave it.
func (n *precompiled) check(path string) error {
	size := uint32(len(n.units))
	seen := make([]bool, size)
	first := unitOffset(n.units[0])
	stack := []uint32{first}
	for len(stack) > 0 {
		at := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if at >= size {
			return badModel(path, "the trie points at unit %d of %d", at, size)
		}
		if seen[at] {
			continue
		}
		seen[at] = true
		for c := uint32(1); c < 256; c++ {
			child := at ^ c
			if child >= size {
				return badModel(path, "the trie ends within a block of units, at %d of %d", child, size)
			}
			u := n.units[child]
			if unitLabel(u) != c {
				continue
			}
			next := child ^ unitOffset(u)
			if next >= size {
				return badModel(path, "the trie points at unit %d of %d", next, size)
			}
			if unitHasLeaf(u) {
				v := unitValue(n.units[next])
				if uint64(v) >= uint64(len(n.text)) || !utf8.RuneStart(n.text[v]) {
					return badModel(path, "a rule points at byte %d of %d", v, len(n.text))
				}
				continue // find goes no deeper
			}
			stack = append(stack, next)
		}
	}
	return nil
}

// find returns the place of the replacement for the shortest rule that s begins with, or -1.
func (n *precompiled) find(s []byte) int {
	at := unitOffset(n.units[0])
	for _, c := range s {
		if c == 0 {
			break
		}
		at ^= uint32(c)
		u := n.units[at]
		if unitLabel(u) != uint32(c) {
			break
		}
		at ^= unitOffset(u)
		if unitHasLeaf(u) {
			return int(unitValue(n.units[at]))
		}
	}
	return -1
}

// replacement returns what stands at a place.
func (n *precompiled) replacement(at int) []byte {
	s := n.text[at:]
	if end := bytes.IndexByte(s, 0); end >= 0 {
		return s[:end]
	}
	return s
}

// normalize implements normalizer.
func (n *precompiled) normalize(e *Encoder, dst, s []byte) ([]byte, bool) {
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf && c != '\r' && (i+1 == len(s) || s[i+1] < utf8.RuneSelf) {
			if at := n.ascii[c]; at >= 0 {
				dst = append(dst, n.replacement(int(at))...)
			} else {
				dst = append(dst, c)
			}
			i++
			continue
		}
		end := e.t.chars.graphemeEnd(s, i)
		if end-i < 6 {
			if at := n.find(s[i:end]); at >= 0 {
				dst = append(dst, n.replacement(at)...)
				i = end
				continue
			}
		}
		for i < end {
			_, size := utf8.DecodeRune(s[i:])
			if at := n.find(s[i : i+size]); at >= 0 {
				dst = append(dst, n.replacement(at)...)
			} else {
				dst = append(dst, s[i:i+size]...)
			}
			i += size
		}
	}
	return dst, true
}

// Grapheme cluster break classes, in the order of testdata/gen_tables.py.
const (
	gcbOther = iota
	gcbCR
	gcbLF
	gcbControl
	gcbExtend
	gcbZWJ
	gcbRegional
	gcbPrepend
	gcbSpacingMark
	gcbL
	gcbV
	gcbT
	gcbLV
	gcbLVT
	gcbPictographic
	gcbConsonant // InCB=Consonant; otherwise Other
)

// graphemeEnd returns the end of the extended grapheme cluster that begins at s[i] (Unicode Standard Annex 29).
func (t *charTables) graphemeEnd(s []byte, i int) int {
	r, n := utf8.DecodeRune(s[i:])
	before := t.at(r)
	regional := 0
	pictographic, consonant, linker := false, false, false // GB11, GB9c: what came before the current run of Extend
	for i += n; ; i += n {
		switch before.gcb {
		case gcbRegional:
			regional++
		case gcbPictographic:
			pictographic = true
		case gcbConsonant:
			consonant, linker = true, false
		}
		if g := before.gcb; g != gcbPictographic && g != gcbExtend && g != gcbZWJ {
			pictographic = false
		}
		if before.gcb != gcbConsonant {
			linker = linker || consonant && before.props&propInCBLinker != 0
			consonant = consonant && before.props&(propInCBLinker|propInCBExtend) != 0
		}
		if i >= len(s) {
			return len(s)
		}
		r, n = utf8.DecodeRune(s[i:])
		after := t.at(r)
		if graphemeBreak(before.gcb, after.gcb, regional, pictographic, consonant && linker) {
			return i
		}
		before = after
	}
}

// graphemeBreak is check_pair of the crate unicode-segmentation, with the answers of what lies further back.
func graphemeBreak(before, after uint8, regional int, pictographic, conjunct bool) bool {
	switch {
	case before == gcbCR && after == gcbLF: // GB3
		return false
	case before == gcbControl, before == gcbCR, before == gcbLF, after == gcbControl, after == gcbCR, after == gcbLF: // GB4, GB5
		return true
	case before == gcbL && (after == gcbL || after == gcbV || after == gcbLV || after == gcbLVT), // GB6
		(before == gcbLV || before == gcbV) && (after == gcbV || after == gcbT), // GB7
		(before == gcbLVT || before == gcbT) && after == gcbT,                   // GB8
		after == gcbExtend, after == gcbZWJ, // GB9
		after == gcbSpacingMark, // GB9a
		before == gcbPrepend:    // GB9b
		return false
	case after == gcbConsonant: // GB9c
		return !conjunct
	case before == gcbZWJ && after == gcbPictographic: // GB11
		return !pictographic
	case before == gcbRegional && after == gcbRegional: // GB12, GB13
		return regional%2 == 0
	}
	return true
}
