package text

import (
	"context"
	"io"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
)

// flushBytes is how much is gathered before it is handed on.
const flushBytes = 128 << 10

// Writer writes the rows of record batches as lines. It implements dataset.Writer for formats without a place for metadata. It is not
// safe for concurrent use.
type Writer struct {
	op  string
	out io.Writer
	// packer is what out is if the file is compressed, else nil.
	packer io.WriteCloser
	schema *arrow.Schema
	// row returns what appends a row of a record batch.
	row      func(record arrow.Record) Appender
	buffer   []byte
	failed   error
	finished bool
}

// NewWriter returns a Writer of rows with a schema, which begins the file with head. row returns what appends one row of a record batch,
// line end included.
func NewWriter(op string, out io.Writer, compression Compression, schema *arrow.Schema, head []byte, row func(record arrow.Record) Appender) (*Writer, error) {
	w := &Writer{op: op, out: out, schema: schema, row: row, buffer: append(make([]byte, 0, flushBytes+flushBytes/2), head...)}
	packer, err := compression.packer(out)
	if err != nil {
		return nil, engine.Errorf(engine.KindInternal, op, "", "%w", err)
	}
	if packer != nil {
		w.packer, w.out = packer, packer
	}
	return w, nil
}

// Write appends a record batch.
func (w *Writer) Write(ctx context.Context, record arrow.Record) error {
	if w.failed != nil {
		return w.failed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if w.finished {
		return engine.Errorf(engine.KindInternal, w.op, "", "the file is finished")
	}
	if w.failed = CheckRecord(w.op, w.schema, record); w.failed != nil {
		return w.failed
	}
	row := w.row(record)
	for i := range int(record.NumRows()) {
		if w.buffer = row(w.buffer, i); len(w.buffer) >= flushBytes {
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *Writer) flush() error {
	n, err := w.out.Write(w.buffer)
	if err == nil && n < len(w.buffer) {
		err = io.ErrShortWrite
	}
	w.buffer = w.buffer[:0]
	w.failed = err
	return err
}

// PendingBytes implements dataset.Writer.
func (w *Writer) PendingBytes() int64 { return int64(len(w.buffer)) }

// Finish hands on what is left. It drops the metadata.
func (w *Writer) Finish(map[string]string) error {
	if w.failed != nil {
		return w.failed
	}
	w.finished = true
	if err := w.flush(); err != nil || w.packer == nil {
		return err
	}
	w.failed = w.packer.Close()
	return w.failed
}

// Close implements dataset.Writer.
func (w *Writer) Close() error {
	w.buffer = nil
	return nil
}

// CheckRecord refuses a record that does not fit a file's schema.
func CheckRecord(op string, schema *arrow.Schema, record arrow.Record) error {
	if int(record.NumCols()) != schema.NumFields() {
		return engine.Errorf(engine.KindInternal, op, "", "a record has %d columns, the file %d", record.NumCols(), schema.NumFields())
	}
	for i, f := range schema.Fields() {
		if column := record.Column(i); record.ColumnName(i) != f.Name || !arrow.TypeEqual(column.DataType(), f.Type) {
			return engine.Errorf(engine.KindInternal, op, f.Name, "column %d of a record is %q (%s), the file's is %q (%s)",
				i, record.ColumnName(i), column.DataType(), f.Name, f.Type)
		}
	}
	return nil
}
