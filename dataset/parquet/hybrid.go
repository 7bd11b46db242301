package parquet

import (
	"encoding/binary"
	"math/bits"
)

// Parquet's hybrid encoding of small numbers: runs of one value, and groups of eight values packed into bits, lowest bit first. See
// https://github.com/apache/parquet-format/blob/master/Encodings.md.

// leastRun is how many equal values make a run. Shorter ones stay among the packed values.
const leastRun = 24

// hybridBound is how many bytes at most appendHybrid adds for n values, and how many it may overwrite after them.
func hybridBound(n, width int) int {
	return n*width/8 + width + n/leastRun*(2*binary.MaxVarintLen32+2) + 64
}

// appendHybrid encodes values, which are below 1<<width. Width is 1 to 16.
func appendHybrid(dst []byte, values []uint16, width int) []byte {
	from, i := 0, 0
	for i+8 <= len(values) {
		v := values[i]
		if g := values[i : i+8 : i+8]; (g[1]^v)|(g[2]^v)|(g[3]^v)|(g[4]^v)|(g[5]^v)|(g[6]^v)|(g[7]^v) != 0 {
			i += 8
			continue
		}
		end := i + 8
		for end < len(values) && values[end] == v {
			end++
		}
		if end-i < leastRun {
			i += 8
			continue
		}
		dst = appendPacked(dst, values[from:i], width)
		dst = binary.AppendUvarint(dst, uint64(end-i)<<1)
		dst = append(dst, byte(v))
		if width > 8 {
			dst = append(dst, byte(v>>8))
		}
		from, i = end, end
	}
	return appendPacked(dst, values[from:], width)
}

// appendPacked encodes values as one run of groups of eight, of which the last is filled with zeros.
func appendPacked(dst []byte, values []uint16, width int) []byte {
	if len(values) == 0 {
		return dst
	}
	groups := (len(values) + 7) / 8
	dst = binary.AppendUvarint(dst, uint64(groups)<<1|1)
	at := len(dst)
	end := at + groups*width
	if cap(dst) < end+16 {
		larger := make([]byte, at, 2*cap(dst)+end+16)
		copy(larger, dst)
		dst = larger
	}
	out := dst[:end+16]
	w := uint(width) & 31
	for len(values) >= 8 {
		packEight(out[at:at+16:at+16], values[:8:8], w)
		at += width
		values = values[8:]
	}
	if len(values) > 0 {
		var last [8]uint16
		copy(last[:], values)
		packEight(out[at:at+16:at+16], last[:], w)
	}
	return out[:end]
}

// packEight writes 16 bytes, of which the first width count.
func packEight(out []byte, v []uint16, w uint) {
	_, _ = out[15], v[7]
	low := uint64(v[0]) | uint64(v[1])<<(w&63) | uint64(v[2])<<(2*w&63) | uint64(v[3])<<(3*w&63)
	high := uint64(v[4]) | uint64(v[5])<<(w&63) | uint64(v[6])<<(2*w&63) | uint64(v[7])<<(3*w&63)
	n := 4 * w // at most 64
	binary.LittleEndian.PutUint64(out, low|high<<n)
	binary.LittleEndian.PutUint64(out[8:], high>>(64-n))
}

// bitWidth is how many bits the numbers below n take, at least 1.
func bitWidth(n int) int { return max(1, bits.Len(uint(max(n-1, 0)))) }
