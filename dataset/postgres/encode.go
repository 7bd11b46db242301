package postgres

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/f708428e/engine"
)

// encoder appends the value of a row, which is not null, in the form of COPY in binary, without its length.
type encoder func(to []byte, row int) ([]byte, error)

// binder makes the encoder of a column of one record batch.
type binder func(values arrow.Array) (encoder, error)

// written is how a column of the output is written into the table.
type written struct {
	binder
	// filled says that the table's column has no nulls.
	filled bool
}

// column is a column of a table that is written.
type column struct {
	name string
	// oid and modifier are its type, of a domain those of what it is made of; element is that of an array's elements, else zero.
	oid, element uint32
	modifier     int32
	// typeName is how SQL spells it, bare its name alone.
	typeName, bare string
	// category is 'S' of texts, 'E' of enumerations.
	category string
	// filled says that it has no nulls, which no trigger fills in.
	filled bool
	// required says that it has to be given: not null, and without a default. generated says that it must not be given.
	required, generated bool
}

// appendValue appends the value of a row with its length, or a null.
func appendValue(to []byte, values arrow.Array, encode encoder, row int) ([]byte, error) {
	if values.IsNull(row) {
		return append(to, 0xff, 0xff, 0xff, 0xff), nil
	}
	at := len(to)
	to, err := encode(append(to, 0, 0, 0, 0), row)
	if err != nil {
		return nil, err
	}
	n := len(to) - at - 4
	if n > math.MaxInt32 {
		return nil, refused("a value has %d bytes, which is more than Postgres takes", n)
	}
	binary.BigEndian.PutUint32(to[at:], uint32(n)) //nolint:gosec // Checked above.
	return to, nil
}

// newBinder returns how to write values of a type into a column, or false if that cannot be done without loss.
func newBinder(t arrow.DataType, c column) (binder, bool) {
	switch t := t.(type) {
	case *arrow.BooleanType:
		return bind(func(a *array.Boolean) encoder {
			return func(to []byte, row int) ([]byte, error) {
				if a.Value(row) {
					return append(to, 1), nil
				}
				return append(to, 0), nil
			}
		}), c.oid == pgtype.BoolOID
	case *arrow.Int8Type, *arrow.Int16Type, *arrow.Int32Type, *arrow.Int64Type, *arrow.Uint8Type, *arrow.Uint16Type, *arrow.Uint32Type, *arrow.Uint64Type:
		return integerBinder(t, c)
	case *arrow.Float32Type:
		return floatBinder(func(a *array.Float32) func(int) float64 {
			return func(row int) float64 { return float64(a.Value(row)) }
		}, 32, c)
	case *arrow.Float64Type:
		return floatBinder(func(a *array.Float64) func(int) float64 { return a.Value }, 64, c)
	case *arrow.StringType:
		return textBinder(func(a *array.String) func(int) string { return a.Value }, c)
	case *arrow.LargeStringType:
		return textBinder(func(a *array.LargeString) func(int) string { return a.Value }, c)
	case *arrow.BinaryType:
		return bind(func(a *array.Binary) encoder {
			return func(to []byte, row int) ([]byte, error) { return append(to, a.Value(row)...), nil }
		}), c.oid == pgtype.ByteaOID
	case *arrow.Date32Type:
		return bind(func(a *array.Date32) encoder {
			return func(to []byte, row int) ([]byte, error) {
				days := int64(a.Value(row)) - epochDays
				if days < math.MinInt32+1 {
					return nil, refused("the date is before those that Postgres has")
				}
				return binary.BigEndian.AppendUint32(to, uint32(int32(days))), nil //nolint:gosec // Checked above.
			}
		}), c.oid == pgtype.DateOID
	case *arrow.TimestampType:
		return bind(func(a *array.Timestamp) encoder {
			return func(to []byte, row int) ([]byte, error) {
				micros, err := microseconds(int64(a.Value(row)), t.Unit)
				if err != nil {
					return nil, err
				}
				return binary.BigEndian.AppendUint64(to, uint64(micros)), nil //nolint:gosec // Its bits.
			}
		}), t.TimeZone == "" && c.oid == pgtype.TimestampOID || t.TimeZone != "" && c.oid == pgtype.TimestamptzOID
	case *arrow.Decimal128Type:
		return bind(func(a *array.Decimal128) encoder {
			return func(to []byte, row int) ([]byte, error) { return appendNumeric(to, a.Value(row).ToString(t.Scale)) }
		}), c.oid == pgtype.NumericOID
	case *arrow.FixedSizeListType:
		if c.bare == vectorType && t.Elem().ID() == arrow.FLOAT32 {
			return bind(encodeVector), c.modifier < 0 || c.modifier == t.Len()
		}
		return listBinder(t.Elem(), c)
	case *arrow.ListType:
		return listBinder(t.Elem(), c)
	default:
		return nil, false
	}
}

