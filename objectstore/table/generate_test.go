package table_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/bitutil"
	"github.com/apache/arrow/go/v15/arrow/memory"
)

// generator makes random arrays of any type in memory that a test can count. It composes them of buffers, so that they have what
// builders do not make: dictionaries of structs, offsets that do not begin at zero, views that overlap.
type generator struct {
	*rand.Rand
	mem memory.Allocator
	// plain leaves out what the writer of arrow/go gets wrong: offsets that do not begin at zero.
	plain bool
}

func newGenerator(t testing.TB, seed uint64) *generator {
	t.Helper()
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	t.Cleanup(func() { mem.AssertSize(t, 0) })
	return &generator{Rand: rand.New(rand.NewPCG(seed, 15)), mem: mem}
}

func (g *generator) buffer(bytes []byte) *memory.Buffer {
	owned := g.mem.Allocate(len(bytes))
	copy(owned, bytes)
	return memory.NewBufferWithAllocator(owned, g.mem)
}

func bufferOf[T arrow.FixedWidthType | arrow.ViewHeader](g *generator, values []T) *memory.Buffer {
	return g.buffer(arrow.GetBytes(values))
}

// text returns a text of a few characters, some of them longer than a byte.
func (g *generator) text() string {
	letters := []rune("abcXYZ 0189_äß€𝄞日")
	var b strings.Builder
	for range g.IntN(20) {
		b.WriteRune(letters[g.IntN(len(letters))])
	}
	return b.String()
}

func (g *generator) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	return b
}

// validity returns a bitmap with some nulls, or none.
func (g *generator) validity(n int, nullable bool) (*memory.Buffer, int) {
	if !nullable || g.IntN(3) == 0 {
		return nil, 0
	}
	bits := make([]byte, (n+7)/8)
	nulls := 0
	for i := range n {
		if g.IntN(4) == 0 {
			nulls++
			continue
		}
		bitutil.SetBit(bits, i)
	}
	return g.buffer(bits), nulls
}

// array makes an array, which is the caller's to release.
func (g *generator) array(typ arrow.DataType, n int, nullable bool) arrow.Array {
	data := g.data(typ, n, nullable)
	defer data.Release()
	return array.MakeFromData(data)
}

// finish makes data of buffers and children that it takes over.
func finish(typ arrow.DataType, n, nulls int, buffers []*memory.Buffer, children ...arrow.ArrayData) arrow.ArrayData {
	data := array.NewData(typ, n, buffers, children, nulls, 0)
	for _, b := range buffers {
		if b != nil {
			b.Release()
		}
	}
	for _, child := range children {
		child.Release()
	}
	return data
}

