package table_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/endian"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/apache/arrow/go/v15/arrow/memory"
	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore/table"
)

// refused opens bytes that are not right and expects an error of kind corrupt that says what is wrong.
func refused(t *testing.T, data []byte, trusted bool, says string) {
	t.Helper()
	opened, err := table.Open(data, table.Options{Trusted: trusted, Release: func() { t.Error("released after an error") }})
	if err == nil {
		opened.Release()
		t.Fatalf("opened, expected an error that says %q", says)
	}
	var e *engine.Error
	if !errors.As(err, &e) || e.Kind != engine.KindCorrupt {
		t.Fatalf("error %v, expected one of kind corrupt", err)
	}
	if !strings.Contains(err.Error(), says) {
		t.Fatalf("error %q, expected it to say %q", err, says)
	}
}

func join(t *testing.T, messages ...table.Message) []byte {
	t.Helper()
	encoding, err := table.Join(messages)
	if err != nil {
		t.Fatal(err)
	}
	data := aligned(encoding.SizeBytes())
	encoding.CopyTo(data)
	return data
}

// write lets arrow/go write a table.
func write(t *testing.T, schema *arrow.Schema, records ...arrow.Record) []byte {
	t.Helper()
	var b bytes.Buffer
	writer := ipc.NewWriter(&b, ipc.WithSchema(schema), ipc.WithDictionaryDeltas(true))
	for _, record := range records {
		if err := writer.Write(record); err != nil {
			t.Fatal(err)
		}
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	data := aligned(int64(b.Len()))
	copy(data, b.Bytes())
	return data
}

func TestEveryPrefixIsRefused(t *testing.T) {
	g := newGenerator(t, 1)
	typ := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}
	schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: typ, Nullable: true}}, nil)
	record := g.record(schema, 10)
	defer record.Release()
	data := encode(t, schema, record, record)
	for n := range data {
		refused(t, data[:n], true, "")
	}
	refused(t, append(bytes.Clone(data), 0), true, "1 bytes after the end of the stream")
}

// header writes a message without a body whose header has the given fields.
func header(version int16, kind byte, write func(b *flatbuffers.Builder) flatbuffers.UOffsetT) table.Message {
	b := flatbuffers.NewBuilder(0)
	at := write(b)
	b.StartObject(5)
	b.PrependUOffsetTSlot(2, at, 0)
	b.PrependInt16Slot(0, version, 0)
	b.PrependByteSlot(1, kind, 0)
	b.Finish(b.EndObject())
	return table.Message{Header: b.FinishedBytes()}
}

// frame is Join for messages that Join refuses.
func frame(m table.Message) []byte {
	size := (len(m.Header) + 7) &^ 7
	data := aligned(int64(8 + size + 8))
	binary.LittleEndian.PutUint32(data, 0xffffffff)
	binary.LittleEndian.PutUint32(data[4:], uint32(size))
	copy(data[8:], m.Header)
	binary.LittleEndian.PutUint32(data[8+size:], 0xffffffff)
	return data
}

func TestForeignStreamsAreRefused(t *testing.T) {
	empty := func(b *flatbuffers.Builder) flatbuffers.UOffsetT {
		b.StartObject(4)
		return b.EndObject()
	}
	number := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int32}}, nil)
	text := arrow.NewSchema([]arrow.Field{{Name: "s", Type: arrow.BinaryTypes.String}}, nil)
	encoded := arrow.NewSchema([]arrow.Field{{Name: "d", Type: &arrow.DictionaryType{
		IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.String,
	}}}, nil)
	g := newGenerator(t, 2)
	numbers, dictionaries := g.record(number, 3), g.record(encoded, 3)
	defer numbers.Release()
	defer dictionaries.Release()
	ofNumbers, ofText := open(t, encode(t, number, numbers), false).Messages(), open(t, encode(t, text), false).Messages()
	ofDictionaries := open(t, encode(t, encoded, dictionaries), false).Messages()

	deep := arrow.DataType(arrow.Null)
	for range 70 {
		deep = arrow.ListOf(deep)
	}
	var many []arrow.Field
	for range 70_000 {
		many = append(many, arrow.Field{Name: "x", Type: arrow.Null})
	}
	// Each struct has the one below it twice: 2^50 fields in a few kilobytes.
	bomb := header(4, 1, func(b *flatbuffers.Builder) flatbuffers.UOffsetT {
		var field flatbuffers.UOffsetT
		for level := range 50 {
			var below []flatbuffers.UOffsetT
			if level > 0 {
				below = []flatbuffers.UOffsetT{field, field}
			}
			children := b.CreateVectorOfTables(below)
			b.StartObject(0)
			typ := b.EndObject()
			b.StartObject(7)
			b.PrependByteSlot(2, 13, 0)
			b.PrependUOffsetTSlot(3, typ, 0)
			b.PrependUOffsetTSlot(5, children, 0)
			field = b.EndObject()
		}
		fields := b.CreateVectorOfTables([]flatbuffers.UOffsetT{field})
		b.StartObject(4)
		b.PrependUOffsetTSlot(1, fields, 0)
		return b.EndObject()
	})
	for _, c := range []struct {
		name string
		data []byte
		says string
	}{
		{"nothing", nil, "truncated"},
		{"text", []byte("id,name\n1,red\n"), "not an arrow ipc stream"},
		{"an arrow file", []byte("ARROW1\x00\x00\xff\xff\xff\xff"), "not an arrow ipc stream"},
		{"only the end", []byte("\xff\xff\xff\xff\x00\x00\x00\x00"), "does not begin with a schema"},
		{"no schema", join(t, ofNumbers[1:]...), "does not begin with a schema"},
		{"two schemas", join(t, ofNumbers[0], ofNumbers[0]), "expected a dictionary or record batch"},
		{"the old metadata", frame(header(2, 1, empty)), "metadata version V3"},
		{"a newer metadata", frame(header(5, 1, empty)), "metadata version V6"},
		{"big-endian", write(t, number.WithEndianness(endian.BigEndian)), "little-endian"},
		{"a record of another table", join(t, ofText[0], ofNumbers[1]), `column "s"`},
		{"an unknown dictionary", join(t, ofNumbers[0], ofDictionaries[1]), "dictionary 0, which no column has"},
		{"no dictionary", join(t, ofDictionaries[0], ofDictionaries[2]), "of a dictionary of 0"},
		{"deep", write(t, arrow.NewSchema([]arrow.Field{{Name: "x", Type: deep}}, nil)), "nested deeper than 64"},
		{"wide", write(t, arrow.NewSchema(many, nil)), "more fields and metadata than"},
		{"bomb", frame(bomb), "more fields and metadata than"},
	} {
		t.Run(c.name, func(t *testing.T) { refused(t, c.data, c.name != "no dictionary", c.says) })
	}
}

