package table_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/ipc"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore/table"
)

func TestTableWithoutColumns(t *testing.T) {
	schema := arrow.NewSchema(nil, nil)
	record := array.NewRecord(schema, nil, 0)
	defer record.Release()
	equalTables(t, open(t, encode(t, schema, record), false), schema, []arrow.Record{record})
	equalTables(t, open(t, encode(t, schema), true), schema, nil)
}

// TestSlicesAreTruncated writes one row of a long table of every type: the rest must not be in the bytes.
func TestSlicesAreTruncated(t *testing.T) {
	for _, named := range types() {
		if strings.Contains(named.name, "dictionary") || named.name == "deep" {
			continue // a dictionary is written as it is
		}
		g := newGenerator(t, 5)
		schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: named.typ, Nullable: true}}, nil)
		whole := g.array(named.typ, 2000, true)
		one := array.NewSlice(whole, 1000, 1001)
		record := array.NewRecord(schema, []arrow.Array{one}, 1)
		data := encode(t, schema, record)
		// Headers and the alignment of the buffers take most of what is left.
		if len(data) > 2000 {
			t.Errorf("%s: one row of 2000 takes %d bytes", named.name, len(data))
		}
		equalTables(t, open(t, data, false), schema, []arrow.Record{record})
		for _, a := range []interface{ Release() }{whole, one, record} {
			a.Release()
		}
	}
}

func TestReleaseWaitsForEverything(t *testing.T) {
	schema, records := wide(t, 2, 10, "s")
	data := encode(t, schema, records...)
	released := 0
	opened, err := table.Open(data, table.Options{Release: func() { released++ }})
	if err != nil {
		t.Fatal(err)
	}
	opened.Retain()
	slice := opened.Records()[1].NewSlice(2, 5)
	column := opened.Records()[0].Column(1)
	column.Retain()
	dictionary := opened.Records()[0].Column(10).(*array.Dictionary).Dictionary()
	dictionary.Retain()
	for i, release := range []func(){opened.Release, opened.Release, slice.Release, column.Release, dictionary.Release} {
		if released != 0 {
			t.Fatalf("released before step %d", i)
		}
		release()
	}
	if released != 1 {
		t.Fatalf("released %d times at the end", released)
	}
}

// TestRecordIsArrows compares what a record of ours does with what arrow/go's does.
func TestRecordIsArrows(t *testing.T) {
	schema, records := wide(t, 1, 20, "s")
	want := records[0]
	found := open(t, encode(t, schema, want), false).Records()[0]
	if fmt.Sprint(found) != fmt.Sprint(want) {
		t.Errorf("%v\nexpected\n%v", found, want)
	}
	if found.NumCols() != want.NumCols() || found.ColumnName(1) != "text" {
		t.Errorf("%d columns, the second is %q", found.NumCols(), found.ColumnName(1))
	}
	a, err := found.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	b, err := want.MarshalJSON()
	if err != nil || !bytes.Equal(a, b) {
		t.Errorf("json %s, expected %s (%v)", a, b, err)
	}
	x, y := found.NewSlice(3, 9), want.NewSlice(3, 9)
	defer x.Release()
	defer y.Release()
	if !array.RecordEqual(x, y) {
		t.Errorf("slice %v, expected %v", x, y)
	}
	changed, err := found.SetColumn(2, found.Column(3))
	if err != nil {
		t.Fatal(err)
	}
	defer changed.Release()
	if !array.Equal(changed.Column(2), want.Column(3)) {
		t.Error("the column was not set")
	}
	if _, err := found.SetColumn(2, found.Column(0)); err == nil {
		t.Error("a column of another type was set")
	}
}

// TestReadersShareRecords reads dictionaries in several goroutines, which arrow/go makes at first use without a lock.
func TestReadersShareRecords(t *testing.T) {
	text := arrow.BinaryTypes.String
	encoded := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: text}
	typ := arrow.ListOf(arrow.StructOf(arrow.Field{Name: "d", Type: newTagType(encoded, "t")}, arrow.Field{Name: "m", Type: arrow.MapOf(encoded, encoded)}))
	g := newGenerator(t, 6)
	schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: typ}, {Name: "y", Type: encoded}}, nil)
	record := g.record(schema, 50)
	defer record.Release()
	opened := open(t, encode(t, schema, record), false)
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for _, column := range opened.Records()[0].Columns() {
				read(column, 0)
				_ = column.NullN()
			}
		})
	}
	readers.Wait()
}

