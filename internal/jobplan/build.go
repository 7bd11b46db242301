// Package jobplan turns a job file into something that runs. The head validates a job and builds its plan with it; a worker
// compiles job and plan into a program. Both bind the steps to the table with the same code, so they cannot disagree.
//
// Functions of this package may be called from several goroutines.
package jobplan

import (
	"bytes"
	"context"
	"errors"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/ipc"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/internal/secret"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// DefaultTargetSplitBytes is how large a split should be, where that keeps all cores busy.
const DefaultTargetSplitBytes = 64 << 20

// Options steers Build.
type Options struct {
	// TargetSplitBytes is how large a split should be; zero means DefaultTargetSplitBytes. A job with sink.parquet.files may have
	// smaller ones.
	TargetSplitBytes int64
	// Objects describes the objects that a job reads. Nil means that there is no object store: a job that reads objects is refused.
	Objects Objects
	// Operators are those that steps map may name. Nil means that there are none.
	Operators Operators
	// Storage has the buckets that a job reads from. Nil means that there are none: a job that reads from one is refused. For a job that names
	// keys it is ForJob's.
	Storage Storage
	// Secrets are those of the job; nil means that it has none.
	Secrets *secret.Set
	// Places says which places of this machine the job may name. Nil allows all.
	Places Places
	// Known are the inputs that earlier jobs have read, which are left out. Nil means that all are read. If nothing is left, the plan has no
	// inputs and no tasks.
	Known Known
}

// inputPlaces are where the inputs of a job may lie.
func (o Options) inputPlaces(spec *enginev1.JobSpec) inputPlaces {
	return inputPlaces{storage: SourceStorage(spec, o.Storage), allowed: o.Places}
}

// Build makes the plan of a job: it lists the inputs, opens the models, settles the schema, binds the steps, and cuts the inputs
// into tasks. It reads headers, footers, samples, and whatever the source needs to find row boundaries, and all of the models'
// files for their digests; it writes nothing, and the output folder need not exist.
//
// What a user did wrong is named before a row is scored: see Validate for the job file; a path without files, or an object that
// nobody knows, is of kind engine.KindNotFound; a column that is missing or of a wrong type of kind engine.KindData; a model that
// cannot be used of kind engine.KindModel; an output folder that the job reads from, or that holds its models, of kind
// engine.KindConflict. The same job, inputs, models, and options give the same plan.
func Build(ctx context.Context, job engine.JobID, spec *enginev1.JobSpec, options Options) (*enginev1.Plan, error) {
	if err := Validate(spec); err != nil {
		return nil, err
	}
	if err := CheckPlaces(spec, options.Places); err != nil {
		return nil, err
	}
	output, err := newOutput(spec, job, options.Secrets)
	if err != nil {
		return nil, err
	}
	plan := &enginev1.Plan{}
	find := findInputs
	if options.Known != nil {
		find = findNew
	}
	source, files, err := find(ctx, spec, options)
	if err != nil {
		return nil, err
	}
	if options.Known != nil {
		if files, plan.InputsKnown, err = leaveOut(files, options.Known); err != nil {
			return nil, err
		}
	}
	if err := output.plan(files, plan); err != nil || len(files) == 0 {
		return plan, err
	}
	if spec, err = useFitted(ctx, spec, plan, options.Storage); err != nil {
		return nil, err
	}
	models, err := openModels(ctx, spec)
	if err != nil {
		return nil, err
	}
	if err := output.guardModels(models); err != nil {
		return nil, err
	}
	wanted, err := wantedTypes(spec, models)
	if err != nil {
		return nil, err
	}
	fileCount := output.count()
	layout, err := layOut(ctx, source, files, dataset.PlanOptions{TargetSplitBytes: options.TargetSplitBytes, WantedTypes: wanted, Storage: SourceStorage(spec, options.Storage)}, fileCount)
	if err != nil {
		return nil, err
	}
	bound, err := bind(spec, layout.Schema, models, tableName(spec, files[0].Path), layout.Texts, options.Operators)
	if err != nil {
		return nil, hintDelimiter(spec, layout.Schema, err)
	}
	_, _, outputSchema := bound.lower()
	if !bound.open { // Else Fitted does, once all steps are fitted.
		if err := output.check(ctx, outputSchema); err != nil {
			return nil, err
		}
	}
	plan.SourceSchema = EncodeSchema(layout.Schema)
	places := make(map[inputName]int32, len(files))
	for i, f := range files {
		places[nameOf(f)] = int32(i)
		plan.Inputs = append(plan.Inputs, &enginev1.InputFile{
			Path: f.Path, SizeBytes: f.SizeBytes, ModifiedUnixNanos: f.ModifiedUnixNanos, ObjectId: objectOf(spec, f.Path),
			Partitions: f.Partitions, Etag: f.ETag, Settings: f.Settings,
		})
	}
	for _, f := range layout.Schema.Fields() {
		plan.SourceColumns = append(plan.SourceColumns, &enginev1.ColumnInfo{Name: f.Name, Type: dataset.TypeName(f.Type)})
	}
	plan.OutputColumns = bound.outputColumns()
	for i := range models {
		if pin := models[i].pin(i); pin != nil {
			plan.Models = append(plan.Models, pin)
		}
	}
	for i, group := range divide(layout.Splits, output) {
		task := &enginev1.TaskPlan{Part: output.part(i)}
		for _, s := range group {
			place, ok := places[nameOf(s.File)]
			if !ok {
				return nil, engine.Errorf(engine.KindInternal, "plan job", s.File.Path, "a split of a file that is no input")
			}
			task.Splits = append(task.Splits, &enginev1.Split{
				Input: place, StartOffsetBytes: s.StartOffsetBytes, EndOffsetBytes: s.EndOffsetBytes,
				FirstRowGroup: int32(s.FirstRowGroup), RowGroups: int32(s.RowGroups),
				Lower: s.Lower, Upper: s.Upper, Nulls: s.Nulls,
			})
		}
		plan.Tasks = append(plan.Tasks, task)
	}
	return plan, nil
}

// hintDelimiter adds to the error of a job whose steps do not find their columns that the source has but one column, whose name
// holds what seems to be the delimiter.
func hintDelimiter(spec *enginev1.JobSpec, schema *arrow.Schema, err error) error {
	kind, ok := spec.GetSource().GetKind().(*enginev1.Source_Csv)
	var e *engine.Error
	if !ok || !errors.As(err, &e) {
		return err
	}
	options, optionsErr := csvOptions(kind.Csv)
	if optionsErr != nil {
		return err
	}
	names := make([]string, schema.NumFields())
	for i, f := range schema.Fields() {
		names[i] = f.Name
	}
	hint := options.DelimiterHint(names)
	if hint == "" {
		return err
	}
	hinted := *e
	hinted.Hint = hint
	return &hinted
}

// SplitOf returns a split of an input as its source knows it.
func SplitOf(file *enginev1.InputFile, split *enginev1.Split) dataset.Split {
	return dataset.Split{
		File: dataset.File{
			Path: file.GetPath(), SizeBytes: file.GetSizeBytes(), ModifiedUnixNanos: file.GetModifiedUnixNanos(), Partitions: file.GetPartitions(),
			ETag: file.GetEtag(), Settings: file.GetSettings(),
		},
		StartOffsetBytes: split.GetStartOffsetBytes(),
		EndOffsetBytes:   split.GetEndOffsetBytes(),
		FirstRowGroup:    int(split.GetFirstRowGroup()),
		RowGroups:        int(split.GetRowGroups()),
		Lower:            split.GetLower(),
		Upper:            split.GetUpper(),
		Nulls:            split.GetNulls(),
	}
}

// EncodeSchema writes a schema as an Arrow IPC stream without record batches.
func EncodeSchema(schema *arrow.Schema) []byte {
	var buffer bytes.Buffer
	w := ipc.NewWriter(&buffer, ipc.WithSchema(schema))
	// Writing into memory does not fail.
	_ = w.Close()
	return buffer.Bytes()
}

// DecodeSchema is the inverse of EncodeSchema. Its error is of kind engine.KindCorrupt.
func DecodeSchema(encoded []byte) (*arrow.Schema, error) {
	r, err := ipc.NewReader(bytes.NewReader(encoded))
	if err != nil {
		return nil, engine.Errorf(engine.KindCorrupt, "decode schema", "", "%w", err)
	}
	defer r.Release()
	return r.Schema(), nil
}
