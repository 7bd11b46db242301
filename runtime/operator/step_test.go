package operator_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/operator"
)

// mapped is an operator made of a function.
type mapped struct {
	schema *arrow.Schema
	apply  func(arrow.Record) (arrow.Record, error)
}

func (m mapped) Schema() *arrow.Schema { return m.schema }

func (m mapped) Apply(_ context.Context, in arrow.Record) (arrow.Record, error) { return m.apply(in) }

func TestStepsAreHeldToWhatTheyAnnounce(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}, nil)
	b := array.NewInt64Builder(memory.DefaultAllocator)
	defer b.Release()
	b.AppendValues([]int64{1, 2, 3}, nil)
	column := b.NewArray()
	defer column.Release()
	in := array.NewRecord(schema, []arrow.Array{column}, 3)
	defer in.Release()
	registry := &operator.Registry{}
	type params struct {
		Factor float64 `json:"factor"`
	}
	registry.RegisterStep("test", operator.TypedStep(func(p params, _ *arrow.Schema) (operator.Operator, error) {
		out := schema
		if p.Factor == 0 {
			return nil, errors.New("factor is 0")
		}
		apply := func(in arrow.Record) (arrow.Record, error) {
			switch p.Factor {
			case 1:
				in.Retain()
				return in, nil
			case 2:
				return in.NewSlice(0, 2), nil
			case 3:
				return nil, errors.New("it does not like threes")
			case 4:
				return nil, &runtime.RowError{Column: "n", Row: 2, Err: errors.New("too small")}
			case 5:
				return nil, nil //nolint:nilnil // The mistake that is tested.
			default:
				return array.NewRecord(arrow.NewSchema([]arrow.Field{{Name: "m", Type: arrow.PrimitiveTypes.Int64}}, nil), []arrow.Array{column}, 3), nil
			}
		}
		return mapped{out, apply}, nil
	}))
	for text, want := range map[string]struct {
		kind engine.Kind
		text string
	}{
		`{"factor": 0}`: {engine.KindInvalidArgument, "operator test: factor is 0"},
		`{"faktor": 1}`: {engine.KindInvalidArgument, `unknown field "faktor"`},
		`{"factor": 1}`: {},
		`{"factor": 2}`: {engine.KindData, "it made 2 rows of 3"},
		`{"factor": 3}`: {engine.KindData, "it does not like threes"},
		`{"factor": 4}`: {engine.KindData, "row 2 of the record batch: too small"},
		`{"factor": 5}`: {engine.KindData, "neither a record batch nor an error"},
		`{"factor": 6}`: {engine.KindData, "but announced"},
	} {
		made, err := registry.NewStep("test", []byte(text), schema)
		if err == nil {
			var out arrow.Record
			if out, err = made.Apply(t.Context(), in); err == nil {
				out.Release()
			}
		}
		if want.text == "" && err == nil {
			continue
		}
		if err == nil || engine.KindOf(err) != want.kind || !strings.Contains(err.Error(), want.text) {
			t.Errorf("%s: got %v, expected %s: %s", text, err, want.kind, want.text)
		}
	}
	if _, err := registry.StepSchema("unheard", nil, schema); engine.KindOf(err) != engine.KindNotFound || !strings.Contains(err.Error(), "there are: test") {
		t.Errorf("got %v", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("a name with a blank was taken")
		}
	}()
	registry.RegisterStep("two words", func([]byte, *arrow.Schema) (operator.Operator, error) { return nil, nil })
}
