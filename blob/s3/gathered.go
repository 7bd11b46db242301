package s3

import (
	"hash/crc32"
	"io"
	"sync/atomic"
)

// gathered is a part, or an object of one, that is being gathered, and then sent. Its beginning may be in the file of the Buffers. Once it is
// sent, it may be read at several places at the same time.
type gathered struct {
	buffers *Buffers
	// underWay counts the writer's parts that are sent and have not ended.
	underWay *atomic.Int64
	size     int64
	crc      uint32 // of all, computed as the bytes come
	blocks   []int64
	// chunks follow, all but the last of them full.
	chunks  [][]byte
	sending bool
}

var _ io.ReaderAt = (*gathered)(nil)

// add appends. It waits for memory until stop is closed, and then has taken less than all.
func (g *gathered) add(p []byte, stop <-chan struct{}) (taken int, err error) {
	for len(p) > 0 {
		last := len(g.chunks) - 1
		if last < 0 || len(g.chunks[last]) == chunkBytes {
			if more, err := g.grow(stop); err != nil || !more {
				return taken, err
			}
			last = len(g.chunks) - 1
		}
		n := min(len(p), chunkBytes-len(g.chunks[last]))
		g.chunks[last] = append(g.chunks[last], p[:n]...)
		g.crc = crc32.Update(g.crc, castagnoli, p[:n])
		g.size += int64(n)
		p, taken = p[n:], taken+n
	}
	return taken, nil
}

// grow makes room where all chunks are full. more is false if stop was closed.
func (g *gathered) grow(stop <-chan struct{}) (more bool, err error) {
	for {
		first := len(g.chunks) == 0
		chunk, wait := g.buffers.take(first && g.underWay.Load() == 0)
		switch {
		case chunk != nil:
			g.chunks = append(g.chunks, chunk)
			return true, nil
		case wait == nil && first:
			continue // The writer's last part has ended since.
		case wait == nil:
			return true, g.spill()
		}
		select {
		case <-wait:
		case <-stop:
			return false, nil
		}
	}
}

// spill moves all chunks to the file, and keeps one of them empty.
func (g *gathered) spill() error {
	places := g.buffers.places(len(g.chunks))
	if err := g.buffers.spill(g.chunks, places); err != nil {
		g.buffers.give(nil, false, places)
		return err
	}
	g.blocks = append(g.blocks, places...)
	last := len(g.chunks) - 1
	g.buffers.give(g.chunks[:last], false, nil)
	g.chunks = [][]byte{g.chunks[last][:0]}
	return nil
}

// send says that nothing more is added.
func (g *gathered) send() {
	g.sending = true
	g.underWay.Add(1)
	g.buffers.send(len(g.chunks))
}

// end gives everything back. Nobody reads any more.
func (g *gathered) end() {
	if g.sending {
		g.underWay.Add(-1) // Before it is told of, which wakes those that look.
	}
	g.buffers.give(g.chunks, g.sending, g.blocks)
	*g = gathered{buffers: g.buffers, underWay: g.underWay}
}

// ReadAt implements io.ReaderAt.
func (g *gathered) ReadAt(p []byte, offset int64) (n int, err error) {
	for n < len(p) {
		at := offset + int64(n)
		if at >= g.size {
			return n, io.EOF
		}
		place, within := int(at/chunkBytes), at%chunkBytes
		if place >= len(g.blocks) {
			n += copy(p[n:], g.chunks[place-len(g.blocks)][within:])
			continue
		}
		part := p[n:min(int64(len(p)), int64(n)+chunkBytes-within)]
		file, err := g.buffers.open()
		if err != nil {
			return n, err
		}
		read, err := file.ReadAt(part, g.blocks[place]*chunkBytes+within)
		n += read
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
