// Package hive adds to a source of files the columns that stand in the names of their folders: year=2026/month=11/part.parquet has the
// columns year and month, with these values in all rows.
//
// Keys and values are percent-decoded. A column is int64 if all its values are whole numbers, else text; __HIVE_DEFAULT_PARTITION__ is
// null. The columns follow those of the files.
package hive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
)

const (
	opPlan = "read partitions"
	// nullValue is what writers put for a null.
	nullValue = "__HIVE_DEFAULT_PARTITION__"
)

// Partitions returns what dataset.File.Partitions of a file is: the folders of the form key=value in its path relative to the folder
// where partitions begin, which both have slashes.
func Partitions(relative string) string {
	folders := strings.Split(relative, "/")
	var found []string
	for _, folder := range folders[:len(folders)-1] {
		if strings.Index(folder, "=") > 0 {
			found = append(found, folder)
		}
	}
	return strings.Join(found, "/")
}

// Source is another source with the columns of its files' folders. It is safe for concurrent use if that is.
type Source struct{ files dataset.Source }

var _ dataset.Source = (*Source)(nil)

// New returns a Source over one of files.
func New(files dataset.Source) *Source { return &Source{files} }

// pair is one folder.
type pair struct {
	key, value string
	null       bool
}

func pairs(file dataset.File) ([]pair, error) {
	if file.Partitions == "" {
		return nil, nil
	}
	var found []pair
	for folder := range strings.SplitSeq(file.Partitions, "/") {
		key, value, _ := strings.Cut(folder, "=")
		p := pair{null: value == nullValue}
		var err error
		if p.key, err = url.PathUnescape(key); err == nil {
			p.value, err = url.PathUnescape(value)
		}
		if err != nil {
			return nil, engine.Errorf(engine.KindData, opPlan, file.Path, "the folder %q holds a %% that is no percent-encoding", folder)
		}
		if slices.ContainsFunc(found, func(other pair) bool { return other.key == p.key }) {
			return nil, engine.Errorf(engine.KindData, opPlan, file.Path, "two folders around it give the column %q", p.key)
		}
		found = append(found, p)
	}
	return found, nil
}

// Plan plans the files, and adds their folders' columns. Files whose folders have different keys, and a column that is in the files too,
// are errors of kind engine.KindData.
func (s *Source) Plan(ctx context.Context, files []dataset.File, options dataset.PlanOptions) (*dataset.Layout, error) {
	var columns []arrow.Field
	for i, f := range files {
		found, err := pairs(f)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			for _, p := range found {
				columns = append(columns, arrow.Field{Name: p.key, Type: arrow.PrimitiveTypes.Int64, Nullable: true})
			}
		}
		same := slices.EqualFunc(columns, found, func(c arrow.Field, p pair) bool { return c.Name == p.key })
		if !same {
			return nil, engine.Errorf(engine.KindData, opPlan, f.Path, "its folders give the columns %s, those of %s %s", keys(found), files[0].Path, names(columns)).
				WithHint("all files need the same partition folders, in the same order")
		}
		for j, p := range found {
			if _, err := strconv.ParseInt(p.value, 10, 64); err != nil && !p.null {
				columns[j].Type = arrow.BinaryTypes.String
			}
		}
	}
	layout, err := s.files.Plan(ctx, files, options)
	if err != nil || len(columns) == 0 {
		return layout, err
	}
	for _, c := range columns {
		if layout.Schema.HasField(c.Name) {
			return nil, engine.Errorf(engine.KindData, opPlan, files[0].Path, "column %q is in the files and in the names of their folders", c.Name).
				WithHint("name the folders %s=… themselves or with their files, so that they make no column", c.Name)
		}
	}
	metadata := layout.Schema.Metadata()
	layout.Schema = arrow.NewSchema(append(slices.Clone(layout.Schema.Fields()), columns...), &metadata)
	return layout, nil
}

func keys(found []pair) string {
	var all []string
	for _, p := range found {
		all = append(all, p.key)
	}
	return list(all)
}

func names(columns []arrow.Field) string {
	var all []string
	for _, c := range columns {
		all = append(all, c.Name)
	}
	return list(all)
}

func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return fmt.Sprintf("%q", names)
}

