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

// parse reads a message's metadata, but not what its header refers to.
func parse(m Message) (parsed, error) {
	t := (&flat{data: m.Header}).root()
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

// split cuts a stream into its messages.
func split(data []byte) ([]Message, []parsed, error) {
	var messages []Message
	var all []parsed
	for at := 0; ; {
		rest := data[at:]
		fail := func(err error) ([]Message, []parsed, error) {
			return nil, nil, fmt.Errorf("message %d, at byte %d of %d: %w", len(messages), at, len(data), err)
		}
		if len(rest) < prefixBytes {
			return fail(fmt.Errorf("truncated: %d bytes are left, and the end of the stream was not seen", len(rest)))
		}
		if first := binary.LittleEndian.Uint32(rest); first != continuation {
			return fail(fmt.Errorf("not an arrow ipc stream: a message begins with %#x, expected %#x", first, uint32(continuation)))
		}
		length := int64(int32(binary.LittleEndian.Uint32(rest[4:])))
		rest = rest[prefixBytes:]
		if length == 0 {
			if len(rest) > 0 {
				return fail(fmt.Errorf("%d bytes after the end of the stream", len(rest)))
			}
			return messages, all, nil
		}
		if length < 0 || length > int64(len(rest)) {
			return fail(fmt.Errorf("truncated: its metadata has %d bytes, %d are left", length, len(rest)))
		}
		if len(messages) == maxMessages {
			return fail(fmt.Errorf("more than %d messages", maxMessages))
		}
		m := Message{Header: rest[:length:length]}
		p, err := parse(m)
		if err != nil {
			return fail(err)
		}
		rest = rest[length:]
		if p.bodyLength < 0 || p.bodyLength > int64(len(rest)) {
			return fail(errBody(p.bodyLength, len(rest)))
		}
		m.Body = rest[:p.bodyLength:p.bodyLength]
		messages, all = append(messages, m), append(all, p)
		at += prefixBytes + int(length) + int(p.bodyLength)
	}
}
