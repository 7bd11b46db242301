package operator

import (
	"errors"
	"fmt"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/runtime"
)

// blockRows is how many rows are transposed at a time: their part of the matrix stays in the first-level cache while column
// after column is written into it.
const blockRows = 256

// gatherer makes a tensor of shape [rows, features], [rows, 1] or [rows] out of columns. It keeps its memory from call to call.
type gatherer struct {
	columns []int // places in the schema
	names   []string
	spec    engine.TensorSpec
	kernels []kernel // by column; nil for a tensor of strings
	// same is set if all columns have the type of the tensor, which the fast ways need; not for bools.
	same    bool
	data    []byte
	strings []string
}

// newGatherer binds columns of a schema to an input of a model.
func newGatherer(schema *arrow.Schema, columns []int, spec engine.TensorSpec) (*gatherer, error) {
	g := &gatherer{columns: columns, spec: spec, same: spec.Type != engine.Bool && spec.Type != engine.String}
	if spec.Type == engine.ElementUnknown || spec.Type == engine.Float16 {
		return nil, engine.Errorf(engine.KindModel, "bind model", "input "+spec.String(), "the engine cannot feed this type")
	}
	for _, index := range columns {
		field := schema.Field(index)
		g.names = append(g.names, field.Name)
		var k kernel
		if spec.Type == engine.String {
			if field.Type.ID() != arrow.STRING {
				return nil, typeMismatch(field, spec)
			}
		} else if k = numberKernel(field.Type.ID(), spec.Type); k == nil {
			return nil, typeMismatch(field, spec)
		}
		g.kernels = append(g.kernels, k)
		g.same = g.same && elementOf(field.Type) == spec.Type
	}
	return g, nil
}

func typeMismatch(field arrow.Field, spec engine.TensorSpec) error {
	return engine.Errorf(engine.KindInvalidArgument, "bind model", "", "column %q has the type %s, which cannot be fed to the input %s", field.Name, typeName(field.Type), spec)
}

// gather returns the rows in [lo, hi) as a tensor, which is valid until the next call and no longer than the record. The error
// is that of the first row which is not acceptable, and in it of the first column.
func (g *gatherer) gather(in arrow.Record, lo, hi int) (runtime.Tensor, error) {
	t := runtime.Tensor{Type: g.spec.Type, Shape: []int64{int64(hi - lo), int64(len(g.columns))}}
	if len(g.spec.Shape) == 1 {
		t.Shape = t.Shape[:1]
	}
	if g.spec.Type == engine.String {
		return g.gatherStrings(in, t, lo, hi)
	}
	size := g.spec.Type.SizeBytes()
	if len(g.columns) == 1 && g.same && in.Column(g.columns[0]).NullN() == 0 {
		data := in.Column(g.columns[0]).Data()
		offset := data.Offset()
		t.Data = data.Buffers()[1].Bytes()[(offset+lo)*size : (offset+hi)*size]
		return t, nil
	}
	if need := (hi - lo) * len(g.columns) * size; len(g.data) < need {
		g.data = memory.NewGoAllocator().Allocate(need) // aligned, and the garbage collector's
	}
	t.Data = g.data[:(hi-lo)*len(g.columns)*size]
	nulls := false
	for _, c := range g.columns {
		nulls = nulls || in.Column(c).NullN() > 0
	}
	stride := len(g.columns)
	for first := lo; first < hi; first += blockRows {
		end := min(first+blockRows, hi)
		c := 0
		if g.same {
			c = g.interleave(t.Data, in, first-lo, first, end)
		}
		bad := -1
		badColumn := 0
		for ; c < stride; c++ {
			if row := g.kernels[c](t.Data, (first-lo)*stride+c, stride, in.Column(g.columns[c]).Data(), first, end); row >= 0 && (bad < 0 || row < bad) {
				bad, badColumn = row, c
			}
		}
		if nulls || bad >= 0 {
			if err := g.check(in, first, end, bad, badColumn); err != nil {
				return t, err
			}
		}
	}
	return t, nil
}

