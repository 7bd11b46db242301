package worker

import (
	"encoding/binary"
	"math"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/cespare/xxhash/v2"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/hive"
	"github.com/f708428e/engine/internal/jobplan"
	"github.com/f708428e/engine/runtime/operator"
)

// router finds out which file each row of a record batch belongs to. It belongs to one goroutine.
type router struct {
	split     *jobplan.Split
	allocator memory.Allocator
	// folders are those of sinks: with the places of their partition columns, in the order of the folders, and of the columns of their files.
	folders []routed
	// found gives the places in targets by what stands in key; rows are those of a record batch for each of targets.
	found   map[string]int
	targets []target
	rows    [][]int32
	key     []byte
}

type routed struct {
	names      []string
	partitions []int
	columns    []int
	schema     *arrow.Schema
}

func newRouter(o *partsOutput) *router {
	r := &router{split: o.split, allocator: o.allocator, found: map[string]int{}}
	for i, f := range o.folders {
		if f.Name == jobplan.RejectsName {
			continue
		}
		to := routed{names: f.PartitionBy, schema: o.schemas[i]}
		for _, name := range f.PartitionBy {
			to.partitions = append(to.partitions, o.schema.FieldIndices(name)[0])
		}
		for _, field := range o.schemas[i].Fields() {
			to.columns = append(to.columns, o.schema.FieldIndices(field.Name)[0])
		}
		r.folders = append(r.folders, to)
	}
	return r
}

// route gives the rows of a record batch to their targets, in order. Those that have none are left out, and returned as dataset.RefusedRows
// when the others have been written.
func (r *router) route(record arrow.Record, write func(target, arrow.Record) error) error {
	for i := range r.rows {
		r.rows[i] = r.rows[i][:0]
	}
	last, lastKey := -1, []byte(nil)
	var refused dataset.RefusedRows
	for row := range int(record.NumRows()) {
		folder := 0
		if r.split != nil {
			folder = r.part(record, row)
		}
		r.key = binary.AppendUvarint(r.key[:0], uint64(folder)) //nolint:gosec // Not negative.
		to := &r.folders[folder]
		for _, column := range to.partitions {
			r.key = appendValue(r.key, record.Column(column), row)
		}
		if last < 0 || string(r.key) != string(lastKey) {
			at, ok := r.found[string(r.key)]
			if !ok {
				t := target{folder: folder}
				var column string
				var err error
				if t.partition, column, err = partitionOf(to, record, row); err != nil {
					refused = append(refused, dataset.RefusedRow{Row: int64(row), Column: column, Err: err})
					continue
				}
				at = len(r.targets)
				r.found[string(r.key)] = at
				r.targets = append(r.targets, t)
				r.rows = append(r.rows, nil)
			}
			last, lastKey = at, append(lastKey[:0], r.key...)
		}
		r.rows[last] = append(r.rows[last], int32(row)) //nolint:gosec // A record batch has fewer rows.
	}
	for i, rows := range r.rows {
		if len(rows) == 0 {
			continue
		}
		if err := r.give(record, r.targets[i], rows, write); err != nil {
			return err
		}
	}
	if len(refused) > 0 {
		return refused
	}
	return nil
}

// give writes some rows of a record batch, without the columns that are folders.
func (r *router) give(record arrow.Record, t target, rows []int32, write func(target, arrow.Record) error) error {
	to := &r.folders[t.folder]
	columns := make([]arrow.Array, len(to.columns))
	for i, c := range to.columns {
		columns[i] = record.Column(c)
	}
	var part arrow.Record = array.NewRecord(to.schema, columns, record.NumRows())
	defer func() { part.Release() }()
	if len(rows) < int(record.NumRows()) {
		taken, err := operator.Take(part, rows, r.allocator)
		if err != nil {
			return err
		}
		part.Release()
		part = taken
	}
	return write(t, part)
}

