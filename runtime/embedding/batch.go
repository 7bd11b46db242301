package embedding

import (
	"hash/maphash"
	"slices"
	"strings"
	"unicode"
	"unsafe"

	"github.com/f708428e/engine/tokenizer"
)

// Batch collects texts as token ids. Texts with the same ids are one. A batch is used by one goroutine at a time, again and again:
// once it has seen its largest content, it allocates nothing.
type Batch struct {
	e       *Embedder
	encoder *tokenizer.Encoder
	seed    maphash.Seed
	seen    map[uint64]int32 // the text with that hash of its ids
	ids     []int32
	ends    []int // of each text's ids in ids
	order   []int32
	text    []byte

	texts, truncated int64
}

// keepBytes is the scratch memory for a text that a batch keeps.
const keepBytes = 1 << 20

// NewBatch returns an empty batch for e.
func (e *Embedder) NewBatch() *Batch {
	return &Batch{e: e, encoder: e.config.Tokenizer.NewEncoder(), seed: maphash.MakeSeed(), seen: map[uint64]int32{}}
}

// Reset makes the batch empty.
func (b *Batch) Reset() {
	clear(b.seen)
	b.ids, b.ends = b.ids[:0], b.ends[:0]
	b.texts, b.truncated = 0, 0
}

// Len is how many distinct texts there are.
func (b *Batch) Len() int { return len(b.ends) }

// Add tokenizes a text, which it does not keep, and returns which of the distinct texts it is: a new one if that is Len before.
//
// As sentence-transformers does it, white space around prompt and text is left out before anything else, and lower case is made
// character by character.
func (b *Batch) Add(text string) int {
	b.texts++
	if b.e.config.Prompt != "" {
		b.text = append(append(b.text[:0], b.e.config.Prompt...), text...)
		text = unsafe.String(unsafe.SliceData(b.text), len(b.text))
	}
	text = strings.TrimFunc(text, isSpace)
	if b.e.config.Spec.LowerCase {
		text = strings.ToLower(text)
	}
	start := len(b.ids)
	var cut bool
	b.ids, cut = b.encoder.AppendIDs(b.ids, text, b.e.maxTokens)
	if cut {
		b.truncated++
	}
	if cap(b.text) > keepBytes {
		b.text = nil
	}
	ids := b.ids[start:]
	hash := maphash.Bytes(b.seed, idBytes(ids))
	same, found := b.seen[hash]
	if found && slices.Equal(b.idsOf(int(same)), ids) {
		b.ids = b.ids[:start]
		return int(same)
	}
	b.ends = append(b.ends, len(b.ids))
	if !found { // else two texts share a hash, and the second is not found again; it is computed as often as it comes
		b.seen[hash] = int32(len(b.ends) - 1) //nolint:gosec // A record batch has fewer rows.
	}
	return len(b.ends) - 1
}

// idsOf returns the token ids of a distinct text.
func (b *Batch) idsOf(i int) []int32 {
	if i == 0 {
		return b.ids[:b.ends[0]]
	}
	return b.ids[b.ends[i-1]:b.ends[i]]
}

func (b *Batch) tokens(i int32) int { return len(b.idsOf(int(i))) }

// sort orders the texts by length, the longest first: if memory is short, it is short at the beginning.
func (b *Batch) sort() {
	b.order = b.order[:0]
	for i := range b.ends {
		b.order = append(b.order, int32(i)) //nolint:gosec // See Add.
	}
	b.sortByLength(b.order)
}

func (b *Batch) sortByLength(texts []int32) {
	slices.SortStableFunc(texts, func(x, y int32) int { return b.tokens(y) - b.tokens(x) })
}

// isSpace is Python's str.isspace.
func isSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }

func idBytes(ids []int32) []byte {
	if len(ids) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(ids))), 4*len(ids))
}