// bind makes a binder of what works on one type of array.
func bind[A arrow.Array](of func(A) encoder) binder {
	return func(values arrow.Array) (encoder, error) {
		a, ok := values.(A)
		if !ok {
			return nil, engine.Errorf(engine.KindInternal, opWrite, "", "an array of type %s, expected %T", values.DataType(), a)
		}
		return of(a), nil
	}
}

// integerBits are the types of whole numbers and their sizes, and whether they are signed.
var integerBits = map[arrow.Type]int{
	arrow.INT8: 8, arrow.INT16: 16, arrow.INT32: 32, arrow.INT64: 64, arrow.UINT8: 9, arrow.UINT16: 17, arrow.UINT32: 33, arrow.UINT64: 65,
}

func integerBinder(t arrow.DataType, c column) (binder, bool) {
	bits := integerBits[t.ID()]
	var write func(to []byte, n int64) []byte
	ok := false
	switch c.oid {
	case pgtype.Int2OID:
		ok = bits <= 16
		write = func(to []byte, n int64) []byte { return binary.BigEndian.AppendUint16(to, uint16(n)) } //nolint:gosec // It fits.
	case pgtype.Int4OID:
		ok = bits <= 32
		write = func(to []byte, n int64) []byte { return binary.BigEndian.AppendUint32(to, uint32(n)) } //nolint:gosec // It fits.
	case pgtype.Int8OID:
		ok = bits <= 64
		write = func(to []byte, n int64) []byte { return binary.BigEndian.AppendUint64(to, uint64(n)) } //nolint:gosec // Its bits.
	case pgtype.Float8OID:
		ok = bits <= 33
		write = func(to []byte, n int64) []byte {
			return binary.BigEndian.AppendUint64(to, math.Float64bits(float64(n)))
		}
	case pgtype.NumericOID:
		return func(values arrow.Array) (encoder, error) {
			return func(to []byte, row int) ([]byte, error) { return appendNumeric(to, values.ValueStr(row)) }, nil
		}, true
	}
	return func(values arrow.Array) (encoder, error) {
		var value func(int) int64
		switch a := values.(type) {
		case *array.Int8:
			value = func(row int) int64 { return int64(a.Value(row)) }
		case *array.Int16:
			value = func(row int) int64 { return int64(a.Value(row)) }
		case *array.Int32:
			value = func(row int) int64 { return int64(a.Value(row)) }
		case *array.Int64:
			value = a.Value
		case *array.Uint8:
			value = func(row int) int64 { return int64(a.Value(row)) }
		case *array.Uint16:
			value = func(row int) int64 { return int64(a.Value(row)) }
		case *array.Uint32:
			value = func(row int) int64 { return int64(a.Value(row)) }
		default:
			return nil, engine.Errorf(engine.KindInternal, opWrite, "", "an array of type %s, expected whole numbers", values.DataType())
		}
		return func(to []byte, row int) ([]byte, error) { return write(to, value(row)), nil }, nil
	}, ok
}

