// Package ipc reads and writes files of Arrow IPC: the file format, also called Feather V2, and the stream format. Reading goes through
// objectstore/table, which checks every byte before it is used and copies nothing that is not compressed; writing is arrow's.
//
// Both formats are messages one after the other, so a file is indexed by the headers of its messages, whatever its footer says, and can
// be split between any two record batches.
package ipc

import (
	"context"
	"math"
	"slices"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/storage"
	"github.com/f708428e/engine/dataset/text"
	"github.com/f708428e/engine/dataset/union"
)

const (
	opRead  = "read arrow"
	opWrite = "write arrow"

	// defaultSplitBytes is PlanOptions.TargetSplitBytes if that is zero.
	defaultSplitBytes = 64 << 20
)

// Source reads Arrow IPC, files and streams. Columns keep their types, with these exceptions: a dictionary is read as its values, and
// large texts and views of texts as ordinary ones. Metadata of the schema and its fields is dropped. It is safe for concurrent use.
type Source struct {
	// Union lets files have different columns: see package union.
	Union bool
}

var _ dataset.Source = (*Source)(nil)

// NewSource returns a Source.
func NewSource() *Source { return &Source{} }

// Plan reads the headers of all messages, checks that all files have the same columns, in whatever order, and cuts splits between record
// batches. The schema has the first file's order; a column is nullable if it is in any file. A damaged file is an error of kind
// engine.KindCorrupt, different columns are one of kind engine.KindData that names them and both files; with Union, those whose types do
// not agree.
func (s *Source) Plan(ctx context.Context, files []dataset.File, options dataset.PlanOptions) (*dataset.Layout, error) {
	if len(files) == 0 {
		return nil, engine.Errorf(engine.KindInvalidArgument, opRead, "", "no files")
	}
	target := options.TargetSplitBytes
	if target <= 0 {
		target = defaultSplitBytes
	}
	ahead := storage.NewAhead(options.Storage, opRead, files, func(int, dataset.File) []dataset.Range { return []dataset.Range{{End: aheadBytes}} })
	defer func() { _ = ahead.Close() }()
	layout := &dataset.Layout{}
	var fields []arrow.Field
	for i, f := range files {
		index, err := openIndex(ctx, ahead, f)
		if err != nil {
			return nil, err
		}
		err = index.all(ctx)
		var own []arrow.Field
		if err == nil {
			own, err = columnsOf(f.Path, index.schema)
		}
		if err == nil && i > 0 {
			fields, err = s.mergeFields(fields, own, f.Path, files[0].Path)
		}
		if i == 0 {
			fields = own
		}
		layout.Splits = append(layout.Splits, index.splits(f, target)...)
		if closeErr := index.in.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return nil, err
		}
	}
	layout.Schema = arrow.NewSchema(fields, nil)
	return layout, nil
}

// splits cuts one file at the first record batch that begins at or after the target. Of a file in a bucket a split says too where its
// messages are, so that those before it need not be looked at; one that has dictionaries, which are everywhere, is one split.
func (x *index) splits(f dataset.File, target int64) []dataset.Split {
	if len(x.batches) == 0 {
		return []dataset.Split{{File: f}}
	}
	var out []dataset.Split
	first, size := 0, int64(0)
	if x.ahead && x.hasDictionaries() {
		target = math.MaxInt64
	}
	for i, b := range x.batches {
		if size += b.size; size >= target || i == len(x.batches)-1 {
			s := dataset.Split{File: f, FirstRowGroup: first, RowGroups: i + 1 - first}
			if x.ahead {
				s.StartOffsetBytes, s.EndOffsetBytes = x.batches[first].offset, b.offset+b.size
			}
			out = append(out, s)
			first, size = i+1, 0
		}
	}
	return out
}

// columnsOf returns a file's columns as they are read.
func columnsOf(path string, schema *arrow.Schema) ([]arrow.Field, error) {
	fields := make([]arrow.Field, schema.NumFields())
	seen := make(map[string]bool, len(fields))
	for i, f := range schema.Fields() {
		if seen[f.Name] {
			return nil, engine.Errorf(engine.KindData, opRead, path, "two columns are named %q", f.Name)
		}
		seen[f.Name] = true
		fields[i] = arrow.Field{Name: f.Name, Type: plainType(f.Type), Nullable: f.Nullable}
	}
	if len(fields) == 0 {
		return nil, engine.Errorf(engine.KindData, opRead, path, "the table has no columns")
	}
	return fields, nil
}

// mergeFields compares another file's columns with those of the files before, and returns those of all.
func (s *Source) mergeFields(fields, own []arrow.Field, path, first string) ([]arrow.Field, error) {
	if s.Union {
		merged, wrong := union.Merge(fields, own, nil)
		if wrong != "" {
			return nil, engine.Errorf(engine.KindData, opRead, path, "its columns do not go together with those of the files before it, such as %s: %s", first, wrong)
		}
		return merged, nil
	}
	if wrong := dataset.MergeFields(fields, own, nil); wrong != "" {
		return nil, engine.Errorf(engine.KindData, opRead, path, "its columns are not those of %s: %s", first, wrong).
			WithHint("source.arrow.union: true reads files of different columns")
	}
	return fields, nil
}

// hasDictionaries tells whether there may be messages with dictionaries.
func (x *index) hasDictionaries() bool {
	return slices.ContainsFunc(x.schema.Fields(), func(f arrow.Field) bool { return nests(f.Type, false) })
}

// openIndex opens a file that is what it was when it was listed, and reads its schema.
func openIndex(ctx context.Context, from dataset.Storage, f dataset.File) (*index, error) {
	in, err := text.OpenPlain(ctx, from, opRead, f)
	if err != nil {
		return nil, err
	}
	x := &index{in: in, info: f, ahead: storage.Remote(f)}
	if err := x.begin(ctx); err != nil {
		_ = in.Close()
		return nil, err
	}
	return x, nil
}
