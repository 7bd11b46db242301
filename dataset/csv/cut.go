package csv

import "bytes"

// scanBytes is how much is read at once in the search for row boundaries. It stays in the second-level cache.
const scanBytes = 256 << 10

// cutter finds the row boundaries at which a file is cut. It is fed with the file in consecutive blocks.
//
// Within rows and lines it jumps from quote to quote. A quote opens a field only at the beginning of one, so the state is always
// exactly that of a reader that began at the beginning of the file:
//
//	          quote at the beginning of a field
//	outside ------------------------------------> inside <-----+
//	   ^                                            |          |
//	   | any other byte, which is looked at again   | quote    | quote (doubled)
//	   +------------------------------ atQuote <----+          |
//	                                      |                    |
//	                                      +--------------------+
type cutter struct {
	// Constant.
	dialect dialect
	size    int64 // of the file
	target  int64 // of a split

	offset   int64 // of the next block
	next     int64 // the next boundary is the first at or after this
	ends     []int64
	state    cutState
	previous byte // the one before the block
}

type cutState uint8

const (
	outside cutState = iota
	inside
	atQuote
)

// found records a boundary, unless it is the end of the file.
func (c *cutter) found(boundary int64) {
	if boundary < c.size {
		c.ends = append(c.ends, boundary)
	}
	c.next = boundary + c.target
}

// boundaries records those within b[from:to], which holds no line end inside quotes. The block's offset is still that of b.
func (c *cutter) boundaries(b []byte, from, to int) {
	for {
		i := max(from, int(min(c.next-1-c.offset, int64(to))))
		if i >= to {
			return
		}
		n := bytes.IndexByte(b[i:to], '\n')
		if n < 0 {
			return
		}
		c.found(c.offset + int64(i+n) + 1)
	}
}

// lines takes a block of a file without quotes, which begins before the place of the next boundary, and moves offset on to where
// the next block is needed.
func (c *cutter) lines(b []byte) {
	c.boundaries(b, 0, len(b))
	c.offset = max(c.offset+int64(len(b)), c.next-1)
}

// rows takes the next block of a file with quotes.
func (c *cutter) rows(b []byte) {
	quote := c.dialect.quote
	for i := 0; i < len(b); {
		switch c.state {
		case outside:
			n := bytes.IndexByte(b[i:], quote)
			if n < 0 {
				c.boundaries(b, i, len(b))
				i = len(b)
				break
			}
			c.boundaries(b, i, i+n)
			i += n
			before := c.previous
			if i > 0 {
				before = b[i-1]
			}
			if before == c.dialect.delimiter || before == '\n' {
				c.state = inside
			}
			i++
		case inside:
			n := bytes.IndexByte(b[i:], quote)
			if n < 0 {
				i = len(b)
				break
			}
			i += n + 1
			c.state = atQuote
		case atQuote:
			c.state = outside
			if b[i] == quote {
				c.state = inside
				i++
			}
		}
	}
	c.previous = b[len(b)-1]
	c.offset += int64(len(b))
}
