package operator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/runtime"
)

// StepFunc makes the operator of a step map for a table with the schema in. params are the step's parameters, a JSON object, or nil if there
// are none. The head calls it too, when it plans a job, to learn the schema of what comes out; so it must give the same one every time,
// read no data, and keep nothing that has to be closed. Its errors are the user's fault, unless an *engine.Error says otherwise by its kind.
//
// The operator that it makes is used by one goroutine, which gives it the record batches of one attempt at a task. It gives as many rows as
// it gets, in their order, since rows that come out are counted and named by those that went in: a step filter leaves rows out. An error of
// Apply about one row is a *runtime.RowError, so that the job's user is told file and row; others count as engine.KindData, and are final,
// unless they are an *engine.Error of another kind.
type StepFunc func(params []byte, in *arrow.Schema) (Operator, error)

// TypedStep makes a StepFunc of a function whose parameters are JSON: an object with the fields of P. Fields that P does not have are
// refused by name.
func TypedStep[P any](f func(params P, in *arrow.Schema) (Operator, error)) StepFunc {
	return func(text []byte, in *arrow.Schema) (Operator, error) {
		var params P
		if err := decodeParams(text, &params); err != nil {
			return nil, err
		}
		return f(params, in)
	}
}

// RegisterStep adds an operator for steps map to the Default registry, usually in an init function. It must be registered in the programs
// of the head and of all workers. It panics as Registry.RegisterStep does.
func RegisterStep(name string, f StepFunc) { Default.RegisterStep(name, f) }

// RegisterStepFunc is RegisterStep for an operator whose parameters are JSON of a type of its own; see TypedStep.
func RegisterStepFunc[P any](name string, f func(params P, in *arrow.Schema) (Operator, error)) {
	Default.RegisterStep(name, TypedStep(f))
}

// RegisterStep adds an operator for steps map. The names of tasks' operators are others: one may have the same. It panics, because the
// program is wrong, if the name is taken or is not made of 1 to 100 letters, digits, and ._/-, and if f is nil.
func (r *Registry) RegisterStep(name string, f StepFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case f == nil:
		panic(fmt.Sprintf("register step %q: the function is nil", name))
	case !validName(name):
		panic(fmt.Sprintf("register step %q: a name has 1 to 100 letters, digits, and ._/-", name))
	case r.steps[name] != nil:
		panic(fmt.Sprintf("register step %q: it is registered already", name))
	}
	if r.steps == nil {
		r.steps = map[string]StepFunc{}
	}
	r.steps[name] = f
}

// NewStep makes the operator of a step map. One that is not registered is an error of kind engine.KindNotFound; what the operator refuses
// is of kind engine.KindInvalidArgument, unless it says otherwise.
func (r *Registry) NewStep(name string, params []byte, in *arrow.Schema) (Operator, error) {
	r.mu.Lock()
	f := r.steps[name]
	known := slices.Sorted(maps.Keys(r.steps))
	r.mu.Unlock()
	op := "operator " + name
	if f == nil {
		return nil, engine.Errorf(engine.KindNotFound, op, "", "no such operator is registered for steps here; there are: %s", strings.Join(append(known, "no others"), ", ")).
			WithHint("a step map names an operator that the programs of the head and of all workers have registered with operator.RegisterStep")
	}
	made, err := f(params, in)
	if err != nil {
		return nil, userError(op, engine.KindInvalidArgument, err)
	}
	seen := map[string]bool{}
	for _, field := range made.Schema().Fields() {
		if field.Name == "" || seen[field.Name] {
			return nil, engine.Errorf(engine.KindInvalidArgument, op, "", "it makes two columns %q, or one without a name", field.Name)
		}
		seen[field.Name] = true
	}
	return &mapping{op: op, made: made, in: in, out: made.Schema()}, nil
}

// StepSchema returns the schema of what an operator makes; see NewStep.
func (r *Registry) StepSchema(name string, params []byte, in *arrow.Schema) (*arrow.Schema, error) {
	made, err := r.NewStep(name, params, in)
	if err != nil {
		return nil, err
	}
	return made.Schema(), nil
}

// userError gives an error that a user's operator returns a kind, if it has none.
func userError(op string, kind engine.Kind, err error) error {
	var known *engine.Error
	var row *runtime.RowError
	if errors.As(err, &row) {
		return err
	}
	if errors.As(err, &known) {
		return engine.WrapError(op, "", err)
	}
	return engine.Errorf(kind, op, "", "%w", err)
}

// mapping holds a user's operator to what it announced.
type mapping struct {
	op      string
	made    Operator
	in, out *arrow.Schema
}

// Schema implements Operator.
func (m *mapping) Schema() *arrow.Schema { return m.out }

// Apply implements Operator.
func (m *mapping) Apply(ctx context.Context, in arrow.Record) (arrow.Record, error) {
	if err := checkInput(m.op, m.in, in); err != nil {
		return nil, err
	}
	out, err := m.made.Apply(ctx, in)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, userError(m.op, engine.KindData, err)
	}
	switch {
	case out == nil:
		return nil, engine.Errorf(engine.KindData, m.op, "", "it returned neither a record batch nor an error")
	case !out.Schema().Equal(m.out):
		defer out.Release()
		return nil, engine.Errorf(engine.KindData, m.op, "", "it made %v, but announced %v", out.Schema(), m.out)
	case out.NumRows() != in.NumRows():
		defer out.Release()
		return nil, engine.Errorf(engine.KindData, m.op, "", "it made %d rows of %d", out.NumRows(), in.NumRows()).
			WithHint("a step map keeps the number of rows; a step filter leaves rows out")
	}
	return out, nil
}
