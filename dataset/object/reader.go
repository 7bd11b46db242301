package object

import (
	"context"
	"io"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/objectstore/table"
)

// reader cuts the record batches of a split to the bounds asked for, by slices.
type reader struct {
	id      engine.ObjectID
	opened  *table.Table // nil once closed
	options dataset.ReadOptions
	schema  *arrow.Schema
	// places are the object's columns that are read, in the order of schema.
	places []int
	// next is the record batch that is read next, end the one after the last of the split.
	next, end, first int
	sizeBytes        int64
	// batch is what is left to cut: its rows from start on. nil if there is none.
	batch arrow.Record
	start int64
	// batchRow is the row of the object at which batch begins, lastRow that of the last record returned.
	batchRow, lastRow int64
}

func newReader(id engine.ObjectID, opened *table.Table, split dataset.Split, options dataset.ReadOptions) (*reader, error) {
	r := &reader{
		id: id, opened: opened, options: options, sizeBytes: split.File.SizeBytes,
		next: split.FirstRowGroup, first: split.FirstRowGroup, end: split.FirstRowGroup + split.RowGroups,
	}
	batches := opened.Records()
	if r.first < 0 || r.end < r.first || r.end > len(batches) {
		return nil, engine.Errorf(engine.KindCorrupt, opRead, title(id.String()), "it has %d record batches, planned were those from %d to %d",
			len(batches), r.first, r.end)
	}
	wanted := options.Columns
	if wanted == nil {
		for i := range options.Schema.NumFields() {
			wanted = append(wanted, i)
		}
	}
	fields := make([]arrow.Field, len(wanted))
	for i, column := range wanted {
		f := options.Schema.Field(column)
		places := opened.Schema().FieldIndices(f.Name)
		if len(places) != 1 || !arrow.TypeEqual(PlainType(opened.Schema().Field(places[0]).Type), f.Type) {
			return nil, engine.Errorf(engine.KindCorrupt, opRead, title(id.String()), "its columns are not those that the job was planned with: %q", f.Name)
		}
		fields[i] = f
		r.places = append(r.places, places[0])
	}
	r.schema = arrow.NewSchema(fields, nil)
	for _, b := range batches[:r.first] {
		r.batchRow += b.NumRows()
	}
	return r, nil
}

// Read implements dataset.Reader.
func (r *reader) Read(ctx context.Context) (arrow.Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if r.opened == nil {
		return nil, engine.Errorf(engine.KindInternal, opRead, title(r.id.String()), "read after close")
	}
	for r.batch == nil || r.start == r.batch.NumRows() {
		r.drop()
		if r.next == r.end {
			return nil, io.EOF
		}
		if err := r.load(ctx, r.opened.Records()[r.next]); err != nil {
			return nil, engine.WrapError(opRead, title(r.id.String()), err)
		}
		r.next++
	}
	rows := dataset.BatchRowsWithin(r.batch, r.start, r.options.BatchRows, r.options.BatchBytes)
	cut := r.batch.NewSlice(r.start, r.start+rows)
	r.lastRow = r.batchRow + r.start
	r.start += rows
	return cut, nil
}

// load makes a record batch of the object the one that is cut.
func (r *reader) load(ctx context.Context, whole arrow.Record) error {
	columns := make([]arrow.Array, len(r.places))
	defer func() {
		for _, c := range columns {
			if c != nil {
				c.Release()
			}
		}
	}()
	for i, place := range r.places {
		var err error
		if columns[i], err = Plain(ctx, whole.Column(place), r.options.Allocator); err != nil {
			return err
		}
	}
	r.batch = array.NewRecord(r.schema, columns, whole.NumRows())
	return nil
}

// drop goes on behind the present record batch.
func (r *reader) drop() {
	if r.batch != nil {
		r.batchRow += r.batch.NumRows()
		r.batch.Release()
	}
	r.batch, r.start = nil, 0
}

// Where names the object and the row in it, from 0.
func (r *reader) Where(row int64) string { return where(r.id, r.lastRow+row) }

// BytesRead counts an object's bytes evenly over its record batches, so that the splits of an object add up to its size.
func (r *reader) BytesRead() int64 {
	if r.opened == nil {
		return 0
	}
	batches := int64(len(r.opened.Records()))
	if batches == 0 {
		return r.sizeBytes
	}
	until := func(batch int) int64 { return int64(float64(r.sizeBytes) * float64(batch) / float64(batches)) }
	return until(r.next) - until(r.first)
}

// Close implements dataset.Reader.
func (r *reader) Close() error {
	if r.opened != nil {
		r.drop()
		r.opened.Release()
		r.opened = nil
	}
	return nil
}
