package object

import (
	"context"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
)

// defaultSplitBytes is PlanOptions.TargetSplitBytes if that is zero.
const defaultSplitBytes = 64 << 20

// Source reads objects. The path of a dataset.File is the object's id, and a split's row groups are record batches of it. Columns
// keep their types, but a dictionary is read as its values, as from Parquet; metadata of the schema and its fields is dropped.
type Source struct {
	described map[string]Description
	open      Opener
}

var _ dataset.Source = (*Source)(nil)

// NewSource returns a Source. The head gives the descriptions of the objects that it plans with, a worker what opens them; either may
// be nil.
func NewSource(described []Description, open Opener) *Source {
	s := &Source{described: make(map[string]Description, len(described)), open: open}
	for _, d := range described {
		s.described[d.ID.String()] = d
	}
	return s
}

// Files returns the inputs that descriptions stand for.
func Files(described []Description) []dataset.File {
	files := make([]dataset.File, len(described))
	for i, d := range described {
		files[i] = dataset.File{Path: d.ID.String(), SizeBytes: d.SizeBytes}
	}
	return files
}

// Plan checks that all objects have the same columns, in whatever order, and cuts them between record batches, which it takes to be
// of one size. The schema has the first object's order; a column is nullable if it is in any object. Different columns are an error
// of kind engine.KindData that names them.
func (s *Source) Plan(ctx context.Context, files []dataset.File, options dataset.PlanOptions) (*dataset.Layout, error) {
	if len(files) == 0 {
		return nil, engine.Errorf(engine.KindInvalidArgument, opRead, "", "no objects")
	}
	target := options.TargetSplitBytes
	if target <= 0 {
		target = defaultSplitBytes
	}
	layout := &dataset.Layout{}
	var fields []arrow.Field
	for i, f := range files {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		d, ok := s.described[f.Path]
		if !ok {
			return nil, engine.Errorf(engine.KindInternal, opRead, f.Path, "the object was not described")
		}
		own, err := columnsOf(d)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			fields = own
		} else if err := mergeFields(fields, own, f.Path, files[0].Path); err != nil {
			return nil, err
		}
		layout.Splits = append(layout.Splits, splits(f, d, target)...)
	}
	layout.Schema = arrow.NewSchema(fields, nil)
	return layout, nil
}

// columnsOf returns an object's columns without metadata.
func columnsOf(d Description) ([]arrow.Field, error) {
	fields := make([]arrow.Field, d.Schema.NumFields())
	seen := make(map[string]bool, len(fields))
	for i, f := range d.Schema.Fields() {
		if seen[f.Name] {
			return nil, engine.Errorf(engine.KindData, opRead, title(d.ID.String()), "two columns are named %q", f.Name)
		}
		seen[f.Name] = true
		fields[i] = arrow.Field{Name: f.Name, Type: PlainType(f.Type), Nullable: f.Nullable}
	}
	return fields, nil
}

// splits cuts one object.
func splits(f dataset.File, d Description, target int64) []dataset.Split {
	batches := int(d.Batches)
	if batches == 0 {
		return []dataset.Split{{File: f}}
	}
	// The first boundary at or after the target, if all record batches have the average size.
	each := batches
	if average := float64(d.SizeBytes) / float64(batches); float64(target) < float64(d.SizeBytes) {
		each = max(1, int((float64(target)+average-1)/average))
	}
	var out []dataset.Split
	for first := 0; first < batches; first += each {
		out = append(out, dataset.Split{File: f, FirstRowGroup: first, RowGroups: min(each, batches-first)})
	}
	return out
}

// mergeFields checks another object's columns against the first one's.
func mergeFields(fields, own []arrow.Field, id, first string) error {
	if wrong := dataset.MergeFields(fields, own, nil); wrong != "" {
		return engine.Errorf(engine.KindData, opRead, title(id), "its columns are not those of object %s: %s", first, wrong)
	}
	return nil
}

// Open starts the reading of a split. The object's memory is pinned until the reader is closed and every record of it released. An
// object that is not what was planned with is an error of kind engine.KindCorrupt.
func (s *Source) Open(ctx context.Context, split dataset.Split, options dataset.ReadOptions) (dataset.Reader, error) {
	id, err := engine.ParseObjectID(split.File.Path)
	if err != nil {
		return nil, engine.WrapError(opRead, "", err)
	}
	if s.open == nil {
		return nil, engine.Errorf(engine.KindInternal, opRead, title(split.File.Path), "this process has no object store")
	}
	opened, err := s.open(ctx, id)
	if err != nil {
		return nil, engine.WrapError(opRead, title(split.File.Path), err)
	}
	r, err := newReader(id, opened, split, options)
	if err != nil {
		opened.Release()
		return nil, err
	}
	return r, nil
}