// interleave is the kernel for columns of the tensor's own type, four at a time. It returns how many columns it did.
func (g *gatherer) interleave(dst []byte, in arrow.Record, at, lo, hi int) int {
	switch g.spec.Type.SizeBytes() {
	case 8:
		return interleaveOf[uint64](g, dst, in, at, lo, hi)
	case 4:
		return interleaveOf[uint32](g, dst, in, at, lo, hi)
	default:
		return 0
	}
}

func interleaveOf[T uint32 | uint64](g *gatherer, dst []byte, in arrow.Record, at, lo, hi int) int {
	stride := len(g.columns)
	d := elements[T](dst)[at*stride:]
	c := 0
	for ; c+4 <= stride; c += 4 {
		v0, v1 := rowsOf[T](in, g.columns[c], lo, hi), rowsOf[T](in, g.columns[c+1], lo, hi)
		v2, v3 := rowsOf[T](in, g.columns[c+2], lo, hi), rowsOf[T](in, g.columns[c+3], lo, hi)
		v1, v2, v3 = v1[:len(v0)], v2[:len(v0)], v3[:len(v0)]
		j := c
		for i, v := range v0 {
			row := d[j : j+4 : j+4]
			row[0], row[1], row[2], row[3] = v, v1[i], v2[i], v3[i]
			j += stride
		}
	}
	if c+3 == stride {
		v0, v1, v2 := rowsOf[T](in, g.columns[c], lo, hi), rowsOf[T](in, g.columns[c+1], lo, hi), rowsOf[T](in, g.columns[c+2], lo, hi)
		v1, v2 = v1[:len(v0)], v2[:len(v0)]
		j := c
		for i, v := range v0 {
			row := d[j : j+3 : j+3]
			row[0], row[1], row[2] = v, v1[i], v2[i]
			j += stride
		}
		c = stride
	}
	return c
}

func rowsOf[T uint32 | uint64](in arrow.Record, column, lo, hi int) []T {
	return arrow.GetValues[T](in.Column(column).Data(), 1)[lo:hi]
}

// check finds the first row that is null in some column, or else that the kernel of a column refused: those before it are good
// in all columns, since each kernel stops at its first.
func (g *gatherer) check(in arrow.Record, lo, hi, bad, badColumn int) error {
	null := false
	for c, index := range g.columns {
		column := in.Column(index)
		if column.NullN() == 0 {
			continue
		}
		for row := lo; row < hi && (bad < 0 || row < bad || row == bad && c <= badColumn); row++ {
			if column.IsNull(row) {
				bad, badColumn, null = row, c, true
				break
			}
		}
	}
	if bad < 0 {
		return nil
	}
	if null {
		column := in.Column(g.columns[badColumn])
		var others []int64
		for row := bad + 1; row < column.Len(); row++ {
			if column.IsNull(row) {
				others = append(others, int64(row))
			}
		}
		return &runtime.RowError{Column: g.names[badColumn], Row: int64(bad), Others: others, Err: errors.New("null, and the model needs a value")}
	}
	err := fmt.Errorf("value %s does not fit %s exactly, which the model needs", valueText(in.Column(g.columns[badColumn]), bad), arrowOf(g.spec.Type))
	return &runtime.RowError{Column: g.names[badColumn], Row: int64(bad), Err: err}
}

func (g *gatherer) gatherStrings(in arrow.Record, t runtime.Tensor, lo, hi int) (runtime.Tensor, error) {
	t.Strings = g.strings[:0]
	for row := lo; row < hi; row++ {
		for c, index := range g.columns {
			column := in.Column(index).(*array.String)
			if column.IsNull(row) {
				return t, g.check(in, row, row+1, -1, 0)
			}
			s := column.Value(row)
			if strings.IndexByte(s, 0) >= 0 {
				err := errors.New("the text contains a NUL character, which models cannot be fed")
				return t, &runtime.RowError{Column: g.names[c], Row: int64(row), Err: err}
			}
			t.Strings = append(t.Strings, s)
		}
	}
	g.strings = t.Strings
	return t, nil
}
