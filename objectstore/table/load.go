package table

import (
	"fmt"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
)

// load makes the data of the next array of the batch. What is checked here always makes arrow/go's constructors safe; what is only
// checked unless the bytes are trusted makes all of the array's methods so.
func (l *loader) load(n *node) (*array.Data, error) {
	length, nulls, err := l.node()
	if err != nil {
		return nil, err
	}
	if n.layout == layoutNull {
		return l.data(n, length, append(l.list(1), nil), nil, length), nil
	}
	validity, err := l.validity(n, length, nulls)
	if err != nil {
		return nil, err
	}
	if !n.hasValidity() {
		nulls = 0
	}
	a := loading{loader: l, n: n, length: length, validity: validity.bytes}
	a.buffers = append(l.list(n.buffers()), validity.buffer)
	if err := a.load(); err != nil {
		return nil, err
	}
	data := l.data(n, length, a.buffers, a.children, nulls)
	if a.dictionary != nil {
		data.SetDictionary(a.dictionary)
	}
	return data, nil
}

// loading is an array whose buffers and children are being read.
type loading struct {
	*loader
	n          *node
	length     int
	validity   []byte
	buffers    []*memory.Buffer
	children   []arrow.ArrayData
	dictionary *array.Data
}

func (a *loading) load() error {
	switch a.n.layout {
	case layoutBits:
		_, err := a.take("values", (a.length+7)/8, 1)
		return err
	case layoutFixed:
		return a.fixed()
	case layoutBinary:
		return a.binary()
	case layoutView:
		return a.views()
	case layoutList:
		return a.lists()
	case layoutListView:
		return a.listViews()
	case layoutFixedList:
		return a.fixedList()
	case layoutStruct:
		return a.fields()
	case layoutSparse:
		return a.sparse()
	case layoutDense:
		return a.dense()
	case layoutRunEnds:
		return a.runEnds()
	}
	return fmt.Errorf("an array of layout %d", a.n.layout)
}

// take reads the next buffer of the array.
func (a *loading) take(what string, need, align int) ([]byte, error) {
	s, err := a.next(need, align)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	a.buffers = append(a.buffers, s.buffer)
	return s.bytes, nil
}

// bytesFor returns how many bytes so many values take, or an error where no stream could hold them.
func bytesFor(count, width int) (int, error) {
	if width > 0 && count > maxLength/width {
		return 0, fmt.Errorf("%d values of %d bytes", count, width)
	}
	return count * width, nil
}

func (a *loading) fixed() error {
	need, err := bytesFor(a.length, a.n.width)
	if err != nil {
		return err
	}
	values, err := a.take("values", need, a.n.align)
	if err != nil || a.n.dict == nil {
		return err
	}
	if a.dictionary, err = a.resolve(a.n.dict.id); err != nil {
		return err
	}
	if a.trusted {
		return nil
	}
	return a.checkIndices(values[:need], a.dictionary.Len())
}

// offsets reads length+1 offsets of values that are limit long, once that is known.
func (a *loading) offsets() ([]byte, error) {
	if a.length == 0 {
		// The one offset is often left out.
		s, err := a.next(0, a.n.align)
		if err != nil {
			return nil, fmt.Errorf("offsets: %w", err)
		}
		if len(s.bytes) < a.n.width {
			s.buffer.Release()
			s = span{zeros.Bytes(), zeros}
		}
		a.buffers = append(a.buffers, s.buffer)
		return s.bytes[:a.n.width], nil
	}
	need, err := bytesFor(a.length+1, a.n.width)
	if err != nil {
		return nil, err
	}
	offsets, err := a.take("offsets", need, a.n.align)
	if err != nil {
		return nil, err
	}
	return offsets[:need], nil
}

func (a *loading) binary() error {
	offsets, err := a.offsets()
	if err != nil {
		return err
	}
	values, err := a.take("values", 0, 1)
	if err != nil {
		return err
	}
	first, last, err := a.checkOffsets(offsets, len(values))
	if err != nil || a.trusted || !a.n.text {
		return err
	}
	return a.checkText(offsets, values, first, last)
}

