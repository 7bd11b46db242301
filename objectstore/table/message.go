package table

import (
	"encoding/binary"
	"fmt"
)

// Message is one encapsulated IPC message without its length prefix.
type Message struct {
	// Header is the message's flatbuffer, with its padding.
	Header []byte
	// Body is what follows it.
	Body []byte
}

// maxMessages is how many messages a stream may have.
const maxMessages = 1 << 20

// parsed is a message's metadata.
type parsed struct {
	kind       uint8
	version    int16
	bodyLength int64
	header     flatTable
}

// parse reads a message's metadata, but not what its header refers to. f is the flatbuffer of that.
func parse(f *flat, m Message) (parsed, error) {
	*f = flat{data: m.Header}
	t := f.root()
	p := parsed{
		kind:       t.uint8(messageHeaderType, 0),
		version:    t.int16(messageVersion, 0),
		bodyLength: t.int64(messageBodyLength),
		header:     t.table(messageHeader),
	}
	if t.flat.broken {
		return parsed{}, errBroken
	}
	if p.version != version4 && p.version != version5 {
		return parsed{}, fmt.Errorf("metadata version V%d: only V4 and V5 can be read", p.version+1)
	}
	return p, nil
}

func errBody(says int64, found int) error {
	return fmt.Errorf("the message says that its body has %d bytes, %d are there", says, found)
}

// scanner cuts a stream into its messages.
type scanner struct {
	data []byte
	// at is where the next message begins, and count how many there were before.
	at, count int
	// flat is the metadata of the message that was read last.
	flat flat
}

// next returns the next message; ok is false at the end of the stream. The metadata is valid until the next call.
func (s *scanner) next() (m Message, p parsed, ok bool, err error) {
	m, p, size, err := s.scan(s.data[s.at:])
	if err != nil {
		return m, p, false, fmt.Errorf("message %d, at byte %d of %d: %w", s.count, s.at, len(s.data), err)
	}
	s.at += size
	s.count++
	return m, p, size > 0, nil
}

// scan reads the message that rest begins with, and returns its size; zero at the end of the stream.
func (s *scanner) scan(rest []byte) (m Message, p parsed, size int, err error) {
	if len(rest) < prefixBytes {
		return m, p, 0, fmt.Errorf("truncated: %d bytes are left, and the end of the stream was not seen", len(rest))
	}
	if first := binary.LittleEndian.Uint32(rest); first != continuation {
		return m, p, 0, fmt.Errorf("not an arrow ipc stream: a message begins with %#x, expected %#x", first, uint32(continuation))
	}
	length := int64(int32(binary.LittleEndian.Uint32(rest[4:])))
	rest = rest[prefixBytes:]
	if length == 0 {
		if len(rest) > 0 {
			return m, p, 0, fmt.Errorf("%d bytes after the end of the stream", len(rest))
		}
		return m, p, 0, nil
	}
	if length < 0 || length > int64(len(rest)) {
		return m, p, 0, fmt.Errorf("truncated: its metadata has %d bytes, %d are left", length, len(rest))
	}
	if s.count == maxMessages {
		return m, p, 0, fmt.Errorf("more than %d messages", maxMessages)
	}
	m.Header = rest[:length:length]
	if p, err = parse(&s.flat, m); err != nil {
		return m, p, 0, err
	}
	rest = rest[length:]
	if p.bodyLength < 0 || p.bodyLength > int64(len(rest)) {
		return m, p, 0, errBody(p.bodyLength, len(rest))
	}
	m.Body = rest[:p.bodyLength:p.bodyLength]
	return m, p, prefixBytes + int(length) + int(p.bodyLength), nil
}
