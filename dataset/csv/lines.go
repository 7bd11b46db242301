package csv

import (
	"bytes"
	"io"
	"os"
)

// lineCounter turns offsets in a file into line numbers, by counting the lines before them. Nothing is counted before someone asks.
type lineCounter struct {
	path   string
	file   *os.File // nil: the file is opened anew
	offset int64    // how far lines have been counted
	lines  int64    // how many ended up to there
}

// at is the number of the line, from 1, in which offset lies.
func (l *lineCounter) at(offset int64) (int64, error) {
	file := l.file
	if file == nil {
		opened, err := os.Open(l.path)
		if err != nil {
			return 0, err
		}
		defer func() { _ = opened.Close() }()
		file = opened
	}
	if offset < l.offset {
		l.offset, l.lines = 0, 0
	}
	buffer := make([]byte, min(256<<10, max(1, offset-l.offset)))
	for l.offset < offset {
		n, err := file.ReadAt(buffer[:min(int64(len(buffer)), offset-l.offset)], l.offset)
		l.lines += int64(bytes.Count(buffer[:n], []byte{'\n'}))
		l.offset += int64(n)
		if n == 0 {
			if err == nil {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
	}
	return l.lines + 1, nil
}
