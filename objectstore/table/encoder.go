package table

import (
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	flatbuffers "github.com/google/flatbuffers/go"
)

// encoder lays out a stream as pieces. Its memory is used again.
type encoder struct {
	pieces []Piece
	size   int64
	// builder makes the metadata of one message after the other.
	builder *flatbuffers.Builder
	// body is the message that is being laid out.
	body body
	// written holds, by id, the dictionary that was written last.
	written map[int64]arrow.ArrayData
}

var encoders = sync.Pool{New: func() any { return &encoder{builder: flatbuffers.NewBuilder(1024)} }}

// recycle gives an encoder back that holds nothing of its tables any more.
func (e *encoder) recycle() {
	const most = 4096
	if cap(e.pieces) > most || cap(e.body.pieces) > most || cap(e.body.buffers) > most {
		return
	}
	clear(e.pieces)
	clear(e.body.pieces[:cap(e.body.pieces)])
	e.pieces, e.size, e.written = e.pieces[:0], 0, nil
	encoders.Put(e)
}

// body is what a RecordBatch table says, and the pieces that follow it.
type body struct {
	nodes    []fieldNode
	buffers  []bufferPlace
	variadic []int64
	pieces   []Piece
	size     int64
}

// fieldNode is the length of an array and how many of its values are null.
type fieldNode struct{ length, nulls int64 }

// bufferPlace is where a buffer lies in a message's body.
type bufferPlace struct{ offset, length int64 }

func (e *encoder) encode(schema *arrow.Schema, records []arrow.Record) error {
	if !schema.IsNativeEndian() {
		return fmt.Errorf("the schema is %v-endian: only this machine's order can be written", schema.Endianness())
	}
	written, err := e.schema(schema)
	if err != nil {
		return err
	}
	e.put(written.message)
	for i, record := range records {
		if err := sameSchema(schema, record); err != nil {
			return fmt.Errorf("record %d: %w", i, err)
		}
		if err := e.record(schema, written.nodes, record); err != nil {
			return fmt.Errorf("record %d: %w", i, err)
		}
	}
	e.put(endOfStream)
	return nil
}

// sameSchema compares types and names. Metadata is the schema's own.
func sameSchema(schema *arrow.Schema, record arrow.Record) error {
	other := record.Schema()
	if other == schema {
		return nil
	}
	if other.NumFields() != schema.NumFields() {
		return fmt.Errorf("it has %d columns, and the schema %d", other.NumFields(), schema.NumFields())
	}
	for i := range schema.NumFields() {
		field, found := schema.Field(i), other.Field(i)
		if field.Name != found.Name || !arrow.TypeEqual(field.Type, found.Type) {
			return fmt.Errorf("column %d is %q of type %s, and in the schema %q of type %s",
				i, found.Name, found.Type, field.Name, field.Type)
		}
	}
	return nil
}

func (e *encoder) record(schema *arrow.Schema, nodes []*node, record arrow.Record) error {
	rows := int(record.NumRows())
	for i, n := range nodes {
		if !n.encoded {
			continue
		}
		if err := e.dictionaries(n, record.Column(i).Data()); err != nil {
			return fmt.Errorf("column %q: %w", schema.Field(i).Name, err)
		}
	}
	e.body.reset()
	for i, n := range nodes {
		data := record.Column(i).Data()
		if err := e.body.array(n, data, data.Offset(), rows); err != nil {
			return fmt.Errorf("column %q: %w", schema.Field(i).Name, err)
		}
	}
	e.builder.Reset()
	e.putBody(headerRecordBatch, e.batch(rows))
	return nil
}

// dictionaries writes those of an array, and before each what its values need themselves.
func (e *encoder) dictionaries(n *node, data arrow.ArrayData) error {
	if n.dict == nil {
		if len(data.Children()) != len(n.children) {
			return errChildren(len(data.Children()), len(n.children))
		}
		for i, child := range n.children {
			if !child.encoded {
				continue
			}
			if err := e.dictionaries(child, data.Children()[i]); err != nil {
				return err
			}
		}
		return nil
	}
	values, ok := data.Dictionary().(*array.Data)
	if !ok || values == nil {
		if data.Len() == 0 {
			return nil
		}
		return fmt.Errorf("a dictionary array without a dictionary")
	}
	if n.dict.values.encoded {
		if err := e.dictionaries(n.dict.values, values); err != nil {
			return err
		}
	}
	if last, ok := e.written[n.dict.id]; ok && sameValues(last, values) {
		return nil
	}
	e.body.reset()
	if err := e.body.array(n.dict.values, values, values.Offset(), values.Len()); err != nil {
		return fmt.Errorf("dictionary: %w", err)
	}
	b := e.builder
	b.Reset()
	batch := e.batch(values.Len())
	b.StartObject(dictionarySlots)
	b.PrependInt64Slot(dictionaryID, n.dict.id, 0)
	b.PrependUOffsetTSlot(dictionaryData, batch, 0)
	e.putBody(headerDictionaryBatch, b.EndObject())
	if e.written == nil {
		e.written = map[int64]arrow.ArrayData{}
	}
	e.written[n.dict.id] = values
	return nil
}

