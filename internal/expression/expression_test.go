package expression_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine/internal/expression"
)

// table has four rows; the third is null everywhere.
func table(t testing.TB, allocator memory.Allocator) arrow.Record {
	t.Helper()
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "b", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
		{Name: "i", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "f", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "d", Type: arrow.FixedWidthTypes.Date32, Nullable: true},
		{Name: "t", Type: &arrow.TimestampType{Unit: arrow.Microsecond}, Nullable: true},
		{Name: "small", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
		{Name: "half", Type: arrow.PrimitiveTypes.Float32, Nullable: true},
		{Name: "fixed acidity", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: "list", Type: arrow.ListOf(arrow.PrimitiveTypes.Int64), Nullable: true},
	}, nil)
	record, _, err := array.RecordFromJSON(allocator, schema, strings.NewReader(`[
		{"b": true, "i": 1, "f": 1.5, "s": "Äpfel", "d": "2024-02-29", "t": "2024-02-29T13:14:15.5", "small": 7, "half": 0.1, "fixed acidity": 7.4, "list": [1]},
		{"b": false, "i": "-9223372036854775808", "f": -2.5, "s": "", "d": "1969-12-31", "t": "1969-12-31T23:59:59.999999", "small": -7, "half": 2.5, "fixed acidity": 7.8, "list": []},
		{},
		{"b": true, "i": "9223372036854775807", "f": 0, "s": "a%b_c", "d": "1900-03-01", "t": "2000-01-01T00:00:00", "small": 0, "half": -1, "fixed acidity": 11.2, "list": [1, null]}
	]`))
	if err != nil {
		t.Fatal(err)
	}
	return record
}

// evaluate returns the values of an expression as text, "null" for a null.
func evaluate(t testing.TB, text string, record arrow.Record) ([]string, arrow.DataType, error) {
	t.Helper()
	x, err := expression.Parse(text)
	if err != nil {
		return nil, nil, err
	}
	bound, err := x.BindValue(record.Schema())
	if err != nil {
		return nil, nil, err
	}
	column, err := bound.NewEvaluator(memory.DefaultAllocator).Evaluate(record)
	if err != nil {
		return nil, bound.Type(), err
	}
	defer column.Release()
	if !arrow.TypeEqual(column.DataType(), bound.Type()) || column.Len() != int(record.NumRows()) {
		t.Fatalf("%s: a column of %d %s, expected %d %s", text, column.Len(), column.DataType(), record.NumRows(), bound.Type())
	}
	values := make([]string, column.Len())
	for i := range values {
		values[i] = column.ValueStr(i)
		if column.IsNull(i) {
			values[i] = "null"
		}
	}
	return values, bound.Type(), nil
}

