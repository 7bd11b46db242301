package table

import (
	"fmt"

	"github.com/apache/arrow/go/v15/arrow"
)

// maxFields is how many fields a schema may have, nested ones included.
const maxFields = 1 << 16

// schemaReader turns a Schema table into arrow's schema and our nodes.
type schemaReader struct {
	// budget is how many fields and pairs of metadata may still be read. Tables can be referred to many times, so that a short
	// message could describe more fields than any machine holds; one that does not share them stays within its length.
	budget int
	// dictionaries are the values' nodes by the dictionary's id.
	dictionaries map[int64]*node
}

func (r *schemaReader) schema(t flatTable) (*arrow.Schema, []*node, error) {
	if order := t.int16(schemaEndianness, 0); order != 0 {
		return nil, nil, fmt.Errorf("the schema says endianness %d: only little-endian (0) can be read", order)
	}
	// A field takes more than 8 bytes, and so does a pair of key and value.
	r.budget = min(len(t.flat.data)/8, maxFields)
	list := t.vector(schemaFields, 4)
	fields := make([]arrow.Field, list.count)
	nodes := make([]*node, list.count)
	for i := range fields {
		var err error
		if fields[i], nodes[i], err = r.field(list.table(i), 0); err != nil {
			return nil, nil, fmt.Errorf("field %d (%q): %w", i, fields[i].Name, err)
		}
	}
	metadata, err := r.metadata(t.vector(schemaMetadata, 4))
	if err != nil {
		return nil, nil, err
	}
	if t.flat.broken {
		return nil, nil, errBroken
	}
	return arrow.NewSchema(fields, &metadata), nodes, nil
}

func (r *schemaReader) spend() error {
	if r.budget--; r.budget < 0 {
		return fmt.Errorf("more fields and metadata than a schema may have (%d) or its message can hold", maxFields)
	}
	return nil
}

func (r *schemaReader) metadata(list flatVector) (arrow.Metadata, error) {
	if list.count == 0 {
		return arrow.Metadata{}, nil
	}
	var keys, values []string
	for i := range list.count {
		if err := r.spend(); err != nil {
			return arrow.Metadata{}, err
		}
		pair := list.table(i)
		keys, values = append(keys, pair.string(pairKey)), append(values, pair.string(pairValue))
	}
	return arrow.NewMetadata(keys, values), nil
}

func (r *schemaReader) field(t flatTable, depth int) (field arrow.Field, n *node, err error) {
	if depth == maxDepth {
		return field, nil, fmt.Errorf("types are nested deeper than %d", maxDepth)
	}
	if err := r.spend(); err != nil {
		return field, nil, err
	}
	field.Name = t.string(fieldName)
	field.Nullable = t.bool(fieldNullable)
	if field.Metadata, err = r.metadata(t.vector(fieldMetadata, 4)); err != nil {
		return field, nil, err
	}
	list := t.vector(fieldChildren, 4)
	var below []arrow.Field
	var children []*node
	for i := range list.count {
		kid, child, err := r.field(list.table(i), depth+1)
		if err != nil {
			return field, nil, fmt.Errorf("field %d (%q): %w", i, kid.Name, err)
		}
		below, children = append(below, kid), append(children, child)
	}
	if field.Type, err = readType(t.uint8(fieldTypeType, 0), t.table(fieldType), below); err != nil {
		return field, nil, err
	}
	var id int64
	if t.has(fieldDictionary) {
		encoding := t.table(fieldDictionary)
		index := arrow.PrimitiveTypes.Int32
		if encoding.has(encodingIndexType) {
			if index, err = readInt(encoding.table(encodingIndexType)); err != nil {
				return field, nil, err
			}
		}
		id = encoding.int64(encodingID)
		field.Type = &arrow.DictionaryType{IndexType: index, ValueType: field.Type, Ordered: encoding.bool(encodingOrdered)}
	}
	if t.flat.broken {
		return field, nil, errBroken
	}
	if err := extend(&field); err != nil {
		return field, nil, err
	}
	if n, err = newNode(field.Type, children, id); err != nil {
		return field, nil, fmt.Errorf("%w cannot be read", err)
	}
	if n.dict != nil {
		if err := r.share(n.dict); err != nil {
			return field, nil, err
		}
	}
	return field, n, nil
}

// share finds the dictionary among those of fields before: several fields may have the same one.
func (r *schemaReader) share(dict *dictionary) error {
	if r.dictionaries == nil {
		r.dictionaries = map[int64]*node{}
	}
	known, ok := r.dictionaries[dict.id]
	if !ok {
		r.dictionaries[dict.id] = dict.values
		return nil
	}
	if !arrow.TypeEqual(known.typ, dict.values.typ) {
		return fmt.Errorf("dictionary %d is of type %s here and %s elsewhere", dict.id, dict.values.typ.Name(), known.typ.Name())
	}
	dict.values = known
	return nil
}

