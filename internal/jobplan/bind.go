package jobplan

import (
	"fmt"
	"slices"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// column is a column of the table between two steps. Its id stays the same through renames and casts; a column of the source
// has its place in the source's schema as id.
type column struct {
	id    int
	field arrow.Field
}

// step is a bound step: its columns are ids.
type step struct {
	// Exactly one of these is set.
	keep   []int
	rename map[int]string
	cast   map[int]arrow.DataType
	infer  *boundInfer
	embed  *boundEmbed
	filter *boundFilter
	with   *boundWith
	mapped *boundMap
}

type boundInfer struct {
	op InferOp
	// inputs are ids in the order of the model, outputs those of op.Outputs.
	inputs, outputs []int
}

// binding is a job's steps bound to the schema of its source.
type binding struct {
	source *arrow.Schema
	steps  []step
	// final are the columns of the output.
	final []column
	fitting
}

// binder walks the steps with the table as it is after each.
type binder struct {
	// table names the source in messages.
	table   string
	models  models
	columns []column
	nextID  int
	// gone says which step took a name out of the table.
	gone map[string]string
	// texts says which value made a column text, where that is known; see dataset.Layout.
	texts map[string]string
	unfitted
	// operators are those that steps map may name; nil if there are none.
	operators Operators
}

// bind checks every step against the table that the steps before it leave, and the models that they use. table names the source
// in messages; texts is that of dataset.Layout; operators are those that steps map may name.
func bind(spec *enginev1.JobSpec, source *arrow.Schema, models models, table string, texts map[string]string, operators Operators) (*binding, error) {
	b := &binder{table: table, texts: texts, models: models, operators: operators, nextID: source.NumFields(), gone: map[string]string{}}
	seen := map[string]bool{}
	for i, f := range source.Fields() {
		if seen[f.Name] {
			return nil, engine.Errorf(engine.KindData, "", table, "two columns are named %q", f.Name).
				WithHint("columns are matched by name; give one of them another name in the file")
		}
		seen[f.Name] = true
		b.columns = append(b.columns, column{id: i, field: arrow.Field{Name: f.Name, Type: f.Type, Nullable: f.Nullable}})
	}
	bound := &binding{source: source}
	for i, s := range spec.GetSteps() {
		field := indexed("steps", i)
		var next step
		var err error
		if b.beginStep(i, s) {
			bound.open = true
			break
		}
		switch kind := s.GetKind().(type) {
		case *enginev1.Step_Select:
			next, err = b.bindSelect(field+".select", kind.Select.GetColumns())
		case *enginev1.Step_Rename:
			next, err = b.bindRename(field+".rename", kind.Rename.GetColumns())
		case *enginev1.Step_Cast:
			next, err = b.bindCast(field+".cast", kind.Cast.GetColumns())
		case *enginev1.Step_Infer:
			next, err = b.bindInfer(i, kind.Infer)
		case *enginev1.Step_Embed:
			next, err = b.bindEmbed(i, kind.Embed)
		case *enginev1.Step_Filter:
			next, err = b.bindFilter(field+".filter", kind.Filter)
		case *enginev1.Step_With:
			next, err = b.bindWith(field+".with", kind.With.GetColumns())
		case *enginev1.Step_OneHot:
			next, err = b.bindOneHot(field+".one_hot.columns", kind.OneHot.GetColumns())
		case *enginev1.Step_Index:
			next, err = b.bindIndex(field+".index.columns", kind.Index.GetColumns())
		case *enginev1.Step_Scale:
			next, err = b.bindScale(field+".scale.columns", kind.Scale.GetColumns())
		case *enginev1.Step_Map:
			next, err = b.bindMap(field+".map", kind.Map)
		case *enginev1.Step_Split:
			// It leaves the table as it is: which sink gets a row is found out when it is written.
			err = b.bindSplit(field+".split", kind.Split)
			if err == nil {
				continue
			}
		default:
			err = invalid(field, stepRequired)
		}
		if err != nil && b.mayWait() {
			bound.open = true
			break
		}
		if err != nil {
			return nil, err
		}
		b.endStep(next)
		bound.steps = append(bound.steps, next)
	}
	bound.final, bound.points, bound.partial = b.columns, b.points, bound.open || b.vague()
	return bound, nil
}

// find returns the place of a column, or -1.
func (b *binder) find(name string) int {
	return slices.IndexFunc(b.columns, func(c column) bool { return c.field.Name == name })
}

func (b *binder) names() []string {
	names := make([]string, len(b.columns))
	for i, c := range b.columns {
		names[i] = c.field.Name
	}
	return names
}

// places returns the places of columns, or an error that names all that are missing (of many the first fifty), what is nearest to
// each, and the step that took it away if one did.
func (b *binder) places(op string, names []string) ([]int, error) {
	places := make([]int, len(names))
	// Looking for the nearest of thousands of names for thousands of names would take minutes.
	const most = 50
	var missing []string
	var candidates []string
	more := 0
	for i, name := range names {
		places[i] = b.find(name)
		if places[i] >= 0 {
			continue
		}
		b.missing = append(b.missing, name)
		if len(missing) == most {
			more++
			continue
		}
		if candidates == nil {
			candidates = b.names()
		}
		text := fmt.Sprintf("%q", name)
		text += b.whereabouts(name, candidates)
		missing = append(missing, text)
	}
	switch len(missing) {
	case 0:
		return places, nil
	case 1:
		// The hint stands behind the sentence, where a reader looks for it.
		name, rest := cutQuoted(missing[0])
		return nil, engine.Errorf(engine.KindData, op, "", "column %s is missing from the table of %s%s", name, b.table, rest)
	default:
		text := missing[0]
		for _, m := range missing[1:] {
			text += ", " + m
		}
		if more > 0 {
			text += fmt.Sprintf(", and %d more", more)
		}
		return nil, engine.Errorf(engine.KindData, op, "", "columns are missing from the table of %s: %s", b.table, text)
	}
}

// cutQuoted parts `"name" (remark)`.
func cutQuoted(text string) (name, rest string) {
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return text[:i+1], text[i+1:]
		}
	}
	return text, ""
}

