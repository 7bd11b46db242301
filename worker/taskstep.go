package worker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/jobplan"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/runtime/operator"
)

// builtIn returns the operators that every worker has.
func (w *Worker) builtIn() map[string]operator.Func {
	bound := &boundSteps{places: w.config.Places}
	return map[string]operator.Func{
		operator.NameNoop: operator.NoopFunc,
		operator.NameEcho: operator.EchoFunc,
		operator.NameInfer: func(ctx context.Context, params []byte, args []*operator.Table) ([]operator.Output, error) {
			infer := &enginev1.InferStep{}
			return w.runStep(ctx, bound, infer, &enginev1.Step{Kind: &enginev1.Step_Infer{Infer: infer}}, params, args)
		},
		operator.NameEmbed: func(ctx context.Context, params []byte, args []*operator.Table) ([]operator.Output, error) {
			embed := &enginev1.EmbedStep{}
			return w.runStep(ctx, bound, embed, &enginev1.Step{Kind: &enginev1.Step_Embed{Embed: embed}}, params, args)
		},
	}
}

// runStep applies one step of a job, whose fields are the parameters, to the argument of a task. What it returns has the argument's
// columns and the step's. It reports no progress: nobody knows how long a model may take for its next batch, so a slow one would be said
// to hang.
func (w *Worker) runStep(
	ctx context.Context, bound *boundSteps, fields proto.Message, step *enginev1.Step, params []byte, args []*operator.Table,
) (outputs []operator.Output, err error) {
	if len(args) != 1 {
		return nil, engine.Errorf(engine.KindInvalidArgument, "read arguments", "", "it takes one table, found %d", len(args))
	}
	if len(params) == 0 {
		params = []byte("{}")
	}
	if err := protojson.Unmarshal(params, fields); err != nil {
		return nil, engine.Errorf(engine.KindInvalidArgument, "read parameters", "", "%w", err)
	}
	if err := chooseText(step.GetEmbed(), args[0].Schema()); err != nil {
		return nil, err
	}
	b, err := bound.get(ctx, step, args[0].Schema())
	if err != nil {
		return nil, err
	}
	program := *b.program
	held := operator.Resources(ctx)
	place, err := placeModels(held, operator.Devices(ctx))
	if err != nil {
		return nil, err
	}
	program.Threads = max(1, int(math.Ceil(held.CPU)))
	steps, err := w.build(ctx, &program, &jobEntry{}, place, nil)
	if err != nil {
		return nil, err
	}
	var records []arrow.Record
	defer func() {
		if err = errors.Join(err, steps.close()); err != nil {
			for _, record := range records {
				record.Release()
			}
			outputs = nil
		}
	}()
	done := int64(0)
	for _, record := range args[0].Records() {
		for lo := int64(0); lo < record.NumRows() || lo == 0; lo += jobplan.DefaultBatchRows {
			made, err := applyRows(ctx, steps.operators, program.SourceSchema, record, lo)
			if err != nil {
				return nil, explain(err, func(row int64) string { return "row " + strconv.FormatInt(done+row, 10) })
			}
			records = append(records, made)
			done += made.NumRows()
		}
	}
	return []operator.Output{operator.Records(program.OutputSchema, records...)}, nil
}

// applyRows gives a record batch's worth of rows from lo, under the schema that the operators were made for, to operators one after the
// other.
func applyRows(ctx context.Context, operators []operator.Operator, schema *arrow.Schema, record arrow.Record, lo int64) (arrow.Record, error) {
	plain := array.NewRecord(schema, record.Columns(), record.NumRows())
	defer plain.Release()
	rows := plain.NewSlice(lo, min(lo+jobplan.DefaultBatchRows, record.NumRows()))
	made, err := applyAll(ctx, operators, passed{record: rows}, nil, nil) // Nothing is rejected.
	return made.record, err
}

// chooseText sets the columns of a step embed that names none: the only column of text.
func chooseText(embed *enginev1.EmbedStep, schema *arrow.Schema) error {
	if embed == nil || len(embed.GetText()) > 0 {
		return nil
	}
	var found []string
	for _, f := range schema.Fields() {
		if f.Type.ID() == arrow.STRING || f.Type.ID() == arrow.LARGE_STRING {
			found = append(found, strconv.Quote(f.Name))
			embed.Text = []string{f.Name}
		}
	}
	switch len(found) {
	case 1:
		return nil
	case 0:
		return engine.Errorf(engine.KindData, "choose columns", "", "the table has no column of text")
	default:
		return engine.Errorf(engine.KindInvalidArgument, "choose columns", "", "the table has several columns of text: %s", strings.Join(found, ", ")).
			WithHint("set text to those that are to be embedded")
	}
}

// boundSteps remembers the programs of steps, so that not every task reads the model's files for its digest. It is safe for concurrent
// use.
type boundSteps struct {
	places jobplan.Places // constant
	mu     sync.Mutex
	steps  map[string]*boundStep
	clock  uint64
}

// maxBoundSteps is how many are remembered.
const maxBoundSteps = 64

// boundStep is a step that was bound to a table of one schema.
type boundStep struct {
	program *jobplan.Program
	// files are those of the model as they were.
	files []fileStamp
	// used is when it was used, by the clock of boundSteps.
	used uint64
}

// fileStamp tells whether a file has changed.
type fileStamp struct {
	path      string
	sizeBytes int64
	modified  time.Time
}

// get returns a step that is bound to the schema. Two tasks that come first at the same time both read the model.
func (s *boundSteps) get(ctx context.Context, step *enginev1.Step, schema *arrow.Schema) (*boundStep, error) {
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(step)
	if err != nil {
		return nil, engine.Errorf(engine.KindInternal, "bind step", "", "%w", err)
	}
	key := string(encoded) + "\x00" + schemaKey(schema)
	s.mu.Lock()
	s.clock++
	found := s.steps[key]
	if found != nil {
		found.used = s.clock
	}
	s.mu.Unlock()
	if found != nil && !changed(found.files) {
		return found, nil
	}
	if err := jobplan.CheckPlaces(&enginev1.JobSpec{Steps: []*enginev1.Step{step}}, s.places); err != nil {
		return nil, err
	}
	program, paths, err := jobplan.CompileStep(ctx, step, "the argument", schema)
	if err != nil {
		return nil, err
	}
	made := &boundStep{program: program, files: stamp(paths)}
	s.mu.Lock()
	defer s.mu.Unlock()
	made.used = s.clock
	if s.steps == nil {
		s.steps = map[string]*boundStep{}
	}
	s.steps[key] = made
	if len(s.steps) > maxBoundSteps {
		oldest, first := "", true
		for k, b := range s.steps {
			if first || b.used < s.steps[oldest].used {
				oldest, first = k, false
			}
		}
		delete(s.steps, oldest)
	}
	return made, nil
}

// schemaKey is the same for schemas that a step is bound to in the same way.
func schemaKey(schema *arrow.Schema) string {
	var key strings.Builder
	for _, f := range schema.Fields() {
		fmt.Fprintf(&key, "%q %s %t,", f.Name, f.Type, f.Nullable)
	}
	return key.String()
}

// stamp looks at the files among paths; what is in folders is among them too.
func stamp(paths []string) (files []fileStamp) {
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			files = append(files, fileStamp{path, info.Size(), info.ModTime()})
		}
	}
	return files
}

// changed reports whether a file is not what it was.
func changed(files []fileStamp) bool {
	for _, f := range files {
		info, err := os.Stat(f.path)
		if err != nil || info.Size() != f.sizeBytes || !info.ModTime().Equal(f.modified) {
			return true
		}
	}
	return false
}
