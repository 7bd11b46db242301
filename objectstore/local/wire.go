package local

import (
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/objectstore"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// The messages of store_socket.proto that every put and get of a small object needs are written and read here by hand, without an
// allocation; the generated code takes 6 us and 52 allocations for the four of them. The others use the generated code. A test holds
// both against each other.

// The numbers of the calls in StoreRequest.
const (
	callPutInline   protowire.Number = 3
	callPutFrom     protowire.Number = 4
	callCreate      protowire.Number = 5
	callArenaMapped protowire.Number = 6
	callSeal        protowire.Number = 7
	callAbort       protowire.Number = 8
	callGet         protowire.Number = 9
	callRelease     protowire.Number = 10
	callDelete      protowire.Number = 11
	callWait        protowire.Number = 12
	callCancel      protowire.Number = 13
)

// request is a StoreRequest.
type request struct {
	number  uint64
	timeout time.Duration
	call    protowire.Number
	// body is the call's message, which aliases what was decoded.
	body []byte
	// Of a put_inline and a get. data aliases what was decoded.
	id          []byte
	data        []byte
	wait, fetch bool
	// Of a release.
	pins []uint64
}

// errMessage is what a message gets that cannot be read. The connection ends then, since what follows has no meaning either.
var errMessage = engine.Errorf(engine.KindInvalidArgument, "read message", "", "not a message of the protocol")

// decode reads a request over an older one, whose memory it uses again.
func (r *request) decode(data []byte) error {
	*r = request{pins: r.pins[:0]}
	ok := eachField(data, func(number protowire.Number, value uint64, bytes []byte) bool {
		switch {
		case number == 1:
			r.number = value
		case number == 2:
			seconds, nanos := decodeSeconds(bytes)
			r.timeout = time.Duration(seconds)*time.Second + time.Duration(nanos)
			if seconds > int64(maxTimeout/time.Second) || r.timeout > maxTimeout {
				r.timeout = maxTimeout
			}
		case number >= callPutInline:
			r.call, r.body = number, bytes
		}
		return true
	})
	if !ok {
		return errMessage
	}
	switch r.call {
	case callPutInline:
		ok = eachField(r.body, func(number protowire.Number, _ uint64, bytes []byte) bool {
			switch number {
			case 1:
				r.id = bytes
			case 2:
				r.data = bytes
			}
			return true
		})
	case callGet:
		ok = eachField(r.body, func(number protowire.Number, value uint64, bytes []byte) bool {
			switch number {
			case 1:
				r.id = bytes
			case 2:
				r.wait = value != 0
			case 3:
				r.fetch = value != 0
			}
			return true
		})
	case callRelease:
		ok = eachField(r.body, func(number protowire.Number, value uint64, bytes []byte) bool {
			if number == 1 {
				return decodePacked(&r.pins, value, bytes)
			}
			return true
		})
	}
	if !ok {
		return errMessage
	}
	return nil
}

// maxTimeout keeps durations from overflowing.
const maxTimeout = 10 * 365 * 24 * time.Hour

// appendRequest appends the fields that all requests have.
func appendRequest(b []byte, number uint64, timeout time.Duration) []byte {
	b = appendVarint(b, 1, number)
	if timeout > 0 {
		b = appendSeconds(b, 2, int64(timeout/time.Second), int64(timeout%time.Second))
	}
	return b
}

// appendPutInline appends the call up to the object's bytes, which follow: size of them.
func appendPutInline(b []byte, id engine.ObjectID, size int) []byte {
	idBytes := protowire.SizeTag(1) + protowire.SizeBytes(len(id))
	b = protowire.AppendTag(b, callPutInline, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(idBytes+protowire.SizeTag(2)+protowire.SizeBytes(size))) //nolint:gosec // Not negative.
	b = appendBytes(b, 1, id[:])
	b = protowire.AppendTag(b, 2, protowire.BytesType)
	return protowire.AppendVarint(b, uint64(size)) //nolint:gosec // Not negative.
}

func appendGet(b []byte, id engine.ObjectID, options GetOptions) []byte {
	b, at := openMessage(b, callGet)
	b = appendBytes(b, 1, id[:])
	b = appendBool(b, 2, options.Wait)
	b = appendBool(b, 3, options.Fetch)
	return closeMessage(b, at)
}

func appendRelease(b []byte, pins []uint64) []byte {
	size := 0
	for _, pin := range pins {
		size += protowire.SizeVarint(pin)
	}
	inner := protowire.SizeTag(1) + protowire.SizeBytes(size)
	b = protowire.AppendTag(b, callRelease, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(inner)) //nolint:gosec // Not negative.
	b = protowire.AppendTag(b, 1, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(size)) //nolint:gosec // Not negative.
	for _, pin := range pins {
		b = protowire.AppendVarint(b, pin)
	}
	return b
}

// appendCall appends any other call.
func appendCall(b []byte, call protowire.Number, message proto.Message) []byte {
	// Marshalling our own messages cannot fail: their texts are valid UTF-8 and nothing is required.
	data, _ := proto.Marshal(message)
	return appendBytes(b, call, data)
}

// response is a StoreResponse.
type response struct {
	number   uint64
	err      *engine.Error
	place    place
	hasPlace bool
	// data aliases what was decoded.
	data    []byte
	info    objectstore.Info
	hasInfo bool
	ready   []engine.ObjectID
	retired []uint64
	// sent says that the server has sent this response already.
	sent bool
}

// place is a StorePlace.
type place struct {
	objectstore.Place
	descriptor, writable bool
	pin                  uint64
}

// append appends the response.
func (r *response) append(b []byte) []byte {
	b = appendVarint(b, 1, r.number)
	if r.err != nil {
		data, _ := proto.Marshal(rpc.ToProto(r.err))
		b = appendBytes(b, 2, data)
	}
	if r.hasPlace {
		var at int
		b, at = openMessage(b, 3)
		b = appendVarint(b, 1, r.place.Arena)
		b = appendVarint(b, 2, uint64(r.place.ArenaBytes)) //nolint:gosec // Not negative.
		b = appendBool(b, 3, r.place.descriptor)
		b = appendVarint(b, 4, uint64(r.place.OffsetBytes)) //nolint:gosec // Not negative.
		b = appendVarint(b, 5, uint64(r.place.SizeBytes))   //nolint:gosec // Not negative.
		b = appendVarint(b, 6, r.place.pin)
		b = appendBool(b, 7, r.place.writable)
		b = closeMessage(b, at)
	}
	if r.data != nil {
		b = protowire.AppendTag(b, 4, protowire.BytesType)
		b = protowire.AppendBytes(b, r.data)
	}
	if r.hasInfo {
		var at int
		b, at = openMessage(b, 5)
		b = appendInfo(b, &r.info)
		b = closeMessage(b, at)
	}
	for i := range r.ready {
		b = appendBytes(b, 6, r.ready[i][:])
	}
	for _, arena := range r.retired {
		b = protowire.AppendTag(b, 7, protowire.VarintType)
		b = protowire.AppendVarint(b, arena)
	}
	return b
}

// decode reads a response. Texts that are equal to known ones are not made again.
func (r *response) decode(data []byte, known *[2]string) error {
	*r = response{}
	ok := eachField(data, func(number protowire.Number, value uint64, bytes []byte) bool {
		switch number {
		case 1:
			r.number = value
		case 2:
			var wire enginev1.Error
			if proto.Unmarshal(bytes, &wire) != nil {
				return false
			}
			r.err = rpc.FromProto(&wire)
		case 3:
			r.hasPlace = true
			return r.place.decode(bytes)
		case 4:
			r.data = bytes
		case 5:
			r.hasInfo = true
			return decodeInfo(bytes, &r.info, known)
		case 6:
			id, ok := objectID(bytes)
			r.ready = append(r.ready, id)
			return ok
		case 7:
			return decodePacked(&r.retired, value, bytes)
		}
		return true
	})
	if !ok {
		return errMessage
	}
	return nil
}

func (p *place) decode(data []byte) bool {
	return eachField(data, func(number protowire.Number, value uint64, _ []byte) bool {
		switch number {
		case 1:
			p.Arena = value
		case 2:
			p.ArenaBytes = int64(value) //nolint:gosec // Negative ones are refused where they are used.
		case 3:
			p.descriptor = value != 0
		case 4:
			p.OffsetBytes = int64(value) //nolint:gosec // See above.
		case 5:
			p.SizeBytes = int64(value) //nolint:gosec // See above.
		case 6:
			p.pin = value
		case 7:
			p.writable = value != 0
		}
		return true
	})
}

// objectID reads an id; ok is false unless it has 16 bytes.
func objectID(data []byte) (id engine.ObjectID, ok bool) {
	if len(data) != len(id) {
		return id, false
	}
	return engine.ObjectID(data), true
}
