package expression

import (
	"fmt"
	"math/bits"
	"unsafe"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
)

// RowError is a row for which an expression has no value.
type RowError struct {
	// Row is the row's place in the record batch, from 0.
	Row int64
	// Character is the place in the expression's text, from 1; 0 of an expression without text.
	Character int
	// Message says what is wrong, with the values.
	Message string
}

// Error returns all of it.
func (e *RowError) Error() string {
	if e.Character == 0 {
		return fmt.Sprintf("row %d of the record batch: %s", e.Row, e.Message)
	}
	return fmt.Sprintf("row %d of the record batch: at character %d of the expression: %s", e.Row, e.Character, e.Message)
}

// maxTextBytes bounds the texts of a column in the making: offsets have 31 bits.
const maxTextBytes = 1 << 30

// Evaluator evaluates an expression. It keeps memory from call to call, about as much as a few columns of a record batch, so one
// goroutine uses it at a time. Nothing need be released.
type Evaluator struct {
	bound     *Bound
	allocator memory.Allocator

	record arrow.Record
	rows   int
	// batch counts the calls: a column that was loaded in this one is not loaded again.
	batch     uint64
	columns   map[*node]*loaded
	constants map[*node]*filled
	free      []*vector
	masks     []bitmap
}

type loaded struct {
	vector vector
	batch  uint64
}

// filled is a constant for as many rows as were asked for so far.
type filled struct {
	vector vector
	rows   int
}

// NewEvaluator returns an evaluator. Columns are allocated from allocator.
func (b *Bound) NewEvaluator(allocator memory.Allocator) *Evaluator {
	return &Evaluator{bound: b, allocator: allocator, columns: map[*node]*loaded{}, constants: map[*node]*filled{}}
}

func (e *Evaluator) begin(record arrow.Record) {
	e.record, e.rows = record, int(record.NumRows())
	e.batch++
}

// Select returns the rows for which a condition is true. The record must have the schema that the
// expression was bound to. A row without a value is a *RowError.
func (e *Evaluator) Select(record arrow.Record) (Selection, error) {
	e.begin(record)
	v, err := e.eval(e.bound.root, nil)
	if err != nil {
		return Selection{}, err
	}
	defer e.done(v)
	s := Selection{rows: e.rows, bits: make(bitmap, words(e.rows))}
	copy(s.bits, v.bools)
	if v.valid != nil {
		for i := range s.bits {
			s.bits[i] &= v.valid[i]
		}
	}
	return s, nil
}

// Evaluate returns the column that the expression makes, which the caller releases. The record must have the schema that the expression
// was bound to. A row without a value is a *RowError.
func (e *Evaluator) Evaluate(record arrow.Record) (arrow.Array, error) {
	e.begin(record)
	root := e.bound.root
	if root.name != "" {
		column := record.Column(root.column)
		column.Retain()
		return column, nil
	}
	v, err := e.eval(root, nil)
	if err != nil {
		return nil, err
	}
	defer e.done(v)
	return e.array(v, root)
}

// array copies a vector into memory of Arrow's.
func (e *Evaluator) array(v *vector, n *node) (arrow.Array, error) {
	var buffers []*memory.Buffer
	defer func() {
		for _, b := range buffers {
			if b != nil {
				b.Release()
			}
		}
	}()
	nulls := 0
	if v.valid != nil {
		nulls = e.rows - v.valid.count(e.rows)
	}
	if nulls > 0 {
		buffers = append(buffers, e.bitBuffer(v.valid))
	} else {
		buffers = append(buffers, nil)
	}
	switch n.typ.ID() {
	case arrow.BOOL:
		buffers = append(buffers, e.bitBuffer(v.bools))
	case arrow.INT64, arrow.TIMESTAMP:
		buffers = append(buffers, buffer(e, v.ints, func(x int64) int64 { return x }))
	case arrow.INT32, arrow.DATE32:
		buffers = append(buffers, buffer(e, v.ints, func(x int64) int32 { return int32(x) })) //nolint:gosec // A cast or the column's type has seen to it.
	case arrow.FLOAT64:
		buffers = append(buffers, buffer(e, v.floats, func(x float64) float64 { return x }))
	case arrow.FLOAT32:
		buffers = append(buffers, buffer(e, v.floats, func(x float64) float32 { return float32(x) }))
	case arrow.STRING:
		return e.strings(v), nil
	default:
		return nil, engine.Errorf(engine.KindInternal, "evaluate expression", e.bound.text, "no column of type %s can be made", n.typ)
	}
	data := array.NewData(n.typ, e.rows, buffers, nil, nulls, 0)
	defer data.Release()
	return array.MakeFromData(data), nil
}

