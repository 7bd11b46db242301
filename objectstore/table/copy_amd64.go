package table

import "unsafe"

// streamBytes is the size from which a copy passes by the cache, as Go's own copy does for slices of this length: a store that goes
// through the cache reads from memory what it overwrites, which takes a third of the time of a large copy. Here it is the table's
// size that counts, since its buffers, which are copied one by one, are often shorter.
const streamBytes = 1 << 20

// stream is in copy_amd64.s.
//
//go:noescape
func stream(dst, src *byte, blocks int)

// copyLarge is copy for a part of a large table.
func copyLarge(dst, src []byte) int {
	const short = 4 << 10
	if len(src) < short || len(dst) < len(src) {
		return copy(dst, src)
	}
	head := int(-uintptr(unsafe.Pointer(unsafe.SliceData(dst))) % 16)
	copy(dst[:head], src)
	blocks := (len(src) - head) / 64
	stream(&dst[head], &src[head], blocks)
	tail := head + blocks*64
	return tail + copy(dst[tail:], src[tail:])
}
