package table

import (
	"fmt"
	"math"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
)

// begin reads the schema.
func (l *loader) begin() (Message, error) {
	m, p, ok, err := l.scanner.next()
	if err != nil {
		return m, err
	}
	if !ok || p.kind != headerSchema {
		return m, fmt.Errorf("the stream does not begin with a schema")
	}
	if l.schema, err = schemaOf(m.Header, p.header); err != nil {
		return m, fmt.Errorf("schema: %w", err)
	}
	if len(l.schema.dictionaries) > 0 {
		l.dictionaries = make(map[int64]*loadedDictionary, len(l.schema.dictionaries))
		for id, values := range l.schema.dictionaries {
			l.dictionaries[id] = &loadedDictionary{values: values}
		}
	}
	return m, nil
}

// open makes a table of the stream.
func (l *loader) open(t *Table) error {
	first, err := l.begin()
	if err != nil {
		return err
	}
	t.schema = l.schema.schema
	t.messages = append(make([]Message, 0, 2), first)
	for {
		m, p, ok, err := l.scanner.next()
		if err != nil {
			return err
		}
		if !ok {
			l.finish()
			return nil
		}
		t.messages = append(t.messages, m)
		var made *record
		if p.kind == headerRecordBatch {
			made, err = l.record(p, m.Body)
		} else {
			err = l.dictionary(p, m.Body)
		}
		if err == nil && made != nil {
			t.records = append(t.records, made)
			t.rows, err = addRows(t.rows, made.rows)
		}
		if err != nil {
			return fmt.Errorf("message %d: %w", len(t.messages)-1, err)
		}
	}
}

// check reads the stream as open does.
func (l *loader) check() (rows, batches int64, err error) {
	if _, err := l.begin(); err != nil {
		return 0, 0, err
	}
	for {
		m, p, ok, err := l.scanner.next()
		if err != nil {
			return 0, 0, err
		}
		if !ok {
			return rows, batches, nil
		}
		if p.kind == headerRecordBatch {
			var length int
			if length, err = l.checkRecord(p, m.Body); err == nil {
				batches++
				rows, err = addRows(rows, int64(length))
			}
		} else {
			err = l.dictionary(p, m.Body)
		}
		if err != nil {
			return 0, 0, fmt.Errorf("message %d: %w", l.scanner.count-1, err)
		}
	}
}

func addRows(rows, more int64) (int64, error) {
	if rows += more; rows < 0 || rows > math.MaxInt64/2 {
		return 0, fmt.Errorf("more rows than can be counted")
	}
	return rows, nil
}

// record makes a record of a message.
func (l *loader) record(p parsed, body []byte) (*record, error) {
	rows, err := l.enter(p.header, p.version, body)
	if err != nil {
		return nil, err
	}
	columns := make([]arrow.Array, len(l.schema.nodes))
	for i := range columns {
		data, err := l.column(i, rows)
		if err == nil {
			columns[i], err = makeArray(l.schema.nodes[i], data)
		}
		if err != nil {
			return nil, l.ofColumn(i, err)
		}
	}
	return newRecord(l.schema.schema, columns, int64(rows)), nil
}

// checkRecord reads a message as record does, and returns how many rows it has.
func (l *loader) checkRecord(p parsed, body []byte) (rows int, err error) {
	if rows, err = l.enter(p.header, p.version, body); err != nil {
		return 0, err
	}
	for i := range l.schema.nodes {
		if _, err := l.column(i, rows); err != nil {
			return 0, l.ofColumn(i, err)
		}
	}
	return rows, nil
}

// column makes the data of the next column, which is number i.
func (l *loader) column(i, rows int) (*array.Data, error) {
	data, err := l.load(l.schema.nodes[i])
	if err == nil && data.Len() != rows {
		err = fmt.Errorf("%d values in a batch of %d rows", data.Len(), rows)
	}
	return data, err
}

func (l *loader) ofColumn(i int, err error) error {
	return fmt.Errorf("column %q: %w", l.schema.schema.Field(i).Name, err)
}

// makeArray makes an array of its data, which it releases.
func makeArray(n *node, data *array.Data) (made arrow.Array, err error) {
	if n.typ.ID() == arrow.EXTENSION {
		// The constructor of a type that is not ours may refuse what it finds.
		defer func() {
			if cause := recover(); cause != nil {
				err = fmt.Errorf("extension type %q: %v", n.typ.(arrow.ExtensionType).ExtensionName(), cause)
			}
		}()
	}
	made = array.MakeFromData(data)
	data.Release()
	if n.encoded {
		touch(made)
	}
	return made, nil
}

// touch makes the dictionaries of an array's dictionary arrays, which arrow/go otherwise makes at first use, without a lock: two
// readers at a time would race, and one's reference would stay for ever.
func touch(made arrow.Array) {
	switch a := made.(type) {
	case *array.Dictionary:
		touch(a.Dictionary())
	case array.ExtensionArray:
		touch(a.Storage())
	case *array.Struct:
		for i := range a.NumField() {
			touch(a.Field(i))
		}
	case *array.Map:
		touch(a.ListValues())
		touch(a.Keys())
		touch(a.Items())
	case array.ListLike:
		touch(a.ListValues())
	case array.Union:
		for i := range a.NumFields() {
			touch(a.Field(i))
		}
	case *array.RunEndEncoded:
		touch(a.Values())
	}
}
