package text

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/storage"
)

// farBytes is up to where lines are counted in a file that is not of this machine: counting reads everything before.
const farBytes = 256 << 20

// LineCounter turns offsets in a text into numbers of lines and rows, by counting those before them. Nothing is counted before someone asks, so
// one costs nothing. It is not safe for concurrent use.
type LineCounter struct {
	// File is the input.
	File dataset.File

	open func() (*Input, error)

	in     *Input
	offset int64       // how far lines have been counted
	lines  int64       // how many ended up to there
	rows   *rowCounter // nil unless rows are counted, too
}

// NewLineCounter returns a LineCounter of an input, which it opens from a Storage, or as a file of this machine if that is nil. ctx must
// live as long as it.
func NewLineCounter(ctx context.Context, from dataset.Storage, file dataset.File) LineCounter {
	return LineCounter{File: file, open: func() (*Input, error) { return Open(ctx, from, "count lines", file) }}
}

// At is the number of the line, from 1, in which offset lies. An offset far into a file in a bucket is an error of kind
// engine.KindExhausted.
func (l *LineCounter) At(offset int64) (int64, error) {
	if storage.Remote(l.File) && offset > farBytes {
		return 0, engine.Errorf(engine.KindExhausted, "count lines", l.File.Path, "byte %d is too far from its beginning", offset)
	}
	if l.in == nil {
		in, err := l.open()
		if err != nil {
			return 0, err
		}
		in.Expect(dataset.Range{End: offset})
		l.in = in
	}
	if offset < l.offset {
		l.offset, l.lines = 0, 0
		if l.rows != nil {
			l.rows = &rowCounter{rows: l.rows.rows}
		}
	}
	buffer := make([]byte, min(256<<10, max(1, offset-l.offset)))
	for l.offset < offset {
		n, err := l.in.ReadAt(buffer[:min(int64(len(buffer)), offset-l.offset)], l.offset)
		l.lines += int64(bytes.Count(buffer[:n], []byte{'\n'}))
		if l.rows != nil {
			l.rows.feed(buffer[:n])
		}
		l.offset += int64(n)
		if n == 0 {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
	}
	return l.lines + 1, nil
}

// Close gives the file back, if it was opened. At may be called again.
func (l *LineCounter) Close() {
	if l.in != nil {
		_ = l.in.Close()
		l.in = nil
	}
}
