package parquet

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"sort"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/flight"
	"github.com/apache/arrow/go/v15/arrow/memory"
	pq "github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/compress"
	"github.com/apache/arrow/go/v15/parquet/metadata"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
)

const (
	// createdBy has the form that readers of statistics parse.
	createdBy = "engine version 1"
	// rowGroupRows and rowGroupBytes bound a row group. It is encoded and compressed as the rows come, and kept in memory until it
	// is full; the bytes are counted after compression, page by page.
	rowGroupRows  = 1 << 18
	rowGroupBytes = 64 << 20
	// writeRows is how many rows are encoded before the bounds are looked at again. It bounds by how much a page exceeds its size.
	writeRows = 16 << 10
	// Pages of 128 KiB are compressed a tenth faster than those of 1 MiB, since they stay in the processor's cache, and cost less
	// than one per cent in size. Tables of very many columns get smaller ones, so that the pages in the making, one for each column,
	// stay within pagesBytes.
	pageBytes, leastPageBytes, pagesBytes = 128 << 10, 32 << 10, 64 << 20
)

// rowGroups is the part of a file writer that takes rows. Its methods may panic.
type rowGroups interface {
	// write appends a record to the open row group.
	write(record arrow.Record) error
	// bytes is the encoded size of the open row group.
	bytes() int64
	// unpaged is the size of what is in no page of it yet, before it is compressed.
	unpaged() int64
	// next closes the open row group, if there is one, and opens another.
	next() error
	// finish closes the file.
	finish() error
	addNote(key, value string) error
}

// writer writes one file.
type writer struct {
	schema *arrow.Schema
	out    *stickyWriter
	pool   *pool
	groups rowGroups
	// rows are those of the open row group; open says that there is one.
	rows     int64
	open     bool
	finished bool
	failed   error
}

func newWriter(w io.Writer, schema *arrow.Schema, codec compress.Compression, allocator memory.Allocator) (_ *writer, err error) {
	if schema.NumFields() == 0 {
		return nil, engine.Errorf(engine.KindInvalidArgument, opWrite, "", "a Parquet file needs a column")
	}
	out := &writer{schema: schema, out: &stickyWriter{to: w}, pool: newPool(allocator)}
	defer func() {
		if err != nil {
			out.pool.close()
		}
	}()
	err = guardWrite("", func() error {
		properties := properties(schema, codec, out.pool)
		arrowProperties := pqarrow.NewArrowWriterProperties(pqarrow.WithAllocator(out.pool))
		parquetSchema, err := pqarrow.ToParquet(storedSchema(schema), properties, arrowProperties)
		if err != nil {
			return engine.Errorf(engine.KindInvalidArgument, opWrite, "", "a column has a type that Parquet cannot hold: %w", err)
		}
		note := base64.StdEncoding.EncodeToString(flight.SerializeSchema(plainSchema(schema), memory.DefaultAllocator))
		if columns, ok := planColumns(schema); ok {
			notes := metadata.NewKeyValueMetadata()
			if err := notes.Append(arrowSchemaKey, note); err != nil {
				return err
			}
			root, err := flatRoot(parquetSchema, columns)
			if err != nil {
				return engine.Errorf(engine.KindInvalidArgument, opWrite, "", "a column has a type that Parquet cannot hold: %w", err)
			}
			out.groups, err = newFlatGroups(out.out, root, columns, properties, notes, out.pool)
			return err
		}
		f, err := pqarrow.NewFileWriter(storedSchema(schema), out.out, properties, arrowProperties)
		if err != nil {
			return engine.Errorf(engine.KindInvalidArgument, opWrite, "", "%w", err)
		}
		out.groups = &nestedGroups{file: f, schema: storedSchema(schema)}
		return out.groups.addNote(arrowSchemaKey, note)
	})
	if err := out.fail(err); err != nil {
		return nil, err
	}
	return out, nil
}

// plainSchema drops metadata, which is the writer's to give.
func plainSchema(schema *arrow.Schema) *arrow.Schema {
	fields := make([]arrow.Field, schema.NumFields())
	for i, f := range schema.Fields() {
		fields[i] = arrow.Field{Name: f.Name, Type: f.Type, Nullable: f.Nullable}
	}
	return arrow.NewSchema(fields, nil)
}

func properties(schema *arrow.Schema, codec compress.Compression, allocator memory.Allocator) *pq.WriterProperties {
	options := []pq.WriterProperty{
		pq.WithAllocator(allocator),
		pq.WithCreatedBy(createdBy),
		pq.WithCompression(codec),
		pq.WithDictionaryDefault(false),
		pq.WithStats(true),
		pq.WithMaxRowGroupLength(rowGroupRows),
		pq.WithBatchSize(writeRows),
		pq.WithDataPageSize(min(pageBytes, max(leastPageBytes, pagesBytes/int64(schema.NumFields())))),
	}
	for _, f := range schema.Fields() {
		if oneOf(f.Type, arrow.STRING, arrow.LARGE_STRING, arrow.DICTIONARY) {
			options = append(options, pq.WithDictionaryPath(pq.ColumnPath{f.Name}, true))
		}
	}
	return pq.NewWriterProperties(options...)
}

