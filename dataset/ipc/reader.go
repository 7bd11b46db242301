package ipc

import (
	"context"
	"fmt"
	"io"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/object"
	"github.com/f708428e/engine/dataset/union"
	"github.com/f708428e/engine/objectstore/table"
)

// groupBytes is how much is read at once at least, if there are as many record batches: small ones cost less together.
const groupBytes = 4 << 20

// reader reads record batches and cuts them to the bounds asked for. It implements dataset.Reader.
type reader struct {
	// Constant.
	index   *index
	options dataset.ReadOptions
	schema  *arrow.Schema
	places  []int // in the file's schema, of the columns that are read
	end     int   // the record batch after the last of the split
	skipped int   // record batches of the file that are not in index

	next  int          // the record batch that is read next
	group *table.Table // nil if there is none
	taken int          // how many records of group have been
	whole arrow.Record // the one that is cut: its rows from start on
	start int64
	// firstRow is the row of the file at which whole begins, lastRow that of the last record returned.
	firstRow, lastRow int64
	bytesRead         int64
}

// Open starts the reading of a split. A file that is not what was planned with is an error of kind engine.KindData or
// engine.KindCorrupt.
func (s *Source) Open(ctx context.Context, split dataset.Split, options dataset.ReadOptions) (dataset.Reader, error) {
	if options.Schema == nil || options.Allocator == nil {
		return nil, engine.Errorf(engine.KindInternal, opRead, split.File.Path, "no schema or no allocator")
	}
	x, err := openIndex(ctx, options.Storage, split.File)
	if err != nil {
		return nil, err
	}
	r := &reader{index: x, next: split.FirstRowGroup, end: split.FirstRowGroup + split.RowGroups}
	if x.ahead && split.EndOffsetBytes > 0 && !x.hasDictionaries() {
		// The messages before the split are not looked at, so its batches are the first ones here.
		x.offset, x.end, x.ended = split.StartOffsetBytes, split.EndOffsetBytes, false
		x.in.Expect(dataset.Range{Start: x.offset, End: x.end})
		r.skipped, r.next, r.end = r.next, 0, split.RowGroups
	}
	open := func(options dataset.ReadOptions) (dataset.Reader, error) {
		r.options = options
		if err := r.layOut(ctx); err != nil {
			return nil, err
		}
		return r, nil
	}
	var opened dataset.Reader
	if s.Union {
		var own []arrow.Field
		if own, err = columnsOf(split.File.Path, x.schema); err == nil {
			opened, err = union.Open(split.File.Path, own, options, open)
		}
	} else {
		opened, err = open(options)
	}
	if err != nil {
		_ = x.in.Close()
		return nil, err
	}
	return opened, nil
}

func (r *reader) layOut(ctx context.Context) error {
	if r.next < 0 || r.end < r.next {
		return engine.Errorf(engine.KindInternal, opRead, r.index.info.Path, "a split of the record batches from %d to %d", r.next, r.end)
	}
	if err := r.reach(ctx, r.next-1); err != nil {
		return err
	}
	wanted := r.options.Columns
	if wanted == nil {
		for i := range r.options.Schema.NumFields() {
			wanted = append(wanted, i)
		}
	}
	fields := make([]arrow.Field, len(wanted))
	for i, column := range wanted {
		f := r.options.Schema.Field(column)
		places := r.index.schema.FieldIndices(f.Name)
		if len(places) != 1 || !arrow.TypeEqual(plainType(r.index.schema.Field(places[0]).Type), f.Type) {
			return r.index.corrupt("its columns are not those that the job was planned with: %q", f.Name)
		}
		fields[i] = f
		r.places = append(r.places, places[0])
	}
	r.schema = arrow.NewSchema(fields, nil)
	for _, b := range r.index.batches[:r.next] {
		r.firstRow += b.rows
	}
	return nil
}

// Read implements dataset.Reader.
func (r *reader) Read(ctx context.Context) (arrow.Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, engine.WrapError(opRead, r.index.info.Path, err)
	}
	if r.places == nil && r.schema == nil {
		return nil, engine.Errorf(engine.KindInternal, opRead, r.index.info.Path, "read after close")
	}
	for r.whole == nil || r.start == r.whole.NumRows() {
		r.drop()
		if r.group != nil && r.taken == len(r.group.Records()) {
			r.group.Release()
			r.group = nil
		}
		if r.group == nil {
			if r.next == r.end {
				return nil, r.finish()
			}
			if err := r.load(ctx); err != nil {
				return nil, err
			}
		}
		r.pick(r.group.Records()[r.taken])
		r.taken++
	}
	rows := dataset.BatchRowsWithin(r.whole, r.start, r.options.BatchRows, r.options.BatchBytes)
	cut := r.whole.NewSlice(r.start, r.start+rows)
	defer cut.Release()
	r.lastRow = r.firstRow + r.start
	r.start += rows
	columns := make([]arrow.Array, 0, cut.NumCols())
	defer func() {
		for _, c := range columns {
			c.Release()
		}
	}()
	for _, c := range cut.Columns() {
		values, err := plain(ctx, c, r.options.Allocator)
		if err != nil {
			return nil, engine.WrapError(opRead, r.index.info.Path, err)
		}
		columns = append(columns, values)
	}
	return array.NewRecord(r.schema, columns, rows), nil
}

// finish returns io.EOF if the file is still what it was.
func (r *reader) finish() error {
	if err := r.index.in.Check(); err != nil {
		return err
	}
	return io.EOF
}

