package parquet

import (
	"math/bits"

	"github.com/apache/arrow/go/v15/arrow/memory"
)

// pool is the memory of one file writer. It gives freed blocks out again, which spares clearing a megabyte for every page, and
// returns everything to the underlying allocator when it is closed: arrow's writer leaks, on errors and otherwise. Blocks come
// with whatever they held before. It is not safe for concurrent use.
type pool struct {
	from memory.Allocator
	// free holds blocks by the power of two that is their size.
	free [maxPooledBits + 1][]*poolBlock
	// blocks are those that have not been returned to from, by their first byte.
	blocks map[*byte]*poolBlock
}

// poisonPools makes pools overwrite what is freed, for tests that look for its use.
var poisonPools bool

type poolBlock struct {
	bytes []byte
	free  bool
}

// Larger blocks are those of whole column chunks as they grow; to keep them all would double the writer's memory.
const minPooledBits, maxPooledBits = 8, 22

func newPool(from memory.Allocator) *pool {
	return &pool{from: from, blocks: map[*byte]*poolBlock{}}
}

// Allocate returns memory with any content.
func (p *pool) Allocate(size int) []byte {
	if size == 0 {
		return nil
	}
	class := max(minPooledBits, bits.Len(uint(size-1)))
	if class <= maxPooledBits {
		if n := len(p.free[class]); n > 0 {
			block := p.free[class][n-1]
			p.free[class] = p.free[class][:n-1]
			block.free = false
			return block.bytes[:size]
		}
		return p.add(1 << class)[:size]
	}
	return p.add(size)
}

func (p *pool) add(size int) []byte {
	block := p.from.Allocate(size)
	if p.blocks != nil {
		p.blocks[&block[0]] = &poolBlock{bytes: block}
	}
	return block
}

// Reallocate returns memory that begins with the content of b, which is freed unless it is the same.
func (p *pool) Reallocate(size int, b []byte) []byte {
	if size <= cap(b) && size > 0 && cap(b) <= 1<<maxPooledBits {
		return b[:size]
	}
	larger := p.Allocate(size)
	copy(larger, b)
	p.Free(b)
	return larger
}

// Free ignores what is not the pool's, or not any more: some of arrow's objects release memory late.
func (p *pool) Free(b []byte) {
	if cap(b) == 0 || p.blocks == nil {
		return
	}
	key := &b[:1][0]
	block, ok := p.blocks[key]
	if !ok || block.free {
		return
	}
	if poisonPools {
		memory.Set(block.bytes, 0xab)
	}
	if class := bits.Len(uint(len(block.bytes) - 1)); class <= maxPooledBits && len(block.bytes) == 1<<class {
		block.free = true
		p.free[class] = append(p.free[class], block)
		return
	}
	delete(p.blocks, key)
	p.from.Free(block.bytes)
}

// close frees everything. Nothing that was allocated may be used any more.
func (p *pool) close() {
	for _, block := range p.blocks {
		p.from.Free(block.bytes)
	}
	p.blocks, p.free = nil, [maxPooledBits + 1][]*poolBlock{}
}
