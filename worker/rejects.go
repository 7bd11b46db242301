package worker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/text"
	"github.com/f708428e/engine/internal/expression"
	"github.com/f708428e/engine/internal/jobplan"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/operator"
)

// rejects are the rows that one attempt leaves out, instead of failing with the first. It is safe for concurrent use. A nil *rejects leaves
// out none.
type rejects struct {
	lease *lease
	// out takes the rows that are written.
	out rejector
	// limit is how many rows the whole job may reject; zero means any number.
	limit int64
	// keep says that the rows are written, too.
	keep bool
	// writing has room for who writes rows.
	writing chan struct{}

	mu sync.Mutex
	// rows are those that are not written yet, of about so many bytes.
	rows  []dataset.BadRow
	bytes int
	count int64
	first string
}

// rejector writes rejected rows. It may be called while others use the draft that it is, by one goroutine at a time.
type rejector interface {
	reject(ctx context.Context, record arrow.Record) error
}

// maxUnwritten is how many bytes of rows wait for the end of their record batch. A reader may leave out any number before it finds a good one.
const maxUnwritten = 1 << 20

// newRejects returns what a job leaves out, and writes into out, if it does; nil if it fails with the first bad row.
func newRejects(l *lease, out draft) (*rejects, error) {
	bad := l.job.assignment.GetSpec().GetOnBadRow()
	if !jobplan.KeepsOn(bad) {
		return nil, nil //nolint:nilnil // There is none, which is no error.
	}
	r := &rejects{lease: l, limit: bad.GetLimit(), writing: make(chan struct{}, 1)}
	if out == nil || !jobplan.WritesRejects(bad) {
		return r, nil
	}
	var ok bool
	if r.out, ok = out.(rejector); !ok {
		return nil, engine.Errorf(engine.KindInternal, "write rejected rows", "", "%T has no place for them", out)
	}
	r.keep = true
	return r, nil
}

// reader is what readers tell of rows that they leave out, which no record batch has. ctx must live as long as the reader.
func (r *rejects) reader(ctx context.Context) func(dataset.BadRow) error {
	if r == nil {
		return nil
	}
	return func(row dataset.BadRow) error {
		r.lease.counts.rowsRead.Add(1)
		if err := r.add(row); err != nil {
			return err
		}
		r.mu.Lock()
		full := r.bytes > maxUnwritten
		r.mu.Unlock()
		if !full {
			return nil
		}
		return r.flush(ctx)
	}
}

func (r *rejects) add(row dataset.BadRow) error {
	r.lease.counts.rowsRejected.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count++
	if r.count == 1 {
		r.first = describeBad(row)
	}
	if r.limit > 0 && r.count > r.limit {
		return jobplan.TooManyRejected(r.count, r.limit, r.first)
	}
	if r.keep {
		r.rows = append(r.rows, row)
		r.bytes += int(unsafe.Sizeof(row)) + len(row.Raw) + len(row.Reason)
	}
	return nil
}

// any tells whether a row has been rejected.
func (r *rejects) any() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count > 0
}

func describeBad(row dataset.BadRow) string {
	at := row.Path
	switch {
	case row.Line > 0:
		at += ":" + strconv.FormatInt(row.Line, 10)
	case row.Row > 0:
		at += " row " + strconv.FormatInt(row.Row, 10)
	}
	if row.Column != "" {
		at += ": column " + strconv.Quote(row.Column)
	}
	return at + ": " + row.Reason
}

// rejectsSchema is that of the files of rejected rows.
var rejectsSchema = arrow.NewSchema([]arrow.Field{
	{Name: "file", Type: arrow.BinaryTypes.String},
	{Name: "line", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "row", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "offset", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "column", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "reason", Type: arrow.BinaryTypes.String},
	{Name: "raw", Type: arrow.BinaryTypes.String, Nullable: true},
}, nil)

