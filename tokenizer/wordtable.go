package tokenizer

import (
	"encoding/binary"
	"math/bits"
)

// shortWord is the length in bytes up to which a word lies in a wordTable, and the room that a word's buffer must have.
const shortWord = 16

// wordTable maps words of up to 16 bytes to ids: a word is two machine words, compared without touching other memory. Open
// addressing, half full. Immutable once built.
type wordTable struct {
	entries []wordEntry
	shift   uint8
}

type wordEntry struct {
	k0, k1 uint64
	id     int32
	n      uint32 // length in bytes; 0 marks a free place
}

// wordKey loads w, which lies at the start of a buffer of at least 16 bytes; what follows w there is masked.
func wordKey(buf []byte, n int) (k0, k1 uint64) {
	_ = buf[shortWord-1]
	k0 = binary.LittleEndian.Uint64(buf)
	if n < 8 {
		return k0 & (1<<(8*uint(n)) - 1), 0
	}
	k1 = binary.LittleEndian.Uint64(buf[8:])
	return k0, k1 & (1<<(8*uint(n-8)) - 1) // n == 16: the shift gives 0, and 0-1 is all ones
}

func wordHash(k0, k1 uint64, n int) uint64 {
	hi, lo := bits.Mul64(k0^0x9e3779b97f4a7c15, k1^0xbf58476d1ce4e5b9^uint64(n)<<56)
	return (hi ^ lo) * 0x94d049bb133111eb
}

// newWordTable makes a table with room for n words.
func newWordTable(n int) *wordTable {
	logSize := max(bits.Len(uint(2*n)), 4)
	return &wordTable{entries: make([]wordEntry, 1<<logSize), shift: uint8(64 - logSize)}
}

// put adds a word of 1 to 16 bytes; of equal words the last one counts.
func (t *wordTable) put(word string, id int32) {
	var buf [shortWord]byte
	copy(buf[:], word)
	k0, k1 := wordKey(buf[:], len(word))
	for i := wordHash(k0, k1, len(word)) >> t.shift; ; i = (i + 1) & uint64(len(t.entries)-1) {
		e := &t.entries[i]
		if e.n == 0 || e.k0 == k0 && e.k1 == k1 && e.n == uint32(len(word)) {
			*e = wordEntry{k0, k1, id, uint32(len(word))}
			return
		}
	}
}

// get returns the id of the word of n bytes at the start of buf, or -1. It needs len(buf) >= 16 and 1 <= n <= 16.
func (t *wordTable) get(buf []byte, n int) int32 {
	k0, k1 := wordKey(buf, n)
	for i := wordHash(k0, k1, n) >> t.shift; ; i++ {
		e := &t.entries[i&uint64(len(t.entries)-1)]
		if e.k0 == k0 && e.k1 == k1 && e.n == uint32(n) {
			return e.id
		}
		if e.n == 0 {
			return -1
		}
	}
}