func floatBinder[A arrow.Array](of func(A) func(int) float64, bits int, c column) (binder, bool) {
	switch {
	case c.oid == pgtype.Float4OID && bits == 32:
		return bind(func(a A) encoder {
			value := of(a)
			return func(to []byte, row int) ([]byte, error) {
				return binary.BigEndian.AppendUint32(to, math.Float32bits(float32(value(row)))), nil
			}
		}), true
	case c.oid == pgtype.Float8OID:
		return bind(func(a A) encoder {
			value := of(a)
			return func(to []byte, row int) ([]byte, error) {
				return binary.BigEndian.AppendUint64(to, math.Float64bits(value(row))), nil
			}
		}), true
	case c.oid == pgtype.NumericOID:
		return bind(func(a A) encoder {
			value := of(a)
			return func(to []byte, row int) ([]byte, error) {
				return appendNumeric(to, strconv.FormatFloat(value(row), 'f', -1, bits))
			}
		}), true
	default:
		return nil, false
	}
}

// modifierOffset is what Postgres adds to the length of a varchar(n) or char(n) in its type modifier.
const modifierOffset = 4

func textBinder[A arrow.Array](of func(A) func(int) string, c column) (binder, bool) {
	isJSONB, isUUID := c.oid == pgtype.JSONBOID, c.oid == pgtype.UUIDOID
	longest := math.MaxInt
	if (c.oid == pgtype.VarcharOID || c.oid == pgtype.BPCharOID) && c.modifier >= modifierOffset {
		longest = int(c.modifier - modifierOffset)
	}
	return bind(func(a A) encoder {
		value := of(a)
		return func(to []byte, row int) ([]byte, error) {
			text := value(row)
			switch {
			case isUUID:
				plain := strings.ReplaceAll(strings.Trim(text, "{}"), "-", "")
				id, err := hex.DecodeString(plain)
				if err != nil || len(id) != 16 {
					return nil, refused("%.50q is not a uuid", text)
				}
				return append(to, id...), nil
			case strings.IndexByte(text, 0) >= 0:
				return nil, refused("the text holds a NUL character, which Postgres does not store")
			case len(text) > longest && utf8.RuneCountInString(strings.TrimRight(text, " ")) > longest:
				return nil, refused("a text of %d characters, which is too long for %s", utf8.RuneCountInString(text), c.typeName)
			case (isJSONB || c.oid == pgtype.JSONOID) && !json.Valid([]byte(text)):
				return nil, refused("%.50q is not JSON", text)
			case isJSONB && badEscape(text):
				return nil, refused("%.50q holds an escape that jsonb does not store: \\u0000, or half of a pair", text)
			case isJSONB:
				to = append(to, 1) // the version of its form
			}
			return append(to, text...), nil
		}
	}), isJSONB || isUUID || c.category == "S" || c.category == "E" || c.oid == pgtype.JSONOID || c.oid == pgtype.XMLOID
}

// badEscape tells whether a JSON text has an escape of a character that is none: NUL, which Postgres does not store, or one half of a surrogate pair.
func badEscape(text string) bool {
	for i := strings.IndexByte(text, '\\'); i >= 0 && i < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		if i++; text[i] != 'u' {
			continue
		}
		code, _ := strconv.ParseUint(text[i+1:i+5], 16, 16) // It is valid JSON.
		i += 4
		switch r := rune(code); { //nolint:gosec // It has 16 bits.
		case r == 0:
			return true
		case utf16.IsSurrogate(r):
			var low uint64
			if rest := text[i+1:]; len(rest) >= 6 && rest[:2] == `\u` {
				low, _ = strconv.ParseUint(rest[2:6], 16, 16)
			}
			if utf16.DecodeRune(r, rune(low)) == utf8.RuneError { //nolint:gosec // It has 16 bits.
				return true
			}
			i += 6
		}
	}
	return false
}

// microseconds turns a timestamp into what Postgres counts, from 2000.
func microseconds(value int64, unit arrow.TimeUnit) (int64, error) {
	micros := value
	switch unit {
	case arrow.Second, arrow.Millisecond:
		factor := int64(1_000_000)
		if unit == arrow.Millisecond {
			factor = 1000
		}
		if micros = value * factor; micros/factor != value {
			return 0, refused("the timestamp is beyond those that Postgres has")
		}
	case arrow.Nanosecond:
		if value%1000 != 0 {
			return 0, refused("the timestamp has nanoseconds, which Postgres does not store")
		}
		micros = value / 1000
	}
	if micros < math.MinInt64+epochMicros+1 {
		return 0, refused("the timestamp is beyond those that Postgres has")
	}
	return micros - epochMicros, nil
}

