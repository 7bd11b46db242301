package s3

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/f708428e/engine"
)

const (
	// chunkBytes is the unit of memory that parts are gathered in, and of the file that they go to when it is short: a task may have a
	// thousand files, most of them small.
	chunkBytes, leastBytes = 64 << 10, 4 << 10
	// defaultBufferBytes is the memory of Buffers of which nothing is said.
	defaultBufferBytes = 128 << 20
	// sendsAtOnce bounds how many gathered parts of all writers are under way.
	sendsAtOnce = 64
)

// Buffers are where the Writers of one or more buckets gather their parts: memory up to a limit, and beyond it a temporary file. S3 takes no
// part below 5 MiB but the last, so that each of many objects that are written at a time has to be held back for a while.
//
// A writer that needs memory waits while parts of any are under way, since they give theirs back, however their requests end. If none are, all
// memory is held back, perhaps by writers that wait for this one's caller: then it moves what it has to the file. So nothing can lock up.
//
// It is safe for concurrent use. Close it after the last writer has ended.
type Buffers struct {
	limit  int // chunks
	folder string
	sends  chan struct{}

	mu   sync.Mutex
	idle [][]byte
	// taken are the chunks that writers have, sending those of them whose parts are under way.
	taken, sending int
	// changed is closed when one was given back; nil if nobody waits.
	changed chan struct{}
	// blocks are the places in the file, free those that nobody uses. Whoever uses one has a chunk, too.
	blocks int64
	free   []int64
	file   *os.File // nil while nobody uses it

	opening sync.Mutex // Held while the file is made.
}

// NewBuffers returns buffers of so many bytes of memory, and 64 KiB more for each writer; zero means 128 MiB. The file, which has no name while
// it is used, is made in the folder when it is needed; empty means that of the system for temporary files.
func NewBuffers(memoryBytes int64, folder string) *Buffers {
	if memoryBytes <= 0 {
		memoryBytes = defaultBufferBytes
	}
	return &Buffers{limit: int(memoryBytes / chunkBytes), folder: folder, sends: make(chan struct{}, sendsAtOnce)}
}

// Close gives the file back.
func (b *Buffers) Close() error {
	b.mu.Lock()
	file := b.file
	b.file = nil
	b.mu.Unlock()
	if file == nil {
		return nil
	}
	return file.Close()
}

// take returns a chunk. A writer that has none gets its first in any case, and that grows with what is in it. If there is none, wait is closed
// when one may have been given back; it is nil if no part is under way.
func (b *Buffers) take(first bool) (chunk []byte, wait <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !first && b.taken >= b.limit {
		if b.sending == 0 {
			return nil, nil
		}
		if b.changed == nil {
			b.changed = make(chan struct{})
		}
		return nil, b.changed
	}
	b.taken++
	if first {
		return make([]byte, 0, leastBytes), nil
	}
	if last := len(b.idle) - 1; last >= 0 {
		chunk, b.idle = b.idle[last], b.idle[:last]
		return chunk[:0], nil
	}
	return make([]byte, 0, chunkBytes), nil
}

// send says that chunks are part of a request.
func (b *Buffers) send(chunks int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sending += chunks
}

// give takes chunks back, which were part of a request or not, and places in the file. When no writer has one, all memory is the garbage
// collector's, and the file goes.
func (b *Buffers) give(chunks [][]byte, sent bool, places []int64) {
	b.mu.Lock()
	b.taken -= len(chunks)
	if sent {
		b.sending -= len(chunks)
	}
	b.free = append(b.free, places...)
	for _, chunk := range chunks {
		if cap(chunk) == chunkBytes && len(b.idle) < b.limit {
			b.idle = append(b.idle, chunk)
		}
	}
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
	var unused *os.File
	if b.taken == 0 {
		unused, b.file, b.idle, b.free, b.blocks = b.file, nil, nil, nil, 0
	}
	b.mu.Unlock()
	if unused != nil {
		_ = unused.Close() // What was in it nobody wants.
	}
}

// places returns places in the file.
func (b *Buffers) places(n int) []int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	reused := min(n, len(b.free))
	places := append(make([]int64, 0, n), b.free[len(b.free)-reused:]...)
	b.free = b.free[:len(b.free)-reused]
	for len(places) < n {
		places = append(places, b.blocks)
		b.blocks++
	}
	return places
}

// spill writes full chunks to places in the file.
func (b *Buffers) spill(chunks [][]byte, places []int64) error {
	file, err := b.open()
	for i := 0; i < len(chunks) && err == nil; i++ {
		_, err = file.WriteAt(chunks[i], places[i]*chunkBytes)
	}
	if err == nil {
		return nil
	}
	kind := engine.KindUnavailable
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		kind = engine.KindExhausted
	}
	return engine.Errorf(kind, "put", "", "hold parts of objects back in a temporary file: %w", err)
}

// open returns the file, whose caller has a chunk.
func (b *Buffers) open() (*os.File, error) {
	if file := b.opened(); file != nil {
		return file, nil
	}
	b.opening.Lock()
	defer b.opening.Unlock()
	if file := b.opened(); file != nil {
		return file, nil
	}
	if b.folder != "" {
		if err := os.MkdirAll(b.folder, 0o700); err != nil {
			return nil, err
		}
	}
	file, err := os.CreateTemp(b.folder, "engine-parts-*")
	if err != nil {
		return nil, err
	}
	// Without a name it cannot be left behind.
	if err := os.Remove(filepath.Clean(file.Name())); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.file = file
	return file, nil
}

func (b *Buffers) opened() *os.File {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.file
}
