package jobplan

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// wantedTypes returns, by column of the source, the types in which the job's models want columns that reach them unchanged. A
// source with types of its own, and columns whose type the job file declares, are left alone.
func wantedTypes(spec *enginev1.JobSpec, models models) (map[string]arrow.DataType, error) {
	declared, open := declaredTypes(spec)
	type use struct {
		step int
		feed feed
	}
	uses := map[string][]use{}
	for i, s := range spec.GetSteps() {
		if embed := s.GetEmbed(); embed != nil {
			for _, name := range embed.GetText() {
				if name, ok := origin(spec, models, i, name); ok && open && !declared[name] {
					uses[name] = append(uses[name], use{i, textFeed})
				}
			}
		}
		infer := s.GetInfer()
		if infer == nil {
			continue
		}
		f, err := feedsOf("infer "+models[i].infer.Path, infer, models[i].infer)
		if err != nil {
			return nil, err
		}
		if in := models[i].infer.Inputs[0]; f.columns == nil && in.Shape[1] == 1 {
			// See numericPlaces: a column of the input's name is preferred.
			f.columns = []feed{{column: in.Name, input: in}}
		}
		for _, c := range f.columns {
			if name, ok := origin(spec, models, i, c.column); ok && open && !declared[name] {
				uses[name] = append(uses[name], use{i, c})
			}
		}
	}
	wanted := make(map[string]arrow.DataType, len(uses))
	for _, name := range sortedKeys(uses) {
		// What suits all is found among what each wants, wide types first.
		users := slices.Clone(uses[name])
		slices.SortStableFunc(users, func(a, b use) int { return cmp.Compare(bits(b.feed.wants()), bits(a.feed.wants())) })
		for _, u := range users {
			t := u.feed.wants()
			suits := func(u use) bool { _, ok := u.feed.accepts(t); return ok }
			if i := slices.IndexFunc(users, func(u use) bool { return !suits(u) }); i < 0 {
				wanted[name] = t
				break
			}
		}
		if wanted[name] == nil {
			var found string
			for i, u := range uses[name] {
				if i > 0 {
					found += ", "
				}
				found += fmt.Sprintf("%s wants %s", indexed("steps", u.step), dataset.TypeName(u.feed.wants()))
			}
			return nil, engine.Errorf(engine.KindInvalidArgument, "", "steps", "column %q: %s", name, found).
				WithHint("add the step cast between them")
		}
	}
	return wanted, nil
}

// origin returns the column of the source that has the given name before a step, if its values are as they were read.
func origin(spec *enginev1.JobSpec, models models, before int, name string) (string, bool) {
	for i := before - 1; i >= 0; i-- {
		switch kind := spec.GetSteps()[i].GetKind().(type) {
		case *enginev1.Step_Select:
			if !contains(kind.Select.GetColumns(), name) {
				return "", false
			}
		case *enginev1.Step_Rename:
			names := kind.Rename.GetColumns()
			_, away := names[name]
			for _, old := range sortedKeys(names) {
				if names[old] == name {
					name, away = old, false
					break
				}
			}
			if away {
				return "", false
			}
		case *enginev1.Step_Cast:
			if _, ok := kind.Cast.GetColumns()[name]; ok {
				return "", false
			}
		case *enginev1.Step_With:
			if _, ok := kind.With.GetColumns()[name]; ok {
				return "", false
			}
		case *enginev1.Step_OneHot:
			for _, c := range kind.OneHot.GetColumns() {
				if c.GetName() == name || contains(oneHotNames(c), name) {
					return "", false
				}
			}
		case *enginev1.Step_Index:
			if slices.ContainsFunc(kind.Index.GetColumns(), func(c *enginev1.CategoryColumn) bool { return c.GetName() == name }) {
				return "", false
			}
		case *enginev1.Step_Scale:
			if slices.ContainsFunc(kind.Scale.GetColumns(), func(c *enginev1.ScaledColumn) bool { return c.GetName() == name }) {
				return "", false
			}
		case *enginev1.Step_Map:
			return "", false // What it makes of a column is its own matter.
		case *enginev1.Step_Embed:
			if embedOutput(kind.Embed) == name {
				return "", false
			}
		case *enginev1.Step_Infer:
			for _, out := range models[i].infer.Outputs {
				if outputName(kind.Infer, out.Name) == name {
					return "", false
				}
			}
		}
	}
	return name, true
}

// outputName is the column that an output becomes, or empty if it is not asked for.
func outputName(infer *enginev1.InferStep, output string) string {
	switch {
	case len(infer.GetOutputs()) > 0:
		return infer.GetOutputs()[output]
	case infer.GetOutput() != "":
		return infer.GetOutput()
	default:
		return output
	}
}

func contains(names []string, name string) bool { return slices.Contains(names, name) }
