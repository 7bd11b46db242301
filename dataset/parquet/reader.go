package parquet

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
)

// reader reads the row groups of one split.
//
// It decodes pieces, which end with their row group, and cuts batches out of them. Ordinarily a piece is a batch. Pieces are
// joined where a batch spans row groups and where BatchBytes cut the one before short.
type reader struct {
	in      *input
	options dataset.ReadOptions
	// schema is that of the records.
	schema *arrow.Schema
	// fields are the places in the file of the records' columns.
	fields []int

	// group is the row group that is being decoded, end the first one after the split.
	group, end int
	// decoders are those of the row group, nil before it is opened; left are its rows not decoded yet.
	decoders []decoder
	left     int64

	// pending are decoded rows, of which those before offset have been returned. May be nil.
	pending arrow.Record
	offset  int64
	// rowBytes is how large rows have been so far, on average; at first the footer's word.
	rowBytes float64

	// batchRow is the number in the file of the last batch's first row, nextRow that of the next one's.
	batchRow, nextRow int64
	failed            error
	closed            bool
	// needless says of the row groups from the split's first one on that they are left out; nil if none is.
	needless []bool
	first    int
	// memory is that of columns of numbers.
	memory *recycler
}

func newReader(in *input, split dataset.Split, options dataset.ReadOptions) (*reader, error) {
	groups := in.parquet.MetaData().RowGroups
	if split.FirstRowGroup < 0 || split.RowGroups < 0 || split.FirstRowGroup+split.RowGroups > len(groups) {
		return nil, engine.Errorf(engine.KindInternal, opRead, in.path, "split of row groups %d to %d, the file has %d", split.FirstRowGroup, split.FirstRowGroup+split.RowGroups, len(groups))
	}
	if options.BatchRows <= 0 {
		options.BatchRows = 1
	}
	if options.BatchBytes <= 0 {
		options.BatchBytes = 1
	}
	r := &reader{in: in, options: options, memory: newRecycler(options.Allocator)}
	r.group, r.end = split.FirstRowGroup, split.FirstRowGroup+split.RowGroups
	if err := r.selectColumns(); err != nil {
		return nil, err
	}
	for _, group := range groups[:r.group] {
		r.nextRow += group.NumRows
	}
	r.batchRow = r.nextRow
	r.estimateRow()
	r.first = r.group
	r.prune()
	for group := r.group; group < r.end; group++ {
		if !r.isNeedless(group) {
			r.in.file.Expect(r.order(group)...)
		}
	}
	return r, nil
}

// selectColumns finds the wanted columns in the file by name.
func (r *reader) selectColumns() error {
	wanted := r.options.Columns
	if wanted == nil {
		wanted = make([]int, r.options.Schema.NumFields())
		for i := range wanted {
			wanted[i] = i
		}
	}
	fields := make([]arrow.Field, len(wanted))
	for i, column := range wanted {
		fields[i] = r.options.Schema.Field(column)
		place, ok := r.in.places[fields[i].Name]
		if !ok {
			return engine.Errorf(engine.KindData, opRead, r.in.path, "column %q is missing", fields[i].Name)
		}
		if have := r.in.fields[place].Type; !sameType(have, fields[i].Type) {
			return engine.Errorf(engine.KindData, opRead, r.in.path, "column %q is %s, planned was %s", fields[i].Name, dataset.TypeName(have), dataset.TypeName(fields[i].Type))
		}
		r.fields = append(r.fields, place)
	}
	r.schema = arrow.NewSchema(fields, nil)
	return nil
}

// chunks are where the wanted columns of a row group lie, by their places in the file.
func (r *reader) chunks(group int) []dataset.Range {
	var out []dataset.Range
	columns := r.in.parquet.MetaData().RowGroups[group].Columns
	for _, field := range r.fields {
		for _, leaf := range r.in.leaves(field) {
			m := columns[leaf].MetaData
			out = append(out, chunkRange(m.DataPageOffset, m.DictionaryPageOffset, m.TotalCompressedSize))
		}
	}
	slices.SortFunc(out, func(a, b dataset.Range) int { return cmp.Compare(a.Start, b.Start) })
	return out
}

// order is how a row group's chunks are read: side by side. If they are large, they are cut into pieces, of which all first ones come
// first.
func (r *reader) order(group int) []dataset.Range {
	const together, least = 16 << 20, 64 << 10
	chunks := r.chunks(group)
	var size int64
	for _, c := range chunks {
		size += c.End - c.Start
	}
	if size <= together {
		return chunks
	}
	piece := max(together/int64(len(chunks)), least)
	var out []dataset.Range
	for left := chunks; len(left) > 0; {
		var rest []dataset.Range
		for _, c := range left {
			out = append(out, dataset.Range{Start: c.Start, End: min(c.Start+piece, c.End)})
			if c.Start+piece < c.End {
				rest = append(rest, dataset.Range{Start: c.Start + piece, End: c.End})
			}
		}
		left = rest
	}
	return out
}

func (r *reader) estimateRow() {
	var rows, bytes int64
	for _, group := range r.in.parquet.MetaData().RowGroups[r.group:r.end] {
		rows += group.NumRows
		for _, field := range r.fields {
			for _, leaf := range r.in.leaves(field) {
				bytes += group.Columns[leaf].MetaData.TotalUncompressedSize
			}
		}
	}
	r.rowBytes = float64(bytes) / float64(max(rows, 1))
}