// reach looks at the messages up to a record batch, which must be there.
func (r *reader) reach(ctx context.Context, batch int) error {
	if there, err := r.index.upTo(ctx, batch); err != nil || there {
		return err
	}
	return r.index.corrupt("has %d record batches, planned were those from %d to %d", r.skipped+len(r.index.batches), r.skipped+r.next, r.skipped+r.end)
}

// load reads the next record batches, as a stream of their own: the schema, the dictionaries that the first needs, and they with the
// dictionaries between them. So many are read that the dictionaries are not most of it.
func (r *reader) load(ctx context.Context) error {
	if err := r.reach(ctx, r.next); err != nil {
		return err
	}
	first := r.index.batches[r.next]
	var messages []place
	var size int64
	take := func(p place) {
		messages = append(messages, p)
		size += p.size
	}
	for _, d := range r.index.live(first.dictionaries) {
		take(d.place)
	}
	enough := size + max(size, groupBytes)
	take(first.place)
	last := r.next + 1
	for ; last < r.end && size < enough; last++ {
		if err := r.reach(ctx, last); err != nil {
			return err
		}
		b := r.index.batches[last]
		for _, d := range r.index.dictionaries[r.index.batches[last-1].dictionaries:b.dictionaries] {
			take(d.place)
		}
		take(b.place)
	}
	data := r.options.Allocator.Allocate(len(r.index.first) + int(size) + len(endOfStream))
	release := func() { r.options.Allocator.Free(data) }
	at := copy(data, r.index.first)
	for _, p := range messages {
		if err := r.index.read(data[at:at+int(p.size)], p.offset); err != nil {
			release()
			return err
		}
		at += int(p.size)
		r.bytesRead += p.size
	}
	copy(data[at:], endOfStream)
	group, err := table.Open(data, table.Options{Release: release})
	if err != nil {
		release()
		return r.index.corrupt("the record batches from %d to %d: %w", r.next, last-1, err)
	}
	if len(group.Records()) != last-r.next {
		group.Release()
		return r.index.corrupt("changed while it was read")
	}
	r.group, r.taken, r.next = group, 0, last
	return nil
}

// pick makes a record of the group the one that is cut.
func (r *reader) pick(record arrow.Record) {
	columns := make([]arrow.Array, len(r.places))
	fields := make([]arrow.Field, len(r.places))
	for i, place := range r.places {
		columns[i], fields[i] = record.Column(place), record.Schema().Field(place)
	}
	r.whole = array.NewRecord(arrow.NewSchema(fields, nil), columns, record.NumRows())
}

// drop goes on behind the present record.
func (r *reader) drop() {
	if r.whole != nil {
		r.firstRow += r.whole.NumRows()
		r.whole.Release()
	}
	r.whole, r.start = nil, 0
}

// Where names the file and the row in it, from 1.
func (r *reader) Where(row int64) string {
	if r.skipped > 0 {
		return fmt.Sprintf("%s row %d from record batch %d on", r.index.info.Path, r.lastRow+row+1, r.skipped)
	}
	return fmt.Sprintf("%s row %d", r.index.info.Path, r.lastRow+row+1)
}

// Mark implements dataset.Marker.
func (r *reader) Mark() dataset.Locator {
	if r.skipped > 0 {
		return dataset.Unnumbered{Path: r.index.info.Path}
	}
	return dataset.Numbered{Path: r.index.info.Path, First: r.lastRow}
}

// BytesRead counts the record batches and dictionaries that have been read.
func (r *reader) BytesRead() int64 { return r.bytesRead }

// Close releases what the reader holds. Records that were returned stay.
func (r *reader) Close() error {
	r.drop()
	if r.group != nil {
		r.group.Release()
		r.group = nil
	}
	r.places, r.schema = nil, nil
	return r.index.in.Close()
}

// plainType is the type as which a column is read.
func plainType(t arrow.DataType) arrow.DataType {
	switch t := object.PlainType(t); t.ID() {
	case arrow.LARGE_STRING, arrow.STRING_VIEW:
		return arrow.BinaryTypes.String
	case arrow.LARGE_BINARY, arrow.BINARY_VIEW:
		return arrow.BinaryTypes.Binary
	default:
		return t
	}
}

// plain returns a column as it is read. Only what is converted is copied.
func plain(ctx context.Context, column arrow.Array, allocator memory.Allocator) (arrow.Array, error) {
	values, err := object.Plain(ctx, column, allocator)
	if err != nil {
		return nil, err
	}
	var at func(row int) []byte
	switch a := values.(type) {
	case *array.LargeString:
		at = func(row int) []byte { return []byte(a.Value(row)) }
	case *array.StringView:
		at = func(row int) []byte { return []byte(a.Value(row)) }
	case *array.LargeBinary:
		at = a.Value
	case *array.BinaryView:
		at = a.Value
	default:
		return values, nil
	}
	defer values.Release()
	built := array.NewBuilder(allocator, plainType(values.DataType()))
	defer built.Release()
	b, ok := built.(*array.BinaryBuilder)
	if !ok {
		b = built.(*array.StringBuilder).BinaryBuilder
	}
	b.Reserve(values.Len())
	for row := range values.Len() {
		if values.IsNull(row) {
			b.AppendNull()
		} else {
			b.Append(at(row))
		}
	}
	return built.NewArray(), nil
}
