package s3

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
)

// castagnoli is the table of CRC32C.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// one is the polynomial 1, and x the polynomial x, in the reflected order of bits of CRC32C.
const (
	one = uint32(1) << 31
	x   = uint32(1) << 30
)

// multiply multiplies two polynomials modulo that of CRC32C.
func multiply(a, b uint32) (product uint32) {
	for ; a != 0; a <<= 1 {
		if a&one != 0 {
			product ^= b
		}
		b = b>>1 ^ crc32.Castagnoli&-(b&1)
	}
	return product
}

// combine returns the CRC32C of two pieces, the second of which has size bytes, one after the other: as a polynomial the first piece
// is moved up by x to the power of 8·size, and the initial and final inversions cancel.
func combine(first, second uint32, size int64) uint32 {
	shift, power := one, x
	for n := uint64(size) * 8; n != 0; n >>= 1 {
		if n&1 != 0 {
			shift = multiply(shift, power)
		}
		power = multiply(power, power)
	}
	return multiply(first, shift) ^ second
}

// encodeCRC is how S3 writes a CRC32C in a header.
func encodeCRC(crc uint32) *string {
	s := base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc))
	return &s
}

// decodeCRC is the inverse of encodeCRC.
func decodeCRC(s string) (uint32, bool) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(b) != 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(b), true
}