func (b *binder) bindSelect(op string, names []string) (step, error) {
	names = b.selectUnfitted(names)
	places, err := b.places(op, names)
	if err != nil {
		return step{}, err
	}
	kept := make([]column, len(places))
	ids := make([]int, len(places))
	keep := map[string]bool{}
	for i, place := range places {
		kept[i], ids[i] = b.columns[place], b.columns[place].id
		keep[names[i]] = true
	}
	for _, name := range b.names() {
		if !keep[name] {
			b.gone[name] = op + " leaves it out"
		}
	}
	b.columns = kept
	return step{keep: ids}, nil
}

func (b *binder) bindRename(op string, names map[string]string) (step, error) {
	names = b.renameUnfitted(names)
	old := sortedKeys(names)
	places, err := b.places(op, old)
	if err != nil {
		return step{}, err
	}
	byID := map[int]string{}
	b.columns = slices.Clone(b.columns)
	for i, place := range places {
		byID[b.columns[place].id] = names[old[i]]
		b.columns[place].field.Name = names[old[i]]
		b.gone[old[i]] = fmt.Sprintf("%s makes it %q", op, names[old[i]])
	}
	seen := map[string]bool{}
	for _, name := range b.names() {
		if seen[name] {
			return step{}, invalid(op, "two columns would be named %q", name)
		}
		seen[name] = true
		delete(b.gone, name)
	}
	return step{rename: byID}, nil
}

func (b *binder) bindCast(op string, types map[string]string) (step, error) {
	names := sortedKeys(types)
	places, err := b.places(op, names)
	if err != nil {
		return step{}, err
	}
	byID := map[int]arrow.DataType{}
	b.columns = slices.Clone(b.columns)
	for i, place := range places {
		to, err := dataset.ParseType(types[names[i]])
		if err != nil {
			return step{}, underField(op+".columns."+names[i], err)
		}
		c := &b.columns[place]
		if arrow.TypeEqual(c.field.Type, to) {
			continue
		}
		if !castable(c.field.Type, to) {
			return step{}, engine.Errorf(engine.KindData, op, "", "column %q of the table of %s is %s, which cannot be cast to %s",
				names[i], b.table, dataset.TypeName(c.field.Type), dataset.TypeName(to))
		}
		byID[c.id] = to
		c.field.Type = to
	}
	return step{cast: byID}, nil
}

// numericType reports whether values of a type are numbers that a model can be fed.
func numericType(t arrow.DataType) bool { return integerType(t) || floatingType(t) }

func integerType(t arrow.DataType) bool {
	switch t.ID() {
	case arrow.INT8, arrow.INT16, arrow.INT32, arrow.INT64, arrow.UINT8, arrow.UINT16, arrow.UINT32, arrow.UINT64:
		return true
	default:
		return false
	}
}

func floatingType(t arrow.DataType) bool { return t.ID() == arrow.FLOAT32 || t.ID() == arrow.FLOAT64 }
