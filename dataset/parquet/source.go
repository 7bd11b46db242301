// Package parquet reads and writes Apache Parquet files, on arrow's implementation, with what that lacks: errors instead of
// panics on damaged files, batches cut exactly, bounded memory, and a fast path for columns without nesting.
package parquet

import (
	"context"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/storage"
	"github.com/f708428e/engine/dataset/union"
)

// defaultSplitBytes is PlanOptions.TargetSplitBytes if that is zero.
const defaultSplitBytes = 64 << 20

// Source reads Parquet files. Columns keep their types, with these exceptions: a dictionary is read as its values, an extension
// type as its storage, large texts and lists as ordinary ones. Metadata of the schema and its fields is dropped.
type Source struct {
	// Union lets files have different columns: see package union.
	Union bool
}

var _ dataset.Source = (*Source)(nil)

// NewSource returns a Source.
func NewSource() *Source { return &Source{} }

// Plan reads the footers of all files, checks that they have the same columns, in whatever order, and cuts splits at the
// boundaries of row groups by their compressed size. The schema has the first file's order; a column is nullable if it is in
// any file. A damaged file is an error of kind engine.KindCorrupt, different columns are one of kind engine.KindData; with Union, those
// whose types do not agree.
func (s *Source) Plan(ctx context.Context, files []dataset.File, options dataset.PlanOptions) (*dataset.Layout, error) {
	if len(files) == 0 {
		return nil, engine.Errorf(engine.KindInvalidArgument, opRead, "", "no files")
	}
	target := options.TargetSplitBytes
	if target <= 0 {
		target = defaultSplitBytes
	}
	ahead := storage.NewAhead(options.Storage, opRead, files, func(_ int, f dataset.File) []dataset.Range { return footerRanges(f) })
	defer func() { _ = ahead.Close() }()
	layout := &dataset.Layout{}
	var fields []arrow.Field
	for i, f := range files {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		in, err := openInput(ctx, ahead, f)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			fields = in.fields
		} else {
			fields, err = s.mergeFields(fields, in, files[0].Path)
		}
		if err == nil {
			layout.Splits = append(layout.Splits, splits(in, f, target)...)
		}
		if closeErr := in.close(); err == nil && closeErr != nil {
			err = closeErr
		}
		if err != nil {
			return nil, err
		}
	}
	layout.Schema = arrow.NewSchema(fields, nil)
	return layout, nil
}

// splits cuts one file.
func splits(in *input, f dataset.File, target int64) []dataset.Split {
	groups := in.parquet.MetaData().RowGroups
	if len(groups) == 0 {
		return []dataset.Split{{File: f}}
	}
	var out []dataset.Split
	var size int64
	first := 0
	for i, group := range groups {
		for _, chunk := range group.Columns {
			size += chunk.MetaData.TotalCompressedSize
		}
		if size >= target || i == len(groups)-1 {
			out = append(out, dataset.Split{File: f, FirstRowGroup: first, RowGroups: i + 1 - first})
			first, size = i+1, 0
		}
	}
	return out
}

// mergeFields compares the columns of another file with those of the files before, and returns those of all. Where the files disagree on
// what is nullable within a column, all of it is.
func (s *Source) mergeFields(fields []arrow.Field, in *input, firstPath string) ([]arrow.Field, error) {
	same := func(want, have arrow.DataType) (arrow.DataType, bool) {
		if arrow.TypeEqual(have, want) {
			return want, true
		}
		return allNullable(want), sameType(have, want)
	}
	if s.Union {
		merged, wrong := union.Merge(fields, in.fields, same)
		if wrong != "" {
			return nil, engine.Errorf(engine.KindData, opRead, in.path, "its columns do not go together with those of the files before it, such as %s: %s", firstPath, wrong)
		}
		return merged, nil
	}
	if wrong := dataset.MergeFields(fields, in.fields, same); wrong != "" {
		return nil, engine.Errorf(engine.KindData, opRead, in.path, "its columns are not those of %s: %s", firstPath, wrong).
			WithHint("source.parquet.union: true reads files of different columns")
	}
	return fields, nil
}

// sameType compares types without regard to whether nested values may be null.
func sameType(a, b arrow.DataType) bool {
	return arrow.TypeEqual(allNullable(a), allNullable(b))
}

func allNullable(t arrow.DataType) arrow.DataType {
	return mapChildren(t, func(f arrow.Field) arrow.Field {
		return arrow.Field{Name: f.Name, Type: allNullable(f.Type), Nullable: true}
	})
}

// Open starts the reading of a split.
func (s *Source) Open(ctx context.Context, split dataset.Split, options dataset.ReadOptions) (dataset.Reader, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if options.Schema == nil || options.Allocator == nil {
		return nil, engine.Errorf(engine.KindInternal, opRead, split.File.Path, "no schema or no allocator")
	}
	in, err := openInput(ctx, options.Storage, split.File)
	if err != nil {
		return nil, err
	}
	open := func(options dataset.ReadOptions) (dataset.Reader, error) {
		r, err := newReader(in, split, options)
		if err != nil {
			return nil, err
		}
		return r, nil
	}
	var r dataset.Reader
	if s.Union {
		r, err = union.Open(in.path, in.fields, options, open)
	} else {
		r, err = open(options)
	}
	if err != nil {
		_ = in.close()
		return nil, err
	}
	return r, nil
}
