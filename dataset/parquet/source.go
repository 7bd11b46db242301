// Package parquet reads and writes Apache Parquet files, on arrow's implementation, with what that lacks: errors instead of
// panics on damaged files, batches cut exactly, bounded memory, and a fast path for columns without nesting.
package parquet

import (
	"context"
	"fmt"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
)

// defaultSplitBytes is PlanOptions.TargetSplitBytes if that is zero.
const defaultSplitBytes = 64 << 20

// Source reads Parquet files. Columns keep their types, with these exceptions: a dictionary is read as its values, an extension
// type as its storage, large texts and lists as ordinary ones. Metadata of the schema and its fields is dropped.
type Source struct{}

var _ dataset.Source = (*Source)(nil)

// NewSource returns a Source.
func NewSource() *Source { return &Source{} }

// Plan reads the footers of all files, checks that they have the same columns, in whatever order, and cuts splits at the
// boundaries of row groups by their compressed size. The schema has the first file's order; a column is nullable if it is in
// any file. A damaged file is an error of kind engine.KindCorrupt, different columns are one of kind engine.KindData.
func (s *Source) Plan(ctx context.Context, files []dataset.File, options dataset.PlanOptions) (*dataset.Layout, error) {
	if len(files) == 0 {
		return nil, engine.Errorf(engine.KindInvalidArgument, opRead, "", "no files")
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
		in, err := openInput(f.Path)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			fields = in.fields
		} else {
			err = mergeFields(fields, in, files[0].Path)
		}
		if err == nil {
			layout.Splits = append(layout.Splits, splits(in, f, target)...)
		}
		if closeErr := in.close(); err == nil && closeErr != nil {
			err = fileError(f.Path, closeErr)
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

// mergeFields checks the columns of another file against the first one's and makes those nullable that are so in either. Where the
// files disagree on what is nullable within a column, all of it is.
func mergeFields(fields []arrow.Field, in *input, firstPath string) error {
	var wrong []string
	known := make(map[string]bool, len(fields))
	for i, want := range fields {
		known[want.Name] = true
		place, ok := in.places[want.Name]
		if !ok {
			wrong = append(wrong, fmt.Sprintf("column %q (%s) is missing", want.Name, dataset.TypeName(want.Type)))
			continue
		}
		have := in.fields[place]
		if !sameType(have.Type, want.Type) {
			wrong = append(wrong, fmt.Sprintf("column %q is %s instead of %s", want.Name, dataset.TypeName(have.Type), dataset.TypeName(want.Type)))
		} else if !arrow.TypeEqual(have.Type, want.Type) {
			fields[i].Type = allNullable(want.Type)
		}
		fields[i].Nullable = want.Nullable || have.Nullable
	}
	for _, have := range in.fields {
		if !known[have.Name] {
			wrong = append(wrong, fmt.Sprintf("column %q (%s) is extra", have.Name, dataset.TypeName(have.Type)))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	const shown = 5
	if n := len(wrong); n > shown {
		wrong = append(wrong[:shown], fmt.Sprintf("and %d more differences", n-shown))
	}
	return engine.Errorf(engine.KindData, opRead, in.path, "its columns are not those of %s: %s", firstPath, strings.Join(wrong, "; "))
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
	in, err := openInput(split.File.Path)
	if err != nil {
		return nil, err
	}
	r, err := newReader(in, split, options)
	if err != nil {
		_ = in.close()
		return nil, err
	}
	return r, nil
}
