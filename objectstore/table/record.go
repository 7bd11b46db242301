package table

import (
	"fmt"
	"sync/atomic"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
)

// record is a record batch whose columns are known to have the schema's types and the right length. The record of arrow/go compares
// the types again, by reflection, which takes a quarter of the time in which a trusted table is opened.
type record struct {
	users   atomic.Int64
	schema  *arrow.Schema
	rows    int64
	columns []arrow.Array
}

var _ arrow.Record = (*record)(nil)

// newRecord takes over the columns.
func newRecord(schema *arrow.Schema, columns []arrow.Array, rows int64) *record {
	r := &record{schema: schema, rows: rows, columns: columns}
	r.users.Store(1)
	return r
}

// Retain adds a user.
func (r *record) Retain() { r.users.Add(1) }

// Release is the counterpart of Retain; the last releases the columns.
func (r *record) Release() {
	if r.users.Add(-1) != 0 {
		return
	}
	for _, column := range r.columns {
		column.Release()
	}
	r.columns = nil
}

// Schema is the table's.
func (r *record) Schema() *arrow.Schema { return r.schema }

// NumRows is the length of every column.
func (r *record) NumRows() int64 { return r.rows }

// NumCols is the number of columns.
func (r *record) NumCols() int64 { return int64(len(r.columns)) }

// Columns are the record's own.
func (r *record) Columns() []arrow.Array { return r.columns }

// Column is the record's own.
func (r *record) Column(i int) arrow.Array { return r.columns[i] }

// ColumnName is the name of the schema's field.
func (r *record) ColumnName(i int) string { return r.schema.Field(i).Name }

// SetColumn returns a record of arrow/go with another column.
func (r *record) SetColumn(i int, column arrow.Array) (arrow.Record, error) {
	plain := array.NewRecord(r.schema, r.columns, r.rows)
	defer plain.Release()
	return plain.SetColumn(i, column)
}

// NewSlice returns rows [i, j), which are the caller's to release. It panics if there are no such rows, as arrow/go's does.
func (r *record) NewSlice(i, j int64) arrow.Record {
	columns := make([]arrow.Array, len(r.columns))
	for c, column := range r.columns {
		columns[c] = array.NewSlice(column, i, j)
	}
	return newRecord(r.schema, columns, j-i)
}

// MarshalJSON writes an object for each row.
func (r *record) MarshalJSON() ([]byte, error) {
	rows := array.RecordToStructArray(r)
	defer rows.Release()
	return rows.MarshalJSON()
}

// String prints the record as arrow/go does.
func (r *record) String() string {
	plain := array.NewRecord(r.schema, r.columns, r.rows)
	defer plain.Release()
	return fmt.Sprint(plain)
}
