package operator

import (
	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/bitutil"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/runtime"
)

// scatterer turns an output of a model into a column, call by call. It is used from begin to release again and again.
type scatterer struct {
	index int // constant: the output's place in the model
	spec  engine.TensorSpec
	typ   arrow.DataType // constant: the column's
	width int            // constant: how many elements a row has
	// distrust is set when the model does not keep to the shape that it declares.
	distrust bool
	flags    []byte // of bools, one byte each; kept from call to call

	values  *memory.Buffer       // set between begin and release, unless of strings
	strings *array.StringBuilder // set between begin and release, if of strings
}

func newScatterer(index int, spec engine.TensorSpec, t arrow.DataType) *scatterer {
	s := &scatterer{index: index, spec: spec, typ: t, width: 1}
	if list, ok := t.(*arrow.FixedSizeListType); ok {
		s.width = int(list.Len())
	}
	return s
}

// begin makes room for a column.
func (s *scatterer) begin(rows int, allocator memory.Allocator) {
	switch s.spec.Type {
	case engine.String:
		s.strings = array.NewStringBuilder(allocator)
		s.strings.Reserve(rows * s.width)
	case engine.Bool:
		s.values = newBuffer(allocator, int(bitutil.BytesForBits(int64(rows*s.width))))
		clear(s.values.Bytes())
	default:
		s.values = newBuffer(allocator, rows*s.width*s.spec.Type.SizeBytes())
	}
}

// prepare returns what to ask the model for the rows in [lo, hi): to write into the column where that is possible.
func (s *scatterer) prepare(lo, hi int) runtime.Output {
	out := runtime.Output{Index: s.index}
	if s.distrust || s.spec.Type == engine.String || len(s.spec.Shape) == 0 {
		return out
	}
	out.Tensor = runtime.Tensor{Type: s.spec.Type, Shape: []int64{int64(hi - lo), int64(s.width)}[:len(s.spec.Shape)]}
	if s.spec.Type == engine.Bool {
		if n := (hi - lo) * s.width; cap(s.flags) < n {
			s.flags = make([]byte, n)
		}
		out.Tensor.Data = s.flags[:(hi-lo)*s.width]
	} else {
		rowBytes := s.width * s.spec.Type.SizeBytes()
		out.Tensor.Data = s.values.Bytes()[lo*rowBytes : hi*rowBytes]
	}
	return out
}

// take checks what came and puts it into the column, where it may be already.
func (s *scatterer) take(t runtime.Tensor, lo, hi int) error {
	if t.Type != s.spec.Type || len(t.Shape) == 0 || t.Shape[0] != int64(hi-lo) || t.Elements() != int64((hi-lo)*s.width) {
		expected := engine.TensorSpec{Name: s.spec.Name, Type: s.spec.Type, Shape: []int64{int64(hi - lo), int64(s.width)}}
		if s.width == 1 {
			expected.Shape = expected.Shape[:1]
		}
		found := engine.TensorSpec{Name: s.spec.Name, Type: t.Type, Shape: t.Shape}
		return engine.Errorf(engine.KindModel, "infer", "", "the model returned %s for %d rows, expected %s", found, hi-lo, expected)
	}
	switch s.spec.Type {
	case engine.String:
		for _, text := range t.Strings {
			s.strings.Append(text)
		}
	case engine.Bool:
		packBits(s.values.Bytes(), lo*s.width, t.Data)
	default:
		rowBytes := s.width * s.spec.Type.SizeBytes()
		if target := s.values.Bytes()[lo*rowBytes : hi*rowBytes]; &target[0] != &t.Data[0] {
			copy(target, t.Data)
		}
	}
	return nil
}

// finish returns the column, which the caller releases.
func (s *scatterer) finish(rows int) arrow.Array {
	var elements arrow.Array
	if s.strings != nil {
		elements = s.strings.NewArray()
	} else {
		data := array.NewData(arrowOf(s.spec.Type), rows*s.width, []*memory.Buffer{nil, s.values}, nil, 0, 0)
		defer data.Release()
		elements = array.MakeFromData(data)
	}
	if s.typ.ID() != arrow.FIXED_SIZE_LIST {
		return elements
	}
	defer elements.Release()
	data := array.NewData(s.typ, rows, []*memory.Buffer{nil}, []arrow.ArrayData{elements.Data()}, 0, 0)
	defer data.Release()
	return array.MakeFromData(data)
}

// release lets go of what begin made. The column has references of its own.
func (s *scatterer) release() {
	if s.values != nil {
		s.values.Release()
		s.values = nil
	}
	if s.strings != nil {
		s.strings.Release()
		s.strings = nil
	}
}