func TestValues(t *testing.T) {
	record := table(t, memory.DefaultAllocator)
	defer record.Release()
	for _, c := range []struct{ text, want string }{
		// Three-valued logic.
		{"b and true", "true,false,null,true"},
		{"b and false", "false,false,false,false"},
		{"b or true", "true,true,true,true"},
		{"b or null", "true,null,null,true"},
		{"null and b", "null,false,null,null"},
		{"not b", "false,true,null,false"},
		{"b is null", "false,false,true,false"},
		{"b is not null", "true,true,false,true"},
		{"is_null(list)", "false,false,true,false"},
		{"b is true", "true,false,false,true"},
		{"b is not false", "true,false,true,true"},
		{"b = (i > 0)", "true,true,null,true"},
		{"b <> true", "false,true,null,false"},
		{"b < true", "false,true,null,false"},

		// Comparisons.
		{"i > 0", "true,false,null,true"},
		{"i >= 1 and i <= 1", "true,false,null,false"},
		{"f = 1.5", "true,false,null,false"},
		{"f != 1", "true,true,null,true"},
		{"f < 0/0", "true,true,null,true"},
		{"f / 0 > 0", "true,false,null,true"}, // of 0/0, NaN is greater
		{"0/0 = f/0 ", "false,false,null,true"},
		{`"fixed acidity" > 7.5`, "false,true,null,true"},
		{"s = ''", "false,true,null,false"},
		{"s < 'b'", "false,true,null,true"},
		{"i = null", "null,null,null,null"},
		{"half = 0.1", "true,false,null,false"},
		{"half in (0.1, 2.5)", "true,true,null,false"},
		{"i between -1 and 1", "true,false,null,false"},
		{"i not between -1 and 1", "false,true,null,true"},
		{"not i between -1 and 1", "false,true,null,true"},
		{"d >= '2024-01-01'", "true,false,null,false"},
		{"d < t", "true,true,null,true"},
		{"t > '2000-01-01'", "true,false,null,false"},
		{"t = timestamp '2000-01-01 00:00:00'", "false,false,null,true"},
		{"d = date '1969-12-31'", "false,true,null,false"},

		// Sets.
		{"i in (1, 2)", "true,false,null,false"},
		{"i not in (1, null)", "false,null,null,null"},
		{"i in (2.0, 1.0)", "true,false,null,false"},
		{"s in ('Äpfel', '')", "true,true,null,false"},
		{"b in (true)", "true,false,null,true"},
		{"i in (small - 6, 2)", "true,false,null,false"},
		{"f in (0/0)", "false,false,null,false"},

		// Arithmetic.
		{"small + 1", "8,-6,null,1"},
		{"small * half", "0.7000000104308128,-17.5,null,-0"},
		{"small / 2", "3.5,-3.5,null,0"},
		{"small // 2", "3,-3,null,0"},
		{"small % 4", "3,-3,null,0"},
		{"-7 // 2", "-3,-3,-3,-3"},
		{"f // 1", "1,-2,null,0"},
		{"- small", "-7,7,null,0"},
		{"--small", "7,-7,null,0"},
		{"-9223372036854775808", "-9223372036854775808,-9223372036854775808,-9223372036854775808,-9223372036854775808"},
		{"1 + 2 * 3 - 4 / 2", "5,5,5,5"},
		{"(1 + 2) * 3", "9,9,9,9"},
		{"10 - 3 - 2", "5,5,5,5"},
		{"1e3 + .5", "1000.5,1000.5,1000.5,1000.5"},

		// Functions of numbers.
		{"abs(small)", "7,7,null,0"},
		{"abs(f)", "1.5,2.5,null,0"},
		{"floor(f)", "1,-3,null,0"},
		{"ceil(f)", "2,-2,null,0"},
		{"round(f)", "2,-3,null,0"},
		{"round(f * 1.11, 1)", "1.7,-2.8,null,0"},
		{"round(1234.5, -2)", "1200,1200,1200,1200"},
		{"sqrt(f + 2.5)", "2,0,null,1.5811388300841898"},
		{"is_nan(sqrt(f))", "false,true,null,false"},
		{"pow(small, 2)", "49,49,null,0"},
		{"exp(0 * f) + ln(1) + log10(10)", "2,2,null,2"},
		{"least(small, 0)", "0,-7,0,0"},
		{"greatest(f, small, null)", "7,-2.5,null,0"},
		{"greatest(d, '2000-01-01')", "2024-02-29,2000-01-01,2000-01-01,2000-01-01"},

		// Texts.
		{"lower(s)", "äpfel,,null,a%b_c"},
		{"upper(s)", "ÄPFEL,,null,A%B_C"},
		{"length(s)", "5,0,null,5"},
		{"trim('  x ') || s", "xÄpfel,x,null,xa%b_c"},
		{"concat(s, '-', small)", "Äpfel-7,--7,-,a%b_c-0"},
		{"s || small", "Äpfel7,-7,null,a%b_c0"},
		{"contains(s, 'b_')", "false,false,null,true"},
		{"starts_with(s, 'Ä') or ends_with(s, 'c')", "true,false,null,true"},
		{"replace(s, 'p', 'PP')", "ÄPPfel,,null,a%b_c"},
		{"replace(s, '', 'x')", "Äpfel,,null,a%b_c"},
		{"substring(s, 2, 2)", "pf,,null,%b"},
		{"substring(s, 4)", "el,,null,_c"},
		{"substring(s, 0, 2)", "Ä,,null,a"},
		{"s like '_pf%'", "true,false,null,false"},
		{"s not like '%'", "false,false,null,false"},
		{"s like 'a%c'", "false,false,null,true"},
		{"'it''s'", "it's,it's,it's,it's"},

		// Choices.
		{"coalesce(s, 'none')", "Äpfel,,none,a%b_c"},
		{"coalesce(null, i, 0) > 5", "false,false,false,true"},
		{"coalesce(small, f)", "7,-7,null,0"},
		{"if(b, 'yes', 'no')", "yes,no,no,yes"},
		{"if(i > 0, small, f)", "7,-2.5,null,0"},
		{"nullif(small, 0)", "7,-7,null,null"},
		{"case when small > 0 then 'p' when small < 0 then 'n' end", "p,n,null,null"},
		{"case when b then d else null end", "2024-02-29,null,null,1900-03-01"},
		{"case when b is null then b else not b end", "false,true,null,false"},

		// Casts.
		{"cast(f as string)", "1.5,-2.5,null,0"},
		{"cast(half as string)", "0.1,2.5,null,-1"},
		{"cast(b as int64) + 1", "2,1,null,2"},
		{"cast(small as float32)", "7,-7,null,0"},
		{"cast('12' as int32)", "12,12,12,12"},
		{"cast(d as timestamp) < t", "true,true,null,true"},
		{"cast(d as string)", "2024-02-29,1969-12-31,null,1900-03-01"},
		{"cast(null as date)", "null,null,null,null"},

		// Parts.
		{"year(d)", "2024,1969,null,1900"},
		{"month(t)", "2,12,null,1"},
		{"day(d)", "29,31,null,1"},
		{"dayofweek(d)", "4,3,null,4"},
		{"hour(t) * 10000 + minute(t) * 100 + second(t)", "131415,235959,null,0"},

		// What is not needed is no error.
		{"small <> 0 and 10 % small = 3", "true,true,null,false"},
		{"small = 0 or 10 % small = 3", "true,true,null,true"},
		{"if(small = 0, 0, 10 % small)", "3,3,null,0"},
		{"case when small = 0 then 2 when b is null then 3 else 10 // small end", "1,-1,3,2"},
	} {
		values, _, err := evaluate(t, c.text, record)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if got := strings.Join(values, ","); got != c.want {
			t.Errorf("%s: %s, expected %s", c.text, got, c.want)
		}
	}
}

