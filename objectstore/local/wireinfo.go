package local

import (
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// states are by their wire value.
var states = [...]engine.ObjectState{
	enginev1.ObjectState_OBJECT_STATE_PENDING:      engine.ObjectPending,
	enginev1.ObjectState_OBJECT_STATE_IN_MEMORY:    engine.ObjectInMemory,
	enginev1.ObjectState_OBJECT_STATE_SPILLED:      engine.ObjectSpilled,
	enginev1.ObjectState_OBJECT_STATE_CHECKPOINTED: engine.ObjectCheckpointed,
	enginev1.ObjectState_OBJECT_STATE_LOST:         engine.ObjectLost,
}

// appendInfo appends the fields of an ObjectCopy.
func appendInfo(b []byte, info *objectstore.Info) []byte {
	b = appendBytes(b, 1, info.ID[:])
	b = appendVarint(b, 2, uint64(info.SizeBytes))                              //nolint:gosec // Not negative.
	b = appendVarint(b, 3, uint64(info.Rows))                                   //nolint:gosec // Not negative.
	b = appendVarint(b, 4, uint64(info.Batches))                                //nolint:gosec // Not negative.
	b = appendVarint(b, 5, uint64(max(slices.Index(states[:], info.State), 0))) //nolint:gosec // Not negative.
	b = appendBool(b, 6, info.Primary)
	b = appendText(b, 7, info.Domain)
	for i := range info.Owners {
		var at int
		b, at = openMessage(b, 8)
		owner := &info.Owners[i]
		b = appendText(b, 1, string(owner.Kind))
		b = appendText(b, 2, owner.ID)
		b = appendTime(b, 3, owner.Expires)
		b = closeMessage(b, at)
	}
	b = appendVarint(b, 9, uint64(info.Pins)) //nolint:gosec // Not negative.
	b = appendTime(b, 10, info.Created)
	b = appendTime(b, 11, info.Accessed)
	if info.Checked {
		b = protowire.AppendTag(b, 12, protowire.VarintType)
		b = protowire.AppendVarint(b, uint64(info.CRC32C))
	}
	b = appendText(b, 13, info.Checkpoint)
	return appendText(b, 14, info.Spilled)
}

// decodeInfo reads an ObjectCopy. Texts that are equal to known ones are not made again.
func decodeInfo(data []byte, info *objectstore.Info, known *[2]string) bool {
	return eachField(data, func(number protowire.Number, value uint64, bytes []byte) bool {
		switch number {
		case 1:
			id, ok := objectID(bytes)
			info.ID = id
			return ok
		case 2:
			info.SizeBytes = int64(value) //nolint:gosec // As it was encoded.
		case 3:
			info.Rows = int64(value) //nolint:gosec // See above.
		case 4:
			info.Batches = int64(value) //nolint:gosec // See above.
		case 5:
			if value < uint64(len(states)) {
				info.State = states[value]
			}
		case 6:
			info.Primary = value != 0
		case 7:
			info.Domain = text(bytes, known)
		case 8:
			var owner engine.ObjectOwner
			ok := decodeOwner(bytes, &owner, known)
			info.Owners = append(info.Owners, owner)
			return ok
		case 9:
			info.Pins = int(value) //nolint:gosec // See above.
		case 10:
			info.Created = decodeTime(bytes)
		case 11:
			info.Accessed = decodeTime(bytes)
		case 12:
			info.CRC32C, info.Checked = uint32(value), true //nolint:gosec // See above.
		case 13:
			info.Checkpoint = string(bytes)
		case 14:
			info.Spilled = string(bytes)
		}
		return true
	})
}

func decodeOwner(data []byte, owner *engine.ObjectOwner, known *[2]string) bool {
	return eachField(data, func(number protowire.Number, _ uint64, bytes []byte) bool {
		switch number {
		case 1:
			if string(bytes) == string(engine.OwnerSession) {
				owner.Kind = engine.OwnerSession
			} else {
				owner.Kind = engine.OwnerKind(bytes)
			}
		case 2:
			owner.ID = text(bytes, known)
		case 3:
			owner.Expires = decodeTime(bytes)
		}
		return true
	})
}

func text(bytes []byte, known *[2]string) string {
	for _, s := range known {
		if string(bytes) == s {
			return s
		}
	}
	return string(bytes)
}

// eachField calls f with every field of a message until it returns false: a number in value, or what has a length in bytes. It returns
// false if f did or the message is malformed.
func eachField(data []byte, f func(number protowire.Number, value uint64, bytes []byte) bool) bool {
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return false
		}
		data = data[n:]
		var value uint64
		var bytes []byte
		switch kind {
		case protowire.VarintType:
			value, n = protowire.ConsumeVarint(data)
		case protowire.BytesType:
			bytes, n = protowire.ConsumeBytes(data)
		default:
			n = protowire.ConsumeFieldValue(number, kind, data)
		}
		if n < 0 || !f(number, value, bytes) {
			return false
		}
		data = data[n:]
	}
	return true
}

