package union

import (
	"context"
	"errors"
	"io"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
)

const opRead = "read union"

// missing is the place of a column that a file does not have.
const missing = -1

// source is where a column comes from.
type source struct {
	place int // in the file's record batches
	widen widen
}

// reader adds the columns that a file lacks, and widens others. It implements dataset.Reader.
type reader struct {
	// Constant.
	path    string
	file    dataset.Reader
	options dataset.ReadOptions
	schema  *arrow.Schema
	columns []source

	whole arrow.Record // what is left to cut: its rows from next on; nil if there is none
	next  int64
	first int64 // the row of whole with which the last record batch began
	// nulls are as many as were needed so far, by the place of their column.
	nulls map[int]arrow.Array
}

// Read implements dataset.Reader.
func (r *reader) Read(ctx context.Context) (arrow.Record, error) {
	if r.whole == nil || r.next == r.whole.NumRows() {
		r.drop()
		record, err := r.file.Read(ctx)
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil, io.EOF
			}
			return nil, err
		}
		defer record.Release()
		if r.whole, err = r.complete(record); err != nil {
			return nil, err
		}
	}
	// With more columns, the bytes of a record batch may be reached by fewer rows.
	rows := dataset.BatchRowsWithin(r.whole, r.next, r.options.BatchRows, r.options.BatchBytes)
	r.first = r.next
	r.next += rows
	return r.whole.NewSlice(r.first, r.next), nil
}

// complete makes a record batch of the table out of one of the file.
func (r *reader) complete(record arrow.Record) (arrow.Record, error) {
	columns := make([]arrow.Array, 0, len(r.columns))
	defer func() {
		for _, c := range columns {
			c.Release()
		}
	}()
	for i, s := range r.columns {
		switch {
		case s.place == missing:
			columns = append(columns, r.null(i, int(record.NumRows())))
		case s.widen == nil:
			column := record.Column(s.place)
			column.Retain()
			columns = append(columns, column)
		default:
			column, bad := s.widen(record.Column(s.place), r.options.Allocator)
			if bad >= 0 {
				return nil, engine.Errorf(engine.KindData, opRead, r.file.Where(int64(bad)), "column %q: %d is no exact float64, which the column is in other files",
					r.schema.Field(i).Name, record.Column(s.place).(*array.Int64).Value(bad)).WithHint("cast the column in those files, or leave union out")
			}
			columns = append(columns, column)
		}
	}
	return array.NewRecord(r.schema, columns, record.NumRows()), nil
}

// null returns so many nulls of a column, which the caller releases.
func (r *reader) null(column, rows int) arrow.Array {
	have := r.nulls[column]
	if have == nil || have.Len() < rows {
		if have != nil {
			have.Release()
		}
		b := array.NewBuilder(r.options.Allocator, r.schema.Field(column).Type)
		defer b.Release()
		b.Reserve(rows)
		for range rows {
			b.AppendNull()
		}
		have = b.NewArray()
		if r.nulls == nil {
			r.nulls = map[int]arrow.Array{}
		}
		r.nulls[column] = have
	}
	return array.NewSlice(have, 0, int64(rows))
}

func (r *reader) drop() {
	if r.whole != nil {
		r.whole.Release()
	}
	r.whole, r.next, r.first = nil, 0, 0
}

// Where implements dataset.Reader.
func (r *reader) Where(row int64) string { return r.file.Where(r.first + row) }

// Mark implements dataset.Marker.
func (r *reader) Mark() dataset.Locator { return dataset.MarkFrom(r.file, r.first) }

// BytesRead implements dataset.Reader.
func (r *reader) BytesRead() int64 { return r.file.BytesRead() }

// Close implements dataset.Reader.
func (r *reader) Close() error {
	r.drop()
	for _, nulls := range r.nulls {
		nulls.Release()
	}
	r.nulls = nil
	return r.file.Close()
}

// widen returns a column in another type, which the caller releases, and -1, or the row whose value that type does not have.
type widen func(column arrow.Array, allocator memory.Allocator) (arrow.Array, int)

// maxExact is up to where all integers are float64s.
const maxExact = 1 << 53

// widening returns how values of a type become those of a wider one, or nil if they need not or cannot.
func widening(have, want arrow.DataType) widen {
	switch [2]arrow.Type{have.ID(), want.ID()} {
	case [2]arrow.Type{arrow.INT32, arrow.INT64}:
		return widened((*array.Int32).Int32Values, func(v int32) (int64, bool) { return int64(v), true }, array.NewInt64Builder)
	case [2]arrow.Type{arrow.INT32, arrow.FLOAT64}:
		return widened((*array.Int32).Int32Values, func(v int32) (float64, bool) { return float64(v), true }, array.NewFloat64Builder)
	case [2]arrow.Type{arrow.FLOAT32, arrow.FLOAT64}:
		return widened((*array.Float32).Float32Values, func(v float32) (float64, bool) { return float64(v), true }, array.NewFloat64Builder)
	case [2]arrow.Type{arrow.INT64, arrow.FLOAT64}:
		return widened((*array.Int64).Int64Values, func(v int64) (float64, bool) {
			return float64(v), -maxExact <= v && v <= maxExact || int64(float64(v)) == v && v != 1<<63-1
		}, array.NewFloat64Builder)
	}
	return nil
}

// builder is what the builders of numbers have in common.
type builder[T any] interface {
	array.Builder
	UnsafeAppend(value T)
}

func widened[A arrow.Array, From, To any, B builder[To]](values func(A) []From, convert func(From) (To, bool), newBuilder func(memory.Allocator) B) widen {
	return func(column arrow.Array, allocator memory.Allocator) (arrow.Array, int) {
		b := newBuilder(allocator)
		defer b.Release()
		b.Reserve(column.Len())
		for row, v := range values(column.(A)) {
			if column.IsNull(row) {
				b.AppendNull()
				continue
			}
			wide, ok := convert(v)
			if !ok {
				return nil, row
			}
			b.UnsafeAppend(wide)
		}
		return b.NewArray(), -1
	}
}
