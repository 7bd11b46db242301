package ipc

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/text"
	"github.com/f708428e/engine/objectstore/table"
)

const (
	magic = "ARROW1"
	// fileHead is the magic with its padding, fileTail the length of the footer and the magic.
	fileHead, fileTail = 8, 4 + len(magic)

	continuation = 0xffffffff
	prefixBytes  = 8
	// maxHeaderBytes bounds the header of a message, maxBodyBytes its body, which is read as a whole.
	maxHeaderBytes = 64 << 20
	maxBodyBytes   = 1 << 30
	// maxMessages bounds the messages of a file.
	maxMessages = 10_000_000
)

var endOfStream = []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}

// place is where a message lies in the file, its prefix included.
type place struct{ offset, size int64 }

// dictionary is a dictionary, or a delta: what is added to the one of the same id before it.
type dictionary struct {
	place
	id    int64
	delta bool
}

// batch is a record batch.
type batch struct {
	place
	// dictionaries is how many messages with dictionaries come before it, rows how many rows it says that it has.
	dictionaries int
	rows         int64
}

// aheadBytes is up to how large messages are read for nothing, all of them in a few requests, when only their headers are wanted of a
// file in a bucket.
const aheadBytes = 4 << 20

// index is what is known of an open file, up to an offset.
type index struct {
	in   *text.Input
	info dataset.File
	// ahead says that what will be read is announced.
	ahead bool
	// offset is that of the next message, end that behind the last; ended says that the end of the stream has come, count how many
	// messages came before offset, last how large the last of them is.
	offset, end int64
	ended       bool
	count       int
	last        int64
	header      []byte

	schema *arrow.Schema
	// first is the message with the schema as it stands in the file.
	first        []byte
	dictionaries []dictionary
	batches      []batch
	// ids are those of dictionaries. nested says that there may be dictionaries in the values of others.
	ids    map[int64]bool
	nested bool
}

// live returns those of the first dictionaries that are not replaced by later ones among them.
func (x *index) live(count int) []dictionary {
	all := x.dictionaries[:count]
	if x.nested {
		return all
	}
	var found []dictionary
	whole := map[int64]bool{}
	for i := count - 1; i >= 0 && len(whole) < len(x.ids); i-- {
		if d := all[i]; !whole[d.id] {
			found = append(found, d)
			if !d.delta {
				whole[d.id] = true
			}
		}
	}
	slices.Reverse(found)
	return found
}

// nests tells whether a type has a dictionary, or if inner a dictionary in the values of another.
func nests(t arrow.DataType, inner bool) bool {
	if d, ok := t.(*arrow.DictionaryType); ok {
		return !inner || nests(d.ValueType, false)
	}
	if parent, ok := t.(arrow.NestedType); ok {
		return slices.ContainsFunc(parent.Fields(), func(f arrow.Field) bool { return nests(f.Type, inner) })
	}
	return false
}

func (x *index) corrupt(format string, args ...any) *engine.Error {
	return engine.Errorf(engine.KindCorrupt, opRead, x.info.Path, format, args...)
}

// read reads bytes that must be there.
func (x *index) read(p []byte, offset int64) error {
	if n, err := x.in.ReadAt(p, offset); n < len(p) {
		return text.ShortRead(opRead, x.info, offset+int64(n), err)
	}
	return nil
}

// begin finds out where the messages are, and reads the first, which is the schema.
func (x *index) begin(ctx context.Context) error {
	var err error
	if x.offset, x.end, err = x.bounds(); err != nil {
		return err
	}
	if _, err := x.advance(ctx); err != nil {
		return err
	}
	if x.first == nil {
		return x.corrupt("has no schema")
	}
	return nil
}

// all looks at the messages up to the last.
func (x *index) all(ctx context.Context) error {
	for {
		if more, err := x.advance(ctx); err != nil || !more {
			return err
		}
		if x.ahead {
			x.in.Forget(dataset.Range{End: x.offset})
			if x.last < aheadBytes {
				x.in.Expect(dataset.Range{Start: x.offset, End: x.offset + 4*aheadBytes})
			}
		}
	}
}

