package jobplan

import (
	"math"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Split divides the rows of the output among the folders of sinks.
type Split struct {
	// By are the places in the output's schema of the columns whose values are hashed, ascending.
	By []int
	// Seed is hashed first.
	Seed int64
	// Bounds has one bound for each sink, in the order of Folders: a row goes to the first one whose bound its hash does not exceed. The last
	// is math.MaxUint64.
	Bounds []uint64
}

// splitOf returns the step split of a job, or nil.
func splitOf(spec *enginev1.JobSpec) *enginev1.SplitStep {
	steps := spec.GetSteps()
	if len(steps) == 0 {
		return nil
	}
	return steps[len(steps)-1].GetSplit()
}

const maxParts = 100

func validateSplit(field string, split *enginev1.SplitStep, last bool) error {
	parts := split.GetParts()
	switch {
	case !last:
		return invalid(field, "must be the last step: each sink gets its part of what the steps make")
	case len(parts) < 2 || len(parts) > maxParts:
		return invalid(field+".parts", "found %d: name 2 to %d parts with their shares", len(parts), maxParts)
	}
	for _, name := range sortedKeys(parts) {
		share := parts[name]
		switch {
		case name == "" || name == RejectsName || strings.ContainsAny(name, "./ "):
			return invalid(field+".parts", "%q is no name of a part: use letters, digits, dashes, and underscores", name)
		case !(share > 0) || math.IsInf(share, 0):
			return invalid(field+".parts."+name, "%v must be above 0", share)
		}
	}
	return validateNames(field+".by", split.GetBy())
}

// bindSplit finds the columns whose values are hashed. It leaves the table as it is.
func (b *binder) bindSplit(op string, split *enginev1.SplitStep) error {
	places, err := b.places(op+".by", split.GetBy())
	if err != nil {
		return err
	}
	for _, place := range places {
		if c := b.columns[place]; !hashable(c.field.Type) {
			return engine.Errorf(engine.KindData, op+".by", "", "column %q of the table of %s is %s, whose values are not hashed", c.field.Name, b.table, dataset.TypeName(c.field.Type)).
				WithHint("use columns of numbers, texts, truth values, dates, or timestamps")
		}
	}
	if len(places) > 0 {
		return nil
	}
	for _, c := range b.columns {
		if hashable(c.field.Type) {
			return nil
		}
	}
	return engine.Errorf(engine.KindData, op, "", "the table of %s has no column whose values can be hashed", b.table)
}

func hashable(t arrow.DataType) bool {
	switch t.ID() {
	case arrow.STRING, arrow.LARGE_STRING, arrow.BOOL, arrow.DATE32, arrow.TIMESTAMP:
		return true
	default:
		return numericType(t)
	}
}

// lowerSplit finds a split's columns in the output's schema; nil if the job has no such step.
func lowerSplit(spec *enginev1.JobSpec, schema *arrow.Schema) *Split {
	split := splitOf(spec)
	if split == nil {
		return nil
	}
	by := map[string]bool{}
	for _, name := range split.GetBy() {
		by[name] = true
	}
	lowered := &Split{Seed: split.GetSeed()}
	for i, f := range schema.Fields() {
		if by[f.Name] || len(by) == 0 && hashable(f.Type) {
			lowered.By = append(lowered.By, i)
		}
	}
	var total, sum float64
	names := sortedKeys(split.GetParts())
	for _, name := range names {
		total += split.GetParts()[name]
	}
	for i, name := range names {
		sum += split.GetParts()[name]
		bound := uint64(math.MaxUint64)
		if share := sum / total; i < len(names)-1 && share < 1 {
			bound = uint64(share * (1 << 64)) //nolint:gosec // Below 1, so it fits.
		}
		lowered.Bounds = append(lowered.Bounds, bound)
	}
	return lowered
}

// FileSchema makes sure that a folder's partition columns are there and can be folders, and returns the schema of its files: that of the
// output without them. Its errors are of kind engine.KindData.
func (f Folder) FileSchema(schema *arrow.Schema) (*arrow.Schema, error) {
	if len(f.PartitionBy) == 0 {
		return schema, nil
	}
	field := f.Field + ".partition_by"
	for i, name := range f.PartitionBy {
		found := schema.FieldIndices(name)
		if len(found) == 0 {
			names := make([]string, schema.NumFields())
			for j, g := range schema.Fields() {
				names[j] = g.Name
			}
			return nil, engine.Errorf(engine.KindData, indexed(field, i), "", "the output has no column %q%s", name, suggestion(name, names))
		}
		if t := schema.Field(found[0]).Type; !partitionable(t) {
			return nil, engine.Errorf(engine.KindData, indexed(field, i), "", "column %q is %s, which makes no folders", name, dataset.TypeName(t)).
				WithHint("use columns of texts, whole numbers, truth values, or dates; cast makes them")
		}
	}
	var fields []arrow.Field
	for _, g := range schema.Fields() {
		if !contains(f.PartitionBy, g.Name) {
			fields = append(fields, g)
		}
	}
	if len(fields) == 0 {
		return nil, engine.Errorf(engine.KindData, field, "", "no column is left for the files").WithHint("leave one out")
	}
	return arrow.NewSchema(fields, nil), nil
}

func partitionable(t arrow.DataType) bool {
	switch t.ID() {
	case arrow.STRING, arrow.LARGE_STRING, arrow.BOOL, arrow.DATE32:
		return true
	default:
		return integerType(t)
	}
}