// sameValues reports whether two dictionaries hold the same values.
func sameValues(a, b arrow.ArrayData) bool {
	if a == b {
		return true
	}
	if a.Len() != b.Len() {
		return false
	}
	x, y := array.MakeFromData(a), array.MakeFromData(b)
	defer x.Release()
	defer y.Release()
	return array.Equal(x, y)
}

// batch writes the RecordBatch table of the body.
func (e *encoder) batch(rows int) flatbuffers.UOffsetT {
	b := e.builder
	// Elements are structs of two numbers; flatbuffers are written from the end.
	b.StartVector(16, len(e.body.nodes), 8)
	for i := len(e.body.nodes) - 1; i >= 0; i-- {
		b.PrependInt64(e.body.nodes[i].nulls)
		b.PrependInt64(e.body.nodes[i].length)
	}
	nodes := b.EndVector(len(e.body.nodes))
	b.StartVector(16, len(e.body.buffers), 8)
	for i := len(e.body.buffers) - 1; i >= 0; i-- {
		b.PrependInt64(e.body.buffers[i].length)
		b.PrependInt64(e.body.buffers[i].offset)
	}
	buffers := b.EndVector(len(e.body.buffers))
	var variadic flatbuffers.UOffsetT
	if len(e.body.variadic) > 0 {
		b.StartVector(8, len(e.body.variadic), 8)
		for i := len(e.body.variadic) - 1; i >= 0; i-- {
			b.PrependInt64(e.body.variadic[i])
		}
		variadic = b.EndVector(len(e.body.variadic))
	}
	b.StartObject(batchSlots)
	b.PrependInt64Slot(batchLength, int64(rows), 0)
	b.PrependUOffsetTSlot(batchNodes, nodes, 0)
	b.PrependUOffsetTSlot(batchBuffers, buffers, 0)
	b.PrependUOffsetTSlot(batchVariadic, variadic, 0)
	return b.EndObject()
}

// putBody finishes a message whose body is laid out, and puts both at the end of the stream.
func (e *encoder) putBody(kind byte, header flatbuffers.UOffsetT) {
	e.put(e.message(kind, header, e.body.size))
	e.pieces = append(e.pieces, e.body.pieces...)
	e.size += e.body.size
}

// message finishes a message's metadata and frames it.
func (e *encoder) message(kind byte, header flatbuffers.UOffsetT, bodyLength int64) []byte {
	b := e.builder
	b.StartObject(messageSlots)
	b.PrependInt64Slot(messageBodyLength, bodyLength, 0)
	b.PrependUOffsetTSlot(messageHeader, header, 0)
	b.PrependInt16Slot(messageVersion, version5, 0)
	b.PrependByteSlot(messageHeaderType, kind, 0)
	b.Finish(b.EndObject())
	return e.frame(b.FinishedBytes())
}

// frame returns a copy of a message's metadata for the end of the stream, with its prefix before it and as many zeros behind it as
// align its body.
func (e *encoder) frame(header []byte) []byte {
	framed := make([]byte, padded(e.size+prefixBytes+int64(len(header)))-e.size)
	binary.LittleEndian.PutUint32(framed, continuation)
	binary.LittleEndian.PutUint32(framed[4:], uint32(len(framed)-prefixBytes))
	copy(framed[prefixBytes:], header)
	return framed
}

// put puts bytes at the end of the stream.
func (e *encoder) put(data []byte) {
	if len(data) > 0 {
		e.pieces = append(e.pieces, Piece{Data: data})
		e.size += int64(len(data))
	}
}

// padded returns the next multiple of the alignment.
func padded(n int64) int64 { return (n + alignment - 1) &^ (alignment - 1) }