// upTo looks at the messages up to a record batch, by its number in batches.
func (x *index) upTo(ctx context.Context, batch int) (bool, error) {
	for len(x.batches) <= batch {
		if more, err := x.advance(ctx); err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

// advance looks at the next message; false after the last.
func (x *index) advance(ctx context.Context) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, engine.WrapError(opRead, x.info.Path, err)
	}
	offset, end := x.offset, x.end
	if x.ended || offset == end && offset != x.info.SizeBytes {
		return false, nil // The footer, before which some writers leave the end of the stream out.
	}
	if end-offset < prefixBytes {
		return false, x.corrupt("is cut off: the end of the stream is missing at byte %d", offset)
	}
	var prefix [prefixBytes]byte
	if err := x.read(prefix[:], offset); err != nil {
		return false, err
	}
	if first := binary.LittleEndian.Uint32(prefix[:]); first != continuation {
		return false, x.corrupt("byte %d: a message begins with %#x, expected %#x", offset, first, uint32(continuation))
	}
	length := int64(binary.LittleEndian.Uint32(prefix[4:]))
	if length == 0 {
		if rest := end - offset - prefixBytes; rest > 0 && end == x.info.SizeBytes {
			return false, x.corrupt("byte %d: %d bytes after the end of the stream", offset, rest)
		}
		x.ended = true
		return false, nil
	}
	if length > min(maxHeaderBytes, end-offset-prefixBytes) {
		return false, x.corrupt("byte %d: a message's header has %d bytes, %d are left", offset, length, end-offset-prefixBytes)
	}
	if x.count == maxMessages {
		return false, x.corrupt("over %d messages", int64(maxMessages))
	}
	x.header = append(x.header[:0], make([]byte, length)...)
	if err := x.read(x.header, offset+prefixBytes); err != nil {
		return false, err
	}
	size, err := x.message(x.count, offset, end, x.header)
	if err != nil {
		return false, err
	}
	x.count++
	x.offset, x.last = offset+size, size
	return true, nil
}

// bounds returns where the messages begin and end.
func (x *index) bounds() (start, end int64, err error) {
	size := x.info.SizeBytes
	if size == 0 {
		return 0, 0, engine.Errorf(engine.KindData, opRead, x.info.Path, "file is empty")
	}
	head := make([]byte, min(fileHead, size))
	if err := x.read(head, 0); err != nil {
		return 0, 0, err
	}
	switch {
	case bytes.HasPrefix(head, []byte("FEA1")):
		return 0, 0, engine.Errorf(engine.KindData, opRead, x.info.Path, "is a Feather file of version 1, not Arrow IPC").
			WithHint("write it again with pyarrow.feather.write_feather(…, version=2)")
	case bytes.HasPrefix(head, []byte("PAR1")):
		return 0, 0, engine.Errorf(engine.KindData, opRead, x.info.Path, "is a Parquet file, not Arrow IPC").WithHint("read it with source.parquet")
	case !bytes.HasPrefix(head, []byte(magic)):
		if size < 4 || binary.LittleEndian.Uint32(head) != continuation {
			return 0, 0, engine.Errorf(engine.KindData, opRead, x.info.Path, "is not Arrow IPC: it begins with %s", text.Shown(head))
		}
		return 0, size, nil
	}
	tail := make([]byte, fileTail)
	if size >= int64(fileHead+fileTail) {
		if err := x.read(tail, size-int64(fileTail)); err != nil {
			return 0, 0, err
		}
	}
	footer := int64(int32(binary.LittleEndian.Uint32(tail)))
	if end = size - int64(fileTail) - footer; string(tail[4:]) != magic || footer <= 0 || end < fileHead {
		return 0, 0, x.corrupt("is cut off: its footer is missing")
	}
	return fileHead, end, nil
}

// message takes up a message, and returns its size.
func (x *index) message(count int, offset, end int64, header []byte) (int64, error) {
	o, err := table.ReadOutline(header)
	if err != nil {
		return 0, x.corrupt("byte %d: %w", offset, err)
	}
	size := prefixBytes + int64(len(header)) + o.BodyBytes
	if o.BodyBytes > end-offset-prefixBytes-int64(len(header)) {
		return 0, x.corrupt("byte %d: a message's body has %d bytes, %d are left", offset, o.BodyBytes, end-offset-prefixBytes-int64(len(header)))
	}
	if o.BodyBytes > maxBodyBytes {
		return 0, engine.Errorf(engine.KindData, opRead, x.info.Path, "byte %d: a record batch or dictionary of %d bytes, at most %d can be read",
			offset, o.BodyBytes, int64(maxBodyBytes)).WithHint("write it with smaller record batches")
	}
	switch {
	case (count == 0) != (o.Kind == table.SchemaMessage):
		return 0, x.corrupt("byte %d: the schema is not the first message, or not the only one", offset)
	case o.Kind == table.SchemaMessage:
		x.first = make([]byte, size)
		if err := x.read(x.first, offset); err != nil {
			return 0, err
		}
		opened, err := table.Open(append(bytes.Clone(x.first), endOfStream...), table.Options{})
		if err != nil {
			return 0, x.corrupt("%w", err)
		}
		x.schema = opened.Schema()
		opened.Release()
		x.ids = map[int64]bool{}
		x.nested = slices.ContainsFunc(x.schema.Fields(), func(f arrow.Field) bool { return nests(f.Type, true) })
	case o.Kind == table.DictionaryMessage:
		x.dictionaries = append(x.dictionaries, dictionary{place{offset, size}, o.Dictionary, o.Delta})
		x.ids[o.Dictionary] = true
	case o.Kind == table.RecordBatchMessage:
		x.batches = append(x.batches, batch{place{offset, size}, len(x.dictionaries), o.Rows})
	default:
		return 0, x.corrupt("byte %d: %s", offset, fmt.Sprintf("a message of kind %d, which no table has", o.Kind))
	}
	return size, nil
}