func dictionaries(t *testing.T, values ...[]string) (*arrow.Schema, []arrow.Record) {
	t.Helper()
	typ := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.String}
	schema := arrow.NewSchema([]arrow.Field{{Name: "d", Type: typ}}, nil)
	g := newGenerator(t, 0)
	var records []arrow.Record
	for _, texts := range values {
		b := array.NewStringBuilder(g.mem)
		b.AppendValues(texts, nil)
		dict := b.NewArray()
		b.Release()
		n := array.NewInt32Builder(g.mem)
		for i := range texts {
			n.Append(int32(len(texts) - 1 - i))
		}
		indices := n.NewArray()
		n.Release()
		column := array.NewDictionaryArray(typ, indices, dict)
		record := array.NewRecord(schema, []arrow.Array{column}, int64(len(texts)))
		for _, a := range []arrow.Array{dict, indices, column} {
			a.Release()
		}
		t.Cleanup(record.Release)
		records = append(records, record)
	}
	return schema, records
}

func TestDictionariesAreWrittenOnce(t *testing.T) {
	a, b := []string{"red", "green"}, []string{"red", "blue", "white"}
	schema, records := dictionaries(t, a, a, b, b, a)
	opened := open(t, encode(t, schema, records...), false)
	equalTables(t, opened, schema, records)
	// The schema, five batches, and a dictionary for the first, third, and last.
	if n := len(opened.Messages()); n != 9 {
		t.Errorf("%d messages, expected 9", n)
	}
}

// TestDictionariesInParts reads deltas, as arrow/go writes them.
func TestDictionariesInParts(t *testing.T) {
	schema, records := dictionaries(t, []string{"a", "b"}, []string{"a", "b", "c"}, []string{"a", "b", "c", "d", "e"}, []string{"x"})
	data := write(t, schema, records...)
	equalTables(t, open(t, data, false), schema, records)
	equalTables(t, open(t, data, true), schema, records)
	if _, err := table.Open(data, table.Options{MaxCopyBytes: 20}); err == nil || !strings.Contains(err.Error(), "would have to be copied") {
		t.Errorf("error %v, expected one that says that too much would have to be copied", err)
	}
}

// TestNoDictionaryForNulls reads a column of nulls whose writer left out the dictionary.
func TestNoDictionaryForNulls(t *testing.T) {
	for _, named := range types() {
		typ, ok := named.typ.(*arrow.DictionaryType)
		if !ok {
			continue
		}
		schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: typ, Nullable: true}}, nil)
		width := typ.IndexType.(arrow.FixedWidthDataType).BitWidth() / 8
		values := newGenerator(t, 0).data(typ.ValueType, 2, false)
		t.Cleanup(values.Release)
		nulls := of(typ, 3, 3, [][]byte{{0}, make([]byte, 3*width)}, values)
		t.Cleanup(nulls.Release)
		stream := encode(t, schema, unchecked{schema, nulls})
		messages := open(t, stream, false).Messages()
		opened := open(t, join(t, messages[0], messages[len(messages)-1]), false)
		if n := opened.Records()[0].Column(0).NullN(); n != 3 {
			t.Errorf("%s: %d nulls, expected 3", named.name, n)
		}
	}
}

func TestJoin(t *testing.T) {
	schema, records := wide(t, 3, 100, "s")
	// The bodies of arrow/go are not aligned as ours are.
	messages := open(t, write(t, schema, records...), false).Messages()
	encoding, err := table.Join(messages)
	if err != nil {
		t.Fatal(err)
	}
	if encoding.Rows() != 300 || encoding.Batches() != 3 {
		t.Errorf("%d rows in %d batches, expected 300 in 3", encoding.Rows(), encoding.Batches())
	}
	data := aligned(encoding.SizeBytes())
	encoding.CopyTo(data)
	encoding.Release()
	opened := open(t, data, false)
	equalTables(t, opened, schema, records)
	for i, m := range opened.Messages() {
		if len(m.Body) > 0 && (address(m.Body)-address(data))%64 != 0 {
			t.Errorf("the body of message %d is not aligned", i)
		}
	}
	messages[1].Body = messages[1].Body[:8]
	var e *engine.Error
	if _, err := table.Join(messages); !errors.As(err, &e) || e.Kind != engine.KindCorrupt {
		t.Errorf("error %v for a short body, expected one of kind corrupt", err)
	}
}

