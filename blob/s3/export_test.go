package s3

// Combine is exported for tests.
var Combine = combine

// ChunkBytes is exported for tests.
const ChunkBytes = chunkBytes

// Held tells how many chunks writers have, and how many places of the file are used.
func (b *Buffers) Held() (chunks, places int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.taken, int(b.blocks) - len(b.free)
}
