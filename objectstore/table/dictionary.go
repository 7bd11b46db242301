package table

import (
	"fmt"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
)

// loadedDictionary is the state of one dictionary as the stream goes on.
type loadedDictionary struct {
	values *node
	// parts are the dictionary and the deltas since; they are made one when an array asks for it.
	parts []*array.Data
}

// dictionary takes up a dictionary or a part of one.
func (l *loader) dictionary(p parsed, body []byte) error {
	if p.kind != headerDictionaryBatch {
		return fmt.Errorf("its header is of type %d, expected a dictionary or record batch", p.kind)
	}
	id := p.header.int64(dictionaryID)
	delta := p.header.bool(dictionaryDelta)
	table := p.header.table(dictionaryData)
	if table.flat.broken {
		return errBroken
	}
	known, ok := l.dictionaries[id]
	if !ok {
		return fmt.Errorf("dictionary %d, which no column has", id)
	}
	rows, err := l.enter(table, p.version, body)
	if err != nil {
		return fmt.Errorf("dictionary %d: %w", id, err)
	}
	data, err := l.load(known.values)
	if err == nil && data.Len() != rows {
		err = fmt.Errorf("%d values in a batch of %d rows", data.Len(), rows)
	}
	if err != nil {
		return fmt.Errorf("dictionary %d: %w", id, err)
	}
	if !delta {
		known.release()
	}
	known.parts = append(known.parts, data)
	return nil
}

func (d *loadedDictionary) release() {
	for _, part := range d.parts {
		part.Release()
	}
	d.parts = nil
}

// finish releases what arrays have not taken.
func (l *loader) finish() {
	for _, known := range l.dictionaries {
		known.release()
	}
}

// resolve returns a dictionary as it is at this point of the stream; it stays the loader's.
func (l *loader) resolve(id int64) (*array.Data, error) {
	known := l.dictionaries[id]
	switch len(known.parts) {
	case 0:
		// A writer may leave out the dictionary of a column that has nothing but nulls.
		current := l.batch
		l.batch = batch{empty: true, version: version5}
		empty, err := l.load(known.values)
		l.batch = current
		if err != nil {
			return nil, err
		}
		known.parts = []*array.Data{empty}
	case 1:
	default:
		joined, err := l.join(known.parts)
		if err != nil {
			return nil, fmt.Errorf("dictionary %d in %d parts: %w", id, len(known.parts), err)
		}
		known.release()
		known.parts = []*array.Data{joined}
	}
	return known.parts[0], nil
}

// join makes one array of several.
func (l *loader) join(parts []*array.Data) (joined *array.Data, err error) {
	var size int64
	arrays := make([]arrow.Array, len(parts))
	// arrow/go's concatenation was not made for data of others.
	defer func() {
		if cause := recover(); cause != nil {
			joined, err = nil, fmt.Errorf("%v", cause)
		}
		for _, a := range arrays {
			if a != nil {
				a.Release()
			}
		}
	}()
	for i, part := range parts {
		size += sizeOf(part)
		arrays[i] = array.MakeFromData(part)
	}
	if err := l.copies(size); err != nil {
		return nil, err
	}
	whole, err := array.Concatenate(arrays, memory.DefaultAllocator)
	if err != nil {
		return nil, err
	}
	defer whole.Release()
	whole.NullN()
	data := whole.Data().(*array.Data)
	data.Retain()
	return data, nil
}

func sizeOf(data arrow.ArrayData) (size int64) {
	for _, b := range data.Buffers() {
		if b != nil {
			size += int64(b.Len())
		}
	}
	for _, child := range data.Children() {
		size += sizeOf(child)
	}
	return size
}