func TestEncodeRefuses(t *testing.T) {
	number, text := arrow.PrimitiveTypes.Int32, arrow.BinaryTypes.String
	encoded := &arrow.DictionaryType{IndexType: number, ValueType: text}
	deep := number
	for range 70 {
		deep = arrow.ListOf(deep)
	}
	schemaOf := func(typ arrow.DataType) *arrow.Schema {
		return arrow.NewSchema([]arrow.Field{{Name: "price", Type: typ}}, nil)
	}
	bad := func(typ arrow.DataType, length int, buffers ...[]byte) arrow.Record {
		return unchecked{schemaOf(typ), of(typ, length, 0, buffers)}
	}
	for _, c := range []struct {
		name    string
		schema  *arrow.Schema
		records []arrow.Record
		says    string
	}{
		{"deep", schemaOf(deep), nil, `column "price": arrow ipc cannot hold types nested deeper than 64`},
		{"dictionary of dictionary", schemaOf(&arrow.DictionaryType{IndexType: number, ValueType: encoded}), nil, `column "price"`},
		{"dictionary of extension", schemaOf(&arrow.DictionaryType{IndexType: number, ValueType: newTagType(text, "")}), nil, `column "price"`},
		{"dictionary by text", schemaOf(&arrow.DictionaryType{IndexType: text, ValueType: text}), nil, `column "price"`},
		{"extension of extension", schemaOf(newTagType(newTagType(text, ""), "")), nil, `column "price"`},
		{"decimal that cannot be printed", schemaOf(&arrow.Decimal128Type{Precision: 38, Scale: -400}), nil, `column "price": arrow ipc cannot hold a decimal type of scale -400`},
		{"another type", schemaOf(number), []arrow.Record{bad(text, 0, nil, nil, nil)}, `is "price" of type utf8, and in the schema "price" of type int32`},
		{"no columns", schemaOf(number), []arrow.Record{unchecked{arrow.NewSchema(nil, nil), of(number, 0, 0, nil)}}, "it has 0 columns, and the schema 1"},
		{"short values", schemaOf(number), []arrow.Record{bad(number, 2, nil, make([]byte, 7))}, `column "price": a buffer of 7 bytes, too short`},
		{"short bits", schemaOf(arrow.FixedWidthTypes.Boolean), []arrow.Record{bad(arrow.FixedWidthTypes.Boolean, 9, nil, make([]byte, 1))}, `column "price": a bitmap of 1 bytes, too short`},
		{"short offsets", schemaOf(text), []arrow.Record{bad(text, 2, nil, make([]byte, 8), nil)}, `column "price": a buffer of 8 bytes, too short`},
		{"no dictionary", schemaOf(encoded), []arrow.Record{unchecked{schemaOf(encoded), array.NewDataWithDictionary(encoded, 1, nil, 0, 0, nil)}}, `column "price": a dictionary array without a dictionary`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := table.Encode(c.schema, c.records...)
			var e *engine.Error
			if !errors.As(err, &e) || e.Kind != engine.KindInvalidArgument || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("error %v, expected one of kind invalid_argument that says %q", err, c.says)
			}
		})
	}
}

func TestExtensionTypesThatRefuse(t *testing.T) {
	for _, tag := range []string{"refuse", "panic"} {
		schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: newTagType(arrow.PrimitiveTypes.Int32, tag)}}, nil)
		refused(t, encode(t, schema), true, `extension type "engine.test.tag"`)
	}
	// One that is not registered is read as what it is stored as.
	unknown := &unknownType{*newTagType(arrow.PrimitiveTypes.Int32, "u")}
	schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: unknown, Metadata: arrow.NewMetadata([]string{"k"}, []string{"v"})}}, nil)
	field := open(t, encode(t, schema), false).Schema().Field(0)
	want := arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Int32, Metadata: arrow.NewMetadata(
		[]string{"k", "ARROW:extension:name", "ARROW:extension:metadata"}, []string{"v", "engine.test.unknown", "u"})}
	if !field.Equal(want) {
		t.Errorf("the field is %v, expected %v", field, want)
	}
}

