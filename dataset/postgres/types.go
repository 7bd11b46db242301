package postgres

import (
	"context"
	"math"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/f708428e/engine"
)

// Types of timestamps: with a zone they are instants.
var (
	localTime = &arrow.TimestampType{Unit: arrow.Microsecond}
	instant   = &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}
)

// readTypes are the Arrow types in which values of built-in types are read.
var readTypes = map[uint32]arrow.DataType{
	pgtype.BoolOID:        arrow.FixedWidthTypes.Boolean,
	pgtype.Int2OID:        arrow.PrimitiveTypes.Int16,
	pgtype.Int4OID:        arrow.PrimitiveTypes.Int32,
	pgtype.Int8OID:        arrow.PrimitiveTypes.Int64,
	pgtype.Float4OID:      arrow.PrimitiveTypes.Float32,
	pgtype.Float8OID:      arrow.PrimitiveTypes.Float64,
	pgtype.JSONOID:        arrow.BinaryTypes.String,
	pgtype.JSONBOID:       arrow.BinaryTypes.String,
	pgtype.UUIDOID:        arrow.BinaryTypes.String,
	pgtype.XMLOID:         arrow.BinaryTypes.String,
	pgtype.DateOID:        arrow.FixedWidthTypes.Date32,
	pgtype.TimestampOID:   localTime,
	pgtype.TimestamptzOID: instant,
	pgtype.ByteaOID:       arrow.BinaryTypes.Binary,
	pgtype.Int2ArrayOID:   arrow.ListOf(arrow.PrimitiveTypes.Int16),
	pgtype.Int4ArrayOID:   arrow.ListOf(arrow.PrimitiveTypes.Int32),
	pgtype.Int8ArrayOID:   arrow.ListOf(arrow.PrimitiveTypes.Int64),
	pgtype.Float4ArrayOID: arrow.ListOf(arrow.PrimitiveTypes.Float32),
	pgtype.Float8ArrayOID: arrow.ListOf(arrow.PrimitiveTypes.Float64),
}

// scalars are the types in which the server is asked for values, so that what it sends does not depend on what became of the table since the
// job was planned.
var scalars = map[arrow.Type]string{
	arrow.BOOL: "bool", arrow.INT16: "int2", arrow.INT32: "int4", arrow.INT64: "int8", arrow.FLOAT32: "float4", arrow.FLOAT64: "float8",
	arrow.STRING: "text", arrow.BINARY: "bytea", arrow.DATE32: "date",
}

// expression is what a column is in the list of a SELECT.
func expression(f arrow.Field) string {
	name := quote(f.Name)
	switch t := f.Type.(type) {
	case *arrow.TimestampType:
		if t.TimeZone != "" {
			return name + "::timestamptz"
		}
		return name + "::timestamp"
	case *arrow.ListType:
		return name + "::" + scalars[t.Elem().ID()] + "[]"
	case *arrow.FixedSizeListType:
		return name // The type vector may lie in a schema that is not looked into.
	default:
		return name + "::" + scalars[t.ID()]
	}
}

// pgTypeInfo is what the catalog says of a type.
type pgTypeInfo struct {
	oid      uint32
	name     string
	category string
}

// describeTypes asks for the types of columns.
func (s *session) describeTypes(ctx context.Context, op string, oids []uint32) (map[uint32]pgTypeInfo, error) {
	wanted := make([]int64, len(oids))
	for i, oid := range oids {
		wanted[i] = int64(oid)
	}
	rows, err := s.Query(ctx, "SELECT oid::int8, format_type(oid, NULL), typname, typcategory::text FROM pg_catalog.pg_type WHERE oid::int8 = ANY($1::int8[])", wanted)
	if err != nil {
		return nil, classify(ctx, op, s.place, err)
	}
	defer rows.Close()
	types := map[uint32]pgTypeInfo{}
	for rows.Next() {
		var oid int64
		var info pgTypeInfo
		var bare string
		if err := rows.Scan(&oid, &info.name, &bare, &info.category); err != nil {
			return nil, classify(ctx, op, s.place, err)
		}
		if bare == vectorType {
			info.name = vectorType // also where its schema is not looked into
		}
		info.oid = uint32(oid) //nolint:gosec // An oid was put in.
		types[info.oid] = info
	}
	return types, classify(ctx, op, s.place, rows.Err())
}

// vectorType is the type of pgvector.
const vectorType = "vector"

// maxVector is how long a vector of pgvector may be.
const maxVector = 16_000

// readType is the Arrow type in which a column is read that the job file does not declare.
func readType(op, place string, f pgconn.FieldDescription, info pgTypeInfo) (arrow.DataType, error) {
	if t, ok := readTypes[f.DataTypeOID]; ok {
		return t, nil
	}
	refuse := engine.Errorf(engine.KindData, op, place, "column %q is of type %s, which is not read as it is", f.Name, info.name)
	switch {
	case info.category == "S" || info.category == "E":
		return arrow.BinaryTypes.String, nil
	case info.name == vectorType && f.TypeModifier > 0:
		return arrow.FixedSizeListOfNonNullable(f.TypeModifier, arrow.PrimitiveTypes.Float32), nil
	case info.name == vectorType:
		return arrow.ListOf(arrow.PrimitiveTypes.Float32), nil
	case f.DataTypeOID == pgtype.NumericOID:
		return nil, refuse.WithHint("declare it in source.postgres.columns as float64, which rounds, as int64, or as string, which keeps every digit")
	default:
		return nil, refuse.WithHint("declare it in source.postgres.columns, for example as string, or cast it in the query")
	}
}

// rangeKind is what a column must be to be split by its ranges.
type rangeKind int

const (
	noRange rangeKind = iota
	integerRange
	dateRange
	timestampRange
	instantRange
)

// rangeOf returns how to split by a column of a type, and the least and greatest value that it has.
func rangeOf(oid uint32) (kind rangeKind, least, most int64) {
	switch oid {
	case pgtype.Int2OID:
		return integerRange, math.MinInt16, math.MaxInt16
	case pgtype.Int4OID:
		return integerRange, math.MinInt32, math.MaxInt32
	case pgtype.Int8OID:
		return integerRange, math.MinInt64, math.MaxInt64
	case pgtype.DateOID:
		return dateRange, firstDay, lastDay
	case pgtype.TimestampOID:
		return timestampRange, firstDay * dayMicros, (lastDay+1)*dayMicros - 1
	case pgtype.TimestamptzOID:
		return instantRange, firstDay * dayMicros, (lastDay+1)*dayMicros - 1
	default:
		return noRange, 0, 0
	}
}