func (e *Evaluator) newBuffer(bytes int) *memory.Buffer {
	b := memory.NewResizableBuffer(e.allocator)
	b.Resize(bytes)
	return b
}

func (e *Evaluator) bitBuffer(b bitmap) *memory.Buffer {
	out := e.newBuffer(words(e.rows) * 8)
	copy(out.Bytes(), arrow.Uint64Traits.CastToBytes(b[:words(e.rows)]))
	out.ResizeNoShrink((e.rows + 7) / 8)
	if tail := e.rows % 8; tail > 0 {
		out.Bytes()[e.rows/8] &= 1<<tail - 1
	}
	return out
}

func buffer[S, D int32 | int64 | float32 | float64](e *Evaluator, src []S, convert func(S) D) *memory.Buffer {
	out := e.newBuffer(e.rows * int(unsafe.Sizeof(*new(D))))
	if e.rows == 0 {
		return out
	}
	dst := unsafe.Slice((*D)(unsafe.Pointer(unsafe.SliceData(out.Bytes()))), e.rows)
	if same, ok := any(dst).([]S); ok {
		copy(same, src)
		return out
	}
	for i := range dst {
		dst[i] = convert(src[i])
	}
	return out
}

func (e *Evaluator) strings(v *vector) arrow.Array {
	builder := array.NewStringBuilder(e.allocator)
	defer builder.Release()
	builder.Reserve(e.rows)
	if !v.single && e.rows > 0 {
		builder.ReserveData(int(v.offsets[e.rows] - v.offsets[0]))
	}
	for i := range e.rows {
		if v.isValid(i) {
			builder.BinaryBuilder.Append(v.text(i))
		} else {
			builder.AppendNull()
		}
	}
	return builder.NewArray()
}

func (e *Evaluator) eval(n *node, active bitmap) (*vector, error) { return n.eval(e, n, active) }

// get returns a vector of the evaluator's own, which done takes back.
func (e *Evaluator) get() *vector {
	if last := len(e.free) - 1; last >= 0 {
		v := e.free[last]
		e.free = e.free[:last]
		v.valid = nil
		return v
	}
	return &vector{own: true}
}

// done takes back what a node returned.
func (e *Evaluator) done(v *vector) {
	if v != nil && v.own {
		e.free = append(e.free, v)
	}
}

// mask returns a bitmap for the rows, which the caller gives back with unmask.
func (e *Evaluator) mask() bitmap {
	if last := len(e.masks) - 1; last >= 0 {
		m := e.masks[last]
		e.masks = e.masks[:last]
		return m.resize(e.rows)
	}
	return bitmap(nil).resize(e.rows)
}

func (e *Evaluator) unmask(m bitmap) {
	if m != nil {
		e.masks = append(e.masks, m)
	}
}

// args evaluates all arguments of a node, for the same rows.
func (e *Evaluator) args(n *node, active bitmap, into ...**vector) error {
	for i, target := range into {
		v, err := e.eval(n.args[i], active)
		if err != nil {
			for _, earlier := range into[:i] {
				e.done(*earlier)
			}
			return err
		}
		*target = v
	}
	return nil
}

func (n *node) rowError(row int, format string, args ...any) error {
	return &RowError{Row: int64(row), Character: n.at, Message: fmt.Sprintf(format, args...)}
}

// matters reports whether a row's mistake counts.
func matters(row int, v *vector, active bitmap) bool {
	return v.isValid(row) && (active == nil || active.has(row))
}

func evalColumn(e *Evaluator, n *node, active bitmap) (*vector, error) {
	l := e.columns[n]
	if l == nil {
		l = &loaded{}
		e.columns[n] = l
	}
	if l.batch == e.batch {
		return &l.vector, nil
	}
	column := e.record.Column(n.column)
	if bad := l.vector.load(column); bad >= 0 {
		// What one part of the expression does not need, another may.
		for row := bad; row < e.rows; row++ {
			if matters(row, &l.vector, active) && misfit(column, row) {
				return nil, n.rowError(row, "the value %s of column %q does not fit %s", column.ValueStr(row), n.name, typeName(kindTypes[n.kind]))
			}
		}
		return &l.vector, nil
	}
	l.batch = e.batch
	return &l.vector, nil
}

