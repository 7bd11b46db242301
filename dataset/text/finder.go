package text

import (
	"context"
	"sync"

	"github.com/f708428e/engine/dataset"
)

// Finder finds rows of a text again by where they begin, apart from who reads it. Nothing is opened before a row is looked for. It is safe
// for concurrent use.
type Finder struct {
	file dataset.File
	open func() (*Input, error)

	mu     sync.Mutex
	lines  LineCounter
	in     *Input
	closed bool
}

// NewFinder returns a Finder of an input, which it opens from a Storage, or as a file of this machine if that is nil. ctx must live as long
// as it.
func NewFinder(ctx context.Context, from dataset.Storage, file dataset.File) *Finder {
	return &Finder{
		file: file, lines: NewLineCounter(ctx, from, file),
		open: func() (*Input, error) { return Open(ctx, from, "find row", file) },
	}
}

// maxCounted is how far from its beginning lines are counted in a file: it is read up to there.
const maxCounted = 1 << 30

// Find describes the row that begins at an offset. cut finds the end of the row in what begins there, of which there are until-offset bytes
// at most.
func (f *Finder) Find(offset, until int64, cut func([]byte) []byte) dataset.RowInfo {
	info := dataset.RowInfo{Path: f.file.Path, OffsetBytes: offset}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return info
	}
	if offset <= maxCounted {
		if line, err := f.lines.At(offset); err == nil {
			info.Line = line
		}
	}
	if Compressed(f.file.Path) {
		return info // To find it the file would be unpacked again.
	}
	if f.in == nil {
		in, err := f.open()
		if err != nil {
			return info
		}
		f.in = in
	}
	raw := make([]byte, until-offset)
	n, _ := f.in.ReadAt(raw, offset) // Less than all is what there is.
	info.Raw = cut(raw[:n])
	return info
}

// Line is the number of the line in which an offset lies, or zero if it is too far.
func (f *Finder) Line(offset int64) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || offset > maxCounted {
		return 0
	}
	line, err := f.lines.At(offset)
	if err != nil {
		return 0
	}
	return line
}

// Close gives the file back.
func (f *Finder) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	f.lines.Close()
	if f.in != nil {
		_ = f.in.Close()
		f.in = nil
	}
}
