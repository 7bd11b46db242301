package parquet

import (
	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"
	pqschema "github.com/apache/arrow/go/v15/parquet/schema"
)

// plainType is the type as which a column is read: a dictionary's values, an extension's storage, and the ordinary instead of
// the large variant of texts and lists, which writers choose for reasons of their own memory.
func plainType(t arrow.DataType) arrow.DataType {
	switch t := t.(type) {
	case *arrow.DictionaryType:
		return plainType(t.ValueType)
	case arrow.ExtensionType:
		return plainType(t.StorageType())
	case *arrow.LargeStringType:
		return arrow.BinaryTypes.String
	case *arrow.LargeBinaryType:
		return arrow.BinaryTypes.Binary
	case *arrow.LargeListType:
		return arrow.ListOfField(plainField(t.ElemField()))
	default:
		return mapChildren(t, plainField)
	}
}

func plainField(f arrow.Field) arrow.Field {
	return arrow.Field{Name: f.Name, Type: plainType(f.Type), Nullable: f.Nullable}
}

func mapChildren(t arrow.DataType, change func(arrow.Field) arrow.Field) arrow.DataType {
	switch t := t.(type) {
	case *arrow.MapType:
		m := arrow.MapOf(change(t.KeyField()).Type, change(t.ItemField()).Type)
		m.SetItemNullable(t.ItemField().Nullable)
		m.KeysSorted = t.KeysSorted
		return m
	case *arrow.ListType:
		return arrow.ListOfField(change(t.ElemField()))
	case *arrow.FixedSizeListType:
		return arrow.FixedSizeListOfField(t.Len(), change(t.ElemField()))
	case *arrow.StructType:
		fields := make([]arrow.Field, t.NumFields())
		for i, f := range t.Fields() {
			fields[i] = change(f)
		}
		return arrow.StructOf(fields...)
	default:
		return t
	}
}

// fieldType is a column's type: arrow's choice, without metadata such as Parquet's field ids, with the ordinary name for a
// list's elements, and without the UTC that arrow v15 adds to timestamps that have no zone.
func (in *input) fieldType(f *pqarrow.SchemaField) arrow.DataType {
	child := func(field arrow.Field, name string, f *pqarrow.SchemaField) arrow.Field {
		return arrow.Field{Name: name, Type: in.fieldType(f), Nullable: field.Nullable}
	}
	// Arrow forgets of some lists that their elements cannot be null.
	element := func(f *pqarrow.SchemaField) arrow.Field { return child(*f.Field, "item", f) }
	switch t := f.Field.Type.(type) {
	case *arrow.MapType:
		if len(f.Children) == 1 && len(f.Children[0].Children) == 2 {
			pair := f.Children[0].Children
			m := arrow.MapOf(in.fieldType(&pair[0]), in.fieldType(&pair[1]))
			m.SetItemNullable(t.ItemField().Nullable)
			m.KeysSorted = t.KeysSorted
			return m
		}
	case *arrow.ListType:
		if len(f.Children) == 1 {
			return arrow.ListOfField(element(&f.Children[0]))
		}
	case *arrow.FixedSizeListType:
		if len(f.Children) == 1 {
			return arrow.FixedSizeListOfField(t.Len(), element(&f.Children[0]))
		}
	case *arrow.StructType:
		if len(f.Children) == t.NumFields() {
			fields := make([]arrow.Field, t.NumFields())
			for i, field := range t.Fields() {
				fields[i] = child(field, field.Name, &f.Children[i])
			}
			return arrow.StructOf(fields...)
		}
	case *arrow.TimestampType:
		if f.ColIndex >= 0 && len(f.Children) == 0 {
			logical, ok := in.parquet.MetaData().Schema.Column(f.ColIndex).LogicalType().(*pqschema.TimestampLogicalType)
			if ok && !logical.IsAdjustedToUTC() && t.TimeZone == "UTC" {
				return &arrow.TimestampType{Unit: t.Unit}
			}
		}
	}
	return f.Field.Type
}

// storedType is the type to give to arrow v15 for writing, which marks timestamps without a zone as instants in UTC and those of
// other zones as none, the reverse of the format.
func storedType(t arrow.DataType) arrow.DataType {
	if t, ok := t.(*arrow.TimestampType); ok {
		zone := "UTC"
		if t.TimeZone == "" {
			zone = "none"
		}
		return &arrow.TimestampType{Unit: t.Unit, TimeZone: zone}
	}
	return mapChildren(t, func(f arrow.Field) arrow.Field {
		return arrow.Field{Name: f.Name, Type: storedType(f.Type), Nullable: f.Nullable}
	})
}

// storedSchema drops metadata, which is the writer's to give, and has the types to give to arrow. Parquet has no lists of fixed
// size, and arrow v15 writes those that have nulls only as ordinary ones.
func storedSchema(schema *arrow.Schema) *arrow.Schema {
	fields := make([]arrow.Field, schema.NumFields())
	for i, f := range schema.Fields() {
		t := storedType(f.Type)
		if fixed, ok := t.(*arrow.FixedSizeListType); ok {
			t = arrow.ListOfField(fixed.ElemField())
		}
		fields[i] = arrow.Field{Name: f.Name, Type: t, Nullable: f.Nullable}
	}
	return arrow.NewSchema(fields, nil)
}
