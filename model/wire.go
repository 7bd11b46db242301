package model

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protowire"
)

const (
	// windowBytes is how much of the file is in memory at a time. What a reader steps over (the weights) is not read at all.
	windowBytes = 16 << 10
	// maxTextBytes bounds a name, which is the only thing that is copied out of the file.
	maxTextBytes = 16 << 10
	// checkEvery is after how many fields a reader looks at its context.
	checkEvery = 4096
)

var (
	errTruncated = errors.New("the file ends within a field")
	errDamaged   = errors.New("damaged")
)

// wire reads protobuf fields from a file without holding it in memory. Messages are ranges of the file.
type wire struct {
	r         io.ReaderAt
	sizeBytes int64
	window    []byte
	// windowStart is the offset of window in the file.
	windowStart int64
	fields      int64
}

// field is one field of a message.
type field struct {
	number protowire.Number
	kind   protowire.Type
	// value is the value of a varint or of a fixed-width field.
	value uint64
	// start and end bound the content of a length-delimited field.
	start, end int64
}

// peek returns up to n bytes at offset, fewer only at the end of the file. They are valid until the next call.
func (w *wire) peek(offset int64, n int) ([]byte, error) {
	n = int(min(int64(n), w.sizeBytes-offset))
	from := offset - w.windowStart
	if from < 0 || from+int64(n) > int64(len(w.window)) {
		size := int(min(int64(max(n, windowBytes)), w.sizeBytes-offset))
		if cap(w.window) < size {
			w.window = make([]byte, size)
		}
		w.window, w.windowStart = w.window[:size], offset
		if read, err := w.r.ReadAt(w.window, offset); read < size {
			w.window = w.window[:0]
			if err == nil || errors.Is(err, io.EOF) {
				// The file shrank after its size was taken.
				err = errTruncated
			}
			return nil, err
		}
		from = 0
	}
	return w.window[from : from+int64(n)], nil
}

// next returns the field at offset of the message that ends at end, and the offset after it.
func (w *wire) next(offset, end int64) (field, int64, error) {
	// A tag and the varint after it take 20 bytes at most.
	buf, err := w.peek(offset, 20)
	if err != nil {
		return field{}, 0, err
	}
	buf = buf[:min(int64(len(buf)), end-offset)]
	number, kind, tagBytes := protowire.ConsumeTag(buf)
	if tagBytes < 0 {
		return field{}, 0, w.broken(tagBytes, offset, end, "tag")
	}
	f, after := field{number: number, kind: kind}, offset+int64(tagBytes)
	buf = buf[tagBytes:]
	switch kind {
	case protowire.VarintType:
		value, n := protowire.ConsumeVarint(buf)
		if n < 0 {
			return f, 0, w.broken(n, offset, end, "number")
		}
		f.value = value
		return f, after + int64(n), nil
	case protowire.Fixed32Type, protowire.Fixed64Type:
		width := int64(4)
		if kind == protowire.Fixed64Type {
			width = 8
		}
		if after+width > end {
			return f, 0, w.broken(-1, offset, end, "number")
		}
		return f, after + width, nil
	case protowire.BytesType:
		length, n := protowire.ConsumeVarint(buf)
		if n < 0 {
			return f, 0, w.broken(n, offset, end, "length")
		}
		f.start = after + int64(n)
		if length > uint64(end-f.start) {
			if end == w.sizeBytes && length <= 1<<62 {
				return f, 0, fmt.Errorf("%w: field %d at byte %d has %d bytes, %d are left", errTruncated, number, offset, length, end-f.start)
			}
			return f, 0, fmt.Errorf("%w: field %d at byte %d reaches beyond its message", errDamaged, number, offset)
		}
		f.end = f.start + int64(length)
		return f, f.end, nil
	default:
		// ONNX has no groups.
		return f, 0, fmt.Errorf("%w: field %d at byte %d has wire type %d", errDamaged, number, offset, kind)
	}
}

// broken tells a field that the end of the file cuts off from one that can never be right. code is protowire's.
func (w *wire) broken(code int, offset, end int64, what string) error {
	if end == w.sizeBytes && errors.Is(protowire.ParseError(code), io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: the %s at byte %d", errTruncated, what, offset)
	}
	return fmt.Errorf("%w: the %s at byte %d", errDamaged, what, offset)
}

// each calls visit for every field of the message in [start, end) until one fails.
func (w *wire) each(ctx context.Context, start, end int64, visit func(field) error) error {
	for offset := start; offset < end; {
		if w.fields++; w.fields%checkEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		f, after, err := w.next(offset, end)
		if err != nil {
			return err
		}
		if err := visit(f); err != nil {
			return err
		}
		offset = after
	}
	return nil
}

// text copies the content of a length-delimited field that is a name.
func (w *wire) text(f field) (string, error) {
	if f.kind != protowire.BytesType {
		return "", fmt.Errorf("%w: field %d has wire type %d, expected a text", errDamaged, f.number, f.kind)
	}
	if f.end-f.start > maxTextBytes {
		return "", fmt.Errorf("%w: a name at byte %d has %d bytes, at most %d are allowed", errDamaged, f.start, f.end-f.start, maxTextBytes)
	}
	b, err := w.peek(f.start, int(f.end-f.start))
	return string(b), err
}
