package operator

import (
	"unsafe"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/bitutil"

	"github.com/f708428e/engine"
)

// number is the type of the elements of a numeric column or tensor.
type number interface {
	int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | uint64 | float32 | float64
}

// kernel converts the values in [lo, hi) of a column and writes them to dst, elements of the target type: the first to element
// at, each further one stride elements on. It returns the first row whose value the target type cannot hold, or -1. After a bad
// row nothing more is written. Null rows are converted like others, from whatever their slot holds.
type kernel func(dst []byte, at, stride int, column arrow.ArrayData, lo, hi int) int

// numberKernel returns the kernel from an Arrow type to an element type, or nil if there is none. A bool counts as 0 or 1, and
// only these become a bool, which is one byte of dst. float64 becomes float32 by rounding; every other conversion is exact.
func numberKernel(from arrow.Type, to engine.ElementType) kernel {
	switch from {
	case arrow.INT8:
		return kernelFrom[int8](to)
	case arrow.INT16:
		return kernelFrom[int16](to)
	case arrow.INT32:
		return kernelFrom[int32](to)
	case arrow.INT64:
		return kernelFrom[int64](to)
	case arrow.UINT8:
		return kernelFrom[uint8](to)
	case arrow.UINT16:
		return kernelFrom[uint16](to)
	case arrow.UINT32:
		return kernelFrom[uint32](to)
	case arrow.UINT64:
		return kernelFrom[uint64](to)
	case arrow.FLOAT32:
		return kernelFrom[float32](to)
	case arrow.FLOAT64:
		return kernelFrom[float64](to)
	case arrow.BOOL:
		return kernelFromBool(to)
	default:
		return nil
	}
}

func kernelFrom[S number](to engine.ElementType) kernel {
	switch to {
	case engine.Float32:
		return kernelOf[S, float32]()
	case engine.Float64:
		return kernelOf[S, float64]()
	case engine.Int8:
		return kernelOf[S, int8]()
	case engine.Int16:
		return kernelOf[S, int16]()
	case engine.Int32:
		return kernelOf[S, int32]()
	case engine.Int64:
		return kernelOf[S, int64]()
	case engine.Uint8:
		return kernelOf[S, uint8]()
	case engine.Uint16:
		return kernelOf[S, uint16]()
	case engine.Uint32:
		return kernelOf[S, uint32]()
	case engine.Uint64:
		return kernelOf[S, uint64]()
	case engine.Bool:
		return toBool[S]
	default:
		return nil
	}
}

func kernelFromBool(to engine.ElementType) kernel {
	switch to {
	case engine.Float32:
		return fromBool[float32]
	case engine.Float64:
		return fromBool[float64]
	case engine.Int8:
		return fromBool[int8]
	case engine.Int16:
		return fromBool[int16]
	case engine.Int32:
		return fromBool[int32]
	case engine.Int64:
		return fromBool[int64]
	case engine.Uint8, engine.Bool:
		return fromBool[uint8]
	case engine.Uint16:
		return fromBool[uint16]
	case engine.Uint32:
		return fromBool[uint32]
	case engine.Uint64:
		return fromBool[uint64]
	default:
		return nil
	}
}

// kernelOf chooses by what can go wrong between two types.
func kernelOf[S, D number]() kernel {
	fromFloat, toFloat := isFloat[S](), isFloat[D]()
	switch {
	case fromFloat && toFloat:
		if size[S]() > size[D]() {
			return narrow[S, D]
		}
		return convert[S, D]
	case fromFloat:
		return floatToInt[S, D]
	case toFloat:
		if 8*size[S]() <= mantissaBits[D]() {
			return convert[S, D]
		}
		return intToFloat[S, D]
	default:
		if size[S]() <= size[D]() && isSigned[S]() == isSigned[D]() || size[S]() < size[D]() && isSigned[D]() {
			return convert[S, D]
		}
		return intToInt[S, D]
	}
}

func size[T number]() int { return int(unsafe.Sizeof(*new(T))) }

func isFloat[T number]() bool {
	one, two := T(1), T(2)
	return one/two != 0
}

func isSigned[T number]() bool {
	zero, one := T(0), T(1)
	return zero-one < 0
}

func mantissaBits[T number]() int {
	if size[T]() == 4 {
		return 24
	}
	return 53
}

// limit returns the least power of two that an integer type T cannot hold.
func limit[T number]() float64 {
	bits := 8 * size[T]()
	if isSigned[T]() {
		bits--
	}
	l := 1.0
	for range bits {
		l *= 2
	}
	return l
}

func elements[T number](b []byte) []T {
	if len(b) == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/size[T]())
}

// convert is for types of which the second can hold all values of the first.
func convert[S, D number](dst []byte, at, stride int, column arrow.ArrayData, lo, hi int) int {
	d := elements[D](dst)
	for _, v := range arrow.GetValues[S](column, 1)[lo:hi] {
		d[at] = D(v)
		at += stride
	}
	return -1
}

// narrow rounds; what becomes infinite by that does not fit.
func narrow[S, D number](dst []byte, at, stride int, column arrow.ArrayData, lo, hi int) int {
	d := elements[D](dst)
	for i, v := range arrow.GetValues[S](column, 1)[lo:hi] {
		r := D(v)
		if r*0 != 0 && v*0 == 0 { // times 0, what is infinite becomes NaN
			return lo + i
		}
		d[at] = r
		at += stride
	}
	return -1
}

func intToFloat[S, D number](dst []byte, at, stride int, column arrow.ArrayData, lo, hi int) int {
	d := elements[D](dst)
	bound := D(limit[S]()) // converting this back would not be defined
	for i, v := range arrow.GetValues[S](column, 1)[lo:hi] {
		r := D(v)
		if r >= bound || S(r) != v {
			return lo + i
		}
		d[at] = r
		at += stride
	}
	return -1
}

func floatToInt[S, D number](dst []byte, at, stride int, column arrow.ArrayData, lo, hi int) int {
	d := elements[D](dst)
	above := S(limit[D]())
	var least S
	if isSigned[D]() {
		least = -above
	}
	for i, v := range arrow.GetValues[S](column, 1)[lo:hi] {
		if !(v >= least && v < above) || S(D(v)) != v { // NaN fails too
			return lo + i
		}
		d[at] = D(v)
		at += stride
	}
	return -1
}

func intToInt[S, D number](dst []byte, at, stride int, column arrow.ArrayData, lo, hi int) int {
	d := elements[D](dst)
	for i, v := range arrow.GetValues[S](column, 1)[lo:hi] {
		r := D(v)
		if S(r) != v || (r < 0) != (v < 0) {
			return lo + i
		}
		d[at] = r
		at += stride
	}
	return -1
}

func toBool[S number](dst []byte, at, stride int, column arrow.ArrayData, lo, hi int) int {
	for i, v := range arrow.GetValues[S](column, 1)[lo:hi] {
		switch v {
		case 0:
			dst[at] = 0
		case 1:
			dst[at] = 1
		default:
			return lo + i
		}
		at += stride
	}
	return -1
}

func fromBool[D number](dst []byte, at, stride int, column arrow.ArrayData, lo, hi int) int {
	d := elements[D](dst)
	bits := column.Buffers()[1].Bytes()
	for i := column.Offset() + lo; i < column.Offset()+hi; i++ {
		d[at] = 0
		if bitutil.BitIsSet(bits, i) {
			d[at] = 1
		}
		at += stride
	}
	return -1
}