func (g *generator) data(typ arrow.DataType, n int, nullable bool) arrow.ArrayData {
	switch typ := typ.(type) {
	case arrow.ExtensionType:
		storage := g.data(typ.StorageType(), n, nullable)
		defer storage.Release()
		if dict, _ := storage.Dictionary().(*array.Data); dict != nil {
			return array.NewDataWithDictionary(typ, n, storage.Buffers(), storage.NullN(), 0, dict)
		}
		return array.NewData(typ, n, storage.Buffers(), storage.Children(), storage.NullN(), 0)
	case *arrow.NullType:
		return finish(typ, n, n, []*memory.Buffer{nil})
	case *arrow.DictionaryType:
		size := 1 + g.IntN(9)
		dict := g.data(typ.ValueType, size, false)
		defer dict.Release()
		return g.indices(typ, dict.(*array.Data), n, nullable)
	}
	validity, nulls := g.validity(n, nullable)
	switch typ := typ.(type) {
	case *arrow.BooleanType:
		return finish(typ, n, nulls, []*memory.Buffer{validity, g.buffer(g.bytes((n + 7) / 8))})
	case *arrow.FixedSizeBinaryType:
		return finish(typ, n, nulls, []*memory.Buffer{validity, g.buffer(g.bytes(n * typ.ByteWidth))})
	case *arrow.StringType, *arrow.BinaryType:
		offsets, values := texts[int32](g, n)
		return finish(typ, n, nulls, []*memory.Buffer{validity, offsets, values})
	case *arrow.LargeStringType, *arrow.LargeBinaryType:
		offsets, values := texts[int64](g, n)
		return finish(typ, n, nulls, []*memory.Buffer{validity, offsets, values})
	case *arrow.StringViewType, *arrow.BinaryViewType:
		return finish(typ, n, nulls, append([]*memory.Buffer{validity}, g.views(n)...))
	case *arrow.ListType:
		offsets, size := lists[int32](g, n)
		return finish(typ, n, nulls, []*memory.Buffer{validity, offsets}, g.data(typ.Elem(), size, typ.ElemField().Nullable))
	case *arrow.LargeListType:
		offsets, size := lists[int64](g, n)
		return finish(typ, n, nulls, []*memory.Buffer{validity, offsets}, g.data(typ.Elem(), size, true))
	case *arrow.MapType:
		offsets, size := lists[int32](g, n)
		pair := typ.Elem().(*arrow.StructType)
		entries := finish(pair, size, 0, []*memory.Buffer{nil},
			g.data(typ.KeyType(), size, false), g.data(typ.ItemType(), size, typ.ItemField().Nullable))
		return finish(typ, n, nulls, []*memory.Buffer{validity, offsets}, entries)
	case *arrow.ListViewType:
		offsets, sizes, size := listViews[int32](g, n)
		return finish(typ, n, nulls, []*memory.Buffer{validity, offsets, sizes}, g.data(typ.Elem(), size, true))
	case *arrow.LargeListViewType:
		offsets, sizes, size := listViews[int64](g, n)
		return finish(typ, n, nulls, []*memory.Buffer{validity, offsets, sizes}, g.data(typ.Elem(), size, true))
	case *arrow.FixedSizeListType:
		return finish(typ, n, nulls, []*memory.Buffer{validity}, g.data(typ.Elem(), n*int(typ.Len()), true))
	case *arrow.StructType:
		var children []arrow.ArrayData
		for _, field := range typ.Fields() {
			children = append(children, g.data(field.Type, n, field.Nullable))
		}
		return finish(typ, n, nulls, []*memory.Buffer{validity}, children...)
	}
	if validity != nil {
		defer validity.Release()
	}
	switch typ := typ.(type) {
	case arrow.UnionType:
		return g.union(typ, n)
	case *arrow.RunEndEncodedType:
		return g.runs(typ, n)
	case arrow.FixedWidthDataType:
		if validity != nil {
			validity.Retain()
		}
		width := typ.BitWidth() / 8
		return finish(typ, n, nulls, []*memory.Buffer{validity, g.buffer(g.fixed(typ, n*width))})
	}
	panic(fmt.Sprintf("no values of type %s", typ))
}

// fixed returns values that every reader takes for valid ones of the type.
func (g *generator) fixed(typ arrow.DataType, size int) []byte {
	values := g.bytes(size)
	switch typ := typ.(type) {
	case *arrow.Float16Type:
		for i := 1; i < size; i += 2 {
			values[i] &= 0x3f // no NaN, which is not equal to itself
		}
	case *arrow.Float32Type:
		for i := 3; i < size; i += 4 {
			values[i] = 0x3f
		}
	case *arrow.Float64Type:
		for i := 7; i < size; i += 8 {
			values[i] = 0x3f
		}
	case *arrow.Date64Type:
		days := arrow.GetData[int64](values)
		for i := range days {
			days[i] = int64(g.IntN(40_000)) * 86_400_000
		}
	case *arrow.Time32Type:
		for i, v := range arrow.GetData[uint32](values) {
			arrow.GetData[uint32](values)[i] = v % 86_400
		}
	case *arrow.Time64Type:
		for i, v := range arrow.GetData[uint64](values) {
			arrow.GetData[uint64](values)[i] = v % 86_400_000_000
		}
	case *arrow.TimestampType, *arrow.DurationType:
		for i, v := range arrow.GetData[uint64](values) {
			arrow.GetData[uint64](values)[i] = v % 4_000_000_000
		}
	case arrow.DecimalType:
		width := typ.(arrow.FixedWidthDataType).BitWidth() / 8
		for i := 0; i < size; i += width {
			clear(values[i+6 : i+width])
		}
	}
	return values
}

func texts[T int32 | int64](g *generator, n int) (offsets, values *memory.Buffer) {
	places := make([]T, n+1)
	var all []byte
	// What is before the first offset belongs to no value.
	if !g.plain {
		all = append(all, g.text()...)
	}
	places[0] = T(len(all))
	for i := range n {
		all = append(all, g.text()...)
		places[i+1] = T(len(all))
	}
	return bufferOf(g, places), g.buffer(append(all, "rest"...))
}

