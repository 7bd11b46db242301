package jobplan

import (
	"maps"
	"slices"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/expression"
	"github.com/f708428e/engine/internal/fit"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// FitOp looks at columns that a step is fitted to, as they reach the step, and changes nothing.
type FitOp struct {
	Columns []FitColumn
}

// FitColumn is one column of a FitOp.
type FitColumn struct {
	// Index is the column's place.
	Index int
	// Target is its place in Program.Fit.
	Target int
}

func (FitOp) op() {}

// fitPoint is a column that the next pass over the data looks at.
type fitPoint struct {
	target fit.Target
	// id is the column.
	id int
}

// fitting is what is left to be fitted of bound steps.
type fitting struct {
	// points are what the next pass can see: columns that depend on nothing that is yet to be fitted, in the order of the steps. If they are
	// empty, nothing is left.
	points []fitPoint
	// partial says that the columns of the output depend on what is fitted; open that steps could not be bound for that reason.
	partial, open bool
}

// unfitted is what a binder knows of the steps so far that are yet to be fitted.
type unfitted struct {
	points []fitPoint
	// step is the place of the step that is being bound, fresh are the names of its columns that are yet to be fitted.
	step  int
	fresh []string
	// dirty are columns whose values are not known before something is fitted; blocked says that the rows are not.
	dirty   map[int]bool
	blocked bool
	// prefixes and later are those of columns that will be there once something is fitted.
	prefixes, later []string
	// missing are the columns that the step being bound did not find.
	missing []string
}

// expects tells whether a column of that name may be there once something is fitted.
func (u *unfitted) expects(name string) bool {
	return slices.Contains(u.later, name) || slices.ContainsFunc(u.prefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// vague tells whether there will be columns that are not known yet.
func (u *unfitted) vague() bool { return len(u.prefixes)+len(u.later) > 0 }

// beginStep is called before a step is bound. It reports whether that has to wait until something is fitted.
func (b *binder) beginStep(place int, s *enginev1.Step) (wait bool) {
	b.step, b.fresh, b.missing = place, nil, nil
	// What a model is fed by default, and what an operator makes, depends on all columns.
	return b.vague() && (s.GetInfer() != nil || s.GetMap() != nil)
}

// mayWait tells whether a step could not be bound because what it does not find is yet to be fitted.
func (b *binder) mayWait() bool {
	return b.vague() && len(b.missing) > 0 && !slices.ContainsFunc(b.missing, func(name string) bool { return !b.expects(name) })
}

// endStep follows what is not known through a step.
func (b *binder) endStep(s step) {
	isDirty := func(id int) bool { return b.dirty[id] }
	mark := func(id int) {
		if b.dirty == nil {
			b.dirty = map[int]bool{}
		}
		b.dirty[id] = true
	}
	switch {
	case s.filter != nil:
		b.blocked = b.blocked || slices.ContainsFunc(s.filter.uses, isDirty)
	case s.infer != nil && slices.ContainsFunc(s.infer.inputs, isDirty):
		for _, id := range s.infer.outputs {
			mark(id)
		}
	case s.embed != nil && slices.ContainsFunc(s.embed.text, isDirty):
		mark(s.embed.output)
	case s.mapped != nil && slices.ContainsFunc(s.mapped.uses, isDirty):
		for _, id := range s.mapped.outputs {
			mark(id)
		}
	case s.with != nil:
		for id, value := range s.with.values {
			if slices.ContainsFunc(s.with.uses[id], isDirty) || slices.Contains(b.fresh, value.Name) {
				mark(id)
			}
		}
	}
}

// fitCategories takes note of a column whose categories are left out. Its error says that it cannot have any.
func (b *binder) fitCategories(field string, c *enginev1.CategoryColumn) error {
	if len(c.GetCategories()) > 0 {
		return nil
	}
	if _, err := expression.Position(c.GetName(), nil, false).BindValue(b.schema()); err != nil {
		return b.expressionError(field, err)
	}
	place := b.find(c.GetName())
	b.fitLater(place, fit.Target{Kind: fit.Categories, Integers: integerType(b.columns[place].field.Type), ByFrequency: c.GetOrder() == orderFrequency})
	return nil
}

// fitOneHot takes note of the columns that a column will become.
func (b *binder) fitOneHot(c *enginev1.CategoryColumn) {
	if len(c.GetCategories()) == 0 {
		b.prefixes = append(b.prefixes, c.GetName()+"_")
	}
}

// fitScale takes note of a column whose numbers are left out.
func (b *binder) fitScale(c *enginev1.ScaledColumn) {
	if scaleGiven(c) {
		return
	}
	kind := fit.Standard
	if c.GetMethod() == methodMinMax {
		kind = fit.MinMax
	}
	b.fitLater(b.find(c.GetName()), fit.Target{Kind: kind})
}

func (b *binder) fitLater(place int, target fit.Target) {
	c := b.columns[place]
	b.fresh = append(b.fresh, c.field.Name)
	if b.blocked || b.dirty[c.id] {
		return // A later pass.
	}
	target.Step, target.Column = b.step, c.field.Name
	b.points = append(b.points, fitPoint{target: target, id: c.id})
}

// selectUnfitted returns the names of columns to keep that are there, and remembers those that will be.
func (b *binder) selectUnfitted(names []string) []string {
	if !b.vague() {
		return names
	}
	var there, later []string
	for _, name := range names {
		if b.find(name) < 0 && b.expects(name) {
			later = append(later, name)
		} else {
			there = append(there, name)
		}
	}
	b.prefixes, b.later = nil, later
	return there
}

// renameUnfitted returns the new names of columns that are there, and remembers those of columns that will be.
func (b *binder) renameUnfitted(names map[string]string) map[string]string {
	if !b.vague() {
		return names
	}
	there := maps.Clone(names)
	for old, name := range names {
		if b.find(old) < 0 && b.expects(old) {
			delete(there, old)
			b.later = append(b.later, name)
		}
	}
	return there
}

func scaleGiven(c *enginev1.ScaledColumn) bool {
	return c.Mean != nil || c.Std != nil || c.Min != nil || c.Max != nil
}

// validateFitted checks the file that open columns of a step take their values from. field is that of the columns.
func validateFitted(field, fitted string, open int) error {
	field = strings.TrimSuffix(field, ".columns") + ".fitted"
	if fitted == "" {
		return nil
	}
	if open == 0 {
		return invalid(field, "all columns are given, so there is nothing to take from it")
	}
	return checkInputPath(field, fitted)
}

// unfittedColumns counts the columns that a step leaves to be fitted.
func unfittedColumns(s *enginev1.Step) (n int) {
	for _, c := range categoryColumns(s) {
		if len(c.GetCategories()) == 0 {
			n++
		}
	}
	for _, c := range s.GetScale().GetColumns() {
		if !scaleGiven(c) {
			n++
		}
	}
	return n
}

func categoryColumns(s *enginev1.Step) []*enginev1.CategoryColumn {
	return append(slices.Clone(s.GetOneHot().GetColumns()), s.GetIndex().GetColumns()...)
}

// FitKind is the name of a step that can be fitted; empty for others.
func FitKind(s *enginev1.Step) string {
	switch s.GetKind().(type) {
	case *enginev1.Step_OneHot:
		return "one_hot"
	case *enginev1.Step_Index:
		return "index"
	case *enginev1.Step_Scale:
		return "scale"
	default:
		return ""
	}
}

// lastUnfitted is the place of the last step that has columns to be fitted, or -1.
func lastUnfitted(spec *enginev1.JobSpec) int {
	for i := len(spec.GetSteps()) - 1; i >= 0; i-- {
		if unfittedColumns(spec.GetSteps()[i]) > 0 {
			return i
		}
	}
	return -1
}

// errUnfitted is said of a program that cannot run yet.
func errUnfitted(op string, point fitPoint) error {
	return engine.Errorf(engine.KindInternal, op, indexed("steps", point.target.Step), "column %q is yet to be fitted", point.target.Column)
}
