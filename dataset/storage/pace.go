package storage

import (
	"sync"
	"sync/atomic"
	"time"
)

// nearWithin is how soon a server answers that is near: one in the same room, rather than a cloud's, which takes ten times as long.
const nearWithin = 3 * time.Millisecond

// pace is how soon a bucket answers. It is safe for concurrent use.
type pace struct{ least atomic.Int64 } // zero before the first answer

// note says how long an answer took to begin.
func (p *pace) note(took time.Duration) {
	n := max(1, int64(took))
	for {
		old := p.least.Load()
		if old != 0 && old <= n || p.least.CompareAndSwap(old, n) {
			return
		}
	}
}

// runBytes is how much is worth one request. A far server is asked for little at a time, since several requests together are faster.
func (p *pace) runBytes() int64 {
	if least := p.least.Load(); least != 0 && least <= int64(nearWithin) {
		return nearRunBytes
	}
	return firstPieceBytes + pieceBytes
}

// maxPaces bounds how many buckets are remembered.
const maxPaces = 256

// paces are those of buckets, by their addresses.
type paces struct {
	mu    sync.Mutex
	known map[string]*pace
}

func (p *paces) of(uri string) *pace {
	p.mu.Lock()
	defer p.mu.Unlock()
	found := p.known[uri]
	if found == nil {
		if len(p.known) >= maxPaces || p.known == nil {
			p.known = map[string]*pace{}
		}
		found = &pace{}
		p.known[uri] = found
	}
	return found
}
