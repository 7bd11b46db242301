package jobplan

import (
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/expression"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// FilterOp keeps the rows for which a condition is true.
type FilterOp struct {
	// Where is the condition; its columns are named as in the record that the Op is given.
	Where *expression.Expression
}

// WithOp calculates columns.
type WithOp struct {
	// Columns are those of the record that the Op gives, in this order.
	Columns []WithColumn
}

// WithColumn is one column of a WithOp.
type WithColumn struct {
	// Index is the place of a column that stays, if Value is nil.
	Index int
	// Name is the name of a column that is calculated, and Value what of.
	Name  string
	Value *expression.Expression
}

func (FilterOp) op() {}
func (WithOp) op()   {}

// boundFilter is a step filter, and the ids of the columns that it uses.
type boundFilter struct {
	where *expression.Expression
	uses  []int
}

// boundWith is a step with.
type boundWith struct {
	// values are by the ids of the new columns, as are uses, the columns that each is made of; after are the ids of the table's columns
	// after the step.
	values map[int]WithColumn
	uses   map[int][]int
	after  []int
}

func validateFilter(field string, filter *enginev1.FilterStep) error {
	return validateExpression(field+".where", filter.GetWhere())
}

func validateWith(field string, columns map[string]string) error {
	if len(columns) == 0 {
		return invalid(field, "required")
	}
	if len(columns) > maxColumns {
		return invalid(field, "%d columns, at most %d are allowed", len(columns), maxColumns)
	}
	for _, name := range sortedKeys(columns) {
		if name == "" {
			return invalid(field, "a name is empty")
		}
		if err := validateExpression(field+"."+name, columns[name]); err != nil {
			return err
		}
	}
	return nil
}

func validateExpression(field, text string) error {
	if text == "" {
		return invalid(field, "required")
	}
	if _, err := expression.Parse(text); err != nil {
		return invalid(field, "%w", err)
	}
	return nil
}

func (b *binder) schema() *arrow.Schema {
	fields := make([]arrow.Field, len(b.columns))
	for i, c := range b.columns {
		fields[i] = c.field
	}
	return arrow.NewSchema(fields, nil)
}

// ids are the ids of the columns at places.
func (b *binder) ids(places []int) []int {
	ids := make([]int, len(places))
	for i, place := range places {
		ids[i] = b.columns[place].id
	}
	return ids
}

func (b *binder) bindFilter(op string, filter *enginev1.FilterStep) (step, error) {
	op += ".where"
	where, err := expression.Parse(filter.GetWhere())
	if err != nil {
		return step{}, invalid(op, "%w", err)
	}
	bound, err := where.BindCondition(b.schema())
	if err != nil {
		return step{}, b.expressionError(op, err)
	}
	return step{filter: &boundFilter{where: where, uses: b.ids(bound.Columns())}}, nil
}

func (b *binder) bindWith(op string, columns map[string]string) (step, error) {
	op += ".columns"
	var values []calculated
	for _, name := range sortedKeys(columns) {
		value, err := expression.Parse(columns[name])
		if err != nil {
			return step{}, invalid(op+"."+name, "%w", err)
		}
		values = append(values, calculated{op + "." + name, name, value})
	}
	return b.calculate(values, nil)
}

// calculated is a column that a step calculates, and the field of the job file that says so.
type calculated struct {
	field, name string
	value       *expression.Expression
}

// calculate appends columns to the table, or replaces those of their names. Columns whose names are in drop go; each name says by what.
func (b *binder) calculate(values []calculated, drop map[string]string) (step, error) {
	schema := b.schema()
	with := &boundWith{values: map[int]WithColumn{}, uses: map[int][]int{}}
	after := slices.Clone(b.columns)
	for _, v := range values {
		bound, err := v.value.BindValue(schema)
		if err != nil {
			return step{}, b.expressionError(v.field, err)
		}
		made := column{id: b.nextID, field: arrow.Field{Name: v.name, Type: bound.Type(), Nullable: true}}
		b.nextID++
		with.values[made.id] = WithColumn{Name: v.name, Value: v.value}
		with.uses[made.id] = b.ids(bound.Columns())
		if place := b.find(v.name); place >= 0 {
			after[place] = made
		} else {
			after = append(after, made)
		}
		delete(b.gone, v.name)
	}
	after = slices.DeleteFunc(after, func(c column) bool { _, ok := drop[c.field.Name]; return ok })
	for name, field := range drop {
		b.gone[name] = field + " replaces it"
	}
	for _, c := range after {
		with.after = append(with.after, c.id)
	}
	b.columns = after
	return step{with: with}, nil
}

// expressionError names what an expression does not find in the table.
func (b *binder) expressionError(op string, err error) error {
	var mistake *expression.Error
	if !errors.As(err, &mistake) {
		return engine.WrapError(op, "", err)
	}
	if !mistake.Column {
		return engine.Errorf(engine.KindData, op, "", "%w%s", mistake, suggestionAmong(mistake))
	}
	b.missing = append(b.missing, mistake.Unknown)
	if b.find(mistake.Unknown) >= 0 {
		return engine.Errorf(engine.KindData, op, "", "%w", mistake)
	}
	return engine.Errorf(engine.KindData, op, "", "at character %d: column %q is missing from the table of %s%s",
		mistake.Character, mistake.Unknown, b.table, b.whereabouts(mistake.Unknown, mistake.Candidates))
}

func suggestionAmong(mistake *expression.Error) string {
	if mistake.Unknown == "" {
		return ""
	}
	return suggestion(mistake.Unknown, mistake.Candidates)
}

// whereabouts says which step took a missing column away, or what is nearest to its name.
func (b *binder) whereabouts(name string, candidates []string) string {
	if step, ok := b.gone[name]; ok {
		return fmt.Sprintf(" (%s)", step)
	}
	return suggestion(name, candidates)
}