// encodeVector writes a vector of pgvector.
func encodeVector(a *array.FixedSizeList) encoder {
	length := int(a.DataType().(*arrow.FixedSizeListType).Len())
	values := a.ListValues().(*array.Float32)
	return func(to []byte, row int) ([]byte, error) {
		first, _ := a.ValueOffsets(row)
		to = binary.BigEndian.AppendUint16(to, uint16(length)) //nolint:gosec // pgvector has at most 16,000.
		to = append(to, 0, 0)
		for i := int(first); i < int(first)+length; i++ {
			v := values.Value(i)
			if values.IsNull(i) || v != v || math.IsInf(float64(v), 0) {
				return nil, refused("element %d of the vector is null, NaN, or infinite, which pgvector does not store", i-int(first))
			}
			to = binary.BigEndian.AppendUint32(to, math.Float32bits(v))
		}
		return to, nil
	}
}

// listBinder writes lists as arrays of one dimension.
func listBinder(element arrow.DataType, c column) (binder, bool) {
	of, ok := newBinder(element, column{oid: c.element, modifier: -1, category: elementCategory(c.element)})
	if !ok || c.element == 0 {
		return nil, false
	}
	return func(values arrow.Array) (encoder, error) {
		list, isList := values.(array.ListLike)
		if !isList {
			return nil, engine.Errorf(engine.KindInternal, opWrite, "", "an array of type %s, expected a list", values.DataType())
		}
		elements := list.ListValues()
		encode, err := of(elements)
		if err != nil {
			return nil, err
		}
		return func(to []byte, row int) ([]byte, error) {
			first, end := list.ValueOffsets(row)
			if first == end {
				to = binary.BigEndian.AppendUint32(to, 0)
				to = binary.BigEndian.AppendUint32(to, 0)
				return binary.BigEndian.AppendUint32(to, c.element), nil
			}
			var nulls uint32
			for i := first; i < end; i++ {
				if elements.IsNull(int(i)) {
					nulls = 1
				}
			}
			for _, n := range []uint32{1, nulls, c.element, uint32(end - first), 1} { //nolint:gosec // A list's length.
				to = binary.BigEndian.AppendUint32(to, n)
			}
			var err error
			for i := first; i < end; i++ {
				if to, err = appendValue(to, elements, encode, int(i)); err != nil {
					return nil, engine.WrapError("", fmt.Sprintf("element %d", i-first), err)
				}
			}
			return to, nil
		}, nil
	}, true
}

// elementCategory is the category of the types that elements of arrays may have.
func elementCategory(oid uint32) string {
	switch oid {
	case pgtype.TextOID, pgtype.VarcharOID, pgtype.BPCharOID:
		return "S"
	default:
		return ""
	}
}

// Signs of a numeric.
const (
	numericNegative    = 0x4000
	numericNaN         = 0xC000
	numericInfinite    = 0xD000
	numericNegInfinite = 0xF000
)