// part is the place of the sink that a row goes to.
func (r *router) part(record arrow.Record, row int) int {
	r.key = binary.LittleEndian.AppendUint64(r.key[:0], uint64(r.split.Seed)) //nolint:gosec // Its bits.
	for _, column := range r.split.By {
		r.key = appendValue(r.key, record.Column(column), row)
	}
	hash := xxhash.Sum64(r.key)
	for i, bound := range r.split.Bounds {
		if hash <= bound {
			return i
		}
	}
	return len(r.split.Bounds) - 1
}

// appendValue writes a value so that different ones differ. What a split does with a row depends on it, so it never changes: a null is a
// zero byte; other values follow a byte that is one: whole numbers as 8 bytes of two's complement, floats as 8 bytes of IEEE 754 with
// one zero and one NaN, truth values as one byte, texts after their length, dates and timestamps as whole numbers of their unit.
func appendValue(key []byte, column arrow.Array, row int) []byte {
	if column.IsNull(row) {
		return append(key, 0)
	}
	key = append(key, 1)
	if text, ok := textAt(column, row); ok {
		return append(binary.AppendUvarint(key, uint64(len(text))), text...)
	}
	if n, ok := wholeAt(column, row); ok {
		return binary.LittleEndian.AppendUint64(key, n)
	}
	switch c := column.(type) {
	case *array.Boolean:
		if c.Value(row) {
			return append(key, 1)
		}
		return append(key, 0)
	case *array.Float32:
		return appendFloat(key, float64(c.Value(row)))
	case *array.Float64:
		return appendFloat(key, c.Value(row))
	}
	return key
}

func appendFloat(key []byte, x float64) []byte {
	switch {
	case x == 0:
		x = 0 // Not the negative one.
	case math.IsNaN(x):
		x = math.NaN()
	}
	return binary.LittleEndian.AppendUint64(key, math.Float64bits(x))
}

func textAt(column arrow.Array, row int) (string, bool) {
	switch c := column.(type) {
	case *array.String:
		return c.Value(row), true
	case *array.LargeString:
		return c.Value(row), true
	}
	return "", false
}

// wholeAt returns a whole number, a date, or a timestamp by its bits.
func wholeAt(column arrow.Array, row int) (uint64, bool) {
	switch c := column.(type) {
	case *array.Int8:
		return uint64(c.Value(row)), true //nolint:gosec // Its bits, here and below.
	case *array.Int16:
		return uint64(c.Value(row)), true //nolint:gosec // See above.
	case *array.Int32:
		return uint64(c.Value(row)), true //nolint:gosec // See above.
	case *array.Int64:
		return uint64(c.Value(row)), true //nolint:gosec // See above.
	case *array.Uint8:
		return uint64(c.Value(row)), true
	case *array.Uint16:
		return uint64(c.Value(row)), true
	case *array.Uint32:
		return uint64(c.Value(row)), true
	case *array.Uint64:
		return c.Value(row), true
	case *array.Date32:
		return uint64(c.Value(row)), true //nolint:gosec // See above.
	case *array.Timestamp:
		return uint64(c.Value(row)), true //nolint:gosec // See above.
	}
	return 0, false
}

// maxFolderName is how long the name of a folder may be on most file systems.
const maxFolderName = 255

// partitionOf is the path of the folders that a row belongs to, or the column whose value makes none, and why.
func partitionOf(to *routed, record arrow.Record, row int) (path, at string, err error) {
	for i, column := range to.partitions {
		value := "" // A null.
		if c := record.Column(column); c.IsValid(row) {
			value = c.ValueStr(row)
		}
		name, err := hive.Folder(to.names[i], value)
		if err == nil && len(name) > maxFolderName {
			err = engine.Errorf(engine.KindData, "", "", "the folder %.40s… would have a name of %d bytes, at most %d are possible", name, len(name), maxFolderName)
		}
		if err != nil {
			return "", to.names[i], err
		}
		if i > 0 {
			path += "/"
		}
		path += name
	}
	return path, "", nil
}