// decodePacked reads one or more values of a repeated number, packed or not.
func decodePacked(values *[]uint64, value uint64, bytes []byte) bool {
	if bytes == nil {
		*values = append(*values, value)
		return true
	}
	for len(bytes) > 0 {
		value, n := protowire.ConsumeVarint(bytes)
		if n < 0 {
			return false
		}
		*values = append(*values, value)
		bytes = bytes[n:]
	}
	return true
}

// decodeSeconds reads a Duration or Timestamp, as far as it is one.
func decodeSeconds(data []byte) (seconds, nanos int64) {
	eachField(data, func(number protowire.Number, value uint64, _ []byte) bool {
		switch number {
		case 1:
			seconds = int64(value) //nolint:gosec // As it was encoded.
		case 2:
			nanos = int64(int32(value)) //nolint:gosec // See above.
		}
		return true
	})
	return seconds, nanos
}

func decodeTime(data []byte) time.Time { return time.Unix(decodeSeconds(data)) }

// openMessage begins a message of less than 128 bytes, or of any other length, as a field; closeMessage ends it.
func openMessage(b []byte, number protowire.Number) (buffer []byte, at int) {
	b = protowire.AppendTag(b, number, protowire.BytesType)
	return append(b, 0), len(b)
}

func closeMessage(b []byte, at int) []byte {
	length := len(b) - at - 1
	if length < 0x80 {
		b[at] = byte(length)
		return b
	}
	more := protowire.SizeVarint(uint64(length)) - 1 //nolint:gosec // Not negative.
	b = append(b, make([]byte, more)...)
	copy(b[at+1+more:], b[at+1:len(b)-more])
	protowire.AppendVarint(b[:at], uint64(length)) //nolint:gosec // Not negative.
	return b
}

func appendVarint(b []byte, number protowire.Number, value uint64) []byte {
	if value == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, number, protowire.VarintType), value)
}

func appendBool(b []byte, number protowire.Number, value bool) []byte {
	if !value {
		return b
	}
	return appendVarint(b, number, 1)
}

func appendBytes(b []byte, number protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, number, protowire.BytesType), value)
}

func appendText(b []byte, number protowire.Number, value string) []byte {
	if value == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, number, protowire.BytesType), value)
}

func appendSeconds(b []byte, number protowire.Number, seconds, nanos int64) []byte {
	b, at := openMessage(b, number)
	b = appendVarint(b, 1, uint64(seconds)) //nolint:gosec // Negative numbers are encoded so.
	b = appendVarint(b, 2, uint64(nanos))   //nolint:gosec // See above.
	return closeMessage(b, at)
}

func appendTime(b []byte, number protowire.Number, value time.Time) []byte {
	if value.IsZero() {
		return b
	}
	return appendSeconds(b, number, value.Unix(), int64(value.Nanosecond()))
}
