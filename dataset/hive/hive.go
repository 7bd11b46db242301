// Package hive adds to a source of files the columns that stand in the names of their folders: year=2026/month=11/part.parquet has the
// columns year and month, with these values in all rows.
//
// Keys and values are percent-decoded. A column has the type that was declared, or the one that later steps want if all its values are of
// that; else it is int64 if all its values are whole numbers, and text if not. __HIVE_DEFAULT_PARTITION__ is null. The columns follow
// those of the files.
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
	"unicode/utf8"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/text"
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

// Folder returns the name of the folder key=value, as Spark and Hive write it: what file systems or URLs would not bear is percent-encoded.
// An empty value stands for a null. A value that is not UTF-8 is an error of kind engine.KindData, and so is the text that stands for a null
// in names: encoded, it would be a text to Spark, but a null to pyarrow and polars.
func Folder(key, value string) (string, error) {
	switch {
	case value == "":
		value = nullValue
	case value == nullValue:
		return "", engine.Errorf(engine.KindData, "", "", "the text %s stands for a null in the names of folders, so readers would not tell them apart", nullValue)
	case !utf8.ValidString(value):
		return "", engine.Errorf(engine.KindData, "", "", "%q is not UTF-8 and makes no folder", value)
	default:
		value = escape(value)
	}
	return escape(key) + "=" + value, nil
}

func escape(s string) string {
	if !strings.ContainsFunc(s, escaped) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if escaped(r) {
			fmt.Fprintf(&b, "%%%02X", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// escaped tells which characters writers of partitions encode.
func escaped(r rune) bool {
	return r < ' ' || r == 0x7f || strings.ContainsRune("\"#%'*/:=?\\{}[]^", r)
}

// Source is another source with the columns of its files' folders. It is safe for concurrent use if that is.
type Source struct {
	declared map[string]arrow.DataType
	files    Files
}

var _ dataset.Source = (*Source)(nil)

// Files makes a source of files for which columns may be declared: all that are, but for some that are not in the files.
type Files func(without []string) (dataset.Source, error)

// New returns a Source over one of files. declared are the types of the columns that have been declared, those of folders among them;
// may be nil.
func New(declared map[string]arrow.DataType, files Files) *Source { return &Source{declared, files} }

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
		if !utf8.ValidString(p.key) || !utf8.ValidString(p.value) {
			return nil, engine.Errorf(engine.KindData, opPlan, file.Path, "the folder %q is not UTF-8", folder)
		}
		if slices.ContainsFunc(found, func(other pair) bool { return other.key == p.key }) {
			return nil, engine.Errorf(engine.KindData, opPlan, file.Path, "two folders around it give the column %q", p.key)
		}
		found = append(found, p)
	}
	return found, nil
}

// Plan plans the files, and adds their folders' columns. Files whose folders have different keys, a column that is in the files too, and
// a value that is none of the declared type are errors of kind engine.KindData.
func (s *Source) Plan(ctx context.Context, files []dataset.File, options dataset.PlanOptions) (*dataset.Layout, error) {
	var columns []column
	for i, f := range files {
		found, err := pairs(f)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			for _, p := range found {
				columns = append(columns, column{name: p.key, declared: s.declared[p.key], wanted: options.WantedTypes[p.key], whole: true})
			}
		}
		same := slices.EqualFunc(columns, found, func(c column, p pair) bool { return c.name == p.key })
		if !same {
			return nil, engine.Errorf(engine.KindData, opPlan, f.Path, "its folders give the columns %s, those of %s %s", list(keys(found)), files[0].Path, list(names(columns))).
				WithHint("all files need the same partition folders, in the same order")
		}
		for j, p := range found {
			if err := columns[j].see(f.Path, p); err != nil {
				return nil, err
			}
		}
	}
	source, err := s.files(names(columns))
	if err != nil {
		return nil, err
	}
	layout, err := source.Plan(ctx, files, options)
	if err != nil || len(columns) == 0 {
		return layout, err
	}
	fields := slices.Clone(layout.Schema.Fields())
	for _, c := range columns {
		if layout.Schema.HasField(c.name) {
			return nil, engine.Errorf(engine.KindData, opPlan, files[0].Path, "column %q is in the files and in the names of their folders", c.name).
				WithHint("name the folders %s=… themselves or with their files, so that they make no column", c.name)
		}
		fields = append(fields, arrow.Field{Name: c.name, Type: c.dataType(), Nullable: true})
	}
	metadata := layout.Schema.Metadata()
	layout.Schema = arrow.NewSchema(fields, &metadata)
	return layout, nil
}