func (g *generator) views(n int) []*memory.Buffer {
	views := make([]arrow.ViewHeader, n)
	contents := make([][]byte, 1+g.IntN(3))
	for i := range contents {
		contents[i] = []byte("unused")
	}
	for i := range views {
		text := g.text()
		views[i].SetString(text)
		if !views[i].IsInline() {
			at := g.IntN(len(contents))
			views[i].SetIndexOffset(int32(at), int32(len(contents[at])))
			contents[at] = append(contents[at], text...)
		}
	}
	buffers := []*memory.Buffer{bufferOf(g, views)}
	for _, content := range contents {
		buffers = append(buffers, g.buffer(content))
	}
	return buffers
}

func lists[T int32 | int64](g *generator, n int) (offsets *memory.Buffer, size int) {
	places := make([]T, n+1)
	if !g.plain {
		places[0] = T(g.IntN(3))
	}
	for i := range n {
		places[i+1] = places[i] + T(g.IntN(4))
	}
	return bufferOf(g, places), int(places[n]) + g.IntN(3)
}

func listViews[T int32 | int64](g *generator, n int) (offsets, sizes *memory.Buffer, size int) {
	size = 3 + g.IntN(2*n+1)
	begins, counts := make([]T, n), make([]T, n)
	for i := range n {
		begins[i] = T(g.IntN(size))
		counts[i] = T(g.IntN(min(4, size-int(begins[i])+1)))
	}
	return bufferOf(g, begins), bufferOf(g, counts), size
}

func (g *generator) indices(typ *arrow.DictionaryType, dict *array.Data, n int, nullable bool) arrow.ArrayData {
	validity, nulls := g.validity(n, nullable)
	width := typ.IndexType.(arrow.FixedWidthDataType).BitWidth() / 8
	values := make([]byte, n*width)
	for i := range n {
		values[i*width] = byte(g.IntN(dict.Len()))
	}
	buffers := []*memory.Buffer{validity, g.buffer(values)}
	data := array.NewDataWithDictionary(typ, n, buffers, nulls, 0, dict)
	for _, b := range buffers {
		if b != nil {
			b.Release()
		}
	}
	return data
}

func (g *generator) union(typ arrow.UnionType, n int) arrow.ArrayData {
	codes := make([]int8, n)
	offsets := make([]int32, n)
	children := make([]arrow.ArrayData, typ.NumFields())
	lengths := make([]int, len(children))
	for i := range lengths {
		lengths[i] = n
		if typ.Mode() == arrow.DenseMode {
			lengths[i] = g.IntN(3)
		}
	}
	for i := range codes {
		child := g.IntN(len(children))
		codes[i] = typ.TypeCodes()[child]
		if typ.Mode() == arrow.DenseMode {
			offsets[i] = int32(lengths[child])
			lengths[child]++
		}
	}
	for i, field := range typ.Fields() {
		children[i] = g.data(field.Type, lengths[i], field.Nullable)
	}
	buffers := []*memory.Buffer{nil, bufferOf(g, codes)}
	if typ.Mode() == arrow.DenseMode {
		buffers = append(buffers, bufferOf(g, offsets))
	}
	return finish(typ, n, 0, buffers, children...)
}

func (g *generator) runs(typ *arrow.RunEndEncodedType, n int) arrow.ArrayData {
	var ends []int64
	for end := 0; end < n; {
		end += 1 + g.IntN(5)
		ends = append(ends, int64(end))
	}
	var buffer *memory.Buffer
	switch typ.RunEnds().ID() {
	case arrow.INT16:
		buffer = bufferOf(g, convert[int16](ends))
	case arrow.INT32:
		buffer = bufferOf(g, convert[int32](ends))
	default:
		buffer = bufferOf(g, ends)
	}
	return finish(typ, n, 0, []*memory.Buffer{nil},
		finish(typ.RunEnds(), len(ends), 0, []*memory.Buffer{nil, buffer}), g.data(typ.Encoded(), len(ends), true))
}

func convert[T int16 | int32](values []int64) []T {
	converted := make([]T, len(values))
	for i, v := range values {
		converted[i] = T(v)
	}
	return converted
}

