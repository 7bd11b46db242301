package jobplan

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// CompileStep binds one step to a table that is in memory, and whose name stands in messages. The program has no source and no sink; the
// fields of its schemas carry no metadata. paths are the files and folders of the step's model, which is read once, for its digest:
// the program is good as long as they do not change. The caller sets Threads.
func CompileStep(ctx context.Context, step *enginev1.Step, table string, schema *arrow.Schema) (program *Program, paths []string, err error) {
	defer func() { err = withoutStep(err) }()
	spec := &enginev1.JobSpec{Steps: []*enginev1.Step{step}}
	if err := validateSteps(spec); err != nil {
		return nil, nil, err
	}
	models, err := openModels(ctx, spec)
	if err != nil {
		return nil, nil, err
	}
	fields := slices.Clone(schema.Fields())
	for i := range fields {
		fields[i].Metadata = arrow.Metadata{}
	}
	plain := arrow.NewSchema(fields, nil)
	bound, err := bind(spec, plain, models, table, nil, nil)
	if err != nil {
		return nil, nil, err
	}
	p := &Program{SourceSchema: plain, Threads: 1}
	p.Columns, p.Ops, p.OutputSchema = bound.lower()
	return p, models[0].paths(), nil
}

// withoutStep takes the place of a step in a job from the names of fields: there is one step alone.
func withoutStep(err error) error {
	var e *engine.Error
	if !errors.As(err, &e) {
		return err
	}
	cut := func(text string) string { return strings.TrimPrefix(text, indexed("steps", 0)+".") }
	if cut(e.ID) == e.ID && cut(e.Op) == e.Op {
		return err
	}
	bare := *e
	bare.ID, bare.Op = cut(e.ID), cut(e.Op)
	return &bare
}