// flush writes what has come since the last time.
func (r *rejects) flush(ctx context.Context) error {
	if r == nil || !r.keep {
		return nil
	}
	select {
	case r.writing <- struct{}{}:
		defer func() { <-r.writing }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	r.mu.Lock()
	rows := r.rows
	r.rows, r.bytes = nil, 0
	r.mu.Unlock()
	if len(rows) == 0 {
		return nil
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, rejectsSchema)
	defer b.Release()
	number := func(i int, n int64, known bool) {
		if known {
			b.Field(i).(*array.Int64Builder).Append(n)
		} else {
			b.Field(i).AppendNull()
		}
	}
	words := func(i int, s string, known bool) {
		if known {
			b.Field(i).(*array.StringBuilder).Append(strings.ToValidUTF8(s, "\uFFFD"))
		} else {
			b.Field(i).AppendNull()
		}
	}
	for _, row := range rows {
		words(0, row.Path, true)
		number(1, row.Line, row.Line > 0)
		number(2, row.Row, row.Row > 0)
		number(3, row.OffsetBytes, row.OffsetBytes >= 0)
		words(4, row.Column, row.Column != "")
		words(5, row.Reason, true)
		words(6, string(row.Raw), row.Raw != nil)
	}
	record := b.NewRecord()
	defer record.Release()
	return r.out.reject(ctx, record)
}

// say tells the job's log how many rows were left out.
func (r *rejects) say(w *Worker) {
	if r == nil || r.count == 0 {
		return
	}
	w.line(r.lease, "WARN", "rows were rejected", map[string]string{"rows": strconv.FormatInt(r.count, 10), "first": r.first})
}

// batchRejects are those of one record batch.
type batchRejects struct {
	*rejects
	path    string
	locator dataset.Locator
	// record is as it was read. Nil unless rows are written.
	record arrow.Record
}

// batch begins a record batch that reader has just returned. The caller closes it.
func (r *rejects) batch(reader dataset.Reader, path string, record arrow.Record) *batchRejects {
	if r == nil {
		return nil
	}
	b := &batchRejects{rejects: r, path: path}
	if m, ok := reader.(dataset.Marker); ok {
		b.locator = m.Mark()
	}
	if r.keep {
		record.Retain()
		b.record = record
	}
	return b
}

func (b *batchRejects) close() {
	if b != nil && b.record != nil {
		b.record.Release()
		b.record = nil
	}
}

// take leaves the rows of a *runtime.RowError out, and others that the operator would refuse next, if that is cheap to know. It returns which
// rows of its input are left. selections say which rows of the record batch that was read the operator was given. Any other error it returns
// as it is. op is nil if it may not be asked again.
func (b *batchRejects) take(ctx context.Context, failure error, op operator.Operator, in arrow.Record, selections []expression.Selection) ([]int32, error) {
	var bad *runtime.RowError
	if b == nil || !errors.As(failure, &bad) {
		return nil, sourceRow(failure, selections)
	}
	found := []*runtime.RowError{bad}
	if operator.IsRowwise(op) {
		var err error
		if found, err = refused(ctx, op, in); err != nil {
			return nil, err
		}
	}
	out := make([]bool, in.NumRows())
	for _, bad := range found {
		for _, at := range append([]int64{bad.Row}, bad.Others...) {
			if at < 0 || at >= int64(len(out)) || out[at] {
				return nil, engine.Errorf(engine.KindInternal, "reject rows", "", "%T refuses row %d of %d, or refuses it twice: %w", op, at, len(out), failure)
			}
			out[at] = true
			if err := b.leaveOut(at, bad, selections); err != nil {
				return nil, err
			}
		}
	}
	left := make([]int32, 0, len(out))
	for row, bad := range out {
		if !bad {
			left = append(left, int32(row)) //nolint:gosec // A record batch has fewer rows.
		}
	}
	return left, nil
}

// refused leaves out rows of the operators' result that the output has not taken, and returns how many these are. Any other error it returns as
// it is, and so the first of them if the attempt leaves out none.
func (b *batchRejects) refused(failure error, selections []expression.Selection) (int64, error) {
	var rows dataset.RefusedRows
	if !errors.As(failure, &rows) {
		return 0, sourceRow(failure, selections)
	}
	for _, r := range rows {
		bad := &runtime.RowError{Column: r.Column, Row: r.Row, Err: r.Err}
		if b == nil {
			return 0, sourceRow(bad, selections)
		}
		if err := b.leaveOut(r.Row, bad, selections); err != nil {
			return 0, err
		}
	}
	return int64(len(rows)), nil
}

// leaveOut counts and keeps a row of an operator's input.
func (b *batchRejects) leaveOut(at int64, bad *runtime.RowError, selections []expression.Selection) error {
	info := dataset.RowInfo{Path: b.path, OffsetBytes: -1}
	read := at
	for _, s := range slices.Backward(selections) {
		read = s.Row(read)
	}
	if b.locator != nil && (b.keep || !b.any()) {
		info = b.locator.Locate(read)
	}
	if info.Raw == nil && b.record != nil {
		info.Raw = rowJSON(b.record, int(read))
	}
	return b.add(dataset.BadRow{RowInfo: info, Column: bad.Column, Reason: text.Reason(bad.Err, "")})
}

// refused finds all rows of a record batch that an operator refuses, each of which stops at its first: it is given the batch in ever smaller
// pieces. Every row is in as many as the logarithm of their number.
func refused(ctx context.Context, op operator.Operator, in arrow.Record) ([]*runtime.RowError, error) {
	var found []*runtime.RowError
	type piece struct{ lo, hi int64 }
	for pieces := []piece{{0, in.NumRows()}}; len(pieces) > 0; {
		p := pieces[len(pieces)-1]
		pieces = pieces[:len(pieces)-1]
		if p.lo == p.hi {
			continue
		}
		slice := in.NewSlice(p.lo, p.hi)
		made, err := op.Apply(ctx, slice)
		slice.Release()
		if err == nil {
			made.Release()
			continue
		}
		var bad *runtime.RowError
		if !errors.As(err, &bad) {
			return nil, err
		}
		row := p.lo + bad.Row
		found = append(found, &runtime.RowError{Column: bad.Column, Row: row, Err: bad.Err})
		if middle := p.lo + (p.hi-p.lo)/2; row < middle {
			pieces = append(pieces, piece{middle, p.hi}, piece{row + 1, middle}, piece{p.lo, row})
		} else {
			pieces = append(pieces, piece{row + 1, p.hi}, piece{middle, row}, piece{p.lo, middle})
		}
	}
	slices.SortFunc(found, func(a, b *runtime.RowError) int { return cmp.Compare(a.Row, b.Row) })
	return found, nil
}

// rowJSON is a row of formats that are no text.
func rowJSON(record arrow.Record, row int) []byte {
	values := make(map[string]json.RawMessage, record.NumCols())
	for i, column := range record.Columns() {
		values[record.ColumnName(i)] = valueJSON(column, row)
	}
	raw, err := json.Marshal(values)
	if err != nil {
		return nil
	}
	return raw
}

// valueJSON is a value of a row. Numbers that JSON lacks are texts, and lists that hold one null.
func valueJSON(column arrow.Array, row int) (value json.RawMessage) {
	defer func() {
		if recover() != nil { // Arrow's lists panic where its numbers return an error.
			value = json.RawMessage("null")
		}
	}()
	value, err := json.Marshal(column.GetOneForMarshal(row))
	if err != nil {
		value, err = json.Marshal(column.ValueStr(row))
	}
	if err != nil {
		return json.RawMessage("null")
	}
	return value
}

// reject implements rejector: the last folder is that of rejected rows.
func (d *partsDraft) reject(ctx context.Context, record arrow.Record) error {
	if d.rejected == nil {
		f, err := d.create(ctx, target{folder: len(d.output.folders) - 1}, 0, "rejected")
		if err != nil {
			return err
		}
		d.rejected = f
	}
	d.rejected.rows += record.NumRows()
	return d.rejected.writer.Write(ctx, record)
}

// without returns the rows of a record at the places of left, and gives up the record.
func without(record arrow.Record, left []int32, allocator memory.Allocator) (arrow.Record, expression.Selection, error) {
	defer record.Release()
	taken, err := operator.Take(record, left, allocator)
	return taken, expression.NewSelection(int(record.NumRows()), left), err
}