// record makes a record; some columns are slices of longer arrays.
func (g *generator) record(schema *arrow.Schema, rows int) arrow.Record {
	columns := make([]arrow.Array, schema.NumFields())
	for i, field := range schema.Fields() {
		before, after := 0, 0
		if g.IntN(2) == 0 {
			before, after = g.IntN(20), g.IntN(20)
		}
		whole := g.array(field.Type, before+rows+after, field.Nullable)
		columns[i] = array.NewSlice(whole, int64(before), int64(before+rows))
		whole.Release()
	}
	record := array.NewRecord(schema, columns, int64(rows))
	for _, column := range columns {
		column.Release()
	}
	return record
}

// tagType is an extension type that the tests register, over any storage.
type tagType struct {
	arrow.ExtensionBase
	tag string
}

type tagArray struct{ array.ExtensionArrayBase }

func newTagType(storage arrow.DataType, tag string) *tagType {
	return &tagType{ExtensionBase: arrow.ExtensionBase{Storage: storage}, tag: tag}
}

func (*tagType) ArrayType() reflect.Type { return reflect.TypeFor[tagArray]() }
func (*tagType) ExtensionName() string   { return "engine.test.tag" }
func (t *tagType) Serialize() string     { return t.tag }
func (t *tagType) ExtensionEquals(other arrow.ExtensionType) bool {
	o, ok := other.(*tagType)
	return ok && o.tag == t.tag && arrow.TypeEqual(o.Storage, t.Storage)
}
func (*tagType) Deserialize(storage arrow.DataType, data string) (arrow.ExtensionType, error) {
	switch data {
	case "refuse":
		return nil, fmt.Errorf("refused")
	case "panic":
		panic("a broken extension type")
	}
	return newTagType(storage, data), nil
}

// unknownType is an extension type that no test registers.
type unknownType struct{ tagType }

func (*unknownType) ExtensionName() string { return "engine.test.unknown" }
func (t *unknownType) ExtensionEquals(other arrow.ExtensionType) bool {
	_, ok := other.(*unknownType)
	return ok
}

func init() {
	if err := arrow.RegisterExtensionType(newTagType(arrow.Null, "")); err != nil {
		panic(err)
	}
}

type namedType struct {
	name string
	typ  arrow.DataType
}

