package jobplan

import (
	"context"
	"math"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset/object"
	"github.com/f708428e/engine/internal/secret"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

const opCompile = "compile job"

// Compile turns a job and its plan into a program. The plan's tasks may be missing. It opens the models and verifies that they are
// those of the plan: their content is read once. A model that has changed is an error of kind engine.KindModel. open is what objects
// are read with; nil means that there is no object store.
func Compile(ctx context.Context, spec *enginev1.JobSpec, plan *enginev1.Plan, open object.Opener) (*Program, error) {
	return Compiler{Open: open}.Compile(ctx, spec, plan)
}

// Compiler has what programs need of the process that they are to run in.
type Compiler struct {
	// Open is what objects are read with; nil means that there is no object store.
	Open object.Opener
	// Operators are those that steps map may name; nil means that there are none.
	Operators Operators
	// Secrets are those of the job; nil means that it has none.
	Secrets *secret.Set
	// Places says which places of this machine jobs may name. Nil allows all.
	Places Places
}

// Compile is the function Compile, with what the Compiler has.
func (c Compiler) Compile(ctx context.Context, spec *enginev1.JobSpec, plan *enginev1.Plan) (*Program, error) {
	if err := Validate(spec); err != nil {
		return nil, err
	}
	if err := CheckPlaces(spec, c.Places); err != nil {
		return nil, err
	}
	if len(plan.GetInputs()) == 0 {
		return nil, engine.Errorf(engine.KindInvalidArgument, opCompile, "", "the plan has no inputs")
	}
	source, err := newSource(spec, nil, c.Open, c.Secrets)
	if err != nil {
		return nil, err
	}
	schema, err := DecodeSchema(plan.GetSourceSchema())
	if err != nil {
		return nil, engine.WrapError(opCompile, "source_schema", err)
	}
	models, err := openModels(ctx, spec)
	if err != nil {
		return nil, err
	}
	if err := models.verify(plan); err != nil {
		return nil, err
	}
	bound, err := bind(spec, schema, models, tableName(spec, plan.GetInputs()[0].GetPath()), nil, c.Operators)
	if err != nil {
		return nil, err
	}
	if len(bound.points) > 0 {
		return nil, errUnfitted(opCompile, bound.points[0])
	}
	p := &Program{Source: source, SourceSchema: schema, BatchRows: BatchRows(spec)}
	p.Columns, p.Ops, p.OutputSchema = bound.lower()
	if p.BatchBytes, err = BatchBytes(spec); err != nil {
		return nil, err
	}
	p.Split = lowerSplit(spec, p.OutputSchema)
	p.Threads, err = threads(spec)
	return p, err
}

// threads is how many threads one call of a model may use.
func threads(spec *enginev1.JobSpec) (int, error) {
	resources, err := Resources(spec)
	return max(1, int(math.Ceil(resources.CPU))), err
}
