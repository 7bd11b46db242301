package operator_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/operator"
)

var timestamp = &arrow.TimestampType{Unit: arrow.Microsecond}

// checked returns an allocator that fails the test if memory is left.
func checked(t *testing.T) memory.Allocator {
	allocator := memory.NewCheckedAllocator(memory.NewGoAllocator())
	t.Cleanup(func() { allocator.AssertSize(t, 0) })
	return allocator
}

// column is a column from text: each value as arrow writes it, "null" for null.
func column(t *testing.T, typ arrow.DataType, values ...string) arrow.Array {
	t.Helper()
	b := array.NewBuilder(memory.NewGoAllocator(), typ)
	defer b.Release()
	for _, v := range values {
		if v == "null" {
			b.AppendNull()
		} else if err := b.AppendValueFromString(v); err != nil {
			t.Fatal(err)
		}
	}
	return b.NewArray()
}

// record gives columns the names a, b, c, and so on.
func record(columns ...arrow.Array) arrow.Record {
	fields := make([]arrow.Field, len(columns))
	for i, c := range columns {
		fields[i] = arrow.Field{Name: string(rune('a' + i)), Type: c.DataType(), Nullable: true}
	}
	return array.NewRecord(arrow.NewSchema(fields, nil), columns, int64(columns[0].Len()))
}

func texts(column arrow.Array) []string {
	all := make([]string, column.Len())
	for i := range all {
		all[i] = "null"
		if column.IsValid(i) {
			all[i] = column.ValueStr(i)
		}
	}
	return all
}

func wantRowError(t *testing.T, err error, column string, row int64, part string) {
	t.Helper()
	var rowError *runtime.RowError
	if !errors.As(err, &rowError) {
		t.Fatalf("error %v is no RowError", err)
	}
	if rowError.Column != column || rowError.Row != row || !strings.Contains(rowError.Err.Error(), part) {
		t.Errorf("got column %q, row %d, %q; want %q, %d, %q", rowError.Column, rowError.Row, rowError.Err, column, row, part)
	}
	if engine.KindOf(err) != engine.KindData {
		t.Errorf("kind %s", engine.KindOf(err))
	}
}

