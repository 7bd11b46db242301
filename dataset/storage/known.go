package storage

import (
	"container/list"
	"slices"
	"sync"

	"github.com/f708428e/engine/blob"
)

// What is kept of objects: pieces of knownBytes at most, allKnownBytes together, each with pieceOverhead, of knownBuckets at most, which stay
// alive as long, with the keys to them.
const knownBytes, allKnownBytes, pieceOverhead, knownBuckets = 64 << 10, 16 << 20, 256, 64

// version is the content of an object, as somebody reaches it who has a bucket; its zero value is unknown.
type version struct {
	bucket blob.Bucket
	key    string
	etag   string
}

// knownPiece is a small piece of one. Nobody changes its data.
type knownPiece struct {
	of    version
	start int64
	data  []byte
}

// known are the small pieces at the beginnings and ends of objects that were read last: who plans a job reads the beginning or footer of each, and who reads its splits
// does so again, for each split. It is safe for concurrent use.
type known struct {
	mu     sync.Mutex
	pieces map[version][]*list.Element
	recent list.List // of *knownPiece, the last one that was added in front
	bytes  int
	// buckets counts the pieces of each.
	buckets map[blob.Bucket]int
}

// add keeps a piece.
func (k *known) add(of version, start int64, data []byte) {
	if of == (version{}) {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range k.pieces[of] {
		if p := e.Value.(*knownPiece); start < p.start+int64(len(p.data)) && p.start < start+int64(len(data)) {
			return // They would overlap.
		}
	}
	if k.pieces == nil {
		k.pieces, k.buckets = map[version][]*list.Element{}, map[blob.Bucket]int{}
	}
	k.pieces[of] = append(k.pieces[of], k.recent.PushFront(&knownPiece{of: of, start: start, data: data}))
	k.buckets[of.bucket]++
	for k.bytes += len(data) + pieceOverhead; k.bytes > allKnownBytes || len(k.buckets) > knownBuckets; {
		k.drop(k.recent.Back())
	}
}

func (k *known) drop(e *list.Element) {
	p := k.recent.Remove(e).(*knownPiece)
	k.bytes -= len(p.data) + pieceOverhead
	if k.buckets[p.of.bucket]--; k.buckets[p.of.bucket] == 0 {
		delete(k.buckets, p.of.bucket)
	}
	left := slices.DeleteFunc(k.pieces[p.of], func(other *list.Element) bool { return other == e })
	if len(left) == 0 {
		delete(k.pieces, p.of)
	} else {
		k.pieces[p.of] = left
	}
}

// of returns the pieces of an object.
func (k *known) of(v version) (pieces []*knownPiece) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range k.pieces[v] {
		pieces = append(pieces, e.Value.(*knownPiece))
	}
	return pieces
}
