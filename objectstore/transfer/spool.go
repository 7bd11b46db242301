package transfer

import (
	"encoding/binary"

	"github.com/f708428e/engine"
)

// bodyAlignment is where the bodies of messages begin in a spooled stream.
const bodyAlignment = 64

// continuation precedes the length of each message of an Arrow IPC stream.
const continuation = 0xFFFFFFFF

// spool gathers the messages of a put whose size nobody knows, as one Arrow IPC stream. It is not safe for concurrent use.
type spool struct {
	data []byte
	// free gives data back; nil while it is the garbage collector's.
	free func()
	// bodies are the lengths of the messages' bodies.
	bodies []int
}

// firstSpoolBytes is the room that a spool begins with, on the heap: most puts are small.
const firstSpoolBytes = 64 << 10

// messageBytes is the room that a message takes at most.
func messageBytes(header, body int) int64 {
	return 8 + int64(header) + bodyAlignment + int64(body)
}

// need makes room for n more bytes, where there will never be more than limit in all.
func (s *spool) need(n, limit int64) error {
	size := int64(len(s.data)) + n
	if size <= int64(cap(s.data)) {
		return nil
	}
	if s.free != nil {
		return engine.Errorf(engine.KindInternal, "put object", "", "spool of %d bytes grows to %d", cap(s.data), size)
	}
	var grown []byte
	var free func()
	if room := max(2*size, firstSpoolBytes); room < limit && room <= 16*firstSpoolBytes {
		grown = make([]byte, 0, room)
	} else {
		var err error
		// The whole range is reserved at once, as memory that is used as far as it is written.
		if grown, free, err = reserve(limit); err != nil {
			return err
		}
		grown = grown[:0]
	}
	s.data, s.free = append(grown, s.data...), free
	return nil
}

// append adds a message. need has made room for it.
func (s *spool) append(m *incoming) error {
	padded := len(m.header) + -(len(s.data)+8+len(m.header))&(bodyAlignment-1)
	s.data = binary.LittleEndian.AppendUint32(s.data, continuation)
	s.data = binary.LittleEndian.AppendUint32(s.data, uint32(padded)) //nolint:gosec // A header fits a message.
	s.data = append(s.data, m.header...)
	s.data = append(s.data, make([]byte, padded-len(m.header))...)
	start := len(s.data)
	s.data = s.data[:start+m.bodyBytes]
	s.bodies = append(s.bodies, m.bodyBytes)
	return m.read(s.data[start:])
}

// finish adds the end of the stream. need has made room for 8 bytes.
func (s *spool) finish() []byte {
	s.data = binary.LittleEndian.AppendUint32(s.data, continuation)
	s.data = binary.LittleEndian.AppendUint32(s.data, 0)
	return s.data
}

// close gives the memory back.
func (s *spool) close() {
	if s.free != nil {
		s.free()
	}
	*s = spool{}
}
