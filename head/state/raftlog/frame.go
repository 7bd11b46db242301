package raftlog

import (
	"encoding/binary"
	"hash/crc32"
	"time"

	"github.com/hashicorp/raft"

	"github.com/f708428e/engine"
)

// A frame is
//
//	mark      4 bytes
//	length    4 bytes, little endian, of the payload; never 0
//	checksum  4 bytes, little endian, CRC-32C of the frame's offset in the file (8 bytes), the length, and what follows
//	payload   one byte that tells its kind, and what that says
//
// The offset in the checksum keeps a frame that is a part of a payload from being taken for one of the log.
const (
	magic     = "engine-head-log 2\n"
	mark      = "\xf5HLf"
	frameHead = 12
	// maxPayload bounds one frame.
	maxPayload = 1 << 30

	kindEntries = 1 // First index, number of entries, entries.
	kindCut     = 2 // An index: it and all behind it are void.
	kindBase    = 3 // An index, in the first frame: what came before it was cut off.
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func startFrame(buffer []byte, kind byte) []byte {
	return append(append(buffer, make([]byte, frameHead)...), kind)
}

func startEntries(buffer []byte, first uint64, count int) []byte {
	buffer = binary.AppendUvarint(startFrame(buffer, kindEntries), first)
	return binary.AppendUvarint(buffer, uint64(count)) //nolint:gosec // A length.
}

func cutFrame(buffer []byte, from uint64) []byte {
	return binary.AppendUvarint(startFrame(buffer, kindCut), from)
}

func baseFrame(base uint64) []byte {
	return binary.AppendUvarint(startFrame(nil, kindBase), base)
}

// finish fills in the head of a frame that goes to offset.
func finish(frame []byte, offset int64) error {
	payload := frame[frameHead:]
	if len(payload) > maxPayload {
		return engine.Errorf(engine.KindExhausted, "write log", "", "%d bytes at a time are over the limit of %d", len(payload), maxPayload)
	}
	copy(frame, mark)
	binary.LittleEndian.PutUint32(frame[4:], uint32(len(payload))) //nolint:gosec // Bounded above.
	binary.LittleEndian.PutUint32(frame[8:], checksum(offset, frame[4:8], payload))
	return nil
}

func checksum(offset int64, length, payload []byte) uint32 {
	var at [8]byte
	binary.LittleEndian.PutUint64(at[:], uint64(offset)) //nolint:gosec // Never negative.
	return crc32.Update(crc32.Update(crc32.Checksum(at[:], castagnoli), castagnoli, length), castagnoli, payload)
}

// appendEntry appends an entry without its index.
func appendEntry(buffer []byte, entry *raft.Log) []byte {
	buffer = append(binary.AppendUvarint(buffer, entry.Term), byte(entry.Type))
	var at int64
	if !entry.AppendedAt.IsZero() {
		at = entry.AppendedAt.UnixNano()
	}
	buffer = binary.AppendVarint(buffer, at)
	for _, field := range [][]byte{entry.Data, entry.Extensions} {
		buffer = append(binary.AppendUvarint(buffer, uint64(len(field))), field...)
	}
	return buffer
}

// decodeEntry reads an entry, all but its index, and returns what follows it. The entry keeps parts of bytes.
func decodeEntry(bytes []byte, entry *raft.Log) (rest []byte, ok bool) {
	entry.Term, bytes, ok = uvarint(bytes)
	if !ok || len(bytes) == 0 {
		return nil, false
	}
	entry.Type, bytes = raft.LogType(bytes[0]), bytes[1:]
	at, n := binary.Varint(bytes)
	if n <= 0 {
		return nil, false
	}
	entry.AppendedAt = time.Time{}
	if at != 0 {
		entry.AppendedAt = time.Unix(0, at)
	}
	bytes = bytes[n:]
	for _, field := range []*[]byte{&entry.Data, &entry.Extensions} {
		length, rest, ok := uvarint(bytes)
		if !ok || length > uint64(len(rest)) {
			return nil, false
		}
		*field = nil
		if length > 0 {
			*field = rest[:length:length]
		}
		bytes = rest[length:]
	}
	return bytes, true
}

func uvarint(bytes []byte) (value uint64, rest []byte, ok bool) {
	value, n := binary.Uvarint(bytes)
	if n <= 0 {
		return 0, nil, false
	}
	return value, bytes[n:], true
}
