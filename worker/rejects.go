package worker

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"

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
	// limit is how many rows the whole job may reject; zero means any number.
	limit int64
	// keep says that the rows are written, too.
	keep bool

	mu sync.Mutex
	// rows are those that are not written yet.
	rows  []dataset.BadRow
	count int64
	first string
}

// newRejects returns what a job leaves out; nil if it fails with the first bad row.
func newRejects(l *lease) *rejects {
	bad := l.job.assignment.GetSpec().GetOnBadRow()
	if !jobplan.KeepsOn(bad) {
		return nil
	}
	return &rejects{lease: l, limit: bad.GetLimit(), keep: jobplan.WritesRejects(bad)}
}

// reader is what readers tell of rows that they leave out, which no record batch has.
func (r *rejects) reader() func(dataset.BadRow) error {
	if r == nil {
		return nil
	}
	return func(row dataset.BadRow) error {
		r.lease.counts.rowsRead.Add(1)
		return r.add(row)
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
	}
	return nil
}

func describeBad(row dataset.BadRow) string {
	at := row.Path
	switch {
	case row.Line > 0:
		at += ":" + strconv.FormatInt(row.Line, 10)
	case row.Row > 0:
		at += " row " + strconv.FormatInt(row.Row-1, 10)
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
func (r *rejects) flush(ctx context.Context, out draft) error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	rows := r.rows
	r.rows = nil
	r.mu.Unlock()
	if len(rows) == 0 {
		return nil
	}
	to, ok := out.(interface {
		reject(ctx context.Context, record arrow.Record) error
	})
	if !ok {
		return engine.Errorf(engine.KindInternal, "write rejected rows", "", "%T has no place for them", out)
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
	return to.reject(ctx, record)
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

// take leaves the rows of a *runtime.RowError out, and returns which rows of the operator's input are left. selections say which rows of the
// record batch that was read the operator was given. Any other error it returns as it is.
func (b *batchRejects) take(failure error, rows int64, selections []expression.Selection) ([]int32, error) {
	var bad *runtime.RowError
	if b == nil || !errors.As(failure, &bad) {
		return nil, sourceRow(failure, selections)
	}
	out := append([]int64{bad.Row}, bad.Others...)
	for _, at := range out {
		info := dataset.RowInfo{Path: b.path, OffsetBytes: -1}
		read := at
		for _, s := range slices.Backward(selections) {
			read = s.Row(read)
		}
		if b.locator != nil && (b.keep || b.count == 0) {
			info = b.locator.Locate(read)
		}
		if info.Raw == nil && b.record != nil {
			info.Raw = rowJSON(b.record, int(read))
		}
		if err := b.add(dataset.BadRow{RowInfo: info, Column: bad.Column, Reason: text.Reason(bad.Err, "")}); err != nil {
			return nil, err
		}
	}
	left := make([]int32, 0, rows)
	for row := range rows {
		if len(out) > 0 && out[0] == row {
			out = out[1:]
			continue
		}
		left = append(left, int32(row)) //nolint:gosec // A record batch has fewer rows.
	}
	return left, nil
}

// rowJSON is a row of formats that are no text.
func rowJSON(record arrow.Record, row int) []byte {
	values := make(map[string]any, record.NumCols())
	for i, column := range record.Columns() {
		values[record.ColumnName(i)] = column.GetOneForMarshal(row)
	}
	raw, err := json.Marshal(values)
	if err != nil {
		return nil // NaN has no place in JSON.
	}
	return raw
}

// reject implements what rejects.flush needs: the last folder is that of rejected rows.
func (d *partsDraft) reject(ctx context.Context, record arrow.Record) error {
	f, err := d.file(ctx, target{folder: len(d.output.folders) - 1})
	if err != nil {
		return err
	}
	f.rows += record.NumRows()
	return f.writer.Write(ctx, record)
}

// without returns the rows of a record at the places of left, and gives up the record.
func without(record arrow.Record, left []int32, allocator memory.Allocator) (arrow.Record, expression.Selection, error) {
	defer record.Release()
	taken, err := operator.Take(record, left, allocator)
	return taken, expression.NewSelection(int(record.NumRows()), left), err
}
