// Package union makes one table of files whose columns differ: it has all their columns. In the rows of a file that lacks a column it is
// null. A column that is int32 in one file and int64 in another is int64; numbers that are float32 or float64 in any file are float64.
package union

import (
	"slices"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
)

// Merge adds another file's columns to fields, those of the files before it, and returns them, or what contradicts them, for people. A
// column that a file lacks becomes nullable. same returns the type of a column that has two types in the eyes of a format that has more
// equal ones than Arrow does, or false; nil means that there are none.
func Merge(fields, own []arrow.Field, same func(want, have arrow.DataType) (arrow.DataType, bool)) ([]arrow.Field, string) {
	has := func(fields []arrow.Field, name string) bool {
		return slices.ContainsFunc(fields, func(f arrow.Field) bool { return f.Name == name })
	}
	// What one side lacks is given to it, so that only types are left to compare.
	merged, other := slices.Clone(fields), slices.Clone(own)
	for _, f := range own {
		if !has(fields, f.Name) {
			f.Nullable = true
			merged = append(merged, f)
		}
	}
	for _, f := range fields {
		if !has(own, f.Name) {
			f.Nullable = true
			other = append(other, f)
		}
	}
	wrong := dataset.MergeFields(merged, other, func(want, have arrow.DataType) (arrow.DataType, bool) {
		if same != nil {
			if t, ok := same(want, have); ok {
				return t, true
			}
		}
		return Wider(want, have)
	})
	return merged, wrong
}

// numbers are the types that widen, with how they do.
var numbers = map[arrow.Type]struct {
	rank  int
	float bool
}{
	arrow.INT32: {rank: 1}, arrow.INT64: {rank: 2}, arrow.FLOAT32: {1, true}, arrow.FLOAT64: {2, true},
}

// Wider is the type that holds the values of two, or false if there is none.
func Wider(a, b arrow.DataType) (arrow.DataType, bool) {
	if arrow.TypeEqual(a, b) {
		return a, true
	}
	left, ok := numbers[a.ID()]
	right, also := numbers[b.ID()]
	switch {
	case !ok || !also:
		return nil, false
	case left.float || right.float:
		return arrow.PrimitiveTypes.Float64, true
	default:
		return arrow.PrimitiveTypes.Int64, true
	}
}

// Open opens a file with columns of its own as a part of the table of options.Schema. open opens it with the options it is given, of
// whose schema it has all columns, in its own types.
func Open(path string, own []arrow.Field, options dataset.ReadOptions, open func(dataset.ReadOptions) (dataset.Reader, error)) (dataset.Reader, error) {
	wanted := options.Columns
	if wanted == nil {
		for i := range options.Schema.NumFields() {
			wanted = append(wanted, i)
		}
	}
	places := map[string]int{}
	for i, f := range own {
		places[f.Name] = i
	}
	r := &reader{path: path, options: options}
	var fields, inner []arrow.Field
	differs := false
	for _, column := range wanted {
		f := options.Schema.Field(column)
		fields = append(fields, f)
		place, ok := places[f.Name]
		if !ok {
			differs = true
			r.columns = append(r.columns, source{place: missing})
			continue
		}
		s := source{place: len(inner), widen: widening(own[place].Type, f.Type)}
		if s.widen != nil {
			differs = true
			f.Type = own[place].Type
		}
		inner = append(inner, f)
		r.columns = append(r.columns, s)
	}
	if !differs {
		return open(options)
	}
	if len(inner) == 0 {
		if len(own) == 0 {
			return nil, engine.Errorf(engine.KindData, opRead, path, "the table has no columns")
		}
		inner = own[:1] // Somebody must tell how many rows there are.
	}
	r.schema = arrow.NewSchema(fields, nil)
	options.Schema, options.Columns = arrow.NewSchema(inner, nil), nil
	var err error
	if r.file, err = open(options); err != nil {
		return nil, err
	}
	return r, nil
}
