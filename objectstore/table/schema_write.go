package table

import (
	"fmt"

	"github.com/apache/arrow/go/v15/arrow"
	flatbuffers "github.com/google/flatbuffers/go"
)

// writeSchema writes a Schema table and returns where it is.
func writeSchema(b *flatbuffers.Builder, schema *arrow.Schema, nodes []*node) (flatbuffers.UOffsetT, error) {
	offsets := make([]flatbuffers.UOffsetT, len(nodes))
	for i, n := range nodes {
		offset, err := writeField(b, schema.Field(i), n)
		if err != nil {
			return 0, err
		}
		offsets[i] = offset
	}
	fields := b.CreateVectorOfTables(offsets)
	metadata := writeMetadata(b, schema.Metadata())
	b.StartObject(schemaSlots)
	b.PrependUOffsetTSlot(schemaFields, fields, 0)
	b.PrependUOffsetTSlot(schemaMetadata, metadata, 0)
	return b.EndObject(), nil
}

func writeField(b *flatbuffers.Builder, field arrow.Field, n *node) (flatbuffers.UOffsetT, error) {
	values := n
	if n.dict != nil {
		values = n.dict.values
	}
	kids := make([]flatbuffers.UOffsetT, len(values.children))
	for i, below := range fieldsBelow(field.Type) {
		kid, err := writeField(b, below, values.children[i])
		if err != nil {
			return 0, err
		}
		kids[i] = kid
	}
	name := b.CreateString(field.Name)
	number, typ, err := writeType(b, values.storage)
	if err != nil {
		return 0, fmt.Errorf("column %q: arrow ipc cannot hold %w", field.Name, err)
	}
	children := b.CreateVectorOfTables(kids)
	metadata := field.Metadata
	if extension, ok := field.Type.(arrow.ExtensionType); ok {
		metadata = withExtension(metadata, extension)
	}
	pairs := writeMetadata(b, metadata)
	var encoding flatbuffers.UOffsetT
	if n.dict != nil {
		encoding = writeEncoding(b, n)
	}
	b.StartObject(fieldSlots)
	b.PrependUOffsetTSlot(fieldName, name, 0)
	b.PrependBoolSlot(fieldNullable, field.Nullable, false)
	b.PrependByteSlot(fieldTypeType, number, 0)
	b.PrependUOffsetTSlot(fieldType, typ, 0)
	b.PrependUOffsetTSlot(fieldDictionary, encoding, 0)
	b.PrependUOffsetTSlot(fieldChildren, children, 0)
	b.PrependUOffsetTSlot(fieldMetadata, pairs, 0)
	return b.EndObject(), nil
}

func writeEncoding(b *flatbuffers.Builder, n *node) flatbuffers.UOffsetT {
	encoded := n.storage.(*arrow.DictionaryType)
	index := writeInt(b, n.width*8, arrow.IsSignedInteger(encoded.IndexType.ID()))
	b.StartObject(encodingSlots)
	b.PrependInt64Slot(encodingID, n.dict.id, 0)
	b.PrependUOffsetTSlot(encodingIndexType, index, 0)
	b.PrependBoolSlot(encodingOrdered, encoded.Ordered, false)
	return b.EndObject()
}

// withExtension returns a field's metadata with what makes its type an extension type.
func withExtension(metadata arrow.Metadata, extension arrow.ExtensionType) arrow.Metadata {
	metadata = withoutExtension(metadata)
	keys := append([]string{}, metadata.Keys()...)
	values := append([]string{}, metadata.Values()...)
	return arrow.NewMetadata(
		append(keys, extensionName, extensionMetadata),
		append(values, extension.ExtensionName(), extension.Serialize()))
}

// withoutExtension is the inverse of withExtension.
func withoutExtension(metadata arrow.Metadata) arrow.Metadata {
	var keys, values []string
	for i, key := range metadata.Keys() {
		if key != extensionName && key != extensionMetadata {
			keys = append(keys, key)
			values = append(values, metadata.Values()[i])
		}
	}
	return arrow.NewMetadata(keys, values)
}

func writeMetadata(b *flatbuffers.Builder, metadata arrow.Metadata) flatbuffers.UOffsetT {
	if metadata.Len() == 0 {
		return 0
	}
	offsets := make([]flatbuffers.UOffsetT, metadata.Len())
	for i, text := range metadata.Keys() {
		key := b.CreateString(text)
		value := b.CreateString(metadata.Values()[i])
		b.StartObject(pairSlots)
		b.PrependUOffsetTSlot(pairKey, key, 0)
		b.PrependUOffsetTSlot(pairValue, value, 0)
		offsets[i] = b.EndObject()
	}
	return b.CreateVectorOfTables(offsets)
}

func writeInt(b *flatbuffers.Builder, bits int, signed bool) flatbuffers.UOffsetT {
	b.StartObject(2)
	b.PrependInt32Slot(0, int32(bits), 0)
	b.PrependBoolSlot(1, signed, false)
	return b.EndObject()
}