// Open starts the reading of a split.
func (s *Source) Open(ctx context.Context, split dataset.Split, options dataset.ReadOptions) (dataset.Reader, error) {
	found, err := pairs(split.File)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 || options.Schema == nil {
		return s.files.Open(ctx, split, options)
	}
	own := options.Schema.NumFields() - len(found)
	if own < 1 {
		return nil, engine.Errorf(engine.KindInternal, opPlan, split.File.Path, "%d columns, of which %d are those of folders", options.Schema.NumFields(), len(found))
	}
	wanted := options.Columns
	if wanted == nil {
		for i := range options.Schema.NumFields() {
			wanted = append(wanted, i)
		}
	}
	r := &reader{options: options}
	inner := options
	metadata := options.Schema.Metadata()
	inner.Schema = arrow.NewSchema(options.Schema.Fields()[:own], &metadata)
	inner.Columns = []int{}
	var fields []arrow.Field
	for _, column := range wanted {
		f := options.Schema.Field(column)
		fields = append(fields, f)
		if column < own {
			inner.Columns = append(inner.Columns, column)
			continue
		}
		value, err := newConstant(split.File.Path, f, found[column-own])
		if err != nil {
			return nil, err
		}
		r.constants = append(r.constants, value)
	}
	r.schema = arrow.NewSchema(fields, nil)
	if r.inner = len(inner.Columns); r.inner == 0 {
		inner.Columns = []int{0} // Somebody must tell how many rows there are.
	}
	if r.files, err = s.files.Open(ctx, split, inner); err != nil {
		return nil, err
	}
	return r, nil
}

// constant is a column that has the same value in all rows.
type constant struct {
	field  arrow.Field
	null   bool
	number int64
	text   string
	values arrow.Array // as many as were needed so far; nil at first
}

func newConstant(path string, f arrow.Field, p pair) (*constant, error) {
	c := &constant{field: f, null: p.null, text: p.value}
	var err error
	if f.Type.ID() == arrow.INT64 && !p.null {
		c.number, err = strconv.ParseInt(p.value, 10, 64)
	}
	if err != nil || p.key != f.Name {
		return nil, engine.Errorf(engine.KindInternal, opPlan, path, "its folder %s=%s is not the column %q (%s)", p.key, p.value, f.Name, f.Type)
	}
	return c, nil
}

// reader adds columns to the record batches of another. It implements dataset.Reader.
type reader struct {
	files     dataset.Reader
	options   dataset.ReadOptions
	schema    *arrow.Schema
	inner     int // how many of the columns are the files' own
	constants []*constant
	whole     arrow.Record // what is left to cut: its rows from next on; nil if there is none
	next      int64
	first     int64 // the row of whole with which the last record batch began
}

// Read implements dataset.Reader.
func (r *reader) Read(ctx context.Context) (arrow.Record, error) {
	if r.whole == nil || r.next == r.whole.NumRows() {
		r.drop()
		record, err := r.files.Read(ctx)
		if err != nil {
			if !errors.Is(err, io.EOF) {
				return nil, err
			}
			return nil, io.EOF
		}
		r.widen(record)
		record.Release()
	}
	// With more columns, the bytes of a record batch may be reached by fewer rows.
	rows := dataset.BatchRowsWithin(r.whole, r.next, r.options.BatchRows, r.options.BatchBytes)
	r.first = r.next
	r.next += rows
	return r.whole.NewSlice(r.first, r.next), nil
}

// widen makes a record batch of the files, with the columns added, the one that is cut.
func (r *reader) widen(record arrow.Record) {
	rows := int(record.NumRows())
	columns := slices.Clone(record.Columns()[:r.inner])
	for _, c := range r.constants {
		columns = append(columns, r.constant(c, rows))
	}
	r.whole, r.next, r.first = array.NewRecord(r.schema, columns, record.NumRows()), 0, 0
	for _, values := range columns[r.inner:] {
		values.Release()
	}
}

// constant returns so many values, which the caller releases.
func (r *reader) constant(c *constant, rows int) arrow.Array {
	if c.values == nil || c.values.Len() < rows {
		b := array.NewBuilder(r.options.Allocator, c.field.Type)
		defer b.Release()
		b.Reserve(rows)
		for range rows {
			if c.null {
				b.AppendNull()
				continue
			}
			switch b := b.(type) {
			case *array.Int64Builder:
				b.Append(c.number)
			case *array.StringBuilder:
				b.Append(c.text)
			}
		}
		if c.values != nil {
			c.values.Release()
		}
		c.values = b.NewArray()
	}
	return array.NewSlice(c.values, 0, int64(rows))
}

func (r *reader) drop() {
	if r.whole != nil {
		r.whole.Release()
	}
	r.whole, r.next, r.first = nil, 0, 0
}

// Where implements dataset.Reader.
func (r *reader) Where(row int64) string { return r.files.Where(r.first + row) }

// BytesRead implements dataset.Reader.
func (r *reader) BytesRead() int64 { return r.files.BytesRead() }

// Close implements dataset.Reader.
func (r *reader) Close() error {
	r.drop()
	for _, c := range r.constants {
		if c.values != nil {
			c.values.Release()
			c.values = nil
		}
	}
	return r.files.Close()
}