// column is what is known of a column of folders; its types are nil if there are none.
type column struct {
	name             string
	declared, wanted arrow.DataType
	whole            bool // all values are whole numbers
}

// see looks at one value.
func (c *column) see(path string, p pair) error {
	if p.null {
		return nil
	}
	if c.declared != nil {
		if parse(p.value, c.declared) == nil {
			return engine.Errorf(engine.KindData, opPlan, path, "its folder gives the column %q, which is declared as %s, the value %s",
				c.name, dataset.TypeName(c.declared), text.Shown([]byte(p.value)))
		}
		return nil
	}
	if c.wanted != nil && parse(p.value, c.wanted) == nil {
		c.wanted = nil
	}
	c.whole = c.whole && parse(p.value, arrow.PrimitiveTypes.Int64) != nil
	return nil
}

func (c *column) dataType() arrow.DataType {
	switch {
	case c.declared != nil:
		return c.declared
	case c.wanted != nil:
		return c.wanted
	case c.whole:
		return arrow.PrimitiveTypes.Int64
	default:
		return arrow.BinaryTypes.String
	}
}

// parse returns what appends a value to the builder of a column of a type, or nil if the value is none of that type.
func parse(value string, t arrow.DataType) func(array.Builder) {
	switch t.ID() {
	case arrow.BOOL:
		if v, ok := map[string]bool{"true": true, "True": true, "TRUE": true, "1": true, "false": false, "False": false, "FALSE": false, "0": false}[value]; ok {
			return func(b array.Builder) { b.(*array.BooleanBuilder).Append(v) }
		}
	case arrow.INT32:
		if v, err := strconv.ParseInt(value, 10, 32); err == nil {
			return func(b array.Builder) { b.(*array.Int32Builder).Append(int32(v)) }
		}
	case arrow.INT64:
		if v, err := strconv.ParseInt(value, 10, 64); err == nil {
			return func(b array.Builder) { b.(*array.Int64Builder).Append(v) }
		}
	case arrow.FLOAT32:
		if v, err := strconv.ParseFloat(value, 32); err == nil {
			return func(b array.Builder) { b.(*array.Float32Builder).Append(float32(v)) }
		}
	case arrow.FLOAT64:
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			return func(b array.Builder) { b.(*array.Float64Builder).Append(v) }
		}
	case arrow.STRING:
		return func(b array.Builder) { b.(*array.StringBuilder).Append(value) }
	case arrow.DATE32:
		if v, ok := text.ParseDate([]byte(value)); ok {
			return func(b array.Builder) { b.(*array.Date32Builder).Append(arrow.Date32(v)) }
		}
	case arrow.TIMESTAMP:
		if ts := t.(*arrow.TimestampType); ts.Unit != arrow.Microsecond || ts.TimeZone != "" {
			return nil
		}
		if v, ok := text.ParseTimestamp([]byte(value)); ok {
			return func(b array.Builder) { b.(*array.TimestampBuilder).Append(arrow.Timestamp(v)) }
		}
	}
	return nil
}

func keys(found []pair) []string {
	var all []string
	for _, p := range found {
		all = append(all, p.key)
	}
	return all
}

func names(columns []column) []string {
	var all []string
	for _, c := range columns {
		all = append(all, c.name)
	}
	return all
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
	source, err := s.files(keys(found))
	if err != nil {
		return nil, err
	}
	if len(found) == 0 || options.Schema == nil {
		return source.Open(ctx, split, options)
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
	if r.files, err = source.Open(ctx, split, inner); err != nil {
		return nil, err
	}
	return r, nil
}

// constant is a column that has the same value in all rows.
type constant struct {
	field  arrow.Field
	add    func(array.Builder)
	values arrow.Array // as many as were needed so far; nil at first
}

func newConstant(path string, f arrow.Field, p pair) (*constant, error) {
	c := &constant{field: f, add: array.Builder.AppendNull}
	if !p.null {
		c.add = parse(p.value, f.Type)
	}
	if c.add == nil || p.key != f.Name {
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
			c.add(b)
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

// Mark implements dataset.Marker.
func (r *reader) Mark() dataset.Locator { return dataset.MarkFrom(r.files, r.first) }

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
