package operator

import (
	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine/objectstore/table"
)

// Output is a table that a Func returns: a schema and records, of which it holds references until Release. The zero value is an
// output without an object. It is not safe for concurrent use.
type Output struct {
	schema  *arrow.Schema
	records []arrow.Record
}

// Record makes an output of one record, whose reference it takes over.
func Record(record arrow.Record) Output {
	return Output{schema: record.Schema(), records: []arrow.Record{record}}
}

// Records makes an output of any number of records of one schema, whose references it takes over.
func Records(schema *arrow.Schema, records ...arrow.Record) Output {
	return Output{schema: schema, records: records}
}

// Tables makes an output of the records of a table, an argument for example, which stays the caller's.
func Tables(t *Table) Output {
	records := t.Records()
	for _, record := range records {
		record.Retain()
	}
	return Output{schema: t.Schema(), records: records}
}

// IsZero reports whether the output has no object.
func (o Output) IsZero() bool { return o.schema == nil }

// Encode measures the output; the encoding holds references of its own. The errors' kind is engine.KindInvalidArgument: a record
// that has another schema, or values that Arrow IPC cannot hold.
func (o Output) Encode() (*table.Encoding, error) { return table.Encode(o.schema, o.records...) }

// Release gives the references back. Calling it again does nothing.
func (o *Output) Release() {
	for _, record := range o.records {
		record.Release()
	}
	o.records = nil
}
