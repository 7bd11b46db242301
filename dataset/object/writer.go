package object

import (
	"context"
	"slices"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/objectstore/table"
)

// CheckSchema returns an error of kind engine.KindInvalidArgument that names the column whose type an object cannot hold.
func CheckSchema(schema *arrow.Schema) error {
	encoding, err := table.Encode(schema)
	if err != nil {
		return engine.WrapError(opWrite, "", err)
	}
	encoding.Release()
	return nil
}

// Writer gathers the record batches of one object, whose exact size must be known before it is created. It is not safe for
// concurrent use.
type Writer struct {
	schema     *arrow.Schema
	records    []arrow.Record
	bytes      int64
	limitBytes int64
}

// NewWriter returns a Writer for an object that can have limitBytes at most. Its owner ends it with Close.
func NewWriter(schema *arrow.Schema, limitBytes int64) *Writer {
	return &Writer{schema: schema, limitBytes: limitBytes}
}

// Write adds a record batch, which it retains until Close. One that makes the object larger than it can be is an error of kind
// engine.KindInvalidArgument.
func (w *Writer) Write(_ context.Context, record arrow.Record) error {
	if w.bytes += dataset.BatchSizeBytes(record); w.bytes > w.limitBytes {
		return engine.Errorf(engine.KindInvalidArgument, opWrite, "", "the output of one task has %s or more, the object store of this node %s",
			engine.FormatSize(w.bytes), engine.FormatSize(w.limitBytes)).
			WithHint("start the worker with a larger --object-store-memory")
	}
	record.Retain()
	w.records = append(w.records, record)
	return nil
}

// Annotate adds to the metadata of the object's schema.
func (w *Writer) Annotate(key, value string) {
	old := w.schema.Metadata()
	metadata := arrow.NewMetadata(append(slices.Clone(old.Keys()), key), append(slices.Clone(old.Values()), value))
	w.schema = arrow.NewSchema(w.schema.Fields(), &metadata)
}

// Encode measures the object. The caller releases the encoding, which outlives Close.
func (w *Writer) Encode() (*table.Encoding, error) {
	encoding, err := table.Encode(w.schema, w.records...)
	return encoding, engine.WrapError(opWrite, "", err)
}

// Close gives the record batches back. It may be called more than once.
func (w *Writer) Close() {
	for _, record := range w.records {
		record.Release()
	}
	w.records = nil
}