// extend makes a field's type the extension type that its metadata names, if that is registered in this program. Otherwise the
// field keeps the type that it is stored as, and its metadata.
func extend(field *arrow.Field) (err error) {
	name, ok := field.Metadata.GetValue(extensionName)
	if !ok {
		return nil
	}
	registered := arrow.GetExtensionType(name)
	if registered == nil {
		return nil
	}
	// What the registered type does with bytes of others is not ours to trust.
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("extension type %q: %v", name, cause)
		}
	}()
	text, _ := field.Metadata.GetValue(extensionMetadata)
	extension, err := registered.Deserialize(field.Type, text)
	if err != nil {
		return fmt.Errorf("extension type %q: %w", name, err)
	}
	if extension == nil || !arrow.TypeEqual(extension.StorageType(), field.Type) {
		return fmt.Errorf("extension type %q cannot be stored as %s", name, field.Type.Name())
	}
	field.Type, field.Metadata = extension, withoutExtension(field.Metadata)
	return nil
}

func readInt(t flatTable) (arrow.DataType, error) {
	signed, bits := t.bool(1), t.int32(0, 0)
	switch {
	case bits == 8 && signed:
		return arrow.PrimitiveTypes.Int8, nil
	case bits == 8:
		return arrow.PrimitiveTypes.Uint8, nil
	case bits == 16 && signed:
		return arrow.PrimitiveTypes.Int16, nil
	case bits == 16:
		return arrow.PrimitiveTypes.Uint16, nil
	case bits == 32 && signed:
		return arrow.PrimitiveTypes.Int32, nil
	case bits == 32:
		return arrow.PrimitiveTypes.Uint32, nil
	case bits == 64 && signed:
		return arrow.PrimitiveTypes.Int64, nil
	case bits == 64:
		return arrow.PrimitiveTypes.Uint64, nil
	}
	return nil, fmt.Errorf("an integer type of %d bits cannot be read", bits)
}

// childrenOf says how many fields a type must have below it.
var childrenOf = [256]int{
	typeList: 1, typeLargeList: 1, typeListView: 1, typeLargeListView: 1, typeFixedSizeList: 1, typeMap: 1, typeRunEndEncoded: 2,
}

// readType makes arrow's type of a type's table.
func readType(number uint8, t flatTable, children []arrow.Field) (arrow.DataType, error) {
	if number != typeStruct && number != typeUnion && len(children) != childrenOf[number] {
		return nil, fmt.Errorf("type %d has %d fields below it, expected %d", number, len(children), childrenOf[number])
	}
	switch number {
	case typeNull:
		return arrow.Null, nil
	case typeInt:
		return readInt(t)
	case typeFloatingPoint:
		switch precision := t.int16(0, 0); precision {
		case precisionHalf:
			return arrow.FixedWidthTypes.Float16, nil
		case precisionSingle:
			return arrow.PrimitiveTypes.Float32, nil
		case precisionDouble:
			return arrow.PrimitiveTypes.Float64, nil
		default:
			return nil, fmt.Errorf("a floating-point type of precision %d cannot be read", precision)
		}
	case typeBinary:
		return arrow.BinaryTypes.Binary, nil
	case typeUtf8:
		return arrow.BinaryTypes.String, nil
	case typeLargeBinary:
		return arrow.BinaryTypes.LargeBinary, nil
	case typeLargeUtf8:
		return arrow.BinaryTypes.LargeString, nil
	case typeBinaryView:
		return arrow.BinaryTypes.BinaryView, nil
	case typeUtf8View:
		return arrow.BinaryTypes.StringView, nil
	case typeBool:
		return arrow.FixedWidthTypes.Boolean, nil
	case typeDecimal:
		return readDecimal(t)
	case typeDate, typeTime, typeTimestamp, typeInterval, typeDuration:
		return readTemporal(number, t)
	case typeFixedSizeBinary:
		width := t.int32(0, 0)
		if width < 0 {
			return nil, fmt.Errorf("a fixed-size binary type of %d bytes", width)
		}
		return &arrow.FixedSizeBinaryType{ByteWidth: int(width)}, nil
	case typeList:
		return arrow.ListOfField(children[0]), nil
	case typeLargeList:
		return arrow.LargeListOfField(children[0]), nil
	case typeListView:
		return arrow.ListViewOfField(children[0]), nil
	case typeLargeListView:
		return arrow.LargeListViewOfField(children[0]), nil
	case typeFixedSizeList:
		size := t.int32(0, 0)
		if size <= 0 {
			return nil, fmt.Errorf("a fixed-size list type of %d items cannot be read", size)
		}
		return arrow.FixedSizeListOfField(size, children[0]), nil
	case typeStruct:
		return arrow.StructOf(children...), nil
	case typeMap:
		return readMap(t, children[0])
	case typeUnion:
		return readUnion(t, children)
	case typeRunEndEncoded:
		switch children[0].Type.ID() {
		case arrow.INT16, arrow.INT32, arrow.INT64:
		default:
			return nil, fmt.Errorf("run ends of type %s", children[0].Type.Name())
		}
		typ := arrow.RunEndEncodedOf(children[0].Type, children[1].Type)
		typ.ValueNullable = children[1].Nullable
		return typ, nil
	}
	return nil, fmt.Errorf("type %d of arrow cannot be read", number)
}

