package jobplan

import (
	"encoding/json"
	"fmt"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Operators tells what a registered operator makes of a table: the head and the workers of a program that embeds the engine know those of
// the program. params are a JSON object, or nil. It is safe for concurrent use.
type Operators func(name string, params []byte, in *arrow.Schema) (*arrow.Schema, error)

// MapOp applies an operator of the program to all columns.
type MapOp struct {
	// Operator is its name, Params are a JSON object or nil.
	Operator string
	Params   []byte
	// Schema is that of what it makes.
	Schema *arrow.Schema
}

func (MapOp) op() {}

// boundMap is a step map, and the ids of all columns before and after it.
type boundMap struct {
	op            MapOp
	uses, outputs []int
}

func validateMap(field string, m *enginev1.MapStep) error {
	if m.GetOperator() == "" {
		return invalid(field+".operator", "required")
	}
	_, err := mapParams(field, m)
	return err
}

func mapParams(field string, m *enginev1.MapStep) ([]byte, error) {
	if m.GetParams() == nil {
		return nil, nil
	}
	params, err := json.Marshal(m.GetParams().AsMap())
	if err != nil {
		return nil, invalid(field+".params", "%w", err)
	}
	return params, nil
}

func (b *binder) bindMap(field string, m *enginev1.MapStep) (step, error) {
	if b.operators == nil {
		return step{}, engine.Errorf(engine.KindNotFound, field, "", "operator %q: this program has none", m.GetOperator())
	}
	params, err := mapParams(field, m)
	if err != nil {
		return step{}, err
	}
	schema, err := b.operators(m.GetOperator(), params, b.schema())
	if err != nil {
		return step{}, engine.WrapError(field, "", err)
	}
	bound := &boundMap{op: MapOp{Operator: m.GetOperator(), Params: params, Schema: schema}}
	before := b.columns
	b.columns = nil
	for _, c := range before {
		bound.uses = append(bound.uses, c.id)
		b.gone[c.field.Name] = fmt.Sprintf("%s makes other columns", field)
	}
	for _, f := range schema.Fields() {
		if dataset.TypeName(f.Type) == "" {
			return step{}, engine.Errorf(engine.KindInvalidArgument, field, "", "column %q has a type without a name", f.Name)
		}
		b.columns = append(b.columns, column{id: b.nextID, field: f})
		bound.outputs = append(bound.outputs, b.nextID)
		b.nextID++
		delete(b.gone, f.Name)
	}
	return step{mapped: bound}, nil
}