// misfit reports whether a value that is not null does not fit int64, or microseconds.
func misfit(column arrow.Array, row int) bool {
	var v vector
	one := array.NewSlice(column, int64(row), int64(row)+1)
	defer one.Release()
	return v.load(one) >= 0
}

func evalConstant(e *Evaluator, n *node, _ bitmap) (*vector, error) {
	if e.constants == nil {
		return n.constant, nil
	}
	f := e.constants[n]
	if f == nil {
		f = &filled{}
		e.constants[n] = f
	}
	if f.rows < max(e.rows, 1) {
		f.fill(n, max(e.rows, 1))
	}
	return &f.vector, nil
}

func (f *filled) fill(n *node, rows int) {
	f.rows = rows + rows/4
	f.vector = vector{single: true, offsets: n.constant.offsets, data: n.constant.data}
	all := func(bit bool) bitmap {
		b := make(bitmap, words(f.rows))
		for i := range b {
			if bit {
				b[i] = ^uint64(0)
			}
		}
		return b
	}
	if !n.constant.isValid(0) {
		f.vector.valid = all(false)
	}
	switch {
	case n.kind == kindBool:
		f.vector.bools = all(n.constant.bools.has(0))
	case n.kind == kindFloat:
		f.vector.floats = repeat(n.constant.floats[0], f.rows)
	case n.kind.hasInts():
		f.vector.ints = repeat(n.constant.ints[0], f.rows)
	}
}

func repeat[T any](x T, n int) []T {
	s := make([]T, n)
	for i := range s {
		s[i] = x
	}
	return s
}

// Selection is a set of rows of a record batch.
type Selection struct {
	rows int
	bits bitmap
}

// NewSelection returns the selection of the rows at the places of indices, of a record batch of so many rows.
func NewSelection(rows int, indices []int32) Selection {
	s := Selection{rows: rows, bits: make(bitmap, (rows+63)/64)}
	for _, i := range indices {
		s.bits[i/64] |= 1 << (i % 64)
	}
	return s
}

// Len is how many rows the record batch has.
func (s Selection) Len() int { return s.rows }

// Count is how many rows the selection has.
func (s Selection) Count() int { return s.bits.count(s.rows) }

// Row returns the place in the record batch of the selection's i-th row, from 0. It takes time in the number of rows, and returns -1 for
// a row that the selection does not have.
func (s Selection) Row(i int64) int64 {
	if i < 0 {
		return -1
	}
	for w, word := range s.bits {
		if left := s.rows - w*64; left < 64 {
			word &= 1<<left - 1
		}
		n := int64(bits.OnesCount64(word))
		if i >= n {
			i -= n
			continue
		}
		for ; i > 0; i-- {
			word &= word - 1
		}
		return int64(w*64 + bits.TrailingZeros64(word))
	}
	return -1
}

// Runs calls f with every range [lo, hi) of adjacent rows of the selection, in order.
func (s Selection) Runs(f func(lo, hi int)) {
	for row := 0; row < s.rows; {
		word := s.bits[row/64] >> (row % 64)
		if word == 0 {
			row = (row/64 + 1) * 64
			continue
		}
		row += bits.TrailingZeros64(word)
		if row >= s.rows {
			return
		}
		lo := row
		for row < s.rows {
			ones := bits.TrailingZeros64(^(s.bits[row/64] >> (row % 64)))
			room := 64 - row%64
			row += min(ones, room)
			if ones < room {
				break
			}
		}
		row = min(row, s.rows)
		f(lo, row)
	}
}

// Indices returns the rows of the selection, in order, in the memory of into if that is large enough.
func (s Selection) Indices(into []int32) []int32 {
	into = grow(into, s.Count())
	at := 0
	for w := range s.bits {
		word := s.bits[w]
		if left := s.rows - w*64; left < 64 {
			word &= 1<<left - 1
		}
		for ; word != 0; word &= word - 1 {
			into[at] = int32(w*64 + bits.TrailingZeros64(word)) //nolint:gosec // A record batch has fewer rows.
			at++
		}
	}
	return into
}
