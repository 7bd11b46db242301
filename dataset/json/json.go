// Package json reads and writes JSON lines: text in UTF-8 with one object a line. It has a reader of its own, which takes objects apart
// where they lie in the block that was read and knows by the columns what comes next.
//
// The format is RFC 8259, one object a line, lines ended by LF or CRLF:
//
//   - A byte order mark at the beginning of a file and empty lines are skipped.
//   - Every line is checked as a whole, whichever columns are asked for: grammar, UTF-8, escapes, pairs of surrogates. NaN and
//     Infinity, which some writers leave, are no JSON.
//   - A key twice in an object is an error. A key that a line lacks is a null, as is the value null.
//   - Values are booleans, numbers, texts, or lists of numbers. Other lists and objects in a column are an error that names it.
//
// Values of a column are then
//
//	bool       true, false
//	int32/64   numbers without fraction and exponent
//	float32/64 numbers; the result is the nearest float, one beyond the range is an error
//	date       texts such as 2006-01-02
//	timestamp  texts such as 2006-01-02T15:04:05.000000Z; see text.ParseTimestamp
//	text       texts; if the column was declared to be text also numbers, true, and false, as they stand in the file
//	list       lists of numbers and null, as float64
package json

import (
	"slices"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
)

const (
	opRead  = "read json"
	opPlan  = "plan json"
	opWrite = "write json"

	// DefaultMaxLineBytes stands for a zero Options.MaxLineBytes.
	DefaultMaxLineBytes = 16 << 20
	// DefaultSplitBytes stands for a zero dataset.PlanOptions.TargetSplitBytes.
	DefaultSplitBytes = 64 << 20

	maxMaxLineBytes = 1 << 30
	// maxDepth bounds how deep values lie in each other.
	maxDepth = 64
	// maxKeys bounds the columns that the samples of a source may give.
	maxKeys = 100_000
)

// listType is the type of lists of numbers.
var listType = arrow.ListOf(arrow.PrimitiveTypes.Float64)

// Column declares one column.
type Column struct {
	// Name is the column's key. Required.
	Name string
	// Type is bool, int32, int64, float32, float64, utf8, date32, or timestamp in microseconds without a zone. Nil means that it is
	// inferred.
	Type arrow.DataType
}

// Options is what is known of the files. The zero value infers everything.
type Options struct {
	// Columns declares columns.
	Columns []Column
	// IgnoreUnknown passes over keys that are no column. The columns are then those declared or, if none is, those of the samples.
	// Otherwise such a key is an error.
	IgnoreUnknown bool
	// MaxLineBytes bounds one line, and the memory that a broken file can take. Zero means 16 MiB; at most 1 GiB.
	MaxLineBytes int
}

// Validate says what is wrong with the options, as an error of kind engine.KindInvalidArgument.
func (o Options) Validate() error {
	fail := func(format string, args ...any) error {
		return engine.Errorf(engine.KindInvalidArgument, "json options", "", format, args...)
	}
	if o.MaxLineBytes < 0 || o.MaxLineBytes > maxMaxLineBytes {
		return fail("max line bytes is %d: use 1 to %d, or 0 for %d", o.MaxLineBytes, maxMaxLineBytes, DefaultMaxLineBytes)
	}
	seen := map[string]bool{}
	for i, column := range o.Columns {
		switch {
		case column.Name == "":
			return fail("column %d has no name", i+1)
		case seen[column.Name]:
			return fail("column %q is declared twice", column.Name)
		case column.Type != nil && kindOf(column.Type) == kindSkip:
			return fail("column %q: json has no values of type %s", column.Name, dataset.TypeName(column.Type))
		}
		seen[column.Name] = true
	}
	return nil
}

// Source reads JSON lines. It implements dataset.Source and is safe for concurrent use.
type Source struct {
	options      Options
	declared     map[string]arrow.DataType
	maxLineBytes int
	// How much is read at once. Tests make them small.
	blockBytes, sampleBytes int
}

var _ dataset.Source = (*Source)(nil)

// New returns a source, or what Validate says of the options.
func New(options Options) (*Source, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	options.Columns = slices.Clone(options.Columns)
	s := &Source{
		options: options, declared: map[string]arrow.DataType{}, maxLineBytes: options.MaxLineBytes,
		blockBytes: blockBytes, sampleBytes: sampleBytes,
	}
	for _, column := range options.Columns {
		if column.Type != nil {
			s.declared[column.Name] = column.Type
		}
	}
	if s.maxLineBytes == 0 {
		s.maxLineBytes = DefaultMaxLineBytes
	}
	return s, nil
}
