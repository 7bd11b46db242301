package jobplan

import (
	"slices"

	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/csv"
	"github.com/f708428e/engine/dataset/json"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

var unknownKeys = []string{"error", "ignore"}

// declared is a column that the job file declares; its type is nil if it is to be inferred.
type declared = csv.Column

// declaredColumns checks a list of columns of a source without types of its own.
func declaredColumns(field string, columns []*enginev1.Column) ([]declared, error) {
	if len(columns) > maxColumns {
		return nil, invalid(field, "%d columns, at most %d are allowed", len(columns), maxColumns)
	}
	var out []declared
	seen := map[string]int{}
	for i, c := range columns {
		columnField := indexed(field, i)
		if c.GetName() == "" {
			return nil, invalid(columnField+".name", "required")
		}
		if j, ok := seen[c.GetName()]; ok {
			return nil, invalid(columnField+".name", "%q stands in %s already", c.GetName(), indexed(field, j))
		}
		seen[c.GetName()] = i
		column := declared{Name: c.GetName()}
		if c.GetType() != "" {
			if err := validateType(columnField+".type", c.GetType()); err != nil {
				return nil, err
			}
			var err error
			if column.Type, err = dataset.ParseType(c.GetType()); err != nil {
				return nil, err
			}
		}
		out = append(out, column)
	}
	return out, nil
}

// newJSONSource makes the source of a job that reads JSON lines, which lack the columns that are absent.
func newJSONSource(spec *enginev1.JsonSource, absent func(declared) bool) (dataset.Source, error) {
	const field = "source.json"
	if err := oneOf(field+".unknown_keys", spec.GetUnknownKeys(), unknownKeys); err != nil {
		return nil, err
	}
	columns, err := declaredColumns(field+".columns", spec.GetColumns())
	if err != nil {
		return nil, err
	}
	options := json.Options{IgnoreUnknown: spec.GetUnknownKeys() == "ignore"}
	for _, c := range slices.DeleteFunc(columns, absent) {
		options.Columns = append(options.Columns, json.Column(c))
	}
	source, err := json.New(options)
	if err != nil {
		return nil, underField(field, err)
	}
	return source, nil
}
