package text

import (
	"bytes"
	"errors"
	"io"

	"github.com/f708428e/engine/dataset"
)

// LineCounter turns offsets in a text into line numbers, by counting the lines before them. Nothing is counted before someone asks, so
// one costs nothing. It is not safe for concurrent use.
type LineCounter struct {
	// File is the input.
	File dataset.File

	in     *Input
	offset int64 // how far lines have been counted
	lines  int64 // how many ended up to there
}

// At is the number of the line, from 1, in which offset lies.
func (l *LineCounter) At(offset int64) (int64, error) {
	if l.in == nil {
		in, err := Open("count lines", l.File)
		if err != nil {
			return 0, err
		}
		l.in = in
	}
	if offset < l.offset {
		l.offset, l.lines = 0, 0
	}
	buffer := make([]byte, min(256<<10, max(1, offset-l.offset)))
	for l.offset < offset {
		n, err := l.in.ReadAt(buffer[:min(int64(len(buffer)), offset-l.offset)], l.offset)
		l.lines += int64(bytes.Count(buffer[:n], []byte{'\n'}))
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
