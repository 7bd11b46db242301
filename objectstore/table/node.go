package table

import (
	"fmt"

	"github.com/apache/arrow/go/v15/arrow"
)

// layout says which buffers and children the arrays of a type have.
type layout uint8

const (
	layoutNull      layout = iota // nothing
	layoutBits                    // validity, values of one bit
	layoutFixed                   // validity, values of width bytes
	layoutBinary                  // validity, offsets of width bytes, values
	layoutView                    // validity, views, any number of buffers
	layoutList                    // validity, offsets of width bytes; one child
	layoutListView                // validity, offsets and sizes of width bytes; one child
	layoutFixedList               // validity; one child with width items for each value
	layoutStruct                  // validity; children
	layoutSparse                  // type codes; children
	layoutDense                   // type codes, offsets; children
	layoutRunEnds                 // two children: run ends and values
)

// node describes the arrays of one field of a schema: what their type is and what Arrow IPC holds of them. The tree of a field's
// nodes is what writer and reader walk; it never changes once it is made.
type node struct {
	// typ is what the arrays are of: an extension or dictionary type too.
	typ arrow.DataType
	// storage is typ, or an extension type's storage.
	storage arrow.DataType
	// layout and width are those of the indices if the array is one of dictionary indices.
	layout layout
	width  int
	// align is what the address of the values must be a multiple of.
	align int
	// text says that values are UTF-8.
	text bool
	// children are the fields below, but for those of a dictionary's values.
	children []*node
	// dict is set if the arrays hold indices of a dictionary.
	dict *dictionary
	// encoded says that dict is set here or somewhere below.
	encoded bool
}

// dictionary is what the schema says of a dictionary.
type dictionary struct {
	id     int64
	values *node
}

// maxDepth is how deep types may be nested, as in Arrow's own readers.
const maxDepth = 64

// maxScale is how far a decimal's scale may be from zero: arrow/go panics when it prints numbers whose power of ten is beyond float64.
const maxScale = 300

// newNode makes the node of a type whose children are made already. For a dictionary they are its values' children, and id is its
// number.
func newNode(typ arrow.DataType, children []*node, id int64) (*node, error) {
	storage := typ
	if extension, ok := typ.(arrow.ExtensionType); ok {
		storage = extension.StorageType()
		if storage.ID() == arrow.EXTENSION {
			return nil, fmt.Errorf("an extension type whose storage is one too (%s)", extension.ExtensionName())
		}
	}
	n := &node{typ: typ, storage: storage, children: children}
	physical := storage
	if encoded, ok := storage.(*arrow.DictionaryType); ok {
		switch encoded.ValueType.ID() {
		case arrow.DICTIONARY, arrow.EXTENSION:
			return nil, fmt.Errorf("a dictionary whose values are of type %s", encoded.ValueType)
		}
		values, err := newNode(encoded.ValueType, children, 0)
		if err != nil {
			return nil, err
		}
		n.children, n.encoded, n.dict = nil, true, &dictionary{id: id, values: values}
		physical = encoded.IndexType
		if !arrow.IsInteger(physical.ID()) {
			return nil, fmt.Errorf("a dictionary with indices of type %s", physical)
		}
	}
	if decimal, ok := physical.(arrow.DecimalType); ok && (decimal.GetScale() < -maxScale || decimal.GetScale() > maxScale) {
		return nil, fmt.Errorf("a decimal type of scale %d", decimal.GetScale())
	}
	if !n.lay(physical) {
		return nil, fmt.Errorf("type %s", physical)
	}
	if m, ok := physical.(*arrow.MapType); ok {
		// arrow/go has its own names for the fields of entries; a stream may have others.
		children[0].typ, children[0].storage = m.Elem(), m.Elem()
	}
	for _, child := range n.children {
		n.encoded = n.encoded || child.encoded
	}
	return n, nil
}

