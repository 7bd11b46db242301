package expression

import (
	"fmt"
	"strconv"

	"github.com/apache/arrow/go/v15/arrow"
)

// kind is a type as the kernels know it.
type kind uint8

const (
	kindNull kind = iota // the type of the literal null, until its neighbours say more
	kindBool
	kindInt
	kindFloat
	kindText
	kindDate
	kindTime
	kindOther // columns of which only nulls can be asked for
)

var timestampMicros = &arrow.TimestampType{Unit: arrow.Microsecond}

// kindTypes are the types of what the kernels make.
var kindTypes = [...]arrow.DataType{
	kindNull: arrow.Null, kindBool: arrow.FixedWidthTypes.Boolean, kindInt: arrow.PrimitiveTypes.Int64, kindFloat: arrow.PrimitiveTypes.Float64,
	kindText: arrow.BinaryTypes.String, kindDate: arrow.FixedWidthTypes.Date32, kindTime: timestampMicros, kindOther: nil,
}

func kindOf(t arrow.DataType) kind {
	switch t.ID() {
	case arrow.BOOL:
		return kindBool
	case arrow.INT8, arrow.INT16, arrow.INT32, arrow.INT64, arrow.UINT8, arrow.UINT16, arrow.UINT32, arrow.UINT64:
		return kindInt
	case arrow.FLOAT32, arrow.FLOAT64:
		return kindFloat
	case arrow.STRING:
		return kindText
	case arrow.DATE32:
		return kindDate
	case arrow.TIMESTAMP:
		return kindTime
	default:
		return kindOther
	}
}

// isNumber reports whether the kind can be calculated with.
func (k kind) isNumber() bool { return k == kindInt || k == kindFloat }

// hasInts reports whether values are in vector.ints.
func (k kind) hasInts() bool { return k == kindInt || k == kindDate || k == kindTime }

// typeNames are the types of cast by name; they are those of the job file, and SQL's where it has others.
var typeNames = map[string]arrow.DataType{
	"bool": arrow.FixedWidthTypes.Boolean, "boolean": arrow.FixedWidthTypes.Boolean,
	"int32": arrow.PrimitiveTypes.Int32, "integer": arrow.PrimitiveTypes.Int32, "int": arrow.PrimitiveTypes.Int32,
	"int64": arrow.PrimitiveTypes.Int64, "long": arrow.PrimitiveTypes.Int64, "bigint": arrow.PrimitiveTypes.Int64,
	"float32": arrow.PrimitiveTypes.Float32, "float": arrow.PrimitiveTypes.Float32, "real": arrow.PrimitiveTypes.Float32,
	"float64": arrow.PrimitiveTypes.Float64, "double": arrow.PrimitiveTypes.Float64,
	"string": arrow.BinaryTypes.String, "text": arrow.BinaryTypes.String, "varchar": arrow.BinaryTypes.String,
	"date": arrow.FixedWidthTypes.Date32, "timestamp": timestampMicros,
}

// typeName is a type as the job file names it, or Arrow's name.
func typeName(t arrow.DataType) string {
	switch t.ID() {
	case arrow.STRING:
		return "string"
	case arrow.DATE32:
		return "date"
	case arrow.TIMESTAMP:
		return "timestamp"
	default:
		return t.String()
	}
}

// evalFunc evaluates a node for a record batch. Only rows in active, all if it is nil, may be the reason of an error. The caller gives
// what it returns back with Evaluator.done.
type evalFunc func(e *Evaluator, n *node, active bitmap) (*vector, error)

// node is a checked part of an expression. It never changes once it is checked.
type node struct {
	at   int // its place in the text, in characters from 1
	kind kind
	// typ is the type of the column that it becomes.
	typ  arrow.DataType
	op   operation
	args []*node
	eval evalFunc
	// fails says that a row may be an error.
	fails bool
	// name and column are a column's name and place in the schema; name is empty for all else.
	name   string
	column int
	// constant is the value, of one row, of a node that has the same for all.
	constant *vector
	// literal is the value of a float that stands in the text as it is.
	literal *float64
	// extra is what the kernel needs further.
	extra any
}

// describe says in a message what a node is.
func (n *node) describe() string {
	switch {
	case n.name != "":
		return fmt.Sprintf("column %s, which is %s", strconv.Quote(n.name), typeName(n.typ))
	case n.kind == kindNull:
		return "null"
	default:
		return typeName(n.typ)
	}
}
