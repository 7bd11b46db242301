package text

import "bytes"

// Rows says how a text is made of rows.
type Rows struct {
	// Quote is what stands around fields that may hold line ends, and Delimiter what stands between fields. A zero Quote means that rows are
	// lines.
	Quote, Delimiter byte
	// Header says that the first row names the columns and is not counted.
	Header bool
	// Empty says that empty lines are rows, but before a header.
	Empty bool
	// Blanks says that lines of blanks and tabs are empty.
	Blanks bool
}

// rowCounter counts the rows of a text, which it is fed from the beginning on in pieces. A quote opens a field only at its beginning, and
// closes it if it is not doubled.
type rowCounter struct {
	rows Rows

	ended    int64
	state    quoteState
	previous byte // what was fed last
	begun    bool // there was something
	filled   bool // the row at hand is not empty
}

type quoteState uint8

const (
	outsideQuotes quoteState = iota
	insideQuotes
	atQuote
)

// number is that of the next row, from 1; zero if that is the header.
func (c *rowCounter) number() int64 {
	if c.rows.Header {
		return c.ended
	}
	return c.ended + 1
}

var byteOrderMark = []byte("\xef\xbb\xbf")

func (c *rowCounter) feed(b []byte) {
	if !c.begun {
		c.begun, c.previous = true, '\n'
		b = bytes.TrimPrefix(b, byteOrderMark)
	}
	for len(b) > 0 {
		switch c.state {
		case outsideQuotes:
			b = c.outside(b)
		case insideQuotes:
			i := bytes.IndexByte(b, c.rows.Quote)
			if i < 0 {
				return
			}
			b, c.state = b[i+1:], atQuote
		case atQuote:
			c.state, c.previous = outsideQuotes, c.rows.Quote
			if b[0] == c.rows.Quote {
				b, c.state = b[1:], insideQuotes
			}
		}
	}
}

// outside takes what stands outside quotes at the beginning of b, up to the end of a line, and returns the rest.
func (c *rowCounter) outside(b []byte) []byte {
	end := bytes.IndexByte(b, '\n')
	line := b
	if end >= 0 {
		line = b[:end]
	}
	for at := 0; c.rows.Quote != 0; at++ {
		i := bytes.IndexByte(line[at:], c.rows.Quote)
		if i < 0 {
			break
		}
		at += i
		before := c.previous
		if at > 0 {
			before = line[at-1]
		}
		if before == c.rows.Delimiter || before == '\n' {
			c.state, c.filled = insideQuotes, true
			return b[at+1:]
		}
	}
	c.filled = c.filled || !c.isEmpty(line)
	if end < 0 {
		c.previous = b[len(b)-1]
		return nil
	}
	if c.filled || c.rows.Empty && (!c.rows.Header || c.ended > 0) {
		c.ended++
	}
	c.previous, c.filled = '\n', false
	return b[end+1:]
}

func (c *rowCounter) isEmpty(line []byte) bool {
	if c.rows.Blanks {
		return len(bytes.Trim(line, " \t\r")) == 0
	}
	return len(line) == 0 || len(line) == 1 && line[0] == '\r'
}
