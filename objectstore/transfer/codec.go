package transfer

import (
	"errors"
	"fmt"
	"io"
	"math"

	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// The fields of arrow.flight.protocol.FlightData.
const (
	fieldDescriptor protowire.Number = 1
	fieldHeader     protowire.Number = 2
	fieldMetadata   protowire.Number = 3
	fieldBody       protowire.Number = 1000
)

// maxMessageBytes bounds a Flight message: gRPC and protobuf count with 32 bits.
const maxMessageBytes = math.MaxInt32

// outgoing is a FlightData message that is sent without a copy of its body.
type outgoing struct {
	// descriptor is an encoded FlightDescriptor. Empty fields are not sent.
	descriptor, header, metadata []byte
	// body stays as it is until pin says that gRPC is done with it. Without a pin it is copied unless it is pooled.
	body []byte
	pin  *pin
	// pooled is what body was taken from gRPC's pool as, to which it goes back.
	pooled *[]byte
}

// incoming is a FlightData message that was received. Its body is in gRPC's buffers until free.
type incoming struct {
	descriptor, header, metadata []byte
	body                         *mem.Reader
	bodyBytes                    int
}

// read copies the body into dst, which has bodyBytes bytes, and gives gRPC's buffers back.
func (m *incoming) read(dst []byte) error {
	defer m.free()
	if m.bodyBytes == 0 {
		return nil
	}
	_, err := io.ReadFull(m.body, dst[:m.bodyBytes])
	return err
}

// free gives gRPC's buffers back.
func (m *incoming) free() {
	if m.body != nil {
		_ = m.body.Close() // It never fails.
		m.body = nil
	}
}

// codec is gRPC's protobuf codec, except for outgoing and incoming, which have FlightData's encoding.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(grpcproto.Name)} }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(message any) (mem.BufferSlice, error) {
	if m, ok := message.(*outgoing); ok {
		return m.marshal()
	}
	return c.CodecV2.Marshal(message)
}

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, message any) error {
	if m, ok := message.(*incoming); ok {
		return m.unmarshal(data)
	}
	return c.CodecV2.Unmarshal(data, message)
}

func (m *outgoing) marshal() (mem.BufferSlice, error) {
	// 32 bytes hold four tags and lengths.
	size := 32 + len(m.descriptor) + len(m.header) + len(m.metadata)
	if size+len(m.body) > maxMessageBytes {
		return nil, fmt.Errorf("a message of %d bytes is larger than the %d that Flight can carry", size+len(m.body), maxMessageBytes)
	}
	// gRPC does not say when it is done with buffers as small as this.
	whole := m.pin == nil && m.pooled == nil || mem.IsBelowBufferPoolingThreshold(len(m.body))
	if whole {
		size += len(m.body)
	}
	front := make([]byte, 0, size)
	for _, field := range []struct {
		number protowire.Number
		value  []byte
	}{{fieldDescriptor, m.descriptor}, {fieldHeader, m.header}, {fieldMetadata, m.metadata}} {
		if len(field.value) > 0 {
			front = protowire.AppendTag(front, field.number, protowire.BytesType)
			front = protowire.AppendBytes(front, field.value)
		}
	}
	if len(m.body) == 0 {
		return mem.BufferSlice{mem.SliceBuffer(front)}, nil
	}
	front = protowire.AppendTag(front, fieldBody, protowire.BytesType)
	front = protowire.AppendVarint(front, uint64(len(m.body)))
	if whole {
		return mem.BufferSlice{mem.SliceBuffer(append(front, m.body...))}, nil
	}
	if m.pooled != nil {
		*m.pooled = m.body
		return mem.BufferSlice{mem.SliceBuffer(front), mem.NewBuffer(m.pooled, mem.DefaultBufferPool())}, nil
	}
	return mem.BufferSlice{mem.SliceBuffer(front), m.pin.lend(m.body[:len(m.body):len(m.body)])}, nil
}

var errMalformed = errors.New("malformed Flight message")

func (m *incoming) unmarshal(data mem.BufferSlice) error {
	m.free()
	*m = incoming{}
	r := data.Reader()
	defer func() { _ = r.Close() }() // It never fails.
	total := r.Remaining()
	for r.Remaining() > 0 {
		tag, err := readVarint(r)
		if err != nil {
			return err
		}
		number, kind := protowire.DecodeTag(tag)
		if number < protowire.MinValidNumber {
			return errMalformed
		}
		if kind != protowire.BytesType {
			if err := skip(r, kind); err != nil {
				return err
			}
			continue
		}
		length, err := readVarint(r)
		if err != nil {
			return err
		}
		if length > uint64(r.Remaining()) { //nolint:gosec // Never negative.
			return errMalformed
		}
		n := int(length)
		var field *[]byte
		switch number {
		case fieldDescriptor:
			field = &m.descriptor
		case fieldHeader:
			field = &m.header
		case fieldMetadata:
			field = &m.metadata
		case fieldBody:
			// The body is read later, once it is known where it goes.
			m.free()
			m.body, m.bodyBytes = data.Reader(), n
			if _, err := m.body.Discard(total - r.Remaining()); err != nil {
				return errMalformed
			}
		}
		if field == nil {
			if _, err := r.Discard(n); err != nil {
				return errMalformed
			}
			continue
		}
		*field = make([]byte, n)
		if _, err := io.ReadFull(r, *field); err != nil {
			return errMalformed
		}
	}
	return nil
}

// skip passes over the value of a field that we do not know.
func skip(r *mem.Reader, kind protowire.Type) error {
	switch kind {
	case protowire.VarintType:
		_, err := readVarint(r)
		return err
	case protowire.Fixed32Type, protowire.Fixed64Type:
		n := 4
		if kind == protowire.Fixed64Type {
			n = 8
		}
		if _, err := r.Discard(n); err != nil {
			return errMalformed
		}
		return nil
	default:
		return errMalformed
	}
}

func readVarint(r *mem.Reader) (uint64, error) {
	var value uint64
	for shift := 0; shift < 64; shift += 7 {
		b, err := r.ReadByte()
		if err != nil {
			return 0, errMalformed
		}
		value |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return value, nil
		}
	}
	return 0, errMalformed
}
