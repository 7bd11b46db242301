package json

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/text"
)

// errLong says that a line is longer than allowed.
var errLong = errors.New("line is too long")

// lineReader cuts a range of a file into its lines that are not empty.
type lineReader struct {
	// Constant.
	op      string
	info    dataset.File
	in      *text.Input
	longest int

	stop  int64 // where the range ends
	block []byte
	base  int64 // offset in the file of block[0]
	pos   int   // where the next line begins in block
	end   int
	eof   bool // the block holds the end of the range
	read  int64
}

func newLineReader(op string, info dataset.File, in *text.Input, start, stop int64, blockBytes, longest int) *lineReader {
	if in.Compressed() {
		stop = math.MaxInt64 / 2 // The end comes when it comes.
	}
	return &lineReader{
		op: op, info: info, in: in, longest: longest, stop: stop, base: start, eof: start >= stop,
		block: make([]byte, max(1, min(int64(blockBytes), stop-start))),
	}
}

// next returns the next line that is not empty, without what ends it, and its offset. It lies in the block until the next call. At the
// end it returns io.EOF, and of a line that is too long errLong.
func (l *lineReader) next(ctx context.Context) ([]byte, int64, error) {
	searched := 0 // bytes from pos on without a line end
	for {
		n := bytes.IndexByte(l.block[l.pos+searched:l.end], '\n')
		size := searched + n
		switch {
		case n >= 0:
		case !l.eof:
			if searched = l.end - l.pos; searched > l.longest {
				return nil, l.base + int64(l.pos), errLong
			}
			if err := l.fill(ctx); err != nil {
				return nil, 0, err
			}
			continue
		case l.pos == l.end:
			if err := l.in.Check(); err != nil {
				return nil, 0, err
			}
			return nil, 0, io.EOF
		default:
			size = l.end - l.pos
		}
		line, offset := l.block[l.pos:l.pos+size], l.base+int64(l.pos)
		if len(line) > l.longest {
			return nil, offset, errLong
		}
		l.pos = min(l.pos+size+1, l.end)
		searched = 0
		if len(line) == 0 || line[0] <= ' ' && len(bytes.TrimLeft(line, " \t\r")) == 0 {
			continue
		}
		return line, offset, nil
	}
}

// back makes the line at an offset, the last that next has returned, the next one.
func (l *lineReader) back(offset int64) { l.pos = int(offset - l.base) }

// fill moves what is left of the block to its front and reads on.
func (l *lineReader) fill(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return engine.WrapError(l.op, l.info.Path, err)
	}
	left := l.end - l.pos
	if left > len(l.block)/2 {
		grown := make([]byte, min(int64(2*len(l.block)), int64(left)+l.stop-l.base-int64(l.end)))
		copy(grown, l.block[l.pos:l.end])
		l.block = grown
	} else {
		copy(l.block, l.block[l.pos:l.end])
	}
	l.base += int64(l.pos)
	l.pos, l.end = 0, left
	want := int(min(int64(len(l.block)-left), l.stop-l.base-int64(left)))
	n, err := l.in.ReadAt(l.block[left:left+want], l.base+int64(left))
	l.end += n
	l.read += int64(n)
	switch {
	case n == want:
	case l.in.Compressed() && errors.Is(err, io.EOF):
		l.stop = l.base + int64(l.end)
	default:
		return text.ShortRead(l.op, l.info, l.base+int64(l.end), err)
	}
	l.eof = l.base+int64(l.end) == l.stop
	return nil
}

func (l *lineReader) bytesRead() int64 {
	if l.in.Compressed() {
		return l.in.ReadBytes()
	}
	return l.read
}
