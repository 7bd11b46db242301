// Package spill has the files that objects are moved to when memory is short, and those of checkpoints. Both are the same: the
// object's bytes, an Arrow IPC stream, and behind it a trailer of 64 bytes that names the object and has its checksum. A
// stream ends with a marker, so that any reader of Arrow streams reads such a file as it is.
//
// The trailer, little endian:
//
//	offset  length  what
//	     0       8  "ENGARROW"
//	     8       4  version: 1
//	    12       4  zero
//	    16      16  the object's id
//	    32       8  the length of the object's bytes
//	    40       8  rows
//	    48       8  record batches
//	    56       4  CRC-32 (Castagnoli) of the object's bytes
//	    60       4  CRC-32 (Castagnoli) of the first 60 bytes of the trailer
package spill

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/f708428e/engine"
)

// TrailerBytes is the length of a trailer.
const TrailerBytes = 64

const (
	magic   = "ENGARROW"
	version = 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum is the CRC-32 (Castagnoli) of data.
func Checksum(data []byte) uint32 { return crc32.Checksum(data, castagnoli) }

// Trailer says what a file holds.
type Trailer struct {
	ID engine.ObjectID
	// SizeBytes is the length of the object, without the trailer.
	SizeBytes, Rows, Batches int64
	// CRC32C is that of the object's bytes.
	CRC32C uint32
}

// Encode returns the trailer's bytes.
func (t Trailer) Encode() []byte {
	b := make([]byte, 0, TrailerBytes)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint32(b, version)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = append(b, t.ID[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(t.SizeBytes)) //nolint:gosec // Never negative.
	b = binary.LittleEndian.AppendUint64(b, uint64(t.Rows))      //nolint:gosec // Never negative.
	b = binary.LittleEndian.AppendUint64(b, uint64(t.Batches))   //nolint:gosec // Never negative.
	b = binary.LittleEndian.AppendUint32(b, t.CRC32C)
	return binary.LittleEndian.AppendUint32(b, Checksum(b))
}

// ParseTrailer is the inverse of Encode. Its errors are of kind engine.KindCorrupt, or engine.KindVersion for a trailer of a
// newer version.
func ParseTrailer(b []byte) (Trailer, error) {
	corrupt := func(format string, args ...any) (Trailer, error) {
		return Trailer{}, engine.Errorf(engine.KindCorrupt, "read trailer", "", format, args...)
	}
	if len(b) != TrailerBytes {
		return corrupt("it has %d bytes, expected %d", len(b), TrailerBytes)
	}
	if string(b[:8]) != magic {
		return corrupt("it begins with %q, expected %q: the file is cut off or no object file", b[:8], magic)
	}
	if sum, want := Checksum(b[:60]), binary.LittleEndian.Uint32(b[60:]); sum != want {
		return corrupt("its checksum is %08x, expected %08x", sum, want)
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != version {
		return Trailer{}, engine.Errorf(engine.KindVersion, "read trailer", "", "it is of version %d, this program understands %d", v, version)
	}
	t := Trailer{
		ID:        engine.ObjectID(b[16:32]),
		SizeBytes: int64(binary.LittleEndian.Uint64(b[32:])), //nolint:gosec // Checked below.
		Rows:      int64(binary.LittleEndian.Uint64(b[40:])), //nolint:gosec // Checked below.
		Batches:   int64(binary.LittleEndian.Uint64(b[48:])), //nolint:gosec // Checked below.
		CRC32C:    binary.LittleEndian.Uint32(b[56:]),
	}
	if t.SizeBytes <= 0 || t.Rows < 0 || t.Batches < 0 {
		return corrupt("it says %d bytes, %d rows, and %d record batches", t.SizeBytes, t.Rows, t.Batches)
	}
	return t, nil
}