func (a *loading) views() error {
	need, err := bytesFor(a.length, a.n.width)
	if err != nil {
		return err
	}
	views, err := a.take("views", need, a.n.align)
	if err != nil {
		return err
	}
	var count int64
	if b := &a.batch; !b.empty {
		if b.nextView >= b.variadic.count {
			return errMore
		}
		count = b.variadic.int64(b.nextView)
		b.nextView++
		if count < 0 || count > int64(b.buffers.count-b.nextBuffer) {
			return fmt.Errorf("views of %d buffers, %d are left", count, b.buffers.count-b.nextBuffer)
		}
	}
	values := make([][]byte, count)
	for i := range values {
		if values[i], err = a.take("values", 0, 1); err != nil {
			return err
		}
	}
	if a.trusted {
		return nil
	}
	return a.checkViews(views[:need], values)
}

// child reads the next child, which has at least need values.
func (a *loading) child(i, need int) (*array.Data, error) {
	child, err := a.loader.load(a.n.children[i])
	if err != nil {
		return nil, fmt.Errorf("child %d: %w", i, err)
	}
	if child.Len() < need {
		return nil, fmt.Errorf("child %d has %d values, expected at least %d", i, child.Len(), need)
	}
	a.children = append(a.children, child)
	return child, nil
}

// fields reads all children, each as long as the array itself. (Arrow allows longer ones. Nobody writes them, and arrow/go would count
// the nulls of what is shown of them at first use, without a lock.)
func (a *loading) fields() error {
	for i := range a.n.children {
		child, err := a.child(i, a.length)
		if err != nil {
			return err
		}
		if child.Len() != a.length {
			return fmt.Errorf("child %d has %d values, expected %d", i, child.Len(), a.length)
		}
	}
	return nil
}

func (a *loading) lists() error {
	offsets, err := a.offsets()
	if err != nil {
		return err
	}
	child, err := a.child(0, 0)
	if err != nil {
		return err
	}
	if a.n.storage.ID() == arrow.MAP && (child.NullN() != 0 || child.Children()[0].NullN() != 0) {
		return fmt.Errorf("a map with %d null entries and %d null keys", child.NullN(), child.Children()[0].NullN())
	}
	_, _, err = a.checkOffsets(offsets, child.Len())
	return err
}

func (a *loading) listViews() error {
	need, err := bytesFor(a.length, a.n.width)
	if err != nil {
		return err
	}
	offsets, err := a.take("offsets", need, a.n.align)
	if err != nil {
		return err
	}
	sizes, err := a.take("sizes", need, a.n.align)
	if err != nil {
		return err
	}
	child, err := a.child(0, 0)
	if err != nil || a.trusted {
		return err
	}
	if a.n.width == 4 {
		return checkListViews[int32](offsets[:need], sizes[:need], child.Len())
	}
	return checkListViews[int64](offsets[:need], sizes[:need], child.Len())
}

func (a *loading) fixedList() error {
	need, err := bytesFor(a.length, a.n.width)
	if err != nil {
		return err
	}
	_, err = a.child(0, need)
	return err
}

func (a *loading) sparse() error {
	codes, err := a.take("type codes", a.length, 1)
	if err != nil {
		return err
	}
	if err := a.fields(); err != nil || a.trusted {
		return err
	}
	return a.checkUnion(codes[:a.length], nil)
}

func (a *loading) dense() error {
	codes, err := a.take("type codes", a.length, 1)
	if err != nil {
		return err
	}
	need, err := bytesFor(a.length, 4)
	if err != nil {
		return err
	}
	offsets, err := a.take("offsets", need, a.n.align)
	if err != nil {
		return err
	}
	for i := range a.n.children {
		if _, err := a.child(i, 0); err != nil {
			return err
		}
	}
	if a.trusted {
		return nil
	}
	return a.checkUnion(codes[:a.length], offsets[:need])
}

func (a *loading) runEnds() error {
	ends, err := a.child(0, 0)
	if err != nil {
		return err
	}
	if ends.NullN() != 0 {
		return fmt.Errorf("run ends with %d nulls", ends.NullN())
	}
	if _, err := a.child(1, ends.Len()); err != nil {
		return err
	}
	width := a.n.children[0].width
	bytes := ends.Buffers()[1].Bytes()[:ends.Len()*width]
	switch width {
	case 2:
		return checkRunEnds[int16](bytes, a.length, a.trusted)
	case 4:
		return checkRunEnds[int32](bytes, a.length, a.trusted)
	default:
		return checkRunEnds[int64](bytes, a.length, a.trusted)
	}
}
