package jobplan

import (
	"errors"
	"slices"

	"github.com/apache/arrow/go/v15/arrow"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/csv"
	"github.com/f708428e/engine/dataset/hive"
	"github.com/f708428e/engine/dataset/ipc"
	"github.com/f708428e/engine/dataset/object"
	"github.com/f708428e/engine/dataset/parquet"
	"github.com/f708428e/engine/internal/secret"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// sourceRequired is said of a job without a source.
const sourceRequired = "required: one of csv, json, parquet, arrow, object, postgres"

// sourcePaths returns the paths of a source of files and the name of their field, which is empty if there is no such source.
func sourcePaths(spec *enginev1.JobSpec) (field string, paths []string) {
	switch kind := spec.GetSource().GetKind().(type) {
	case *enginev1.Source_Csv:
		return "source.csv.paths", kind.Csv.GetPaths()
	case *enginev1.Source_Parquet:
		return "source.parquet.paths", kind.Parquet.GetPaths()
	case *enginev1.Source_Json:
		return "source.json.paths", kind.Json.GetPaths()
	case *enginev1.Source_Arrow:
		return "source.arrow.paths", kind.Arrow.GetPaths()
	default:
		return "", nil
	}
}

// newSource makes the job's source, which knows the columns of its files' folders. What is given of objects is for a source of them, and
// secrets are for one of a database.
func newSource(spec *enginev1.JobSpec, described []object.Description, open object.Opener, secrets *secret.Set) (dataset.Source, error) {
	if spec.GetSource().GetObject() != nil {
		return object.NewSource(described, open), nil
	}
	if kind := spec.GetSource().GetPostgres(); kind != nil {
		return newPostgresSource(kind, secrets)
	}
	if _, err := newFileSource(spec, nil); err != nil {
		return nil, err
	}
	columns, err := declaredColumns(columnsOf(spec))
	if err != nil {
		return nil, err
	}
	types := map[string]arrow.DataType{}
	for _, c := range columns {
		types[c.Name] = c.Type
	}
	return hive.New(types, func(without []string) (dataset.Source, error) { return newFileSource(spec, without) }), nil
}

// newFileSource makes the source of the job's files, which do not have some of the columns that the job file declares.
func newFileSource(spec *enginev1.JobSpec, without []string) (dataset.Source, error) {
	absent := func(c declared) bool { return slices.Contains(without, c.Name) }
	switch kind := spec.GetSource().GetKind().(type) {
	case *enginev1.Source_Csv:
		options, err := csvOptions(kind.Csv)
		if err != nil {
			return nil, err
		}
		options.Columns = slices.DeleteFunc(options.Columns, absent)
		source, err := csv.New(options)
		if err != nil {
			return nil, underField("source.csv", err)
		}
		return source, nil
	case *enginev1.Source_Parquet:
		return &parquet.Source{Union: kind.Parquet.GetUnion()}, nil
	case *enginev1.Source_Json:
		return newJSONSource(kind.Json, absent)
	case *enginev1.Source_Arrow:
		return &ipc.Source{Union: kind.Arrow.GetUnion()}, nil
	default:
		return nil, invalid("source", sourceRequired)
	}
}

func csvOptions(spec *enginev1.CsvSource) (csv.Options, error) {
	const field = "source.csv"
	options := csv.Options{Header: true, Quote: '"', Nulls: spec.GetNulls(), Union: spec.GetUnion()}
	if spec.Header != nil {
		options.Header = spec.GetHeader()
	}
	var err error
	if options.Delimiter, err = oneASCII(field+".delimiter", spec.GetDelimiter()); err != nil {
		return options, err
	}
	if spec.Quote != nil {
		if options.Quote, err = oneASCII(field+".quote", spec.GetQuote()); err != nil {
			return options, err
		}
	}
	options.Columns, err = declaredColumns(field+".columns", spec.GetColumns())
	return options, err
}

// underField replaces the operation of an error by the field of the job file that caused it.
func underField(field string, err error) error {
	var e *engine.Error
	if errors.As(err, &e) {
		return &engine.Error{Kind: e.Kind, ID: field, Hint: e.Hint, Err: e.Err}
	}
	return engine.WrapError("", field, err)
}

// columnsOf returns the columns that the job file declares, and their field, which is empty for a source with types of its own.
func columnsOf(spec *enginev1.JobSpec) (field string, columns []*enginev1.Column) {
	switch kind := spec.GetSource().GetKind().(type) {
	case *enginev1.Source_Csv:
		return "source.csv.columns", kind.Csv.GetColumns()
	case *enginev1.Source_Json:
		return "source.json.columns", kind.Json.GetColumns()
	default:
		return "", nil
	}
}

// declaredTypes returns the names of the columns whose type the job file gives; ok is false for a source with types of its own.
func declaredTypes(spec *enginev1.JobSpec) (declared map[string]bool, ok bool) {
	field, columns := columnsOf(spec)
	if field == "" {
		return nil, false
	}
	declared = map[string]bool{}
	for _, c := range columns {
		if c.GetType() != "" {
			declared[c.GetName()] = true
		}
	}
	return declared, true
}

func firstNumber(raw []byte) protowire.Number {
	number, _, _ := protowire.ConsumeTag(raw)
	return number
}