// types are all types that arrow/go can put into IPC, simple ones first.
func types() []namedType {
	var all []namedType
	add := func(name string, typ arrow.DataType) { all = append(all, namedType{name, typ}) }
	for _, typ := range []arrow.DataType{
		arrow.Null, arrow.FixedWidthTypes.Boolean,
		arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Int16, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64,
		arrow.PrimitiveTypes.Uint8, arrow.PrimitiveTypes.Uint16, arrow.PrimitiveTypes.Uint32, arrow.PrimitiveTypes.Uint64,
		arrow.FixedWidthTypes.Float16, arrow.PrimitiveTypes.Float32, arrow.PrimitiveTypes.Float64,
		arrow.PrimitiveTypes.Date32, arrow.PrimitiveTypes.Date64,
		arrow.FixedWidthTypes.MonthInterval, arrow.FixedWidthTypes.DayTimeInterval, arrow.FixedWidthTypes.MonthDayNanoInterval,
		arrow.BinaryTypes.Binary, arrow.BinaryTypes.String, arrow.BinaryTypes.LargeBinary, arrow.BinaryTypes.LargeString,
		arrow.BinaryTypes.BinaryView, arrow.BinaryTypes.StringView,
	} {
		add(typ.Name(), typ)
	}
	add("time32[s]", arrow.FixedWidthTypes.Time32s)
	add("time32[ms]", arrow.FixedWidthTypes.Time32ms)
	add("time64[us]", arrow.FixedWidthTypes.Time64us)
	add("time64[ns]", arrow.FixedWidthTypes.Time64ns)
	for _, unit := range []arrow.TimeUnit{arrow.Second, arrow.Millisecond, arrow.Microsecond, arrow.Nanosecond} {
		add("timestamp["+unit.String()+"]", &arrow.TimestampType{Unit: unit})
		add("timestamp["+unit.String()+", UTC]", &arrow.TimestampType{Unit: unit, TimeZone: "UTC"})
		add("duration["+unit.String()+"]", &arrow.DurationType{Unit: unit})
	}
	add("decimal128", &arrow.Decimal128Type{Precision: 30, Scale: 4})
	add("decimal256", &arrow.Decimal256Type{Precision: 60, Scale: -2})
	add("fixed_size_binary", &arrow.FixedSizeBinaryType{ByteWidth: 5})
	add("fixed_size_binary[0]", &arrow.FixedSizeBinaryType{})

	text, number := arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int32
	pair := arrow.StructOf(
		arrow.Field{Name: "a", Type: text, Nullable: true, Metadata: arrow.NewMetadata([]string{"k"}, []string{"v"})},
		arrow.Field{Name: "b", Type: number},
	)
	add("list", arrow.ListOf(text))
	add("list of required", arrow.ListOfNonNullable(number))
	add("list of named", arrow.ListOfField(arrow.Field{Name: "part", Type: number, Nullable: true, Metadata: arrow.NewMetadata([]string{"k"}, []string{"v"})}))
	add("large_list", arrow.LargeListOf(number))
	add("list_view", arrow.ListViewOf(text))
	add("large_list_view", arrow.LargeListViewOf(number))
	add("fixed_size_list", arrow.FixedSizeListOf(3, text))
	add("struct", pair)
	add("struct of nothing", arrow.StructOf())
	add("map", arrow.MapOf(text, number))
	sorted := arrow.MapOf(number, pair)
	sorted.KeysSorted = true
	sorted.SetItemNullable(false)
	add("map sorted", sorted)
	fields := []arrow.Field{{Name: "t", Type: text, Nullable: true}, {Name: "n", Type: number, Nullable: true}, {Name: "l", Type: arrow.ListOf(number), Nullable: true}}
	add("sparse_union", arrow.SparseUnionOf(fields, []arrow.UnionTypeCode{5, 0, 127}))
	add("dense_union", arrow.DenseUnionOf(fields, []arrow.UnionTypeCode{0, 1, 2}))
	add("dense_union with codes", arrow.DenseUnionOf(fields, []arrow.UnionTypeCode{9, 3, 64}))
	for _, ends := range []arrow.DataType{arrow.PrimitiveTypes.Int16, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64} {
		add("run_end_encoded["+ends.Name()+"]", arrow.RunEndEncodedOf(ends, text))
	}
	add("run_end_encoded of list", arrow.RunEndEncodedOf(number, arrow.ListOf(number)))
	for _, index := range []arrow.DataType{
		arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Int16, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64,
		arrow.PrimitiveTypes.Uint8, arrow.PrimitiveTypes.Uint16, arrow.PrimitiveTypes.Uint32, arrow.PrimitiveTypes.Uint64,
	} {
		add("dictionary["+index.Name()+"]", &arrow.DictionaryType{IndexType: index, ValueType: text, Ordered: index.ID() == arrow.INT16})
	}
	encoded := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: text}
	add("dictionary of struct", &arrow.DictionaryType{IndexType: number, ValueType: pair})
	add("dictionary of lists of dictionary", &arrow.DictionaryType{IndexType: number, ValueType: arrow.ListOf(encoded)})
	add("list of dictionary", arrow.ListOf(encoded))
	add("map of dictionary", arrow.MapOf(encoded, encoded))
	add("run_end_encoded of dictionary", arrow.RunEndEncodedOf(number, encoded))
	add("extension", newTagType(arrow.PrimitiveTypes.Int64, "some"))
	add("extension of list", newTagType(arrow.ListOf(text), ""))
	add("extension of dictionary", newTagType(encoded, "dict"))
	add("list of extension", arrow.ListOf(newTagType(text, "x")))
	add("deep", arrow.ListOf(arrow.StructOf(
		arrow.Field{Name: "m", Type: arrow.MapOf(text, arrow.LargeListOf(encoded)), Nullable: true},
		arrow.Field{Name: "f", Type: arrow.FixedSizeListOf(2, arrow.SparseUnionOf(fields, []arrow.UnionTypeCode{0, 1, 2})), Nullable: true},
		arrow.Field{Name: "u", Type: arrow.DenseUnionOf([]arrow.Field{{Name: "v", Type: arrow.ListViewOf(pair), Nullable: true}}, []arrow.UnionTypeCode{1}), Nullable: true},
	)))
	return all
}