// lay sets the node's layout. It returns false if there is none for the type.
func (n *node) lay(typ arrow.DataType) bool {
	n.align = 1
	switch typ := typ.(type) {
	case *arrow.NullType:
		n.layout = layoutNull
	case *arrow.BooleanType:
		n.layout = layoutBits
	case *arrow.FixedSizeBinaryType:
		n.layout, n.width = layoutFixed, typ.ByteWidth
	case *arrow.DayTimeIntervalType:
		n.layout, n.width, n.align = layoutFixed, 8, 4
	case *arrow.BinaryType:
		n.layout, n.width, n.align = layoutBinary, 4, 4
	case *arrow.StringType:
		n.layout, n.width, n.align, n.text = layoutBinary, 4, 4, true
	case *arrow.LargeBinaryType:
		n.layout, n.width, n.align = layoutBinary, 8, 8
	case *arrow.LargeStringType:
		n.layout, n.width, n.align, n.text = layoutBinary, 8, 8, true
	case *arrow.BinaryViewType:
		n.layout, n.width, n.align = layoutView, arrow.ViewHeaderSizeBytes, 8
	case *arrow.StringViewType:
		n.layout, n.width, n.align, n.text = layoutView, arrow.ViewHeaderSizeBytes, 8, true
	case *arrow.ListType, *arrow.MapType:
		n.layout, n.width, n.align = layoutList, 4, 4
	case *arrow.LargeListType:
		n.layout, n.width, n.align = layoutList, 8, 8
	case *arrow.ListViewType:
		n.layout, n.width, n.align = layoutListView, 4, 4
	case *arrow.LargeListViewType:
		n.layout, n.width, n.align = layoutListView, 8, 8
	case *arrow.FixedSizeListType:
		n.layout, n.width = layoutFixedList, int(typ.Len())
	case *arrow.StructType:
		n.layout = layoutStruct
	case *arrow.SparseUnionType:
		n.layout = layoutSparse
	case *arrow.DenseUnionType:
		n.layout, n.align = layoutDense, 4
	case *arrow.RunEndEncodedType:
		n.layout = layoutRunEnds
	case arrow.FixedWidthDataType:
		n.layout, n.width = layoutFixed, typ.BitWidth()/8
		n.align = min(n.width, 8)
	default:
		return false
	}
	return true
}

// hasValidity says whether arrays have a validity bitmap.
func (n *node) hasValidity() bool {
	switch n.layout {
	case layoutNull, layoutSparse, layoutDense, layoutRunEnds:
		return false
	default:
		return true
	}
}

// buffers returns how many buffers arrays have, their validity included and those of views' values left out.
func (n *node) buffers() int {
	switch n.layout {
	case layoutBinary, layoutListView, layoutDense:
		return 3
	case layoutBits, layoutFixed, layoutView, layoutList, layoutSparse:
		return 2
	default:
		return 1
	}
}

// newNodes makes the nodes of a schema's fields, with dictionaries numbered from zero. The error names the column.
func newNodes(schema *arrow.Schema) ([]*node, error) {
	nodes := make([]*node, schema.NumFields())
	var dictionaries int64
	for i := range nodes {
		field := schema.Field(i)
		n, err := nodeOf(field.Type, 0, &dictionaries)
		if err != nil {
			return nil, fmt.Errorf("column %q: arrow ipc cannot hold %w", field.Name, err)
		}
		nodes[i] = n
	}
	return nodes, nil
}

func nodeOf(typ arrow.DataType, depth int, dictionaries *int64) (*node, error) {
	if typ == nil {
		return nil, fmt.Errorf("a field without a type")
	}
	if depth == maxDepth {
		return nil, fmt.Errorf("types nested deeper than %d", maxDepth)
	}
	var id int64
	if encodedType(typ) != nil {
		id = *dictionaries
		*dictionaries++
	}
	fields := fieldsBelow(typ)
	children := make([]*node, len(fields))
	for i, field := range fields {
		child, err := nodeOf(field.Type, depth+1, dictionaries)
		if err != nil {
			return nil, err
		}
		children[i] = child
	}
	return newNode(typ, children, id)
}

// encodedType returns a type's dictionary type, or nil if it has none.
func encodedType(typ arrow.DataType) *arrow.DictionaryType {
	if extension, ok := typ.(arrow.ExtensionType); ok {
		typ = extension.StorageType()
	}
	encoded, _ := typ.(*arrow.DictionaryType)
	return encoded
}

// fieldsBelow returns the fields that stand below a field of the given type in a schema message.
func fieldsBelow(typ arrow.DataType) []arrow.Field {
	if extension, ok := typ.(arrow.ExtensionType); ok {
		typ = extension.StorageType()
	}
	if encoded, ok := typ.(*arrow.DictionaryType); ok {
		typ = encoded.ValueType
	}
	if nested, ok := typ.(arrow.NestedType); ok {
		return nested.Fields()
	}
	return nil
}
