package ipc

import (
	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/f708428e/engine/dataset/object"
)

// checkSchema names the column whose type Arrow IPC cannot hold.
func checkSchema(schema *arrow.Schema) error { return object.CheckSchema(schema) }

// withSchema returns a record of the same columns with another schema, which the caller releases.
func withSchema(schema *arrow.Schema, record arrow.Record) arrow.Record {
	return array.NewRecord(schema, record.Columns(), record.NumRows())
}
