package table_test

import (
	"fmt"
	"reflect"
	"sync"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine/objectstore/table"
)

// TestManySchemas writes and reads more schemas than are kept, from several goroutines, each of them several times.
func TestManySchemas(t *testing.T) {
	column := array.NewNull(3)
	defer column.Release()
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			for i := range 400 {
				// Few of the names are the same, so that the schemas are found at times, and at times not.
				name := fmt.Sprintf("column %d", i*(worker+1)%150)
				metadata := arrow.NewMetadata([]string{"n"}, []string{name})
				schema := arrow.NewSchema([]arrow.Field{{Name: name, Type: arrow.Null, Nullable: true, Metadata: metadata}}, &metadata)
				for range 2 {
					record := array.NewRecord(schema, []arrow.Array{column}, 3)
					data := encode(t, schema, record)
					equalTables(t, open(t, data, false), schema, []arrow.Record{record})
					record.Release()
				}
			}
		})
	}
	group.Wait()
}

// TestSameNamesOtherSchema writes schemas that differ in what is not a name, at one address after the other.
func TestSameNamesOtherSchema(t *testing.T) {
	for i, typ := range []arrow.DataType{arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Float64, arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64} {
		schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: typ, Nullable: i%2 == 0}}, nil)
		record := newGenerator(t, uint64(i)).record(schema, 10)
		equalTables(t, open(t, encode(t, schema, record), false), schema, []arrow.Record{record})
		record.Release()
	}
}

// TestExtensionTypeThatComesAndGoes reads the same bytes while their extension type is known and while it is not.
func TestExtensionTypeThatComesAndGoes(t *testing.T) {
	typ := &lateType{ExtensionBase: arrow.ExtensionBase{Storage: arrow.PrimitiveTypes.Int64}}
	builder := array.NewInt64Builder(memory.DefaultAllocator)
	defer builder.Release()
	builder.Append(7)
	storage := builder.NewArray()
	defer storage.Release()
	column := array.NewExtensionArrayWithStorage(typ, storage)
	defer column.Release()
	schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: typ}}, nil)
	record := array.NewRecord(schema, []arrow.Array{column}, 1)
	defer record.Release()
	data := encode(t, schema, record)
	for _, known := range []bool{false, true, false, true} {
		if known {
			if err := arrow.RegisterExtensionType(typ); err != nil {
				t.Fatal(err)
			}
		}
		opened, err := table.Open(data, table.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, found := opened.Schema().Field(0).Type.(*lateType); found != known {
			t.Errorf("the type is %s, and it is registered: %t", opened.Schema().Field(0).Type, known)
		}
		opened.Release()
		if known {
			if err := arrow.UnregisterExtensionType(typ.ExtensionName()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// lateType is an extension type that is registered at times.
type lateType struct{ arrow.ExtensionBase }

type lateArray struct{ array.ExtensionArrayBase }

func (*lateType) ArrayType() reflect.Type { return reflect.TypeFor[lateArray]() }
func (*lateType) ExtensionName() string   { return "engine.test.late" }
func (*lateType) Serialize() string       { return "" }
func (*lateType) ExtensionEquals(other arrow.ExtensionType) bool {
	return other.ExtensionName() == "engine.test.late"
}
func (*lateType) Deserialize(storage arrow.DataType, _ string) (arrow.ExtensionType, error) {
	return &lateType{ExtensionBase: arrow.ExtensionBase{Storage: storage}}, nil
}