func TestTypes(t *testing.T) {
	record := table(t, memory.DefaultAllocator)
	defer record.Release()
	for text, want := range map[string]string{
		"small": "int32", "half": "float32", "list": "list<item: int64, nullable>", "small + 1": "int64", "half * 2": "float64", "i / 2": "float64",
		"coalesce(small, small)": "int32", "coalesce(half, 0)": "float64", "cast(f as float32)": "float32", "nullif(half, 0)": "float32",
		"least(small, small)": "int32", "if(b, null, half)": "float32", "d": "date32", "t": "timestamp[us]", "coalesce(d, t)": "timestamp[us]",
	} {
		_, typ, err := evaluate(t, text, record)
		if err != nil || typ.String() != want {
			t.Errorf("%s: %v (%v), expected %s", text, typ, err, want)
		}
	}
}

func TestMistakes(t *testing.T) {
	record := table(t, memory.DefaultAllocator)
	defer record.Release()
	for _, c := range []struct{ text, want string }{
		{"", "the expression is empty"},
		{"i >", "at character 4: the expression ends too early"},
		{"i > > 2", `at character 5: ">" does not fit here`},
		{"i ^ 2", "at character 3: '^' means nothing here"},
		{"s = 'abc", "at character 5: the text that begins here does not end"},
		{`"fixed`, "at character 1: the quoted name that begins here does not end"},
		{"ä + nosuch", `at character 1: column "ä" does not exist`},
		{"i + nosuch", `at character 5: column "nosuch" does not exist`},
		{"i + s", `at character 3: "+" calculates with numbers, found column "s", which is string; texts are joined by "||"`},
		{"s > 1", `at character 5: ">" cannot put int64 beside column "s", which is string`},
		{"d > 'soon'", `at character 5: "soon" is no timestamp like 2026-01-31 12:00:00`},
		{"not i", `at character 5: not wants true or false, found column "i", which is int64`},
		{"b and 1", `at character 7: and wants true or false, found int64`},
		{"lower(i)", `at character 7: lower wants a text, found column "i", which is int64`},
		{"lower()", "at character 1: lower takes 1 value, found 0: lower(text): in lower case"},
		{"min(i, 2)", `at character 1: there is no function "min"; use least(a, b, …); min over all rows is not possible in a step`},
		{"lowr(s)", `at character 1: there is no function "lowr"`},
		{"cast(i as number)", `at character 11: "number" is not a type`},
		{"cast(d as int64)", `at character 1: cast to int64 does not take column "d", which is date`},
		{"list = list", `"=" does not take column "list"`},
		{"null", "null has no type"},
		{"9223372036854775808", "does not fit int64"},
		{"1e999", "does not fit float64"},
		{"a and or", `"or" does not fit here; a column of that name is written in double quotes`},
		{strings.Repeat("(", 101) + "i" + strings.Repeat(")", 101), "nested deeper than 100"},
		{strings.Repeat("not ", 101) + "b", "nested deeper than 100"},
		{strings.Repeat("i", expression.MaxBytes+1), "at most 10000 are allowed"},
		{"i = \xff", "not UTF-8"},
		{"hour(d)", "hour wants a timestamp"},
	} {
		_, _, err := evaluate(t, c.text, record)
		var mistake *expression.Error
		if !errors.As(err, &mistake) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40s: %v, expected %s", c.text, err, c.want)
		}
	}
	x, err := expression.Parse("i + 1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.BindCondition(record.Schema()); err == nil || !strings.Contains(err.Error(), "true or false, found int64") {
		t.Errorf("a number is a condition: %v", err)
	}
}

