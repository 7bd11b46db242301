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

// NewFinder returns a Finder of an input of such rows, which it opens from a Storage, or as a file of this machine if that is nil. ctx must
// live as long as it.
func NewFinder(ctx context.Context, from dataset.Storage, file dataset.File, rows Rows) *Finder {
	lines := NewLineCounter(ctx, from, file)
	lines.rows = &rowCounter{rows: rows}
	return &Finder{
		file: file, lines: lines,
		open: func() (*Input, error) { return Open(ctx, from, "find row", file) },
	}
}

// maxCounted is how far from its beginning lines are counted in a file: it is read up to there.
const maxCounted = 1 << 30

// Find describes the row that begins at an offset. cut finds the end of the row in what begins there, of which there are until-offset bytes
// at most.
func (f *Finder) Find(offset, until int64, cut func([]byte) []byte) dataset.RowInfo {
	f.mu.Lock()
	defer f.mu.Unlock()
	info := f.place(offset)
	if f.closed {
		return info
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

// Place says where the row is that begins at an offset, and not what it is. One that is too far has no numbers.
func (f *Finder) Place(offset int64) dataset.RowInfo {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.place(offset)
}

func (f *Finder) place(offset int64) dataset.RowInfo {
	info := dataset.RowInfo{Path: f.file.Path, OffsetBytes: offset}
	if f.closed || offset > maxCounted {
		return info
	}
	if line, err := f.lines.At(offset); err == nil {
		info.Line, info.Row = line, f.lines.rows.number()
	}
	return info
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
