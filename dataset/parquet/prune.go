package parquet

import (
	"encoding/binary"
	"math"

	"github.com/apache/arrow/go/v15/arrow"
	pq "github.com/apache/arrow/go/v15/parquet"
	pqschema "github.com/apache/arrow/go/v15/parquet/schema"

	"github.com/f708428e/engine/dataset"
)

// prune finds the row groups that are not needed, by the statistics in the footer.
func (r *reader) prune() {
	if r.options.Prune == nil {
		return
	}
	r.needless = make([]bool, r.end-r.group)
	for i := range r.needless {
		r.needless[i] = !r.options.Prune.MayMatch(func(column string) dataset.Bounds { return r.in.bounds(r.group+i, column) })
	}
}

func (r *reader) isNeedless(group int) bool {
	return r.needless != nil && group < r.end && r.needless[group-r.first]
}

// following is the row group after the one that is being decoded, or the first one.
func (r *reader) following() int {
	if r.decoders != nil {
		return r.group + 1
	}
	return r.group
}

// leaveOut passes over a row group. No rows are pending.
func (r *reader) leaveOut() {
	rows := r.in.parquet.MetaData().RowGroups[r.group].NumRows
	r.decoders = nil
	r.group++
	r.nextRow += rows
	r.batchRow = r.nextRow
	if r.options.Prune.LeftOut != nil {
		r.options.Prune.LeftOut(rows)
	}
}

// bounds is what the footer says of a column in a row group. Only what is sure counts: columns without nesting whose order the format
// defines as we do, and the statistics that follow that order. Those that older writers left, in the fields min and max, do not always.
// Bounds of texts may have been cut, the upper one upwards; they are bounds all the same.
func (in *input) bounds(group int, column string) (b dataset.Bounds) {
	place, ok := in.places[column]
	if !ok {
		return b
	}
	field := in.manifest.Fields[place]
	if len(field.Children) > 0 || field.ColIndex < 0 {
		return b
	}
	leaf := in.parquet.MetaData().Schema.Column(field.ColIndex)
	rows := in.parquet.MetaData().RowGroups[group]
	statistics := rows.Columns[field.ColIndex].MetaData.Statistics
	if leaf.MaxRepetitionLevel() > 0 {
		return b
	}
	if leaf.MaxDefinitionLevel() == 0 {
		b.NoNulls = true
	}
	if statistics == nil {
		return b
	}
	if n := statistics.NullCount; n != nil && leaf.MaxDefinitionLevel() == 1 {
		b.NoNulls, b.AllNulls = *n == 0, *n == rows.NumRows
	}
	if leaf.ColumnOrder() != pq.ColumnOrders.TypeDefinedOrder || leaf.SortOrder() != pqschema.SortSIGNED && leaf.PhysicalType() != pq.Types.ByteArray {
		return b
	}
	low, high := decodeBound(leaf.PhysicalType(), in.fields[place].Type, statistics.MinValue), decodeBound(leaf.PhysicalType(), in.fields[place].Type, statistics.MaxValue)
	if low != nil && high != nil {
		b.Low, b.High = low, high
	}
	return b
}

// decodeBound returns nil for what cannot be compared, or makes no sense.
func decodeBound(stored pq.Type, t arrow.DataType, b []byte) any {
	order := binary.LittleEndian
	switch {
	case b == nil:
	case stored == pq.Types.Int32 && len(b) == 4 && oneOf(t, arrow.INT8, arrow.INT16, arrow.INT32, arrow.DATE32):
		return int64(int32(order.Uint32(b)))
	case stored == pq.Types.Int64 && len(b) == 8 && oneOf(t, arrow.INT64, arrow.TIMESTAMP):
		return int64(order.Uint64(b))
	case stored == pq.Types.Float && len(b) == 4 && oneOf(t, arrow.FLOAT32):
		return number(float64(math.Float32frombits(order.Uint32(b))))
	case stored == pq.Types.Double && len(b) == 8 && oneOf(t, arrow.FLOAT64):
		return number(math.Float64frombits(order.Uint64(b)))
	case stored == pq.Types.ByteArray && oneOf(t, arrow.STRING):
		return string(b)
	}
	return nil
}

// number returns nil for NaN, which some writers leave as a bound.
func number(f float64) any {
	if math.IsNaN(f) {
		return nil
	}
	return f
}
