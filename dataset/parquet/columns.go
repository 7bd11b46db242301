package parquet

import (
	"errors"
	"fmt"

	"github.com/apache/arrow/go/v15/arrow"
	pq "github.com/apache/arrow/go/v15/parquet"
	pqschema "github.com/apache/arrow/go/v15/parquet/schema"
)

// columnPlan says how a field becomes Parquet levels.
type columnPlan struct {
	nullable bool
	// fixed is set for numbers, dates, and times that Parquet stores as they lie in Arrow.
	fixed bool
	// list is set for a list, whose elements are nullable if elementNullable.
	list, elementNullable bool
}

// level is the definition level of a value that is there. The levels are those of the three-level list of the Parquet format: one
// for the value or list that is not null, one for an element that is there, one for an element that is not null.
func (p columnPlan) level() int16 {
	var level int16
	for _, counts := range []bool{p.nullable, p.list, p.list && p.elementNullable} {
		if counts {
			level++
		}
	}
	return level
}

// listElements are the types whose lists flatGroups writes: all that a model's output may have.
var listElements = []arrow.Type{
	arrow.BOOL, arrow.INT8, arrow.INT16, arrow.INT32, arrow.INT64, arrow.UINT8, arrow.UINT16, arrow.UINT32, arrow.UINT64,
	arrow.FLOAT32, arrow.FLOAT64, arrow.STRING,
}

// planColumns returns false if the schema has a column for nestedGroups.
func planColumns(schema *arrow.Schema) ([]columnPlan, bool) {
	plans := make([]columnPlan, schema.NumFields())
	for i, f := range schema.Fields() {
		plans[i].nullable = f.Nullable
		switch t := f.Type.(type) {
		case *arrow.ListType, *arrow.LargeListType, *arrow.FixedSizeListType:
			element := t.(arrow.ListLikeType).ElemField()
			if !oneOf(element.Type, listElements...) {
				return nil, false
			}
			plans[i].list, plans[i].elementNullable = true, element.Nullable
		case arrow.NestedType, arrow.ExtensionType, *arrow.NullType:
			return nil, false
		case *arrow.TimestampType:
			plans[i].fixed = t.Unit != arrow.Second
		default:
			plans[i].fixed = oneOf(t, arrow.FLOAT64, arrow.FLOAT32, arrow.INT64, arrow.INT32, arrow.DATE32)
		}
	}
	return plans, true
}

// flatRoot returns a file's schema with the columns as planned. Arrow v15 lets the elements of every list be null.
func flatRoot(schema *pqschema.Schema, columns []columnPlan) (*pqschema.GroupNode, error) {
	root := schema.Root()
	fields := make(pqschema.FieldList, root.NumFields())
	for i := range fields {
		fields[i] = root.Field(i)
		if !columns[i].list || columns[i].elementNullable {
			continue
		}
		list, err := withRequiredElement(fields[i])
		if err != nil {
			return nil, columnError(fields[i].Name(), err)
		}
		fields[i] = list
	}
	root, err := pqschema.NewGroupNode(root.Name(), root.RepetitionType(), fields, root.FieldID())
	if err != nil {
		return nil, err
	}
	schema = pqschema.NewSchema(root)
	if schema.NumColumns() != len(columns) {
		return nil, fmt.Errorf("%d columns, arrow made %d", len(columns), schema.NumColumns())
	}
	for i, plan := range columns {
		if have, want := schema.Column(i).MaxDefinitionLevel(), plan.level(); have != want {
			return nil, columnError(fields[i].Name(), fmt.Errorf("arrow made %d levels of it, expected %d", have, want))
		}
	}
	return root, nil
}

func withRequiredElement(list pqschema.Node) (pqschema.Node, error) {
	node := list
	for range 2 {
		group, ok := node.(*pqschema.GroupNode)
		if !ok || group.NumFields() != 1 {
			return nil, errors.New("arrow made no list of it")
		}
		node = group.Field(0)
	}
	element, ok := node.(*pqschema.PrimitiveNode)
	if !ok {
		return nil, errors.New("arrow made a nested list of it")
	}
	required, err := pqschema.NewPrimitiveNodeLogical(list.Name(), pq.Repetitions.Required, element.LogicalType(), element.PhysicalType(), element.TypeLength(), element.FieldID())
	if err != nil {
		return nil, err
	}
	return pqschema.ListOf(required, list.RepetitionType(), list.FieldID())
}