// of makes an array of what is given, right or wrong. Its dictionary is the child of a dictionary type.
func of(typ arrow.DataType, length, nulls int, buffers [][]byte, children ...arrow.ArrayData) arrow.ArrayData {
	var all []*memory.Buffer
	for _, b := range buffers {
		if b == nil {
			all = append(all, nil)
			continue
		}
		all = append(all, memory.NewBufferBytes(b))
	}
	if typ.ID() == arrow.DICTIONARY {
		return array.NewDataWithDictionary(typ, length, all, nulls, 0, children[0].(*array.Data))
	}
	return array.NewData(typ, length, all, children, nulls, 0)
}

func view(size, number, offset int32, prefix string) []byte {
	b := arrow.Int32Traits.CastToBytes([]int32{size, 0, number, offset})
	copy(b[4:], prefix)
	return b
}

// TestBadValuesAreRefused has a value of each sort that leads where it must not.
func TestBadValuesAreRefused(t *testing.T) {
	i32, i64 := arrow.Int32Traits.CastToBytes, arrow.Int64Traits.CastToBytes
	i16 := arrow.Int16Traits.CastToBytes
	number, text := arrow.PrimitiveTypes.Int32, arrow.BinaryTypes.String
	three := func() arrow.ArrayData { return of(number, 3, 0, [][]byte{nil, i32([]int32{7, 8, 9})}) }
	fields := []arrow.Field{{Name: "n", Type: number, Nullable: true}}
	dense, sparse := arrow.DenseUnionOf(fields, []int8{5}), arrow.SparseUnionOf(fields, []int8{5})
	runs := arrow.RunEndEncodedOf(arrow.PrimitiveTypes.Int16, number)
	ends := func(values ...int16) arrow.ArrayData {
		return of(arrow.PrimitiveTypes.Int16, len(values), 0, [][]byte{nil, i16(values)})
	}
	encoded := func(index arrow.DataType) arrow.DataType {
		return &arrow.DictionaryType{IndexType: index, ValueType: number}
	}
	var (
		valid = arrow.BinaryTypes.StringView
		long  = []byte("a text that is longer than its view")
	)
	for _, c := range []struct {
		name string
		data arrow.ArrayData
		// says is empty for what is right; trusted says that it is found in trusted bytes too.
		says    string
		trusted bool
	}{
		{"nulls as marked", of(number, 3, 1, [][]byte{{0b101}, i32([]int32{1, 2, 3})}), "", false},
		{"more nulls than marked", of(number, 3, 2, [][]byte{{0b101}, i32([]int32{1, 2, 3})}), "2 nulls, and 1 values", false},
		{"texts", of(text, 3, 0, [][]byte{nil, i32([]int32{0, 1, 3, 5}), []byte("aßä")}), "", false},
		{"offsets that go back", of(text, 3, 0, [][]byte{nil, i32([]int32{0, 3, 1, 4}), []byte("abcd")}), "none less than the one before", false},
		{"offsets below zero", of(text, 3, 0, [][]byte{nil, i32([]int32{0, -3, 1, 4}), []byte("abcd")}), "none less than the one before", false},
		{"offsets that overflow", of(text, 3, 0, [][]byte{nil, i32([]int32{0, 2147483647, -2147483648, 4}), []byte("abcd")}), "none less than the one before", false},
		{"large offsets that go back", of(arrow.BinaryTypes.LargeBinary, 2, 0, [][]byte{nil, i64([]int64{0, 3, 2}), []byte("ab")}), "none less than the one before", false},
		{"not utf-8", of(text, 2, 0, [][]byte{nil, i32([]int32{0, 1, 2}), []byte("a\xff")}), "text 1 is not utf-8", false},
		{"a character in two texts", of(text, 2, 0, [][]byte{nil, i32([]int32{0, 2, 3}), []byte("aß")}), "text 0 is not utf-8", false},
		{"not utf-8 behind a null", of(text, 2, 1, [][]byte{{0b01}, i32([]int32{0, 1, 2}), []byte("a\xff")}), "", false},
		{"not utf-8 in binary", of(arrow.BinaryTypes.Binary, 2, 0, [][]byte{nil, i32([]int32{0, 1, 2}), []byte("a\xff")}), "", false},
		{"lists that go back", of(arrow.ListOf(number), 2, 0, [][]byte{nil, i32([]int32{0, 4, 3})}, three()), "none less than the one before", false},
		{"an index of a dictionary", of(encoded(number), 2, 0, [][]byte{nil, i32([]int32{2, 0})}, three()), "", false},
		{"an index too large", of(encoded(number), 2, 0, [][]byte{nil, i32([]int32{3, 0})}, three()), "value 0 is number 3 of a dictionary of 3", false},
		{"an index below zero", of(encoded(arrow.PrimitiveTypes.Int8), 2, 0, [][]byte{nil, {0, 0xff}}, three()), "value 1 is number -1 of a dictionary of 3", false},
		{"an index too large behind a null", of(encoded(arrow.PrimitiveTypes.Uint8), 2, 1, [][]byte{{0b01}, {0, 0xff}}, three()), "", false},
		{"a dense union", of(dense, 2, 0, [][]byte{nil, {5, 5}, i32([]int32{2, 1})}, three()), "", false},
		{"a sparse union", of(sparse, 3, 0, [][]byte{nil, {5, 5, 5}}, three()), "", false},
		{"a sparse union with an unknown code", of(sparse, 3, 0, [][]byte{nil, {5, 4, 5}}, three()), "value 1 has type code 4", false},
		{"a sparse union with a code below zero", of(sparse, 3, 0, [][]byte{nil, {5, 5, 0x85}}, three()), "value 2 has type code -123", false},
		{"runs", of(runs, 5, 0, [][]byte{nil}, ends(1, 4, 5), three()), "", false},
		{"runs that do not ascend", of(runs, 5, 0, [][]byte{nil}, ends(1, 1, 5), three()), "run 1 ends at 1, and the one before at 1", false},
		{"views", of(valid, 2, 0, [][]byte{nil, append(view(3, 0, 0, "abc"), view(34, 0, 1, " tex")...), long}), "", false},
		{"a short view that is not utf-8", of(valid, 1, 0, [][]byte{nil, view(2, 0, 0, "a\xff"), long}), "text 0 is not utf-8", false},
		{"a view below zero", of(valid, 1, 0, [][]byte{nil, view(-1, 0, 0, ""), long}), "view 0 of -1 bytes", false},
		{"a view that begins otherwise", of(valid, 1, 0, [][]byte{nil, view(34, 0, 1, "some"), long}), `view 0 begins with "some", and its value with " tex"`, false},
		{"null entries of a map", of(arrow.MapOf(number, number), 1, 0, [][]byte{nil, i32([]int32{0, 2})},
			of(arrow.MapOf(number, number).Elem(), 3, 1, [][]byte{{0b101}}, three(), three())), "1 null entries", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: c.data.DataType(), Nullable: true}}, nil)
			data := encode(t, schema, unchecked{schema, c.data})
			if c.says == "" {
				open(t, data, false)
				return
			}
			refused(t, data, false, `column "x"`)
			refused(t, data, false, c.says)
			if c.trusted {
				refused(t, data, true, c.says)
			}
		})
	}
}

// unchecked is a record of one column whose array was never made, since its constructor could refuse the data.
type unchecked struct {
	schema *arrow.Schema
	data   arrow.ArrayData
}

func (u unchecked) Retain()                      {}
func (u unchecked) Release()                     {}
func (u unchecked) Schema() *arrow.Schema        { return u.schema }
func (u unchecked) NumRows() int64               { return int64(u.data.Len()) }
func (u unchecked) NumCols() int64               { return 1 }
func (u unchecked) Columns() []arrow.Array       { return []arrow.Array{u.Column(0)} }
func (u unchecked) Column(int) arrow.Array       { return uncheckedArray{data: u.data} }
func (u unchecked) ColumnName(int) string        { return "x" }
func (u unchecked) MarshalJSON() ([]byte, error) { return nil, nil }
func (u unchecked) NewSlice(int64, int64) arrow.Record {
	return u
}
func (u unchecked) SetColumn(int, arrow.Array) (arrow.Record, error) { return u, nil }

type uncheckedArray struct {
	arrow.Array
	data arrow.ArrayData
}

func (a uncheckedArray) Data() arrow.ArrayData { return a.data }