func TestSelectAndRename(t *testing.T) {
	in := record(column(t, arrow.PrimitiveTypes.Int64, "1", "2"), column(t, arrow.BinaryTypes.String, "x", "null"), column(t, arrow.FixedWidthTypes.Boolean, "true", "false"))
	defer in.Release()
	o, err := operator.NewSelect(in.Schema(), []int{2, 0})
	if err != nil {
		t.Fatal(err)
	}
	out, err := o.Apply(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Release()
	if !out.Schema().Equal(o.Schema()) || out.ColumnName(0) != "c" || out.ColumnName(1) != "a" || out.Column(1) != in.Column(0) {
		t.Errorf("got %v", out)
	}

	o, err = operator.NewRename(in.Schema(), []string{"x", "y", "a"})
	if err != nil {
		t.Fatal(err)
	}
	renamed, err := o.Apply(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	defer renamed.Release()
	if renamed.ColumnName(0) != "x" || renamed.ColumnName(2) != "a" || renamed.Column(1) != in.Column(1) {
		t.Errorf("got %v", renamed)
	}
	if _, err := o.Apply(t.Context(), renamed); engine.KindOf(err) != engine.KindInternal || err == nil {
		t.Errorf("a record of another schema: %v", err)
	}

	for name, err := range map[string]error{
		"twice":   second(operator.NewSelect(in.Schema(), []int{1, 1})),
		"beyond":  second(operator.NewSelect(in.Schema(), []int{3})),
		"below":   second(operator.NewSelect(in.Schema(), []int{-1})),
		"missing": second(operator.NewRename(in.Schema(), []string{"x", "y"})),
		"same":    second(operator.NewRename(in.Schema(), []string{"x", "y", "x"})),
	} {
		if engine.KindOf(err) != engine.KindInvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second(_ operator.Operator, err error) error { return err }

func TestCast(t *testing.T) {
	var (
		boolean = arrow.FixedWidthTypes.Boolean
		i8      = arrow.PrimitiveTypes.Int8
		i32     = arrow.PrimitiveTypes.Int32
		i64     = arrow.PrimitiveTypes.Int64
		u64     = arrow.PrimitiveTypes.Uint64
		f32     = arrow.PrimitiveTypes.Float32
		f64     = arrow.PrimitiveTypes.Float64
		text    = arrow.BinaryTypes.String
		date    = arrow.FixedWidthTypes.Date32
		seconds = &arrow.TimestampType{Unit: arrow.Second}
		nanos   = &arrow.TimestampType{Unit: arrow.Nanosecond, TimeZone: "UTC"}
		price   = &arrow.Decimal128Type{Precision: 20, Scale: 2}
		huge    = &arrow.Decimal256Type{Precision: 50, Scale: 3}
	)
	for _, test := range []struct {
		from, to arrow.DataType
		in       []string
		out      []string // or
		err      string   // of the last value
	}{
		{f64, i64, []string{"1", "null", "-3", "-9223372036854775808"}, []string{"1", "null", "-3", "-9223372036854775808"}, ""},
		{price, f64, []string{"1.10", "null", "-0.05", "123456789012345678.91"}, []string{"1.1", "null", "-0.05", "1.2345678901234568e+17"}, ""},
		{price, f32, []string{"0.10", "-3.00"}, []string{"0.1", "-3"}, ""},
		{price, i64, []string{"12.00", "null", "-7.00", "0.00"}, []string{"12", "null", "-7", "0"}, ""},
		{price, i32, []string{"12.00", "12.01"}, nil, "value 12.01 does not fit int32 exactly"},
		{price, i32, []string{"2147483648.00"}, nil, "value 2147483648 does not fit int32 exactly"},
		{price, text, []string{"12.00", "-0.05", "0.00", "null"}, []string{"12.00", "-0.05", "0.00", "null"}, ""},
		{huge, f64, []string{"1.5", "-20"}, []string{"1.5", "-20"}, ""},
		{huge, text, []string{"0.125"}, []string{"0.125"}, ""},
		{f64, i64, []string{"1", "1.5"}, nil, "value 1.5 does not fit int64 exactly"},
		{f64, i64, []string{"9223372036854775808"}, nil, "value 9223372036854776000 does not fit int64 exactly"},
		{f64, i64, []string{"NaN"}, nil, "value NaN does not fit int64"},
		{f64, i32, []string{"2147483648"}, nil, "does not fit int32"},
		{f64, i32, []string{"-0"}, []string{"0"}, ""},
		{f64, f32, []string{"0.1", "NaN", "+Inf", "-Inf", "1e-60"}, []string{"0.1", "NaN", "+Inf", "-Inf", "0"}, ""},
		{f64, f32, []string{"1e39"}, nil, "value 1e+39 does not fit float32"},
		{f32, f64, []string{"0.5", "NaN"}, []string{"0.5", "NaN"}, ""},
		{i64, f64, []string{"9007199254740992", "9007199254740994"}, []string{"9.007199254740992e+15", "9.007199254740994e+15"}, ""},
		{i64, f64, []string{"1", "9007199254740993"}, nil, "value 9007199254740993 does not fit float64 exactly"},
		{i64, f64, []string{"9223372036854775807"}, nil, "does not fit"},
		{i64, f64, []string{"-9223372036854775808"}, []string{"-9.223372036854775808e+18"}, ""},
		{u64, f64, []string{"18446744073709551615"}, nil, "does not fit"},
		{i32, f32, []string{"16777217"}, nil, "does not fit float32"},
		{i32, f32, []string{"16777216", "16777218"}, []string{"1.6777216e+07", "1.6777218e+07"}, ""},
		{i64, i32, []string{"2147483648"}, nil, "does not fit int32"},
		{u64, i64, []string{"9223372036854775808"}, nil, "does not fit int64"},
		{i8, i64, []string{"-128"}, []string{"-128"}, ""},
		{i8, u64, []string{"-1"}, nil, "does not fit uint64"},
		{boolean, i64, []string{"true", "false", "null"}, []string{"1", "0", "null"}, ""},
		{boolean, f64, []string{"true"}, []string{"1"}, ""},
		{i64, boolean, []string{"1", "0", "null"}, []string{"true", "false", "null"}, ""},
		{i64, boolean, []string{"2"}, nil, "value 2 does not fit bool"},
		{f64, boolean, []string{"0.5"}, nil, "does not fit bool"},
		{f64, text, []string{"0.1", "100000", "1e21", "1e-7", "NaN", "+Inf", "-Inf", "null"}, []string{"0.1", "100000", "1e+21", "1e-07", "NaN", "Inf", "-Inf", "null"}, ""},
		{f32, text, []string{"0.1"}, []string{"0.1"}, ""},
		{i64, text, []string{"-5"}, []string{"-5"}, ""},
		{boolean, text, []string{"true"}, []string{"true"}, ""},
		{date, text, []string{"2026-02-28"}, []string{"2026-02-28"}, ""},
		{timestamp, text, []string{"2026-02-28 01:02:03.5", "1969-12-31 23:59:59"}, []string{"2026-02-28T01:02:03.5", "1969-12-31T23:59:59"}, ""},
		{nanos, text, []string{"2026-02-28T01:02:03.000000007Z"}, []string{"2026-02-28T01:02:03.000000007Z"}, ""},
		{text, i64, []string{"12", "+5", "-7", "null"}, []string{"12", "5", "-7", "null"}, ""},
		{text, i64, []string{"1.0"}, nil, `value "1.0" is not a valid int64`},
		{text, i64, []string{""}, nil, `value "" is not a valid int64`},
		{text, i64, []string{"9223372036854775808"}, nil, "does not fit int64"},
		{text, i32, []string{"2147483648"}, nil, "does not fit int32"},
		{text, i64, []string{"0x10"}, nil, "not a valid"},
		{text, f64, []string{"1e3", ".5", "NaN", "-inf"}, []string{"1000", "0.5", "NaN", "-Inf"}, ""},
		{text, f64, []string{"1,5"}, nil, `value "1,5" is not a valid float64`},
		{text, f64, []string{"0x1p-2"}, nil, "not a valid"},
		{text, f64, []string{"1_000"}, nil, "not a valid"},
		{text, f64, []string{" 1"}, nil, "not a valid"},
		{text, f64, []string{"1e999"}, nil, "does not fit float64"},
		{text, f32, []string{"1e39"}, nil, "does not fit float32"},
		{text, boolean, []string{"true", "0", "T", "null"}, []string{"true", "false", "true", "null"}, ""},
		{text, boolean, []string{"yes"}, nil, `value "yes" is not a valid bool`},
		{text, date, []string{"2024-02-29", "1969-12-31"}, []string{"2024-02-29", "1969-12-31"}, ""},
		{text, date, []string{"2023-02-29"}, nil, `not a valid date`},
		{text, timestamp, []string{"2026-02-28T01:02:03", "2026-02-28 01:02:03.123456Z", "2026-02-28"}, []string{"2026-02-28 01:02:03", "2026-02-28 01:02:03.123456", "2026-02-28 00:00:00"}, ""},
		{text, timestamp, []string{"2026-02-28T01:02:03.1234567"}, nil, "does not fit timestamp exactly"},
		{text, timestamp, []string{"2026-02-28T01:02:03+01:00"}, nil, "not a valid timestamp"},
		{text, timestamp, []string{strings.Repeat("x", 1000)}, nil, `…`},
		{date, timestamp, []string{"2026-02-28", "null"}, []string{"2026-02-28 00:00:00", "null"}, ""},
		{timestamp, date, []string{"2026-02-28", "1969-12-31"}, []string{"2026-02-28", "1969-12-31"}, ""},
		{timestamp, date, []string{"2026-02-28 00:00:01"}, nil, "value 2026-02-28T00:00:01 does not fit date"},
		{seconds, timestamp, []string{"2026-02-28 01:02:03"}, []string{"2026-02-28 01:02:03"}, ""},
		{nanos, timestamp, []string{"2026-02-28 01:02:03.000001Z"}, []string{"2026-02-28 01:02:03.000001"}, ""},
		{nanos, timestamp, []string{"2026-02-28 01:02:03.000000001Z"}, nil, "does not fit timestamp"},
		{text, text, []string{"x", "null"}, []string{"x", "null"}, ""},
	} {
		t.Run(test.from.String()+" to "+test.to.String()+" "+test.in[len(test.in)-1], func(t *testing.T) {
			// A row before and one after are cut off, so that offsets count.
			values := append(append([]string{"null"}, test.in...), "null")
			whole := record(column(t, test.from, values...))
			defer whole.Release()
			in := whole.NewSlice(1, int64(len(values)-1))
			defer in.Release()
			o, err := operator.NewCast(in.Schema(), []operator.CastColumn{{Index: 0, Type: test.to}}, checked(t))
			if err != nil {
				t.Fatal(err)
			}
			out, err := o.Apply(t.Context(), in)
			if test.err != "" {
				wantRowError(t, err, "a", int64(len(test.in)-1), test.err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer out.Release()
			if got, want := texts(out.Column(0)), texts(column(t, test.to, test.out...)); !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			if !out.Schema().Equal(o.Schema()) || !arrow.TypeEqual(out.Column(0).DataType(), test.to) {
				t.Errorf("schema %v", out.Schema())
			}
		})
	}
}

func TestCastRecord(t *testing.T) {
	in := record(
		column(t, arrow.BinaryTypes.String, "1", "2", "x", "4"),
		column(t, arrow.PrimitiveTypes.Float64, "1", "2.5", "3", "4"),
		column(t, arrow.PrimitiveTypes.Int64, "1", "2", "3", "4"),
	)
	defer in.Release()
	schema, err := operator.CastSchema(in.Schema(), []operator.CastColumn{{0, arrow.PrimitiveTypes.Int32}, {1, arrow.PrimitiveTypes.Int32}})
	if err != nil {
		t.Fatal(err)
	}
	o, err := operator.NewCast(in.Schema(), []operator.CastColumn{{0, arrow.PrimitiveTypes.Int32}, {1, arrow.PrimitiveTypes.Int32}}, checked(t))
	if err != nil || !o.Schema().Equal(schema) {
		t.Fatal(err, schema)
	}
	_, err = o.Apply(t.Context(), in)
	wantRowError(t, err, "b", 1, "2.5") // the first row, though not the first column

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := o.Apply(ctx, in); engine.KindOf(err) != engine.KindCanceled {
		t.Errorf("canceled: %v", err)
	}
	none := in.NewSlice(0, 0)
	defer none.Release()
	out, err := o.Apply(t.Context(), none)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Release()
	if out.NumRows() != 0 || out.Column(2) != none.Column(2) {
		t.Errorf("got %v", out)
	}

	for name, casts := range map[string][]operator.CastColumn{
		"twice":        {{0, arrow.PrimitiveTypes.Int32}, {0, arrow.PrimitiveTypes.Int64}},
		"beyond":       {{3, arrow.PrimitiveTypes.Int32}},
		"time of int":  {{2, timestamp}},
		"list of text": {{0, arrow.ListOf(arrow.BinaryTypes.String)}},
	} {
		if _, err := operator.CastSchema(in.Schema(), casts); engine.KindOf(err) != engine.KindInvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
}