func readDecimal(t flatTable) (arrow.DataType, error) {
	precision, scale := t.int32(0, 0), t.int32(1, 0)
	switch bits := t.int32(2, defaultDecimal); bits {
	case 128:
		return &arrow.Decimal128Type{Precision: precision, Scale: scale}, nil
	case 256:
		return &arrow.Decimal256Type{Precision: precision, Scale: scale}, nil
	default:
		return nil, fmt.Errorf("a decimal type of %d bits cannot be read", bits)
	}
}

func readTemporal(number uint8, t flatTable) (arrow.DataType, error) {
	code := t.int16(0, defaultUnit[number])
	if code < 0 || code > int16(arrow.Nanosecond) {
		return nil, fmt.Errorf("type %d has unit %d, which arrow does not know", number, code)
	}
	unit := arrow.TimeUnit(code)
	switch number {
	case typeTimestamp:
		return &arrow.TimestampType{Unit: unit, TimeZone: t.string(1)}, nil
	case typeDuration:
		return &arrow.DurationType{Unit: unit}, nil
	case typeTime:
		switch bits := t.int32(1, defaultTimeWidth); {
		case bits == 32 && unit <= arrow.Millisecond:
			return &arrow.Time32Type{Unit: unit}, nil
		case bits == 64 && unit >= arrow.Microsecond:
			return &arrow.Time64Type{Unit: unit}, nil
		default:
			return nil, fmt.Errorf("a time type of %d bits in units of %s", bits, unit)
		}
	case typeDate:
		switch code {
		case dateDay:
			return arrow.FixedWidthTypes.Date32, nil
		case dateMillisecond:
			return arrow.FixedWidthTypes.Date64, nil
		}
	case typeInterval:
		switch code {
		case intervalMonths:
			return arrow.FixedWidthTypes.MonthInterval, nil
		case intervalDayTime:
			return arrow.FixedWidthTypes.DayTimeInterval, nil
		case intervalNano:
			return arrow.FixedWidthTypes.MonthDayNanoInterval, nil
		}
	}
	return nil, fmt.Errorf("type %d has unit %d, which arrow does not know", number, code)
}

// defaultUnit is the unit of a type that does not say it.
var defaultUnit = [256]int16{typeDate: dateMillisecond, typeTime: unitMillisecond, typeDuration: unitMillisecond}

// readMap makes a map type. The names of its fields are fixed in arrow/go; those of the stream are not kept.
func readMap(t flatTable, entries arrow.Field) (arrow.DataType, error) {
	pair, ok := entries.Type.(*arrow.StructType)
	if !ok || pair.NumFields() != 2 {
		return nil, fmt.Errorf("a map type of %s, expected a struct of key and value", entries.Type.Name())
	}
	key, item := pair.Field(0), pair.Field(1)
	typ := arrow.MapOfWithMetadata(key.Type, key.Metadata, item.Type, item.Metadata)
	typ.SetItemNullable(item.Nullable)
	typ.KeysSorted = t.bool(0)
	return typ, nil
}

func readUnion(t flatTable, children []arrow.Field) (arrow.DataType, error) {
	list := t.vector(1, 4)
	codes := make([]arrow.UnionTypeCode, len(children))
	if list.count != 0 && list.count != len(children) {
		return nil, fmt.Errorf("a union type with %d fields and %d type codes", len(children), list.count)
	}
	var seen [int(arrow.MaxUnionTypeCode) + 1]bool
	for i := range codes {
		code := int32(i)
		if list.count != 0 {
			code = list.int32(i)
		}
		if code < 0 || code > int32(arrow.MaxUnionTypeCode) || seen[code] {
			return nil, fmt.Errorf("a union type with type code %d out of range or used twice", code)
		}
		seen[code] = true
		codes[i] = arrow.UnionTypeCode(code)
	}
	switch mode := t.int16(0, 0); mode {
	case unionSparse:
		return arrow.SparseUnionOf(children, codes), nil
	case unionDense:
		return arrow.DenseUnionOf(children, codes), nil
	default:
		return nil, fmt.Errorf("a union type of mode %d", mode)
	}
}