func TestRowErrors(t *testing.T) {
	record := table(t, memory.DefaultAllocator)
	defer record.Release()
	for _, c := range []struct {
		text, want string
		row        int64
	}{
		{"1 + i", "1 + 9223372036854775807 does not fit int64", 3},
		{"i - 1", "-9223372036854775808 - 1 does not fit int64", 1},
		{"i * 2", "-9223372036854775808 * 2 does not fit int64", 1},
		{"i // small", "9223372036854775807 // 0 divides by zero", 3},
		{"i // -1", "-9223372036854775808 // -1 does not fit int64", 1},
		{"5 % small", "5 % 0 divides by zero", 3},
		{"-i", "the negative of -9223372036854775808 does not fit int64", 1},
		{"abs(i)", "the negative of", 1},
		{"cast(f as int64)", "value 1.5 does not fit int64 exactly", 0},
		{"cast(i as int32)", "value -9223372036854775808 does not fit int32 exactly", 1},
		{"cast(i as float64)", "value 9223372036854775807 does not fit float64 exactly", 3},
		{"cast(s as float64)", `value "Äpfel" is not a valid float64`, 0},
		{"cast(t as date)", "value 2024-02-29T13:14:15.5 does not fit date exactly", 0},
		{"substring(s, 1, small)", "the length -7 of a substring is negative", 1},
		{"1 // 0", "divides by zero", 0},
		{"if(b, i, i - 1)", "-9223372036854775808 - 1 does not fit int64", 1},
		{"small = 0 and 10 % small = 3", "10 % 0 divides by zero", 3},
	} {
		_, _, err := evaluate(t, c.text, record)
		var row *expression.RowError
		if !errors.As(err, &row) || row.Row != c.row || !strings.Contains(row.Message, c.want) {
			t.Errorf("%s: %v, expected row %d: %s", c.text, err, c.row, c.want)
		}
	}
	// One evaluator goes on after an error.
	x, _ := expression.Parse("10 % small")
	bound, err := x.BindValue(record.Schema())
	if err != nil {
		t.Fatal(err)
	}
	e := bound.NewEvaluator(memory.DefaultAllocator)
	if _, err := e.Evaluate(record); err == nil {
		t.Error("a division by zero passed")
	}
	good := record.NewSlice(0, 2)
	defer good.Release()
	column, err := e.Evaluate(good)
	if err != nil {
		t.Fatal(err)
	}
	defer column.Release()
	if got := column.String(); got != "[3 3]" {
		t.Errorf("%s, expected [3 3]", got)
	}
}

func TestWideColumns(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "u", Type: arrow.PrimitiveTypes.Uint64, Nullable: true},
		{Name: "ns", Type: &arrow.TimestampType{Unit: arrow.Nanosecond}, Nullable: true},
	}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	b.Field(0).(*array.Uint64Builder).AppendValues([]uint64{1, math.MaxUint64, 3}, []bool{true, true, false})
	b.Field(1).(*array.TimestampBuilder).AppendValues([]arrow.Timestamp{1000, 1001, 2000}, nil)
	record := b.NewRecord()
	defer record.Release()
	for text, want := range map[string]string{
		"u + 1":    `row 1 of the record batch: at character 1 of the expression: the value 18446744073709551615 of column "u" does not fit int64`,
		"year(ns)": "row 1 of the record batch", "u = 1 and year(ns) = 1970 or true": `column "u" does not fit`,
	} {
		if _, _, err := evaluate(t, text, record); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, expected %s", text, err, want)
		}
	}
	values, typ, err := evaluate(t, "ns", record)
	if err != nil || typ.String() != "timestamp[ns]" || len(values) != 3 {
		t.Errorf("a column as it is: %v %v %v", values, typ, err)
	}
}

func TestSelection(t *testing.T) {
	record := table(t, memory.DefaultAllocator)
	defer record.Release()
	x, err := expression.Parse("small <> 0 and not is_null(f)")
	if err != nil {
		t.Fatal(err)
	}
	bound, err := x.BindCondition(record.Schema())
	if err != nil {
		t.Fatal(err)
	}
	s, err := bound.NewEvaluator(memory.DefaultAllocator).Select(record)
	if err != nil {
		t.Fatal(err)
	}
	if s.Len() != 4 || s.Count() != 2 || s.Row(0) != 0 || s.Row(1) != 1 || s.Row(2) != -1 || s.Row(-1) != -1 {
		t.Errorf("%d of %d rows: %d, %d, %d", s.Count(), s.Len(), s.Row(0), s.Row(1), s.Row(2))
	}
}
