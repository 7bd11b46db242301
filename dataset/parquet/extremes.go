package parquet

import (
	"encoding/binary"
	"math"
	"unsafe"

	pq "github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/metadata"
)

// extremes are the smallest and the largest value of a column chunk. NaN is neither.
type extremes struct {
	kind     pq.Type
	found    bool
	min, max float64 // of floats
	low, top int64   // of integers
}

// add takes values in, which are the bits of those of the column's type.
func (e *extremes) add(bits unsafe.Pointer, n int) {
	if n == 0 {
		return
	}
	switch e.kind {
	case pq.Types.Double:
		low, top := floatRange(unsafe.Slice((*float64)(bits), n))
		e.addFloats(low, top)
	case pq.Types.Float:
		low, top := floatRange(unsafe.Slice((*float32)(bits), n))
		e.addFloats(float64(low), float64(top))
	case pq.Types.Int64:
		low, top := intRange(unsafe.Slice((*int64)(bits), n))
		e.addInts(low, top)
	case pq.Types.Int32:
		low, top := intRange(unsafe.Slice((*int32)(bits), n))
		e.addInts(int64(low), int64(top))
	}
}

func (e *extremes) addFloats(low, top float64) {
	switch {
	case low > top: // all are NaN
	case !e.found:
		e.found, e.min, e.max = true, low, top
	default:
		e.min, e.max = min(e.min, low), max(e.max, top)
	}
}

func (e *extremes) addInts(low, top int64) {
	if !e.found {
		e.found, e.low, e.top = true, low, top
		return
	}
	e.low, e.top = min(e.low, low), max(e.top, top)
}

// floatRange returns +Inf and -Inf if all values are NaN.
func floatRange[T float32 | float64](values []T) (T, T) {
	low, top := T(math.Inf(1)), T(math.Inf(-1))
	for _, v := range values {
		if v < low {
			low = v
		}
		if v > top {
			top = v
		}
	}
	return low, top
}

func intRange[T int32 | int64](values []T) (T, T) {
	low, top := values[0], values[0]
	for _, v := range values {
		low, top = min(low, v), max(top, v)
	}
	return low, top
}

// encode returns the statistics of a chunk. Zeros are extended to both signs, as the Parquet format demands.
func (e *extremes) encode(nulls int64) metadata.EncodedStatistics {
	s := metadata.EncodedStatistics{HasNullCount: true, NullCount: nulls, Signed: true}
	if !e.found {
		return s
	}
	s.HasMin, s.HasMax = true, true
	low, top := e.min, e.max
	if low == 0 {
		low = math.Copysign(0, -1)
	}
	if top == 0 {
		top = 0
	}
	order := binary.LittleEndian
	switch e.kind {
	case pq.Types.Double:
		s.Min, s.Max = order.AppendUint64(nil, math.Float64bits(low)), order.AppendUint64(nil, math.Float64bits(top))
	case pq.Types.Float:
		s.Min, s.Max = order.AppendUint32(nil, math.Float32bits(float32(low))), order.AppendUint32(nil, math.Float32bits(float32(top)))
	case pq.Types.Int64:
		s.Min, s.Max = order.AppendUint64(nil, uint64(e.low)), order.AppendUint64(nil, uint64(e.top))
	case pq.Types.Int32:
		s.Min, s.Max = order.AppendUint32(nil, uint32(e.low)), order.AppendUint32(nil, uint32(e.top))
	}
	return s
}
