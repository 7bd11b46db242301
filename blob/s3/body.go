package s3

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"

	"github.com/f708428e/engine"
)

// bodyError marks an error of the caller's body, to tell it from one of the network.
type bodyError struct{ error }

func (e bodyError) Unwrap() error { return e.error }

// errEnded is what a body answers after its request.
var errEnded = bodyError{errors.New("the request has ended")}

// body is a section of an io.ReaderAt as the body of one request. The HTTP transport may still be reading when a request has failed
// or was answered early; after end it reads nothing more, so that the caller may free the memory behind it.
type body struct {
	mu      sync.Mutex
	section *io.SectionReader
	ended   bool
}

func newBody(from io.ReaderAt, offsetBytes, sizeBytes int64) *body {
	return &body{section: io.NewSectionReader(from, offsetBytes, sizeBytes)}
}

// Read holds the lock while it reads: nobody else wants it but end, which has to wait.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return 0, errEnded
	}
	n, err := b.section.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = bodyError{err}
	}
	return n, err
}

// Seek implements io.Seeker, by which the SDK finds the length, and begins again when it tries again. It works after end too: only
// reading touches the caller's memory.
func (b *body) Seek(offset int64, whence int) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.section.Seek(offset, whence)
}

func (b *body) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
}

// pieceBytes is the size of the pieces in which checksums are computed; small enough for the processor's cache.
const pieceBytes = 256 << 10

var pieces = sync.Pool{New: func() any { return new([pieceBytes]byte) }}

// checksum reads a section to its end and returns its CRC32C. That it is all there is found out here, before anything is sent.
func checksum(from io.ReaderAt, offsetBytes, sizeBytes int64) (crc uint32, err error) {
	piece := pieces.Get().(*[pieceBytes]byte)
	defer pieces.Put(piece)
	for at := int64(0); at < sizeBytes; {
		p := piece[:min(pieceBytes, sizeBytes-at)]
		n, err := from.ReadAt(p, offsetBytes+at)
		if n < len(p) {
			if errors.Is(err, io.EOF) {
				return 0, engine.Errorf(engine.KindInvalidArgument, "", "", "the body ends at byte %d of %d", offsetBytes+at+int64(n), offsetBytes+sizeBytes)
			}
			return 0, fmt.Errorf("read body: %w", err)
		}
		crc = crc32.Update(crc, castagnoli, p)
		at += int64(n)
	}
	return crc, nil
}
