package parquet

import (
	"encoding/binary"
	"errors"
)

var (
	errShortPage  = errors.New("a page has fewer values than its header says")
	errDictionary = errors.New("a value is not in the dictionary")
)

// hybridReader reads numbers in the encoding of appendHybrid. Its bytes must be followed by pageSlack others.
type hybridReader struct {
	// b is the page with its slack, of which [at:end] has not been read.
	b       []byte
	at, end int
	width   int
	// left are the numbers left of a run: of one number, which is value, or packed from the bit first on, counted from at.
	left   int
	packed bool
	value  uint32
	first  int
}

// newHybridReader returns false if the width is more than 32.
func newHybridReader(b []byte, at, end, width int) (hybridReader, bool) {
	return hybridReader{b: b, at: at, end: end, width: width}, width <= 32
}

// run makes sure that there is a run, or returns false at the end or where the bytes make no sense.
func (r *hybridReader) run() bool {
	for r.left == 0 {
		if r.packed { // the bits of the run before, to their last byte
			r.at += (r.first + 7) / 8
			r.packed = false
		}
		head, n := binary.Uvarint(r.b[min(r.at, r.end):r.end])
		if n <= 0 {
			return false
		}
		r.at += n
		const most = 1 << 31
		if head>>1 == 0 || head>>1 > most {
			return false
		}
		if head&1 == 0 {
			size := (r.width + 7) / 8
			if r.at+size > r.end {
				return false
			}
			r.value = binary.LittleEndian.Uint32(r.b[r.at:]) & uint32(1<<(8*size)-1)
			r.at += size
			r.left = int(head >> 1)
			continue
		}
		r.packed, r.first = true, 0
		r.left = int(head>>1) * 8
		// The last group of a page may lack the bytes that it does not need.
		if r.width > 0 {
			r.left = min(r.left, (r.end-r.at)*8/r.width)
			if r.left == 0 {
				return false
			}
		}
	}
	return true
}

// lookUp sets out to the values of a dictionary with the next numbers.
func lookUp[W word](r *hybridReader, dictionary, out []W) error {
	for len(out) > 0 {
		if !r.run() {
			return errShortPage
		}
		n := min(r.left, len(out))
		if !r.packed {
			if int64(r.value) >= int64(len(dictionary)) {
				return errDictionary
			}
			v := dictionary[r.value]
			part := out[:n]
			for i := range part {
				part[i] = v
			}
		} else if err := unpack(r, dictionary, out[:n]); err != nil {
			return err
		}
		r.left -= n
		out = out[n:]
	}
	return nil
}

// unpack is lookUp for numbers of one packed run.
func unpack[W word](r *hybridReader, dictionary, out []W) error {
	b, width := r.b[r.at:], uint(r.width)
	bit := uint(r.first)
	mask := uint64(1)<<(width&63) - 1
	r.first += len(out) * r.width
	if width <= 14 {
		// Four numbers and up to seven bits before them fit 64.
		for ; len(out) >= 4; out = out[4:] {
			x := binary.LittleEndian.Uint64(b[bit>>3:]) >> (bit & 7)
			i0, i1, i2, i3 := x&mask, x>>(width&63)&mask, x>>(2*width&63)&mask, x>>(3*width&63)&mask
			n := uint64(len(dictionary))
			if i0 >= n || i1 >= n || i2 >= n || i3 >= n {
				return errDictionary
			}
			o := out[:4:4]
			o[0], o[1], o[2], o[3] = dictionary[i0], dictionary[i1], dictionary[i2], dictionary[i3]
			bit += 4 * width
		}
	}
	for j := range out {
		i := binary.LittleEndian.Uint64(b[bit>>3:]) >> (bit & 7) & mask
		if i >= uint64(len(dictionary)) {
			return errDictionary
		}
		out[j] = dictionary[i]
		bit += width
	}
	return nil
}

// bits reads levels, numbers of one bit, into a bitmap from its beginning, and returns how many are 1.
func (r *hybridReader) bits(bitmap []byte, rows int) (int, error) {
	ones := 0
	for row := 0; row < rows; {
		if !r.run() {
			return 0, errShortPage
		}
		n := min(r.left, rows-row)
		switch {
		case r.packed:
			for i := range n {
				bit := r.first + i
				v := r.b[r.at+bit>>3] >> (bit & 7) & 1
				bitmap[(row+i)>>3] |= v << ((row + i) & 7)
				ones += int(v)
			}
			r.first += n
		case r.value > 1:
			return 0, errors.New("a level is larger than the column's")
		case r.value == 1:
			for i := row; i < row+n; {
				if i&7 == 0 && row+n-i >= 8 {
					bitmap[i>>3] = 0xff
					i += 8
					continue
				}
				bitmap[i>>3] |= 1 << (i & 7)
				i++
			}
			ones += n
		}
		r.left -= n
		row += n
	}
	return ones, nil
}