// Read returns the next record batch.
func (r *reader) Read(ctx context.Context) (arrow.Record, error) {
	if r.failed != nil {
		return nil, r.failed
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	record, err := r.next()
	if err != nil {
		r.failed = err
		return nil, err
	}
	r.batchRow = r.nextRow
	r.nextRow += record.NumRows()
	return record, nil
}

func (r *reader) next() (arrow.Record, error) {
	for {
		have := r.pendingRows()
		rows := have
		if have > 0 {
			rows = dataset.BatchRowsWithin(r.pending, r.offset, r.options.BatchRows, r.options.BatchBytes)
		}
		if rows == r.options.BatchRows || rows < have || have > 0 && r.left == 0 && r.isNeedless(r.following()) {
			return r.cut(rows), nil
		}
		more, err := r.openGroup()
		if err != nil {
			return nil, err
		}
		if !more {
			if have == 0 {
				return nil, io.EOF
			}
			return r.cut(rows), nil
		}
		if err := r.decode(r.wantedRows(have)); err != nil {
			return nil, err
		}
	}
}

func (r *reader) pendingRows() int64 {
	if r.pending == nil {
		return 0
	}
	return r.pending.NumRows() - r.offset
}

// wantedRows is how many rows to decode next when some are there already: as many as a batch lacks, or as probably exceed its
// bytes.
func (r *reader) wantedRows(have int64) int64 {
	const least = 16
	want := min(r.options.BatchRows-have, r.left)
	if r.rowBytes > 0 {
		likely := int64(1.25 * float64(r.options.BatchBytes) / r.rowBytes)
		want = min(want, max(likely, least))
	}
	return want
}

// cut takes the first rows of what is pending.
func (r *reader) cut(rows int64) arrow.Record {
	record := r.pending
	if r.offset == 0 && rows == record.NumRows() {
		r.pending = nil
		return record
	}
	slice := record.NewSlice(r.offset, r.offset+rows)
	if r.offset += rows; r.offset == record.NumRows() {
		record.Release()
		r.pending, r.offset = nil, 0
	}
	return slice
}

// openGroup makes sure that there are rows to decode, or returns false after the last row group.
func (r *reader) openGroup() (bool, error) {
	for r.left == 0 {
		if r.decoders != nil {
			r.closeDecoders()
			r.in.file.Forget(r.chunks(r.group)...)
			r.group++
		}
		if r.isNeedless(r.group) {
			r.leaveOut()
			continue
		}
		if r.group >= r.end {
			return false, nil
		}
		err := r.in.guard(fmt.Sprintf("row group %d", r.group), func() error {
			r.decoders = make([]decoder, 0, len(r.fields))
			for i, field := range r.fields {
				d, err := newDecoder(r.in, r.group, field, r.schema.Field(i).Type, r.options.Allocator, r.memory)
				if err != nil {
					return columnError(r.schema.Field(i).Name, err)
				}
				r.decoders = append(r.decoders, d)
			}
			return nil
		})
		if err != nil {
			return false, err
		}
		r.left = r.in.parquet.MetaData().RowGroups[r.group].NumRows
	}
	return true, nil
}

// decode adds rows of the present row group to what is pending.
func (r *reader) decode(rows int64) error {
	columns := make([]arrow.Array, len(r.decoders))
	defer releaseArrays(columns)
	err := r.in.guard(fmt.Sprintf("row group %d", r.group), func() error {
		for i, d := range r.decoders {
			column, err := d.read(rows)
			if err == nil && int64(column.Len()) != rows {
				column.Release()
				err = fmt.Errorf("%d rows are missing", rows-int64(column.Len()))
			}
			if err != nil {
				return columnError(r.schema.Field(i).Name, err)
			}
			columns[i] = column
		}
		return nil
	})
	if err != nil {
		return err
	}
	piece := array.NewRecord(r.schema, columns, rows)
	r.left -= rows
	r.rowBytes = float64(dataset.BatchSizeBytes(piece)) / float64(rows)
	if r.pendingRows() == 0 {
		r.dropPending()
		r.pending = piece
		return nil
	}
	defer piece.Release()
	joined, err := join(r.pending, r.offset, piece, r.options.Allocator)
	if err != nil {
		return engine.Errorf(engine.KindInternal, opRead, r.Where(0), "join batches: %w", err)
	}
	r.dropPending()
	r.pending = joined
	return nil
}

func (r *reader) dropPending() {
	if r.pending != nil {
		r.pending.Release()
	}
	r.pending, r.offset = nil, 0
}

func (r *reader) closeDecoders() {
	for _, d := range r.decoders {
		d.close()
	}
	r.decoders = nil
}

// Where returns the file and the row's number in it, from 1: "data/a.parquet row 12345".
func (r *reader) Where(row int64) string {
	return fmt.Sprintf("%s row %d", r.in.path, r.batchRow+row+1)
}

// Mark implements dataset.Marker.
func (r *reader) Mark() dataset.Locator {
	return dataset.Numbered{Path: r.in.path, First: r.batchRow}
}

// BytesRead counts the footer too.
func (r *reader) BytesRead() int64 { return r.in.counter.bytes }

// Close ends the reading.
func (r *reader) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	r.failed = engine.Errorf(engine.KindInternal, opRead, r.in.path, "the reader is closed")
	r.dropPending()
	r.closeDecoders()
	r.memory.close()
	return r.in.close()
}