// Write appends a record batch.
func (w *writer) Write(ctx context.Context, record arrow.Record) error {
	if w.failed != nil {
		return w.failed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if w.finished {
		return engine.Errorf(engine.KindInternal, opWrite, "", "the file is finished")
	}
	if err := w.check(record); err != nil {
		w.failed = err
		return err
	}
	err := guardWrite("", func() error { return w.write(record) })
	return w.fail(err)
}

// check refuses a record that does not fit the schema: arrow would write it somehow.
func (w *writer) check(record arrow.Record) error {
	if int(record.NumCols()) != w.schema.NumFields() {
		return engine.Errorf(engine.KindInternal, opWrite, "", "a record has %d columns, the file %d", record.NumCols(), w.schema.NumFields())
	}
	for i, f := range w.schema.Fields() {
		column := record.Column(i)
		if record.ColumnName(i) != f.Name || !arrow.TypeEqual(column.DataType(), f.Type) {
			return engine.Errorf(engine.KindInternal, opWrite, f.Name, "column %d of a record is %q (%s), the file's is %q (%s)",
				i, record.ColumnName(i), column.DataType(), f.Name, f.Type)
		}
		if !f.Nullable && column.NullN() > 0 {
			return engine.Errorf(engine.KindInternal, opWrite, f.Name, "column %q has %d nulls and is declared to have none", f.Name, column.NullN())
		}
	}
	return nil
}

func (w *writer) write(record arrow.Record) error {
	for from := int64(0); from < record.NumRows(); {
		if !w.open || w.rows == rowGroupRows || w.groups.bytes() >= rowGroupBytes {
			if err := w.groups.next(); err != nil {
				return err
			}
			w.rows, w.open = 0, true
		}
		rows := min(record.NumRows()-from, rowGroupRows-w.rows, w.rowsAtATime(record))
		piece := record.NewSlice(from, from+rows)
		err := w.groups.write(piece)
		piece.Release()
		if err != nil {
			return encodeError(err)
		}
		from += rows
		w.rows += rows
	}
	return nil
}

// encodeError gives what goes wrong as rows are encoded its kind. It lies in their types, and happens again however often they are
// written; an error of the underlying writer, which may not, comes first in fail.
func encodeError(err error) error {
	kind := engine.KindInvalidArgument
	var known *engine.Error
	if errors.As(err, &known) {
		kind = known.Kind
	}
	return engine.Errorf(kind, opWrite, "", "%w", err)
}

// rowsAtATime keeps wide rows from exceeding a row group's bytes by much.
func (w *writer) rowsAtATime(record arrow.Record) int64 {
	return max(1, dataset.BatchRowsWithin(record, 0, writeRows, rowGroupBytes/8))
}

// fail remembers the first error. One of the underlying writer comes first: arrow swallows some of them.
func (w *writer) fail(err error) error {
	if w.out.failed != nil {
		err = w.out.failed
	}
	if err != nil && w.failed == nil {
		var known *engine.Error
		if !errors.As(err, &known) {
			err = engine.Errorf(engine.KindOf(err), opWrite, "", "%w", err)
		}
		w.failed = err
	}
	return w.failed
}

// PendingBytes implements dataset.Writer: the open row group.
func (w *writer) PendingBytes() int64 {
	if !w.open || w.finished {
		return 0
	}
	return w.groups.bytes() + w.groups.unpaged()
}

// Finish completes the file. Without rows it has a schema and no row group.
func (w *writer) Finish(pairs map[string]string) error {
	if w.failed != nil {
		return w.failed
	}
	if w.finished {
		return engine.Errorf(engine.KindInternal, opWrite, "", "the file is finished")
	}
	w.finished = true
	keys := make([]string, 0, len(pairs))
	for key := range pairs {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	err := guardWrite("", func() error {
		for _, key := range keys {
			if err := w.groups.addNote(key, pairs[key]); err != nil {
				return err
			}
		}
		w.out.hold = true
		if err := w.groups.finish(); err != nil {
			return err
		}
		return w.out.release()
	})
	return w.fail(err)
}

// Close releases the writer's memory.
func (w *writer) Close() error {
	if w.failed == nil && !w.finished {
		w.failed = engine.Errorf(engine.KindInternal, opWrite, "", "the writer is closed")
	}
	w.finished = true
	w.groups = nil
	w.pool.close()
	return nil
}
