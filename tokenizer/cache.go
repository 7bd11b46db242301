package tokenizer

// pieceCache remembers the ids of short pieces: each has one place, where the last one counts. It is of one Encoder, so it
// needs no lock, and it never grows.
type pieceCache struct {
	slots []cachedPiece
}

type cachedPiece struct {
	word  [shortWord]byte
	n     uint8 // length of word; 0 for a free place
	count uint8
	ids   [8]int32
}

// cacheSlots is the number of pieces that an Encoder remembers, 52 bytes each: 832 KiB once the first is kept.
const (
	cacheBits  = 14
	cacheSlots = 1 << cacheBits
)

// slot returns the only place where a piece can be; n is its length, and what follows it in word is zero.
func (c *pieceCache) slot(word [shortWord]byte, n int) *cachedPiece {
	if c.slots == nil {
		c.slots = make([]cachedPiece, cacheSlots)
	}
	k0, k1 := wordKey(word[:], n)
	return &c.slots[wordHash(k0, k1, n)>>(64-cacheBits)]
}

func (p *cachedPiece) holds(word [shortWord]byte, n int) bool { return p.word == word && int(p.n) == n }

func (p *cachedPiece) keep(word [shortWord]byte, n int, ids []int32) {
	if len(ids) <= len(p.ids) {
		p.word, p.n, p.count = word, uint8(n), uint8(len(ids))
		copy(p.ids[:], ids)
	}
}