// TestLargeCopies writes a table that passes by the cache to addresses of every sort, which must be the pieces byte by byte.
func TestLargeCopies(t *testing.T) {
	g := newGenerator(t, 7)
	var fields []arrow.Field
	var columns []arrow.Array
	for i, typ := range []arrow.DataType{arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Int8, &arrow.FixedSizeBinaryType{ByteWidth: 3}} {
		fields = append(fields, arrow.Field{Name: fmt.Sprint(i), Type: typ})
		columns = append(columns, g.array(typ, 100_003, false))
	}
	schema := arrow.NewSchema(fields, nil)
	record := array.NewRecord(schema, columns, 100_003)
	defer record.Release()
	for _, column := range columns {
		column.Release()
	}
	want := encode(t, schema, record)
	encoding, err := table.Encode(schema, record)
	if err != nil {
		t.Fatal(err)
	}
	defer encoding.Release()
	for _, odd := range []int64{0, 1, 8, 15, 16, 33} {
		around := aligned(odd + encoding.SizeBytes() + 64)
		encoding.CopyTo(around[odd : odd+encoding.SizeBytes()])
		if !bytes.Equal(around[odd:odd+int64(len(want))], want) {
			t.Errorf("at address %d (mod 64) the copy differs", odd)
		}
		if !bytes.Equal(around[:odd], make([]byte, odd)) || !bytes.Equal(around[odd+int64(len(want)):], make([]byte, 64)) {
			t.Errorf("at address %d (mod 64) the copy went too far", odd)
		}
	}
}

// TestCompressedSizesAreBounded has buffers that say that they are larger than they are, or than may be copied.
func TestCompressedSizesAreBounded(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: arrow.PrimitiveTypes.Int64}}, nil)
	b := array.NewInt64Builder(newGenerator(t, 0).mem)
	defer b.Release()
	for range 10_000 {
		b.Append(7)
	}
	column := b.NewArray()
	defer column.Release()
	record := array.NewRecord(schema, []arrow.Array{column}, 10_000)
	defer record.Release()
	for name, option := range map[string]ipc.Option{"lz4": ipc.WithLZ4(), "zstd": ipc.WithZstd()} {
		var out bytes.Buffer
		writer := ipc.NewWriter(&out, ipc.WithSchema(schema), option)
		if err := errors.Join(writer.Write(record), writer.Close()); err != nil {
			t.Fatal(err)
		}
		data := aligned(int64(out.Len()))
		copy(data, out.Bytes())
		if _, err := table.Open(data, table.Options{MaxCopyBytes: 79_999}); err == nil || !strings.Contains(err.Error(), "80000 bytes would have to be copied") {
			t.Errorf("%s: error %v, expected one that says that 80000 bytes would have to be copied", name, err)
		}
		at := bytes.Index(data, binary.LittleEndian.AppendUint64(nil, 80_000))
		for _, size := range []uint64{79_999, 80_001, 1 << 29, 1 << 62, 1<<64 - 2} {
			binary.LittleEndian.PutUint64(data[at:], size)
			refused(t, data, false, `column "x": values: buffer 1`)
		}
	}
}

// TestListViewsAreChecked changes offsets and sizes in the bytes, since Encode mends those that show nothing.
func TestListViewsAreChecked(t *testing.T) {
	typ := arrow.ListViewOf(arrow.PrimitiveTypes.Int8)
	schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: typ}}, nil)
	lists := of(typ, 2, 0, [][]byte{nil, arrow.Int32Traits.CastToBytes([]int32{0, 1}), arrow.Int32Traits.CastToBytes([]int32{2, 2})},
		of(arrow.PrimitiveTypes.Int8, 3, 0, [][]byte{nil, {1, 2, 3}}))
	data := encode(t, schema, unchecked{schema, lists})
	body := open(t, bytes.Clone(data), true).Messages()[1].Body
	start := bytes.Index(data, body)
	for _, c := range []struct {
		at    int
		value int32
	}{{0, -1}, {4, 2}, {0, 4}, {64, -1}, {68, 3}, {64, 1 << 30}} {
		changed := aligned(int64(len(data)))
		copy(changed, data)
		binary.LittleEndian.PutUint32(changed[start+c.at:], uint32(c.value))
		refused(t, changed, false, `column "x": list`)
	}
}

// TestRandomTables has many columns of random types, with names and metadata of any bytes.
func TestRandomTables(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	g := newGenerator(t, seed)
	all := types()
	for range 30 {
		var fields []arrow.Field
		for range g.IntN(12) {
			fields = append(fields, arrow.Field{
				Name: g.text(), Type: all[g.IntN(len(all))].typ, Nullable: g.IntN(2) == 0,
				Metadata: arrow.NewMetadata([]string{string(g.bytes(3))}, []string{g.text()}),
			})
		}
		metadata := arrow.NewMetadata([]string{"a", "a"}, []string{g.text(), string(g.bytes(1000))})
		schema := arrow.NewSchema(fields, &metadata)
		var records []arrow.Record
		for range g.IntN(5) {
			records = append(records, g.record(schema, g.IntN(300)))
		}
		data := encode(t, schema, records...)
		equalTables(t, open(t, data, g.IntN(2) == 0), schema, records)
		for _, record := range records {
			record.Release()
		}
	}
}
