package jobplan

import (
	"context"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/internal/fit"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

const opFit = "fit steps"

// Resolve returns a job with what its steps were fitted to, as if the job file had said so. Where nothing was fitted, it returns the job
// itself; else a copy.
func Resolve(spec *enginev1.JobSpec, fitted ...*enginev1.FittedColumn) *enginev1.JobSpec {
	if len(fitted) == 0 {
		return spec
	}
	resolved := proto.CloneOf(spec)
	for _, f := range fitted {
		if int(f.GetStep()) >= len(resolved.GetSteps()) {
			continue // The steps of a pass end with the last one that it looks at.
		}
		s := resolved.GetSteps()[f.GetStep()]
		for _, c := range categoryColumns(s) {
			if c.GetName() == f.GetColumn() && len(c.GetCategories()) == 0 {
				c.Categories, c.Order = f.GetCategories(), ""
			}
		}
		for _, c := range s.GetScale().GetColumns() {
			if c.GetName() == f.GetColumn() && !scaleGiven(c) {
				c.Mean, c.Std, c.Min, c.Max, c.Method = f.Mean, f.Std, f.Min, f.Max, ""
			}
		}
		if unfittedColumns(s) == 0 {
			switch kind := s.GetKind().(type) {
			case *enginev1.Step_OneHot:
				kind.OneHot.Fitted = ""
			case *enginev1.Step_Index:
				kind.Index.Fitted = ""
			case *enginev1.Step_Scale:
				kind.Scale.Fitted = ""
			}
		}
	}
	return resolved
}

// IsFitted reports whether nothing of a job is left to be fitted to the data.
func IsFitted(spec *enginev1.JobSpec) bool { return lastUnfitted(spec) < 0 }

// Pass is one pass over the data of a job, to which steps are fitted.
type Pass struct {
	// Spec has the steps up to the last one that the pass looks at, and no sink.
	Spec *enginev1.JobSpec
	// Plan has the tasks of the job's plan; what they write is of no concern.
	Plan *enginev1.Plan
	// Targets are the columns that the pass looks at.
	Targets []fit.Target
}

// NextPass returns the next pass over the data that a job needs. spec has what was fitted so far; see Resolve. It must not be fitted. It
// opens the models of the steps that the pass goes through.
func NextPass(ctx context.Context, spec *enginev1.JobSpec, plan *enginev1.Plan, operators Operators) (*Pass, error) {
	bound, err := bindPass(ctx, spec, plan, operators)
	if err != nil {
		return nil, err
	}
	pass := &Pass{Targets: bound.targets()}
	steps := pass.Targets[len(pass.Targets)-1].Step + 1
	pass.Spec = proto.CloneOf(spec)
	pass.Spec.Steps = pass.Spec.GetSteps()[:steps]
	// The only thing about a sink that concerns a pass would be that tasks wait for room in the object store.
	pass.Spec.Sink, pass.Spec.Sinks = nil, nil
	pass.Plan = &enginev1.Plan{Inputs: plan.GetInputs(), SourceSchema: plan.GetSourceSchema(), Tasks: plan.GetTasks()}
	for _, pin := range plan.GetModels() {
		if int(pin.GetStep()) < steps {
			pass.Plan.Models = append(pass.Plan.Models, pin)
		}
	}
	return pass, nil
}

// bindPass binds the steps up to the last one that has columns to be fitted.
func bindPass(ctx context.Context, spec *enginev1.JobSpec, plan *enginev1.Plan, operators Operators) (*binding, error) {
	last := lastUnfitted(spec)
	if last < 0 || len(plan.GetInputs()) == 0 {
		return nil, engine.Errorf(engine.KindInternal, opFit, "", "nothing is left to be fitted, or there are no inputs")
	}
	cut := &enginev1.JobSpec{Source: spec.GetSource(), Steps: spec.GetSteps()[:last+1]}
	bound, err := bindPlanned(ctx, cut, plan, operators)
	if err == nil && len(bound.points) == 0 {
		err = engine.Errorf(engine.KindInternal, opFit, indexed("steps", last), "no pass can see what is left to be fitted")
	}
	return bound, err
}

// bindPlanned binds the steps of a job to the source of its plan.
func bindPlanned(ctx context.Context, spec *enginev1.JobSpec, plan *enginev1.Plan, operators Operators) (*binding, error) {
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
	return bind(spec, schema, models, tableName(spec, plan.GetInputs()[0].GetPath()), nil, operators)
}

// CompileFit is Compile for the next pass over the data of a job; spec and plan are those of a Pass.
func (c Compiler) CompileFit(ctx context.Context, spec *enginev1.JobSpec, plan *enginev1.Plan) (*Program, error) {
	for _, check := range []func(*enginev1.JobSpec) error{validateSource, validateBatch, validateSteps, validateLimits} {
		if err := check(spec); err != nil {
			return nil, err
		}
	}
	bound, err := bindPass(ctx, spec, plan, c.Operators)
	if err != nil {
		return nil, err
	}
	source, err := newSource(spec, nil, c.Open, c.Secrets)
	if err != nil {
		return nil, err
	}
	p := &Program{Source: source, SourceSchema: bound.source, BatchRows: BatchRows(spec), Fit: bound.targets()}
	p.Columns, p.Ops = bound.lowerFit()
	if p.BatchBytes, err = BatchBytes(spec); err != nil {
		return nil, err
	}
	p.Threads, err = threads(spec)
	return p, err
}

func (b *binding) targets() []fit.Target {
	targets := make([]fit.Target, len(b.points))
	for i, point := range b.points {
		targets[i] = point.target
	}
	return targets
}

// lowerFit is lower for a pass that looks at the points.
func (b *binding) lowerFit() (columns []int, ops []Op) {
	live := map[int]bool{}
	steps := b.steps[:b.points[len(b.points)-1].target.Step+1]
	for i, s := range slices.Backward(steps) {
		if s.filter != nil {
			for _, id := range s.filter.uses {
				live[id] = true
			}
		}
		for _, point := range b.points {
			if point.target.Step == i {
				live[point.id] = true
			}
		}
		s.need(live)
	}
	// The last step's own result is of no use: the pass ends with what it is fitted to.
	columns, ops = b.emit(append(slices.Clone(steps[:len(steps)-1]), step{}), live, func(at int, place func(id int) int) Op {
		var op FitOp
		for i, point := range b.points {
			if point.target.Step == at {
				op.Columns = append(op.Columns, FitColumn{Index: place(point.id), Target: i})
			}
		}
		if len(op.Columns) == 0 {
			return nil
		}
		return op
	})
	return columns, ops
}

// need marks what a step needs to make the columns that are live.
func (s step) need(live map[int]bool) {
	mark := func(ids []int) {
		for _, id := range ids {
			live[id] = true
		}
	}
	switch {
	case s.infer != nil && slices.ContainsFunc(s.infer.outputs, func(id int) bool { return live[id] }):
		mark(s.infer.inputs)
		mark(s.infer.outputs)
	case s.embed != nil && live[s.embed.output]:
		mark(s.embed.text)
	case s.mapped != nil && slices.ContainsFunc(s.mapped.outputs, func(id int) bool { return live[id] }):
		mark(s.mapped.uses)
		mark(s.mapped.outputs)
	case s.with != nil:
		for id, uses := range s.with.uses {
			if live[id] {
				mark(uses)
			}
		}
	}
}

// Fitted returns the columns of a job's output, once nothing is left to be fitted. It binds the steps that could not be bound before, and
// makes sure that the output can be written; so its errors are those of Build. Of options Operators and Secrets count.
func Fitted(ctx context.Context, job engine.JobID, spec *enginev1.JobSpec, plan *enginev1.Plan, options Options) ([]*enginev1.ColumnInfo, error) {
	output, err := newOutput(spec, job, options.Secrets)
	if err != nil {
		return nil, err
	}
	bound, err := bindPlanned(ctx, spec, plan, options.Operators)
	if err != nil {
		return nil, err
	}
	if len(bound.points) > 0 {
		return nil, errUnfitted(opFit, bound.points[0])
	}
	_, _, schema := bound.lower()
	if err := output.check(ctx, schema); err != nil {
		return nil, err
	}
	return bound.outputColumns(), nil
}

// outputColumns describes the columns of the output; nil as long as they depend on what is fitted.
func (b *binding) outputColumns() []*enginev1.ColumnInfo {
	if b.partial {
		return nil
	}
	var columns []*enginev1.ColumnInfo
	for _, c := range b.final {
		columns = append(columns, &enginev1.ColumnInfo{Name: c.field.Name, Type: dataset.TypeName(c.field.Type)})
	}
	return columns
}
