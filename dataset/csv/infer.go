package csv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset/text"
)

// sampleBytes is how much of the first file is looked at to infer types: as many rows as lie in it, and the first row in any case.
// Of the other files it is headBytes.
const sampleBytes = 1 << 20

// candidates is a set of types that a column may have.
type candidates uint8

const (
	maybeBool candidates = 1 << iota
	maybeInt64
	maybeFloat64
	maybeDate
	maybeTimestamp
	maybeAll = 1<<iota - 1
)

// inferred lists the types in the order in which they are preferred.
var inferred = []struct {
	candidate candidates
	kind      kind
	dataType  arrow.DataType
}{
	{maybeBool, kindBool, arrow.FixedWidthTypes.Boolean},
	{maybeInt64, kindInt64, arrow.PrimitiveTypes.Int64},
	{maybeFloat64, kindFloat64, arrow.PrimitiveTypes.Float64},
	{maybeDate, kindDate, arrow.FixedWidthTypes.Date32},
	{maybeTimestamp, kindTimestamp, &arrow.TimestampType{Unit: arrow.Microsecond}},
}

// evidence is what a sample says of one column.
type evidence struct {
	known    arrow.DataType // not to be inferred
	possible candidates
	seen     bool // a value that is not null
	why      string
}

func (e *evidence) add(f field, n *nulls) {
	if e.possible == 0 {
		return
	}
	value := trim(f.text)
	if n.is(value, f.quoted, false) {
		return
	}
	e.seen = true
	if e.possible&maybeBool != 0 {
		if _, ok := parseBoolWord(value); !ok {
			e.possible &^= maybeBool
		}
	}
	for _, t := range inferred[1:] {
		if e.possible&t.candidate != 0 && !t.kind.accepts(value) {
			e.possible &^= t.candidate
		}
	}
	if e.possible&(maybeInt64|maybeFloat64) == maybeFloat64 && len(value) >= 19 {
		// An integer beyond int64 is a name rather than a measure, and a float64 would change it.
		if d, end := scanDecimal(value, 0); end == len(value) && d.integer {
			if _, ok := parseInt(value); !ok {
				e.possible &^= maybeFloat64
			}
		}
	}
}

// dataType is the column's type: if it is not known, the first that all values have; text if there is none, or no value.
func (e *evidence) dataType() arrow.DataType {
	if e.known != nil {
		return e.known
	}
	if e.seen {
		for _, t := range inferred {
			if e.possible&t.candidate != 0 {
				return t.dataType
			}
		}
	}
	return arrow.BinaryTypes.String
}

// accepts reports whether a text, trimmed, is a value of the kind.
func (k kind) accepts(b []byte) bool {
	var ok bool
	switch k {
	case kindBool:
		_, ok = parseBool(b)
	case kindInt32:
		var v int64
		v, ok = parseInt(b)
		ok = ok && int64(int32(v)) == v
	case kindInt64:
		_, ok = parseInt(b)
	case kindFloat32:
		_, ok = parseFloat32(b)
	case kindFloat64:
		_, ok = parseFloat(b)
	case kindDate:
		_, ok = text.ParseDate(b)
	case kindTimestamp:
		_, ok = text.ParseTimestamp(b)
	case kindSkip, kindText:
		ok = true
	}
	return ok
}

// sample collects evidence of the columns of several files, and sees that they have the same columns.
type sample struct {
	bytes int // how much of the next file is looked at
	// known returns the type of a column that need not be inferred, or nil.
	known func(name string) arrow.DataType
	// names and columns are in the order of the first file. Nil until the number of columns is known.
	names   []string
	columns []evidence
	first   string // the file whose header gave the names
	settled bool   // all types are known
	rows    int    // that were looked at
}

func (s *sample) setColumns(names []string) {
	s.settled = true
	s.add(names)
}

// add adds columns.
func (s *sample) add(names []string) {
	for _, name := range names {
		c := evidence{known: s.known(name)}
		if c.known == nil {
			c.possible, s.settled = maybeAll, false
		}
		s.names, s.columns = append(s.names, name), append(s.columns, c)
	}
}

// unknown returns those of names that are no columns.
func (s *sample) unknown(names []string) []string {
	known := make(map[string]bool, len(s.names))
	for _, name := range s.names {
		known[name] = true
	}
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return known[name] })
}

// take looks at the rows from pos on of a file with the header names, or none. Rows that have a flaw, or another number of fields, are
// left to the reader to complain of, unless it is the row that tells the number of columns.
func (s *sample) take(ctx context.Context, h *headReader, pos int, names []string) error {
	var places []int
	switch {
	case names == nil:
	case s.names == nil:
		s.setColumns(names)
		s.first = h.info.Path
	default:
		if h.source.options.Union {
			s.add(s.unknown(names))
		}
		var err error
		if places, err = matchHeader(h.op, h.info.Path, s.first, s.names, names, h.source.options.Union); err != nil {
			var e *engine.Error
			if errors.As(err, &e) {
				err = e.WithHint("source.csv.union: true reads files of different columns")
			}
			return err
		}
	}
	var fields []field
	for first := true; !s.settled && pos < h.end; {
		width := len(s.columns) // of the file
		if places != nil {
			width = len(places)
		}
		if n := blank(h.b, pos, h.end); n > 0 && width != 1 {
			pos += n
			continue
		}
		var next int
		var flaw flaw
		fields, next, flaw = h.source.dialect.row(h.b, pos, h.end, fields[:0])
		if flaw == flawMore && !first {
			return nil
		}
		if flaw != flawNone {
			var err error
			if fields, next, err = h.row(ctx, pos, width <= 1); err != nil {
				if s.columns != nil && s.rows > 0 && ctx.Err() == nil {
					return nil
				}
				return err
			}
		}
		if s.columns == nil {
			width = len(fields)
			s.setColumns(defaultNames(width))
		}
		start := pos
		pos, first = next, false
		if len(fields) != width {
			continue
		}
		s.rows++
		for i, f := range fields {
			if places != nil {
				i = places[i]
			}
			c := &s.columns[i]
			before := c.possible
			if c.add(f, &h.source.nulls); c.possible == 0 && before != 0 && before != maybeAll {
				c.why = fmt.Sprintf("%s in %s:%d", shown(f.text), h.info.Path, 1+bytes.Count(h.b[:start], []byte{'\n'}))
			}
		}
	}
	if s.columns == nil {
		return engine.Errorf(engine.KindData, h.op, h.info.Path, "file has no row that tells the number of columns").
			WithHint("declare the columns")
	}
	return nil
}