// writeType writes the table of a type that is neither an extension nor a dictionary, and returns its number and place.
func writeType(b *flatbuffers.Builder, typ arrow.DataType) (number byte, at flatbuffers.UOffsetT, err error) {
	if arrow.IsInteger(typ.ID()) {
		bits := typ.(arrow.FixedWidthDataType).BitWidth()
		return typeInt, writeInt(b, bits, arrow.IsSignedInteger(typ.ID())), nil
	}
	switch typ := typ.(type) {
	case arrow.UnionType:
		return typeUnion, writeUnion(b, typ), nil
	case *arrow.TimestampType:
		var zone flatbuffers.UOffsetT
		if typ.TimeZone != "" {
			zone = b.CreateString(typ.TimeZone)
		}
		b.StartObject(2)
		b.PrependInt16Slot(0, int16(typ.Unit), 0)
		b.PrependUOffsetTSlot(1, zone, 0)
		return typeTimestamp, b.EndObject(), nil
	}
	// The types that are left have no more than three fields, and none that lies elsewhere.
	b.StartObject(3)
	switch typ := typ.(type) {
	case *arrow.NullType:
		number = typeNull
	case *arrow.BooleanType:
		number = typeBool
	case *arrow.Float16Type:
		number = typeFloatingPoint
		b.PrependInt16Slot(0, precisionHalf, 0)
	case *arrow.Float32Type:
		number = typeFloatingPoint
		b.PrependInt16Slot(0, precisionSingle, 0)
	case *arrow.Float64Type:
		number = typeFloatingPoint
		b.PrependInt16Slot(0, precisionDouble, 0)
	case arrow.DecimalType:
		number = typeDecimal
		b.PrependInt32Slot(0, typ.GetPrecision(), 0)
		b.PrependInt32Slot(1, typ.GetScale(), 0)
		b.PrependInt32Slot(2, int32(typ.(arrow.FixedWidthDataType).BitWidth()), defaultDecimal)
	case *arrow.Date32Type:
		number = typeDate
		b.PrependInt16Slot(0, dateDay, dateMillisecond)
	case *arrow.Date64Type:
		number = typeDate
		b.PrependInt16Slot(0, dateMillisecond, dateMillisecond)
	case *arrow.Time32Type:
		number = typeTime
		b.PrependInt16Slot(0, int16(typ.Unit), unitMillisecond)
		b.PrependInt32Slot(1, 32, defaultTimeWidth)
	case *arrow.Time64Type:
		number = typeTime
		b.PrependInt16Slot(0, int16(typ.Unit), unitMillisecond)
		b.PrependInt32Slot(1, 64, defaultTimeWidth)
	case *arrow.DurationType:
		number = typeDuration
		b.PrependInt16Slot(0, int16(typ.Unit), unitMillisecond)
	case *arrow.MonthIntervalType:
		number = typeInterval
		b.PrependInt16Slot(0, intervalMonths, 0)
	case *arrow.DayTimeIntervalType:
		number = typeInterval
		b.PrependInt16Slot(0, intervalDayTime, 0)
	case *arrow.MonthDayNanoIntervalType:
		number = typeInterval
		b.PrependInt16Slot(0, intervalNano, 0)
	case *arrow.FixedSizeBinaryType:
		number = typeFixedSizeBinary
		b.PrependInt32Slot(0, int32(typ.ByteWidth), 0)
	case *arrow.BinaryType:
		number = typeBinary
	case *arrow.StringType:
		number = typeUtf8
	case *arrow.LargeBinaryType:
		number = typeLargeBinary
	case *arrow.LargeStringType:
		number = typeLargeUtf8
	case *arrow.BinaryViewType:
		number = typeBinaryView
	case *arrow.StringViewType:
		number = typeUtf8View
	case *arrow.ListType:
		number = typeList
	case *arrow.LargeListType:
		number = typeLargeList
	case *arrow.ListViewType:
		number = typeListView
	case *arrow.LargeListViewType:
		number = typeLargeListView
	case *arrow.FixedSizeListType:
		number = typeFixedSizeList
		b.PrependInt32Slot(0, typ.Len(), 0)
	case *arrow.MapType:
		number = typeMap
		b.PrependBoolSlot(0, typ.KeysSorted, false)
	case *arrow.StructType:
		number = typeStruct
	case *arrow.RunEndEncodedType:
		number = typeRunEndEncoded
	default:
		return 0, 0, fmt.Errorf("type %s", typ)
	}
	return number, b.EndObject(), nil
}

func writeUnion(b *flatbuffers.Builder, typ arrow.UnionType) flatbuffers.UOffsetT {
	codes := typ.TypeCodes()
	b.StartVector(4, len(codes), 4)
	for i := len(codes) - 1; i >= 0; i-- {
		b.PrependInt32(int32(codes[i]))
	}
	vector := b.EndVector(len(codes))
	mode := int16(unionSparse)
	if typ.Mode() == arrow.DenseMode {
		mode = unionDense
	}
	b.StartObject(2)
	b.PrependInt16Slot(0, mode, 0)
	b.PrependUOffsetTSlot(1, vector, 0)
	return b.EndObject()
}