// appendNumeric appends a number in decimal notation, NaN, +Inf, or -Inf.
func appendNumeric(to []byte, text string) ([]byte, error) {
	header := func(digits, weight int, sign uint16, scale int) {
		for _, n := range []uint16{uint16(digits), uint16(weight), sign, uint16(scale)} { //nolint:gosec // Numbers have at most 400 digits.
			to = binary.BigEndian.AppendUint16(to, n)
		}
	}
	switch text {
	case "NaN":
		header(0, 0, numericNaN, 0)
		return to, nil
	case "+Inf":
		header(0, 0, numericInfinite, 0)
		return to, nil
	case "-Inf":
		header(0, 0, numericNegInfinite, 0)
		return to, nil
	}
	var sign uint16
	text, negative := strings.CutPrefix(text, "-")
	if negative {
		sign = numericNegative
	}
	whole, fraction, _ := strings.Cut(text, ".")
	scale := len(fraction)
	// Digits come in fours, counted from the point.
	whole = strings.Repeat("0", (4-len(whole)%4)%4) + whole
	fraction += strings.Repeat("0", (4-len(fraction)%4)%4)
	weight := len(whole)/4 - 1
	all := []byte(whole + fraction)
	if len(bytes.Trim(all, "0123456789")) > 0 || len(all) == 0 {
		return nil, engine.Errorf(engine.KindInternal, opWrite, "", "%q is not a number", text)
	}
	for len(all) >= 4 && string(all[:4]) == "0000" {
		all = all[4:]
		weight--
	}
	for len(all) >= 4 && string(all[len(all)-4:]) == "0000" {
		all = all[:len(all)-4]
	}
	if len(all) == 0 {
		weight, sign = 0, 0
	}
	header(len(all)/4, weight, sign, scale)
	for ; len(all) > 0; all = all[4:] {
		n := 1000*uint16(all[0]-'0') + 100*uint16(all[1]-'0') + 10*uint16(all[2]-'0') + uint16(all[3]-'0')
		to = binary.BigEndian.AppendUint16(to, n)
	}
	return to, nil
}

// sqlType is the type of a column that is created. vector is the quoted schema of pgvector, or empty if the database has not got it.
func sqlType(t arrow.DataType, vector string) (string, bool) {
	switch t := t.(type) {
	case *arrow.FixedSizeListType:
		if n := t.Len(); vector != "" && t.Elem().ID() == arrow.FLOAT32 && n >= 1 && n <= maxVector {
			return vector + "." + vectorType + "(" + strconv.Itoa(int(n)) + ")", true
		}
		return arrayType(t.Elem())
	case *arrow.ListType:
		return arrayType(t.Elem())
	case *arrow.TimestampType:
		if t.TimeZone != "" {
			return "timestamp with time zone", true
		}
		return "timestamp without time zone", true
	case *arrow.Decimal128Type:
		return fmt.Sprintf("numeric(%d,%d)", t.Precision, t.Scale), t.Scale >= 0
	}
	name, ok := map[arrow.Type]string{
		arrow.BOOL: "boolean", arrow.INT8: "smallint", arrow.INT16: "smallint", arrow.INT32: "integer", arrow.INT64: "bigint", arrow.UINT8: "smallint",
		arrow.UINT16: "integer", arrow.UINT32: "bigint", arrow.UINT64: "numeric(20,0)", arrow.FLOAT32: "real", arrow.FLOAT64: "double precision",
		arrow.STRING: "text", arrow.LARGE_STRING: "text", arrow.BINARY: "bytea", arrow.DATE32: "date",
	}[t.ID()]
	return name, ok
}

func arrayType(element arrow.DataType) (string, bool) {
	if _, nested := element.(arrow.NestedType); nested {
		return "", false
	}
	name, ok := sqlType(element, "")
	return name + "[]", ok
}

// CheckSchema refuses columns that no table of Postgres can have, or not in this way. The error is of kind engine.KindData.
func CheckSchema(schema *arrow.Schema) error {
	if n := schema.NumFields(); n == 0 || n > maxColumns {
		return engine.Errorf(engine.KindData, opWrite, "", "a table of %d columns, Postgres has between 1 and %d", n, maxColumns)
	}
	for _, f := range schema.Fields() {
		if _, ok := sqlType(f.Type, ""); !ok {
			return engine.Errorf(engine.KindData, opWrite, "", "column %q is of type %s, which is not written to Postgres", f.Name, f.Type).
				WithHint("leave it out with the step select, or change its type with the step cast")
		}
		if len(f.Name) > maxNameBytes || strings.ContainsRune(f.Name, 0) || f.Name == "" {
			return engine.Errorf(engine.KindData, opWrite, "", "%.80q cannot be the name of a column of Postgres: it has 1 to %d bytes", f.Name, maxNameBytes).
				WithHint("give it another name with the step rename")
		}
	}
	return nil
}

// maxColumns is how many columns a table of Postgres may have.
const maxColumns = 1600
